//! Metadata from the daemon, and so with the build's own credentials.

use tonic::{Code, Status};

use super::{Gateway, Tree};
use crate::meta::{
    AttestationChain, Content, ImageRequest, MAX_CONTENT, MetaRequest, ResolveError,
    ResolveSourceMeta, Resolving, SourceMeta,
};
use crate::source::{Platform, SourceOp};
use crate::wire::Resolved;
use crate::wire::proto::gateway;

impl ResolveSourceMeta for Gateway {
    fn resolve<'a>(&'a self, request: &'a MetaRequest) -> Resolving<'a> {
        Box::pin(self.ask(request))
    }
}

impl Gateway {
    async fn ask(&self, request: &MetaRequest) -> Result<SourceMeta, ResolveError> {
        if request.signatures.is_some() {
            return Err(ResolveError::Unsupported {
                what: format!("what signs {}", request.source.masked()),
                why: "BuildKit gives a frontend neither the referrers of an image nor its \
                      `.sig` tag, so that it could not be verified here; the gate and \
                      `buildgate check` verify it, with a registry client of their own"
                    .to_owned(),
            });
        }
        if request.content.is_some() {
            return self.read(&request.source).await;
        }
        let chain = request.image.is_some_and(|image| image.attestations);
        if !chain || self.has_attestations(request).await? {
            return self.once(request).await;
        }
        let image = request.image.map(|image| ImageRequest { attestations: false, ..image });
        // Without config and without chain a daemon returns no digest.
        let image = image.map(|image| ImageRequest { config: true, ..image });
        let mut meta = self.once(&MetaRequest { image, ..request.clone() }).await?;
        if let Some(image) = meta.image.as_mut() {
            image.attestations = Some(AttestationChain::default());
        }
        Ok(meta)
    }

    /// The content of a file that is no source of the build.
    async fn read(&self, source: &SourceOp) -> Result<SourceMeta, ResolveError> {
        let failed = |status: Status| failed(source, status);
        let tree = Tree::load(self, source).await.map_err(failed)?;
        let files = tree.list("").await.map_err(failed)?;
        let [file] = files.as_slice() else {
            return Err(ResolveError::NotFound { what: source.masked() });
        };
        let data = tree.read(file).await.map_err(failed)?;
        if data.len() > MAX_CONTENT {
            let (what, limit) = (source.masked(), MAX_CONTENT as u64);
            return Err(ResolveError::TooLarge { what, limit });
        }
        let content = Content { source: source.clone(), data: Some(data) };
        Ok(SourceMeta { content: Some(content), ..SourceMeta::default() })
    }

    async fn once(&self, request: &MetaRequest) -> Result<SourceMeta, ResolveError> {
        let answered =
            self.answer(request).await.map_err(|status| failed(&request.source, status))?;
        let resolved = Resolved::try_from(answered).map_err(|error| ResolveError::Failed {
            what: request.source.masked(),
            source: Box::new(error),
        })?;
        // Static rules of the client may have put another source in its place.
        if resolved.source.identifier != request.source.identifier {
            return Err(ResolveError::Unsupported {
                what: request.source.masked(),
                why: format!(
                    "the daemon answers for {} instead, by a static source policy of the client",
                    resolved.source.masked()
                ),
            });
        }
        Ok(resolved.meta)
    }

    async fn answer(
        &self,
        request: &MetaRequest,
    ) -> Result<gateway::ResolveSourceMetaResponse, Status> {
        let wire = gateway::ResolveSourceMetaRequest::from(request.clone());
        self.call("ResolveSourceMeta", &wire).await
    }

    /// Whether the chain may be asked for. A daemon ends (dereferencing nil, 0.32 to 0.34) where
    /// the image is no OCI index; the platform under which indexes keep attestations tells them
    /// apart: a plain manifest answers with its ordinary config, and an index without that
    /// platform says that there is none.
    async fn has_attestations(&self, request: &MetaRequest) -> Result<bool, ResolveError> {
        let unknown = Platform::from_parts("unknown", "unknown", "");
        let probe = MetaRequest {
            source: request.source.clone(),
            platform: Some(unknown),
            image: Some(ImageRequest { config: true, attestations: false }),
            ..MetaRequest::default()
        };
        match self.answer(&probe).await {
            Ok(answer) => {
                let config = answer.image.map(|image| image.config).unwrap_or_default();
                Ok(is_unknown(&config))
            }
            Err(status) if status.code() == Code::NotFound => Ok(false),
            // The platform is there, and what it holds is no config.
            Err(status) if matches!(status.code(), Code::Unknown | Code::InvalidArgument) => {
                Ok(true)
            }
            Err(status) => Err(failed(&request.source, status)),
        }
    }
}

/// Whether an image config is of no operating system, as that of an attestation manifest.
fn is_unknown(config: &[u8]) -> bool {
    let config: serde_json::Value = serde_json::from_slice(config).unwrap_or_default();
    config.get("os").and_then(serde_json::Value::as_str).is_none_or(|os| os == "unknown")
}

fn failed(source: &SourceOp, status: Status) -> ResolveError {
    let what = source.masked();
    if status.code() == Code::NotFound {
        return ResolveError::NotFound { what };
    }
    ResolveError::Failed { what, source: status.message().to_owned().into() }
}
