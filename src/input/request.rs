//! From fields that a rule read to the metadata that answers them.

use super::build::Node;
use super::{Field, FieldSet};
use crate::meta::{
    ChecksumAlgorithm, ChecksumRequest, ChecksumResponse, GitRequest, HttpRequest, ImageRequest,
    MetaRequest, SourceMeta,
};
use crate::source::Source;

/// The request for `fields` of a source, and for a digest of a file with a suffix. It asks again for what is `known` already, because a
/// daemon's later answer replaces its earlier one. `None` where the source has none of the fields.
pub fn request(
    node: &Node<'_>,
    fields: FieldSet,
    checksum: Option<&ChecksumRequest>,
    known: Option<&SourceMeta>,
) -> Option<MetaRequest> {
    let (mut image, mut git, mut http) = (None, None, None);
    match node.source.as_ref() {
        Source::Image(_) => image = Some(for_image(fields, known)?),
        Source::Git(_) => git = Some(for_git(fields, known)?),
        Source::Http(_) => http = Some(for_http(fields, checksum, known)?),
        Source::Local(_) | Source::OciLayout(_) | Source::Blob(_) => return None,
    }
    Some(MetaRequest {
        source: node.op.as_ref().clone(),
        platform: Some(node.platform.as_ref().clone()),
        image,
        git,
        http,
        signatures: None,
        content: None,
    })
}

fn for_image(fields: FieldSet, known: Option<&SourceMeta>) -> Option<ImageRequest> {
    let mut request = ImageRequest::default();
    for field in fields.iter() {
        match field {
            // The digest comes along with the config alone.
            Field::ImageChecksum
            | Field::ImageCreatedTime
            | Field::ImageLabels
            | Field::ImageUser
            | Field::ImageVolumes
            | Field::ImageWorkingDir
            | Field::ImageEnv => request.config = true,
            Field::ImageHasProvenance | Field::ImageProvenance | Field::ImageSignatures => {
                request.attestations = true;
            }
            Field::HttpChecksum
            | Field::GitTagName
            | Field::GitBranch
            | Field::GitRef
            | Field::GitChecksum
            | Field::GitCommitChecksum
            | Field::GitIsAnnotatedTag
            | Field::GitIsSha256
            | Field::GitTag
            | Field::GitCommit => {}
        }
    }
    if request == ImageRequest::default() {
        return None;
    }
    let known = known.and_then(|known| known.image.as_ref());
    request.config |= known.is_some_and(|known| known.config.is_some());
    request.attestations |= known.is_some_and(|known| known.attestations.is_some());
    Some(request)
}

fn for_git(fields: FieldSet, known: Option<&SourceMeta>) -> Option<GitRequest> {
    let is_git = |field: &Field| field.path().0 == "git";
    let wanted = fields.iter().filter(is_git).fold(FieldSet::EMPTY, FieldSet::with);
    if wanted.is_empty() {
        return None;
    }
    let known = known.and_then(|known| known.git.as_ref());
    let objects = wanted.contains(Field::GitTag)
        || wanted.contains(Field::GitCommit)
        || known.is_some_and(|known| known.commit_object.is_some() || known.tag_object.is_some());
    Some(GitRequest { objects })
}

fn for_http(
    fields: FieldSet,
    checksum: Option<&ChecksumRequest>,
    known: Option<&SourceMeta>,
) -> Option<HttpRequest> {
    if let Some(checksum) = checksum {
        return Some(HttpRequest { checksum: Some(checksum.clone()) });
    }
    if !fields.contains(Field::HttpChecksum) {
        return None;
    }
    let answered = known
        .and_then(|known| known.http.as_ref())
        .and_then(|known| known.checksum_response.as_ref());
    Some(HttpRequest { checksum: answered.and_then(again) })
}

/// The request that was answered so.
fn again(response: &ChecksumResponse) -> Option<ChecksumRequest> {
    let algorithm = match response.digest.split_once(':')?.0 {
        "sha256" => ChecksumAlgorithm::Sha256,
        "sha384" => ChecksumAlgorithm::Sha384,
        "sha512" => ChecksumAlgorithm::Sha512,
        _ => return None,
    };
    Some(ChecksumRequest { algorithm, suffix: response.suffix.clone() })
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
