//! An image's attestations, found as BuildKit finds them (`moby/policy-helpers`, `image`).
//!
//! Index → the manifest of the platform → the attestation manifest that the index lists for it →
//! what signs that one (referrers of a Sigstore type) and its SLSA provenance. Docker Hardened
//! Images have no attestation manifest in the index; theirs is a referrer of the image. Only an
//! OCI index has a chain at all.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::Registries;
use super::content::{Repository, index_of};
use super::document::{Content, Descriptor, Document, Index, Manifest, media_type};
use super::platform::{ATTESTATION_MANIFEST, Nesting, REFERENCE_TYPE};
use crate::meta::{AttestationBlob, AttestationChain, ResolveError};
use crate::resolve::transport::failed;
use crate::source::Platform;

/// Docker's annotation that names the image an attestation manifest is for.
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// What an attestation layer is about.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// The predicates that rules can read.
const PROVENANCE: [&str; 2] =
    ["https://slsa.dev/provenance/v0.2", "https://slsa.dev/provenance/v1"];
pub(super) const SIGSTORE_BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
pub(super) const COSIGN_SIGNATURE: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// Media type of a simple signing payload.
pub(super) const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Layers of one manifest that are fetched at most.
const MAX_LAYERS: usize = 16;
/// Manifests with signatures that are fetched at most, and bytes of what is in them. Those beyond are
/// named and not given: the verifier says so where none of the others holds.
const MAX_SIGNATURES: usize = 16;
const MAX_SIGNATURE_BYTES: u64 = 32 << 20;

/// A chain that leads nowhere.
#[derive(Debug, thiserror::Error)]
enum ChainError {
    #[error("{0} should be a manifest with attestations, and is an index")]
    NoManifest(String),
    #[error("{0} has more than {MAX_LAYERS} layers to fetch")]
    Layers(String),
    #[error("the registry does not say of what type {0} is, which refers to the attestations")]
    Untyped(String),
    #[error("the hardened image {0} has no attestation among its referrers")]
    NoReferrer(String),
}

impl Registries {
    /// The attestations of the image for `platform`; empty but for digests where it has none.
    pub(super) async fn chain(
        &self,
        repository: &Repository,
        root: &Arc<Document>,
        platform: &Platform,
    ) -> Result<AttestationChain, ResolveError> {
        let index = index_of(root).filter(|_| root.media_type == media_type::OCI_INDEX);
        let Some(index) = index else {
            let (image, _) = self.image(repository, root, platform, Nesting::Follow).await?;
            let image_manifest = image.digest.clone();
            return Ok(AttestationChain { image_manifest, ..AttestationChain::default() });
        };
        let (image, _) = self.image(repository, root, platform, Nesting::Skip).await?;
        let mut chain = AttestationChain {
            root: root.digest.clone(),
            image_manifest: image.digest.clone(),
            ..AttestationChain::default()
        };
        let annotations = BTreeMap::new();
        chain.add(&root.digest, blob(&root.media_type, &annotations, &root.bytes));
        let Some(attestation) = self.attestation(repository, index, &image.digest).await? else {
            return Ok(chain);
        };
        chain.attestation_manifest.clone_from(&attestation.digest);
        let manifest = self.manifest(repository, &attestation, &mut chain).await?;
        self.signers(repository, &attestation.digest, &mut chain).await?;
        let provenance = |layer: &&Descriptor| {
            let predicate = layer.annotations.get(PREDICATE_TYPE);
            predicate.is_some_and(|predicate| PROVENANCE.contains(&predicate.as_str()))
        };
        let layers: Vec<&Descriptor> = manifest.layers.iter().filter(provenance).collect();
        self.layers(repository, &attestation.digest, &layers, &mut chain).await?;
        Ok(chain)
    }

    /// The descriptor of the attestation manifest for the image manifest `image`.
    async fn attestation(
        &self,
        repository: &Repository,
        index: &Index,
        image: &str,
    ) -> Result<Option<Descriptor>, ResolveError> {
        if is_hardened(index) {
            let referrers = self.contents.referrers(repository, image).await?;
            let attests = |referrer: &&Descriptor| {
                let predicate = referrer.annotations.get(PREDICATE_TYPE);
                referrer.artifact_type == IN_TOTO
                    && predicate.is_some_and(|predicate| PROVENANCE.contains(&predicate.as_str()))
            };
            let found = referrers.manifests.iter().find(attests).cloned();
            let what = repository.what(image);
            return found
                .map(Some)
                .ok_or_else(|| failed(&what, ChainError::NoReferrer(image.into())));
        }
        let says = |descriptor: &Descriptor, name: &str, value: &str| {
            descriptor.annotations.get(name).is_some_and(|found| found == value)
        };
        let found = index.manifests.iter().find(|descriptor| {
            says(descriptor, REFERENCE_TYPE, ATTESTATION_MANIFEST)
                && says(descriptor, REFERENCE_DIGEST, image)
        });
        Ok(found.cloned())
    }

    /// Adds all that signs `attestation`, bundles first. Docker's engine looks at the first alone, so that
    /// whoever puts another one before it takes an image's signature away.
    async fn signers(
        &self,
        repository: &Repository,
        attestation: &str,
        chain: &mut AttestationChain,
    ) -> Result<(), ResolveError> {
        let referrers = self.contents.referrers(repository, attestation).await?;
        let of = |kind: &'static str| {
            referrers.manifests.iter().filter(move |referrer| referrer.artifact_type == kind)
        };
        let mut signing: Vec<&Descriptor> = Vec::new();
        for descriptor in of(SIGSTORE_BUNDLE).chain(of(COSIGN_SIGNATURE)) {
            if !signing.iter().any(|it| it.digest == descriptor.digest) {
                signing.push(descriptor);
            }
            if signing.len() > MAX_SIGNATURES {
                break;
            }
        }
        if let (true, Some(untyped)) = (signing.is_empty(), of("").next()) {
            // A registry that knows no types of artifacts leaves them out.
            let what = repository.what(&untyped.digest);
            return Err(failed(&what, ChainError::Untyped(untyped.digest.clone())));
        }
        let mut left = MAX_SIGNATURE_BYTES;
        for (at, descriptor) in signing.into_iter().enumerate() {
            chain.signature_manifests.push(descriptor.digest.clone());
            if at < MAX_SIGNATURES {
                left = self.signature(repository, descriptor, left, chain).await?;
            }
        }
        Ok(())
    }

    /// Adds one manifest with signatures, of which there may be `left` bytes; gives what is left then.
    async fn signature(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        mut left: u64,
        chain: &mut AttestationChain,
    ) -> Result<u64, ResolveError> {
        let Some(document) = there(self.contents.described(repository, descriptor).await)? else {
            return Ok(left);
        };
        let added = blob(&document.media_type, &descriptor.annotations, &document.bytes);
        chain.add(&descriptor.digest, added);
        // An index holds no signature, whatever it says it is.
        let Content::Manifest(manifest) = &document.content else { return Ok(left) };
        let signs = |it: &&Descriptor| matches!(&*it.media_type, SIGSTORE_BUNDLE | SIMPLE_SIGNING);
        for layer in manifest.layers.iter().filter(signs).take(MAX_LAYERS) {
            if layer.size > left {
                continue;
            }
            let fetched = self.contents.attestation(repository, layer).await;
            if let Some(bytes) = there(fetched)? {
                left = left.saturating_sub(layer.size);
                chain.add(&layer.digest, blob(&layer.media_type, &layer.annotations, &bytes));
            }
        }
        Ok(left)
    }

    /// Fetches a manifest and adds it to the chain.
    async fn manifest(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        chain: &mut AttestationChain,
    ) -> Result<Manifest, ResolveError> {
        let document = self.contents.described(repository, descriptor).await?;
        let added = blob(&document.media_type, &descriptor.annotations, &document.bytes);
        chain.add(&descriptor.digest, added);
        match &document.content {
            Content::Manifest(manifest) => Ok(manifest.clone()),
            Content::Index(_) => {
                let digest = descriptor.digest.clone();
                Err(failed(&repository.what(&digest), ChainError::NoManifest(digest.clone())))
            }
        }
    }

    /// Fetches layers of the manifest `of` and adds them to the chain.
    async fn layers(
        &self,
        repository: &Repository,
        of: &str,
        layers: &[&Descriptor],
        chain: &mut AttestationChain,
    ) -> Result<(), ResolveError> {
        if layers.len() > MAX_LAYERS {
            return Err(failed(&repository.what(of), ChainError::Layers(of.into())));
        }
        for layer in layers {
            let bytes = self.contents.attestation(repository, layer).await?;
            chain.add(&layer.digest, blob(&layer.media_type, &layer.annotations, &bytes));
        }
        Ok(())
    }
}

/// What was fetched, unless it is not there or larger than is read: one of several may be so.
fn there<T>(fetched: Result<T, ResolveError>) -> Result<Option<T>, ResolveError> {
    match fetched {
        Ok(fetched) => Ok(Some(fetched)),
        Err(ResolveError::NotFound { .. } | ResolveError::TooLarge { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

impl AttestationChain {
    fn add(&mut self, digest: &str, blob: AttestationBlob) {
        self.blobs.entry(digest.to_owned()).or_insert(blob);
    }
}

fn blob(media_type: &str, annotations: &BTreeMap<String, String>, data: &Bytes) -> AttestationBlob {
    AttestationBlob {
        media_type: media_type.into(),
        annotations: annotations.clone(),
        data: data.clone(),
    }
}

/// Whether an index is a Docker Hardened Image's, by the annotations that BuildKit goes by.
fn is_hardened(index: &Index) -> bool {
    let built = |descriptor: &Descriptor| {
        descriptor.annotations.get("com.docker.dhi.build.id").is_some_and(|id| !id.is_empty())
    };
    index.manifests.iter().all(built)
        && index
            .annotations
            .get("org.opencontainers.image.title")
            .is_some_and(|title| title.starts_with("dhi/"))
}
