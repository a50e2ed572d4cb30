//! What a client can make the gate hold by one message: about what the message is long, however it is made.

use std::path::Path;

use buildgate::rpc::{self, Channel};
use buildgate::source::SourceOp;
use buildgate::wire::proto::control::SolveRequest;
use buildgate::wire::proto::pb;
use buildgate::wire::raw;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::net::UnixStream;
use tonic::{Code, Status};

use crate::gate_enforce::{SOLVE, unique};
use crate::peers::{self, GateProcess, llb, need};

const ALLOW: &str = "package docker\ndecision := {\"allow\": true}\n";
/// Most bytes of a message that a daemon takes.
const MOST: usize = 16 << 20;
/// Bytes of what is looked into here, each kind in turn: an unoptimised gate takes its time.
const LENGTH: usize = 4 << 20;
/// What one may cost, in KiB: it comes in, is put together, is looked into, and is passed on. Decoded it
/// would be ten times that.
const MOST_HELD: u64 = 64 << 10;

async fn connect(address: &str) -> Channel {
    let stream = UnixStream::connect(address.trim_start_matches("unix://")).await.unwrap();
    let (channel, connection) = Channel::over(stream).await.unwrap();
    tokio::spawn(connection);
    channel
}

/// What comes of a solve that is these bytes.
async fn solve(channel: &Channel, message: &[u8]) -> Status {
    let mut call = Request::new(rpc::one(message));
    *call.method_mut() = http::Method::POST;
    *call.uri_mut() = SOLVE.parse().unwrap();
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        call.headers_mut().insert(name, http::HeaderValue::from_static(value));
    }
    let answer = channel.forward(call).await.unwrap();
    let head = Status::from_header_map(answer.headers());
    let trailers = answer.into_body().collect().await.ok().and_then(|it| it.trailers().cloned());
    let of = |trailers: HeaderMap| Status::from_header_map(&trailers);
    head.or_else(|| trailers.and_then(of)).unwrap_or_else(|| Status::unknown("no status"))
}

/// A field of a number that holds these bytes.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = BytesMut::new();
    raw::put(&mut out, number, content);
    out.to_vec()
}

/// Many empty fields of a number, two bytes each.
fn many(number: u32) -> Vec<u8> {
    field(number, b"").repeat(LENGTH / 2)
}

/// A definition of so many ops, of which the last is what is built.
fn large(ops: i64, image: &str) -> pb::Definition {
    let mut definition = llb(&[SourceOp::new(format!("docker-image://{image}"))]);
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&definition.def[0])));
    let op = |index| {
        let inputs = vec![pb::Input { digest: digest.clone(), index }];
        let merge = pb::op::Op::Merge(pb::MergeOp::default());
        Bytes::from(pb::Op { inputs, op: Some(merge), ..pb::Op::default() }.encode_to_vec())
    };
    definition.def.splice(1..1, (1..=ops).map(op));
    definition
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_costs_what_it_is_long() {
    let world = need!(peers::world());
    let program = Path::new(env!("CARGO_BIN_EXE_buildgate"));
    let gate = GateProcess::start(program, world.buildkit.address(), ALLOW);
    let (bare, through) = (connect(world.buildkit.address()).await, connect(&gate.address()).await);
    // A hundred thousand vertices pass.
    let definition = Some(large(100_000, &world.image("base:1")));
    let request = SolveRequest { r#ref: unique(), definition, ..SolveRequest::default() };
    let honest = solve(&through, &request.encode_to_vec()).await;
    assert_eq!(honest.code(), Code::Ok, "{honest:?}");
    let before = gate.status("VmRSS");
    // One that is never let in: what is looked into is seen, and no daemon has the work.
    let option = field(7, &field(1, b"gateway-devel"));
    for (what, message) in [
        ("options", many(7)),
        ("static rules", field(12, &many(2))),
        ("caches", field(8, &many(5))),
        ("ops", field(2, &many(1))),
        ("fields of one op", field(2, &field(1, &many(9)))),
        ("metadata of ops", field(2, &many(2))),
    ] {
        let reference = field(1, unique().as_bytes());
        let message = [reference, message, option.clone()].concat();
        let status = solve(&through, &message).await;
        let is_ours =
            ["gateway-devel", "more than 10000"].iter().any(|it| status.message().contains(it));
        assert!(is_ours, "{what}: {status:?}");
    }
    let peak = gate.status("VmHWM");
    let most = before + MOST_HELD;
    assert!(peak < most, "{peak} KiB at the most, {before} KiB before: more than {most}");
    let honest = SolveRequest { r#ref: unique(), ..request };
    assert_eq!(solve(&through, &honest.encode_to_vec()).await.code(), Code::Ok);
    // What no daemon takes is refused as it would be.
    let too_large = field(999, &vec![0; MOST]);
    let (bare, through) = (solve(&bare, &too_large).await, solve(&through, &too_large).await);
    assert_eq!(bare.code(), Code::ResourceExhausted, "{bare:?}");
    assert_eq!((bare.code(), bare.message()), (through.code(), through.message()));
}
