//! What is no plain build, and comes out the same too: subrequests, bake with targets that are
//! contexts of each other, caches that go out and come in.

use std::path::Path;

use serde_json::Value;

use super::builds::differences;
use super::clients::{self, Buildx, EPOCH, Ended, Frontend};
use super::{gate, oci, stock};
use crate::peers::{self, Buildkit, World, need};

/// A Dockerfile to ask about, and one with mistakes.
fn asked_about(world: &World) -> [String; 2] {
    let (base, app) = (world.image("base:1"), world.image("app:plain"));
    let outline = format!(
        "ARG VERSION=1\n# a stage to build\nFROM {app} AS one\nARG INSIDE\n\
         RUN --mount=type=secret,id=token true\nfrom {base} as two\nCOPY --from=one / /\n"
    );
    [outline, format!("FROM {base}\nCOPY --from=nowhere-stage / /\nWORKDIR relative\n")]
}

/// `--print` is what `--call` was called, and still there for who asks for experiments.
#[test]
fn calls_answer_what_the_stock_frontend_answers() {
    let world = need!(peers::world());
    let buildx = need!(Buildx::get(world));
    for call in [
        "--call=outline,format=json",
        "--call=targets,format=json",
        "--call=check,format=json",
        "--call=outline",
        "--call=targets",
        "--call=nonsense",
        "--check",
        "--print=outline",
        "--print=outline,format=json",
        "--print=targets",
        "--print=targets,format=json",
        "--print=lint",
    ] {
        for dockerfile in asked_about(world) {
            let [theirs, ours] = [stock(world), gate(world)].map(|frontend| {
                let syntax = format!("# syntax={}\n{dockerfile}", frontend.image);
                let context = peers::folder(&[("Dockerfile", &syntax)]);
                let mut build = buildx.command(&["build", "--progress=plain", call]);
                build.env("BUILDX_EXPERIMENTAL", "1").arg(context.path());
                let ended = Ended::from(build.output().unwrap());
                assert!(!ended.said.contains("unknown flag"), "{call}: {}", ended.said);
                (ended.passed, common(&ended.output, &frontend, context.path()))
            });
            assert!(!theirs.1.is_empty() || !theirs.0, "{call} says nothing");
            assert_eq!(theirs, ours, "{call}\n{dockerfile}");
        }
    }
}

/// The same as buildctl asks for it, by the names of the requests.
#[test]
fn subrequests_answer_what_the_stock_frontend_answers() {
    let world = need!(peers::world());
    for (request, answers) in [
        ("frontend.outline", true),
        ("frontend.targets", true),
        ("frontend.lint", true),
        ("frontend.subrequests.describe", true),
        ("frontend.convertllb", true),
        ("frontend.nonsense", false),
    ] {
        for dockerfile in asked_about(world) {
            let context = peers::folder(&[("Dockerfile", &dockerfile)]);
            let [theirs, ours] = [stock(world), gate(world)].map(|frontend| {
                let options = [format!("--opt=requestid={request}")];
                let daemon = &world.buildkit;
                let ended = clients::buildctl(daemon, &frontend, context.path(), &options);
                let output = match request {
                    "frontend.convertllb" => loads(&ended.output),
                    _ => ended.output,
                };
                (ended.passed, common(&output, &frontend, context.path()), ended.said)
            });
            let broken = dockerfile.contains("nowhere-stage");
            assert!(theirs.0 == answers || broken, "{request}: {}", theirs.2);
            // It has warnings alone, and buildctl shows none.
            let silent = request == "frontend.lint";
            assert!(silent || !theirs.1.is_empty() || !theirs.0, "{request} says nothing");
            assert_eq!((theirs.0, theirs.1), (ours.0, ours.1), "{request}\n{}", ours.2);
        }
    }
    // What nobody here knows is refused alike.
    let context = peers::folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    for frontend in [stock(world), gate(world)] {
        let options = ["--opt=frontend.caps=moby.buildkit.frontend.nonsense".to_owned()];
        let ended = clients::buildctl(&world.buildkit, &frontend, context.path(), &options);
        let wanted = "unsupported frontend capability moby.buildkit.frontend.nonsense";
        assert!(!ended.passed && ended.said.contains(wanted), "{}", ended.said);
    }
}

/// The sources in LLB: the rest hangs on the id of the session, digests and order too.
fn loads(llb: &str) -> String {
    let mut sources: Vec<&str> =
        llb.lines().map(str::trim).filter(|line| line.starts_with("\"identifier\"")).collect();
    sources.sort_unstable();
    sources.join("\n")
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
        let content = |name: &str| oci::content(&out.path().join(name), frontend, &world.buildkit);
        Value::from_iter(["lower", "upper"].map(content))
    };
    let different = differences("bake", || Ok((made(&stock(world)), made(&gate(world)))));
    assert!(different.is_empty(), "{}", different.join("\n"));
}

/// A build that fills a cache, and one that lives on it; nothing else is left in the daemon.
#[test]
fn caches_go_out_and_come_in() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start(world.registry.host()));
    let buildx = need!(Buildx::of(&daemon));
    let different: Vec<String> = [None, Some(&buildx)]
        .into_iter()
        .flat_map(|client| {
            let cached = Cached { world, daemon: &daemon, client };
            differences("cache", || Ok((cached.pair(&stock(world)), cached.pair(&gate(world)))))
        })
        .collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}

struct Cached<'a> {
    world: &'a World,
    daemon: &'a Buildkit,
    /// buildctl where there is none.
    client: Option<&'a Buildx>,
}

impl Cached<'_> {
    /// What is made by a build into a cache, and by one out of it.
    fn pair(&self, frontend: &Frontend) -> Value {
        let cache = format!("type=registry,ref={}", self.world.image("cache:1"));
        let (export, import) = match self.client {
            None => ("--export-cache", "--import-cache"),
            Some(_) => ("--cache-to", "--cache-from"),
        };
        let name = if self.client.is_some() { "Buildx" } else { "buildctl" };
        let what = format!("a cache by {} and {name}", frontend.image);
        let (said, first) = self.build(frontend, &format!("{export}={cache},mode=max"), &what);
        assert!(said.contains("ran-2"), "{what} was there before:\n{said}");
        let (said, second) = self.build(frontend, &format!("{import}={cache}"), &what);
        assert!(!said.contains("ran-2"), "{what} ran again:\n{said}");
        Value::from_iter([first, second])
    }

    fn build(&self, frontend: &Frontend, cache: &str, what: &str) -> (String, Value) {
        forget(self.daemon);
        let syntax = self.client.map(|_| format!("# syntax={}\n", frontend.image));
        let dockerfile = format!(
            "{}FROM {}\nUSER 0\nSHELL [\"/bin/busybox\", \"sh\", \"-c\"]\n\
             RUN /bin/busybox touch /ran && echo ran-$((1 + 1))\nCOPY a /a\n",
            syntax.unwrap_or_default(),
            self.world.image("base:1")
        );
        let context = peers::folder(&[("Dockerfile", &dockerfile), ("a", "content")]);
        let out = tempfile::tempdir().unwrap();
        let output = out.path().display();
        let mut options = vec![
            format!("--output=type=oci,tar=false,rewrite-timestamp=true,dest={output}"),
            cache.to_owned(),
        ];
        let ended = match self.client {
            None => {
                options.push(format!("--opt=build-arg:SOURCE_DATE_EPOCH={EPOCH}"));
                options.push("--opt=attest:provenance=mode=max".to_owned());
                clients::buildctl(self.daemon, frontend, context.path(), &options)
            }
            Some(buildx) => {
                options.push("--provenance=mode=max".to_owned());
                buildx.build(context.path(), &options)
            }
        };
        let ended = ended.passed(what);
        (ended.said, oci::content(out.path(), frontend, self.daemon))
    }
}

/// Leaves nothing in the daemon's own cache.
fn forget(daemon: &Buildkit) {
    let ended: Ended = daemon.buildctl().args(["prune", "--all"]).output().unwrap().into();
    ended.passed("prune");
}
