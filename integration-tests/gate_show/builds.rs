//! A build through the gate is the build by the bare daemon, with either client; and whatever else
//! Buildx asks of a daemon is answered.

use std::os::unix::net::UnixListener;

use super::{TCP, tcp};
use crate::frontend_show::builds::{Build, Client, Peers, is_pin, make, push_generator, table};
use crate::frontend_show::clients::{Buildx, Ended};
use crate::frontend_show::{ORG, oci, stock};
use crate::gate_ops::Gate;
use crate::peers::{self, Buildkit, need};

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

/// What a client makes and is told: through the gate, and by the daemon behind it.
struct Both {
    bare: Buildx,
    gated: Buildx,
    files: tempfile::TempDir,
}

impl Both {
    fn run(&self, buildx: &Buildx, args: &[&str]) -> String {
        let mut command = buildx.command(args);
        command.env("BUILDX_BAKE_ENTITLEMENTS_FS", "0").current_dir(self.files.path());
        Ended::from(command.output().unwrap()).passed(&args.join(" ")).output
    }

    /// The same said by both.
    fn alike(&self, args: &[&str]) -> String {
        let [bare, gated] = [&self.bare, &self.gated].map(|buildx| self.run(buildx, args));
        assert_eq!(bare, gated, "{args:?}");
        gated
    }

    /// What a file of the client holds after both have made it.
    fn made(&self, args: &[&str], file: &str) -> Vec<u8> {
        let [bare, gated] = [&self.bare, &self.gated].map(|buildx| {
            self.run(buildx, args);
            let path = self.files.path().join(file);
            let content = std::fs::read(&path).unwrap();
            std::fs::remove_file(path).unwrap();
            content
        });
        assert!(bare == gated, "{args:?}: {file}");
        gated
    }
}

/// Nobody else builds on this daemon, so that all that it tells can be compared.
#[test]
fn what_buildx_is_told_is_what_the_bare_daemon_tells() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start(world.registry.host()));
    let dir = peers::folder(&[("policy/p.rego", ORG)]);
    let listen = format!("--listen=unix://{}/gate.sock", dir.path().display());
    let upstream = format!("--upstream={}", daemon.address());
    let gate =
        Gate::start(dir, &[&[&listen, &upstream, "--policy=policy"], &TCP[..]].concat(), &[]);
    let from = format!("FROM {}\nUSER 0\nCOPY a /a\n", world.image("base:1"));
    let run = "RUN [\"/bin/busybox\", \"touch\", \"/data/made\"]\n";
    let bake = "group \"default\" { targets = [\"one\", \"two\"] }\n\
                target \"one\" { output = [\"type=docker,name=one:1,dest=one.tar\"] }\n\
                target \"two\" {\n dockerfile = \"Two\"\n contexts = { one = \"target:one\" }\n \
                output = [\"type=oci,dest=two.tar\"]\n}\n";
    let files = peers::folder(&[
        ("Dockerfile", &format!("{from}{run}")),
        ("Two", "FROM one\nLABEL two=yes\n"),
        ("a", "content"),
        ("docker-bake.hcl", bake),
    ]);
    let both =
        Both { bare: need!(Buildx::of(&daemon)), gated: need!(Buildx::at(&tcp(&gate))), files };

    // Targets of a bake, one of them as `--load` would hand it over, and a build with its attestation.
    both.made(&["bake", "--progress=plain"], "one.tar");
    both.made(&["bake", "--progress=plain"], "two.tar");
    let load = "--output=type=docker,name=loaded:1,dest=image.tar";
    let build = ["build", "--progress=plain", load, "--metadata-file=told.json", "."];
    let image = both.made(&build, "image.tar");
    assert!(image.len() > 1 << 19);
    let told = std::fs::read_to_string(both.files.path().join("told.json")).unwrap();
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let reference = told["buildx.build.ref"].as_str().unwrap().rsplit('/').next().unwrap();

    // Of what was built through the gate, and of everything else.
    let record = |buildx: &Buildx| {
        let said = both.run(buildx, &["history", "inspect", "--format=json", reference]);
        let mut record: serde_json::Value = serde_json::from_str(&said).unwrap();
        // These two Buildx knows from its own files, for the builder that it built with.
        for own in ["Name", "Context"] {
            record.as_object_mut().unwrap().remove(own);
        }
        record
    };
    let [bare, gated] = [&both.bare, &both.gated].map(record);
    assert_eq!(bare, gated);
    assert_eq!(gated["Status"], "completed");
    assert!(both.alike(&["history", "ls", "--format={{.Ref}} {{.Status}}"]).contains(reference));
    let logs = |buildx: &Buildx| -> Ended {
        buildx.command(&["history", "logs", "--progress=plain", reference]).output().unwrap().into()
    };
    let [bare, gated] = [&both.bare, &both.gated].map(|it| logs(it).passed("history logs"));
    assert_eq!((&bare.said, &bare.output), (&gated.said, &gated.output));
    let all = format!("{}{}", gated.said, gated.output);
    assert!(all.contains("[internal] load build definition"), "{all}");
    let used = |buildx: &Buildx| -> Vec<serde_json::Value> {
        let said = both.run(buildx, &["du", "--format=json"]);
        let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
        let without = |mut line: serde_json::Value| {
            // So many seconds ago.
            line.as_object_mut().unwrap().remove("LastUsedAt").unwrap();
            line
        };
        lines.map(without).collect()
    };
    let [bare, gated] = [&both.bare, &both.gated].map(used);
    assert_eq!(bare, gated);
    assert!(gated.len() > 2, "{gated:?}");

    // What one throws away is gone for the other, and each throws the same away.
    both.run(&both.gated, &["history", "rm", reference]);
    assert!(!both.alike(&["history", "ls", "--format={{.Ref}}"]).contains(reference));
    let pruned = |buildx: &Buildx| {
        both.run(buildx, &["build", "--progress=plain", "--no-cache", "."]);
        both.run(buildx, &["history", "rm", "--all"]);
        let said = both.run(buildx, &["prune", "--all", "--force"]);
        assert_eq!(used(buildx), [] as [serde_json::Value; 0], "{said}");
        // Ids are random, and times are told to the second.
        let lines = said.lines().map(|line| line.split_whitespace().skip(1).take(2));
        let lines = lines.map(Iterator::collect::<Vec<_>>);
        let mut lines: Vec<String> = lines.map(|words| words.join(" ")).collect();
        lines.sort();
        lines
    };
    pruned(&both.bare);
    assert_eq!(pruned(&both.bare), pruned(&both.gated));
}
