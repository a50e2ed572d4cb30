//! Times that somebody vouches for, and that cannot be true.

use super::forge::{Rekor, digest, key, public_pem, statement};
use super::*;
use crate::verify::CLOCK_SKEW;

/// When logs and authorities of the forge say that something was signed.
const VOUCHED: i64 = AT + 60;

#[test]
fn nobody_vouches_for_what_has_not_come() {
    let forge = Forge::new(10);
    let root = root_of(&forge);
    let manifest = digest(b"a manifest");
    let statement = statement(SLSA, ARTIFACT);
    let leaf = person(&forge);
    let own = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    let hardened = HardenedKey::new(own.clone(), AT);
    let (payload, annotations) = forge.simple(&leaf, &manifest);
    let simple = SimpleSigning { payload: &payload, annotations: &annotations };
    let (payload, annotations) = forge.simple_by_key(&key(50), &manifest, true);
    let by_key = SimpleSigning { payload: &payload, annotations: &annotations };
    let artifact = digest(ARTIFACT);
    let bundles = [
        (forge.attest(&leaf, &statement, Rekor::V1), Signer::Keyless(&root)),
        (forge.attest(&leaf, &statement, Rekor::V2), Signer::Keyless(&root)),
        (forge.sign_file(&leaf, ARTIFACT, Rekor::V2), Signer::Keyless(&root)),
        (
            forge.attest_by_key(&key(50), &statement, Some(Rekor::V1)),
            Signer::Key(&own, Log::Required(&root)),
        ),
        (
            forge.attest_by_key(&key(50), &statement, Some(Rekor::None)),
            Signer::Key(&own, Log::WherePresent(&root)),
        ),
        (
            forge.attest_by_key(&key(50), &statement, Some(Rekor::V1)),
            Signer::DockerHardenedImages(&root, &hardened),
        ),
    ];
    let cache = VerificationCache::default();
    // Later first, so that a clock that was set back meets what is known already.
    for (now, wanted) in
        [(VOUCHED - CLOCK_SKEW + 1, "verified"), (VOUCHED - CLOCK_SKEW - 1, "time")]
    {
        for (at, (bundle, by)) in bundles.iter().enumerate() {
            let (bundle, artifact) = (bundle.to_string(), Artifact::Digest(&artifact));
            let what = format!("bundle {at}, {}", now - VOUCHED);
            check(&what, &verify_bundle(bundle.as_bytes(), artifact, *by, now), wanted);
            check(&what, &cache.bundle(bundle.as_bytes(), artifact, *by, now), wanted);
        }
        for (signed, by) in
            [(&simple, Signer::Keyless(&root)), (&by_key, Signer::Key(&own, Log::Required(&root)))]
        {
            check("simple", &verify_simple_signing(signed, &manifest, by, now), wanted);
            check("simple, known", &cache.simple_signing(signed, &manifest, by, now), wanted);
        }
    }
}
