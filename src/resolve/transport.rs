//! HTTP as registries and downloads need it: bounded in time, size, redirects and retries.
//!
//! Redirects are followed by hand, so that a credential never reaches another origin than the one
//! it is for, and HTTPS never turns into HTTP. It knows no registry and no file.

use std::net::IpAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, LOCATION, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use url::{Host, Url};

use super::options::{Options, Retries, Timeouts};
use super::tls::{self, TlsError};
use crate::meta::{RedirectProblem, ResolveError};

/// Redirects that are followed in a row.
const MAX_REDIRECTS: usize = 10;

/// Connections, pooled for a whole run.
#[derive(Debug)]
pub(crate) struct Transport {
    /// Through the proxies that the environment names.
    outside: Clients,
    /// To loopback, where no proxy stands in between.
    loopback: Clients,
    timeouts: Timeouts,
    retries: Retries,
}

/// One client for bodies as they are, one that undoes `Content-Encoding: gzip`.
#[derive(Debug)]
struct Clients {
    verbatim: reqwest::Client,
    decoding: reqwest::Client,
}

/// A request to be sent, and what to call it in errors.
#[derive(Debug)]
pub(crate) struct Outgoing<'a> {
    /// What is wanted, for errors.
    pub what: &'a str,
    /// Where from.
    pub url: Url,
    /// Headers for every hop.
    pub headers: HeaderMap,
    /// The `Authorization` header, for the origin of `url` alone.
    pub authorization: Option<HeaderValue>,
    /// What is sent, and how the answer is read.
    pub body: Body<'a>,
}

/// What is sent, and how the answer is read.
#[derive(Debug)]
pub(crate) enum Body<'a> {
    /// GET; the answer as it is on the wire.
    Get,
    /// GET; the answer with its content encoding undone, as Go's HTTP client does unasked.
    GetDecoded,
    /// POST of a form; never redirected.
    Form(&'a [(&'a str, &'a str)]),
}

/// A certificate file or client setting that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Certificates, or TLS as such.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP client cannot be made.
    #[error("cannot set up HTTP: {0}")]
    Client(#[from] reqwest::Error),
}

/// An answer that can be no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// Neither success nor anything that has its own error.
    #[error("{host} answered {status}")]
    Status { host: String, status: StatusCode },
    /// The connection, or TLS, failed.
    #[error("{host} cannot be reached: {}", innermost(.source))]
    Unreachable { host: String, source: reqwest::Error },
    /// The body stopped before its end.
    #[error("{host} broke off in the middle of its answer: {}", innermost(.source))]
    BrokenOff { host: String, source: reqwest::Error },
}

/// An answer whose body is still to be read.
#[derive(Debug)]
pub(crate) struct Answer {
    /// The response of the last hop.
    pub response: reqwest::Response,
    timeouts: Timeouts,
}

impl Transport {
    /// Clients after `options`.
    ///
    /// # Errors
    /// When the CA file cannot be used.
    pub(crate) fn new(options: &Options) -> Result<Self, SetupError> {
        let tls = tls::client(options.ca_file.as_deref())?;
        let build = |proxy: bool| -> Result<Clients, SetupError> {
            Ok(Clients {
                verbatim: client(options, &tls, proxy)?.no_gzip().build()?,
                decoding: client(options, &tls, proxy)?.gzip(true).build()?,
            })
        };
        Ok(Self {
            outside: build(true)?,
            loopback: build(false)?,
            timeouts: options.timeouts,
            retries: options.retries,
        })
    }

    /// Sends `request`, follows redirects, and tries again after 429 and 5xx. Any other status is
    /// the caller's to judge.
    ///
    /// # Errors
    /// When no answer comes, redirects lead nowhere, or the other side keeps refusing.
    pub(crate) async fn send(&self, request: &Outgoing<'_>) -> Result<Answer, ResolveError> {
        let mut backoff = self.retries.backoff;
        for attempt in 0.. {
            let answer = self.follow(request).await?;
            let status = answer.response.status();
            if status != StatusCode::TOO_MANY_REQUESTS && !status.is_server_error() {
                return Ok(answer);
            }
            let asked = retry_after(answer.response.headers());
            let wait = asked.unwrap_or(backoff);
            if attempt >= self.retries.count || wait > self.retries.patience {
                return Err(refused(request.what, &answer, asked));
            }
            tracing::debug!(what = request.what, %status, ?wait, "trying again");
            tokio::time::sleep(wait).await;
            backoff *= 2;
        }
        // Unreachable by the loop's condition; said as an error all the same.
        Err(ResolveError::Timeout { what: request.what.into(), after: self.timeouts.total })
    }

    /// Follows redirects until something else is answered.
    async fn follow(&self, request: &Outgoing<'_>) -> Result<Answer, ResolveError> {
        let mut url = request.url.clone();
        let mut authorization = request.authorization.as_ref();
        for _ in 0..=MAX_REDIRECTS {
            let answer = self.once(request, &url, authorization).await?;
            if !is_redirect(answer.response.status()) {
                return Ok(answer);
            }
            let redirect = |problem| ResolveError::Redirect {
                what: request.what.into(),
                host: authority(&url),
                problem,
            };
            let target = target(&url, answer.response.headers()).map_err(redirect)?;
            if matches!(request.body, Body::Form(_)) {
                return Err(redirect(RedirectProblem::Forbidden(shown(&target))));
            }
            if target.origin() != request.url.origin() {
                authorization = None;
            }
            url = target;
        }
        Err(ResolveError::Redirect {
            what: request.what.into(),
            host: authority(&url),
            problem: RedirectProblem::TooMany(MAX_REDIRECTS),
        })
    }

    async fn once(
        &self,
        request: &Outgoing<'_>,
        url: &Url,
        authorization: Option<&HeaderValue>,
    ) -> Result<Answer, ResolveError> {
        let clients = if is_loopback(url) { &self.loopback } else { &self.outside };
        let mut builder = match request.body {
            Body::Get => clients.verbatim.get(url.clone()),
            Body::GetDecoded => clients.decoding.get(url.clone()),
            Body::Form(fields) => clients.verbatim.post(url.clone()).form(fields),
        };
        builder = builder.headers(request.headers.clone());
        if let Some(value) = authorization {
            let mut value = value.clone();
            value.set_sensitive(true);
            builder = builder.header(AUTHORIZATION, value);
        }
        // The deadline of the head; that of the whole stands further up.
        let sent = tokio::time::timeout(self.timeouts.idle, builder.send()).await;
        match sent {
            Ok(Ok(response)) => Ok(Answer { response, timeouts: self.timeouts }),
            Ok(Err(error)) if error.is_timeout() => {
                let connecting = error.is_connect();
                let Timeouts { connect, idle, .. } = self.timeouts;
                Err(timeout(request.what, if connecting { connect } else { idle }))
            }
            Ok(Err(error)) => {
                let host = authority(url);
                Err(failed(
                    request.what,
                    AnswerError::Unreachable { host, source: error.without_url() },
                ))
            }
            Err(_) => Err(timeout(request.what, self.timeouts.idle)),
        }
    }
}

impl Answer {
    /// Hands the body to `sink` piece by piece; tells how many bytes it had.
    ///
    /// # Errors
    /// When it has more than `limit` bytes, breaks off, or stands still.
    pub(crate) async fn stream(
        mut self,
        what: &str,
        limit: u64,
        mut sink: impl FnMut(&[u8]),
    ) -> Result<u64, ResolveError> {
        let too_large = || ResolveError::TooLarge { what: what.into(), limit };
        if content_length(self.response.headers()).is_some_and(|length| length > limit) {
            return Err(too_large());
        }
        let host = authority(self.response.url());
        let mut read = 0u64;
        loop {
            match self.response.chunk().await {
                Ok(Some(piece)) => {
                    read = read.saturating_add(piece.len() as u64);
                    if read > limit {
                        return Err(too_large());
                    }
                    sink(&piece);
                }
                Ok(None) => return Ok(read),
                Err(error) if error.is_timeout() => {
                    return Err(timeout(what, self.timeouts.idle));
                }
                Err(error) => {
                    return Err(failed(
                        what,
                        AnswerError::BrokenOff { host, source: error.without_url() },
                    ));
                }
            }
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// As [`Answer::stream`].
    pub(crate) async fn bytes(self, what: &str, limit: u64) -> Result<Bytes, ResolveError> {
        let mut body = Vec::new();
        self.stream(what, limit, |piece| body.extend_from_slice(piece)).await?;
        Ok(body.into())
    }

    /// The error for a status that is no success and has no other meaning here.
    pub(crate) fn unexpected(&self, what: &str) -> ResolveError {
        let host = authority(self.response.url());
        failed(what, AnswerError::Status { host, status: self.response.status() })
    }
}

/// Whether `url` leads to this machine. Such registries speak plain HTTP, and no proxy reaches them.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

/// Host, and port where it is not the usual one.
pub(crate) fn authority(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => shown(url),
    }
}

/// A URL for people: userinfo masked, and without the query, where tokens travel.
pub(crate) fn shown(url: &Url) -> String {
    let userinfo = !url.username().is_empty() || url.password().is_some();
    format!(
        "{}://{}{}{}",
        url.scheme(),
        if userinfo { "***@" } else { "" },
        match (url.host_str(), url.port()) {
            (Some(host), Some(port)) => format!("{host}:{port}"),
            (Some(host), None) => host.to_owned(),
            (None, _) => String::new(),
        },
        url.path()
    )
}

/// An error with its cause.
pub(crate) fn failed(
    what: &str,
    source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> ResolveError {
    ResolveError::Failed { what: what.into(), source: source.into() }
}

fn timeout(what: &str, after: Duration) -> ResolveError {
    ResolveError::Timeout { what: what.into(), after }
}

fn client(
    options: &Options,
    tls: &rustls::ClientConfig,
    proxy: bool,
) -> Result<reqwest::ClientBuilder, SetupError> {
    let mut builder = reqwest::Client::builder()
        .tls_backend_preconfigured(tls.clone())
        .redirect(reqwest::redirect::Policy::none())
        .referer(false)
        .connect_timeout(options.timeouts.connect)
        .read_timeout(options.timeouts.idle)
        .pool_max_idle_per_host(4)
        .user_agent(concat!("buildgate/", env!("CARGO_PKG_VERSION")));
    if !proxy {
        builder = builder.no_proxy();
    }
    Ok(builder)
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Where a redirect leads, or why it is not followed.
pub(crate) fn target(from: &Url, headers: &HeaderMap) -> Result<Url, RedirectProblem> {
    let Some(location) = headers.get(LOCATION) else {
        return Err(RedirectProblem::Target(String::new()));
    };
    let text = String::from_utf8_lossy(location.as_bytes());
    let invalid = || RedirectProblem::Target(text.chars().take(200).collect());
    let target = from.join(&text).map_err(|_| invalid())?;
    match (from.scheme(), target.scheme()) {
        ("https", "http") => Err(RedirectProblem::Downgrade(shown(&target))),
        (_, "http" | "https") => Ok(target),
        _ => Err(invalid()),
    }
}

fn refused(what: &str, answer: &Answer, retry_after: Option<Duration>) -> ResolveError {
    if answer.response.status() == StatusCode::TOO_MANY_REQUESTS {
        let host = authority(answer.response.url());
        return ResolveError::RateLimited { what: what.into(), host, retry_after };
    }
    answer.unexpected(what)
}

/// `Retry-After` in seconds; its other form, a date, is taken for none.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok().map(Duration::from_secs)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// The first cause of an error: what the system or TLS said, without the layers between.
fn innermost(error: &(dyn std::error::Error + 'static)) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}
