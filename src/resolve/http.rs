//! A file by URL: its digest, computed while it streams by; nothing of it is kept.
//!
//! What BuildKit does is done here alike: a declared checksum (`http.checksum`) is the answer
//! without a fetch, because the build fails on any other content; the name of the file comes from
//! `http.filename`, the server's `Content-Disposition`, or the URL; `Content-Encoding: gzip` is
//! undone. A secret that the daemon would send as `Authorization` is not at hand here, and that is
//! an error rather than a request without it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_DISPOSITION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use percent_encoding::percent_decode_str;
use url::Url;

use super::digest::{self, Hasher};
use super::transport::{Answer, Body, Outgoing, Transport, authority, failed, shown};
use crate::meta::{
    ChecksumAlgorithm, ChecksumResponse, HttpMeta, HttpRequest, MAX_CONTENT, ResolveError,
};
use crate::source::HttpSource;

/// BuildKit's limit for the suffix of a checksum request.
const MAX_SUFFIX: usize = 4 * 1024;

/// A URL and the attributes that change what it answers.
type Place = (String, BTreeMap<String, String>);

/// One file to be read.
struct Fetch<'a> {
    what: &'a str,
    url: Url,
    attrs: &'a BTreeMap<String, String>,
    request: &'a HttpRequest,
    declared: Option<&'a str>,
}

/// Files by URL.
pub(crate) struct Files {
    transport: Arc<Transport>,
    limit: u64,
    /// What each URL held when it was first read: it may not change while a decision is made.
    seen: Mutex<HashMap<Place, String>>,
}

/// A URL that no request can be made of.
#[derive(Debug, thiserror::Error)]
enum FileError {
    #[error("not a URL: {0}")]
    Url(#[from] url::ParseError),
    #[error("`{0}` is not a digest")]
    Checksum(String),
    #[error("the suffix of a checksum request has {0} bytes, more than {MAX_SUFFIX}")]
    Suffix(usize),
    #[error("the attribute {0} is no HTTP header")]
    Header(String),
}

impl Files {
    /// Files over `transport`, of at most `limit` bytes.
    pub(crate) fn new(transport: Arc<Transport>, limit: u64) -> Self {
        Self { transport, limit, seen: Mutex::default() }
    }

    /// What `request` asks for of the file that `source` names.
    ///
    /// # Errors
    /// When it cannot be fetched, or held something else a moment ago.
    pub(crate) async fn resolve(
        &self,
        source: &HttpSource,
        attrs: &BTreeMap<String, String>,
        request: &HttpRequest,
    ) -> Result<HttpMeta, ResolveError> {
        let url = Url::parse(&source.url)
            .map_err(|error| failed(&format!("the file of host {}", source.host), error))?;
        let what = shown(&url);
        if source.has_auth {
            return Err(ResolveError::Unsupported {
                what,
                why: "the build sends a secret with it (http.authheadersecret), which only the \
                      daemon's client has; let a rule judge it without http.checksum, or declare \
                      its checksum"
                    .into(),
            });
        }
        let assisted = request.checksum.as_ref();
        if let Some(length) = assisted.map(|asked| asked.suffix.len()).filter(|n| *n > MAX_SUFFIX) {
            return Err(failed(&what, FileError::Suffix(length)));
        }
        let declared = source.declared_checksum.as_deref();
        if let Some(checksum) = declared {
            if digest::algorithm(checksum).is_none() {
                return Err(failed(&what, FileError::Checksum(checksum.into())));
            }
            if assisted.is_none() {
                let filename = filename(&url, attrs, &HeaderMap::new());
                return Ok(HttpMeta {
                    checksum: checksum.into(),
                    filename,
                    checksum_response: None,
                });
            }
        }
        let mut meta = self.fetch(Fetch { what: &what, url, attrs, request, declared }).await?;
        if let Some(checksum) = declared {
            meta.checksum = checksum.into();
        }
        self.unchanged(&what, source, attrs, &meta.checksum)?;
        Ok(meta)
    }

    /// What the file holds; `None` where the server has no such file.
    ///
    /// # Errors
    /// When it cannot be fetched, or is larger than [`MAX_CONTENT`].
    pub(crate) async fn content(
        &self,
        source: &HttpSource,
        attrs: &BTreeMap<String, String>,
    ) -> Result<Option<Bytes>, ResolveError> {
        let url = Url::parse(&source.url)
            .map_err(|error| failed(&format!("the file of host {}", source.host), error))?;
        let what = shown(&url);
        match self.get(&what, url, attrs).await {
            Ok(answer) => answer.bytes(&what, MAX_CONTENT as u64).await.map(Some),
            Err(ResolveError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn get(
        &self,
        what: &str,
        url: Url,
        attrs: &BTreeMap<String, String>,
    ) -> Result<Answer, ResolveError> {
        let headers = headers(attrs).map_err(|error| failed(what, error))?;
        let outgoing = Outgoing { what, url, headers, authorization: None, body: Body::GetDecoded };
        let answer = self.transport.send(&outgoing).await?;
        match answer.response.status() {
            status if status.is_success() => {}
            StatusCode::NOT_FOUND | StatusCode::GONE => {
                return Err(ResolveError::NotFound { what: what.into() });
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(ResolveError::Unauthorized {
                    what: what.into(),
                    host: authority(answer.response.url()),
                    advice: "buildgate sends no credentials to download hosts".into(),
                });
            }
            _ => return Err(answer.unexpected(what)),
        }
        Ok(answer)
    }

    async fn fetch(&self, fetch: Fetch<'_>) -> Result<HttpMeta, ResolveError> {
        let Fetch { what, url, attrs, request, declared } = fetch;
        let answer = self.get(what, url.clone(), attrs).await?;
        let filename = filename(&url, attrs, answer.response.headers());
        let expected = declared.and_then(digest::algorithm);
        let mut sum = Hasher::new(expected.unwrap_or(ChecksumAlgorithm::Sha256));
        let mut assist = request.checksum.as_ref().map(|asked| Hasher::new(asked.algorithm));
        answer
            .stream(what, self.limit, |piece| {
                sum.update(piece);
                if let Some(hasher) = &mut assist {
                    hasher.update(piece);
                }
            })
            .await?;
        let checksum = sum.finish();
        if let Some(declared) = declared.filter(|declared| *declared != checksum) {
            return Err(ResolveError::DigestMismatch {
                what: what.into(),
                expected: declared.into(),
                actual: checksum,
            });
        }
        let checksum_response = request.checksum.as_ref().zip(assist).map(|(asked, mut hasher)| {
            hasher.update(&asked.suffix);
            ChecksumResponse { digest: hasher.finish(), suffix: asked.suffix.clone() }
        });
        Ok(HttpMeta { checksum, filename, checksum_response })
    }

    /// Refuses a file that is another one than when it was first read.
    fn unchanged(
        &self,
        what: &str,
        source: &HttpSource,
        attrs: &BTreeMap<String, String>,
        checksum: &str,
    ) -> Result<(), ResolveError> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (source.url.clone(), attrs.clone());
        let first = seen.entry(key).or_insert_with(|| checksum.to_owned());
        if first == checksum {
            return Ok(());
        }
        Err(ResolveError::DigestMismatch {
            what: format!("{what} changed while it was judged"),
            expected: first.clone(),
            actual: checksum.into(),
        })
    }
}

/// The headers that a build may set: `Accept` and `User-Agent`, as in BuildKit.
fn headers(attrs: &BTreeMap<String, String>) -> Result<HeaderMap, FileError> {
    let mut headers = HeaderMap::new();
    for (attr, value) in attrs {
        let Some(name) = attr.strip_prefix("http.header.") else {
            continue;
        };
        let bad = || FileError::Header(attr.clone());
        let name: HeaderName = name.parse().map_err(|_| bad())?;
        if name == ACCEPT || name == USER_AGENT {
            headers.insert(name, HeaderValue::from_str(value).map_err(|_| bad())?);
        }
    }
    Ok(headers)
}

/// The name that BuildKit gives the file.
fn filename(url: &Url, attrs: &BTreeMap<String, String>, headers: &HeaderMap) -> String {
    if let Some(name) = attrs.get("http.filename").filter(|name| !name.is_empty()) {
        return safe(name);
    }
    if let Some(name) = disposition(headers).filter(|name| !name.ends_with('/')) {
        return safe(&name);
    }
    let path = percent_decode_str(url.path()).decode_utf8_lossy();
    safe(&path)
}

/// `filename` of `Content-Disposition`; RFC 5987's `filename*` wins, as in Go's `mime`.
fn disposition(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_DISPOSITION)?.to_str().ok()?;
    let mut plain = None;
    for (name, value) in parameters(value) {
        match name.as_str() {
            "filename*" => {
                let (charset, encoded) = value.split_once('\'')?;
                let (_language, encoded) = encoded.split_once('\'')?;
                if charset.eq_ignore_ascii_case("utf-8") {
                    return percent_decode_str(encoded).decode_utf8().ok().map(Into::into);
                }
            }
            "filename" => plain = Some(value),
            _ => {}
        }
    }
    plain.filter(|name| !name.is_empty())
}

/// The `;`-separated parameters of a header value, quoted strings unquoted (RFC 2183).
fn parameters(value: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = value.split_once(';').map_or("", |(_, rest)| rest);
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_matches([' ', '\t', ';']).to_ascii_lowercase();
        let (value, after) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, after) = after.split_once(';').unwrap_or((after, ""));
                (value.trim().to_owned(), after)
            }
        };
        found.push((name, value));
        rest = after;
    }
    found
}

/// A quoted string from behind its first quote, and what follows it.
fn unquote(quoted: &str) -> (String, &str) {
    let mut text = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (text, quoted.get(at + 1..).unwrap_or("")),
            '\\' => text.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => text.push(c),
        }
    }
    (text, "")
}

/// The last part of `path`, or `download` where that is no name.
fn safe(path: &str) -> String {
    let name = path.trim().trim_end_matches('/');
    let name = name.rsplit('/').next().unwrap_or("");
    if matches!(name, "" | "." | "..") || name.chars().any(char::is_control) {
        return "download".into();
    }
    name.into()
}

#[cfg(test)]
mod tests;
