//! Bytes off the wire: questions, LLB and raw messages decode or are refused.
#![no_main]

use buildgate::wire::{llb, policy, raw};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = policy::Question::decode(data);
    let _ = llb::Loads::decode(data);
    let _ = raw::RawMessage::parse(Bytes::copy_from_slice(data));
});
