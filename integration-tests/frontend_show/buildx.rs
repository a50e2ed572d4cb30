//! Buildx beside us: its own policy judges the same build by the same file or by another, and what we
//! say aloud stands where it shows warnings.

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
