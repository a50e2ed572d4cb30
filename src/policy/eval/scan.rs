//! Enumeration of collections.

use regorus::Value;

use super::super::ir::Pattern;
use super::body::{Continue, Match};
use super::{Flow, Frame, Machine, Outcome, Result, constant};

impl<'p> Machine<'p> {
    /// Runs `then` for each member of the collection that has the patterns' shape.
    pub(super) fn scan(
        &mut self,
        collection: &Outcome,
        (key, value): (&'p Pattern, &'p Pattern),
        frame: &mut Frame,
        then: Continue<'_, 'p>,
    ) -> Result<Flow> {
        let collection = match collection {
            Outcome::Undefined => return Ok(Flow::More),
            Outcome::Unknown => return self.scan_unknown((key, value), frame, then),
            Outcome::Known(value) => value,
        };
        if let Value::Object(object) = collection
            && self.observe_object(object)
        {
            return self.scan_unknown((key, value), frame, then);
        }
        if let Pattern::Equals(term) = key
            && let Some(key) = constant(term)
            && let Some(found) = super::member(collection, key).cloned()
        {
            let pair = (Outcome::Known(key.clone()), Outcome::Known(found));
            return self.visit(pair, (&Pattern::Any, value), frame, then);
        }
        let Some(members) = members(collection) else { return Ok(Flow::More) };
        let before = self.tainted;
        for (k, v) in members {
            self.budget.spend(1)?;
            let pair = (Outcome::Known(k), Outcome::Known(v));
            if self.visit(pair, (key, value), frame, then)? == Flow::Enough {
                return Ok(Flow::Enough);
            }
            self.tainted = before;
        }
        Ok(Flow::More)
    }

    /// A collection of which nothing is known is taken to have one member of which nothing is.
    fn scan_unknown(
        &mut self,
        patterns: (&'p Pattern, &'p Pattern),
        frame: &mut Frame,
        then: Continue<'_, 'p>,
    ) -> Result<Flow> {
        let before = std::mem::replace(&mut self.tainted, true);
        let flow = self.visit((Outcome::Unknown, Outcome::Unknown), patterns, frame, then)?;
        self.tainted = before;
        Ok(flow)
    }

    fn visit(
        &mut self,
        (k, v): (Outcome, Outcome),
        (key, value): (&'p Pattern, &'p Pattern),
        frame: &mut Frame,
        then: Continue<'_, 'p>,
    ) -> Result<Flow> {
        for (pattern, member) in [(key, k), (value, v)] {
            // A member that nobody looks at cannot make the way through it unknown.
            if matches!(pattern, Pattern::Any) {
                continue;
            }
            match self.matches(pattern, &member, frame)? {
                Match::Yes => {}
                Match::No => return Ok(Flow::More),
                Match::Unknown => self.tainted = true,
            }
        }
        self.budget.enter()?;
        let flow = stacker::maybe_grow(RED_ZONE, STACK, || then(self, frame));
        self.budget.leave();
        flow
    }
}

/// Stack that must be left before an enumeration goes on in a new segment, in bytes.
pub(super) const RED_ZONE: usize = 128 << 10;
/// Size of a new segment, in bytes.
pub(super) const STACK: usize = 1 << 20;

/// The members of a collection, with their keys, in OPA's order. `None` for what has none.
pub(super) fn members(value: &Value) -> Option<Vec<(Value, Value)>> {
    match value {
        Value::Array(array) => Some(
            array
                .iter()
                .enumerate()
                .map(|(at, value)| (Value::from(at as u64), value.clone()))
                .collect(),
        ),
        Value::Set(set) => {
            Some(set.iter_sorted().map(|value| (value.clone(), value.clone())).collect())
        }
        Value::Object(object) => {
            Some(object.iter_sorted().map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Undefined => {
            None
        }
    }
}
