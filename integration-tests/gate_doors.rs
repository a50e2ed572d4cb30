//! Doors of the gate besides the one for builds, what clients may call and ask for, and policies that
//! change under a build: each with the program itself before a real daemon.

use buildgate::rpc::Channel;
use buildgate::session::CHECK_POLICY;
use buildgate::source::SourceOp;
use buildgate::wire::proto::control::SolveRequest;
use buildgate::wire::proto::gateway::{self, ResolveSourceHttpResponse, ResolveSourceMetaResponse};
use buildgate::wire::proto::health::{HealthCheckRequest, HealthCheckResponse};
use buildgate::wire::proto::policysession::check_policy_response::Result as Answered;
use buildgate::wire::proto::policysession::{CheckPolicyRequest, CheckPolicyResponse};
use http::HeaderMap;
use tokio::net::UnixStream;
use tonic::{Code, Status};

use crate::frontend_show::clients::Ended;
use crate::gate_enforce::{of, only, reasons, unique};
use crate::gate_process::{Gate, until};
use crate::gate_show::clients::{BRIDGE, of_build, raw, solve, user};
use crate::peers::{self, HttpServer, llb, need};

const ALLOW: &str = "package docker\ndecision := {\"allow\": true}\n";
const CHECKSUM: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// A question of a daemon, and what it has resolved where it was asked to.
fn question(source: &str, checksum: Option<&str>) -> CheckPolicyRequest {
    let http = checksum.map(|checksum| ResolveSourceHttpResponse {
        checksum: checksum.to_owned(),
        ..ResolveSourceHttpResponse::default()
    });
    let source = ResolveSourceMetaResponse {
        source: Some(SourceOp::new(source).into()),
        http,
        ..ResolveSourceMetaResponse::default()
    };
    CheckPolicyRequest { source: Some(source), ..CheckPolicyRequest::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_verifier_alone_answers_other_proxies() {
    let world = need!(peers::world());
    let rego = only(&format!(
        "input.http.checksum == {CHECKSUM:?}\nallow if startswith(input.image.fullRepo, \"docker.io/ours/\")"
    ));
    // Beside the folder of policies, which is relative.
    let socket = tempfile::tempdir().unwrap();
    let path = socket.path().join("verifier.sock");
    let at = format!("--verifier-listen=unix://{}", path.display());
    let mut gate = Gate::before(world, &rego, &[&at, "--decision-log=log"]);
    let says = || gate.log().contains("PolicyVerifier alone at unix://").then_some(());
    // The gate's own listener is there first.
    until("the verifier", || says().filter(|()| path.exists()));
    let (channel, connection) =
        Channel::over(UnixStream::connect(&path).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let none = HeaderMap::new();
    let health: Result<HealthCheckResponse, Status> =
        channel.call("/grpc.health.v1.Health/Check", &none, &HealthCheckRequest::default()).await;
    assert_eq!(health.unwrap().status, 1);
    let url = "https://example.com/tool";
    for (source, checksum, wanted) in [
        ("docker-image://docker.io/ours/app:1", None, "action 0"),
        ("docker-image://docker.io/theirs/app:1", None, "action 1: ours says no"),
        ("local://context", None, "action 0"),
        (url, Some(CHECKSUM), "nothing was asked about"),
        (url, None, "asks for https://example.com/tool"),
        (url, Some(CHECKSUM), "action 2"),
        (url, None, "asks for https://example.com/tool"),
        (url, Some("sha256:0"), "action 1: ours says no"),
    ] {
        let answer: Result<CheckPolicyResponse, Status> =
            channel.call(CHECK_POLICY, &none, &question(source, checksum)).await;
        let got = match answer.map(|it| it.result) {
            Ok(Some(Answered::Decision(decision))) => {
                let why = decision.deny_messages.iter().map(|it| format!(": {}", it.message));
                format!("action {}{}", decision.action, why.collect::<String>())
            }
            Ok(Some(Answered::Request(request))) => {
                format!("asks for {}", request.source.unwrap().identifier)
            }
            Ok(None) => "nothing".to_owned(),
            Err(status) => status.message().to_owned(),
        };
        assert!(got.contains(wanted), "{source} {checksum:?}: {got}");
    }
    let other: Result<CheckPolicyResponse, Status> =
        channel.call("/moby.buildkit.v1.Control/Solve", &none, &question(url, None)).await;
    assert_eq!(other.unwrap_err().code(), Code::Unimplemented);
    let log = gate.read("log");
    assert_eq!(log.lines().count(), 5, "a line for each decision:\n{log}");
    assert!(log.lines().all(|line| line.contains("\"client\":\"verifier\"")), "{log}");
    gate.signal("-TERM");
    assert_eq!(gate.ended(), 0, "{}", gate.log());
    assert!(!path.exists());
}

#[test]
fn each_entitlement_may_be_refused_and_no_other_is() {
    let world = need!(peers::world());
    let context = peers::folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let build = |gate: &Gate, entitlement: &str| -> Ended {
        let mut build = gate.buildctl("gate.sock");
        build.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
        build.args(["--allow", entitlement]);
        for name in ["context", "dockerfile"] {
            build.arg(format!("--local={name}={}", context.path().display()));
        }
        build.output().unwrap().into()
    };
    let all = ["security.insecure", "network.host", "device"];
    for denied in all {
        let gate = Gate::before(world, ALLOW, &["--deny-entitlement", denied]);
        for asked in ["security.insecure", "network.host", "device", "device=vendor.com/gpu=0"] {
            let ended = build(&gate, asked);
            let ours = format!("buildgate: the entitlement {asked} is not allowed here");
            let is_ours = asked.split('=').next() == Some(denied);
            assert_eq!(ended.said.contains(&ours), is_ours, "{denied}: {asked}: {}", ended.said);
            assert!(!is_ours || !ended.passed, "{denied}: {asked}: {}", ended.said);
        }
    }
}

#[test]
fn who_may_only_look_looks_and_does_nothing_else() {
    let world = need!(peers::world());
    let gate = Gate::before(world, ALLOW, &["--methods", "read-only"]);
    let run =
        |args: &[&str]| -> Ended { gate.buildctl("gate.sock").args(args).output().unwrap().into() };
    for args in [&["du"][..], &["debug", "workers"], &["debug", "info"], &["debug", "histories"]] {
        run(args).passed(&args.join(" "));
    }
    let refused = |what: &str, method: &str, ended: Ended| {
        let words = format!("moby.buildkit.v1.Control/{method} is not open to anyone at unix://");
        assert!(!ended.passed && ended.said.contains(&words), "{what}: {}", ended.said);
    };
    refused("prune", "Prune", run(&["prune", "--keep-duration=9000h"]));
    let sources = [SourceOp::new(format!("docker-image://{}", world.image("base:1")))];
    let ended = raw(&gate, &llb(&sources), &[]);
    let words = " is not open to anyone at unix://";
    assert!(!ended.passed && ended.said.contains(words), "{}", ended.said);
    let histories = ["prune-histories"];
    let ended = run(&histories);
    assert!(!ended.passed && ended.said.contains(words), "{}", ended.said);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_ends_by_the_policies_that_it_began_with() {
    let world = need!(peers::world());
    let files = HttpServer::files(["/one", "/two", "/three"].map(|path| (path, b"x".to_vec())));
    let rego = only("startswith(input.http.checksum, \"sha256:\")");
    let gate = Gate::before(world, &rego, &["--decision-log=log"]);
    let user = user(&gate).await;
    let reference = unique();
    let open = SolveRequest { r#ref: reference.clone(), ..SolveRequest::default() };
    let solving = user.clone();
    let running = tokio::spawn(async move { solve(&solving, open).await });
    let of_build = of_build(&reference);
    let loads = |path: &str| {
        let definition = Some(llb(&[SourceOp::new(files.url(path))]));
        let request = gateway::SolveRequest {
            definition,
            evaluate: true,
            ..gateway::SolveRequest::default()
        };
        let (user, of_build) = (user.clone(), of_build.clone());
        async move {
            let answer: Result<gateway::SolveResponse, Status> =
                user.call(&format!("{BRIDGE}Solve"), &of_build, &request).await;
            answer.map(|_| ())
        }
    };
    loads("/one").await.unwrap();
    gate.write("policy/p.rego", &only("false"));
    until("revision 2", || gate.log().contains("now revision 2").then_some(()));
    // Asked for the first time, in a build that had begun.
    loads("/two").await.unwrap();
    let status = solve(&user, of(SourceOp::new(files.url("/three")))).await.unwrap_err();
    assert!(reasons(&status).contains("ours says no"), "{status:?}");
    running.abort();
    let log = gate.read("log");
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    for (path, revision) in [("/one", 1), ("/two", 1), ("/three", 2)] {
        let mut of_path = lines.iter().filter(|it| it["source"].as_str().unwrap().ends_with(path));
        assert!(of_path.clone().count() > 0, "{path}: {log}");
        assert!(of_path.all(|it| it["policy_revision"] == revision), "{path}: {log}");
    }
    assert!(!files.asked().iter().any(|it| it.path == "/three"));
}
