//! SLSA provenance, v0.2 and v1, out of the statements that attest an image
//! (<https://slsa.dev/spec/v1.0/provenance>, and BuildKit's own fields in it).
//!
//! It reads what a statement says. Whether the statement is the image's, and who made it, is for the
//! resolver and the verification to say.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use super::document::{ImageProvenance, ImageProvenanceCompleteness, ImageProvenanceConfigSource};
use super::json::Object;
use super::moment::Moment;
use crate::meta::AttestationChain;

/// Most bytes of a statement.
pub const MAX_STATEMENT: usize = 4 << 20;
/// Most materials of a document, those of materials included.
pub const MAX_MATERIALS: usize = 10_000;

const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const SLSA_V1: &str = "https://slsa.dev/provenance/v1";
const SLSA_V02: &str = "https://slsa.dev/provenance/v0.2";

/// Provenance that may not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProvenanceError {
    /// More bytes than are read.
    #[error("provenance statement {digest} has {size} bytes; at most {MAX_STATEMENT} are read")]
    TooLarge {
        /// Digest of the statement.
        digest: String,
        /// Its size.
        size: usize,
    },
    /// More materials than are read.
    #[error("provenance statement {digest} has more than {MAX_MATERIALS} materials")]
    TooManyMaterials {
        /// Digest of the statement.
        digest: String,
    },
    /// The bytes are another blob.
    #[error("attestation blob served as {digest} is {actual}")]
    Digest {
        /// The digest it was served under.
        digest: String,
        /// The digest it has.
        actual: String,
    },
}

/// A statement that is there and cannot be read.
#[derive(Debug, thiserror::Error)]
enum Malformed {
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    #[error("`{field}` is `{time}`, which is no RFC 3339 time")]
    Time { field: &'static str, time: String },
    #[error("predicate type `{0}` is no SLSA provenance")]
    PredicateType(String),
    #[error("neither a build type nor a builder is named")]
    Empty,
}

/// What the attestations of an image say of how it was built.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// The first statement that can be read, v1 before v0.2, in order of the digests.
    pub statement: Option<Statement>,
    /// Why those before it cannot be.
    pub malformed: Vec<String>,
}

/// One statement of provenance.
#[derive(Debug, Default)]
pub(super) struct Statement {
    /// What it says, but for the materials.
    pub provenance: ImageProvenance,
    /// What went into the build.
    pub materials: Vec<Material>,
}

/// One material, as it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Material {
    /// Its URI.
    pub uri: String,
    /// Its SHA-256, where there is one.
    pub sha256: String,
}

/// Holds every blob of a chain against the digest it stands under. A resolver that has the blobs from
/// elsewhere than a content store calls this before it hands out the chain.
///
/// # Errors
/// For the first blob that is another one, or whose digest is no `sha256:`.
pub fn verify_blobs(chain: &AttestationChain) -> Result<(), ProvenanceError> {
    for (digest, blob) in &chain.blobs {
        let actual = format!("sha256:{}", hex::encode(Sha256::digest(&blob.data)));
        if actual != *digest {
            return Err(ProvenanceError::Digest { digest: digest.clone(), actual });
        }
    }
    Ok(())
}

/// Reads the provenance of a chain.
///
/// # Errors
/// When a statement is larger than what is read.
pub(super) fn read(chain: &AttestationChain) -> Result<Found, ProvenanceError> {
    let mut found = Found::default();
    for wanted in [SLSA_V1, SLSA_V02] {
        for (digest, blob) in &chain.blobs {
            let annotated = blob.annotations.get(PREDICATE_TYPE).map(String::as_str);
            if annotated != Some(wanted) || blob.data.is_empty() {
                continue;
            }
            if blob.data.len() > MAX_STATEMENT {
                let size = blob.data.len();
                return Err(ProvenanceError::TooLarge { digest: digest.clone(), size });
            }
            match statement(&blob.data, wanted) {
                Ok(statement) if statement.materials.len() > MAX_MATERIALS => {
                    return Err(ProvenanceError::TooManyMaterials { digest: digest.clone() });
                }
                Ok(statement) => {
                    found.statement = Some(statement);
                    return Ok(found);
                }
                Err(reason) => {
                    found.malformed.push(format!("provenance statement {digest}: {reason}"));
                }
            }
        }
    }
    Ok(found)
}

fn statement(data: &[u8], annotated: &str) -> Result<Statement, Malformed> {
    let json = Object::from_slice(data)?;
    let stated: String = json.get("predicateType")?;
    let predicate = json.object("predicate")?;
    let statement = match if stated.is_empty() { annotated } else { &stated } {
        SLSA_V1 => v1(&predicate)?,
        SLSA_V02 => v02(&predicate)?,
        other => return Err(Malformed::PredicateType(other.into())),
    };
    let provenance = &statement.provenance;
    if provenance.build_type.is_empty() && provenance.builder_id.is_empty() {
        return Err(Malformed::Empty);
    }
    Ok(statement)
}

fn v1(predicate: &Object<'_>) -> Result<Statement, Malformed> {
    let definition = predicate.object("buildDefinition")?;
    let parameters = definition.object("externalParameters")?;
    let run = predicate.object("runDetails")?;
    let mut provenance = ImageProvenance {
        predicate_type: SLSA_V1.into(),
        build_type: definition.get("buildType")?,
        builder_id: run.object("builder")?.get("id")?,
        config_source: Some(config_source(&parameters.object("configSource")?, "path")?),
        ..request(&parameters.object("request")?)?
    };
    if let Some(metadata) = run.optional_object("metadata")? {
        let complete = metadata.object("buildkit_completeness")?;
        provenance.invocation_id = metadata.get("invocationId")?;
        provenance.started_on = time(&metadata, "startedOn")?;
        provenance.finished_on = time(&metadata, "finishedOn")?;
        provenance.reproducible = Some(metadata.get("buildkit_reproducible")?);
        provenance.hermetic = Some(metadata.get("buildkit_hermetic")?);
        provenance.completeness = Some(ImageProvenanceCompleteness {
            parameters: Some(complete.get("request")?),
            environment: None,
            materials: Some(complete.get("resolvedDependencies")?),
        });
    }
    let materials = materials(&definition, "resolvedDependencies")?;
    Ok(Statement { provenance, materials })
}

fn v02(predicate: &Object<'_>) -> Result<Statement, Malformed> {
    let invocation = predicate.object("invocation")?;
    let mut provenance = ImageProvenance {
        predicate_type: SLSA_V02.into(),
        build_type: predicate.get("buildType")?,
        builder_id: predicate.object("builder")?.get("id")?,
        config_source: Some(config_source(&invocation.object("configSource")?, "entryPoint")?),
        ..request(&invocation.object("parameters")?)?
    };
    if let Some(metadata) = predicate.optional_object("metadata")? {
        let complete = metadata.object("completeness")?;
        provenance.invocation_id = metadata.get("buildInvocationID")?;
        provenance.started_on = time(&metadata, "buildStartedOn")?;
        provenance.finished_on = time(&metadata, "buildFinishedOn")?;
        provenance.reproducible = Some(metadata.get("reproducible")?);
        provenance.hermetic = Some(metadata.get("https://mobyproject.org/buildkit@v1#hermetic")?);
        provenance.completeness = Some(ImageProvenanceCompleteness {
            parameters: Some(complete.get("parameters")?),
            environment: Some(complete.get("environment")?),
            materials: Some(complete.get("materials")?),
        });
    }
    let materials = materials(predicate, "materials")?;
    Ok(Statement { provenance, materials })
}

fn config_source(
    json: &Object<'_>,
    path: &str,
) -> Result<ImageProvenanceConfigSource, serde_json::Error> {
    Ok(ImageProvenanceConfigSource {
        uri: json.get("uri")?,
        digest: json.strings("digest")?,
        path: json.get(path)?,
    })
}

/// BuildKit's frontend and its options.
fn request(json: &Object<'_>) -> Result<ImageProvenance, serde_json::Error> {
    let raw_args = json.strings("args")?;
    let build_args: BTreeMap<String, String> = raw_args
        .iter()
        .filter_map(|(name, value)| {
            let name = name.strip_prefix("build-arg:").filter(|name| !name.is_empty())?;
            Some((name.to_owned(), value.clone()))
        })
        .collect();
    let frontend = json.get("frontend")?;
    Ok(ImageProvenance { frontend, build_args, raw_args, ..ImageProvenance::default() })
}

fn time(json: &Object<'_>, field: &'static str) -> Result<String, Malformed> {
    let Some(time) = json.optional::<String>(field)? else {
        return Ok(String::new());
    };
    Moment::parse(&time)
        .and_then(|moment| moment.utc().rfc3339())
        .ok_or(Malformed::Time { field, time })
}

fn materials(json: &Object<'_>, name: &str) -> Result<Vec<Material>, serde_json::Error> {
    json.list::<MAX_MATERIALS>(name)?
        .iter()
        .map(|material| {
            let mut digests = material.strings("digest")?;
            let sha256 = digests.remove("sha256").unwrap_or_default().trim().to_owned();
            Ok(Material { uri: material.get("uri")?, sha256 })
        })
        .collect()
}

#[cfg(test)]
#[path = "provenance_tests.rs"]
mod tests;
