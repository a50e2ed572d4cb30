//! What only LLB can name, as Buildx hands it over: `docker buildx dial-stdio` carries whatever a client
//! says to the builder, so that Buildx is no way around either.

use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::{Command, Stdio};

use buildgate::source::SourceOp;
use buildgate::wire::proto::pb;
use serde_json::json;

use super::clients::{TCP, built_from, fed, raw, refused, source, tcp};
use crate::frontend_show::clients::{Buildx, Ended};
use crate::gate_enforce::only;
use crate::gate_process::Gate;
use crate::peers::{self, GitServer, HttpServer, llb, need};

/// Carries bytes from one to the other, each as soon as it is there.
fn carry(mut from: impl Read, mut to: impl Write) {
    let mut chunk = [0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..length]).and_then(|()| to.flush()).is_err() {
            return;
        }
    }
}

/// One connection, through a `buildx dial-stdio` of its own.
fn dial(buildx: &Buildx, connection: UnixStream) {
    let mut dialing = buildx
        .command(&["dial-stdio"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (input, output) = (dialing.stdin.take().unwrap(), dialing.stdout.take().unwrap());
    std::thread::scope(|scope| {
        scope.spawn(|| carry(&connection, input));
        carry(output, &connection);
        // It may be closed by the client already.
        let _ = connection.shutdown(Shutdown::Both);
    });
    dialing.wait().unwrap();
}

/// A socket whose connections lead through Buildx to its builder.
fn listen(buildx: Buildx, socket: &Path) {
    let listener = UnixListener::bind(socket).unwrap();
    let buildx = std::sync::Arc::new(buildx);
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let buildx = std::sync::Arc::clone(&buildx);
            std::thread::spawn(move || dial(&buildx, connection.unwrap()));
        }
    });
}

#[test]
fn what_comes_through_buildx_as_llb_is_judged() {
    let world = need!(peers::world());
    let git = need!(GitServer::start());
    let files = HttpServer::files([("/never", b"never".to_vec())]);
    let rego = only(
        "endswith(input.image.repo, \"base\")\nallow if endswith(input.git.remote, \"app.git\")",
    );
    let gate = Gate::before(world, &rego, &TCP);
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("dialed.sock");
    listen(need!(Buildx::at(&tcp(&gate))), &socket);
    let run = |definition: &pb::Definition| -> Ended {
        let mut build = Command::new(peers::pinned("buildctl").unwrap());
        build.arg(format!("--addr=unix://{}", socket.display()));
        build.args(["build", "--progress=plain", "--no-cache"]);
        fed(build, definition).wait_with_output().unwrap().into()
    };
    let image = |name: &str| SourceOp::new(format!("docker-image://{}", world.image(name)));
    let digest = format!("sha256:{}", "a".repeat(64));
    let blob = format!("docker-image+blob://{}@{digest}", world.image("dialed-evil"));
    let remote = format!("git://{}#main", git.url().trim_start_matches("http://"));
    let (url, commit) = (git.url(), git.object("main"));
    let plain = [("git.fullurl", url.as_str()), ("git.checksum", &commit)];
    let bundled = [&plain[..], &[("git.bundle", &blob)]].concat();
    run(&llb(&[image("base:1")])).passed("an allowed image");
    run(&llb(&[source(remote.clone(), &plain)])).passed("an allowed repository");
    let asked = git.asked().len();
    for (what, definition) in [
        ("an image", llb(&[image("dialed-evil:1")])),
        ("one of two", llb(&[image("base:1"), image("dialed-evil:2")])),
        ("a blob", llb(&[SourceOp::new(blob.clone())])),
        ("a git bundle", llb(&[source(remote, &bundled)])),
        ("a blob of a layout", llb(&[SourceOp::new(format!("oci-layout+blob://x@{digest}"))])),
        ("a layout", llb(&[SourceOp::new(format!("oci-layout://x@{digest}"))])),
        ("a file", llb(&[SourceOp::new(files.url("/never"))])),
    ] {
        refused(what, &run(&definition));
    }
    let ended = run(&built_from(image("base:1")));
    assert!(!ended.passed && ended.said.contains("--build-op"), "{}", ended.said);
    assert_eq!(world.registry.accesses(&["dialed-evil"]), [""; 0]);
    assert_eq!((files.asked().len(), git.asked().len()), (0, asked));
}

/// Rules as both stock clients take them from a file: the image becomes what is bad, and what is bad
/// becomes what is good.
fn swap(image: &str, evil: &GitServer, good: &GitServer) -> String {
    let host = |git: &GitServer| git.url().trim_start_matches("http://").to_owned();
    let rule = |from: &str, to: &str, url: &str| {
        json!({
            "action": "CONVERT",
            "selector": {"identifier": from},
            "updates": {"identifier": to, "attrs": {"git.fullurl": url}},
        })
    };
    let (evil_url, good_url) = (evil.url(), good.url());
    let rules = [
        rule(image, &format!("git://{evil_url}#main"), &evil_url),
        rule(
            &format!("git://{}#main", host(evil)),
            &format!("git://{}#main", host(good)),
            &good_url,
        ),
    ];
    json!({"version": 1, "rules": rules}).to_string()
}

#[test]
fn static_rules_of_stock_clients_swap_nothing() {
    let world = need!(peers::world());
    let (good, evil) = (need!(GitServer::start()), need!(GitServer::start()));
    let host = good.url().trim_start_matches("http://").split('/').next().unwrap().to_owned();
    // Metadata has to be resolved before the host decides.
    let rego = only(&format!("{{ input.git.checksum != \"\"\n input.git.host == \"{host}\" }}"));
    let gate = Gate::before(world, &rego, &TCP);
    let image = "docker-image://docker.io/library/start:1";
    let from = "FROM scratch\nCOPY --from=docker.io/library/start:1 / /\n";
    let files = peers::folder(&[("Dockerfile", from), ("swap.json", &swap(image, &evil, &good))]);
    let rules = files.path().join("swap.json");
    let option = format!("--source-policy-file={}", rules.display());
    let by_buildctl = raw(&gate, &llb(&[SourceOp::new(image)]), &[option]);
    let buildx = need!(Buildx::at(&tcp(&gate)));
    let mut build = buildx.command(&["build", "--progress=plain", "--no-cache"]);
    build.env("EXPERIMENTAL_BUILDKIT_SOURCE_POLICY", &rules).arg(files.path());
    let by_buildx: Ended = build.output().unwrap().into();
    for (client, ended) in [("buildctl", by_buildctl), ("Buildx", by_buildx)] {
        assert!(!ended.passed, "{client}: {}", ended.said);
        let words = "not allowed by policy: action DENY";
        assert!(ended.said.contains(words), "{client}: {}", ended.said);
    }
    assert_eq!((evil.asked().len(), good.asked().len()), (0, 0));
}

#[test]
fn an_image_without_attestations_ends_no_daemon_whoever_builds_on_it() {
    let world = need!(peers::world());
    let gate = Gate::before(world, &only("input.image.hasProvenance"), &TCP);
    let buildx = need!(Buildx::at(&tcp(&gate)));
    let pid = world.buildkit.pid();
    for (name, passes) in [
        ("app:attested", true),
        ("app:plain", false),
        ("app:docker", false),
        ("app:multi", false),
        ("app:multi-docker", false),
        ("app:docker-unknown", false),
    ] {
        let dockerfile = format!("FROM {}\n", world.image(name));
        let context = peers::folder(&[("Dockerfile", &dockerfile)]);
        let by_buildctl = gate.build(&dockerfile);
        let by_buildx = buildx.build(context.path(), &["--no-cache".to_owned()]);
        for (client, ended) in [("buildctl", by_buildctl), ("Buildx", by_buildx)] {
            match passes {
                true => drop(ended.passed(client)),
                false => refused(&format!("{name} by {client}"), &ended),
            }
        }
    }
    assert_eq!(world.buildkit.pid(), pid, "the daemon lives");
    let looked = world.buildkit.buildctl().args(["debug", "workers"]).status().unwrap();
    assert!(looked.success(), "{}", world.buildkit.log());
}
