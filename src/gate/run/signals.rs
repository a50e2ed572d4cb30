//! The signals that a gate listens to.

use std::io;
use std::sync::Arc;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::gate::ops::{ErrorKind, Recorder, Wake};

/// The signals that a gate listens to.
pub(super) struct Signals {
    pub(super) hang_up: Signal,
    pub(super) ending: Ending,
}

/// Those that end it.
pub(super) struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            ending: Ending {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            },
        })
    }
}

/// Reads policies again and reopens the log at each SIGHUP.
pub(super) async fn hang_ups(mut hang_up: Signal, wake: Wake, recorder: Arc<Recorder>) {
    while hang_up.recv().await.is_some() {
        tracing::info!("SIGHUP: policies are read again, the decision log is reopened");
        wake.now();
        if let Err(error) = recorder.reopen().await {
            recorder.metrics().error(ErrorKind::Reopen);
            tracing::error!("{error}; the old file stays in use");
        }
    }
}

impl Ending {
    pub(super) async fn ended(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
