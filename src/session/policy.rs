//! A policy session of our own on a daemon.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::Status;

use super::service::{self, CHECK_POLICY, Verifier};
use super::tunnel;
use super::{ID, METHOD, NAME, SESSION, SHARED_KEY, SessionId};
use crate::rpc::{Body, BoxError, Channel};

/// A session that cannot be opened. The solve that wants it is refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The daemon cannot be reached.
    #[error("the daemon takes no policy session: {0}")]
    Unreachable(#[source] BoxError),
    /// The daemon refuses.
    #[error("the daemon refuses a policy session: {}", .0.message())]
    Refused(Box<Status>),
}

/// A session that is over.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SessionGone {
    /// The daemon never took it.
    #[error(transparent)]
    Never(Arc<OpenError>),
    /// It was there, and is not any more.
    #[error("the daemon dropped the policy session")]
    Dropped,
}

/// What has become of a session.
#[derive(Clone, Debug)]
enum State {
    Opening,
    Open,
    Gone(SessionGone),
}

/// A session through which a daemon asks us. It ends when this is dropped.
#[derive(Debug)]
pub struct PolicySession {
    id: SessionId,
    state: watch::Receiver<State>,
    task: AbortHandle,
}

impl PolicySession {
    /// Begins a session in which `verifier` answers, and does not wait until the daemon has taken it:
    /// a daemon that is told of it waits itself.
    pub fn begin(channel: &Channel, id: SessionId, verifier: Arc<dyn Verifier>) -> Self {
        let (tell, state) = watch::channel(State::Opening);
        let task = tokio::spawn(run(channel.clone(), metadata(&id), verifier, tell));
        Self { id, state, task: task.abort_handle() }
    }

    /// Opens a session in which `verifier` answers.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn open(
        channel: &Channel,
        id: SessionId,
        verifier: Arc<dyn Verifier>,
    ) -> Result<Self, SessionGone> {
        let session = Self::begin(channel, id, verifier);
        match session.until(|state| !matches!(state, State::Opening)).await {
            State::Open => Ok(session),
            State::Gone(why) => Err(why),
            State::Opening => Err(SessionGone::Dropped),
        }
    }

    /// Its id, which goes to the daemon alone.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Whether the session is gone.
    pub fn is_gone(&self) -> bool {
        self.state.has_changed().is_err() || matches!(*self.state.borrow(), State::Gone(_))
    }

    /// Comes back when the session is gone, whoever ended it.
    pub async fn gone(&self) -> SessionGone {
        match self.until(|state| matches!(state, State::Gone(_))).await {
            State::Gone(why) => why,
            State::Opening | State::Open => SessionGone::Dropped,
        }
    }

    /// The first state of that kind, or the last one before nothing tells any more.
    async fn until(&self, wanted: impl Fn(&State) -> bool) -> State {
        let mut state = self.state.clone();
        let found = state.wait_for(wanted).await.map(|state| state.clone());
        found.unwrap_or(State::Gone(SessionGone::Dropped))
    }
}

async fn run(
    channel: Channel,
    metadata: HeaderMap,
    verifier: Arc<dyn Verifier>,
    tell: watch::Sender<State>,
) {
    let (near, outgoing, pump) = tunnel::tunnel().run();
    let incoming = match taken(&channel, metadata, outgoing).await {
        Ok(incoming) => incoming,
        Err(error) => {
            tell.send_replace(State::Gone(SessionGone::Never(Arc::new(error))));
            return;
        }
    };
    tell.send_replace(State::Open);
    let answer = move |request| service::answer(Arc::clone(&verifier), request);
    tokio::select! {
        _ = pump.drive(incoming) => {}
        () = tunnel::serve(near, answer) => {}
    }
    tell.send_replace(State::Gone(SessionGone::Dropped));
}

async fn taken(
    channel: &Channel,
    metadata: HeaderMap,
    outgoing: Body,
) -> Result<Incoming, OpenError> {
    let mut request = Request::new(outgoing);
    *request.method_mut() = Method::POST;
    *request.uri_mut() = http::Uri::from_static(SESSION);
    *request.headers_mut() = metadata;
    accepted(channel.forward(request).await.map_err(OpenError::Unreachable)?)
}

impl Drop for PolicySession {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn metadata(id: &SessionId) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(ID, id.header());
    headers.insert(NAME, HeaderValue::from_static("buildgate"));
    headers.insert(SHARED_KEY, HeaderValue::from_static(""));
    headers.insert(METHOD, HeaderValue::from_static(CHECK_POLICY));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(header::TE, HeaderValue::from_static("trailers"));
    headers
}

/// The stream, where the daemon has taken it.
fn accepted(response: Response<Incoming>) -> Result<Incoming, OpenError> {
    match Status::from_header_map(response.headers()) {
        Some(status) => Err(OpenError::Refused(Box::new(status))),
        None => Ok(response.into_body()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rpc::through;
    use crate::session::Verifying;
    use crate::wire::policy::Answer;
    use crate::wire::proto::health::{HealthCheckRequest, HealthCheckResponse};
    use crate::wire::proto::policysession::{
        CheckPolicyRequest, CheckPolicyResponse, check_policy_response::Result as Answered,
    };

    struct Denies;

    impl Verifier for Denies {
        fn verify(self: Arc<Self>, _: CheckPolicyRequest) -> Verifying {
            let answer = Answer::Deny { messages: vec!["no".to_owned()] };
            Box::pin(std::future::ready(Ok(answer.into())))
        }
    }

    /// One that ends in a panic.
    struct Panics;

    impl Verifier for Panics {
        fn verify(self: Arc<Self>, _: CheckPolicyRequest) -> Verifying {
            Box::pin(async { panic!("a verifier panics") })
        }
    }

    /// The daemon has no answer then, which is a refusal, and the session goes on.
    #[tokio::test]
    async fn a_panic_answers_nothing() {
        let (near, far) = tokio::io::duplex(1 << 16);
        let answer = |request| service::answer(Arc::new(Panics), request);
        tokio::spawn(tunnel::serve(far, answer));
        let (channel, connection) = Channel::over(near).await.unwrap();
        tokio::spawn(connection);
        let metadata = HeaderMap::new();
        for _ in 0..2 {
            let question = CheckPolicyRequest::default();
            let asked = channel.call(CHECK_POLICY, &metadata, &question);
            let answer: Result<CheckPolicyResponse, Status> =
                tokio::time::timeout(Duration::from_secs(10), asked).await.unwrap();
            answer.unwrap_err();
        }
        let health: Result<HealthCheckResponse, Status> = channel
            .call("/grpc.health.v1.Health/Check", &metadata, &HealthCheckRequest::default())
            .await;
        assert_eq!(health.unwrap().status, 1);
    }

    /// What a daemon does with a session: it asks after health, puts one question, and leaves.
    async fn daemon(request: Request<Incoming>) -> Response<Body> {
        assert_eq!(request.uri().path(), SESSION);
        assert_eq!(request.headers()[METHOD], CHECK_POLICY);
        let (near, download, pump) = tunnel::tunnel().run();
        let status = std::future::ready(tunnel::Ended::Ours.trailers());
        let pumping = tokio::spawn(pump.answer(through(request.into_body()), status));
        tokio::spawn(async move {
            let (channel, connection) = Channel::over(near).await.unwrap();
            tokio::spawn(connection);
            let metadata = HeaderMap::new();
            let health: Result<HealthCheckResponse, Status> = channel
                .call("/grpc.health.v1.Health/Check", &metadata, &HealthCheckRequest::default())
                .await;
            assert_eq!(health.unwrap().status, 1);
            let answer: Result<CheckPolicyResponse, Status> =
                channel.call(CHECK_POLICY, &metadata, &CheckPolicyRequest::default()).await;
            let Some(Answered::Decision(decision)) = answer.unwrap().result else { panic!() };
            assert_eq!((decision.action, decision.deny_messages[0].message.as_str()), (1, "no"));
            let other: Result<CheckPolicyResponse, Status> =
                channel.call("/x.Y/Z", &metadata, &CheckPolicyRequest::default()).await;
            assert_eq!(other.unwrap_err().code(), tonic::Code::Unimplemented);
            pumping.abort();
        });
        Response::new(download)
    }

    #[tokio::test]
    async fn a_session_answers_and_tells_when_it_is_gone() {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        tokio::spawn(tunnel::serve(theirs, daemon));
        let (channel, connection) = Channel::over(ours).await.unwrap();
        tokio::spawn(connection);
        let id = SessionId::random().unwrap();
        let session = PolicySession::open(&channel, id, Arc::new(Denies)).await.unwrap();
        assert!(!session.is_gone());
        tokio::time::timeout(Duration::from_secs(10), session.gone()).await.unwrap();
        assert!(session.is_gone());
    }
}
