//! `eval`, `test`, `schema`, `completions`, and the help of each.

use super::Folder;

const POLICY: &str = "\
package docker

default allow := false

allow if input.image.isCanonical

allow if {
	input.http.schema == \"https\"
	input.http.host == \"example.com\"
}

decision := {\"allow\": allow}
";

const TESTS: &str = "\
package docker_test

import data.docker

test_pinned_passes if docker.allow with input as {\"image\": {\"isCanonical\": true}}

test_http_passes if docker.allow with input as {\"http\": {\"schema\": \"http\"}}
";

#[test]
fn help_teaches() {
    let folder = Folder::with(&[]);
    for command in [
        "",
        "check",
        "eval",
        "test",
        "trust",
        "trust show",
        "trust update",
        "frontend",
        "serve",
        "schema",
        "completions",
    ] {
        let ran = folder.run(&format!("{command} --help"));
        assert_eq!(ran.code, Some(0));
        insta::assert_snapshot!(format!("help_{}", command.replace(' ', "_")), ran.stdout);
    }
}

#[test]
fn completions_of_shells() {
    let folder = Folder::with(&[]);
    for shell in ["bash", "zsh", "fish"] {
        let ran = folder.run(&format!("completions {shell}"));
        assert_eq!(ran.code, Some(0));
        assert!(ran.stdout.contains("registry-mirror"), "{shell}");
    }
    assert_eq!(folder.run("completions nosuch").code, Some(2));
}

#[test]
fn the_schema_is_one() {
    let ran = Folder::with(&[]).run("schema");
    assert_eq!(ran.code, Some(0));
    let schema = ran.json();
    jsonschema::validator_for(&schema).unwrap();
    assert!(schema["properties"]["image"].is_object());
}

#[test]
fn one_source() {
    let folder = Folder::with(&[("p.rego", POLICY)]);
    for (name, args) in [
        ("eval_print", "eval alpine:3.20 --platform linux/arm64/v8"),
        ("eval_git", "eval https://github.com/moby/buildkit.git#v0.20.0:docs --print"),
        ("eval_denied", "eval http://example.com/x --policy p.rego"),
        ("eval_allowed", "eval https://example.com/x --policy p.rego"),
        ("eval_json", "eval https://example.com/x --policy p.rego --print --format json"),
        ("eval_field_unknown", "eval alpine --fields image.label"),
        ("eval_field_of_another", "eval alpine --fields git.commit"),
        ("eval_fields_offline", "eval alpine --fields image.labels --offline"),
        ("eval_no_source", "eval ftp://example.com/x"),
    ] {
        insta::assert_snapshot!(name, folder.run(args).shown());
    }
}

#[test]
fn rego_tests() {
    let folder =
        Folder::with(&[("policy/policy.rego", POLICY), ("policy/policy_test.rego", TESTS)]);
    for (name, args, code) in [
        ("test_failed", "test policy", 1),
        ("test_run", "test policy/policy_test.rego --run pinned --coverage", 0),
        ("test_none", "test policy --run nothing", 2),
        ("test_nowhere", "test nowhere", 2),
    ] {
        let ran = folder.run(args);
        assert_eq!(ran.code, Some(code), "{args}: {}{}", ran.stdout, ran.stderr);
        insta::assert_snapshot!(name, ran.shown());
    }
    let json = folder.run("test policy --format json").json();
    assert_eq!(json["results"].as_array().unwrap().len(), 2);
    let junit = folder.run("test policy --format junit").stdout;
    quick_junit::Report::deserialize_from_str(&junit).unwrap();
    assert_eq!(folder.run("test policy --format sarif").json()["version"], "2.1.0");
}
