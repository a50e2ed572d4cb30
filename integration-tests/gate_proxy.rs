//! Stock clients and a real daemon with the gate's proxy between them, which passes everything on: they
//! notice nothing.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use buildgate::gate::proxy::{
    self, Access, ClientRule, Counters, Drained, Forward, Gate, ListenOptions, Methods, ServerTls,
    UpstreamOptions, Upstreams,
};
use rcgen::SanType;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::peers::{self, Authority, World, need};

/// A gate of one listener, in this process.
struct Proxied {
    runtime: Runtime,
    address: String,
    counters: Arc<Counters>,
    stop: oneshot::Sender<()>,
    serving: JoinHandle<Drained>,
}

impl Proxied {
    fn start(world: &World, options: ListenOptions) -> Self {
        let runtime = Runtime::new().unwrap();
        let counters = Arc::new(Counters::default());
        let upstream =
            UpstreamOptions { address: world.buildkit.address().parse().unwrap(), tls: None };
        let (listener, gate) = runtime.block_on(async {
            let upstreams = Upstreams::start(vec![upstream], Arc::clone(&counters)).await.unwrap();
            let gate = Gate {
                upstreams,
                handler: Arc::new(Forward),
                counters: Arc::clone(&counters),
                drain: Duration::from_secs(5),
            };
            (proxy::bind(options).await.unwrap(), Arc::new(gate))
        });
        let address = listener.address().unwrap().to_string();
        let (stop, stopped) = oneshot::channel();
        let serving = runtime.spawn(proxy::serve(listener, gate, async move {
            let _ = stopped.await;
        }));
        Self { runtime, address, counters, stop, serving }
    }

    fn unix(world: &World, folder: &Path) -> Self {
        let address = format!("unix://{}", folder.join("gate.sock").display());
        Self::start(world, ListenOptions::at(address.parse().unwrap()))
    }

    /// Stops it, and is sure that nothing was left open when the last client had gone.
    fn end(self) {
        let idle = || {
            [&self.counters.open_connections, &self.counters.open_calls]
                .iter()
                .all(|open| open.load(Ordering::SeqCst) == 0)
        };
        until(idle);
        drop(self.stop);
        let drained = self.runtime.block_on(self.serving).unwrap();
        assert_eq!(drained, Drained { cut: 0 });
    }
}

fn until(so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !so() {
        assert!(Instant::now() < deadline, "it did not come to that");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn buildctl(address: &str) -> Option<Command> {
    let mut command = Command::new(peers::pinned("buildctl").ok()?);
    command.args(["--addr", address]);
    Some(command)
}

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn said(output: &Output) -> String {
    let (out, error) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(error))
}

fn passed(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

fn local(command: &mut Command, context: &Path) {
    command.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
    for name in ["context", "dockerfile"] {
        command.arg(format!("--local={name}={}", context.display()));
    }
}

#[test]
fn builds_and_files_pass_both_ways() {
    let world = need!(peers::world());
    let dir = tempfile::tempdir().unwrap();
    let gate = Proxied::unix(world, dir.path());
    let large: Vec<u8> = (0..=u8::MAX).collect::<Vec<_>>().repeat(32 << 12);
    let dockerfile = format!(
        "FROM {}\nUSER 0\nCOPY large /data/\nRUN [\"/bin/busybox\", \"cp\", \"/data/large\", \"/copy\"]\n\
         FROM scratch\nCOPY --from=0 /copy /copy\n",
        world.image("base:1")
    );
    let context = folder(&[("Dockerfile", dockerfile.as_bytes()), ("large", &large)]);
    let mut build = buildctl(&gate.address).unwrap();
    local(&mut build, context.path());
    let out = dir.path().join("out");
    build.arg(format!("--output=type=local,dest={}", out.display()));
    passed(&build.output().unwrap());
    assert!(std::fs::read(out.join("copy")).unwrap() == large, "32 MiB came back changed");
    gate.end();
}

#[test]
fn what_is_asked_of_the_daemon_is_answered_as_without_the_gate() {
    let world = need!(peers::world());
    let dir = tempfile::tempdir().unwrap();
    let gate = Proxied::unix(world, dir.path());
    for args in [
        &["debug", "workers", "-v"][..],
        &["debug", "info"],
        &["prune", "--keep-duration=9000h"],
        &["build", "--frontend=no.such"],
        &["debug", "logs", "no-such-build"],
        &["--timeout=1", "debug", "workers"],
    ] {
        let run = |address: &str| {
            let mut command = buildctl(address).unwrap();
            let output = command.args(args).output().unwrap();
            // buildctl has two calls under way, and prints the one that fails first.
            let said = said(&output).replace("failed to run Build function", "failed to solve");
            (output.status.code(), said)
        };
        assert_eq!(run(&gate.address), run(world.buildkit.address()), "{args:?}");
    }
    let usage = buildctl(&gate.address).unwrap().args(["du", "-v"]).output().unwrap();
    assert!(passed(&usage).contains("Total:"));
    let histories = buildctl(&gate.address).unwrap().args(["debug", "histories"]).output().unwrap();
    passed(&histories);
    gate.end();
}

#[test]
fn buildx_notices_nothing() {
    let world = need!(peers::world());
    let buildx = need!(peers::pinned("buildx"));
    let dir = tempfile::tempdir().unwrap();
    let gate = Proxied::unix(world, dir.path());
    let run = |args: &[&str]| {
        let mut command = Command::new(&buildx);
        command.env("BUILDX_CONFIG", dir.path()).env("DOCKER_CONFIG", dir.path()).args(args);
        command.env("BUILDX_BAKE_ENTITLEMENTS_FS", "0");
        passed(&command.output().unwrap())
    };
    run(&["create", "--name=gate", "--driver=remote", &gate.address]);
    assert!(run(&["inspect", "gate"]).contains("running"));
    let dockerfile = format!("FROM {}\nLABEL through=gate\n", world.image("base:1"));
    let bake =
        b"group \"default\" { targets = [\"a\", \"b\"] }\ntarget \"a\" {}\ntarget \"b\" {}\n";
    let context = folder(&[("Dockerfile", dockerfile.as_bytes()), ("docker-bake.hcl", bake)]);
    let path = context.path().to_str().unwrap();
    let image = dir.path().join("image.tar");
    let output = format!("--output=type=docker,dest={}", image.display());
    let told = dir.path().join("told.json");
    let metadata = format!("--metadata-file={}", told.display());
    run(&["build", "--builder=gate", "--progress=plain", &metadata, &output, path]);
    assert!(image.metadata().unwrap().len() > 1 << 19);
    let file = context.path().join("docker-bake.hcl");
    let file = format!("--file={}", file.display());
    let workdir = format!("--set=*.context={path}");
    run(&["bake", "--builder=gate", "--progress=plain", &file, &workdir]);
    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(told).unwrap()).unwrap();
    let build = told["buildx.build.ref"].as_str().unwrap().rsplit('/').next().unwrap();
    assert!(run(&["history", "ls", "--builder=gate", "--format={{.Ref}}"]).contains(build));
    run(&["create", "--name=bare", "--driver=remote", world.buildkit.address()]);
    let inspect = |builder: &str| {
        let said = run(&["history", "inspect", builder, "--format=json", build]);
        let mut record: serde_json::Value = serde_json::from_str(&said).unwrap();
        // These two Buildx knows from its own files, for the builder that it built with.
        for own in ["Name", "Context"] {
            record.as_object_mut().unwrap().remove(own);
        }
        record
    };
    assert_eq!(inspect("--builder=gate"), inspect("--builder=bare"));
    run(&["history", "logs", "--builder=gate", "--progress=plain", build]);
    run(&["history", "rm", "--builder=gate", build]);
    assert!(run(&["du", "--builder=gate"]).contains("Total:"));
    gate.end();
}

#[test]
fn a_client_that_is_gone_ends_its_build() {
    let world = need!(peers::world());
    let dir = tempfile::tempdir().unwrap();
    let gate = Proxied::unix(world, dir.path());
    let nap = "98761.5";
    let dockerfile = format!(
        "FROM {}\nUSER 0\nRUN [\"/bin/busybox\", \"sleep\", \"{nap}\"]\n",
        world.image("base:1")
    );
    let context = folder(&[("Dockerfile", dockerfile.as_bytes())]);
    let mut build = buildctl(&gate.address).unwrap();
    local(&mut build, context.path());
    let mut build = build.stderr(std::process::Stdio::null()).spawn().unwrap();
    until(|| runs(nap));
    build.kill().unwrap();
    build.wait().unwrap();
    until(|| !runs(nap));
    gate.end();
}

/// Whether a process has this as its last argument.
pub fn runs(argument: &str) -> bool {
    let ends = format!("\0{argument}\0");
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    all.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok())
        .any(|line| line.starts_with(b"/bin/busybox") && line.ends_with(ends.as_bytes()))
}

#[test]
fn buildctl_over_tls_is_known_by_its_certificate() {
    let world = need!(peers::world());
    let (ours, theirs) = (Authority::new(), Authority::new());
    let uri = |id: &str| SanType::URI(id.try_into().unwrap());
    ours.sign("server", SanType::DnsName("gate.example".try_into().unwrap()));
    ours.sign("ci", uri("spiffe://org/ci/7"));
    ours.sign("other", uri("spiffe://org/other"));
    theirs.sign("ci", uri("spiffe://org/ci/7"));
    let tls = ServerTls {
        cert: ours.file("server"),
        key: ours.file("server.key"),
        client_ca: ours.file("ca"),
        allow: vec!["spiffe://org/ci/*".parse().unwrap()],
    };
    let prune = Methods { deny: vec!["Control/Prune".parse().unwrap()], ..Methods::default() };
    let rule = ClientRule { client: vec!["spiffe://org/ci/7".parse().unwrap()], methods: prune };
    let access = Access { clients: vec![rule], ..Access::default() };
    let options = ListenOptions {
        tls: Some(tls),
        access,
        ..ListenOptions::at("tcp://127.0.0.1:0".parse().unwrap())
    };
    let gate = Proxied::start(world, options);
    let run = |authority: Option<(&Authority, &str)>, args: &[&str]| {
        let mut command = buildctl(&gate.address).unwrap();
        command.arg("--tlscacert").arg(ours.file("ca")).arg("--tlsservername=gate.example");
        if let Some((authority, name)) = authority {
            command.arg("--tlscert").arg(authority.file(name));
            command.arg("--tlskey").arg(authority.file(&format!("{name}.key")));
        }
        let output = command.arg("--timeout=5").args(args).output().unwrap();
        (output.status.success(), said(&output))
    };
    let workers = &["debug", "workers"];
    for (who, passes) in [
        (Some((&ours, "ci")), true),
        (Some((&ours, "other")), false),
        (Some((&theirs, "ci")), false),
        (None, false),
    ] {
        let (got, said) = run(who, workers);
        assert_eq!(got, passes, "{said}");
    }
    let (pruned, said) = run(Some((&ours, "ci")), &["prune", "--keep-duration=9000h"]);
    let words =
        "buildgate: moby.buildkit.v1.Control/Prune is not open to spiffe://org/ci/7 at tcp://";
    assert!(!pruned && said.contains(words), "{said}");
    assert!(gate.counters.strangers.load(Ordering::SeqCst) >= 3);
    gate.end();
}
