//! Decisions: what `data.docker.decision` may say, and nothing else.

use regorus::Value;

use super::error::EvalError;

/// What a policy decided about one source.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether the source may be used.
    pub allow: bool,
    /// The policy's own messages (`deny_msg`), verbatim, sorted.
    pub deny_messages: Vec<String>,
    /// What is said aloud though the source is allowed (`warn_msg`).
    pub warnings: Vec<String>,
    /// What the policy asks of the build as a whole (`caps`).
    pub caps: Caps,
    /// The digest that `pin_image` was called with.
    pub pin: Option<String>,
}

/// What a policy may ask of a build as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caps {
    /// `exec.proxy`: HTTP of `RUN` goes through the daemon's proxy and is judged too.
    pub exec_proxy: Option<bool>,
}

/// Most messages of one decision that are kept.
const MAX_MESSAGES: usize = 1_000;

impl Decision {
    /// Reads a decision.
    ///
    /// # Errors
    /// When it is not an object, or a field of it has not the type it must have. Nothing that a
    /// policy says is dropped: a message that is no string is an error too.
    pub(super) fn from_value(value: &Value) -> Result<Self, EvalError> {
        let Value::Object(fields) = value else {
            return Err(wrong(format!(
                "data.docker.decision must be an object such as {{\"allow\": allow}}, not {}",
                type_name(value)
            )));
        };
        let mut decision = Self::default();
        for (key, value) in fields.iter() {
            match key {
                Value::String(key) => match &**key {
                    "allow" => decision.allow = boolean("allow", value)?,
                    "deny_msg" => decision.deny_messages = messages("deny_msg", value)?,
                    "warn_msg" => decision.warnings = messages("warn_msg", value)?,
                    "caps" => decision.caps = caps(value)?,
                    // Docker's engine passes over what it does not know; so must a shared policy.
                    _ => {}
                },
                _ => return Err(wrong("a key of data.docker.decision is no string".to_owned())),
            }
        }
        Ok(decision)
    }
}

fn wrong(message: String) -> EvalError {
    EvalError::Decision { message }
}

fn boolean(field: &str, value: &Value) -> Result<bool, EvalError> {
    match value {
        Value::Bool(value) => Ok(*value),
        other => {
            Err(wrong(format!("decision.{field} must be true or false, not {}", type_name(other))))
        }
    }
}

fn messages(field: &str, value: &Value) -> Result<Vec<String>, EvalError> {
    let texts: Vec<&Value> = match value {
        Value::Array(array) => array.iter().collect(),
        Value::Set(set) => set.iter().collect(),
        Value::String(_) => vec![value],
        other => {
            return Err(wrong(format!(
                "decision.{field} must be a set or a list of strings, not {}",
                type_name(other)
            )));
        }
    };
    let mut messages = texts
        .into_iter()
        .map(|text| match text {
            Value::String(text) => Ok(text.to_string()),
            other => Err(wrong(format!(
                "decision.{field} holds {}, where only strings may be: {}",
                type_name(other),
                super::builtins::to_rego_text(other)
            ))),
        })
        .collect::<Result<Vec<_>, _>>()?;
    messages.sort();
    messages.truncate(MAX_MESSAGES);
    Ok(messages)
}

fn caps(value: &Value) -> Result<Caps, EvalError> {
    let Value::Object(fields) = value else {
        return Err(wrong(format!("decision.caps must be an object, not {}", type_name(value))));
    };
    let mut caps = Caps::default();
    for (key, value) in fields.iter() {
        match key {
            Value::String(key) if &**key == "exec.proxy" => {
                caps.exec_proxy = Some(boolean("caps[\"exec.proxy\"]", value)?);
            }
            other => {
                return Err(wrong(format!(
                    "decision.caps asks for {}; only \"exec.proxy\" is known",
                    super::builtins::to_rego_text(other)
                )));
            }
        }
    }
    Ok(caps)
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Set(_) => "a set",
        Value::Object(_) => "an object",
        Value::Undefined => "undefined",
    }
}
