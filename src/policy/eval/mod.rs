//! Evaluation: a [`Program`] over an input that may be known only in part.
//!
//! Every expression is *known*, *undefined* or *unknown*. Unknown is what depends on a field that
//! is not resolved yet. A body goes on past what is unknown, so that one round asks for all that
//! may matter, and stops at what is known to be false, so that it asks for nothing that cannot.
//! What is known stays so whatever the fields hold that were read on the way to it. Anything else is
//! no result while a field was read that is not resolved: [`Machine::finish`] says which to resolve first.

mod body;
mod budget;
mod comprehension;
mod lazy;
mod native;
mod partial;
mod rule;
mod scan;
mod term;
mod tree;
mod with;

use std::sync::Arc;

use regorus::Value;

use super::error::EvalError;
use super::ir::{GroupId, Program, Slot, Term};
use super::natives::Natives;
use super::trace::Trace;

pub use budget::Limits;
pub(crate) use budget::thread_time;
pub(super) use budget::{Budget, Watch};
pub(super) use lazy::{Lazy, LazyNode, MARK, OBJECTS, Reads, mark};

/// What an expression came to.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Outcome {
    Known(Value),
    Undefined,
    /// It depends on a field that is not resolved.
    Unknown,
}

/// What a rule, a call or a body may end with besides an outcome.
pub(super) type Result<T> = std::result::Result<T, Box<EvalError>>;

/// Whether to look for further ways in which a body holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    More,
    Enough,
}

/// The variables of one rule being evaluated.
pub(super) struct Frame {
    slots: Vec<Outcome>,
}

impl Frame {
    fn new(slots: u32) -> Self {
        Self { slots: vec![Outcome::Undefined; slots as usize] }
    }

    fn get(&self, slot: Slot) -> Outcome {
        self.slots.get(slot as usize).cloned().unwrap_or(Outcome::Undefined)
    }

    fn set(&mut self, slot: Slot, value: Outcome) {
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = value;
        }
    }
}

/// What `with` changes: the documents and functions that rules see.
pub(super) struct World {
    input: Outcome,
    data: Vec<(Vec<Value>, Outcome)>,
    functions: Vec<(with::Replaced, with::Replacement)>,
    /// Values of groups, once evaluated in this world, and how certain what they are part of was.
    cache: Vec<Option<(Outcome, Around)>>,
}

/// One evaluation.
pub(super) struct Machine<'p> {
    program: &'p Program,
    world: World,
    lazy: &'p Lazy,
    reads: Reads,
    budget: Budget,
    natives: Natives<'p>,
    trace: Option<Trace>,
    /// Something that this way through the current body rests on is unknown.
    tainted: bool,
    /// How far the bodies around the current one, and the rules around those, are certain.
    around: Around,
}

/// Whether what is evaluated is evaluated for sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Around {
    /// It is, once everything is resolved.
    Certain,
    /// Only if something unknown holds: what `input` itself lacks is asked for ahead.
    Ahead,
    /// Only if something unknown does not hold: nothing is asked for ahead.
    Otherwise,
}

impl<'p> Machine<'p> {
    /// A machine for one evaluation of `program` over `input`.
    pub fn new(
        program: &'p Program,
        input: Value,
        lazy: &'p Lazy,
        natives: Natives<'p>,
        limits: Limits,
    ) -> Self {
        let budget = Budget::new(limits);
        let natives = natives.watched(budget.watch());
        Self {
            program,
            world: World {
                input: Outcome::Known(input),
                data: Vec::new(),
                functions: Vec::new(),
                cache: vec![None; program.groups.len()],
            },
            lazy,
            reads: Reads::default(),
            budget,
            natives,
            trace: None,
            tainted: false,
            around: Around::Certain,
        }
    }

    /// Records which statements were reached and which held.
    pub fn with_trace(mut self) -> Self {
        self.trace = Some(Trace::new(self.program.statements.len()));
        self
    }

    /// The value of a group's rules.
    ///
    /// # Errors
    /// When a limit is reached, a rule gives two values, or a builtin of ours fails.
    pub fn evaluate(&mut self, group: GroupId) -> Result<Outcome> {
        let outcome = self.group(group)?;
        if let Outcome::Known(value) = &outcome
            && self.observe(value)?
        {
            return Ok(Outcome::Unknown);
        }
        self.budget.check_now()?;
        Ok(outcome)
    }

    /// What was read and not known, and what else the evaluation left behind.
    pub fn finish(self) -> (Reads, Natives<'p>, Option<Trace>) {
        (self.reads, self.natives, self.trace)
    }
}

/// The group at `path` below `data`.
pub(super) fn find_group(program: &Program, path: &[&str]) -> Option<GroupId> {
    path.iter()
        .try_fold(&program.tree, |node, part| node.children.get(*part))
        .and_then(|node| node.group)
}

/// Steps into an object, array or set. `None` where there is no such member.
fn member<'v>(value: &'v Value, key: &Value) -> Option<&'v Value> {
    match value {
        Value::Object(object) => object.get(key),
        Value::Array(array) => index(key).and_then(|at| array.get(at)),
        Value::Set(set) => set.get(key),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Undefined => {
            None
        }
    }
}

fn index(key: &Value) -> Option<usize> {
    match key {
        Value::Number(number) => number.as_u64().and_then(|at| usize::try_from(at).ok()),
        _ => None,
    }
}

/// A shared string value.
fn string(text: &str) -> Value {
    Value::String(Arc::from(text))
}

/// A term that holds nothing to evaluate.
fn constant(term: &Term) -> Option<&Value> {
    match term {
        Term::Const(value) => Some(value),
        _ => None,
    }
}
