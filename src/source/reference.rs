//! Image references by Docker's grammar, normalised as Docker does it.
//!
//! `[domain[:port]/]path[:tag][@digest]`: <https://pkg.go.dev/github.com/distribution/reference>.
//! A first component is a domain where it has a `.` or a `:`, an upper-case letter, or is
//! `localhost`; everything else is a repository of Docker Hub.

use super::digest::{Digest, DigestError};
use super::{ImageSource, mask};

/// The registry that short names mean.
const DEFAULT_HOST: &str = "docker.io";
/// Its old name, which means the same.
const LEGACY_HOST: &str = "index.docker.io";
/// Where the official images of [`DEFAULT_HOST`] are.
const OFFICIAL: &str = "library/";
/// Most characters of a repository's path.
const MAX_PATH: usize = 255;
/// Most characters of a tag.
const MAX_TAG: usize = 128;

/// A text that is no image reference.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Nothing is left for the name.
    #[error("it has no repository name; expected [host/]name[:tag][@digest]")]
    Empty,
    /// 64 hexadecimal digits are an image id, and no name.
    #[error("64 hexadecimal digits are an image id, not a name; expected a name, or name@sha256:…")]
    ImageId,
    /// Something in the path of the repository is not in lower case.
    #[error("repository name `{path}` must be lower case")]
    UpperCase {
        /// The path.
        path: String,
    },
    /// The host is none.
    #[error(
        "`{host}` is not a registry host; expected a name, IPv4 address or [IPv6 address], with an \
         optional :port"
    )]
    Host {
        /// The host.
        host: String,
    },
    /// A component of the path is none.
    #[error(
        "`{component}` is not a component of a repository name; expected lower-case letters and \
         digits, with single `.` or `_`, `__` or dashes between them"
    )]
    Component {
        /// The component.
        component: String,
    },
    /// The path is too long.
    #[error("the repository name has {length} characters; at most {MAX_PATH} are allowed")]
    TooLong {
        /// Its length.
        length: usize,
    },
    /// The tag is none.
    #[error(
        "`{tag}` is not a tag; expected a letter, digit or `_`, then up to 127 of these, `.` and `-`"
    )]
    Tag {
        /// The tag.
        tag: String,
    },
    /// The digest is none.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

impl ImageSource {
    /// Parses `text` and completes it: `alpine` is `docker.io/library/alpine`.
    ///
    /// # Errors
    /// When it is not a reference by Docker's grammar.
    pub fn parse(text: &str) -> Result<Self, ReferenceError> {
        if text.len() == 64 && text.bytes().all(super::digest::is_lower_hex) {
            return Err(ReferenceError::ImageId);
        }
        let (host, rest) = split_host(text);
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse::<Digest>()?)),
            None => (rest, None),
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (rest, None),
        };
        check_host(host)?;
        let official = host == DEFAULT_HOST && !path.contains('/');
        check_path(path, if official { OFFICIAL.len() } else { 0 })?;
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(ReferenceError::Tag { tag: mask::part(tag) });
        }
        Ok(Self {
            host: host.into(),
            path: if official { format!("{OFFICIAL}{path}") } else { path.into() },
            tag: tag.map(Into::into),
            digest: digest.map(Into::into),
        })
    }

    /// Host and path, `docker.io/library/alpine`.
    pub fn full_repo(&self) -> String {
        format!("{}/{}", self.host, self.path)
    }

    /// The short name where there is one, `alpine`; else as [`Self::full_repo`].
    pub fn familiar_repo(&self) -> String {
        if self.host != DEFAULT_HOST {
            return self.full_repo();
        }
        match self.path.strip_prefix(OFFICIAL) {
            Some(name) if !name.contains('/') => name.into(),
            Some(_) | None => self.path.clone(),
        }
    }

    /// The whole normalised reference, `docker.io/library/alpine:3@sha256:…`.
    pub fn reference(&self) -> String {
        let mut text = self.full_repo();
        if let Some(tag) = &self.tag {
            text.push(':');
            text.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            text.push('@');
            text.push_str(digest);
        }
        text
    }

    /// The identifier that BuildKit loads exactly this image by.
    ///
    /// BuildKit completes no names: of `docker-image://evil/app:1`, which rules read as an image of
    /// Docker Hub, it asks the host `evil`. Clients complete names before they send them, but raw
    /// LLB need not. A door that hands an identifier on must see that it is this one.
    pub fn identifier(&self) -> String {
        format!("docker-image://{}", self.reference())
    }

    /// This image at `digest`, whatever its digest was.
    #[must_use]
    pub fn with_digest(&self, digest: &Digest) -> Self {
        Self { digest: Some(digest.as_str().into()), ..self.clone() }
    }

    /// This image with the tag `latest`, where it has neither tag nor digest.
    #[must_use]
    pub fn or_latest(mut self) -> Self {
        if self.tag.is_none() && self.digest.is_none() {
            self.tag = Some("latest".into());
        }
        self
    }

    /// Whether it has a digest, and so names one content for good.
    pub fn is_canonical(&self) -> bool {
        self.digest.is_some()
    }
}

/// Whether `name` could be a repository, with its host or without it.
pub(super) fn is_repository(name: &str) -> bool {
    match name.split_once('/') {
        Some((host, path)) if check_host(host).is_ok() && check_path(path, 0).is_ok() => true,
        Some(_) | None => check_path(name, 0).is_ok(),
    }
}

/// Whether `tag` is one by the grammar.
pub(super) fn is_tag(tag: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let bytes = tag.as_bytes();
    bytes.len() <= MAX_TAG
        && bytes.first().is_some_and(|byte| word(*byte))
        && bytes.iter().all(|byte| word(*byte) || matches!(byte, b'.' | b'-'))
}

/// Splits the host off, or puts Docker Hub's in its place.
fn split_host(text: &str) -> (&str, &str) {
    match text.split_once('/') {
        Some((LEGACY_HOST, rest)) => (DEFAULT_HOST, rest),
        Some((host, rest))
            if host == "localhost"
                || host == DEFAULT_HOST
                || host.contains(['.', ':'])
                || host.to_lowercase() != host =>
        {
            (host, rest)
        }
        Some(_) | None => (DEFAULT_HOST, text),
    }
}

/// A domain of dot-separated labels or a bracketed IPv6 address, with an optional port.
fn check_host(host: &str) -> Result<(), ReferenceError> {
    let good = if let Some(rest) = host.strip_prefix('[') {
        rest.split_once(']').is_some_and(|(address, port)| {
            !address.is_empty()
                && address.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b':')
                && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port))
        })
    } else {
        let (name, port) = host.split_once(':').map_or((host, None), |(n, p)| (n, Some(p)));
        name.split('.').all(is_label) && port.is_none_or(is_port)
    };
    if good { Ok(()) } else { Err(ReferenceError::Host { host: mask::part(host) }) }
}

/// Letters, digits and dashes, with no dash at either end.
fn is_label(label: &str) -> bool {
    !label.is_empty()
        && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn is_port(port: &str) -> bool {
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// `prefix` is the length of what will be put before the path.
fn check_path(path: &str, prefix: usize) -> Result<(), ReferenceError> {
    if path.is_empty() {
        return Err(ReferenceError::Empty);
    }
    if path.to_lowercase() != path {
        return Err(ReferenceError::UpperCase { path: mask::part(path) });
    }
    if let Some(component) = path.split('/').find(|component| !is_component(component)) {
        return Err(ReferenceError::Component { component: mask::part(component) });
    }
    let length = path.len() + prefix;
    if length > MAX_PATH {
        return Err(ReferenceError::TooLong { length });
    }
    Ok(())
}

/// Lower-case words with separators between them: one `.`, one or two `_`, or any number of `-`.
fn is_component(component: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let mut rest = component.as_bytes();
    loop {
        let length = rest.iter().take_while(|byte| word(**byte)).count();
        if length == 0 {
            return false;
        }
        rest = &rest[length..];
        if rest.is_empty() {
            return true;
        }
        let separator = rest.iter().take_while(|byte| !word(**byte)).count();
        let (between, after) = rest.split_at(separator);
        if !matches!(between, b"." | b"_" | b"__") && !between.iter().all(|byte| *byte == b'-') {
            return false;
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests;
