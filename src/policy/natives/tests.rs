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
use crate::verify::sigstore::tests::matrix::{By, Kind, Made, Signed, resigned, tampered};
use crate::verify::sigstore::{MAX_BUNDLE, MAX_PAYLOAD, TrustRoot, TrustRoots};

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

/// What a rule says of an image with this checksum and one signature, by our own root.
fn judged(rule: &str, checksum: &str, found: (&str, AttestationBlob)) -> (bool, String) {
    judged_by(&Forge::new(10).trusted_root(), rule, checksum, found).unwrap()
}

/// The same by another root, or why nothing can be said.
fn judged_by(
    ours: &serde_json::Value,
    rule: &str,
    checksum: &str,
    (media_type, found): (&str, AttestationBlob),
) -> Result<(bool, String), EvalError> {
    let mut roots = TrustRoots::embedded().unwrap();
    let ours = ours.to_string();
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
    let evaluated = policy.judge(&Input { image: Some(image), ..Input::default() })?;
    let Round::Decided(decision) = evaluated.round else { panic!("nothing is missing") };
    Ok((decision.allow, evaluated.notes.join("; ")))
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

/// What rules say of each kind of signature in each way that it can be wrong; a rule that allows what
/// is not signed says nothing of what cannot be told.
#[test]
fn each_way_that_the_signature_of_an_image_can_be_wrong() {
    let sign = "https://sigstore.dev/cosign/sign/v1";
    let (forge, stranger) = (Forge::new(10), Forge::new(30));
    let jane = Who::person("jane@example.com");
    let (late, john) = (Who { begins: 120, ..jane.clone() }, Who::person("john@example.com"));
    let (checksum, elsewhere) = (digest(b"an image"), digest(b"else"));
    let right = forge.trusted_root();
    let ended = |pointer: &str| {
        let mut json = right.clone();
        json.pointer_mut(pointer).unwrap()["end"] = "2025-01-01T00:00:00Z".into();
        json
    };
    let expired = ended("/certificateAuthorities/0/validFor");
    let withdrawn = ended("/tlogs/0/publicKey/validFor");
    let keyless = "verify_image_signature(input.image, {\"identity\": \"jane@example.com\", \
                   \"issuer\": \"https://accounts.example.com\", \"trust_root\": \"ours\"})";
    let key = "verify_image_signature(input.image, {\"key\": \"cosign.pub\"})";
    let logged =
        "verify_image_signature(input.image, {\"key\": \"cosign.pub\", \"trust_root\": \"ours\"})";
    let by = By::Certificate(Rekor::V1);
    let mut table = String::new();
    for (kind, call) in [
        (Kind { name: ".sig, keyless", by, simple: true }, keyless),
        (Kind { name: ".sig, key", by: By::Key { logged: false }, simple: true }, key),
        (Kind { name: ".sig, key, logged", by: By::Key { logged: true }, simple: true }, logged),
        (Kind { name: "bundle, keyless", by, simple: false }, keyless),
        (Kind { name: "bundle, key", by: By::Key { logged: false }, simple: false }, key),
        (Kind { name: "bundle, key, logged", by: By::Key { logged: true }, simple: false }, logged),
    ] {
        table.push_str(&format!("{}\n", kind.name));
        let about =
            Signed { forge: &forge, seed: 9, who: &jane, predicate: sign, about: &checksum };
        let made = || kind.make(about);
        let cut = |at: usize| Made { data: made().data[..at].to_vec(), ..made() };
        let other_kind = resigned(&made(), &|it| *it = vec![7; 64]);
        let by_john = Signed { who: &john, seed: 8, ..about };
        let slsa = "https://slsa.dev/provenance/v1";
        let most = if kind.simple { MAX_PAYLOAD } else { MAX_BUNDLE };
        for (what, made, root) in [
            ("good", made(), &right),
            ("by another", kind.make(by_john), &right),
            ("by another authority", kind.make(Signed { forge: &stranger, ..by_john }), &right),
            ("tampered payload", tampered(&made()), &right),
            ("tampered signature", resigned(&made(), &|it| *it.last_mut().unwrap() ^= 1), &right),
            ("another digest", kind.make(Signed { about: &elsewhere, ..about }), &right),
            ("another statement", kind.make(Signed { predicate: slsa, ..about }), &right),
            ("expired certificate", kind.make(Signed { who: &late, ..about }), &right),
            ("expired root", made(), &expired),
            ("withdrawn log", made(), &withdrawn),
            ("truncated", cut(made().data.len() / 2), &right),
            ("empty", cut(0), &right),
            ("huge", Made { data: vec![b' '; most + 1], ..made() }, &right),
            ("another algorithm", other_kind, &right),
        ] {
            // What a kind has no notion of.
            let certified = matches!(kind.by, By::Certificate(_));
            let logs = certified || matches!(kind.by, By::Key { logged: true });
            let means_nothing = match what {
                "another statement" => kind.simple,
                "expired certificate" => !certified,
                "by another authority" => !logs,
                "expired root" | "withdrawn log" => !logs,
                // As large for one as for the other, and slow to hash.
                "huge" => !kind.simple && !certified,
                _ => false,
            };
            if means_nothing {
                continue;
            }
            let media_type = if kind.simple { SIMPLE_SIGNING } else { BUNDLE };
            let blob = || AttestationBlob {
                media_type: String::new(),
                annotations: made.annotations.clone(),
                data: made.data.clone().into(),
            };
            let came = judged_by(root, call, &checksum, (media_type, blob()));
            // Whoever allows what is not signed is not told that it is not, where that is not known.
            let negated = judged_by(root, &format!("not {call}"), &checksum, (media_type, blob()));
            let said = match (&came, &negated) {
                (Ok((true, _)), Ok((false, _))) => "signed".to_owned(),
                (Ok((false, notes)), Ok((true, _))) => {
                    notes.split(": ").skip(1).collect::<Vec<_>>().join(": ")
                }
                (Err(error), Err(_)) => format!("ERROR: {error}"),
                other => panic!("{}, {what}: {other:?}", kind.name),
            };
            let wanted_error = what == "expired root";
            assert_eq!(came.is_err(), wanted_error, "{}, {what}: {said}", kind.name);
            assert_eq!(said == "signed", what == "good", "{}, {what}: {said}", kind.name);
            table.push_str(&format!("  {what}: {said}\n"));
        }
    }
    // Certificates are of one length or another, as their signatures are.
    let keys = regex::Regex::new("[0-9a-f]{64}").unwrap();
    let columns = regex::Regex::new("column [0-9]+").unwrap();
    let table = keys.replace_all(&table, "HEX");
    insta::assert_snapshot!(columns.replace_all(&table, "column N"));
}
