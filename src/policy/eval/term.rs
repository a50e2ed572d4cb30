//! Terms: expressions with at most one value.

use regorus::Value;
use regorus::value::Object;

use super::super::error::EvalError;
use super::super::ir::{Arithmetic, Comparison, Membership, Term};
use super::lazy::{Read, is_composite};
use super::{Frame, Machine, Outcome, Result, member};
use crate::policy::builtins::{self, BuiltinError, operators};

/// How deep values may nest.
const MAX_NESTING: u32 = 256;

impl<'p> Machine<'p> {
    /// What a term comes to.
    pub(super) fn term(&mut self, term: &'p Term, frame: &mut Frame) -> Result<Outcome> {
        match term {
            Term::Const(value) => Ok(Outcome::Known(value.clone())),
            Term::Slot(slot) => Ok(frame.get(*slot)),
            Term::Input => Ok(self.world.input.clone()),
            Term::Group(group) => self.group(*group),
            Term::Data(path) => self.data(path),
            Term::Path(base, path) => {
                let outcome = self.path(base, path, frame)?;
                if outcome == Outcome::Undefined
                    && self.trace.is_some()
                    && matches!(**base, Term::Input)
                {
                    self.note_missing(path, frame)?;
                }
                Ok(outcome)
            }
            Term::Array(items) => Ok(match self.all(items, frame)? {
                Ok(values) => self.make(Value::from(values))?,
                Err(outcome) => outcome,
            }),
            Term::Set(items) => match self.all(items, frame)? {
                Ok(values) => self.make_set(values),
                Err(outcome) => Ok(outcome),
            },
            Term::Object(fields) => self.object(fields, frame),
            Term::Comprehension(comprehension) => self.comprehension(comprehension, frame),
            Term::Compare(op, pair) => {
                let (a, b) = (self.term(&pair.0, frame)?, self.term(&pair.1, frame)?);
                self.compare(*op, &a, &b)
            }
            Term::Arithmetic(op, pair) => {
                let (a, b) = (self.term(&pair.0, frame)?, self.term(&pair.1, frame)?);
                self.arithmetic(*op, &a, &b)
            }
            Term::Member(membership) => self.membership(membership, frame),
            Term::Call(group, args) => {
                let mut values = Vec::with_capacity(args.len());
                for arg in args {
                    match self.term(arg, frame)? {
                        Outcome::Undefined => return Ok(Outcome::Undefined),
                        value => values.push(value),
                    }
                }
                self.call(*group, &values)
            }
            Term::Builtin(builtin, args, position) => self.builtin(builtin, args, position, frame),
            Term::Function(_) => Ok(Outcome::Undefined),
        }
    }

    fn path(&mut self, base: &'p Term, path: &'p [Term], frame: &mut Frame) -> Result<Outcome> {
        let mut current = match self.term(base, frame)? {
            Outcome::Known(value) => value,
            other => {
                if other == Outcome::Unknown {
                    // Operands are read whatever the base is.
                    for operand in path {
                        if self.term(operand, frame)? == Outcome::Undefined {
                            return Ok(Outcome::Undefined);
                        }
                    }
                }
                return Ok(other);
            }
        };
        let read = if matches!(base, Term::Input) { Read::Direct } else { Read::Through };
        let (found, path) = walk(&current, path);
        current = found.clone();
        for operand in path {
            let next = match operand {
                Term::Const(key) => self.step(&current, key, read),
                operand => match self.term(operand, frame)? {
                    Outcome::Known(key) => {
                        if is_composite(&key) && self.observe(&key)? {
                            return Ok(Outcome::Unknown);
                        }
                        self.step(&current, &key, read)
                    }
                    Outcome::Undefined => return Ok(Outcome::Undefined),
                    Outcome::Unknown => {
                        if let Value::Object(object) = &current {
                            self.observe_object(object);
                        }
                        return Ok(Outcome::Unknown);
                    }
                },
            };
            match next {
                Outcome::Known(value) => current = value,
                other => return Ok(other),
            }
        }
        Ok(Outcome::Known(current))
    }

    /// Notes for the trace that a field of the input is not there.
    fn note_missing(&mut self, path: &'p [Term], frame: &mut Frame) -> Result<()> {
        let mut text = String::from("input");
        for operand in path {
            match self.term(operand, frame)? {
                Outcome::Known(Value::String(name)) => {
                    text.push('.');
                    text.push_str(&name);
                }
                Outcome::Known(other) => {
                    text.push_str(&format!("[{}]", crate::policy::builtins::to_rego_text(&other)));
                }
                Outcome::Undefined | Outcome::Unknown => break,
            }
        }
        if let Some(trace) = &mut self.trace {
            trace.missing(text);
        }
        Ok(())
    }

    pub(super) fn step(&mut self, value: &Value, key: &Value, read: Read) -> Outcome {
        if *key == super::lazy::MARK
            && let Value::Object(object) = value
            && self.observe_object(object)
        {
            return Outcome::Unknown;
        }
        match member(value, key) {
            Some(found) => Outcome::Known(found.clone()),
            None => match value {
                Value::Object(object) if self.missing(object, key, read) => Outcome::Unknown,
                _ => Outcome::Undefined,
            },
        }
    }

    /// All terms' values, or the outcome that keeps them from being one value.
    fn all(
        &mut self,
        terms: &'p [Term],
        frame: &mut Frame,
    ) -> Result<std::result::Result<Vec<Value>, Outcome>> {
        let mut values = Vec::with_capacity(terms.len());
        let mut unknown = false;
        for term in terms {
            match self.term(term, frame)? {
                Outcome::Known(value) => values.push(value),
                Outcome::Undefined => return Ok(Err(Outcome::Undefined)),
                Outcome::Unknown => unknown = true,
            }
        }
        Ok(if unknown { Err(Outcome::Unknown) } else { Ok(values) })
    }

    /// A value that the evaluation made, counted. Whatever looks at values recurses into them, and
    /// so does letting go of them, so none may nest without bound.
    pub(super) fn make(&mut self, value: Value) -> Result<Outcome> {
        self.budget.made(&value)?;
        let mut open: Vec<(u32, &Value)> = vec![(1, &value)];
        while let Some((depth, value)) = open.pop() {
            if depth > MAX_NESTING {
                return Err(Box::new(EvalError::Nesting { limit: MAX_NESTING }));
            }
            self.budget.spend(1)?;
            let mut inside = |value| {
                if is_composite(value) {
                    open.push((depth + 1, value));
                }
            };
            match value {
                Value::Array(array) => array.iter().for_each(inside),
                Value::Set(set) => set.iter().for_each(inside),
                Value::Object(object) => object.iter().for_each(|(key, value)| {
                    inside(key);
                    inside(value);
                }),
                _ => {}
            }
        }
        Ok(Outcome::Known(value))
    }

    fn make_set(&mut self, values: Vec<Value>) -> Result<Outcome> {
        for value in &values {
            if is_composite(value) && self.observe(value)? {
                return Ok(Outcome::Unknown);
            }
        }
        let set: std::collections::BTreeSet<Value> = values.into_iter().collect();
        self.make(Value::from(set))
    }

    fn object(&mut self, fields: &'p [(Term, Term)], frame: &mut Frame) -> Result<Outcome> {
        let mut object = Object::new();
        let mut unknown = false;
        for (key, value) in fields {
            match (self.term(key, frame)?, self.term(value, frame)?) {
                (Outcome::Undefined, _) | (_, Outcome::Undefined) => {
                    return Ok(Outcome::Undefined);
                }
                (Outcome::Unknown, _) | (_, Outcome::Unknown) => unknown = true,
                (Outcome::Known(key), Outcome::Known(value)) => {
                    unknown |= is_composite(&key) && self.observe(&key)?;
                    object.insert(key, value);
                }
            }
        }
        if unknown {
            return Ok(Outcome::Unknown);
        }
        self.make(object.into_value())
    }

    /// Whether two values are equal. `None` where a part of one is not known.
    pub(super) fn equal(&mut self, a: &Value, b: &Value) -> Result<Option<bool>> {
        if is_composite(a) && is_composite(b) && (self.observe(a)? | self.observe(b)?) {
            return Ok(None);
        }
        Ok(Some(a == b))
    }

    fn compare(&mut self, op: Comparison, a: &Outcome, b: &Outcome) -> Result<Outcome> {
        let (a, b) = match (a, b) {
            (Outcome::Undefined, _) | (_, Outcome::Undefined) => return Ok(Outcome::Undefined),
            (Outcome::Unknown, _) | (_, Outcome::Unknown) => return Ok(Outcome::Unknown),
            (Outcome::Known(a), Outcome::Known(b)) => (a, b),
        };
        if is_composite(a) && is_composite(b) && (self.observe(a)? | self.observe(b)?) {
            return Ok(Outcome::Unknown);
        }
        let holds = match op {
            Comparison::Equal => a == b,
            Comparison::NotEqual => a != b,
            Comparison::Less => builtins::compare(a, b).is_lt(),
            Comparison::LessOrEqual => builtins::compare(a, b).is_le(),
            Comparison::Greater => builtins::compare(a, b).is_gt(),
            Comparison::GreaterOrEqual => builtins::compare(a, b).is_ge(),
        };
        Ok(Outcome::Known(Value::Bool(holds)))
    }

    fn arithmetic(&mut self, op: Arithmetic, a: &Outcome, b: &Outcome) -> Result<Outcome> {
        let (a, b) = match (a, b) {
            (Outcome::Undefined, _) | (_, Outcome::Undefined) => return Ok(Outcome::Undefined),
            (Outcome::Unknown, _) | (_, Outcome::Unknown) => return Ok(Outcome::Unknown),
            (Outcome::Known(a), Outcome::Known(b)) => (a, b),
        };
        if (is_composite(a) && self.observe(a)?) | (is_composite(b) && self.observe(b)?) {
            return Ok(Outcome::Unknown);
        }
        let result = match op {
            Arithmetic::Add => operators::add(a, b),
            Arithmetic::Subtract => operators::sub(a, b),
            Arithmetic::Multiply => operators::mul(a, b),
            Arithmetic::Divide => operators::div(a, b),
            Arithmetic::Remainder => operators::rem(a, b),
            Arithmetic::And => operators::and(a, b),
            Arithmetic::Or => operators::or(a, b),
        };
        self.result("operator", result)
    }

    /// What a builtin gave, counted.
    pub(super) fn result(
        &mut self,
        name: &str,
        result: std::result::Result<Value, BuiltinError>,
    ) -> Result<Outcome> {
        match result {
            Ok(Value::Undefined) => Ok(Outcome::Undefined),
            Ok(value) => self.make(value),
            Err(error) => {
                Err(Box::new(EvalError::Internal { message: format!("{name}: {error}") }))
            }
        }
    }

    fn membership(&mut self, membership: &'p Membership, frame: &mut Frame) -> Result<Outcome> {
        let key = match &membership.key {
            Some(key) => Some(self.term(key, frame)?),
            None => None,
        };
        let value = self.term(&membership.value, frame)?;
        let collection = self.term(&membership.collection, frame)?;
        let mut unknown = false;
        for outcome in key.iter().chain([&value, &collection]) {
            match outcome {
                Outcome::Undefined => return Ok(Outcome::Undefined),
                Outcome::Unknown => unknown = true,
                Outcome::Known(value) => {
                    unknown |= is_composite(value) && self.observe(value)?;
                }
            }
        }
        let (Outcome::Known(value), Outcome::Known(collection), false) =
            (&value, &collection, unknown)
        else {
            return Ok(Outcome::Unknown);
        };
        let found = match key {
            Some(Outcome::Known(key)) => member(collection, &key) == Some(value),
            Some(_) => return Ok(Outcome::Unknown),
            None => match collection {
                Value::Array(array) => array.contains(value),
                Value::Set(set) => set.contains(value),
                Value::Object(object) => object.values().any(|member| member == value),
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Undefined => false,
            },
        };
        Ok(Outcome::Known(Value::Bool(found)))
    }
}

/// Follows a path as far as it is made of names that are there: where that leads, and the rest of
/// the path. Nothing on the way is counted as held by anyone else.
fn walk<'v, 'p>(value: &'v Value, path: &'p [Term]) -> (&'v Value, &'p [Term]) {
    let mut at = value;
    for (done, operand) in path.iter().enumerate() {
        match (operand, at) {
            (Term::Const(name @ Value::String(_)), Value::Object(object)) => {
                match object.get(name) {
                    Some(found) => at = found,
                    None => return (at, &path[done..]),
                }
            }
            _ => return (at, &path[done..]),
        }
    }
    (at, &[])
}

/// Only `false` does not hold; every other value does.
pub(super) fn is_true(value: &Value) -> bool {
    *value != Value::Bool(false)
}
