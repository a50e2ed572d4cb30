//! Reports that every renderer must draw, the hostile ones among them.

use std::time::Duration;

use serde_json::json;

use super::*;

const DIGEST: &str = "sha256:4b7ce07002c69e8f3d704a9c5d6fd3053be500b7f1c69fc0d80990c2ad8dd412";

/// Reports of a check, by name.
pub(super) fn reports() -> Vec<(&'static str, Report)> {
    vec![
        ("none", report(vec![])),
        ("denied", denied()),
        ("mixed", mixed()),
        ("hostile", hostile()),
        ("explained", explained()),
    ]
}

/// Reports of Rego tests, by name.
pub(super) fn test_reports() -> Vec<(&'static str, TestReport)> {
    let result = |name: &str, line, outcome| TestResult {
        name: format!("data.docker.{name}"),
        file: "policies/policy_test.rego".into(),
        line,
        outcome,
        duration: Duration::from_micros(1250),
    };
    let detail = TestDetail {
        input: Some(json!({"image": {"ref": "alpine\u{1b}[2J"}})),
        decision: Some(json!({"allow": false, "deny_msg": ["no"]})),
        missing_input: vec!["input.image.labels".into(), "input.image.user".into()],
        failed: Some(FailedStatement {
            file: "policies/policy_test.rego".into(),
            line: 10,
            column: 2,
            expression: "docker.allow with input as\u{1b}[2J x".into(),
        }),
    };
    let coverage = Coverage {
        files: vec![
            FileCoverage {
                file: "policies/policy.rego".into(),
                covered: vec![3, 4],
                not_covered: vec![7, 8, 12],
            },
            FileCoverage { file: "policies/empty.rego".into(), ..FileCoverage::default() },
        ],
    };
    let passed = vec![result("test_a", 3, TestOutcome::Passed)];
    let mut all = passed.clone();
    all.push(result("test_b", 9, TestOutcome::Failed { detail }));
    all.push(result("test_b", 12, TestOutcome::Failed { detail: TestDetail::default() }));
    let error = "policy.rego:4:1: unknown function\n  x := f(1)".to_owned();
    all.push(result("test_c", 21, TestOutcome::Errored { error }));
    let report = |results, coverage| TestReport { tool_version: "0.1.0".into(), results, coverage };
    vec![("passed", report(passed, None)), ("failed", report(all, Some(coverage)))]
}

/// One denial at a line, as most are.
pub(super) fn denied() -> Report {
    let mut node = finding("docker-image://docker.io/library/node:22", "FROM", Outcome::Denied);
    node.platform = Some("linux/amd64".into());
    node.location = Some(at(3, 3, "FROM node:22 AS build", Some(Span { start: 5, end: 12 })));
    node.messages = vec![policy("Image node:22 is not pinned: name the digest too.", 70)];
    node.hints = vec![format!("docker.io/library/node:22@{DIGEST} would pass")];
    report(vec![finding("local://context", "build context", Outcome::Allowed), node])
}

/// One of each outcome; without places, with several lines, several messages.
fn mixed() -> Report {
    let pin = format!("docker-image://docker.io/library/alpine:3.20@{DIGEST}");
    let mut pinned = finding(
        "docker-image://docker.io/library/alpine:3.20",
        "FROM",
        Outcome::AllowedWithPin { to: pin },
    );
    pinned.location = Some(at(1, 1, "FROM alpine:3.20", None));
    pinned.warnings = vec![policy("alpine:3.20 is near its end of life", 12)];
    let mut add = finding("http://user:xxxxx@example.com/ä.tgz", "ADD", Outcome::Denied);
    let text = "ADD \\\n\thttp://user:xxxxx@example.com/ä.tgz \\\n\t/größe/";
    add.location = Some(at(4, 6, text, Some(Span { start: 7, end: 43 })));
    add.messages = vec![
        policy("Plain HTTP is not allowed.", 80),
        policy("Host example.com is not approved.", 80),
        Message {
            text: "`approved_host` came nearest to allowing".into(),
            rule: Some(RuleAt {
                file: "p.rego".into(),
                line: 9,
                column: 2,
                snippet: String::new(),
            }),
            origin: Origin::Ours,
        },
    ];
    let silent = finding("git://git.example.com/x.git", "named context lib", Outcome::Denied);
    let error = "registry.example.com: 503 Service Unavailable\ntried 3 times".to_owned();
    let mut unknown = finding(
        "docker-image://registry.example.com/app",
        "COPY --from",
        Outcome::Undecided { error },
    );
    unknown.policy = None;
    unknown.location = Some(at(9, 9, "COPY --from=registry.example.com/app / /", None));
    unknown.hints = vec!["retry when the registry answers".into()];
    report(vec![pinned, add, silent, unknown])
}

/// Control characters, marks of direction and a long line, everywhere a stranger can put them.
fn hostile() -> Report {
    let evil = "x\u{1b}]0;owned\u{7}\u{9b}2J\r\u{202e}gpj.exe]]>&<\"'\u{0}\u{ffff}";
    let mut one = finding(evil, evil, Outcome::Undecided { error: format!("{evil}\n{evil}") });
    one.platform = Some(evil.into());
    one.policy = Some(evil.into());
    one.hints = vec![evil.into()];
    one.fetched = vec![evil.into()];
    one.location =
        Some(Location { file: format!("a b/{evil}"), ..at(2, 2, &format!("\tADD {evil}"), None) });
    let rule = RuleAt { file: evil.into(), line: 1, column: 999, snippet: evil.into() };
    one.messages = vec![Message { text: evil.into(), rule: Some(rule), origin: Origin::Policy }];
    one.warnings = vec![Message { text: evil.into(), rule: None, origin: Origin::Ours }];
    let failed =
        RuleOutcome::Failed { at: Position { line: 2, column: 3 }, expression: evil.into() };
    one.explain = Some(Explain {
        input: json!({ evil: evil }),
        rules: vec![RuleTrace { name: evil.into(), file: evil.into(), line: 1, outcome: failed }],
    });
    let long = format!("RUN --mount=from=a {} && echo 漢字🦀", "very-long ".repeat(60));
    let mut two =
        finding("docker-image://docker.io/library/a:latest", "RUN --mount", Outcome::Denied);
    two.location = Some(at(7, 7, &long, Some(Span { start: 12, end: 18 })));
    two.messages = vec![policy(&"a reason without end ".repeat(20), 3)];
    report(vec![one, two])
}

/// A decision with its input and rules.
pub(super) fn explained() -> Report {
    let mut report = denied();
    let rule = |name: &str, line, outcome| RuleTrace {
        name: name.into(),
        file: "policies/policy.rego".into(),
        line,
        outcome,
    };
    let failed = RuleOutcome::Failed {
        at: Position { line: 41, column: 2 },
        expression: "input.image.isCanonical".into(),
    };
    report.findings[1].fetched = vec!["image config from docker.io".into()];
    report.findings[1].explain = Some(Explain {
        input: json!({"image": {"ref": "docker.io/library/node:22", "host": "docker.io"}}),
        rules: vec![
            rule("approved_registry", 55, RuleOutcome::Held),
            rule("allow", 37, failed),
            rule("firm_reference", 107, RuleOutcome::NotReached),
        ],
    });
    report
}

fn report(findings: Vec<Finding>) -> Report {
    Report { tool_version: "0.1.0".into(), findings, base: None }
}

fn finding(source: &str, via: &str, outcome: Outcome) -> Finding {
    Finding {
        source: source.into(),
        platform: None,
        via: via.into(),
        location: None,
        outcome,
        messages: vec![],
        warnings: vec![],
        policy: Some("registry-gatekeeper".into()),
        hints: vec![],
        fetched: vec![],
        explain: None,
    }
}

fn at(start_line: u32, end_line: u32, text: &str, span: Option<Span>) -> Location {
    Location { file: "app/Dockerfile".into(), start_line, end_line, text: text.into(), span }
}

fn policy(text: &str, line: u32) -> Message {
    let rule = RuleAt {
        file: "policies/policy.rego".into(),
        line,
        column: 1,
        snippet: "deny_msg contains msg if {".into(),
    };
    Message { text: text.into(), rule: Some(rule), origin: Origin::Policy }
}
