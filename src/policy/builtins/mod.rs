//! The builtin functions that rules may call, with OPA's answers.
//!
//! The list is that of Docker's engine. Each function takes and gives `regorus` values and
//! knows nothing of a policy or its input; what needs an evaluation's state is only named here
//! ([`Origin::Context`]). Where OPA leaves an expression undefined, so does each function; an
//! error ends the evaluation, and is for limits and for answers that we could not make equal.

#![allow(
    clippy::wildcard_enum_match_arm,
    reason = "an argument of any other type is undefined, whichever type it is"
)]

mod collections;
mod encoding;
mod glob;
mod json;
mod json_edit;
mod number;
mod numbers;
mod objects;
pub mod operators;
mod regex;
mod regex_go;
mod semver;
mod sprintf;
mod strings;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod time_layout;
mod time_parse;
mod units;
mod uuid;
mod value;

use regorus::Value;

pub use json::to_json;
pub use table::{all, lookup};
pub use value::{compare, keeps_its_text, to_rego_text};

/// What a builtin is called with and gives: as many arguments as its [`Builtin`] takes, none of
/// them undefined. `Ok(Value::Undefined)` is what OPA leaves undefined.
pub type Function = fn(&[Value]) -> Result<Value, BuiltinError>;

/// Who answers a call.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// This module.
    Ours(Function),
    /// Nobody: why, and what to use instead.
    Refused(&'static str),
    /// Whoever has the evaluation's state: files, clock, output.
    Context,
}

/// A function that rules may name.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    /// As it is called, `json.marshal`.
    pub name: &'static str,
    /// How few arguments it takes.
    pub min_args: u8,
    /// How many arguments it takes.
    pub max_args: u8,
    /// Who answers.
    pub origin: Origin,
}

/// Why an evaluation cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum BuiltinError {
    /// The arguments or the result are larger than an honest policy's.
    #[error("{function}: more than {limit} {unit}")]
    Limit {
        /// The builtin.
        function: &'static str,
        /// How much is allowed.
        limit: usize,
        /// Of what.
        unit: &'static str,
    },
    /// The answer would be another than OPA's.
    #[error("{function}: {what} cannot be evaluated here")]
    Unsupported {
        /// The builtin.
        function: &'static str,
        /// What was asked of it.
        what: &'static str,
    },
    /// A number that is neither an integer nor held by a 64-bit float.
    #[error("{function}: a number is too large or too small to be held")]
    Inexact {
        /// The builtin.
        function: &'static str,
    },
    /// Decoded bytes that are not a text.
    #[error("{function}: the decoded bytes are not UTF-8")]
    NotUtf8 {
        /// The builtin.
        function: &'static str,
        /// Where they are not.
        source: std::string::FromUtf8Error,
    },
}

/// The text of a template string `$"…{x}…"`: strings as they are, everything else as Rego, the
/// undefined value as `<undefined>`.
#[must_use]
pub fn template(parts: &[Value]) -> String {
    let text = |part: &Value| match part {
        Value::String(text) => text.to_string(),
        _ => to_rego_text(part),
    };
    parts.iter().map(text).collect()
}
