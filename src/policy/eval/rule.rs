//! Rules with one value, and functions: their values, their branches, their conflicts.

use regorus::Value;

use super::super::error::EvalError;
use super::super::ir::{Clause, Group, GroupId, GroupKind, Output, Rule, Term};
use super::body::Match;
use super::scan::{RED_ZONE, STACK};
use super::{Around, Flow, Frame, Machine, Outcome, Result};

impl<'p> Machine<'p> {
    /// The value of a group, evaluated once in each world.
    pub(super) fn group(&mut self, id: GroupId) -> Result<Outcome> {
        let around = if self.tainted { self.around.max(Around::Ahead) } else { self.around };
        // What is unknown is evaluated again where it matters more than it did: fields that were not
        // worth asking for then may be now, and a round must ask for something.
        if let Some(Some((known, then))) = self.world.cache.get(id as usize)
            && (*known != Outcome::Unknown || *then <= around)
        {
            return Ok(known.clone());
        }
        let program = self.program;
        let Some(group) = program.groups.get(id as usize) else { return Ok(Outcome::Undefined) };
        let outcome = self.nested(|machine| match machine.replaced_data(&group.path) {
            Some(replaced) => Ok(replaced),
            None => machine.group_value(group),
        })?;
        let outcome = self.patched(&group.path, outcome)?;
        if let Some(place) = self.world.cache.get_mut(id as usize) {
            *place = Some((outcome.clone(), around));
        }
        Ok(outcome)
    }

    fn group_value(&mut self, group: &'p Group) -> Result<Outcome> {
        match group.kind {
            GroupKind::Complete => self.complete(group, &[]),
            GroupKind::Set => self.partial_set(group),
            GroupKind::Partial => self.partial(group),
            GroupKind::Function(_) => Ok(Outcome::Undefined),
        }
    }

    /// Calls a function of the policy.
    pub(super) fn call(&mut self, id: GroupId, args: &[Outcome]) -> Result<Outcome> {
        if let Some(outcome) = self.replaced_function(id, args)? {
            return Ok(outcome);
        }
        let program = self.program;
        let Some(group) = program.groups.get(id as usize) else { return Ok(Outcome::Undefined) };
        self.nested(|machine| machine.complete(group, args))
    }

    /// Evaluates a rule for the body that is being evaluated.
    fn nested<T>(&mut self, evaluate: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.budget.enter()?;
        let outside = self.go_inside();
        let result = stacker::maybe_grow(RED_ZONE, STACK, || evaluate(self));
        self.come_outside(outside);
        self.budget.leave();
        result
    }

    /// One value from all rules of a group, which must agree.
    fn complete(&mut self, group: &'p Group, args: &[Outcome]) -> Result<Outcome> {
        let mut value: Option<Value> = None;
        let mut maybe = Maybe::default();
        for rule in &group.rules {
            let mut frame = Frame::new(rule.slots);
            self.tainted = match self.bind_params(rule, args, &mut frame)? {
                Match::Yes => false,
                Match::No => continue,
                Match::Unknown => true,
            };
            let tainted = self.tainted;
            let found = match self.chain(group, rule, &mut frame)? {
                Chain::None => continue,
                Chain::Maybe(these) => {
                    maybe.join(these);
                    continue;
                }
                Chain::Value(found) if tainted => {
                    maybe.add(Some(&found));
                    continue;
                }
                Chain::Value(found) => found,
            };
            match &value {
                None => value = Some(found),
                Some(known) => {
                    let known = known.clone();
                    match self.equal(&known, &found)? {
                        Some(true) => {}
                        Some(false) => return Err(conflict(group)),
                        None => maybe.add(None),
                    }
                }
            }
            // The other rules can only say the same again, and OPA does not look at them either.
            if group.alike && self.trace.is_none() {
                break;
            }
        }
        self.tainted = false;
        match value {
            // What may hold besides must not be able to give another value.
            Some(value) if maybe.only(&value) => Ok(Outcome::Known(value)),
            Some(_) => Ok(Outcome::Unknown),
            None if maybe.any() => Ok(Outcome::Unknown),
            None => match &group.default {
                None => Ok(Outcome::Undefined),
                Some(default) => self.term(default, &mut Frame::new(group.default_slots)),
            },
        }
    }

    fn bind_params(
        &mut self,
        rule: &'p Rule,
        args: &[Outcome],
        frame: &mut Frame,
    ) -> Result<Match> {
        let mut all = Match::Yes;
        for (pattern, arg) in rule.params.iter().zip(args) {
            let matched = self.matches(pattern, arg, frame)?;
            match (pattern, matched) {
                // An argument that is not known yet is passed on as such; it taints what reads it.
                (super::super::ir::Pattern::Any | super::super::ir::Pattern::Bind(_), _)
                | (_, Match::Yes) => {}
                (_, Match::No) => return Ok(Match::No),
                (_, Match::Unknown) => all = Match::Unknown,
            }
        }
        Ok(all)
    }

    /// The value of a rule: that of the first body in its chain that holds.
    fn chain(&mut self, group: &'p Group, rule: &'p Rule, frame: &mut Frame) -> Result<Chain> {
        let around = self.around;
        let chain = self.clauses(group, rule, frame);
        self.around = around;
        chain
    }

    fn clauses(&mut self, group: &'p Group, rule: &'p Rule, frame: &mut Frame) -> Result<Chain> {
        let mut maybe = Maybe::default();
        for clause in &rule.chain {
            if maybe.any() {
                self.around = Around::Otherwise;
            }
            match self.clause_value(group, clause, frame)? {
                Outcome::Undefined => {}
                // What comes after an `else` counts if this body turns out not to hold.
                Outcome::Unknown => maybe.add(clause.constant()),
                Outcome::Known(value) if maybe.only(&value) => return Ok(Chain::Value(value)),
                Outcome::Known(value) => {
                    maybe.add(Some(&value));
                    return Ok(Chain::Maybe(maybe));
                }
            }
        }
        Ok(if maybe.any() { Chain::Maybe(maybe) } else { Chain::None })
    }

    fn clause_value(
        &mut self,
        group: &'p Group,
        clause: &'p Clause,
        frame: &mut Frame,
    ) -> Result<Outcome> {
        let Output::Value(output) = &clause.output else { return Ok(Outcome::Undefined) };
        let entered = self.tainted;
        let mut value: Option<Value> = None;
        let mut unknown = false;
        let one = matches!(output, Term::Const(_));
        self.run(&clause.steps, frame, &mut |machine, frame| {
            match machine.term(output, frame)? {
                Outcome::Undefined => return Ok(Flow::More),
                Outcome::Known(found) if !machine.tainted => match &value {
                    None => value = Some(found),
                    Some(known) => {
                        let known = known.clone();
                        match machine.equal(&known, &found)? {
                            Some(true) => {}
                            Some(false) => return Err(conflict(group)),
                            None => unknown = true,
                        }
                    }
                },
                Outcome::Known(_) | Outcome::Unknown => unknown = true,
            }
            Ok(if one && value.is_some() { Flow::Enough } else { Flow::More })
        })?;
        self.tainted = entered;
        Ok(match (value, unknown) {
            (Some(value), false) => Outcome::Known(value),
            // Another way through may hold; with a constant it gives the same.
            (Some(value), true) if one => Outcome::Known(value),
            (Some(_) | None, true) => Outcome::Unknown,
            (None, false) => Outcome::Undefined,
        })
    }
}

/// What the bodies of one rule came to.
enum Chain {
    None,
    Value(Value),
    /// It may have one of these values, or none.
    Maybe(Maybe),
}

/// Values that a rule may turn out to have.
#[derive(Default)]
struct Maybe {
    values: Vec<Value>,
    /// One of which nothing is known.
    other: bool,
}

impl Maybe {
    fn add(&mut self, value: Option<&Value>) {
        match value {
            Some(value) => self.values.push(value.clone()),
            None => self.other = true,
        }
    }

    fn join(&mut self, more: Self) {
        self.values.extend(more.values);
        self.other |= more.other;
    }

    fn any(&self) -> bool {
        self.other || !self.values.is_empty()
    }

    /// Whether it can be nothing but this value, if it is anything.
    fn only(&self, value: &Value) -> bool {
        !self.other && self.values.iter().all(|known| known == value)
    }
}

pub(super) fn conflict(group: &Group) -> Box<EvalError> {
    Box::new(EvalError::Conflict { position: group.position.clone(), rule: group.path.join(".") })
}
