#![no_main]
//! Sigstore bundles: whatever the bytes, an answer, no fault, and never a signature that holds.

use buildgate::verify::sigstore::{
    Artifact, HardenedKey, Log, PublicKey, Signer, TrustRoots, verify_bundle,
};
use libfuzzer_sys::fuzz_target;
use std::sync::OnceLock;

const KEY: &[u8] = b"-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEKdROmntRJFBrOJOQF5ww6gDBJqGm
Fxa4333s1KsL9ISjtmRzGNih9lNRsqfRVjgFgJIdL6EQ9dohdanvn7r2cg==
-----END PUBLIC KEY-----
";
const NOW: i64 = 1_800_000_000;

fuzz_target!(|data: &[u8]| {
    static ROOTS: OnceLock<TrustRoots> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| TrustRoots::embedded().unwrap());
    let root = roots.get(None).unwrap();
    let key = PublicKey::from_pem(KEY).unwrap();
    let hardened = HardenedKey::built_in().unwrap();
    // An artifact that nobody signed.
    let artifact = Artifact::Bytes(b"buildgate fuzzes, and has signed nothing");
    for by in [
        Signer::Keyless(root),
        Signer::Key(&key, Log::Ignored),
        Signer::Key(&key, Log::Required(root)),
        Signer::DockerHardenedImages(root, &hardened),
    ] {
        assert!(verify_bundle(data, artifact, by, NOW).is_err());
    }
});
