//! Where the gate looks for signatures: in registries with TLS of an authority of one's own and with a
//! password, which is that of whoever runs the gate; in mirrors; and by plain HTTP where it is told to.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::{BY_KEY, Repository, SIMPLE, layer, policy};
use crate::forge::{Forge, digest, key, public_pem};
use crate::gate_ops::Gate;
use crate::peers::{self, Authority, Buildkit, HttpServer, Response, need};

/// A gate that has a file of hosts of its own, in which `registry.test` is this machine: what is loopback
/// by its name is always asked by plain HTTP.
fn named(dir: TempDir, unshare: &Path, config: &Path, flags: &[String]) -> Gate {
    std::fs::write(dir.path().join("hosts"), "127.0.0.1 localhost registry.test\n").unwrap();
    let mut command = Command::new(unshare);
    let script = "mount --bind hosts /etc/hosts && exec \"$0\" \"$@\"";
    command.args(["--mount", "sh", "-euc", script, env!("CARGO_BIN_EXE_buildgate"), "serve"]);
    command.arg(format!("--listen=unix://{}/gate.sock", dir.path().display()));
    command.arg("--policy=policy").args(flags).env("DOCKER_CONFIG", config);
    Gate::run(dir, &mut command)
}

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_read_with_the_gates_own_password_and_trust() {
    let world = need!(peers::world());
    let unshare = need!(peers::installed("unshare", "util-linux"));
    let authority = Authority::new();
    let registry = need!(world.registry.behind_tls(&authority));
    let daemon = need!(Buildkit::start_trusting(world.registry.host(), &registry, &authority));
    let (repository, image) = Repository::with_image(world, "signed/locked").await;
    let signature = layer(SIMPLE, Forge::new(51).simple_by_key(&key(9), &image, false));
    repository.sign_by_tag(&image, &[signature]).await;
    let (rules, pem) = (policy(BY_KEY), public_pem(&key(9)));
    let (login, stranger) = (registry.login(), peers::folder(&[("config.json", "{}")]));
    let name = registry.name();
    let ca = format!("--ca-file={}", authority.file("ca").display());
    let mirror = format!("--registry-mirror=mirrored.test=https://{name}/");
    let at = |host: &str| format!("--signature-registries={host}");
    let pinned = format!("@{image}");
    for (what, host, config, flags, wanted) in [
        ("all", name.as_str(), &login, vec![at(&name), ca.clone()], Ok(pinned.as_str())),
        ("no trust", &name, &login, vec![at(&name)], Err("UnknownIssuer")),
        ("no password", &name, &stranger, vec![at(&name), ca.clone()], Err("refused access")),
        ("a mirror", "mirrored.test", &login, vec![at("mirrored.test"), ca, mirror], Ok(&pinned)),
    ] {
        let read = || registry.accesses(&["\"buildgate/", " 200 "]).len();
        let before = read();
        let dir = peers::folder(&[("policy/p.rego", &rules), ("policy/cosign.pub", &pem)]);
        let flags = [flags, vec![format!("--upstream={}", daemon.address())]].concat();
        let gate = named(dir, &unshare, config.path(), &flags);
        // The client has a password of its own, which is not the gate's.
        let dockerfile = format!("FROM {host}/signed/locked:1\n");
        let context = peers::folder(&[("Dockerfile", &dockerfile)]);
        let local = |name| format!("--local={name}={}", context.path().display());
        let mut build = gate.buildctl("gate.sock");
        build.args(["build", "--progress=plain", "--no-cache", "--frontend=dockerfile.v0"]);
        build.args(["context", "dockerfile"].map(local)).env("DOCKER_CONFIG", login.path());
        let output = build.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let (Ok(words) | Err(words)) = wanted;
        assert_eq!(output.status.success(), wanted.is_ok(), "{what}: {said}");
        assert!(said.contains(words), "{what}: {words:?} is not in: {said}");
        assert_eq!(read() > before, wanted.is_ok(), "{what}: {said}");
    }
}

#[test]
fn plain_http_is_spoken_where_it_is_told_to_be() {
    let world = need!(peers::world());
    let unshare = need!(peers::installed("unshare", "util-linux"));
    let (rules, pem) = (policy(BY_KEY), public_pem(&key(9)));
    for plain in [false, true] {
        let server = HttpServer::start(|_| Response::status(404));
        let port = server.url("").rsplit(':').next().unwrap().to_owned();
        let host = format!("registry.test:{port}");
        let dir = peers::folder(&[("policy/p.rego", &rules), ("policy/cosign.pub", &pem)]);
        let mut flags = vec![
            format!("--upstream={}", world.buildkit.address()),
            format!("--signature-registries={host}"),
        ];
        flags.extend(plain.then(|| format!("--plain-http={host}")));
        let nobody = dir.path().join("no-config");
        let gate = named(dir, &unshare, &nobody, &flags);
        let built = gate.build(&format!("FROM {host}/app@{}\n", digest("an image")));
        assert!(!built.passed, "{}", built.said);
        let ours = server.asked().into_iter().filter(|it| {
            it.headers.get("user-agent").is_some_and(|agent| agent.starts_with("buildgate/"))
        });
        assert_eq!(ours.count() > 0, plain, "{}", built.said);
    }
}
