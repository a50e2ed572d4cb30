//! Policies: loaded, compiled once, evaluated many times. All of regorus lives here.
//!
//! regorus reads the text and holds the values; what evaluates them is our own (`eval`), because
//! it has to tell *undefined* from *not resolved yet*, and because a policy must mean here what it
//! means in OPA. ARCHITECTURE.md has the measurements behind that.

// Values are regorus's, and what is not of the type that is asked for is one case here: OPA's
// undefined. Our own enums are matched arm by arm where a decision hangs on them.
#![allow(clippy::wildcard_enum_match_arm)]

pub mod builtins;
mod decision;
mod document;
mod error;
mod eval;
mod explain;
mod files;
mod ir;
mod load;
mod lower;
mod natives;
mod parse;
mod suite;
mod template;
#[cfg(test)]
mod tests;
mod trace;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use regorus::Value;

pub use self::decision::{Caps, Decision};
pub use self::error::{EvalError, PolicyError, Position};
pub use self::eval::Limits;
pub(crate) use self::eval::thread_time;
pub use self::explain::{Attempt, Explanation, NearMiss, RuleTrace, StatementTrace, Verdict};
pub use self::files::{FileError, MAX_DATA, MAX_REGO, PolicyFiles};
pub use self::suite::{Coverage, FileCoverage, TestOutcome, TestResult, TestSuite};

use self::eval::{Machine, Outcome as Came};
use self::ir::{GroupId, Program};
use self::natives::{JsonCache, Natives};
use crate::input::{FieldSet, Input};
use crate::meta::{ChecksumRequest, MetaRequest, NodePath};
use crate::verify::Trust;

/// A policy, ready to decide. Cheap to share between threads.
#[derive(Debug)]
pub struct Policy {
    name: String,
    program: Program,
    decision: Option<GroupId>,
    shared: Shared,
    limits: Limits,
    /// The text of each of its files, for drawing.
    texts: Vec<(Arc<str>, Arc<str>)>,
}

/// What evaluations of one policy share.
#[derive(Debug)]
struct Shared {
    files: PolicyFiles,
    json: Mutex<JsonCache>,
    trust: Arc<Trust>,
}

impl Shared {
    /// A JSON file of the policy, read once for its life.
    fn json(&self, path: &str) -> Result<Value, String> {
        let mut cache = self.json.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = cache.get(path) {
            return known.clone();
        }
        let read = natives::read_json(&self.files, path);
        cache.insert(path.to_owned(), read.clone());
        read
    }
}

/// What one round of a decision came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Round {
    /// A decision: nothing that it rests on was left unresolved.
    Decided(Decision),
    /// Fields to resolve first, by node.
    Needs(Needs),
}

/// What to resolve before a policy can decide.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Needs {
    /// Fields, by node.
    pub fields: Vec<(NodePath, FieldSet)>,
    /// A digest of the file that is judged, to verify a signature by. One at a time: an answer
    /// holds no more.
    pub checksum: Option<ChecksumRequest>,
    /// What is asked of somebody else than who resolves the sources: see [`crate::meta::ASIDE`].
    pub aside: Vec<MetaRequest>,
}

impl Needs {
    /// Whether nothing is needed.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.checksum.is_none() && self.aside.is_empty()
    }
}

/// A round, and what rules printed in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated {
    /// What it came to.
    pub round: Round,
    /// What rules printed, with file and line.
    pub prints: Vec<String>,
    /// Why signatures that rules asked about are not verified: absent, invalid, or cannot be told.
    pub notes: Vec<String>,
}

impl Policy {
    /// Its name, for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The policy's name and text by file, for messages that draw a line of it.
    pub fn text_of(&self, file: &str) -> Option<&str> {
        self.texts.iter().find(|(name, _)| &**name == file).map(|(_, text)| &**text)
    }

    /// Sets how far one evaluation may go.
    #[must_use]
    pub fn with_limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// Sets by whom signatures of images and attestations are trusted: Sigstore's public instance
    /// where it is not called.
    #[must_use]
    pub fn with_trust(mut self, trust: Arc<Trust>) -> Self {
        self.shared.trust = trust;
        self
    }

    /// By whom signatures of images and attestations are trusted.
    pub fn trust(&self) -> &Trust {
        &self.shared.trust
    }

    /// Judges an input that may be known only in part.
    ///
    /// # Errors
    /// When the policy comes to no decision: nothing is allowed by that.
    pub fn judge(&self, input: &Input) -> Result<Evaluated, EvalError> {
        self.judge_within(input, self.limits.time)
    }

    /// The same within less time, where `most` is less than the policy's limit.
    ///
    /// # Errors
    /// As [`Policy::judge`].
    pub fn judge_within(&self, input: &Input, most: Duration) -> Result<Evaluated, EvalError> {
        let limits = Limits { time: self.limits.time.min(most), ..self.limits };
        let (value, lazy) = document::to_value(input)?;
        guarded(|| {
            let Some(group) = self.decision else { return Err(no_decision(self)) };
            let natives = Natives::new(&self.shared, &value).verifying(input);
            let mut machine = Machine::new(&self.program, value.clone(), &lazy, natives, limits);
            let came = machine.evaluate(group);
            let (reads, natives, _) = machine.finish();
            self.conclude(came, reads, natives, &lazy)
        })
    }

    fn conclude(
        &self,
        came: Result<Came, Box<EvalError>>,
        reads: eval::Reads,
        natives: Natives<'_>,
        lazy: &eval::Lazy,
    ) -> Result<Evaluated, EvalError> {
        if let Err(error) = &came
            && matches!(
                **error,
                EvalError::Timeout { .. }
                    | EvalError::Memory { .. }
                    | EvalError::Depth { .. }
                    | EvalError::Nesting { .. }
            )
        {
            return Err((**error).clone());
        }
        // A value that is known is the same whatever the fields say that were read on the way to it.
        // A digest that may turn out not to be pinned is another matter.
        let settled = matches!(came, Ok(Came::Known(_))) && !reads.doubtful_pin;
        let fields = reads
            .unresolved
            .iter()
            .filter_map(|(node, fields)| Some((lazy.nodes.get(*node)?.path.clone(), *fields)))
            .collect();
        let needs = Needs { fields, checksum: reads.checksum, aside: reads.aside };
        if !settled && !needs.is_empty() {
            let round = Round::Needs(needs);
            return Ok(Evaluated { round, prints: natives.prints, notes: natives.notes });
        }
        if !settled && let Some((field, why)) = reads.unverifiable {
            let (object, name) = field.path();
            return Err(EvalError::CouldNotVerify { field: format!("input.{object}.{name}"), why });
        }
        let value = match came {
            Ok(Came::Known(value)) => value,
            Ok(Came::Undefined) => return Err(no_decision(self)),
            Ok(Came::Unknown) => {
                return Err(EvalError::Internal {
                    message: "the decision is unknown, and no field is missing".to_owned(),
                });
            }
            Err(error) => return Err(*error),
        };
        let mut decision = Decision::from_value(&value)?;
        let Natives { pins, prints, notes, .. } = natives;
        if decision.allow {
            let mut pins = pins.into_iter();
            decision.pin = pins.next();
            if pins.next().is_some() {
                return Err(EvalError::Decision {
                    message: "pin_image was called with more than one digest".to_owned(),
                });
            }
        }
        Ok(Evaluated { round: Round::Decided(decision), prints, notes })
    }
}

fn no_decision(policy: &Policy) -> EvalError {
    EvalError::Undefined { policy: policy.name.clone() }
}

/// Runs an evaluation so that a fault in it is an error, and nothing more.
fn guarded<T>(evaluate: impl FnOnce() -> Result<T, EvalError>) -> Result<T, EvalError> {
    catch_unwind(AssertUnwindSafe(evaluate)).unwrap_or_else(|panic| {
        let message = panic
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.downcast_ref::<String>().cloned())
            .unwrap_or_else(|| "a fault without a message".to_owned());
        Err(EvalError::Internal { message })
    })
}
