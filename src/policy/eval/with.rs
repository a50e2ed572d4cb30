//! `with`: documents and functions replaced for one statement.

use std::sync::Arc;

use regorus::Value;
use regorus::value::Object;

use super::super::builtins::Builtin;
use super::super::ir::{Callee, Change, GroupId, Slot, Step, Target, Term};
use super::body::Continue;
use super::lazy::Read;
use super::{Flow, Frame, Machine, Outcome, Result, World};

/// A function that a `with` replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Replaced {
    Group(GroupId),
    Builtin(&'static str),
}

/// What it is replaced by.
#[derive(Clone)]
pub(super) enum Replacement {
    Value(Outcome),
    Group(GroupId),
    Builtin(&'static Builtin),
}

impl<'p> Machine<'p> {
    /// Runs steps in a changed world, and `then` in this one for each way in which they hold.
    pub(super) fn with(
        &mut self,
        (changes, steps, binds): (&'p [Change], &'p [Step], &'p [Slot]),
        frame: &mut Frame,
        then: Continue<'_, 'p>,
    ) -> Result<Flow> {
        let Some(world) = self.changed(changes, frame)? else { return Ok(Flow::More) };
        if let (Some(trace), Outcome::Known(input)) = (&mut self.trace, &world.input) {
            trace.saw_input(input);
        }
        let before = std::mem::replace(&mut self.world, world);
        let mut ways: Vec<(Vec<Outcome>, bool)> = Vec::new();
        let result = self.run(steps, frame, &mut |machine, frame| {
            ways.push((binds.iter().map(|slot| frame.get(*slot)).collect(), machine.tainted));
            // Without variables one way is as good as another, but a certain one is better.
            Ok(if binds.is_empty() && !machine.tainted { Flow::Enough } else { Flow::More })
        });
        self.world = before;
        result?;
        let tainted = self.tainted;
        for (values, unknown) in ways {
            for (slot, value) in binds.iter().zip(values) {
                frame.set(*slot, value);
            }
            self.tainted = tainted | unknown;
            if then(self, frame)? == Flow::Enough {
                return Ok(Flow::Enough);
            }
            self.tainted = tainted;
        }
        Ok(Flow::More)
    }

    fn changed(&mut self, changes: &'p [Change], frame: &mut Frame) -> Result<Option<World>> {
        let mut world = World {
            input: self.world.input.clone(),
            data: self.world.data.clone(),
            functions: self.world.functions.clone(),
            cache: vec![None; self.program.groups.len()],
        };
        for change in changes {
            let value = match &change.value {
                Term::Function(callee) => {
                    let replacement = match callee {
                        Callee::Builtin(builtin) => Replacement::Builtin(builtin),
                        Callee::Group(group) => Replacement::Group(*group),
                    };
                    if let Some(replaced) = function_of(&change.target) {
                        world.functions.push((replaced, replacement));
                    }
                    continue;
                }
                term => self.term(term, frame)?,
            };
            if value == Outcome::Undefined {
                return Ok(None);
            }
            match &change.target {
                Target::Input(path) => world.input = put(world.input, path, &value, self),
                Target::Data(path) => world.data.push((path.clone(), value)),
                Target::Builtin(_) | Target::Function(_) => {
                    if let Some(replaced) = function_of(&change.target) {
                        world.functions.push((replaced, Replacement::Value(value)));
                    }
                }
            }
        }
        Ok(Some(world))
    }

    /// What a `with` put in the place of a function of the policy, called.
    pub(super) fn replaced_function(
        &mut self,
        group: GroupId,
        args: &[Outcome],
    ) -> Result<Option<Outcome>> {
        match self.replacement(Replaced::Group(group)) {
            None => Ok(None),
            Some(replacement) => self.call_replacement(replacement, args).map(Some),
        }
    }

    /// What a `with` put in the place of a function.
    pub(super) fn replacement(&self, replaced: Replaced) -> Option<Replacement> {
        self.world
            .functions
            .iter()
            .rev()
            .find(|(known, _)| *known == replaced)
            .map(|(_, replacement)| replacement.clone())
    }

    /// Calls a replacement. In it, the functions are those of the policy again.
    pub(super) fn call_replacement(
        &mut self,
        replacement: Replacement,
        args: &[Outcome],
    ) -> Result<Outcome> {
        let functions = std::mem::take(&mut self.world.functions);
        let result = match replacement {
            Replacement::Value(value) => Ok(value),
            Replacement::Group(group) => self.call(group, args),
            Replacement::Builtin(builtin) => self.apply(builtin, args, None),
        };
        self.world.functions = functions;
        result
    }

    /// The value that a `with` gives to this path or to one above it.
    ///
    /// It may be an object of the input, with fields that are not resolved: a step into it is the
    /// step of any reference.
    pub(super) fn replaced_data(&mut self, path: &[Arc<str>]) -> Option<Outcome> {
        let (below, mut outcome) = self
            .world
            .data
            .iter()
            .rev()
            .find_map(|(target, value)| Some((strip(path, target)?, value.clone())))?;
        for part in below {
            match outcome {
                Outcome::Known(value) => {
                    outcome = self.step(&value, &Value::String(part.clone()), Read::Through);
                }
                Outcome::Undefined | Outcome::Unknown => break,
            }
        }
        Some(outcome)
    }

    /// A document with what a `with` puts below its path.
    pub(super) fn patched(&self, path: &[Arc<str>], outcome: Outcome) -> Result<Outcome> {
        let mut outcome = outcome;
        for (target, value) in &self.world.data {
            let below = target.len() > path.len()
                && path.iter().zip(target).all(|(a, b)| Value::String(a.clone()) == *b);
            if below {
                outcome = put(outcome, &target[path.len()..], value, self);
            }
        }
        Ok(outcome)
    }
}

fn function_of(target: &Target) -> Option<Replaced> {
    match target {
        Target::Builtin(name) => Some(Replaced::Builtin(name)),
        Target::Function(group) => Some(Replaced::Group(*group)),
        Target::Input(_) | Target::Data(_) => None,
    }
}

/// What of `path` is below `target`, if `target` is at or above it.
fn strip<'s>(path: &'s [Arc<str>], target: &[Value]) -> Option<&'s [Arc<str>]> {
    let at_or_above = target.len() <= path.len()
        && path.iter().zip(target).all(|(a, b)| Value::String(a.clone()) == *b);
    at_or_above.then(|| &path[target.len()..])
}

/// A document with another value at `path`.
fn put(document: Outcome, path: &[Value], value: &Outcome, machine: &Machine<'_>) -> Outcome {
    let Some((key, rest)) = path.split_first() else { return value.clone() };
    let mut object = match document {
        Outcome::Unknown => return Outcome::Unknown,
        Outcome::Known(Value::Object(object)) => (*object).clone(),
        Outcome::Known(_) | Outcome::Undefined => Object::new(),
    };
    let inner = object.get(key).cloned().map_or(Outcome::Undefined, Outcome::Known);
    match put(inner, rest, value, machine) {
        Outcome::Known(value) => {
            object.insert(key.clone(), value);
            machine.unmark(&mut object);
            Outcome::Known(object.into_value())
        }
        other => other,
    }
}
