//! The gate put together: listeners → door → enforcement → daemons, with policies that are read
//! again, and an end that lets builds end.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use futures_util::future::{BoxFuture, join_all};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tonic::Status as GrpcStatus;
use tracing::Instrument as _;

use super::enforce::{Assigned, DaemonError, Enforcer, Standalone};
use super::ops::config::Plan;
use super::ops::systemd::{self, State};
use super::ops::{
    DecisionLog, ErrorKind, Judge, Judges, LogError, Metrics, Observed, POLL, PolicySets, Recorder,
    Reloader, SetsError, Status, Traffic, UpstreamState, Wake, trace,
};
use super::proxy::{
    self, Answer, Call, Counters, Gate, Handle, Health, ListenError, Listener, TlsError, Upstream,
    Upstreams, UpstreamsError,
};
use crate::rpc;

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
}

/// Says what a plan comes to, or what is wrong with the files it names. Opens no socket and no log.
///
/// # Errors
/// When a policy or a certificate cannot be loaded.
pub async fn check(plan: &Plan) -> Result<String, GateError> {
    let sets = PolicySets::trusting(plan.sets.clone(), plan.trust_roots.clone())?;
    for tls in plan.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        tls.load().await?;
    }
    for tls in plan.upstreams.iter().filter_map(|upstream| upstream.tls.as_ref()) {
        tls.load().await?;
    }
    let mut found: Vec<String> = Vec::new();
    for revision in sets.revisions() {
        let names: Vec<&str> = revision.policies.iter().map(crate::policy::Policy::name).collect();
        let (set, digest) = (&revision.set, &revision.digest);
        found.push(format!("policies `{set}`: {} ({digest})", names.join(", ")));
    }
    for listener in &plan.listeners {
        let kind = if listener.tls.is_some() { " (TLS)" } else { "" };
        let whom = match (&listener.clients[..], &listener.others) {
            (_, Some(others)) => format!("judged by `{}`", others.access.set),
            (clients, None) => format!("for {} kinds of clients alone", clients.len()),
        };
        found.push(format!("listens at {}{kind}, {whom}", listener.address));
    }
    found.extend(plan.upstreams.iter().map(|it| format!("passes builds to {}", it.address)));
    found.push("all good\n".to_owned());
    Ok(found.join("\n"))
}

/// Opens the gate and serves until SIGTERM or SIGINT; then lets builds end.
///
/// # Errors
/// When it cannot be opened. Nothing was let in then.
pub async fn run(plan: Plan) -> Result<(), GateError> {
    // Before anything else: a SIGHUP that nobody waits for would end us.
    let signals = Signals::new().map_err(GateError::Signals)?;
    let sets = PolicySets::trusting(plan.sets.clone(), plan.trust_roots.clone())?;
    let log = plan.decision_log.clone().map(DecisionLog::open).transpose()?;
    let metrics = Arc::new(Metrics::new());
    let recorder = Arc::new(Recorder::new(log, Arc::clone(&metrics)));
    let counters = Arc::new(Counters::default());
    let upstreams = Upstreams::start(plan.upstreams.clone(), Arc::clone(&counters)).await?;
    let status = status(&sets, &metrics, &upstreams, &counters);
    if let Some(address) = plan.metrics {
        let failed = |source| GateError::Metrics { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let at = listener.local_addr().map_err(failed)?;
        tracing::info!("metrics and health at http://{at}");
        tokio::spawn(Arc::clone(&status).serve(listener));
    }
    let judges = Arc::new(Judges::new(&plan.listeners, Arc::clone(&sets)));
    let enforcer = enforcer(&judges, &recorder);
    for upstream in upstreams.all() {
        suits(&enforcer, upstream).await?;
    }
    let handler = Arc::new(Door { judges, metrics: Arc::clone(&metrics), inner: enforcer });
    let gate = Gate { upstreams, handler, counters, drain: plan.drain };
    let mut listeners = Vec::with_capacity(plan.listeners.len());
    for listener in &plan.listeners {
        listeners.push(proxy::bind(listener.options()).await?);
    }
    if let Some(verifier) = &plan.verifier
        && let Some(set) = sets.set(&verifier.set)
    {
        let standalone = Standalone::new(set, verifier.mode, Arc::clone(&recorder));
        let listener = proxy::bind(verifier.options()).await?;
        tokio::spawn(standalone.listen(listener, std::future::pending()));
        tracing::info!("PolicyVerifier alone at {}", verifier.address);
    }
    let reloader = Reloader::new(Arc::clone(&sets), metrics, POLL);
    let hearing = signals.hang_ups(reloader.wake(), Arc::clone(&recorder));
    tokio::spawn(reloader.run());
    for revision in sets.revisions() {
        let (set, number, digest) = (&revision.set, revision.number, &revision.digest);
        tracing::info!("policies `{set}`: revision {number}, {digest}");
    }
    serve(listeners, gate, status, hearing).await
}

fn enforcer(judges: &Arc<Judges>, recorder: &Arc<Recorder>) -> Enforcer {
    let judges = Arc::clone(judges);
    let assign = move |client: &proxy::Client| {
        let Judge { set, settings } = judges.of(client)?;
        Some(Assigned { policies: set, settings })
    };
    Enforcer::new(Box::new(assign), Arc::clone(recorder))
}

/// Refuses a daemon that cannot be enforced upon. One that is not there yet is asked when a build
/// comes, before anything of it reaches it.
async fn suits(enforcer: &Enforcer, upstream: &Arc<Upstream>) -> Result<(), GateError> {
    let failed = |source| GateError::Daemon { upstream: Arc::clone(upstream.name()), source };
    let channel = match upstream.connect().await {
        Ok(channel) => channel,
        Err(error) => {
            tracing::warn!("{error}; builds are refused until it can be");
            return Ok(());
        }
    };
    match enforcer.probe(&channel).await {
        Ok(_) => Ok(()),
        Err(
            error @ (DaemonError::NoPolicySessions
            | DaemonError::Incomplete
            | DaemonError::NoProxy
            | DaemonError::NoPlatform(_)),
        ) => Err(failed(error)),
        Err(error @ (DaemonError::Silent(_) | DaemonError::Internal(_))) => {
            tracing::warn!("{}; builds are refused until it answers", failed(error));
            Ok(())
        }
    }
}

/// Serves the listeners until it is told to end.
async fn serve(
    listeners: Vec<Listener>,
    gate: Gate,
    status: Arc<Status>,
    mut signals: Ending,
) -> Result<(), GateError> {
    let gate = Arc::new(gate);
    let (stop, stopped) = watch::channel(false);
    let served = listeners.into_iter().map(|listener| {
        let at =
            listener.address().map_or_else(|_| listener.name().to_owned(), |it| it.to_string());
        tracing::info!("clients come in at {at}");
        let mut stopped = stopped.clone();
        let stop = async move {
            // An error is a sender that is gone, which is an end too.
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        tokio::spawn(proxy::serve(listener, Arc::clone(&gate), stop))
    });
    let served: Vec<_> = served.collect();
    systemd::notify(State::Ready).map_err(GateError::Systemd)?;
    signals.ended().await;
    tracing::info!("no more clients are taken; builds have {:?} to end", gate.drain);
    status.drain();
    stop.send_replace(true);
    if let Err(error) = systemd::notify(State::Stopping) {
        tracing::warn!("systemd cannot be told: {error}");
    }
    let all = join_all(served);
    let cut = tokio::select! {
        drained = all => drained.into_iter().flatten().map(|drained| drained.cut).sum(),
        () = signals.ended() => {
            tracing::warn!("told to end twice: what is under way is cut");
            return Ok(());
        }
    };
    match cut {
        0_usize => tracing::info!("all builds have ended"),
        cut => tracing::warn!("{cut} connections were cut in mid-call"),
    }
    Ok(())
}

fn status(
    sets: &Arc<PolicySets>,
    metrics: &Arc<Metrics>,
    upstreams: &Arc<Upstreams>,
    counters: &Arc<Counters>,
) -> Arc<Status> {
    let (upstreams, counters) = (Arc::clone(upstreams), Arc::clone(counters));
    let observe = move || Observed {
        upstreams: upstreams
            .all()
            .iter()
            .map(|upstream| UpstreamState {
                upstream: upstream.name().to_string(),
                trouble: match &*upstream.health() {
                    Health::Up => None,
                    Health::Unknown => Some("not asked yet".to_owned()),
                    Health::Down(why) => Some(why.clone()),
                },
            })
            .collect(),
        traffic: Traffic::of(&counters),
    };
    Arc::new(Status::new(Arc::clone(sets), Arc::clone(metrics), observe))
}

/// The signals that a gate listens to.
struct Signals {
    hang_up: Signal,
    terminate: Signal,
    interrupt: Signal,
}

/// Those that end it.
struct Ending {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            hang_up: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// Reads policies again and reopens the log at each SIGHUP.
    fn hang_ups(self, wake: Wake, recorder: Arc<Recorder>) -> Ending {
        let Self { mut hang_up, terminate, interrupt } = self;
        tokio::spawn(async move {
            while hang_up.recv().await.is_some() {
                tracing::info!("SIGHUP: policies are read again, the decision log is reopened");
                wake.now();
                if let Err(error) = recorder.reopen().await {
                    recorder.metrics().error(ErrorKind::Reopen);
                    tracing::error!("{error}; the old file stays in use");
                }
            }
        });
        Ending { terminate, interrupt }
    }
}

impl Ending {
    async fn ended(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Turns clients away that have no policies here, and puts calls under the client's trace.
struct Door<H> {
    judges: Arc<Judges>,
    metrics: Arc<Metrics>,
    inner: H,
}

impl<H: Handle> Handle for Door<H> {
    fn handle(&self, call: Call) -> BoxFuture<'_, Answer> {
        if self.judges.of(&call.client).is_none() {
            self.metrics.error(ErrorKind::Refused);
            let (client, listener) = (&call.client.identity, &call.client.listener);
            tracing::warn!(%client, %listener, "a call was refused: nothing is open to this client");
            let why = format!("buildgate: nothing is open to {client} at {listener}");
            let refusal = rpc::refusal(&GrpcStatus::permission_denied(why));
            return Box::pin(async move { Ok(refusal) });
        }
        let span = trace::span(call.request.headers(), call.method());
        Box::pin(self.inner.handle(call).instrument(span))
    }
}
