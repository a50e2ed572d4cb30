//! Reports as SARIF 2.1.0, for code scanning.
//!
//! A denial and a missing decision are errors, a policy's warning a warning, a pin a note; what is
//! plainly allowed gives no result. The rules of the policy that refused stand in
//! `relatedLocations`. Fingerprints leave out line numbers, so that an alert survives an edit above.

use std::collections::BTreeMap;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_sarif::sarif::{
    ArtifactContent, ArtifactLocation, Invocation, Location as SarifLocation, LogicalLocation,
    Message as SarifMessage, MultiformatMessageString, PhysicalLocation, Region,
    ReportingConfiguration, ReportingDescriptor, Result as SarifResult, ResultLevel, Run, Sarif,
    Tool, ToolComponent,
};
use sha2::{Digest, Sha256};

use super::{
    Finding, Location, Message, Outcome, Report, ReportError, RuleAt, TestOutcome, TestReport,
    TestResult, Verdict, escape, text_test,
};

const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_').remove(b'~');

/// What a result is about.
#[derive(Clone, Copy)]
enum Rule {
    Denied,
    Undecided,
    Warned,
    Pinned,
    TestFailed,
    TestErrored,
}

impl Rule {
    const ALL: [Rule; 6] = [
        Rule::Denied,
        Rule::Undecided,
        Rule::Warned,
        Rule::Pinned,
        Rule::TestFailed,
        Rule::TestErrored,
    ];

    const fn facts(self) -> (&'static str, ResultLevel, &'static str) {
        match self {
            Self::Denied => {
                ("source-denied", ResultLevel::Error, "A policy denies a source of the build.")
            }
            Self::Undecided => (
                "source-undecided",
                ResultLevel::Error,
                "There is no decision on a source of the build, and so it is refused.",
            ),
            Self::Warned => {
                ("source-warning", ResultLevel::Warning, "A policy warns of a source of the build.")
            }
            Self::Pinned => (
                "source-pinned",
                ResultLevel::Note,
                "A source of the build is allowed as long as its content stays the same.",
            ),
            Self::TestFailed => ("test-failed", ResultLevel::Error, "A test of a policy failed."),
            Self::TestErrored => {
                ("test-errored", ResultLevel::Error, "A test of a policy could not be evaluated.")
            }
        }
    }
}

/// The report of a check.
pub(super) fn check(report: &Report) -> Result<String, ReportError> {
    // Code scanning refuses a whole log for one result without a file.
    let elsewhere = report.findings.iter().find_map(|finding| finding.location.as_ref());
    let elsewhere = elsewhere.map(|at| at.file.clone());
    let mut results = Results { elsewhere, ..Results::default() };
    for finding in &report.findings {
        results.finding(finding);
    }
    write(&report.tool_version, report.verdict(), results.list)
}

/// The report of Rego tests.
pub(super) fn tests(report: &TestReport) -> Result<String, ReportError> {
    let mut results = Results::default();
    for result in &report.results {
        results.test(result);
    }
    write(&report.tool_version, report.verdict(), results.list)
}

#[derive(Default)]
struct Results {
    list: Vec<SarifResult>,
    /// How often each fingerprint was given: two alike are told apart by their order.
    seen: BTreeMap<String, u32>,
    /// The file that stands for sources that no line names.
    elsewhere: Option<String>,
}

/// One result before it is written.
struct Fact<'a> {
    rule: Rule,
    text: String,
    subject: &'a str,
    file: &'a str,
    at: Vec<SarifLocation>,
    related: Vec<SarifLocation>,
}

impl Results {
    fn finding(&mut self, finding: &Finding) {
        match &finding.outcome {
            Outcome::Allowed => {}
            Outcome::AllowedWithPin { to } => {
                let text = format!("{} is allowed, pinned to {to}", finding.source);
                self.about(finding, Rule::Pinned, text, &[]);
            }
            Outcome::Denied => {
                let text = said(finding, "is denied", None);
                self.about(finding, Rule::Denied, text, &finding.messages);
            }
            Outcome::Undecided { error } => {
                let text = said(finding, "is refused, for there is no decision", Some(error));
                self.about(finding, Rule::Undecided, text, &finding.messages);
            }
        }
        for warning in &finding.warnings {
            let text = format!("{}: {}", finding.source, warning.text);
            self.about(finding, Rule::Warned, text, std::slice::from_ref(warning));
        }
    }

    fn about(&mut self, finding: &Finding, rule: Rule, text: String, messages: &[Message]) {
        let rules = super::text::rules(messages);
        self.push(Fact {
            rule,
            text,
            subject: &finding.source,
            file: finding.location.as_ref().map_or("", |at| &at.file),
            at: vec![self.located(finding)],
            related: rules.into_iter().map(in_policy).collect(),
        });
    }

    /// Where `finding` is, and what it is about by name.
    fn located(&self, finding: &Finding) -> SarifLocation {
        let mut location = match (&finding.location, &self.elsewhere) {
            (Some(at), _) => in_dockerfile(at),
            (None, Some(file)) => place(file, Region::builder().start_line(1).build()),
            (None, None) => SarifLocation::builder().build(),
        };
        let name = escape::line(&finding.source).into_owned();
        let logical = LogicalLocation::builder().name(name).kind("resource").build();
        location.logical_locations = Some(vec![logical]);
        location
    }

    fn test(&mut self, result: &TestResult) {
        let (rule, text) = match &result.outcome {
            TestOutcome::Passed => return,
            TestOutcome::Failed { detail } => {
                let seen = text_test::failure(detail);
                (Rule::TestFailed, format!("{} failed\n{seen}", result.name))
            }
            TestOutcome::Errored { error } => {
                (Rule::TestErrored, format!("{} could not be evaluated: {error}", result.name))
            }
        };
        let region = Region::builder().start_line(i64::from(result.line)).build();
        self.push(Fact {
            rule,
            text,
            subject: &result.name,
            file: &result.file,
            at: vec![place(&result.file, region)],
            related: vec![],
        });
    }

    fn push(&mut self, fact: Fact<'_>) {
        let (id, level, _) = fact.rule.facts();
        let print = self.fingerprint(&[id, fact.file, fact.subject]);
        let mut result = SarifResult::builder()
            .rule_id(id)
            .level(level)
            .message(words(&fact.text))
            .partial_fingerprints(BTreeMap::from([("buildgate/v1".to_owned(), print)]))
            .build();
        result.rule_index = Some(fact.rule as i64);
        result.locations = Some(fact.at);
        result.related_locations = Some(fact.related).filter(|related| !related.is_empty());
        self.list.push(result);
    }

    fn fingerprint(&mut self, parts: &[&str]) -> String {
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        let digest = hex::encode(&hash.finalize()[..16]);
        let count = self.seen.entry(digest.clone()).or_default();
        *count += 1;
        format!("{digest}:{count}")
    }
}

fn said(finding: &Finding, verb: &str, error: Option<&String>) -> String {
    let mut lines = vec![format!("{} ({}) {verb}", finding.source, finding.via)];
    lines.extend(error.cloned());
    lines.extend(finding.messages.iter().map(|message| message.text.clone()));
    lines.extend(finding.hints.iter().map(|hint| format!("help: {hint}")));
    lines.join("\n")
}

fn in_dockerfile(at: &Location) -> SarifLocation {
    let mut region = Region::builder()
        .start_line(i64::from(at.start_line))
        .end_line(i64::from(at.end_line.max(at.start_line)))
        .snippet(ArtifactContent::builder().text(at.text.as_str()).build())
        .build();
    let span = at
        .span
        .and_then(|span| Some((at.text.get(..span.start)?, at.text.get(span.start..span.end)?)));
    if let Some((before, meant)) = span {
        let (start, column) = position(before, i64::from(at.start_line), 1);
        let (end, end_column) = position(meant, start, column);
        region.start_line = Some(start);
        region.start_column = Some(column);
        region.end_line = Some(end);
        region.end_column = Some(end_column);
        region.snippet = Some(ArtifactContent::builder().text(meant).build());
    }
    place(&at.file, region)
}

/// Line and column (in UTF-16 units, as SARIF has them) after `text` that begins at a place.
fn position(text: &str, line: i64, column: i64) -> (i64, i64) {
    let units =
        |text: &str| i64::try_from(text.encode_utf16().count()).unwrap_or(i64::MAX - column);
    match text.rsplit_once('\n') {
        None => (line, column + units(text)),
        Some((above, last)) => {
            let breaks = i64::try_from(above.matches('\n').count()).unwrap_or_default() + 1;
            (line + breaks, 1 + units(last))
        }
    }
}

fn in_policy(rule: &RuleAt) -> SarifLocation {
    let mut region = Region::builder().start_line(i64::from(rule.line.max(1))).build();
    let before: String =
        rule.snippet.chars().take(rule.column.saturating_sub(1) as usize).collect();
    if !rule.snippet.is_empty() {
        region.start_column = Some(position(&before, 1, 1).1);
        region.snippet = Some(ArtifactContent::builder().text(rule.snippet.as_str()).build());
    }
    let mut location = place(&rule.file, region);
    location.message = Some(words("by this rule"));
    location
}

fn place(file: &str, region: Region) -> SarifLocation {
    let path = utf8_percent_encode(file.strip_prefix("./").unwrap_or(file), PATH).to_string();
    let uri = if file.starts_with('/') { format!("file://{path}") } else { path };
    let file = ArtifactLocation::builder().uri(uri).build();
    let physical = PhysicalLocation::builder().artifact_location(file).region(region).build();
    SarifLocation::builder().physical_location(physical).build()
}

/// A message; SARIF reads `[text](1)` as a link and `{0}` as a placeholder, so both are escaped.
fn words(text: &str) -> SarifMessage {
    let mut safe = String::with_capacity(text.len());
    for c in escape::lines(text).chars() {
        match c {
            '[' | ']' | '\\' => safe.extend(['\\', c]),
            '{' | '}' => safe.extend([c, c]),
            c => safe.push(c),
        }
    }
    SarifMessage::builder().text(safe).build()
}

fn write(
    version: &str,
    verdict: Verdict,
    results: Vec<SarifResult>,
) -> Result<String, ReportError> {
    let rules = Rule::ALL.into_iter().map(descriptor).collect::<Result<Vec<_>, _>>()?;
    let mut driver = ToolComponent::builder().name("buildgate").rules(rules).build();
    driver.version = Some(version.to_owned()).filter(|version| !version.is_empty());
    let invocation = Invocation::builder()
        .execution_successful(verdict != Verdict::Undecided)
        .exit_code(i64::from(verdict.exit_code()))
        .build();
    let run = Run::builder()
        .tool(Tool::builder().driver(driver).build())
        .column_kind("utf16CodeUnits")
        .invocations(vec![invocation])
        .results(results)
        .build();
    let log = Sarif::builder().schema(SCHEMA).version("2.1.0").runs(vec![run]).build();
    let mut text = escape::json(&serde_json::to_string_pretty(&log)?);
    text.push('\n');
    Ok(text)
}

fn descriptor(rule: Rule) -> Result<ReportingDescriptor, ReportError> {
    let (id, level, about) = rule.facts();
    let level = serde_json::to_value(level)?;
    Ok(ReportingDescriptor::builder()
        .id(id)
        .short_description(MultiformatMessageString::builder().text(about).build())
        .default_configuration(ReportingConfiguration::builder().level(level).build())
        .build())
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_sample() {
        for (name, report) in samples::reports() {
            insta::assert_snapshot!(format!("check_{name}"), valid(check(&report).unwrap()));
        }
        for (name, report) in samples::test_reports() {
            insta::assert_snapshot!(format!("test_{name}"), valid(tests(&report).unwrap()));
        }
    }

    /// Reads the log again by the types made from the schema, and checks what they cannot say.
    fn valid(text: String) -> String {
        let log: Sarif = serde_json::from_str(&text).unwrap();
        let run = &log.runs[0];
        let rules = run.tool.driver.rules.as_ref().unwrap();
        let mut prints = std::collections::BTreeSet::new();
        for result in run.results.as_ref().unwrap() {
            let index = usize::try_from(result.rule_index.unwrap()).unwrap();
            assert_eq!(Some(&rules[index].id), result.rule_id.as_ref());
            assert!(prints.insert(result.partial_fingerprints.clone().unwrap()));
            let all = result.locations.iter().chain(&result.related_locations).flatten();
            for physical in all.filter_map(|at| at.physical_location.as_ref()) {
                let uri = physical.artifact_location.as_ref().unwrap().uri.as_ref().unwrap();
                let base = url::Url::parse("file:///src/").unwrap();
                assert!(base.join(uri).unwrap().as_str().ends_with(uri.as_str()), "{uri}");
                let region = physical.region.as_ref().unwrap();
                assert!(region.start_line.unwrap() >= 1);
                assert!(region.end_line.is_none_or(|end| end >= region.start_line.unwrap()));
            }
        }
        text
    }

    #[test]
    fn columns_count_utf16_units() {
        assert_eq!(position("ab", 3, 1), (3, 3));
        assert_eq!(position("🦀é", 3, 5), (3, 8));
        assert_eq!(position("a\nbc\n漢", 3, 9), (5, 2));
    }

    #[test]
    fn fingerprints_ignore_lines_and_tell_twins_apart() {
        let mut report = samples::denied();
        let prints = |report: &Report| {
            let log: Sarif = serde_json::from_str(&check(report).unwrap()).unwrap();
            let results = log.runs[0].results.clone().unwrap();
            results.into_iter().map(|r| r.partial_fingerprints.unwrap()).collect::<Vec<_>>()
        };
        let before = prints(&report);
        report.findings[1].location.as_mut().unwrap().start_line += 10;
        report.findings[1].location.as_mut().unwrap().end_line += 10;
        assert_eq!(prints(&report), before);
        report.findings.push(report.findings[1].clone());
        let twins = prints(&report);
        assert_eq!(twins[0], before[0]);
        assert_ne!(twins[0], twins[1]);
    }
}
