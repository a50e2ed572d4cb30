//! The bytes of a connection as `BytesMessage`s of a gRPC stream, with backpressure both ways.

use std::convert::Infallible;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf};
use tokio::sync::mpsc;

use crate::rpc::{self, Body, BoxError};
use crate::wire::proto::control::BytesMessage;

/// Bytes under way in one direction before their writer waits.
const BUFFER: usize = 256 << 10;
/// Bytes of one message of ours (the daemon's own size).
const CHUNK: usize = 32 << 10;
/// Messages under way.
const QUEUE: usize = 8;
/// Largest message that is taken.
const MAX_MESSAGE: usize = 32 << 20;
/// Length of a frame's head: a flag and the length of the message.
const HEAD: usize = 5;

/// A stream that is no stream of `BytesMessage`s.
#[derive(Debug, thiserror::Error)]
enum TunnelError {
    #[error("the session stream broke: {0}")]
    Body(#[source] BoxError),
    #[error("the session stream holds a compressed message")]
    Compressed,
    #[error("the session stream holds a message of {0} bytes")]
    TooLarge(usize),
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
    sink: mpsc::Sender<Frame<Bytes>>,
}

/// A tunnel that nothing has come through yet.
pub fn tunnel() -> Tunnel {
    let (near, far) = tokio::io::duplex(BUFFER);
    let (sink, source) = mpsc::channel::<Frame<Bytes>>(QUEUE);
    let frames = futures_util::stream::unfold(source, |mut source| async move {
        let frame = source.recv().await?;
        Some((Ok::<_, BoxError>(frame), source))
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
    sink: mpsc::Sender<Frame<Bytes>>,
}

/// How a stream's end is told to its other side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// We answer the stream: its end has a status.
    Server,
    /// We opened the stream.
    Client,
}

impl Pump {
    /// Moves bytes until either side ends; what breaks is told to the log.
    pub async fn drive<B>(self, incoming: B, role: Role)
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let (reader, writer) = tokio::io::split(self.far);
        let ended = tokio::select! {
            ended = inward(incoming, writer) => ended,
            ended = outward(reader, &self.sink) => ended,
        };
        if let Err(error) = ended {
            tracing::debug!("{error}");
        }
        if role == Role::Server {
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
            // A side that is gone needs no goodbye.
            let _ = self.sink.send(Frame::trailers(trailers)).await;
        }
    }
}

/// What came in, unpacked.
async fn inward<B>(incoming: B, mut writer: WriteHalf<DuplexStream>) -> Result<(), TunnelError>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    let mut incoming = std::pin::pin!(incoming);
    let mut buffer = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| TunnelError::Body(error.into()))?;
        let Ok(data) = frame.into_data() else { return Ok(()) };
        buffer.extend_from_slice(&data);
        while let Some(message) = take(&mut buffer)? {
            let BytesMessage { data } = BytesMessage::decode(message)?;
            writer.write_all(&data).await?;
        }
    }
    Ok(())
}

/// The next whole message.
fn take(buffer: &mut BytesMut) -> Result<Option<Bytes>, TunnelError> {
    let Some([flag, length @ ..]) = buffer.first_chunk::<HEAD>().copied() else { return Ok(None) };
    if flag != 0 {
        return Err(TunnelError::Compressed);
    }
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_MESSAGE {
        return Err(TunnelError::TooLarge(length));
    }
    if buffer.len() < HEAD + length {
        return Ok(None);
    }
    buffer.advance(HEAD);
    Ok(Some(buffer.split_to(length).freeze()))
}

/// What goes out, packed.
async fn outward(
    mut reader: ReadHalf<DuplexStream>,
    sink: &mpsc::Sender<Frame<Bytes>>,
) -> Result<(), TunnelError> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = reader.read(&mut chunk).await?;
        let data = chunk.get(..length).unwrap_or_default();
        if data.is_empty() || sink.send(Frame::data(packed(data))).await.is_err() {
            return Ok(());
        }
    }
}

/// One `BytesMessage` in its frame.
fn packed(data: &[u8]) -> Bytes {
    let length = 1 + encoded_len_varint(data.len() as u64) + data.len();
    let mut out = BytesMut::with_capacity(HEAD + length);
    out.put_u8(0);
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    encode_key(1, WireType::LengthDelimited, &mut out);
    encode_varint(data.len() as u64, &mut out);
    out.put_slice(data);
    out.freeze()
}

/// Serves HTTP/2 on a connection until it ends.
pub async fn serve<F, R>(near: DuplexStream, answer: F)
where
    F: Fn(Request<Incoming>) -> R + Clone + Send + 'static,
    R: Future<Output = Response<Body>> + Send + 'static,
{
    let service = service_fn(move |request| {
        let answer = answer.clone();
        async move { Ok::<_, Infallible>(answer(request).await) }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(rpc::MAX_HEADERS)
        .initial_stream_window_size(rpc::WINDOW)
        .initial_connection_window_size(rpc::WINDOW * 2)
        .max_concurrent_streams(None)
        .serve_connection(TokioIo::new(near), service)
        .await;
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
        tokio::spawn(pump_one.drive(out_two, Role::Client));
        tokio::spawn(pump_two.drive(out_one, Role::Server));
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

    #[test]
    fn only_whole_messages_are_taken() {
        let mut buffer = BytesMut::from(&b"\0\0\0\0\x03\x0a\x01"[..]);
        assert!(take(&mut buffer).unwrap().is_none());
        buffer.extend_from_slice(b"x");
        let message = BytesMessage::decode(take(&mut buffer).unwrap().unwrap()).unwrap();
        assert_eq!(message.data, Bytes::from_static(b"x"));
        assert!(take(&mut BytesMut::from(&b"\x01\0\0\0\0"[..])).is_err());
        assert!(take(&mut BytesMut::from(&b"\0\xff\0\0\0"[..])).is_err());
    }
}
