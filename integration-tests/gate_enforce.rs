//! The gate's enforcement: stock clients, a real daemon, and servers that count what they are asked.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use buildgate::gate::enforce::{Assigned, Enforcer};
use buildgate::gate::ops::{
    DecisionLog, LogTarget, Metrics, PolicySets, Recorder, Settings,
};
use buildgate::gate::proxy::{
    Address, Counters, Gate as Proxy, ListenOptions, UpstreamOptions, Upstreams, bind, serve,
};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::peers::{self, GitServer, HttpServer, World, need};

/// A gate in this process, before the shared daemon.
pub struct Gate {
    dir: TempDir,
    _runtime: Runtime,
}

impl Gate {
    /// A gate with one policy.
    fn start(world: &World, rego: &str) -> Self {
        Self::with(world, rego, Settings::default())
    }

    fn with(world: &World, rego: &str, settings: Settings) -> Self {
        let dir = folder(&[("policy/p.rego", rego)]);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let path = |name: &str| dir.path().join(name);
        let log = DecisionLog::open(LogTarget::File(path("decisions"))).unwrap();
        let recorder = Arc::new(Recorder::new(Some(log), Arc::new(Metrics::new())));
        let sets = PolicySets::load([("default".to_owned(), vec![path("policy")])]).unwrap();
        let assigned =
            Assigned { policies: sets.set("default").unwrap(), settings: Arc::new(settings) };
        let handler =
            Arc::new(Enforcer::new(Box::new(move |_| Some(assigned.clone())), recorder));
        let upstream =
            UpstreamOptions { address: world.buildkit.address().parse().unwrap(), tls: None };
        let listen = ListenOptions::at(Address::Unix(path("gate.sock")));
        runtime.block_on(async {
            let counters = Arc::new(Counters::default());
            let upstreams = Upstreams::start(vec![upstream], Arc::clone(&counters)).await.unwrap();
            let drain = std::time::Duration::ZERO;
            let proxy = Arc::new(Proxy { upstreams, handler, counters, drain });
            let listener = bind(listen).await.unwrap();
            tokio::spawn(serve(listener, proxy, std::future::pending()));
        });
        Self { dir, _runtime: runtime }
    }

    fn address(&self) -> String {
        format!("unix://{}", self.dir.path().join("gate.sock").display())
    }

    /// The decision log so far: action and source of each line.
    fn decisions(&self) -> Vec<(String, String)> {
        let text = std::fs::read_to_string(self.dir.path().join("decisions")).unwrap();
        text.lines()
            .map(|line| {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                let text = |name: &str| line[name].as_str().unwrap_or_default().to_owned();
                (text("action"), text("source"))
            })
            .collect()
    }

    fn buildctl(&self) -> Command {
        let mut command = Command::new(peers::pinned("buildctl").unwrap());
        command.args(["--addr", &self.address()]);
        command
    }

    /// A build through buildctl: whether it passed, and what it said.
    fn build(&self, context: &Path, options: &[&str]) -> (bool, String) {
        let mut build = self.buildctl();
        build
            .args(["build", "--progress=plain", "--no-cache", "--frontend", "dockerfile.v0"])
            .arg(format!("--local=context={}", context.display()))
            .arg(format!("--local=dockerfile={}", context.display()))
            .args(options);
        said(&build.output().unwrap())
    }
}

fn said(output: &Output) -> (bool, String) {
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn folder(files: &[(&str, &str)]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (path, content) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }
    dir
}

/// Allows only what `condition` says, of sources that are not the client's own.
fn only(condition: &str) -> String {
    format!(
        "package docker\nallow if input.local\nallow if {condition}\n\
         deny_msg contains \"ours says no\" if not allow\n\
         default allow := false\n\
         decision := {{\"allow\": allow, \"deny_msg\": deny_msg}}\n"
    )
}

#[test]
fn an_allowed_build_is_built_and_a_denied_source_is_not_fetched() {
    let world = need!(peers::world());
    let gate = Gate::start(world, &only("endswith(input.image.repo, \"base\")"));
    let files = HttpServer::files([("/tool", b"tool".to_vec())]);
    let git = need!(GitServer::start());
    let base = world.image("base:1");
    let no = world.image("denied-by-gate:1");
    let url = files.url("/tool");
    for (dockerfile, passes) in [
        (format!("FROM {base}\nUSER 0\nRUN [\"/bin/busybox\", \"true\"]\n"), true),
        (format!("FROM {base}\nADD {url} /\n"), false),
        (format!("FROM {base}\nADD {} /src\n", git.url()), false),
        (format!("FROM {no}\n"), false),
        (format!("FROM {base}\nCOPY --from={no} / /\n"), false),
        (format!("FROM {base}\nRUN --mount=from={no} true\n"), false),
        (format!("# syntax={no}\nFROM {base}\n"), false),
    ] {
        let context = folder(&[("Dockerfile", &dockerfile)]);
        let (passed, said) = gate.build(context.path(), &[]);
        assert_eq!(passed, passes, "{dockerfile}{said}\n{}", world.buildkit.log());
        assert_eq!(!passed, said.contains("ours says no"), "{said}");
        assert_eq!(!passed, said.contains("not allowed by policy: action DENY"), "{said}");
        assert!(said.contains("[policy] buildgate"), "{said}");
    }
    assert_eq!(files.asked().len(), 0);
    assert_eq!(git.asked().len(), 0);
    assert_eq!(world.registry.accesses(&["denied-by-gate"]).len(), 0);
    assert!(gate.decisions().iter().any(|(action, _)| action == "deny"));
}

#[test]
fn rules_read_what_the_gate_resolves_and_the_daemon_lives() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/tool", b"tool".to_vec())]);
    let git = need!(GitServer::start());
    let (url, commit) = (files.url("/tool"), git.object("main"));
    let add = |what: &str| format!("FROM scratch\nADD {what} /x\n");
    let from = |name: &str| format!("FROM {}\n", world.image(name));
    for (dockerfile, condition, passes) in [
        (from("base:1"), "input.image.labels[\"org.example.tier\"] == \"base\"".to_owned(), true),
        (from("base:1"), "input.image.user == \"root\"".to_owned(), false),
        (from("app:attested"), "input.image.hasProvenance".to_owned(), true),
        // A daemon that is asked for the chain of these ends.
        (from("app:plain"), "input.image.hasProvenance".to_owned(), false),
        (from("app:docker"), "input.image.hasProvenance".to_owned(), false),
        (from("app:multi"), "input.image.hasProvenance".to_owned(), false),
        (from("app:plain"), "not input.image.hasProvenance".to_owned(), true),
        (add(&url), "startswith(input.http.checksum, \"sha256:\")".to_owned(), true),
        (add(&url), "input.http.checksum == \"sha256:0\"".to_owned(), false),
        (add(&git.url()), format!("input.git.checksum == \"{commit}\""), true),
        (add(&git.url()), "input.git.checksum == \"0\"".to_owned(), false),
        (
            from("app:attested"),
            "some m in input.image.provenance.materials\nendswith(m.image.repo, \"base\")".to_owned(),
            true,
        ),
    ] {
        let gate = Gate::start(world, &only(&condition));
        let context = folder(&[("Dockerfile", &dockerfile)]);
        let (passed, said) = gate.build(context.path(), &[]);
        assert_eq!(passed, passes, "{dockerfile}{condition}\n{said}\n{}", world.buildkit.log());
        assert_eq!(!passed, said.contains("ours says no"), "{said}");
    }
}
