//! What a call may cost: signatures that do not hold are refused once, whoever asks.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::input::{Image, Input};
use crate::meta::{AttestationBlob, ImageSignatures};
use crate::policy::{EvalError, Limits, Policy, PolicyFiles, Round};
use crate::verify::Trust;
use crate::verify::chain::{BUNDLE, SIMPLE_SIGNING};
use crate::verify::sigstore::TrustRoots;
use crate::verify::sigstore::tests::forge::{Forge, about, digest, key, public_pem};

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
