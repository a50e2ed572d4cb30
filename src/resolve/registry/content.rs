//! Documents and blobs of one repository, each verified by its digest and fetched once.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue};
use url::Url;

use super::auth::{Access, Realm};
use super::document::{self, Content, Descriptor, Document, Index, media_type};
use crate::meta::{ChecksumAlgorithm, ResolveError};
use crate::resolve::digest;
use crate::resolve::memo::Memo;
use crate::resolve::options::{Options, Sizes};
use crate::resolve::transport::{Answer, Body, Outgoing, failed, is_loopback, shown};

/// What registries hold, each thing fetched once in a run.
pub(super) struct Contents {
    pub(super) access: Access,
    mirrors: std::collections::BTreeMap<String, Vec<Url>>,
    plain_http: std::collections::BTreeSet<String>,
    pub(super) sizes: Sizes,
    documents: Memo<(String, String, String), Arc<Document>>,
    blobs: Memo<(String, String, String), Bytes>,
    pub(super) referrers: Memo<(String, String, String), Arc<Index>>,
}

/// A repository of a registry, as an image reference names it.
#[derive(Clone, Debug)]
pub(super) struct Repository {
    /// The registry (`docker.io`).
    pub host: String,
    /// The repository there (`library/alpine`).
    pub path: String,
}

/// One place where a repository can be read.
pub(super) struct Endpoint {
    /// `https://registry-1.docker.io/v2/library/alpine/`.
    pub base: Url,
    pub realm: Realm,
    /// Whose content a mirror is asked for.
    pub namespace: Option<String>,
}

/// Content that contradicts what pointed to it.
#[derive(Debug, thiserror::Error)]
enum ContentError {
    #[error("`{0}` is no digest of a kind that can be verified")]
    Digest(String),
    #[error("{digest} should have {expected} bytes, and has {actual}")]
    Size { digest: String, expected: u64, actual: u64 },
    #[error("{0:?} makes no URL: {1}")]
    Url(String, url::ParseError),
    #[error("{digest} should be {expected}, and is {actual}")]
    MediaType { digest: String, expected: String, actual: String },
    #[error("the mirror {0} cannot be used as a base of URLs")]
    Mirror(String),
}

impl Contents {
    pub(super) fn new(access: Access, options: &Options) -> Self {
        Self {
            access,
            mirrors: options.mirrors.clone(),
            plain_http: options.plain_http.clone(),
            sizes: options.sizes,
            documents: Memo::default(),
            blobs: Memo::default(),
            referrers: Memo::default(),
        }
    }

    /// The document that a tag or digest names. A tag names one thing throughout a run.
    pub(super) async fn document(
        &self,
        repository: &Repository,
        reference: &str,
    ) -> Result<Arc<Document>, ResolveError> {
        let key = repository.key(reference);
        let fetch = self
            .anywhere(repository, |endpoint| self.fetch_document(repository, endpoint, reference));
        self.documents.get(key, fetch).await
    }

    /// The document that `descriptor` points to.
    pub(super) async fn described(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Arc<Document>, ResolveError> {
        let what = repository.what(&descriptor.digest);
        within(&what, descriptor, self.sizes.manifest)?;
        let document = self.document(repository, &descriptor.digest).await?;
        right_size(&what, descriptor, document.bytes.len())?;
        if !descriptor.media_type.is_empty() && descriptor.media_type != document.media_type {
            return Err(failed(
                &what,
                ContentError::MediaType {
                    digest: descriptor.digest.clone(),
                    expected: descriptor.media_type.clone(),
                    actual: document.media_type.clone(),
                },
            ));
        }
        Ok(document)
    }

    /// The image config that `descriptor` points to.
    pub(super) async fn config(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Bytes, ResolveError> {
        self.blob(repository, descriptor, self.sizes.config).await
    }

    /// An attestation that `descriptor` points to.
    pub(super) async fn attestation(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
    ) -> Result<Bytes, ResolveError> {
        self.blob(repository, descriptor, self.sizes.attestation).await
    }

    /// A signature that `descriptor` points to, of at most `limit` bytes.
    pub(super) async fn signature(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Bytes, ResolveError> {
        self.blob(repository, descriptor, self.sizes.attestation.min(limit)).await
    }

    async fn blob(
        &self,
        repository: &Repository,
        descriptor: &Descriptor,
        limit: u64,
    ) -> Result<Bytes, ResolveError> {
        let what = repository.what(&descriptor.digest);
        within(&what, descriptor, limit)?;
        let (what, digest) = (what.as_str(), descriptor.digest.as_str());
        let fetch = self.anywhere(repository, |endpoint| async move {
            let algorithm = verifiable(what, digest)?;
            let answer = self.get(what, &endpoint, "blobs", digest).await?;
            let bytes = answer.bytes(what, limit).await?;
            verified(what, algorithm, digest, &bytes)?;
            Ok(bytes)
        });
        let bytes = self.blobs.get(repository.key(digest), fetch).await?;
        right_size(what, descriptor, bytes.len())?;
        Ok(bytes)
    }

    /// Tries the mirrors in order, then the registry; the registry's answer counts where all fail.
    pub(super) async fn anywhere<'a, T, F, W>(
        &'a self,
        repository: &'a Repository,
        fetch: F,
    ) -> Result<T, ResolveError>
    where
        F: Fn(Arc<Endpoint>) -> W,
        W: Future<Output = Result<T, ResolveError>>,
    {
        for mirror in self.mirrors.get(&repository.host).into_iter().flatten() {
            match fetch(Arc::new(mirrored(repository, mirror)?)).await {
                Ok(found) => return Ok(found),
                Err(error) => {
                    tracing::debug!(%error, mirror = %shown(mirror), "trying the next place");
                }
            }
        }
        fetch(Arc::new(self.upstream(repository)?)).await
    }

    fn upstream(&self, repository: &Repository) -> Result<Endpoint, ResolveError> {
        let host = match repository.host.as_str() {
            "docker.io" => "registry-1.docker.io",
            host => host,
        };
        let text = |scheme| format!("{scheme}://{host}/v2/{}/", repository.path);
        let parse = |scheme| {
            Url::parse(&text(scheme))
                .map_err(|error| failed(host, ContentError::Url(text(scheme), error)))
        };
        let plain = self.plain_http.contains(&repository.host) || is_loopback(&parse("http")?);
        let base = parse(if plain { "http" } else { "https" })?;
        let realm = Realm { host: repository.host.clone(), repository: repository.path.clone() };
        Ok(Endpoint { base, realm, namespace: None })
    }

    async fn fetch_document(
        &self,
        repository: &Repository,
        endpoint: Arc<Endpoint>,
        reference: &str,
    ) -> Result<Arc<Document>, ResolveError> {
        let what = &repository.what(reference);
        let by_digest = reference.contains(':');
        let expected = if by_digest { Some(verifiable(what, reference)?) } else { None };
        let answer = self.get(what, &endpoint, "manifests", reference).await?;
        let header = |name| {
            let value = answer.response.headers().get(name);
            value.and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or("").to_owned()
        };
        let content_type = header(CONTENT_TYPE);
        let claimed = header(http::HeaderName::from_static("docker-content-digest"));
        let bytes = answer.bytes(what, self.sizes.manifest).await?;
        let digest = match expected {
            Some(algorithm) => {
                verified(what, algorithm, reference, &bytes)?;
                reference.to_owned()
            }
            None if claimed.is_empty() => digest::of(ChecksumAlgorithm::Sha256, &bytes),
            None => {
                verified(what, verifiable(what, &claimed)?, &claimed, &bytes)?;
                claimed
            }
        };
        let (media_type, content) =
            document::read(&content_type, &bytes).map_err(|error| failed(what, error))?;
        Ok(Arc::new(Document { digest, media_type, bytes, content }))
    }

    /// `GET /v2/<repository>/<kind>/<reference>`.
    async fn get(
        &self,
        what: &str,
        endpoint: &Endpoint,
        kind: &str,
        reference: &str,
    ) -> Result<Answer, ResolveError> {
        let url = place(what, endpoint, kind, reference)?;
        let mut headers = HeaderMap::new();
        if kind != "blobs" {
            headers.insert(ACCEPT, HeaderValue::from_static(media_type::ACCEPT));
        }
        let request = Outgoing { what, url, headers, authorization: None, body: Body::Get };
        self.access.send(&endpoint.realm, request).await
    }
}

impl Repository {
    pub(super) fn key(&self, reference: &str) -> (String, String, String) {
        (self.host.clone(), self.path.clone(), reference.to_owned())
    }

    /// The image as people write it.
    pub(super) fn what(&self, reference: &str) -> String {
        let separator = if reference.contains(':') { '@' } else { ':' };
        format!("{}/{}{separator}{reference}", self.host, self.path)
    }
}

/// `/v2/<repository>/<kind>/<reference>` at an endpoint.
pub(super) fn place(
    what: &str,
    endpoint: &Endpoint,
    kind: &str,
    reference: &str,
) -> Result<Url, ResolveError> {
    let path = format!("{kind}/{reference}");
    // `./` keeps the colon of a digest from being read as a scheme.
    let mut url = endpoint
        .base
        .join(&format!("./{path}"))
        .map_err(|error| failed(what, ContentError::Url(path, error)))?;
    if let Some(namespace) = &endpoint.namespace {
        url.query_pairs_mut().append_pair("ns", namespace);
    }
    Ok(url)
}

/// A repository on a mirror. As in BuildKit, a path of the mirror's URL stands before the name.
fn mirrored(repository: &Repository, mirror: &Url) -> Result<Endpoint, ResolveError> {
    let unusable = || failed(&repository.host, ContentError::Mirror(shown(mirror)));
    let host = mirror.host_str().filter(|_| matches!(mirror.scheme(), "http" | "https"));
    let host = host.ok_or_else(unusable)?;
    let host = match mirror.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let prefix = mirror.path().trim_matches('/');
    let path = match prefix {
        "" | "v2" => repository.path.clone(),
        prefix => format!("{}/{}", prefix.trim_start_matches("v2/"), repository.path),
    };
    let base = mirror.join(&format!("/v2/{path}/")).map_err(|_| unusable())?;
    let realm = Realm { host, repository: path };
    Ok(Endpoint { base, realm, namespace: Some(repository.host.clone()) })
}

fn verifiable(what: &str, digest: &str) -> Result<ChecksumAlgorithm, ResolveError> {
    digest::algorithm(digest).ok_or_else(|| failed(what, ContentError::Digest(digest.into())))
}

fn verified(
    what: &str,
    algorithm: ChecksumAlgorithm,
    expected: &str,
    bytes: &[u8],
) -> Result<(), ResolveError> {
    let actual = digest::of(algorithm, bytes);
    if actual == expected {
        return Ok(());
    }
    Err(ResolveError::DigestMismatch { what: what.into(), expected: expected.into(), actual })
}

fn within(what: &str, descriptor: &Descriptor, limit: u64) -> Result<(), ResolveError> {
    if descriptor.size <= limit {
        return Ok(());
    }
    Err(ResolveError::TooLarge { what: what.into(), limit })
}

fn right_size(what: &str, descriptor: &Descriptor, actual: usize) -> Result<(), ResolveError> {
    let (expected, actual) = (descriptor.size, actual as u64);
    if expected == actual {
        return Ok(());
    }
    let digest = descriptor.digest.clone();
    Err(failed(what, ContentError::Size { digest, expected, actual }))
}

/// Whether `document` is an index or one image.
pub(super) fn index_of(document: &Document) -> Option<&Index> {
    match &document.content {
        Content::Index(index) => Some(index),
        Content::Manifest(_) => None,
    }
}
