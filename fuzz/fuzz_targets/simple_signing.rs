#![no_main]
//! Simple signing: payload and annotations, parted by zero bytes.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use buildgate::verify::sigstore::{
    HardenedKey, Log, PublicKey, Signer, SimpleSigning, TrustRoots, verify_simple_signing,
};
use libfuzzer_sys::fuzz_target;

const KEY: &[u8] = b"-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEKdROmntRJFBrOJOQF5ww6gDBJqGm
Fxa4333s1KsL9ISjtmRzGNih9lNRsqfRVjgFgJIdL6EQ9dohdanvn7r2cg==
-----END PUBLIC KEY-----
";
const NAMES: [&str; 5] = [
    "dev.cosignproject.cosign/signature",
    "dev.sigstore.cosign/certificate",
    "dev.sigstore.cosign/chain",
    "dev.sigstore.cosign/bundle",
    "dev.sigstore.cosign/rfc3161timestamp",
];

fuzz_target!(|data: &[u8]| {
    static ROOTS: OnceLock<TrustRoots> = OnceLock::new();
    let roots = ROOTS.get_or_init(|| TrustRoots::embedded().unwrap());
    let root = roots.get(None).unwrap();
    let mut parts = data.split(|byte| *byte == 0);
    let payload = parts.next().unwrap_or_default();
    let annotations: BTreeMap<String, String> = NAMES
        .iter()
        .zip(parts)
        .map(|(name, value)| ((*name).to_owned(), String::from_utf8_lossy(value).into_owned()))
        .collect();
    let signed = SimpleSigning { payload, annotations: &annotations };
    let nobody = format!("sha256:{}", "0".repeat(64));
    let key = PublicKey::from_pem(KEY).unwrap();
    let hardened = HardenedKey::built_in().unwrap();
    for by in [
        Signer::Keyless(root),
        Signer::DockerHardenedImages(root, &hardened),
        Signer::Key(&key, Log::Ignored),
        Signer::Key(&key, Log::WherePresent(root)),
        Signer::Key(&key, Log::Required(root)),
    ] {
        assert!(verify_simple_signing(&signed, &nobody, by, 1_800_000_000).is_err());
    }
});
