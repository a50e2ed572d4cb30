//! What refers to a manifest: the referrers API, page by page, or else the tag that stands in for it
//! (<https://github.com/opencontainers/distribution-spec/blob/main/spec.md#listing-referrers>).
//!
//! Nothing vouches for this list: who serves it may leave out what it likes, and what it names is
//! held against its digest. But a list that goes on where we do not follow it is no list: what stands
//! on its next page would be taken for missing.

use std::sync::Arc;

use http::header::{ACCEPT, LINK};
use http::{HeaderMap, HeaderValue};
use url::Url;

use super::content::{Contents, Endpoint, Repository, place};
use super::document::{self, Index, media_type};
use super::links;
use crate::meta::ResolveError;
use crate::resolve::transport::{Body, Outgoing, failed, shown};

/// Pages of one list that are read at most.
const MAX_PAGES: usize = 8;

/// A list that cannot be read to its end.
#[derive(Debug, thiserror::Error)]
enum ReferrersError {
    #[error("the list has more than {MAX_PAGES} pages")]
    Pages,
    #[error("the list goes on at {0}, which is another place than it began at")]
    Elsewhere(String),
    #[error("the list goes on, and where it does cannot be read: {0:?}")]
    Link(String),
}

impl Contents {
    /// What refers to the manifest `digest`.
    ///
    /// # Errors
    /// When the list cannot be had whole.
    pub(super) async fn referrers(
        &self,
        repository: &Repository,
        digest: &str,
    ) -> Result<Arc<Index>, ResolveError> {
        let fetch = self.anywhere(repository, |endpoint| async move {
            match self.list(repository, &endpoint, "referrers", digest).await {
                Err(ResolveError::NotFound { .. }) => {}
                other => return other,
            }
            let tag = digest.replacen(':', "-", 1);
            match self.list(repository, &endpoint, "manifests", &tag).await {
                Err(ResolveError::NotFound { .. }) => {
                    Ok(Arc::new(Index { manifests: Vec::new(), annotations: [].into() }))
                }
                other => other,
            }
        });
        self.referrers.get(repository.key(digest), fetch).await
    }

    /// All pages of a list.
    async fn list(
        &self,
        repository: &Repository,
        endpoint: &Endpoint,
        kind: &str,
        reference: &str,
    ) -> Result<Arc<Index>, ResolveError> {
        let what = &format!("the referrers of {}", repository.what(reference));
        let first = place(what, endpoint, kind, reference)?;
        let (mut next, mut left) = (Some(first.clone()), self.sizes.manifest);
        let mut whole = Index { manifests: Vec::new(), annotations: [].into() };
        for _ in 0..MAX_PAGES {
            let Some(url) = next.take() else { return Ok(Arc::new(whole)) };
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, HeaderValue::from_static(media_type::ACCEPT));
            let request =
                Outgoing { what, url: url.clone(), headers, authorization: None, body: Body::Get };
            let answer = match self.access.send(&endpoint.realm, request).await {
                // The list began, so that it cannot be missing.
                Err(ResolveError::NotFound { what }) if url != first => {
                    return Err(failed(&what, ReferrersError::Link(shown(&url))));
                }
                other => other?,
            };
            next = following(what, &url, endpoint.namespace.as_deref(), answer.response.headers())?;
            let bytes = answer.bytes(what, left).await?;
            left = left.saturating_sub(bytes.len() as u64);
            let page = document::read_referrers(&bytes).map_err(|error| failed(what, error))?;
            whole.manifests.extend(page.manifests);
        }
        match next {
            None => Ok(Arc::new(whole)),
            Some(_) => Err(failed(what, ReferrersError::Pages)),
        }
    }
}

/// Where a list goes on (RFC 8288), if it does: at the same path of the same server, by another query. A
/// mirror is told again whose list it is.
pub(super) fn following(
    what: &str,
    from: &Url,
    namespace: Option<&str>,
    headers: &HeaderMap,
) -> Result<Option<Url>, ResolveError> {
    let mut next = None;
    for value in headers.get_all(LINK) {
        let unreadable = || {
            let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
            failed(what, ReferrersError::Link(text))
        };
        let text = value.to_str().map_err(|_| unreadable())?;
        for target in links::next(text).map_err(|_| unreadable())? {
            let mut url = from.join(target).map_err(|_| unreadable())?;
            let elsewhere = |url: &Url| failed(what, ReferrersError::Elsewhere(shown(url)));
            if url.origin() != from.origin() || url.path() != from.path() {
                return Err(elsewhere(&url));
            }
            if let Some(namespace) = namespace {
                let told: Vec<_> =
                    url.query_pairs().filter(|(name, _)| name == "ns").map(|it| it.1).collect();
                match told.as_slice() {
                    [] => drop(url.query_pairs_mut().append_pair("ns", namespace)),
                    [told] if told == namespace => {}
                    _ => return Err(elsewhere(&url)),
                }
            }
            match &next {
                Some(known) if *known != url => return Err(unreadable()),
                _ => next = Some(url),
            }
        }
    }
    Ok(next)
}
