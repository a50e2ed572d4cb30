//! What two policy sets share where they share a daemon: its cache, which knows no policies.

use std::process::Stdio;

use buildgate::source::SourceOp;
use buildgate::wire::proto::control::SolveRequest;
use buildgate::wire::proto::{gateway, pb};
use prost::Message as _;
use tonic::Status;

use super::clients::{both, built_from, command, fed, of_build, solve, user};
use crate::frontend_show::clients::{Buildx, Ended};
use crate::frontend_show::failures::Slow;
use crate::gate_enforce::{only, reasons, unique};
use crate::gate_process::{Gate, until};
use crate::peers::{self, HttpServer, World, llb, need};

/// `buildctl build < llb` with the daemon's cache in use.
fn raw(gate: &Gate, socket: &str, definition: &pb::Definition) -> Ended {
    let mut build = gate.buildctl(socket);
    build.args(["build", "--progress=plain"]);
    fed(build, definition).wait_with_output().unwrap().into()
}

/// Whether a set decided about a source, by the log.
fn decided(gate: &Gate, set: &str, source: &str) -> bool {
    let log = gate.read("log");
    let lines = log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines
        .into_iter()
        .any(|line| line["policy_set"] == set && line["source"].as_str().unwrap().contains(source))
}

/// LLB that is read inside the build is asked about where it runs, and not where its result is cached:
/// so it is refused. What `--build-op allow` lets pass is what this shows.
#[test]
fn a_build_in_a_build_takes_what_other_rules_allowed() {
    let world = need!(peers::world());
    let evil = SourceOp::new(format!("docker-image://{}", world.image("app:slsa02")));
    let inside = llb(&[evil]).encode_to_vec();
    let files = HttpServer::start(move |_| peers::Response::ok(inside.clone()));
    let rules = [only("input.image\nallow if input.http"), only("input.http")];
    let rules = rules.each_ref().map(String::as_str);
    // What it reads counts by its content, wherever it is from; only the client's own files do not.
    let mut file = SourceOp::new(files.url("/inside"));
    file.attrs.insert("http.filename".to_owned(), "buildkit.llb.definition".to_owned());
    let definition = built_from(file);
    let run = |gate: &Gate, socket| raw(gate, socket, &definition);

    let gate = both(world, rules, "");
    for socket in ["lax.sock", "strict.sock"] {
        let ended = run(&gate, socket);
        assert!(!ended.passed, "{socket}: {}", ended.said);
        let words = "source \"build-op\" not allowed by policy: action DENY";
        assert!(ended.said.contains(words), "{socket}: {}", ended.said);
        assert!(ended.said.contains("--build-op"), "{socket}: {}", ended.said);
    }
    assert!(decided(&gate, "strict", "build-op") && !decided(&gate, "lax", "app:slsa02"));

    let open = both(world, rules, "build-op = \"allow\"");
    let ended = run(&open, "strict.sock");
    assert!(!ended.passed && ended.said.contains("ours says no"), "{}", ended.said);
    run(&open, "lax.sock").passed("what the lax rules allow");
    // From here on its result is there for everyone: nothing is decided, and nothing refused.
    let log = open.read("log").lines().count();
    run(&open, "strict.sock").passed("what is cached");
    let log: Vec<String> = open.read("log").lines().skip(log).map(str::to_owned).collect();
    assert!(log.iter().all(|line| !line.contains("app:slsa02")), "{log:?}");
}

/// A build that fetches a URL by a command, as each kind of client asks for it.
struct Fetching<'w> {
    world: &'w World,
    gate: &'w Gate,
}

impl Fetching<'_> {
    fn dockerfile(&self, script: &str) -> tempfile::TempDir {
        let image = self.world.image("base:1");
        let run = format!("RUN [\"/bin/busybox\", \"sh\", \"-c\", {script:?}]");
        peers::folder(&[("Dockerfile", &format!("FROM {image}\nUSER 0\n{run}\n"))])
    }

    fn buildctl(&self, socket: &str, script: &str, options: &[&str]) -> std::process::Child {
        let context = self.dockerfile(script);
        let mut build = self.gate.buildctl(socket);
        build.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]).args(options);
        let local = |name| format!("--local={name}={}", context.path().display());
        build.args([local("context"), local("dockerfile")]);
        let child = build.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        // It reads them when it likes.
        std::mem::forget(context);
        child
    }

    fn by(&self, client: &str, socket: &str, script: &str) -> Ended {
        match client {
            "buildctl" => self.buildctl(socket, script, &[]).wait_with_output().unwrap().into(),
            "buildx" => {
                let address = format!("unix://{}", self.gate.path(socket).display());
                Buildx::at(&address).unwrap().build(self.dockerfile(script).path(), &[])
            }
            _ => {
                let args = ["/bin/busybox", "sh", "-c", script];
                raw(self.gate, socket, &command(&self.world.image("base:1"), &args))
            }
        }
    }
}

/// What another build fetched under other rules is not taken: not from the cache, and not from a command
/// that both of them wait for.
#[test]
fn commands_whose_http_is_judged_are_run_by_the_build_itself() {
    let world = need!(peers::world());
    let _ = need!(peers::pinned("buildx"));
    let files = HttpServer::start(|_| peers::Response::ok("content"));
    let proxied = |rego: String| {
        let caps = "\"deny_msg\": deny_msg, \"caps\": {\"exec.proxy\": true}";
        rego.replace("\"deny_msg\": deny_msg", caps)
    };
    let lax = only("input.image\nallow if input.http");
    let good = "input.image\nallow if startswith(input.http.path, \"/good\")";
    let strict = proxied(only(good));
    for (kind, lax) in [("unproxied", lax.clone()), ("proxied", proxied(lax.clone()))] {
        let gate = both(world, [&lax, &strict], "");
        let fetching = Fetching { world, gate: &gate };
        for client in ["buildctl", "buildx", "raw"] {
            let what = format!("{client} after {kind}");
            let path = |word: &str| format!("/{word}-{client}-{kind}");
            let wget = |word: &str| format!("/bin/busybox wget -O /f {}", files.url(&path(word)));
            fetching.by(client, "lax.sock", &wget("bad")).passed(&what);
            let ended = fetching.by(client, "strict.sock", &wget("bad"));
            assert!(!ended.passed, "{what}: {}", ended.said);
            assert!(decided(&gate, "strict", &path("bad")), "{what}: {}", gate.read("log"));
            fetching.by(client, "strict.sock", &wget("good")).passed(&what);
            assert!(decided(&gate, "strict", &path("good")), "{what}: {}", gate.read("log"));
        }
        // The lax build's command stands still for as long as the strict one might join it.
        let slow = Slow::start();
        let (url, held) = (files.url(&format!("/bad-shared-{kind}")), slow.server.url("/good"));
        let wget = |url: &str| format!("/bin/busybox wget -O /f {url}");
        let script = format!("{} && {}", wget(&url), wget(&held));
        let running = fetching.buildctl("lax.sock", &script, &["--no-cache"]);
        until("the lax build's own fetches", || (!slow.server.asked().is_empty()).then_some(()));
        assert!(files.asked().iter().any(|it| url.ends_with(&it.path)), "{kind}");
        let joining = fetching.buildctl("strict.sock", &script, &["--no-cache"]);
        let ended: Ended = joining.wait_with_output().unwrap().into();
        assert!(!ended.passed, "a shared command, {kind}: {}", ended.said);
        slow.open();
        Ended::from(running.wait_with_output().unwrap()).passed("the lax build");
        assert_eq!(slow.server.asked().len(), 1, "a shared command, {kind}");
    }
    // What one target made is LLB with its name, which the next one gets.
    let gate = both(world, [&lax, &strict], "");
    let run = |path: &str| {
        let url = files.url(path);
        format!("RUN [\"/bin/busybox\", \"wget\", \"-O\", \"/f\", \"{url}\"]\n")
    };
    let first = format!("FROM {}\nUSER 0\n{}", world.image("base:1"), run("/good-one"));
    let second = format!("FROM one\n{}", run("/good-two"));
    let bake = "target \"a\" { dockerfile = \"A\" }\n\
                target \"b\" {\n dockerfile = \"B\"\n contexts = { one = \"target:a\" }\n }\n";
    let context = peers::folder(&[("A", &first), ("B", &second), ("docker-bake.hcl", bake)]);
    let address = format!("unix://{}", gate.path("strict.sock").display());
    let buildx = Buildx::at(&address).unwrap();
    let mut baked = buildx.command(&["bake", "--progress=plain", "b"]);
    let baked = baked.env("BUILDX_BAKE_ENTITLEMENTS_FS", "0").current_dir(context.path());
    Ended::from(baked.output().unwrap()).passed("linked targets");
    assert!(decided(&gate, "strict", "/good-two"));

    // Nor does anyone get at the name that keeps them apart.
    let gate = both(world, [&lax, &strict], "");
    let hosts = "--opt=add-hosts=x.buildgate.invalid=127.0.0.1";
    let fetching = Fetching { world, gate: &gate };
    let claiming = fetching.buildctl("lax.sock", "true", &[hosts]);
    let ended: Ended = claiming.wait_with_output().unwrap().into();
    assert!(!ended.passed && ended.said.contains(".buildgate.invalid are ours"), "{}", ended.said);
}

/// In whatever field a client puts it; and one over which the daemon would end stays refused where others pass.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_in_a_build_is_refused_wherever_it_stands() {
    let world = need!(peers::world());
    let inside = built_from(SourceOp::new("local://none"));
    let mut broken = inside.clone();
    let build = pb::BuildOp {
        builder: -1,
        // All zero, which is left out on the wire.
        inputs: [("buildkit.llb.definition".to_owned(), pb::BuildInput { input: 0 })].into(),
        ..pb::BuildOp::default()
    };
    let op = pb::Op { op: Some(pb::op::Op::Build(build)), ..pb::Op::default() };
    broken.def[1] = op.encode_to_vec().into();
    let refusing = Gate::before(world, &only("true"), &[]);
    let allowing = Gate::before(world, &only("true"), &["--build-op", "allow"]);
    let auditing = Gate::before(world, &only("true"), &["--mode", "audit"]);
    for (gate, definition, wanted) in [
        (&refusing, &inside, "--build-op"),
        (&refusing, &broken, "the daemon would end"),
        (&allowing, &broken, "the daemon would end"),
        (&auditing, &broken, "the daemon would end"),
    ] {
        let user = user(gate).await;
        let reference = unique();
        let open = SolveRequest { r#ref: reference.clone(), ..SolveRequest::default() };
        let solving = user.clone();
        let running = tokio::spawn(async move { solve(&solving, open).await });
        let inputs = || [("x".to_owned(), definition.clone())].into();
        let of_build = of_build(&reference);
        let mut refused = Vec::new();
        for request in [
            SolveRequest { definition: Some(definition.clone()), ..SolveRequest::default() },
            SolveRequest { frontend_inputs: inputs(), ..SolveRequest::default() },
        ] {
            refused.push(solve(&user, request).await.unwrap_err());
        }
        for request in [
            gateway::SolveRequest { definition: Some(definition.clone()), ..Default::default() },
            gateway::SolveRequest { frontend_inputs: inputs(), ..Default::default() },
        ] {
            let method = "/moby.buildkit.v1.frontend.LLBBridge/Solve";
            let answer: Result<gateway::SolveResponse, Status> =
                user.call(method, &of_build, &request).await;
            refused.push(answer.unwrap_err());
        }
        for status in refused {
            assert!(status.message().contains("not allowed by policy"), "{status:?}");
            assert!(reasons(&status).contains(wanted), "{wanted}: {status:?}");
        }
        running.abort();
    }
    let output = world.buildkit.buildctl().args(["debug", "workers"]).output().unwrap();
    assert!(output.status.success(), "{}", world.buildkit.log());
}
