//! The stock frontend as our child: its pipes, what it says on stderr, and how it ends.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child as Process, ChildStdin, ChildStdout, Command};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::watch::{Counted, Heard};

/// How long its last words may take.
const PATIENCE: Duration = Duration::from_millis(250);
/// Lines of stderr that an error repeats.
const TAIL: usize = 6;
/// Longest line that an error repeats, in bytes.
const LINE: usize = 512;

/// A child that cannot be started.
#[derive(Debug, thiserror::Error)]
#[error("the Dockerfile frontend {} cannot be started: {source}", program.display())]
pub struct StartError {
    /// Its program.
    pub program: PathBuf,
    source: io::Error,
}

/// A running child. It is killed when this is dropped.
pub struct Child {
    process: Process,
    said: Arc<Mutex<VecDeque<String>>>,
    listening: JoinHandle<()>,
    heard: Heard,
}

impl Child {
    /// Starts `program` with these variables beside our own, and gives what it writes and reads.
    ///
    /// # Errors
    /// When the system will not run it.
    pub fn start(
        program: &Path,
        variables: &[(OsString, OsString)],
    ) -> Result<(Self, Counted<ChildStdout>, ChildStdin), StartError> {
        let wrong = |source| StartError { program: program.to_owned(), source };
        let mut process = Command::new(program)
            .envs(variables.iter().cloned())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(wrong)?;
        let missing = || wrong(io::Error::other("a pipe to it is missing"));
        let output = process.stdout.take().ok_or_else(missing)?;
        let input = process.stdin.take().ok_or_else(missing)?;
        let stderr = process.stderr.take().ok_or_else(missing)?;
        let said = Arc::new(Mutex::new(VecDeque::new()));
        let listening = tokio::spawn(listen(stderr, Arc::clone(&said)));
        let heard = Heard::default();
        let output = heard.count(output);
        Ok((Self { process, said, listening, heard }, output, input))
    }

    /// What has come from it.
    pub fn heard(&self) -> Heard {
        self.heard.clone()
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// When the system cannot tell.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        self.process.wait().await
    }

    /// Its last words, one line each; what it said last may still be on its way.
    pub async fn last_words(&mut self) -> String {
        // Whoever it has left behind may hold the pipe open.
        if timeout(PATIENCE, &mut self.listening).await.is_err() {
            tracing::debug!("the Dockerfile frontend's stderr is still open");
        }
        let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        said.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// Passes stderr on to ours, which the daemon logs, and keeps the end of it.
async fn listen(stderr: impl tokio::io::AsyncRead + Unpin, said: Arc<Mutex<VecDeque<String>>>) {
    let mut lines = BufReader::new(stderr).split(b'\n');
    while let Ok(Some(line)) = lines.next_segment().await {
        let line = String::from_utf8_lossy(&line).into_owned();
        tracing::info!(target: "dockerfile-frontend", "{line}");
        let mut said = said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() == TAIL {
            said.pop_front();
        }
        said.push_back(line.chars().take(LINE).collect());
    }
}
