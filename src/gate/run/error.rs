//! Why a gate does not open, or ends.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::task::JoinError;

use crate::gate::enforce::DaemonError;
use crate::gate::ops::{LogError, SetsError};
use crate::gate::proxy::{ListenError, TlsError, UpstreamsError};
use crate::resolve;

/// A gate that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GateError {
    /// Its policies.
    #[error(transparent)]
    Policies(#[from] SetsError),
    /// Its daemons.
    #[error(transparent)]
    Upstreams(#[from] UpstreamsError),
    /// A listener.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Its certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Its decision log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The listener of metrics.
    #[error("metrics cannot be served at {address}: {source}")]
    Metrics {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// A daemon that cannot be enforced upon.
    #[error("upstream {upstream}: {source}")]
    Daemon {
        /// Which.
        upstream: Arc<str>,
        /// Why.
        source: DaemonError,
    },
    /// Signals of the system.
    #[error("signals cannot be waited for: {0}")]
    Signals(#[source] io::Error),
    /// systemd waits for word of us.
    #[error("systemd cannot be told: {0}")]
    Systemd(#[source] io::Error),
    /// What we write would change a policy, each time.
    #[error(
        "{what} lies in the folder of policy {}, and all that lies there belongs to the policy: \
         each line would be a change of it; write it elsewhere, or give the policy a folder of its own",
        policy.display()
    )]
    InPolicy {
        /// What would be written.
        what: String,
        /// The policy.
        policy: PathBuf,
    },
    /// What signatures are looked for with.
    #[error("signatures cannot be looked for: {0}")]
    Signing(#[from] resolve::SetupError),
    /// A set that nobody has loaded.
    #[error("there is no policy set `{0}`")]
    NoSet(String),
    /// Something that goes on as long as the gate does has ended by itself.
    #[error(
        "{what} ended by itself{}, and so does the gate",
        why.as_ref().map(|why| format!(" ({why})")).unwrap_or_default()
    )]
    Ended {
        /// What it was.
        what: String,
        /// What it ended by, where it did not just come back.
        #[source]
        why: Option<JoinError>,
    },
}
