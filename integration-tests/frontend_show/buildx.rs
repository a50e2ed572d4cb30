//! Buildx beside us: its own policy judges the same build by the same file or by another, and what we
//! say aloud stands where it shows warnings.

use std::io::Write as _;
use std::process::Stdio;

use super::clients::{Buildx, Ended};
use super::gate;
use crate::peers::{self, World, need};

/// Pins the base image to this digest, and lets everything else in.
fn pinning(digest: &str) -> String {
    format!(
        "package docker\n\
         base if endswith(input.image.repo, \"base\")\n\
         allow if not base\n\
         allow if {{ base; pin_image(input.image, \"{digest}\") }}\n\
         default allow := false\n\
         decision := {{\"allow\": allow}}\n"
    )
}

fn build(world: &World, buildx: &Buildx, rego: (&str, &str), options: &[&str]) -> Ended {
    let dockerfile =
        format!("# syntax={}\nFROM {}\nCOPY a /\n", gate(world).image, world.image("base:1"));
    let context = peers::folder(&[("Dockerfile", &dockerfile), ("a", "a"), rego]);
    let options: Vec<String> = options
        .iter()
        .map(|option| option.replace("CONTEXT", context.path().to_str().unwrap()))
        .collect();
    buildx.build(context.path(), &options)
}

/// Our rules for the daemon let an image be pinned by whoever judges it after us.
#[test]
fn what_buildx_pins_by_its_own_policy_is_built() {
    let world = need!(peers::world());
    let buildx = need!(Buildx::get(world));
    let digest = world.registry.digest("base", "1");
    let pinned = pinning(&digest);
    for (file, options) in
        [("Dockerfile.rego", &[][..]), ("own.rego", &["--policy=filename=CONTEXT/own.rego"][..])]
    {
        let ended = build(world, buildx, (file, &pinned), options).passed(file);
        assert!(ended.said.contains(&digest), "{file} pins nothing:\n{}", ended.said);
    }
    // And what its policy denies stays denied, whatever ours allows.
    let denied = "package docker\ndefault allow := false\nallow if not input.image\n\
                  allow if contains(input.image.repo, \"gate\")\n\
                  decision := {\"allow\": allow}\n";
    let options = &["--policy=filename=CONTEXT/own.rego"];
    let ended = build(world, buildx, ("own.rego", denied), options);
    assert!(!ended.passed && ended.said.contains("not allowed by policy"), "{}", ended.said);
}

#[test]
fn buildx_shows_warnings_with_their_lines() {
    let world = need!(peers::world());
    let buildx = need!(Buildx::get(world));
    let rego = "package docker\nallow := true\n\
                warn_msg contains \"base is going away\" if endswith(input.image.repo, \"base\")\n\
                decision := {\"allow\": allow, \"warn_msg\": warn_msg}\n";
    let short = " - base is going away (line 2)";
    // Whoever asks for details is shown the line itself.
    for (options, line) in [(&[][..], None), (&["--debug"][..], Some("2 | >>> FROM "))] {
        let ended = build(world, buildx, ("Dockerfile.rego", rego), options).passed("a warning");
        for wanted in ["1 warning found", short].into_iter().chain(line) {
            assert!(ended.said.contains(wanted), "{wanted:?} is missing in:\n{}", ended.said);
        }
    }
}

/// `docker build - < context.tar`: what the client sends is there once, and is its own.
#[test]
fn a_context_on_standard_input_is_the_clients_own() {
    let world = need!(peers::world());
    let buildx = need!(Buildx::get(world));
    let plain = crate::frontend::image(world);
    let from = format!("FROM {}\nCOPY a /\n", world.image("base:1"));
    let rules = |name: &str| {
        format!(
            "package docker\nallow if not input.image\nallow if endswith(input.image.repo, \"/{name}\")\n\
             default allow := false\ndeny_msg contains \"ours says no\" if not allow\n\
             decision := {{\"allow\": allow, \"deny_msg\": deny_msg}}\n"
        )
    };
    // A rule that reads the content makes the daemon fetch it for the answer.
    let reads = "package docker\nallow if not input.http\n\
        allow if startswith(input.http.checksum, \"sha256:\")\n\
        default allow := false\ndecision := {\"allow\": allow}\n";
    let strict = rules("other");
    for (frontend, file, wanted) in [
        (plain, rules("base"), None),
        (plain, strict.clone(), Some("ours says no")),
        (&gate(world).image, rules("base"), None),
        (&gate(world).image, strict, Some("ours says no")),
        (plain, reads.to_owned(), None),
        (plain, String::new(), Some("there is no policy")),
    ] {
        let mut files = vec![("Dockerfile", from.as_str()), ("a", "a")];
        if !file.is_empty() {
            files.push(("Dockerfile.rego", &file));
        }
        let context = peers::folder(&files);
        let mut tar = std::process::Command::new("tar");
        let tar = tar.args(["-cf", "-", "-C"]).arg(context.path()).arg(".").output().unwrap();
        let syntax = format!("--build-arg=BUILDKIT_SYNTAX={frontend}");
        let mut build = buildx
            .command(&["build", "--progress=plain", "--no-cache", &syntax, "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        build.stdin.take().unwrap().write_all(&tar.stdout).unwrap();
        let ended: Ended = build.wait_with_output().unwrap().into();
        assert_eq!(ended.passed, wanted.is_none(), "{file}: {}", ended.said);
        assert!(ended.said.contains(wanted.unwrap_or_default()), "{file}: {}", ended.said);
    }
}

/// The policy in a folder that Buildx gives by name: it decides, and so do the others.
#[test]
fn buildx_gives_a_policy_by_name() {
    let world = need!(peers::world());
    let buildx = need!(Buildx::get(world));
    let allow = "package docker\ndecision := {\"allow\": true}\n";
    let deny = "package docker\nallow if not input.image\ndefault allow := false\n\
        decision := {\"allow\": allow, \"deny_msg\": [\"the name says no\"]}\n";
    let plain = crate::frontend::image(world);
    for (frontend, image, rules, wanted) in [
        (plain, "base:1", allow, None),
        (plain, "base:1", deny, Some("the name says no")),
        (&gate(world).image, "base:1", allow, None),
        (&gate(world).image, "base:1", deny, Some("the name says no")),
        (&gate(world).image, "refused:1", allow, Some("the org refuses")),
    ] {
        let policy = peers::folder(&[("p.rego", rules)]);
        let context = peers::folder(&[("Dockerfile", &format!("FROM {}\n", world.image(image)))]);
        let options = [
            format!("--build-arg=BUILDKIT_SYNTAX={frontend}"),
            format!("--build-context=policy={}", policy.path().display()),
            "--no-cache".to_owned(),
        ];
        let ended = buildx.build(context.path(), &options);
        assert_eq!(ended.passed, wanted.is_none(), "{}", ended.said);
        assert!(ended.said.contains(wanted.unwrap_or_default()), "{}", ended.said);
    }
}
