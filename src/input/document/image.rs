//! What the document says of an image: its reference, its config, and what attests it.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::Input;
use crate::meta::ImageSignatures;
pub use crate::verify::sigstore::{
    AttestationSignature, SignatureKind, SignatureType, SignerInfo, TrustedTimestamp,
};

/// An image (`input.image`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Image {
    /// The whole normalised reference, `docker.io/library/alpine:3`.
    #[serde(rename = "ref", skip_serializing_if = "String::is_empty")]
    pub reference: String,
    /// Registry host with port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// The short name where there is one (`alpine`), else host and repository.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub repo: String,
    /// Host and repository, `docker.io/library/alpine`.
    #[serde(rename = "fullRepo", skip_serializing_if = "String::is_empty")]
    pub full_repo: String,
    /// Tag, where the reference has one.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// Platform that is loaded, `os/arch[/variant]`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub platform: String,
    /// Operating system of the platform.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub os: String,
    /// Architecture of the platform.
    #[serde(rename = "arch", skip_serializing_if = "String::is_empty")]
    pub architecture: String,
    /// Variant of the platform.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub variant: String,
    /// Whether the reference names a digest.
    #[serde(rename = "isCanonical", skip_serializing_if = "std::ops::Not::not")]
    pub is_canonical: bool,
    /// Digest of what the reference names.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub checksum: String,
    /// When the image was made, by its config: RFC 3339, whole seconds.
    #[serde(rename = "createdTime", skip_serializing_if = "String::is_empty")]
    pub created_time: String,
    /// Environment of its config, `NAME=value`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// Labels of its config.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// User of its config.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Volumes of its config, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub volumes: Vec<String>,
    /// Working directory of its config.
    #[serde(rename = "workingDir", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Whether attestations of it exist.
    #[serde(rename = "hasProvenance", skip_serializing_if = "std::ops::Not::not")]
    pub has_provenance: bool,
    /// Its SLSA provenance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provenance: Option<ImageProvenance>,
    /// The verified signatures of its attestations. Only who verified one can add it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<AttestationSignature>,
    /// What signs the image itself, for whoever verifies it.
    #[serde(skip)]
    pub signed_by: Option<ImageSignatures>,
}

/// SLSA provenance, v0.2 or v1, in one shape (`input.image.provenance`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ImageProvenance {
    /// Predicate type, a URI.
    #[serde(rename = "predicateType", skip_serializing_if = "String::is_empty")]
    pub predicate_type: String,
    /// Build type, a URI.
    #[serde(rename = "buildType", skip_serializing_if = "String::is_empty")]
    pub build_type: String,
    /// Who built, a URI.
    #[serde(rename = "builderID", skip_serializing_if = "String::is_empty")]
    pub builder_id: String,
    /// Which run of the builder it was.
    #[serde(rename = "invocationID", skip_serializing_if = "String::is_empty")]
    pub invocation_id: String,
    /// When the build began: RFC 3339, UTC, whole seconds.
    #[serde(rename = "startedOn", skip_serializing_if = "String::is_empty")]
    pub started_on: String,
    /// When the build ended: RFC 3339, UTC, whole seconds.
    #[serde(rename = "finishedOn", skip_serializing_if = "String::is_empty")]
    pub finished_on: String,
    /// Where the build's definition came from.
    #[serde(rename = "configSource", skip_serializing_if = "Option::is_none")]
    pub config_source: Option<ImageProvenanceConfigSource>,
    /// Frontend that built.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub frontend: String,
    /// Build arguments.
    #[serde(rename = "buildArgs", skip_serializing_if = "BTreeMap::is_empty")]
    pub build_args: BTreeMap<String, String>,
    /// All options of the frontend, build arguments among them as `build-arg:NAME`.
    #[serde(rename = "rawArgs", skip_serializing_if = "BTreeMap::is_empty")]
    pub raw_args: BTreeMap<String, String>,
    /// Whether the builder claims that a rebuild gives the same bits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reproducible: Option<bool>,
    /// Whether the build ran without a network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hermetic: Option<bool>,
    /// What the builder claims to have recorded completely.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub completeness: Option<ImageProvenanceCompleteness>,
    /// What went into the build, each as an input of its own. One that is no source buildgate knows
    /// is empty but for `env`, and its URI is in `unsupportedMaterials`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub materials: Vec<Input>,
    /// URIs of the materials that are no source buildgate knows.
    #[serde(rename = "unsupportedMaterials", skip_serializing_if = "Vec::is_empty")]
    pub unsupported_materials: Vec<String>,
}

/// Where a build's definition came from.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ImageProvenanceConfigSource {
    /// Its URI.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uri: String,
    /// Its digests by algorithm, in hex.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub digest: BTreeMap<String, String>,
    /// Path of the file in it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
}

/// What a builder claims to have recorded completely.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct ImageProvenanceCompleteness {
    /// Parameters of the build.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parameters: Option<bool>,
    /// Environment of the builder (v0.2 alone).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub environment: Option<bool>,
    /// Materials.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub materials: Option<bool>,
}
