//! The bridge between a child that asks anything and a daemon that notes what it is asked.

mod inputs;
mod streams;
mod unjudged;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::Status;

use super::bridge::{Bridge, Given};
use super::options::BuildOptions;
use super::verdict::Gatekeeper;
use crate::gateway::{Gateway, SERVICE};
use crate::rpc::{self, Body, Channel};
use crate::wire::proto::{self, fsutil, gateway, pb};

/// What the daemon was asked, call by call.
type Asked = Arc<Mutex<Vec<(String, Bytes)>>>;

/// What the daemon gives as the inputs of the build.
type Inputs = BTreeMap<String, pb::Definition>;

/// A child's connection to a bridge whose daemon answers as [`answer`] says.
struct Peers {
    child: Channel,
    bridge: Arc<Bridge>,
    asked: Asked,
    _policies: tempfile::TempDir,
}

impl Peers {
    async fn new(rego: &str) -> Self {
        let inputs = [("x".to_owned(), source("docker-image://evil.example/input:1"))];
        Self::with(rego, inputs.into()).await
    }

    /// No policies of the image where `rego` is empty.
    async fn with(rego: &str, inputs: Inputs) -> Self {
        let policies = tempfile::tempdir().unwrap();
        if !rego.is_empty() {
            std::fs::write(policies.path().join("org.rego"), rego).unwrap();
        }
        let (asked, inputs) = (Asked::default(), Arc::new(inputs));
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(serve(theirs, {
            let asked = Arc::clone(&asked);
            move |request| answer(request, Arc::clone(&asked), Arc::clone(&inputs))
        }));
        let daemon = connect(ours).await;
        let keeper = Gatekeeper::new(
            Gateway::new(daemon.clone()),
            BuildOptions::from_env(std::iter::empty()).unwrap(),
            policies.path().to_owned(),
        );
        let bridge = Arc::new(Bridge::new(daemon, keeper));
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (output, input) = tokio::io::split(theirs);
        tokio::spawn(super::serve(Arc::clone(&bridge), output, input));
        Self { child: connect(ours).await, bridge, asked, _policies: policies }
    }

    async fn call<A: Message, B: Message + Default>(
        &self,
        method: &str,
        message: &A,
    ) -> Result<B, Status> {
        self.child.call(&format!("{SERVICE}{method}"), &HeaderMap::new(), message).await
    }

    /// The calls of a method that reached the daemon, but for those that only show something.
    fn reached(&self, method: &str) -> Vec<Bytes> {
        let asked = self.asked.lock().unwrap();
        let shown = |message: &Bytes| {
            let wire = gateway::ResolveSourceMetaRequest::decode(message.clone());
            wire.is_ok_and(|it| it.log_name.starts_with("[policy]"))
        };
        asked
            .iter()
            .filter(|(name, message)| {
                name == method && !(method == "ResolveSourceMeta" && shown(message))
            })
            .map(|(_, message)| message.clone())
            .collect()
    }
}

async fn connect(io: tokio::io::DuplexStream) -> Channel {
    let (input, output) = tokio::io::split(io);
    let (channel, connection) = Channel::connect(input, output).await.unwrap();
    tokio::spawn(connection);
    channel
}

async fn serve<F, R>(io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, answer: F)
where
    F: Fn(Request<Incoming>) -> R + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let response = answer(request);
        async move { Ok::<_, std::convert::Infallible>(response.await) }
    });
    let _ = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(rpc::MAX_HEADERS)
        // As a daemon, which lets no stream that it does not read hold up another.
        .initial_connection_window_size(rpc::CONNECTION_WINDOW)
        .serve_connection(TokioIo::new(io), service)
        .await;
}

/// Notes that a stream is over for the daemon.
struct Ended(Asked);

impl Drop for Ended {
    fn drop(&mut self) {
        self.0.lock().unwrap().push(("ended".to_owned(), Bytes::new()));
    }
}

/// The daemon: a tree for every solve, with a policy in it where a repository is solved; a digest for
/// every image that is not `broken`.
async fn answer(request: Request<Incoming>, asked: Asked, inputs: Arc<Inputs>) -> Response<Body> {
    let method = request.uri().path().strip_prefix(SERVICE).unwrap_or("?").to_owned();
    if request.headers().contains_key("x-stands") {
        // Neither read nor answered, until the other side gives up.
        asked.lock().unwrap().push(("stands".to_owned(), Bytes::new()));
        let _ended = Ended(Arc::clone(&asked));
        std::future::pending::<()>().await;
    }
    if method == "ExecProcess" {
        // Back as it comes, without waiting for the end of it.
        let ended = Ended(asked);
        return Response::builder()
            .header("content-type", "application/grpc")
            .header(
                "x-was",
                request.headers().get("x-is").cloned().unwrap_or(HeaderValue::from_static("")),
            )
            .body(rpc::through(request.into_body().map_frame(move |frame| {
                let _until_then = &ended;
                frame
            })))
            .unwrap();
    }
    let is = request.headers().get("x-is").cloned();
    let (message, _) = rpc::read_one(request.into_body()).await.unwrap();
    let message = message.unwrap_or_default();
    asked.lock().unwrap().push((method.clone(), message.clone()));
    let reply = match method.as_str() {
        "Solve" => gateway::SolveResponse {
            result: Some(gateway::Result {
                result: Some(gateway::result::Result::Ref(gateway::Ref {
                    id: String::from_utf8_lossy(&message).into_owned(),
                    def: None,
                })),
                ..Default::default()
            }),
            ..Default::default()
        }
        .encode_to_vec(),
        "ReadDir" => {
            let wire = gateway::ReadDirRequest::decode(message).unwrap();
            let there = wire.r#ref.contains("git://") && wire.include_pattern == "Dockerfile.rego";
            let entry = fsutil::Stat { path: wire.include_pattern, ..Default::default() };
            let entries = if there { vec![entry] } else { Vec::new() };
            gateway::ReadDirResponse { entries }.encode_to_vec()
        }
        "ReadFile" => gateway::ReadFileResponse { data: RULES.replace("ours", "the input").into() }
            .encode_to_vec(),
        "Return" => {
            let wire = gateway::ReturnRequest::decode(message).unwrap();
            let refused = wire.error.as_ref().is_some_and(|it| it.message == "not taken");
            if refused || (wire.error.is_none() && wire.result.is_none()) {
                return Status::invalid_argument("result is required").into_http();
            }
            Vec::new()
        }
        "ResolveSourceMeta" => {
            let wire = gateway::ResolveSourceMetaRequest::decode(message).unwrap();
            let identifier = wire.source.as_ref().map(|it| it.identifier.as_str());
            let identifier = identifier.unwrap_or_default();
            if identifier.contains("broken") {
                return Status::not_found("there is none").into_http();
            }
            let http =
                gateway::ResolveSourceHttpResponse { checksum: digest(), ..Default::default() };
            let http = identifier.starts_with("https://").then_some(http);
            let commit = gateway::ResolveSourceGitResponse {
                checksum: "c".repeat(40),
                ..Default::default()
            };
            let git = identifier.starts_with("git://").then_some(commit);
            gateway::ResolveSourceMetaResponse {
                source: wire.source,
                image: Some(gateway::ResolveSourceImageResponse {
                    digest: digest(),
                    config: "{}".into(),
                    ..Default::default()
                }),
                git,
                http,
            }
            .encode_to_vec()
        }
        "ResolveImageConfig" => {
            let wire = gateway::ResolveImageConfigRequest::decode(message).unwrap();
            let (digest, config) = (digest(), "{}".into());
            gateway::ResolveImageConfigResponse { digest, config, r#ref: wire.r#ref }
                .encode_to_vec()
        }
        "Inputs" => gateway::InputsResponse { definitions: (*inputs).clone() }.encode_to_vec(),
        "StatFile" => {
            let details = Bytes::from_static(b"details of the daemon");
            return Status::with_details(tonic::Code::Aborted, "as it is", details).into_http();
        }
        // Others send back what they got.
        _ => message.to_vec(),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let mut response = Response::builder().header("content-type", "application/grpc");
    if let Some(is) = is {
        trailers.insert("x-last", is.clone());
        response = response.header("x-was", is);
    }
    let body = rpc::one(&reply).with_trailers(async move { Some(Ok(trailers)) });
    response.body(rpc::through(body)).unwrap()
}

fn digest() -> String {
    format!("sha256:{}", "a".repeat(64))
}

fn source(identifier: &str) -> pb::Definition {
    let source = pb::SourceOp { identifier: identifier.into(), ..Default::default() };
    of(pb::op::Op::Source(source))
}

fn of(op: pb::op::Op) -> pb::Definition {
    let op = pb::Op { op: Some(op), ..Default::default() }.encode_to_vec();
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&op)));
    let inputs = vec![pb::Input { digest, index: 0 }];
    let last = pb::Op { inputs, ..Default::default() }.encode_to_vec();
    pb::Definition { def: vec![op.into(), last.into()], ..Default::default() }
}

/// Allows the client's directories, and images and files of one host.
const RULES: &str = r#"package docker
default allow := false
allow if input.local
allow if input.image.host == "r.example"
allow if input.http.host == "r.example"
deny_msg contains "ours says no" if not allow
decision := {"allow": allow, "deny_msg": deny_msg}
"#;

fn messages(status: &Status) -> String {
    format!("{} {}", status.message(), String::from_utf8_lossy(status.details()))
}

/// A newer daemon may have a method that loads something: a newer child is told that there is none.
#[tokio::test]
async fn methods_that_nobody_knows_are_none() {
    let peers = Peers::new(RULES).await;
    let solve = gateway::SolveRequest {
        definition: Some(source("docker-image://evil.example/a:1")),
        ..Default::default()
    };
    let health = "/grpc.health.v1.Health/Check".to_owned();
    for (path, wanted) in [
        (format!("{SERVICE}Load"), Some(tonic::Code::Unimplemented)),
        (format!("{SERVICE}Solve?x"), Some(tonic::Code::Unimplemented)),
        (format!("{SERVICE}Solve/"), Some(tonic::Code::Unimplemented)),
        (format!("{SERVICE}%53olve"), Some(tonic::Code::Unimplemented)),
        (format!("/x{SERVICE}Ping"), Some(tonic::Code::Unimplemented)),
        ("/moby.buildkit.v1.Control/Solve".to_owned(), Some(tonic::Code::Unimplemented)),
        ("/grpc.health.v1.Health/List".to_owned(), Some(tonic::Code::Unimplemented)),
        (health.clone(), None),
        (format!("{SERVICE}Ping"), None),
    ] {
        let before = peers.asked.lock().unwrap().len();
        let none = HeaderMap::new();
        let called: Result<gateway::SolveRequest, _> = peers.child.call(&path, &none, &solve).await;
        let refused = called.err().map(|status| status.code());
        assert_eq!(refused, wanted, "{path}");
        let reached = peers.asked.lock().unwrap().len() - before;
        assert_eq!(reached, usize::from(wanted.is_none()), "{path}");
    }
}

/// The status of an answer without a message is in its headers, and they are the end of it.
#[tokio::test]
async fn an_answer_of_headers_alone_stays_one() {
    let peers = Peers::new(RULES).await;
    let asked = gateway::ResolveSourceMetaRequest {
        source: Some(pb::SourceOp {
            identifier: "docker-image://r.example/broken:1".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let request = Request::post(format!("{SERVICE}ResolveSourceMeta"))
        .header("content-type", "application/grpc")
        .body(rpc::one(&asked.encode_to_vec()))
        .unwrap();
    let response = peers.child.forward(request).await.unwrap();
    assert_eq!(response.headers()["grpc-status"], "5");
    assert_eq!(response.headers()["grpc-message"], "there%20is%20none");
    assert!(hyper::body::Body::is_end_stream(response.body()));
}

/// A child may fail after it gave a result, so the daemon hears of it when it has not.
#[tokio::test]
async fn a_result_is_kept_and_an_error_is_not() {
    let result =
        gateway::ReturnRequest { result: Some(gateway::Result::default()), ..Default::default() };
    let error = |message: &str| gateway::ReturnRequest {
        error: Some(proto::rpc::Status { code: 2, message: message.into(), ..Default::default() }),
        ..Default::default()
    };
    async fn give(
        peers: &Peers,
        end: &gateway::ReturnRequest,
    ) -> Result<gateway::ReturnResponse, Status> {
        peers.call("Return", end).await
    }
    let peers = Peers::new(RULES).await;
    give(&peers, &result).await.unwrap();
    assert!(give(&peers, &result).await.is_err());
    assert_eq!(peers.reached("Return").len(), 0);
    let Given::Result(call) = peers.bridge.given() else { panic!("nothing is kept") };
    peers.bridge.give(*call).await.unwrap();
    assert_eq!(peers.reached("Return"), [result.encode_to_vec()]);
    // A result that the daemon does not take is none.
    give(&peers, &gateway::ReturnRequest::default()).await.unwrap();
    let Given::Result(call) = peers.bridge.given() else { panic!("nothing is kept") };
    let refused = peers.bridge.give(*call).await.unwrap_err();
    assert_eq!(refused.message(), "result is required");

    let peers = Peers::new(RULES).await;
    assert!(give(&peers, &error("not taken")).await.is_err());
    assert!(matches!(peers.bridge.given(), Given::Nothing));
    // An error outweighs the result before it, and no result makes up for it.
    give(&peers, &result).await.unwrap();
    give(&peers, &error("taken")).await.unwrap();
    assert!(give(&peers, &result).await.is_err());
    assert!(matches!(peers.bridge.given(), Given::Error));
    assert_eq!(peers.reached("Return").len(), 2);
}

async fn until(mut so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(std::time::Instant::now() < deadline, "not within 10 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
