//! What the Rego tests of a policy gave, as plain data.

use std::time::Duration;

use serde::{Serialize, Serializer};

use super::model::Verdict;

/// The outcome of `buildgate test`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TestReport {
    /// Version of buildgate that ran them.
    pub tool_version: String,
    /// The tests, in the order in which they ran.
    pub results: Vec<TestResult>,
    /// Which lines they reached, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub coverage: Option<Coverage>,
}

/// One test.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TestResult {
    /// Name of the rule, package included (`data.docker.test_x`).
    pub name: String,
    /// The file it stands in.
    pub file: String,
    /// Its line, from 1.
    pub line: u32,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: TestOutcome,
    /// How long it took; written as seconds.
    #[serde(rename = "seconds", serialize_with = "seconds")]
    pub duration: Duration,
}

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum TestOutcome {
    /// It is true.
    Passed,
    /// It is not.
    Failed {
        /// What it saw.
        detail: TestDetail,
    },
    /// It could not be evaluated.
    Errored {
        /// Why.
        error: String,
    },
}

/// What a failed test saw.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TestDetail {
    /// The input it gave (`with input as …`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<serde_json::Value>,
    /// The decision on that input.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<serde_json::Value>,
    /// Fields that rules read and that the input lacks (`input.image.labels`).
    pub missing_input: Vec<String>,
    /// The first statement of the test that did not hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failed: Option<FailedStatement>,
}

/// A statement of a test that did not hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FailedStatement {
    /// The file.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// Its text.
    pub expression: String,
}

/// Which lines the tests reached.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Coverage {
    /// File by file.
    pub files: Vec<FileCoverage>,
}

/// Which lines of one file the tests reached. Lines without an expression are in neither list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FileCoverage {
    /// The file.
    pub file: String,
    /// Lines reached, ascending, from 1.
    pub covered: Vec<u32>,
    /// Lines not reached, ascending, from 1.
    pub not_covered: Vec<u32>,
}

/// How many tests there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TestSummary {
    /// Tests in all.
    pub tests: usize,
    /// Those that passed.
    pub passed: usize,
    /// Those that failed.
    pub failed: usize,
    /// Those that could not be evaluated.
    pub errored: usize,
}

impl TestReport {
    /// How many tests there are of each kind.
    pub fn summary(&self) -> TestSummary {
        let mut summary = TestSummary { tests: self.results.len(), ..TestSummary::default() };
        for result in &self.results {
            match result.outcome {
                TestOutcome::Passed => summary.passed += 1,
                TestOutcome::Failed { .. } => summary.failed += 1,
                TestOutcome::Errored { .. } => summary.errored += 1,
            }
        }
        summary
    }

    /// Allowed where all passed, denied where one failed, undecided where one could not be
    /// evaluated or there is none: tests that did not run have not passed.
    pub fn verdict(&self) -> Verdict {
        match self.summary() {
            TestSummary { failed: 1.., .. } => Verdict::Denied,
            TestSummary { errored: 1.., .. } | TestSummary { tests: 0, .. } => Verdict::Undecided,
            TestSummary { .. } => Verdict::Allowed,
        }
    }
}

impl Coverage {
    /// Lines reached of all lines, in percent; 100 where there is no line to reach.
    pub fn percent(&self) -> f64 {
        let covered = self.files.iter().map(|file| file.covered.len()).sum();
        percent(
            covered,
            covered + self.files.iter().map(|file| file.not_covered.len()).sum::<usize>(),
        )
    }
}

impl FileCoverage {
    /// Lines reached of its lines, in percent; 100 where there is no line to reach.
    pub fn percent(&self) -> f64 {
        percent(self.covered.len(), self.covered.len() + self.not_covered.len())
    }
}

fn percent(part: usize, whole: usize) -> f64 {
    if whole == 0 {
        return 100.0;
    }
    part as f64 * 100.0 / whole as f64
}

fn seconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64(duration.as_secs_f64())
}
