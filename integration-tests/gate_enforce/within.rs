//! A gate in this process, and what clients of its own making send it.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use buildgate::gate::enforce::{Assigned, Enforcer};
use buildgate::gate::ops::{DecisionLog, LogTarget, Metrics, PolicySets, Recorder, Settings};
use buildgate::gate::proxy::{
    Address, Counters, Gate as Proxy, ListenOptions, UpstreamOptions, Upstreams, bind, serve,
};
use buildgate::rpc::{self, Channel};
use buildgate::session::{ID, SESSION, SessionId};
use buildgate::source::SourceOp;
use buildgate::wire::proto::control::{SolveRequest, SolveResponse};
use http::{HeaderMap, HeaderValue};
use prost::Message;
use tempfile::TempDir;
use tokio::net::{TcpStream, UnixStream};
use tokio::runtime::Runtime;
use tonic::Status;

use crate::peers::{self, World, folder, llb};

pub const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";

/// Who connects.
#[derive(Clone, Copy)]
pub enum As {
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
    pub dir: TempDir,
    /// Another client: whoever comes over TCP.
    tcp: String,
    pub runtime: Runtime,
}

impl Gate {
    /// A gate with one policy.
    pub fn start(world: &World, rego: &str) -> Self {
        Self::with(world, rego, Settings::default())
    }

    pub fn with(world: &World, rego: &str, settings: Settings) -> Self {
        Self::logged(world, rego, settings, None)
    }

    pub fn logged(world: &World, rego: &str, settings: Settings, log: Option<&str>) -> Self {
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
    pub fn connect(&self, client: As) -> Channel {
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
    pub fn solve(&self, channel: &Channel, request: SolveRequest) -> Result<SolveResponse, Status> {
        let request = SolveRequest { r#ref: unique(), ..request };
        self.runtime.block_on(channel.call(SOLVE, &HeaderMap::new(), &request))
    }

    pub fn address(&self) -> String {
        format!("unix://{}", self.dir.path().join("gate.sock").display())
    }

    /// The decision log so far.
    pub fn lines(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.dir.path().join("decisions")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The same: action and source of each line.
    pub fn decisions(&self) -> Vec<(String, String)> {
        let lines = self.lines();
        let text =
            |line: &serde_json::Value, name| line[name].as_str().unwrap_or_default().to_owned();
        lines.iter().map(|line| (text(line, "action"), text(line, "source"))).collect()
    }

    pub fn buildctl(&self) -> Command {
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

pub fn said(output: &Output) -> (bool, String) {
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

/// A message as it is.
#[derive(Debug, Default)]
pub struct Raw(pub Vec<u8>);

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
