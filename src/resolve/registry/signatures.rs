//! What signs an image itself, as cosign stores it: referrers of the image, and the older tag
//! `sha256-<hex>.sig` (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>,
//! <https://github.com/sigstore/cosign/blob/main/specs/BUNDLE_SPEC.md>).
//!
//! Everything is looked up by the digest that is judged, and nothing is believed here: what is found
//! is handed on for the verifier. Whatever cannot be read is an error, not a missing signature.

use std::collections::BTreeMap;

use super::Registries;
use super::chain::{COSIGN_SIGNATURE, SIGSTORE_BUNDLE};
use super::content::Repository;
use super::document::{Content, Descriptor, Document, Manifest};
use crate::meta::{AttestationBlob, ImageSignatures, ResolveError};
use crate::resolve::transport::failed;
use crate::source::ImageSource;

/// Media type of a simple signing payload.
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// Manifests with signatures that are fetched at most, and signatures in them.
const MAX_MANIFESTS: usize = 32;
const MAX_FOUND: usize = 128;

/// Signatures that are not stored as signatures are.
#[derive(Debug, thiserror::Error)]
enum SignatureError {
    #[error("it has more than {MAX_MANIFESTS} manifests that say they sign it")]
    Manifests,
    #[error("more than {MAX_FOUND} signatures say they sign it")]
    Found,
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
        let mut found = Vec::new();
        let referrers = self.contents.referrers(&repository, digest).await?;
        let signs = |it: &&Descriptor| {
            // Registries that know no artifact types leave them out, and cosign has its own.
            matches!(it.artifact_type.as_str(), SIGSTORE_BUNDLE | COSIGN_SIGNATURE | "")
        };
        let signing: Vec<&Descriptor> = referrers.manifests.iter().filter(signs).collect();
        if signing.len() > MAX_MANIFESTS {
            return Err(failed(&what, SignatureError::Manifests));
        }
        for descriptor in signing {
            let document = self.contents.described(&repository, descriptor).await?;
            self.found_in(&repository, manifest(&what, &document)?, &what, &mut found).await?;
        }
        let tag = format!("{}.sig", digest.replacen(':', "-", 1));
        match self.contents.document(&repository, &tag).await {
            Ok(document) => {
                self.found_in(&repository, manifest(&what, &document)?, &what, &mut found).await?;
            }
            Err(ResolveError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(ImageSignatures { digest: digest.to_owned(), found })
    }

    async fn found_in(
        &self,
        repository: &Repository,
        manifest: &Manifest,
        what: &str,
        found: &mut Vec<AttestationBlob>,
    ) -> Result<(), ResolveError> {
        let signatures =
            |it: &&Descriptor| matches!(it.media_type.as_str(), SIGSTORE_BUNDLE | SIMPLE_SIGNING);
        for layer in manifest.layers.iter().filter(signatures) {
            if found.len() >= MAX_FOUND {
                return Err(failed(what, SignatureError::Found));
            }
            let data = self.contents.attestation(repository, layer).await?;
            let annotations: BTreeMap<String, String> = layer.annotations.clone();
            let media_type = layer.media_type.clone();
            found.push(AttestationBlob { media_type, annotations, data });
        }
        Ok(())
    }
}

fn manifest<'d>(what: &str, document: &'d Document) -> Result<&'d Manifest, ResolveError> {
    match &document.content {
        Content::Manifest(manifest) => Ok(manifest),
        Content::Index(_) => Err(failed(what, SignatureError::Index(document.digest.clone()))),
    }
}
