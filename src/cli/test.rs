//! `buildgate test`: the Rego tests of policies, run by the evaluator that decides builds.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;

use super::flags::Output;
use super::output;
use crate::policy::{self, TestSuite};
use crate::report::{
    self, Coverage, FileCoverage, TestDetail, TestOutcome, TestReport, TestResult,
};

/// Run the Rego tests of policies
///
/// They are the rules test_* in files *_test.rego, run by the evaluator that decides builds.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Flags {
    /// A policy's folder, or one *_test.rego file with the policy beside it
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Run only tests whose name contains SUBSTRING
    #[arg(long, value_name = "SUBSTRING", default_value = "", hide_default_value = true)]
    run: String,
    /// Tell which lines of the policy the tests reached
    #[arg(long)]
    coverage: bool,
    /// Show what tests print
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    output: Output,
}

const EXAMPLES: &str = "\
A test is a rule that holds:
  test_denies_http if {
      not docker.decision.allow with input as {\"http\": {\"schema\": \"http\"}}
  }

Examples:
  buildgate test policies/registry-gatekeeper
  buildgate test policies/registry-gatekeeper --run http --coverage
  buildgate test policies/*/ --format junit > tests.xml

Exit codes: 0 all passed, 1 a test failed, 2 one could not be run, there is none, or wrong use";

/// Runs the command and gives its exit code.
pub(super) fn run(flags: &Flags) -> Result<u8> {
    let mut report =
        TestReport { tool_version: env!("CARGO_PKG_VERSION").to_owned(), ..TestReport::default() };
    let mut coverage = Coverage::default();
    for path in &flags.paths {
        std::fs::metadata(path)
            .with_context(|| format!("tests at {} cannot be read", path.display()))?;
        let suite = TestSuite::from_path(path)
            .with_context(|| format!("tests at {} cannot be loaded", path.display()))?;
        for result in suite.run(&flags.run) {
            for text in result.prints.iter().filter(|_| flags.verbose) {
                output::note("print", text);
            }
            report.results.push(reported(result, path));
        }
        if flags.coverage {
            coverage.files.extend(suite.coverage().files.into_iter().map(|file| FileCoverage {
                file: file_of(path, &file.file),
                covered: file.covered,
                not_covered: file.not_covered,
            }));
        }
    }
    report.coverage = flags.coverage.then_some(coverage);
    if report.results.is_empty() {
        output::note("error", &nothing_ran(flags));
    }
    let style = output::style(flags.output.color);
    output::answer(&report::render_tests(&report, flags.output.format.into(), style)?)?;
    Ok(report.verdict().exit_code())
}

fn nothing_ran(flags: &Flags) -> String {
    match flags.run.as_str() {
        "" => "there is no test: a test is a rule test_* in a file *_test.rego".to_owned(),
        filter => format!("no test has {filter:?} in its name"),
    }
}

fn reported(result: policy::TestResult, path: &Path) -> TestResult {
    let outcome = match result.outcome {
        policy::TestOutcome::Passed => TestOutcome::Passed,
        policy::TestOutcome::Errored(error) => TestOutcome::Errored { error: error.to_string() },
        policy::TestOutcome::Failed { input, decision, missing_input, failed } => {
            TestOutcome::Failed {
                detail: TestDetail {
                    input: input.map(|text| document(&text)),
                    decision: decision.map(|text| document(&text)),
                    missing_input,
                    failed: failed.map(|(position, text)| report::FailedStatement {
                        file: file_of(path, &position.file),
                        line: position.line,
                        column: position.column,
                        expression: text,
                    }),
                },
            }
        }
    };
    TestResult {
        name: result.name,
        file: file_of(path, &result.position.file),
        line: result.position.line,
        outcome,
        duration: result.duration,
    }
}

/// JSON, or the words that stand for it.
fn document(text: &str) -> serde_json::Value {
    serde_json::from_str(text).unwrap_or_else(|_| text.into())
}

/// The path of a policy's file, as a person finds it.
fn file_of(path: &Path, name: &str) -> String {
    let folder = if path.is_dir() { Some(path) } else { path.parent() };
    folder.map_or_else(|| name.into(), |folder| folder.join(name)).display().to_string()
}
