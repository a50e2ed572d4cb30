//! What a call may cost: signatures that do not hold are refused once, whoever asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::input::{Image, Input};
use crate::meta::{AttestationBlob, ImageSignatures};
use crate::policy::{EvalError, Limits, Policy, PolicyFiles, Round};
use crate::verify::Trust;
use crate::verify::chain::{BUNDLE, SIMPLE_SIGNING};
use crate::verify::sigstore::tests::forge::{Forge, Rekor, Who, about, digest, key, public_pem};
use crate::verify::sigstore::{TrustRoot, TrustRoots};

const RULE: &str = "package docker\ndefault allow := false\n\
                    allow if verify_image_signature(input.image, {\"key\": \"cosign.pub\"})\n\
                    decision := {\"allow\": allow}\n";

fn policy(trust: &Arc<Trust>) -> Policy {
    let files = BTreeMap::from([
        ("p.rego".to_owned(), bytes::Bytes::from_static(RULE.as_bytes())),
        ("cosign.pub".to_owned(), public_pem(&key(9)).into()),
    ]);
    let policy = Policy::load("p", PolicyFiles::memory(files), &["p.rego".to_owned()]).unwrap();
    policy.with_trust(trust.clone())
}

/// What a rule says of an image with this checksum and one signature, by these roots.
fn judged(
    rule: &str,
    checksum: &str,
    (media_type, found): (&str, AttestationBlob),
) -> (bool, String) {
    let mut roots = TrustRoots::embedded().unwrap();
    let ours = Forge::new(10).trusted_root().to_string();
    roots.insert(TrustRoot::parse("ours", ours.as_bytes()).unwrap()).unwrap();
    let text = format!(
        "package docker\ndefault allow := false\nallow if {{\n{rule}\n}}\ndecision := {{\"allow\": allow}}\n"
    );
    let files = BTreeMap::from([
        ("p.rego".to_owned(), bytes::Bytes::from(text)),
        ("cosign.pub".to_owned(), public_pem(&key(9)).into()),
    ]);
    let policy = Policy::load("p", PolicyFiles::memory(files), &["p.rego".to_owned()]).unwrap();
    let patient = Limits { time: Duration::from_secs(60), ..Limits::default() };
    let policy = policy.with_trust(Arc::new(Trust::new(roots))).with_limits(patient);
    let found = vec![AttestationBlob { media_type: media_type.to_owned(), ..found }];
    let signed_by = Some(ImageSignatures { digest: checksum.to_owned(), found });
    let image = Image { checksum: checksum.to_owned(), signed_by, ..Image::default() };
    let evaluated = policy.judge(&Input { image: Some(image), ..Input::default() }).unwrap();
    let Round::Decided(decision) = evaluated.round else { panic!("nothing is missing") };
    (decision.allow, evaluated.notes.join("; "))
}

#[test]
fn what_is_signed_is_in_the_result() {
    let forge = Forge::new(10);
    let manifest = b"{\"layers\": []}";
    let checksum = digest(manifest);
    let jane = Who::person("jane@example.com");
    let leaf = forge.leaf(&jane, 100);
    let blob = |data: Vec<u8>| AttestationBlob { data: data.into(), ..AttestationBlob::default() };
    let bundle = |it: serde_json::Value| blob(it.to_string().into_bytes());
    let simple =
        |(payload, annotations): (Vec<u8>, _)| AttestationBlob { annotations, ..blob(payload) };
    let keyless = "signed := verify_image_signature(input.image, {\"identity\": \"jane@example.com\", \
                   \"issuer\": \"https://accounts.example.com\", \"trust_root\": \"ours\"})\n\
                   signed.trustRoot == \"ours\"\nnot signed.key\n\
                   signed.signer.subjectAlternativeName == \"jane@example.com\"\n\
                   signed.signer.issuer == \"https://accounts.example.com\"\n\
                   signed.digest == input.image.checksum\ncount(signed.timestamps) > 0\n";
    let by_key = "signed := verify_image_signature(input.image, {\"key\": \"cosign.pub\"})\n\
                  startswith(signed.key, \"SHA256:\")\nnot signed.signer\nnot signed.trustRoot\n\
                  signed.digest == input.image.checksum\n";
    let in_simple = "signed.type == \"simplesigning-v1\"\n\
                     signed.payload.critical.image[\"docker-manifest-digest\"] == signed.digest\n\
                     signed.dockerReference == \"registry.example.com/app\"";
    let in_bundle = "signed.type == \"bundle-v0.3\"\n\
                     concat(\":\", [\"sha256\", signed.payload.subject[0].digest.sha256]) == signed.digest";
    let sign = about("https://sigstore.dev/cosign/sign/v1", &checksum);
    let slsa = about("https://slsa.dev/provenance/v1", &checksum);
    let rule = |who: &str, what: &str| format!("{who}{what}");
    for (what, rule, found, allowed, words) in [
        (
            "keyless, simple",
            rule(keyless, in_simple),
            (SIMPLE_SIGNING, simple(forge.simple(&leaf, &checksum))),
            true,
            "",
        ),
        (
            "keyless, bundle",
            rule(keyless, in_bundle),
            (BUNDLE, bundle(forge.attest(&leaf, &sign, Rekor::V2))),
            true,
            "",
        ),
        (
            "key, simple",
            rule(by_key, in_simple),
            (SIMPLE_SIGNING, simple(forge.simple_by_key(&key(9), &checksum, false))),
            true,
            "",
        ),
        (
            "key, bundle",
            rule(by_key, in_bundle),
            (BUNDLE, bundle(forge.attest_by_key(&key(9), &sign, None))),
            true,
            "",
        ),
        (
            "provenance",
            keyless.to_owned(),
            (BUNDLE, bundle(forge.attest(&leaf, &slsa, Rekor::V1))),
            false,
            "its predicate type is",
        ),
        (
            "provenance by key",
            by_key.to_owned(),
            (BUNDLE, bundle(forge.attest_by_key(&key(9), &slsa, None))),
            false,
            "its predicate type is",
        ),
        // `cosign sign-blob` of the manifest's bytes.
        (
            "a file",
            keyless.to_owned(),
            (BUNDLE, bundle(forge.sign_file(&leaf, manifest, Rekor::V1))),
            false,
            "its predicate type is \"\"",
        ),
    ] {
        let (came, notes) = judged(&rule, &checksum, found);
        assert_eq!(came, allowed, "{what}: {notes}");
        assert!(notes.contains(words), "{what}: {notes}");
    }
}

/// An image with as many signatures by somebody else, and then some by whoever is wanted.
fn image(others: u8, right: usize) -> Input {
    let forge = Forge::new(10);
    let checksum = digest(b"an image");
    let mut found: Vec<AttestationBlob> = (0..others)
        .map(|at| {
            let signer = key(100 + at);
            if at % 2 == 0 {
                let (payload, annotations) = forge.simple_by_key(&signer, &checksum, false);
                let media_type = SIMPLE_SIGNING.to_owned();
                return AttestationBlob { media_type, annotations, data: payload.into() };
            }
            let statement = about("https://sigstore.dev/cosign/sign/v1", &checksum);
            let bundle = forge.attest_by_key(&signer, &statement, None).to_string();
            let media_type = BUNDLE.to_owned();
            AttestationBlob { media_type, data: bundle.into(), ..AttestationBlob::default() }
        })
        .collect();
    for _ in 0..right {
        let (payload, annotations) = forge.simple_by_key(&key(9), &checksum, false);
        let media_type = SIMPLE_SIGNING.to_owned();
        found.push(AttestationBlob { media_type, annotations, data: payload.into() });
    }
    let signed_by = Some(ImageSignatures { digest: checksum.clone(), found });
    let image = Image { checksum, signed_by, ..Image::default() };
    Input { image: Some(image), ..Input::default() }
}

#[test]
fn what_does_not_hold_is_refused_once_for_all_policies() {
    let trust = Arc::new(Trust::new(TrustRoots::embedded().unwrap()));
    let input = image(32, 0);
    let patient = Limits { time: Duration::from_secs(60), ..Limits::default() };
    for _ in 0..3 {
        let evaluated = policy(&trust).with_limits(patient).judge(&input).unwrap();
        let Round::Decided(decision) = evaluated.round else { panic!("nothing is missing") };
        assert!(!decision.allow);
        assert!(evaluated.notes[0].contains("is not signed by the key"), "{:?}", evaluated.notes);
    }
    assert_eq!(trust.cache.worked(), 32, "each of them once");
    // The same bytes in front do not hide one that holds.
    let evaluated = policy(&trust).with_limits(patient).judge(&image(32, 1)).unwrap();
    assert!(matches!(evaluated.round, Round::Decided(decision) if decision.allow));
    assert_eq!((trust.cache.worked(), trust.cache.len()), (33, 1));
}

#[test]
fn a_call_ends_with_its_evaluation() {
    let trust = Arc::new(Trust::new(TrustRoots::embedded().unwrap()));
    let hurried = Limits { time: Duration::from_millis(5), ..Limits::default() };
    let refused = policy(&trust).with_limits(hurried).judge(&image(32, 1));
    assert!(matches!(refused, Err(EvalError::Timeout { .. })), "{refused:?}");
    assert!(trust.cache.worked() < 32, "{}", trust.cache.worked());
}
