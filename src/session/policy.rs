//! A policy session of our own on a daemon.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tonic::Status;

use super::service::{self, CHECK_POLICY, Verifier};
use super::tunnel::{self, Role};
use super::{ID, METHOD, NAME, NoRandomness, SESSION, SHARED_KEY, SessionId};
use crate::rpc::{BoxError, Channel};

/// A session that cannot be opened. The solve that wants it is refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no id for it.
    #[error(transparent)]
    Id(#[from] NoRandomness),
    /// The daemon cannot be reached.
    #[error("the daemon takes no policy session: {0}")]
    Unreachable(#[source] BoxError),
    /// The daemon refuses.
    #[error("the daemon refuses a policy session: {}", .0.message())]
    Refused(Box<Status>),
}

/// A session through which a daemon asks us. It ends when this is dropped.
#[derive(Debug)]
pub struct PolicySession {
    id: SessionId,
    here: watch::Receiver<()>,
    task: AbortHandle,
}

impl PolicySession {
    /// Opens a session in which `verifier` answers.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn open(
        channel: &Channel,
        id: SessionId,
        verifier: Arc<dyn Verifier>,
    ) -> Result<Self, OpenError> {
        let (near, outgoing, pump) = tunnel::tunnel().run();
        let mut request = Request::new(outgoing);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = http::Uri::from_static(SESSION);
        *request.headers_mut() = metadata(&id);
        let response = channel.forward(request).await.map_err(OpenError::Unreachable)?;
        let incoming = accepted(response)?;
        let (alive, here) = watch::channel(());
        let task = tokio::spawn(async move {
            let answer = move |request| service::answer(Arc::clone(&verifier), request);
            tokio::select! {
                () = pump.drive(incoming, Role::Client) => {}
                () = tunnel::serve(near, answer) => {}
            }
            drop(alive);
        });
        Ok(Self { id, here, task: task.abort_handle() })
    }

    /// Its id, which goes to the daemon alone.
    pub fn id(&self) -> &SessionId {
        &self.id
    }

    /// Whether the session is gone.
    pub fn is_gone(&self) -> bool {
        self.here.has_changed().is_err()
    }

    /// Comes back when the session is gone, whoever ended it.
    pub async fn gone(&self) {
        let mut here = self.here.clone();
        while here.changed().await.is_ok() {}
    }
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
