//! Package URLs of images, as BuildKit writes them into provenance
//! (`pkg:docker/alpine@3.20?platform=linux%2Famd64`, <https://github.com/package-url/purl-spec>).

use percent_encoding::percent_decode_str;

use crate::source::{Digest, ImageSource, Platform, PlatformError, ReferenceError};

/// A package URL that names no image.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PurlError {
    /// It does not begin with `pkg:docker/`, or nothing follows.
    #[error("it is no package URL of an image")]
    NotDocker,
    /// Its escapes are no UTF-8, or no escapes.
    #[error("`{part}` is not percent-encoded text")]
    Escape {
        /// The part of it.
        part: String,
    },
    /// A qualifier has no valid name, or stands twice.
    #[error("qualifier `{key}` is invalid or stands twice")]
    Qualifier {
        /// Its name.
        key: String,
    },
    /// Version and qualifier name two digests.
    #[error("it names two digests, {version} and {qualifier}")]
    TwoDigests {
        /// The one in the version.
        version: String,
        /// The one in the qualifier.
        qualifier: String,
    },
    /// The digest is none.
    #[error("`{digest}` is no digest")]
    Digest {
        /// What stands there.
        digest: String,
    },
    /// The reference is none.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The platform is none.
    #[error(transparent)]
    Platform(#[from] PlatformError),
}

/// The image and platform that a package URL of type `docker` names.
///
/// # Errors
/// When it is no such package URL, or what it names is no image.
pub(super) fn image(purl: &str) -> Result<(ImageSource, Option<Platform>), PurlError> {
    let rest = purl.strip_prefix("pkg:docker/").ok_or(PurlError::NotDocker)?;
    let rest = rest.split_once('#').map_or(rest, |(rest, _subpath)| rest);
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (path, version) = match rest.rsplit_once('@') {
        Some(("", _)) => return Err(PurlError::NotDocker),
        Some((path, version)) => (path, decode(version)?),
        None => (rest, String::new()),
    };
    let mut reference = name(path)?;
    let [digest, platform] = qualifiers(query)?;
    let version_digest = version.parse::<Digest>().ok().map(|digest| digest.to_string());
    let digest = match (version_digest, digest) {
        (Some(version), Some(qualifier)) if version != qualifier => {
            return Err(PurlError::TwoDigests { version, qualifier });
        }
        (Some(version), _) => Some(version),
        (None, qualifier) => {
            let tag = match (version.as_str(), &qualifier) {
                ("", Some(_)) => "",
                ("", None) => "latest",
                (version, _) => version,
            };
            if !tag.is_empty() {
                reference = format!("{reference}:{tag}");
            }
            qualifier
        }
    };
    if let Some(digest) = digest {
        let valid = digest.parse::<Digest>().is_ok();
        if !valid {
            return Err(PurlError::Digest { digest });
        }
        reference = format!("{reference}@{digest}");
    }
    let platform = platform.map(|platform| Platform::parse(&platform)).transpose()?;
    Ok((ImageSource::parse(&reference)?, platform))
}

/// Namespace and name, decoded one by one, without empty parts between them.
fn name(path: &str) -> Result<String, PurlError> {
    let (namespace, name) = path.rsplit_once('/').unwrap_or(("", path));
    if name.is_empty() {
        return Err(PurlError::NotDocker);
    }
    let mut parts = Vec::new();
    for part in namespace.split('/').filter(|part| !part.is_empty()) {
        parts.push(decode(part)?);
    }
    parts.push(decode(name)?);
    Ok(parts.join("/"))
}

/// The qualifiers `digest` and `platform`. An empty one is absent; no other matters.
fn qualifiers(query: &str) -> Result<[Option<String>; 2], PurlError> {
    let mut seen = Vec::new();
    let mut found = [None, None];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = key.to_ascii_lowercase();
        let value = decode(value)?;
        let valid = !pair.contains(';')
            && !key.is_empty()
            && !key.starts_with(|first: char| first.is_ascii_digit())
            && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
        if !valid || seen.contains(&key) {
            return Err(PurlError::Qualifier { key });
        }
        if value.is_empty() {
            continue;
        }
        match key.as_str() {
            "digest" => found[0] = Some(value),
            "platform" => found[1] = Some(value),
            _ => {}
        }
        seen.push(key);
    }
    Ok(found)
}

/// Percent-decoded text. A lone `%` is an error, as in Go's `url.PathUnescape`.
fn decode(text: &str) -> Result<String, PurlError> {
    let escapes_hold = text.split('%').skip(1).all(|rest| {
        matches!(rest.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit())
    });
    let decoded = percent_decode_str(text).decode_utf8();
    match decoded {
        Ok(decoded) if escapes_hold => Ok(decoded.into_owned()),
        _ => Err(PurlError::Escape { part: text.into() }),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DIGEST: &str = "sha256:abababababababababababababababababababababababababababababababab";

    #[test]
    fn names_an_image() {
        for (purl, reference, platform) in [
            ("alpine", "docker.io/library/alpine:latest", ""),
            (
                "alpine@3.20?platform=linux%2Farm64%2Fv8",
                "docker.io/library/alpine:3.20",
                "linux/arm64",
            ),
            ("127.0.0.1%3A5000/library/base@1", "127.0.0.1:5000/library/base:1", ""),
            ("ghcr.io%2Facme%2Fbase@1", "ghcr.io/acme/base:1", ""),
            ("ghcr.io/acme/base@D", "ghcr.io/acme/base@D", ""),
            ("ghcr.io/acme/base@1?digest=D", "ghcr.io/acme/base:1@D", ""),
            ("base?digest=D", "docker.io/library/base@D", ""),
            ("base@D?digest=D&platform=", "docker.io/library/base@D", ""),
            ("/ghcr.io//a/b@1#sub/path", "ghcr.io/a/b:1", ""),
            ("a%40b@1", "", ""),
            ("base@D?digest=sha256:00", "", ""),
            ("base?digest=sha256:00", "", ""),
            ("base?platform=linux/a/b/c/d", "", ""),
            ("base?platform=a&platform=b", "", ""),
            ("base?a;b=c", "", ""),
            ("base?1a=c", "", ""),
            ("base%2", "", ""),
            ("base%ff", "", ""),
            ("UPPER@1", "", ""),
            ("a/@1", "", ""),
            ("@1", "", ""),
            ("", "", ""),
        ] {
            let full = |text: &str| text.replace('D', DIGEST);
            let got = image(&format!(
                "pkg:docker/{}",
                if purl == "UPPER@1" { purl.into() } else { full(purl) }
            ));
            if reference.is_empty() {
                assert!(got.is_err(), "{purl}: {got:?}");
                continue;
            }
            let (got, on) = got.unwrap();
            assert_eq!(got.reference(), full(reference), "{purl}");
            assert_eq!(on.map(|on| on.to_string()).unwrap_or_default(), platform, "{purl}");
        }
        assert_eq!(image("pkg:oci/alpine@3"), Err(PurlError::NotDocker));
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*", odd in "[a-z@?#/%&=;:.0-9]{0,40}") {
            let _ = image(&text);
            let _ = image(&format!("pkg:docker/{odd}"));
        }
    }
}
