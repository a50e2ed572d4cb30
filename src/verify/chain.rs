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
/// What cosign states of a manifest that it signs in a bundle.
pub const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// What a statement about an attestation manifest may state to count as its signature: that somebody
/// signed it, or made it. Docker's engine takes any, a scanner's report about it too.
const SIGNS: [&str; 3] = [COSIGN_SIGN, PROVENANCE[0], PROVENANCE[1]];
/// The same by the key of Docker Hardened Images, which states a lot about them.
const HARDENED_SIGNS: [&str; 1] = [COSIGN_SIGN];
/// Signature manifests of one chain that are looked at, and signatures in them together.
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

/// Verifies all signatures of a chain's attestations at `now` (seconds since 1970), by Sigstore's
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
    let (index, _) = document(chain, &chain.root)?;
    let hardened = is_hardened(&index);
    let attestation = attestation(chain, &index, hardened)?;
    let by = by(trust, hardened)?;
    let mut judged = Judged { chain, attestation, by, trust, now, left: MAX_BYTES, looked_at: 0 };
    let mut signers = ChainSigners::default();
    for digest in chain.signature_manifests.iter().take(MAX_SIGNATURES) {
        judged.signatures(digest, &mut signers);
        if judged.looked_at > MAX_SIGNATURES {
            return Ok(signers);
        }
    }
    let count = chain.signature_manifests.len();
    if count > MAX_SIGNATURES {
        let more = format!("{MAX_SIGNATURES} signature manifests of {count}");
        signers.refused.push(too_much(more));
    }
    Ok(signers)
}

/// Who must have signed, and what a bundle of theirs may state.
fn by(trust: &Trust, hardened: bool) -> Result<(Signer<'_>, &'static [&'static str]), NotVerified> {
    let root = trust.root(None).map_err(CouldNot::TrustRoot)?;
    if !hardened {
        return Ok((Signer::Keyless(root), &SIGNS));
    }
    let key = trust.hardened().map_err(CouldNot::Keys)?;
    Ok((Signer::DockerHardenedImages(root, key), &HARDENED_SIGNS))
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

/// An attestation manifest whose signatures are looked at, one by one.
struct Judged<'c> {
    chain: &'c AttestationChain,
    /// Its size.
    attestation: u64,
    by: (Signer<'c>, &'static [&'static str]),
    trust: &'c Trust,
    now: i64,
    /// Bytes of signatures that may still be read.
    left: usize,
    /// Signatures that were looked at.
    looked_at: usize,
}

impl<'c> Judged<'c> {
    /// Verifies what the signature manifest `digest` holds.
    fn signatures(&mut self, digest: &str, signers: &mut ChainSigners) {
        let manifest = match self.manifest(digest) {
            Ok(manifest) => manifest,
            Err(refused) => return signers.refused.push(refused),
        };
        let layers = manifest.layers.as_deref().unwrap_or_default();
        let is_signature = |it: &&Descriptor| match it.media_type.as_str() {
            BUNDLE => manifest.artifact_type == BUNDLE,
            other => other == SIMPLE_SIGNING,
        };
        let mut found = false;
        for layer in layers.iter().filter(is_signature) {
            found = true;
            match self.signature(layer) {
                Ok(signature) => signers.verified.push(signature),
                Err(refused) => signers.refused.push(refused),
            }
            if self.looked_at > MAX_SIGNATURES {
                return;
            }
        }
        if !found {
            signers.refused.push(broken(match layers.first() {
                Some(layer) => {
                    format!("the signature manifest {digest} holds {:?}", layer.media_type)
                }
                None => format!("the signature manifest {digest} is empty"),
            }));
        }
    }

    /// A signature manifest, which is about the attestation manifest.
    fn manifest(&self, digest: &str) -> Result<Document, NotVerified> {
        let (manifest, _) = document(self.chain, digest)?;
        let signed = Descriptor {
            media_type: OCI_MANIFEST.to_owned(),
            digest: self.chain.attestation_manifest.clone(),
            size: self.attestation,
            annotations: None,
        };
        is_about(&manifest, digest, &signed)?;
        Ok(manifest)
    }

    /// One signature: a bundle of what counts as one, or simple signing.
    fn signature(&mut self, layer: &Descriptor) -> Result<Arc<VerifiedSignature>, NotVerified> {
        self.looked_at += 1;
        if self.looked_at > MAX_SIGNATURES {
            return Err(too_much(format!("more than {MAX_SIGNATURES} signatures")));
        }
        let limit = MAX_BUNDLE.min(self.left);
        if layer.size > limit as u64 {
            let (digest, size) = (&layer.digest, layer.size);
            return Err(too_much(format!(
                "the signature {digest} has {size} bytes, of which {limit} may be read"
            )));
        }
        let content = blob(self.chain, &layer.digest, limit)?;
        self.left = self.left.saturating_sub(content.len());
        let (by, states) = self.by;
        let (cache, signed) = (&self.trust.cache, self.chain.attestation_manifest.as_str());
        if layer.media_type == BUNDLE {
            let signature = cache.bundle(content, Artifact::Digest(signed), by, self.now)?;
            signature.states(states).map_err(|it| NotVerified::Invalid(it.into()))?;
            return Ok(signature);
        }
        let none = BTreeMap::new();
        let annotations = layer.annotations.as_ref().unwrap_or(&none);
        cache.simple_signing(&SimpleSigning { payload: content, annotations }, signed, by, self.now)
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
