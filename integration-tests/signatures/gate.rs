//! Rules about signatures in real builds through `buildgate serve`: the daemon resolves the image, and
//! the gate looks for what signs it.

use serde_json::{Value, json};

use super::{BUNDLE, BY_KEY, COSIGN_SIGN, Repository, SIMPLE, by_identity, layer, policy};
use crate::forge::{Forge, Rekor, Who, about, digest, key, public_pem};
use crate::gate_ops::Gate;
use crate::peers::{self, HttpServer, Request, Response, World, need};

/// A gate with one rule, and a trust root of the organisation that is named `ours` and is Sigstore's.
fn gate(world: &World, rule: &str, root: &str) -> Gate {
    let (rules, pem) = (policy(rule), public_pem(&key(9)));
    let files =
        [("policy/p.rego", rules.as_str()), ("policy/cosign.pub", &pem), ("sigstore.json", root)];
    let registry = format!("--signature-registries={}", world.registry.host());
    let flags = ["--trust-root=sigstore.json", "--trust-root=ours=sigstore.json", &registry];
    Gate::with_files(world, &files, &[&flags[..], &["--decision-log=decisions"]].concat())
}

/// What is built on an image, whether it passes, and what must be said.
fn check(gate: &Gate, what: &str, image: &str, wanted: Result<&str, &str>) {
    let built = gate.build(&format!("FROM {image}\nCOPY Dockerfile /x\n"));
    let (Ok(words) | Err(words)) = wanted;
    assert_eq!(built.passed, wanted.is_ok(), "{what}: {}", built.said);
    assert!(built.said.contains(words), "{what}: {words:?} is not in: {}", built.said);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_asks_who_signed_an_image() {
    let world = need!(peers::world());
    let (repository, image) = Repository::with_image(world, "signed/gated").await;
    repository.build("unsigned", &[], "");
    let forge = Forge::new(46);
    let root = forge.trusted_root().to_string();
    let jane = Who::person("jane@example.com");
    let stranger = Forge::new(47);
    let by_key =
        |seed: u8, about: &str| layer(SIMPLE, forge.simple_by_key(&key(seed), about, false));
    let keyless = |forge: &Forge, who: &str, about: &str| {
        let leaf = forge.leaf(&Who::person(who), 100);
        layer(SIMPLE, forge.simple(&leaf, about))
    };
    let (named, unsigned) = (repository.reference("1"), repository.reference("unsigned"));
    let pinned = format!("-> docker-image://{named}@{image}");

    let keyed = gate(world, BY_KEY, &root);
    repository.sign_by_tag(&image, &[by_key(9, &image)]).await;
    check(&keyed, "right key", &named, Ok(&pinned));
    check(&keyed, "unsigned", &unsigned, Err("it has no signature"));
    repository.sign_by_tag(&image, &[by_key(8, &image)]).await;
    check(&keyed, "another's key", &named, Err("is not signed by the key in `cosign.pub`"));
    repository.sign_by_tag(&image, &[by_key(9, &digest("another"))]).await;
    check(&keyed, "another's signature", &named, Err("is not signed by the key in `cosign.pub`"));

    let known = gate(world, &by_identity("jane@example.com", jane.issuer(), "ours"), &root);
    repository.sign_by_tag(&image, &[keyless(&forge, "jane@example.com", &image)]).await;
    check(&known, "right identity", &named, Ok(&pinned));
    check(&known, "unsigned, keyless", &unsigned, Err("it has no signature"));
    repository.sign_by_tag(&image, &[keyless(&forge, "john@example.com", &image)]).await;
    check(&known, "another identity", &named, Err("it was signed by \"john@example.com\""));
    repository.sign_by_tag(&image, &[keyless(&stranger, "jane@example.com", &image)]).await;
    check(&known, "another authority", &named, Err("is not signed by"));

    // Somebody moves the tag to an image that nobody signed.
    repository.sign_by_tag(&image, &[keyless(&forge, "jane@example.com", &image)]).await;
    repository.build("1", &["label:moved=yes"], "");
    check(&known, "re-tagged", &named, Err("it has no signature"));
    let by_digest = format!("{}@{image}", repository.reference("1"));
    check(&known, "the signed one still", &by_digest, Ok("allow docker-image://"));

    let decisions = known.read("decisions");
    let refused: Vec<Value> =
        decisions.lines().map(|it| serde_json::from_str(it).unwrap()).collect();
    let refused = refused.iter().find(|it| it["action"] == "deny").unwrap();
    assert!(refused["notes"][0].as_str().unwrap().contains("it has no signature"), "{refused}");
    assert_eq!(refused["fetched"][1]["what"], json!(["signatures"]), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gate_asks_who_signed_attestations() {
    let world = need!(peers::world());
    let repository = Repository { world, name: "signed/gate-attested" };
    let export = ",oci-mediatypes=true,oci-artifact=true";
    let forge = Forge::new(48);
    let rule = "some signature in input.image.signatures\n\
                signature.signer.subjectAlternativeName == \"jane@example.com\"";
    let gate = gate(world, rule, &forge.trusted_root().to_string());
    let stranger = Forge::new(49);
    // An image for each: a daemon remembers the attestations of one that it has seen.
    for (tag, by, wanted) in [
        ("right", Some((&forge, "jane@example.com")), Ok("@sha256:")),
        ("another-identity", Some((&forge, "john@example.com")), Err("DENY")),
        (
            "another-authority",
            Some((&stranger, "jane@example.com")),
            Err("sigstore does not vouch for it"),
        ),
        ("unsigned", None, Err("the image's attestations are not signed")),
    ] {
        repository.build(tag, &["attest:provenance=mode=max,version=v1"], export);
        if let Some((forge, who)) = by {
            let attestation = repository.attestation(tag).await;
            let subject = repository.described(&attestation).await;
            let leaf = forge.leaf(&Who::person(who), 100);
            let bundle = forge.attest(&leaf, &about(COSIGN_SIGN, &attestation), Rekor::V1);
            let bundle = bundle.to_string().into_bytes();
            repository.refer(&subject, BUNDLE, &[(BUNDLE, bundle, json!({}))]).await;
        }
        check(&gate, tag, &repository.reference(tag), wanted);
    }
    let moved = ["attest:provenance=mode=max,version=v1", "label:moved=yes"];
    repository.build("right", &moved, export);
    let named = repository.reference("right");
    check(&gate, "re-tagged", &named, Err("the image's attestations are not signed"));
}

#[test]
fn a_registry_that_is_not_listed_is_not_asked() {
    let world = need!(peers::world());
    // What the daemon asks by itself is none of ours.
    let ours = |server: &HttpServer| {
        let from = |it: &Request| it.headers.get("user-agent").cloned().unwrap_or_default();
        server.asked().iter().filter(|it| !from(it).contains("buildkit")).count()
    };
    let (rules, pem) = (policy(BY_KEY), public_pem(&key(9)));
    let files = [("policy/p.rego", rules.as_str()), ("policy/cosign.pub", &pem)];
    for (listed, mirrored) in [(false, false), (true, false), (true, true)] {
        let server = HttpServer::start(|_| Response::status(404));
        // A mirror is asked for a registry that nobody could reach.
        let host = match mirrored {
            true => "registry.invalid".to_owned(),
            false => server.url("").trim_start_matches("http://").to_owned(),
        };
        let list = format!("--signature-registries={}", if listed { &host } else { "docker.io" });
        let mirror = format!("--registry-mirror={host}={}", server.url("/"));
        let flags = [list.as_str(), &mirror];
        let gate = Gate::with_files(world, &files, if mirrored { &flags } else { &flags[..1] });
        let image = format!("{host}/app@{}", digest("an image"));
        let built = gate.build(&format!("FROM {image}\n"));
        assert!(!built.passed, "{}", built.said);
        let words = format!("the gate asks {host} for no signatures");
        assert_eq!(built.said.contains(&words), !listed, "{}", built.said);
        assert_eq!(ours(&server) > 0, listed, "{:?}", server.asked());
    }
}
