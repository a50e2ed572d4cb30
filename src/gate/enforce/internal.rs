//! A build of our own on the daemon, kept open so that its gateway answers us: metadata of images,
//! of materials, of files, with the client's session for its credentials.
//!
//! Its id cannot be guessed, and it is under policy itself: its daemon asks us about each source, and
//! we allow what we are asking for at that moment, and nothing else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderMap;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::Status;

use super::claims::{Claims, OwnName};
use crate::gateway::Gateway;
use crate::meta::{MetaRequest, ResolveError, ResolveSourceMeta, Resolving};
use crate::rpc::Channel;
use crate::session::{NoId, PolicySession, SessionGone, SessionId, Verifier, Verifying};
use crate::source::{Source, SourceError, SourceOp};
use crate::wire::policy::{Answer, Question};
use crate::wire::proto::control::{SolveRequest, SolveResponse};
use crate::wire::proto::policysession::CheckPolicyRequest;

/// `Control/Solve`.
pub const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";

/// A build of our own that cannot be opened. What needs it is refused.
#[derive(Debug, thiserror::Error)]
pub enum InternalError {
    /// There is no id for it.
    #[error(transparent)]
    Id(#[from] NoId),
    /// The daemon does not ask us.
    #[error(transparent)]
    Session(#[from] SessionGone),
}

/// The build, until it is dropped.
pub struct Internal {
    gateway: Gateway,
    asking: Arc<Asking>,
    session: PolicySession,
    ended: watch::Receiver<()>,
    task: AbortHandle,
    _names: [OwnName; 2],
}

impl Internal {
    /// Opens a build with a client's session; `""` is none.
    ///
    /// # Errors
    /// When the daemon takes no policy session.
    pub async fn open(
        channel: &Channel,
        claims: &Claims,
        client_session: &str,
    ) -> Result<Self, InternalError> {
        let asking = Arc::new(Asking::default());
        let (id, session) = (SessionId::random()?, SessionId::random()?);
        let names = [claims.own(&id), claims.own(&session)];
        let verifier: Arc<dyn Verifier> = asking.clone();
        let session = PolicySession::open(channel, session, verifier).await?;
        let request = SolveRequest {
            r#ref: id.reveal().to_owned(),
            session: client_session.to_owned(),
            internal: true,
            source_policy_session: session.id().reveal().to_owned(),
            ..SolveRequest::default()
        };
        let solving = channel.clone();
        let (alive, ended) = watch::channel(());
        let task = tokio::spawn(async move {
            let answer: Result<SolveResponse, Status> =
                solving.call(SOLVE, &HeaderMap::new(), &request).await;
            if let Err(status) = answer {
                tracing::debug!("a build of our own ended: {}", status.message());
            }
            drop(alive);
        });
        let gateway = Gateway::of_build(channel.clone(), id.header());
        Ok(Self { gateway, asking, session, ended, task: task.abort_handle(), _names: names })
    }

    /// One that no daemon knows of.
    #[cfg(test)]
    pub fn unanswered(channel: &Channel, claims: &Claims) -> Self {
        let asking = Arc::new(Asking::default());
        let (id, session) = (SessionId::random().unwrap(), SessionId::random().unwrap());
        let names = [claims.own(&id), claims.own(&session)];
        let verifier: Arc<dyn Verifier> = asking.clone();
        let session = PolicySession::begin(channel, session, verifier);
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        let gateway = Gateway::of_build(channel.clone(), id.header());
        Self { gateway, asking, session, ended: watch::channel(()).1, task, _names: names }
    }

    /// Its gateway, for a call that names no source or one that is being [asked for](Self::ask_for).
    pub fn gateway(&self) -> &Gateway {
        &self.gateway
    }

    /// Lets the daemon load one place for as long as what is returned lives.
    ///
    /// # Errors
    /// When it is no source.
    pub fn ask_for(&self, op: &SourceOp) -> Result<Asked, SourceError> {
        let place = place(op)?;
        *self.asking.lock().entry(place.clone()).or_default() += 1;
        Ok(Asked { asking: Arc::clone(&self.asking), place })
    }

    /// Whether the daemon has ended it, or its session.
    pub fn is_gone(&self) -> bool {
        self.ended.has_changed().is_err() || self.session.is_gone()
    }

    async fn once(&self, request: &MetaRequest) -> Result<crate::meta::SourceMeta, ResolveError> {
        let _asked = self.ask_for(&request.source).map_err(|error| ResolveError::Failed {
            what: request.source.masked(),
            source: Box::new(error),
        })?;
        self.gateway.resolve(request).await
    }
}

impl ResolveSourceMeta for Internal {
    fn resolve<'a>(&'a self, request: &'a MetaRequest) -> Resolving<'a> {
        Box::pin(self.once(request))
    }
}

impl Drop for Internal {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What we are asking for at this moment: places, and how many ask for each.
#[derive(Debug, Default)]
struct Asking(Mutex<HashMap<String, usize>>);

impl Asking {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, question: CheckPolicyRequest) -> Answer {
        let refused = |why: String| Answer::Deny { messages: vec![why] };
        let question = match Question::try_from(question) {
            Ok(question) => question,
            Err(error) => return refused(error.to_string()),
        };
        match place(&question.source) {
            Ok(place) if self.lock().contains_key(&place) => Answer::Allow,
            Ok(_) => refused("buildgate did not ask for this".to_owned()),
            Err(error) => refused(error.to_string()),
        }
    }
}

impl Verifier for Asking {
    fn verify(self: Arc<Self>, question: CheckPolicyRequest) -> Verifying {
        Box::pin(async move { Ok(self.answer(question).into()) })
    }
}

/// A place that we ask for, until this is dropped.
pub struct Asked {
    asking: Arc<Asking>,
    place: String,
}

impl Drop for Asked {
    fn drop(&mut self) {
        let mut asking = self.asking.lock();
        if let Some(count) = asking.get_mut(&self.place) {
            *count -= 1;
            if *count == 0 {
                asking.remove(&self.place);
            }
        }
    }
}

/// Where something is fetched from, whatever of it.
fn place(op: &SourceOp) -> Result<String, SourceError> {
    Ok(match Source::parse(op)? {
        Source::Image(image) => format!("image {}", image.full_repo()),
        Source::Http(http) => format!("http {}", http.url),
        Source::Git(git) => format!("git {}", git.remote),
        Source::Blob(blob) => format!("{} {}@{}", blob.scheme, blob.full_repo, blob.digest),
        Source::Local(_) | Source::OciLayout(_) => op.identifier.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::{gateway, policysession::check_policy_response::Result as Answered};

    fn check(asking: &Arc<Asking>, identifier: &str, wanted: i32) {
        let source = gateway::ResolveSourceMetaResponse {
            source: Some(SourceOp::new(identifier).into()),
            ..Default::default()
        };
        let question = CheckPolicyRequest { source: Some(source), ..Default::default() };
        let answer: crate::wire::proto::policysession::CheckPolicyResponse =
            asking.answer(question).into();
        let Some(Answered::Decision(decision)) = answer.result else { panic!("no decision") };
        assert_eq!(decision.action, wanted, "{identifier}");
    }

    #[test]
    fn only_what_is_asked_for_is_allowed() {
        let asking = Arc::new(Asking::default());
        let image = SourceOp::new("docker-image://docker.io/library/a:1");
        check(&asking, &image.identifier, 1);
        let place = place(&image).unwrap();
        asking.lock().insert(place.clone(), 1);
        let asked = Asked { asking: Arc::clone(&asking), place };
        check(&asking, &image.identifier, 0);
        check(&asking, "docker-image://docker.io/library/a:2", 0);
        check(&asking, "docker-image://docker.io/library/b:1", 1);
        check(&asking, "https://docker.io/library/a:1", 1);
        drop(asked);
        check(&asking, &image.identifier, 1);
    }
}
