//! Few large reads and writes under an HTTP/2 connection, which by itself makes one or two for each frame
//! of 16 KiB: on the way from one process to the next, that is most of what a transfer costs.
//!
//! Nothing waits for a clock. What is written goes out when the connection's task is polled again, which
//! it asks for itself: after whatever else was ready to be written, and not after anything that was not.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

/// Bytes that are read or written at once. What a connection has no bytes for it holds no memory for.
const BATCH: usize = 128 << 10;

/// A stream of bytes below an HTTP/2 connection: every poll of the connection reads first, and that is
/// where what was flushed before goes out. Anything that flushes and then never reads must shut down.
pub struct Batched<T> {
    inner: T,
    /// Read, and not taken yet.
    input: BytesMut,
    /// Written, and not sent yet.
    output: BytesMut,
    due: Due,
}

/// What is to become of the output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Due {
    /// It may stay.
    Nothing,
    /// It is to be sent by the poll that was asked for, or as soon as the other side takes it.
    Sending,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Batched<T> {
    pub fn new(inner: T) -> Self {
        let (input, output) = (BytesMut::new(), BytesMut::new());
        Self { inner, input, output, due: Due::Nothing }
    }

    /// Sends until no more than so many bytes are left.
    fn poll_send(&mut self, cx: &mut Context<'_>, left: usize) -> Poll<io::Result<()>> {
        while self.output.len() > left {
            let sent = ready!(Pin::new(&mut self.inner).poll_write(cx, &self.output))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.output.advance(sent);
        }
        if self.output.is_empty() {
            // Idle connections are many.
            self.output = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_send_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send(cx, 0))?;
        ready!(Pin::new(&mut self.inner).poll_flush(cx))?;
        self.due = Due::Nothing;
        Poll::Ready(Ok(()))
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.input.reserve(BATCH);
        let read = pin!(self.inner.read_buf(&mut self.input)).poll(cx);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        read.map_ok(|_| ())
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Batched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.due == Due::Sending {
            // Where the other side takes no more, this wakes us when it does; reading goes on.
            if let Poll::Ready(Err(error)) = self.poll_send_all(cx) {
                return Poll::Ready(Err(error));
            }
        }
        if self.input.is_empty() {
            ready!(self.poll_fill(cx))?;
        }
        let length = self.input.len().min(buf.remaining());
        buf.put_slice(&self.input.split_to(length));
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Batched<T> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_send(cx, BATCH - 1))?;
        if self.output.capacity() == 0 {
            let length = slices.iter().map(|slice| slice.len()).sum();
            self.output.reserve(BATCH.min(length));
        }
        let before = self.output.len();
        for slice in slices {
            let room = BATCH - self.output.len();
            self.output.extend_from_slice(slice.get(..room).unwrap_or(slice));
        }
        Poll::Ready(Ok(self.output.len() - before))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.output.is_empty() {
            return Pin::new(&mut self.inner).poll_flush(cx);
        }
        if self.due == Due::Nothing {
            self.due = Due::Sending;
            cx.waker().wake_by_ref();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_send_all(cx))?;
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use tokio::io::{AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const FRAME: usize = 16 << 10;

    /// What a connection does in each poll: it reads, and where nothing comes it is parked.
    fn read(batched: &mut Batched<DuplexStream>) -> Vec<u8> {
        let mut space = [0; FRAME];
        let mut buf = ReadBuf::new(&mut space);
        let mut cx = Context::from_waker(Waker::noop());
        match Pin::new(batched).poll_read(&mut cx, &mut buf) {
            Poll::Ready(read) => read.unwrap(),
            Poll::Pending => assert!(buf.filled().is_empty()),
        }
        buf.filled().to_vec()
    }

    async fn arrived(peer: &mut DuplexStream, wanted: usize) {
        let mut got = BytesMut::with_capacity(2 * BATCH);
        assert_eq!(peer.read_buf(&mut got).await.unwrap(), wanted);
    }

    #[tokio::test]
    async fn frames_that_are_flushed_one_by_one_leave_together_at_the_next_poll() {
        let (near, mut far) = duplex(2 * BATCH);
        let mut batched = Batched::new(near);
        for _ in 0..3 {
            batched.write_all(&[7; FRAME]).await.unwrap();
            batched.flush().await.unwrap();
        }
        let early = tokio::time::timeout(std::time::Duration::ZERO, far.read_u8()).await;
        assert!(early.is_err());
        assert_eq!(read(&mut batched), b"");
        arrived(&mut far, 3 * FRAME).await;
        assert_eq!(batched.output.capacity(), 0, "an idle connection holds nothing");
        // By then nothing is due, and what is only written stays.
        batched.write_all(b"a").await.unwrap();
        read(&mut batched);
        assert_eq!(batched.output.len(), 1);
    }

    #[tokio::test]
    async fn whoever_flushes_is_polled_again() {
        let (near, mut far) = duplex(BATCH);
        let mut batched = Batched::new(near);
        let connection = async {
            batched.write_all(b"ping").await.unwrap();
            batched.flush().await.unwrap();
            batched.read_u8().await.unwrap()
        };
        let peer = async {
            arrived(&mut far, 4).await;
            far.write_u8(1).await.unwrap();
        };
        let both = async { tokio::join!(connection, peer).0 };
        let within = std::time::Duration::from_secs(10);
        assert_eq!(tokio::time::timeout(within, both).await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_reader_that_stops_stops_the_writer() {
        let (near, mut far) = duplex(FRAME);
        let mut batched = Batched::new(near);
        let mut cx = Context::from_waker(Waker::noop());
        let mut taken = 0;
        while let Poll::Ready(written) = Pin::new(&mut batched).poll_write(&mut cx, &[7; FRAME]) {
            taken += written.unwrap();
        }
        assert_eq!(taken, BATCH + FRAME, "a batch here, and what the socket holds");
        arrived(&mut far, FRAME).await;
        assert!(Pin::new(&mut batched).poll_write(&mut cx, &[7; FRAME]).is_ready());
    }

    #[tokio::test]
    async fn what_came_in_one_piece_is_read_frame_by_frame_and_the_end_comes_last() {
        let (near, mut far) = duplex(BATCH);
        let mut batched = Batched::new(near);
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(2 * FRAME + 5).collect();
        far.write_all(&sent).await.unwrap();
        drop(far);
        let parts: Vec<Vec<u8>> = (0..4).map(|_| read(&mut batched)).collect();
        let lengths: Vec<usize> = parts.iter().map(Vec::len).collect();
        assert_eq!(lengths, [FRAME, FRAME, 5, 0]);
        assert!(parts.concat() == sent);
        assert_eq!(batched.input.capacity(), 0, "an idle connection holds nothing");
    }

    #[tokio::test]
    async fn the_end_takes_what_was_written_along() {
        let (near, mut far) = duplex(BATCH);
        let mut batched = Batched::new(near);
        batched.write_all(b"last words").await.unwrap();
        batched.shutdown().await.unwrap();
        let mut got = Vec::new();
        far.read_to_end(&mut got).await.unwrap();
        assert_eq!(got, b"last words");
    }
}
