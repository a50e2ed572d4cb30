//! One HTTP/2 connection on which we are the client.
//!
//! It forwards calls as they are and makes calls of our own. It judges nothing.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, Uri, header};
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tonic::Status;

use super::body::{self, Body, BoxError};
use super::frame;

/// Largest block of headers or trailers: error details carry whole source files.
pub const MAX_HEADERS: u32 = 64 << 20;

/// Bytes under way on one stream before its reader has taken them.
pub const WINDOW: u32 = 4 << 20;

/// Bytes under way on all streams of a connection: so many that a stream whose reader has stopped
/// never holds up another.
pub const CONNECTION_WINDOW: u32 = (1 << 31) - 1;

/// Streams that a caller may reset in quick succession: a build that is cancelled resets them all.
pub const RESETS: usize = 4096;

/// A call that never left, to be made elsewhere.
#[derive(Debug)]
pub struct Unsent {
    /// The call, whole.
    pub request: Request<Body>,
    /// Why.
    pub why: BoxError,
}

/// A connection that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// HTTP/2 did not come up.
    #[error("the other side does not speak HTTP/2: {0}")]
    Handshake(#[source] hyper::Error),
}

/// What connections may be bound to. An upload that waits for its reader notices nothing else: not even
/// that whoever uploads is gone.
#[derive(Debug)]
pub struct Scope(watch::Sender<bool>);

impl Default for Scope {
    fn default() -> Self {
        Self(watch::channel(true).0)
    }
}

impl Scope {
    /// Cuts every connection in it, with the calls under way.
    pub fn close(&self) {
        self.0.send_replace(false);
    }
}

/// Runs the tasks of a connection until its scope closes. One that is dropped unclosed stays open.
#[derive(Clone)]
struct Tasks(watch::Receiver<bool>);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, task: F) {
        let mut scope = self.0.clone();
        tokio::spawn(async move {
            let closed = async {
                if scope.wait_for(|open| !open).await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            tokio::select! {
                _ = task => {}
                () = closed => {}
            }
        });
    }
}

/// A connection. Cheap to clone.
#[derive(Clone)]
pub struct Channel {
    sender: http2::SendRequest<Body>,
}

impl Channel {
    /// The same as [`Channel::over`] where what comes in and what goes out are two.
    ///
    /// # Errors
    /// When the other side speaks something else.
    pub async fn connect(
        input: impl AsyncRead + Unpin + Send + 'static,
        output: impl AsyncWrite + Unpin + Send + 'static,
    ) -> Result<(Self, impl Future<Output = Result<(), hyper::Error>> + Send), ConnectError> {
        Self::over(tokio::io::join(input, output)).await
    }

    /// Opens a connection over one stream of bytes that goes both ways; the future beside it drives it,
    /// and ends when the other side is gone.
    ///
    /// # Errors
    /// When the other side speaks something else.
    pub async fn over(
        io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<(Self, impl Future<Output = Result<(), hyper::Error>> + Send), ConnectError> {
        Self::within(io, &Scope::default()).await
    }

    /// The same for as long as the scope is open: when it closes, the connection is cut.
    ///
    /// # Errors
    /// When the other side speaks something else.
    pub async fn within<I>(
        io: I,
        scope: &Scope,
    ) -> Result<(Self, impl Future<Output = Result<(), hyper::Error>> + Send + use<I>), ConnectError>
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(Tasks(scope.0.subscribe()))
            .max_header_list_size(MAX_HEADERS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(WINDOW as usize)
            .max_pending_accept_reset_streams(RESETS)
            .max_local_error_reset_streams(None)
            .handshake(TokioIo::new(io))
            .await
            .map_err(ConnectError::Handshake)?;
        Ok((Self { sender }, connection))
    }

    /// Whether the connection is gone, or is to take no more calls.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Passes a call on, as [`Channel::forward`] does, and gives it back where it never left.
    ///
    /// # Errors
    /// The call itself where it was not sent, so that it may be sent elsewhere; or what became of it.
    pub async fn try_forward(
        &self,
        request: Request<Body>,
    ) -> Result<Result<Response<Incoming>, BoxError>, Box<Unsent>> {
        let request = match addressed(request) {
            Ok(request) => request,
            Err(error) => return Ok(Err(error)),
        };
        let mut sender = self.sender.clone();
        if let Err(why) = sender.ready().await {
            return Err(Box::new(Unsent { request, why: why.into() }));
        }
        match sender.try_send_request(request).await {
            Ok(response) => Ok(Ok(response)),
            Err(mut error) => match error.take_message() {
                Some(request) => Err(Box::new(Unsent { request, why: error.into_error().into() })),
                None => Ok(Err(error.into_error().into())),
            },
        }
    }

    /// Passes a call on, and gives what comes back, unread.
    ///
    /// # Errors
    /// When the connection fails. What the daemon answers, errors included, is no error here.
    pub async fn forward(&self, request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        self.try_forward(request).await.unwrap_or_else(|unsent| Err(unsent.why))
    }

    /// Makes a call of our own to `/package.Service/Method`: one message there, one back.
    ///
    /// # Errors
    /// What the daemon answers, or that it does not.
    pub async fn call<A: Message, B: Message + Default>(
        &self,
        method: &str,
        metadata: &HeaderMap,
        message: &A,
    ) -> Result<B, Status> {
        let answer = self.asked(method, metadata, message, frame::MAX_MESSAGE).await?;
        B::decode(answer).map_err(|error| Status::internal(format!("{method}: {error}")))
    }

    /// The same where the answer comes from somebody who may mean harm: what it holds is not looked into
    /// beyond so many bytes.
    ///
    /// # Errors
    /// As [`Channel::call`], and when the answer is larger.
    pub async fn call_within<A: Message, B: Message + Default>(
        &self,
        method: &str,
        message: &A,
        most: usize,
    ) -> Result<B, Status> {
        let answer = self.asked(method, &HeaderMap::new(), message, most).await?;
        B::decode(answer).map_err(|error| Status::internal(format!("{method}: {error}")))
    }

    async fn asked<A: Message>(
        &self,
        method: &str,
        metadata: &HeaderMap,
        message: &A,
        most: usize,
    ) -> Result<Bytes, Status> {
        let mut request = Request::new(body::one(&message.encode_to_vec()));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() =
            method.parse().map_err(|error| Status::internal(format!("{method}: {error}")))?;
        let headers = request.headers_mut();
        headers.clone_from(metadata);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        let response = self.forward(request).await.map_err(unavailable)?;
        answer(response, most).await
    }
}

/// The call with a whole URI, as a client must give it; path and authority stay.
fn addressed(request: Request<Body>) -> Result<Request<Body>, BoxError> {
    let (mut parts, body) = request.into_parts();
    let mut uri = http::uri::Parts::default();
    uri.scheme = Some(http::uri::Scheme::HTTP);
    let authority = parts.uri.authority().cloned();
    uri.authority =
        Some(authority.unwrap_or_else(|| http::uri::Authority::from_static("localhost")));
    uri.path_and_query = parts.uri.path_and_query().cloned();
    parts.uri = Uri::from_parts(uri)?;
    Ok(Request::from_parts(parts, body))
}

/// The message of a unary answer.
async fn answer(response: Response<Incoming>, most: usize) -> Result<Bytes, Status> {
    let (parts, body) = response.into_parts();
    if let Some(status) = Status::from_header_map(&parts.headers) {
        ok(status)?;
    }
    let (message, trailers) = body::read_within(body, most).await?;
    match trailers.as_ref().and_then(Status::from_header_map) {
        Some(status) => ok(status)?,
        None => return Err(Status::unknown("the daemon answered without a status")),
    }
    Ok(message.unwrap_or_default())
}

fn ok(status: Status) -> Result<(), Status> {
    if status.code() == tonic::Code::Ok { Ok(()) } else { Err(status) }
}

/// The daemon cannot be reached any more.
pub fn unavailable(error: BoxError) -> Status {
    Status::unavailable(format!("buildgate: the connection to the daemon failed: {error}"))
}
