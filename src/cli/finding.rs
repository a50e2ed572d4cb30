//! From a decision to what is reported of it: its messages and the rules they come from, and where a
//! policy says nothing, the rule that came nearest to allowing.

use serde_json::Value;

use super::output::chain;
use super::policies::{Named, Policies};
use crate::check::reasons::{input_paths, one_line, secrets, shown, value_of};
use crate::check::{CheckError, Checked, Outcome, Pin};
use crate::input::{Env, Input};
use crate::meta::{MetaRequest, ResolveError};
use crate::policy::{Attempt, EvalError, Explanation, NearMiss, Verdict};
use crate::report::{self, Explain, Finding, Message, Origin, Position, RuleOutcome, RuleTrace};
use crate::source::{ImageSource, SourceOp, mask_text};

/// Whether the report tells how a decision came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Detail {
    /// Only the decision.
    Decision,
    /// The input, what was fetched, and every rule.
    Explained,
}

/// A finding of which only the source is known.
pub(super) fn unjudged(op: &SourceOp, via: String) -> Finding {
    Finding {
        source: op.masked(),
        platform: None,
        via,
        location: None,
        outcome: report::Outcome::Undecided { error: String::new() },
        messages: Vec::new(),
        warnings: Vec::new(),
        policy: None,
        hints: Vec::new(),
        fetched: Vec::new(),
        explain: None,
    }
}

/// Fills in what came of judging.
pub(super) fn fill(
    finding: &mut Finding,
    judged: &Result<Checked, CheckError>,
    policies: &Policies,
    detail: Detail,
) {
    match judged {
        Ok(checked) => {
            decided(finding, checked, policies, detail);
            scrub(finding, &secrets(&checked.input));
        }
        Err(error) => {
            undecided(finding, error, policies, detail);
            if let CheckError::Policy { input, .. } = error {
                scrub(finding, &secrets(input));
            }
        }
    }
}

/// Hides build arguments that are secrets wherever they were expanded into.
pub(super) fn hide_arguments(finding: &mut Finding, env: &Env) {
    let input = Input { env: env.clone(), ..Input::default() };
    scrub(finding, &secrets(&input));
}

/// Hides secrets of the build wherever they were expanded into.
fn scrub(finding: &mut Finding, secrets: &[String]) {
    for secret in secrets {
        let hide = |text: &mut String| *text = text.replace(secret.as_str(), "***");
        hide(&mut finding.source);
        finding.hints.iter_mut().chain(&mut finding.fetched).for_each(hide);
        let messages = finding.messages.iter_mut().chain(&mut finding.warnings);
        messages.for_each(|message| hide(&mut message.text));
        match &mut finding.outcome {
            report::Outcome::AllowedWithPin { to: text }
            | report::Outcome::Undecided { error: text } => hide(text),
            report::Outcome::Allowed | report::Outcome::Denied => {}
        }
        if let Some(explain) = &mut finding.explain {
            replace(&mut explain.input, secret);
        }
    }
}

fn replace(value: &mut Value, secret: &str) {
    match value {
        Value::String(text) => *text = text.replace(secret, "***"),
        Value::Array(values) => values.iter_mut().for_each(|value| replace(value, secret)),
        Value::Object(fields) => fields.values_mut().for_each(|value| replace(value, secret)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn decided(finding: &mut Finding, checked: &Checked, policies: &Policies, detail: Detail) {
    finding.fetched = checked.fetched.rounds().iter().flatten().map(fetched).collect();
    finding.warnings = checked.warnings.iter().map(|text| own(checked, text)).collect();
    match &checked.outcome {
        Outcome::Allowed(allowed) => {
            finding.outcome = match (&checked.converted_from, &allowed.pin) {
                (Some(_), _) => report::Outcome::AllowedWithPin { to: checked.op.masked() },
                (None, Some(pin)) => report::Outcome::AllowedWithPin { to: pinned(checked, pin) },
                (None, None) => report::Outcome::Allowed,
            };
            finding.policy = match policies.all() {
                [only] => Some(only.name().to_owned()),
                _ => None,
            };
        }
        // `check` goes on until there is no conversion left; one that is left is no permission.
        Outcome::Converted(op) => {
            let error = format!("the policies allow {op} in its place, and that was not judged");
            finding.outcome = report::Outcome::Undecided { error };
        }
        Outcome::Denied(denied) => {
            finding.outcome = report::Outcome::Denied;
            finding.policy = Some(denied.policy.clone());
            finding.messages = denied.messages.iter().map(|text| own(checked, text)).collect();
            if let Some(named) = policies.named(&denied.policy) {
                because(finding, checked, named);
            }
            // Why a signature does not hold is known to the verifier, not to the rules.
            finding.messages.extend(checked.notes.iter().map(|note| Message {
                text: mask_text(note),
                rule: None,
                origin: Origin::Ours,
            }));
        }
    }
    let words: Vec<&mut Message> =
        finding.messages.iter_mut().chain(finding.warnings.iter_mut()).collect();
    if detail == Detail::Explained {
        finding.explain = Some(explained(&checked.input, policies));
    }
    // Warnings have a rule too, whichever policy it stands in.
    for message in words {
        if message.rule.is_none() && message.origin == Origin::Policy {
            message.rule = policies.rule_of(&checked.input, &message.text);
        }
    }
}

/// A policy's own words. They are verbatim but for secrets of the source itself.
fn own(checked: &Checked, text: &str) -> Message {
    let mut text = mask_text(text);
    for secret in secrets(&checked.input) {
        text = text.replace(&secret, "***");
    }
    Message { text, rule: None, origin: Origin::Policy }
}

/// Says which rules refuse, or which one came nearest to allowing.
fn because(finding: &mut Finding, checked: &Checked, named: Named<'_>) {
    let explanation = match named.policy.explain(&checked.input) {
        Ok(explanation) => explanation,
        Err(error) => {
            let text = format!("why it is denied cannot be told: {error}");
            finding.messages.push(Message { text, rule: None, origin: Origin::Ours });
            return;
        }
    };
    if !finding.messages.is_empty() {
        for message in &mut finding.messages {
            let at = explanation.messages.iter().find(|(text, _)| says(text, &message.text));
            message.rule = at.map(|(_, position)| named.rule(position));
        }
        return;
    }
    finding.messages.push(near_miss(&explanation, &checked.input, named));
}

fn near_miss(explanation: &Explanation, input: &Input, named: Named<'_>) -> Message {
    let name = named.policy.name();
    let Some(NearMiss { rule, position, failed }) = &explanation.nearest else {
        let text = format!("no rule of {name} allows it, and it gives no message");
        return Message { text, rule: None, origin: Origin::Ours };
    };
    let mut text = format!(
        "no rule of {name} allows it; `{rule}` at {}:{} came nearest: `{}` ({}:{}) did not hold",
        named.file(&position.file),
        position.line,
        one_line(&failed.text),
        named.file(&failed.position.file),
        failed.position.line,
    );
    for path in input_paths(&failed.text) {
        text.push('\n');
        text.push_str(&value_of(input, &path));
    }
    Message { text, rule: Some(named.rule(&failed.position)), origin: Origin::Ours }
}

fn undecided(finding: &mut Finding, error: &CheckError, policies: &Policies, detail: Detail) {
    let mut text = chain(error);
    if let CheckError::Policy { policy, source, input } = error {
        finding.policy = Some(policy.clone());
        if !text.contains(policy) {
            text = format!("policy {policy}: {text}");
        }
        if let (Some(named), Some(position)) = (policies.named(policy), place(source)) {
            let rule = Some(named.rule(position));
            let text = "the policy came to no decision there".to_owned();
            finding.messages.push(Message { text, rule, origin: Origin::Ours });
        }
        if detail == Detail::Explained {
            finding.explain = Some(explained(input, policies));
        }
    }
    if let CheckError::Resolve(ResolveError::Offline { .. }) = error {
        finding.hints.push("run it without --offline to decide".to_owned());
    }
    finding.outcome = report::Outcome::Undecided { error: mask_text(&text) };
}

fn place(error: &EvalError) -> Option<&crate::policy::Position> {
    match error {
        EvalError::Conflict { position, .. } | EvalError::Builtin { position, .. } => {
            Some(position)
        }
        EvalError::Timeout { .. }
        | EvalError::Memory { .. }
        | EvalError::Depth { .. }
        | EvalError::Nesting { .. }
        | EvalError::CouldNotVerify { .. }
        | EvalError::Undefined { .. }
        | EvalError::Decision { .. }
        | EvalError::Internal { .. } => None,
    }
}

/// The identifier with what was judged of it.
fn pinned(checked: &Checked, pin: &Pin) -> String {
    let whole = checked.op.masked();
    match pin {
        Pin::Image(digest) => image_with(&checked.op, digest.as_str()).unwrap_or(whole),
        Pin::Git(commit) => format!("{whole} at {commit}"),
        Pin::Http(checksum) => format!("{whole} with {checksum}"),
    }
}

/// An image's identifier with a digest.
pub(super) fn image_with(op: &SourceOp, digest: &str) -> Option<String> {
    let reference = op.identifier.strip_prefix("docker-image://")?;
    let image = ImageSource::parse(reference).ok()?;
    Some(image.with_digest(&digest.parse().ok()?).identifier())
}

fn explained(input: &Input, policies: &Policies) -> Explain {
    let mut rules = Vec::new();
    for policy in policies.all() {
        let Some(named) = policies.named(policy.name()) else { continue };
        // Where it cannot be told, the rules are left out; the decision is told all the same.
        let Ok(explanation) = policy.explain(input) else { continue };
        rules.extend(explanation.rules.into_iter().map(|rule| {
            let failed = rule.statements.iter().find(|it| it.attempt == Attempt::Failed);
            let outcome = match (rule.verdict, failed) {
                (Verdict::Held, _) => RuleOutcome::Held,
                (Verdict::NotReached, _) | (Verdict::Failed, None) => RuleOutcome::NotReached,
                (Verdict::Failed, Some(failed)) => RuleOutcome::Failed {
                    at: Position { line: failed.position.line, column: failed.position.column },
                    expression: one_line(&failed.text),
                },
            };
            RuleTrace {
                name: rule.name,
                file: named.file(&rule.position.file),
                line: rule.position.line,
                outcome,
            }
        }));
    }
    Explain { input: shown(input), rules }
}

/// What `print` put out, without the secrets of the build.
pub(super) fn printed(checked: &Checked) -> impl Iterator<Item = String> {
    checked.prints.iter().map(|text| own(checked, text).text)
}

/// Whether a policy's `text` is what a message shows of it.
pub(super) fn says(text: &str, shown: &str) -> bool {
    text == shown || mask_text(text) == shown
}

fn fetched(request: &MetaRequest) -> String {
    let image = request.image.map(|image| match (image.config, image.attestations) {
        (false, false) => "digest",
        (true, false) => "config",
        (false, true) => "attestations",
        (true, true) => "config and attestations",
    });
    let git = request.git.map(|git| if git.objects { "commit and tag objects" } else { "commit" });
    let http = request.http.as_ref().map(|_| "checksum");
    let signatures = request.signatures.as_ref().map(|_| "signatures");
    let content = request.content.map(|_| "content");
    let what = image.or(git).or(http).or(signatures).or(content).unwrap_or("metadata");
    format!("{what} of {}", request.source)
}
