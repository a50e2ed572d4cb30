//! Who signed an image's attestations: from the index down to the signature, each step bound to the
//! one above it by a digest (<https://docs.docker.com/build/metadata/attestations/>).
//!
//! ```text
//! index → image manifest ← attestation manifest (its subject) ← signature manifest (its subject)
//!                                                                    └ bundle or simple signing
//! ```
//!
//! The signature is over the attestation manifest, and that one names the image as its subject. Who
//! gives us the chain is not believed: every blob is held against the digest that leads to it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::sigstore::{Artifact, MAX_BUNDLE, Signer, SimpleSigning, VerifiedSignature};
use super::{CouldNot, Invalid, NotVerified, Trust};
use crate::meta::AttestationChain;

#[cfg(test)]
pub(crate) mod tests;

/// Media type of a Sigstore bundle, and artifact type of a manifest that holds one.
pub const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
/// Media type of a simple signing payload.
pub const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The predicate types of provenance.
pub const PROVENANCE: [&str; 2] =
    ["https://slsa.dev/provenance/v1", "https://slsa.dev/provenance/v0.2"];

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// Signature manifests of one chain that are looked at.
const MAX_SIGNATURES: usize = 16;
/// Most bytes of a manifest, and of all signatures of a chain together.
const MAX_MANIFEST: usize = 4 << 20;
const MAX_BYTES: usize = 32 << 20;

/// An index or a manifest, as far as it matters here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    artifact_type: String,
    #[serde(default)]
    manifests: Option<Vec<Descriptor>>,
    #[serde(default)]
    layers: Option<Vec<Descriptor>>,
    #[serde(default)]
    subject: Option<Descriptor>,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    #[serde(default)]
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    fn says(&self, name: &str) -> &str {
        let annotations = self.annotations.as_ref();
        annotations.and_then(|it| it.get(name)).map_or("", String::as_str)
    }
}

/// What a chain is signed by.
#[derive(Debug, Default)]
pub struct ChainSigners {
    /// Signatures that hold.
    pub verified: Vec<Arc<VerifiedSignature>>,
    /// Why the others do not.
    pub refused: Vec<NotVerified>,
}

/// Verifies the signatures of a chain's attestations at `now` (seconds since 1970), by Sigstore's
/// public root or, for a Docker Hardened Image, Docker's key.
///
/// # Errors
/// When the attestations are not signed, the chain does not lead from the image to a signature, or a
/// part of it was not given to us.
pub fn verify_chain(
    chain: &AttestationChain,
    trust: &Trust,
    now: i64,
) -> Result<ChainSigners, NotVerified> {
    if chain.signature_manifests.is_empty() {
        return Err(NotVerified::Absent);
    }
    for (what, digest) in [
        ("the index that leads to the signatures", &chain.root),
        ("the attestation manifest that is signed", &chain.attestation_manifest),
        ("the manifest of the image", &chain.image_manifest),
    ] {
        if digest.is_empty() {
            return Err(CouldNot::Missing { what: what.to_owned() }.into());
        }
    }
    if chain.signature_manifests.len() > MAX_SIGNATURES {
        let count = chain.signature_manifests.len();
        return Err(too_much(format!("{count} signature manifests of {MAX_SIGNATURES}")));
    }
    let (index, _) = document(chain, &chain.root)?;
    let hardened = is_hardened(&index);
    let attestation = attestation(chain, &index, hardened)?;
    let mut signers = ChainSigners::default();
    let mut left = MAX_BYTES;
    for digest in &chain.signature_manifests {
        match signature(chain, digest, (attestation, hardened), &mut left, (trust, now)) {
            Ok(signature) => signers.verified.push(signature),
            Err(refused) => signers.refused.push(refused),
        }
    }
    Ok(signers)
}

/// The size of the attestation manifest, which is the image's and holds provenance.
fn attestation(
    chain: &AttestationChain,
    index: &Document,
    hardened: bool,
) -> Result<u64, NotVerified> {
    let listed = index.manifests.as_deref().unwrap_or_default();
    let image = listed.iter().find(|it| it.digest == chain.image_manifest);
    let image = image.ok_or_else(|| {
        broken(format!("the index {} does not list {}", chain.root, chain.image_manifest))
    })?;
    let digest = &chain.attestation_manifest;
    // A hardened image's attestations are a referrer of it; everybody else's stand in the index.
    let attests = |it: &&Descriptor| {
        it.digest == *digest
            && it.says(REFERENCE_TYPE) == "attestation-manifest"
            && it.says(REFERENCE_DIGEST) == chain.image_manifest
    };
    if !hardened && !listed.iter().any(|it| attests(&it)) {
        return Err(broken(format!(
            "the index {} does not list {digest} as the attestations of {}",
            chain.root, chain.image_manifest
        )));
    }
    let (manifest, size) = document(chain, digest)?;
    is_about(&manifest, digest, image)?;
    let provenance = |layer: &Descriptor| PROVENANCE.contains(&layer.says(PREDICATE_TYPE));
    if !manifest.layers.iter().flatten().any(provenance) {
        return Err(broken(format!("the attestation manifest {digest} holds no provenance")));
    }
    Ok(size)
}

/// One signature of the attestation manifest, which has `size` bytes. Of signatures there may be
/// `left` bytes.
fn signature(
    chain: &AttestationChain,
    digest: &str,
    (size, hardened): (u64, bool),
    left: &mut usize,
    (trust, now): (&Trust, i64),
) -> Result<Arc<VerifiedSignature>, NotVerified> {
    let (manifest, _) = document(chain, digest)?;
    let attestation = chain.attestation_manifest.clone();
    let signed = Descriptor {
        media_type: OCI_MANIFEST.to_owned(),
        digest: attestation,
        size,
        annotations: None,
    };
    is_about(&manifest, digest, &signed)?;
    let Some(layer) = manifest.layers.iter().flatten().next() else {
        return Err(broken(format!("the signature manifest {digest} is empty")));
    };
    let root = trust.root(None).map_err(CouldNot::TrustRoot)?;
    let by = if hardened {
        Signer::DockerHardenedImages(root, trust.hardened().map_err(CouldNot::Keys)?)
    } else {
        Signer::Keyless(root)
    };
    let content = blob(chain, &layer.digest, MAX_BUNDLE.min(*left))?;
    *left = left.saturating_sub(content.len());
    match layer.media_type.as_str() {
        BUNDLE if manifest.artifact_type == BUNDLE => {
            trust.cache.bundle(content, Artifact::Digest(&signed.digest), by, now)
        }
        SIMPLE_SIGNING => {
            let none = BTreeMap::new();
            let annotations = layer.annotations.as_ref().unwrap_or(&none);
            let signing = SimpleSigning { payload: content, annotations };
            trust.cache.simple_signing(&signing, &signed.digest, by, now)
        }
        other => Err(broken(format!("the signature manifest {digest} holds {other:?}"))),
    }
}

/// Whether a manifest names another one as its subject.
fn is_about(manifest: &Document, digest: &str, wanted: &Descriptor) -> Result<(), NotVerified> {
    let Some(subject) = &manifest.subject else {
        return Err(broken(format!("the manifest {digest} has no subject")));
    };
    let is_manifest = matches!(subject.media_type.as_str(), OCI_MANIFEST | OCI_INDEX);
    if subject.digest == wanted.digest && subject.size == wanted.size && is_manifest {
        return Ok(());
    }
    Err(broken(format!(
        "the manifest {digest} is about {} ({} bytes), not about {} ({} bytes)",
        subject.digest, subject.size, wanted.digest, wanted.size
    )))
}

/// A manifest, and its size.
fn document(chain: &AttestationChain, digest: &str) -> Result<(Document, u64), NotVerified> {
    let data = blob(chain, digest, MAX_MANIFEST)?;
    let document = serde_json::from_slice(data)
        .map_err(|error| broken(format!("the manifest {digest} cannot be read: {error}")))?;
    Ok((document, data.len() as u64))
}

/// A blob of at most `limit` bytes, held against its digest. A larger one is not looked at.
fn blob<'c>(
    chain: &'c AttestationChain,
    digest: &str,
    limit: usize,
) -> Result<&'c [u8], NotVerified> {
    let found = chain.blobs.get(digest).ok_or_else(|| CouldNot::Missing { what: digest.into() })?;
    if !digest.starts_with("sha256:") {
        let what = format!("the digest {digest:?} in a chain of attestations");
        return Err(CouldNot::Unsupported { what, instead: "sha256:… is" }.into());
    }
    if found.data.len() > limit {
        let size = found.data.len();
        return Err(too_much(format!(
            "the blob {digest} has {size} bytes, of which {limit} may be read"
        )));
    }
    let actual = format!("sha256:{}", hex::encode(Sha256::digest(&found.data)));
    if actual == digest {
        return Ok(&found.data);
    }
    Err(broken(format!("the blob {digest} was altered: it is {actual}")))
}

/// Whether an index is a Docker Hardened Image's. That alone proves nothing: Docker's key has to.
fn is_hardened(index: &Document) -> bool {
    let title = index.annotations.as_ref().and_then(|it| it.get("org.opencontainers.image.title"));
    let built = |it: &Descriptor| !it.says("com.docker.dhi.build.id").is_empty();
    title.is_some_and(|title| title.starts_with("dhi/"))
        && index.manifests.iter().flatten().all(built)
}

/// What was not looked at is neither signed nor unsigned.
fn too_much(what: String) -> NotVerified {
    CouldNot::TooMuch { what }.into()
}

fn broken(why: String) -> NotVerified {
    Invalid::Chain { why }.into()
}
