//! Why there is no document to judge: an answer that may not be believed.

use super::config::ConfigError;
use super::gitobject::GitObjectError;
use super::provenance::ProvenanceError;

/// Metadata from which no document can be made. The source is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InputError {
    /// The image config cannot be read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The provenance may not be read.
    #[error(transparent)]
    Provenance(#[from] ProvenanceError),
    /// A git object may not be believed.
    #[error(transparent)]
    GitObject(#[from] GitObjectError),
    /// The answer is about another image than the one that was asked about.
    #[error("{reference} was resolved to {resolved}, which is another image")]
    OtherImage {
        /// What was asked about.
        reference: String,
        /// The digest that was answered.
        resolved: String,
    },
    /// A tag object under another name than its own.
    #[error("{served} is served with a tag object that names itself `{tag}`")]
    TagName {
        /// The reference it is served as.
        served: String,
        /// The name in the object.
        tag: String,
    },
    /// A tag object that names another commit than the one it is served with.
    #[error("tag `{tag}` names {kind} {object}, and is served with commit {commit}")]
    TagTarget {
        /// The name in the object.
        tag: String,
        /// Type of what it names.
        kind: String,
        /// What it names.
        object: String,
        /// The commit.
        commit: String,
    },
    /// Materials of materials of materials.
    #[error("provenance materials are nested more than {limit} deep")]
    Depth {
        /// The limit.
        limit: usize,
    },
    /// Too many materials, all together.
    #[error("the document has more than {limit} provenance materials")]
    TooManyMaterials {
        /// The limit.
        limit: usize,
    },
    /// A material fails in one of these ways.
    #[error("provenance material `{uri}`: {source}")]
    Material {
        /// Its URI.
        uri: String,
        /// How it fails.
        source: Box<InputError>,
    },
}
