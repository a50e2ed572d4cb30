//! The image itself, by the script behind `make image`; every test of the frontend runs what it made.

use std::collections::BTreeSet;
use std::process::Command;

use serde_json::Value;

use super::clients::{self, Ended, Frontend};
use super::{binary, gate, stock};
use crate::peers::{self, Buildkit, HttpServer, Response, World, need};

/// The org's rules read what lies beside them, in a folder too.
const RULES: &str = "package docker\n\
    import data.lib.hosts\n\
    default allow := false\n\
    allow if input.local\n\
    allow if { hosts.ours(input.image.repo) }\n\
    deny_msg contains sprintf(\"%s is not among ours\", [input.image.repo]) if not allow\n\
    decision := {\"allow\": allow, \"deny_msg\": deny_msg}\n";
const HOSTS: &str = "package lib.hosts\n\
    ours(repo) if { some name in load_json(\"data/ours.json\").names; endswith(repo, name) }\n";

/// The image's configuration, as the registry has it.
fn config(world: &World, frontend: &Frontend) -> Value {
    let read =
        |digest: &str| -> Value { serde_json::from_slice(&world.registry.blob(digest)).unwrap() };
    read(read(&frontend.digest)["config"]["digest"].as_str().unwrap())
}

#[test]
fn labels_are_those_of_the_child() {
    let world = need!(peers::world());
    let (ours, theirs) = (config(world, &gate(world)), config(world, &stock(world)));
    assert_eq!(ours["config"]["Labels"], theirs["config"]["Labels"]);
    assert_eq!(ours["config"]["Entrypoint"], serde_json::json!(["/bin/buildgate", "frontend"]));
    // BuildKit's own file, of the module that the pinned tools are built from.
    let go = need!(peers::installed("go", "golang"));
    let listed = Command::new(go)
        .args(["list", "-m", "-f", "{{.Dir}}", "github.com/moby/buildkit"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/integration-tests/tools/buildkit"))
        .output()
        .unwrap();
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    let module = String::from_utf8(listed.stdout).unwrap();
    let read = |file: &str| {
        let path = format!("{}/frontend/dockerfile/{file}", module.trim());
        std::fs::read_to_string(path).unwrap()
    };
    let file = read("cmd/dockerfile-frontend/Dockerfile");
    let labels = file.lines().filter_map(|line| line.strip_prefix("LABEL ")).map(|label| {
        let (name, value) = label.split_once('=').unwrap();
        (name.to_owned(), Value::from(value.trim_matches('"')))
    });
    assert_eq!(ours["config"]["Labels"], Value::Object(labels.collect()));
    // And what the child supports, it says in its own code.
    let code = read("builder/caps.go");
    let (_, supported) = code.split_once("var enabledCaps = ").unwrap();
    let (supported, _) = supported.split_once("\n}").unwrap();
    let supported: BTreeSet<&str> =
        supported.lines().filter_map(|line| line.trim().split('"').nth(1)).collect();
    let told = ours["config"]["Labels"]["moby.buildkit.frontend.caps"].as_str().unwrap();
    assert!(supported.len() > 1, "{code}");
    assert_eq!(told.split(',').collect::<BTreeSet<_>>(), supported);
}

#[test]
fn all_of_a_folder_is_baked_in() {
    let world = need!(peers::world());
    let one = peers::folder(&[
        ("rules.rego", RULES),
        ("rules_test.rego", "package docker\n"),
        ("lib/hosts.rego", HOSTS),
        ("data/ours.json", "{\"names\": [\"/base\"]}"),
    ]);
    let many = peers::folder(&[
        ("first/rules.rego", RULES),
        ("first/lib/hosts.rego", HOSTS),
        ("first/data/ours.json", "{\"names\": [\"/base\", \"/app\"]}"),
        ("second/rules.rego", RULES),
        ("second/lib/hosts.rego", HOSTS),
        ("second/data/ours.json", "{\"names\": [\"/base\"]}"),
    ]);
    for (name, policies) in [("baked:one", &one), ("baked:many", &many)] {
        let made = peers::make_image(world, name, binary(), policies.path().to_str().unwrap());
        Ended::from(made).passed(name);
        let image = peers::push_runnable(world, name, &format!("{name}-runs"), binary());
        let gate = Frontend::of(world, image);
        for (from, passes) in [("base:1", true), ("app:plain", false)] {
            let context =
                peers::folder(&[("Dockerfile", &format!("FROM {}\n", world.image(from)))]);
            let ended = clients::buildctl(&world.buildkit, &gate, context.path(), &[]);
            assert_eq!(ended.passed, passes, "{name}, {from}: {}", ended.said);
            assert_eq!(ended.said.contains("is not among ours"), !passes, "{}", ended.said);
        }
    }
}

#[test]
fn what_cannot_be_made_is_said() {
    let world = need!(peers::world());
    let empty = tempfile::tempdir().unwrap();
    let empty = empty.path().to_str().unwrap();
    for (policies, child, wanted) in [
        ("/nowhere/at-all", "pinned", "is no folder"),
        (empty, "pinned", "holds no policy"),
        ("", "docker.io/docker/dockerfile:1", "names no digest"),
    ] {
        let made = peers::make_image_with(world, "never:1", binary(), (policies, child));
        let ended = Ended::from(made);
        assert!(!ended.passed && ended.said.contains(wanted), "{wanted}: {}", ended.said);
    }
    // The binary of a test is far larger than what is released.
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/frontend-image/build.sh");
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/integration-tests/tools/bin");
    let mut make = Command::new(script);
    make.arg(world.image("never:1"))
        .env("BUILDKIT_HOST", world.buildkit.address())
        .env("BIN", tools)
        .env("BINARY", binary())
        .env("CHILD", "pinned")
        .env("MAX_IMAGE", "40000000");
    let ended = Ended::from(make.output().unwrap());
    assert!(!ended.passed && ended.said.contains("and may have 40000000"), "{}", ended.said);
    let beside = peers::folder(&[("org/p.rego", "package docker\n"), ("policy.reg", "")]);
    let made = peers::make_image(world, "never:1", binary(), beside.path().to_str().unwrap());
    let ended = Ended::from(made);
    assert!(!ended.passed && ended.said.contains("policy.reg holds no policy"), "{}", ended.said);
    assert_eq!(world.registry.accesses(&["/never/"]).len(), 0);
}

/// A tag would be whatever its registry says on the day.
#[test]
fn the_child_is_the_official_one_by_digest() {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/frontend-image/Dockerfile");
    let text = std::fs::read_to_string(file).unwrap();
    let child = text.lines().find_map(|line| line.strip_prefix("ARG CHILD=")).unwrap();
    let (name, digest) = child.split_once('@').unwrap();
    assert!(name.starts_with("docker.io/docker/dockerfile:"), "{child}");
    let hex = digest.strip_prefix("sha256:").unwrap();
    assert!(hex.len() == 64 && hex.bytes().all(|it| it.is_ascii_hexdigit()), "{child}");
}

/// What answers for Docker's registry with other content than the digest names is found out, and no image is
/// made.
#[test]
fn another_child_than_the_official_one_is_not_taken() {
    let world = need!(peers::world());
    let lies = HttpServer::start(|request| {
        let kind = "application/vnd.oci.image.index.v1+json";
        let path = request.path.as_str();
        match path.strip_prefix("/v2/docker/dockerfile/manifests/") {
            Some(digest) => Response::ok(format!("{{\"mediaType\":\"{kind}\",\"manifests\":[]}}"))
                .with("Content-Type", kind)
                .with("Docker-Content-Digest", digest),
            None if path == "/v2/" => Response::ok("{}"),
            None => Response::status(404),
        }
    });
    let host = lies.url("").trim_start_matches("http://").to_owned();
    let mirrored = format!(
        "[registry.\"docker.io\"]\nmirrors = [\"{host}\"]\n[registry.\"{host}\"]\nhttp = true\n"
    );
    let daemon = need!(Buildkit::start_also(world.registry.host(), &mirrored));
    let made = peers::make_image_by(&daemon, &world.image("never-official:1"), binary(), ("", ""));
    let ended = Ended::from(made);
    let wanted = "the official image is not what its digest says";
    assert!(!ended.passed && ended.said.contains(wanted), "{}", ended.said);
    assert!(!lies.asked().is_empty());
    assert_eq!(world.registry.accesses(&["/never-official/"]).len(), 0);
}
