#![no_main]
//! Key files and signatures: whatever the bytes, an answer and no fault.

use buildgate::verify::{DetachedSignature, KeyFile};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let signature = DetachedSignature::parse(data);
    if let (Ok(KeyFile::OpenPgp(keys)), Ok(signature)) = (KeyFile::parse(data), &signature) {
        assert!(signature.verify(b"", &keys, 0).is_err() || !data.is_empty());
    }
    if let Ok(signature) = signature {
        let _ = signature.checksum_request();
    }
});
