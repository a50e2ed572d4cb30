//! What is in `deploy/`, tried as far as goes without systemd and Kubernetes: the unit's and the manifest's
//! own commands, users, settings and configuration, with paths and ports of this test.

use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use buildgate::gate::proxy::{Forward, ListenOptions};
use serde::Deserialize as _;
use serde_yaml_ng::Value;
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

#[test]
fn the_kubernetes_manifest_and_its_configuration_are_good() {
    let manifest = Manifest::read();
    let of = |kind: &str, name: &str| manifest.of(kind, name);
    let data = |map: &str, key: &str| manifest.data(map, key);
    let pod = manifest.pod();
    let container = |name: &str| manifest.container(name);

    // The socket is in a volume that these two mount, and nobody else.
    let volume = |container: &Value| {
        let mounts = container["volumeMounts"].as_sequence().unwrap().clone();
        mounts.into_iter().find(|it| it["mountPath"] == "/run/buildkit").unwrap()["name"].clone()
    };
    assert_eq!(volume(container("gate")), volume(container("buildkitd")));
    assert_eq!(pod["containers"].as_sequence().unwrap().len(), 2);
    let address = "unix:///run/buildkit/buildkitd.sock";
    assert_eq!(container("buildkitd")["args"][1], address);

    // The image is the frontend's, and what it would run by itself is the frontend.
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let image = std::fs::read_to_string(root.join("frontend-image/Dockerfile")).unwrap();
    let entrypoint = image.lines().find_map(|line| line.strip_prefix("ENTRYPOINT ")).unwrap();
    let entrypoint: Vec<String> = serde_json::from_str(entrypoint).unwrap();
    assert_eq!(entrypoint[1..], ["frontend"]);
    let command = container("gate")["command"].as_sequence().unwrap();
    assert_eq!(command.as_slice(), [entrypoint[0].as_str()]);
    assert_eq!(container("gate")["args"][0], "serve");
    let service = &of("Service", "buildkit")["spec"]["ports"];
    assert_eq!(service.as_sequence().unwrap().len(), 1, "builds alone");

    // What the gate reads is good, with the arguments that it is started with.
    let config = data("buildgate", "gate.toml");
    assert!(config.contains(address));
    let dir = folder(&[("policy/policy.rego", &data("buildgate-policy", "policy.rego"))]);
    certificates(dir.path(), ["tls/tls.crt", "tls/tls.key", "tls/ca.crt"]);
    certificates(dir.path(), ["ca/ca.crt", "ca/ca.key", "ca/ca.crt"]);
    let here = dir.path().display().to_string();
    std::fs::create_dir(dir.path().join("config")).unwrap();
    let config = config.replace("/etc/buildgate", &here);
    let args = container("gate")["args"].as_sequence().unwrap().iter();
    let args: Vec<String> =
        args.map(|arg| arg.as_str().unwrap().replace("/etc/buildgate", &here)).collect();
    let args: Vec<&str> = args.iter().skip(1).map(String::as_str).collect();
    // Also with what its comments offer.
    let offered = ["signature-registries", "ca-file"].iter().fold(config.clone(), |config, key| {
        assert!(config.contains(&format!("# {key} = ")), "{key}");
        config.replace(&format!("# {key} = "), &format!("{key} = "))
    });
    for config in [&config, &offered] {
        std::fs::write(dir.path().join("config/gate.toml"), config).unwrap();
        let output = check(dir.path(), &args);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(0), "{said}");
    }
    let listens = |port: &Value| config.contains(&format!("0.0.0.0:{}", port.as_u64().unwrap()));
    let ports = container("gate")["ports"].as_sequence().unwrap();
    assert!(ports.iter().all(|port| listens(&port["containerPort"])), "{config}");
}

/// The manifest, parsed.
struct Manifest(Vec<Value>);

impl Manifest {
    fn read() -> Self {
        let text = deployed("kubernetes.yaml");
        let documents = serde_yaml_ng::Deserializer::from_str(&text);
        Self(documents.map(|document| Value::deserialize(document).unwrap()).collect())
    }

    fn of(&self, kind: &str, name: &str) -> &Value {
        let it = self.0.iter().find(|it| it["kind"] == kind && it["metadata"]["name"] == name);
        it.unwrap_or_else(|| panic!("there is no {kind} {name}"))
    }

    fn data(&self, map: &str, key: &str) -> String {
        self.of("ConfigMap", map)["data"][key].as_str().unwrap().to_owned()
    }

    fn pod(&self) -> &Value {
        &self.of("Deployment", "buildkit")["spec"]["template"]["spec"]
    }

    fn container(&self, name: &str) -> &Value {
        let all = self.pod()["containers"].as_sequence().unwrap();
        all.iter().find(|it| it["name"] == name).unwrap()
    }
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

/// A folder as Kubernetes mounts a ConfigMap or a Secret: links to a folder that is exchanged whole.
fn mounted(folder: &Path, files: &[(&str, String)]) {
    let data = folder.join("..2026_11_21");
    std::fs::create_dir_all(&data).unwrap();
    std::os::unix::fs::symlink("..2026_11_21", folder.join("..data")).unwrap();
    for (name, text) in files {
        std::fs::write(data.join(name), text).unwrap();
        open(&data.join(name), 0o440);
        let group = Some(GATE);
        std::os::unix::fs::chown(data.join(name), Some(0), group).unwrap();
        std::os::unix::fs::symlink(Path::new("..data").join(name), folder.join(name)).unwrap();
    }
}

/// Builds by the Buildx that the manifest's first lines set up.
fn by_buildx(ours: &Authority, address: &str) {
    let manifest = deployed("kubernetes.yaml").replace("\\\n#", "");
    let line = manifest.lines().find_map(|line| line.strip_prefix("#   docker buildx ")).unwrap();
    let file = |name: &str| ours.file(name).display().to_string();
    let line = line.replace("ca.pem", &file("ca")).replace("me.pem", &file("me"));
    let line = line
        .replace("key=me.key", &format!("key={},servername=buildkit.build.svc", file("me.key")));
    let line = line.replace("buildkit.build.svc:1234", address);
    let config = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| -> Ended {
        let mut command = Command::new(peers::pinned("buildx").unwrap());
        command.env("BUILDX_CONFIG", config.path()).env("DOCKER_CONFIG", config.path());
        command.args(args).output().unwrap().into()
    };
    let create: Vec<&str> = line.split_whitespace().chain(["--use"]).collect();
    run(&create).passed("docker buildx create");
    let context = folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let path = context.path().display().to_string();
    run(&["build", "--progress=plain", &path]).passed("docker buildx build");
}

#[test]
fn the_manifests_container_runs_as_it_is_written() {
    let world = need!(peers::world());
    let setpriv = need!(peers::installed("setpriv", "util-linux"));
    let manifest = Manifest::read();
    let container = manifest.container("gate");
    let security = &container["securityContext"];
    let [user, group] = ["runAsUser", "runAsGroup"]
        .map(|key| u32::try_from(security[key].as_u64().unwrap()).unwrap());
    assert_eq!(manifest.pod()["securityContext"]["fsGroup"], security["runAsGroup"]);
    assert_eq!(security["capabilities"]["drop"][0], "ALL");
    assert_eq!(manifest.container("buildkitd")["args"][3], group.to_string().as_str());
    let daemon = Daemon::of_group(world, group);
    let ours = Authority::new();
    ours.sign("gate", rcgen::SanType::DnsName("buildkit.build.svc".try_into().unwrap()));
    ours.sign("me", rcgen::SanType::DnsName("me".try_into().unwrap()));
    let read = |name: &str| std::fs::read_to_string(ours.file(name)).unwrap();

    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().display().to_string();
    let config = replaced(
        &manifest.data("buildgate", "gate.toml"),
        &[
            ("unix:///run/buildkit/buildkitd.sock", daemon.address()),
            ("/etc/buildgate", root.clone()),
            ("0.0.0.0:1234", "127.0.0.1:0".to_owned()),
            ("0.0.0.0:9464", "127.0.0.1:0".to_owned()),
        ],
    );
    let policy = manifest.data("buildgate-policy", "policy.rego");
    mounted(&dir.path().join("config"), &[("gate.toml", config)]);
    mounted(&dir.path().join("policy"), &[("policy.rego", policy)]);
    mounted(
        &dir.path().join("tls"),
        &[("tls.crt", read("gate")), ("tls.key", read("gate.key")), ("ca.crt", read("ca"))],
    );
    open(dir.path(), 0o755);
    let args = container["args"].as_sequence().unwrap().iter();
    let args = args.map(|arg| arg.as_str().unwrap().replace("/etc/buildgate", &root));
    let own = dir.path().join("buildgate");
    std::fs::copy(BUILDGATE, &own).unwrap();
    let mut command = Command::new(setpriv);
    command.args([format!("--reuid={user}"), format!("--regid={group}")]);
    command.args(["--clear-groups", "--bounding-set=-all", "--inh-caps=-all", "--no-new-privs"]);
    command.arg(own).args(args).env_clear();
    let mut gate = Gate::run(dir, &mut command);

    // What the kubelet asks, and the order in which it lets builds end.
    let port = |name: &str| {
        let ports = container["ports"].as_sequence().unwrap();
        ports.iter().find(|port| port["name"] == name).unwrap()["containerPort"].as_u64()
    };
    assert_eq!((port("build"), port("metrics")), (Some(1234), Some(9464)));
    until("the daemon", || gate.http("/readyz").starts_with("HTTP/1.1 200 ").then_some(()));
    for probe in ["livenessProbe", "readinessProbe"] {
        let asked = &container[probe]["httpGet"];
        assert_eq!(asked["port"], "metrics");
        let answer = gate.http(asked["path"].as_str().unwrap());
        assert!(answer.starts_with("HTTP/1.1 200 "), "{probe}: {answer}");
    }
    let log = gate.log();
    let line = log.lines().find(|line| line.contains("clients come in at tcp://")).unwrap();
    let address = line.split("clients come in at tcp://").nth(1).unwrap();
    let address: String =
        address.chars().take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
    TcpStream::connect(&address).unwrap();
    let run = |certificate: Option<&str>, args: &[&str]| -> Ended {
        let mut command = Command::new(peers::pinned("buildctl").unwrap());
        command.arg(format!("--addr=tcp://{address}")).arg("--tlsservername=buildkit.build.svc");
        command.arg("--tlscacert").arg(ours.file("ca")).arg("--timeout=5");
        if let Some(name) = certificate {
            command.arg("--tlscert").arg(ours.file(name));
            command.arg("--tlskey").arg(ours.file(&format!("{name}.key")));
        }
        command.args(args).output().unwrap().into()
    };
    let build = |dockerfile: &str| {
        let context = peers::folder(&[("Dockerfile", dockerfile)]);
        let local = |name| format!("--local={name}={}", context.path().display());
        let locals = ["context", "dockerfile"].map(local);
        let args =
            ["build", "--progress=plain", "--frontend=dockerfile.v0", &locals[0], &locals[1]];
        run(Some("me"), &args)
    };
    build("FROM scratch\nCOPY Dockerfile /\n").passed("what the policy allows");
    by_buildx(&ours, &address);
    let denied = build(&format!("FROM {}\n", world.image("base:1")));
    assert!(!denied.passed && denied.said.contains("not allowed by policy"), "{}", denied.said);
    let pruned = run(Some("me"), &["prune"]);
    assert!(!pruned.passed && pruned.said.contains("is not open"), "{}", pruned.said);
    assert!(!run(None, &["debug", "workers"]).passed, "nobody comes in without a certificate");
    gate.signal("-TERM");
    assert_eq!(gate.ended(), 0, "{}", gate.log());
    let drain = manifest.data("buildgate", "gate.toml");
    let drain = drain.lines().find_map(|line| line.strip_prefix("drain = ")).unwrap();
    let grace = manifest.pod()["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(drain.parse::<u64>().unwrap() < grace);
    let written = gate.read("stdout");
    assert!(written.contains("\"client\":\"dns:me\"") && written.contains("\"deny\""), "{written}");
}
