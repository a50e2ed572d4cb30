//! What a check found, as plain data: the CLI fills it, the renderers draw it.
//!
//! Nothing here knows how a policy is evaluated. Strings are taken as they are, control characters
//! included; each renderer makes them safe for the place it writes to. Secrets are not its concern:
//! identifiers come here masked.

use serde::Serialize;

/// The outcome of `check` or `eval`: every source of a build, each with its decision.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// Version of buildgate that decided.
    pub tool_version: String,
    /// What was found about each source, in the order of the build.
    pub findings: Vec<Finding>,
    /// Absolute directory that relative files stand in; only for links in a terminal, never written.
    #[serde(skip)]
    pub base: Option<String>,
}

/// One source and its decision.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Finding {
    /// Identifier of the source, masked.
    pub source: String,
    /// Platform it was judged for (`linux/amd64`), where that matters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<String>,
    /// How the build comes to it: `FROM`, `COPY --from`, `ADD`, `RUN --mount`, `# syntax`, …
    pub via: String,
    /// Where the Dockerfile names it; absent for the context and for sources given by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
    /// The decision.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Why, in the order of the policy.
    pub messages: Vec<Message>,
    /// What is said aloud of a source whatever the decision (`warn_msg`).
    pub warnings: Vec<Message>,
    /// Name of the policy that decided; absent where none could.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What would pass, where we know.
    pub hints: Vec<String>,
    /// What was asked of whom to decide.
    pub fetched: Vec<String>,
    /// How the decision came about, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explain: Option<Explain>,
}

/// A decision on one source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// Every policy allows it.
    Allowed,
    /// Every policy allows it, as long as it is this very content.
    AllowedWithPin {
        /// What the build must fetch instead: the identifier with its digest or checksum.
        to: String,
    },
    /// A policy denies it.
    Denied,
    /// There is no decision, and so it is refused.
    Undecided {
        /// Why there is none.
        error: String,
    },
}

/// Lines of a file that are drawn.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Location {
    /// The file, as the person named it.
    pub file: String,
    /// First line, from 1.
    pub start_line: u32,
    /// Last line, `start_line` or more.
    pub end_line: u32,
    /// The text of these lines.
    pub text: String,
    /// The part of `text` that is meant; absent: all of its first line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub span: Option<Span>,
}

/// Bytes of a text, end exclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// Byte after the last.
    pub end: usize,
}

/// Something that is said of a source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// The words, verbatim.
    pub text: String,
    /// The rule that says it, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<RuleAt>,
    /// Whose words they are.
    pub origin: Origin,
}

/// Whose words a message has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// The policy's own.
    Policy,
    /// Ours, where a policy says nothing or there is more to say.
    Ours,
}

/// A place in a policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct RuleAt {
    /// The policy file.
    pub file: String,
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
    /// The text of that line; empty where it is not at hand.
    pub snippet: String,
}

/// How a decision came about.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explain {
    /// The document that the rules read, masked.
    pub input: serde_json::Value,
    /// What became of each rule.
    pub rules: Vec<RuleTrace>,
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleTrace {
    /// Name of the rule.
    pub name: String,
    /// The policy file.
    pub file: String,
    /// Line of the rule, from 1.
    pub line: u32,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: RuleOutcome,
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum RuleOutcome {
    /// Its body is true.
    Held,
    /// An expression in it is not.
    Failed {
        /// Where the expression stands, in the rule's file.
        at: Position,
        /// Its text.
        expression: String,
    },
    /// It was not evaluated: the decision did not need it.
    NotReached,
}

/// A place in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Position {
    /// Line, from 1.
    pub line: u32,
    /// Column in characters, from 1.
    pub column: u32,
}

/// The decision on a build as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every source is allowed.
    Allowed,
    /// A source is denied: the build may not run, whatever is not known of the others.
    Denied,
    /// No source is denied, and of one it is not known.
    Undecided,
}

/// How many sources there are of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// Sources in all.
    pub sources: usize,
    /// Allowed ones, pinned or not.
    pub allowed: usize,
    /// Denied ones.
    pub denied: usize,
    /// Those without a decision.
    pub undecided: usize,
    /// Warnings on all of them.
    pub warnings: usize,
}

impl Report {
    /// How many sources there are of each kind.
    pub fn summary(&self) -> Summary {
        let mut summary = Summary { sources: self.findings.len(), ..Summary::default() };
        for finding in &self.findings {
            summary.warnings += finding.warnings.len();
            match finding.outcome {
                Outcome::Allowed | Outcome::AllowedWithPin { .. } => summary.allowed += 1,
                Outcome::Denied => summary.denied += 1,
                Outcome::Undecided { .. } => summary.undecided += 1,
            }
        }
        summary
    }

    /// The decision on the build as a whole. A report without a finding allows nothing.
    pub fn verdict(&self) -> Verdict {
        match self.summary() {
            Summary { denied: 1.., .. } => Verdict::Denied,
            Summary { undecided: 1.., .. } | Summary { sources: 0, .. } => Verdict::Undecided,
            Summary { .. } => Verdict::Allowed,
        }
    }
}

impl Verdict {
    /// The exit code of the command: 0 allowed, 1 denied, 2 could not decide.
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Allowed => 0,
            Self::Denied => 1,
            Self::Undecided => 2,
        }
    }
}
