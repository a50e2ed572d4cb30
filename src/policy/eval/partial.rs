//! Rules that grow a set or an object, member by member.

use regorus::Value;
use regorus::value::Set;

use super::super::ir::{Clause, Group, Output};
use super::rule::conflict;
use super::tree::find;
use super::{Flow, Frame, Machine, Outcome, Result};

impl<'p> Machine<'p> {
    /// A set of what its rules contain.
    pub(super) fn partial_set(&mut self, group: &'p Group) -> Result<Outcome> {
        let mut set = Set::default();
        let mut unknown = false;
        for rule in &group.rules {
            for clause in &rule.chain {
                let Output::Member(member) = &clause.output else { continue };
                let mut frame = Frame::new(rule.slots);
                self.run(&clause.steps, &mut frame, &mut |machine, frame| {
                    match machine.term(member, frame)? {
                        Outcome::Undefined => {}
                        Outcome::Known(value) if !machine.tainted => {
                            unknown |=
                                super::lazy::is_composite(&value) && machine.observe(&value)?;
                            machine.budget.take(48)?;
                            if let Some(trace) = &mut machine.trace {
                                trace.member(rule.info, &value);
                            }
                            set.insert(value);
                        }
                        Outcome::Known(_) | Outcome::Unknown => unknown = true,
                    }
                    Ok(Flow::More)
                })?;
            }
        }
        if unknown {
            return Ok(Outcome::Unknown);
        }
        self.make(set.into_value())
    }

    /// An object grown by rules with keys.
    pub(super) fn partial(&mut self, group: &'p Group) -> Result<Outcome> {
        let mut object = Value::new_object();
        let mut unknown = false;
        for rule in &group.rules {
            for clause in &rule.chain {
                let mut frame = Frame::new(rule.slots);
                self.run(&clause.steps, &mut frame, &mut |machine, frame| {
                    let Some((keys, leaf)) = machine.entry(clause, frame, &mut unknown)? else {
                        return Ok(Flow::More);
                    };
                    machine.budget.take(72)?;
                    let member = matches!(clause.output, Output::Member(_));
                    if insert(&mut object, &keys, leaf, member) {
                        Ok(Flow::More)
                    } else {
                        Err(conflict(group))
                    }
                })?;
            }
        }
        if unknown {
            return Ok(Outcome::Unknown);
        }
        let program = self.program;
        match find(&program.tree, &group.path) {
            Some(node) if !node.children.is_empty() => self.children(node, object),
            _ => self.make(object),
        }
    }

    fn entry(
        &mut self,
        clause: &'p Clause,
        frame: &mut Frame,
        unknown: &mut bool,
    ) -> Result<Option<(Vec<Value>, Value)>> {
        let (Output::Value(leaf) | Output::Member(leaf)) = &clause.output;
        let mut parts = Vec::with_capacity(clause.keys.len() + 1);
        let member = matches!(clause.output, Output::Member(_));
        for (at, term) in clause.keys.iter().chain([leaf]).enumerate() {
            match self.term(term, frame)? {
                Outcome::Known(value) => {
                    if super::lazy::is_composite(&value) {
                        if member || at < clause.keys.len() {
                            self.tainted |= self.observe(&value)?;
                        } else {
                            self.weigh(&value)?;
                        }
                    }
                    parts.push(value);
                }
                Outcome::Undefined => return Ok(None),
                Outcome::Unknown => self.tainted = true,
            }
        }
        if self.tainted {
            *unknown = true;
            return Ok(None);
        }
        Ok(parts.pop().map(|leaf| (parts, leaf)))
    }
}

/// Puts a leaf below `keys`. False where something else is there already.
fn insert(at: &mut Value, keys: &[Value], leaf: Value, member: bool) -> bool {
    let Some((key, rest)) = keys.split_first() else {
        return match at {
            Value::Undefined if member => {
                *at = Value::from(std::collections::BTreeSet::from([leaf]));
                true
            }
            Value::Undefined => {
                *at = leaf;
                true
            }
            Value::Set(set) if member => {
                std::sync::Arc::make_mut(set).insert(leaf);
                true
            }
            known => !member && *known == leaf,
        };
    };
    if *at == Value::Undefined {
        *at = Value::new_object();
    }
    let Value::Object(object) = at else { return false };
    let object = std::sync::Arc::make_mut(object);
    insert(object.get_or_insert_with(key.clone(), || Value::Undefined), rest, leaf, member)
}
