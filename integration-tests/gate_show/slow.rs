//! Who reads slowly, or not at all, is not read ahead for: progress with our lines in it, and sessions,
//! both those that pass as bytes and those that we stand in the middle of. The gate's memory shows it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use buildgate::gate::proxy::{Answer, Call, Handle, ListenOptions};
use buildgate::rpc::{self, Body, BoxError, Channel, frame};
use buildgate::session::{CHECK_POLICY, Ended, ID, METHOD, NAME, SESSION};
use buildgate::wire::proto::control::{StatusRequest, StatusResponse, VertexLog};
use futures_util::future::BoxFuture;
use http::{HeaderValue, Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Incoming;
use prost::Message as _;
use tokio::net::UnixStream;

use super::between::stand;
use super::clients::{STATUS, open, ping};
use crate::gate_enforce::{only, unique};
use crate::peers::{self, GateProcess, need};

/// Streams of each kind whose reader stands still.
const STREAMS: usize = 3;
/// What may lie in the gate for one of them: what is under way on both of its sides, and in a session
/// once more inside the tunnel.
const HELD: usize = 6 * rpc::WINDOW as usize;
/// What the gate may have in all, in KiB.
const MEMORY: u64 = 150 << 10;
/// One message.
const MESSAGE: usize = 16 << 10;
/// What is read in the end, and whole.
const READ: usize = 64 << 20;

const TAKE: &str = "/moby.filesync.v1.FileSync/Take";
const GIVE: &str = "/moby.filesync.v1.FileSync/Give";

/// What was taken of streams that never end.
#[derive(Clone, Default)]
struct Taken(Arc<AtomicUsize>);

impl Taken {
    fn bytes(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// A stream of this message, again and again.
    fn flood(&self, message: &[u8]) -> Body {
        let framed = frame::put(message).unwrap();
        let taken = self.clone();
        let frames = futures_util::stream::repeat_with(move || {
            taken.0.fetch_add(framed.len(), Ordering::SeqCst);
            Ok::<_, BoxError>(Frame::data(framed.clone()))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    /// Waits until nothing is taken any more, and says how much was.
    async fn stands(&self) -> usize {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
        let mut before = 0;
        while before == 0 || before != self.bytes() {
            assert!(tokio::time::Instant::now() < deadline, "{before} bytes, and no end");
            before = self.bytes();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
        before
    }
}

fn line() -> StatusResponse {
    let log = VertexLog { msg: vec![b'x'; MESSAGE].into(), ..VertexLog::default() };
    StatusResponse { logs: vec![log], ..StatusResponse::default() }
}

/// A daemon that says more of a build, and of sessions wants and gives more, than anyone reads.
#[derive(Default)]
struct Flooding {
    progress: Taken,
    to_clients: Taken,
}

impl Handle for Flooding {
    fn handle(&self, call: Call) -> BoxFuture<'_, Answer> {
        let ours = call.request.headers().get(NAME).is_some_and(|name| name == "buildgate");
        match call.method() {
            STATUS => {
                let progress = self.progress.flood(&line().encode_to_vec());
                Box::pin(async move { Ok(grpc(progress)) })
            }
            SESSION if !ours => {
                let flood = self.to_clients.flood(&[0; MESSAGE]);
                Box::pin(async move { Ok(session(call.request, flood).await) })
            }
            _ => Box::pin(call.forward()),
        }
    }
}

fn grpc(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// The daemon's end of a session: it sends a client what that one does not read, and does not read what
/// that one sends.
async fn session(request: Request<Body>, flood: Body) -> Response<Body> {
    let (near, download, pump) = buildgate::session::tunnel().run();
    let status = std::future::ready(Ended::Ours.trailers());
    tokio::spawn(pump.answer(request.into_body(), status));
    tokio::spawn(async move {
        let (channel, connection) = Channel::over(near).await.unwrap();
        let connection = tokio::spawn(connection);
        let given = channel.forward(post(GIVE, rpc::one(b"")));
        let taken = channel.forward(post(TAKE, flood));
        // Answers that nobody reads, for as long as the session is there.
        let _held = tokio::join!(given, taken);
        let _ = connection.await;
    });
    grpc(download)
}

fn post(path: &str, body: Body) -> Request<Body> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = path.parse().unwrap();
    let headers = [("content-type", "application/grpc"), ("te", "trailers")];
    for (name, value) in headers {
        request.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    request
}

/// A client's end of a session, until the task is aborted.
async fn client(socket: String, verifies: bool, from_client: Taken) {
    let (near, outgoing, pump) = buildgate::session::tunnel().run();
    let mut request = post(SESSION, outgoing);
    request.headers_mut().insert(ID, HeaderValue::from_str(&unique()).unwrap());
    if verifies {
        request.headers_mut().insert(METHOD, HeaderValue::from_static(CHECK_POLICY));
    }
    let channel = connect(&socket).await;
    let response = channel.forward(request).await.unwrap();
    let answer = move |request: Request<Incoming>| {
        let from_client = from_client.clone();
        async move {
            match request.uri().path() {
                GIVE => grpc(from_client.flood(&[0; MESSAGE])),
                // Held, and not read.
                _ => grpc(std::future::pending().await),
            }
        }
    };
    tokio::join!(pump.drive(response.into_body()), buildgate::session::serve(near, answer));
}

async fn connect(socket: &str) -> Channel {
    let path = socket.trim_start_matches("unix://");
    let (channel, connection) =
        Channel::over(UnixStream::connect(path).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    channel
}

/// Reads so much of a progress stream, and finds each message whole.
async fn read(body: &mut Incoming, bytes: usize) {
    let wanted = line();
    let (mut buffer, mut read) = (bytes::BytesMut::new(), 0);
    while read < bytes {
        let data = body.frame().await.unwrap().unwrap().into_data().unwrap();
        read += data.len();
        buffer.extend_from_slice(&data);
        while let Some(message) = frame::take(&mut buffer, frame::MAX_MESSAGE).unwrap() {
            let message = StatusResponse::decode(message).unwrap();
            // Ours stands between them.
            assert!(message == wanted || message.vertexes[0].name.contains("[policy]"));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_costs_no_memory() {
    let world = need!(peers::world());
    let dir = tempfile::tempdir().unwrap();
    let address = format!("unix://{}", dir.path().join("flood.sock").display());
    let flooding = Arc::new(Flooding::default());
    let options = ListenOptions::at(address.parse().unwrap());
    let handler: Arc<dyn Handle> = flooding.clone();
    let daemon = tokio::task::block_in_place(|| stand(world, options, handler));
    let program = Path::new(env!("CARGO_BIN_EXE_buildgate"));
    let gate = GateProcess::start(program, &address, &only("input.image"));
    let user = connect(&gate.address()).await;
    let reference = unique();
    let running = open(&user, &reference);
    ping(&user, &reference).await.unwrap();
    let (descriptors, before) = (gate.descriptors(), gate.status("VmRSS"));

    // Progress of a build of ours, into which our lines are woven.
    let mut bodies = Vec::new();
    let mut readers = Vec::new();
    for _ in 0..STREAMS {
        let channel = connect(&gate.address()).await;
        let request = StatusRequest { r#ref: reference.clone() };
        let request = post(STATUS, rpc::one(&request.encode_to_vec()));
        bodies.push(channel.forward(request).await.unwrap().into_body());
        readers.push(channel);
    }
    let taken = flooding.progress.stands().await;
    assert!(taken <= STREAMS * HELD, "{taken} bytes of progress were taken for nobody");
    // Sessions, with a verifier and without one, both ways.
    let from_clients = Taken::default();
    let mut clients = Vec::new();
    for number in 0..2 * STREAMS {
        let client = client(gate.address(), number % 2 == 0, from_clients.clone());
        clients.push(tokio::spawn(client));
    }
    for (what, taken) in [("to", &flooding.to_clients), ("from", &from_clients)] {
        let bytes = taken.stands().await;
        assert!(bytes <= 2 * STREAMS * HELD, "{bytes} bytes {what} clients were taken for nobody");
    }
    let grown = gate.status("VmRSS").saturating_sub(before) << 10;
    let most = 5 * STREAMS * HELD;
    assert!(grown < most as u64, "the gate holds {grown} bytes more than before");

    // Who reads again gets it all; and the gate has grown by nothing.
    for body in &mut bodies {
        read(body, READ).await;
    }
    assert!(flooding.progress.bytes() >= STREAMS * READ);
    let peak = gate.status("VmHWM");
    assert!(peak < MEMORY, "{peak} KiB at most");
    drop((bodies, readers));
    for client in clients {
        client.abort();
    }
    gate.until("what was open is closed", |gate| gate.descriptors() <= descriptors);
    running.abort();
    // It is dropped where nothing waits for it.
    daemon.shutdown_background();
}
