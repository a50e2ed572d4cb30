//! Metadata from the daemon, and so with the build's own credentials.

use bytes::Bytes;
use tonic::{Code, Status};

use super::guard::{self, Precision};
use super::{Gateway, ReadError, Tree};
use crate::meta::{
    AttestationChain, Content, ImageRequest, MAX_CONTENT, MetaRequest, ResolveError,
    ResolveSourceMeta, Resolving, SourceMeta,
};
use crate::source::{Digest, ImageSource, Source, SourceOp};
use crate::wire::proto::gateway;
use crate::wire::{PROVENANCE_PREDICATES, Resolved};

/// How often a chain without its provenance is asked for again.
const CHAIN_ATTEMPTS: usize = 3;

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
                why:
                    "BuildKit gives neither the referrers of an image nor its `.sig` tag to those \
                      who ask it, so that it could not be verified here; the gate and \
                      `buildgate check` verify it, with a registry client of their own"
                        .to_owned(),
            });
        }
        if request.content.is_some() {
            return self.read(&request.source).await;
        }
        if !request.image.is_some_and(|image| image.attestations) {
            return self.once(request).await;
        }
        // By digest from here on: what is looked at first is what is asked about then.
        let request = &self.fixed(request).await?;
        if self.has_attestations(request).await? {
            return self.with_provenance(request).await;
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

    /// Answers somebody else's request, without the attestation chain where asking for it would end
    /// the daemon. Whoever calls this has judged the source.
    ///
    /// # Errors
    /// What the daemon says.
    pub async fn answer_for(
        &self,
        asked: gateway::ResolveSourceMetaRequest,
    ) -> Result<gateway::ResolveSourceMetaResponse, Status> {
        // Static rules of others could put another source in its place.
        let mut asked = gateway::ResolveSourceMetaRequest { source_policies: Vec::new(), ..asked };
        let chain = asked
            .image
            .as_ref()
            .is_some_and(|it| it.attestation_chain || !it.resolve_attestations.is_empty());
        if !chain {
            return self.call("ResolveSourceMeta", &asked).await;
        }
        let unread = |error: &dyn std::error::Error| Status::failed_precondition(error.to_string());
        let request = MetaRequest::try_from(asked.clone()).map_err(|error| unread(&error))?;
        let fixed = self.fixed(&request).await.map_err(|error| unread(&error))?;
        let source = asked.source.replace(fixed.source.clone().into());
        let has = self.has_attestations(&fixed).await.map_err(|error| unread(&error))?;
        if !has {
            asked.image = Some(gateway::ResolveSourceImageRequest::default());
        }
        let mut answer: gateway::ResolveSourceMetaResponse =
            self.call("ResolveSourceMeta", &asked).await?;
        if let (false, Some(image)) = (has, answer.image.as_mut()) {
            // There is none, which is something else than not having been asked for it.
            let root = image.digest.clone();
            let none = gateway::AttestationChain { root, ..Default::default() };
            image.attestation_chain = Some(none);
        }
        Ok(gateway::ResolveSourceMetaResponse { source, ..answer })
    }

    /// The same request about the image's digest, where it only has a tag.
    async fn fixed(&self, request: &MetaRequest) -> Result<MetaRequest, ResolveError> {
        let what = || request.source.masked();
        let image = attested_image(request)?;
        if image.digest.is_some() {
            return Ok(request.clone());
        }
        let config = Some(ImageRequest { config: true, attestations: false });
        let meta = self.once(&MetaRequest { image: config, ..request.clone() }).await?;
        let digest = meta.image.and_then(|image| image.digest).unwrap_or_default();
        let digest: Digest = digest.parse().map_err(|error: crate::source::DigestError| {
            ResolveError::Failed { what: what(), source: Box::new(error) }
        })?;
        let mut fixed = request.clone();
        fixed.source.identifier = image.with_digest(&digest).identifier();
        Ok(fixed)
    }

    /// A daemon joins lookups of the same chain that run at the same time, whichever predicates
    /// each of them named: one may get the chain of another, without the provenance it asked for.
    async fn with_provenance(&self, request: &MetaRequest) -> Result<SourceMeta, ResolveError> {
        for _ in 0..CHAIN_ATTEMPTS {
            let meta = self.once(request).await?;
            let chain = meta.image.as_ref().and_then(|image| image.attestations.as_ref());
            if chain.is_none_or(|chain| !lacks_provenance(chain)) {
                return Ok(meta);
            }
        }
        Err(ResolveError::Failed {
            what: request.source.masked(),
            source: "its attestations list provenance that the daemon does not return: it could \
                     not be verified"
                .into(),
        })
    }

    /// The content of a file that is no source of the build.
    async fn read(&self, source: &SourceOp) -> Result<SourceMeta, ResolveError> {
        let data = self.content(source, MAX_CONTENT as u64).await?;
        let content = Content { source: source.clone(), data: Some(data) };
        Ok(SourceMeta { content: Some(content), ..SourceMeta::default() })
    }

    /// The content of a source that is one file.
    pub(super) async fn content(
        &self,
        source: &SourceOp,
        limit: u64,
    ) -> Result<Bytes, ResolveError> {
        match self.file(source, limit).await {
            Ok(Some(data)) => Ok(data),
            Ok(None) => Err(ResolveError::NotFound { what: source.masked() }),
            Err(error) => Err(unread(source, error)),
        }
    }

    /// The same in the daemon's words; `None` where the source is no file, or several.
    pub(super) async fn file(
        &self,
        source: &SourceOp,
        limit: u64,
    ) -> Result<Option<Bytes>, ReadError> {
        let tree = Tree::load(self, source).await.map_err(Box::new)?;
        let files = tree.list("").await.map_err(Box::new)?;
        let [file] = files.as_slice() else { return Ok(None) };
        tree.read(file, limit).await.map(Some)
    }

    pub(super) async fn once(&self, request: &MetaRequest) -> Result<SourceMeta, ResolveError> {
        let answered =
            self.answer(request).await.map_err(|status| failed(&request.source, &status))?;
        let resolved = Resolved::try_from(answered).map_err(|error| ResolveError::Failed {
            what: request.source.masked(),
            source: Box::new(error),
        })?;
        // Static rules of the client may have put another source in its place.
        if !guard::names(&request.source, &resolved.source.identifier) {
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

    pub(super) async fn answer(
        &self,
        request: &MetaRequest,
    ) -> Result<gateway::ResolveSourceMetaResponse, Status> {
        let mut wire = gateway::ResolveSourceMetaRequest::from(request.clone());
        wire.log_name = log_name(request);
        wire.source_policies = vec![guard::only([&request.source], Precision::Exact)];
        self.call("ResolveSourceMeta", &wire).await
    }
}

/// Whether a chain's attestation manifest lists provenance that is not in it.
fn lacks_provenance(chain: &AttestationChain) -> bool {
    if chain.attestation_manifest.is_empty() {
        return false;
    }
    let Some(manifest) = chain.blobs.get(&chain.attestation_manifest) else { return true };
    let manifest: Result<serde_json::Value, _> = serde_json::from_slice(&manifest.data);
    let Ok(manifest) = manifest else { return true };
    let layers = manifest.get("layers").and_then(serde_json::Value::as_array);
    layers.into_iter().flatten().any(|layer| {
        let predicate = layer
            .pointer("/annotations/in-toto.io~1predicate-type")
            .and_then(serde_json::Value::as_str);
        let digest = layer.get("digest").and_then(serde_json::Value::as_str);
        predicate.is_some_and(|it| PROVENANCE_PREDICATES.contains(&it))
            && digest.is_none_or(|digest| !chain.blobs.contains_key(digest))
    })
}

/// The image whose attestations are asked for.
pub(super) fn attested_image(request: &MetaRequest) -> Result<ImageSource, ResolveError> {
    let unsupported =
        |why: String| ResolveError::Unsupported { what: request.source.masked(), why };
    match Source::parse(&request.source) {
        Ok(Source::Image(image)) => Ok(image),
        Ok(_) => Err(unsupported("only images have attestations".to_owned())),
        Err(error) => Err(unsupported(error.to_string())),
    }
}

/// What a request is for, in a word.
pub fn wanted(request: &MetaRequest) -> &'static str {
    match request {
        MetaRequest { image: Some(ImageRequest { attestations: true, .. }), .. } => "attestations",
        MetaRequest { image: Some(_), .. } => "config",
        MetaRequest { git: Some(_), .. } => "commit",
        MetaRequest { http: Some(_), .. } => "checksum",
        _ => "metadata",
    }
}

/// What people see while the daemon resolves it.
fn log_name(request: &MetaRequest) -> String {
    let what = wanted(request);
    let platform = request.platform.as_ref().map(|it| format!(" ({it})")).unwrap_or_default();
    format!("[policy] fetch {what} of {}{platform}", request.source)
}

pub(super) fn failed(source: &SourceOp, status: &Status) -> ResolveError {
    let what = source.masked();
    if status.code() == Code::NotFound {
        return ResolveError::NotFound { what };
    }
    ResolveError::Failed { what, source: status.message().to_owned().into() }
}

pub(super) fn unread(source: &SourceOp, error: ReadError) -> ResolveError {
    match error {
        ReadError::Daemon(status) => failed(source, &status),
        ReadError::TooLarge { path: _, limit } => {
            ResolveError::TooLarge { what: source.masked(), limit }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::AttestationBlob;

    #[test]
    fn provenance_that_is_listed_must_be_there() {
        let layer = |predicate: &str, digest: &str| {
            format!(
                r#"{{"digest":"{digest}","annotations":{{"in-toto.io/predicate-type":"{predicate}"}}}}"#
            )
        };
        let [v02, v1] = PROVENANCE_PREDICATES;
        for (layers, blobs, lacks) in [
            (vec![], vec![], false),
            (vec![layer(v1, "d1")], vec!["d1"], false),
            (vec![layer(v1, "d1")], vec![], true),
            (vec![layer(v02, "d1"), layer("https://spdx.dev/Document", "d2")], vec!["d1"], false),
            (vec![layer(v02, "d1"), layer(v1, "d2")], vec!["d1"], true),
        ] {
            let blob = |data: String| AttestationBlob { data: data.into(), ..Default::default() };
            let mut chain =
                AttestationChain { attestation_manifest: "m".into(), ..Default::default() };
            assert!(lacks_provenance(&chain), "without the manifest nothing can be told");
            let manifest = format!(r#"{{"layers":[{}]}}"#, layers.join(","));
            chain.blobs.insert("m".into(), blob(manifest));
            for digest in blobs {
                chain.blobs.insert(digest.into(), blob(String::new()));
            }
            assert_eq!(lacks_provenance(&chain), lacks, "{layers:?}");
        }
        assert!(!lacks_provenance(&AttestationChain::default()));
    }
}
