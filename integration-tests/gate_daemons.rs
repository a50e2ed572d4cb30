//! Several real daemons behind one gate, one of them over mutual TLS: builds spread, each is whole on
//! one of them, and one that dies is left.

use std::process::Command;
use std::sync::Arc;

use buildgate::gate::proxy::{Answer, Call, Handle, ListenOptions};
use buildgate::rpc;
use buildgate::wire::proto::gateway::PongResponse;
use futures_util::future::BoxFuture;
use prost::Message as _;
use tokio::runtime::Runtime;

use crate::frontend_show::failures::Slow;
use crate::gate_enforce::only;
use crate::gate_process::{Building, Gate, until};
use crate::gate_show::between::stand;
use crate::gate_show::clients::{raw, refused, source};
use crate::peers::{self, Authority, Buildkit, GitServer, HttpServer, World, folder, llb, need};

const BUSYBOX: &str = "/bin/busybox";
const ALLOW: &str = "package docker\ndecision := {\"allow\": true}\n";

/// A gate before the shared daemon and this one.
fn gate(world: &World, second: &Buildkit, tls: [(&Authority, &str); 3]) -> Gate {
    let dir = folder(&[("policy/p.rego", ALLOW)]);
    let listen = format!("--listen=unix://{}/gate.sock", dir.path().display());
    let upstreams =
        [world.buildkit.address(), second.address()].map(|it| format!("--upstream={it}"));
    let flags = ["ca", "cert", "key"].iter().zip(tls).map(|(flag, (authority, file))| {
        format!("--upstream-tls-{flag}={}", authority.file(file).display())
    });
    let flags: Vec<String> = flags.chain(upstreams).collect();
    let mut args = vec![listen.as_str(), "--policy=policy", "--metrics-listen=127.0.0.1:0"];
    args.extend(flags.iter().map(String::as_str));
    Gate::start(dir, &args, &[])
}

/// How many builds a daemon has had.
fn builds(mut buildctl: Command) -> usize {
    let output = buildctl.args(["debug", "histories"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    // A line for each, below the head.
    text.lines().count().saturating_sub(1)
}

#[test]
fn builds_spread_over_daemons_and_one_that_dies_is_left() {
    let world = need!(peers::world());
    let authority = Authority::new();
    let second = need!(Buildkit::start_tls(world.registry.host(), &authority));
    let tls = [(&authority, "ca"), (&authority, "client"), (&authority, "client.key")];
    let gate = gate(world, &second, tls);
    let up = format!("[+] upstream {}\n", second.address());
    until("the second daemon", || gate.http("/readyz").contains(&up).then_some(()));
    let before = builds(second.buildctl());
    assert_eq!(before, 0);

    // A session, files and a solve each: a build that is torn between two daemons fails. Each stands
    // still until all are there, so that the next one finds it where it went.
    let held = |slow: &Slow, builds: usize| -> Vec<Building> {
        let dockerfile = format!(
            "FROM {}\nUSER 0\nCOPY Dockerfile /d\nRUN [\"{BUSYBOX}\", \"wget\", \"-O\", \"/f\", \"{}\"]\n",
            world.image("base:1"),
            slow.server.url("/slow")
        );
        let one = |number: usize| {
            let building =
                gate.building(&format!("{dockerfile}ENV NUMBER={number}\n"), "gate.sock");
            let runs = || (slow.server.asked().len() > number).then_some(());
            until("the build's command", runs);
            building
        };
        (0..builds).map(one).collect()
    };
    let slow = Slow::start();
    let building = held(&slow, 8);
    let here = fetching(&second);
    assert!((1..8).contains(&here), "{here} of eight");
    slow.open();
    for building in building {
        let built = building.end();
        assert!(built.passed, "{}", built.said);
    }
    assert_eq!(builds(second.buildctl()), here);

    // One that is killed takes its builds along, and no other.
    let slow = Slow::start();
    let building = held(&slow, 4);
    let here = fetching(&second);
    assert!((1..4).contains(&here), "{here} of four");
    let pid = second.pid().to_string();
    assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    slow.open();
    let lost: Vec<_> = building.into_iter().map(Building::end).filter(|it| !it.passed).collect();
    assert_eq!(lost.len(), here);
    for built in &lost {
        assert!(built.said.contains("buildgate: the "), "{}", built.said);
    }
    let down = format!("[-] upstream {}: ", second.address());
    until("the second daemon is missed", || gate.http("/readyz").contains(&down).then_some(()));
    assert!(gate.http("/readyz").starts_with("HTTP/1.1 200 "));
    for number in 0..3 {
        let dockerfile = format!("FROM {}\nENV NUMBER={number}\n", world.image("base:1"));
        let built = gate.build(&dockerfile);
        assert!(built.passed, "{}", built.said);
    }
}

/// How many commands of builds run below a daemon.
fn fetching(daemon: &Buildkit) -> usize {
    commands(daemon).len()
}

/// What they are: their words.
fn commands(daemon: &Buildkit) -> Vec<String> {
    let mut found = Vec::new();
    let mut below = vec![daemon.pid()];
    while let Some(pid) = below.pop() {
        for task in std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            below.extend(children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
        }
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        if line.starts_with(b"/bin/busybox\0wget\0") {
            found.push(String::from_utf8_lossy(&line).replace('\0', " "));
        }
    }
    found
}

/// Stops a daemon where it is, until this is dropped.
struct Stopped(u32);

impl Stopped {
    fn now(daemon: &Buildkit) -> Self {
        let stopped = Self(daemon.pid());
        stopped.signal("-STOP");
        stopped
    }

    fn signal(&self, name: &str) {
        let pid = self.0.to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.signal("-CONT");
    }
}

/// A daemon that neither answers nor ends: nothing new goes there, what it has is not lost, and who gives up
/// waiting for it leaves nothing behind.
#[test]
fn a_daemon_that_stands_still_is_left_until_it_goes_on() {
    let world = need!(peers::world());
    let second = need!(Buildkit::start(world.registry.host()));
    let dir = folder(&[("policy/p.rego", &only("not input.http"))]);
    let listen = format!("--listen=unix://{}/gate.sock", dir.path().display());
    let upstreams =
        [world.buildkit.address(), second.address()].map(|it| format!("--upstream={it}"));
    let more = ["--policy=policy", "--metrics-listen=127.0.0.1:0", "--decision-log=log"];
    let gate =
        Gate::start(dir, &[&[&*listen, &upstreams[0], &upstreams[1]], &more[..]].concat(), &[]);
    let says = |mark: &str| {
        let line = format!("[{mark}] upstream {}", second.address());
        until(&line, || gate.http("/readyz").contains(&line).then_some(()));
    };
    says("+");

    // Builds until two stand in a command on the second daemon.
    let slow = Slow::start();
    let mut building = Vec::new();
    let there = || commands(&second);
    while there().len() < 2 {
        let number = building.len();
        assert!(number < 8, "nothing comes to the second daemon");
        let dockerfile = format!(
            "FROM {}\nUSER 0\nRUN [\"{BUSYBOX}\", \"wget\", \"-O\", \"/f\", \"{}\"]\n",
            world.image("base:1"),
            slow.server.url(&format!("/build-{number}"))
        );
        building.push(Some(gate.building(&dockerfile, "gate.sock")));
        until("the build's command", || (slow.server.asked().len() > number).then_some(()));
    }
    let commands = there();
    let on_second = |number: usize| {
        let ends = format!("/build-{number} ");
        commands.iter().any(|it| it.ends_with(&ends))
    };
    let (theirs, others): (Vec<usize>, Vec<usize>) =
        (0..building.len()).partition(|number| on_second(*number));
    assert!(theirs.len() == 2 && !others.is_empty(), "{commands:?}");

    let stopped = Stopped::now(&second);
    says("-");
    let ready = gate.http("/readyz");
    assert!(ready.starts_with("HTTP/1.1 200 ") && ready.contains("within 5 s"), "{ready}");
    slow.open();
    for number in others {
        building[number].take().unwrap().end().passed("a build on the other daemon");
    }
    for number in 0..3 {
        let next = gate.build(&format!("FROM {}\nENV NEXT={number}\n", world.image("base:1")));
        next.passed("a build that comes while one daemon stands still");
    }
    // One of the two that wait gives up.
    let metric = |line: &str| gate.http("/metrics").contains(line).then_some(());
    until("two builds", || metric("buildgate_builds_in_flight 2\n"));
    let mut given_up = building[theirs[0]].take().unwrap();
    given_up.child.kill().unwrap();
    given_up.child.wait().unwrap();
    until("one build", || metric("buildgate_builds_in_flight 1\n"));

    drop(stopped);
    says("+");
    building[theirs[1]].take().unwrap().end().passed("a build whose daemon stood still");
    until("no build", || metric("buildgate_builds_in_flight 0\n"));
    until("no call", || metric("buildgate_open_streams 0\n"));
}

#[test]
fn a_daemon_is_known_by_its_certificate_and_we_by_ours() {
    let world = need!(peers::world());
    let (ours, theirs) = (Authority::new(), Authority::new());
    let daemon = need!(Buildkit::start_tls(world.registry.host(), &ours));
    theirs.sign("client", rcgen::SanType::DnsName("client".try_into().unwrap()));
    let right = [(&ours, "ca"), (&ours, "client"), (&ours, "client.key")];
    let another = [(&theirs, "ca"), (&ours, "client"), (&ours, "client.key")];
    let stranger = [(&ours, "ca"), (&theirs, "client"), (&theirs, "client.key")];
    let dockerfile = format!("FROM {}\nCOPY Dockerfile /d\n", world.image("base:1"));
    for (what, tls, passes) in [
        ("right", right, true),
        ("another's daemon", another, false),
        ("a stranger", stranger, false),
    ] {
        let dir = folder(&[("policy/p.rego", ALLOW)]);
        let listen = format!("--listen=unix://{}/gate.sock", dir.path().display());
        let upstream = format!("--upstream={}", daemon.address());
        let flags = ["ca", "cert", "key"].iter().zip(tls).map(|(flag, (authority, file))| {
            format!("--upstream-tls-{flag}={}", authority.file(file).display())
        });
        let flags: Vec<String> = flags.chain([listen, upstream]).collect();
        let args: Vec<&str> = flags.iter().map(String::as_str).chain(["--policy=policy"]).collect();
        let gate = Gate::start(dir, &args, &[]);
        let built = gate.build(&dockerfile);
        assert_eq!(built.passed, passes, "{what}: {}", built.said);
        // Of TLS 1.3 we are through before the daemon has looked at our certificate.
        let words = ["buildgate: no daemon: ", "buildgate: the connection to the daemon "];
        let said = words.iter().any(|words| built.said.contains(words));
        assert!(passes || said, "{what}: {}", built.said);
    }
}

/// A daemon that does not say that it can do something: as older ones, which cannot.
struct Older {
    /// The capability; "" is none.
    lacks: &'static str,
}

impl Handle for Older {
    fn handle(&self, call: Call) -> BoxFuture<'_, Answer> {
        let lacks = self.lacks;
        Box::pin(async move {
            if lacks.is_empty() || !call.method().ends_with("LLBBridge/Ping") {
                return call.forward().await;
            }
            let answer = call.forward().await?;
            let (message, _) = rpc::read_one(answer.into_body()).await.unwrap();
            let mut pong = PongResponse::decode(message.unwrap()).unwrap();
            let before = pong.llb_caps.len();
            pong.llb_caps.retain(|cap| cap.id != lacks);
            assert_eq!(pong.llb_caps.len() + 1, before, "the real one has {lacks}");
            Ok(rpc::answered(&pong.encode_to_vec()))
        })
    }
}

/// Stands before the shared daemon, until the runtime is dropped.
fn older(world: &World, address: &str, lacks: &'static str) -> Runtime {
    before(world, ListenOptions::at(address.parse().unwrap()), lacks)
}

fn before(world: &World, options: ListenOptions, lacks: &'static str) -> Runtime {
    stand(world, options, Arc::new(Older { lacks }))
}

#[test]
fn a_daemon_that_is_too_old_is_refused_at_the_start_and_at_each_build() {
    const PROXIED: &str =
        "package docker\ndecision := {\"allow\": true, \"caps\": {\"exec.proxy\": true}}\n";
    let world = need!(peers::world());
    let dockerfile = format!("FROM {}\n", world.image("base:1"));
    for (lacks, policy, at_start, wanted) in [
        ("source.policy.session", ALLOW, true, "buildgate needs BuildKit 0.28 or newer"),
        ("source.imageblob", ALLOW, true, "buildgate needs BuildKit 0.28 or newer"),
        ("exec.meta.network.proxy", ALLOW, false, ""),
        ("exec.meta.network.proxy", PROXIED, false, "needs BuildKit 0.31 or newer"),
    ] {
        let dir = folder(&[("policy/p.rego", policy)]);
        let at = |name: &str| format!("unix://{}/{name}", dir.path().display());
        let (listen, upstream) = (format!("--listen={}", at("gate.sock")), at("old.sock"));
        let args = [&listen, "--upstream", &upstream, "--policy=policy"];
        if at_start {
            let _daemon = older(world, &upstream, lacks);
            let mut command = Command::new(env!("CARGO_BIN_EXE_buildgate"));
            let output = command.arg("serve").args(args).current_dir(dir.path()).output().unwrap();
            let said = String::from_utf8(output.stderr).unwrap();
            assert_eq!(output.status.code(), Some(2), "{lacks}: {said}");
            assert!(said.contains(&format!("error: upstream {upstream}: ")), "{lacks}: {said}");
            assert!(said.contains(wanted), "{lacks}: {said}");
        }
        // One that comes later is asked when a build comes.
        let (listen, upstream) = (listen.clone(), upstream.clone());
        let gate = Gate::start(dir, &[&listen, "--upstream", &upstream, "--policy=policy"], &[]);
        let _daemon = older(world, &upstream, lacks);
        let built = gate.build(&dockerfile);
        assert_eq!(built.passed, wanted.is_empty(), "{lacks}: {}", built.said);
        assert!(built.said.contains(wanted), "{lacks}: {}", built.said);
    }
}

/// The version that the words of a refusal name, really: what it asks about is judged, what it lacks is
/// refused with the version that has it, and what it does not ask about is decided by the gate.
#[test]
fn the_oldest_daemon_that_is_taken_is_enforced_upon() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start_oldest(world.registry.host()));
    let git = need!(GitServer::start());
    let files = HttpServer::files([("/never", b"never".to_vec())]);
    let rego = only(
        "input.image.labels[\"org.example.tier\"] == \"base\"\n\
         allow if endswith(input.git.remote, \"app.git\")",
    );
    let proxied = rego.replace(
        "\"deny_msg\": deny_msg",
        "\"deny_msg\": deny_msg, \"caps\": {\"exec.proxy\": true}",
    );
    let gate = |rego: &str| {
        let dir = folder(&[("policy/p.rego", rego)]);
        let listen = format!("--listen=unix://{}/gate.sock", dir.path().display());
        let upstream = format!("--upstream={}", daemon.address());
        Gate::start(dir, &[&listen, &upstream, "--policy=policy", "--decision-log=log"], &[])
    };
    let plain = gate(&rego);
    let from = format!("FROM {}\n", world.image("base:1"));
    plain.build(&from).passed("what is allowed, by its label");
    assert!(plain.read("log").contains("base:1@sha256:"), "{}", plain.read("log"));
    let url = git.url();
    let digest = format!("sha256:{}", "a".repeat(64));
    let blob = format!("docker-image+blob://{}@{digest}", world.image("oldest-evil"));
    let remote = format!("git://{}#main", url.trim_start_matches("http://"));
    let commit = git.object("main");
    let bundle = [("git.fullurl", url.as_str()), ("git.checksum", &commit), ("git.bundle", &blob)];
    for (what, ended) in [
        ("an image", plain.build(&format!("FROM {}\n", world.image("app:plain")))),
        ("a file", plain.build(&format!("{from}ADD {} /\n", files.url("/never")))),
        ("a blob", raw(&plain, &llb(&[source(blob.clone(), &[])]), &[])),
        // It never asks about this one.
        ("a git bundle", raw(&plain, &llb(&[source(remote, &bundle)]), &[])),
    ] {
        refused(what, &ended);
    }
    assert_eq!((files.asked().len(), git.asked().len()), (0, 0));
    assert_eq!(world.registry.accesses(&["oldest-evil"]), [""; 0]);
    plain.build(&format!("{from}ADD {url}#main /src\n")).passed("an allowed repository");
    let said = gate(&proxied).build(&from);
    assert!(!said.passed && said.said.contains("needs BuildKit 0.31 or newer"), "{}", said.said);
}

/// As `deploy/kubernetes.yaml` has it: a gate that is nobody in particular, and a socket of the daemon
/// that its group alone may open.
#[test]
fn the_gate_is_no_root_and_opens_what_its_group_may() {
    const NOBODY: u32 = 65532;
    let world = need!(peers::world());
    let dockerfile = format!("FROM {}\nCOPY Dockerfile /d\n", world.image("base:1"));
    for (group, passes) in [(NOBODY, true), (NOBODY + 1, false)] {
        let sockets = tempfile::tempdir().unwrap();
        let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(sockets.path(), open).unwrap();
        let upstream = format!("unix://{}/buildkitd.sock", sockets.path().display());
        let options = ListenOptions {
            mode: Some(0o660),
            group: Some(group.to_string().into()),
            ..ListenOptions::at(upstream.parse().unwrap())
        };
        let _daemon = before(world, options, "");
        let dir = folder(&[("policy/p.rego", ALLOW)]);
        let listen = format!("--listen=unix://{}/gate.sock", dir.path().display());
        let upstream = format!("--upstream={upstream}");
        let args = [&listen, &upstream, "--policy=policy", "--decision-log=log"];
        let gate = Gate::start_as(NOBODY, dir, &args);
        let built = gate.build(&dockerfile);
        assert_eq!(built.passed, passes, "{group}: {}", built.said);
        let words = "cannot be reached: Permission denied";
        assert_eq!(built.said.contains(words), !passes, "{group}: {}", built.said);
        assert_eq!(gate.read("log").contains("\"action\":\"allow\""), passes, "{group}");
    }
}
