//! Reports as JSON, in a shape that scripts can rely on.
//!
//! ```text
//! {
//!   "schemaVersion": 1,                      grows when a member changes or goes; new ones may come
//!   "toolVersion":   "0.1.0",
//!   "verdict":       "allowed" | "denied" | "undecided",
//!   "summary":       {"sources", "allowed", "denied", "undecided", "warnings"},
//!   "findings": [{
//!     "source", "platform"?, "via", "policy"?,
//!     "location"?:   {"file", "startLine", "endLine", "text", "span"?: {"start", "end"}},
//!     "outcome":     "allowed" | "allowed-with-pin" | "denied" | "undecided",
//!     "to":          with "allowed-with-pin",    "error": with "undecided",
//!     "messages":    [{"text", "rule"?: {"file", "line", "column", "snippet"}, "origin": "policy" | "ours"}],
//!     "warnings":    the same, "hints": [text], "fetched": [text],
//!     "explain"?:    {"input", "rules": [{"name", "file", "line",
//!                      "outcome": "held" | "failed" (with "at", "expression") | "not-reached"}]}
//!   }]
//! }
//! ```
//!
//! Of tests: `results` with `name`, `file`, `line`, `seconds`, `outcome` (`passed`, `failed` with
//! `detail` {`input`?, `decision`?, `missingInput`, `failed`?}, `errored` with `error`), `coveragePercent`?, and
//! `coverage`? with `files` (`file`, `covered`, `notCovered`: line numbers).

use serde::Serialize;

use super::escape;
use super::{Coverage, Report, ReportError, Summary, TestReport, TestSummary, Verdict};

const SCHEMA_VERSION: u32 = 1;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a, R, S> {
    schema_version: u32,
    verdict: Verdict,
    summary: S,
    #[serde(flatten)]
    report: &'a R,
    #[serde(skip_serializing_if = "Option::is_none")]
    coverage_percent: Option<f64>,
}

/// The report of a check.
pub(super) fn check(report: &Report) -> Result<String, ReportError> {
    write(&Document::<Report, Summary> {
        schema_version: SCHEMA_VERSION,
        verdict: report.verdict(),
        summary: report.summary(),
        report,
        coverage_percent: None,
    })
}

/// The report of Rego tests.
pub(super) fn tests(report: &TestReport) -> Result<String, ReportError> {
    write(&Document::<TestReport, TestSummary> {
        schema_version: SCHEMA_VERSION,
        verdict: report.verdict(),
        summary: report.summary(),
        report,
        coverage_percent: report.coverage.as_ref().map(Coverage::percent),
    })
}

fn write(document: &impl Serialize) -> Result<String, ReportError> {
    let mut text = escape::json(&serde_json::to_string_pretty(document)?);
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::super::samples;

    #[test]
    fn every_sample() {
        for (name, report) in samples::reports() {
            insta::assert_snapshot!(format!("check_{name}"), super::check(&report).unwrap());
        }
        for (name, report) in samples::test_reports() {
            insta::assert_snapshot!(format!("test_{name}"), super::tests(&report).unwrap());
        }
    }
}
