//! Sources: what a build would load, parsed and normalised once, at the edge.
//!
//! A [`SourceOp`] is the raw pair of identifier and attributes as BuildKit's `pb.SourceOp` has it;
//! [`Source::parse`] turns it into the one of six kinds that rules are asked about, or says why it
//! is none. Nothing here knows protobuf, and nothing here fetches.

mod ambiguous;
mod blob;
mod digest;
mod error;
mod git;
mod git_user;
mod http;
mod mask;
mod platform;
mod reference;
mod weburl;

use std::collections::BTreeMap;
use std::fmt;

pub use ambiguous::Ambiguity;
pub use digest::{Digest, DigestError};
pub use error::{MAX_LENGTH, SourceError};
pub use git::is_commit;
pub use git_user::{GitForm, GitQueryError, GitUserSource, parse_git_user};
pub use mask::{is_secret_name, mask, mask_text};
pub use platform::{Platform, PlatformError};
pub use reference::ReferenceError;
pub use weburl::UrlError;

/// What BuildKit names in a `pb.SourceOp`: an identifier (`docker-image://…`) and its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceOp {
    /// Scheme and reference, as the peer wrote it (`SourceOp.identifier`).
    pub identifier: String,
    /// Attributes by name (`SourceOp.attrs`), for example `http.checksum`.
    pub attrs: BTreeMap<String, String>,
}

/// One source of a build, parsed and normalised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `docker-image://`: an image of a registry.
    Image(ImageSource),
    /// `http://` and `https://`: one file.
    Http(HttpSource),
    /// `git://`: a git repository, whatever transport reaches it.
    Git(GitSource),
    /// `local://`: a directory of the client, by its name.
    Local(LocalSource),
    /// `oci-layout://`: an image of an OCI layout that the client holds.
    OciLayout(OciLayoutSource),
    /// `docker-image+blob://` and `oci-layout+blob://`: one blob by digest.
    Blob(BlobSource),
}

/// An image reference in its normalised form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSource {
    /// Registry host with port, for example `docker.io`.
    pub host: String,
    /// Repository path on that host, for example `library/alpine`.
    pub path: String,
    /// Tag, where the reference has one.
    pub tag: Option<String>,
    /// Digest (`sha256:…`), where the reference has one.
    pub digest: Option<String>,
}

/// A URL that is fetched as one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// The identifier as given.
    pub url: String,
    /// `http` or `https`, lower case.
    pub scheme: String,
    /// Host, normalised: lower case, ASCII, no trailing dot, no default port.
    pub host: String,
    /// Path, percent-decoded.
    pub path: String,
    /// Query parameters, decoded, in order of the values.
    pub query: BTreeMap<String, Vec<String>>,
    /// Whether a secret is sent as the `Authorization` header (`http.authheadersecret`).
    pub has_auth: bool,
    /// The checksum that the Dockerfile declared (`http.checksum`).
    pub declared_checksum: Option<String>,
}

/// A git repository, a reference in it and a directory below that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSource {
    /// `https`, `http`, `ssh` or `git`.
    pub scheme: String,
    /// Host with port.
    pub host: String,
    /// URL without reference and directory, as git would be given it.
    pub remote: String,
    /// `git.fullurl`, where the source has it (with `https://` put before it where it has no transport).
    pub full_url: Option<String>,
    /// Reference as written: branch, tag, full reference or commit.
    pub reference: Option<String>,
    /// Directory below the root of the repository.
    pub subdir: Option<String>,
    /// The checksum that the Dockerfile declared (`git.checksum`).
    pub declared_checksum: Option<String>,
    /// The blob that the repository is read from (`git.bundle`), a source of its own.
    pub bundle: Option<String>,
}

/// A directory of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSource {
    /// Its name: `context`, `dockerfile`, or a named context.
    pub name: String,
}

/// An image of an OCI layout that the client holds. Its name is the client's word alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciLayoutSource {
    /// Name as given by the client, without the digest.
    pub name: String,
    /// Digest, the only evidence there is.
    pub digest: Option<String>,
}

/// One blob by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobSource {
    /// `docker-image+blob` or `oci-layout+blob`.
    pub scheme: String,
    /// Registry host, for `docker-image+blob`.
    pub host: Option<String>,
    /// Host and repository, for `docker-image+blob`; the client's name for `oci-layout+blob`.
    pub full_repo: String,
    /// Digest of the blob.
    pub digest: String,
}

impl Source {
    /// Parses and normalises `op`. Schemes are matched in any case.
    ///
    /// # Errors
    /// When it is none of the kinds a build can load, is not well-formed, or means one place to a
    /// rule and another to whoever fetches it.
    pub fn parse(op: &SourceOp) -> Result<Self, SourceError> {
        let identifier = op.identifier.as_str();
        let longest = op.attrs.values().map(String::len).chain([identifier.len()]).max();
        if let Some(length) = longest.filter(|length| *length > MAX_LENGTH) {
            return Err(SourceError::TooLong { length });
        }
        let Some((scheme, rest)) = identifier.split_once("://") else {
            return Err(SourceError::NoScheme { identifier: mask(identifier) });
        };
        match scheme.to_ascii_lowercase().as_str() {
            "docker-image" => parse_image(identifier, rest).map(Source::Image),
            "http" | "https" => http::parse(op).map(Source::Http),
            "git" => git::parse(op, rest).map(Source::Git),
            "local" => parse_local(identifier, rest).map(Source::Local),
            "oci-layout" => blob::parse_oci_layout(identifier, rest).map(Source::OciLayout),
            blob::IMAGE_BLOB => blob::parse_image_blob(identifier, rest).map(Source::Blob),
            blob::OCI_BLOB => blob::parse_oci_blob(identifier, rest).map(Source::Blob),
            _ => Err(SourceError::UnknownScheme {
                identifier: mask(identifier),
                scheme: mask::part(scheme),
            }),
        }
    }
}

impl SourceOp {
    /// A source of which only the identifier is known.
    pub fn new(identifier: impl Into<String>) -> Self {
        Self { identifier: identifier.into(), attrs: BTreeMap::new() }
    }

    /// Bytes of all that it says.
    #[must_use]
    pub fn size(&self) -> usize {
        let attrs = self.attrs.iter().map(|(name, value)| name.len() + value.len());
        self.identifier.len() + attrs.sum::<usize>()
    }

    /// Reads a source as people write it: an identifier (`docker-image://…`), a git or HTTP URL as
    /// a Dockerfile has it, or else an image reference. An image without tag and digest is
    /// `latest`, as in a Dockerfile.
    ///
    /// # Errors
    /// When it is none of these; what it returns can be parsed.
    pub fn from_user(text: &str) -> Result<Self, SourceError> {
        if text.len() > MAX_LENGTH {
            return Err(SourceError::TooLong { length: text.len() });
        }
        let op = match text.split_once("://") {
            // `app@sha256:…` looks like git's `user@host:path`, and is no host that anyone has.
            None if ImageSource::parse(text).is_ok_and(|image| image.digest.is_some()) => {
                Self::new(parse_image(text, text)?.identifier())
            }
            Some((scheme, _)) if scheme.eq_ignore_ascii_case("git") => Self::new(text),
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("docker-image") => {
                Self::new(parse_image(text, rest)?.or_latest().identifier())
            }
            Some(_) | None => match parse_git_user(text)? {
                Some(git) => git.to_op(),
                None if text.contains("://") => Self::new(text),
                None => Self::new(parse_image(text, text)?.or_latest().identifier()),
            },
        };
        Source::parse(&op)?;
        Ok(op)
    }

    /// The identifier with its secrets hidden, for people and logs.
    pub fn masked(&self) -> String {
        mask(&self.identifier)
    }

    /// The blob that a git source is read from (`git.bundle`): a source of its own, that is to be
    /// judged beside it, with the attributes BuildKit gives it.
    pub fn bundle(&self) -> Option<Self> {
        let is_git = self.identifier.get(..6).is_some_and(|it| it.eq_ignore_ascii_case("git://"));
        let bundle = self.attrs.get(git::BUNDLE).filter(|it| is_git && !it.is_empty())?;
        let mut op = Self::new(bundle.as_str());
        let (scheme, name) = bundle.split_once("://")?;
        if scheme.eq_ignore_ascii_case(blob::OCI_BLOB) {
            let name = name.split('@').next().unwrap_or_default();
            let session = self.attrs.get("oci.session").cloned();
            let store = self.attrs.get("oci.store").filter(|store| !store.is_empty()).cloned();
            op.attrs.extend(session.map(|session| ("oci.session".into(), session)));
            op.attrs.insert("oci.store".into(), store.unwrap_or_else(|| name.into()));
        }
        Some(op)
    }
}

impl fmt::Display for SourceOp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.masked())
    }
}

fn parse_image(identifier: &str, rest: &str) -> Result<ImageSource, SourceError> {
    ImageSource::parse(rest)
        .map_err(|source| SourceError::Reference { identifier: mask(identifier), source })
}

fn parse_local(identifier: &str, name: &str) -> Result<LocalSource, SourceError> {
    if name.is_empty() || name.contains(char::is_control) {
        return Err(SourceError::LocalName { identifier: mask(identifier) });
    }
    Ok(LocalSource { name: name.into() })
}

#[cfg(test)]
mod tests;
