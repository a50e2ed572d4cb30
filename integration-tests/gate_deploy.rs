//! What is in `deploy/`, tried as far as goes without systemd and Kubernetes: the unit's and the manifest's
//! own commands, users, settings and configuration, with paths and ports of this test.

mod kubernetes;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use buildgate::gate::proxy::{Forward, ListenOptions};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::frontend_show::clients::Ended;
use crate::gate_process::{Gate, check, until};
use crate::gate_show::between::stand;
use crate::peers::{self, Authority, World, folder, need};

const BUILDGATE: &str = env!("CARGO_BIN_EXE_buildgate");
const ALLOW: &str = "package docker\ndecision := {\"allow\": true}\n";
const DENY: &str = "package docker\ndefault allow := false\nallow if input.local\n\
                    decision := {\"allow\": allow, \"deny_msg\": \"not today\"}\n";

/// A certificate for everything that a configuration names.
fn certificates(dir: &Path, names: [&str; 3]) {
    let key = rcgen::KeyPair::generate().unwrap();
    let params = rcgen::CertificateParams::new(vec!["gate".to_owned()]).unwrap();
    let cert = params.self_signed(&key).unwrap();
    for (name, text) in names.iter().zip([cert.pem(), key.serialize_pem(), cert.pem()]) {
        std::fs::create_dir_all(dir.join(name).parent().unwrap()).unwrap();
        std::fs::write(dir.join(name), text).unwrap();
    }
}

fn deployed(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy").join(name);
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn the_systemd_unit_and_its_configuration_are_good() {
    let dir = folder(&[
        ("gate.toml", &deployed("gate.toml")),
        ("policy/base/p.rego", ALLOW),
        ("policy/production/p.rego", DENY),
    ]);
    certificates(dir.path(), ["tls/gate.pem", "tls/gate.key", "tls/clients.pem"]);
    let unit = deployed("buildgate.service").replace("/usr/bin/buildgate", BUILDGATE);
    let starts = unit.lines().filter_map(|line| {
        let command = line.strip_prefix("ExecStart").and_then(|line| line.split_once('='))?.1;
        Some(command.strip_prefix(BUILDGATE).unwrap().to_owned())
    });
    let starts: Vec<String> = starts.collect();
    assert_eq!(starts.len(), 2, "{unit}");
    for command in starts {
        let command = command.replace("/etc/buildgate", &dir.path().display().to_string());
        let args: Vec<&str> = command.split_whitespace().skip(1).collect();
        let args: Vec<&str> = args.into_iter().filter(|arg| *arg != "--check").collect();
        let output = check(dir.path(), &args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{command}: {said}");
    }
    // No home is to be seen from there, so that its credentials are elsewhere.
    for line in ["ProtectHome=true", "Environment=DOCKER_CONFIG=/etc/buildgate/docker"] {
        assert!(unit.lines().any(|it| it == line), "{line}");
    }
    std::fs::write(dir.path().join("buildgate.service"), unit).unwrap();
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "buildgate.service"]).current_dir(dir.path());
    need!(peers::installed("systemd-analyze", "systemd"));
    let verified = verify.output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("buildgate"), "{said}");
}

/// The shared daemon at a socket that this group alone may open, in a folder that all may look into.
struct Daemon {
    folder: TempDir,
    _runtime: Runtime,
}

impl Daemon {
    fn of_group(world: &World, group: u32) -> Self {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), 0o755);
        let address = format!("unix://{}/buildkitd.sock", folder.path().display());
        let options = ListenOptions {
            mode: Some(0o660),
            group: Some(group.to_string().into()),
            ..ListenOptions::at(address.parse().unwrap())
        };
        let runtime = stand(world, options, Arc::new(Forward));
        Self { folder, _runtime: runtime }
    }

    fn address(&self) -> String {
        format!("unix://{}/buildkitd.sock", self.folder.path().display())
    }
}

fn open(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// `key = value` of the unit.
fn setting<'u>(unit: &'u str, key: &str) -> &'u str {
    let value = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    value.unwrap_or_else(|| panic!("the unit has no {key}"))
}

/// The unit's own process: its user, groups, limits and privileges, told where systemd listens.
fn by_the_unit(unit: &str, setpriv: &Path, dir: &Path) -> Command {
    assert_eq!(setting(unit, "NoNewPrivileges"), "true");
    assert_eq!(setting(unit, "CapabilityBoundingSet"), "");
    assert_eq!(setting(unit, "AmbientCapabilities"), "");
    let [umask, files] = ["UMask", "LimitNOFILE"].map(|key| setting(unit, key));
    let mut command = Command::new("sh");
    // Not every root may raise what it may open.
    let script =
        format!("umask {umask}; ulimit -n {files} 2>/dev/null || true; exec \"$0\" \"$@\"");
    command.args(["-euc", &script]).arg(setpriv);
    command.args([
        format!("--reuid={GATE}"),
        format!("--regid={GATE}"),
        format!("--groups={DOCKER}"),
        "--bounding-set=-all".to_owned(),
        "--inh-caps=-all".to_owned(),
        "--ambient-caps=-all".to_owned(),
        "--no-new-privs".to_owned(),
    ]);
    let start =
        setting(unit, "ExecStart").replace("/etc/buildgate", &format!("{}/etc", dir.display()));
    let mut words = start.split_whitespace();
    assert_eq!(words.next(), Some("/usr/bin/buildgate"));
    command.arg(dir.join("buildgate")).args(words);
    command.env_clear().env("NOTIFY_SOCKET", dir.join("notify"));
    command
}

/// `buildgate`, and `docker` of whom it is in besides.
const GATE: u32 = 65532;
const DOCKER: u32 = 65533;

/// Replaces what a configuration says once.
fn replaced(config: &str, replacements: &[(&str, String)]) -> String {
    replacements.iter().fold(config.to_owned(), |config, (from, to)| {
        assert!(config.contains(from), "{from} is not in: {config}");
        config.replace(from, to)
    })
}

#[test]
fn the_unit_runs_as_it_is_written() {
    let world = need!(peers::world());
    let setpriv = need!(peers::installed("setpriv", "util-linux"));
    let daemon = Daemon::of_group(world, GATE);
    let ours = Authority::new();
    ours.sign("gate", rcgen::SanType::DnsName("gate.example".try_into().unwrap()));
    let dir = folder(&[
        ("etc/policy/base/p.rego", DENY),
        ("etc/policy/production/p.rego", DENY),
        ("etc/tls/none", ""),
        ("run/none", ""),
        ("log/none", ""),
    ]);
    let at = |name: &str| dir.path().join(name);
    for (from, to) in [("gate", "gate.pem"), ("gate.key", "gate.key"), ("ca", "clients.pem")] {
        std::fs::copy(ours.file(from), at("etc/tls").join(to)).unwrap();
    }
    let path = |name: &str| at(name).display().to_string();
    let config = replaced(
        &deployed("gate.toml"),
        &[
            ("unix:///run/buildkit/buildkitd.sock", daemon.address()),
            ("/var/log/buildgate", path("log")),
            ("/run/buildgate", path("run")),
            ("listen-group = \"docker\"", format!("listen-group = \"{DOCKER}\"")),
            ("127.0.0.1:9464", "127.0.0.1:0".to_owned()),
            ("0.0.0.0:1234", "127.0.0.1:0".to_owned()),
        ],
    );
    std::fs::write(at("etc/gate.toml"), config).unwrap();
    std::fs::copy(BUILDGATE, at("buildgate")).unwrap();
    // The folders that systemd makes for it, and everything else, which it may read.
    let chown = Command::new("chown").arg("-R").arg(GATE.to_string()).arg(dir.path()).status();
    assert!(chown.unwrap().success());
    open(dir.path(), 0o755);
    let systemd = UnixDatagram::bind(at("notify")).unwrap();
    open(&at("notify"), 0o777);
    systemd.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let told = || {
        let mut text = [0; 64];
        let length = systemd.recv(&mut text).unwrap();
        String::from_utf8(text[..length].to_vec()).unwrap()
    };

    let unit = deployed("buildgate.service");
    let mut command = by_the_unit(&unit, &setpriv, dir.path());
    let mut gate = Gate::run(dir, &mut command);
    assert_eq!(told(), "READY=1");
    let status = std::fs::read_to_string(format!("/proc/{}/status", gate.child.id())).unwrap();
    for line in ["NoNewPrivs:\t1", "CapEff:\t0000000000000000", "CapBnd:\t0000000000000000"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    // Its socket is for whom `listen-group` says, and what it writes down for nobody but itself.
    let socket = std::fs::metadata(gate.path("run/gate.sock")).unwrap();
    assert_eq!((socket.gid(), socket.mode() & 0o777), (DOCKER, 0o660));
    let log = std::fs::metadata(gate.path("log/decisions.jsonl")).unwrap();
    assert_eq!((log.uid(), log.mode() & 0o777), (GATE, 0o600));

    let denied = gate.building(&format!("FROM {}\n", world.image("base:1")), "run/gate.sock").end();
    assert!(!denied.passed && denied.said.contains("not today"), "{}", denied.said);
    let built = gate.building("FROM scratch\nCOPY Dockerfile /\n", "run/gate.sock").end();
    assert!(built.passed, "{}", built.said);
    let pruned: Ended = gate.buildctl("run/gate.sock").arg("prune").output().unwrap().into();
    assert!(!pruned.passed && pruned.said.contains("is not open"), "{}", pruned.said);

    // As systemd would have it read its policies anew and reopen its log, and end.
    std::fs::rename(gate.path("log/decisions.jsonl"), gate.path("log/old")).unwrap();
    let pid = gate.child.id().to_string();
    let reload = setting(&unit, "ExecReload").replace("$MAINPID", &pid);
    let mut words = reload.split_whitespace();
    assert!(Command::new(words.next().unwrap()).args(words).status().unwrap().success());
    until("a new log", || gate.path("log/decisions.jsonl").exists().then_some(()));
    gate.signal("-TERM");
    assert_eq!(told(), "STOPPING=1");
    assert_eq!(gate.ended(), 0, "{}", gate.log());
    // Builds end before systemd loses its patience.
    let drain = deployed("gate.toml");
    let drain = drain.lines().find_map(|line| line.strip_prefix("drain = ")).unwrap();
    let [drain, patience] =
        [drain, setting(&unit, "TimeoutStopSec")].map(|it| it.parse::<u64>().unwrap());
    assert!(drain < patience);
    for line in gate.log().lines() {
        assert!(
            serde_json::from_str::<serde_json::Value>(line).is_ok(),
            "--log-format json: {line}"
        );
    }
}
