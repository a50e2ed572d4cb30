//! The committed conformance cases, by the runner that `make conformance` uses.

use std::path::Path;

#[path = "conformance.rs"]
#[allow(dead_code, reason = "its own `main` is for the command line")]
mod runner;

#[test]
fn every_committed_case_comes_out_as_expected() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("integration-tests/conformance");
    let (passed, failed) = runner::run(&folder).unwrap();
    assert_eq!(failed, 0, "see the lines above");
    assert!(passed > 600, "only {passed} cases were found");
}
