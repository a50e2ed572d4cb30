//! What a daemon must be able to do, before any build reaches it.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use http::HeaderMap;
use prost::Message;
use tokio::sync::OnceCell;
use tokio::time::timeout;
use tonic::Status;

use super::claims::Claims;
use super::internal::{Internal, InternalError};
use crate::rpc::Channel;
use crate::source::Platform;
use crate::wire::PlatformError;
use crate::wire::proto::control::{ListWorkersRequest, ListWorkersResponse};
use crate::wire::proto::gateway::{PingRequest, PongResponse};

/// Who the workers of a daemon are, of which version.
const WORKERS: &str = "/moby.buildkit.v1.Control/ListWorkers";

/// Capability: sources are put to a policy session.
const POLICY_SESSION: &str = "source.policy.session";
/// Capability that came with the version in which policy sessions are whole: CONVERT, deny messages,
/// attestations by predicate, checksums with a suffix.
const WHOLE: &str = "source.imageblob";
/// Capability: HTTP of `RUN` goes through the daemon, which asks about it.
const PROXY: &str = "exec.meta.network.proxy";

/// A daemon that cannot be enforced upon. Nothing is built on it.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// It asks nobody.
    #[error(
        "this BuildKit has no policy sessions (capability {POLICY_SESSION}); buildgate needs BuildKit 0.28 or newer"
    )]
    NoPolicySessions,
    /// It asks, and does not do what is answered.
    #[error(
        "the policy sessions of this BuildKit are incomplete; buildgate needs BuildKit 0.28 or newer"
    )]
    Incomplete,
    /// It cannot put the network of `RUN` under policy.
    #[error(
        "a policy asks for exec.proxy, which needs BuildKit 0.31 or newer (capability {PROXY})"
    )]
    NoProxy,
    /// It does not say what it can do.
    #[error("BuildKit does not say what it can do: {}", .0.message())]
    Silent(Box<Status>),
    /// It cannot be asked.
    #[error(transparent)]
    Internal(#[from] InternalError),
    /// It has no worker, or one of an unknown platform.
    #[error("BuildKit does not tell the platform of its worker")]
    NoPlatform(#[source] Option<PlatformError>),
}

/// A daemon that can be enforced upon.
#[derive(Clone, Debug)]
pub struct Daemon {
    /// The platform of sources that name none.
    pub platform: Platform,
    caps: BTreeSet<String>,
}

impl Daemon {
    /// Asks a daemon what it can do.
    ///
    /// # Errors
    /// When it is not enough.
    pub async fn probe(channel: &Channel, claims: &Claims) -> Result<Self, DaemonError> {
        let internal = Internal::open(channel, claims, "").await?;
        let pong = internal.gateway().call("Ping", &PingRequest {}).await;
        Self::of(pong.map_err(|status| DaemonError::Silent(Box::new(status)))?)
    }

    pub(super) fn of(pong: PongResponse) -> Result<Self, DaemonError> {
        let PongResponse { frontend_api_caps: _, llb_caps, workers } = pong;
        let caps: BTreeSet<String> =
            llb_caps.into_iter().filter(|cap| cap.enabled).map(|cap| cap.id).collect();
        if !caps.contains(POLICY_SESSION) {
            return Err(DaemonError::NoPolicySessions);
        }
        if !caps.contains(WHOLE) {
            return Err(DaemonError::Incomplete);
        }
        let mut platforms = workers.into_iter().flat_map(|worker| worker.platforms);
        let platform = platforms.next().ok_or(DaemonError::NoPlatform(None))?;
        let platform = platform.try_into().map_err(|error| DaemonError::NoPlatform(Some(error)))?;
        Ok(Self { platform, caps })
    }

    /// Whether it can put the network of `RUN` under policy.
    ///
    /// # Errors
    /// When it cannot.
    pub fn proxies(&self) -> Result<(), DaemonError> {
        if self.caps.contains(PROXY) { Ok(()) } else { Err(DaemonError::NoProxy) }
    }
}

/// How long an answer of a daemon holds, where it says that it is still the same one.
const FRESH: Duration = Duration::from_secs(60);

/// How long somebody else may take to ask it.
const TURN: Duration = Duration::from_secs(5);

/// What was learned of daemons, by what they call themselves.
#[derive(Default)]
pub struct Daemons(Mutex<Known>);

/// Each daemon, and since when it is asked: once, by the first of those who want to know.
type Known = HashMap<Vec<u8>, (Instant, Arc<OnceCell<Arc<Daemon>>>)>;

impl Daemons {
    /// The daemon behind a connection; it is asked again from time to time.
    ///
    /// # Errors
    /// When it cannot be enforced upon.
    pub async fn at(&self, channel: &Channel, claims: &Claims) -> Result<Arc<Daemon>, DaemonError> {
        let silent = |status| DaemonError::Silent(Box::new(status));
        let who: ListWorkersResponse = channel
            .call(WORKERS, &HeaderMap::new(), &ListWorkersRequest::default())
            .await
            .map_err(silent)?;
        let cell = self.of(who.encode_to_vec());
        // Where asking fails, or whoever asks gives up, the next one asks, on a connection of their own;
        // nobody waits long for what another's connection may be too full for.
        let probe = async || Daemon::probe(channel, claims).await.map(Arc::new);
        match timeout(TURN, cell.get_or_try_init(probe)).await {
            Ok(daemon) => daemon.cloned(),
            Err(_) => probe().await,
        }
    }

    fn of(&self, who: Vec<u8>) -> Arc<OnceCell<Arc<Daemon>>> {
        let mut known = self.lock();
        known.retain(|_, (at, _)| at.elapsed() < FRESH);
        let (_, cell) = known.entry(who).or_insert_with(|| (Instant::now(), Arc::default()));
        Arc::clone(cell)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::proto::{caps::ApiCap, pb, worker::WorkerRecord};

    fn check(caps: &[(&str, bool)], wanted: Result<bool, &str>) {
        let llb_caps = caps.iter().map(|(id, enabled)| ApiCap {
            id: (*id).into(),
            enabled: *enabled,
            ..ApiCap::default()
        });
        let platform =
            pb::Platform { os: "linux".into(), architecture: "amd64".into(), ..Default::default() };
        let worker = WorkerRecord { platforms: vec![platform], ..WorkerRecord::default() };
        let pong = PongResponse {
            llb_caps: llb_caps.collect(),
            workers: vec![worker],
            ..PongResponse::default()
        };
        let got = Daemon::of(pong).map(|it| it.proxies().is_ok()).map_err(|it| it.to_string());
        match (got, wanted) {
            (Ok(got), Ok(wanted)) => assert_eq!(got, wanted),
            (Err(got), Err(wanted)) => assert!(got.contains(wanted), "{got}"),
            (got, wanted) => panic!("{got:?} is not {wanted:?}"),
        }
    }

    #[test]
    fn a_daemon_that_cannot_be_enforced_upon_is_refused_with_the_version() {
        let asks = (POLICY_SESSION, true);
        check(&[], Err("needs BuildKit 0.28"));
        check(&[(POLICY_SESSION, false), (WHOLE, true)], Err("no policy sessions"));
        check(&[asks], Err("incomplete"));
        check(&[asks, (WHOLE, true)], Ok(false));
        check(&[asks, (WHOLE, true), (PROXY, true)], Ok(true));
    }
}
