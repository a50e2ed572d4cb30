//! Manifests and indexes, read so that nobody can read them otherwise.
//!
//! A document with both layers and manifests, one whose media type contradicts its shape or its
//! `Content-Type`, and one with a field that Go would take for another (Go's JSON ignores case)
//! would mean one thing here and another to the daemon: each is refused.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::Value;

/// Media types of what a registry hands out under `manifests/`.
pub(crate) mod media_type {
    pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    pub(crate) const DOCKER_LIST: &str =
        "application/vnd.docker.distribution.manifest.list.v2+json";
    pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// All that is accepted under `manifests/`.
    pub(crate) const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, \
        application/vnd.docker.distribution.manifest.list.v2+json, \
        application/vnd.oci.image.manifest.v1+json, \
        application/vnd.docker.distribution.manifest.v2+json";
}

/// What stands under `manifests/`, with its digest and bytes.
#[derive(Clone, Debug)]
pub(crate) struct Document {
    /// Digest of `bytes`.
    pub digest: String,
    /// One of [`media_type`].
    pub media_type: String,
    /// As they came.
    pub bytes: Bytes,
    /// What they say.
    pub content: Content,
}

/// What a document says.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// Several manifests, by platform.
    Index(Index),
    /// One image.
    Manifest(Manifest),
}

/// An image index or Docker manifest list.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Index {
    #[serde(default, deserialize_with = "nullable")]
    pub manifests: Vec<Descriptor>,
    #[serde(default, deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
}

/// An image manifest.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Manifest {
    pub config: Descriptor,
    #[serde(default, deserialize_with = "nullable")]
    pub layers: Vec<Descriptor>,
}

/// What points to a blob or another document.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub media_type: String,
    pub digest: String,
    pub size: u64,
    #[serde(default)]
    pub artifact_type: String,
    #[serde(default, deserialize_with = "nullable")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default)]
    pub platform: Option<DescribedPlatform>,
}

/// The platform of a descriptor, as written.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Eq)]
pub(crate) struct DescribedPlatform {
    #[serde(default)]
    pub os: String,
    #[serde(default)]
    pub architecture: String,
    #[serde(default)]
    pub variant: String,
    #[serde(default, rename = "os.features", deserialize_with = "nullable")]
    pub os_features: Vec<String>,
}

/// A document that is none, or more than one.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DocumentError {
    #[error("the manifest is not JSON of the expected form: {0}")]
    Json(#[from] serde_json::Error),
    #[error("the manifest is not a JSON object")]
    NoObject,
    #[error("the manifest has both {0} and {1}, and could be read as an image or as an index")]
    Ambiguous(&'static str, &'static str),
    #[error("the manifest has the field {found:?}, which others read as {meant:?}")]
    Folded { found: String, meant: &'static str },
    #[error("the manifest says that it is {said}, but it came as {came}")]
    MediaTypes { said: String, came: String },
    #[error("the manifest says that it is {0}, but it is not built like one")]
    Shape(String),
    #[error("the registry answered with {0}, which is no image manifest")]
    NoManifest(String),
    #[error(
        "the manifest is of Docker's schema 1, which is no longer supported: push the image again"
    )]
    Schema1,
}

/// Reads a document that came as `content_type`.
pub(crate) fn read(content_type: &str, bytes: &[u8]) -> Result<(String, Content), DocumentError> {
    let content_type = content_type.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if content_type.starts_with("application/vnd.docker.distribution.manifest.v1+") {
        return Err(DocumentError::Schema1);
    }
    if !is_plausible(&content_type) {
        return Err(DocumentError::NoManifest(content_type));
    }
    let value: Value = serde_json::from_slice(bytes)?;
    // serde would take a list for a struct; nobody else does.
    if !value.is_object() {
        return Err(DocumentError::NoObject);
    }
    unambiguous(&value)?;
    let said = match value.get("mediaType") {
        Some(Value::String(said)) => said.as_str(),
        _ => "",
    };
    if !said.is_empty() && is_manifest_type(&content_type) && said != content_type {
        return Err(DocumentError::MediaTypes { said: said.into(), came: content_type });
    }
    let has = |field: &str| value.get(field).is_some_and(|found| !found.is_null());
    for image_field in ["config", "layers"] {
        if has(image_field) && has("manifests") {
            return Err(DocumentError::Ambiguous(image_field, "manifests"));
        }
    }
    let is_index = has("manifests");
    let by_shape = if is_index { media_type::DOCKER_LIST } else { media_type::DOCKER_MANIFEST };
    let media_type = match (said, content_type.as_str()) {
        ("", came) if is_manifest_type(came) => came,
        // BuildKit takes a document that says nothing of itself for Docker's kind.
        ("", _) => by_shape,
        (said, _) => said,
    };
    let content = match media_type {
        media_type::OCI_INDEX | media_type::DOCKER_LIST if is_index => {
            Content::Index(serde_json::from_slice(bytes)?)
        }
        media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST if !is_index => {
            Content::Manifest(serde_json::from_slice(bytes)?)
        }
        other if is_manifest_type(other) => return Err(DocumentError::Shape(other.into())),
        other => return Err(DocumentError::NoManifest(other.into())),
    };
    Ok((media_type.to_owned(), content))
}

/// Reads a list of referrers, which is an OCI index that nothing vouches for.
pub(crate) fn read_referrers(bytes: &[u8]) -> Result<Index, DocumentError> {
    let value: Value = serde_json::from_slice(bytes)?;
    if !value.is_object() {
        return Err(DocumentError::NoObject);
    }
    unambiguous(&value)?;
    Ok(serde_json::from_slice(bytes)?)
}

/// Whether `media_type` is that of one image's manifest.
pub(crate) fn is_image_manifest(media_type: &str) -> bool {
    matches!(media_type, media_type::OCI_MANIFEST | media_type::DOCKER_MANIFEST)
}

/// Whether `media_type` is that of an index.
pub(crate) fn is_index(media_type: &str) -> bool {
    matches!(media_type, media_type::OCI_INDEX | media_type::DOCKER_LIST)
}

fn is_manifest_type(media_type: &str) -> bool {
    is_image_manifest(media_type) || is_index(media_type)
}

/// Whether a manifest may come as `content_type`: as itself, or as something without meaning.
fn is_plausible(content_type: &str) -> bool {
    is_manifest_type(content_type)
        || matches!(
            content_type,
            "" | "application/json" | "application/octet-stream" | "text/plain"
        )
}

/// The fields whose meaning matters here.
const FIELDS: [&str; 14] = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "digest",
    "size",
    "platform",
    "annotations",
    "os",
    "architecture",
    "variant",
    "artifactType",
    "os.features",
];

/// Refuses fields that only some readers take for one of [`FIELDS`].
fn unambiguous(value: &Value) -> Result<(), DocumentError> {
    match value {
        Value::Object(fields) => {
            for (name, inner) in fields {
                let folded = fold(name);
                let meant = FIELDS.into_iter().find(|field| fold(field) == folded);
                match meant {
                    Some(meant) if meant != name => {
                        return Err(DocumentError::Folded { found: name.clone(), meant });
                    }
                    // Annotations are free text, and case matters in a map's keys to everybody.
                    Some("annotations") => {}
                    _ => unambiguous(inner)?,
                }
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(unambiguous),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// As Go's `encoding/json` folds names: case, the long s and the Kelvin sign.
fn fold(name: &str) -> String {
    name.chars()
        .map(|c| match c {
            'ſ' => 's',
            '\u{212a}' => 'k',
            c => c.to_ascii_lowercase(),
        })
        .collect()
}

/// A list or map that Go writes as `null` where it is empty.
fn nullable<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:4b7ce07002c69e8f3d704a9c5d6fd3053be500b7f1c69fc0d80990c2ad8dd412";

    fn check(content_type: &str, body: &str, expected: &str) {
        let body = body.replace("DESC", &format!("{{\"digest\":\"{DIGEST}\",\"size\":2}}"));
        let found = match read(content_type, body.as_bytes()) {
            Ok((media_type, _)) => media_type,
            Err(error) => error.to_string(),
        };
        assert_eq!(found, expected, "{content_type} {body}");
    }

    #[test]
    fn a_document_means_one_thing() {
        use media_type::*;
        let cases = [
            (OCI_INDEX, r#"{"manifests":[DESC]}"#, OCI_INDEX),
            (OCI_INDEX, r#"{"manifests":[]}"#, OCI_INDEX),
            (OCI_MANIFEST, r#"{"config":DESC,"layers":null}"#, OCI_MANIFEST),
            ("application/json; charset=utf-8", r#"{"config":DESC,"layers":[]}"#, DOCKER_MANIFEST),
            ("", r#"{"manifests":[DESC]}"#, DOCKER_LIST),
            (
                OCI_MANIFEST,
                r#"{"config":DESC,"layers":[],"manifests":[DESC]}"#,
                "the manifest has both config and manifests, and could be read as an image or as an index",
            ),
            (
                OCI_INDEX,
                r#"{"layers":[],"manifests":[DESC]}"#,
                "the manifest has both layers and manifests, and could be read as an image or as an index",
            ),
            (
                OCI_INDEX,
                r#"{"manifests":[DESC],"Manifests":[]}"#,
                "the manifest has the field \"Manifests\", which others read as \"manifests\"",
            ),
            (
                OCI_MANIFEST,
                r#"{"config":DESC,"layerſ":[]}"#,
                "the manifest has the field \"layerſ\", which others read as \"layers\"",
            ),
            (
                OCI_INDEX,
                r#"{"mediaType":"application/vnd.oci.image.manifest.v1+json","manifests":[]}"#,
                "the manifest says that it is application/vnd.oci.image.manifest.v1+json, but it came as application/vnd.oci.image.index.v1+json",
            ),
            (
                OCI_INDEX,
                r#"{"config":DESC,"layers":[]}"#,
                "the manifest says that it is application/vnd.oci.image.index.v1+json, but it is not built like one",
            ),
            (
                OCI_MANIFEST,
                r#"{"config":DESC,"config":DESC,"layers":[]}"#,
                "the manifest is not JSON of the expected form: duplicate field `config` at line 1 column 112",
            ),
            (
                "text/html",
                "<html>",
                "the registry answered with text/html, which is no image manifest",
            ),
            (
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
                "{}",
                "the manifest is of Docker's schema 1, which is no longer supported: push the image again",
            ),
            (
                "application/json",
                r#"{"mediaType":"application/vnd.x","config":DESC}"#,
                "the registry answered with application/vnd.x, which is no image manifest",
            ),
            (OCI_MANIFEST, "[{},[]]", "the manifest is not a JSON object"),
            (
                OCI_MANIFEST,
                "nonsense",
                "the manifest is not JSON of the expected form: expected ident at line 1 column 2",
            ),
            (
                OCI_MANIFEST,
                r#"{"config":{"digest":"x","size":-1}}"#,
                "the manifest is not JSON of the expected form: invalid value: integer `-1`, expected u64 at line 1 column 33",
            ),
        ];
        for (content_type, body, expected) in cases {
            check(content_type, body, expected);
        }
    }
}
