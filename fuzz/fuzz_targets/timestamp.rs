#![no_main]
//! Timestamps (RFC 3161): a public key, a trust root, a bundle signed by the key, and the token whose place
//! `@token` holds in it; parted by lines of `--8<--`. A token that holds vouches for no time to come.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildgate::verify::CLOCK_SKEW;
use buildgate::verify::sigstore::{Artifact, Log, PublicKey, Signer, TrustRoot, verify_bundle};
use libfuzzer_sys::fuzz_target;

mod parts;

const NOW: i64 = 1_800_000_000;
/// What the seeds' bundles are about.
const ARTIFACT: &[u8] = b"a tarball";

fuzz_target!(|data: &[u8]| {
    // Reading a trust root is dear, and seldom what was changed.
    static ROOT: Mutex<Option<(Vec<u8>, TrustRoot)>> = Mutex::new(None);
    let [key, root, bundle, token] = parts::of(data);
    let Ok(key) = PublicKey::from_pem(key) else { return };
    let mut known = ROOT.lock().unwrap();
    if known.as_ref().is_none_or(|(json, _)| json != root) {
        *known = TrustRoot::parse("fuzzed", root).ok().map(|read| (root.to_vec(), read));
    }
    let Some((_, root)) = known.as_ref() else { return };
    let bundle = String::from_utf8_lossy(bundle).replace("@token", &STANDARD.encode(token));
    let by = Signer::Key(&key, Log::WherePresent(root));
    if let Ok(verified) = verify_bundle(bundle.as_bytes(), Artifact::Bytes(ARTIFACT), by, NOW) {
        for it in verified.timestamps() {
            let at: jiff::Timestamp = it.timestamp.parse().unwrap();
            assert!(at.as_second() <= NOW + CLOCK_SKEW);
        }
    }
});
