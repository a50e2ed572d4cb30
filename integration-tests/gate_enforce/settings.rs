//! What a client's builds may do beyond naming sources: caches, entitlements, auditing, HTTP of `RUN`.

use std::process::Command;

use buildgate::gate::ops::{Mode, Settings};
use buildgate::source::SourceOp;

use super::{As, Gate, folder, of, only, open_session, reasons, said, unique};
use crate::gate_process::until;
use crate::gate_proxy::runs;
use crate::peers::{self, HttpServer, need};

#[test]
fn caches_are_judged_as_the_images_they_name() {
    let world = need!(peers::world());
    let rego = only(
        "{ input.image\n not input.env.cacheImport }\n\
                     allow if endswith(input.image.repo, \"cached\")",
    );
    let gate = Gate::start(world, &rego);
    let dockerfile =
        format!("FROM {}\nUSER 0\nRUN [\"/bin/busybox\", \"true\"]\n", world.image("base:1"));
    let context = folder(&[("Dockerfile", &dockerfile)]);
    let (good, bad) = (world.image("cached:1"), world.image("cache-refused:1"));
    let export = format!("--export-cache=type=registry,ref={good}");
    let (passed, said) = gate.build(context.path(), &[&export]);
    assert!(passed, "{said}");
    let import = |reference: &str| format!("--import-cache=type=registry,ref={reference}");
    let (passed, said) = gate.build(context.path(), &[&import(&good)]);
    assert!(passed, "{said}");
    let old = format!("--opt=cache-from={bad}");
    for option in [import(&bad), old, "--import-cache=type=gha,url=x,token=y".to_owned()] {
        let (passed, said) = gate.build(context.path(), &[&option]);
        assert!(!passed && said.contains("not allowed by policy"), "{option}: {said}");
    }
    assert_eq!(world.registry.accesses(&["cache-refused"]).len(), 0);
}

#[test]
fn auditing_allows_and_says_what_it_would_refuse() {
    let world = need!(peers::world());
    let audit = Settings { mode: Mode::Audit, ..Settings::default() };
    let gate = Gate::with(world, &only("false"), audit.clone());
    let context = folder(&[("Dockerfile", &format!("FROM {}\n", world.image("base:1")))]);
    let (passed, said) = gate.build(context.path(), &[]);
    assert!(passed && said.contains("would deny docker-image://"), "{said}");
    assert!(gate.decisions().iter().any(|(action, _)| action == "deny"));
    // What cannot be written down is refused, in either mode.
    for settings in [audit, Settings::default()] {
        let gate = Gate::logged(world, &only("true"), settings, Some("/dev/full"));
        let (passed, said) = gate.build(context.path(), &[]);
        assert!(!passed && said.contains("could not be written down"), "{said}");
    }
}

/// What protects other clients is no matter of policies.
#[test]
fn auditing_opens_nobodys_session() {
    let world = need!(peers::world());
    let audit = Settings { mode: Mode::Audit, ..Settings::default() };
    let gate = Gate::with(world, &only("true"), audit);
    let (user, other) = (gate.connect(As::User), gate.connect(As::Other));
    let session = unique();
    let _held = gate.runtime.block_on(open_session(&other, &[&session])).unwrap();
    let mut local = SourceOp::new("local://context");
    local.attrs.insert("local.session".to_owned(), session);
    let status = gate.solve(&user, of(local)).unwrap_err();
    assert!(reasons(&status).contains("belongs to another client"), "{status:?}");
}

#[test]
fn entitlements_may_be_refused() {
    let world = need!(peers::world());
    let denied = ["security.insecure", "network.host", "device"].map(str::to_owned).into();
    let gate = Gate::with(
        world,
        &only("true"),
        Settings { denied_entitlements: denied, ..Settings::default() },
    );
    let context = folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    for name in ["security.insecure", "network.host", "device", "device=vendor.com/class=x"] {
        let (passed, said) = gate.build(context.path(), &[&format!("--allow={name}")]);
        let wanted = format!("the entitlement {name} is not allowed");
        assert!(!passed && said.contains(&wanted), "{said}");
        let line = ("deny".to_owned(), format!("entitlement {name}"));
        assert!(gate.decisions().contains(&line), "{:?}", gate.decisions());
    }
    let (passed, said) = gate.build(context.path(), &[]);
    assert!(passed, "{said}");
}

/// Caches of other types are written down and pass where ours are only written down.
#[test]
fn auditing_says_which_caches_it_would_refuse() {
    let world = need!(peers::world());
    let context = folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let cache = tempfile::tempdir().unwrap();
    let gha = "--import-cache=type=gha,url=http://127.0.0.1:9/,token=t".to_owned();
    let local = format!("type=local,src={}", cache.path().display());
    let export = format!("--export-cache=type=local,dest={}", cache.path().display());
    for mode in [Mode::Audit, Mode::Enforce] {
        let gate = Gate::with(world, &only("true"), Settings { mode, ..Settings::default() });
        gate.build(context.path(), &[&export]);
        for (kind, import) in [("gha", &gha), ("local", &format!("--import-cache={local}"))] {
            let (passed, said) = gate.build(context.path(), &[import]);
            assert_eq!(passed, mode == Mode::Audit, "{kind}: {said}");
            let line = ("deny".to_owned(), format!("cache import of type {kind}"));
            assert!(gate.decisions().contains(&line), "{kind}: {:?}", gate.decisions());
        }
    }
}

/// Rules read the build as it was asked for, by whichever client.
#[test]
fn rules_read_the_options_of_the_build() {
    let world = need!(peers::world());
    let buildx = need!(peers::pinned("buildx"));
    let rego = "package docker\ndefault allow := false\n\
                allow if {\n input.env.args.WORD == \"yes\"\n input.env.labels[\"a.b\"] == \"c\"\n \
                input.env.target == \"final\"\n input.env.filename == \"My.Dockerfile\"\n}\n\
                decision := {\"allow\": allow, \"deny_msg\": \"ours says no\"}\n";
    let gate = Gate::start(world, rego);
    let dockerfile = format!("FROM {} AS final\nARG WORD\n", world.image("base:1"));
    let context = folder(&[("My.Dockerfile", &dockerfile)]);
    let config = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(&buildx);
        command.env("BUILDX_CONFIG", config.path()).env("DOCKER_CONFIG", config.path()).args(args);
        said(&command.output().unwrap())
    };
    let (made, words) = run(&["create", "--name=gate", "--driver=remote", &gate.address()]);
    assert!(made, "{words}");
    for (word, passes) in [("yes", true), ("no", false)] {
        let options = [
            "--opt=filename=My.Dockerfile",
            "--opt=target=final",
            "--opt=label:a.b=c",
            &format!("--opt=build-arg:WORD={word}"),
        ];
        let (passed, said) = gate.build(context.path(), &options);
        assert_eq!(passed, passes, "{word}: {said}");
        assert_eq!(said.contains("ours says no"), !passes, "{word}: {said}");
        let path = context.path().display().to_string();
        let file = format!("--file={path}/My.Dockerfile");
        let word = format!("--build-arg=WORD={word}");
        let args = ["build", "--builder=gate", "--progress=plain", "--target=final"];
        let (passed, said) = run(&[&args[..], &["--label=a.b=c", &file, &word, &path]].concat());
        assert_eq!(passed, passes, "buildx {word}: {said}");
        assert_eq!(said.contains("ours says no"), !passes, "buildx {word}: {said}");
    }
}

#[test]
fn what_run_fetches_is_judged_where_a_policy_asks_for_it() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/good", b"good".to_vec()), ("/bad", b"bad".to_vec())]);
    let rego = only("input.image\nallow if endswith(input.http.path, \"/good\")").replace(
        "\"deny_msg\": deny_msg",
        "\"deny_msg\": deny_msg, \"caps\": {\"exec.proxy\": true}",
    );
    let gate = Gate::start(world, &rego);
    for (path, passes) in [("/good", true), ("/bad", false)] {
        let dockerfile = format!(
            "FROM {}\nUSER 0\nRUN [\"/bin/busybox\", \"wget\", \"-O\", \"/data/f\", \"{}\"]\n",
            world.image("base:1"),
            files.url(path)
        );
        let context = folder(&[("Dockerfile", &dockerfile)]);
        let (passed, said) = gate.build(context.path(), &[]);
        assert_eq!(passed, passes, "{path}: {said}\n{}", world.buildkit.log());
    }
    assert!(files.asked().iter().all(|request| request.path == "/good"));
}

#[test]
fn a_gate_that_ends_takes_its_builds_along() {
    let world = need!(peers::world());
    let gate = Gate::start(world, &only("input.image"));
    let nap = "91232.5";
    let dockerfile = format!(
        "FROM {}\nUSER 0\nRUN [\"/bin/busybox\", \"sleep\", \"{nap}\"]\n",
        world.image("base:1")
    );
    let context = folder(&[("Dockerfile", &dockerfile)]);
    let mut build = gate.buildctl();
    build
        .args(["build", "--progress=plain", "--no-cache", "--frontend", "dockerfile.v0"])
        .arg(format!("--local=context={}", context.path().display()))
        .arg(format!("--local=dockerfile={}", context.path().display()))
        .stderr(std::process::Stdio::piped());
    let mut running = build.spawn().unwrap();
    until("the command", || {
        assert!(running.try_wait().unwrap().is_none(), "it ended early");
        runs(nap).then_some(())
    });
    drop(gate);
    let ended = until("the end of the client", || running.try_wait().unwrap());
    assert!(!ended.success());
    until("the end of the command", || (!runs(nap)).then_some(()));
}
