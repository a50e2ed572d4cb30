//! What the frontend does beyond allowing and refusing: what it shows, what it pins, what it does
//! with submodules, caches and remote contexts, and with whatever would undo its decisions.

mod moved;
mod policies;
mod submodules;

use std::path::Path;
use std::sync::OnceLock;

use tempfile::TempDir;

pub use self::moved::{ask, moving};
pub use self::submodules::{Modules, ODDLY_WRITTEN};
use crate::frontend_show::clients::{Buildx, Ended};
use crate::peers::{self, HttpServer, World, folder, need};

/// Allows everything.
const ALLOW: &str = "package docker\ndecision := {\"allow\": true}\n";

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_buildgate"))
}

/// The image of the frontend, with these rules of an org in it; none where they are empty.
fn image(world: &World, name: &str, rego: &str) -> String {
    static BASE: OnceLock<()> = OnceLock::new();
    BASE.get_or_init(|| {
        let made = peers::make_image(world, "work:made", binary(), "");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    });
    let rego = if rego.is_empty() { ALLOW } else { rego };
    peers::push_org(world, &world.image("work:made"), name, binary(), rego)
}

/// The image that allows everything by itself.
fn open(world: &World) -> &'static str {
    static OPEN: OnceLock<String> = OnceLock::new();
    OPEN.get_or_init(|| image(world, "work:open", ""))
}

struct Built {
    passed: bool,
    said: String,
}

impl Built {
    fn passed(self) -> String {
        assert!(self.passed, "it failed:\n{}", self.said);
        self.said
    }

    fn refused(self, wanted: &[&str]) -> String {
        assert!(!self.passed, "it passed:\n{}", self.said);
        says(&self.said, wanted);
        self.said
    }
}

fn says(said: &str, wanted: &[&str]) {
    for part in wanted {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
}

fn run(world: &World, gate: &str, options: &[String]) -> Built {
    let mut build = world.buildkit.buildctl();
    build.args(["build", "--progress=plain", "--no-cache", "--frontend=gateway.v0"]);
    build.arg(format!("--opt=source={gate}")).args(options);
    let output = build.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Built { passed: output.status.success(), said }
}

fn build(world: &World, gate: &str, context: &TempDir, options: &[&str]) -> Built {
    let context = context.path().display();
    let mut all =
        vec![format!("--local=context={context}"), format!("--local=dockerfile={context}")];
    all.extend(options.iter().map(|&option| option.to_owned()));
    run(world, gate, &all)
}

/// Allows the client's directories and what `condition` says; denies the rest in our words.
fn only(condition: &str) -> String {
    format!(
        "package docker\n\
         default allow := false\n\
         allow if input.local\n\
         allow if {condition}\n\
         deny_msg contains \"ours says no\" if not allow\n\
         decision := {{\"allow\": allow, \"deny_msg\": deny_msg}}\n"
    )
}

#[test]
fn decisions_and_warnings_are_shown() {
    let world = need!(peers::world());
    let base = world.image("base:1");
    let rego = "package docker\n\
        allow if input.local\n\
        allow if input.image.labels[\"org.example.tier\"] == \"base\"\n\
        warn_msg contains \"base is going away\" if input.image\n\
        default allow := false\n\
        decision := {\"allow\": allow, \"warn_msg\": warn_msg}\n";
    let context =
        folder(&[("Dockerfile", &format!("# one\nFROM {base}\n")), ("Dockerfile.rego", rego)]);
    let said = build(world, open(world), &context, &[]).passed();
    says(
        &said,
        &[
            "[policy] sources are judged by ",
            "Dockerfile.rego",
            &format!("[policy] allowed: docker-image://{base} as docker-image://{base}@sha256:"),
            "; fetched config; held: ",
            "allow (Dockerfile.rego:3)",
            &format!("[policy] fetch config of docker-image://{base}"),
            "WARN: base is going away",
        ],
    );
    // The warning stands at its line, for those who show lines.
    let said = build(world, open(world), &context, &["--progress=rawjson"]).passed();
    let warnings: Vec<serde_json::Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|mut status| status.get_mut("warnings").map(serde_json::Value::take))
        .collect();
    let [warnings] = warnings.as_slice() else { panic!("{warnings:?} in:\n{said}") };
    assert_eq!(warnings[0]["range"][0]["start"]["line"], 2, "{warnings}");
    assert_eq!(warnings[0]["sourceInfo"]["filename"], "Dockerfile", "{warnings}");
}

#[test]
fn a_denial_names_the_rule_and_what_would_pass() {
    let world = need!(peers::world());
    let app = world.image("app:plain");
    let rule = only("endswith(input.image.repo, \"base\")");
    let silent = "package docker\nallow if input.local\nallow if input.image.tag == \"1\"\n\
                  decision := {\"allow\": allow}\ndefault allow := false\n";
    for (rego, wanted) in [
        (
            rule.as_str(),
            &[
                "ours says no",
                "denied by Dockerfile.rego at Dockerfile.rego:5; `allow` at Dockerfile.rego:4 came \
                 nearest to allowing it, if `endswith(input.image.repo, \"base\")` held; \
                 input.image.repo is \"",
            ][..],
        ),
        (
            silent,
            &["no rule of Dockerfile.rego allows it; `allow` at Dockerfile.rego:3 came nearest"],
        ),
    ] {
        let context =
            folder(&[("Dockerfile", &format!("FROM {app}\n")), ("Dockerfile.rego", rego)]);
        build(world, open(world), &context, &[]).refused(wanted);
    }
}

#[test]
fn an_image_is_decided_once_and_its_digest_is_the_same_image() {
    let world = need!(peers::world());
    let base = world.image("base:1");
    // Whoever asked again by the digest would be refused.
    let rego = "package docker\n\
        allow if input.local\n\
        allow if { input.image; not input.image.isCanonical }\n\
        decision := {\"allow\": allow}\ndefault allow := false\n";
    let from = format!("FROM {base} AS a\nFROM {base}\nCOPY --from=a /bin/busybox /b\n");
    let context = folder(&[("Dockerfile", &from), ("Dockerfile.rego", rego)]);
    let platforms = "--opt=platform=linux/amd64,linux/amd64/v2";
    for (options, wanted) in [(&[][..], 1), (&[platforms], 2)] {
        let said = build(world, open(world), &context, options).passed();
        assert_eq!(told(&said, &format!("docker-image://{base}")), wanted, "{said}");
        assert_eq!(told(&said, "local://context"), 1, "{said}");
    }
    let digest = build(
        world,
        open(world),
        &folder(&[
            ("Dockerfile", &format!("FROM {base}@{}\n", world.registry.digest("base", "1"))),
            ("Dockerfile.rego", rego),
        ]),
        &[],
    );
    digest.refused(&["isCanonical"]);
}

/// How often people are told that something is allowed. A vertex has a number, and its name may be printed
/// again.
fn told(said: &str, source: &str) -> usize {
    let text = format!(" [policy] allowed: {source}");
    let lines = said.lines().filter(|line| line.starts_with('#') && line.contains(&text));
    lines.collect::<std::collections::BTreeSet<_>>().len()
}

/// One file in two manners is one file.
#[test]
fn a_file_is_decided_once() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/f", b"good".to_vec())]);
    let url = files.url("/f");
    let context = folder(&[
        ("Dockerfile", &format!("FROM scratch\nADD {url} /a\nADD --chmod=755 {url} /b\n")),
        ("Dockerfile.rego", &only("startswith(input.http.checksum, \"sha256:\")")),
    ]);
    let said = build(world, open(world), &context, &[]).passed();
    assert_eq!(told(&said, &url), 1, "{said}");
}

/// No frontend can have what `RUN` fetches judged.
#[test]
fn a_policy_that_asks_for_exec_proxy_is_refused() {
    let world = need!(peers::world());
    let rego = "package docker\ndecision := {\"allow\": true, \"caps\": {\"exec.proxy\": true}}\n";
    let context =
        folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n"), ("Dockerfile.rego", rego)]);
    build(world, open(world), &context, &[]).refused(&[
        "a policy asks for exec.proxy",
        "it takes a gate in front of buildkitd",
        "1 | >>> FROM ",
    ]);
}

#[test]
fn a_cache_is_imported_as_it_was_judged() {
    let world = need!(peers::world());
    let cached = world.image("cached:1");
    let context = folder(&[
        ("Dockerfile", &format!("FROM {}\nCOPY a /a\n", world.image("base:1"))),
        ("Dockerfile.rego", &only("input.image.labels[\"org.example.tier\"] == \"base\"")),
        ("a", "a"),
    ]);
    // The cache is in the image itself, which has labels to read.
    let inline = ["build-arg:BUILDKIT_INLINE_CACHE=1"];
    world.buildkit.push(context.path(), &cached, &inline, "");
    let import = format!("--import-cache=type=registry,ref={cached}");
    let said = build(world, open(world), &context, &[&import]).passed();
    says(
        &said,
        &[
            &format!(
                "[policy] allowed as a cache: docker-image://{cached} as docker-image://{cached}@sha256:"
            ),
            &format!("importing cache manifest from {cached}@sha256:"),
        ],
    );
}

/// A warning about a build by URL stands at its line too.
#[test]
fn warnings_of_a_remote_context_have_lines() {
    let world = need!(peers::world());
    let rego = "package docker\nwarn_msg contains \"base is going away\" if input.image\n\
        decision := {\"allow\": true, \"warn_msg\": warn_msg}\n";
    let gate = image(world, "work:warns", rego);
    let from = format!("# one\nFROM {}\n", world.image("base:1"));
    let files = HttpServer::files([("/file", from.into_bytes())]);
    let options =
        [format!("--opt=context={}", files.url("/file")), "--progress=rawjson".to_owned()];
    let said = run(world, &gate, &options).passed();
    let warning = said
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|mut status| status.get_mut("warnings").map(serde_json::Value::take));
    let warning = warning.unwrap_or_else(|| panic!("no warning in:\n{said}"));
    assert_eq!(warning[0]["range"][0]["start"]["line"], 2, "{warning}");
}

/// What a registry gives to those alone who have its password: rules read it, and builds get it, by
/// the client's own credentials.
#[test]
fn a_registry_with_a_password_is_asked_with_the_clients() {
    let world = need!(peers::world());
    let registry = need!(peers::Registry::start_with_password());
    let secret = format!("{}/secret:1", registry.host());
    let login = folder(&[(
        "config.json",
        &format!(
            "{{\"auths\":{{\"{}\":{{\"username\":\"tests\",\"password\":\"for tests\"}}}}}}",
            registry.host()
        ),
    )]);
    let stranger = folder(&[("config.json", "{}")]);
    let run = |config: &TempDir, context: &TempDir, options: &[String]| {
        let output = world
            .buildkit
            .buildctl()
            .env("DOCKER_CONFIG", config.path())
            .args(["build", "--progress=plain", "--no-cache"])
            .arg(format!("--local=context={}", context.path().display()))
            .arg(format!("--local=dockerfile={}", context.path().display()))
            .args(options)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Built { passed: output.status.success(), said }
    };
    let labelled = folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\nLABEL tier=ours\n")]);
    let push = format!("--output=type=image,name={secret},push=true");
    run(&login, &labelled, &["--frontend=dockerfile.v0".into(), push]).passed();
    let gate = ["--frontend=gateway.v0".to_owned(), format!("--opt=source={}", open(world))];
    let buildx = need!(Buildx::get(world));
    let by_buildx = |config: &TempDir, context: &TempDir| -> Built {
        let mut build = buildx.command(&["build", "--progress=plain", "--no-cache"]);
        build.env("DOCKER_CONFIG", config.path());
        build.arg(format!("--build-arg=BUILDKIT_SYNTAX={}", open(world)));
        let ended =
            Ended::from(build.arg("--policy=disabled=true").arg(context.path()).output().unwrap());
        Built { passed: ended.passed, said: ended.said }
    };
    for (tier, config, wanted) in [
        ("ours", &login, None),
        ("theirs", &login, Some("ours says no")),
        ("ours", &stranger, Some("it could not be judged, and so is refused")),
    ] {
        let context = folder(&[
            ("Dockerfile", &format!("FROM {secret}\n")),
            ("Dockerfile.rego", &only(&format!("input.image.labels.tier == \"{tier}\""))),
        ]);
        for built in [run(config, &context, &gate), by_buildx(config, &context)] {
            match wanted {
                None => drop(built.passed()),
                Some(wanted) => drop(built.refused(&[wanted])),
            }
        }
    }
}

/// What the image's rules pin for one platform, the other does not get.
#[test]
fn each_platform_is_converted_by_itself() {
    let world = need!(peers::world());
    let both = "platform=linux/amd64,linux/arm64";
    for tag in ["one", "two"] {
        let from = format!("FROM scratch\nCOPY Dockerfile /{tag}\n");
        let context = folder(&[("Dockerfile", &from)]);
        let image = world.image(&format!("each:{tag}"));
        world.buildkit.push(context.path(), &image, &[both], "");
    }
    let app = world.image("each:one");
    let digest = world.registry.digest("each", "two");
    let rego = format!(
        "package docker\n\
         allow if input.local\n\
         allow if {{ input.image; input.image.platform != \"linux/arm64\" }}\n\
         allow if {{ input.image.platform == \"linux/arm64\"; pin_image(input.image, \"{digest}\") }}\n\
         decision := {{\"allow\": allow}}\ndefault allow := false\n"
    );
    let context = folder(&[("Dockerfile", &format!("FROM {app}\n")), ("Dockerfile.rego", &rego)]);
    let out = tempfile::tempdir().unwrap();
    let output = format!("--output=type=local,dest={}", out.path().display());
    let platforms = format!("--opt={both}");
    let said = build(world, open(world), &context, &[&platforms, &output]).passed();
    says(&said, &[&format!("(linux/arm64) as docker-image://{app}@{digest}")]);
    for (platform, wanted) in [("linux_amd64", ["one"]), ("linux_arm64", ["two"])] {
        let files = std::fs::read_dir(out.path().join(platform)).unwrap();
        let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, wanted, "{platform}: {said}");
    }
}
