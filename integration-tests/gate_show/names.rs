//! Names of sessions and builds: the gate's own are nobody's, whoever learns them, and a client's are its
//! own at the listener where they began.

use buildgate::rpc::Channel;
use buildgate::source::SourceOp;
use buildgate::wire::proto::control::{SolveRequest, StatusRequest, StatusResponse};
use buildgate::wire::proto::gateway;
use http::HeaderMap;
use tokio::net::UnixStream;
use tonic::{Code, Status};

use super::between::Between;
use super::clients::{
    BRIDGE, STATUS, TCP, another, both, gate_before, of_build, open, ping, solve, user,
};
use crate::gate_enforce::{of, only, open_session, reasons, unique};
use crate::gate_process::until;
use crate::peers::{self, need};

async fn look(channel: &Channel, reference: &str) -> Result<StatusResponse, Status> {
    let request = StatusRequest { r#ref: reference.to_owned() };
    channel.call(STATUS, &HeaderMap::new(), &request).await
}

/// It was refused, as nobody's to use.
fn refused<T: std::fmt::Debug>(what: &str, got: Result<T, Status>, words: &str) {
    let status = got.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied, "{what}: {status:?}");
    assert!(status.message().contains(words), "{what}: {status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_own_sessions_and_builds_are_nobodys() {
    let world = need!(peers::world());
    let dir = peers::folder(&[(
        "policy/p.rego",
        &only("input.image.labels[\"org.example.tier\"] == \"base\""),
    )]);
    let socket = dir.path().join("between.sock");
    // It has a runtime of its own.
    let between = tokio::task::block_in_place(|| Between::start(world, &socket));
    let gate = gate_before(&between, dir, &[]);
    let user = user(&gate).await;
    let reference = unique();
    let running = open(&user, &reference);
    // A source that is judged by its label: for that the gate has a build of its own.
    let base = SourceOp::new(format!("docker-image://{}", world.image("base:1")));
    let request = gateway::SolveRequest {
        definition: of(base.clone()).definition,
        // Now, and not when somebody wants what comes of it.
        evaluate: true,
        ..gateway::SolveRequest::default()
    };
    let solved: Result<gateway::SolveResponse, Status> =
        user.call(&format!("{BRIDGE}Solve"), &of_build(&reference), &request).await;
    solved.unwrap();

    let seen = between.seen();
    let solves = |internal: bool| seen.solves.iter().filter(move |it| it.internal == internal);
    let theirs = solves(false).next_back().unwrap();
    assert_eq!(theirs.r#ref, reference);
    let ours = solves(true).next_back().unwrap();
    let sessions = [&theirs.source_policy_session, &ours.source_policy_session];
    for id in sessions {
        assert!(id.len() == 64 && seen.sessions.contains(id), "{seen:?}");
        for ids in [&[id.as_str()][..], &["x", id], &[id, "x"], &[&format!("a:{id}")]] {
            let opened = open_session(&user, ids).await;
            assert_eq!(opened.unwrap_err().code(), Code::PermissionDenied, "{ids:?}");
        }
        refused("a stream", open_session(&user, &[id]).await, "not a client's");
        for value in [id.clone(), format!("a:{id}"), format!("{id}:a")] {
            let named = SolveRequest { session: value.clone(), ..of(base.clone()) };
            refused("Session", solve(&user, named).await, "not a client's");
            let named = SolveRequest { source_policy_session: value.clone(), ..of(base.clone()) };
            refused("SourcePolicySession", solve(&user, named).await, "not a client's");
            let mut local = SourceOp::new("local://context");
            local.attrs.insert("local.session".to_owned(), value);
            let status = solve(&user, of(local)).await.unwrap_err();
            assert!(reasons(&status).contains("not a client's"), "{status:?}");
        }
    }
    refused("our build", ping(&user, &ours.r#ref).await, "not a client's");
    refused("our progress", look(&user, &ours.r#ref).await, "not a client's");
    let named = SolveRequest { r#ref: ours.r#ref.clone(), ..of(base.clone()) };
    refused("our name", solve(&user, named).await, "not a client's");
    ping(&user, &reference).await.unwrap();

    // Each solve has a session of its own, and nothing of ours outlives what it was for.
    solve(&user, of(base)).await.unwrap();
    running.abort();
    until("the end of our sessions", || {
        let seen = between.seen();
        (seen.ended == seen.sessions.len()).then_some(())
    });
    let seen = between.seen();
    let mut ids: Vec<&String> = seen.solves.iter().map(|it| &it.source_policy_session).collect();
    let solves = ids.len();
    ids.sort();
    ids.dedup();
    assert!(solves >= 4 && ids.len() == solves && !ids[0].is_empty(), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn progress_is_its_clients_even_if_another_asks_first() {
    let world = need!(peers::world());
    let dir = peers::folder(&[("policy/p.rego", &only("input.image"))]);
    let socket = dir.path().join("between.sock");
    // It has a runtime of its own.
    let between = tokio::task::block_in_place(|| Between::start(world, &socket));
    let gate = gate_before(&between, dir, &TCP);
    let (user, other) = (user(&gate).await, another(&gate).await);
    let reference = unique();
    let (looking, about) = (other.clone(), reference.clone());
    let early = tokio::spawn(async move { look(&looking, &about).await });
    until("the early question at the daemon", || (between.seen().open(STATUS) == 1).then_some(()));
    let running = open(&user, &reference);
    refused("who asked first", early.await.unwrap(), "another client");
    refused("who asks now", look(&other, &reference).await, "another client");
    running.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_build_is_steered_from_where_it_began() {
    let world = need!(peers::world());
    let rules = [only("input.image"), only("false")];
    let gate = both(world, rules.each_ref().map(String::as_str), "");
    let connect = async |socket: &str| {
        let stream = UnixStream::connect(gate.path(socket)).await.unwrap();
        let (channel, connection) = Channel::over(stream).await.unwrap();
        tokio::spawn(connection);
        channel
    };
    let (lax, strict) = (connect("lax.sock").await, connect("strict.sock").await);
    let reference = unique();
    let running = open(&lax, &reference);
    ping(&lax, &reference).await.unwrap();
    refused("the same user elsewhere", ping(&strict, &reference).await, "another client");
    let session = unique();
    let _held = open_session(&lax, &[&session]).await.unwrap();
    let named = SolveRequest { session, ..SolveRequest::default() };
    refused("its session", solve(&strict, named).await, "another client");
    running.abort();
}
