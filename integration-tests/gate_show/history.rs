//! What Buildx makes and is told of builds that were: by the gate and by the daemon behind it, word for word.
//! Of `buildx history`, `import` asks no daemon (it hands a file to Docker Desktop); the rest is here.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::clients::{TCP, tcp};
use crate::frontend_show::ORG;
use crate::frontend_show::clients::{Buildx, Ended};
use crate::gate_process::Gate;
use crate::peers::{self, Buildkit, World, need};

/// What a client makes and is told: through the gate, and by the daemon behind it.
struct Both {
    bare: Buildx,
    gated: Buildx,
    files: tempfile::TempDir,
}

impl Both {
    fn ended(&self, buildx: &Buildx, args: &[&str]) -> Ended {
        let mut command = buildx.command(args);
        command.env("BUILDX_BAKE_ENTITLEMENTS_FS", "0").current_dir(self.files.path());
        let mut path = vec![self.files.path().join("bin")];
        path.extend(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()));
        command.env("PATH", std::env::join_paths(path).unwrap());
        command.output().unwrap().into()
    }

    fn run(&self, buildx: &Buildx, args: &[&str]) -> String {
        self.ended(buildx, args).passed(&args.join(" ")).output
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

/// A gate before a daemon of the test's own.
fn before(daemon: &Buildkit) -> Gate {
    let dir = peers::folder(&[("policy/p.rego", ORG)]);
    let listen = format!("--listen=unix://{}/gate.sock", dir.path().display());
    let upstream = format!("--upstream={}", daemon.address());
    Gate::start(dir, &[&[&listen, &upstream, "--policy=policy"], &TCP[..]].concat(), &[])
}

/// Nobody else builds on this daemon, so that all that it tells can be compared.
#[test]
fn what_buildx_is_told_is_what_the_bare_daemon_tells() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start(world.registry.host()));
    let gate = before(&daemon);
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
    let told: Value = serde_json::from_str(&told).unwrap();
    let reference = told["buildx.build.ref"].as_str().unwrap().rsplit('/').next().unwrap();

    // Of what was built through the gate, and of everything else.
    let record = |buildx: &Buildx| {
        let said = both.run(buildx, &["history", "inspect", "--format=json", reference]);
        let mut record: Value = serde_json::from_str(&said).unwrap();
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
    let used = |buildx: &Buildx| -> Vec<Value> {
        let said = both.run(buildx, &["du", "--format=json"]);
        let lines = said.lines().map(|line| serde_json::from_str(line).unwrap());
        let without = |mut line: Value| {
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
        assert_eq!(used(buildx), [] as [Value; 0], "{said}");
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

/// A build with everything that a record can hold, by the client behind the gate; its name.
fn recorded(both: &Both, world: &World) -> String {
    let from = format!("FROM {}\nUSER 0\nCOPY a /a\n", world.image("base:1"));
    std::fs::write(both.files.path().join("Dockerfile"), from).unwrap();
    let output = format!("--output=type=image,name={},push=true", world.image("recorded:1"));
    let args = ["build", "--progress=plain", "--provenance=mode=max", &output];
    let told = ["--metadata-file=told.json", "."];
    both.run(&both.gated, &[&args[..], &told].concat());
    let told = std::fs::read_to_string(both.files.path().join("told.json")).unwrap();
    let told: Value = serde_json::from_str(&told).unwrap();
    told["buildx.build.ref"].as_str().unwrap().rsplit('/').next().unwrap().to_owned()
}

/// The files of an archive, by their names.
fn unpacked(archive: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let into = tempfile::tempdir().unwrap();
    let mut tar = std::process::Command::new("tar");
    tar.arg("-xzf").arg(archive).arg("-C").arg(into.path());
    assert!(tar.status().unwrap().success());
    let (mut files, mut folders) = (BTreeMap::new(), vec![into.path().to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let name = path.strip_prefix(into.path()).unwrap().to_owned();
                    files.insert(name, std::fs::read(&path).unwrap());
                }
            }
        }
    }
    files
}

#[test]
fn records_are_told_traced_and_exported_alike() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start(world.registry.host()));
    let gate = before(&daemon);
    let files =
        peers::folder(&[("a", "content"), ("bin/xdg-open", "#!/bin/sh\necho \"$1\" >opened\n")]);
    let browser = files.path().join("bin/xdg-open");
    std::fs::set_permissions(browser, PermissionsExt::from_mode(0o755)).unwrap();
    let built =
        Both { bare: need!(Buildx::of(&daemon)), gated: need!(Buildx::at(&tcp(&gate))), files };
    let reference = recorded(&built, world);
    // Neither has built, so that neither knows of the build from files of its own.
    let Both { files, .. } = built;
    let both =
        Both { bare: need!(Buildx::of(&daemon)), gated: need!(Buildx::at(&tcp(&gate))), files };
    let of_record = |command: &[&str]| both.alike(&[&["history"], command, &[&reference]].concat());

    assert!(of_record(&["inspect"]).contains("Attachments:"));
    assert!(of_record(&["inspect", "--format={{.Ref}} {{.Status}}"]).contains(&reference));
    let listed = both.alike(&["history", "ls", "--no-trunc", "--format=json"]);
    assert!(listed.contains(&reference), "{listed}");
    let logs = |progress: &str| {
        let progress = format!("--progress={progress}");
        let args = ["history", "logs", &progress, &reference];
        let [bare, gated] = [&both.bare, &both.gated].map(|buildx| both.ended(buildx, &args));
        assert_eq!((&bare.said, &bare.output), (&gated.said, &gated.output), "{progress}");
        gated.passed(&progress)
    };
    // Our own lines are in the progress of the build alone: the record is the daemon's.
    assert!(logs("plain").said.contains("[internal] load build definition"));
    assert!(logs("rawjson").said.contains("\"vertexes\""));

    // What lies with the record: by its kind, and each of those by its digest.
    let provenance = of_record(&["inspect", "attachment", "--type=provenance"]);
    assert!(provenance.contains("buildDefinition"), "{provenance}");
    let manifest = of_record(&["inspect", "attachment", "--type=manifest"]);
    assert!(manifest.contains("\"layers\""), "{manifest}");
    let inspected = of_record(&["inspect", "--format=json"]);
    let inspected: Value = serde_json::from_str(&inspected).unwrap();
    let attached = inspected["Attachments"].as_array().unwrap();
    assert!(attached.len() > 1, "{inspected}");
    for one in attached {
        let digest = one["Digest"].as_str().unwrap();
        both.alike(&["history", "inspect", "attachment", &reference, digest]);
    }

    // The trace of the build is one that a daemon makes of it when it is first asked for.
    let trace = of_record(&["trace"]);
    assert!(trace.contains("spanID"), "{trace}");
    for more in [&[][..], &["--finalize"]] {
        let args = ["history", "export", "--output=record.dockerbuild"];
        let args = [&args[..], more, &[&reference]].concat();
        let [bare, gated] = [&both.bare, &both.gated].map(|buildx| {
            both.run(buildx, &args);
            unpacked(&both.files.path().join("record.dockerbuild"))
        });
        assert!(bare.len() > 4 && bare == gated, "{more:?}: {:?} {:?}", bare.keys(), gated.keys());
    }
    let opened = |buildx: &Buildx| {
        both.run(buildx, &["history", "open", &reference]);
        let opened = both.files.path().join("opened");
        let url = std::fs::read_to_string(&opened).unwrap();
        std::fs::remove_file(opened).unwrap();
        url
    };
    let [bare, gated] = [&both.bare, &both.gated].map(opened);
    assert_eq!(bare, gated);
    assert!(gated.contains(&reference), "{gated}");

    // What is not there is missed in the same words.
    for command in ["inspect", "logs", "trace", "export", "open", "rm"] {
        let args = ["history", command, "nosuchbuild"];
        let [bare, gated] = [&both.bare, &both.gated].map(|buildx| both.ended(buildx, &args));
        assert_eq!((bare.passed, &bare.said), (gated.passed, &gated.said), "{command}");
        assert!(
            command == "rm" || gated.said.contains("no record found"),
            "{command}: {}",
            gated.said
        );
    }
}
