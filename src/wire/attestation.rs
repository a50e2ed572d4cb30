//! Attestation chains: an image's index, its attestation manifest, its signatures, their blobs.
//!
//! Each blob has to stand under the digest of its descriptor, with the size that it tells of.

use std::collections::BTreeMap;

use super::meta::MetaError;
use super::proto::gateway;
use crate::meta::{AttestationBlob, AttestationChain};

impl TryFrom<gateway::AttestationChain> for AttestationChain {
    type Error = MetaError;

    fn try_from(wire: gateway::AttestationChain) -> Result<Self, Self::Error> {
        let gateway::AttestationChain {
            root,
            image_manifest,
            attestation_manifest,
            signature_manifests,
            blobs,
        } = wire;
        let blobs = blobs
            .into_iter()
            .map(|(key, blob)| Ok((key.clone(), attestation_blob(key, blob)?)))
            .collect::<Result<BTreeMap<_, _>, MetaError>>()?;
        Ok(Self { root, image_manifest, attestation_manifest, signature_manifests, blobs })
    }
}

impl From<AttestationChain> for gateway::AttestationChain {
    fn from(chain: AttestationChain) -> Self {
        let AttestationChain {
            root,
            image_manifest,
            attestation_manifest,
            signature_manifests,
            blobs,
        } = chain;
        let blobs = blobs
            .into_iter()
            .map(|(digest, AttestationBlob { media_type, annotations, data })| {
                let size = i64::try_from(data.len()).unwrap_or(i64::MAX);
                let descriptor =
                    gateway::Descriptor { media_type, digest: digest.clone(), size, annotations };
                (digest, gateway::Blob { descriptor: Some(descriptor), data })
            })
            .collect();
        Self { root, image_manifest, attestation_manifest, signature_manifests, blobs }
    }
}

fn attestation_blob(key: String, wire: gateway::Blob) -> Result<AttestationBlob, MetaError> {
    let gateway::Blob { descriptor, data } = wire;
    let Some(descriptor) = descriptor else {
        return Err(MetaError::NoDescriptor { digest: key });
    };
    let gateway::Descriptor { media_type, digest, size, annotations } = descriptor;
    if digest != key {
        return Err(MetaError::OtherDigest { key, described: digest });
    }
    if i64::try_from(data.len()) != Ok(size) {
        return Err(MetaError::OtherSize { digest, actual: data.len(), described: size });
    }
    Ok(AttestationBlob { media_type, annotations, data })
}
