//! Comprehensions: what a body gives, each time it holds, made one value.

use std::collections::BTreeSet;

use regorus::Value;
use regorus::value::{Array, Object};

use super::super::error::EvalError;
use super::super::ir::{Comprehension, ComprehensionKind};
use super::lazy::is_composite;
use super::{Flow, Frame, Machine, Outcome, Result};

/// What was collected so far. Of the three values the one of the comprehension's kind is filled.
#[derive(Default)]
struct Collected {
    array: Array,
    set: BTreeSet<Value>,
    object: Object,
    /// Whether a part of it is not known, so that all of it is not.
    unknown: bool,
}

impl<'p> Machine<'p> {
    /// The value of a comprehension.
    pub(super) fn comprehension(
        &mut self,
        comprehension: &'p Comprehension,
        frame: &mut Frame,
    ) -> Result<Outcome> {
        let outside = self.go_inside();
        let mut collected = Collected::default();
        self.run(&comprehension.steps, frame, &mut |machine, frame| {
            collected.unknown |= machine.tainted;
            match &comprehension.kind {
                ComprehensionKind::Array(term) => {
                    let value = machine.term(term, frame)?;
                    collected.item(machine, value)?;
                }
                ComprehensionKind::Set(term) => {
                    let value = machine.term(term, frame)?;
                    collected.member(machine, value)?;
                }
                ComprehensionKind::Object(key, value) => {
                    let pair = (machine.term(key, frame)?, machine.term(value, frame)?);
                    collected.pair(machine, pair, comprehension)?;
                }
            }
            Ok(Flow::More)
        })?;
        self.come_outside(outside);
        if collected.unknown {
            return Ok(Outcome::Unknown);
        }
        self.make(match &comprehension.kind {
            ComprehensionKind::Array(_) => collected.array.into_value(),
            ComprehensionKind::Set(_) => Value::from(collected.set),
            ComprehensionKind::Object(..) => collected.object.into_value(),
        })
    }
}

impl Collected {
    fn item(&mut self, machine: &mut Machine<'_>, value: Outcome) -> Result<()> {
        match value {
            Outcome::Known(value) => {
                machine.budget.take(24)?;
                self.array.push(value);
            }
            Outcome::Undefined => {}
            Outcome::Unknown => self.unknown = true,
        }
        Ok(())
    }

    fn member(&mut self, machine: &mut Machine<'_>, value: Outcome) -> Result<()> {
        match value {
            Outcome::Known(value) => {
                self.unknown |= is_composite(&value) && machine.observe(&value)?;
                machine.budget.take(48)?;
                self.set.insert(value);
            }
            Outcome::Undefined => {}
            Outcome::Unknown => self.unknown = true,
        }
        Ok(())
    }

    /// Adds a key with its value; one key has one value, as far as that is known.
    fn pair(
        &mut self,
        machine: &mut Machine<'_>,
        pair: (Outcome, Outcome),
        comprehension: &Comprehension,
    ) -> Result<()> {
        let (key, value) = match pair {
            (Outcome::Undefined, _) | (_, Outcome::Undefined) => return Ok(()),
            (Outcome::Unknown, _) | (_, Outcome::Unknown) => {
                self.unknown = true;
                return Ok(());
            }
            (Outcome::Known(key), Outcome::Known(value)) => (key, value),
        };
        machine.budget.take(72)?;
        self.unknown |= is_composite(&key) && machine.observe(&key)?;
        if let Some(old) = self.object.get(&key) {
            let old = old.clone();
            match machine.equal(&old, &value)? {
                Some(true) => {}
                None => self.unknown = true,
                Some(false) if machine.tainted || self.unknown => self.unknown = true,
                Some(false) => {
                    return Err(Box::new(EvalError::Conflict {
                        position: comprehension.position.clone(),
                        rule: "object comprehension".to_owned(),
                    }));
                }
            }
        }
        self.object.insert(key, value);
        Ok(())
    }
}
