//! The daemons behind the gate: how each is reached, whether it is well, and which one a call goes to.

mod error;
mod sticky;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::HeaderMap;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::{TlsConnector, TlsStream};
use tonic::{Code, Status};

use super::address::Address;
use super::client::Principal;
use super::counters::Counters;
use super::io::{Io, tune};
use super::tls::{ALPN, ClientTls, Reloaded};
use crate::rpc::{Batched, Channel, Scope};
use crate::wire::proto::{control, health};

pub use error::{UpstreamError, UpstreamsError};
pub use sticky::Key;
use sticky::Sticky;

/// How long it may take to reach a daemon.
const CONNECT: Duration = Duration::from_secs(10);
/// How often a daemon is asked how it is.
const PROBE: Duration = Duration::from_secs(5);
/// How long it may take to answer that.
const PROBE_ANSWER: Duration = Duration::from_secs(5);

/// A daemon, as it is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamOptions {
    /// Where it listens.
    pub address: Address,
    /// TLS to it.
    pub tls: Option<ClientTls>,
}

/// How a daemon is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Nobody has asked yet.
    Unknown,
    /// It answers.
    Up,
    /// It does not, and why.
    Down(String),
}

/// One daemon.
#[derive(Debug)]
pub struct Upstream {
    name: Arc<str>,
    index: usize,
    address: Address,
    tls: Option<(Reloaded<ClientConfig>, ServerName<'static>)>,
    health: ArcSwap<Health>,
    connections: AtomicUsize,
    counters: Arc<Counters>,
}

/// The daemons.
#[derive(Debug)]
pub struct Upstreams {
    all: Vec<Arc<Upstream>>,
    sticky: Sticky,
}

impl Upstreams {
    /// Takes the daemons up, reachable or not, and asks each how it is from now on.
    ///
    /// # Errors
    /// When there is none, or its TLS is no good.
    pub async fn start(
        options: Vec<UpstreamOptions>,
        counters: Arc<Counters>,
    ) -> Result<Arc<Self>, UpstreamsError> {
        let mut all: Vec<Arc<Upstream>> = Vec::with_capacity(options.len());
        for one in options {
            if all.iter().any(|other| other.address == one.address) {
                return Err(UpstreamsError::Twice(one.address));
            }
            let tls = tls(&one).await?;
            all.push(Arc::new(Upstream {
                name: one.address.to_string().into(),
                index: all.len(),
                address: one.address,
                tls,
                health: ArcSwap::from_pointee(Health::Unknown),
                connections: AtomicUsize::new(0),
                counters: Arc::clone(&counters),
            }));
        }
        if all.is_empty() {
            return Err(UpstreamsError::None);
        }
        for upstream in &all {
            tokio::spawn(kept(Arc::downgrade(upstream), watch, PROBE));
        }
        Ok(Arc::new(Self { all, sticky: Sticky::default() }))
    }

    /// Every daemon, in the order of the configuration.
    #[must_use]
    pub fn all(&self) -> &[Arc<Upstream>] {
        &self.all
    }

    /// Whether a build could begin: one daemon at least is well.
    #[must_use]
    pub fn ready(&self) -> bool {
        self.all.iter().any(|upstream| *upstream.health() == Health::Up)
    }

    /// Where a session or a build is, if that is known still.
    #[must_use]
    pub fn of(&self, key: &Key) -> Option<&Arc<Upstream>> {
        self.sticky.get(key).and_then(|index| self.all.get(index))
    }

    /// Remembers where a session or a build of this client is, for as long as it may be asked for.
    pub fn remember(&self, key: Key, upstream: &Upstream, owner: &Principal) {
        if self.all.len() > 1 {
            self.sticky.put(key, upstream.index, owner);
        }
    }

    /// Forgets what was there: it is gone.
    pub(super) fn forget(&self, upstream: &Upstream) {
        self.sticky.forget(upstream.index);
    }

    /// Those to try for a new build, the best first: well before unknown before ailing, and among
    /// equals the one with the fewest connections.
    pub(super) fn candidates(&self) -> Vec<Arc<Upstream>> {
        let mut all = self.all.clone();
        all.sort_by_key(|upstream| {
            let rank = match *upstream.health() {
                Health::Up => 0,
                Health::Unknown => 1,
                Health::Down(_) => 2,
            };
            (rank, upstream.connections.load(Ordering::Relaxed))
        });
        all
    }
}

async fn tls(
    options: &UpstreamOptions,
) -> Result<Option<(Reloaded<ClientConfig>, ServerName<'static>)>, UpstreamsError> {
    let Some(tls) = &options.tls else { return Ok(None) };
    let Address::Tcp { host, .. } = &options.address else {
        return Err(UpstreamsError::TlsOnUnix(options.address.clone()));
    };
    let name = tls.server_name.as_ref().unwrap_or(host);
    let name =
        ServerName::try_from(name.clone()).map_err(|_| UpstreamsError::ServerName(name.clone()))?;
    Ok(Some((tls.load().await?, name)))
}

impl Upstream {
    /// Its address.
    #[must_use]
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Its place in the configuration.
    pub(super) fn index(&self) -> usize {
        self.index
    }

    /// How it was when it was last asked.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        self.health.load_full()
    }

    /// Opens a connection of one's own. It closes when the last clone of the channel and the last call
    /// are gone.
    ///
    /// # Errors
    /// When the daemon cannot be reached; it counts as ailing until it can.
    pub async fn connect(self: &Arc<Self>) -> Result<Channel, UpstreamError> {
        self.connect_within(&Scope::default()).await
    }

    /// The same, cut when the scope closes.
    ///
    /// # Errors
    /// As [`Upstream::connect`].
    pub async fn connect_within(self: &Arc<Self>, scope: &Scope) -> Result<Channel, UpstreamError> {
        let reached = timeout(CONNECT, self.reach(scope)).await;
        let reached = reached
            .unwrap_or_else(|_| Err(UpstreamError::Slow { upstream: Arc::clone(&self.name) }));
        if let Err(error) = &reached {
            self.note(Health::Down(error.to_string()));
        }
        reached
    }

    async fn reach(self: &Arc<Self>, scope: &Scope) -> Result<Channel, UpstreamError> {
        let upstream = || Arc::clone(&self.name);
        let refused = |source| UpstreamError::Connect { upstream: upstream(), source };
        let io = match &self.address {
            Address::Unix(path) => Io::Unix(UnixStream::connect(path).await.map_err(refused)?),
            Address::Tcp { host, port } => {
                let tcp = TcpStream::connect((host.as_str(), *port)).await.map_err(refused)?;
                tune(&tcp).map_err(refused)?;
                self.secure(tcp).await?
            }
        };
        let (channel, connection) = Channel::within(Batched::new(io), scope)
            .await
            .map_err(|source| UpstreamError::Http { upstream: upstream(), source })?;
        let held = self.counters.hold(|counters| &counters.open_upstreams);
        self.connections.fetch_add(1, Ordering::Relaxed);
        let upstream = Arc::clone(self);
        tokio::spawn(async move {
            let _held = held;
            if let Err(error) = connection.await {
                tracing::debug!(upstream = %upstream.name, "a connection ended: {error}");
            }
            upstream.connections.fetch_sub(1, Ordering::Relaxed);
        });
        Ok(channel)
    }

    async fn secure(&self, tcp: TcpStream) -> Result<Io, UpstreamError> {
        let Some((config, name)) = &self.tls else { return Ok(Io::Tcp(tcp)) };
        let tls = TlsConnector::from(config.current()).connect(name.clone(), tcp).await;
        let tls =
            tls.map_err(|source| UpstreamError::Tls { upstream: Arc::clone(&self.name), source })?;
        if tls.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(UpstreamError::Protocol(Arc::clone(&self.name)));
        }
        Ok(Io::Tls(Box::new(TlsStream::Client(tls))))
    }

    fn note(&self, health: Health) {
        let before = self.health.swap(Arc::new(health.clone()));
        match (&*before, &health) {
            (Health::Up | Health::Unknown, Health::Down(why)) => {
                tracing::error!(upstream = %self.name, "the upstream is down: {why}");
            }
            (Health::Down(_) | Health::Unknown, Health::Up) => {
                tracing::info!(upstream = %self.name, "the upstream is up");
            }
            (Health::Up, Health::Up)
            | (Health::Down(_), Health::Down(_))
            | (_, Health::Unknown) => {}
        }
    }

    /// Asks gRPC health, and where the daemon does not know that, `Control/Info`.
    async fn probe(self: &Arc<Self>, line: &mut Option<Channel>) -> Result<(), String> {
        let channel = match line.take().filter(|channel| !channel.is_closed()) {
            Some(channel) => channel,
            None => self.connect().await.map_err(|error| error.to_string())?,
        };
        let none = HeaderMap::new();
        let asked = health::HealthCheckRequest::default();
        let checked = channel
            .call::<_, health::HealthCheckResponse>("/grpc.health.v1.Health/Check", &none, &asked)
            .await;
        let well = match checked {
            Ok(answer) => {
                let serving = health::health_check_response::ServingStatus::Serving;
                if answer.status == i32::from(serving) {
                    Ok(())
                } else {
                    Err(format!("{} says it is not serving", self.name))
                }
            }
            Err(status) if status.code() == Code::Unimplemented => channel
                .call::<_, control::InfoResponse>(
                    "/moby.buildkit.v1.Control/Info",
                    &none,
                    &control::InfoRequest {},
                )
                .await
                .map(|_| ())
                .map_err(|status| said(&self.name, &status)),
            Err(status) => Err(said(&self.name, &status)),
        };
        *line = Some(channel).filter(|_| well.is_ok());
        well
    }
}

fn said(name: &str, status: &Status) -> String {
    format!("{name}: {}: {}", status.code(), status.message())
}

/// Keeps a daemon asked how it is. Where asking dies, nobody knows how the daemon is: that is said, and it
/// begins anew.
async fn kept<F>(upstream: Weak<Upstream>, ask: impl Fn(Weak<Upstream>) -> F, rest: Duration)
where
    F: Future<Output = ()> + Send + 'static,
{
    while let Err(died) = tokio::spawn(ask(Weak::clone(&upstream))).await {
        if died.is_cancelled() {
            return;
        }
        {
            let Some(upstream) = upstream.upgrade() else { return };
            tracing::error!(upstream = %upstream.name, "asking how it is died ({died}), and begins anew");
            upstream.note(Health::Down(format!("{}: asking how it is died", upstream.name)));
        }
        tokio::time::sleep(rest).await;
    }
}

/// Asks a daemon how it is, until nobody needs it any more.
async fn watch(upstream: Weak<Upstream>) {
    let mut line = None;
    loop {
        {
            let Some(upstream) = upstream.upgrade() else { return };
            let health = match timeout(PROBE_ANSWER, upstream.probe(&mut line)).await {
                Ok(Ok(())) => Health::Up,
                Ok(Err(why)) => Health::Down(why),
                Err(_) => {
                    line = None;
                    let seconds = PROBE_ANSWER.as_secs();
                    Health::Down(format!("{} did not answer within {seconds} s", upstream.name))
                }
            };
            upstream.note(health);
        }
        tokio::time::sleep(PROBE).await;
    }
}

#[cfg(test)]
mod tests;
