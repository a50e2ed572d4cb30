//! `oci-layout://` and the two blob schemes: what is named by digest alone.

use super::digest::Digest;
use super::reference::{self, ReferenceError};
use super::{BlobSource, ImageSource, OciLayoutSource, SourceError, mask};

/// The scheme of a blob of a registry.
pub(super) const IMAGE_BLOB: &str = "docker-image+blob";
/// The scheme of a blob of an OCI layout that the client holds.
pub(super) const OCI_BLOB: &str = "oci-layout+blob";

/// Parses an image of an OCI layout; `rest` is the identifier without its scheme.
pub(super) fn parse_oci_layout(
    identifier: &str,
    rest: &str,
) -> Result<OciLayoutSource, SourceError> {
    let (name, digest) = split_digest(rest).map_err(|source| broken(identifier, source))?;
    let (repository, tag) = split_tag(name);
    if !reference::is_repository(repository) {
        let source = ReferenceError::Component { component: mask::part(repository) };
        return Err(broken(identifier, source));
    }
    if let Some(tag) = tag.filter(|tag| !reference::is_tag(tag)) {
        return Err(broken(identifier, ReferenceError::Tag { tag: mask::part(tag) }));
    }
    Ok(OciLayoutSource { name: name.into(), digest: digest.map(Into::into) })
}

/// Parses a whole blob identifier, as `git.bundle` has it.
pub(super) fn parse_identifier(identifier: &str) -> Result<BlobSource, SourceError> {
    let refuse = || SourceError::Blob { identifier: mask::mask(identifier) };
    let (scheme, rest) = identifier.split_once("://").ok_or_else(refuse)?;
    match scheme.to_ascii_lowercase().as_str() {
        IMAGE_BLOB => parse_image_blob(identifier, rest),
        OCI_BLOB => parse_oci_blob(identifier, rest),
        _ => Err(refuse()),
    }
}

/// A blob of a registry. BuildKit does not complete its name: the full one is demanded, so that no
/// rule reads another registry than the one that is asked.
pub(super) fn parse_image_blob(identifier: &str, rest: &str) -> Result<BlobSource, SourceError> {
    let image = ImageSource::parse(rest).map_err(|source| broken(identifier, source))?;
    let full = image.reference() == rest && image.tag.is_none();
    match &image.digest {
        Some(digest) if full => Ok(BlobSource {
            scheme: IMAGE_BLOB.into(),
            host: Some(image.host.clone()),
            full_repo: image.full_repo(),
            digest: digest.clone(),
        }),
        Some(_) | None => Err(SourceError::Blob { identifier: mask::mask(identifier) }),
    }
}

/// A blob of an OCI layout, by the client's name for it.
pub(super) fn parse_oci_blob(identifier: &str, rest: &str) -> Result<BlobSource, SourceError> {
    let layout = parse_oci_layout(identifier, rest)?;
    match layout.digest {
        Some(digest) if split_tag(&layout.name).1.is_none() => {
            Ok(BlobSource { scheme: OCI_BLOB.into(), host: None, full_repo: layout.name, digest })
        }
        Some(_) | None => Err(SourceError::Blob { identifier: mask::mask(identifier) }),
    }
}

fn split_digest(text: &str) -> Result<(&str, Option<Digest>), ReferenceError> {
    match text.split_once('@') {
        Some((name, digest)) => Ok((name, Some(digest.parse()?))),
        None => Ok((text, None)),
    }
}

/// A `:` behind the last `/` starts a tag; one before it, a port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') && !tag.contains(']') => (name, Some(tag)),
        Some(_) | None => (name, None),
    }
}

fn broken(identifier: &str, source: ReferenceError) -> SourceError {
    SourceError::Reference { identifier: mask::mask(identifier), source }
}
