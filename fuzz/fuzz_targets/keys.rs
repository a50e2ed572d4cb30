#![no_main]
//! OpenPGP and SSH key files and signatures of files: whatever the bytes, an answer and no fault; and a
//! signature that holds, holds for one content alone. Key file, signature and content are parted by
//! lines of `--8<--`.

use buildgate::meta::{ChecksumAlgorithm, ChecksumResponse};
use buildgate::verify::{DetachedSignature, KeyFile};
use libfuzzer_sys::fuzz_target;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

mod parts;

/// 2030-01-01.
const NOW: i64 = 1_893_456_000;

fuzz_target!(|data: &[u8]| {
    let [keys, signature, content] = parts::of(data);
    let (Ok(keys), signature) = (KeyFile::parse(keys), DetachedSignature::parse(signature)) else {
        return;
    };
    let (KeyFile::OpenPgp(keys), Ok(signature)) = (keys, signature) else { return };
    let holds = signature.verify(content, &keys, NOW).is_ok();
    if holds {
        let other = [content, b"x"].concat();
        assert!(signature.verify(&other, &keys, NOW).is_err());
    }
    let Ok(request) = signature.checksum_request() else { return };
    let file = [content, &request.suffix].concat();
    let digest = match request.algorithm {
        ChecksumAlgorithm::Sha256 => format!("sha256:{}", hex::encode(Sha256::digest(file))),
        ChecksumAlgorithm::Sha384 => format!("sha384:{}", hex::encode(Sha384::digest(file))),
        ChecksumAlgorithm::Sha512 => format!("sha512:{}", hex::encode(Sha512::digest(file))),
    };
    let response = ChecksumResponse { digest, suffix: request.suffix };
    assert_eq!(signature.verify_digest(&response, &keys, NOW).is_ok(), holds);
});
