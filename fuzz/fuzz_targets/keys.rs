#![no_main]
//! Key files and signatures: whatever the bytes, an answer and no fault.

use buildgate::verify::{DetachedSignature, KeyFile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let signature = DetachedSignature::parse(data);
    if let (Ok(KeyFile::OpenPgp(keys)), Ok(signature)) = (KeyFile::parse(data), &signature) {
        let _ = signature.verify(b"payload", &keys, 1_900_000_000);
    }
    if let Ok(signature) = signature {
        let _ = signature.checksum_request();
    }
});
