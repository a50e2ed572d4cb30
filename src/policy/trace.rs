//! What an evaluation reached: for explanations, denials without a message, and coverage.

use std::collections::BTreeSet;

use regorus::Value;

use super::ir::StatementId;

/// How far a statement got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reached {
    /// Nothing before it held.
    #[default]
    Not,
    /// It was evaluated and never held.
    Failed,
    /// It held at least once.
    Held,
}

/// What was reached, by statement.
#[derive(Debug, Default)]
pub(super) struct Trace {
    reached: Vec<Reached>,
    members: Vec<(usize, Value)>,
    missing: BTreeSet<String>,
    input: Option<Value>,
}

/// Most that is kept of what a trace collects.
const MAX_COLLECTED: usize = 1_000;

impl Trace {
    pub fn new(statements: usize) -> Self {
        Self { reached: vec![Reached::Not; statements], ..Self::default() }
    }

    /// A rule added a member to its set.
    pub fn member(&mut self, rule: usize, value: &Value) {
        if self.members.len() < MAX_COLLECTED {
            self.members.push((rule, value.clone()));
        }
    }

    /// What rules added to their sets, by index of the rule.
    pub fn members(&self) -> &[(usize, Value)] {
        &self.members
    }

    /// A field of the input was read and is not there.
    pub fn missing(&mut self, path: String) {
        if self.missing.len() < MAX_COLLECTED {
            self.missing.insert(path);
        }
    }

    /// Fields of the input that were read and are not there.
    pub fn missing_fields(&self) -> impl Iterator<Item = &str> {
        self.missing.iter().map(String::as_str)
    }

    /// A `with` gave rules this input.
    pub fn saw_input(&mut self, input: &Value) {
        self.input = Some(input.clone());
    }

    /// The last input that a `with` gave to rules.
    pub fn last_input(&self) -> Option<&Value> {
        self.input.as_ref()
    }

    pub fn enter(&mut self, id: StatementId) {
        self.raise(id, Reached::Failed);
    }

    pub fn held(&mut self, id: StatementId, tainted: bool) {
        if !tainted {
            self.raise(id, Reached::Held);
        }
    }

    pub fn of(&self, id: StatementId) -> Reached {
        self.reached.get(id as usize).copied().unwrap_or_default()
    }

    /// Adds what another evaluation reached.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.reached.iter_mut().zip(&other.reached) {
            *mine = (*mine).max(*theirs);
        }
    }

    fn raise(&mut self, id: StatementId, reached: Reached) {
        if let Some(known) = self.reached.get_mut(id as usize) {
            *known = (*known).max(reached);
        }
    }
}
