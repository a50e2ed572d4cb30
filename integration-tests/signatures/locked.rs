//! Where the gate looks for signatures: in registries with TLS of an authority of one's own and with a
//! password, which is that of whoever runs the gate; in mirrors; and by plain HTTP where it is told to.

use std::process::Command;

use super::{BY_KEY, Repository, SIMPLE, layer, policy};
use crate::forge::{Forge, digest, key, public_pem};
use crate::gate_ops::Gate;
use crate::peers::{self, Authority, Buildkit, HttpServer, Response, need};

#[tokio::test(flavor = "multi_thread")]
async fn signatures_are_read_with_the_gates_own_password_and_trust() {
    let world = need!(peers::world());
    let authority = Authority::new();
    let registry = need!(world.registry.behind_tls(&authority));
    let daemon = need!(Buildkit::start_trusting(
        world.registry.host(),
        registry.host(),
        &authority
    ));
    let (repository, image) = Repository::with_image(world, "signed/locked").await;
    let signature = layer(SIMPLE, Forge::new(51).simple_by_key(&key(9), &image, false));
    repository.sign_by_tag(&image, &[signature]).await;
    let (rules, pem) = (policy(BY_KEY), public_pem(&key(9)));
    let (login, stranger) = (registry.login(), peers::folder(&[("config.json", "{}")]));
    let ca = format!("--ca-file={}", authority.file("ca").display());
    let host = registry.host();
    let locked = format!("{host}/signed/locked:1");
    // The image is in two places, and its signature is looked for in the one that mirrors the other.
    let open = repository.reference("1");
    let mirror = format!("--registry-mirror={}=https://{host}/", world.registry.host());
    let at = |host: &str| format!("--signature-registries={host}");
    let pinned = format!("@{image}");
    for (what, named, config, flags, wanted) in [
        ("all", &locked, &login, vec![at(host), ca.clone()], Ok(pinned.as_str())),
        ("no trust", &locked, &login, vec![at(host)], Err("UnknownIssuer")),
        ("no password", &locked, &stranger, vec![at(host), ca.clone()], Err("401")),
        (
            "a mirror",
            &open,
            &login,
            vec![at(world.registry.host()), ca.clone(), mirror.clone()],
            Ok(&pinned),
        ),
    ] {
        let before = registry.accesses(&["\"buildgate/", " 200 "]).len();
        let dir = peers::folder(&[("policy/p.rego", &rules), ("policy/cosign.pub", &pem)]);
        let listen = format!("--listen=unix://{}/gate.sock", dir.path().display());
        let upstream = format!("--upstream={}", daemon.address());
        let flags: Vec<String> =
            flags.into_iter().chain([listen, upstream, "--policy=policy".to_owned()]).collect();
        let args: Vec<&str> = flags.iter().map(String::as_str).collect();
        let config = config.path().display().to_string();
        let gate = Gate::start(dir, &args, &[("DOCKER_CONFIG", &config)]);
        // The client has a password of its own, which is not the gate's.
        let context = peers::folder(&[("Dockerfile", &format!("FROM {named}\n"))]);
        let local = |name| format!("--local={name}={}", context.path().display());
        let mut build = gate.buildctl("gate.sock");
        build.args(["build", "--progress=plain", "--no-cache", "--frontend=dockerfile.v0"]);
        build.args(["context", "dockerfile"].map(local)).env("DOCKER_CONFIG", login.path());
        let output = build.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let (Ok(words) | Err(words)) = wanted;
        assert_eq!(output.status.success(), wanted.is_ok(), "{what}: {said}");
        assert!(said.contains(words), "{what}: {words:?} is not in: {said}");
        let read = registry.accesses(&["\"buildgate/", " 200 "]).len() > before;
        assert_eq!(read, wanted.is_ok(), "{what}: {said}");
    }
}

/// Only by a name that is not loopback's, for which the gate has a file of hosts of its own: loopback is
/// always asked by plain HTTP.
#[test]
fn plain_http_is_spoken_where_it_is_told_to_be() {
    let world = need!(peers::world());
    let unshare = need!(peers::installed("unshare", "util-linux"));
    let (rules, pem) = (policy(BY_KEY), public_pem(&key(9)));
    for plain in [false, true] {
        let server = HttpServer::start(|_| Response::status(404));
        let port = server.url("").rsplit(':').next().unwrap().to_owned();
        let host = format!("registry.test:{port}");
        let dir = peers::folder(&[
            ("policy/p.rego", &rules),
            ("policy/cosign.pub", &pem),
            ("hosts", "127.0.0.1 localhost registry.test\n"),
        ]);
        let mut command = Command::new(&unshare);
        let script = "mount --bind hosts /etc/hosts && exec \"$0\" \"$@\"";
        command.args(["--mount", "sh", "-euc", script, env!("CARGO_BIN_EXE_buildgate"), "serve"]);
        command.arg(format!("--listen=unix://{}/gate.sock", dir.path().display()));
        command.args(["--upstream", world.buildkit.address(), "--policy=policy"]);
        command.arg(format!("--signature-registries={host}"));
        command.args(plain.then(|| format!("--plain-http={host}")));
        let gate = Gate::run(dir, &mut command);
        let built = gate.build(&format!("FROM {host}/app@{}\n", digest("an image")));
        assert!(!built.passed, "{}", built.said);
        let ours = server.asked().into_iter().filter(|it| {
            it.headers.get("user-agent").is_some_and(|agent| agent.starts_with("buildgate/"))
        });
        assert_eq!(ours.count() > 0, plain, "{}", built.said);
    }
}
