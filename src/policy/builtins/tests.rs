//! OPA's own answers, as data: `testdata/*.jsonl` holds an expression and its value a line.
//!
//! They are evaluated the way policies are, by regorus with our functions registered.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::LazyLock;

use regorus::{Engine, Value};

use super::{Origin, all, json, keeps_its_text, lookup, to_json};

fn engine() -> Engine {
    let mut engine = Engine::new();
    engine.set_strict_builtin_errors(false);
    for builtin in all() {
        if let Origin::Ours(function) = builtin.origin {
            let extension = move |args: Vec<Value>| function(&args).map_err(anyhow::Error::from);
            let name = builtin.name.to_owned();
            engine.add_extension(name, builtin.max_args, Box::new(extension)).unwrap();
        }
    }
    engine
}

/// What an expression gives: JSON, `undefined`, or `error: …`.
fn evaluate(expression: &str) -> String {
    static ENGINE: LazyLock<Engine> = LazyLock::new(engine);
    let mut engine = ENGINE.clone();
    let policy = format!("package t\n\nx := r if {{ r := {expression}\n}}\n");
    if let Err(error) = engine.add_policy("t.rego".to_owned(), policy) {
        return format!("error: {error}");
    }
    match engine.eval_rule("data.t.x".to_owned()) {
        Ok(Value::Undefined) => "undefined".to_owned(),
        Ok(value) => to_json(&value).unwrap_or_else(|error| format!("error: {error}")),
        Err(error) => format!("error: {error}"),
    }
}

fn same(got: &str, want: &str) -> bool {
    let read = |text| json::parse("test", text).ok();
    got == want || read(got).is_some_and(|got| read(want).is_some_and(|want| got == want))
}

/// Checks every line of a file; an answer of OPA's that we refuse to give is marked `refused`.
fn check(file: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/policy/builtins/testdata");
    let text = std::fs::read_to_string(path.join(file)).unwrap();
    let mut wrong = String::new();
    for line in text.lines() {
        let case: serde_json::Value = serde_json::from_str(line).unwrap();
        let expression = case["expr"].as_str().unwrap();
        let want = case["want"].as_str().unwrap();
        let got = evaluate(expression);
        let refused = case["refused"].as_bool() == Some(true);
        let good = if refused { got.starts_with("error: ") } else { same(&got, want) };
        if !good {
            writeln!(wrong, "{expression}\n  want {want}\n  got  {got}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "{file}:\n{wrong}");
}

macro_rules! tables {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            check(concat!(stringify!($name), ".jsonl"));
        })*
    };
}

tables!(strings sprintf numbers operators collections objects json encoding regex glob time units);

#[test]
fn names_are_unique_and_found() {
    for builtin in all() {
        let found = lookup(builtin.name).unwrap();
        assert!(std::ptr::eq(found, builtin), "{} is there twice", builtin.name);
    }
    assert!(lookup("http.send").is_none());
}

#[test]
fn hostile_arguments_end_in_a_limit() {
    for expression in [
        r#"sprintf("%1000000000d", [1])"#,
        r#"sprintf("%*d %[1]*d %[1]*d", [999999, 1])"#,
        "numbers.range(1, 2000000000)",
        "numbers.range_step(1, 1e20, 3)",
        "bits.lsh(1, 1000000000)",
        "bits.lsh(1, 1e30)",
        r#"units.parse_bytes("1e999999GB")"#,
        r#"units.parse("1e999999")"#,
        r#"json.unmarshal("1e99999")"#,
        r#"json.unmarshal(concat("", [c | numbers.range(1, 5000)[_]; c := "["]))"#,
    ] {
        let got = evaluate(expression);
        let known = got == "undefined" || got.starts_with("error: ") || got.len() < 1 << 21;
        assert!(known, "{expression} gave {} bytes", got.len());
    }
}

#[test]
fn versions_that_differ_in_leading_zeros_are_equal() {
    assert_eq!(evaluate(r#"semver.compare("1.0.0-01", "1.0.0-1")"#), "0");
}

#[test]
fn literals_that_would_be_printed_otherwise_are_known() {
    for (literal, keeps) in [
        ("1", true),
        ("1.5", true),
        ("1.0", true),
        ("1e3", false),
        ("1.50", false),
        ("1e-7", false),
    ] {
        assert_eq!(keeps_its_text(literal), keeps, "{literal}");
    }
}
