//! A registry with a password, behind TLS of an authority of one's own: what rules read of its images is
//! asked by the daemon, with the credentials of the client whose build it is.

use std::path::Path;

use crate::frontend_show::clients::{Buildx, Ended};
use crate::gate_enforce::only;
use crate::gate_process::Gate;
use crate::peers::{self, Authority, Buildkit, need};

#[test]
fn what_is_locked_is_read_with_the_clients_own_password() {
    let world = need!(peers::world());
    let authority = Authority::new();
    let registry = need!(world.registry.behind_tls(&authority));
    let daemon = need!(Buildkit::start_trusting(world.registry.host(), &registry, &authority));
    let labelled = peers::folder(&[("Dockerfile", "FROM scratch\nLABEL tier=ours\n")]);
    world.buildkit.push(labelled.path(), &world.image("locked/app:1"), &[], "");
    let locked = format!("{}/locked/app:1", registry.host());
    let login = registry.login();
    let stranger = peers::folder(&[("config.json", "{}")]);

    // A gate that has no password itself, and trusts nobody.
    let rego = only("input.image.labels.tier == \"ours\"\nallow if input.image.labels.made");
    let dir = peers::folder(&[("policy/p.rego", &rego)]);
    let listen = format!("unix://{}/gate.sock", dir.path().display());
    let args = ["--listen", &listen, "--upstream", daemon.address(), "--policy", "policy"];
    let nobody = stranger.path().display().to_string();
    let gate = Gate::start(dir, &args, &[("DOCKER_CONFIG", &nobody)]);
    let buildx = need!(Buildx::at(&listen));
    let by = |client: &str, config: &Path, rego: Option<&str>| -> Ended {
        let from = format!("FROM {locked}\n");
        let mut files = vec![("Dockerfile", from.as_str())];
        files.extend(rego.map(|rego| ("Dockerfile.rego", rego)));
        let context = peers::folder(&files);
        let path = context.path().display().to_string();
        let mut build = match client {
            "buildctl" => {
                let mut build = gate.buildctl("gate.sock");
                build.args(["build", "--progress=plain", "--no-cache", "--frontend=dockerfile.v0"]);
                build.args(["context", "dockerfile"].map(|name| format!("--local={name}={path}")));
                build
            }
            _ => buildx.command(&["build", "--progress=plain", "--no-cache", &path]),
        };
        build.env("DOCKER_CONFIG", config).output().unwrap().into()
    };
    let locked_out = "401 Unauthorized";
    let theirs = only("input.image.labels.tier == \"ours\"").replace("ours says", "theirs says");
    let theirs_no = theirs.replace("\"ours\"", "\"others\"");
    for (client, config, rego, wanted) in [
        ("buildctl", &login, None, None),
        ("buildx", &login, None, None),
        // With a verifier of its own, which reads the same, we stand in the middle of the session that
        // the password comes by.
        ("buildx", &login, Some(&theirs), None),
        ("buildx", &login, Some(&theirs_no), Some("theirs says no")),
        ("buildctl", &stranger, None, Some(locked_out)),
        ("buildx", &stranger, None, Some(locked_out)),
    ] {
        let ended = by(client, config.path(), rego.map(String::as_str));
        let what = format!("{client} {rego:?}: {}\n{}", ended.said, daemon.log());
        assert_eq!(ended.passed, wanted.is_none(), "{what}");
        assert!(ended.said.contains(wanted.unwrap_or_default()), "{what}");
    }
    gate.write("policy/p.rego", &only("input.image.labels.tier == \"others\""));
    crate::gate_process::until("the new rules", || gate.log().contains("revision 2").then_some(()));
    for client in ["buildctl", "buildx"] {
        let ended = by(client, login.path(), None);
        assert!(!ended.passed && ended.said.contains("ours says no"), "{client}: {}", ended.said);
    }
    assert!(!registry.accesses(&["/v2/locked/app/", " 200 "]).is_empty());
    // All of it by the daemon: the gate asked for nothing.
    assert_eq!(registry.accesses(&["\"buildgate/"]), [""; 0]);
}
