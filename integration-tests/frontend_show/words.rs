//! What Buildx prints of a denial of ours is what it prints of one by its own policy before the stock
//! frontend: the words, the lines, the sentence at the end. We say more where it says nothing.

use std::path::Path;

use super::clients::{Buildx, Ended, Frontend};
use super::stock;
use crate::peers::{self, HttpServer, World, folder, need};

/// The same rules for both. Buildx judges the frontends' images too.
const RULES: &str = "package docker\n\
    default allow := false\n\
    allow if input.local\n\
    allow if endswith(input.image.repo, \"/base\")\n\
    allow if endswith(input.image.repo, \"/stock\")\n\
    deny_msg contains \"100% \\\"ours\\\": see https://example.com/why?a=b&c\" if not allow\n\
    deny_msg contains \"ours says no\" if not allow\n\
    decision := {\"allow\": allow, \"deny_msg\": deny_msg}\n";

/// The parts of what is printed in the end.
#[derive(Debug)]
struct Told {
    /// In the policy's words, and in ours.
    messages: Vec<String>,
    /// The Dockerfile with arrows; empty where there is none.
    lines: Vec<String>,
    /// The last line.
    error: String,
}

fn told(world: &World, context: &Path, frontend: &Frontend, judges: bool) -> Told {
    let buildx = Buildx::get(world).unwrap();
    let mut options = vec![format!("--build-arg=BUILDKIT_SYNTAX={}", frontend.image)];
    options.extend((!judges).then(|| "--policy=disabled=true".to_owned()));
    let Ended { passed, said, .. } = buildx.build(context, &options);
    assert!(!passed, "it passed:\n{said}");
    let lines = |is: &dyn Fn(&str) -> bool| -> Vec<String> {
        said.lines().filter(|line| is(line)).map(str::to_owned).collect()
    };
    let numbered = |line: &str| {
        let (number, rest) = line.split_once(" | ").unwrap_or_default();
        number.trim().parse::<usize>().is_ok() && !rest.is_empty()
    };
    let error = lines(&|line| line.starts_with("ERROR: "));
    Told {
        messages: lines(&|line| line.starts_with("Policy: ")),
        lines: lines(&numbered),
        error: error.last().unwrap_or_else(|| panic!("no error:\n{said}")).clone(),
    }
}

#[test]
fn a_denial_reads_as_one_by_buildx_itself() {
    let world = need!(peers::world());
    need!(Buildx::get(world));
    let stock = stock(world);
    let ours = Frontend::of(world, crate::frontend::image(world).to_owned());
    let (base, no) = (world.image("base:1"), world.image("worded-refused:1"));
    let files = HttpServer::files([]);
    // Whether Buildx by itself points at a line there.
    for (source, dockerfile, points) in [
        (format!("docker-image://{no}"), format!("FROM {no}\n"), true),
        (format!("docker-image://{no}"), format!("FROM {base}\nCOPY --from={no} / /\n"), true),
        (
            format!("docker-image://{no}"),
            format!("FROM {base}\nRUN --mount=from={no} true\n"),
            false,
        ),
        (files.url("/x"), format!("FROM {base}\nADD {} /\n", files.url("/x")), false),
    ] {
        let context = folder(&[("Dockerfile", &dockerfile), ("Dockerfile.rego", RULES)]);
        let theirs = told(world, context.path(), &stock, true);
        let ours = told(world, context.path(), &ours, false);
        assert_eq!(theirs.messages.len(), 2, "{theirs:?}");
        // Behind the policy's own words we tell which rule it was.
        assert_eq!(ours.messages[..2], theirs.messages, "{dockerfile}");
        assert!(ours.messages[2..].iter().all(|it| it.contains("Dockerfile.rego")), "{ours:?}");
        assert_eq!(!theirs.lines.is_empty(), points, "{theirs:?}");
        assert!(ours.lines.iter().any(|line| line.contains(">>>")), "{ours:?}");
        assert!(!points || ours.lines == theirs.lines, "{theirs:?}\n{ours:?}");
        assert_eq!(ours.error, theirs.error, "{dockerfile}");
        let sentence = format!("source \"{source}\" not allowed by policy: action DENY");
        assert!(ours.error.ends_with(&sentence), "{ours:?}");
    }
    assert_eq!(files.asked().len(), 0);
    assert_eq!(world.registry.accesses(&["worded-refused"]).len(), 0);
}
