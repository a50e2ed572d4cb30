//! A call on its way through: what comes of it when one of the two sides goes away.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::Status;

use super::Answer;
use super::counters::Held;
use crate::rpc::{self, Body, BoxError, Reset, reset_of};

/// The request as the daemon is to see it: where the client resets the call or goes away, so does ours.
pub fn upload(body: Incoming) -> Body {
    body.map_err(|error| -> BoxError {
        reset_of(&error).unwrap_or_else(|| Reset::with(h2::Reason::CANCEL)).into()
    })
    .boxed_unsync()
}

/// What a daemon answered, or that it did not, as the client is to see it: its reset is one for the
/// client too, and where it is gone the call ends with a status that says so.
pub fn answered(answer: Result<Response<Incoming>, BoxError>) -> Answer {
    match answer {
        Ok(response) => Ok(download(response)),
        Err(error) => match reset_of(&*error) {
            Some(reset) => Err(reset),
            None => Ok(rpc::refusal(&gone(&error))),
        },
    }
}

/// The same of an answer that has begun.
pub fn download(response: Response<Incoming>) -> Response<Body> {
    response.map(|body| Download { body, over: false }.boxed_unsync())
}

struct Download {
    body: Incoming,
    over: bool,
}

impl http_body::Body for Download {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let error = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
            Some(Err(error)) => error,
            Some(Ok(frame)) => return Poll::Ready(Some(Ok(frame))),
            None => return Poll::Ready(None),
        };
        self.over = true;
        Poll::Ready(Some(match reset_of(&error) {
            Some(reset) => Err(reset.into()),
            None => trailers(&gone(&error)).map(Frame::trailers),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.over || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        // The end may come as trailers that the daemon never sent, so that nothing is exact.
        SizeHint::default()
    }
}

/// The daemon went away under a call.
pub fn gone(error: &dyn std::fmt::Display) -> Status {
    Status::unavailable(format!("buildgate: the connection to the daemon ended: {error}"))
}

fn trailers(status: &Status) -> Result<http::HeaderMap, BoxError> {
    let mut trailers = http::HeaderMap::new();
    status.add_header(&mut trailers)?;
    Ok(trailers)
}

/// Counts a call as open until its answer has been sent or given up.
pub struct Guarded {
    body: Body,
    _held: Held,
    _open: Open,
}

/// One open call of a connection.
pub struct Open(watch::Sender<usize>);

impl Open {
    pub fn begin(calls: &watch::Sender<usize>) -> Self {
        calls.send_modify(|open| *open += 1);
        Self(calls.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

impl Guarded {
    pub fn new(body: Body, held: Held, open: Open) -> Self {
        Self { body, _held: held, _open: open }
    }
}

impl http_body::Body for Guarded {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
