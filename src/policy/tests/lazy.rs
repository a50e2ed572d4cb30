//! Laziness changes no answer: random policies over random images, decided round by round and with
//! everything at hand. `PROPTEST_CASES` sets how many.

use proptest::prelude::*;

use super::load;
use crate::check::{Outcome, Question, Step, decide, step};
use crate::input::Env;
use crate::meta::{AttestationChain, ImageMeta, Known};
use crate::resolve::Fixtures;
use crate::source::{Platform, SourceOp};

/// Statements of a body; `#` stands for a number that keeps variables apart.
const STATEMENTS: [&str; 30] = [
    "input.image.user == \"root\"",
    "input.image.user != \"root\"",
    "not input.image.user == \"root\"",
    "not input.image.user",
    "input.image.labels.tier",
    "not input.image.labels.tier == \"prod\"",
    "some k#, v# in input.image.labels; v# == \"prod\"; k# != \"a\"",
    "every e# in input.image.env { contains(e#, \"=\") }",
    "some e# in input.image.env; startswith(e#, \"A\")",
    "count([e# | some e# in input.image.env; e# != \"A=b\"]) > 0",
    "not startswith(lower(input.image.workingDir), \"/s\")",
    "f(input.image)",
    "not f(input.image)",
    "g(input.image.user) == 1",
    "not g(input.image.user) == 1",
    "rule0",
    "not rule0",
    "rule1",
    "not rule1",
    "input.image.hasProvenance == false",
    "not input.image.provenance.materials[0]",
    "object.get(input.image, \"user\", \"none\") != \"root\"",
    "f# := [\"user\", \"tag\"][_]; input.image[f#] == \"root\"",
    "input.image.user == \"z\" with input.image.user as \"z\"",
    "x# := input.image; x#.labels.tier == \"prod\"",
    "\"root\" in set1",
    "obj.u == \"root\"",
    "input.image.tag == \"latest\"",
    "input.image.checksum",
    "json.marshal(input.image.labels) != \"{}\"",
];

const HELPERS: &str = "f(i) if i.user == \"root\"\nf(i) if not i.labels.tier\n\
    g(\"root\") := 1\ng(u) := 2 if u != \"root\" else := 3\n\
    set1 contains input.image.user\nset1 contains \"x\" if not input.image.labels.tier\n\
    obj[k] := v if { some k, v in {\"u\": input.image.user, \"t\": 1} }\n";

fn bodies(below: usize) -> impl Strategy<Value = Vec<usize>> {
    let usable = (0..STATEMENTS.len())
        .filter(|at| {
            let uses = |rule: &str| STATEMENTS[*at].contains(rule);
            (below > 0 || !uses("rule0")) && (below > 1 || !uses("rule1"))
        })
        .collect::<Vec<_>>();
    prop::collection::vec(prop::sample::select(usable), 1..4)
}

fn rule(name: &str, chain: &[Vec<usize>], value: &str) -> String {
    let bodies: Vec<String> = chain
        .iter()
        .enumerate()
        .map(|(at, body)| {
            let lines: Vec<String> = body
                .iter()
                .enumerate()
                .map(|(n, statement)| STATEMENTS[*statement].replace('#', &n.to_string()))
                .collect();
            // The second body gives the other answer.
            let value = if at == 0 { value } else { "false" };
            format!(":= {value} if {{ {} }}", lines.join("\n"))
        })
        .collect();
    format!("{name} {}\n", bodies.join(" else "))
}

fn policies() -> impl Strategy<Value = String> {
    let chain = |below| prop::collection::vec(bodies(below), 1..3);
    (chain(0), chain(1), chain(2), bodies(2), any::<bool>()).prop_map(
        |(zero, one, allow, deny, otherwise)| {
            let mut text = format!("package docker\n{HELPERS}");
            if otherwise {
                text.push_str("default rule0 := false\n");
            }
            text.push_str(&rule("rule0", &zero, "true"));
            text.push_str(&rule("rule1", &one, "true"));
            text.push_str("default allow := false\n");
            text.push_str(&rule("allow", &allow, "true"));
            let deny = rule("no", &[deny], "true");
            text.push_str(&deny);
            text.push_str("deny_msg contains sprintf(\"no %v\", [input.image.user]) if no\n");
            text.push_str("decision := {\"allow\": allow, \"deny_msg\": deny_msg}\n");
            text
        },
    )
}

fn images() -> impl Strategy<Value = ImageMeta> {
    let user = prop::sample::select(vec!["", "root", "0"]);
    let labels = prop::sample::select(vec!["{}", "{\"tier\":\"prod\"}", "{\"a\":\"prod\"}"]);
    let env = prop::sample::select(vec!["[]", "[\"A=b\"]", "[\"A=b\",\"B\"]"]);
    let dir = prop::sample::select(vec!["/", "/srv"]);
    (user, labels, env, dir).prop_map(|(user, labels, env, dir)| ImageMeta {
        digest: Some(format!("sha256:{}", "ab".repeat(32))),
        config: Some(
            format!(
                "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{{\"User\":\"{user}\",\
                 \"Labels\":{labels},\"Env\":{env},\"WorkingDir\":\"{dir}\"}}}}"
            )
            .into(),
        ),
        attestations: Some(AttestationChain::default()),
    })
}

fn words(outcome: Result<Outcome, String>) -> String {
    format!(
        "{:?}",
        outcome.map(|outcome| match outcome {
            Outcome::Allowed(_) => "allow".to_owned(),
            Outcome::Denied(denied) => format!("deny {:?}", denied.messages),
            Outcome::Converted(op) => op.identifier,
        })
    )
}

proptest! {
    #[test]
    fn laziness_changes_no_answer(text in policies(), image in images()) {
        let policy = load(&[("p.rego", &text)]).map_err(|error| {
            TestCaseError::fail(format!("{error}\n{text}"))
        })?;
        let policies = [policy];
        let question = Question {
            op: SourceOp {
                identifier: "docker-image://docker.io/library/alpine:latest".into(),
                attrs: Default::default(),
            },
            platform: Platform::default(),
            env: Env::default(),
        };
        let mut known = Known::default();
        known.root.image = Some(image.clone());
        let full = step(&policies, &question, &known).map_err(|error| error.to_string());
        let full = match full.map(|stepped| stepped.step) {
            Ok(Step::Decided(outcome)) => words(Ok(*outcome)),
            Ok(Step::Needs(needs)) => return Err(TestCaseError::fail(format!("needs {needs:?}"))),
            Err(error) => words(Err(error)),
        };
        let mut fixtures = Fixtures::default();
        fixtures.image = Some(image);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let lazy = runtime.block_on(decide(&policies, &question, &fixtures));
        let lazy = words(lazy.map(|checked| checked.outcome).map_err(|error| error.to_string()));
        prop_assert_eq!(lazy, full, "{}", text);
    }
}
