//! The bytes of a connection as `BytesMessage`s of a gRPC stream, with backpressure both ways.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tonic::Status;

use crate::rpc::frame::{self, FrameError, HEAD};
use crate::rpc::{self, Batched, Body, BoxError, Reset, reset_of};
use crate::wire::proto::control::BytesMessage;

/// Bytes under way in one direction before their writer waits.
const BUFFER: usize = 256 << 10;
/// Bytes of one message of ours (the daemon's own size).
const CHUNK: usize = 32 << 10;
/// Messages under way.
const QUEUE: usize = 8;
/// Largest message that is taken.
const MAX_MESSAGE: usize = 32 << 20;

/// How long the other side of a stream may take to say how it ended.
const GOODBYE: Duration = Duration::from_secs(1);

/// Where frames go out.
type Sink = mpsc::Sender<Result<Frame<Bytes>, BoxError>>;

/// A stream that is no stream of `BytesMessage`s.
#[derive(Debug, thiserror::Error)]
enum TunnelError {
    #[error("the session stream broke: {0}")]
    Body(#[source] BoxError),
    #[error("the session stream: {0}")]
    Frame(#[from] FrameError),
    #[error("the session stream holds something else than bytes: {0}")]
    Message(#[from] prost::DecodeError),
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// One end of a connection, and what carries it.
pub struct Tunnel {
    /// The connection: what is read came in, what is written goes out.
    pub near: DuplexStream,
    /// What goes out, as the body of a request or of a response.
    pub outgoing: Body,
    far: DuplexStream,
    sink: Sink,
}

/// A tunnel that nothing has come through yet.
pub fn tunnel() -> Tunnel {
    let (near, far) = tokio::io::duplex(BUFFER);
    let (sink, source) = mpsc::channel::<Result<Frame<Bytes>, BoxError>>(QUEUE);
    let frames = futures_util::stream::unfold(source, |mut source| async move {
        let frame = source.recv().await?;
        Some((frame, source))
    });
    Tunnel { near, outgoing: StreamBody::new(frames).boxed_unsync(), far, sink }
}

impl Tunnel {
    /// Splits off what moves the bytes, with `incoming` as what comes in: the connection, the
    /// body that goes out, and a future that ends when either side has.
    pub fn run(self) -> (DuplexStream, Body, Pump) {
        let Self { near, outgoing, far, sink } = self;
        (near, outgoing, Pump { far, sink })
    }
}

/// Moves the bytes of a tunnel.
pub struct Pump {
    far: DuplexStream,
    sink: Sink,
}

/// How the other side ended a stream that we opened.
#[derive(Debug)]
pub enum Ended {
    /// With a status, in these trailers.
    Said(HeaderMap),
    /// By taking the call back, as at a deadline.
    Cancelled,
    /// It broke.
    Broke(String),
    /// It has not: we did.
    Ours,
}

impl Ended {
    /// How a stream that stands for it ends: in the same way, as far as there is one.
    ///
    /// # Errors
    /// When there are no trailers that could say it; a stream that ends with the error is reset.
    pub fn trailers(self) -> Result<HeaderMap, BoxError> {
        let mut trailers = HeaderMap::new();
        match self {
            Self::Said(said) => return Ok(said),
            Self::Cancelled => return Err(Reset::with(h2::Reason::CANCEL).into()),
            Self::Broke(why) => Status::unavailable(format!("buildgate: {why}")),
            Self::Ours => Status::ok(""),
        }
        .add_header(&mut trailers)?;
        Ok(trailers)
    }
}

impl Pump {
    /// Moves the bytes of a stream that we opened until either side ends; what breaks is told to the log.
    pub async fn drive<B>(self, incoming: B) -> Ended
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { far, sink } = self;
        let (reader, writer) = tokio::io::split(far);
        let mut inward = std::pin::pin!(inward(incoming, writer));
        let ended = tokio::select! {
            ended = &mut inward => ended,
            ended = outward(reader, &sink) => match ended {
                // The other side hears of it, and has something to say to that.
                Ok(()) => {
                    drop(sink);
                    timeout(GOODBYE, inward).await.unwrap_or(Ok(None))
                }
                Err(error) => Err(error),
            },
        };
        match ended {
            Ok(Some(trailers)) => Ended::Said(trailers),
            Ok(None) => Ended::Ours,
            Err(error) => {
                tracing::debug!("{error}");
                match reset_of(&error).map(|reset| reset.reason()) {
                    Some(h2::Reason::CANCEL) => Ended::Cancelled,
                    Some(_) | None => Ended::Broke(error.to_string()),
                }
            }
        }
    }

    /// The same of a stream that we answer, whose end is told as `status` says it.
    pub async fn answer<B>(
        self,
        incoming: B,
        status: impl Future<Output = Result<HeaderMap, BoxError>>,
    ) where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let Self { far, sink } = self;
        let (reader, writer) = tokio::io::split(far);
        let ended = tokio::select! {
            ended = inward(incoming, writer) => ended.map(|_| ()),
            ended = outward(reader, &sink) => ended,
        };
        if let Err(error) = ended {
            tracing::debug!("{error}");
        }
        // A side that is gone needs no goodbye.
        let _ = sink.send(status.await.map(Frame::trailers)).await;
    }
}

/// What came in, unpacked; gives the trailers behind it.
async fn inward<B>(
    incoming: B,
    mut writer: WriteHalf<DuplexStream>,
) -> Result<Option<HeaderMap>, TunnelError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut incoming = std::pin::pin!(incoming);
    let mut buffer = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| TunnelError::Body(error.into()))?;
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(last) => return Ok(last.into_trailers().ok()),
        };
        buffer.extend_from_slice(&data);
        while let Some(message) = frame::take(&mut buffer, MAX_MESSAGE)? {
            let BytesMessage { data } = BytesMessage::decode(message)?;
            writer.write_all(&data).await?;
        }
    }
    Ok(None)
}

/// What goes out, packed.
async fn outward(mut reader: ReadHalf<DuplexStream>, sink: &Sink) -> Result<(), TunnelError> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = reader.read(&mut chunk).await?;
        let data = chunk.get(..length).unwrap_or_default();
        if data.is_empty() || sink.send(Ok(Frame::data(packed(data)?))).await.is_err() {
            return Ok(());
        }
    }
}

/// One `BytesMessage` in its frame.
fn packed(data: &[u8]) -> Result<Bytes, FrameError> {
    let length = 1 + encoded_len_varint(data.len() as u64) + data.len();
    let mut out = BytesMut::with_capacity(HEAD + length);
    out.put_slice(&frame::head(length)?);
    encode_key(1, WireType::LengthDelimited, &mut out);
    encode_varint(data.len() as u64, &mut out);
    out.put_slice(data);
    Ok(out.freeze())
}

/// Serves HTTP/2 on a connection until it ends.
pub async fn serve<F, R>(near: DuplexStream, answer: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let served = rpc::serve(Batched::new(near), answer).await;
    if let Err(error) = served {
        tracing::debug!("a session's connection broke: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both ends of a tunnel, the body of each carried to the other.
    fn pair() -> (DuplexStream, DuplexStream) {
        let (one, out_one, pump_one) = tunnel().run();
        let (two, out_two, pump_two) = tunnel().run();
        tokio::spawn(pump_one.drive(out_two));
        tokio::spawn(pump_two.answer(out_one, std::future::ready(Ended::Ours.trailers())));
        (one, two)
    }

    #[tokio::test]
    async fn bytes_pass_both_ways_however_they_are_cut() {
        let (mut one, mut two) = pair();
        let sent: Vec<u8> = (0..1_000_000u32).map(|at| at.to_le_bytes()[0]).collect();
        let wanted = sent.clone();
        let writer = tokio::spawn(async move {
            one.write_all(&sent).await.unwrap();
            let mut back = [0; 4];
            one.read_exact(&mut back).await.unwrap();
            back
        });
        let mut got = vec![0; wanted.len()];
        two.read_exact(&mut got).await.unwrap();
        assert!(got == wanted);
        two.write_all(b"done").await.unwrap();
        assert_eq!(&writer.await.unwrap(), b"done");
    }

    #[tokio::test]
    async fn the_end_of_one_side_ends_the_other() {
        let (one, mut two) = pair();
        drop(one);
        assert_eq!(two.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_stream_of_something_else_ends() {
        for frames in [&b"\x01\0\0\0\0"[..], b"\0\xff\0\0\0", b"\0\0\0\0\x01\xff"] {
            let (mut near, _outgoing, pump) = tunnel().run();
            let incoming = http_body_util::Full::new(Bytes::from_static(frames));
            let ended = timeout(Duration::from_secs(10), pump.drive(incoming)).await.unwrap();
            assert!(matches!(ended, Ended::Broke(_)), "{frames:?}: {ended:?}");
            assert_eq!(near.read(&mut [0; 1]).await.unwrap(), 0, "{frames:?}");
        }
    }

    #[test]
    fn what_is_packed_is_a_message_in_a_frame() {
        let mut buffer = BytesMut::from(&packed(b"x").unwrap()[..]);
        assert_eq!(buffer, &b"\0\0\0\0\x03\x0a\x01x"[..]);
        let message = frame::take(&mut buffer, MAX_MESSAGE).unwrap().unwrap();
        assert_eq!(BytesMessage::decode(message).unwrap().data, Bytes::from_static(b"x"));
    }
}
