//! Decisions that rest on what a real registry, git server and web server say.

use crate::cli::Folder;
use crate::peers::{self, GitServer, HttpServer, need};
use crate::signatures::doors::Signer;

/// A policy that allows what `condition` says, and the directories of the client.
fn policy(condition: &str) -> String {
    format!(
        "package docker\ndefault allow := false\nallow if input.local\nallow if {{\n{condition}\n}}\n\
         decision := {{\"allow\": allow}}\n"
    )
}

#[test]
fn images_are_judged_by_what_the_registry_holds() {
    let world = need!(peers::world());
    let dockerfile = format!("FROM {}\nRUN true\n", world.image("app:attested"));
    for (condition, code, fetched) in [
        ("input.image.labels.version == \"2\"", 0, "config"),
        ("input.image.labels.version == \"3\"", 1, "config"),
        ("input.image.user == \"app\"\ninput.image.hasProvenance", 0, "attestations"),
        ("input.image.provenance.buildArgs.VERSION == \"2\"", 0, "attestations"),
        (
            "startswith(input.image.checksum, \"sha256:\")\ninput.image.tag == \"attested\"",
            0,
            "config",
        ),
    ] {
        let rules = policy(condition);
        let folder = Folder::with(&[("Dockerfile", &dockerfile), ("Dockerfile.rego", &rules)]);
        let ran = folder.run("check . --format json");
        assert_eq!(ran.code, Some(code), "{condition}: {}{}", ran.stdout, ran.stderr);
        let from = &ran.json()["findings"][2];
        assert!(from["fetched"].to_string().contains(fetched), "{condition}: {from}");
    }
}

#[test]
fn a_digest_that_would_pass_is_told() {
    let world = need!(peers::world());
    let dockerfile = format!("FROM {}\n", world.image("base:1"));
    let rules = policy("input.image.isCanonical\ninput.image.user == \"app\"");
    let folder = Folder::with(&[("Dockerfile", &dockerfile), ("Dockerfile.rego", &rules)]);
    let ran = folder.run("check .");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stdout.contains("`input.image.isCanonical`"), "{}", ran.stdout);
}

#[test]
fn eval_shows_the_fields_that_are_asked_for() {
    let world = need!(peers::world());
    let folder = Folder::with(&[]);
    let image = world.image("app:attested");
    let ran = folder.run(&format!("eval {image} --print --fields image.labels,image.provenance"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let input = ran.json();
    assert_eq!(input["image"]["labels"]["version"], "2");
    assert!(input["image"]["provenance"]["materials"].is_array(), "{input}");
}

#[test]
fn an_unsigned_tag_is_denied_with_the_verifiers_words() {
    let git = need!(GitServer::start());
    let dockerfile = format!("FROM scratch\nADD {}#refs/tags/v1.0.0 /src/\n", git.url());
    let rules = policy("verify_git_signature(input.git.tag, \"keys.asc\")");
    let keys = include_str!("../../policies/production-lockdown/keys/maintainers.asc");
    let folder = Folder::with(&[
        ("Dockerfile", &dockerfile),
        ("Dockerfile.rego", &rules),
        ("keys.asc", keys),
    ]);
    let ran = folder.run("check .");
    assert_eq!(ran.code, Some(1), "{}{}", ran.stdout, ran.stderr);
    assert!(
        ran.stdout.contains("not signed") || ran.stdout.contains("no signature"),
        "{}",
        ran.stdout
    );

    let folder = Folder::with(&[("Dockerfile", &dockerfile), ("Dockerfile.rego", &rules)]);
    let ran = folder.run("check .");
    assert_eq!(ran.code, Some(2), "{}", ran.stdout);
    assert!(ran.stdout.contains("keys.asc"), "{}", ran.stdout);
}

/// Without a daemon the file is hashed as a daemon would hash it, with what the signature appends.
#[test]
fn downloads_are_judged_by_who_signed_them() {
    need!(peers::installed("gpg", "gnupg"));
    let (ours, theirs) = (Signer::new("ours"), Signer::new("theirs"));
    let release = b"release 1.0\n";
    let http = HttpServer::files([("/app", release.to_vec()), ("/evil", b"release 6\n".to_vec())]);
    let rules = policy("verify_http_pgp_signature(input.http, \"app.asc\", \"keys.asc\")");
    let sign = |hash: &str| ours.sign(release, &["--digest-algo", hash]);
    let (key, other) = (ours.public(), theirs.public());
    for (what, path, signature, keys, (code, words)) in [
        ("by SHA-256", "/app", sign("SHA256"), &key, (0, "")),
        ("by SHA-384", "/app", sign("SHA384"), &key, (0, "")),
        ("by SHA-512", "/app", sign("SHA512"), &key, (0, "")),
        ("another file", "/evil", sign("SHA512"), &key, (1, "did not sign this content")),
        ("another key", "/app", sign("SHA512"), &other, (1, "which is not in the key file")),
        ("no signature", "/app", key.clone(), &key, (2, "could not verify")),
    ] {
        let dockerfile = format!("FROM scratch\nADD {} /app\n", http.url(path));
        let folder = Folder::with(&[
            ("Dockerfile", &dockerfile),
            ("Dockerfile.rego", &rules),
            ("app.asc", &signature),
            ("keys.asc", keys),
        ]);
        let ran = folder.run("check .");
        let said = format!("{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.code, Some(code), "{what}: {said}");
        assert!(said.contains(words), "{what}: {said}");
    }
}

#[test]
fn downloads_are_judged_by_their_content() {
    let http = HttpServer::files([("/tool", b"content".to_vec())]);
    let digest = "sha256:ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73";
    let dockerfile = format!("FROM scratch\nADD {} /tool\n", http.url("/tool"));
    for (wanted, code) in [(digest, 0), ("sha256:00", 1)] {
        let rules = policy(&format!("input.http.checksum == \"{wanted}\""));
        let folder = Folder::with(&[("Dockerfile", &dockerfile), ("Dockerfile.rego", &rules)]);
        let ran = folder.run("check .");
        assert_eq!(ran.code, Some(code), "{}{}", ran.stdout, ran.stderr);
    }
}
