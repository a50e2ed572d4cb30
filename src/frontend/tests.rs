//! The bridge between a child that asks anything and a daemon that notes what it is asked.

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
    let body = rpc::one(&reply).with_trailers(async move { Some(Ok(trailers)) });
    Response::builder().header("content-type", "application/grpc").body(rpc::through(body)).unwrap()
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

#[tokio::test]
async fn what_would_load_unjudged_is_refused() {
    let peers = Peers::new(RULES).await;
    let solve =
        |definition| gateway::SolveRequest { definition: Some(definition), ..Default::default() };
    let nested = gateway::SolveRequest {
        frontend: "gateway.v0".into(),
        frontend_opt: [("source".to_owned(), "r.example/other:1".to_owned())].into(),
        ..Default::default()
    };
    let build = pb::BuildOp {
        def: Some(source("docker-image://evil.example/built:1")),
        ..Default::default()
    };
    let cache = |kind: &str, name: &str, value: &str| gateway::SolveRequest {
        cache_imports: vec![gateway::CacheOptionsEntry {
            r#type: kind.into(),
            attrs: [(name.to_owned(), value.to_owned())].into(),
        }],
        ..Default::default()
    };
    let own = gateway::SolveRequest {
        source_policies: vec![Default::default()],
        ..solve(source("docker-image://r.example/a:1"))
    };
    let given = gateway::SolveRequest {
        frontend_inputs: [("x".to_owned(), source("docker-image://evil.example/input:1"))].into(),
        ..Default::default()
    };
    let blob = format!("docker-image+blob://evil.example/a@{}", digest());
    for (what, request, wanted) in [
        ("image", solve(source("docker-image://evil.example/a:1")), "ours says no"),
        ("file", solve(source("https://evil.example/f")), "ours says no"),
        ("layout", solve(source(&format!("oci-layout://x@{}", digest()))), "ours says no"),
        ("blob", solve(source(&blob)), "ours says no"),
        ("nothing known", solve(source("npm://left-pad")), "npm"),
        ("frontend", nested, "would run inside this one"),
        ("build", solve(of(pb::op::Op::Build(build))), "out of buildgate's sight"),
        ("own rules", own, "static source policies of its own"),
        ("inputs", given, "ours says no"),
        ("cache", cache("registry", "ref", "evil.example/c:1"), "ours says no"),
        ("cache of a cloud", cache("s3", "bucket", "b"), "no rule can judge a cache of this type"),
    ] {
        let before = peers.reached("Solve").len();
        let refused = peers.call::<_, gateway::SolveResponse>("Solve", &request).await.unwrap_err();
        assert!(messages(&refused).contains(wanted), "{what}: {}", messages(&refused));
        let reached = peers.reached("Solve");
        let policies = reached[before..].iter().all(|it| {
            let wire = gateway::SolveRequest::decode(it.clone()).unwrap();
            assert_eq!(wire.source_policies.len(), 1, "nothing else may come of it");
            let text = String::from_utf8_lossy(&wire.definition.unwrap().def[0]).into_owned();
            text.contains("local://dockerfile")
        });
        assert!(policies, "{what}: the daemon was asked");
    }
    let inputs = gateway::InputsRequest::default();
    let refused = peers.call::<_, gateway::InputsResponse>("Inputs", &inputs).await.unwrap_err();
    assert!(messages(&refused).contains("ours says no"), "{}", messages(&refused));
}

#[tokio::test]
async fn what_is_passed_on_may_load_only_what_was_judged() {
    let peers = Peers::new(RULES).await;
    let request = gateway::SolveRequest {
        definition: Some(source("docker-image://r.example/a:1")),
        ..Default::default()
    };
    peers.call::<_, gateway::SolveResponse>("Solve", &request).await.unwrap();
    let last = peers.reached("Solve").pop().unwrap();
    let last = gateway::SolveRequest::decode(last).unwrap();
    assert_eq!(last.definition, request.definition);
    let [guard] = last.source_policies.as_slice() else { panic!("{:?}", last.source_policies) };
    assert_eq!(guard.rules[0].action(), crate::wire::proto::sourcepolicy::PolicyAction::Deny);
}

#[tokio::test]
async fn configs_are_judged_however_they_are_asked_for() {
    let rules = format!("{RULES}\nallow if pin_image(input.image, \"{}\")\n", digest());
    let peers = Peers::new(&rules.replace("input.image.host == \"r.example\"", "false")).await;
    let ask = |name: &str| gateway::ResolveImageConfigRequest {
        r#ref: name.into(),
        ..Default::default()
    };
    let answered: gateway::ResolveImageConfigResponse =
        peers.call("ResolveImageConfig", &ask("r.example/a:1")).await.unwrap();
    assert_eq!(answered.r#ref, format!("r.example/a:1@{}", digest()));
    let asked = gateway::ResolveSourceMetaRequest {
        source: Some(pb::SourceOp {
            identifier: "docker-image://r.example/a:1".into(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let answered: gateway::ResolveSourceMetaResponse =
        peers.call("ResolveSourceMeta", &asked).await.unwrap();
    let pinned = format!("docker-image://r.example/a:1@{}", digest());
    assert_eq!(answered.source.unwrap().identifier, pinned);

    let peers = Peers::new(RULES).await;
    for layout in [0, 1, 2] {
        let name = format!("evil.example/a@{}", digest());
        let request = gateway::ResolveImageConfigRequest { resolver_type: layout, ..ask(&name) };
        let refused = peers
            .call::<_, gateway::ResolveImageConfigResponse>("ResolveImageConfig", &request)
            .await
            .unwrap_err();
        let wanted = if layout == 2 { "something new" } else { "ours says no" };
        assert!(messages(&refused).contains(wanted), "{}", messages(&refused));
    }
    assert_eq!(peers.reached("ResolveImageConfig").len(), 0);
}

#[tokio::test]
async fn other_calls_go_through_whole() {
    let peers = Peers::new(RULES).await;
    // Larger than what gRPC allows by default.
    let large = gateway::ReadFileResponse { data: vec![7; 9 << 20].into() };
    let back: gateway::ReadFileResponse = peers.call("ReadFileContainer", &large).await.unwrap();
    assert_eq!(back, large);
    let refused = peers.call::<_, gateway::PongResponse>("StatFile", &large).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (tonic::Code::Aborted, "as it is"));
    assert_eq!(refused.details(), b"details of the daemon");
    // So is one that is looked into.
    let mut definition = source("docker-image://r.example/a:1");
    definition.metadata.insert("x".repeat(9 << 20), pb::OpMetadata::default());
    let request = gateway::SolveRequest { definition: Some(definition), ..Default::default() };
    let solved = peers.call::<_, gateway::SolveResponse>("Solve", &request).await;
    assert!(solved.is_ok(), "{solved:?}");
    assert!(peers.reached("Solve").pop().unwrap().len() > 9 << 20);
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

/// The child takes the Dockerfile from an input of this name, and its policy lies beside it.
#[tokio::test]
async fn the_policy_in_an_input_is_read() {
    let commit = "c".repeat(40);
    let dockerfile = |host: &str| -> Inputs {
        let source = pb::SourceOp {
            identifier: format!("git://{host}/a.git#main"),
            attrs: [("git.checksum".to_owned(), commit.clone())].into(),
        };
        [("dockerfile".to_owned(), of(pb::op::Op::Source(source)))].into()
    };
    let org =
        format!("{RULES}\nallow if input.git.host == \"r.example\"\n").replace("ours", "the org");
    let wide = format!("{org}allow if input.image\n");
    for (rego, host, name, wanted) in [
        (org.as_str(), "r.example", "evil.example/a:1", "the org says no"),
        // What the org allows, the input's own policy denies.
        (&wide, "r.example", "evil.example/a:1", "the input says no"),
        (&org, "r.example", "r.example/a:1", ""),
        (&org, "evil.example", "r.example/a:1", "the org says no"),
        ("", "r.example", "r.example/a:1", "would be fetched before any policy is known"),
    ] {
        let peers = Peers::with(rego, dockerfile(host)).await;
        let request = gateway::SolveRequest {
            definition: Some(source(&format!("docker-image://{name}"))),
            ..Default::default()
        };
        let solved = peers.call::<_, gateway::SolveResponse>("Solve", &request).await;
        let said = solved.err().map(|status| messages(&status)).unwrap_or_default();
        assert_eq!(said.is_empty(), wanted.is_empty(), "{host} {name}: {said}");
        assert!(said.contains(wanted), "{host} {name}: {said}");
        let reached = peers.reached("Solve");
        let git = reached.iter().filter(|it| String::from_utf8_lossy(it).contains("git://"));
        let fetched = host == "r.example" && !rego.is_empty();
        assert_eq!(git.clone().count(), usize::from(fetched), "{host} {name}");
        for solve in git {
            assert!(String::from_utf8_lossy(solve).contains("git.skipsubmodules"));
        }
    }
}

/// A stream in both directions, each message before the next; and a child that goes away.
#[tokio::test]
async fn streams_pass_in_both_directions() {
    let peers = Peers::new(RULES).await;
    let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, rpc::BoxError>>(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let data = receiver.recv().await?;
        Some((data.map(Frame::data), receiver))
    });
    let request = Request::post(format!("{SERVICE}ExecProcess"))
        .header("content-type", "application/grpc")
        .header("x-is", "kept")
        .body(StreamBody::new(frames).boxed_unsync())
        .unwrap();
    let response = peers.child.forward(request).await.unwrap();
    assert_eq!(response.headers().get("x-was").unwrap(), "kept");
    let mut body = response.into_body();
    for round in 0..4_u8 {
        sender.send(Ok(Bytes::from(vec![round; 70_000]))).await.unwrap();
        let mut got = 0;
        while got < 70_000 {
            let frame = tokio::time::timeout(Duration::from_secs(5), body.frame());
            let data = frame.await.unwrap().unwrap().unwrap().into_data().unwrap();
            assert!(data.iter().all(|byte| *byte == round));
            got += data.len();
        }
    }
    assert!(peers.reached("ended").is_empty());
    // The daemon, too, hears that the child has given up.
    sender.send(Err("given up".into())).await.unwrap();
    until(|| !peers.reached("ended").is_empty()).await;
}

/// What a rule has read of a source, its content, is what is loaded, however often and in whatever
/// manner it is asked for; and it is decided once.
#[tokio::test]
async fn what_was_read_is_pinned_in_the_llb() {
    let commit = "c".repeat(40);
    let rules = format!(
        "{RULES}allow if input.http.checksum == \"{}\"\nallow if input.git.checksum == \"{commit}\"\n",
        digest()
    );
    for (identifier, name, value, manner) in [
        ("https://evil.example/f", "http.checksum", digest(), ("http.perm", "493")),
        (
            "git://evil.example/a.git#main",
            "git.checksum",
            commit.clone(),
            ("git.keepgitdir", "true"),
        ),
    ] {
        let peers = Peers::new(&rules).await;
        let skip = identifier.starts_with("git").then_some(("git.skipsubmodules", "true"));
        for manner in [None, Some(manner)] {
            let attrs = manner.into_iter().chain(skip).map(|(n, v)| (n.to_owned(), v.to_owned()));
            let asked = pb::SourceOp { identifier: identifier.into(), attrs: attrs.collect() };
            let request = gateway::SolveRequest {
                definition: Some(of(pb::op::Op::Source(asked.clone()))),
                ..Default::default()
            };
            peers.call::<_, gateway::SolveResponse>("Solve", &request).await.unwrap();
            let solved =
                gateway::SolveRequest::decode(peers.reached("Solve").pop().unwrap()).unwrap();
            let loaded = pb::Op::decode(solved.definition.unwrap().def[0].clone()).unwrap();
            let Some(pb::op::Op::Source(loaded)) = loaded.op else { panic!("{loaded:?}") };
            let mut wanted = asked;
            wanted.attrs.insert(name.into(), value.clone());
            assert_eq!(loaded, wanted);
        }
        let asked = peers.asked.lock().unwrap();
        let of_it = asked.iter().filter(|(method, message)| {
            let wire = gateway::ResolveSourceMetaRequest::decode(message.clone());
            method == "ResolveSourceMeta"
                && wire.unwrap().source.is_some_and(|it| it.identifier == identifier)
        });
        assert_eq!(of_it.count(), 1, "{identifier}");
    }
}

/// A stream that the daemon does not read fills up and holds its sender, and nobody else.
#[tokio::test]
async fn a_stream_that_is_not_read_holds_its_sender_and_no_other_call() {
    const BLOCK: usize = 1 << 16;
    let peers = Peers::new(RULES).await;
    for round in 0..3 {
        let (sender, receiver) = tokio::sync::mpsc::channel::<Result<Bytes, rpc::BoxError>>(1);
        let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
            let data = receiver.recv().await?;
            Some((data.map(Frame::data), receiver))
        });
        let request = Request::post(format!("{SERVICE}ExecProcess"))
            .header("content-type", "application/grpc")
            .header("x-stands", "yes")
            .body(StreamBody::new(frames).boxed_unsync())
            .unwrap();
        let child = peers.child.clone();
        let call = tokio::spawn(async move { child.forward(request).await.map(drop) });
        let mut sent = 0;
        let block = || sender.send(Ok(Bytes::from(vec![0; BLOCK])));
        while let Ok(taken) = tokio::time::timeout(Duration::from_millis(500), block()).await {
            taken.unwrap();
            sent += BLOCK;
            // A window and a buffer on each of the two connections, and what is under way.
            assert!(sent < 6 * rpc::WINDOW as usize, "nothing holds the sender");
        }
        assert!(sent >= BLOCK, "{sent}");
        let request = gateway::PingRequest::default();
        let ping = peers.call::<_, gateway::PongResponse>("Ping", &request);
        tokio::time::timeout(Duration::from_secs(5), ping).await.unwrap().unwrap();
        // The last one is given up; the others stand.
        if round == 2 {
            assert_eq!(peers.reached("ended").len(), 0);
            call.abort();
            until(|| peers.reached("ended").len() == 1).await;
        } else {
            std::mem::forget(sender);
        }
    }
}

/// A child whose build is refused gives up all its calls at once.
#[tokio::test]
async fn calls_that_are_given_up_end_at_the_daemon() {
    const CALLS: usize = 200;
    let peers = Peers::new(RULES).await;
    let calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let request = Request::post(format!("{SERVICE}Evaluate"))
                .header("content-type", "application/grpc")
                .header("x-stands", "yes")
                .body(rpc::one(&[]))
                .unwrap();
            let child = peers.child.clone();
            tokio::spawn(async move { child.forward(request).await.map(drop) })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(peers.reached("ended").len(), 0);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    until(|| peers.reached("ended").len() == CALLS).await;
    peers.call::<_, gateway::PongResponse>("Ping", &gateway::PingRequest::default()).await.unwrap();
}

async fn until(mut so: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(std::time::Instant::now() < deadline, "not within 10 s");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
