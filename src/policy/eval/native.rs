//! Calls of builtins.

use regorus::Value;

use super::super::builtins::{Builtin, Origin};
use super::super::error::{EvalError, Position};
use super::super::ir::Term;
use super::super::natives::Natives;
use super::lazy::is_composite;
use super::with::Replaced;
use super::{Frame, Machine, Outcome, Result};

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
        let partial = Natives::takes_partial(builtin.name);
        let mut values = Vec::with_capacity(args.len());
        let mut unknown = false;
        for arg in args {
            match arg {
                Outcome::Undefined => return Ok(Outcome::Undefined),
                Outcome::Unknown => unknown = true,
                Outcome::Known(value) => {
                    if is_composite(value) && !partial {
                        unknown |= self.observe(value)?;
                    }
                    if let Value::String(text) = value {
                        self.budget.spend(text.len() as u64 / 64)?;
                    }
                    values.push(value.clone());
                }
            }
        }
        if unknown {
            return Ok(Outcome::Unknown);
        }
        match builtin.origin {
            Origin::Ours(function) => {
                let result = function(&values);
                self.budget.check_now()?;
                self.result(builtin.name, result)
            }
            Origin::Context => {
                let args: Vec<Option<Value>> = values.into_iter().map(Some).collect();
                match self.natives.call(builtin.name, &args, position)? {
                    Value::Undefined => Ok(Outcome::Undefined),
                    value => Ok(Outcome::Known(value)),
                }
            }
            Origin::Refused(why) => Err(Box::new(EvalError::Internal {
                message: format!("{}: {why}", builtin.name),
            })),
        }
    }

    /// Prints what is known; what is not known yet is printed in a later round.
    fn print(&mut self, args: &[Outcome], position: Option<&Position>) -> Result<Outcome> {
        let mut values = Vec::with_capacity(args.len());
        for arg in args {
            match arg {
                Outcome::Known(value) => {
                    if self.observe(value)? {
                        return Ok(Outcome::Known(Value::Bool(true)));
                    }
                    values.push(Some(value.clone()));
                }
                Outcome::Undefined => values.push(None),
                Outcome::Unknown => return Ok(Outcome::Known(Value::Bool(true))),
            }
        }
        self.natives.call("print", &values, position).map(Outcome::Known)
    }
}
