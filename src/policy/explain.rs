//! Why a decision is what it is: which rules held, which came near, where they failed.

use std::collections::BTreeSet;

use regorus::Value;

use super::document;
use super::error::{EvalError, Position};
use super::eval::Machine;
use super::ir::{GroupId, Output, RuleInfo, StatementId, Step, Term};
use super::natives::Natives;
use super::trace::{Reached, Trace};
use super::{Policy, guarded};
use crate::input::Input;

/// How a policy came to its decision about one input.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// Every rule of the policy, in the order of its files.
    pub rules: Vec<RuleTrace>,
    /// The rules that gave messages, by message.
    pub messages: Vec<(String, Position)>,
    /// The rule that came nearest to allowing, where none did.
    pub nearest: Option<NearMiss>,
}

/// One rule, and how far it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleTrace {
    /// Its name below its package.
    pub name: String,
    /// Where it stands.
    pub position: Position,
    /// What became of it.
    pub verdict: Verdict,
    /// Its statements, in order.
    pub statements: Vec<StatementTrace>,
}

/// What became of a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// A body of it held.
    Held,
    /// No body of it held.
    Failed,
    /// Nothing asked for it.
    NotReached,
}

/// One statement, and how far it got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatementTrace {
    /// Where it stands.
    pub position: Position,
    /// Its text.
    pub text: String,
    /// How far it got.
    pub attempt: Attempt,
}

/// How far a statement got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// It held.
    Held,
    /// It did not hold.
    Failed,
    /// What stands before it did not hold.
    NotReached,
}

/// A rule that would have allowed, and what kept it from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NearMiss {
    /// The rule's name.
    pub rule: String,
    /// Where the rule stands.
    pub position: Position,
    /// The statement that did not hold.
    pub failed: StatementTrace,
}

impl Policy {
    /// Judges `input` once more, and tells how the policy came to its decision.
    ///
    /// # Errors
    /// When the evaluation runs into a limit or a fault; the decision itself is not at stake.
    pub fn explain(&self, input: &Input) -> Result<Explanation, EvalError> {
        let (value, lazy) = document::to_value(input)?;
        let trace = guarded(|| {
            let Some(group) = self.decision else { return Ok(Trace::default()) };
            let natives = Natives::new(&self.shared, &value).verifying(input);
            let mut machine =
                Machine::new(&self.program, value.clone(), &lazy, natives, self.limits)
                    .with_trace();
            // A failed evaluation has a trace too, up to where it failed.
            let came = machine.evaluate(group);
            let (_, _, trace) = machine.finish();
            match (came, trace) {
                (_, Some(trace)) => Ok(trace),
                (Err(error), None) => Err(*error),
                (Ok(_), None) => Ok(Trace::default()),
            }
        })?;
        Ok(Explanation {
            rules: self
                .program
                .rules
                .iter()
                .filter(|rule| !rule.internal)
                .map(|rule| self.rule_trace(rule, &trace))
                .collect(),
            messages: self.messages(&trace),
            nearest: self.nearest(&trace, kind(input)),
        })
    }

    fn statement_trace(&self, id: StatementId, trace: &Trace) -> Option<StatementTrace> {
        let info = self.program.statements.get(id as usize)?;
        Some(StatementTrace {
            position: info.position.clone(),
            text: info.text.clone(),
            attempt: match trace.of(id) {
                Reached::Not => Attempt::NotReached,
                Reached::Failed => Attempt::Failed,
                Reached::Held => Attempt::Held,
            },
        })
    }

    fn rule_trace(&self, rule: &RuleInfo, trace: &Trace) -> RuleTrace {
        let statements: Vec<StatementTrace> = rule
            .clauses
            .iter()
            .flatten()
            .filter_map(|id| self.statement_trace(*id, trace))
            .collect();
        let held = rule.clauses.iter().any(|clause| {
            !clause.is_empty() && clause.iter().all(|id| trace.of(*id) == Reached::Held)
        });
        let reached = statements.iter().any(|statement| statement.attempt != Attempt::NotReached);
        RuleTrace {
            name: rule.name.clone(),
            position: rule.position.clone(),
            verdict: match (held || rule.clauses.iter().all(Vec::is_empty), reached) {
                (true, _) => Verdict::Held,
                (false, true) => Verdict::Failed,
                (false, false) => Verdict::NotReached,
            },
            statements,
        }
    }

    fn messages(&self, trace: &Trace) -> Vec<(String, Position)> {
        let mut messages: Vec<(String, Position)> = trace
            .members()
            .iter()
            .filter_map(|(rule, value)| match value {
                Value::String(text) => {
                    let info = self.program.rules.get(*rule)?;
                    Some((text.to_string(), info.position.clone()))
                }
                _ => None,
            })
            .collect();
        messages.dedup();
        messages
    }

    /// The body that would have allowed and of which most held.
    fn nearest(&self, trace: &Trace, kind: &str) -> Option<NearMiss> {
        let mut seen = BTreeSet::new();
        let mut group = self.allowing()?;
        let mut nearest = None;
        // Where what failed is a rule by name, what failed in that rule says more.
        while seen.insert(group) {
            let Some((miss, next)) = self.nearest_in(group, trace, kind) else { break };
            nearest = Some(miss);
            match next {
                Some(next) => group = next,
                None => break,
            }
        }
        nearest
    }

    /// The group whose value is the decision's `allow`.
    fn allowing(&self) -> Option<GroupId> {
        let decision = self.decision?;
        let group = self.program.groups.get(decision as usize)?;
        for clause in group.rules.iter().flat_map(|rule| &rule.chain) {
            if let Output::Value(Term::Object(fields)) = &clause.output {
                for (key, value) in fields {
                    if let (Term::Const(Value::String(key)), Term::Group(allow)) = (key, value)
                        && &**key == "allow"
                    {
                        return Some(*allow);
                    }
                }
            }
        }
        Some(decision)
    }

    fn nearest_in(
        &self,
        group: GroupId,
        trace: &Trace,
        kind: &str,
    ) -> Option<(NearMiss, Option<GroupId>)> {
        let group = self.program.groups.get(group as usize)?;
        let mut best: Option<((usize, bool), NearMiss, Option<GroupId>)> = None;
        for rule in &group.rules {
            let info = self.program.rules.get(rule.info)?;
            for (clause, statements) in rule.chain.iter().zip(&info.clauses) {
                let held = statements.iter().filter(|id| trace.of(**id) == Reached::Held).count();
                let failed = statements
                    .iter()
                    .find(|id| trace.of(**id) == Reached::Failed)
                    .and_then(|id| Some((*id, self.statement_trace(*id, trace)?)));
                let Some((id, failed)) = failed else { continue };
                // Of two that got equally far, the one that asks about this kind of source.
                let score = (held, failed.text.contains(kind));
                if best.as_ref().is_none_or(|(most, ..)| score > *most) {
                    let miss = NearMiss {
                        rule: info.name.clone(),
                        position: info.position.clone(),
                        failed,
                    };
                    best = Some((score, miss, tested_group(&clause.steps, id)));
                }
            }
        }
        best.map(|(_, miss, next)| (miss, next))
    }
}

/// How rules begin to ask about a source of the input's kind.
fn kind(input: &Input) -> &'static str {
    match input {
        Input { image: Some(_), .. } => "input.image",
        Input { http: Some(_), .. } => "input.http",
        Input { git: Some(_), .. } => "input.git",
        Input { oci_layout: Some(_), .. } => "input.ociLayout",
        Input { blob: Some(_), .. } => "input.blob",
        _ => "input.local",
    }
}

/// The group that a statement tests by its name alone.
fn tested_group(steps: &[Step], id: StatementId) -> Option<GroupId> {
    let at =
        steps.iter().position(|step| matches!(step, Step::Enter(entered) if *entered == id))?;
    match steps.get(at + 1)? {
        Step::Test(Term::Group(group) | Term::Call(group, _)) => Some(*group),
        _ => None,
    }
}
