//! Bodies of calls: passed through as they are, or one message read and written.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};

use super::frame::{self, FrameError, HEAD, MAX_MESSAGE};

/// What can go wrong below gRPC.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A body on its way through, trailers included.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A call that cannot be looked into. It is refused.
#[derive(Debug, thiserror::Error)]
pub enum GrpcError {
    /// The connection broke while the message came in.
    #[error("the message was cut off: {0}")]
    Body(#[source] BoxError),
    /// More or less than one message.
    #[error("the call holds something else than one whole message")]
    Framing,
    /// More than is looked into, or compressed.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// No message of the type that the method takes.
    #[error("malformed message: {0}")]
    Decode(#[from] prost::DecodeError),
}

impl From<GrpcError> for tonic::Status {
    fn from(error: GrpcError) -> Self {
        match error {
            // As the daemon, which would refuse it too, says it.
            GrpcError::Frame(error @ FrameError::TooLarge { .. }) => {
                Self::resource_exhausted(format!("grpc: {error}"))
            }
            error @ (GrpcError::Body(_)
            | GrpcError::Framing
            | GrpcError::Frame(FrameError::Compressed)
            | GrpcError::Decode(_)) => Self::invalid_argument(format!("buildgate: {error}")),
        }
    }
}

/// A body made of one message. Where no frame can hold it, the body is an error, and the call is reset.
pub fn one(message: &[u8]) -> Body {
    match frame::put(message) {
        Ok(framed) => whole(framed),
        Err(error) => {
            let failed = std::future::ready(Err::<_, BoxError>(error.into()));
            StreamBody::new(futures_util::stream::once(failed)).boxed_unsync()
        }
    }
}

/// A body that is these bytes.
pub fn whole(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never| match never {}).boxed_unsync()
}

/// An answer of one message, with its status behind it.
pub fn answered(message: &[u8]) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = one(message).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body.boxed_unsync());
    let grpc = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, grpc);
    response
}

/// The body of a peer, untouched.
pub fn through<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// The one message of a unary call, and the trailers behind it.
///
/// # Errors
/// When there is not exactly one, it is compressed, or larger than [`MAX_MESSAGE`].
pub async fn read_one<B>(body: B) -> Result<(Option<Bytes>, Option<HeaderMap>), GrpcError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    read_within(body, MAX_MESSAGE).await
}

/// The same where the message may have so many bytes. A larger one is refused by its head alone.
///
/// # Errors
/// As [`read_one`].
pub async fn read_within<B>(
    body: B,
    most: usize,
) -> Result<(Option<Bytes>, Option<HeaderMap>), GrpcError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut body = std::pin::pin!(body);
    let (mut whole, mut trailers) = (BytesMut::new(), None);
    while let Some(frame) = body.frame().await {
        match frame.map_err(|error| GrpcError::Body(error.into()))?.into_data() {
            Ok(data) => {
                whole.extend_from_slice(&data);
                let announced = frame::announced(&whole).unwrap_or_default();
                if let Some(length) = Some(announced).filter(|length| *length > most) {
                    return Err(FrameError::TooLarge { length, most }.into());
                }
                if whole.len() > HEAD + announced {
                    return Err(GrpcError::Framing);
                }
            }
            Err(last) => trailers = last.into_trailers().ok(),
        }
    }
    if whole.is_empty() {
        return Ok((None, trailers));
    }
    match frame::take(&mut whole, most)? {
        Some(message) if whole.is_empty() => Ok((Some(message), trailers)),
        Some(_) | None => Err(GrpcError::Framing),
    }
}

/// The answer to a call that is refused here.
pub fn refusal(status: &tonic::Status) -> Response<Body> {
    status.clone().into_http()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(bytes: &'static [u8], wanted: Result<Option<&'static [u8]>, &str>) {
        let body = Full::new(Bytes::from_static(bytes)).map_err(|never| match never {});
        let body: Body = body.boxed_unsync();
        let got = read_one(body).await.map(|(message, _)| message).map_err(|e| e.to_string());
        assert_eq!(got, wanted.map(|m| m.map(Bytes::from_static)).map_err(str::to_owned));
    }

    #[tokio::test]
    async fn one_message_is_read_and_nothing_else() {
        let framing = "the call holds something else than one whole message";
        check(b"", Ok(None)).await;
        check(b"\0\0\0\0\0", Ok(Some(b""))).await;
        check(b"\0\0\0\0\x02ab", Ok(Some(b"ab"))).await;
        check(b"\0\0\0\0\x02a", Err(framing)).await;
        check(b"\0\0\0\0\x02abc", Err(framing)).await;
        check(b"\0\0\0\0\x01a\0\0\0\0\0", Err(framing)).await;
        check(b"\0\0", Err(framing)).await;
        check(b"\0\0\0\0\0\0", Err(framing)).await;
        check(b"\x01\0\0\0\0", Err("the message is compressed, which was not agreed on")).await;
    }

    #[tokio::test]
    async fn a_message_is_read_up_to_a_bound() {
        assert!(read_one(one(&vec![0; MAX_MESSAGE])).await.is_ok());
        // Its head is enough: nothing of what it announces comes.
        let head = frame::head(MAX_MESSAGE + 1).unwrap();
        let never = futures_util::stream::pending::<Result<http_body::Frame<Bytes>, BoxError>>();
        let head = http_body::Frame::data(Bytes::copy_from_slice(&head));
        let begun = futures_util::stream::once(std::future::ready(Ok(head)));
        let body = StreamBody::new(futures_util::StreamExt::chain(begun, never));
        let status = tonic::Status::from(read_one(body).await.unwrap_err());
        assert_eq!(status.code(), tonic::Code::ResourceExhausted);
        let said = "grpc: received message larger than max (16777217 vs. 16777216)";
        assert_eq!(status.message(), said);
    }

    #[tokio::test]
    async fn what_is_written_is_read_back() {
        let (message, trailers) = read_one(one(b"abc")).await.unwrap();
        assert_eq!((message.as_deref(), trailers), (Some(&b"abc"[..]), None));
    }
}
