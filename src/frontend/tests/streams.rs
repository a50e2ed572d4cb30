//! Calls that go through unread: whole, in both directions, held up and given up.

use super::*;

#[tokio::test]
async fn other_calls_go_through_whole() {
    let peers = Peers::new(RULES).await;
    // Larger than what gRPC allows by default.
    let large = gateway::ReadFileResponse { data: vec![7; 9 << 20].into() };
    let back: gateway::ReadFileResponse = peers.call("ReadFileContainer", &large).await.unwrap();
    assert_eq!(back, large);
    let refused = peers.call::<_, gateway::PongResponse>("StatFile", &large).await.unwrap_err();
    assert_eq!((refused.code(), refused.message()), (tonic::Code::Aborted, "as it is"));
    assert_eq!(refused.details(), b"details of the daemon");
    // So is one that is looked into.
    let mut definition = source("docker-image://r.example/a:1");
    definition.metadata.insert("x".repeat(9 << 20), pb::OpMetadata::default());
    let request = gateway::SolveRequest { definition: Some(definition), ..Default::default() };
    let solved = peers.call::<_, gateway::SolveResponse>("Solve", &request).await;
    assert!(solved.is_ok(), "{solved:?}");
    assert!(peers.reached("Solve").pop().unwrap().len() > 9 << 20);
}

/// Metadata there, and metadata and trailers back: of calls that are looked into as of the others.
#[tokio::test]
async fn metadata_and_trailers_pass_with_every_call() {
    let peers = Peers::with(RULES, Inputs::new()).await;
    let op =
        |identifier: &str| pb::SourceOp { identifier: identifier.into(), ..Default::default() };
    let solve = gateway::SolveRequest {
        definition: Some(source("docker-image://r.example/a:1")),
        ..Default::default()
    };
    let meta = gateway::ResolveSourceMetaRequest {
        source: Some(op("docker-image://r.example/a:1")),
        ..Default::default()
    };
    let config =
        gateway::ResolveImageConfigRequest { r#ref: "r.example/a:1".into(), ..Default::default() };
    for (method, message) in [
        ("Ping", Vec::new()),
        ("Inputs", Vec::new()),
        ("Evaluate", Vec::new()),
        ("Solve", solve.encode_to_vec()),
        ("ResolveSourceMeta", meta.encode_to_vec()),
        ("ResolveImageConfig", config.encode_to_vec()),
    ] {
        let request = called(method, ("x-is", method), rpc::one(&message));
        let response = peers.child.forward(request).await.unwrap();
        assert_eq!(response.headers().get("x-was").unwrap(), method);
        let body = response.into_body().collect().await.unwrap();
        let trailers = body.trailers().unwrap();
        assert_eq!(trailers.get("x-last").unwrap(), method, "{trailers:?}");
        assert_eq!(trailers.get("grpc-status").unwrap(), "0", "{method}");
    }
}

type Sender = tokio::sync::mpsc::Sender<Result<Bytes, rpc::BoxError>>;

/// A call whose messages are still to be sent, one after the other.
fn upload(header: (&str, &str)) -> (Sender, Request<Body>) {
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let frames = futures_util::stream::unfold(receiver, |mut receiver| async move {
        let data: Result<Bytes, rpc::BoxError> = receiver.recv().await?;
        Some((data.map(Frame::data), receiver))
    });
    (sender, called("ExecProcess", header, StreamBody::new(frames).boxed_unsync()))
}

fn called(method: &str, (name, value): (&str, &str), body: Body) -> Request<Body> {
    Request::post(format!("{SERVICE}{method}"))
        .header("content-type", "application/grpc")
        .header(name, value)
        .body(body)
        .unwrap()
}

/// A stream in both directions, each message before the next; and a child that goes away.
#[tokio::test]
async fn streams_pass_in_both_directions() {
    let peers = Peers::new(RULES).await;
    let (sender, request) = upload(("x-is", "kept"));
    let response = peers.child.forward(request).await.unwrap();
    assert_eq!(response.headers().get("x-was").unwrap(), "kept");
    let mut body = response.into_body();
    for round in 0..4_u8 {
        sender.send(Ok(Bytes::from(vec![round; 70_000]))).await.unwrap();
        let mut got = 0;
        while got < 70_000 {
            let frame = tokio::time::timeout(Duration::from_secs(5), body.frame());
            let data = frame.await.unwrap().unwrap().unwrap().into_data().unwrap();
            assert!(data.iter().all(|byte| *byte == round));
            got += data.len();
        }
    }
    assert!(peers.reached("ended").is_empty());
    // The daemon, too, hears that the child has given up.
    sender.send(Err("given up".into())).await.unwrap();
    until(|| !peers.reached("ended").is_empty()).await;
}

/// A stream that the daemon does not read fills up and holds its sender, and nobody else.
#[tokio::test]
async fn a_stream_that_is_not_read_holds_its_sender_and_no_other_call() {
    const BLOCK: usize = 1 << 16;
    let peers = Peers::new(RULES).await;
    for round in 0..3 {
        let (sender, request) = upload(("x-stands", "yes"));
        let child = peers.child.clone();
        let call = tokio::spawn(async move { child.forward(request).await.map(drop) });
        let mut sent = 0;
        let block = || sender.send(Ok(Bytes::from(vec![0; BLOCK])));
        while let Ok(taken) = tokio::time::timeout(Duration::from_millis(500), block()).await {
            taken.unwrap();
            sent += BLOCK;
            // A window and a buffer on each of the two connections, and what is under way.
            assert!(sent < 6 * rpc::WINDOW as usize, "nothing holds the sender");
        }
        assert!(sent >= BLOCK, "{sent}");
        let request = gateway::PingRequest::default();
        let ping = peers.call::<_, gateway::PongResponse>("Ping", &request);
        tokio::time::timeout(Duration::from_secs(5), ping).await.unwrap().unwrap();
        // The last one is given up; the others stand.
        if round == 2 {
            assert_eq!(peers.reached("ended").len(), 0);
            call.abort();
            until(|| peers.reached("ended").len() == 1).await;
        } else {
            std::mem::forget(sender);
        }
    }
}

/// A child whose build is refused gives up all its calls at once.
#[tokio::test]
async fn calls_that_are_given_up_end_at_the_daemon() {
    const CALLS: usize = 200;
    let peers = Peers::new(RULES).await;
    let calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let request = called("Evaluate", ("x-stands", "yes"), rpc::one(&[]));
            let child = peers.child.clone();
            tokio::spawn(async move { child.forward(request).await.map(drop) })
        })
        .collect();
    until(|| peers.reached("stands").len() == CALLS).await;
    assert_eq!(peers.reached("ended").len(), 0);
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    until(|| peers.reached("ended").len() == CALLS).await;
    peers.call::<_, gateway::PongResponse>("Ping", &gateway::PingRequest::default()).await.unwrap();
}
