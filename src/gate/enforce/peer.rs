//! The verifier that a client brings along: its own policies, which count beside ours.
//!
//! It is asked as a daemon would ask it, by whoever carries its session. Its requests for metadata
//! are answered by the build of our own, and held to what the daemon survives.

use std::collections::BTreeMap;

use tonic::Status;

use super::internal::Internal;
use crate::rpc::Channel;
use crate::session::CHECK_POLICY;
use crate::source::{Platform, SourceError, SourceOp};
use crate::wire::policy::{Answer, AnswerError};
use crate::wire::proto::gateway::{ResolveSourceMetaRequest, ResolveSourceMetaResponse};
use crate::wire::proto::policysession::check_policy_response::Result as Answered;
use crate::wire::proto::policysession::{CheckPolicyRequest, CheckPolicyResponse};

/// Most calls about one source (the daemon's own limit).
const MAX_CALLS: usize = 10;

/// Most bytes of an answer: a decision with its words, or a request for metadata.
const MAX_ANSWER: usize = 256 << 10;

/// Most bytes of the words of a denial, or of what is to be loaded instead: they are kept with the build.
const MAX_WORDS: usize = 16 << 10;

/// What each message counts besides its bytes.
const EACH: usize = 32;

/// Most bytes of an error that are told.
const MAX_TOLD: usize = 1 << 10;

/// A verifier that comes to no decision. The source is refused.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// It is gone, or fails.
    #[error("the client's own policy session does not answer: {}", told(.0))]
    Gone(Box<Status>),
    /// It answers with nothing.
    #[error("the client's own policy session gives no decision")]
    Nothing,
    /// It answers with something that is no decision.
    #[error("the client's own policy session: {0}")]
    Answer(#[from] AnswerError),
    /// It asks about something else.
    #[error("the client's own policy session wants metadata of another source")]
    OtherSource,
    /// What it asks for cannot be had.
    #[error("metadata for the client's own policy session: {}", told(.0))]
    Metadata(Box<Status>),
    /// What it asks about is no source.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// It says more than is kept.
    #[error("the client's own policy session says more than {MAX_WORDS} bytes")]
    Words,
    /// It asks and asks.
    #[error("the client's own policy session has not decided after {MAX_CALLS} questions")]
    Calls,
}

/// What it says about a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Says {
    /// It may be loaded.
    Allow,
    /// It may not.
    Deny(Vec<String>),
    /// This is to be loaded instead.
    Convert(SourceOp),
}

/// A client's verifier.
#[derive(Clone)]
pub struct Peer {
    channel: Channel,
}

impl Peer {
    /// The verifier at the other end of a session.
    pub fn new(channel: Channel) -> Self {
        Self { channel }
    }

    /// Asks it about a source.
    ///
    /// # Errors
    /// When it comes to no decision.
    pub async fn ask(
        &self,
        internal: &Internal,
        op: &SourceOp,
        platform: &Platform,
    ) -> Result<Says, PeerError> {
        let mut told = ResolveSourceMetaResponse {
            source: Some(op.clone().into()),
            ..ResolveSourceMetaResponse::default()
        };
        for _ in 0..MAX_CALLS {
            let question = CheckPolicyRequest {
                platform: Some(platform.clone().into()),
                source: Some(told),
                caps: BTreeMap::new(),
            };
            let answer: CheckPolicyResponse = self
                .channel
                .call_within(CHECK_POLICY, &question, MAX_ANSWER)
                .await
                .map_err(|status| PeerError::Gone(Box::new(status)))?;
            told = match answer.result {
                None => return Err(PeerError::Nothing),
                Some(Answered::Decision(decision)) => {
                    return said(Answer::try_from(decision)?);
                }
                Some(Answered::Request(request)) => answer_to(internal, op, request).await?,
            };
        }
        Err(PeerError::Calls)
    }
}

/// What it decided, where that can be kept.
fn said(answer: Answer) -> Result<Says, PeerError> {
    let (says, words) = match answer {
        Answer::Allow => (Says::Allow, 0),
        Answer::Deny { messages } => {
            let words = messages.iter().map(|message| message.len() + EACH).sum();
            (Says::Deny(messages), words)
        }
        Answer::Convert(instead) => {
            let words = instead.size();
            (Says::Convert(instead), words)
        }
    };
    if words > MAX_WORDS { Err(PeerError::Words) } else { Ok(says) }
}

/// The beginning of what an error says.
fn told(status: &Status) -> &str {
    let message = status.message();
    message.get(..message.floor_char_boundary(MAX_TOLD)).unwrap_or_default()
}

async fn answer_to(
    internal: &Internal,
    op: &SourceOp,
    request: ResolveSourceMetaRequest,
) -> Result<ResolveSourceMetaResponse, PeerError> {
    if request.source.clone().map(SourceOp::from).as_ref() != Some(op) {
        return Err(PeerError::OtherSource);
    }
    let _asked = internal.ask_for(op)?;
    let metadata = |status| PeerError::Metadata(Box::new(status));
    let answer = internal.gateway().answer_for(request).await.map_err(metadata)?;
    if answer.source.clone().map(SourceOp::from).as_ref() != Some(op) {
        return Err(PeerError::OtherSource);
    }
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_verifier_says_is_bounded() {
        let deny = |each: usize, count: usize| {
            said(Answer::Deny { messages: vec!["x".repeat(each); count] })
        };
        let convert = |length: usize| said(Answer::Convert(SourceOp::new("x".repeat(length))));
        deny(1_000, 10).unwrap();
        convert(10_000).unwrap();
        assert!(matches!(deny(MAX_WORDS, 1), Err(PeerError::Words)));
        assert!(matches!(deny(0, MAX_WORDS), Err(PeerError::Words)));
        assert!(matches!(convert(MAX_WORDS + 1), Err(PeerError::Words)));
        let gone = PeerError::Gone(Box::new(Status::unavailable("é".repeat(MAX_WORDS))));
        assert!(gone.to_string().len() < 2 * MAX_TOLD);
    }
}
