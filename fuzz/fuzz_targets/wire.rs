//! Bytes off the wire: questions, LLB and raw messages decode or are refused.
#![no_main]

use buildgate::wire::{llb, nested, policy, raw, request};
use bytes::Bytes;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let _ = policy::Question::decode(data);
    let _ = llb::Loads::decode(data);
    let message = Bytes::copy_from_slice(data);
    let whole = raw::RawMessage::parse(message.clone()).is_ok();
    // What is looked into is whole, and says no more than it is long.
    for looked in [
        request::control(&message).map(|it| it.definitions),
        request::gateway(&message).map(|it| it.definitions),
        request::metadata(&message).map(|it| it.definitions),
    ]
    .into_iter()
    .flatten()
    {
        assert!(whole);
        assert!(looked.iter().map(Bytes::len).sum::<usize>() <= data.len());
    }
    let _ = nested::nested(data);
});
