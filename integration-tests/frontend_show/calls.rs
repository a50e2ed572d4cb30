//! What is no plain build, and comes out the same too: subrequests, bake with targets that are
//! contexts of each other, caches that go out and come in.

use std::path::Path;

use super::clients::{self, Buildx, EPOCH, Ended, Frontend};
use super::{gate, oci, stock};
use crate::peers::{self, Buildkit, need};

#[test]
fn calls_answer_what_the_stock_frontend_answers() {
    let world = need!(peers::world());
    let buildx = need!(Buildx::get(world));
    let (base, app) = (world.image("base:1"), world.image("app:plain"));
    let outline = format!(
        "ARG VERSION=1\n# a stage to build\nFROM {app} AS one\nARG INSIDE\n\
         RUN --mount=type=secret,id=token true\nfrom {base} as two\nCOPY --from=one / /\n"
    );
    let broken = format!("FROM {base}\nCOPY --from=nowhere-stage / /\nWORKDIR relative\n");
    for call in [
        "--call=outline,format=json",
        "--call=targets,format=json",
        "--call=check,format=json",
        "--call=outline",
        "--call=targets",
        "--check",
    ] {
        for dockerfile in [&outline, &broken] {
            let [theirs, ours] = [stock(world), gate(world)].map(|frontend| {
                let syntax = format!("# syntax={}\n{dockerfile}", frontend.image);
                let context = peers::folder(&[("Dockerfile", &syntax)]);
                let ended = buildx.build(context.path(), &[call.to_owned()]);
                (ended.passed, common(&ended.output, &frontend, context.path()))
            });
            assert!(!theirs.1.is_empty() || !theirs.0, "{call} says nothing");
            assert_eq!(theirs, ours, "{call}\n{dockerfile}");
        }
    }
}

/// What was printed, without the frontend's name; JSON in one order, with the Dockerfile decoded.
fn common(output: &str, frontend: &Frontend, context: &Path) -> String {
    let said = match serde_json::from_str(output) {
        Ok(json) => oci::statement(json, frontend).to_string(),
        Err(_) => output.to_owned(),
    };
    let context = context.to_str().unwrap();
    said.replace(&frontend.image, "FRONTEND").replace(context, "CONTEXT")
}

#[test]
fn bake_makes_what_it_makes_with_the_stock_frontend() {
    let world = need!(peers::world());
    let buildx = need!(Buildx::get(world));
    let base = world.image("base:1");
    let made = |frontend: &Frontend| {
        let out = tempfile::tempdir().unwrap();
        let syntax = format!("# syntax={}\n", frontend.image);
        let output = |name: &str| {
            let dest = out.path().join(name);
            format!("type=oci,tar=false,rewrite-timestamp=true,dest={}", dest.display())
        };
        let bake = format!(
            "group \"default\" {{ targets = [\"lower\", \"upper\"] }}\n\
             target \"lower\" {{\n  dockerfile = \"lower\"\n  args = {{ A = \"1\" }}\n  output = [\"{}\"]\n\
             attest = [\"type=provenance,mode=max\"]\n}}\n\
             target \"upper\" {{\n  dockerfile = \"upper\"\n  contexts = {{ below = \"target:lower\" }}\n\
             output = [\"{}\"]\n  attest = [\"type=provenance,mode=max\"]\n}}\n",
            output("lower"),
            output("upper"),
        );
        let context = peers::folder(&[
            ("lower", &format!("{syntax}FROM {base}\nARG A\nLABEL a=$A\nCOPY a /lower\n")),
            ("upper", &format!("{syntax}FROM below\nCOPY --from=below /lower /upper\n")),
            ("a", "content"),
            ("docker-bake.hcl", &bake),
        ]);
        let mut command = buildx.command(&["bake", "--progress=plain", "--no-cache"]);
        let command = command.arg("--allow=fs=*").current_dir(context.path());
        Ended::from(command.output().unwrap()).passed(&format!("bake by {}", frontend.image));
        ["lower", "upper"].map(|name| oci::content(&out.path().join(name), frontend))
    };
    let (theirs, ours) = (made(&stock(world)), made(&gate(world)));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        let different = oci::differences("bake", theirs, ours);
        assert!(different.is_empty(), "{}", different.join("\n"));
    }
}

/// A build that fills a cache, and one that lives on it; nothing else is left in the daemon.
#[test]
fn caches_go_out_and_come_in() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start(world.registry.host()));
    let dockerfile = format!(
        "FROM {}\nUSER 0\nRUN [\"/bin/busybox\", \"touch\", \"/data/ran\"]\n",
        world.image("base:1")
    );
    let made = |frontend: &Frontend, name: &str| {
        let what = format!("{name} by {}", frontend.image);
        let build = |options: &[&str]| {
            let context = peers::folder(&[("Dockerfile", &dockerfile)]);
            let out = tempfile::tempdir().unwrap();
            let output = out.path().display();
            let mut all = vec![
                format!("--opt=build-arg:SOURCE_DATE_EPOCH={EPOCH}"),
                format!("--output=type=oci,tar=false,rewrite-timestamp=true,dest={output}"),
            ];
            all.extend(options.iter().map(|&option| option.to_owned()));
            let ended = clients::buildctl(&daemon, frontend, context.path(), &all).passed(&what);
            (ended.said, oci::content(out.path(), frontend))
        };
        forget(&daemon);
        let cache = world.image(&format!("cache-{name}:1"));
        let export = format!("--export-cache=type=registry,mode=max,ref={cache}");
        let (said, first) = build(&[&export]);
        assert!(!is_cached(&said), "{what} was there before:\n{said}");
        forget(&daemon);
        let (said, second) = build(&[&format!("--import-cache=type=registry,ref={cache}")]);
        assert!(is_cached(&said), "{what} ran again:\n{said}");
        [first, second]
    };
    let (theirs, ours) = (made(&stock(world), "theirs"), made(&gate(world), "ours"));
    for (theirs, ours) in theirs.iter().zip(&ours) {
        let different = oci::differences("cache", theirs, ours);
        assert!(different.is_empty(), "{}", different.join("\n"));
    }
}

/// Whether the one `RUN` came from a cache.
fn is_cached(said: &str) -> bool {
    let step = said.lines().find(|line| line.contains("] RUN ")).unwrap();
    let cached = format!("{} CACHED", step.split(' ').next().unwrap());
    said.lines().any(|line| line == cached)
}

/// Leaves nothing in the daemon's own cache.
fn forget(daemon: &Buildkit) {
    let ended: Ended = daemon.buildctl().args(["prune", "--all"]).output().unwrap().into();
    ended.passed("prune");
}
