//! The gate's enforcement: stock clients, a real daemon, and servers that count what they are asked.

mod moving;
mod peer;
mod settings;
mod within;

use std::process::Command;

use buildgate::gate::ops::{Settings, Submodules};
use buildgate::gateway::BUILD_ID;
use buildgate::rpc::Channel;
use buildgate::source::SourceOp;
use buildgate::wire::proto::control::{SolveRequest, SolveResponse, StatusRequest, StatusResponse};
use buildgate::wire::proto::{gateway, sourcepolicy};
use http::{HeaderMap, HeaderValue};
use prost::Message as _;
use tonic::Status;

use crate::peers::{self, GitServer, HttpServer, folder, need};
use within::{As, said};
pub use within::{Gate, Raw, SOLVE, of, only, open_session, reasons, unique};

#[test]
fn an_allowed_build_is_built_and_a_denied_source_is_not_fetched() {
    let world = need!(peers::world());
    let gate = Gate::start(world, &only("endswith(input.image.repo, \"base\")"));
    let files = HttpServer::files([("/tool", b"tool".to_vec())]);
    let git = need!(GitServer::start());
    let base = world.image("base:1");
    let no = world.image("denied-by-gate:1");
    let url = files.url("/tool");
    for (dockerfile, passes) in [
        (format!("FROM {base}\nUSER 0\nRUN [\"/bin/busybox\", \"true\"]\n"), true),
        (format!("FROM {base}\nADD {url} /\n"), false),
        (format!("FROM {base}\nADD {} /src\n", git.url()), false),
        (format!("FROM {no}\n"), false),
        (format!("FROM {base}\nCOPY --from={no} / /\n"), false),
        (format!("FROM {base}\nRUN --mount=from={no} true\n"), false),
        (format!("# syntax={no}\nFROM {base}\n"), false),
    ] {
        let context = folder(&[("Dockerfile", &dockerfile)]);
        let (passed, said) = gate.build(context.path(), &[]);
        assert_eq!(passed, passes, "{dockerfile}{said}\n{}", world.buildkit.log());
        assert_eq!(!passed, said.contains("ours says no"), "{said}");
        assert_eq!(!passed, said.contains("not allowed by policy: action DENY"), "{said}");
        assert!(said.contains("[policy] buildgate"), "{said}");
    }
    assert_eq!(files.asked().len(), 0);
    assert_eq!(git.asked().len(), 0);
    assert_eq!(world.registry.accesses(&["denied-by-gate"]).len(), 0);
    assert!(gate.decisions().iter().any(|(action, _)| action == "deny"));
}

#[test]
fn rules_read_what_the_gate_resolves_and_the_daemon_lives() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/tool", b"tool".to_vec())]);
    let git = need!(GitServer::start());
    let (url, commit) = (files.url("/tool"), git.object("main"));
    let add = |what: &str| format!("FROM scratch\nADD {what} /x\n");
    let from = |name: &str| format!("FROM {}\n", world.image(name));
    for (dockerfile, condition, passes) in [
        (from("base:1"), "input.image.labels[\"org.example.tier\"] == \"base\"".to_owned(), true),
        (from("base:1"), "input.image.user == \"root\"".to_owned(), false),
        (from("app:attested"), "input.image.hasProvenance".to_owned(), true),
        // A daemon that is asked for the chain of these ends.
        (from("app:plain"), "input.image.hasProvenance".to_owned(), false),
        (from("app:docker"), "input.image.hasProvenance".to_owned(), false),
        (from("app:multi"), "input.image.hasProvenance".to_owned(), false),
        (from("app:multi-docker"), "input.image.hasProvenance".to_owned(), false),
        (from("app:docker-unknown"), "input.image.hasProvenance".to_owned(), false),
        (from("app:plain"), "not input.image.hasProvenance".to_owned(), true),
        (add(&url), "startswith(input.http.checksum, \"sha256:\")".to_owned(), true),
        (add(&url), "input.http.checksum == \"sha256:0\"".to_owned(), false),
        (add(&git.url()), format!("input.git.checksum == \"{commit}\""), true),
        (add(&git.url()), "input.git.checksum == \"0\"".to_owned(), false),
        (
            from("app:attested"),
            "endswith(input.image.provenance.materials[_].image.repo, \"base\")".to_owned(),
            true,
        ),
    ] {
        let gate = Gate::start(world, &only(&condition));
        let context = folder(&[("Dockerfile", &dockerfile)]);
        let (passed, said) = gate.build(context.path(), &[]);
        assert_eq!(passed, passes, "{dockerfile}{condition}\n{said}\n{}", world.buildkit.log());
        assert_eq!(!passed, said.contains("ours says no"), "{said}");
    }
    // Nor is anything known of this one, which is neither yes nor no.
    for condition in ["input.image.hasProvenance", "not input.image.hasProvenance"] {
        let gate = Gate::start(world, &only(condition));
        let context = folder(&[("Dockerfile", &from("app:no-mediatype"))]);
        let (passed, said) = gate.build(context.path(), &[]);
        assert!(!passed && said.contains("could not be verified"), "{said}");
    }
}

#[test]
fn no_way_of_naming_a_source_gets_past() {
    let world = need!(peers::world());
    let gate = Gate::start(world, &only("endswith(input.image.repo, \"base\")"));
    let git = need!(GitServer::start());
    let digest = format!("sha256:{}", "a".repeat(64));
    let no = world.image("past-the-gate:1");
    let repo = world.image("past-the-gate");
    let host = git.url().trim_start_matches("http://").to_owned();
    let with = |identifier: String, attrs: &[(&str, &str)]| {
        let mut op = SourceOp::new(identifier);
        op.attrs.extend(attrs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        op
    };
    let channel = gate.connect(As::User);
    for source in [
        with(format!("docker-image://{no}"), &[]),
        with(format!("docker-image://{repo}@{digest}"), &[]),
        with(format!("docker-image+blob://{repo}@{digest}"), &[]),
        with(format!("git://{host}#main"), &[("git.fullurl", &git.url())]),
        with(
            format!("git://{host}#main"),
            &[
                ("git.fullurl", &git.url()),
                ("git.bundle", &format!("docker-image+blob://{repo}@{digest}")),
                ("git.checksum", &git.object("main")),
            ],
        ),
        with(format!("http://{host}/tool"), &[]),
    ] {
        let status = gate.solve(&channel, of(source.clone())).unwrap_err();
        assert!(status.message().contains("not allowed by policy"), "{source}: {status:?}");
        assert!(reasons(&status).contains("ours says no"), "{source}: {status:?}");
    }
    let base = SourceOp::new(format!("docker-image://{}", world.image("base:1")));
    gate.solve(&channel, of(base.clone())).unwrap();
    // An SBOM generator, and unknown fields behind everything.
    let generator = ("attest:sbom".to_owned(), format!("generator={no}"));
    let request = SolveRequest { frontend_attrs: [generator].into(), ..of(base.clone()) };
    let status = gate.solve(&channel, request).unwrap_err();
    assert!(reasons(&status).contains("ours says no"), "a generator: {status:?}");
    let mut message = SolveRequest { r#ref: unique(), ..of(base.clone()) }.encode_to_vec();
    message.extend_from_slice(b"\xba\x3e\x03new");
    let sent = gate.runtime.block_on(channel.call(SOLVE, &HeaderMap::new(), &Raw(message)));
    let _: SolveResponse = sent.unwrap();
    // A key of more than 32 bits, which some decoders cut down to `SourcePolicySession`.
    let mut message = SolveRequest { r#ref: unique(), ..of(base) }.encode_to_vec();
    message.extend_from_slice(b"\xfa\x80\x80\x80\x80\x01\x00");
    let sent = gate.runtime.block_on(channel.call(SOLVE, &HeaderMap::new(), &Raw(message)));
    let sent: Result<SolveResponse, Status> = sent;
    assert!(sent.unwrap_err().message().contains("cannot be understood"));
    assert_eq!(git.asked().len(), 0);
    assert_eq!(world.registry.accesses(&["past-the-gate"]).len(), 0);
}

#[test]
fn a_source_that_static_rules_swap_is_judged_as_what_is_loaded() {
    let world = need!(peers::world());
    let (good, evil) = (need!(GitServer::start()), need!(GitServer::start()));
    let host = |git: &GitServer| git.url().trim_start_matches("http://").to_owned();
    let repo = host(&good);
    let good_host = repo.split('/').next().unwrap();
    // Metadata has to be resolved before the host decides.
    let condition = format!("{{ input.git.checksum != \"\"\n input.git.host == \"{good_host}\" }}");
    let gate = Gate::start(world, &only(&condition));
    let convert = |from: &str, to: &str, marks: &[(&str, &str)]| sourcepolicy::Rule {
        action: sourcepolicy::PolicyAction::Convert.into(),
        selector: Some(sourcepolicy::Selector {
            identifier: from.to_owned(),
            match_type: sourcepolicy::MatchType::Exact.into(),
            constraints: Vec::new(),
        }),
        updates: Some(sourcepolicy::Update {
            identifier: to.to_owned(),
            attrs: marks.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        }),
    };
    let rules = vec![
        convert(
            "docker-image://docker.io/library/start:1",
            &format!("git://{}#main", evil.url()),
            &[("git.fullurl", &evil.url())],
        ),
        convert(
            &format!("git://{}#main", host(&evil)),
            &format!("git://{repo}#main"),
            &[("git.fullurl", &good.url())],
        ),
    ];
    let policy = sourcepolicy::Policy { version: 1, rules };
    let start = SourceOp::new("docker-image://docker.io/library/start:1");
    let request = SolveRequest { source_policy: Some(policy), ..of(start) };
    let status = gate.solve(&gate.connect(As::User), request).unwrap_err();
    assert!(status.message().contains("not allowed by policy"), "{status:?}");
    // Judged as the bad one that it was turned into, and refused; the good one was never spoken of.
    let evil_host = host(&evil);
    assert!(status.message().contains(&evil_host), "{status:?}");
    let said = reasons(&status);
    assert!(!said.is_empty(), "{status:?}");
    for line in gate.lines() {
        let source = line["source"].as_str().unwrap();
        assert!(line["action"] == "deny" && source.contains(&evil_host), "{line}");
    }
    assert_eq!((evil.asked().len(), good.asked().len()), (0, 0));
    // Without the swap the good one is what the rule allows.
    let mut plain = SourceOp::new(format!("git://{repo}#main"));
    plain.attrs.insert("git.fullurl".to_owned(), good.url());
    gate.solve(&gate.connect(As::User), of(plain)).unwrap();
}

#[test]
fn sessions_and_builds_of_others_are_refused() {
    let world = need!(peers::world());
    let gate = Gate::start(world, &only("true"));
    let (user, other) = (gate.connect(As::User), gate.connect(As::Other));
    let session = unique();
    let opened = gate.runtime.block_on(open_session(&user, &[&session]));
    let _held = opened.unwrap();
    let theirs = |request: SolveRequest| gate.solve(&other, request).unwrap_err();
    // The session, claimed by another client in every way that a daemon understands.
    for ids in [&[session.as_str()][..], &["x", &session], &[&format!("a:{session}")], &[]] {
        let status = gate.runtime.block_on(open_session(&other, ids)).unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied, "{ids:?}");
    }
    let local = |name: &str, value: &str| {
        let mut op = SourceOp::new("local://context");
        op.attrs.insert(name.to_owned(), value.to_owned());
        op
    };
    let base = SourceOp::new(format!("docker-image://{}", world.image("base:1")));
    for value in [session.clone(), format!("a:{session}")] {
        let named = SolveRequest { session: value.clone(), ..of(base.clone()) };
        assert_eq!(theirs(named).code(), tonic::Code::PermissionDenied);
        let named = SolveRequest { source_policy_session: value.clone(), ..of(base.clone()) };
        assert_eq!(theirs(named).code(), tonic::Code::PermissionDenied);
        let status = theirs(of(local("local.session", &value)));
        assert!(reasons(&status).contains("belongs to another client"), "{status:?}");
    }
    // A build that the user keeps open, asked by another client, by nobody, and by its own.
    let reference = unique();
    let open = SolveRequest { r#ref: reference.clone(), ..SolveRequest::default() };
    let solving = user.clone();
    let running = gate.runtime.spawn(async move {
        let ended: Result<SolveResponse, Status> =
            solving.call(SOLVE, &HeaderMap::new(), &open).await;
        ended
    });
    let ping = |channel: &Channel, ids: &[&str]| {
        let mut metadata = HeaderMap::new();
        for id in ids {
            metadata.append(BUILD_ID, HeaderValue::from_str(id).unwrap());
        }
        let answer: Result<gateway::PongResponse, Status> = gate.runtime.block_on(channel.call(
            "/moby.buildkit.v1.frontend.LLBBridge/Ping",
            &metadata,
            &gateway::PingRequest {},
        ));
        answer.map_err(|status| status.code())
    };
    let denied = Err(tonic::Code::PermissionDenied);
    assert!(ping(&user, &[&reference]).is_ok());
    assert_eq!(ping(&other, &[&reference]).map(drop), denied);
    assert_eq!(ping(&user, &[&unique()]).map(drop), denied);
    assert_eq!(ping(&user, &[&reference, &reference]).map(drop), denied);
    assert_eq!(ping(&user, &[]).map(drop), denied);
    // Nor may another client look on.
    let look = StatusRequest { r#ref: reference.clone() };
    let shown: Result<StatusResponse, Status> = gate.runtime.block_on(other.call(
        "/moby.buildkit.v1.Control/Status",
        &HeaderMap::new(),
        &look,
    ));
    assert_eq!(shown.unwrap_err().code(), tonic::Code::PermissionDenied);
    // Nor can its name be taken while it runs.
    let again = SolveRequest { r#ref: reference.clone(), ..of(base) };
    let again: Result<SolveResponse, Status> =
        gate.runtime.block_on(other.call(SOLVE, &HeaderMap::new(), &again));
    assert_eq!(again.unwrap_err().code(), tonic::Code::AlreadyExists);
    assert!(ping(&user, &[&reference]).is_ok());
    // An attestation chain that would end the daemon.
    for name in [
        "app:plain",
        "app:docker",
        "app:multi",
        "app:multi-docker",
        "app:docker-unknown",
        "app:no-mediatype",
        "app:attested",
    ] {
        let request = gateway::ResolveSourceMetaRequest {
            source: Some(SourceOp::new(format!("docker-image://{}", world.image(name))).into()),
            image: Some(gateway::ResolveSourceImageRequest {
                attestation_chain: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        let metadata =
            HeaderMap::from_iter([(BUILD_ID, HeaderValue::from_str(&reference).unwrap())]);
        let answer: Result<gateway::ResolveSourceMetaResponse, Status> =
            gate.runtime.block_on(user.call(
                "/moby.buildkit.v1.frontend.LLBBridge/ResolveSourceMeta",
                &metadata,
                &request,
            ));
        if name == "app:no-mediatype" {
            let status = answer.unwrap_err();
            assert!(status.message().contains("could not be verified"), "{status:?}");
            continue;
        }
        let image = answer.unwrap().image.unwrap();
        let chain = image.attestation_chain.unwrap();
        assert_eq!(!chain.attestation_manifest.is_empty(), name == "app:attested", "{name}");
        assert!(image.digest.starts_with("sha256:"), "{name}");
    }
    running.abort();
}

#[test]
fn submodules_are_fetched_only_as_configured() {
    let world = need!(peers::world());
    let git = need!(GitServer::start());
    let dockerfile = format!("FROM {}\nADD {}#submodule /src\n", world.image("base:1"), git.url());
    let context = folder(&[("Dockerfile", &dockerfile)]);
    for (submodules, wanted) in [
        (Submodules::Judge, Some("its submodule `lib`")),
        (Submodules::Deny, Some("has submodules")),
        (Submodules::Skip, None),
    ] {
        let settings = Settings { submodules, ..Settings::default() };
        let gate = Gate::with(
            world,
            &only("input.image\nallow if endswith(input.git.remote, \"app.git\")"),
            settings,
        );
        let (passed, said) = gate.build(context.path(), &[]);
        assert_eq!(passed, wanted.is_none(), "{submodules:?}: {said}");
        let denied = said.contains("not allowed by policy: action DENY");
        assert_eq!(denied, wanted.is_some(), "{submodules:?}: {said}");
        assert!(said.contains(wanted.unwrap_or_default()), "{submodules:?}: {said}");
    }
    assert!(git.asked().iter().all(|request| !request.path.contains("unjudged")));
}

#[test]
fn buildx_is_enforced_whatever_it_is_told() {
    let world = need!(peers::world());
    let buildx = need!(peers::pinned("buildx"));
    let gate = Gate::start(world, &only("endswith(input.image.repo, \"base\")"));
    let config = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(&buildx);
        command.env("BUILDX_CONFIG", config.path()).env("DOCKER_CONFIG", config.path()).args(args);
        said(&command.output().unwrap())
    };
    let (passed, words) = run(&[
        "create",
        "--name=gate",
        "--driver=remote",
        &format!("unix://{}", gate.dir.path().join("gate.sock").display()),
    ]);
    assert!(passed, "{words}");
    let files = HttpServer::files([("/tool", b"tool".to_vec())]);
    let from = format!("FROM {}\n", world.image("base:1"));
    let add = format!("{from}ADD {} /\n", files.url("/tool"));
    let theirs = |condition: &str| only(condition).replace("ours says", "theirs says");
    let (everything, nothing) = (theirs("true"), theirs("false"));
    let provenance = theirs("not input.image.hasProvenance");
    for (dockerfile, rego, option, wanted) in [
        (&from, None, None, None),
        (&add, None, None, Some("ours says no")),
        (&add, None, Some("--policy=disabled=true"), Some("ours says no")),
        (&from, Some(&everything), None, None),
        (&add, Some(&everything), None, Some("ours says no")),
        (&from, Some(&nothing), None, Some("theirs says no")),
        (&from, Some(&provenance), None, None),
    ] {
        let mut names = vec![("Dockerfile", dockerfile.as_str())];
        names.extend(rego.map(|rego| ("Dockerfile.rego", rego.as_str())));
        let context = folder(&names);
        let context = context.path().to_str().unwrap().to_owned();
        let mut args = vec!["build", "--builder=gate", "--progress=plain", "--no-cache"];
        args.extend(option);
        args.push(&context);
        let (passed, words) = run(&args);
        assert_eq!(
            passed,
            wanted.is_none(),
            "{dockerfile}{rego:?}{option:?}\n{words}\n{}",
            world.buildkit.log()
        );
        assert!(
            wanted.is_none_or(|wanted| words.contains(wanted)),
            "{dockerfile}{rego:?}{option:?}\n{words}"
        );
    }
    assert_eq!(files.asked().len(), 0);
}
