//! What the document says of a git source, and what its objects say.

use bytes::Bytes;

use super::document::{Commit, Git, Input, Tag};
use super::error::InputError;
use super::gitobject::{GitObject, Kind};
use super::{Field, FieldSet, signature};
use crate::meta::GitMeta;
use crate::source::GitSource;

const TAG_PREFIX: &str = "refs/tags/";
const BRANCH_PREFIX: &str = "refs/heads/";
const SHA256_DIGITS: usize = 64;

/// What a short reference is resolved to.
const REFERENCE_FIELDS: FieldSet =
    FieldSet::EMPTY.with(Field::GitTagName).with(Field::GitBranch).with(Field::GitRef);

/// What a reference names.
const CHECKSUM_FIELDS: FieldSet = FieldSet::EMPTY
    .with(Field::GitChecksum)
    .with(Field::GitIsAnnotatedTag)
    .with(Field::GitCommitChecksum)
    .with(Field::GitIsSha256);

/// What the objects say.
const OBJECT_FIELDS: FieldSet = FieldSet::EMPTY.with(Field::GitTag).with(Field::GitCommit);

/// Fills what `input` says of a git source.
///
/// # Errors
/// When an object is not the one that it is served as.
pub(super) fn fill(
    input: &mut Input,
    source: &GitSource,
    meta: Option<&GitMeta>,
) -> Result<(), InputError> {
    let mut git = named(source);
    match meta {
        None => {
            input.unresolved = OBJECT_FIELDS;
            if git.checksum.is_empty() {
                input.unresolved = input.unresolved.union(CHECKSUM_FIELDS);
            }
            if git.reference.is_empty() {
                input.unresolved = input.unresolved.union(REFERENCE_FIELDS);
            }
        }
        Some(meta) => resolved(&mut git, input, source, meta)?,
    }
    git.is_sha256 = git.checksum.len() == SHA256_DIGITS;
    input.git = Some(git);
    Ok(())
}

/// What the source says of itself.
fn named(source: &GitSource) -> Git {
    let mut git = Git {
        schema: source.scheme.clone(),
        host: source.host.clone(),
        remote: source.remote.clone(),
        full_url: source.full_url.clone().unwrap_or_default(),
        subdir: source.subdir.clone().unwrap_or_default(),
        declared_checksum: source.declared_checksum.clone().unwrap_or_default(),
        ..Git::default()
    };
    if let Some(commit) = source.commit() {
        git.is_commit_ref = true;
        git.checksum = commit.into();
        git.commit_checksum = commit.into();
        git.reference = commit.into();
    }
    if let Some(reference) = source.reference.as_deref()
        && name_reference(&mut git, reference)
    {
        git.reference = reference.into();
    }
    git
}

/// Sets tag or branch by a full reference; tells whether it was one.
fn name_reference(git: &mut Git, reference: &str) -> bool {
    if let Some(tag) = reference.strip_prefix(TAG_PREFIX) {
        git.tag_name = tag.into();
        return true;
    }
    if let Some(branch) = reference.strip_prefix(BRANCH_PREFIX) {
        git.branch = branch.into();
        return true;
    }
    false
}

fn resolved(
    git: &mut Git,
    input: &mut Input,
    source: &GitSource,
    meta: &GitMeta,
) -> Result<(), InputError> {
    git.reference.clone_from(&meta.reference);
    name_reference(git, &meta.reference);
    git.checksum.clone_from(&meta.checksum);
    git.commit_checksum.clone_from(&meta.commit_checksum);
    if git.commit_checksum.is_empty() {
        git.commit_checksum.clone_from(&meta.checksum);
    }
    git.is_annotated_tag = git.checksum != git.commit_checksum;
    if git.checksum.is_empty() {
        input.unresolved = CHECKSUM_FIELDS;
    }
    let Some(object) = meta.commit_object.as_ref().filter(|object| !object.is_empty()) else {
        input.unresolved = input.unresolved.union(OBJECT_FIELDS);
        return Ok(());
    };
    git.commit = Some(commit(object, &git.commit_checksum)?);
    match meta.tag_object.as_ref().filter(|object| !object.is_empty()) {
        Some(object) => {
            let tag = tag(object, &git.checksum)?;
            for served in [source.reference.as_deref().unwrap_or_default(), &meta.reference] {
                check_name(&tag, served)?;
            }
            if is_tied_to_commit(&tag, &git.commit_checksum)? {
                git.tag = Some(tag);
            } else {
                input.unverifiable.add(Field::GitTag);
            }
        }
        None if git.is_annotated_tag => input.unresolved.add(Field::GitTag),
        None => {}
    }
    Ok(())
}

fn commit(raw: &Bytes, checksum: &str) -> Result<Commit, InputError> {
    let object = GitObject::parse(Kind::Commit, raw.clone())?;
    object.verify_checksum(checksum)?;
    let signature = object.signature();
    let signature = signature.as_deref().unwrap_or_default();
    Ok(Commit {
        tree: object.header("tree").unwrap_or_default(),
        parents: object.headers("parent").collect(),
        author: object.actor("author")?,
        committer: object.actor("committer")?,
        message: object.message(),
        pgp_signature: signature::pgp(signature),
        ssh_signature: signature::ssh(signature),
        raw: Some(object),
    })
}

fn tag(raw: &Bytes, checksum: &str) -> Result<Tag, InputError> {
    let object = GitObject::parse(Kind::Tag, raw.clone())?;
    object.verify_checksum(checksum)?;
    let signature = object.signature();
    let signature = signature.as_deref().unwrap_or_default();
    Ok(Tag {
        object: object.header("object").unwrap_or_default(),
        target_type: object.header("type").unwrap_or_default(),
        tag: object.header("tag").unwrap_or_default(),
        tagger: object.actor("tagger")?,
        message: object.message(),
        pgp_signature: signature::pgp(signature),
        ssh_signature: signature::ssh(signature),
        raw: Some(object),
    })
}

/// A signed tag is a statement about its own name: under another one it is a lie.
fn check_name(tag: &Tag, served: &str) -> Result<(), InputError> {
    let is_full = served.starts_with("refs/");
    if !is_full || served.strip_prefix(TAG_PREFIX) == Some(&tag.tag) {
        return Ok(());
    }
    Err(InputError::TagName { served: served.into(), tag: tag.tag.clone() })
}

/// Whether the tag itself names the commit. One that names another tag cannot be held against the
/// commit, because the tag between them is not resolved: it is not told to rules, as the server's
/// word alone would tie what was signed to what is fetched.
fn is_tied_to_commit(tag: &Tag, commit: &str) -> Result<bool, InputError> {
    match tag.target_type.as_str() {
        "commit" if tag.object == commit => Ok(true),
        "tag" => Ok(false),
        _ => Err(InputError::TagTarget {
            tag: tag.tag.clone(),
            kind: tag.target_type.clone(),
            object: tag.object.clone(),
            commit: commit.into(),
        }),
    }
}
