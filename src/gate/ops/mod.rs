//! Operations of the gate: which policies hold, what is written down about decisions, what an
//! operator sees, and the configuration that all of it comes from.
//!
//! Nothing here judges or carries a call. What judges takes a [`PolicySet`]'s current
//! [`Revision`] when a build begins, and calls [`Recorder::record`] before it answers.

pub mod config;
mod judges;
mod log;
mod metrics;
mod policies;
mod record;
mod settings;
mod snapshot;
mod status;
pub mod systemd;
#[cfg(test)]
mod tests;
pub mod trace;
mod watch;

pub use judges::{Judge, Judges};
pub use log::{DecisionLog, LogError, LogTarget};
pub use metrics::{ErrorKind, Metrics, Traffic, UnderWay};
pub use policies::{PolicySet, PolicySets, Reloaded, Revision, SetsError};
pub use record::{Action, Build, Decision, Recorder};
pub use settings::{BuildOp, DOCKERFILE, Mode, Settings, Signing, Submodules};
pub use snapshot::SnapshotError;
pub use status::{Observed, Status, UpstreamState};
pub use watch::{POLL, Reloader, Wake};
