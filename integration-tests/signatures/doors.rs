//! Rules about who signed a git tag, a commit and a download, in real builds: behind `# syntax=` and
//! through `buildgate serve`. The daemon resolves the objects, and hashes the file for us.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::policy;
use crate::frontend;
use crate::gate_ops::Gate;
use crate::peers::{self, HttpServer, Response, World, need};

const RELEASE: &[u8] = b"release 1.0\n";

/// A way into the daemon.
#[derive(Clone, Copy, Debug)]
pub(super) enum Door {
    Frontend,
    Gate,
}

/// A Dockerfile with a rule of its own beside it, and the rule's files.
pub(super) fn context(dockerfile: &str, rule: &str, files: &[(&str, &str)]) -> tempfile::TempDir {
    let rules = policy(rule);
    let mut all = vec![("Dockerfile", dockerfile), ("Dockerfile.rego", &rules)];
    all.extend(files);
    peers::folder(&all)
}

/// Builds a Dockerfile under a rule with its files: whether it passes, and what is said.
pub(super) fn built(
    world: &World,
    door: Door,
    dockerfile: &str,
    (rule, files): (&str, &[(&str, &str)]),
) -> (bool, String) {
    let rules = policy(rule);
    match door {
        Door::Frontend => {
            let context = context(dockerfile, rule, files);
            let built = frontend::build(world, frontend::image(world), context.path(), &[]);
            (built.passed, built.said)
        }
        Door::Gate => {
            let named: Vec<(String, &str)> =
                files.iter().map(|(name, text)| (format!("policy/{name}"), *text)).collect();
            let mut all = vec![("policy/p.rego", rules.as_str())];
            all.extend(named.iter().map(|(name, text)| (name.as_str(), *text)));
            let built = Gate::with_files(world, &all, &[]).build(dockerfile);
            (built.passed, built.said)
        }
    }
}

/// The same, and what was built is put into a folder.
fn exported(
    world: &World,
    door: Door,
    dockerfile: &str,
    (rule, files): (&str, &[(&str, &str)]),
    into: &Path,
) -> (bool, String) {
    let rules = policy(rule);
    let output = format!("--output=type=local,dest={}", into.display());
    let mut all = vec![("Dockerfile", dockerfile)];
    match door {
        Door::Frontend => {
            all.push(("Dockerfile.rego", &rules));
            all.extend(files);
            let context = peers::folder(&all);
            let built = frontend::build(world, frontend::image(world), context.path(), &[&output]);
            (built.passed, built.said)
        }
        Door::Gate => {
            let context = peers::folder(&all);
            let mut own = vec![("policy/p.rego".to_owned(), rules.as_str())];
            own.extend(files.iter().map(|(name, text)| (format!("policy/{name}"), *text)));
            let own: Vec<(&str, &str)> = own.iter().map(|(name, text)| (&**name, *text)).collect();
            let gate = Gate::with_files(world, &own, &[]);
            let out = gate
                .buildctl("gate.sock")
                .args(["build", "--progress=plain", "--no-cache", "--frontend=dockerfile.v0"])
                .arg(format!("--local=context={}", context.path().display()))
                .arg(format!("--local=dockerfile={}", context.path().display()))
                .arg(&output)
                .output()
                .unwrap();
            (out.status.success(), String::from_utf8_lossy(&out.stderr).into_owned())
        }
    }
}

#[track_caller]
pub(super) fn check(what: &str, (passed, said): &(bool, String), wanted: Result<&str, &str>) {
    let (Ok(words) | Err(words)) = wanted;
    assert_eq!(*passed, wanted.is_ok(), "{what}: {said}");
    assert!(said.contains(words), "{what}: {words:?} is not in: {said}");
}

fn run(command: &mut Command) {
    let out = command.stdin(Stdio::null()).output().unwrap();
    let error = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success(), "{command:?}: {error}");
}

/// An SSH key: the path of its private half, and the line of its public one.
fn ssh_key(dir: &Path, name: &str) -> (String, String) {
    let path = dir.join(name);
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path));
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    (path.display().to_string(), public)
}

/// Somebody with a gpg of their own.
pub(crate) struct Signer(TempDir);

impl Signer {
    pub(crate) fn new(name: &str) -> Self {
        let signer = Self(tempfile::tempdir().unwrap());
        run(signer.gpg().args(["--quick-generate-key", name, "ed25519", "sign,cert", "never"]));
        signer
    }

    fn gpg(&self) -> Command {
        let mut gpg = Command::new("gpg");
        gpg.env("LC_ALL", "C").arg("--homedir").arg(self.0.path());
        gpg.args(["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback"]);
        gpg.args(["--passphrase", "", "--armor"]);
        gpg
    }

    pub(crate) fn public(&self) -> String {
        String::from_utf8(self.gpg().arg("--export").output().unwrap().stdout).unwrap()
    }

    pub(crate) fn sign(&self, content: &[u8], options: &[&str]) -> String {
        let path = self.0.path().join("content");
        std::fs::write(&path, content).unwrap();
        run(self.gpg().args(options).arg("--detach-sign").arg(&path));
        std::fs::read_to_string(path.with_extension("asc")).unwrap()
    }
}

impl Drop for Signer {
    fn drop(&mut self) {
        let mut kill = Command::new("gpgconf");
        kill.arg("--homedir").arg(self.0.path()).args(["--kill", "all"]).status().unwrap();
    }
}

#[test]
fn tags_and_commits_are_judged_by_who_signed_them() {
    let world = need!(peers::world());
    need!(peers::installed("ssh-keygen", "openssh-client"));
    let dir = tempfile::tempdir().unwrap();
    let (private, ours) = ssh_key(dir.path(), "ours");
    let (_, theirs) = ssh_key(dir.path(), "theirs");
    let work = dir.path().join("work");
    std::fs::create_dir(&work).unwrap();
    let key = format!("user.signingkey={private}");
    let git = |args: &[&str]| {
        let signing = ["-c", "gpg.format=ssh", "-c", &key];
        peers::git(&work, &[&signing, args].concat())
    };
    git(&["init", "-q", "-b", "main"]);
    std::fs::write(work.join("a"), "a").unwrap();
    git(&["add", "."]);
    git(&["commit", "-q", "-m", "not signed"]);
    git(&["tag", "-a", "-m", "not signed", "plain"]);
    std::fs::write(work.join("a"), "b").unwrap();
    git(&["commit", "-q", "-a", "-S", "-m", "signed"]);
    git(&["tag", "-s", "-m", "signed", "v1"]);
    let served = dir.path().join("served");
    std::fs::create_dir(&served).unwrap();
    git(&["clone", "-q", "--bare", ".", served.join("app.git").to_str().unwrap()]);
    let server = need!(peers::serve_git(served));
    let url = server.url("/app.git");
    let tag = "verify_git_signature(input.git.tag, \"keys.pub\")";
    let commit = "verify_git_signature(input.git.commit, \"keys.pub\")";
    for door in [Door::Frontend, Door::Gate] {
        for (what, rule, reference, keys, wanted) in [
            ("a signed tag", tag, "refs/tags/v1", &ours, Ok("")),
            ("its commit", commit, "refs/tags/v1", &ours, Ok("")),
            ("a signed commit", commit, "refs/heads/main", &ours, Ok("")),
            ("a tag by another", tag, "refs/tags/v1", &theirs, Err("which is not in the key file")),
            (
                "a commit by another",
                commit,
                "refs/heads/main",
                &theirs,
                Err("which is not in the key file"),
            ),
            ("an unsigned tag", tag, "refs/tags/plain", &ours, Err("it is not signed")),
            ("an unsigned commit", commit, "refs/tags/plain", &ours, Err("it is not signed")),
        ] {
            let dockerfile = format!("FROM scratch\nADD {url}#{reference} /src/\n");
            let came = built(world, door, &dockerfile, (rule, &[("keys.pub", keys)]));
            check(&format!("{what}, {door:?}"), &came, wanted);
        }
    }
}

#[test]
fn downloads_are_judged_by_who_signed_them() {
    let world = need!(peers::world());
    need!(peers::installed("gpg", "gnupg"));
    let (ours, theirs) = (Signer::new("ours"), Signer::new("theirs"));
    let server = HttpServer::files([
        ("/frontend/app", RELEASE.to_vec()),
        ("/gate/app", RELEASE.to_vec()),
        ("/frontend/evil", b"release 6.6\n".to_vec()),
        ("/gate/evil", b"release 6.6\n".to_vec()),
    ]);
    let rule = "verify_http_pgp_signature(input.http, \"app.asc\", \"keys.asc\")";
    let (key, other_key) = (ours.public(), theirs.public());
    // By each hash that may be asked for.
    let signed =
        ["SHA256", "SHA384", "SHA512"].map(|it| ours.sign(RELEASE, &["--digest-algo", it]));
    let text = ours.sign(RELEASE, &["--textmode"]);
    let weak = ours.sign(RELEASE, &["--digest-algo", "SHA1", "--allow-weak-digest-algos"]);
    for (door, place) in [(Door::Frontend, "/frontend"), (Door::Gate, "/gate")] {
        for (what, file, signature, keys, wanted) in [
            ("by SHA-256", "app", &signed[0], &key, Ok("")),
            ("by SHA-384", "app", &signed[1], &key, Ok("")),
            ("by SHA-512", "app", &signed[2], &key, Ok("")),
            ("another file", "evil", &signed[2], &key, Err("did not sign this content")),
            ("another key", "app", &signed[2], &other_key, Err("which is not in the key file")),
            ("by SHA-1", "app", &weak, &key, Err("only SHA-256, SHA-384 and SHA-512 are accepted")),
            ("as a text", "app", &text, &key, Err("could not verify")),
            ("no signature", "app", &key, &key, Err("could not verify")),
        ] {
            let dockerfile =
                format!("FROM scratch\nADD {} /app\n", server.url(&format!("{place}/{file}")));
            let files = [("app.asc", signature.as_str()), ("keys.asc", keys)];
            let came = built(world, door, &dockerfile, (rule, &files));
            check(&format!("{what}, {door:?}"), &came, wanted);
        }
        // The server changes its mind: after so many answers it hands out something else. Whoever was
        // given that, built nothing with it; and what was judged is not asked for again.
        let mut rounds = Vec::new();
        for good in 0..=2 {
            let given = AtomicUsize::new(0);
            let swapping = HttpServer::start(move |request| {
                let number =
                    if request.method == "GET" { given.fetch_add(1, Ordering::SeqCst) } else { 0 };
                Response::ok(if number < good { RELEASE } else { b"release 6.6\n" })
            });
            let path = format!("{place}/{good}");
            let dockerfile = format!("FROM scratch\nADD {} /app\n", swapping.url(&path));
            let files = [("app.asc", signed[2].as_str()), ("keys.asc", &key)];
            let out = tempfile::tempdir().unwrap();
            let (passed, said) = exported(world, door, &dockerfile, (rule, &files), out.path());
            let asked = swapping.asked().iter().filter(|it| it.method == "GET").count();
            assert_eq!(passed, asked <= good, "{door:?}, {asked} of {good}: {said}");
            let built = std::fs::read(out.path().join("app")).ok();
            assert_eq!(built.as_deref(), passed.then_some(RELEASE), "{door:?}, {good}: {said}");
            let words = ["did not sign this content", "digest mismatch"];
            let told = passed || words.iter().any(|words| said.contains(words));
            assert!(told, "{door:?}, {good}: {said}");
            rounds.push((asked, passed));
        }
        // Both came to pass: a file that was swapped, and one that was not.
        assert!(rounds.iter().any(|(_, passed)| *passed), "{door:?}: {rounds:?}");
        assert!(rounds.iter().any(|(_, passed)| !passed), "{door:?}: {rounds:?}");
    }
}
