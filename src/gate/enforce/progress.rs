//! What people see of the decisions: lines of a `[policy]` vertex among those of their build.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use tokio::sync::watch;

/// Most lines that are kept of one build.
const MAX_LINES: usize = 10_000;
/// Most bytes of them.
const MAX_BYTES: usize = 16 << 20;

/// A line, and when it was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When.
    pub at: SystemTime,
    /// What.
    pub text: String,
}

#[derive(Debug, Default)]
struct Lines {
    all: VecDeque<Line>,
    bytes: usize,
}

/// The lines of one build.
#[derive(Debug)]
pub struct Progress {
    lines: Mutex<Lines>,
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
        let bytes = lines.bytes.saturating_add(text.len());
        if lines.all.len() < MAX_LINES && bytes <= MAX_BYTES {
            lines.bytes = bytes;
            lines.all.push_back(Line { at: SystemTime::now(), text });
            self.count.send_replace(lines.all.len());
        }
    }

    /// The lines from the `from`th on.
    pub fn since(&self, from: usize) -> Vec<Line> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.all.iter().skip(from).cloned().collect()
    }

    /// Tells when there are more.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_so_much_is_kept() {
        let progress = Progress::default();
        for _ in 0..2 * MAX_LINES {
            progress.say("x".to_owned());
        }
        assert_eq!((progress.since(0).len(), *progress.watch().borrow()), (MAX_LINES, MAX_LINES));
        let progress = Progress::default();
        for _ in 0..20 {
            progress.say("x".repeat(1 << 20));
        }
        assert_eq!(progress.since(0).len(), 16);
    }
}
