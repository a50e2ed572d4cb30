//! The gate's enforcement: stock clients, a real daemon, and servers that count what they are asked.

mod moving;
mod peer;
mod settings;

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use buildgate::gate::enforce::{Assigned, Enforcer};
use buildgate::gate::ops::Submodules;
use buildgate::gate::ops::{DecisionLog, LogTarget, Metrics, PolicySets, Recorder, Settings};
use buildgate::gate::proxy::{
    Address, Counters, Gate as Proxy, ListenOptions, UpstreamOptions, Upstreams, bind, serve,
};
use buildgate::gateway::BUILD_ID;
use buildgate::rpc::{self, Channel};
use buildgate::session::{ID, SESSION, SessionId};
use buildgate::source::SourceOp;
use buildgate::wire::proto::control::{SolveRequest, SolveResponse, StatusRequest, StatusResponse};
use buildgate::wire::proto::{gateway, sourcepolicy};
use http::{HeaderMap, HeaderValue};
use prost::Message;
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tonic::Status;

use crate::peers::{self, GitServer, HttpServer, World, folder, llb, need};

pub const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";

/// Who connects.
#[derive(Clone, Copy)]
enum As {
    User,
    Other,
}

/// A name that nobody had before.
pub fn unique() -> String {
    SessionId::random().unwrap().reveal().to_owned()
}

pub fn of(source: SourceOp) -> SolveRequest {
    SolveRequest { definition: Some(llb(&[source])), ..SolveRequest::default() }
}

/// The deny messages that clients print.
pub fn reasons(status: &Status) -> String {
    let details = buildgate::wire::status::details(status).unwrap();
    details.iter().map(|it| String::from_utf8_lossy(&it.value).into_owned()).collect()
}

/// A gate in this process, before the shared daemon.
pub struct Gate {
    dir: TempDir,
    /// Another client: whoever comes over TCP.
    tcp: String,
    runtime: Runtime,
}

impl Gate {
    /// A gate with one policy.
    fn start(world: &World, rego: &str) -> Self {
        Self::with(world, rego, Settings::default())
    }

    fn with(world: &World, rego: &str, settings: Settings) -> Self {
        Self::logged(world, rego, settings, None)
    }

    fn logged(world: &World, rego: &str, settings: Settings, log: Option<&str>) -> Self {
        let dir = folder(&[("policy/p.rego", rego)]);
        let policy = dir.path().join("policy");
        let sets = PolicySets::load([("default".to_owned(), vec![policy])]).unwrap();
        Self::judging(world, dir, &sets, settings, log)
    }

    /// A gate with sets of policies, of which `default` judges; it works in `dir`.
    pub fn judging(
        world: &World,
        dir: TempDir,
        sets: &Arc<PolicySets>,
        settings: Settings,
        log: Option<&str>,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let path = |name: &str| dir.path().join(name);
        let log =
            DecisionLog::open(LogTarget::File(log.map_or_else(|| path("decisions"), Into::into)))
                .unwrap();
        let recorder = Arc::new(Recorder::new(Some(log), Arc::new(Metrics::new())));
        let assigned =
            Assigned { policies: sets.set("default").unwrap(), settings: Arc::new(settings) };
        let handler = Arc::new(Enforcer::new(Box::new(move |_| Some(assigned.clone())), recorder));
        let upstream =
            UpstreamOptions { address: world.buildkit.address().parse().unwrap(), tls: None };
        let listen = ListenOptions::at(Address::Unix(path("gate.sock")));
        let tcp = runtime.block_on(async {
            let counters = Arc::new(Counters::default());
            let upstreams = Upstreams::start(vec![upstream], Arc::clone(&counters)).await.unwrap();
            let drain = std::time::Duration::ZERO;
            let proxy = Arc::new(Proxy { upstreams, handler, counters, drain });
            let listener = bind(listen).await.unwrap();
            tokio::spawn(serve(listener, Arc::clone(&proxy), std::future::pending()));
            let tcp = ListenOptions::at("tcp://127.0.0.1:0".parse().unwrap());
            let listener = bind(tcp).await.unwrap();
            let tcp = listener.address().unwrap().to_string();
            tokio::spawn(serve(listener, proxy, std::future::pending()));
            tcp
        });
        Self { dir, tcp, runtime }
    }

    /// A connection of our own, as the user or as the other client.
    fn connect(&self, client: As) -> Channel {
        self.runtime.block_on(async {
            let (channel, connection) = match client {
                As::User => {
                    let path = self.dir.path().join("gate.sock");
                    let (channel, it) =
                        Channel::over(UnixStream::connect(path).await.unwrap()).await.unwrap();
                    (channel, futures_util::future::Either::Left(it))
                }
                As::Other => {
                    let at = self.tcp.trim_start_matches("tcp://");
                    let (channel, it) =
                        Channel::over(TcpStream::connect(at).await.unwrap()).await.unwrap();
                    (channel, futures_util::future::Either::Right(it))
                }
            };
            tokio::spawn(connection);
            channel
        })
    }

    /// One solve of our own.
    fn solve(&self, channel: &Channel, request: SolveRequest) -> Result<SolveResponse, Status> {
        let request = SolveRequest { r#ref: unique(), ..request };
        self.runtime.block_on(channel.call(SOLVE, &HeaderMap::new(), &request))
    }

    fn address(&self) -> String {
        format!("unix://{}", self.dir.path().join("gate.sock").display())
    }

    /// The decision log so far.
    fn lines(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("decisions")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The same: action and source of each line.
    fn decisions(&self) -> Vec<(String, String)> {
        let lines = self.lines();
        let text =
            |line: &serde_json::Value, name| line[name].as_str().unwrap_or_default().to_owned();
        lines.iter().map(|line| (text(line, "action"), text(line, "source"))).collect()
    }

    fn buildctl(&self) -> Command {
        let mut command = Command::new(peers::pinned("buildctl").unwrap());
        command.args(["--addr", &self.address()]);
        command
    }

    /// A build through buildctl: whether it passed, and what it said.
    pub fn build(&self, context: &Path, options: &[&str]) -> (bool, String) {
        let mut build = self.buildctl();
        build
            .args(["build", "--progress=plain", "--no-cache", "--frontend", "dockerfile.v0"])
            .arg(format!("--local=context={}", context.display()))
            .arg(format!("--local=dockerfile={}", context.display()))
            .args(options);
        said(&build.output().unwrap())
    }
}

fn said(output: &Output) -> (bool, String) {
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Allows only what `condition` says, of sources that are not the client's own.
pub fn only(condition: &str) -> String {
    format!(
        "package docker\nallow if input.local\nallow if {condition}\n\
         deny_msg contains \"ours says no\" if not allow\n\
         default allow := false\n\
         decision := {{\"allow\": allow, \"deny_msg\": deny_msg}}\n"
    )
}

#[test]
fn an_allowed_build_is_built_and_a_denied_source_is_not_fetched() {
    let world = need!(peers::world());
    let gate = Gate::start(world, &only("endswith(input.image.repo, \"base\")"));
    let files = HttpServer::files([("/tool", b"tool".to_vec())]);
    let git = need!(GitServer::start());
    let base = world.image("base:1");
    let no = world.image("denied-by-gate:1");
    let url = files.url("/tool");
    for (dockerfile, passes) in [
        (format!("FROM {base}\nUSER 0\nRUN [\"/bin/busybox\", \"true\"]\n"), true),
        (format!("FROM {base}\nADD {url} /\n"), false),
        (format!("FROM {base}\nADD {} /src\n", git.url()), false),
        (format!("FROM {no}\n"), false),
        (format!("FROM {base}\nCOPY --from={no} / /\n"), false),
        (format!("FROM {base}\nRUN --mount=from={no} true\n"), false),
        (format!("# syntax={no}\nFROM {base}\n"), false),
    ] {
        let context = folder(&[("Dockerfile", &dockerfile)]);
        let (passed, said) = gate.build(context.path(), &[]);
        assert_eq!(passed, passes, "{dockerfile}{said}\n{}", world.buildkit.log());
        assert_eq!(!passed, said.contains("ours says no"), "{said}");
        assert_eq!(!passed, said.contains("not allowed by policy: action DENY"), "{said}");
        assert!(said.contains("[policy] buildgate"), "{said}");
    }
    assert_eq!(files.asked().len(), 0);
    assert_eq!(git.asked().len(), 0);
    assert_eq!(world.registry.accesses(&["denied-by-gate"]).len(), 0);
    assert!(gate.decisions().iter().any(|(action, _)| action == "deny"));
}

#[test]
fn rules_read_what_the_gate_resolves_and_the_daemon_lives() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/tool", b"tool".to_vec())]);
    let git = need!(GitServer::start());
    let (url, commit) = (files.url("/tool"), git.object("main"));
    let add = |what: &str| format!("FROM scratch\nADD {what} /x\n");
    let from = |name: &str| format!("FROM {}\n", world.image(name));
    for (dockerfile, condition, passes) in [
        (from("base:1"), "input.image.labels[\"org.example.tier\"] == \"base\"".to_owned(), true),
        (from("base:1"), "input.image.user == \"root\"".to_owned(), false),
        (from("app:attested"), "input.image.hasProvenance".to_owned(), true),
        // A daemon that is asked for the chain of these ends.
        (from("app:plain"), "input.image.hasProvenance".to_owned(), false),
        (from("app:docker"), "input.image.hasProvenance".to_owned(), false),
        (from("app:multi"), "input.image.hasProvenance".to_owned(), false),
        (from("app:multi-docker"), "input.image.hasProvenance".to_owned(), false),
        (from("app:docker-unknown"), "input.image.hasProvenance".to_owned(), false),
        (from("app:plain"), "not input.image.hasProvenance".to_owned(), true),
        (add(&url), "startswith(input.http.checksum, \"sha256:\")".to_owned(), true),
        (add(&url), "input.http.checksum == \"sha256:0\"".to_owned(), false),
        (add(&git.url()), format!("input.git.checksum == \"{commit}\""), true),
        (add(&git.url()), "input.git.checksum == \"0\"".to_owned(), false),
        (
            from("app:attested"),
            "endswith(input.image.provenance.materials[_].image.repo, \"base\")".to_owned(),
            true,
        ),
    ] {
        let gate = Gate::start(world, &only(&condition));
        let context = folder(&[("Dockerfile", &dockerfile)]);
        let (passed, said) = gate.build(context.path(), &[]);
        assert_eq!(passed, passes, "{dockerfile}{condition}\n{said}\n{}", world.buildkit.log());
        assert_eq!(!passed, said.contains("ours says no"), "{said}");
    }
    // Nor is anything known of this one, which is neither yes nor no.
    for condition in ["input.image.hasProvenance", "not input.image.hasProvenance"] {
        let gate = Gate::start(world, &only(condition));
        let context = folder(&[("Dockerfile", &from("app:no-mediatype"))]);
        let (passed, said) = gate.build(context.path(), &[]);
        assert!(!passed && said.contains("could not be verified"), "{said}");
    }
}

#[test]
fn no_way_of_naming_a_source_gets_past() {
    let world = need!(peers::world());
    let gate = Gate::start(world, &only("endswith(input.image.repo, \"base\")"));
    let git = need!(GitServer::start());
    let digest = format!("sha256:{}", "a".repeat(64));
    let no = world.image("past-the-gate:1");
    let repo = world.image("past-the-gate");
    let host = git.url().trim_start_matches("http://").to_owned();
    let with = |identifier: String, attrs: &[(&str, &str)]| {
        let mut op = SourceOp::new(identifier);
        op.attrs.extend(attrs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        op
    };
    let channel = gate.connect(As::User);
    for source in [
        with(format!("docker-image://{no}"), &[]),
        with(format!("docker-image://{repo}@{digest}"), &[]),
        with(format!("docker-image+blob://{repo}@{digest}"), &[]),
        with(format!("git://{host}#main"), &[("git.fullurl", &git.url())]),
        with(
            format!("git://{host}#main"),
            &[
                ("git.fullurl", &git.url()),
                ("git.bundle", &format!("docker-image+blob://{repo}@{digest}")),
                ("git.checksum", &git.object("main")),
            ],
        ),
        with(format!("http://{host}/tool"), &[]),
    ] {
        let status = gate.solve(&channel, of(source.clone())).unwrap_err();
        assert!(status.message().contains("not allowed by policy"), "{source}: {status:?}");
        assert!(reasons(&status).contains("ours says no"), "{source}: {status:?}");
    }
    let base = SourceOp::new(format!("docker-image://{}", world.image("base:1")));
    gate.solve(&channel, of(base.clone())).unwrap();
    // An SBOM generator, and unknown fields behind everything.
    let generator = ("attest:sbom".to_owned(), format!("generator={no}"));
    let request = SolveRequest { frontend_attrs: [generator].into(), ..of(base.clone()) };
    let status = gate.solve(&channel, request).unwrap_err();
    assert!(reasons(&status).contains("ours says no"), "a generator: {status:?}");
    let mut message = SolveRequest { r#ref: unique(), ..of(base.clone()) }.encode_to_vec();
    message.extend_from_slice(b"\xba\x3e\x03new");
    let sent = gate.runtime.block_on(channel.call(SOLVE, &HeaderMap::new(), &Raw(message)));
    let _: SolveResponse = sent.unwrap();
    // A key of more than 32 bits, which some decoders cut down to `SourcePolicySession`.
    let mut message = SolveRequest { r#ref: unique(), ..of(base) }.encode_to_vec();
    message.extend_from_slice(b"\xfa\x80\x80\x80\x80\x01\x00");
    let sent = gate.runtime.block_on(channel.call(SOLVE, &HeaderMap::new(), &Raw(message)));
    let sent: Result<SolveResponse, Status> = sent;
    assert!(sent.unwrap_err().message().contains("cannot be understood"));
    assert_eq!(git.asked().len(), 0);
    assert_eq!(world.registry.accesses(&["past-the-gate"]).len(), 0);
}

/// A message as it is.
#[derive(Debug, Default)]
struct Raw(Vec<u8>);

impl Message for Raw {
    fn encode_raw(&self, out: &mut impl bytes::BufMut) {
        out.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: prost::encoding::WireType,
        _: &mut impl bytes::Buf,
        _: prost::encoding::DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[test]
fn a_source_that_static_rules_swap_is_judged_as_what_is_loaded() {
    let world = need!(peers::world());
    let (good, evil) = (need!(GitServer::start()), need!(GitServer::start()));
    let host = |git: &GitServer| git.url().trim_start_matches("http://").to_owned();
    let repo = host(&good);
    let good_host = repo.split('/').next().unwrap();
    // Metadata has to be resolved before the host decides.
    let condition = format!("{{ input.git.checksum != \"\"\n input.git.host == \"{good_host}\" }}");
    let gate = Gate::start(world, &only(&condition));
    let convert = |from: &str, to: &str, marks: &[(&str, &str)]| sourcepolicy::Rule {
        action: sourcepolicy::PolicyAction::Convert.into(),
        selector: Some(sourcepolicy::Selector {
            identifier: from.to_owned(),
            match_type: sourcepolicy::MatchType::Exact.into(),
            constraints: Vec::new(),
        }),
        updates: Some(sourcepolicy::Update {
            identifier: to.to_owned(),
            attrs: marks.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        }),
    };
    let rules = vec![
        convert(
            "docker-image://docker.io/library/start:1",
            &format!("git://{}#main", evil.url()),
            &[("git.fullurl", &evil.url())],
        ),
        convert(
            &format!("git://{}#main", host(&evil)),
            &format!("git://{repo}#main"),
            &[("git.fullurl", &good.url())],
        ),
    ];
    let policy = sourcepolicy::Policy { version: 1, rules };
    let start = SourceOp::new("docker-image://docker.io/library/start:1");
    let request = SolveRequest { source_policy: Some(policy), ..of(start) };
    let status = gate.solve(&gate.connect(As::User), request).unwrap_err();
    assert!(status.message().contains("not allowed by policy"), "{status:?}");
    // Judged as the bad one that it was turned into, and refused; the good one was never spoken of.
    let evil_host = host(&evil);
    assert!(status.message().contains(&evil_host), "{status:?}");
    let said = reasons(&status);
    assert!(!said.is_empty(), "{status:?}");
    for line in gate.lines() {
        let source = line["source"].as_str().unwrap();
        assert!(line["action"] == "deny" && source.contains(&evil_host), "{line}");
    }
    assert_eq!((evil.asked().len(), good.asked().len()), (0, 0));
    // Without the swap the good one is what the rule allows.
    let mut plain = SourceOp::new(format!("git://{repo}#main"));
    plain.attrs.insert("git.fullurl".to_owned(), good.url());
    gate.solve(&gate.connect(As::User), of(plain)).unwrap();
}

#[test]
fn sessions_and_builds_of_others_are_refused() {
    let world = need!(peers::world());
    let gate = Gate::start(world, &only("true"));
    let (user, other) = (gate.connect(As::User), gate.connect(As::Other));
    let session = unique();
    let opened = gate.runtime.block_on(open_session(&user, &[&session]));
    let _held = opened.unwrap();
    let theirs = |request: SolveRequest| gate.solve(&other, request).unwrap_err();
    // The session, claimed by another client in every way that a daemon understands.
    for ids in [&[session.as_str()][..], &["x", &session], &[&format!("a:{session}")], &[]] {
        let status = gate.runtime.block_on(open_session(&other, ids)).unwrap_err();
        assert_eq!(status.code(), tonic::Code::PermissionDenied, "{ids:?}");
    }
    let local = |name: &str, value: &str| {
        let mut op = SourceOp::new("local://context");
        op.attrs.insert(name.to_owned(), value.to_owned());
        op
    };
    let base = SourceOp::new(format!("docker-image://{}", world.image("base:1")));
    for value in [session.clone(), format!("a:{session}")] {
        let named = SolveRequest { session: value.clone(), ..of(base.clone()) };
        assert_eq!(theirs(named).code(), tonic::Code::PermissionDenied);
        let named = SolveRequest { source_policy_session: value.clone(), ..of(base.clone()) };
        assert_eq!(theirs(named).code(), tonic::Code::PermissionDenied);
        let status = theirs(of(local("local.session", &value)));
        assert!(reasons(&status).contains("belongs to another client"), "{status:?}");
    }
    // A build that the user keeps open, asked by another client, by nobody, and by its own.
    let reference = unique();
    let open = SolveRequest { r#ref: reference.clone(), ..SolveRequest::default() };
    let solving = user.clone();
    let running = gate.runtime.spawn(async move {
        let ended: Result<SolveResponse, Status> =
            solving.call(SOLVE, &HeaderMap::new(), &open).await;
        ended
    });
    let ping = |channel: &Channel, ids: &[&str]| {
        let mut metadata = HeaderMap::new();
        for id in ids {
            metadata.append(BUILD_ID, HeaderValue::from_str(id).unwrap());
        }
        let answer: Result<gateway::PongResponse, Status> = gate.runtime.block_on(channel.call(
            "/moby.buildkit.v1.frontend.LLBBridge/Ping",
            &metadata,
            &gateway::PingRequest {},
        ));
        answer.map_err(|status| status.code())
    };
    let denied = Err(tonic::Code::PermissionDenied);
    assert!(ping(&user, &[&reference]).is_ok());
    assert_eq!(ping(&other, &[&reference]).map(drop), denied);
    assert_eq!(ping(&user, &[&unique()]).map(drop), denied);
    assert_eq!(ping(&user, &[&reference, &reference]).map(drop), denied);
    assert_eq!(ping(&user, &[]).map(drop), denied);
    // Nor may another client look on.
    let look = StatusRequest { r#ref: reference.clone() };
    let shown: Result<StatusResponse, Status> = gate.runtime.block_on(other.call(
        "/moby.buildkit.v1.Control/Status",
        &HeaderMap::new(),
        &look,
    ));
    assert_eq!(shown.unwrap_err().code(), tonic::Code::PermissionDenied);
    // Nor can its name be taken while it runs.
    let again = SolveRequest { r#ref: reference.clone(), ..of(base) };
    let again: Result<SolveResponse, Status> =
        gate.runtime.block_on(other.call(SOLVE, &HeaderMap::new(), &again));
    assert_eq!(again.unwrap_err().code(), tonic::Code::AlreadyExists);
    assert!(ping(&user, &[&reference]).is_ok());
    // An attestation chain that would end the daemon.
    for name in [
        "app:plain",
        "app:docker",
        "app:multi",
        "app:multi-docker",
        "app:docker-unknown",
        "app:no-mediatype",
        "app:attested",
    ] {
        let request = gateway::ResolveSourceMetaRequest {
            source: Some(SourceOp::new(format!("docker-image://{}", world.image(name))).into()),
            image: Some(gateway::ResolveSourceImageRequest {
                attestation_chain: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        let metadata =
            HeaderMap::from_iter([(BUILD_ID, HeaderValue::from_str(&reference).unwrap())]);
        let answer: Result<gateway::ResolveSourceMetaResponse, Status> =
            gate.runtime.block_on(user.call(
                "/moby.buildkit.v1.frontend.LLBBridge/ResolveSourceMeta",
                &metadata,
                &request,
            ));
        if name == "app:no-mediatype" {
            let status = answer.unwrap_err();
            assert!(status.message().contains("could not be verified"), "{status:?}");
            continue;
        }
        let image = answer.unwrap().image.unwrap();
        let chain = image.attestation_chain.unwrap();
        assert_eq!(!chain.attestation_manifest.is_empty(), name == "app:attested", "{name}");
        assert!(image.digest.starts_with("sha256:"), "{name}");
    }
    running.abort();
}

/// A session stream, open until this is dropped.
pub struct Opened {
    _held: Box<dyn std::any::Any + Send>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Opened")
    }
}

/// Opens a session stream with these ids.
pub async fn open_session(channel: &Channel, ids: &[&str]) -> Result<Opened, Status> {
    let tunnel = buildgate::session::tunnel();
    let (near, outgoing, pump) = tunnel.run();
    let mut request = http::Request::new(outgoing);
    *request.method_mut() = http::Method::POST;
    *request.uri_mut() = SESSION.parse().unwrap();
    for id in ids {
        request.headers_mut().append(ID, HeaderValue::from_str(id).unwrap());
    }
    request.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    let response = channel.forward(request).await.map_err(rpc::unavailable)?;
    match Status::from_header_map(response.headers()) {
        Some(status) => Err(status),
        None => Ok(Opened { _held: Box::new((response, near, pump)) }),
    }
}

#[test]
fn submodules_are_fetched_only_as_configured() {
    let world = need!(peers::world());
    let git = need!(GitServer::start());
    let dockerfile = format!("FROM {}\nADD {}#submodule /src\n", world.image("base:1"), git.url());
    let context = folder(&[("Dockerfile", &dockerfile)]);
    for (submodules, wanted) in [
        (Submodules::Judge, Some("its submodule `lib`")),
        (Submodules::Deny, Some("has submodules")),
        (Submodules::Skip, None),
    ] {
        let settings = Settings { submodules, ..Settings::default() };
        let gate = Gate::with(
            world,
            &only("input.image\nallow if endswith(input.git.remote, \"app.git\")"),
            settings,
        );
        let (passed, said) = gate.build(context.path(), &[]);
        assert_eq!(passed, wanted.is_none(), "{submodules:?}: {said}");
        let denied = said.contains("not allowed by policy: action DENY");
        assert_eq!(denied, wanted.is_some(), "{submodules:?}: {said}");
        assert!(said.contains(wanted.unwrap_or_default()), "{submodules:?}: {said}");
    }
    assert!(git.asked().iter().all(|request| !request.path.contains("unjudged")));
}

#[test]
fn buildx_is_enforced_whatever_it_is_told() {
    let world = need!(peers::world());
    let buildx = need!(peers::pinned("buildx"));
    let gate = Gate::start(world, &only("endswith(input.image.repo, \"base\")"));
    let config = tempfile::tempdir().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new(&buildx);
        command.env("BUILDX_CONFIG", config.path()).env("DOCKER_CONFIG", config.path()).args(args);
        said(&command.output().unwrap())
    };
    let (passed, words) = run(&[
        "create",
        "--name=gate",
        "--driver=remote",
        &format!("unix://{}", gate.dir.path().join("gate.sock").display()),
    ]);
    assert!(passed, "{words}");
    let files = HttpServer::files([("/tool", b"tool".to_vec())]);
    let from = format!("FROM {}\n", world.image("base:1"));
    let add = format!("{from}ADD {} /\n", files.url("/tool"));
    let theirs = |condition: &str| only(condition).replace("ours says", "theirs says");
    let (everything, nothing) = (theirs("true"), theirs("false"));
    let provenance = theirs("not input.image.hasProvenance");
    for (dockerfile, rego, option, wanted) in [
        (&from, None, None, None),
        (&add, None, None, Some("ours says no")),
        (&add, None, Some("--policy=disabled=true"), Some("ours says no")),
        (&from, Some(&everything), None, None),
        (&add, Some(&everything), None, Some("ours says no")),
        (&from, Some(&nothing), None, Some("theirs says no")),
        (&from, Some(&provenance), None, None),
    ] {
        let mut names = vec![("Dockerfile", dockerfile.as_str())];
        names.extend(rego.map(|rego| ("Dockerfile.rego", rego.as_str())));
        let context = folder(&names);
        let context = context.path().to_str().unwrap().to_owned();
        let mut args = vec!["build", "--builder=gate", "--progress=plain", "--no-cache"];
        args.extend(option);
        args.push(&context);
        let (passed, words) = run(&args);
        assert_eq!(
            passed,
            wanted.is_none(),
            "{dockerfile}{rego:?}{option:?}\n{words}\n{}",
            world.buildkit.log()
        );
        assert!(
            wanted.is_none_or(|wanted| words.contains(wanted)),
            "{dockerfile}{rego:?}{option:?}\n{words}"
        );
    }
    assert_eq!(files.asked().len(), 0);
}
