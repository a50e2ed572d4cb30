//! Frontends, where the operator lists them: by the gate what a client names or would hide, and by the daemon
//! itself, with what `deploy/` gives it, what the gate cannot see.

use std::path::Path;
use std::process::Command;

use buildgate::source::SourceOp;
use buildgate::wire::proto::control::{SolveRequest, SolveResponse};
use buildgate::wire::proto::sourcepolicy::{Policy, PolicyAction, Rule, Selector, Update};
use http::HeaderMap;

use crate::frontend_show::clients::{Buildx, Ended};
use crate::frontend_show::stock;
use crate::gate_enforce::{SOLVE, of, only, reasons, unique};
use crate::gate_ops::Gate;
use crate::gate_show::clients::{TCP, tcp, user};
use crate::peers::{self, Buildkit, World, need};

/// Builds this Dockerfile by buildctl at an address.
fn build(address: &str, dockerfile: &str, options: &[String]) -> Ended {
    let context = peers::folder(&[("Dockerfile", dockerfile)]);
    let local = |name| format!("--local={name}={}", context.path().display());
    let mut build = Command::new(peers::pinned("buildctl").unwrap());
    build.env("OTEL_TRACES_EXPORTER", "none").args(["--addr", address]);
    build.args(["build", "--progress=plain", "--no-cache"]);
    build.args([local("context"), local("dockerfile")]).args(options);
    build.output().unwrap().into()
}

fn check(what: &str, ended: &Ended, wanted: Option<&str>) {
    match wanted {
        None => assert!(ended.passed, "{what}: {}", ended.said),
        Some(words) => {
            assert!(!ended.passed && ended.said.contains(words), "{what}: {}", ended.said)
        }
    }
}

const BUILT_IN: &str = "--frontend=dockerfile.v0";
const AN_IMAGE: &str = "--frontend=gateway.v0";
const NONE: &str = "none of those that are listed (--frontends)";
const INSTEAD: &str = "it would stand in place of a frontend that is listed";

/// The listed frontend, and one that is the same but not listed.
fn images(world: &World) -> (String, String) {
    (stock(world).image, peers::push_stock(world, "unlisted:1"))
}

#[test]
fn frontends_that_are_not_listed_are_refused() {
    let world = need!(peers::world());
    let (listed, other) = images(world);
    let list = format!("dockerfile.v0,{}", world.image("stock"));
    let more = [&TCP[..], &["--frontends", &list, "--decision-log", "log"]].concat();
    let gate = Gate::before(world, &only("true"), &more);
    let address = format!("unix://{}", gate.path("gate.sock").display());
    let buildx = need!(Buildx::at(&tcp(&gate)));
    let from = "FROM scratch\nCOPY Dockerfile /\n";
    let syntax = |image: &str| format!("# syntax={image}\n{from}");
    let context = |image: &str| format!("--opt=context:{image}=docker-image://{other}");
    let source = |image: &str| format!("--opt=source={image}");
    for (what, dockerfile, options, wanted) in [
        ("the daemon's own", from.to_owned(), vec![BUILT_IN.to_owned()], None),
        ("a listed syntax", syntax(&listed), vec![BUILT_IN.to_owned()], None),
        ("a listed image", from.to_owned(), vec![AN_IMAGE.to_owned(), source(&listed)], None),
        ("another syntax", syntax(&other), vec![BUILT_IN.to_owned()], Some("is no frontend here")),
        (
            "another syntax by option",
            from.to_owned(),
            vec![BUILT_IN.to_owned(), format!("--opt=build-arg:BUILDKIT_SYNTAX={other}")],
            Some("is no frontend here"),
        ),
        ("another image", from.to_owned(), vec![AN_IMAGE.to_owned(), source(&other)], Some(NONE)),
        ("no image", from.to_owned(), vec![AN_IMAGE.to_owned()], Some(NONE)),
        ("another name", from.to_owned(), vec!["--frontend=other.v0".to_owned()], Some(NONE)),
        (
            "another in its place",
            syntax(&listed),
            vec![BUILT_IN.to_owned(), context(&listed)],
            Some(INSTEAD),
        ),
    ] {
        check(what, &build(&address, &dockerfile, &options), wanted);
    }
    for (what, dockerfile, options, wanted) in [
        ("the daemon's own", from.to_owned(), vec![], None),
        ("a listed syntax", syntax(&listed), vec![], None),
        ("another syntax", syntax(&other), vec![], Some("is no frontend here")),
        (
            "another in its place",
            syntax(&listed),
            vec![format!("--build-context={listed}=docker-image://{other}")],
            Some(INSTEAD),
        ),
    ] {
        let folder = peers::folder(&[("Dockerfile", &dockerfile)]);
        check(&format!("buildx: {what}"), &buildx.build(folder.path(), &options), wanted);
    }
    let log = gate.read("log");
    assert!(
        log.lines().any(|line| line.contains("unlisted:1") && line.contains("\"deny\"")),
        "{log}"
    );
}

/// By a static rule a client could take the mark away by which a frontend is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn static_rules_do_not_hide_a_frontend() {
    let world = need!(peers::world());
    let args = ["--frontends", "dockerfile.v0"];
    let gate = Gate::before(world, &only("true"), &args);
    let base = format!("docker-image://{}", world.image("base:1"));
    let channel = user(&gate).await;
    for (attr, wanted) in [("image.recordtype", false), ("image.resolvemode", true)] {
        let selector = Selector { identifier: base.clone(), ..Selector::default() };
        let attrs = [(attr.to_owned(), "default".to_owned())].into();
        let updates = Update { attrs, ..Update::default() };
        let rule = Rule {
            action: PolicyAction::Convert.into(),
            selector: Some(selector),
            updates: Some(updates),
        };
        let request = SolveRequest {
            r#ref: unique(),
            source_policy: Some(Policy { rules: vec![rule], ..Policy::default() }),
            ..of(SourceOp::new(base.clone()))
        };
        let got: Result<SolveResponse, _> = channel.call(SOLVE, &HeaderMap::new(), &request).await;
        match got {
            Ok(_) => assert!(wanted, "{attr}"),
            Err(status) => {
                assert!(!wanted, "{attr}: {status:?}");
                let said = reasons(&status);
                assert!(said.contains("what an image is loaded as"), "{status:?}: {said}");
            }
        }
    }
}

/// What is in `deploy/` for the daemon: it looks at the names of frontends, before anything could stand in
/// their place.
#[test]
fn a_daemon_that_knows_the_list_refuses_others_itself() {
    let world = need!(peers::world());
    let (listed, other) = images(world);
    let deployed = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/buildkitd.toml");
    let deployed = std::fs::read_to_string(deployed).unwrap();
    let example = "registry.corp.example/dockerfile";
    assert!(deployed.contains(example), "{deployed}");
    let config = deployed.replace(example, &world.image("stock"));
    let daemon = need!(Buildkit::start_also(world.registry.host(), &config));
    let dir = peers::folder(&[("policy/p.rego", &only("true"))]);
    let listen = format!("unix://{}/gate.sock", dir.path().display());
    let list = format!("dockerfile.v0,{}", world.image("stock"));
    let args = ["--listen", &listen, "--upstream", daemon.address(), "--policy", "policy"];
    let gate = Gate::start(dir, &[&args[..], &["--frontends", &list]].concat(), &[]);
    let gate = format!("unix://{}", gate.path("gate.sock").display());
    let from = "FROM scratch\nCOPY Dockerfile /\n";
    let syntax = |image: &str| format!("# syntax={image}\n{from}");
    let own = || vec![BUILT_IN.to_owned()];
    const NOT: &str = "is not an allowed gateway source";
    // Under a name of the client's own it would come unmarked.
    let renamed = vec![BUILT_IN.to_owned(), format!("--opt=context:mine=docker-image://{other}")];
    for (what, address, dockerfile, options, wanted) in [
        ("listed", &gate, syntax(&listed), own(), None),
        ("not listed", &gate, syntax(&other), own(), Some(NOT)),
        ("under another name", &gate, syntax("mine"), renamed, Some(NOT)),
        ("listed, bare", &daemon.address().to_owned(), syntax(&listed), own(), None),
        ("not listed, bare", &daemon.address().to_owned(), syntax(&other), own(), Some(NOT)),
    ] {
        check(what, &build(address, &dockerfile, &options), wanted);
    }
}
