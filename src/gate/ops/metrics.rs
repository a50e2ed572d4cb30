//! What a monitoring system reads.
//!
//! Labels are of few values, each known here: nothing that a client says becomes one.

use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::policies::{PolicySets, Reloaded};
use super::record::{Action, Decision, kind};
use crate::gate::proxy::Counters;
use crate::policy::Policy;
use crate::verify::Trust;
use crate::verify::sigstore::TrustRoots;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// A source could not be decided, and was refused.
    Undecided,
    /// A decision could not be written down, and was refused.
    DecisionLog,
    /// The decision log could not be reopened.
    Reopen,
    /// A policy session ended before its solve.
    Session,
    /// A daemon could not be reached.
    Upstream,
    /// A call was refused: its method, an identifier of ours, another client's session.
    Refused,
}

impl ErrorKind {
    const ALL: [Self; 6] = [
        Self::Undecided,
        Self::DecisionLog,
        Self::Reopen,
        Self::Session,
        Self::Upstream,
        Self::Refused,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Undecided => "undecided",
            Self::DecisionLog => "decision_log",
            Self::Reopen => "reopen",
            Self::Session => "session",
            Self::Upstream => "upstream",
            Self::Refused => "refused",
        }
    }
}

impl EncodeLabelValue for ErrorKind {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.name().encode(encoder)
    }
}

impl EncodeLabelValue for Action {
    fn encode(&self, encoder: &mut LabelValueEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.name().encode(encoder)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DecisionLabels {
    action: Action,
    kind: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ErrorLabels {
    kind: ErrorKind,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabels {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SetLabels {
    set: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RootLabels {
    root: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct UpstreamLabels {
    upstream: String,
}

/// What the proxy counted, at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    open_connections: u64,
    connections: u64,
    strangers: u64,
    open_calls: u64,
    calls: u64,
    forbidden: u64,
    unserved: u64,
    open_upstreams: u64,
    tasks: u64,
}

impl Traffic {
    /// The numbers as they are now, and the tasks of the runtime that asks.
    pub fn of(counters: &Counters) -> Self {
        let now = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let runtime = tokio::runtime::Handle::try_current();
        let tasks = runtime.map_or(0, |runtime| runtime.metrics().num_alive_tasks());
        Self {
            open_connections: now(&counters.open_connections),
            connections: now(&counters.connections),
            strangers: now(&counters.strangers),
            open_calls: now(&counters.open_calls),
            calls: now(&counters.calls),
            forbidden: now(&counters.forbidden),
            unserved: now(&counters.unserved),
            open_upstreams: now(&counters.open_upstreams),
            tasks: u64::try_from(tasks).unwrap_or(u64::MAX),
        }
    }
}

/// The proxy's numbers, as they are shown.
#[derive(Debug, Default)]
struct TrafficNumbers {
    open_connections: Gauge<u64, AtomicU64>,
    connections: Counter,
    strangers: Counter,
    open_calls: Gauge<u64, AtomicU64>,
    calls: Counter,
    forbidden: Counter,
    unserved: Counter,
    open_upstreams: Gauge<u64, AtomicU64>,
    tasks: Gauge<u64, AtomicU64>,
}

impl TrafficNumbers {
    fn register(&self, to: &mut Registry) {
        let help = "Connections of clients that are open";
        to.register("open_connections", help, self.open_connections.clone());
        to.register("connections", "Connections of clients", self.connections.clone());
        let help = "Clients that were sent away before a call";
        to.register("strangers", help, self.strangers.clone());
        to.register("open_streams", "Calls that are under way", self.open_calls.clone());
        to.register("streams", "Calls", self.calls.clone());
        let help = "Calls of methods that their caller may not call";
        to.register("forbidden_calls", help, self.forbidden.clone());
        to.register("unserved_calls", "Calls that no daemon took", self.unserved.clone());
        let help = "Connections to daemons that are open";
        to.register("open_upstream_connections", help, self.open_upstreams.clone());
        to.register("tasks", "Tasks that are alive", self.tasks.clone());
    }

    fn set(&self, traffic: &Traffic) {
        self.open_connections.set(traffic.open_connections);
        self.open_calls.set(traffic.open_calls);
        self.open_upstreams.set(traffic.open_upstreams);
        self.tasks.set(traffic.tasks);
        for (shown, counted) in [
            (&self.connections, traffic.connections),
            (&self.strangers, traffic.strangers),
            (&self.calls, traffic.calls),
            (&self.forbidden, traffic.forbidden),
            (&self.unserved, traffic.unserved),
        ] {
            shown.inner().store(counted, Ordering::Relaxed);
        }
    }
}

/// Everything that is counted.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    decisions: Family<DecisionLabels, Counter>,
    latency: Histogram,
    rounds: Histogram,
    builds: Gauge,
    traffic: TrafficNumbers,
    reloads: Family<ResultLabels, Counter>,
    errors: Family<ErrorLabels, Counter>,
    revisions: Family<SetLabels, Gauge<u64, AtomicU64>>,
    verifications: Counter,
    roots: Family<RootLabels, Gauge>,
    upstreams: Family<UpstreamLabels, Gauge>,
}

/// Something that is under way until this is dropped.
#[derive(Debug)]
pub struct UnderWay {
    gauge: Gauge,
}

impl UnderWay {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self { gauge: gauge.clone() }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Nothing counted yet; what may be counted is there, at zero.
    pub fn new() -> Self {
        let metrics = Self {
            registry: Registry::with_prefix("buildgate"),
            decisions: Family::default(),
            // 50 µs to 26 s.
            latency: Histogram::new(exponential_buckets(0.000_05, 2.0, 20)),
            rounds: Histogram::new([0.0, 1.0, 2.0, 3.0, 5.0, 10.0]),
            builds: Gauge::default(),
            traffic: TrafficNumbers::default(),
            reloads: Family::default(),
            errors: Family::default(),
            revisions: Family::default(),
            verifications: Counter::default(),
            roots: Family::default(),
            upstreams: Family::default(),
        };
        for kind in ErrorKind::ALL {
            let _ = metrics.errors.get_or_create(&ErrorLabels { kind });
        }
        for result in ["changed", "unchanged", "failed"] {
            let _ = metrics.reloads.get_or_create(&ResultLabels { result });
        }
        metrics.registered()
    }

    fn registered(mut self) -> Self {
        let to = &mut self.registry;
        let version = Info::new(vec![("version", env!("CARGO_PKG_VERSION"))]);
        to.register("build", "The version of buildgate", version);
        let help = "Decisions about sources, by what was answered and the kind of source";
        to.register("decisions", help, self.decisions.clone());
        let help = "From the first question about a source to its answer";
        to.register_with_unit(
            "decision_duration",
            help,
            prometheus_client::registry::Unit::Seconds,
            self.latency.clone(),
        );
        let help = "Rounds of metadata that a decision took";
        to.register("metadata_rounds", help, self.rounds.clone());
        to.register("builds_in_flight", "Solves that are under way", self.builds.clone());
        self.traffic.register(to);
        let help = "Attempts to load the policies anew";
        to.register("policy_reloads", help, self.reloads.clone());
        to.register("errors", "What went wrong, by kind", self.errors.clone());
        let help = "The load that the policies of a set are of";
        to.register("policy_revision", help, self.revisions.clone());
        let help =
            "Sigstore signatures that were verified, not remembered, by the policies that hold";
        to.register("signature_verifications", help, self.verifications.clone());
        let help = "How old a trust root is that says of when it is";
        to.register_with_unit(
            "trust_root_age",
            help,
            prometheus_client::registry::Unit::Seconds,
            self.roots.clone(),
        );
        let help = "Whether a daemon answers (1) or does not (0)";
        to.register("upstream_healthy", help, self.upstreams.clone());
        self
    }

    /// A decision that is written down.
    pub fn decided(&self, decision: &Decision) {
        let labels = DecisionLabels { action: decision.action, kind: kind(&decision.source) };
        self.decisions.get_or_create(&labels).inc();
        self.latency.observe(decision.latency.as_secs_f64());
        self.rounds.observe(f64::from(u32::try_from(decision.fetched.len()).unwrap_or(u32::MAX)));
        if decision.error.is_some() {
            self.error(ErrorKind::Undecided);
        }
    }

    /// Something went wrong.
    pub fn error(&self, kind: ErrorKind) {
        self.errors.get_or_create(&ErrorLabels { kind }).inc();
    }

    /// A solve, until what it gives is dropped.
    pub fn build(&self) -> UnderWay {
        UnderWay::new(&self.builds)
    }

    /// What the proxy counted by now.
    pub fn traffic(&self, traffic: &Traffic) {
        self.traffic.set(traffic);
    }

    /// Builds under way.
    pub fn builds_in_flight(&self) -> i64 {
        self.builds.get()
    }

    /// An attempt to load the policies anew.
    pub fn reloaded(&self, reloaded: &Reloaded) {
        let result = match reloaded {
            Reloaded::Unchanged => "unchanged",
            Reloaded::Changed { .. } => "changed",
            Reloaded::Failed { .. } => "failed",
        };
        self.reloads.get_or_create(&ResultLabels { result }).inc();
    }

    /// Which policies hold.
    pub fn policies(&self, sets: &PolicySets) {
        for revision in sets.revisions() {
            let labels = SetLabels { set: revision.set.to_string() };
            self.revisions.get_or_create(&labels).set(revision.number);
        }
    }

    /// What the policies trust, and what they have verified, at `now` (seconds since 1970).
    pub fn trust(&self, sets: &PolicySets, now: i64) {
        let revisions = sets.revisions();
        let mut trusts: Vec<&Trust> =
            revisions.iter().flat_map(|it| it.policies.iter()).map(Policy::trust).collect();
        // Those that were loaded together have one between them.
        trusts.sort_by_key(|trust| std::ptr::from_ref(*trust));
        trusts.dedup_by_key(|trust| std::ptr::from_ref(*trust));
        let worked = trusts.iter().map(|it| it.cache.worked() + it.signers.worked()).sum();
        self.verifications.inner().store(worked, Ordering::Relaxed);
        self.roots.clear();
        for root in trusts.iter().filter_map(|it| it.roots().ok()).flat_map(TrustRoots::iter) {
            if let Some(at) = root.as_of() {
                let labels = RootLabels { root: root.name().to_owned() };
                self.roots.get_or_create(&labels).set(now.saturating_sub(at));
            }
        }
    }

    /// Whether a daemon answers.
    pub fn upstream(&self, upstream: &str, healthy: bool) {
        let labels = UpstreamLabels { upstream: upstream.to_owned() };
        self.upstreams.get_or_create(&labels).set(i64::from(healthy));
    }

    /// All of it, in the text format of OpenMetrics 1.0.
    ///
    /// # Errors
    /// Never in practice: writing to a string does not fail.
    pub fn text(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
