//! The frontend as people use it: an image named in `# syntax=`, stock clients, a real daemon.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::frontend_show::clients::Buildx;
use crate::peers::{self, GitServer, HttpServer, World, folder, need};

/// Allows everything.
const ALLOW: &str = "package docker\ndecision := {\"allow\": true}\n";

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_buildgate"))
}

/// The frontend's image in the registry, without policies of its own.
pub fn image(world: &World) -> &'static str {
    static IMAGE: OnceLock<String> = OnceLock::new();
    IMAGE.get_or_init(|| {
        succeeded(&peers::make_image(world, "buildgate:made", binary(), ""));
        peers::push_runnable(world, "buildgate:made", "buildgate:test", binary())
    })
}

/// The image of an org with this policy.
fn push(world: &World, name: &str, rego: &str) -> String {
    peers::push_org(world, image(world), name, binary(), rego)
}

fn succeeded(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// One build through buildctl: what it printed, and whether it passed.
pub struct Built {
    pub passed: bool,
    pub said: String,
}

pub fn build(world: &World, frontend: &str, context: &Path, options: &[&str]) -> Built {
    let mut build = world.buildkit.buildctl();
    build
        .args(["build", "--progress=plain", "--no-cache"])
        .arg(format!("--local=context={}", context.display()))
        .arg(format!("--local=dockerfile={}", context.display()));
    match frontend {
        "" => build.args(["--frontend", "dockerfile.v0"]),
        image => build.args(["--frontend", "gateway.v0"]).arg(format!("--opt=source={image}")),
    };
    build.args(options);
    let output = build.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Built { passed: output.status.success(), said }
}

#[test]
fn an_unmodified_dockerfile_builds() {
    let world = need!(peers::world());
    let base = world.image("base:1");
    let context = folder(&[
        (
            "Dockerfile",
            &format!("FROM {base}\nUSER 0\nRUN [\"/bin/busybox\", \"true\"]\nCOPY a /a\n"),
        ),
        ("Dockerfile.rego", ALLOW),
        ("a", "content"),
    ]);
    let built = build(world, image(world), context.path(), &[]);
    assert!(built.passed, "{}\n{}", built.said, world.buildkit.log());
}

/// What a denial must say, and what no server may have been asked for.
fn denied(world: &World, files: &[(&str, &str)], options: &[&str], wanted: &[&str]) {
    let context = folder(files);
    let built = build(world, image(world), context.path(), options);
    assert!(!built.passed, "it passed:\n{}", built.said);
    for part in wanted {
        assert!(built.said.contains(part), "{part:?} is missing in:\n{}", built.said);
    }
}

/// Allows only what `condition` says, of sources that are not the client's own.
fn only(condition: &str) -> String {
    format!(
        "package docker\nallow if input.local\nallow if {condition}\n\
         deny_msg contains \"ours says no\" if not allow\n\
         default allow := false\n\
         decision := {{\"allow\": allow, \"deny_msg\": deny_msg}}\n"
    )
}

#[test]
fn nothing_denied_is_fetched() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/tool", b"tool".to_vec())]);
    let git = need!(GitServer::start());
    let image = world.image("base:1");
    let mine = only("input.image");
    let none = only("false");
    let denied_image = world.image("denied-here:1");
    let url = files.url("/tool");
    let no = "ours says no";
    for (dockerfile, rego, line) in [
        (format!("FROM {image}\nADD {url} /\n"), &mine, "2 | >>> ADD "),
        (format!("FROM {image}\nADD {} /src\n", git.url()), &mine, "2 | >>> ADD "),
        (format!("FROM {denied_image}\n"), &none, "1 | >>> FROM "),
        (format!("FROM scratch\nCOPY --from={denied_image} / /\n"), &none, "2 | >>> COPY "),
        (
            format!("FROM {image}\nRUN --mount=from={denied_image} true\n"),
            &only("endswith(input.image.repo, \"base\")"),
            "2 | >>> RUN ",
        ),
    ] {
        denied(
            world,
            &[("Dockerfile", &dockerfile), ("Dockerfile.rego", rego)],
            &[],
            &[no, "not allowed by policy: action DENY", line],
        );
    }
    assert_eq!(files.asked().len(), 0);
    assert_eq!(git.asked().len(), 0);
    assert_eq!(world.registry.accesses(&["denied-here"]).len(), 0);
}

/// Where nothing is judged, the first stage is at fault, and not the line that names us.
#[test]
fn without_a_policy_nothing_is_built() {
    let world = need!(peers::world());
    let buildx = need!(Buildx::get(world));
    let none = "there is no policy, so nothing is allowed";
    let proxy = "package docker\ndecision := {\"allow\": true, \"caps\": {\"exec.proxy\": true}}\n";
    let broken = "package docker\ndecision := {\"allow\": true\n";
    let syntax = format!("# syntax={}\nARG A=1\nFROM scratch AS one\nCOPY a /\n", image(world));
    for (rego, wanted) in [
        (None, none),
        (Some(proxy), "a policy asks for exec.proxy, which no frontend can switch on"),
        (Some(broken), "Dockerfile.rego:"),
    ] {
        let mut files = vec![("Dockerfile", syntax.as_str()), ("a", "a")];
        files.extend(rego.map(|text| ("Dockerfile.rego", text)));
        denied(world, &files, &[], &[wanted, "3 | >>> FROM "]);
        let context = folder(&files);
        // Buildx would read the policy before we do.
        let ended = buildx.build(context.path(), &["--policy=disabled=true".to_owned()]);
        assert!(!ended.passed, "it passed:\n{}", ended.said);
        for part in [wanted, "3 | >>> FROM "] {
            assert!(ended.said.contains(part), "{part:?} is missing in:\n{}", ended.said);
        }
        assert!(!ended.said.contains("1 | >>> "), "{}", ended.said);
    }
}

#[test]
fn a_named_context_holds_a_policy() {
    let world = need!(peers::world());
    let policy = folder(&[("p.rego", ALLOW)]);
    let strict = folder(&[("p.rego", &only("false"))]);
    let base = world.image("base:1");
    let context = folder(&[("Dockerfile", &format!("FROM {base}\n"))]);
    let option = |dir: &TempDir| format!("--local=policy={}", dir.path().display());
    let named = "--opt=context:policy=local:policy";
    let built = build(world, image(world), context.path(), &[&option(&policy), named]);
    assert!(built.passed, "{}", built.said);
    let built = build(world, image(world), context.path(), &[&option(&strict), named]);
    assert!(!built.passed && built.said.contains("ours says no"), "{}", built.said);
}

#[test]
fn what_the_org_denies_no_build_allows() {
    let world = need!(peers::world());
    let strict = only("endswith(input.image.repo, \"base\")");
    let gate = push(world, "buildgate:org", &strict);
    let (base, app) = (world.image("base:1"), world.image("app:plain"));
    for (from, passes) in [(&base, true), (&app, false)] {
        let context =
            folder(&[("Dockerfile", &format!("FROM {from}\n")), ("Dockerfile.rego", ALLOW)]);
        let built = build(world, &gate, context.path(), &[]);
        assert_eq!(built.passed, passes, "{}", built.said);
    }
}

#[test]
fn ways_around_end_in_a_denial() {
    let world = need!(peers::world());
    let base = world.image("base:1");
    let refused = world.image("refused:1");
    let bypass = world.image("bypass-cache:1");
    let mine = only("endswith(input.image.repo, \"base\")");
    let from = format!("FROM {base}\n");
    let twice = format!("# syntax={refused}\n{from}");
    let inside = format!("--opt=build-arg:BUILDKIT_SYNTAX={refused}");
    let replaced = format!("--opt=context:{base}=docker-image://{refused}");
    let cache = format!("--import-cache=type=registry,ref={bypass}");
    // Who names this frontend as the build's may have any syntax line in the Dockerfile: it is not
    // followed, and the build is the one that was judged. A second one there is no Dockerfile.
    let gate = image(world);
    let named = format!("--opt=cmdline={gate}");
    let same = format!("--opt=build-arg:BUILDKIT_SYNTAX={gate}");
    let second = format!("# syntax={gate}\n{twice}");
    let both = [named.as_str(), same.as_str()];
    for (dockerfile, options, wanted) in [
        (&twice, &[][..], ""),
        (&from, &both, ""),
        (&second, &both, "only one syntax parser directive can be used"),
        (&from, &[inside.as_str()], "which is not followed from inside this frontend"),
        (&from, &[named.as_str(), inside.as_str()], "not followed from inside this frontend"),
    ] {
        let context = folder(&[("Dockerfile", dockerfile), ("Dockerfile.rego", &mine)]);
        let built = build(world, gate, context.path(), options);
        assert_eq!(built.passed, wanted.is_empty(), "{}", built.said);
        assert!(built.said.contains(wanted), "{}", built.said);
    }
    for option in [&replaced, &cache] {
        denied(
            world,
            &[("Dockerfile", &from), ("Dockerfile.rego", &mine)],
            &[option],
            &["ours says no", "not allowed by policy"],
        );
    }
    let git = need!(GitServer::start());
    let submodule = format!("{from}ADD {}#submodule /src\n", git.url());
    let mine = format!("{mine}allow if endswith(input.git.remote, \"/app.git\")\n");
    denied(
        world,
        &[("Dockerfile", &submodule), ("Dockerfile.rego", &mine)],
        &[],
        &["its submodule `lib`, git://", "is refused: ours says no", "2 | >>> ADD "],
    );
    assert!(git.asked().iter().all(|request| !request.path.contains("unjudged")));
    assert_eq!(world.registry.accesses(&["/refused/"]).len(), 0);
    assert_eq!(world.registry.accesses(&["/bypass-cache/"]).len(), 0);
}

/// Config and layers of an image that was written as an OCI layout.
fn content(layout: &Path) -> (serde_json::Value, Vec<String>) {
    let read = |path: PathBuf| -> serde_json::Value {
        serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
    };
    let blob = |digest: &serde_json::Value| {
        layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"))
    };
    let mut manifest = read(layout.join("index.json"));
    while manifest["config"].is_null() {
        manifest = read(blob(&manifest["manifests"][0]["digest"]));
    }
    let config = read(blob(&manifest["config"]["digest"]));
    let layers = manifest["layers"].as_array().unwrap();
    let layers = layers.iter().map(|layer| layer["digest"].as_str().unwrap().to_owned()).collect();
    (config, layers)
}

#[test]
fn images_are_those_of_the_stock_frontend() {
    let world = need!(peers::world());
    let base = world.image("base:1");
    let app = world.image("app:plain");
    let files = HttpServer::files([("/tool", b"tool".to_vec())]);
    let git = need!(GitServer::start());
    let url = files.url("/tool");
    let commit = git.object("main");
    let busybox = "/bin/busybox";
    let table: BTreeMap<&str, (String, Vec<&str>)> = [
        (
            "multi-stage",
            (format!("FROM {base} AS one\nCOPY a /x\nFROM {base}\nCOPY --from=one /x /y\n"), vec![]),
        ),
        ("copy from image", (format!("FROM {base}\nCOPY --from={app} /Dockerfile /d\n"), vec![])),
        ("heredoc", (format!("FROM {base}\nCOPY <<EOF /h\nhello\nEOF\n"), vec![])),
        (
            "mounts",
            (
                format!(
                    "FROM {base}\nUSER 0\nRUN --mount=type=cache,target=/c --mount=type=bind,target=/b \
                     --mount=from={app},target=/m [\"{busybox}\", \"cp\", \"/m/Dockerfile\", \"/data/d\"]\n"
                ),
                vec![],
            ),
        ),
        ("add url", (format!("FROM {base}\nADD {url} /tool\n"), vec![])),
        ("add git", (format!("FROM {base}\nADD --checksum={commit} {} /src\n", git.url()), vec![])),
        (
            "target and argument",
            (
                format!("FROM {base} AS one\nARG A\nENV A=$A\nFROM {base}\n"),
                vec!["--opt=target=one", "--opt=build-arg:A=1"],
            ),
        ),
        ("ignored", (format!("FROM {base}\nCOPY . /all/\n"), vec![])),
    ]
    .into();
    for (name, (dockerfile, options)) in &table {
        // Dates differ between two builds unless they are told to be one.
        let dockerfile = format!("# {name}\n{dockerfile}");
        let context = folder(&[
            ("Dockerfile", &dockerfile),
            ("Dockerfile.rego", ALLOW),
            (".dockerignore", "ignored\n"),
            ("ignored", "x"),
            ("a", "content"),
        ]);
        let made: Vec<_> = ["", image(world)]
            .into_iter()
            .map(|frontend| {
                let out = tempfile::tempdir().unwrap();
                let output = format!(
                    "--output=type=oci,tar=false,rewrite-timestamp=true,dest={}",
                    out.path().display()
                );
                let mut options = options.clone();
                options.extend([output.as_str(), "--opt=build-arg:SOURCE_DATE_EPOCH=1700000000"]);
                let built = build(world, frontend, context.path(), &options);
                assert!(built.passed, "{name}: {}", built.said);
                content(out.path())
            })
            .collect();
        assert_eq!(made[0], made[1], "{name}");
    }
}

#[test]
fn rules_read_what_the_daemon_resolves() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/tool", b"tool".to_vec())]);
    let git = need!(GitServer::start());
    let (url, commit) = (files.url("/tool"), git.object("main"));
    let add = |what: &str| format!("FROM scratch\nADD {what} /x\n");
    let from = |name: &str| format!("FROM {}\n", world.image(name));
    let tool = "sha256:fcc50cfd8e2ab0fbc10b5a2ed8b8f5a2c9f0d3a9f2f2a1f9e5c5e6cf2dba8cf1";
    for (dockerfile, condition, passes) in [
        (from("base:1"), "input.image.labels[\"org.example.tier\"] == \"base\"".to_owned(), true),
        (from("base:1"), "input.image.user == \"root\"".to_owned(), false),
        (from("app:attested"), "input.image.hasProvenance".to_owned(), true),
        (from("app:multi-attested"), "input.image.hasProvenance".to_owned(), true),
        // A daemon that is asked for the chain of these ends.
        (from("app:plain"), "input.image.hasProvenance".to_owned(), false),
        (from("app:docker"), "input.image.hasProvenance".to_owned(), false),
        (from("app:multi"), "input.image.hasProvenance".to_owned(), false),
        (from("app:docker-unknown"), "input.image.hasProvenance".to_owned(), false),
        (from("app:plain"), "not input.image.hasProvenance".to_owned(), true),
        (add(&url), format!("input.http.checksum == \"{tool}\""), false),
        (add(&url), "startswith(input.http.checksum, \"sha256:\")".to_owned(), true),
        (add(&git.url()), format!("input.git.checksum == \"{commit}\""), true),
        (add(&git.url()), "input.git.checksum == \"0\"".to_owned(), false),
    ] {
        let rego = only(&condition);
        let context = folder(&[("Dockerfile", &dockerfile), ("Dockerfile.rego", &rego)]);
        let built = build(world, image(world), context.path(), &[]);
        assert_eq!(built.passed, passes, "{dockerfile}{condition}\n{}", built.said);
        assert_eq!(!built.passed, built.said.contains("ours says no"), "{}", built.said);
    }
}

/// However a child ends but well: before it gave a result, after it, or not at all.
#[test]
fn a_child_that_ends_or_stands_still_fails_the_build() {
    let world = need!(peers::world());
    let context =
        folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n"), ("Dockerfile.rego", ALLOW)]);
    let stock = "/bin/stock-frontend";
    let rows = [
        (
            "ends",
            "echo lost >&2; exit 3".to_owned(),
            &["ended without a result (exit status: 3)", "its last words:\nlost"][..],
        ),
        ("passes", "exit 0".to_owned(), &["ended without a result (exit status: 0)"]),
        ("stands", "sleep 100".to_owned(), &["did nothing for 10 s"]),
        ("stops", "kill -STOP $$".to_owned(), &["did nothing for 10 s"]),
        (
            "fails-late",
            format!("{stock}; echo late >&2; exit 3"),
            &["failed after it had given its result (exit status: 3)", "its last words:\nlate"],
        ),
        (
            "dies-late",
            format!("{stock}; kill -KILL $$"),
            &["failed after it had given its result (signal: 9 (SIGKILL))"],
        ),
        ("stands-late", format!("{stock}; sleep 100"), &["did nothing for 10 s"]),
        // What the daemon says after that much never gets to it, while it waits for it.
        ("stalls", format!("(head -c 3000; sleep 100) | {stock}"), &["did nothing for 10 s"]),
    ];
    let gates: Vec<String> = rows
        .iter()
        .map(|(name, script, _)| {
            push_with(world, name, &format!("#!/bin/busybox sh\nexec 2>&2\n{script}\n"))
        })
        .collect();
    let through = push_with(world, "through", &format!("#!/bin/busybox sh\n{stock}\n"));
    let passing = OnceLock::new();
    std::thread::scope(|tests| {
        let passing = &passing;
        for ((name, _, wanted), gate) in rows.iter().zip(&gates) {
            let context = context.path();
            tests.spawn(move || {
                let started = Instant::now();
                let built = build(world, gate, context, &[]);
                assert!(!built.passed, "{name} passed: {}", built.said);
                for part in *wanted {
                    assert!(built.said.contains(part), "{name}: {part:?} in:\n{}", built.said);
                }
                // Beside what a build takes that does not stand still.
                let took = started.elapsed().saturating_sub(*passing.wait());
                assert!(took < Duration::from_secs(15), "{name}: {took:?}");
            });
        }
        // The script by itself changes nothing.
        let started = Instant::now();
        let built = build(world, &through, context.path(), &[]);
        passing.set(started.elapsed()).unwrap();
        assert!(built.passed, "{}", built.said);
    });
}

/// An image whose child is a script, over the one with buildgate in it.
fn push_with(world: &World, name: &str, script: &str) -> String {
    let reference = world.image(&format!("buildgate:{name}"));
    let dockerfile = format!(
        "FROM {}\nCOPY --from={} /bin/busybox /bin/busybox\nCOPY --from={} /bin/dockerfile-frontend /bin/stock-frontend\n\
         COPY --chmod=755 child /bin/dockerfile-frontend\n",
        image(world),
        world.image("base:1"),
        image(world)
    );
    let context = folder(&[("Dockerfile", &dockerfile), ("child", script)]);
    world.buildkit.push(context.path(), &reference, &[], "");
    reference
}

#[test]
fn buildx_prints_the_reason_and_the_line() {
    let world = need!(peers::world());
    let buildx = need!(peers::pinned("buildx"));
    let config = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(&buildx);
        command.env("BUILDX_CONFIG", config.path()).env("DOCKER_CONFIG", config.path()).args(args);
        command.output().unwrap()
    };
    succeeded(&run(&["create", "--name=gate", "--driver=remote", world.buildkit.address()]));
    let strict = only("endswith(input.image.repo, \"base\")");
    let gate = push(world, "buildgate:buildx", &strict);
    let files = HttpServer::files([("/tool", b"tool".to_vec())]);
    let from = format!("# syntax={gate}\nFROM {}\n", world.image("base:1"));
    let add = format!("{from}ADD {} /\n", files.url("/tool"));
    for (dockerfile, wanted) in [(&from, &[][..]), (&add, &["ours says no", "3 | >>> ADD "][..])] {
        let context = folder(&[("Dockerfile", dockerfile)]);
        let context = context.path().to_str().unwrap();
        let built =
            run(&["build", "--builder=gate", "--progress=plain", "--provenance=mode=max", context]);
        let said = String::from_utf8_lossy(&built.stderr);
        assert_eq!(built.status.success(), wanted.is_empty(), "{said}");
        for part in wanted {
            assert!(said.contains(part), "{part:?} is missing in:\n{said}");
        }
    }
    let context = folder(&[("Dockerfile", &from)]);
    let context = context.path().to_str().unwrap();
    for call in ["--call=outline", "--call=targets", "--check"] {
        let out = run(&["build", "--builder=gate", call, context]);
        assert!(out.status.success(), "{call}: {}", String::from_utf8_lossy(&out.stderr));
    }
    assert_eq!(files.asked().len(), 0);
}

#[test]
fn a_remote_context_is_judged_before_it_is_fetched() {
    let world = need!(peers::world());
    let git = need!(GitServer::start());
    let remote = |gate: &str| {
        let mut build = world.buildkit.buildctl();
        build.args(["build", "--progress=plain", "--no-cache", "--frontend", "gateway.v0"]);
        build.arg(format!("--opt=source={gate}"));
        build.arg(format!("--opt=context={}#main", git.url()));
        let output = build.output().unwrap();
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (passed, said) = remote(image(world));
    assert!(!passed && said.contains("would be fetched before any policy is known"), "{said}");
    let strict = push(world, "buildgate:remote0", &only("false"));
    let (passed, said) = remote(&strict);
    assert!(!passed && said.contains("ours says no"), "{said}");
    assert_eq!(git.asked().len(), 0);
    let open = push(world, "buildgate:remote1", &only("input.git"));
    let (passed, said) = remote(&open);
    assert!(passed, "{said}");
}
