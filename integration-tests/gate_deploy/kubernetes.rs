//! The Kubernetes manifest: its parts fit, and its container runs as it is written.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use serde::Deserialize as _;
use serde_yaml_ng::Value;

use super::{BUILDGATE, Daemon, GATE, certificates, deployed, open, replaced};
use crate::frontend_show::clients::Ended;
use crate::gate_process::{Gate, check, until};
use crate::peers::{self, Authority, folder, need};

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
    // The daemon knows the frontends that the gate knows, where it looks for its configuration.
    let settings = data("buildkitd", "buildkitd.toml");
    assert!(deployed("buildkitd.toml").ends_with(&settings), "{settings}");
    let mounts = container("buildkitd")["volumeMounts"].as_sequence().unwrap();
    assert!(
        mounts.iter().any(|it| it["mountPath"] == "/etc/buildkit" && it["name"] == "buildkitd")
    );
    let repositories = settings.split_once("= [").unwrap().1.trim().trim_end_matches(']');
    let frontends = format!("frontends = [\"dockerfile.v0\", {repositories}]");
    assert!(data("buildgate", "gate.toml").contains(&frontends), "{frontends}");
    assert!(deployed("gate.toml").contains(&frontends));

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

/// Builds by the Buildx that the manifest's first lines set up, word for word but for the address.
fn by_buildx(ours: &Authority, address: &str) {
    let manifest = deployed("kubernetes.yaml");
    let shown = manifest.lines().skip_while(|line| !line.contains("docker buildx create"));
    let shown = shown.take_while(|line| line.starts_with("# ")).map(|line| &line[1..]);
    let command = shown.collect::<Vec<_>>().join("\n");
    assert!(command.contains("tcp://buildkit.build.svc:1234"), "{command}");
    // The name that the certificate has, and that nobody resolves here.
    let command = command.replace("me.key\"", "me.key,servername=buildkit.build.svc\"");
    let command = command.replace("buildkit.build.svc:1234", address);
    let dir = folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    for (from, to) in [("ca", "ca.pem"), ("me", "me.pem"), ("me.key", "me.key")] {
        std::fs::copy(ours.file(from), dir.path().join(to)).unwrap();
    }
    let script = format!(
        "docker() {{ shift; \"$BUILDX\" \"$@\"; }}\n{command} --use --name=gate\n\
         docker buildx build --progress=plain ."
    );
    let mut sh = Command::new("sh");
    sh.args(["-euc", &script]).env("BUILDX", peers::pinned("buildx").unwrap());
    sh.env("BUILDX_CONFIG", dir.path()).env("DOCKER_CONFIG", dir.path()).current_dir(dir.path());
    Ended::from(sh.output().unwrap()).passed(&script);
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
