//! The gate put together: listeners → door → enforcement → daemons, with policies that are read
//! again, and an end that lets builds end.

mod check;
mod error;
mod signals;

use std::path::Path;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinError;
use tonic::Status as GrpcStatus;
use tracing::Instrument as _;

pub use self::check::check;
use self::check::{Root, apart, beside, roots, signing};
pub use self::error::GateError;
use self::signals::{Ending, Signals, hang_ups};
use super::enforce::{Assigned, DaemonError, Enforcer};
use super::ops::config::Plan;
use super::ops::systemd::{self, State};
use super::ops::{
    DecisionLog, ErrorKind, Judge, Judges, Metrics, Observed, POLL, PolicySets, Recorder, Reloader,
    Status, Traffic, UpstreamState, trace,
};
use super::proxy::{
    self, Answer, Call, Counters, Drained, Gate, Handle, Health, Listener, Upstream, Upstreams,
};
use super::tasks::Tasks;
use crate::rpc;

/// Opens the gate and serves until SIGTERM or SIGINT; then lets builds end.
///
/// # Errors
/// When it cannot be opened. Nothing was let in then.
pub async fn run(plan: Plan) -> Result<(), GateError> {
    // Before anything else: a SIGHUP that nobody waits for would end us.
    let signals = Signals::new().map_err(GateError::Signals)?;
    let sets = check::policies(&plan)?;
    beside(&sets, &plan)?;
    signing(&plan)?;
    for (stream, file) in
        [("standard output", "/proc/self/fd/1"), ("standard error", "/proc/self/fd/2")]
    {
        apart(&sets, stream, Path::new(file))?;
    }
    let log = plan.decision_log.clone().map(DecisionLog::open).transpose()?;
    let metrics = Arc::new(Metrics::new());
    let recorder = Arc::new(Recorder::new(log, Arc::clone(&metrics)));
    let counters = Arc::new(Counters::default());
    let upstreams = Upstreams::start(plan.upstreams.clone(), Arc::clone(&counters)).await?;
    let status = status(&sets, &metrics, &upstreams, &counters);
    let mut helpers = Tasks::default();
    if let Some(address) = plan.metrics {
        let failed = |source| GateError::Metrics { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let at = listener.local_addr().map_err(failed)?;
        tracing::info!("metrics and health at http://{at}");
        helpers.spawn("the listener of metrics", Arc::clone(&status).serve(listener));
    }
    let judges = Arc::new(Judges::new(&plan.listeners, Arc::clone(&sets)));
    let enforcer = enforcer(&judges, &recorder);
    for upstream in upstreams.all() {
        suits(&enforcer, upstream).await?;
    }
    let mut listeners = Vec::with_capacity(plan.listeners.len());
    for listener in &plan.listeners {
        listeners.push(proxy::bind(listener.options()).await?);
    }
    let (stop, stopped) = watch::channel(false);
    if let Some(verifier) = &plan.verifier {
        let set = sets.set(&verifier.set).ok_or_else(|| GateError::NoSet(verifier.set.clone()))?;
        let standalone = enforcer.standalone(set, verifier.mode);
        let listener = proxy::bind(verifier.options()).await?;
        tracing::info!("PolicyVerifier alone at {}", at(&listener));
        helpers.spawn("PolicyVerifier", standalone.listen(listener, told(stopped)));
    }
    let handler = Arc::new(Door { judges, metrics: Arc::clone(&metrics), inner: enforcer });
    let gate = Gate { upstreams, handler, counters, drain: plan.drain };
    let reloader = Reloader::new(Arc::clone(&sets), metrics, POLL);
    let Signals { hang_up, ending } = signals;
    let heard = hang_ups(hang_up, reloader.wake(), Arc::clone(&recorder));
    helpers.spawn("waiting for SIGHUP", heard);
    helpers.spawn("reading policies again", reloader.run());
    for revision in sets.revisions() {
        let (set, number, digest) = (&revision.set, revision.number, &revision.digest);
        tracing::info!("policies `{set}`: revision {number}, {digest}");
    }
    for Root { line, usable } in roots(&sets) {
        match usable {
            true => tracing::info!("{line}"),
            false => tracing::warn!("{line}: no signature can be verified by it"),
        }
    }
    Running { helpers, status, signals: ending, stop }.serve(listeners, gate).await
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

/// A gate that is open.
struct Running {
    /// What goes on beside the listeners.
    helpers: Tasks<()>,
    status: Arc<Status>,
    signals: Ending,
    /// Tells listeners to take no more clients.
    stop: watch::Sender<bool>,
}

impl Running {
    /// Serves the listeners until it is told to end, or something ends by itself that must not: then
    /// nobody is let in any more either, and the builds that have begun end.
    async fn serve(mut self, listeners: Vec<Listener>, gate: Gate) -> Result<(), GateError> {
        let gate = Arc::new(gate);
        let mut serving = Tasks::default();
        for listener in listeners {
            let at = at(&listener);
            tracing::info!("clients come in at {at}");
            let stop = told(self.stop.subscribe());
            serving.spawn(
                format!("the listener {at}"),
                proxy::serve(listener, Arc::clone(&gate), stop),
            );
        }
        systemd::notify(State::Ready).map_err(GateError::Systemd)?;
        let mut toll = Toll::default();
        tokio::select! {
            () = self.signals.ended() => {}
            (what, ended) = self.helpers.next() => toll.ended(what, ended.err()),
            (what, ended) = serving.next() => toll.listener(what, ended, Expected::No),
        }
        tracing::info!("no more clients are taken; builds have {:?} to end", gate.drain);
        self.status.drain();
        self.stop.send_replace(true);
        if let Err(error) = systemd::notify(State::Stopping) {
            tracing::warn!("systemd cannot be told: {error}");
        }
        tokio::select! {
            () = drained(serving, &mut toll) => toll.over(),
            () = self.signals.ended() => {
                tracing::warn!("told to end twice: what is under way is cut");
            }
        }
        // The verifier's socket goes with it.
        self.helpers.shutdown().await;
        toll.told()
    }
}

/// Whether something was told to end.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Yes,
    No,
}

/// What the end of a gate costs, as far as it has come.
#[derive(Default)]
struct Toll {
    /// Connections that were cut in mid-call.
    cut: usize,
    /// The first of what ended by itself.
    fault: Option<GateError>,
}

impl Toll {
    /// Something ended that must not.
    fn ended(&mut self, what: String, why: Option<JoinError>) {
        let fault = GateError::Ended { what, why };
        tracing::error!("{fault}");
        self.fault.get_or_insert(fault);
    }

    /// A listener ended, and this is what came of its clients.
    fn listener(&mut self, what: String, ended: Result<Drained, JoinError>, expected: Expected) {
        match ended {
            Ok(Drained { cut }) => {
                self.cut += cut;
                if expected == Expected::No {
                    self.ended(what, None);
                }
            }
            Err(why) => {
                tracing::error!("the clients of {what} were cut off");
                self.ended(what, Some(why));
            }
        }
    }

    /// The last listener has ended.
    fn over(&self) {
        if self.cut == 0 && self.fault.is_none() {
            tracing::info!("all builds have ended");
        }
    }

    fn told(self) -> Result<(), GateError> {
        if self.cut > 0 {
            tracing::warn!("{} connections were cut in mid-call", self.cut);
        }
        self.fault.map_or(Ok(()), Err)
    }
}

/// Waits until the last call of the last listener has ended.
async fn drained(mut serving: Tasks<Drained>, toll: &mut Toll) {
    while !serving.is_empty() {
        let (what, ended) = serving.next().await;
        toll.listener(what, ended, Expected::Yes);
    }
}

/// Where a listener is, with the port that it was given.
fn at(listener: &Listener) -> String {
    listener.address().map_or_else(|_| listener.name().to_owned(), |it| it.to_string())
}

/// Comes back when the gate is told to stop.
async fn told(mut stopped: watch::Receiver<bool>) {
    // An error is a sender that is gone, which is an end too.
    let _ = stopped.wait_for(|stopped| *stopped).await;
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

#[cfg(test)]
mod tests;
