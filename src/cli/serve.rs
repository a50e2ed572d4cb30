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
/// daemon's own socket out of their reach: whoever can open that is judged by nobody.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Flags {
    /// A TOML file whose keys are the names of these flags (but --config, --check and --log-format),
    /// with tables that give listeners and clients policies and rules of their own; its paths are
    /// relative to its folder, and what it says no flag may say as well
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Say whether configuration, policies, trust roots and certificates are good, and exit; opens no
    /// socket and asks no daemon
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
    /// Our certificate and its chain, PEM; goes with --tls-key and --tls-client-ca, for every TCP
    /// listener; all three are read again when they change
    #[arg(long, value_name = "FILE")]
    tls_cert: Option<String>,
    /// Its key, PEM
    #[arg(long, value_name = "FILE")]
    tls_key: Option<String>,
    /// Who issues the certificates of clients, PEM: who has none of theirs does not come in by TCP
    #[arg(long, value_name = "FILE")]
    tls_client_ca: Option<String>,
    /// Let in only certificates of this name: spiffe://corp/ci/app, spiffe://corp/ci/* (all below),
    /// dns:laptop.corp, subject:CN=dashboard (repeatable) [default: all that --tls-client-ca issued]
    #[arg(long, value_name = "NAME")]
    tls_client_name: Vec<String>,
    /// Allow plain TCP beyond this machine, to listeners, to daemons and to --verifier-listen: whoever
    /// is on the way can read and change what is built, and whoever reaches the port can build
    #[arg(long)]
    insecure: bool,
    /// Methods that clients may call, a comma list (repeatable): `*`; build, all that a build needs;
    /// read-only, progress, history, contents and usage; SERVICE/* or SERVICE/METHOD [default: *]
    #[arg(long, value_name = "METHODS", value_delimiter = ',')]
    methods: Vec<String>,
    /// Methods that they may not call all the same, as in Control/Prune,Control/UpdateBuildHistory, a
    /// comma list (repeatable)
    #[arg(long, value_name = "METHODS", value_delimiter = ',')]
    deny_methods: Vec<String>,
}

/// What stands behind the gate.
#[derive(Debug, Args)]
#[command(next_help_heading = "Daemons")]
struct Upstreams {
    /// A daemon at unix:///path or tcp://host:port (repeatable: builds are spread over those that are
    /// well, and each stays with one)
    #[arg(long, value_name = "ADDRESS")]
    upstream: Vec<String>,
    /// Who issues the certificates of daemons on TCP, PEM; without it they are spoken to in plain, which
    /// is for loopback
    #[arg(long, value_name = "FILE")]
    upstream_tls_ca: Option<String>,
    /// Our certificate for them, PEM, where they want one
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
    /// A policy: a Rego file, or a folder whose Rego files form one; all must allow (repeatable); read
    /// again when it changes
    #[arg(long, value_name = "FILE|DIR")]
    policy: Vec<String>,
    /// Verify signatures by the trust root in FILE, as NAME for rules that name it, or without a NAME in
    /// place of `sigstore`, which is built in (repeatable); read again when it changes
    #[arg(long, value_name = "[NAME=]FILE")]
    trust_root: Vec<String>,
    /// GitHub's API that daemons ask for attestations of files, in place of https://api.github.com:
    /// https://HOST/api/v3 of an enterprise's server, https://api.NAME.ghe.com
    #[arg(long, value_name = "URL")]
    github_api: Option<String>,
    /// Ask this registry who signed an image (verify_image_signature), from the gate's own network and
    /// with its own credentials: docker.io, HOST:PORT, a comma list (repeatable); of images in any
    /// other that cannot be verified, which is a refusal [default: none]
    #[arg(long, value_name = "HOST", value_delimiter = ',')]
    signature_registries: Vec<String>,
    /// Ask URL before such a registry itself, for signatures (repeatable); where builds fetch is the
    /// daemon's own affair
    #[arg(long, value_name = "HOST=URL")]
    registry_mirror: Vec<String>,
    /// Speak plain HTTP to such a registry, HOST or HOST:PORT as images name it (repeatable); on
    /// loopback that is always so
    #[arg(long, value_name = "HOST")]
    plain_http: Vec<String>,
    /// Trust the authorities in this PEM file besides the system's, for such registries
    #[arg(long, value_name = "FILE")]
    ca_file: Option<String>,
    /// enforce refuses; audit lets through what policies refuse, and writes down that it would have been
    /// refused [default: enforce]
    #[arg(long, value_name = "MODE")]
    mode: Option<String>,
    /// Submodules of an allowed git repository: judge each as the repository it names, skip them (the
    /// build gets none), or deny what has any [default: judge]
    #[arg(long, value_name = "WHAT")]
    git_submodules: Option<String>,
    /// Builds inside a build (BuildOp: LLB that the daemon reads from a file): refuse; or allow, where a
    /// result that the daemon has cached comes unjudged, whatever rules it was built by [default:
    /// refuse]
    #[arg(long, value_name = "WHAT")]
    build_op: Option<String>,
    /// Let builds import caches of these types too, unjudged: local, gha, s3, azblob, a comma list
    /// (repeatable) [default: none]; a cache in a registry may always be asked for, and is judged as the
    /// image that it names
    #[arg(long, value_name = "TYPES", value_delimiter = ',')]
    cache_types: Vec<String>,
    /// Let builds use these frontends alone: dockerfile.v0, the daemon's own, and repositories of images,
    /// as in docker/dockerfile, a comma list (repeatable) [default: all]; list the images in
    /// buildkitd.toml as well (allowedRepositories), since what a frontend does in there the gate cannot see
    #[arg(long, value_name = "FRONTENDS", value_delimiter = ',')]
    frontends: Vec<String>,
    /// Refuse builds that ask for an entitlement: security.insecure, network.host or device (all of
    /// them), a comma list (repeatable)
    #[arg(long, value_name = "ENTITLEMENT", value_delimiter = ',')]
    deny_entitlement: Vec<String>,
}

/// What operators look at.
#[derive(Debug, Args)]
#[command(next_help_heading = "Operations")]
struct Operations {
    /// Write each decision as a line of JSON, before it is answered; `-` is standard output; reopened on
    /// SIGHUP; not beside a policy
    #[arg(long, value_name = "FILE|-")]
    decision_log: Option<String>,
    /// Serve /metrics, /healthz and /readyz at IP:PORT
    #[arg(long, value_name = "IP:PORT")]
    metrics_listen: Option<String>,
    /// Serve PolicyVerifier and gRPC health by themselves at this address, for other proxies: answers
    /// by the policies, to anyone who can open it
    #[arg(long, value_name = "ADDRESS")]
    verifier_listen: Option<String>,
    /// How long builds may go on after SIGTERM, a day at most [default: 30]
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
  buildgate serve --config gate.toml --check
  buildgate serve --config gate.toml

gate.toml (deploy/gate.toml is a longer one):
  upstream = [\"unix:///run/buildkit/buildkitd.sock\"]
  decision-log = \"/var/log/buildgate/decisions.jsonl\"

  [policy-sets]
  staging = [\"policies/registry-gatekeeper\"]
  production = [\"policies/registry-gatekeeper\", \"policies/production-lockdown\"]

  [[listener]]
  listen = \"unix:///run/buildgate/gate.sock\"
  listen-group = \"docker\"
  policy-set = \"production\"

  [[listener.client]]
  name = [\"uid:1000\"]
  policy-set = \"staging\"
  mode = \"audit\"

Clients:
  docker buildx create --use --driver remote unix:///run/buildgate/gate.sock
  BUILDKIT_HOST=tcp://gate:1234 buildctl build …

Signals: SIGHUP reads policies again and reopens the decision log; SIGTERM and SIGINT let builds
end, and the second one cuts them.
Environment: DOCKER_CONFIG is the folder of Docker's config.json with the gate's own credentials,
for --signature-registries alone (~/.docker where it is not set); OTEL_EXPORTER_OTLP_ENDPOINT is
where traces go, and OTEL_EXPORTER_OTLP_CERTIFICATE the file of a collector's authorities; RUST_LOG
is what is logged (info).

Exit codes: 0 ended as told, or --check found all good; 2 could not serve, a part of it ended by
itself, or wrong use";

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
            frontends: many("--frontends", &judging.frontends),
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
        .worker_threads(carriers())
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

/// Threads that carry bytes. A message that changes threads on its way costs more than all that is done
/// with it, and each such thread is one that the daemon beside us, the log and slow policies have not.
fn carriers() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get().div_ceil(2))
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
