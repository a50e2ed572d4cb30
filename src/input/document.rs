//! The shape of the document: Docker's fields and JSON names, and ours.
//!
//! A field that is empty is left out, as in Docker's engine: rules see it as undefined.

mod git;
mod image;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::FieldSet;

pub use git::*;
pub use image::*;

/// One source as rules see it (`input`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Input {
    /// What is known of the build as a whole.
    #[serde(skip_serializing_if = "Env::is_empty")]
    pub env: Env,
    /// Set for `local://` sources.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub local: Option<Local>,
    /// Set for images.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Image>,
    /// Set for files by URL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http: Option<Http>,
    /// Set for git repositories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub git: Option<Git>,
    /// Set for images of an OCI layout.
    #[serde(rename = "ociLayout", skip_serializing_if = "Option::is_none")]
    pub oci_layout: Option<OciLayout>,
    /// Set for blobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob: Option<Blob>,
    /// Fields of this source that are not resolved yet.
    #[serde(skip)]
    pub unresolved: FieldSet,
    /// Fields of this source that were resolved and cannot be vouched for. A rule that reads one gets
    /// an error, *could not verify*: neither absence nor the value would be the truth.
    #[serde(skip)]
    pub unverifiable: FieldSet,
    /// Why `unverifiable` cannot be vouched for.
    #[serde(skip)]
    pub unverifiable_because: String,
}

/// What is known of the build as a whole (`input.env`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Env {
    /// Build arguments; `null` for one that is named without a value.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub args: BTreeMap<String, Option<String>>,
    /// Labels that the build sets.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Name of the Dockerfile.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub filename: String,
    /// Target stage.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub target: String,
    /// Set where no source is judged, but what the policy asks of the build.
    #[serde(rename = "capsRequest", skip_serializing_if = "std::ops::Not::not")]
    pub caps_request: bool,
    /// Set where an image is judged as the cache that a build imports.
    #[serde(rename = "cacheImport", skip_serializing_if = "std::ops::Not::not")]
    pub cache_import: bool,
    /// Zero for a source of the build; one more for each provenance it is a material of.
    pub depth: u32,
}

impl Env {
    /// The build as its options say it, whoever runs the frontend (`build-arg:NAME`, `label:NAME`,
    /// `filename`, `target`).
    pub fn of_options(options: &BTreeMap<String, String>) -> Self {
        let prefixed = |prefix: &'static str| {
            options.iter().filter_map(move |(name, value)| {
                Some((name.strip_prefix(prefix)?.to_owned(), value.clone()))
            })
        };
        let named = |name: &str| options.get(name).cloned().unwrap_or_default();
        Self {
            args: prefixed("build-arg:").map(|(name, value)| (name, Some(value))).collect(),
            labels: prefixed("label:").collect(),
            filename: named("filename"),
            target: named("target"),
            ..Self::default()
        }
    }
}

/// A directory of the client.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Local {
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// An image of an OCI layout.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct OciLayout {
    /// Its name, the client's own word.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Its digest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

/// A blob.
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Blob {
    /// `docker-image+blob` or `oci-layout+blob`.
    pub scheme: String,
    /// Registry host.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Host and repository.
    #[serde(rename = "fullRepo", skip_serializing_if = "String::is_empty")]
    pub full_repo: String,
    /// Digest.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub digest: String,
}

impl Env {
    /// Whether nothing at all is known, and the field is left out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
