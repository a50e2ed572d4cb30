//! The question that a daemon puts to a policy session, and the answers there are.
//!
//! The protocol's zero value allows, and its answer may carry both a decision and none. Here an
//! [`Answer`] is one of three things, each of which somebody had to write down.

use std::collections::BTreeMap;

use bytes::Buf;
use prost::Message;

use super::meta::{MetaError, Resolved};
use super::proto::{gateway, pb, policysession, sourcepolicy};
use super::source::{PlatformError, without_os_version};
use crate::meta::{MetaRequest, SourceMeta};
use crate::source::{Platform, SourceOp};

/// What a daemon asks before it loads a source (`CheckPolicyRequest`).
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    /// The source in question.
    pub source: SourceOp,
    /// The platform it is loaded for; `None` means the daemon's default.
    pub platform: Option<Platform>,
    /// What the daemon's last answer to a metadata request said of it.
    pub meta: SourceMeta,
    /// What the asker can do, by name.
    pub caps: BTreeMap<String, bool>,
    /// The platform word for word, with the version of the operating system: what is asked for in
    /// return has to be the same.
    asked_platform: Option<pb::Platform>,
}

/// What is answered to a [`Question`] that has been decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Load it.
    Allow,
    /// Do not, for these reasons.
    Deny {
        /// One for each reason, verbatim.
        messages: Vec<String>,
    },
    /// Load this instead, after asking about it.
    Convert(SourceOp),
}

/// A question that cannot be read, or must not be answered so.
#[derive(Debug, thiserror::Error)]
pub enum QuestionError {
    /// It is no `CheckPolicyRequest`.
    #[error("policy question: malformed message")]
    Decode(#[from] prost::DecodeError),
    /// It names no source.
    #[error("policy question: no source is named")]
    NoSource,
    /// Its platform is none.
    #[error("policy question about `{identifier}`")]
    Platform {
        /// The source asked about.
        identifier: String,
        /// What is wrong with the platform.
        source: PlatformError,
    },
    /// What it says of the source contradicts itself.
    #[error("policy question: what is told of the source does not hold")]
    Meta(#[from] MetaError),
    /// A session may ask for metadata of the source in question alone.
    #[error("policy question about `{asked}`: cannot ask the daemon for metadata of `{wanted}`")]
    OtherSource {
        /// The source in question.
        asked: String,
        /// The source whose metadata is wanted.
        wanted: String,
    },
}

/// A decision that is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// An action that the protocol has no name for.
    #[error("policy decision: unknown action {0}")]
    Action(i32),
    /// CONVERT without the source to convert to.
    #[error("policy decision: CONVERT names no source")]
    NoUpdate,
    /// A source to convert to, and another action than CONVERT.
    #[error("policy decision: `{identifier}` is to replace the source, but the action is {action}")]
    StrayUpdate {
        /// The action.
        action: &'static str,
        /// The source it comes with.
        identifier: String,
    },
}

impl Question {
    /// Reads a `CheckPolicyRequest`.
    ///
    /// # Errors
    /// When it is malformed, names no source, or contradicts itself.
    pub fn decode(message: impl Buf) -> Result<Self, QuestionError> {
        policysession::CheckPolicyRequest::decode(message)?.try_into()
    }

    /// Asks the daemon for metadata of the source in question, instead of an answer.
    ///
    /// Source and platform go back word for word, whatever `request` says of the platform: the
    /// daemon fails the build otherwise.
    ///
    /// # Errors
    /// When `request` is about another source.
    pub fn ask(
        &self,
        request: MetaRequest,
    ) -> Result<policysession::CheckPolicyResponse, QuestionError> {
        if request.source != self.source {
            return Err(QuestionError::OtherSource {
                asked: self.source.identifier.clone(),
                wanted: request.source.identifier,
            });
        }
        let request = gateway::ResolveSourceMetaRequest {
            platform: self.asked_platform.clone(),
            ..request.into()
        };
        let result = policysession::check_policy_response::Result::Request(request);
        Ok(policysession::CheckPolicyResponse { result: Some(result) })
    }
}

impl TryFrom<policysession::CheckPolicyRequest> for Question {
    type Error = QuestionError;

    fn try_from(wire: policysession::CheckPolicyRequest) -> Result<Self, Self::Error> {
        let policysession::CheckPolicyRequest { platform: asked_platform, source, caps } = wire;
        let resolved: Resolved = source.ok_or(QuestionError::NoSource)?.try_into()?;
        let Resolved { source, meta } = resolved;
        let platform = asked_platform.as_ref().map(without_os_version).transpose().map_err(
            |platform_error| QuestionError::Platform {
                identifier: source.identifier.clone(),
                source: platform_error,
            },
        )?;
        Ok(Self { source, platform, meta, caps, asked_platform })
    }
}

impl From<Answer> for policysession::DecisionResponse {
    fn from(answer: Answer) -> Self {
        use sourcepolicy::PolicyAction;
        let (action, messages, update) = match answer {
            Answer::Allow => (PolicyAction::Allow, Vec::new(), None),
            Answer::Deny { messages } => (PolicyAction::Deny, messages, None),
            Answer::Convert(source) => (PolicyAction::Convert, Vec::new(), Some(source.into())),
        };
        let deny_messages =
            messages.into_iter().map(|message| policysession::DenyMessage { message }).collect();
        Self { action: action.into(), deny_messages, update }
    }
}

impl From<Answer> for policysession::CheckPolicyResponse {
    fn from(answer: Answer) -> Self {
        use policysession::check_policy_response::Result;
        Self { result: Some(Result::Decision(answer.into())) }
    }
}

/// Another verifier's decision. Messages that come with ALLOW are dropped: Docker's verifier sends
/// them, and a daemon does not look at them.
impl TryFrom<policysession::DecisionResponse> for Answer {
    type Error = AnswerError;

    fn try_from(wire: policysession::DecisionResponse) -> Result<Self, Self::Error> {
        use sourcepolicy::PolicyAction;
        let policysession::DecisionResponse { action, deny_messages, update } = wire;
        let action = PolicyAction::try_from(action)
            .map_err(|prost::UnknownEnumValue(value)| AnswerError::Action(value))?;
        match (action, update) {
            (PolicyAction::Convert, Some(update)) => Ok(Self::Convert(update.into())),
            (PolicyAction::Convert, None) => Err(AnswerError::NoUpdate),
            (PolicyAction::Allow, None) => Ok(Self::Allow),
            (PolicyAction::Deny, None) => {
                let messages = deny_messages
                    .into_iter()
                    .map(|policysession::DenyMessage { message }| message)
                    .collect();
                Ok(Self::Deny { messages })
            }
            (PolicyAction::Allow | PolicyAction::Deny, Some(update)) => {
                let pb::SourceOp { identifier, attrs: _ } = update;
                Err(AnswerError::StrayUpdate { action: action.as_str_name(), identifier })
            }
        }
    }
}
