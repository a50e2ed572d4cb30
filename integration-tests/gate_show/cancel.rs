//! Calls that end before they are answered: their time is up, their client takes them back, or it is
//! gone. They end at the daemon too, with what they had running there, and the gate keeps nothing.

use buildgate::rpc::{self, Channel};
use buildgate::session::{CHECK_POLICY, ID, METHOD, SESSION};
use buildgate::source::SourceOp;
use buildgate::wire::proto::control::{SolveRequest, SolveResponse, StatusRequest};
use buildgate::wire::proto::pb;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};
use http_body_util::BodyExt as _;
use prost::Message as _;
use tokio::net::UnixStream;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

use super::between::Between;
use super::clients::{STATUS, command, gate_before, open, ping};
use crate::frontend_show::failures::Slow;
use crate::gate_enforce::{SOLVE, only, unique};
use crate::gate_process::{Gate, until};
use crate::gate_proxy::runs;
use crate::peers::{self, World, llb, need};

const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A gate, and what it asks of the daemon.
struct Watched {
    between: Between,
    gate: Gate,
    /// Where clients come in: the daemon itself, and the gate.
    sockets: [String; 2],
}

impl Watched {
    fn start(world: &World) -> Self {
        // Images by what only the gate's own build can tell; files by what a server takes its time with.
        let rego = only(
            "input.image.labels[\"org.example.tier\"] == \"base\"\n\
             allow if startswith(input.http.checksum, \"sha256:\")",
        );
        let dir = peers::folder(&[("policy/p.rego", &rego)]);
        let between = Between::start(world, &dir.path().join("between.sock"));
        let gate = gate_before(&between, dir, &["--metrics-listen", "127.0.0.1:0"]);
        let socket = gate.path("gate.sock").display().to_string();
        let bare = world.buildkit.address().trim_start_matches("unix://").to_owned();
        let watched = Self { between, gate, sockets: [bare, socket] };
        watched.idle("what the gate asks at its start");
        watched
    }

    /// Waits until the daemon has nothing of the gate's under way, and the gate nothing of its clients'.
    fn idle(&self, what: &str) {
        let over = || {
            let seen = self.between.seen();
            let calls = [SOLVE, SESSION, STATUS].iter().all(|method| seen.open(method) == 0);
            (calls && seen.ended == seen.sessions.len()).then_some(())
        };
        until(&format!("the end at the daemon of {what}"), over);
        let still = || {
            let metrics = self.gate.http("/metrics");
            let none = ["builds_in_flight", "open_streams"];
            none.iter().all(|it| metrics.contains(&format!("buildgate_{it} 0\n"))).then_some(())
        };
        until(&format!("the end in the gate of {what}"), still);
    }
}

/// A connection, and what drives it.
async fn connect(socket: &str) -> (Channel, JoinHandle<Result<(), hyper::Error>>) {
    let stream = UnixStream::connect(socket).await.unwrap();
    let (channel, connection) = Channel::over(stream).await.unwrap();
    (channel, tokio::spawn(connection))
}

/// Metadata of a call that has this long.
fn within(time: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(TIMEOUT, HeaderValue::from_static(time))])
}

fn request(definition: pb::Definition) -> SolveRequest {
    SolveRequest { r#ref: unique(), definition: Some(definition), ..SolveRequest::default() }
}

/// How a daemon ends a call whose time is up: it says so, or resets the stream, whatever comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Status(Code),
    Reset(h2::Reason),
}

impl Over {
    fn by_time(self) -> bool {
        matches!(self, Self::Status(Code::DeadlineExceeded) | Self::Reset(h2::Reason::CANCEL))
    }
}

/// Waits for the end of a call, whatever comes before.
async fn over(channel: &Channel, method: &str, metadata: HeaderMap, body: rpc::Body) -> Over {
    let mut request = Request::new(body);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = method.parse().unwrap();
    *request.headers_mut() = metadata;
    let headers = request.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    let reset = |error: rpc::BoxError| Over::Reset(rpc::reset_of(&*error).unwrap().reason());
    let response = match channel.forward(request).await {
        Ok(response) => response,
        Err(error) => return reset(error),
    };
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Over::Status(status.code());
    }
    let mut body = response.into_body();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => {
                if let Some(status) = frame.trailers_ref().and_then(Status::from_header_map) {
                    return Over::Status(status.code());
                }
            }
            Err(error) => return reset(error.into()),
        }
    }
    panic!("{method} ended without a status");
}

/// How a call comes to its end.
#[derive(Clone, Copy, Debug)]
enum End {
    TakenBack,
    ClientGone,
}

const ENDS: [End; 2] = [End::TakenBack, End::ClientGone];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_ends_at_the_daemon_with_its_call() {
    let world = need!(peers::world());
    let watched = tokio::task::block_in_place(|| Watched::start(world));
    let napping =
        |nap: &str| request(command(&world.image("base:1"), &["/bin/busybox", "sleep", nap]));
    for (how, nap) in ENDS.into_iter().zip(["91231.25", "91231.5"]) {
        let (channel, connection) = connect(&watched.sockets[1]).await;
        let (solving, request) = (channel.clone(), napping(nap));
        let call = tokio::spawn(async move {
            let answer: Result<SolveResponse, Status> =
                solving.call(SOLVE, &HeaderMap::new(), &request).await;
            answer
        });
        until("the command", || runs(nap).then_some(()));
        end(how, &call, &connection);
        until("the end of the command", || (!runs(nap)).then_some(()));
        drop(channel);
        watched.idle(&format!("a build, {how:?}"));
    }
    // Its time is up: the client hears what it hears of the daemon itself.
    for (socket, nap) in watched.sockets.iter().zip(["91231.75", "91231.875"]) {
        let (channel, _connection) = connect(socket).await;
        let message = rpc::one(&napping(nap).encode_to_vec());
        let solving = channel.clone();
        let call = tokio::spawn(async move { over(&solving, SOLVE, within("4S"), message).await });
        until("the command", || runs(nap).then_some(()));
        let over = call.await.unwrap();
        assert!(over.by_time(), "{socket}: {over:?}");
        until("the end of the command", || (!runs(nap)).then_some(()));
    }
    watched.idle("a build whose time was up");
}

fn end<T, U>(how: End, call: &JoinHandle<T>, connection: &JoinHandle<U>) {
    match how {
        End::TakenBack => call.abort(),
        End::ClientGone => {
            connection.abort();
            call.abort();
        }
    }
}

/// Before the daemon has asked all that it wants to know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_decision_ends_with_the_call_that_waits_for_it() {
    let world = need!(peers::world());
    let watched = tokio::task::block_in_place(|| Watched::start(world));
    for how in ENDS {
        let slow = Slow::start();
        let (channel, connection) = connect(&watched.sockets[1]).await;
        let request = request(llb(&[SourceOp::new(slow.server.url("/slow"))]));
        let call = tokio::spawn(async move {
            let answer: Result<SolveResponse, Status> =
                channel.call(SOLVE, &HeaderMap::new(), &request).await;
            answer
        });
        until("the decision's own question", || (!slow.server.asked().is_empty()).then_some(()));
        end(how, &call, &connection);
        watched.idle(&format!("a decision, {how:?}"));
        slow.open();
        assert_eq!(slow.server.asked().len(), 1, "{how:?}: nothing was loaded");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_ends_at_the_daemon_with_its_call() {
    let world = need!(peers::world());
    let watched = tokio::task::block_in_place(|| Watched::start(world));
    let look = async |channel: &Channel, reference: &str, metadata: HeaderMap| {
        let request = StatusRequest { r#ref: reference.to_owned() };
        over(channel, STATUS, metadata, rpc::one(&request.encode_to_vec())).await
    };
    let (user, _connection) = connect(&watched.sockets[1]).await;
    let reference = unique();
    let running = open(&user, &reference);
    ping(&user, &reference).await.unwrap();
    for how in ENDS {
        let (channel, connection) = connect(&watched.sockets[1]).await;
        let about = reference.clone();
        let call = tokio::spawn(async move { look(&channel, &about, HeaderMap::new()).await });
        let looking = || watched.between.seen().open(STATUS);
        until("the question", || (looking() == 1).then_some(()));
        end(how, &call, &connection);
        until("its end", || (looking() == 0).then_some(()));
        // The build goes on.
        ping(&user, &reference).await.unwrap();
    }
    running.abort();
    for socket in &watched.sockets {
        let (channel, _connection) = connect(socket).await;
        let reference = unique();
        let running = open(&channel, &reference);
        let over = look(&channel, &reference, within("2S")).await;
        assert!(over.by_time(), "{socket}: {over:?}");
        running.abort();
    }
    watched.idle("progress");
}

/// A session stream, to its end.
async fn session(channel: &Channel, mut metadata: HeaderMap, verifies: bool) -> Over {
    let (near, outgoing, pump) = buildgate::session::tunnel().run();
    metadata.insert(ID, HeaderValue::from_str(&unique()).unwrap());
    if verifies {
        metadata.insert(METHOD, HeaderValue::from_static(CHECK_POLICY));
    }
    let over = over(channel, SESSION, metadata, outgoing).await;
    drop((near, pump));
    over
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_ends_at_the_daemon_with_its_call() {
    let world = need!(peers::world());
    let watched = tokio::task::block_in_place(|| Watched::start(world));
    for verifies in [false, true] {
        for how in ENDS {
            let (channel, connection) = connect(&watched.sockets[1]).await;
            let call =
                tokio::spawn(async move { session(&channel, HeaderMap::new(), verifies).await });
            let there = || watched.between.seen().open(SESSION);
            until("the session", || (there() == 1).then_some(()));
            end(how, &call, &connection);
            until("its end", || (there() == 0).then_some(()));
            watched.idle(&format!("a session, {verifies}, {how:?}"));
        }
        for (at, socket) in watched.sockets.iter().enumerate() {
            let (channel, _connection) = connect(socket).await;
            let over = session(&channel, within("2S"), verifies).await;
            // Where we stand in the middle, the end of the daemon's side is the end of ours.
            let ours = verifies && at == 1 && over == Over::Status(Code::Ok);
            assert!(over.by_time() || ours, "{verifies}, {socket}: {over:?}");
        }
        watched.idle("a session whose time was up");
    }
}
