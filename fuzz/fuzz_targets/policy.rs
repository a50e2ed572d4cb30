//! Any Rego text: loading ends in a policy or in an error with a place, and judging ends.
#![no_main]

use std::time::Duration;

use buildgate::input::{Input, Local};
use buildgate::policy::{Limits, Policy, PolicyError, PolicyFiles};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let files = [("p.rego".to_owned(), format!("package docker\n{text}").into_bytes().into())];
    match Policy::load("fuzz", PolicyFiles::memory(files.into()), &["p.rego".to_owned()]) {
        Ok(policy) => {
            let limits = Limits { time: Duration::from_millis(200), ..Limits::default() };
            let local = Some(Local { name: "context".to_owned() });
            let _ = policy.with_limits(limits).judge(&Input { local, ..Input::default() });
        }
        // A fault in the parser is an error for the person, and a finding here.
        Err(PolicyError::Internal { message, .. }) => panic!("{message}"),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
