//! What clients try: each way is stopped by the gate's own process, with the org's words, and the
//! servers that it leads to are asked nothing.

use buildgate::source::SourceOp;
use buildgate::wire::proto::control::SolveRequest;
use buildgate::wire::proto::gateway;
use prost::Message as _;
use tonic::Status;

use super::clients::{
    BRIDGE, TCP, another, built_from, of_build, raw, refused, solve, source, tcp, user,
};
use crate::frontend_show::builds::Peers;
use crate::frontend_show::clients::{Buildx, Ended};
use crate::frontend_show::{oci, stock};
use crate::frontend_work::{Modules, ODDLY_WRITTEN, moving};
use crate::gate_enforce::{of, only, open_session, reasons, unique};
use crate::gate_process::Gate;
use crate::peers::{self, GitServer, HttpServer, llb, need};

#[test]
fn raw_llb_is_judged_source_by_source() {
    let world = need!(peers::world());
    let git = need!(GitServer::start());
    let image = |name: &str| SourceOp::new(format!("docker-image://{}", world.image(name)));
    let inside = |op: SourceOp| llb(&[op]).encode_to_vec();
    let files = HttpServer::files([("/never", b"never".to_vec())]);
    let client = tempfile::tempdir().unwrap();
    let mut options = Vec::new();
    for (name, op) in [("good", image("base:1")), ("evil", image("raw-evil:inside"))] {
        let path = client.path().join(name);
        std::fs::create_dir(&path).unwrap();
        options.push(format!("--local={name}={}", path.display()));
        std::fs::write(path.join("buildkit.llb.definition"), inside(op)).unwrap();
    }
    let ours = only("endswith(input.image.repo, \"base\")");
    // As it was before builds in builds were refused: that is in `shared`.
    let gate = Gate::before(world, &ours, &["--decision-log", "log", "--build-op", "allow"]);
    let digest = format!("sha256:{}", "a".repeat(64));
    let repo = world.image("raw-evil");
    let remote = format!("git://{}#main", git.url().trim_start_matches("http://"));
    for (what, definition, passes) in [
        ("an image", llb(&[image("base:1")]), true),
        ("a build in a build", built_from(SourceOp::new("local://good")), true),
        ("another image", llb(&[image("raw-evil:1")]), false),
        ("one of two", llb(&[image("base:1"), image("raw-evil:2")]), false),
        ("an evil build in a build", built_from(SourceOp::new("local://evil")), false),
        ("a file", llb(&[SourceOp::new(files.url("/never"))]), false),
        ("a repository", llb(&[source(remote, &[("git.fullurl", &git.url())])]), false),
        ("a blob", llb(&[SourceOp::new(format!("docker-image+blob://{repo}@{digest}"))]), false),
        (
            "a blob of a layout",
            llb(&[SourceOp::new(format!("oci-layout+blob://raw-evil@{digest}"))]),
            false,
        ),
    ] {
        let ended = raw(&gate, &definition, &options);
        if passes {
            ended.passed(what);
        } else {
            refused(what, &ended);
        }
    }
    assert_eq!(world.registry.accesses(&["raw-evil"]), [""; 0]);
    assert!(files.asked().iter().all(|request| request.path != "/never"));
    assert_eq!(git.asked().len(), 0);
    let log = gate.read("log");
    assert!(log.contains("raw-evil:inside"), "the build in a build was judged: {log}");
}

/// What options and syntax lines put in a frontend's place, by each client.
#[test]
fn frontends_of_any_kind_are_judged_and_so_is_what_they_load() {
    let world = need!(peers::world());
    let gate = Gate::before(
        world,
        &only(
            "endswith(input.image.repo, \"base\")\nallow if endswith(input.image.repo, \"stock\")",
        ),
        &TCP,
    );
    let buildx = need!(Buildx::at(&tcp(&gate)));
    let evil = world.image("front-evil:1");
    let from = format!("FROM {}\n", world.image("base:1"));
    let ignoring = format!("# syntax={}\nFROM {evil}\n", stock(world).image);
    let named = format!("# syntax={evil}\n{from}");
    let (syntax, sbom) = (format!("BUILDKIT_SYNTAX={evil}"), format!("generator={evil}"));
    for (dockerfile, option) in [
        (&from, Some(("--opt=build-arg:", "--build-arg=", &syntax))),
        (&from, Some(("--opt=attest:sbom=", "--sbom=", &sbom))),
        (&ignoring, None),
        (&named, None),
    ] {
        let context = peers::folder(&[("Dockerfile", dockerfile)]);
        let local = |name| format!("--local={name}={}", context.path().display());
        let mut build = gate.buildctl("gate.sock");
        build.args(["build", "--progress=plain", "--no-cache", "--frontend=dockerfile.v0"]);
        build.args([local("context"), local("dockerfile")]);
        build.args(option.map(|(buildctl, _, value)| format!("{buildctl}{value}")));
        refused(&format!("{dockerfile}{option:?}"), &build.output().unwrap().into());
        let options: Vec<String> =
            option.iter().map(|(_, buildx, value)| format!("{buildx}{value}")).collect();
        let ended = buildx.build(context.path(), &options);
        assert!(!ended.passed && ended.said.contains("ours says no"), "{dockerfile}{}", ended.said);
    }
    let mut build = gate.buildctl("gate.sock");
    build.args(["build", "--progress=plain", "--frontend=gateway.v0"]);
    build.arg(format!("--opt=source={evil}"));
    refused("another frontend", &build.output().unwrap().into());
    assert_eq!(world.registry.accesses(&["front-evil"]), [""; 0]);
}

#[test]
fn the_blob_of_a_git_bundle_is_judged_where_its_repository_is_allowed() {
    let world = need!(peers::world());
    let git = need!(GitServer::start());
    let rego = only("endswith(input.git.remote, \"app.git\")");
    let digest = format!("sha256:{}", "a".repeat(64));
    let bundle = format!("docker-image+blob://{}@{digest}", world.image("bundle-evil"));
    let identifier = format!("git://{}#main", git.url().trim_start_matches("http://"));
    let commit = git.object("main");
    let url = git.url();
    for submodules in ["judge", "skip", "deny"] {
        let gate = Gate::before(world, &rego, &["--git-submodules", submodules]);
        let plain = [("git.fullurl", url.as_str()), ("git.checksum", &commit)];
        let with = [&plain[..], &[("git.bundle", &bundle)]].concat();
        raw(&gate, &llb(&[source(identifier.clone(), &plain)]), &[]).passed("without a bundle");
        let ended = raw(&gate, &llb(&[source(identifier.clone(), &with)]), &[]);
        refused(submodules, &ended);
    }
    assert_eq!(world.registry.accesses(&["bundle-evil"]), [""; 0]);
}

#[test]
fn a_tag_that_moves_is_not_followed_by_buildx() {
    let world = need!(peers::world());
    let rego = only("input.image.labels[\"org.example.tier\"] == \"base\"");
    let gate = Gate::before(world, &rego, &[&TCP[..], &["--decision-log", "log"]].concat());
    let buildx = need!(Buildx::at(&tcp(&gate)));
    let (registry, asked) = moving(world);
    let host = registry.url("").trim_start_matches("http://").to_owned();
    let context = peers::folder(&[("Dockerfile", &format!("FROM {host}/moving:1\n"))]);
    let out = tempfile::tempdir().unwrap();
    let options = [format!("--output=type=local,dest={}", out.path().display())];
    buildx.build(context.path(), &options).passed("as it was");
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert!(out.path().join("bin/busybox").exists(), "`base` has it, and `app` has not");
    let moved = world.registry.digest("app", "plain");
    assert!(registry.asked().iter().all(|it| !it.path.ends_with(&moved)));
    let judged = world.registry.digest("base", "1");
    assert!(gate.read("log").contains(&format!("moving:1@{judged}")), "{}", gate.read("log"));
    // Asked anew, it is the other one, which the rule refuses.
    let ended = buildx.build(context.path(), &["--no-cache".to_owned()]);
    assert!(!ended.passed && ended.said.contains("ours says no"), "{}", ended.said);
}

#[test]
fn a_tag_that_moves_after_the_decision_is_not_followed() {
    let world = need!(peers::world());
    let rego = only("input.image.labels[\"org.example.tier\"] == \"base\"");
    let gate = Gate::before(world, &rego, &["--decision-log", "log"]);
    let (registry, asked) = moving(world);
    let host = registry.url("").trim_start_matches("http://").to_owned();
    let op = SourceOp::new(format!("docker-image://{host}/moving:1"));
    let out = tempfile::tempdir().unwrap();
    let output = format!("--output=type=local,dest={}", out.path().display());
    raw(&gate, &llb(std::slice::from_ref(&op)), &[output]).passed("as it was");
    // Once by its name, for the decision; what was moved to was there to be had from then on.
    assert_eq!(asked.load(std::sync::atomic::Ordering::SeqCst), 1);
    assert!(out.path().join("bin/busybox").exists(), "`base` has it, and `app` has not");
    // What is loaded is what was judged: its digest, and nothing of the image that the tag names now.
    let judged = world.registry.digest("base", "1");
    let moved = world.registry.digest("app", "plain");
    let paths: Vec<String> = registry.asked().into_iter().map(|it| it.path).collect();
    assert!(!paths.iter().any(|path| path.ends_with(&moved)), "{paths:?}");
    assert!(gate.read("log").contains(&format!("moving:1@{judged}")), "{}", gate.read("log"));
    // Asked anew, it is the other one, which the rule refuses.
    refused("as it is", &raw(&gate, &llb(&[op]), &[]));
}

#[test]
fn submodules_are_judged_one_by_one() {
    let world = need!(peers::world());
    for (allowed, stops_at) in [("top|middle|bottom", None), ("top|middle", Some("bottom"))] {
        let modules = need!(Modules::start());
        let rego = only(&format!("regex.match(\"/({allowed}).git$\", input.git.remote)"));
        let gate = Gate::before(world, &rego, &["--decision-log", "log"]);
        let built =
            gate.build(&format!("FROM scratch\nADD {} /\n", modules.server.url("/top.git")));
        assert_eq!(built.passed, stops_at.is_none(), "{allowed}: {}", built.said);
        assert_eq!(modules.asked("bottom"), stops_at.is_none(), "{allowed}");
        let log = gate.read("log");
        assert!(log.contains("middle.git") && log.contains("bottom.git"), "{log}");
        if let Some(name) = stops_at {
            let words = format!("its submodule `{name}`");
            assert!(built.said.contains(&words), "{}", built.said);
        }
    }
}

#[test]
fn submodules_elsewhere_are_judged_where_buildx_names_their_repository() {
    let world = need!(peers::world());
    let rego = only("endswith(input.git.remote, \"/top.git\")");
    let gate = Gate::before(world, &rego, &TCP);
    let buildx = need!(Buildx::at(&tcp(&gate)));
    let add = |url: &str| format!("FROM scratch\nADD {url} /\n");
    let copy = "FROM scratch\nCOPY --from=x / /\n".to_owned();
    for by in ["ADD", "a named context", "the context itself"] {
        let modules = need!(Modules::start());
        let url = modules.server.url("/top.git");
        let (dockerfile, options) = match by {
            "ADD" => (add(&url), vec![]),
            _ => (copy.clone(), vec![format!("--build-context=x={url}#main")]),
        };
        let context = peers::folder(&[("Dockerfile", &dockerfile)]);
        let remote = format!("{url}#main");
        let ended = match by {
            "the context itself" => buildx.build(std::path::Path::new(&remote), &[]),
            _ => buildx.build(context.path(), &options),
        };
        let words = "its submodule `middle`";
        assert!(!ended.passed && ended.said.contains(words), "{by}: {}", ended.said);
        assert!(ended.said.contains("ours says no"), "{by}: {}", ended.said);
        assert!(modules.asked("top") && !modules.asked("middle") && !modules.asked("bottom"));
    }
}

#[test]
fn a_layout_of_the_client_is_judged() {
    let peers = need!(Peers::start());
    let layout = peers.path("layout");
    let digest = oci::digest(std::path::Path::new(&layout));
    let named = "FROM named\n";
    let context = peers::folder(&[("Dockerfile", named)]);
    let path = context.path().display();
    for (rule, passes) in [("input.ociLayout", true), ("input.image", false)] {
        let gate = Gate::before(peers.world, &only(rule), &TCP);
        let buildx = need!(Buildx::at(&tcp(&gate)));
        let option = format!("--build-context=named=oci-layout://{layout}@{digest}");
        let by_buildx = buildx.build(context.path(), &[option]);
        let mut build = gate.buildctl("gate.sock");
        build.args(["build", "--progress=plain", "--no-cache", "--frontend=dockerfile.v0"]);
        build.args([format!("--local=context={path}"), format!("--local=dockerfile={path}")]);
        build.arg(format!("--oci-layout=named={layout}"));
        build.arg(format!("--opt=context:named=oci-layout://named@{digest}"));
        let by_buildctl: Ended = build.output().unwrap().into();
        for (client, ended) in [("Buildx", by_buildx), ("buildctl", by_buildctl)] {
            match passes {
                true => drop(ended.passed(client)),
                false => refused(client, &ended),
            }
        }
    }
}

#[test]
fn submodules_that_git_alone_sees_are_refused() {
    let world = need!(peers::world());
    let rego = only("endswith(input.git.remote, \"/top.git\")");
    let gate = Gate::before(world, &rego, &["--decision-log", "log"]);
    for written in ODDLY_WRITTEN {
        let modules = need!(Modules::written(written));
        let built =
            gate.build(&format!("FROM scratch\nADD {} /\n", modules.server.url("/top.git")));
        let words = ".gitmodules: line 2 is not of the form that can be judged";
        assert!(!built.passed && built.said.contains(words), "{}", built.said);
        assert!(!modules.asked("middle") && !modules.asked("bottom"));
    }
}

#[test]
fn a_cache_is_imported_as_it_was_judged() {
    let world = need!(peers::world());
    let tagged = "input.image.labels[\"org.example.tier\"] == \"base\"";
    let gate = Gate::before(world, &only(tagged), &["--decision-log", "log"]);
    let from = format!("FROM {}\nLABEL cache=through-the-gate\n", world.image("base:1"));
    let context = peers::folder(&[("Dockerfile", &from)]);
    let (good, evil) = (world.image("gate-cached:1"), world.image("cache-evil:1"));
    // The cache is in the image itself, which has labels to read.
    world.buildkit.push(context.path(), &good, &["build-arg:BUILDKIT_INLINE_CACHE=1"], "");
    let local = |name| format!("--local={name}={}", context.path().display());
    let build = |import: &str| -> Ended {
        let mut build = gate.buildctl("gate.sock");
        build.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
        build.args([local("context"), local("dockerfile")]).arg(import);
        build.output().unwrap().into()
    };
    let ended = build(&format!("--import-cache=type=registry,ref={good}")).passed("a good cache");
    let digest = world.registry.digest("gate-cached", "1");
    let imported = format!("importing cache manifest from {good}@{digest}");
    assert!(ended.said.contains(&imported), "{}", ended.said);
    // One that cannot be resolved decides nothing, and one without the label is not taken.
    let plain = world.image("app:plain");
    for (cache, why) in [(&evil, "could not be judged"), (&plain, "ours says no")] {
        let ended = build(&format!("--import-cache=type=registry,ref={cache}"));
        let denied = ended.said.contains("not allowed by policy: action DENY");
        assert!(!ended.passed && denied && ended.said.contains(why), "{}", ended.said);
        assert!(!ended.said.contains("importing cache manifest"), "{}", ended.said);
    }
}

/// What only a client of its own making sends.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_no_stock_client_makes_are_judged() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/evil", b"evil".to_vec())]);
    let rego = only("endswith(input.image.repo, \"base\")\nallow if input.ociLayout");
    let gate = Gate::before(world, &rego, &TCP);
    let (user, other) = (user(&gate).await, another(&gate).await);
    let reference = unique();
    let open = SolveRequest { r#ref: reference.clone(), ..SolveRequest::default() };
    let solving = user.clone();
    let running = tokio::spawn(async move { solve(&solving, open).await });
    let of_build = of_build(&reference);
    let base = SourceOp::new(format!("docker-image://{}", world.image("base:1")));
    let refused = |what: &str, status: Status| {
        assert!(status.message().contains("not allowed by policy"), "{what}: {status:?}");
        assert!(reasons(&status).contains("ours says no"), "{what}: {status:?}");
    };

    // Caches of a build within a build, in the field and in the options of old.
    let evil = world.image("call-evil:1");
    let attrs = [("ref".to_owned(), evil.clone())].into();
    let entry = gateway::CacheOptionsEntry { r#type: "registry".to_owned(), attrs };
    let solve_of = |cache_imports, options: &[(&str, &str)]| gateway::SolveRequest {
        definition: Some(llb(std::slice::from_ref(&base))),
        cache_imports,
        frontend_opt: options.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        ..gateway::SolveRequest::default()
    };
    let json = format!("[{{\"Type\":\"registry\",\"Attrs\":{{\"ref\":\"{evil}\"}}}}]");
    let method = format!("{BRIDGE}Solve");
    for (what, request) in [
        ("the field", solve_of(vec![entry], &[])),
        ("an option", solve_of(vec![], &[("cache-from", &evil)])),
        ("an option of JSON", solve_of(vec![], &[("cache-imports", &json)])),
    ] {
        let answer: Result<gateway::SolveResponse, Status> =
            user.call(&method, &of_build, &request).await;
        refused(what, answer.unwrap_err());
    }
    let answer: Result<gateway::SolveResponse, Status> =
        user.call(&method, &of_build, &solve_of(vec![], &[])).await;
    answer.unwrap();

    // A digest that the daemon is to make of a file of its own fetching.
    let request = gateway::ResolveSourceMetaRequest {
        source: Some(SourceOp::new(files.url("/evil")).into()),
        http: Some(gateway::ResolveSourceHttpRequest {
            checksum_request: Some(gateway::ChecksumRequest::default()),
        }),
        ..Default::default()
    };
    let method = format!("{BRIDGE}ResolveSourceMeta");
    let answer: Result<gateway::ResolveSourceMetaResponse, Status> =
        user.call(&method, &of_build, &request).await;
    refused("a checksum", answer.unwrap_err());

    // A layout in the session of another client.
    let session = unique();
    let _held = open_session(&other, &[&session]).await.unwrap();
    let layout = format!("oci-layout://store@sha256:{}", "a".repeat(64));
    for value in [session.clone(), format!("a:{session}")] {
        let op = source(layout.clone(), &[("oci.session", &value), ("oci.store", "store")]);
        let status = solve(&user, of(op)).await.unwrap_err();
        let said = reasons(&status);
        assert!(said.contains("belongs to another client"), "{status:?}: {said}");
    }
    running.abort();
    assert_eq!(files.asked().len(), 0);
    assert_eq!(world.registry.accesses(&["call-evil"]), [""; 0]);
}
