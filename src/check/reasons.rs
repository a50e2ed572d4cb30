//! Why a decision is what it is, in words for people.
//!
//! A policy's own messages stay as they are, but for secrets; what is said here stands beside them:
//! which rule refused, what would have passed, which rules held.

use serde_json::Value;

use super::{Checked, Denied, Outcome};
use crate::input::Input;
use crate::policy::{Explanation, NearMiss, Policy, Position, Verdict};
use crate::source::{is_secret_name, mask_text};

/// Longest value that a message shows, in characters.
const MAX_VALUE: usize = 120;
/// Most rules that are named.
const MAX_RULES: usize = 8;

/// The messages of a denial: the policy's own, and one of ours that says which rule refused and what
/// would have passed. None where it is no denial.
pub fn refusal(policies: &[Policy], checked: &Checked) -> Vec<String> {
    let Outcome::Denied(Denied { policy, messages }) = &checked.outcome else { return Vec::new() };
    let mut said: Vec<String> = messages.clone();
    if let Some(policy) = policies.iter().find(|it| it.name() == policy) {
        said.push(match policy.explain(&checked.input) {
            Ok(explanation) => because(policy, &explanation, messages, &checked.input),
            Err(error) => {
                format!("denied by {}; why cannot be told: {error}", policy.name())
            }
        });
    }
    said.extend(checked.notes.iter().cloned());
    hidden(said, &checked.input)
}

/// What policies say aloud of a source that they allow, without secrets.
pub fn warnings(checked: &Checked) -> Vec<String> {
    hidden(checked.warnings.clone(), &checked.input)
}

/// The rules that held, each with its place, policy by policy.
pub fn held(policies: &[Policy], input: &Input) -> Vec<String> {
    let mut rules = Vec::new();
    for policy in policies {
        // Where it cannot be told, nothing is; the decision stands all the same.
        let Ok(explanation) = policy.explain(input) else { continue };
        let held = explanation.rules.iter().filter(|rule| {
            rule.verdict == Verdict::Held
                && rule.statements.iter().any(|it| it.attempt == crate::policy::Attempt::Held)
        });
        rules.extend(held.map(|rule| format!("{} ({})", rule.name, place(&rule.position))));
    }
    if rules.len() > MAX_RULES {
        let more = rules.len() - MAX_RULES;
        rules.truncate(MAX_RULES);
        rules.push(format!("and {more} more"));
    }
    rules
}

fn because(
    policy: &Policy,
    explanation: &Explanation,
    messages: &[String],
    input: &Input,
) -> String {
    let name = policy.name();
    let mut refusing: Vec<String> = explanation
        .messages
        .iter()
        .filter(|(text, _)| messages.contains(text))
        .map(|(_, position)| place(position))
        .collect();
    refusing.dedup();
    let mut text = match refusing.as_slice() {
        [] => format!("no rule of {name} allows it"),
        places => format!("denied by {name} at {}", places.join(", ")),
    };
    if let Some(NearMiss { rule, position, failed }) = &explanation.nearest {
        text.push_str(&format!(
            "; `{rule}` at {} came nearest to allowing it, if `{}` held",
            place(position),
            one_line(&failed.text)
        ));
        for path in input_paths(&failed.text) {
            text.push_str("; ");
            text.push_str(&value_of(input, &path));
        }
    }
    text
}

fn place(position: &Position) -> String {
    format!("{}:{}", position.file, position.line)
}

fn hidden(texts: Vec<String>, input: &Input) -> Vec<String> {
    let secrets = secrets(input);
    let hide = |text: String| {
        let text = mask_text(&text);
        secrets.iter().fold(text, |text, secret| text.replace(secret.as_str(), "***"))
    };
    texts.into_iter().map(hide).collect()
}

/// Values that no message shows: of build arguments and query parameters that are named like
/// secrets.
pub fn secrets(input: &Input) -> Vec<String> {
    let args = input.env.args.iter().filter_map(|(name, value)| Some((name, value.as_ref()?)));
    let query = input.http.iter().flat_map(|http| &http.query);
    let query = query.flat_map(|(name, values)| values.iter().map(move |value| (name, value)));
    args.chain(query)
        .filter(|(name, value)| is_secret_name(name) && value.len() > 3)
        .map(|(_, value)| value.clone())
        .collect()
}

/// The document as it may be shown: build arguments and secrets of URLs are hidden.
pub fn shown(input: &Input) -> Value {
    let mut value = serde_json::to_value(input).unwrap_or(Value::Null);
    if let Some(Value::Object(args)) = value.pointer_mut("/env/args") {
        for value in args.values_mut().filter(|value| value.is_string()) {
            *value = Value::from("***");
        }
    }
    hide(&mut value);
    value
}

fn hide(value: &mut Value) {
    match value {
        Value::String(text) if text.contains("://") => *text = mask_text(text),
        Value::Array(values) => values.iter_mut().for_each(hide),
        Value::Object(fields) => {
            if let Some(Value::Object(query)) = fields.get_mut("query") {
                let secret = query.iter_mut().filter(|(name, _)| is_secret_name(name));
                secret.for_each(|(_, value)| *value = Value::from("***"));
            }
            fields.values_mut().for_each(hide);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The paths below `input` that an expression reads by name.
pub fn input_paths(expression: &str) -> Vec<Vec<String>> {
    let mut paths: Vec<Vec<String>> = Vec::new();
    let word = |char: char| char.is_ascii_alphanumeric() || char == '_';
    for (start, _) in expression.match_indices("input.") {
        let before = expression[..start].chars().next_back();
        if before.is_some_and(|char| word(char) || char == '.' || char == '"') {
            continue;
        }
        let rest = &expression[start + "input.".len()..];
        let end = rest.find(|char| !word(char) && char != '.').unwrap_or(rest.len());
        let path: Vec<String> =
            rest[..end].split('.').filter(|it| !it.is_empty()).map(str::to_owned).collect();
        if !path.is_empty() && !paths.contains(&path) {
            paths.push(path);
        }
    }
    paths
}

/// What an expression reads, and what stands there.
pub fn value_of(input: &Input, path: &[String]) -> String {
    let name = format!("input.{}", path.join("."));
    let document = shown(input);
    match document.pointer(&format!("/{}", path.join("/"))) {
        None => format!("{name} is not there"),
        Some(value) => {
            let text = value.to_string();
            let cut: String = text.chars().take(MAX_VALUE).collect();
            let more = if cut.len() < text.len() { "…" } else { "" };
            format!("{name} is {cut}{more}")
        }
    }
}

/// A text of several lines as one.
pub fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
