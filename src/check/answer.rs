//! What a check comes to.

use crate::input::{Input, InputError};
use crate::meta::{Known, MetaRequest, ResolveError};
use crate::policy::EvalError;
use crate::source::{Digest, DigestError, Source, SourceError, SourceOp, is_commit};

/// The answer about a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Every policy allows it.
    Allowed(Allowed),
    /// A policy refuses it.
    Denied(Denied),
    /// The policies allow another source in its place, which is judged next.
    Converted(SourceOp),
}

/// Every policy allows the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Allowed {
    /// The content that was judged, where it was looked at. A door must make the daemon fetch
    /// this and nothing else.
    pub pin: Option<Pin>,
}

/// A policy refuses the source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Denied {
    /// Which policy.
    pub policy: String,
    /// Its own messages, verbatim; empty where it gives none.
    pub messages: Vec<String>,
}

/// The content that a decision rests on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pin {
    /// Digest of an image.
    Image(Digest),
    /// Commit or tag object of a repository.
    Git(String),
    /// SHA-256 of a file.
    Http(String),
}

impl Pin {
    /// What was resolved of the source itself, if anything was.
    ///
    /// # Errors
    /// When something was, and nothing says which content it is of: another one could be fetched.
    pub(super) fn of(source: &Source, known: &Known) -> Result<Option<Self>, CheckError> {
        let (image, git, http) = (&known.root.image, &known.root.git, &known.root.http);
        let pin = match (source, image, git, http) {
            (Source::Image(image), Some(meta), _, _) => match (&meta.digest, &image.digest) {
                (Some(digest), _) => Self::Image(digest.parse().map_err(Unpinnable::Digest)?),
                // Its own digest is its pin.
                (None, Some(_)) => return Ok(None),
                (None, None) => return Err(Unpinnable::Image.into()),
            },
            (Source::Git(_), _, Some(git), _) if is_commit(&git.checksum) => {
                Self::Git(git.checksum.clone())
            }
            (Source::Git(_), _, Some(git), _) => {
                return Err(Unpinnable::Object(git.checksum.clone()).into());
            }
            (Source::Http(_), _, _, Some(http)) => {
                let digest: Digest = http.checksum.parse().map_err(Unpinnable::Digest)?;
                Self::Http(digest.to_string())
            }
            (Source::Image(_), None, _, _)
            | (Source::Git(_), _, None, _)
            | (Source::Http(_), _, _, None)
            | (Source::Local(_) | Source::OciLayout(_) | Source::Blob(_), _, _, _) => {
                return Ok(None);
            }
        };
        Ok(Some(pin))
    }
}

/// Content that was looked at, and that nothing pins a source to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unpinnable {
    /// An image was resolved without its digest.
    #[error("no digest came with it")]
    Image,
    /// A digest is none.
    #[error(transparent)]
    Digest(DigestError),
    /// A repository was resolved to something that is no whole name of an object.
    #[error("`{0}` is not the name of a git object")]
    Object(String),
}

/// A source judged to the end.
#[derive(Clone, Debug)]
pub struct Checked {
    /// The source that was judged last.
    pub op: SourceOp,
    /// The answer.
    pub outcome: Outcome,
    /// The document that rules read in the last round.
    pub input: Input,
    /// Warnings of the policies.
    pub warnings: Vec<String>,
    /// What rules printed in the last round.
    pub prints: Vec<String>,
    /// Why signatures that rules asked about are not verified, in the last round.
    pub notes: Vec<String>,
    /// What was resolved.
    pub fetched: Fetched,
    /// The source that it was converted from.
    pub converted_from: Option<SourceOp>,
}

/// What was resolved for a decision, round by round.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    rounds: Vec<Vec<MetaRequest>>,
}

impl Fetched {
    /// The rounds in order, each with what it asked for at once.
    pub fn rounds(&self) -> &[Vec<MetaRequest>] {
        &self.rounds
    }

    pub(super) fn contains(&self, request: &MetaRequest) -> bool {
        self.rounds.iter().flatten().any(|known| known == request)
    }

    pub(super) fn push(&mut self, round: Vec<MetaRequest>) {
        self.rounds.push(round);
    }
}

/// A source that could not be judged. It is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// Nothing says that anything is allowed.
    #[error("there is no policy, so nothing is allowed; name one with --policy")]
    NoPolicy,
    /// It is no source, or means different things to different readers.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What was resolved of it may not be believed.
    #[error(transparent)]
    Input(#[from] InputError),
    /// A policy came to no decision.
    #[error("{source}")]
    Policy {
        /// Which policy.
        policy: String,
        /// Why.
        source: EvalError,
        /// The document that rules read.
        input: Box<Input>,
    },
    /// Metadata that a rule needs could not be had.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A field that rules read and that nothing resolves.
    #[error("{fields} could not be verified: nothing resolves it for this source")]
    Unresolvable {
        /// The fields, as rules write them.
        fields: String,
    },
    /// The evaluation ended without an answer.
    #[error("the evaluation broke off: {0}")]
    Broken(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Metadata was asked for, and the answer did not hold it.
    #[error("metadata of {} was asked for and not returned: it could not be verified", request.source)]
    NotAnswered {
        /// What was asked for.
        request: Box<MetaRequest>,
    },
    /// Too many rounds.
    #[error("no decision after {limit} rounds of resolving metadata")]
    Rounds {
        /// The limit.
        limit: usize,
    },
    /// Too many conversions.
    #[error("the source was converted {limit} times, and each time into another one")]
    Conversions {
        /// The limit.
        limit: usize,
    },
    /// What was judged could not be told from what is fetched.
    #[error("what was looked at cannot be pinned: {0}")]
    Unpinnable(#[from] Unpinnable),
    /// `pin_image` with something that is no digest.
    #[error("pin_image: {0}")]
    Pin(#[source] DigestError),
    /// Policies that pin to different digests, or something that is no image.
    #[error("the policies pin the source to different digests, or it is no image")]
    Pins,
}

impl CheckError {
    /// Whether a policy would have taken more time than it had.
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Policy { source: EvalError::Timeout { .. }, .. })
    }
}
