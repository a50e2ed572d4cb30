//! What goes wrong around a decision: the gate dies, its session is dropped, the daemon goes away, a
//! policy comes to nothing, the log is full. Nothing is loaded without a decision, and each says what
//! happened in words of its own.

use std::sync::Arc;
use std::time::{Duration, Instant};

use buildgate::rpc::Channel;
use buildgate::session::{PolicySession, SessionId, Verifier, Verifying};
use buildgate::source::SourceOp;
use buildgate::wire::proto::control::SolveRequest;
use buildgate::wire::proto::pb;
use buildgate::wire::proto::policysession::CheckPolicyRequest;
use tokio::net::UnixStream;

use super::between::Between;
use super::clients::{fed, raw, raw_child, solve};
use crate::frontend_show::clients::Ended;
use crate::frontend_show::failures::Slow;
use crate::gate_enforce::{of, only};
use crate::gate_process::{Gate, until};
use crate::peers::llb;
use crate::peers::{self, Buildkit, HttpServer, need};

/// In which everything must be over.
const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn where_a_policy_comes_to_no_decision_nothing_is_loaded() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/never", b"never".to_vec())]);
    let allowing = |rule: &str| {
        format!(
            "package docker\ndefault allow := false\n{rule}\ndecision := {{\"allow\": allow}}\n"
        )
    };
    let numbers = |to: &str| format!("some {to} in numbers.range(1, 2000)");
    let counting = ["a", "b", "c"].map(numbers).join("; ");
    // 1 MB in the end, and 400 of these are too many.
    let ten = |n: u32| {
        format!("s{n} := concat(\"\", [{}])\n", vec![format!("s{}", n - 1); 10].join(", "))
    };
    let longer: String = (1..6).map(ten).collect();
    let deep: String = (1..5000).map(|n| format!("r{n} if r{}\n", n - 1)).collect();
    let mut said = Vec::new();
    for (what, rego, more, wanted) in [
        (
            "it takes too long",
            allowing(&format!(
                "allow if {{ input.http; count([1 | {counting}; a + b == c]) > 0 }}"
            )),
            &[][..],
            "within 1000 ms",
        ),
        (
            "it wants too much memory",
            allowing(&format!(
                "s0 := \"0123456789\"\n{longer}\
                 allow if {{ input.http; some n in numbers.range(1, 400); concat(\"\", [s5, sprintf(\"%d\", [n])]) == \"\" }}"
            )),
            &[],
            "MiB to come to a decision",
        ),
        (
            "it is too deep for any stack",
            allowing(&format!("r0 if input.http\n{deep}allow if {{ input.http; r4999 }}")),
            &[],
            "nest deeper than",
        ),
        (
            "it is undefined",
            "package docker\ndecision := {\"allow\": true} if not input.http\n".to_owned(),
            &[],
            "data.docker.decision is undefined",
        ),
        (
            "it says something else",
            allowing("allow := 1 if input.http"),
            &[],
            "decision.allow must be true or false, not a number",
        ),
        (
            "a rule contradicts itself",
            allowing("allow := true if input.http\nallow := false if input.http.url"),
            &[],
            "gives more than one value",
        ),
        (
            "the log is full",
            allowing("allow := true"),
            &["--decision-log", "/dev/full"],
            "could not be written down",
        ),
    ] {
        let gate = Gate::before(world, &rego, more);
        let ended = raw(&gate, &llb(&[SourceOp::new(files.url("/never"))]), &[]);
        assert!(!ended.passed, "{what}: {}", ended.said);
        assert!(
            ended.said.contains("not allowed by policy: action DENY"),
            "{what}: {}",
            ended.said
        );
        assert!(ended.said.contains(wanted), "{what}: {}", ended.said);
        said.push((what, wanted, ended.said));
        assert_eq!(files.asked().len(), 0, "{what}");
    }
    // Each has its own error.
    for (what, _, ended) in &said {
        let theirs = said.iter().filter(|(_, wanted, _)| ended.contains(wanted));
        assert_eq!(theirs.map(|it| it.0).collect::<Vec<_>>(), [*what], "{ended}");
    }
}

#[test]
fn a_broken_policy_leaves_the_last_good_one_in_force() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/never", b"never".to_vec())]);
    let gate = Gate::before(world, &only("false"), &[]);
    let never = llb(&[SourceOp::new(files.url("/never"))]);
    let refused = || {
        let ended = raw(&gate, &never, &[]);
        assert!(!ended.passed && ended.said.contains("ours says no"), "{}", ended.said);
    };
    refused();
    gate.write("policy/p.rego", "package docker\nallow := true\ndecision := {");
    until("the error", || gate.log().contains("POLICIES NOT LOADED").then_some(()));
    refused();
    std::fs::remove_file(gate.path("policy/p.rego")).unwrap();
    refused();
    assert_eq!(files.asked().len(), 0);
}

/// The same by the daemon itself.
fn bare(daemon: &Buildkit, definition: &pb::Definition) -> Ended {
    let mut build = daemon.buildctl();
    build.args(["build", "--progress=plain", "--no-cache"]);
    fed(build, definition).wait_with_output().unwrap().into()
}

/// A build that waits for a decision, which waits for the digest of a file.
struct Waiting {
    gate: Gate,
    slow: Slow,
    build: std::process::Child,
}

impl Waiting {
    fn start(upstream: &str) -> Self {
        let slow = Slow::start();
        let dir = peers::folder(&[(
            "policy/p.rego",
            &only("startswith(input.http.checksum, \"sha256:\")"),
        )]);
        let listen = format!("unix://{}/gate.sock", dir.path().display());
        let args = [
            "--listen",
            &listen,
            "--upstream",
            upstream,
            "--policy",
            "policy",
            "--decision-log",
            "log",
        ];
        let gate = Gate::start(dir, &args, &[]);
        let build = raw_child(&gate, &llb(&[SourceOp::new(slow.server.url("/slow"))]), &[]);
        until("the decision's own question", || (!slow.server.asked().is_empty()).then_some(()));
        Self { gate, slow, build }
    }

    /// The client ends, with an error; nothing was decided, and nothing is asked for any more.
    fn ends(self, what: &str, daemon: Option<&Buildkit>) -> (Gate, String) {
        let Self { gate, slow, build } = self;
        let started = Instant::now();
        let ended: Ended = build.wait_with_output().unwrap().into();
        assert!(started.elapsed() < PATIENCE, "{what}: {:?}: {}", started.elapsed(), ended.said);
        assert!(!ended.passed, "{what}: {}", ended.said);
        slow.open();
        // Whatever was still to be loaded would be loaded before the whole of another build, where
        // there is a daemon yet.
        if let Some(daemon) = daemon {
            let next = llb(&[SourceOp::new(slow.server.url("/next"))]);
            bare(daemon, &next).passed("another build");
        }
        let asked = slow.server.asked().into_iter().filter(|it| it.path == "/slow").count();
        assert_eq!(asked, 1, "{what}: only the decision's own question");
        let log = gate.read("log");
        let let_in = |line: &&str| line.contains("/slow") && !line.contains("\"action\":\"deny\"");
        assert_eq!(log.lines().find(let_in), None, "{what}");
        (gate, ended.said)
    }
}

/// A build keeps the policies that it began with, whatever comes while it waits for a decision.
#[test]
fn policies_that_come_in_mid_build_are_the_next_builds() {
    let world = need!(peers::world());
    let Waiting { gate, slow, build } = Waiting::start(world.buildkit.address());
    gate.write("policy/p.rego", &only("false"));
    until("the new rules", || gate.log().contains("now revision 2").then_some(()));
    slow.open();
    Ended::from(build.wait_with_output().unwrap()).passed("by the rules that it began with");
    let log = gate.read("log");
    assert!(
        log.contains("\"policy_revision\":1") && !log.contains("\"policy_revision\":2"),
        "{log}"
    );
    let next = raw(&gate, &llb(&[SourceOp::new(slow.server.url("/slow"))]), &[]);
    assert!(!next.passed && next.said.contains("ours says no"), "{}", next.said);
    assert!(gate.read("log").contains("\"policy_revision\":2"));
}

#[test]
fn a_gate_that_is_killed_takes_its_builds_along() {
    let world = need!(peers::world());
    let mut waiting = Waiting::start(world.buildkit.address());
    waiting.gate.signal("-KILL");
    waiting.gate.child.wait().unwrap();
    let (gate, said) = waiting.ends("the gate was killed", Some(&world.buildkit));
    assert!(said.contains("Unavailable") || said.contains("EOF"), "{said}");
    // Nobody answers in its place, and the daemon is well.
    let next = gate.build("FROM scratch\nCOPY Dockerfile /\n");
    assert!(!next.passed && next.said.contains("gate.sock"), "{}", next.said);
    let output = world.buildkit.buildctl().args(["debug", "workers"]).output().unwrap();
    assert!(output.status.success(), "{}", world.buildkit.log());
}

/// What a command would fetch next is judged in the session of a gate that is no more.
#[test]
fn a_gate_that_is_killed_fetches_nothing_more_for_commands() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/never", b"never".to_vec())]);
    let slow = Slow::start();
    let rego = only("input.image\nallow if input.http").replace(
        "\"deny_msg\": deny_msg",
        "\"deny_msg\": deny_msg, \"caps\": {\"exec.proxy\": true}",
    );
    let mut gate = Gate::before(world, &rego, &[]);
    let wget = |url: String| format!("/bin/busybox wget -O /f {url}");
    let script = format!("{}; {}", wget(slow.server.url("/held")), wget(files.url("/never")));
    let run = format!("RUN [\"/bin/busybox\", \"sh\", \"-c\", {script:?}]");
    let dockerfile = format!("FROM {}\nUSER 0\n{run}\n", world.image("base:1"));
    let building = gate.building(&dockerfile, "gate.sock");
    until("the command's first fetch", || (!slow.server.asked().is_empty()).then_some(()));
    gate.signal("-KILL");
    gate.child.wait().unwrap();
    slow.open();
    let ended = building.end();
    assert!(!ended.passed, "{}", ended.said);
    bare(&world.buildkit, &llb(&[SourceOp::new(slow.server.url("/next"))])).passed("another build");
    assert_eq!(files.asked().len(), 0);
}

#[test]
fn a_daemon_that_goes_away_is_named() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start(world.registry.host()));
    let waiting = Waiting::start(daemon.address());
    let pid = daemon.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    let (gate, said) = waiting.ends("the daemon was killed", None);
    assert!(said.contains("buildgate: the connection to the daemon "), "{said}");
    let next = gate.build("FROM scratch\nCOPY Dockerfile /\n");
    assert!(!next.passed && next.said.contains("buildgate: no daemon"), "{}", next.said);
}

/// A verifier that ends in a panic each time it is asked.
struct Panics;

impl Verifier for Panics {
    fn verify(self: Arc<Self>, _: CheckPolicyRequest) -> Verifying {
        Box::pin(async { panic!("as a bug would") })
    }
}

/// No policy is known that makes the evaluator panic (where one did, it would be an error like any
/// other: `policy::guarded`). So what answers the daemon panics itself here, in a session as ours.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_panics_lets_nothing_in() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/never", b"never".to_vec())]);
    let path = world.buildkit.address().trim_start_matches("unix://");
    let (channel, connection) =
        Channel::over(UnixStream::connect(path).await.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let id = SessionId::random().unwrap();
    let session = PolicySession::open(&channel, id, Arc::new(Panics)).await.unwrap();
    for _ in 0..2 {
        let request = SolveRequest {
            source_policy_session: session.id().reveal().to_owned(),
            ..of(SourceOp::new(files.url("/never")))
        };
        let status = solve(&channel, request).await.unwrap_err();
        assert!(status.message().contains("stream terminated by RST_STREAM"), "{status:?}");
    }
    assert!(!session.is_gone());
    assert_eq!(files.asked().len(), 0);
}

#[test]
fn a_build_whose_policy_session_is_dropped_is_cancelled() {
    let world = need!(peers::world());
    let dir = tempfile::tempdir().unwrap();
    let between = Between::start(world, &dir.path().join("between.sock"));
    let waiting = Waiting::start(&between.address);
    between.cut.send_replace(true);
    let (_, said) = waiting.ends("the session was dropped", Some(&world.buildkit));
    let wanted =
        "buildgate: the daemon dropped the policy session of this build, which was cancelled";
    assert!(said.contains(wanted), "{said}");
}
