//! The decision log: a JSON line a decision, with the system before the answer goes out.
//!
//! A line that cannot be written is an error, and whoever answers must refuse by it. Writing goes
//! through a thread of its own: a full pipe or a slow disk holds up answers, and nothing else.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

/// How long a line may take to be written.
const PATIENCE: Duration = Duration::from_secs(5);
/// Lines under way at once; more of them wait.
const QUEUE: usize = 1024;
/// Mode of a log that is made: the group may read it, and nobody else.
const MODE: u32 = 0o640;

/// Where the log goes (`--decision-log`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogTarget {
    /// Standard output (`-`).
    Stdout,
    /// A file, made where there is none, added to where there is one.
    File(PathBuf),
}

impl std::fmt::Display for LogTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A decision that is not in the log. What it allows is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The file cannot be opened.
    #[error("the decision log {target} cannot be opened: {source}")]
    Open {
        /// Which log.
        target: LogTarget,
        /// Why.
        source: io::Error,
    },
    /// The system did not take the line.
    #[error("the decision log {target} cannot be written: {source}")]
    Write {
        /// Which log.
        target: LogTarget,
        /// Why.
        source: io::Error,
    },
    /// Nothing came back in time.
    #[error("the decision log {target} did not take a line within {within:?}")]
    Stalled {
        /// Which log.
        target: LogTarget,
        /// How long was waited.
        within: Duration,
    },
    /// The thread that writes has ended.
    #[error("the decision log {target} is closed")]
    Closed {
        /// Which log.
        target: LogTarget,
    },
    /// The clock of this machine is of no use.
    #[error("a decision has no time: {0}")]
    Clock(#[source] jiff::Error),
    /// A record is no JSON.
    #[error("a decision cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

enum Order {
    Write(Vec<u8>, oneshot::Sender<io::Result<()>>),
    Reopen(oneshot::Sender<io::Result<()>>),
}

/// A decision log that is open. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DecisionLog {
    target: LogTarget,
    orders: mpsc::Sender<Order>,
    patience: Duration,
}

impl DecisionLog {
    /// Opens the log.
    ///
    /// # Errors
    /// When the file cannot be opened.
    pub fn open(target: LogTarget) -> Result<Self, LogError> {
        let failed = |source| LogError::Open { target: target.clone(), source };
        let file = file_of(&target).map_err(failed)?;
        let (orders, mut incoming) = mpsc::channel(QUEUE);
        let mut sink = Sink { target: target.clone(), file, torn: false };
        std::thread::Builder::new()
            .name("decision-log".to_owned())
            .spawn(move || {
                while let Some(order) = incoming.blocking_recv() {
                    // Whoever asked may have gone; the line is written all the same.
                    let _ = match order {
                        Order::Write(line, done) => done.send(sink.write(&line)),
                        Order::Reopen(done) => done.send(sink.reopen()),
                    };
                }
            })
            .map_err(|source| LogError::Open { target: target.clone(), source })?;
        Ok(Self { target, orders, patience: PATIENCE })
    }

    /// Writes a record as one line, and comes back when the system has it.
    ///
    /// # Errors
    /// When it has not. The decision must not be answered then.
    pub async fn write<T: serde::Serialize>(&self, record: &T) -> Result<(), LogError> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let target = self.target.clone();
        self.order(|done| Order::Write(line, done))
            .await?
            .map_err(|source| LogError::Write { target, source })
    }

    /// Opens the file anew, after it was moved away. Where that fails the old one stays in use.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn reopen(&self) -> Result<(), LogError> {
        let target = self.target.clone();
        self.order(Order::Reopen).await?.map_err(|source| LogError::Open { target, source })
    }

    async fn order(
        &self,
        order: impl FnOnce(oneshot::Sender<io::Result<()>>) -> Order,
    ) -> Result<io::Result<()>, LogError> {
        let (done, answer) = oneshot::channel();
        let closed = || LogError::Closed { target: self.target.clone() };
        let work = async {
            self.orders.send(order(done)).await.map_err(|_| closed())?;
            answer.await.map_err(|_| closed())
        };
        let within = self.patience;
        tokio::time::timeout(within, work)
            .await
            .map_err(|_| LogError::Stalled { target: self.target.clone(), within })?
    }
}

fn file_of(target: &LogTarget) -> io::Result<File> {
    match target {
        // Not through `io::Stdout`, which would keep what the system has not taken.
        LogTarget::Stdout => Ok(io::stdout().as_fd().try_clone_to_owned()?.into()),
        LogTarget::File(path) => OpenOptions::new().append(true).create(true).mode(MODE).open(path),
    }
}

struct Sink {
    target: LogTarget,
    file: File,
    /// A line may have been begun and not ended.
    torn: bool,
}

impl Sink {
    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        if self.torn {
            self.file.write_all(b"\n")?;
            self.torn = false;
        }
        self.file.write_all(line).inspect_err(|_| self.torn = true)
    }

    fn reopen(&mut self) -> io::Result<()> {
        self.file = file_of(&self.target)?;
        self.torn = false;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        (dir, path)
    }

    #[tokio::test]
    async fn a_line_is_there_when_writing_comes_back() {
        let (_dir, path) = file("decisions");
        std::fs::write(&path, "before\n").unwrap();
        let log = DecisionLog::open(LogTarget::File(path.clone())).unwrap();
        for at in 0..3 {
            log.write(&serde_json::json!({ "at": at })).await.unwrap();
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.ends_with(&format!("{{\"at\":{at}}}\n")), "{text}");
        }
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("before\n"));
    }

    #[tokio::test]
    async fn a_full_disk_is_an_error_each_time() {
        let log = DecisionLog::open(LogTarget::File("/dev/full".into())).unwrap();
        for _ in 0..2 {
            let error = log.write(&1).await.unwrap_err().to_string();
            assert_eq!(
                error,
                "the decision log /dev/full cannot be written: No space left on device (os error 28)"
            );
        }
    }

    #[tokio::test]
    async fn reopening_goes_on_in_the_new_file() {
        let (dir, path) = file("decisions");
        let moved = dir.path().join("decisions.1");
        let log = DecisionLog::open(LogTarget::File(path.clone())).unwrap();
        log.write(&1).await.unwrap();
        std::fs::rename(&path, &moved).unwrap();
        log.write(&2).await.unwrap();
        log.reopen().await.unwrap();
        log.write(&3).await.unwrap();
        assert_eq!(std::fs::read_to_string(&moved).unwrap(), "1\n2\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "3\n");
    }

    #[tokio::test]
    async fn a_file_that_cannot_be_reopened_leaves_the_old_one_in_use() {
        let (dir, path) = file("logs/decisions");
        let folder = dir.path().join("logs");
        std::fs::create_dir(&folder).unwrap();
        let log = DecisionLog::open(LogTarget::File(path)).unwrap();
        std::fs::rename(&folder, dir.path().join("old")).unwrap();
        assert!(matches!(log.reopen().await, Err(LogError::Open { .. })));
        log.write(&1).await.unwrap();
        let old = dir.path().join("old/decisions");
        assert_eq!(std::fs::read_to_string(old).unwrap(), "1\n");
    }

    #[tokio::test]
    async fn a_pipe_that_nobody_reads_is_an_error() {
        let (orders, _kept) = mpsc::channel(1);
        let patience = Duration::from_millis(10);
        let log = DecisionLog { target: LogTarget::Stdout, orders, patience };
        let error = log.write(&1).await.unwrap_err().to_string();
        assert_eq!(error, "the decision log standard output did not take a line within 10ms");
    }

    #[test]
    fn a_log_that_cannot_be_opened_is_an_error_at_the_start() {
        let target = LogTarget::File("/nowhere/decisions".into());
        let error = DecisionLog::open(target).unwrap_err().to_string();
        assert_eq!(
            error,
            "the decision log /nowhere/decisions cannot be opened: \
             No such file or directory (os error 2)"
        );
    }
}
