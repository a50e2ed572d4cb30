//! Few large reads and writes under an HTTP/2 connection, which by itself makes one or two for each frame
//! of 16 KiB: on the way from one process to the next, that is most of what a transfer costs.
//!
//! What is written goes out when the connection's task is polled again, which it asks for itself: after
//! whatever else was ready to be written, and not after anything that was not. Nothing waits for a
//! clock but the answers to pings: a gRPC peer in Go pings whenever it has got data and no ping of its own
//! is unanswered, to measure the way. Answered at once, that was half of all that went to and fro, each
//! time with a thread to wake on either side.

use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::pongs::Frames;

/// Bytes that are read or written at once. What a connection has no bytes for it holds no memory for.
const BATCH: usize = 128 << 10;

/// Bytes that are read at once where so few come.
const FEW: usize = 4 << 10;

/// How long the answer to a ping is kept. Whoever asks whether we live waits for seconds; whoever measures
/// takes the way for longer, and its windows get larger.
const KEPT: Duration = Duration::from_millis(10);

/// Bytes of such answers that are kept at most.
const MOST_KEPT: usize = 1 << 10;

/// A stream of bytes below an HTTP/2 connection: every poll of the connection reads first, and that is
/// where what was flushed before goes out. Anything that flushes and then never reads must shut down.
pub struct Batched<T> {
    inner: T,
    /// Read, and not taken yet.
    input: BytesMut,
    /// What the next read makes room for.
    room: usize,
    /// Written, and not sent yet.
    output: BytesMut,
    due: Due,
    frames: Frames,
    /// Answers to pings, of what was written.
    pongs: BytesMut,
    /// How long each may be kept.
    most: Duration,
    /// Until when they are kept; made for the first.
    until: Option<Pin<Box<Sleep>>>,
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
    /// Over such a stream.
    pub fn new(inner: T) -> Self {
        Self::keeping(inner, KEPT)
    }

    fn keeping(inner: T, most: Duration) -> Self {
        Self {
            inner,
            input: BytesMut::new(),
            room: FEW,
            output: BytesMut::new(),
            due: Due::Nothing,
            frames: Frames::default(),
            pongs: BytesMut::new(),
            most,
            until: None,
        }
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
        self.input.reserve(self.room);
        let read = pin!(self.inner.read_buf(&mut self.input)).poll(cx);
        if self.input.is_empty() {
            self.input = BytesMut::new();
        }
        let read = ready!(read)?;
        if read >= self.room {
            self.room = BATCH.min(4 * self.room);
        } else if read < self.room / 4 {
            self.room = FEW.max(self.room / 2);
        }
        Poll::Ready(Ok(()))
    }

    /// Puts the answers that were kept long enough to the rest; wakes the task when they will have been.
    fn release(&mut self, cx: &mut Context<'_>) {
        let kept = !self.pongs.is_empty()
            && self.pongs.len() < MOST_KEPT
            && self.until.as_mut().is_some_and(|until| until.as_mut().poll(cx).is_pending());
        // Within a frame there is no place for another.
        if !kept && !self.pongs.is_empty() && self.frames.between() {
            self.output.extend_from_slice(&std::mem::take(&mut self.pongs));
            self.due = Due::Sending;
        }
    }

    /// Keeps the answers that came with the last write.
    fn keep(&mut self, cx: &mut Context<'_>) {
        match &mut self.until {
            Some(until) => until.as_mut().reset(Instant::now() + self.most),
            None => self.until = Some(Box::pin(sleep(self.most))),
        }
        self.release(cx);
        if self.due == Due::Sending {
            cx.waker().wake_by_ref();
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> AsyncRead for Batched<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.release(cx);
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

    /// Takes all of it or nothing, so that no frame is cut here: that is as much as the connection holds
    /// already.
    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.poll_send(cx, BATCH - 1))?;
        let length = slices.iter().map(|slice| slice.len()).sum();
        let none_kept = this.pongs.is_empty();
        for slice in slices {
            this.frames.sort(slice, &mut this.output, &mut this.pongs);
        }
        if none_kept && !this.pongs.is_empty() {
            this.keep(cx);
        }
        Poll::Ready(Ok(length))
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
        if self.frames.between() {
            let pongs = std::mem::take(&mut self.pongs);
            self.output.extend_from_slice(&pongs);
        }
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

    /// An answer to a ping.
    fn pong(data: u8) -> Vec<u8> {
        [&[0, 0, 8, 6, 1, 0, 0, 0, 0][..], &[data; 8]].concat()
    }

    async fn flushed(batched: &mut Batched<DuplexStream>, bytes: &[u8]) {
        batched.write_all(bytes).await.unwrap();
        batched.flush().await.unwrap();
        assert_eq!(read(batched), b"");
    }

    /// For as long as no test takes.
    const LONG: Duration = Duration::from_secs(3600);

    #[tokio::test]
    async fn answers_to_pings_are_kept_and_nothing_else_is() {
        let (near, mut far) = duplex(BATCH);
        let mut batched = Batched::keeping(near, LONG);
        let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        flushed(&mut batched, &[pong(1), settings.to_vec()].concat()).await;
        arrived(&mut far, settings.len()).await;
        for _ in 1..MOST_KEPT / pong(1).len() {
            flushed(&mut batched, &pong(2)).await;
        }
        let early = tokio::time::timeout(Duration::ZERO, far.read_u8()).await;
        assert!(early.is_err());
        // Whoever floods us with pings is answered at once.
        flushed(&mut batched, &pong(3)).await;
        arrived(&mut far, (MOST_KEPT / pong(1).len() + 1) * pong(1).len()).await;
        assert_eq!(batched.output.capacity() + batched.pongs.capacity(), 0);
        // Those that stay behind go at the end.
        flushed(&mut batched, &pong(4)).await;
        batched.shutdown().await.unwrap();
        arrived(&mut far, pong(4).len()).await;
    }

    /// A frame's payload that comes in a write of its own is not cut by what was kept.
    #[tokio::test]
    async fn what_was_kept_waits_for_the_end_of_a_frame() {
        let (near, mut far) = duplex(BATCH);
        let mut batched = Batched::keeping(near, Duration::from_millis(1));
        let head = [0, 0, 4, 0, 0, 0, 0, 0, 1];
        flushed(&mut batched, &[pong(1), head.to_vec()].concat()).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
        flushed(&mut batched, b"da").await;
        flushed(&mut batched, b"ta").await;
        read(&mut batched);
        let mut got = vec![0; head.len() + 4 + pong(1).len()];
        far.read_exact(&mut got).await.unwrap();
        assert_eq!(got, [&head[..], b"data", &pong(1)].concat());
    }

    /// The connection's task is woken for them, by nobody else.
    #[tokio::test]
    async fn answers_to_pings_are_not_kept_for_ever() {
        let (near, mut far) = duplex(BATCH);
        let mut batched = Batched::new(near);
        let connection = async {
            for round in 0..2 {
                batched.write_all(&pong(round)).await.unwrap();
                batched.flush().await.unwrap();
                assert_eq!(batched.read_u8().await.unwrap(), round);
            }
        };
        let peer = async {
            for round in 0..2 {
                arrived(&mut far, pong(round).len()).await;
                far.write_u8(round).await.unwrap();
            }
        };
        let both = async { tokio::join!(connection, peer) };
        tokio::time::timeout(Duration::from_secs(10), both).await.unwrap();
    }

    #[tokio::test]
    async fn a_read_makes_room_for_what_comes() {
        let (near, mut far) = duplex(4 * BATCH);
        let mut batched = Batched::new(near);
        for (sent, room) in [(10, FEW), (FEW, 4 * FEW), (3 * BATCH, BATCH), (0, BATCH)] {
            far.write_all(&vec![7; sent]).await.unwrap();
            while !read(&mut batched).is_empty() {}
            assert_eq!(batched.room, room, "{sent}");
        }
        for _ in 0..10 {
            far.write_all(b"few").await.unwrap();
            read(&mut batched);
        }
        assert_eq!(batched.room, FEW);
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
    async fn what_came_in_one_piece_is_read_in_few_and_the_end_comes_last() {
        let (near, mut far) = duplex(BATCH);
        let mut batched = Batched::new(near);
        let sent: Vec<u8> = (0..=u8::MAX).cycle().take(2 * FRAME + 5).collect();
        far.write_all(&sent).await.unwrap();
        drop(far);
        let parts: Vec<Vec<u8>> = (0..4).map(|_| read(&mut batched)).collect();
        let lengths: Vec<usize> = parts.iter().map(Vec::len).collect();
        assert_eq!(lengths, [FEW, FRAME, FRAME - FEW + 5, 0]);
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
