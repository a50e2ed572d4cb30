//! The gate as a process of its own, and many small builds at once: what it holds while they run, and
//! what it holds when they are over.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixStream as Socket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use buildgate::rpc::Channel;
use buildgate::session::SessionId;
use buildgate::source::SourceOp;
use buildgate::wire::proto::control::{SolveRequest, SolveResponse};
use buildgate::wire::proto::pb;
use http::HeaderMap;
use prost::Message;
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use tokio::net::UnixStream;
use tokio::task::JoinSet;
use tonic::Status;

/// How long something may take that ought to happen.
const PATIENCE: Duration = Duration::from_secs(30);
/// What a gate says of its metrics, before the address.
const SHOWN: &str = "health at http://";

/// What a gate that has logged this serves at `path` beside the metrics, with its status line.
pub fn shown(log: &str, path: &str) -> String {
    let said = log.split(SHOWN).nth(1).unwrap().chars();
    let at: String = said.take_while(|c| c.is_ascii_digit() || matches!(c, '.' | ':')).collect();
    let mut stream = TcpStream::connect(at).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// A running `buildgate serve`, killed when it is dropped.
pub struct GateProcess {
    child: Child,
    dir: TempDir,
}

impl GateProcess {
    /// Starts the program before a daemon, with one policy and a decision log.
    pub fn start(program: &Path, upstream: &str, policy: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        // A folder of its own: all that is beside a policy belongs to it.
        std::fs::create_dir(path("policy")).unwrap();
        std::fs::write(path("policy/p.rego"), policy).unwrap();
        let child = Command::new(program)
            .arg("serve")
            .arg(format!("--listen=unix://{}", path("gate.sock").display()))
            .args(["--upstream", upstream])
            .arg(format!("--policy={}", path("policy/p.rego").display()))
            .arg(format!("--decision-log={}", path("decisions").display()))
            .arg("--metrics-listen=127.0.0.1:0")
            .stdin(Stdio::null())
            .stderr(File::create(path("log")).unwrap())
            .spawn()
            .unwrap();
        let gate = Self { child, dir };
        gate.until("the gate listens", |gate| Socket::connect(gate.path("gate.sock")).is_ok());
        gate.until("the gate shows its metrics", |gate| gate.log().contains(SHOWN));
        gate
    }

    /// What it has said so far.
    fn log(&self) -> String {
        std::fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A number among its metrics, named without `buildgate_`.
    pub fn metric(&self, name: &str) -> u64 {
        let metrics = shown(&self.log(), "/metrics");
        let line = metrics.lines().find_map(|line| {
            line.strip_prefix("buildgate_")?.strip_prefix(name)?.strip_prefix(' ')
        });
        line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
    }

    /// What is open in it: file descriptors, tasks, builds, calls, connections of clients and to daemons.
    pub fn open(&self) -> [u64; 6] {
        let descriptors = self.descriptors() as u64;
        let [tasks, builds, calls, clients, daemons] = [
            "tasks",
            "builds_in_flight",
            "open_streams",
            "open_connections",
            "open_upstream_connections",
        ]
        .map(|name| self.metric(name));
        [descriptors, tasks, builds, calls, clients, daemons]
    }

    /// Waits until nothing more is open than this, of any kind; what is still open after a while is an
    /// error.
    pub fn closes(&self, before: [u64; 6]) -> Result<(), [u64; 6]> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let open = self.open();
            if open.iter().zip(before).all(|(now, before)| *now <= before) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(open);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The same; panics where something stays open.
    pub fn until_closed(&self, before: [u64; 6]) {
        if let Err(open) = self.closes(before) {
            panic!("{open:?} are open, {before:?} before:\n{}", self.log());
        }
    }

    /// Waits until it is so; panics with the log where that takes too long.
    pub fn until(&self, what: &str, so: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !so(self) {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A file in its folder.
    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("unix://{}", self.path("gate.sock").display())
    }

    /// File descriptors that it has open.
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).unwrap().count()
    }

    /// A number of `/proc/PID/status`: `VmRSS` and `VmHWM` are in KiB.
    pub fn status(&self, name: &str) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        line.unwrap().split_whitespace().next().unwrap().parse().unwrap()
    }

    /// How long each decision took so far, in milliseconds: from the daemon's question to the answer,
    /// with the line in the log written.
    pub fn latencies(&self) -> Vec<f64> {
        self.decisions().iter().map(|line| line["latency_ms"].as_f64().unwrap()).collect()
    }

    /// The revisions of the policies by which was decided.
    pub fn revisions(&self) -> BTreeSet<u64> {
        self.decisions().iter().map(|line| line["policy_revision"].as_u64().unwrap()).collect()
    }

    fn decisions(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.path("decisions")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for GateProcess {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// So many clients at once, each with a connection of its own and one build that wants this image.
/// Gives the seconds that each of them took.
pub async fn builds_at_once(address: &str, image: &str, builds: usize) -> Vec<f64> {
    let mut clients = JoinSet::new();
    for _ in 0..builds {
        let (address, image) = (address.to_owned(), image.to_owned());
        clients.spawn(async move {
            let began = Instant::now();
            build(&address, &image).await.unwrap();
            began.elapsed().as_secs_f64()
        });
    }
    clients.join_all().await
}

async fn build(address: &str, image: &str) -> Result<SolveResponse, Status> {
    let path = address.trim_start_matches("unix://");
    // A full backlog is the listener's way to say: again.
    let socket = loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            connected => break connected.unwrap(),
        }
    };
    let (channel, connection) = Channel::over(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = SolveRequest {
        r#ref: SessionId::random().unwrap().reveal().to_owned(),
        definition: Some(llb(&[SourceOp::new(format!("docker-image://{image}"))])),
        ..SolveRequest::default()
    };
    let solve = "/moby.buildkit.v1.Control/Solve";
    let solved = channel.call(solve, &HeaderMap::new(), &request).await;
    connection.abort();
    solved
}

/// A definition that loads these sources, each a root of its own.
pub fn llb(sources: &[SourceOp]) -> pb::Definition {
    let mut def = Vec::new();
    let mut inputs = Vec::new();
    for source in sources {
        let op =
            pb::Op { op: Some(pb::op::Op::Source(source.clone().into())), ..pb::Op::default() };
        let op = op.encode_to_vec();
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&op)));
        inputs.push(pb::Input { digest, index: 0 });
        def.push(op.into());
    }
    def.push(pb::Op { inputs, ..pb::Op::default() }.encode_to_vec().into());
    pb::Definition { def, ..pb::Definition::default() }
}
