#![no_main]
//! Public keys: whatever the bytes, a key or an error; and no key made a signature that is none.

use buildgate::verify::sigstore::{Artifact, Log, PublicKey, Signer, verify_bundle};
use libfuzzer_sys::fuzz_target;

/// A bundle whose signature is eight zero bytes.
const BUNDLE: &[u8] = br#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json","verificationMaterial":{"publicKey":{"hint":""},"tlogEntries":[]},"messageSignature":{"signature":"AAAAAAAAAAA="}}"#;

fuzz_target!(|data: &[u8]| {
    if let Ok(key) = PublicKey::from_pem(data) {
        let by = Signer::Key(&key, Log::Ignored);
        assert!(verify_bundle(BUNDLE, Artifact::Bytes(b"x"), by, 1_800_000_000).is_err());
    }
});
