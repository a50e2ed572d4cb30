//! Why a policy cannot be loaded, or cannot decide.

use std::fmt;
use std::sync::Arc;

use super::files::FileError;

/// A place in a policy file. Lines and columns count from one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Position {
    /// Name of the file in the policy filesystem.
    pub file: Arc<str>,
    /// Line.
    pub line: u32,
    /// Column, in characters.
    pub column: u32,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.file, self.line, self.column)
    }
}

/// A policy that cannot be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// A file of it cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// It has no rules at all.
    #[error("{policy}: there is no policy file in it (a *.rego that is no *_test.rego)")]
    Empty {
        /// The policy's name.
        policy: String,
    },
    /// Something in a file is not allowed, or not Rego.
    #[error("{position}: {message}\n{snippet}")]
    Source {
        /// Where.
        position: Position,
        /// What, and what to do.
        message: String,
        /// The line, drawn with a marker.
        snippet: String,
    },
    /// Loading ran into a limit or a fault of the engine.
    #[error("{policy}: {message}")]
    Internal {
        /// The policy's name.
        policy: String,
        /// What happened.
        message: String,
    },
}

/// A decision that a policy could not come to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EvalError {
    /// A rule gave two answers where it may give one.
    #[error("{position}: `{rule}` gives more than one value")]
    Conflict {
        /// Where the rule stands.
        position: Position,
        /// Its name.
        rule: String,
    },
    /// A builtin of ours could not do what it was asked to.
    #[error("{position}: {builtin}: {message}")]
    Builtin {
        /// Where the call stands.
        position: Position,
        /// The function.
        builtin: String,
        /// What went wrong, and with which file or value.
        message: String,
    },
    /// Evaluation took longer than it may.
    #[error("the policy did not come to a decision within {limit_ms} ms")]
    Timeout {
        /// The limit.
        limit_ms: u64,
    },
    /// Evaluation needed more memory than it may.
    #[error("the policy needs more than {limit_mib} MiB to come to a decision")]
    Memory {
        /// The limit.
        limit_mib: u64,
    },
    /// Evaluation nested deeper than it may.
    #[error("the policy's rules nest deeper than {limit} levels")]
    Depth {
        /// The limit.
        limit: u32,
    },
    /// A rule made a value that nests deeper than it may.
    #[error("a rule makes a value that nests deeper than {limit} levels")]
    Nesting {
        /// The limit.
        limit: u32,
    },
    /// A rule read something that could not be verified.
    #[error("a rule reads {field}, and it could not be verified: {why}")]
    CouldNotVerify {
        /// The field, as rules write it.
        field: String,
        /// Why.
        why: String,
    },
    /// There is no decision about this input.
    #[error(
        "{policy}: data.docker.decision is undefined; a policy says \
         `decision := {{\"allow\": allow, \"deny_msg\": deny_msg}}` in package docker"
    )]
    Undefined {
        /// The policy's name.
        policy: String,
    },
    /// The decision is not of the form that a decision has.
    #[error("{message}")]
    Decision {
        /// What is wrong with it.
        message: String,
    },
    /// The engine failed; nothing is allowed by that.
    #[error("the policy engine failed: {message}")]
    Internal {
        /// What it said.
        message: String,
    },
}

/// Draws a line of a file with a marker under a column.
pub(super) fn snippet(text: &str, line: u32, column: u32) -> String {
    const WIDTH: usize = 160;
    let content = text.lines().nth(line.saturating_sub(1) as usize).unwrap_or("");
    let column = column.max(1) as usize;
    let skip = column.saturating_sub(WIDTH / 2);
    let shown: String = content
        .chars()
        .skip(skip)
        .take(WIDTH)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let number = line.to_string();
    let gutter = " ".repeat(number.len());
    let marker = " ".repeat(column - 1 - skip);
    format!("{gutter} |\n{number} | {shown}\n{gutter} | {marker}^")
}
