//! Any Dockerfile: planning ends, and every line it speaks of is a line of the file.
#![no_main]

use buildgate::dockerfile::{Options, plan};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let lines = text.lines().count().max(1);
    if let Ok(plan) = plan(text, &Options::default()) {
        for source in plan.sources {
            if let Some(range) = source.lines {
                assert!(range.start >= 1 && range.start <= range.end);
                assert!(usize::try_from(range.end).unwrap_or(usize::MAX) <= lines);
            }
        }
    }
});
