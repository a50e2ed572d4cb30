//! The configuration: flags and a file say the same things, each in one place, and a [`Plan`] is
//! what comes of them. What a plan does not say is not done.
//!
//! ```text
//! flags ┐
//!       ├→ Said → Plan
//! file  ┘
//! ```
//!
//! Nothing is opened here but the file itself; policies, keys and sockets are for whoever runs the
//! plan.

mod file;
mod plan;
mod said;
#[cfg(test)]
mod tests;
mod upstreams;
mod values;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

pub use said::{ConfigError, Place, Said, Top};

use super::log::LogTarget;
use super::settings::{Mode, Settings, Signing};
use crate::gate::proxy::{
    self, Address, ClientPattern, ClientRule, Group, Identity, ListenOptions, Methods, NamePattern,
    Plaintext, ServerTls, UpstreamOptions,
};
use crate::verify::Github;

/// How long builds may go on after SIGTERM, unless told otherwise.
pub const DRAIN: Duration = Duration::from_secs(30);

/// What the gate is to do.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where clients come in.
    pub listeners: Vec<ListenerPlan>,
    /// The daemons behind it.
    pub upstreams: Vec<UpstreamOptions>,
    /// Policies by the name of their set.
    pub sets: BTreeMap<String, Vec<PathBuf>>,
    /// Files of trust roots, by the name that rules know them by.
    pub trust_roots: Vec<(String, PathBuf)>,
    /// Who is asked for attestations of files.
    pub github: Github,
    /// Where signatures of images are looked for.
    pub signing: Arc<Signing>,
    /// Where `PolicyVerifier` is served by itself.
    pub verifier: Option<VerifierPlan>,
    /// Where decisions are written down.
    pub decision_log: Option<LogTarget>,
    /// Where metrics and health are served.
    pub metrics: Option<SocketAddr>,
    /// How long builds may go on after SIGTERM.
    pub drain: Duration,
}

/// A socket that clients come in by.
#[derive(Clone, Debug, PartialEq)]
pub struct ListenerPlan {
    /// Where.
    pub address: Address,
    /// Who may open it, for a unix socket.
    pub socket: SocketPlan,
    /// TLS, for TCP, with the names of certificates that may come in.
    pub tls: Option<ServerTls>,
    /// Where TCP may do without.
    pub plaintext: Plaintext,
    /// The calls that anyone may make here.
    pub methods: Methods,
    /// The clients that have something of their own; the first that matches counts.
    pub clients: Vec<ClientPlan>,
    /// What any other client has; without it any other client is turned away.
    pub others: Option<OthersPlan>,
}

/// Mode and group of a unix socket.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketPlan {
    /// Its mode.
    pub mode: Option<u32>,
    /// Its group.
    pub group: Option<Group>,
}

/// What a client has: the policies that judge its builds, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// The set of policies.
    pub set: String,
    /// How its builds are judged.
    pub settings: Arc<Settings>,
}

/// Some clients of a listener.
#[derive(Clone, Debug, PartialEq)]
pub struct ClientPlan {
    /// Which.
    pub names: Vec<ClientPattern>,
    /// The calls they may make, of those that the listener's list has.
    pub methods: Methods,
    /// What they have.
    pub access: Arc<Access>,
}

/// Clients that no [`ClientPlan`] is about.
#[derive(Clone, Debug, PartialEq)]
pub struct OthersPlan {
    /// The names of certificates that may come; empty where all may.
    pub names: Vec<NamePattern>,
    /// What they have.
    pub access: Arc<Access>,
}

/// `PolicyVerifier` by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierPlan {
    /// Where.
    pub address: Address,
    /// Who may open it, for a unix socket.
    pub socket: SocketPlan,
    /// By which policies it answers.
    pub set: String,
    /// What becomes of its decisions.
    pub mode: Mode,
    /// Whether TCP may be spoken beyond this machine.
    pub plaintext: Plaintext,
}

impl Plan {
    /// What flags say, and a file where there is one.
    ///
    /// # Errors
    /// What is wrong, where it stands, and what is accepted.
    pub fn new(flags: Top, file: Option<&Path>) -> Result<Self, ConfigError> {
        match file {
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
                plan::plan(flags, file::File::parse(&path.display().to_string(), &text)?)
            }
            None => plan::plan(flags, file::File::default()),
        }
    }
}

impl VerifierPlan {
    /// The listener as the proxy opens it.
    pub fn options(&self) -> ListenOptions {
        ListenOptions {
            mode: self.socket.mode,
            group: self.socket.group.clone(),
            plaintext: self.plaintext,
            ..ListenOptions::at(self.address.clone())
        }
    }
}

impl ListenerPlan {
    /// What it is called in messages, logs and traces: where it listens.
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// The listener as the proxy opens it.
    pub fn options(&self) -> ListenOptions {
        let clients = self
            .clients
            .iter()
            .map(|plan| ClientRule { client: plan.names.clone(), methods: plan.methods.clone() });
        ListenOptions {
            name: Some(self.name()),
            mode: self.socket.mode,
            group: self.socket.group.clone(),
            tls: self.tls.clone(),
            plaintext: self.plaintext,
            access: proxy::Access { methods: self.methods.clone(), clients: clients.collect() },
            ..ListenOptions::at(self.address.clone())
        }
    }

    /// What a client has here; `None` turns it away.
    pub fn access(&self, client: &Identity) -> Option<&Arc<Access>> {
        let about = |plan: &&ClientPlan| plan.names.iter().any(|name| name.matches(client));
        match (self.clients.iter().find(about), &self.others) {
            (Some(own), _) => Some(&own.access),
            (None, Some(others)) => {
                let known = match client {
                    Identity::Tls(certified) => {
                        others.names.is_empty()
                            || others.names.iter().any(|name| name.matches(certified))
                    }
                    Identity::Unix { .. } | Identity::Plain { .. } => others.names.is_empty(),
                };
                known.then_some(&others.access)
            }
            (None, None) => None,
        }
    }
}
