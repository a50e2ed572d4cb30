//! What is under way and what has been, in numbers, for whoever shows them.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Numbers of one gate. Those that say `open` go down again, the others only up.
#[derive(Debug, Default)]
pub struct Counters {
    /// Connections of clients now.
    pub open_connections: AtomicU64,
    /// Connections of clients ever.
    pub connections: AtomicU64,
    /// Clients that were sent away before a call: TLS failed, or nobody we know.
    pub strangers: AtomicU64,
    /// Calls under way.
    pub open_calls: AtomicU64,
    /// Calls ever.
    pub calls: AtomicU64,
    /// Calls of methods that the caller may not call.
    pub forbidden: AtomicU64,
    /// Calls that no upstream took.
    pub unserved: AtomicU64,
    /// Connections to upstreams now.
    pub open_upstreams: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts up now, and down when the guard is dropped.
    pub(super) fn hold(self: &Arc<Self>, which: fn(&Self) -> &AtomicU64) -> Held {
        Self::add(which(self));
        Held { counters: Arc::clone(self), which }
    }
}

/// Something that is counted as long as it lives.
#[derive(Debug)]
pub(super) struct Held {
    counters: Arc<Counters>,
    which: fn(&Counters) -> &AtomicU64,
}

impl Drop for Held {
    fn drop(&mut self) {
        (self.which)(&self.counters).fetch_sub(1, Ordering::Relaxed);
    }
}
