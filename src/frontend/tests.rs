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

use super::bridge::Bridge;
use super::options::BuildOptions;
use super::verdict::Gatekeeper;
use crate::gateway::{Gateway, SERVICE};
use crate::rpc::{self, Body, Channel};
use crate::wire::proto::{gateway, pb};

/// What the daemon was asked, call by call.
type Asked = Arc<Mutex<Vec<(String, Bytes)>>>;

/// A child's connection to a bridge whose daemon answers as [`answer`] says.
struct Peers {
    child: Channel,
    asked: Asked,
    _policies: tempfile::TempDir,
}

impl Peers {
    async fn new(rego: &str) -> Self {
        let policies = tempfile::tempdir().unwrap();
        std::fs::write(policies.path().join("org.rego"), rego).unwrap();
        let asked = Asked::default();
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(serve(theirs, {
            let asked = Arc::clone(&asked);
            move |request| answer(request, Arc::clone(&asked))
        }));
        let daemon = connect(ours).await;
        let keeper = Gatekeeper::new(
            Gateway::new(daemon.clone()),
            BuildOptions::from_env(std::iter::empty()),
            policies.path().to_owned(),
        );
        let bridge = Arc::new(Bridge::new(daemon, keeper));
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(serve(theirs, move |request| Arc::clone(&bridge).serve(request)));
        Self { child: connect(ours).await, asked, _policies: policies }
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

/// The daemon: an empty tree for every solve, no files, a digest for every image.
async fn answer(request: Request<Incoming>, asked: Asked) -> Response<Body> {
    let method = request.uri().path().strip_prefix(SERVICE).unwrap_or("?").to_owned();
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
                    id: "r".into(),
                    def: None,
                })),
                ..Default::default()
            }),
            ..Default::default()
        }
        .encode_to_vec(),
        "ResolveSourceMeta" => {
            let wire = gateway::ResolveSourceMetaRequest::decode(message).unwrap();
            gateway::ResolveSourceMetaResponse {
                source: wire.source,
                image: Some(gateway::ResolveSourceImageResponse {
                    digest: digest(),
                    config: "{}".into(),
                    ..Default::default()
                }),
                ..Default::default()
            }
            .encode_to_vec()
        }
        "ResolveImageConfig" => {
            let wire = gateway::ResolveImageConfigRequest::decode(message).unwrap();
            let (digest, config) = (digest(), "{}".into());
            gateway::ResolveImageConfigResponse { digest, config, r#ref: wire.r#ref }
                .encode_to_vec()
        }
        "Inputs" => gateway::InputsResponse { definitions: inputs() }.encode_to_vec(),
        "Fails" => {
            let details = Bytes::from_static(b"details of the daemon");
            return Status::with_details(tonic::Code::Aborted, "as it is", details).into_http();
        }
        // Unknown methods send back what they got.
        "New" => message.to_vec(),
        _ => Vec::new(),
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

fn inputs() -> BTreeMap<String, pb::Definition> {
    [("x".to_owned(), source("docker-image://evil.example/input:1"))].into()
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
    let given = gateway::SolveRequest { frontend_inputs: inputs(), ..Default::default() };
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
    // Larger than what gRPC allows by default, and of a method that nobody knows yet.
    let large = gateway::ReadFileResponse { data: vec![7; 9 << 20].into() };
    let back: gateway::ReadFileResponse = peers.call("New", &large).await.unwrap();
    assert_eq!(back, large);
    let refused = peers.call::<_, gateway::PongResponse>("Fails", &large).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (tonic::Code::Aborted, "as it is"));
    assert_eq!(refused.details(), b"details of the daemon");
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
    let heard = async {
        while peers.reached("ended").is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), heard).await.unwrap();
}
