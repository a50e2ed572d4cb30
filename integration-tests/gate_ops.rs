//! `buildgate serve` as operators run it: the program itself, a real daemon behind it, signals,
//! policies that change under it, and what it writes down and exports.

use std::fs::File;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use buildgate::rpc::Channel;
use buildgate::source::SourceOp;
use buildgate::wire::proto::control::{SolveRequest, SolveResponse};
use http::{HeaderMap, HeaderValue};

use crate::frontend_show::clients::Ended;
use crate::frontend_show::failures::Slow;
pub use crate::gate_process::Gate;
use crate::gate_process::{BUILDGATE, check, until};
pub use crate::peers::folder;
use crate::peers::{self, llb, need};

const ALLOW: &str = "package docker\ndecision := {\"allow\": true}\n";
const DENY: &str = "package docker\ndefault allow := false\nallow if input.local\n\
                    decision := {\"allow\": allow, \"deny_msg\": \"not today\"}\n";

#[test]
fn a_build_is_written_down_and_policies_are_exchanged_under_the_gate() {
    let world = need!(peers::world());
    let more = ["--decision-log", "log", "--metrics-listen", "127.0.0.1:0"];
    let gate = Gate::before(world, ALLOW, &more);
    let base = world.image("base:1");
    let dockerfile = format!("FROM {base}\n");

    let first = gate.build(&dockerfile);
    assert!(first.passed, "{}", first.said);
    let log = gate.read("log");
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let image = lines.iter().find(|line| line["kind"] == "image").unwrap();
    let source = image["source"].as_str().unwrap();
    assert!(source.starts_with(&format!("docker-image://{base}")), "{log}");
    for (key, wanted) in [("client", "uid:0"), ("policy_set", "default"), ("mode", "enforce")] {
        assert_eq!(image[key], wanted, "{log}");
    }
    assert_eq!(image["policy_revision"], 1);
    assert!(lines.iter().all(|line| line["build"] == image["build"]), "{log}");
    assert!(gate.http("/readyz").starts_with("HTTP/1.1 200 "));
    let metrics = gate.http("/metrics");
    assert!(metrics.contains("kind=\"image\""), "{metrics}");
    assert!(metrics.contains("buildgate_builds_in_flight 0\n"), "{metrics}");

    // What builds leave behind changes no policy.
    assert!(gate.http("/readyz").contains("revision 1,"), "{}", gate.http("/readyz"));
    assert!(!gate.log().contains("loaded anew"), "{}", gate.log());

    // Broken: the last good one holds, and it is said.
    gate.write("policy/p.rego", "package docker\nx {");
    until("the error", || gate.log().contains("POLICIES NOT LOADED").then_some(()));
    let ready = gate.http("/readyz");
    assert!(
        ready.starts_with("HTTP/1.1 200 ") && ready.contains("[-] policies not loaded"),
        "{ready}"
    );
    let still = gate.build(&dockerfile);
    assert!(still.passed, "{}", still.said);

    // Mended, to refuse; the log moved away and reopened.
    gate.write("policy/p.rego", DENY);
    until("revision 2", || gate.http("/readyz").contains("revision 2").then_some(()));
    std::fs::rename(gate.path("log"), gate.path("log.1")).unwrap();
    gate.signal("-HUP");
    until("a new log", || gate.path("log").exists().then_some(()));
    let denied = gate.build(&dockerfile);
    assert!(!denied.passed && denied.said.contains("not today"), "{}", denied.said);
    let log = gate.read("log");
    assert!(log.contains("\"action\":\"deny\"") && log.contains("not today"), "{log}");
    assert!(log.contains("\"policy_revision\":2"), "{log}");
    let metrics = gate.http("/metrics");
    let none = "buildgate_policy_reloads_total{result=\"failed\"} 0\n";
    assert!(!metrics.contains(none), "{metrics}");
    for line in [
        "buildgate_decisions_total{action=\"deny\",kind=\"image\"}",
        "buildgate_policy_reloads_total{result=\"changed\"} 1\n",
        "buildgate_policy_revision{set=\"default\"} 2\n",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
}

#[test]
fn nothing_is_allowed_that_cannot_be_written_down() {
    let world = need!(peers::world());
    let gate = Gate::before(world, ALLOW, &["--decision-log", "/dev/full"]);
    let refused = gate.build(&format!("FROM {}\n", world.image("unwritten:1")));
    assert!(!refused.passed, "{}", refused.said);
    for words in ["not allowed by policy: action DENY", "could not be written down"] {
        assert!(refused.said.contains(words), "{words}: {}", refused.said);
    }
    assert!(gate.log().contains("/dev/full cannot be written"), "{}", gate.log());
    assert_eq!(world.registry.accesses(&["/unwritten/"]), [""; 0]);
}

#[test]
fn a_build_that_has_begun_ends_before_the_gate_does() {
    let world = need!(peers::world());
    let mut gate = Gate::before(world, ALLOW, &["--decision-log", "-", "--drain", "25"]);
    let slow = Slow::start();
    let dockerfile = format!(
        "FROM {}\nUSER 0\nRUN [\"/bin/busybox\", \"wget\", \"-O\", \"/f\", \"{}\"]\n",
        world.image("base:1"),
        slow.server.url("/slow")
    );
    let mut building = gate.building(&dockerfile, "gate.sock");
    until("the build's command", || (!slow.server.asked().is_empty()).then_some(()));
    gate.signal("-TERM");
    until("the drain", || gate.log().contains("no more clients are taken").then_some(()));
    // Nobody comes in, and who is in goes on for as long as it takes.
    let late = gate.building("FROM scratch\n", "gate.sock").end();
    assert!(!late.passed && late.said.contains("gate.sock"), "{}", late.said);
    assert!(
        building.child.try_wait().unwrap().is_none() && gate.child.try_wait().unwrap().is_none()
    );
    slow.open();
    let built = building.end();
    assert!(built.passed, "{}", built.said);
    assert_eq!(gate.ended(), 0, "{}", gate.log());
    assert!(gate.log().contains("all builds have ended"), "{}", gate.log());
    // Standard output is the decision log's alone.
    for line in gate.read("stdout").lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "{line}");
    }
}

#[test]
fn listeners_and_clients_have_policies_and_methods_of_their_own() {
    let world = need!(peers::world());
    let dir = folder(&[("open/p.rego", ALLOW), ("shut/p.rego", DENY)]);
    let run = dir.path().display();
    let config = format!(
        "upstream = [{:?}]\n\
         [policy-sets]\nstaging = [\"open\"]\nproduction = [\"open\", \"shut\"]\n\
         [[listener]]\nlisten = \"unix://{run}/staging.sock\"\npolicy-set = \"staging\"\n\
         deny-methods = [\"Control/Prune\"]\n\
         [[listener]]\nlisten = \"unix://{run}/production.sock\"\npolicy-set = \"production\"\n\
         [[listener]]\nlisten = \"unix://{run}/other.sock\"\n\
         [[listener.client]]\nname = [\"uid:4000000\"]\npolicy-set = \"staging\"\n",
        world.buildkit.address()
    );
    std::fs::write(dir.path().join("gate.toml"), &config).unwrap();
    let gate = Gate::start(dir, &["--config", "gate.toml"], &[]);
    let dockerfile = format!("FROM {}\n", world.image("base:1"));
    for (socket, wanted) in [
        ("staging.sock", None),
        ("production.sock", Some("not today")),
        ("other.sock", Some("nothing is open to uid:0")),
    ] {
        let built = gate.building(&dockerfile, socket).end();
        assert_eq!(built.passed, wanted.is_none(), "{socket}: {}", built.said);
        assert!(built.said.contains(wanted.unwrap_or_default()), "{socket}: {}", built.said);
    }
    let pruned: Ended = gate.buildctl("staging.sock").args(["prune"]).output().unwrap().into();
    let why = "moby.buildkit.v1.Control/Prune is not open";
    assert!(!pruned.passed && pruned.said.contains(why), "{}", pruned.said);
}

#[test]
fn check_says_whether_all_is_good() {
    let least = "listen = [\"unix:///run/g.sock\"]\nupstream = [\"unix:///run/b.sock\"]\n";
    let dir = folder(&[
        ("good.toml", &format!("{least}policy = [\"p\"]\n")),
        ("typo.toml", &format!("{least}polices = [\"p\"]\n")),
        ("gone.toml", &format!("{least}policy = [\"q\"]\n")),
        ("broken.toml", &format!("{least}policy = [\"bad.rego\"]\n")),
        ("p/p.rego", ALLOW),
        ("bad.rego", "package docker\nx {\n"),
    ]);
    std::os::unix::fs::symlink("p/later", dir.path().join("link")).unwrap();
    for (args, code, wanted) in [
        (&["--config", "good.toml"][..], 0, "policies `default`: p (sha256:"),
        (&["--config", "typo.toml"], 2, "error: typo.toml:3: unknown field `polices`"),
        (&["--config", "gone.toml"], 2, "error: policy set `default`: policy q cannot be read"),
        (&["--config", "broken.toml"], 2, "bad.rego:2:3"),
        (&["--config", "none.toml"], 2, "error: none.toml: No such file"),
        (&["--config", "good.toml", "--policy", "p"], 2, "say it in one place"),
        (&["--config", "good.toml", "--mode", "audit"], 0, "all good"),
        (&["--config", "good.toml", "--mode", "off"], 2, "error: --mode: `off` is none of"),
        (&["--policy", "p"], 2, "error: there is nowhere for clients to come in"),
        (
            &["--config", "good.toml", "--verifier-listen", "unix:///v"],
            0,
            "alone at unix:///v, judged",
        ),
        (&["--config", "good.toml", "--decision-log", "log"], 0, "all good"),
        (
            &["--config", "good.toml", "--signature-registries=docker.io", "--ca-file=none.pem"],
            2,
            "error: signatures cannot be looked for: cannot read the CA file none.pem",
        ),
        (
            &["--config", "good.toml", "--decision-log", "p/log"],
            2,
            "error: the decision log p/log lies in",
        ),
        (
            &["--config", "good.toml", "--decision-log", "link"],
            2,
            "in the folder of policy p, and all",
        ),
    ] {
        let output = check(dir.path(), args);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8(said).unwrap();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
        assert!(said.contains(wanted), "{args:?}: {said}");
    }
}

#[test]
fn nothing_is_written_where_it_would_change_a_policy() {
    let dir = folder(&[("p/p.rego", ALLOW)]);
    let run = |args: &[&str], stderr: Stdio| {
        let mut command = Command::new(BUILDGATE);
        command.args(["serve", "--listen=unix:///nowhere/g", "--upstream=unix:///nowhere/b"]);
        command.args(["--policy=p/p.rego"]).args(args).current_dir(dir.path());
        let output = command.stdin(Stdio::null()).stderr(stderr).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        String::from_utf8(output.stderr).unwrap()
    };
    let wanted = "error: the decision log p/log lies in the folder of policy p/p.rego, and all that \
                  lies there belongs to the policy";
    let said = run(&["--decision-log=p/log"], Stdio::piped());
    assert!(said.starts_with(wanted), "{said}");
    assert!(!dir.path().join("p/log").exists(), "it is refused before it is made");
    run(&[], File::create(dir.path().join("p/said")).unwrap().into());
    let said = std::fs::read_to_string(dir.path().join("p/said")).unwrap();
    assert!(said.starts_with("error: standard error lies in the folder of policy"), "{said}");
}
/// A collector that keeps what it is sent.
async fn collector() -> (String, Arc<Mutex<Vec<u8>>>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let kept = Arc::new(Mutex::new(Vec::new()));
    let keep = Arc::clone(&kept);
    tokio::spawn(async move {
        loop {
            let (io, _) = listener.accept().await.unwrap();
            let keep = Arc::clone(&keep);
            let service = hyper::service::service_fn(move |request: http::Request<_>| {
                let keep = Arc::clone(&keep);
                async move {
                    assert_eq!(
                        request.uri().path(),
                        "/opentelemetry.proto.collector.trace.v1.TraceService/Export"
                    );
                    let (message, _) = buildgate::rpc::read_one(request.into_body()).await.unwrap();
                    keep.lock().unwrap().extend_from_slice(&message.unwrap_or_default());
                    Ok::<_, std::convert::Infallible>(buildgate::rpc::answered(b""))
                }
            });
            let http =
                hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            tokio::spawn(http.serve_connection(hyper_util::rt::TokioIo::new(io), service));
        }
    });
    (endpoint, kept)
}

#[test]
fn traces_continue_those_of_the_client() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PARENT: &str = "00f067aa0ba902b7";
    let world = need!(peers::world());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (endpoint, kept) = runtime.block_on(collector());
    let dir = folder(&[("policy/p.rego", ALLOW)]);
    let socket = dir.path().join("gate.sock");
    let listen = format!("unix://{}", socket.display());
    let mut gate = Gate::start(
        dir,
        &["--listen", &listen, "--upstream", world.buildkit.address(), "--policy", "policy"],
        &[("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint), ("OTEL_SERVICE_NAME", "the-gate")],
    );
    runtime.block_on(async {
        let io = tokio::net::UnixStream::connect(&socket).await.unwrap();
        let (channel, connection) = Channel::over(io).await.unwrap();
        tokio::spawn(connection);
        let parent = HeaderValue::try_from(format!("00-{TRACE}-{PARENT}-01")).unwrap();
        let metadata = HeaderMap::from_iter([("traceparent".parse().unwrap(), parent)]);
        let base = SourceOp::new(format!("docker-image://{}", world.image("base:1")));
        let solve = SolveRequest {
            r#ref: "traced".to_owned(),
            definition: Some(llb(&[base])),
            ..SolveRequest::default()
        };
        let _: SolveResponse =
            channel.call("/moby.buildkit.v1.Control/Solve", &metadata, &solve).await.unwrap();
    });
    gate.signal("-TERM");
    assert_eq!(gate.ended(), 0, "{}", gate.log());
    let kept = kept.lock().unwrap();
    let has = |bytes: &[u8]| kept.windows(bytes.len()).filter(|it| *it == bytes).count();
    assert!(has(&hex::decode(TRACE).unwrap()) >= 2, "the call and its decisions are of the trace");
    assert_eq!(has(&hex::decode(PARENT).unwrap()), 1, "the call is the client's span's child");
    for name in ["/moby.buildkit.v1.Control/Solve", "decision", "the-gate", "base:1"] {
        assert!(has(name.as_bytes()) > 0, "{name} is missing");
    }
}
