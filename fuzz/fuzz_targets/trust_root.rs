#![no_main]
//! Trust roots: whatever the bytes, a root or an error.

use buildgate::verify::sigstore::TrustRoot;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Ok(root) = TrustRoot::parse("fuzzed", data) {
        let _ = root.usable(1_800_000_000);
        let _ = root.names();
    }
});
