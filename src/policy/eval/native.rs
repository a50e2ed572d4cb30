//! Calls of builtins.

use regorus::Value;

use super::super::builtins::{Builtin, Origin};
use super::super::error::{EvalError, Position};
use super::super::ir::Term;
use super::super::natives::Called;
use super::lazy::{Read, is_composite};
use super::with::Replaced;
use super::{Frame, Machine, Outcome, Result};

/// What a call of a builtin with state costs: some verify a signature.
const CONTEXT_COST: u64 = 1_000;

/// What a builtin looks at of its arguments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Looks {
    /// Their type, or nothing: it passes them on.
    Nowhere,
    /// Which members they have, not what is in those.
    AtMembers,
    /// Everything in them.
    Through,
}

/// What a builtin looks at. Everything, for one that is not listed.
fn looks_at(name: &str) -> Looks {
    match name {
        "array.concat"
        | "array.reverse"
        | "array.slice"
        | "is_array"
        | "is_boolean"
        | "is_null"
        | "is_number"
        | "is_object"
        | "is_set"
        | "is_string"
        | "pin_image"
        | "type_name"
        | "verify_http_pgp_signature"
        | "verify_image_signature" => Looks::Nowhere,
        "count" | "object.keys" | "object.filter" | "object.remove" => Looks::AtMembers,
        _ => Looks::Through,
    }
}

impl<'p> Machine<'p> {
    pub(super) fn builtin(
        &mut self,
        builtin: &'static Builtin,
        args: &'p [Term],
        position: &Position,
        frame: &mut Frame,
    ) -> Result<Outcome> {
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            match self.term(arg, frame)? {
                // What is printed may be undefined; nothing else may.
                Outcome::Undefined if builtin.name != "print" => return Ok(Outcome::Undefined),
                value => values.push(value),
            }
        }
        if !self.world.functions.is_empty()
            && let Some(replacement) = self.replacement(Replaced::Builtin(builtin.name))
        {
            return self.call_replacement(replacement, &values);
        }
        self.apply(builtin, &values, Some(position))
    }

    /// Calls a builtin with what its arguments came to.
    pub(super) fn apply(
        &mut self,
        builtin: &'static Builtin,
        args: &[Outcome],
        position: Option<&Position>,
    ) -> Result<Outcome> {
        self.budget.spend(4)?;
        if builtin.name == "print" {
            return self.print(args, position);
        }
        if let Some(outcome) = self.object_get(builtin, args)? {
            return Ok(outcome);
        }
        let Some((values, unknown)) = self.looked_at(looks_at(builtin.name), args)? else {
            return Ok(Outcome::Undefined);
        };
        if builtin.name == "pin_image" && (unknown || self.is_doubtful()) {
            self.reads.doubtful_pin = true;
        }
        if unknown {
            return Ok(Outcome::Unknown);
        }
        self.answered(builtin, values, position)
    }

    /// The values of arguments that a builtin looks at so, and whether one that it looks at is not known;
    /// `None` where one is undefined.
    fn looked_at(&mut self, looks: Looks, args: &[Outcome]) -> Result<Option<(Vec<Value>, bool)>> {
        let mut values = Vec::with_capacity(args.len());
        let mut unknown = false;
        for (at, arg) in args.iter().enumerate() {
            let looks = if at > 0 && looks == Looks::AtMembers { Looks::Through } else { looks };
            match arg {
                Outcome::Undefined => return Ok(None),
                Outcome::Unknown => unknown = true,
                Outcome::Known(value) => {
                    unknown |= match (looks, value) {
                        (Looks::Nowhere, _) => false,
                        (Looks::AtMembers, Value::Object(object)) => self.observe_object(object),
                        (Looks::AtMembers, _) => false,
                        (Looks::Through, value) => is_composite(value) && self.observe(value)?,
                    };
                    if let Value::String(text) = value {
                        self.budget.spend(text.len() as u64 / 64)?;
                    }
                    values.push(value.clone());
                }
            }
        }
        Ok(Some((values, unknown)))
    }

    /// What a builtin gives for values that are known, as far as it looks at them.
    fn answered(
        &mut self,
        builtin: &'static Builtin,
        values: Vec<Value>,
        position: Option<&Position>,
    ) -> Result<Outcome> {
        match builtin.origin {
            Origin::Ours(function) => {
                let result = function(&values);
                self.budget.check_now()?;
                self.result(builtin.name, result)
            }
            Origin::Context => {
                let args: Vec<Option<Value>> = values.into_iter().map(Some).collect();
                self.budget.spend(CONTEXT_COST)?;
                let called = self.natives.call(builtin.name, &args, position)?;
                self.budget.check_now()?;
                match called {
                    Called::Undefined => Ok(Outcome::Undefined),
                    Called::Value(value) => Ok(Outcome::Known(value)),
                    Called::Needs(wanted) => {
                        self.ask(wanted);
                        Ok(Outcome::Unknown)
                    }
                }
            }
            Origin::Refused(why) => {
                Err(Box::new(EvalError::Internal { message: format!("{}: {why}", builtin.name) }))
            }
        }
    }

    /// `object.get` steps into an object as a reference does.
    fn object_get(&mut self, builtin: &Builtin, args: &[Outcome]) -> Result<Option<Outcome>> {
        let ("object.get", [Outcome::Known(object), Outcome::Known(key), default]) =
            (builtin.name, args)
        else {
            return Ok(None);
        };
        let Value::Object(_) = object else { return Ok(None) };
        if is_composite(key) && self.observe(key)? {
            return Ok(Some(Outcome::Unknown));
        }
        let keys = match key {
            Value::Array(path) => path.iter().cloned().collect(),
            key => vec![key.clone()],
        };
        let mut current = object.clone();
        for key in keys {
            match self.step(&current, &key, Read::Through) {
                Outcome::Known(value) => current = value,
                Outcome::Unknown => return Ok(Some(Outcome::Unknown)),
                Outcome::Undefined => return Ok(Some(default.clone())),
            }
        }
        Ok(Some(Outcome::Known(current)))
    }

    /// A value without the marks of what is not resolved.
    fn unmarked(&mut self, value: &Value) -> Result<Value> {
        self.budget.spend(1)?;
        Ok(match value {
            Value::Object(object) => {
                let mut plain = regorus::value::Object::new();
                for (key, value) in object.iter().filter(|(key, _)| **key != super::lazy::MARK) {
                    plain.insert(key.clone(), self.unmarked(value)?);
                }
                plain.into_value()
            }
            Value::Array(array) => {
                let values = array.iter().map(|value| self.unmarked(value));
                Value::from(values.collect::<Result<Vec<_>>>()?)
            }
            other => other.clone(),
        })
    }

    /// Prints what is known. Nothing is fetched for it: a rule that is looked at decides as one that
    /// is not.
    fn print(&mut self, args: &[Outcome], position: Option<&Position>) -> Result<Outcome> {
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            match arg {
                Outcome::Known(value) => values.push(Some(self.unmarked(value)?)),
                Outcome::Undefined => values.push(None),
                Outcome::Unknown => values.push(Some(super::string("<not fetched>"))),
            }
        }
        self.natives.print(&values, position);
        Ok(Outcome::Known(Value::Bool(true)))
    }
}
