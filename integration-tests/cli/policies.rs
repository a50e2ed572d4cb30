//! The policies that we ship: their tests pass, and the demo is what it says.

use super::{repository, run_in};

#[test]
fn their_tests_pass() {
    for policy in ["registry-gatekeeper", "production-lockdown"] {
        let ran = run_in(&repository(), &format!("test policies/{policy} --coverage"), "");
        assert_eq!(ran.code, Some(0), "{policy}: {}{}", ran.stdout, ran.stderr);
        assert!(ran.stdout.contains("PASS"), "{}", ran.stdout);
    }
}

#[test]
fn the_demo() {
    let output = std::process::Command::new("sh")
        .arg("policies/demo/run.sh")
        .env("BUILDGATE", env!("CARGO_BIN_EXE_buildgate"))
        .current_dir(repository())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}
