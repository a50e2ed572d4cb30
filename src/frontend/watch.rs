//! Whether the child still does anything: one that stands still would hold its build for ever.
//!
//! Two things tell. A child that waits for nothing and asks for nothing has nothing to do but to end.
//! And whoever is alive answers the connection's pings ([`PING`]), however long a call may take that it
//! waits for: a child from which not a byte comes is stopped, or does not read what we write.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, ReadBuf};

use super::bridge::Activity;

/// How long a child may stand still.
pub const HANG: Duration = Duration::from_secs(10);
/// How long a connection is silent before its other side is asked for a sign of life.
pub const PING: Duration = Duration::from_secs(3);
/// How long a ping may go unanswered before the connection itself breaks: longer than any build. A clock
/// would count the time in which our container is paused, and the child with us.
pub const UNANSWERED: Duration = Duration::from_secs(365 * 86_400);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// How a child stands still.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hang {
    /// It is there, and neither asks nor waits for anything.
    Idle,
    /// Nothing comes from it, not even the answer to a ping.
    Silent,
}

impl fmt::Display for Hang {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = HANG.as_secs();
        match self {
            Self::Idle => write!(f, "did nothing for {seconds} s"),
            Self::Silent => write!(f, "did nothing for {seconds} s, and answered no ping,"),
        }
    }
}

/// Bytes that have come so far.
#[derive(Clone, Debug, Default)]
pub struct Heard(Arc<AtomicU64>);

impl Heard {
    /// The same stream, whose bytes are counted.
    pub fn count<R>(&self, stream: R) -> Counted<R> {
        Counted { stream, heard: self.clone() }
    }

    fn bytes(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A stream whose bytes are counted.
#[derive(Debug)]
pub struct Counted<R> {
    stream: R,
    heard: Heard,
}

impl<R: AsyncRead + Unpin> AsyncRead for Counted<R> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<std::io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        let more = into.filled().len().saturating_sub(before);
        self.heard.0.fetch_add(more.try_into().unwrap_or(u64::MAX), Ordering::SeqCst);
        polled
    }
}

/// Comes back when the child stands still.
pub async fn hang(activity: &Activity, heard: &Heard) -> Hang {
    looking(activity, heard, LOOK).await
}

/// The same by another clock.
async fn looking(activity: &Activity, heard: &Heard, look: Duration) -> Hang {
    let (mut begun, mut bytes) = (activity.begun(), heard.bytes());
    let (mut idle, mut silent) = (Duration::ZERO, Duration::ZERO);
    loop {
        if idle >= HANG {
            return Hang::Idle;
        }
        if silent >= HANG {
            return Hang::Silent;
        }
        // Looks are counted, not hours: where the two of us are held up together, the child is not at
        // fault.
        tokio::time::sleep(look).await;
        let (begun_now, bytes_now) = (activity.begun(), heard.bytes());
        let waits = activity.open() > 0 || begun_now != begun;
        idle = if waits { Duration::ZERO } else { idle + LOOK };
        silent = if bytes_now == bytes { silent + LOOK } else { Duration::ZERO };
        (begun, bytes) = (begun_now, bytes_now);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    #[tokio::test]
    async fn who_says_nothing_stands_still_and_who_waits_does_not() {
        for (waits, speaks, wanted) in [
            (false, true, Some(Hang::Idle)),
            (false, false, Some(Hang::Idle)),
            (true, false, Some(Hang::Silent)),
            (true, true, None),
        ] {
            let (activity, heard) = (Arc::new(Activity::default()), Heard::default());
            let _call = waits.then(|| activity.begin());
            let mut stream = heard.count(tokio::io::repeat(0));
            let speaking = async {
                let mut said = 0;
                while speaks && !(waits && said > 500) {
                    said += stream.read(&mut [0]).await.unwrap();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                if !speaks {
                    std::future::pending::<()>().await;
                }
            };
            // Looked at so often, the ten seconds are a fraction of one.
            let found = tokio::select! {
                how = looking(&activity, &heard, Duration::from_millis(5)) => Some(how),
                () = speaking => None,
            };
            assert_eq!(found, wanted, "waits: {waits}, speaks: {speaks}");
        }
    }
}
