//! What an operator asks over HTTP: `/metrics`, `/healthz`, `/readyz`. On a listener of its own,
//! because it is for others than builds.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::metrics::{Metrics, Traffic};
use super::policies::PolicySets;

/// The media type of the metrics.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(10);
/// Connections at once; more of them wait.
const CONNECTIONS: usize = 64;

/// A daemon, as the gate last saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamState {
    /// Its address.
    pub upstream: String,
    /// Why it cannot be used; `None` where it can.
    pub trouble: Option<String>,
}

/// What is seen of the gate from outside of here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Observed {
    /// Its daemons.
    pub upstreams: Vec<UpstreamState>,
    /// What the proxy counted.
    pub traffic: Traffic,
}

/// How the gate is.
pub struct Status {
    sets: Arc<PolicySets>,
    metrics: Arc<Metrics>,
    observe: Box<dyn Fn() -> Observed + Send + Sync>,
    draining: AtomicBool,
}

impl Status {
    /// The state of a gate that `observe` looks at.
    pub fn new(
        sets: Arc<PolicySets>,
        metrics: Arc<Metrics>,
        observe: impl Fn() -> Observed + Send + Sync + 'static,
    ) -> Self {
        let draining = AtomicBool::new(false);
        Self { sets, metrics, observe: Box::new(observe), draining }
    }

    /// From now on it takes no new builds.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Whether builds may be sent here, and a line for each thing that it hangs on.
    pub fn readiness(&self) -> (bool, String) {
        let mut text = String::new();
        let mut line = |ok: bool, what: std::fmt::Arguments<'_>| {
            // Writing to a string does not fail.
            let _ = writeln!(text, "[{}] {what}", if ok { '+' } else { '-' });
        };
        let draining = self.draining.load(Ordering::Acquire);
        line(!draining, format_args!("{}", if draining { "draining" } else { "serving" }));
        for revision in self.sets.revisions() {
            let (set, number, digest) = (&revision.set, revision.number, &revision.digest);
            line(true, format_args!("policies `{set}`: revision {number}, {digest}"));
        }
        // The last good policies hold: builds are judged, and somebody should look.
        if let Some(failure) = self.sets.failure() {
            let failure = failure.replace('\n', "\n    ");
            line(false, format_args!("policies not loaded, the last good ones hold: {failure}"));
        }
        let upstreams = (self.observe)().upstreams;
        for UpstreamState { upstream, trouble } in &upstreams {
            match trouble {
                None => line(true, format_args!("upstream {upstream}")),
                Some(why) => line(false, format_args!("upstream {upstream}: {why}")),
            }
        }
        let healthy = upstreams.iter().any(|upstream| upstream.trouble.is_none());
        (!draining && healthy, text)
    }

    /// Serves until it is dropped.
    pub async fn serve(self: Arc<Self>, listener: TcpListener) {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    let status = Arc::clone(&self);
                    tokio::spawn(async move {
                        status.connection(stream).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!("the listener of metrics takes no connection: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: TcpStream) {
        let service = service_fn(move |request: Request<hyper::body::Incoming>| {
            let status = Arc::clone(&self);
            async move {
                let answer = status.answer(request.method(), request.uri().path());
                Ok::<_, Infallible>(answer)
            }
        });
        let served = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), service)
            .await;
        if let Err(error) = served {
            tracing::debug!("a reader of metrics went away: {error}");
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        const TEXT: &str = "text/plain; charset=utf-8";
        if !matches!(*method, Method::GET | Method::HEAD) {
            let text = "only GET is served here\n".to_owned();
            return response(StatusCode::METHOD_NOT_ALLOWED, TEXT, text);
        }
        match path {
            "/healthz" => response(StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => {
                let (ready, text) = self.readiness();
                let code = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
                response(code, TEXT, text)
            }
            "/metrics" => {
                let Observed { upstreams, traffic } = (self.observe)();
                for UpstreamState { upstream, trouble } in &upstreams {
                    self.metrics.upstream(upstream, trouble.is_none());
                }
                self.metrics.traffic(&traffic);
                self.metrics.trust(&self.sets, jiff::Timestamp::now().as_second());
                match self.metrics.text() {
                    Ok(text) => response(StatusCode::OK, OPENMETRICS, text),
                    Err(error) => {
                        response(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n"))
                    }
                }
            }
            _ => {
                let text = "there are /metrics, /healthz and /readyz\n".to_owned();
                response(StatusCode::NOT_FOUND, TEXT, text)
            }
        }
    }
}

fn response(code: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(text.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(upstreams: Vec<UpstreamState>) -> (tempfile::TempDir, Arc<PolicySets>, Status) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("p.rego");
        std::fs::write(&file, "package docker\ndecision := {\"allow\": true}\n").unwrap();
        let sets = PolicySets::load([("prod".to_owned(), vec![file])]).unwrap();
        let metrics = Arc::new(Metrics::new());
        metrics.policies(&sets);
        let observe = move || Observed { upstreams: upstreams.clone(), ..Observed::default() };
        let status = Status::new(Arc::clone(&sets), metrics, observe);
        (dir, sets, status)
    }

    fn upstream(name: &str, trouble: Option<&str>) -> UpstreamState {
        UpstreamState { upstream: name.into(), trouble: trouble.map(Into::into) }
    }

    fn check(status: &Status, ready: bool, wanted: &str) {
        let digest = &status.sets.revisions()[0].digest;
        let (got, text) = status.readiness();
        assert_eq!((got, text.replace(digest, "DIGEST").as_str()), (ready, wanted));
    }

    #[test]
    fn ready_is_one_healthy_daemon_and_no_drain() {
        let policies = "[+] policies `prod`: revision 1, DIGEST\n";
        let (_dir, _, none) = status(vec![]);
        check(&none, false, &format!("[+] serving\n{policies}"));
        let down = upstream("unix:///a", Some("connection refused"));
        let (_dir, _, one) = status(vec![down.clone(), upstream("unix:///b", None)]);
        let upstreams = "[-] upstream unix:///a: connection refused\n[+] upstream unix:///b\n";
        check(&one, true, &format!("[+] serving\n{policies}{upstreams}"));
        one.drain();
        check(&one, false, &format!("[-] draining\n{policies}{upstreams}"));
        let (_dir, _, all) = status(vec![down]);
        let upstreams = "[-] upstream unix:///a: connection refused\n";
        check(&all, false, &format!("[+] serving\n{policies}{upstreams}"));
    }

    #[test]
    fn a_bad_policy_shows_and_the_last_good_one_serves() {
        let (dir, sets, status) = status(vec![upstream("unix:///b", None)]);
        std::fs::write(dir.path().join("p.rego"), "package").unwrap();
        assert!(matches!(sets.reload(), Reloaded::Failed { .. }));
        let (ready, text) = status.readiness();
        assert!(ready);
        assert!(text.contains("[-] policies not loaded, the last good ones hold: "), "{text}");
    }

    use super::super::Reloaded;

    #[test]
    fn paths_and_methods() {
        let (_dir, _, status) = status(vec![upstream("unix:///b", None)]);
        for (method, path, code) in [
            (Method::GET, "/healthz", 200),
            (Method::HEAD, "/healthz", 200),
            (Method::GET, "/readyz", 200),
            (Method::GET, "/metrics", 200),
            (Method::GET, "/", 404),
            (Method::POST, "/healthz", 405),
        ] {
            assert_eq!(status.answer(&method, path).status().as_u16(), code, "{method} {path}");
        }
        status.drain();
        assert_eq!(status.answer(&Method::GET, "/readyz").status().as_u16(), 503);
        assert_eq!(status.answer(&Method::GET, "/healthz").status().as_u16(), 200);
    }
}
