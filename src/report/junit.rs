//! Reports as JUnit XML: each source a test case, a denial a failure, a missing decision an error.

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::text_test::failure;
use super::{
    Finding, Message, Outcome, Report, ReportError, TestOutcome, TestReport, TestResult, escape,
};

/// The report of a check.
pub(super) fn check(report: &Report) -> Result<String, ReportError> {
    let cases = report.findings.iter().map(source).collect();
    write("buildgate check", "sources", cases)
}

/// The report of Rego tests.
pub(super) fn tests(report: &TestReport) -> Result<String, ReportError> {
    let cases = report.results.iter().map(test).collect();
    write("buildgate test", "tests", cases)
}

fn write(name: &str, suite: &str, cases: Vec<TestCase>) -> Result<String, ReportError> {
    let mut report = Junit::new(name);
    let mut suite = TestSuite::new(suite);
    suite.add_test_cases(cases);
    report.add_test_suite(suite);
    let mut text = report.to_string()?;
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn source(finding: &Finding) -> TestCase {
    let mut status = match &finding.outcome {
        Outcome::Allowed | Outcome::AllowedWithPin { .. } => TestCaseStatus::success(),
        Outcome::Denied => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_type("denied").set_message(first_line(&finding.messages));
            status
        }
        Outcome::Undecided { error } => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_type("undecided").set_message(escape::line(error));
            status
        }
    };
    match finding.outcome {
        Outcome::Allowed | Outcome::AllowedWithPin { .. } => {}
        Outcome::Denied | Outcome::Undecided { .. } => {
            status.set_description(described(finding));
        }
    }
    let mut case = TestCase::new(escape::line(&finding.source), status);
    case.set_classname(escape::line(&finding.via));
    if let Some(at) = &finding.location {
        case.add_property(("file", escape::line(&at.file).as_ref()));
        case.add_property(("line", at.start_line.to_string().as_str()));
    }
    if let Some(platform) = &finding.platform {
        case.add_property(("platform", escape::line(platform).as_ref()));
    }
    if let Outcome::AllowedWithPin { to } = &finding.outcome {
        case.add_property(("pinned to", escape::line(to).as_ref()));
    }
    if !finding.warnings.is_empty() {
        let warnings = finding.warnings.iter().map(|warning| escape::lines(&warning.text));
        case.set_system_err(warnings.collect::<Vec<_>>().join("\n"));
    }
    case
}

fn first_line(messages: &[Message]) -> String {
    messages.first().map_or_else(
        || "denied, and the policy gives no reason".to_owned(),
        |message| escape::line(&message.text).into_owned(),
    )
}

/// Everything that is said of a source that is refused, a line each.
fn described(finding: &Finding) -> String {
    let mut lines = Vec::new();
    if let Outcome::Undecided { error } = &finding.outcome {
        lines.push(escape::lines(error).into_owned());
    }
    for message in &finding.messages {
        let words = escape::lines(&message.text);
        lines.push(match &message.rule {
            Some(rule) => format!("{words} ({}:{})", escape::line(&rule.file), rule.line),
            None => words.into_owned(),
        });
    }
    lines.extend(finding.hints.iter().map(|hint| format!("help: {}", escape::lines(hint))));
    lines.join("\n")
}

fn test(result: &TestResult) -> TestCase {
    let status = match &result.outcome {
        TestOutcome::Passed => TestCaseStatus::success(),
        TestOutcome::Failed { detail } => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
            status.set_message("the rule is not true").set_description(failure(detail));
            status
        }
        TestOutcome::Errored { error } => {
            let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
            status.set_message(escape::line(error)).set_description(escape::lines(error));
            status
        }
    };
    let mut case = TestCase::new(escape::line(&result.name), status);
    case.set_classname(escape::line(&result.file)).set_time(result.duration);
    case.add_property(("line", result.line.to_string().as_str()));
    case
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    #[test]
    fn every_sample() {
        for (name, report) in samples::reports() {
            let xml = super::check(&report).unwrap();
            quick_junit::Report::deserialize_from_str(&xml).unwrap();
            insta::assert_snapshot!(format!("check_{name}"), xml);
        }
        for (name, report) in samples::test_reports() {
            let xml = super::tests(&report).unwrap();
            quick_junit::Report::deserialize_from_str(&xml).unwrap();
            insta::assert_snapshot!(format!("test_{name}"), xml);
        }
    }
}
