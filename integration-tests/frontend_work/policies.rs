//! Where policies come from, what they read, and that each of them must allow.

use std::process::Command;

use super::{ALLOW, Built, build, image, only, open, run};
use crate::peers::{self, GitServer, HttpServer, folder, git, need};

/// A context as an archive brings its own policy, which a policy before it has let in.
#[test]
fn the_policy_in_an_archive_is_read() {
    let world = need!(peers::world());
    let base = world.image("base:1");
    let archive = |rego: &str| {
        let from = format!("FROM {base}\n");
        let dir = folder(&[("Dockerfile", &from), ("Dockerfile.rego", rego)]);
        let tar = Command::new("tar").args(["-czf", "-", "-C"]).arg(dir.path()).arg(".").output();
        tar.unwrap().stdout
    };
    let org = only("input.http\nallow if input.image");
    let gate = image(world, "work:archive", &org);
    // The rules of an archive judge the archive as well.
    let files = HttpServer::files([
        ("/open.tgz", archive(&org)),
        ("/strict.tgz", archive(&only("input.http"))),
    ]);
    let from = |name| run(world, &gate, &[format!("--opt=context={}", files.url(name))]);
    from("/open.tgz").passed();
    from("/strict.tgz").refused(&["ours says no", "denied by Dockerfile.rego"]);
}

/// Rules that read what lies beside them, and let in only the images that it names.
fn reading() -> [(&'static str, &'static str); 3] {
    let rules = "package docker\n\
        import data.lib.hosts\n\
        default allow := false\n\
        allow if not input.image\n\
        allow if hosts.ours(input.image.repo)\n\
        deny_msg contains \"not among ours\" if not allow\n\
        decision := {\"allow\": allow, \"deny_msg\": deny_msg}\n";
    let hosts = "package lib.hosts\n\
        ours(repo) if { some name in load_json(\"data/ours.json\").names; endswith(repo, name) }\n";
    [("rego", rules), ("lib/hosts.rego", hosts), ("data/ours.json", "{\"names\": [\"/base\"]}")]
}

/// A policy beside the Dockerfile has what lies there too: with the client, in a folder of it, in a
/// repository.
#[test]
fn a_policy_reads_what_lies_beside_it() {
    let world = need!(peers::world());
    let plain = crate::frontend::image(world);
    let [(_, rules), hosts, data] = reading();
    for (image, passes) in [("base:1", true), ("app:plain", false)] {
        let from = format!("FROM {}\n", world.image(image));
        let check = |built: Built, what: &str| {
            assert_eq!(built.passed, passes, "{what}, {image}: {}", built.said);
            assert_eq!(built.said.contains("not among ours"), !passes, "{what}: {}", built.said);
        };
        let files = [("Dockerfile", from.as_str()), ("Dockerfile.rego", rules), hosts, data];
        let context = folder(&files);
        check(build(world, plain, &context, &[]), "local");
        let below = folder(&[
            ("sub/x.Dockerfile", &from),
            ("sub/x.Dockerfile.rego", rules),
            ("sub/lib/hosts.rego", hosts.1),
            ("sub/data/ours.json", data.1),
            // What lies elsewhere is not read.
            ("data/ours.json", "{\"names\": []}"),
        ]);
        check(build(world, plain, &below, &["--opt=filename=sub/x.Dockerfile"]), "below");
        let served = tempfile::tempdir().unwrap();
        let bare = served.path().join("top.git");
        git(context.path(), &["init", "-q", "-b", "main"]);
        git(context.path(), &["add", "."]);
        let message = format!("of {}", context.path().display());
        git(context.path(), &["commit", "-q", "-m", &message]);
        git(context.path(), &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
        let server = need!(peers::serve_git(served.path().to_owned()));
        let url = server.url("/top.git");
        // The org lets everything in; the repository's own policy does not.
        check(run(world, open(world), &[format!("--opt=context={url}#main")]), "git");
    }
}

/// The policy of a repository has its keys there too, and by them it judges the repository.
#[test]
fn a_policy_in_a_repository_reads_its_keys() {
    let world = need!(peers::world());
    need!(peers::installed("ssh-keygen", "openssh-client"));
    let dir = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| {
        let path = dir.path().join(name);
        let mut make = Command::new("ssh-keygen");
        let make = make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status().unwrap();
        assert!(make.success());
        (path.display().to_string(), std::fs::read_to_string(path.with_extension("pub")).unwrap())
    });
    let rules = "package docker\n\
        default allow := false\n\
        allow if not input.git\n\
        allow if verify_git_signature(input.git.commit, \"keys/signers\")\n\
        deny_msg contains \"ours says no\" if not allow\n\
        decision := {\"allow\": allow, \"deny_msg\": deny_msg}\n";
    for (keys, wanted) in [(&ours.1, None), (&theirs.1, Some("which is not in the key file"))] {
        let work = folder(&[
            ("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n"),
            ("Dockerfile.rego", rules),
            ("keys/signers", keys),
        ]);
        let key = format!("user.signingkey={}", ours.0);
        let signed = |args: &[&str]| {
            git(work.path(), &[&["-c", "gpg.format=ssh", "-c", &key], args].concat())
        };
        git(work.path(), &["init", "-q", "-b", "main"]);
        git(work.path(), &["add", "."]);
        signed(&["commit", "-q", "-S", "-m", &format!("of {}", work.path().display())]);
        let served = tempfile::tempdir().unwrap();
        let bare = served.path().join("top.git");
        git(work.path(), &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
        let server = need!(peers::serve_git(served.path().to_owned()));
        let built =
            run(world, open(world), &[format!("--opt=context={}#main", server.url("/top.git"))]);
        match wanted {
            None => drop(built.passed()),
            Some(wanted) => drop(built.refused(&[wanted])),
        }
    }
}

/// The policies of the image, of the named context and beside the Dockerfile: each denies by itself.
#[test]
fn each_of_the_policies_must_allow() {
    let world = need!(peers::world());
    let strict = |who: &str| only("input.http").replace("ours says no", &format!("{who} says no"));
    let org = image(world, "work:strict", &strict("the org"));
    let base = world.image("base:1");
    let named = "--opt=context:policy=local:policy";
    for denying in [&[][..], &["the org"], &["the name"], &["the file"], &["the name", "the file"]]
    {
        let rules = |who: &str| match denying.contains(&who) {
            true => strict(who),
            false => ALLOW.to_owned(),
        };
        let policy = folder(&[("p.rego", &rules("the name"))]);
        let context = folder(&[
            ("Dockerfile", &format!("FROM {base}\n")),
            ("Dockerfile.rego", &rules("the file")),
        ]);
        let gate = if denying.contains(&"the org") { &org } else { open(world) };
        let local = format!("--local=policy={}", policy.path().display());
        let built = build(world, gate, &context, &[&local, named]);
        match denying.first() {
            None => drop(built.passed()),
            Some(first) => drop(built.refused(&[&format!("{first} says no")])),
        }
    }
}

/// What a build is asked for decides.
#[test]
fn rules_read_the_options_of_the_build() {
    let world = need!(peers::world());
    let plain = crate::frontend::image(world);
    let from = format!("FROM {} AS one\nFROM one\n", world.image("base:1"));
    for (condition, option) in [
        ("input.env.args.WHO == \"us\"", "--opt=build-arg:WHO=us"),
        ("input.env.labels.team == \"us\"", "--opt=label:team=us"),
        ("input.env.target == \"one\"", "--opt=target=one"),
        ("input.env.filename == \"other\"", "--opt=filename=other"),
    ] {
        let rules = only(condition);
        let context = folder(&[
            ("Dockerfile", &from),
            ("Dockerfile.rego", &rules),
            ("other", &from),
            ("other.rego", &rules),
        ]);
        build(world, plain, &context, &[option]).passed();
        build(world, plain, &context, &[]).refused(&["ours says no"]);
    }
}

/// The policy in a named context judges a remote one before it is fetched, as the image's do; and it comes from
/// the client's directory, nowhere else.
#[test]
fn a_named_policy_judges_a_remote_context() {
    let world = need!(peers::world());
    let git = need!(GitServer::start());
    let plain = crate::frontend::image(world);
    let options = |rules: &str| {
        let policy = folder(&[("p.rego", rules)]);
        let local = format!("--local=policy={}", policy.path().display());
        let context = format!("--opt=context={}#main", git.url());
        (policy, vec![local, context, "--opt=context:policy=local:policy".to_owned()])
    };
    let (_strict, refused) = options(&only("false"));
    run(world, plain, &refused).refused(&["ours says no"]);
    let elsewhere = format!("--opt=context:policy={}#main", git.url());
    let (_elsewhere, mut options_elsewhere) = options(ALLOW);
    options_elsewhere[2] = elsewhere;
    run(world, plain, &options_elsewhere).refused(&["`policy`"]);
    assert_eq!(git.asked().len(), 0);
    let (_open, allowed) = options(ALLOW);
    run(world, plain, &allowed).passed();
}
