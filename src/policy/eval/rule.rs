//! Rules: their values, their functions, their conflicts.

use regorus::Value;
use regorus::value::{Object, Set};

use super::super::error::EvalError;
use super::super::ir::{Clause, Group, GroupId, GroupKind, Output, Program, Rule, Term, Tree};
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

    fn partial_set(&mut self, group: &'p Group) -> Result<Outcome> {
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
    fn partial(&mut self, group: &'p Group) -> Result<Outcome> {
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

    /// A reference below `data` that ends at no single group: everything that is there.
    pub(super) fn data(&mut self, path: &'p [Term]) -> Result<Outcome> {
        let mut names: Vec<std::sync::Arc<str>> = Vec::with_capacity(path.len());
        for part in path {
            if let Term::Const(Value::String(name)) = part {
                names.push(name.clone());
            }
        }
        if let Some(replaced) = self.replaced_data(&names) {
            return Ok(replaced);
        }
        let program = self.program;
        let outcome = match find(&program.tree, &names) {
            None => Outcome::Undefined,
            Some(node) => self.node(node)?,
        };
        self.patched(&names, outcome)
    }

    fn node(&mut self, node: &'p Tree) -> Result<Outcome> {
        match node.group {
            Some(group) => self.group(group),
            None => self.children(node, Value::new_object()),
        }
    }

    fn children(&mut self, node: &'p Tree, into: Value) -> Result<Outcome> {
        let mut object = match into {
            Value::Object(object) => (*object).clone(),
            _ => Object::new(),
        };
        for (name, child) in &node.children {
            match self.node(child)? {
                Outcome::Known(value) => {
                    let key = Value::String(name.clone());
                    let value = match object.get(&key) {
                        None => value,
                        Some(known) => match self.merged(known, value)? {
                            Some(value) => value,
                            None => return Err(clash(self.program, child)),
                        },
                    };
                    object.insert(key, value);
                }
                Outcome::Undefined => {}
                Outcome::Unknown => return Ok(Outcome::Unknown),
            }
        }
        Ok(Outcome::Known(object.into_value()))
    }

    /// What two rules give for one key. `None` where they contradict each other.
    fn merged(&mut self, a: &Value, b: Value) -> Result<Option<Value>> {
        self.weigh(&b)?;
        let (Value::Object(one), Value::Object(two)) = (a, &b) else {
            return Ok((*a == b).then_some(b));
        };
        let mut merged = (**one).clone();
        for (key, value) in two.iter() {
            let value = match one.get(key) {
                None => value.clone(),
                Some(known) => match self.merged(known, value.clone())? {
                    None => return Ok(None),
                    Some(value) => value,
                },
            };
            merged.insert(key.clone(), value);
        }
        Ok(Some(merged.into_value()))
    }
}

fn clash(program: &Program, node: &Tree) -> Box<EvalError> {
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        if let Some(group) = node.group.and_then(|group| program.groups.get(group as usize)) {
            return conflict(group);
        }
        open.extend(node.children.values());
    }
    Box::new(EvalError::Internal { message: "two rules give one key two values".to_owned() })
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

pub(super) fn find<'t>(tree: &'t Tree, path: &[std::sync::Arc<str>]) -> Option<&'t Tree> {
    path.iter().try_fold(tree, |node, part| node.children.get(part))
}

fn conflict(group: &Group) -> Box<EvalError> {
    Box::new(EvalError::Conflict { position: group.position.clone(), rule: group.path.join(".") })
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
