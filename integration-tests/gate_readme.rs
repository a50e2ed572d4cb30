//! The README's section on the gate, word for word before a real daemon: the commands of its first example by
//! both clients, and its configuration. Only places are others.

use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use crate::docs::{Block, blocks};
use crate::frontend_show::clients::Ended;
use crate::gate_enforce::only;
use crate::gate_process::{BUILDGATE, Gate};
use crate::peers::{self, World, folder, need};

/// The blocks of the section.
fn section() -> Vec<Block> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).unwrap();
    let (_, section) = readme.split_once("\n## The gate").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    blocks(section)
}

/// Puts the places of a test in the README's.
fn here(text: &str, world: &World, dir: &Path) -> String {
    let dir = dir.display();
    let places = [
        ("unix:///run/buildkit/buildkitd.sock", world.buildkit.address().to_owned()),
        ("/run/buildgate", format!("{dir}/run")),
        ("/etc/buildgate", format!("{dir}/etc")),
        ("/var/log/buildgate", format!("{dir}/log")),
        // Not every machine has the group.
        ("--listen-group docker", "--listen-group 0".to_owned()),
        ("127.0.0.1:9464", "127.0.0.1:0".to_owned()),
    ];
    places.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

/// The commands of a block: each the words of its line, and of those that it goes on in.
fn commands(text: &str) -> Vec<Vec<String>> {
    let text = text.replace("\\\n", " ");
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    text.lines().filter(|line| !line.is_empty()).map(words).collect()
}

fn made(files: &[(&str, &str)]) -> TempDir {
    let dir = folder(files);
    for name in ["run", "log"] {
        std::fs::create_dir(dir.path().join(name)).unwrap();
    }
    dir
}

#[test]
fn the_first_example_of_the_gate_runs() {
    let world = need!(peers::world());
    let (buildx, buildctl) = (need!(peers::pinned("buildx")), need!(peers::pinned("buildctl")));
    let dir = made(&[("etc/policy/p.rego", &only("endswith(input.image.repo, \"base\")"))]);
    let block = section().into_iter().find(|it| it.language == "sh").unwrap();
    let mut commands = commands(&here(&block.text, world, dir.path())).into_iter();
    let mut next = |begins: &[&str]| -> Vec<String> {
        let mut words = commands.next().unwrap();
        assert_eq!(words[..begins.len()], *begins, "{}", block.text);
        words.split_off(begins.len())
    };
    let socket = format!("unix://{}/run/gate.sock", dir.path().display());
    let serve = next(&["buildgate", "serve"]);
    let create = next(&["docker", "buildx", "create"]);
    let host = format!("BUILDKIT_HOST={socket}");
    let build = next(&[&host, "buildctl"]);
    assert_eq!(build, ["build", "…"]);
    assert!(commands.next().is_none());

    let mut command = Command::new(BUILDGATE);
    command.arg("serve").args(serve);
    let _gate = Gate::run(dir, &mut command);
    let config = tempfile::tempdir().unwrap();
    let by_buildx = |args: &[String]| -> Ended {
        let mut command = Command::new(&buildx);
        command.env("BUILDX_CONFIG", config.path()).env("DOCKER_CONFIG", config.path());
        command.args(args).output().unwrap().into()
    };
    by_buildx(&[&["create".to_owned()], &create[..]].concat()).passed("docker buildx create");
    let by_buildctl = |context: &Path| -> Ended {
        let mut command = Command::new(&buildctl);
        command.env("BUILDKIT_HOST", &socket).arg(&build[0]);
        command.args(["--progress=plain", "--frontend=dockerfile.v0"]);
        let local = |name| format!("--local={name}={}", context.display());
        command.args(["context", "dockerfile"].map(local)).output().unwrap().into()
    };
    for (image, passes) in [("base:1", true), ("readme-evil:1", false)] {
        let context = folder(&[("Dockerfile", &format!("FROM {}\n", world.image(image)))]);
        let path = context.path().display().to_string();
        let of_buildx = by_buildx(&["build".to_owned(), "--progress=plain".to_owned(), path]);
        for (client, ended) in [("Buildx", of_buildx), ("buildctl", by_buildctl(context.path()))] {
            assert_eq!(ended.passed, passes, "{client}: {}", ended.said);
            assert_eq!(ended.said.contains("ours says no"), !passes, "{client}: {}", ended.said);
        }
    }
    assert_eq!(world.registry.accesses(&["readme-evil"]), [""; 0]);
}

#[test]
fn the_configuration_of_the_readme_judges_builds() {
    let world = need!(peers::world());
    let block = section().into_iter().find(|it| it.name == "gate.toml").unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = made(&[]);
    std::fs::write(dir.path().join("gate.toml"), here(&block.text, world, dir.path())).unwrap();
    let policies: PathBuf = dir.path().join("policies");
    let copied = Command::new("cp").arg("-r").arg(root.join("policies")).arg(&policies).status();
    assert!(copied.unwrap().success());
    let gate = Gate::start(dir, &["--config", "gate.toml"], &[]);
    // Not one of the approved registries, nor a pinned digest.
    let dockerfile = format!("FROM {}\n", world.image("readme-evil:2"));
    let denied = gate.building(&dockerfile, "run/gate.sock").end();
    let words = "not allowed by policy: action DENY";
    assert!(!denied.passed && denied.said.contains(words), "{}", denied.said);
    gate.building("FROM scratch\nCOPY Dockerfile /\n", "run/gate.sock")
        .end()
        .passed("its own files");
    let pruned: Ended = gate.buildctl("run/gate.sock").arg("prune").output().unwrap().into();
    assert!(!pruned.passed && pruned.said.contains("is not open"), "{}", pruned.said);
    let log = gate.read("log/decisions.jsonl");
    assert!(log.contains("\"policy_set\":\"production\"") && log.contains("readme-evil"), "{log}");
    assert!(gate.http("/readyz").starts_with("HTTP/1.1 200 "));
    assert_eq!(world.registry.accesses(&["readme-evil"]), [""; 0]);
}
