//! From a material of provenance to the source it names.

use percent_encoding::percent_decode_str;

use super::provenance::Material;
use super::purl;
use crate::source::{Digest, GitSource, Platform, Source, SourceError, SourceOp};

/// A material that is no source buildgate knows.
#[derive(Debug, thiserror::Error)]
pub(super) enum MaterialError {
    /// Its URI has a scheme that names no source.
    #[error("it names neither an image, a git repository nor a URL")]
    Unsupported,
    /// A package URL that names no image.
    #[error(transparent)]
    Purl(#[from] purl::PurlError),
    /// A URL that is no source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Its digest is none.
    #[error("`{digest}` is no SHA-256 digest")]
    Digest {
        /// What stands there.
        digest: String,
    },
    /// Its URI and its digest name two images.
    #[error("its URI names {uri} and its digest {digest}")]
    TwoDigests {
        /// The one in the URI.
        uri: String,
        /// The other.
        digest: String,
    },
}

/// A material that is a source.
#[derive(Debug)]
pub(super) struct MaterialSource {
    /// What metadata of it is asked for by.
    pub op: SourceOp,
    /// The same, parsed.
    pub source: Source,
    /// Its platform, where it names one.
    pub platform: Option<Platform>,
}

/// Reads a material.
///
/// # Errors
/// When it is no source.
pub(super) fn resolve(material: &Material) -> Result<MaterialSource, MaterialError> {
    let uri = material.uri.as_str();
    if uri.starts_with("pkg:docker/") {
        return image(material);
    }
    let bare = uri.split(['#', '?']).next().unwrap_or(uri);
    let scheme = bare.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("http" | "https") if is_repository(bare) => git(uri),
        Some("http" | "https") => {
            let op = SourceOp { identifier: uri.into(), ..SourceOp::default() };
            let source = Source::parse(&op)?;
            Ok(MaterialSource { op, source, platform: None })
        }
        Some("ssh" | "git") => git(uri),
        None if bare.contains('@') && bare.contains(':') && !bare.starts_with("pkg:") => git(uri),
        _ => Err(MaterialError::Unsupported),
    }
}

/// BuildKit writes a repository and a file alike; it is the suffix that tells them apart.
fn is_repository(url: &str) -> bool {
    let path = percent_decode_str(url).decode_utf8_lossy();
    path.len() >= 4
        && path
            .as_bytes()
            .iter()
            .rev()
            .zip(b".git".iter().rev())
            .all(|(a, b)| a.eq_ignore_ascii_case(b))
}

fn image(material: &Material) -> Result<MaterialSource, MaterialError> {
    let (mut image, platform) = purl::image(&material.uri)?;
    if !material.sha256.is_empty() {
        let digest: Digest = material
            .sha256
            .parse()
            .or_else(|_| format!("sha256:{}", material.sha256).parse())
            .map_err(|_| MaterialError::Digest { digest: material.sha256.clone() })?;
        match &image.digest {
            Some(uri) if uri != digest.as_str() => {
                let uri = uri.clone();
                return Err(MaterialError::TwoDigests { uri, digest: digest.to_string() });
            }
            Some(_) => {}
            None => image.digest = Some(digest.to_string()),
        }
    }
    let op = SourceOp { identifier: image.identifier(), ..SourceOp::default() };
    Ok(MaterialSource { op, source: Source::Image(image), platform })
}

/// A git material is asked for as the Dockerfile frontend would: host and path, with the URL beside.
fn git(uri: &str) -> Result<MaterialSource, MaterialError> {
    let attrs = [("git.fullurl".to_owned(), uri.to_owned())].into();
    let mut op = SourceOp { identifier: format!("git://{uri}"), attrs };
    let source = Source::parse(&op)?;
    if let Source::Git(git) = &source {
        op.identifier = identifier(git);
    }
    Ok(MaterialSource { op, source, platform: None })
}

fn identifier(git: &GitSource) -> String {
    let place = match git.remote.split_once("://") {
        Some((_, place)) => {
            let host_at = place.find('/').unwrap_or(place.len());
            let user_end = place.get(..host_at).and_then(|authority| authority.rfind('@'));
            place.get(user_end.map_or(0, |at| at + 1)..).unwrap_or(place).to_owned()
        }
        None => {
            let place = git.remote.split_once('@').map_or(git.remote.as_str(), |(_, place)| place);
            let (host, path) = place.split_once(':').unwrap_or((place, ""));
            format!("{host}/{}", path.trim_start_matches('/'))
        }
    };
    let mut identifier = format!("git://{place}");
    if git.reference.is_some() || git.subdir.is_some() {
        identifier.push('#');
        identifier.push_str(git.reference.as_deref().unwrap_or_default());
    }
    if let Some(subdir) = &git.subdir {
        identifier.push(':');
        identifier.push_str(subdir);
    }
    identifier
}
