//! What signs an image itself, as cosign stores it: referrers of the image, and the older tag
//! `sha256-<hex>.sig` (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>,
//! <https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md>).
//!
//! Everything is looked up by the digest that is judged, and nothing is believed here: what is found
//! is handed on for the verifier. Whatever cannot be read is an error, not a missing signature.

use std::collections::BTreeMap;

use super::Registries;
use super::chain::{COSIGN_SIGNATURE, SIGSTORE_BUNDLE, SIMPLE_SIGNING};
use super::content::Repository;
use super::document::{Content, Descriptor, Document, Manifest};
use crate::meta::{AttestationBlob, ImageSignatures, ResolveError};
use crate::resolve::transport::failed;
use crate::source::ImageSource;

/// cosign's annotation of a bundle that holds a statement, and what a signature states.
const PREDICATE_TYPE: &str = "dev.sigstore.bundle.predicateType";
const COSIGN_SIGN: &str = "https://sigstore.dev/cosign/sign/v1";
/// Manifests with signatures that are fetched at most, and signatures in them.
const MAX_MANIFESTS: usize = 32;
const MAX_FOUND: usize = 32;
/// Bytes of one signature, and of all of them.
const MAX_SIGNATURE: u64 = 8 << 20;
const MAX_BYTES: u64 = 32 << 20;

/// Signatures that are not stored as signatures are.
#[derive(Debug, thiserror::Error)]
enum SignatureError {
    #[error("it has more than {MAX_MANIFESTS} manifests that say they sign it")]
    Manifests,
    #[error("more than {MAX_FOUND} signatures say they sign it")]
    Found,
    #[error("the signatures that say they sign it have more than {} MiB together", MAX_BYTES >> 20)]
    Bytes,
    #[error("{0} should be a manifest with signatures, and is an index")]
    Index(String),
}

impl Registries {
    /// What signs the manifest or index `digest` of the repository of `image`.
    ///
    /// # Errors
    /// When any of it cannot be had, or is not what its digest says.
    pub(crate) async fn signatures(
        &self,
        image: &ImageSource,
        digest: &str,
    ) -> Result<ImageSignatures, ResolveError> {
        let repository = Repository { host: image.host.clone(), path: image.path.clone() };
        let what = format!("the signatures of {}", repository.what(digest));
        let mut layers = Vec::new();
        let referrers = self.contents.referrers(&repository, digest).await?;
        let signing: Vec<&Descriptor> = referrers.manifests.iter().filter(|it| signs(it)).collect();
        if signing.len() > MAX_MANIFESTS {
            return Err(failed(&what, SignatureError::Manifests));
        }
        for descriptor in signing {
            let document = self.contents.described(&repository, descriptor).await?;
            match &document.content {
                Content::Manifest(manifest) => layers.extend(signatures_in(manifest)),
                // It did not say that it is a signature, and cannot be one.
                Content::Index(_) if descriptor.artifact_type.is_empty() => {
                    tracing::debug!(digest = %document.digest, "an index refers to {what}");
                }
                Content::Index(_) => {
                    return Err(failed(&what, SignatureError::Index(document.digest.clone())));
                }
            }
        }
        let tag = format!("{}.sig", digest.replacen(':', "-", 1));
        match self.contents.document(&repository, &tag).await {
            Ok(document) => layers.extend(signatures_in(manifest(&what, &document)?)),
            Err(ResolveError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        let found = self.fetched(&repository, &layers, &what).await?;
        Ok(ImageSignatures { digest: digest.to_owned(), found })
    }

    /// Fetches signatures, unless there are too many: then none.
    async fn fetched(
        &self,
        repository: &Repository,
        layers: &[Descriptor],
        what: &str,
    ) -> Result<Vec<AttestationBlob>, ResolveError> {
        if layers.len() > MAX_FOUND {
            return Err(failed(what, SignatureError::Found));
        }
        if let Some(layer) = layers.iter().find(|layer| layer.size > MAX_SIGNATURE) {
            let what = repository.what(&layer.digest);
            return Err(ResolveError::TooLarge { what, limit: MAX_SIGNATURE });
        }
        let bytes = layers.iter().fold(0, |sum: u64, layer| sum.saturating_add(layer.size));
        if bytes > MAX_BYTES {
            return Err(failed(what, SignatureError::Bytes));
        }
        let mut found = Vec::new();
        for layer in layers {
            let data = self.contents.signature(repository, layer, MAX_SIGNATURE).await?;
            let annotations: BTreeMap<String, String> = layer.annotations.clone();
            let media_type = layer.media_type.clone();
            found.push(AttestationBlob { media_type, annotations, data });
        }
        Ok(found)
    }
}

/// Whether a referrer may be a signature of the image: not an attestation about it, which cosign
/// stores as it does signatures.
fn signs(referrer: &Descriptor) -> bool {
    let states = referrer.annotations.get(PREDICATE_TYPE);
    // Registries that know no artifact types leave them out, and cosign has its own.
    matches!(referrer.artifact_type.as_str(), SIGSTORE_BUNDLE | COSIGN_SIGNATURE | "")
        && states.is_none_or(|states| states == COSIGN_SIGN)
}

/// The layers of a manifest that are signatures.
fn signatures_in(manifest: &Manifest) -> Vec<Descriptor> {
    let signatures =
        |it: &&Descriptor| matches!(it.media_type.as_str(), SIGSTORE_BUNDLE | SIMPLE_SIGNING);
    manifest.layers.iter().filter(signatures).cloned().collect()
}

fn manifest<'d>(what: &str, document: &'d Document) -> Result<&'d Manifest, ResolveError> {
    match &document.content {
        Content::Manifest(manifest) => Ok(manifest),
        Content::Index(_) => Err(failed(what, SignatureError::Index(document.digest.clone()))),
    }
}
