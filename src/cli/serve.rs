//! `buildgate serve`: the gate before a daemon.
//!
//! Standard output has the decision log, where it is asked for there, and nothing else.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::{Args, ValueEnum};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _};

use super::output;
use crate::gate;
use crate::gate::ops::config::{Plan, Said, Top};
use crate::gate::ops::trace::{Export, Exporter};

/// Stand before buildkitd and judge every source of every build
///
/// Clients use it like the daemon itself and notice nothing, until a source is refused. Keep the
/// daemon's own socket out of their reach.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Flags {
    /// A TOML file that says what the flags say, and gives listeners and clients policies of
    /// their own
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say whether configuration, policies and certificates are good, and exit
    #[arg(long)]
    check: bool,
    #[command(flatten)]
    clients: Clients,
    #[command(flatten)]
    upstreams: Upstreams,
    #[command(flatten)]
    judging: Judging,
    #[command(flatten)]
    operations: Operations,
}

/// Where clients come in.
#[derive(Debug, Args)]
#[command(next_help_heading = "Clients")]
struct Clients {
    /// Take clients at unix:///path or tcp://host:port (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    listen: Vec<String>,
    /// Mode of unix sockets [default: 0600, with a group 0660]
    #[arg(long, value_name = "MODE")]
    listen_mode: Option<String>,
    /// Group of unix sockets, by name or number
    #[arg(long, value_name = "GROUP")]
    listen_group: Option<String>,
    /// Our certificate and its chain, PEM; read again when it changes
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Who issues the certificates of clients, PEM
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<String>,
    /// Let in only certificates of this name: spiffe://domain/path, spiffe://domain/*, dns:NAME or
    /// subject:… (repeatable)
    #[arg(long, value_name = "NAME")]
    tls_client_name: Vec<String>,
    /// Allow plain TCP beyond this machine
    #[arg(long)]
    insecure: bool,
    /// Methods that clients may call: `*`, build, read-only, SERVICE/* or SERVICE/METHOD, a comma
    /// list (repeatable) [default: *]
    #[arg(long, value_name = "METHODS", value_delimiter = ',')]
    methods: Vec<String>,
    /// Methods that they may not call all the same, as in Control/Prune, a comma list (repeatable)
    #[arg(long, value_name = "METHODS", value_delimiter = ',')]
    deny_methods: Vec<String>,
}

/// What stands behind the gate.
#[derive(Debug, Args)]
#[command(next_help_heading = "Daemons")]
struct Upstreams {
    /// A daemon at unix:///path or tcp://host:port (repeatable)
    #[arg(long, value_name = "ADDRESS")]
    upstream: Vec<String>,
    /// Who issues the daemons' certificates, PEM
    #[arg(long, value_name = "FILE")]
    upstream_tls_ca: Option<String>,
    /// Our certificate for them, PEM
    #[arg(long, value_name = "FILE")]
    upstream_tls_cert: Option<String>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE")]
    upstream_tls_key: Option<String>,
}

/// How sources are judged.
#[derive(Debug, Args)]
#[command(next_help_heading = "Judging")]
struct Judging {
    /// A policy: a Rego file or a folder; all must allow (repeatable); read again when it changes
    #[arg(long, value_name = "FILE|DIR")]
    policy: Vec<String>,
    /// Verify signatures by the trust root in FILE: in place of the one that is built in, or as NAME
    /// (repeatable); read again when it changes
    #[arg(long, value_name = "[NAME=]FILE")]
    trust_root: Vec<String>,
    /// GitHub's API that daemons ask for attestations of files, in place of https://api.github.com:
    /// https://HOST/api/v3 of an enterprise's server, https://api.NAME.ghe.com
    #[arg(long, value_name = "URL")]
    github_api: Option<String>,
    /// Ask this registry who signed an image, from the gate's own network and with the credentials in
    /// Docker's config of whoever runs it: docker.io, HOST:PORT, a comma list (repeatable); no other
    /// is asked, and what would have to be is refused [default: none]
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    signature_registries: Vec<String>,
    /// Ask URL before such a registry itself (repeatable)
    #[arg(long, value_name = "HOST=URL")]
    registry_mirror: Vec<String>,
    /// Speak plain HTTP to such a registry (repeatable; loopback always is)
    #[arg(long, value_name = "HOST")]
    plain_http: Vec<String>,
    /// Trust the certificates of this PEM file too, for such registries
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    /// enforce refuses; audit logs what it would refuse [default: enforce]
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// Submodules of allowed repositories: judge, skip or deny [default: judge]
    #[arg(long, value_name = "WHAT")]
    git_submodules: Option<String>,
    /// LLB that a client's own LLB reads from a file, which is judged only where it runs anew: refuse or
    /// allow [default: refuse]
    #[arg(long, value_name = "WHAT")]
    build_op: Option<String>,
    /// Caches that may be imported besides registry, which is judged: local, gha, s3, azblob, a
    /// comma list (repeatable)
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    cache_types: Vec<String>,
    /// Refuse an entitlement: security.insecure, network.host or device, a comma list (repeatable)
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    deny_entitlement: Vec<String>,
}

/// What operators look at.
#[derive(Debug, Args)]
#[command(next_help_heading = "Operations")]
struct Operations {
    /// Write each decision as a line of JSON; `-` is standard output; reopened on SIGHUP
    #[arg(long, value_name = "FILE|-")]
    decision_log: Option<String>,
    /// Serve /metrics, /healthz and /readyz at IP:PORT
    #[arg(long, value_name = "IP:PORT")]
    metrics_listen: Option<String>,
    /// Serve PolicyVerifier and gRPC health by themselves at this address, for other proxies
    #[arg(long, value_name = "ADDRESS")]
    verifier_listen: Option<String>,
    /// How long builds may go on after SIGTERM [default: 30]
    #[arg(long, value_name = "SECONDS")]
    drain: Option<u64>,
    /// How the log on standard error is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    log_format: LogFormat,
}

/// `--log-format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    /// For people
    #[default]
    Text,
    /// A line of JSON each
    Json,
}

const EXAMPLES: &str = "\
Examples:
  buildgate serve --listen unix:///run/buildgate/gate.sock --listen-group docker \\
    --upstream unix:///run/buildkit/buildkitd.sock --policy policies/registry-gatekeeper
  buildgate serve --listen tcp://0.0.0.0:1234 --tls-cert gate.pem --tls-key gate.key \\
    --tls-client-ca clients.pem --tls-client-name 'spiffe://corp/ci/*' \\
    --upstream unix:///run/buildkit/buildkitd.sock --policy /etc/buildgate/policy \\
    --decision-log /var/log/buildgate/decisions.jsonl --metrics-listen 127.0.0.1:9464
  buildgate serve --config /etc/buildgate/gate.toml --check

Clients:
  docker buildx create --use --driver remote unix:///run/buildgate/gate.sock
  BUILDKIT_HOST=tcp://gate:1234 buildctl build …

Signals: SIGHUP reads policies again and reopens the decision log; SIGTERM lets builds end.
Traces go where OTEL_EXPORTER_OTLP_ENDPOINT says. RUST_LOG sets what is logged (info).

Exit codes: 0 ended as told or --check found all good, 2 could not serve, or wrong use";

impl Flags {
    fn top(&self) -> Top {
        let one = |flag, value: &Option<String>| {
            value.as_ref().map(|value| Said::flag(flag, value.clone()))
        };
        let many = |flag, values: &[String]| -> Vec<Said> {
            values.iter().map(|value| Said::flag(flag, value.clone())).collect()
        };
        let Self { clients, upstreams, judging, operations, config: _, check: _ } = self;
        Top {
            listen: many("--listen", &clients.listen),
            listen_mode: one("--listen-mode", &clients.listen_mode),
            listen_group: one("--listen-group", &clients.listen_group),
            tls_cert: one("--tls-cert", &clients.tls_cert),
            tls_key: one("--tls-key", &clients.tls_key),
            tls_client_ca: one("--tls-client-ca", &clients.tls_client_ca),
            tls_client_name: many("--tls-client-name", &clients.tls_client_name),
            insecure: clients.insecure.then(|| Said::flag("--insecure", true)),
            methods: many("--methods", &clients.methods),
            deny_methods: many("--deny-methods", &clients.deny_methods),
            upstream: many("--upstream", &upstreams.upstream),
            upstream_tls_ca: one("--upstream-tls-ca", &upstreams.upstream_tls_ca),
            upstream_tls_cert: one("--upstream-tls-cert", &upstreams.upstream_tls_cert),
            upstream_tls_key: one("--upstream-tls-key", &upstreams.upstream_tls_key),
            policy: many("--policy", &judging.policy),
            policy_set: None,
            trust_root: many("--trust-root", &judging.trust_root),
            github_api: one("--github-api", &judging.github_api),
            signature_registries: many("--signature-registries", &judging.signature_registries),
            registry_mirror: many("--registry-mirror", &judging.registry_mirror),
            plain_http: many("--plain-http", &judging.plain_http),
            ca_file: one("--ca-file", &judging.ca_file),
            mode: one("--mode", &judging.mode),
            git_submodules: one("--git-submodules", &judging.git_submodules),
            build_op: one("--build-op", &judging.build_op),
            cache_types: many("--cache-types", &judging.cache_types),
            deny_entitlement: many("--deny-entitlement", &judging.deny_entitlement),
            decision_log: one("--decision-log", &operations.decision_log),
            metrics_listen: one("--metrics-listen", &operations.metrics_listen),
            verifier_listen: one("--verifier-listen", &operations.verifier_listen),
            verifier_policy_set: None,
            drain: operations.drain.map(|seconds| Said::flag("--drain", seconds)),
        }
    }
}

/// Runs the command and gives its exit code.
pub(super) fn run(flags: &Flags) -> Result<u8> {
    let plan = Plan::new(flags.top(), flags.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be set up")?;
    if flags.check {
        let found = runtime.block_on(gate::check(&plan))?;
        output::answer(&found)?;
        return Ok(0);
    }
    let export = Export::from_env(|name| std::env::var(name).ok())?;
    let exporter = match &export {
        Export::Off => None,
        Export::Otlp(endpoint) => Some(runtime.block_on(async { Exporter::new(endpoint) })?),
    };
    logging(flags.operations.log_format, exporter.as_ref());
    let ended = runtime.block_on(gate::run(plan));
    let told = exporter.map_or(Ok(()), |exporter| exporter.end());
    // Nothing that is still under way may hold the end up.
    runtime.shutdown_background();
    ended?;
    if let Err(error) = told {
        output::note("warning", &output::chain(&error));
    }
    Ok(0)
}

/// Sends what the gate says to standard error, and its spans to a collector where there is one.
fn logging(format: LogFormat, exporter: Option<&Exporter>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let plain = tracing_subscriber::fmt::layer().with_ansi(false).with_writer(std::io::stderr);
    let words = match format {
        LogFormat::Text => plain.boxed(),
        LogFormat::Json => plain.json().boxed(),
    };
    let spans = exporter.map(|exporter| {
        // Our own spans alone: libraries have many, and none is a build's.
        let ours = tracing_subscriber::filter::Targets::new()
            .with_target("buildgate", tracing::Level::INFO);
        exporter.layer().with_filter(ours)
    });
    tracing_subscriber::registry().with(spans).with(words.with_filter(filter)).init();
}
