//! Several that say they sign one image's attestations, in a real registry: what holds counts, wherever
//! it stands among the others.

use serde_json::{Value, json};

use super::doors::{Door, check as said};
use super::trusting::Org;
use super::{BUNDLE, COSIGN_SIGN, HUGE, Layer, Repository, SIMPLE, check, layer, policy};
use crate::forge::{Forge, Rekor, Who, about, digest};
use crate::gate_ops::Gate;
use crate::peers::{self, need};

const COSIGN: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
const VULN: &str = "https://cosign.sigstore.dev/attestation/vuln/v1";
const BY_JANE: &str = "some signature in input.image.signatures\n\
                       signature.signer.subjectAlternativeName == \"jane@example.com\"";

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_signatures_of_attestations_is_enough() {
    let world = need!(peers::world());
    let repository = Repository { world, name: "signed/several" };
    let (forge, stranger) = (Forge::new(180), Forge::new(190));
    let root = forge.trusted_root().to_string();
    let attest = ["attest:provenance=mode=max,version=v1"];
    let export = ",oci-mediatypes=true,oci-artifact=true";
    repository.build("1", &attest, export);
    let attestation = repository.attestation("1").await;
    let subject = repository.described(&attestation).await;
    let bundle = |forge: &Forge, states: &str, digest: &str| -> Layer {
        let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
        let bundle = forge.attest(&leaf, &about(states, digest), Rekor::V1);
        (BUNDLE, bundle.to_string().into_bytes(), json!({}))
    };
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let mut named: std::collections::BTreeMap<&str, Value> = std::collections::BTreeMap::new();
    for (name, kind, layers) in [
        ("good", BUNDLE, vec![bundle(&forge, COSIGN_SIGN, &attestation)]),
        ("foreign", BUNDLE, vec![bundle(&stranger, COSIGN_SIGN, &attestation)]),
        ("of another", BUNDLE, vec![bundle(&forge, COSIGN_SIGN, &digest(b"else"))]),
        ("a report", BUNDLE, vec![bundle(&forge, VULN, &attestation)]),
        ("garbage", BUNDLE, vec![(BUNDLE, b"garbage".to_vec(), json!({}))]),
        ("huge", BUNDLE, vec![(BUNDLE, vec![b' '; HUGE], json!({}))]),
        ("nothing", BUNDLE, vec![]),
        ("simple", COSIGN, vec![layer(SIMPLE, forge.simple(&leaf, &attestation))]),
    ] {
        named.insert(name, repository.referring(&subject, kind, &layers).await);
    }
    let often = |name: &'static str, times| vec![name; times];
    for (what, names, code, words) in [
        ("bad, good", vec!["foreign", "good"], 0, ""),
        ("good, bad", vec!["good", "foreign"], 0, ""),
        ("all, good", vec!["of another", "a report", "garbage", "huge", "nothing", "good"], 0, ""),
        ("bad, good simple signing", vec!["foreign", "a report", "simple"], 0, ""),
        ("none good", vec!["foreign", "of another"], 1, "about something else"),
        ("a report alone", vec!["a report"], 1, "its predicate type is"),
        // Whether one that is not read is good, nobody knows.
        ("bad, huge", vec!["foreign", "huge"], 2, "more is not looked at"),
        ("twice is once", [often("foreign", 20), often("good", 1)].concat(), 0, ""),
    ] {
        let list: Vec<Value> = names.iter().map(|name| named[*name].clone()).collect();
        repository.refer_by(&subject, &list).await;
        let files = [("ours.json", root.as_str())];
        let ran = repository.judged("1", BY_JANE, &files, "--trust-root sigstore=ours.json");
        check(what, &ran, code, words);
    }
}

/// A daemon gives the first alone: what stands behind it the gate does not see, and refuses.
#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_gives_the_first_of_several_signatures() {
    let world = need!(peers::world());
    let repository = Repository { world, name: "signed/gate-several" };
    let (forge, stranger) = (Forge::new(181), Forge::new(191));
    let root = forge.trusted_root().to_string();
    let rules = policy(BY_JANE);
    let files = [("policy/p.rego", rules.as_str()), ("ours.json", &root)];
    let gate = Gate::with_files(world, &files, &["--trust-root=ours.json"]);
    // An image for each: a daemon remembers the attestations of one that it has seen.
    for (tag, order, passes) in
        [("good-first", [&forge, &stranger], true), ("bad-first", [&stranger, &forge], false)]
    {
        let attest = ["attest:provenance=mode=max,version=v1"];
        repository.build(tag, &attest, ",oci-mediatypes=true,oci-artifact=true");
        let attestation = repository.attestation(tag).await;
        let subject = repository.described(&attestation).await;
        let mut list = Vec::new();
        for forge in order {
            let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
            let bundle = forge.attest(&leaf, &about(COSIGN_SIGN, &attestation), Rekor::V1);
            let layers = [(BUNDLE, bundle.to_string().into_bytes(), json!({}))];
            list.push(repository.referring(&subject, BUNDLE, &layers).await);
        }
        repository.refer_by(&subject, &list).await;
        let dockerfile = format!("FROM {}\nCOPY Dockerfile /x\n", repository.reference(tag));
        let built = gate.build(&dockerfile);
        assert_eq!(built.passed, passes, "{tag}: {}", built.said);
        let words = if passes { "@sha256:" } else { "sigstore does not vouch for it" };
        assert!(built.said.contains(words), "{tag}: {}", built.said);
    }
}

/// A workflow on GitHub, as Fulcio has it.
fn workflow(uri: &str, repository: &str, runner: &str) -> Who {
    let hub = "https://token.actions.githubusercontent.com";
    let extensions = [(8, hub), (9, uri), (11, runner), (12, repository)];
    let extensions = extensions.map(|(number, value)| (number, value.to_owned())).to_vec();
    Who { extensions, ..Who::person(uri) }
}

/// Docker's kinds at both doors: who may have them, and who only looks as if they might.
#[tokio::test(flavor = "multi_thread")]
async fn kinds_of_signers_are_told_at_each_door() {
    let world = need!(peers::world());
    let repository = Repository { world, name: "signed/kinds" };
    let forge = Forge::new(182);
    let root = forge.trusted_root().to_string();
    let builder =
        "https://github.com/docker/github-builder/.github/workflows/build.yml@refs/heads/main";
    let own = "https://github.com/our/app/.github/workflows/ci.yml@refs/heads/main";
    let (app, hosted) = ("https://github.com/our/app", "github-hosted");
    let docker = workflow(builder, app, hosted);
    let lookalike = workflow(&builder.replace("docker/", "docker-/"), app, hosted);
    let org = Org::new(world, "kinds", vec![("sigstore", root)], None);
    for (tag, who, version, kind, passes) in [
        ("builder", &docker, Rekor::V1, "docker-github-builder", true),
        ("builder-v2", &docker, Rekor::V2, "docker-github-builder", true),
        ("lookalike", &lookalike, Rekor::V1, "docker-github-builder", false),
        (
            "own-runner",
            &workflow(builder, app, "self-hosted"),
            Rekor::V1,
            "docker-github-builder",
            false,
        ),
        ("own", &workflow(own, app, hosted), Rekor::V1, "self-signed-github-repo", true),
        (
            "own-of-another",
            &workflow(own, "https://github.com/our/other", hosted),
            Rekor::V1,
            "self-signed-github-repo",
            false,
        ),
        ("person", &Who::person("jane@example.com"), Rekor::V2, "self-signed", true),
        ("no-builder", &Who::person("jane@example.com"), Rekor::V2, "docker-github-builder", false),
    ] {
        let rule = format!(
            "some signature in input.image.signatures\nsignature.kind == \"{kind}\"\n\
             signature.type == \"bundle-v0.3\""
        );
        // An image for each door: a daemon remembers the attestations of one that it has seen.
        for door in [Door::Frontend, Door::Gate] {
            let tag = format!("{tag}-{door:?}").to_lowercase();
            let attest = ["attest:provenance=mode=max,version=v1"];
            repository.build(&tag, &attest, ",oci-mediatypes=true,oci-artifact=true");
            let attestation = repository.attestation(&tag).await;
            let subject = repository.described(&attestation).await;
            let statement = about(COSIGN_SIGN, &attestation);
            let bundle = forge.attest(&forge.leaf(who, 100), &statement, version).to_string();
            repository.refer(&subject, BUNDLE, &[(BUNDLE, bundle.into_bytes(), json!({}))]).await;
            let dockerfile = format!("FROM {}\nCOPY Dockerfile /x\n", repository.reference(&tag));
            let came = org.built(door, &dockerfile, (&rule, &[]));
            said(&tag, &came, if passes { Ok("") } else { Err("DENY") });
        }
    }
}
