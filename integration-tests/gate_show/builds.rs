//! A build through the gate is the build by the bare daemon, with either client; and whatever else
//! Buildx asks of a daemon is answered.

use std::os::unix::net::UnixListener;

use super::clients::{TCP, tcp};
use crate::frontend_show::builds::{Build, Client, Peers, is_pin, make, push_generator, table};
use crate::frontend_show::clients::{Buildx, Ended};
use crate::frontend_show::{ORG, oci, stock};
use crate::gate_process::Gate;
use crate::peers::{self, need};

/// How what comes through the gate differs from what comes without it.
fn check(peers: &Peers, row: &Build, bare: Client<'_>, gated: Client<'_>) -> Vec<String> {
    let frontend = stock(peers.world);
    match (make(row, &frontend, bare), make(row, &frontend, gated)) {
        (Ok(bare), Ok(gated)) => {
            let mut different = oci::differences(row.name, &bare, &gated);
            // Which layers of the steps in between provenance tells hangs on the daemon's haste; the
            // frontend's own table compares them (`frontend_show/builds.rs`).
            let of_steps =
                |it: &str| it.lines().next().is_some_and(|path| path.contains("metadata/layers"));
            different.retain(|it| !is_pin(peers, it) && !is_of_installation(it) && !of_steps(it));
            different
        }
        (bare, gated) => [bare.err(), gated.err()].into_iter().flatten().collect(),
    }
}

/// Whether a difference is the name that a Buildx gives its directories: each builder here is that of an
/// installation of its own.
fn is_of_installation(difference: &str) -> bool {
    let path = difference.lines().next().unwrap_or_default();
    path.contains("sharedkey:localdir:") || path.ends_with("/local.sharedkeyhint")
}

#[test]
fn builds_are_those_of_the_bare_daemon() {
    let peers = need!(Peers::start());
    let world = peers.world;
    let bare = need!(Buildx::get(world));
    let gate = Gate::before(world, ORG, &TCP);
    let gated = need!(Buildx::at(&tcp(&gate)));
    push_generator(world);
    let _agent = UnixListener::bind(peers.path("agent")).unwrap();
    let socket = format!("unix://{}", gate.path("gate.sock").display());
    let buildctl = [world.buildkit.address(), &socket].map(Client::Buildctl);
    let buildx = [bare, &gated].map(Client::Buildx);
    let mut different = Vec::new();
    for row in table(&peers) {
        for [bare, gated] in [buildctl, buildx] {
            different.extend(check(&peers, &row, bare, gated));
        }
    }
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn whatever_else_buildx_does_it_does_through_the_gate() {
    let world = need!(peers::world());
    let gate = Gate::before(world, ORG, &TCP);
    let buildx = need!(Buildx::at(&tcp(&gate)));
    let run = |args: &[&str]| {
        let mut command = buildx.command(args);
        command.env("BUILDX_BAKE_ENTITLEMENTS_FS", "0");
        let ended: Ended = command.output().unwrap().into();
        let ended = ended.passed(&args.join(" "));
        format!("{}{}", ended.output, ended.said)
    };
    let from = format!("FROM {}\nLABEL baked=yes\n", world.image("base:1"));
    let bake = "group \"default\" { targets = [\"a\", \"b\"] }\n\
                target \"a\" {}\ntarget \"b\" { contexts = { one = \"target:a\" } }\n";
    let context = peers::folder(&[("Dockerfile", &from), ("docker-bake.hcl", bake)]);
    let path = context.path().to_str().unwrap();
    let file = format!("--file={path}/docker-bake.hcl");
    let baked = run(&["bake", "--progress=plain", &file, &format!("--set=*.context={path}")]);
    assert!(baked.contains("policy] buildgate"), "{baked}");

    // What `--load` would hand to a Docker that is not there: an image in its own format.
    let image = context.path().join("image.tar");
    let told = context.path().join("told.json");
    let output = format!("--output=type=docker,name=loaded:1,dest={}", image.display());
    let metadata = format!("--metadata-file={}", told.display());
    run(&["build", "--progress=plain", &metadata, &output, path]);
    let listed = std::process::Command::new("tar").arg("-tf").arg(&image).output().unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).contains("manifest.json"), "{listed:?}");

    let told: serde_json::Value = serde_json::from_slice(&std::fs::read(told).unwrap()).unwrap();
    let build = told["buildx.build.ref"].as_str().unwrap().rsplit('/').next().unwrap();
    assert!(run(&["history", "ls", "--format={{.Ref}}"]).contains(build));
    let inspected = run(&["history", "inspect", "--format=json", build]);
    assert!(inspected.contains("\"completed\""), "{inspected}");
    run(&["history", "logs", "--progress=plain", build]);
    run(&["history", "rm", build]);
    assert!(!run(&["history", "ls", "--format={{.Ref}}"]).contains(build));
    assert!(run(&["du"]).contains("Total:"));
    assert!(run(&["prune", "--force", "--filter=until=9000h"]).contains("Total:"));

    // And what is refused is refused in each of these ways.
    let refused = format!("FROM {}\n", world.image("bake-refused:1"));
    std::fs::write(context.path().join("Dockerfile"), refused).unwrap();
    for args in
        [&["bake", &file, &format!("--set=*.context={path}")][..], &["build", &output, path]]
    {
        let ended: Ended =
            buildx.command(args).env("BUILDX_BAKE_ENTITLEMENTS_FS", "0").output().unwrap().into();
        assert!(!ended.passed && ended.said.contains("the org refuses"), "{}", ended.said);
    }
    assert_eq!(world.registry.accesses(&["bake-refused"]), [""; 0]);
}
