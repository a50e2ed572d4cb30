#![no_main]
//! What stands in a bundle behind base64: trust root, bundle, certificate (X.509, with its list of SCTs), body
//! of a log's entry and signed payload (DSSE); parted by lines of `--8<--`, and put into the bundle where
//! `@certificate`, `@body` and `@payload` stand. What holds, holds for one artifact alone.

use std::sync::Mutex;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use buildgate::verify::sigstore::{Artifact, Signer, TrustRoot, verify_bundle};
use libfuzzer_sys::fuzz_target;

mod parts;

const NOW: i64 = 1_800_000_000;
/// What the seeds' bundles are about.
const ARTIFACT: &[u8] = b"a tarball";

fuzz_target!(|data: &[u8]| {
    // Reading a trust root is dear, and seldom what was changed.
    static ROOT: Mutex<Option<(Vec<u8>, TrustRoot)>> = Mutex::new(None);
    let [root, bundle, certificate, body, payload] = parts::of(data);
    let mut known = ROOT.lock().unwrap();
    if known.as_ref().is_none_or(|(json, _)| json != root) {
        *known = TrustRoot::parse("fuzzed", root).ok().map(|read| (root.to_vec(), read));
    }
    let Some((_, root)) = known.as_ref() else { return };
    let mut bundle = String::from_utf8_lossy(bundle).into_owned();
    for (name, part) in [("@certificate", certificate), ("@body", body), ("@payload", payload)] {
        bundle = bundle.replacen(name, &STANDARD.encode(part), 1);
    }
    let by = Signer::Keyless(root);
    if verify_bundle(bundle.as_bytes(), Artifact::Bytes(ARTIFACT), by, NOW).is_ok() {
        let other = Artifact::Bytes(b"another tarball");
        assert!(verify_bundle(bundle.as_bytes(), other, by, NOW).is_err());
    }
});
