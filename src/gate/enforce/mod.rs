//! Nothing gets past: what each call of a client would have the daemon fetch is decided first.
//!
//! ```text
//! Control/Solve ─▶ Build ─ policy session ─▶ daemon ─ CheckPolicy ─▶ Build::judge ─▶ ruling
//!                    └ build of our own ◀─ metadata ─────────────────────┘
//! ```
//!
//! | module       | owns                                                                       |
//! |--------------|----------------------------------------------------------------------------|
//! | `solve`      | a build's beginning and end; its policy session                            |
//! | `build`      | a build's questions: decided once, written down, answered                  |
//! | `ruling`     | what is answered about a source                                            |
//! | `internal`   | the build of our own that resolves metadata                                |
//! | `peer`       | the client's own verifier                                                  |
//! | `cache`      | cache imports, which no daemon asks about                                  |
//! | `definitions`| LLB that a client hands over: what of it is judged only the first time     |
//! | `frontends`  | which frontends a build may use                                            |
//! | `bridge`     | `LLBBridge` on the control socket                                          |
//! | `relay`      | sessions of clients                                                        |
//! | `claims`     | whose sessions and builds are whose                                        |
//! | `daemon`     | what a daemon must be able to do                                           |
//! | `status`     | decisions among a build's progress                                         |
//! | `turns`      | where policies are evaluated, and how many at once                         |
//! | `verifier`   | `PolicyVerifier` on a socket of its own                                     |
//!
//! Calls that name no source pass as they are.

mod bridge;
mod build;
mod cache;
mod claims;
mod daemon;
mod definitions;
#[cfg(test)]
mod fake;
mod frontends;
mod internal;
mod peer;
mod progress;
mod relay;
mod ruling;
mod solve;
mod status;
mod turns;
mod verifier;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tonic::Status;

pub use self::daemon::{Daemon, DaemonError, Daemons};
pub use self::verifier::Standalone;

use self::claims::{Claims, Owner};
use self::turns::Turns;
use super::ops::{Mode, PolicySet, Recorder, Settings};
use super::proxy::{Answer, Call, Client, Handle};
use crate::gateway;
use crate::rpc::{self, Channel};
use crate::session;

/// `Control/Status`.
const STATUS: &str = "/moby.buildkit.v1.Control/Status";

/// By which policies, and how, a client's builds are judged.
#[derive(Clone)]
pub struct Assigned {
    /// The policies; a build keeps those it began with.
    pub policies: PolicySet,
    /// Everything else.
    pub settings: Arc<Settings>,
}

/// Says by which policies a client's builds are judged; `None` where by none, so that it builds
/// nothing.
pub type Assign = Box<dyn Fn(&Client) -> Option<Assigned> + Send + Sync>;

/// Answers the calls of clients, and has everything judged that they would load.
pub struct Enforcer {
    assign: Assign,
    recorder: Arc<Recorder>,
    claims: Claims,
    daemons: Daemons,
    turns: Turns,
}

impl Enforcer {
    /// An enforcer that knows no build yet.
    pub fn new(assign: Assign, recorder: Arc<Recorder>) -> Self {
        Self {
            assign,
            recorder,
            claims: Claims::default(),
            daemons: Daemons::default(),
            turns: Turns::default(),
        }
    }

    /// A verifier of these policies on a socket of its own. Its decisions are written down where those
    /// of builds are, and it takes its turns among theirs.
    pub fn standalone(&self, policies: PolicySet, mode: Mode) -> Standalone {
        Standalone::new(policies, mode, Arc::clone(&self.recorder), self.turns.clone())
    }

    /// Asks a daemon whether it can be enforced upon, as at the start of the gate.
    ///
    /// # Errors
    /// When it cannot, with the version that is needed.
    pub async fn probe(&self, channel: &Channel) -> Result<Arc<Daemon>, DaemonError> {
        self.daemons.at(channel, &self.claims).await
    }

    fn assigned(&self, client: &Client) -> Result<Assigned, Status> {
        (self.assign)(client).ok_or_else(|| {
            Status::permission_denied(format!(
                "buildgate: no policy is for {}, so nothing is allowed",
                client.identity
            ))
        })
    }

    async fn answer(&self, call: Call) -> Result<Answer, Status> {
        let owner = Owner::of(&call.client);
        plain(call.request.uri())?;
        match call.method() {
            internal::SOLVE => solve::solve(self, &owner, call).await,
            session::SESSION => relay::open(&self.claims, &owner, call).await,
            STATUS => status::status(&self.claims, &owner, call).await,
            method if method.starts_with(gateway::SERVICE) => {
                bridge::bridge(self, &owner, call).await
            }
            _ => Ok(call.forward().await),
        }
    }
}

impl Handle for Enforcer {
    fn handle(&self, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            match self.answer(call).await {
                Ok(answer) => answer,
                Err(status) => Ok(rpc::refusal(&status)),
            }
        })
    }
}

/// Refuses a path that a daemon might read as another method than we do.
fn plain(uri: &http::Uri) -> Result<(), Status> {
    let path = uri.path_and_query().map(http::uri::PathAndQuery::as_str).unwrap_or_default();
    let word = |part: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
    };
    let parts = path.strip_prefix('/').and_then(|path| path.split_once('/'));
    match parts {
        Some((service, method)) if word(service) && word(method) => Ok(()),
        Some(_) | None => Err(Status::unimplemented(format!("buildgate: {path} is no method"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_methods_pass() {
        for (path, wanted) in [
            ("/moby.buildkit.v1.Control/Solve", true),
            ("//moby.buildkit.v1.Control/Solve", false),
            ("/moby.buildkit.v1.Control/Solve?x", false),
            ("/moby.buildkit.v1.Control/Solve/", false),
            ("/moby.buildkit.v1.Control/%53olve", false),
            ("/x/../moby.buildkit.v1.Control/Solve", false),
            ("/", false),
        ] {
            assert_eq!(plain(&path.parse().unwrap()).is_ok(), wanted, "{path}");
        }
    }
}
