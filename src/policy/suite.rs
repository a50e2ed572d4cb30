//! Rego tests: `test_*` rules in `*_test.rego`, run by the evaluator that decides builds.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use regorus::Value;

use super::builtins::to_json;
use super::error::{EvalError, PolicyError, Position};
use super::eval::{Lazy, Machine, Outcome as Came};
use super::ir::{GroupId, GroupKind};
use super::load::{Tests, modules_at};
use super::natives::Natives;
use super::trace::{Reached, Trace};
use super::{Policy, guarded};

/// A policy with its tests.
#[derive(Debug)]
pub struct TestSuite {
    policy: Policy,
    coverage: std::cell::RefCell<Trace>,
}

/// One test that was run.
#[derive(Clone, Debug, PartialEq)]
pub struct TestResult {
    /// Package and name, `data.docker.test_denies_http`.
    pub name: String,
    /// Where it stands.
    pub position: Position,
    /// What came of it.
    pub outcome: TestOutcome,
    /// What it printed.
    pub prints: Vec<String>,
    /// How long it took.
    pub duration: Duration,
}

/// What came of a test.
#[derive(Clone, Debug, PartialEq)]
pub enum TestOutcome {
    /// It held.
    Passed,
    /// It did not hold.
    Failed {
        /// The last input that it gave to the policy, as JSON.
        input: Option<String>,
        /// The decision about that input, as JSON, or why there is none.
        decision: Option<String>,
        /// Fields that rules read and that the input does not have.
        missing_input: Vec<String>,
        /// The first statement of the test that did not hold.
        failed: Option<(Position, String)>,
    },
    /// It could not be evaluated.
    Errored(EvalError),
}

/// Which statements of a policy its tests made hold.
#[derive(Clone, Debug, PartialEq)]
pub struct Coverage {
    /// By file, test files left out.
    pub files: Vec<FileCoverage>,
}

/// Which lines of one file were evaluated and held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileCoverage {
    /// Its name.
    pub file: String,
    /// Lines of statements that held at least once.
    pub covered: Vec<u32>,
    /// Lines of statements that never held.
    pub not_covered: Vec<u32>,
}

impl Coverage {
    /// Covered lines of all, in percent; 100 where there are none.
    pub fn percent(&self) -> f64 {
        let covered: usize = self.files.iter().map(|file| file.covered.len()).sum();
        let missed: usize = self.files.iter().map(|file| file.not_covered.len()).sum();
        if covered + missed == 0 {
            return 100.0;
        }
        100.0 * covered as f64 / (covered + missed) as f64
    }
}

impl TestSuite {
    /// Loads the policy and the tests at `path`: a folder, or one test file with the policy beside it.
    ///
    /// # Errors
    /// As [`Policy::from_path`].
    pub fn from_path(path: &Path) -> Result<Self, PolicyError> {
        let name = path.display().to_string();
        let folder = if path.is_dir() {
            path
        } else {
            path.parent()
                .filter(|parent| !parent.as_os_str().is_empty())
                .unwrap_or_else(|| Path::new("."))
        };
        let (files, mut modules) = modules_at(folder, &name, Tests::Take)?;
        if let (false, Some(own)) = (path.is_dir(), path.file_name()) {
            let own = own.to_string_lossy();
            // A test file named by itself runs alone, with the policy beside it.
            modules.retain(|module| !module.ends_with("_test.rego") || **module == *own);
        }
        let policy = Policy::load(&name, files, &modules)?;
        let coverage = Trace::new(policy.program.statements.len()).into();
        Ok(Self { policy, coverage })
    }

    /// Names of the tests, in the order in which they run.
    pub fn tests(&self) -> Vec<String> {
        self.groups().map(|(name, _)| name).collect()
    }

    /// Runs every test whose name contains `filter`.
    pub fn run(&self, filter: &str) -> Vec<TestResult> {
        self.groups()
            .filter(|(name, _)| name.contains(filter))
            .map(|(name, group)| self.run_one(name, group))
            .collect()
    }

    /// What the tests that were run made hold.
    pub fn coverage(&self) -> Coverage {
        let trace = self.coverage.borrow();
        let mut files: BTreeMap<String, BTreeMap<u32, bool>> = BTreeMap::new();
        for rule in self.policy.program.rules.iter().filter(|rule| !rule.internal) {
            if rule.position.file.ends_with("_test.rego") {
                continue;
            }
            for id in rule.clauses.iter().flatten() {
                let Some(info) = self.policy.program.statements.get(*id as usize) else { continue };
                let held = trace.of(*id) == Reached::Held;
                let lines = files.entry(info.position.file.to_string()).or_default();
                for line in info.position.line..=info.end_line {
                    lines.entry(line).and_modify(|known| *known &= held).or_insert(held);
                }
            }
        }
        Coverage {
            files: files
                .into_iter()
                .map(|(file, lines)| FileCoverage {
                    file,
                    covered: of(&lines, true),
                    not_covered: of(&lines, false),
                })
                .collect(),
        }
    }

    fn groups(&self) -> impl Iterator<Item = (String, GroupId)> {
        self.policy.program.groups.iter().enumerate().filter_map(|(id, group)| {
            let name = group.path.last()?;
            let test = name.starts_with("test_")
                && group.kind == GroupKind::Complete
                && group.position.file.ends_with("_test.rego");
            test.then(|| (format!("data.{}", group.path.join(".")), id as GroupId))
        })
    }

    fn run_one(&self, name: String, group: GroupId) -> TestResult {
        let started = Instant::now();
        let position = self.policy.program.groups[group as usize].position.clone();
        let ran = self.evaluate(group, Value::new_object());
        let duration = started.elapsed();
        let (outcome, prints) = match ran {
            Err(error) => (TestOutcome::Errored(error), Vec::new()),
            Ok((came, trace, prints)) => {
                self.coverage.borrow_mut().merge(&trace);
                let outcome = match came {
                    Err(error) => TestOutcome::Errored(*error),
                    Ok(Came::Known(Value::Bool(true))) => TestOutcome::Passed,
                    Ok(_) => self.failed(group, &trace),
                };
                (outcome, prints)
            }
        };
        TestResult { name, position, outcome, prints, duration }
    }

    #[allow(clippy::type_complexity)]
    fn evaluate(
        &self,
        group: GroupId,
        input: Value,
    ) -> Result<(Result<Came, Box<EvalError>>, Trace, Vec<String>), EvalError> {
        guarded(|| {
            let lazy = Lazy::default();
            let natives = Natives::new(&self.policy.shared, &input);
            let mut machine = Machine::new(
                &self.policy.program,
                input.clone(),
                &lazy,
                natives,
                self.policy.limits,
            )
            .with_trace();
            let came = machine.evaluate(group);
            let (_, natives, trace) = machine.finish();
            Ok((came, trace.unwrap_or_default(), natives.prints))
        })
    }

    fn failed(&self, group: GroupId, trace: &Trace) -> TestOutcome {
        let input = trace.last_input();
        let decision = match (input, self.policy.decision) {
            (Some(input), Some(decision)) => match self.evaluate(decision, input.clone()) {
                Ok((Ok(Came::Known(value)), ..)) => Some(json(&value)),
                Ok((Ok(_), ..)) => Some("undefined".to_owned()),
                Ok((Err(error), ..)) => Some(error.to_string()),
                Err(error) => Some(error.to_string()),
            },
            _ => None,
        };
        let failed = self.policy.program.groups[group as usize]
            .rules
            .iter()
            .filter_map(|rule| self.policy.program.rules.get(rule.info))
            .flat_map(|info| info.clauses.iter().flatten())
            .find(|id| trace.of(**id) == Reached::Failed)
            .and_then(|id| self.policy.program.statements.get(*id as usize))
            .map(|info| (info.position.clone(), info.text.clone()));
        TestOutcome::Failed {
            input: input.map(json),
            decision,
            missing_input: trace.missing_fields().map(str::to_owned).collect(),
            failed,
        }
    }
}

fn json(value: &Value) -> String {
    to_json(value).unwrap_or_else(|error| error.to_string())
}

fn of(lines: &BTreeMap<u32, bool>, held: bool) -> Vec<u32> {
    lines.iter().filter(|(_, covered)| **covered == held).map(|(line, _)| *line).collect()
}
