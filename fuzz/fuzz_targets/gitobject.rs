//! Raw git objects: what parses keeps its bytes but for its signatures.
#![no_main]

use buildgate::input::gitobject::{GitObject, Kind};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for kind in [Kind::Commit, Kind::Tag] {
        if let Ok(object) = GitObject::parse(kind, Bytes::copy_from_slice(data)) {
            assert!(object.signed_payload().len() <= data.len());
        }
    }
});
