//! What the tests of the gate have clients do: definitions by buildctl, single calls by clients of our own
//! making, and where each of them comes in.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use buildgate::gateway::BUILD_ID;
use buildgate::rpc::Channel;
use buildgate::source::SourceOp;
use buildgate::wire::proto::control::{SolveRequest, SolveResponse};
use buildgate::wire::proto::{gateway, pb};
use http::{HeaderMap, HeaderValue};
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinHandle;
use tonic::Status;

use super::between::Between;
use crate::frontend_show::clients::Ended;
use crate::gate_enforce::{SOLVE, unique};
use crate::gate_process::{Gate, until};
use crate::peers::{self, World};

/// Where clients come in besides the unix socket.
pub const TCP: [&str; 2] = ["--listen", "tcp://127.0.0.1:0"];

/// A connection of the user's own.
pub async fn user(gate: &Gate) -> Channel {
    let stream = UnixStream::connect(gate.path("gate.sock")).await.unwrap();
    let (channel, connection) = Channel::over(stream).await.unwrap();
    tokio::spawn(connection);
    channel
}

/// Another client, to a gate that listens at [`TCP`].
pub async fn another(gate: &Gate) -> Channel {
    let stream = TcpStream::connect(tcp(gate).trim_start_matches("tcp://")).await.unwrap();
    let (channel, connection) = Channel::over(stream).await.unwrap();
    tokio::spawn(connection);
    channel
}

/// The address of [`TCP`].
pub fn tcp(gate: &Gate) -> String {
    until("a port", || {
        let log = gate.log();
        let found = log.lines().find_map(|line| line.split("clients come in at tcp://").nth(1));
        found.map(|address| format!("tcp://{}", address.trim()))
    })
}

/// A gate before the proxy, with the policy in its folder.
pub fn gate_before(between: &Between, dir: tempfile::TempDir, more: &[&str]) -> Gate {
    let listen = format!("unix://{}/gate.sock", dir.path().display());
    let args = ["--listen", &listen, "--upstream", &between.address, "--policy", "policy"];
    Gate::start(dir, &[&args, more].concat(), &[])
}

/// A gate with two listeners: `lax.sock`, where `lax` judges, and `strict.sock`.
pub fn both(world: &World, [lax, strict]: [&str; 2], more: &str) -> Gate {
    let dir = peers::folder(&[("lax/p.rego", lax), ("strict/p.rego", strict)]);
    let run = dir.path().display();
    let config = format!(
        "upstream = [{:?}]\ndecision-log = \"log\"\n{more}\n\
         [policy-sets]\nlax = [\"lax\"]\nstrict = [\"strict\"]\n\
         [[listener]]\nlisten = \"unix://{run}/lax.sock\"\npolicy-set = \"lax\"\n\
         [[listener]]\nlisten = \"unix://{run}/strict.sock\"\npolicy-set = \"strict\"\n",
        world.buildkit.address()
    );
    std::fs::write(dir.path().join("gate.toml"), config).unwrap();
    Gate::start(dir, &["--config", "gate.toml"], &[])
}

pub const BRIDGE: &str = "/moby.buildkit.v1.frontend.LLBBridge/";

/// `buildctl build < llb`, to its end.
pub fn raw(gate: &Gate, definition: &pb::Definition, options: &[String]) -> Ended {
    raw_child(gate, definition, options).wait_with_output().unwrap().into()
}

/// `buildctl build < llb`, under way.
pub fn raw_child(gate: &Gate, definition: &pb::Definition, options: &[String]) -> Child {
    let mut build = gate.buildctl("gate.sock");
    build.args(["build", "--progress=plain", "--no-cache"]).args(options);
    fed(build, definition)
}

/// A client that reads this definition, under way.
pub fn fed(mut build: Command, definition: &pb::Definition) -> Child {
    build.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = build.spawn().unwrap();
    child.stdin.take().unwrap().write_all(&definition.encode_to_vec()).unwrap();
    child
}

/// It was refused by the policy, in its words and the daemon's.
pub fn refused(what: &str, ended: &Ended) {
    let said = &ended.said;
    assert!(!ended.passed, "{what} passed: {said}");
    assert!(said.contains("ours says no"), "{what}: {said}");
    assert!(said.contains("not allowed by policy: action DENY"), "{what}: {said}");
}

pub fn source(identifier: impl Into<String>, attrs: &[(&str, &str)]) -> SourceOp {
    let mut op = SourceOp::new(identifier);
    op.attrs.extend(attrs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    op
}

/// A build whose definition lies in a source.
pub fn built_from(source: SourceOp) -> pb::Definition {
    const FILE: &str = "buildkit.llb.definition";
    let digest = |op: &[u8]| format!("sha256:{}", hex::encode(Sha256::digest(op)));
    let file = pb::Op { op: Some(pb::op::Op::Source(source.into())), ..pb::Op::default() };
    let file = file.encode_to_vec();
    let inputs = [(FILE.to_owned(), pb::BuildInput { input: 1 })].into();
    let build = pb::Op {
        // The second of two: the first is what prost leaves out, and the daemon ends over.
        inputs: vec![pb::Input { digest: digest(&file), index: 0 }; 2],
        op: Some(pb::op::Op::Build(pb::BuildOp { builder: -1, inputs, ..pb::BuildOp::default() })),
        ..pb::Op::default()
    };
    let build = build.encode_to_vec();
    let inputs = vec![pb::Input { digest: digest(&build), index: 0 }];
    let last = pb::Op { inputs, ..pb::Op::default() }.encode_to_vec();
    let def = vec![file.into(), build.into(), last.into()];
    pb::Definition { def, ..pb::Definition::default() }
}

/// LLB of one command in an image.
pub fn command(image: &str, args: &[&str]) -> pb::Definition {
    let digest = |op: &[u8]| format!("sha256:{}", hex::encode(Sha256::digest(op)));
    let base = SourceOp::new(format!("docker-image://{image}"));
    let base = pb::Op { op: Some(pb::op::Op::Source(base.into())), ..pb::Op::default() };
    let base = base.encode_to_vec();
    let meta = pb::Meta {
        args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        cwd: "/".to_owned(),
        user: "0".to_owned(),
        ..pb::Meta::default()
    };
    let mount = pb::Mount { dest: "/".to_owned(), ..pb::Mount::default() };
    let exec = pb::ExecOp { meta: Some(meta), mounts: vec![mount], ..pb::ExecOp::default() };
    let on = |op: &[u8]| vec![pb::Input { digest: digest(op), index: 0 }];
    let exec = pb::Op {
        inputs: on(&base),
        op: Some(pb::op::Op::Exec(exec)),
        platform: Some(pb::Platform {
            os: "linux".to_owned(),
            architecture: std::env::consts::ARCH.replace("x86_64", "amd64"),
            ..pb::Platform::default()
        }),
        ..pb::Op::default()
    };
    let exec = exec.encode_to_vec();
    let last = pb::Op { inputs: on(&exec), ..pb::Op::default() }.encode_to_vec();
    pb::Definition { def: vec![base.into(), exec.into(), last.into()], ..pb::Definition::default() }
}

pub const STATUS: &str = "/moby.buildkit.v1.Control/Status";

pub async fn solve(channel: &Channel, request: SolveRequest) -> Result<SolveResponse, Status> {
    let reference = if request.r#ref.is_empty() { unique() } else { request.r#ref.clone() };
    let request = SolveRequest { r#ref: reference, ..request };
    channel.call(SOLVE, &HeaderMap::new(), &request).await
}

/// A build that stays open until it is aborted.
pub fn open(channel: &Channel, reference: &str) -> JoinHandle<Result<SolveResponse, Status>> {
    let open = SolveRequest { r#ref: reference.to_owned(), ..SolveRequest::default() };
    let channel = channel.clone();
    tokio::spawn(async move { channel.call(SOLVE, &HeaderMap::new(), &open).await })
}

/// Metadata of a call that is about this build.
pub fn of_build(reference: &str) -> HeaderMap {
    HeaderMap::from_iter([(BUILD_ID, HeaderValue::from_str(reference).unwrap())])
}

pub async fn ping(channel: &Channel, reference: &str) -> Result<gateway::PongResponse, Status> {
    let method = format!("{BRIDGE}Ping");
    channel.call(&method, &of_build(reference), &gateway::PingRequest {}).await
}
