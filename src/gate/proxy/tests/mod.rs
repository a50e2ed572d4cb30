//! The proxy between an HTTP/2 server and a client of the tests, all in one process.

mod calls;
mod doors;
mod routing;
mod stop;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tempfile::TempDir;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;

use super::*;
use crate::rpc::{self, BoxError};

/// A body that a test writes frame by frame.
pub type Sender = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

pub fn body() -> (Sender, Body) {
    let (sender, receiver) = mpsc::channel(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        receiver.recv().await.map(|frame| (frame, receiver))
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

pub fn data(bytes: impl Into<Bytes>) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(bytes.into()))
}

pub fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in pairs {
        map.append(
            name.parse::<HeaderName>().unwrap(),
            HeaderValue::from_bytes(value.as_bytes()).unwrap(),
        );
    }
    map
}

pub fn request(path: &str, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = path.parse().unwrap();
    request
        .headers_mut()
        .extend(headers(&[("content-type", "application/grpc"), ("te", "trailers")]));
    request
}

/// What the server of the tests saw.
#[derive(Default)]
pub struct Seen {
    /// Calls under way in it.
    pub open: AtomicUsize,
    /// Bytes that it could send on `/t.S/Flood`.
    pub flooded: AtomicUsize,
    /// Bytes that it took on `/t.S/Sink`.
    pub sunk: AtomicUsize,
}

/// An upstream that knows a few methods, on a unix socket.
pub struct Peer {
    pub socket: PathBuf,
    pub seen: Arc<Seen>,
    /// Told, it cuts all connections, and goes on.
    pub cut: Arc<Notify>,
    serving: JoinHandle<()>,
    _folder: TempDir,
}

impl Peer {
    pub fn start(name: &'static str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("d.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let cut = Arc::new(Notify::new());
        let cutting = Arc::clone(&cut);
        let serving = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = tokio::select! {
                    accepted = listener.accept() => accepted.unwrap(),
                    () = cutting.notified() => {
                        connections.shutdown().await;
                        continue;
                    }
                };
                let seen = Arc::clone(&shared);
                let service = service_fn(move |request| answer(name, Arc::clone(&seen), request));
                connections.spawn(
                    http2::Builder::new(TokioExecutor::new())
                        .auto_date_header(false)
                        .max_header_list_size(64 << 20)
                        .initial_connection_window_size(rpc::CONNECTION_WINDOW)
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Self { socket, seen, cut, serving, _folder: folder }
    }

    pub fn options(&self) -> UpstreamOptions {
        UpstreamOptions { address: Address::Unix(self.socket.clone()), tls: None }
    }

    /// Is gone at once, with all its connections.
    pub async fn stop(self) -> TempDir {
        self.serving.abort();
        let _ = self.serving.await;
        self._folder
    }

    pub async fn until_idle(&self) {
        until(|| self.seen.open.load(Ordering::SeqCst) == 0).await;
    }
}

/// Waits until it is so, for ten seconds at most.
pub async fn until(so: impl Fn() -> bool) {
    for _ in 0..1000 {
        if so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come to that");
}

struct Under(Arc<Seen>);

impl Drop for Under {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn answer(
    name: &'static str,
    seen: Arc<Seen>,
    request: Request<Incoming>,
) -> Result<Response<Body>, rpc::Reset> {
    seen.open.fetch_add(1, Ordering::SeqCst);
    let under = Under(Arc::clone(&seen));
    let path = request.uri().path().to_owned();
    let ok = || Ok(Frame::trailers(headers(&[("grpc-status", "0")])));
    let (sender, body) = body();
    match path.as_str() {
        "/t.S/Hang" => std::future::pending::<()>().await,
        "/t.S/ResetBefore" => return Err(rpc::Reset::with(h2::Reason::REFUSED_STREAM)),
        "/t.S/ResetAfter" => {
            tokio::spawn(async move {
                let _ = sender.send(data("part")).await;
                // Not on the heels of the answer, which it would take back.
                tokio::time::sleep(Duration::from_millis(100)).await;
                let reset = rpc::Reset::with(h2::Reason::ENHANCE_YOUR_CALM);
                let _ = sender.send(Err(reset.into())).await;
            });
        }
        "/t.S/Flood" => {
            tokio::spawn(async move {
                let _under = under;
                while sender.send(data(vec![0; 16 << 10])).await.is_ok() {
                    seen.flooded.fetch_add(16 << 10, Ordering::SeqCst);
                }
            });
            return Ok(Response::new(body));
        }
        "/t.S/Sink" => {
            let mut incoming = request.into_body();
            tokio::spawn(async move {
                let _under = under;
                // Takes one frame and then no more, until the caller is gone.
                if let Some(Ok(frame)) = incoming.frame().await {
                    seen.sunk.fetch_add(frame.data_ref().map_or(0, Bytes::len), Ordering::SeqCst);
                }
                sender.closed().await;
            });
            return Ok(Response::new(body));
        }
        "/t.S/Name"
        | "/moby.buildkit.v1.Control/Solve"
        | "/moby.buildkit.v1.Control/Status"
        | "/moby.buildkit.v1.Control/Session"
        | "/grpc.health.v1.Health/Check" => {
            let health = path.ends_with("Check");
            tokio::spawn(async move {
                let said = if health { rpc::one(b"\x08\x01") } else { rpc::one(name.as_bytes()) };
                let said = said.collect().await.unwrap().to_bytes();
                let _ = sender.send(data(said)).await;
                let _ = sender.send(ok()).await;
            });
        }
        // What came in goes out: headers as headers, trailers as trailers, bytes as bytes.
        _ => {
            let mut response = Response::new(body);
            *response.headers_mut() = request.headers().clone();
            response.headers_mut().remove("te");
            response.headers_mut().append("x-path", request.uri().to_string().parse().unwrap());
            tokio::spawn(async move {
                let _under = under;
                let mut incoming = request.into_body();
                while let Some(Ok(frame)) = incoming.frame().await {
                    if sender.send(Ok(frame)).await.is_err() {
                        return;
                    }
                }
            });
            return Ok(response);
        }
    }
    drop(under);
    Ok(Response::new(body))
}

/// A gate with these upstreams, on a unix socket.
pub struct Proxied {
    pub socket: PathBuf,
    pub counters: Arc<Counters>,
    pub upstreams: Arc<Upstreams>,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Drained>,
    _folder: TempDir,
}

impl Proxied {
    pub async fn start(upstreams: Vec<UpstreamOptions>) -> Self {
        Self::with(upstreams, Access::default(), Duration::from_secs(5)).await
    }

    pub async fn with(upstreams: Vec<UpstreamOptions>, access: Access, drain: Duration) -> Self {
        Self::handled(upstreams, access, drain, Arc::new(Forward)).await
    }

    pub async fn handled(
        upstreams: Vec<UpstreamOptions>,
        access: Access,
        drain: Duration,
        handler: Arc<dyn Handle>,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("g.sock");
        let counters = Arc::new(Counters::default());
        let upstreams = Upstreams::start(upstreams, Arc::clone(&counters)).await.unwrap();
        let address = Address::Unix(socket.clone());
        let options = ListenOptions { access, ..ListenOptions::at(address) };
        let listener = bind(options).await.unwrap();
        let gate = Arc::new(Gate {
            upstreams: Arc::clone(&upstreams),
            handler,
            counters: Arc::clone(&counters),
            drain,
        });
        let (stop, stopped) = oneshot::channel();
        let serving = tokio::spawn(serve(listener, gate, async move {
            let _ = stopped.await;
        }));
        Self { socket, counters, upstreams, stop: Some(stop), serving, _folder: folder }
    }

    pub async fn connect(&self) -> Channel {
        connect(&self.socket).await
    }

    pub fn tell_to_stop(&mut self) {
        self.stop.take();
    }

    pub async fn stopped(self) -> Drained {
        drop(self.stop);
        self.serving.await.unwrap()
    }
}

pub async fn connect(socket: &Path) -> Channel {
    let (channel, connection) =
        Channel::over(UnixStream::connect(socket).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    channel
}

/// A unary call: its one message, or its status.
pub async fn call(channel: &Channel, request: Request<Body>) -> Result<String, tonic::Status> {
    let response = channel.forward(request).await.unwrap();
    if let Some(status) = tonic::Status::from_header_map(response.headers()) {
        return Err(status);
    }
    let (message, trailers) = rpc::read_one(response.into_body()).await?;
    let status = tonic::Status::from_header_map(&trailers.unwrap()).unwrap();
    assert_eq!(status.code(), tonic::Code::Ok);
    Ok(String::from_utf8(message.unwrap().into()).unwrap())
}

pub fn empty() -> Body {
    rpc::one(b"")
}

/// The code with which a call's stream was reset.
pub fn code(error: &(dyn std::error::Error + 'static)) -> Option<h2::Reason> {
    rpc::reset_of(error).map(|reset| reset.reason())
}
