//! What people see of the decisions: lines of a `[policy]` vertex among those of their build.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

/// Most lines that are kept of one build.
const MAX_LINES: usize = 10_000;

/// A line, and when it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: SystemTime,
    /// What.
    pub text: String,
}

/// The lines of one build.
#[derive(Debug)]
pub struct Progress {
    lines: Mutex<VecDeque<Line>>,
    count: watch::Sender<usize>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { lines: Mutex::default(), count: watch::channel(0).0 }
    }
}

impl Progress {
    /// Says a line.
    pub fn say(&self, text: String) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if lines.len() < MAX_LINES {
            lines.push_back(Line { at: SystemTime::now(), text });
            self.count.send_replace(lines.len());
        }
    }

    /// The lines from the `from`th on.
    pub fn since(&self, from: usize) -> Vec<Line> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().skip(from).cloned().collect()
    }

    /// Tells when there are more.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}
