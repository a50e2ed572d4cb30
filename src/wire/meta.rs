//! Metadata: what is asked for about a source, and what was resolved.
//!
//! A response is translated, not believed: whether a blob hashes to its digest, and whether what was
//! asked for has come, is for whoever reads it.

use bytes::Bytes;

use super::proto::{gateway, pb};
use super::source::PlatformError;
use crate::meta::{
    ChecksumAlgorithm, ChecksumRequest, ChecksumResponse, GitMeta, GitRequest, HttpMeta,
    HttpRequest, ImageMeta, ImageRequest, MetaRequest, SourceMeta,
};
use crate::source::SourceOp;

/// The predicate types under which SLSA provenance is attested. They have to be named to be
/// fetched along with an attestation chain.
pub const PROVENANCE_PREDICATES: [&str; 2] =
    ["https://slsa.dev/provenance/v0.2", "https://slsa.dev/provenance/v1"];

/// Metadata on the wire that cannot be taken at its word.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetaError {
    /// Nothing says which source it is about.
    #[error("metadata: the source is missing")]
    NoSource,
    /// The platform is none of ours.
    #[error(transparent)]
    Platform(#[from] PlatformError),
    /// A blob comes without the descriptor that says what it is.
    #[error("attestation chain: blob {digest} has no descriptor")]
    NoDescriptor {
        /// The key that it stands under.
        digest: String,
    },
    /// A blob stands under a digest that is not its own.
    #[error("attestation chain: the blob under {key} is described as {described}")]
    OtherDigest {
        /// The key that it stands under.
        key: String,
        /// The digest in its descriptor.
        described: String,
    },
    /// A blob is longer or shorter than its descriptor says.
    #[error("attestation chain: blob {digest} has {actual} bytes, its descriptor says {described}")]
    OtherSize {
        /// The blob.
        digest: String,
        /// Bytes there are.
        actual: usize,
        /// Bytes the descriptor tells of.
        described: i64,
    },
    /// A checksum was asked for, and the answer holds none.
    #[error("http: the answer to the checksum request holds no digest")]
    NoDigest,
    /// What was resolved does not say which content it is of.
    #[error("{0}: the answer holds no checksum of what was resolved")]
    NoChecksum(&'static str),
    /// A hash algorithm that we do not know.
    #[error("http: unknown checksum algorithm {0}")]
    Algorithm(i32),
}

/// What a resolver answered, and the source that it answered for.
///
/// The source may be another one than was asked about, where static rules converted it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resolved {
    /// The source that was resolved.
    pub source: SourceOp,
    /// What is known of it.
    pub meta: SourceMeta,
}

/// What a daemon can be asked; [`MetaRequest::signatures`] and [`MetaRequest::content`] it cannot,
/// and whoever answers them never comes here.
impl From<MetaRequest> for gateway::ResolveSourceMetaRequest {
    fn from(request: MetaRequest) -> Self {
        let MetaRequest { source, platform, image, git, http, signatures: _, content: _ } = request;
        Self {
            source: Some(source.into()),
            platform: platform.map(Into::into),
            log_name: String::new(),
            resolve_mode: String::new(),
            git: git.map(|GitRequest { objects }| gateway::ResolveSourceGitRequest {
                return_object: objects,
            }),
            image: image.map(Into::into),
            http: http.map(|HttpRequest { checksum }| gateway::ResolveSourceHttpRequest {
                checksum_request: checksum.map(Into::into),
            }),
            source_policies: Vec::new(),
        }
    }
}

impl From<ImageRequest> for gateway::ResolveSourceImageRequest {
    fn from(request: ImageRequest) -> Self {
        let ImageRequest { config, attestations } = request;
        let predicates = if attestations { &PROVENANCE_PREDICATES[..] } else { &[] };
        Self {
            // The digest comes with the config or with the chain; without both there is none.
            no_config: !config && attestations,
            attestation_chain: attestations,
            resolve_attestations: predicates.iter().map(|&name| name.to_owned()).collect(),
        }
    }
}

impl From<ChecksumRequest> for gateway::ChecksumRequest {
    fn from(request: ChecksumRequest) -> Self {
        use gateway::checksum_request::ChecksumAlgo;
        let ChecksumRequest { algorithm, suffix } = request;
        let algo = match algorithm {
            ChecksumAlgorithm::Sha256 => ChecksumAlgo::Sha256,
            ChecksumAlgorithm::Sha384 => ChecksumAlgo::Sha384,
            ChecksumAlgorithm::Sha512 => ChecksumAlgo::Sha512,
        };
        Self { algo: algo.into(), suffix }
    }
}

/// What a frontend's child asks for. Its log name, resolve mode and static rules steer the daemon
/// and are no part of the question.
impl TryFrom<gateway::ResolveSourceMetaRequest> for MetaRequest {
    type Error = MetaError;

    fn try_from(wire: gateway::ResolveSourceMetaRequest) -> Result<Self, Self::Error> {
        let gateway::ResolveSourceMetaRequest {
            source,
            platform,
            log_name: _,
            resolve_mode: _,
            git,
            image,
            http,
            source_policies: _,
        } = wire;
        Ok(Self {
            source: source.ok_or(MetaError::NoSource)?.into(),
            platform: platform.map(TryInto::try_into).transpose()?,
            image: image.map(Into::into),
            git: git.map(|gateway::ResolveSourceGitRequest { return_object }| GitRequest {
                objects: return_object,
            }),
            http: http
                .map(|gateway::ResolveSourceHttpRequest { checksum_request }| {
                    let checksum = checksum_request.map(TryInto::try_into).transpose()?;
                    Ok::<_, MetaError>(HttpRequest { checksum })
                })
                .transpose()?,
            signatures: None,
            content: None,
        })
    }
}

impl From<gateway::ResolveSourceImageRequest> for ImageRequest {
    fn from(wire: gateway::ResolveSourceImageRequest) -> Self {
        let gateway::ResolveSourceImageRequest {
            no_config,
            attestation_chain,
            resolve_attestations,
        } = wire;
        // Naming a predicate asks for the chain, as the daemon reads it.
        Self {
            config: !no_config,
            attestations: attestation_chain || !resolve_attestations.is_empty(),
        }
    }
}

impl TryFrom<gateway::ChecksumRequest> for ChecksumRequest {
    type Error = MetaError;

    fn try_from(wire: gateway::ChecksumRequest) -> Result<Self, Self::Error> {
        use gateway::checksum_request::ChecksumAlgo;
        let gateway::ChecksumRequest { algo, suffix } = wire;
        let algorithm = match ChecksumAlgo::try_from(algo) {
            Ok(ChecksumAlgo::Sha256) => ChecksumAlgorithm::Sha256,
            Ok(ChecksumAlgo::Sha384) => ChecksumAlgorithm::Sha384,
            Ok(ChecksumAlgo::Sha512) => ChecksumAlgorithm::Sha512,
            Err(prost::UnknownEnumValue(value)) => return Err(MetaError::Algorithm(value)),
        };
        Ok(Self { algorithm, suffix })
    }
}

impl TryFrom<gateway::ResolveSourceMetaResponse> for Resolved {
    type Error = MetaError;

    fn try_from(wire: gateway::ResolveSourceMetaResponse) -> Result<Self, Self::Error> {
        let gateway::ResolveSourceMetaResponse { source, image, git, http } = wire;
        let source: pb::SourceOp = source.ok_or(MetaError::NoSource)?;
        Ok(Self {
            source: source.into(),
            meta: SourceMeta {
                image: image.map(TryInto::try_into).transpose()?,
                git: git.map(TryInto::try_into).transpose()?,
                http: http.map(TryInto::try_into).transpose()?,
                signatures: None,
                content: None,
            },
        })
    }
}

impl From<Resolved> for gateway::ResolveSourceMetaResponse {
    fn from(resolved: Resolved) -> Self {
        let Resolved { source, meta } = resolved;
        let SourceMeta { image, git, http, signatures: _, content: _ } = meta;
        Self {
            source: Some(source.into()),
            image: image.map(Into::into),
            git: git.map(Into::into),
            http: http.map(Into::into),
        }
    }
}

impl TryFrom<gateway::ResolveSourceImageResponse> for ImageMeta {
    type Error = MetaError;

    fn try_from(wire: gateway::ResolveSourceImageResponse) -> Result<Self, Self::Error> {
        let gateway::ResolveSourceImageResponse { digest, config, attestation_chain } = wire;
        Ok(Self {
            digest: Some(digest).filter(|digest| !digest.is_empty()),
            config: present(config),
            attestations: attestation_chain.map(TryInto::try_into).transpose()?,
        })
    }
}

impl From<ImageMeta> for gateway::ResolveSourceImageResponse {
    fn from(meta: ImageMeta) -> Self {
        let ImageMeta { digest, config, attestations } = meta;
        Self {
            digest: digest.unwrap_or_default(),
            config: config.unwrap_or_default(),
            attestation_chain: attestations.map(Into::into),
        }
    }
}

impl TryFrom<gateway::ResolveSourceGitResponse> for GitMeta {
    type Error = MetaError;

    fn try_from(wire: gateway::ResolveSourceGitResponse) -> Result<Self, Self::Error> {
        let gateway::ResolveSourceGitResponse {
            checksum,
            r#ref,
            commit_checksum,
            commit_object,
            tag_object,
        } = wire;
        if checksum.is_empty() {
            return Err(MetaError::NoChecksum("git"));
        }
        Ok(Self {
            checksum,
            reference: r#ref,
            commit_checksum,
            commit_object: present(commit_object),
            tag_object: present(tag_object),
        })
    }
}

impl From<GitMeta> for gateway::ResolveSourceGitResponse {
    fn from(meta: GitMeta) -> Self {
        let GitMeta { checksum, reference, commit_checksum, commit_object, tag_object } = meta;
        Self {
            checksum,
            r#ref: reference,
            commit_checksum,
            commit_object: commit_object.unwrap_or_default(),
            tag_object: tag_object.unwrap_or_default(),
        }
    }
}

impl TryFrom<gateway::ResolveSourceHttpResponse> for HttpMeta {
    type Error = MetaError;

    fn try_from(wire: gateway::ResolveSourceHttpResponse) -> Result<Self, Self::Error> {
        // When a server says that it changed a file is no evidence of anything.
        let gateway::ResolveSourceHttpResponse {
            checksum,
            filename,
            last_modified: _,
            checksum_response,
        } = wire;
        if checksum.is_empty() {
            return Err(MetaError::NoChecksum("http"));
        }
        let checksum_response = match checksum_response {
            Some(gateway::ChecksumResponse { digest, .. }) if digest.is_empty() => {
                return Err(MetaError::NoDigest);
            }
            Some(gateway::ChecksumResponse { digest, suffix }) => {
                Some(ChecksumResponse { digest, suffix })
            }
            None => None,
        };
        Ok(Self { checksum, filename, checksum_response })
    }
}

impl From<HttpMeta> for gateway::ResolveSourceHttpResponse {
    fn from(meta: HttpMeta) -> Self {
        let HttpMeta { checksum, filename, checksum_response } = meta;
        Self {
            checksum,
            filename,
            last_modified: None,
            checksum_response: checksum_response.map(|ChecksumResponse { digest, suffix }| {
                gateway::ChecksumResponse { digest, suffix }
            }),
        }
    }
}

/// proto3 has no absent bytes: empty ones stand for them.
fn present(bytes: Bytes) -> Option<Bytes> {
    Some(bytes).filter(|bytes| !bytes.is_empty())
}
