//! One HTTP/2 connection on which we are the server, and the other side is one that we trust with our
//! memory: a daemon's end of a session, a child. Clients are served by the gate's proxy.

use std::convert::Infallible;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};

use super::{Body, MAX_HEADERS, RESETS, WINDOW};

/// Serves a connection until either side ends it.
///
/// # Errors
/// When it breaks.
pub async fn serve<I, F, R>(io: I, answer: F) -> Result<(), hyper::Error>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(answer(request).await) }
    });
    http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(MAX_HEADERS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 2)
        .max_concurrent_streams(None)
        .max_pending_accept_reset_streams(RESETS)
        .serve_connection(TokioIo::new(io), service)
        .await
}
