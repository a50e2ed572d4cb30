//! Progress streams of a daemon, frame by frame, and what comes of them.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::HeaderMap;
use tokio::sync::{Notify, mpsc};

use super::*;
use crate::gate::enforce::build::tests::Bench;
use crate::gate::enforce::fake::Fake;
use crate::gate::ops::Mode;
use crate::gate::proxy::tests::{Proxied, connect, request};
use crate::gate::proxy::{Access, Handle};

/// What a daemon sends, frame by frame.
type Daemon = mpsc::UnboundedSender<Result<Frame<Bytes>, BoxError>>;

fn daemon() -> (Daemon, Body) {
    let (sender, frames) = mpsc::unbounded_channel();
    let frames = futures_util::stream::unfold(frames, |mut frames| async move {
        Some((frames.recv().await?, frames))
    });
    (sender, StreamBody::new(frames).boxed_unsync())
}

fn data(bytes: &[u8]) -> Result<Frame<Bytes>, BoxError> {
    Ok(Frame::data(Bytes::copy_from_slice(bytes)))
}

fn trailers() -> Result<Frame<Bytes>, BoxError> {
    trailers_of(0)
}

fn trailers_of(status: u8) -> Result<Frame<Bytes>, BoxError> {
    let status = u16::from(status).into();
    Ok(Frame::trailers(HeaderMap::from_iter([(GRPC_STATUS.parse().unwrap(), status)])))
}

fn of(found: Result<Arc<Progress>, Foreign>) -> Finding {
    Box::pin(std::future::ready(found))
}

fn named(name: &str) -> Vec<u8> {
    let vertex = Vertex { name: name.to_owned(), ..Vertex::default() };
    let message = StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() };
    frame::put(&message.encode_to_vec()).unwrap().to_vec()
}

/// The messages in what was sent, each whole: names, what was logged, and whether it is the last.
fn messages(mut sent: &[u8]) -> Vec<String> {
    let mut found = Vec::new();
    while let Some((head, rest)) = sent.split_first_chunk::<{ frame::HEAD }>() {
        let [_, length @ ..] = head;
        let (message, rest) = rest.split_at(u32::from_be_bytes(*length) as usize);
        let message = StatusResponse::decode(message).unwrap();
        let vertex = &message.vertexes[0];
        let logs: String =
            message.logs.iter().map(|log| str::from_utf8(&log.msg).unwrap()).collect();
        let done = if vertex.completed.is_some() { " done" } else { "" };
        found.push(format!("{}: {}{done}", vertex.name, logs.replace('\n', ";")));
        sent = rest;
    }
    assert!(sent.is_empty(), "a message is cut");
    found
}

/// All of a stream: its messages, and the status behind them.
async fn all(weaving: Weaving) -> (Vec<String>, Option<String>) {
    let collected = weaving.into_body().collect().await.unwrap();
    let status = collected.trailers().map(|it| it["grpc-status"].to_str().unwrap().to_owned());
    (messages(&collected.to_bytes()), status)
}

#[tokio::test]
async fn ours_stand_between_whole_messages_and_the_status_is_last() {
    let (sender, body) = daemon();
    let progress = Arc::new(Progress::default());
    progress.say("one".to_owned());
    let theirs = named("theirs");
    let (cut, rest) = theirs.split_at(7);
    let mut weaving =
        Weaving::new(body, "r".to_owned(), of(Ok(Arc::clone(&progress))), Box::new(|| None));
    let mut sent = Vec::new();
    let mut next = async |weaving: &mut Weaving| {
        let frame = weaving.next().await.unwrap().unwrap();
        sent.extend_from_slice(&frame.into_data().unwrap());
    };
    next(&mut weaving).await;
    // A message in three parts, and a decision meanwhile.
    sender.send(data(&cut[..3])).unwrap();
    sender.send(data(&cut[3..])).unwrap();
    progress.say("two".to_owned());
    next(&mut weaving).await;
    sender.send(data(rest)).unwrap();
    next(&mut weaving).await;
    progress.say("three".to_owned());
    sender.send(trailers()).unwrap();
    let (last, status) = all(weaving).await;
    let ours = |text: &str| format!("{NAME}: {text}");
    assert_eq!(messages(&sent), [ours("one;"), ours("two;"), "theirs: ".to_owned()]);
    // The last line may come with the end or before it; the end is told once.
    let (end, before) = last.split_last().unwrap();
    assert!(end.ends_with(" done") && before.iter().all(|it| !it.ends_with(" done")), "{last:?}");
    assert_eq!(last.iter().filter(|it| it.contains("three;")).count(), 1, "{last:?}");
    assert_eq!(status.as_deref(), Some("0"));
}

#[tokio::test]
async fn each_line_is_told_once_and_of_nothing_nothing() {
    let (sender, body) = daemon();
    let progress = Arc::new(Progress::default());
    for number in 0..3_000 {
        progress.say(number.to_string());
    }
    sender.send(data(&named("theirs"))).unwrap();
    sender.send(trailers()).unwrap();
    let found = of(Ok(Arc::clone(&progress)));
    let (told, _) = all(Weaving::new(body, "r".to_owned(), found, Box::new(|| None))).await;
    let lines: Vec<&str> = told
        .iter()
        .filter_map(|it| it.strip_prefix(NAME)?.strip_prefix(": "))
        .flat_map(|it| it.trim_end_matches(" done").split_terminator(';'))
        .collect();
    let wanted: Vec<String> = (0..3_000).map(|number| number.to_string()).collect();
    assert_eq!(lines, wanted);

    let (sender, body) = daemon();
    sender.send(data(&named("theirs"))).unwrap();
    sender.send(trailers()).unwrap();
    let silent = of(Ok(Arc::default()));
    let told = all(Weaving::new(body, "r".to_owned(), silent, Box::new(|| None))).await;
    assert_eq!(told, (vec!["theirs: ".to_owned()], Some("0".to_owned())));
}

#[tokio::test]
async fn a_build_of_nobody_passes_and_one_of_another_client_does_not() {
    let finished = of(Err(Foreign::Nobody));
    let never: fn() -> Finding = || Box::pin(std::future::pending());
    for (what, finding, foreign, wanted) in [
        ("of the past", finished, None, Some("0")),
        ("found to be another's", of(Err(Foreign::Client)), None, Some("7")),
        ("another's by now", never(), Some(Foreign::Client), Some("7")),
        ("not known yet", never(), None, Some("0")),
    ] {
        let (sender, body) = daemon();
        sender.send(data(&named("theirs"))).unwrap();
        sender.send(trailers()).unwrap();
        let weaving = Weaving::new(body, "r".to_owned(), finding, Box::new(move || foreign));
        let (told, status) = all(weaving).await;
        assert_eq!(status.as_deref(), wanted, "{what}");
        assert_eq!(told.len(), usize::from(wanted == Some("0")), "{what}: {told:?}");
    }
}

#[tokio::test]
async fn an_error_of_the_daemons_stream_passes() {
    let (sender, body) = daemon();
    sender.send(Err("cut".into())).unwrap();
    let found = of(Ok(Arc::default()));
    let mut weaving = Weaving::new(body, "r".to_owned(), found, Box::new(|| None));
    assert_eq!(weaving.next().await.unwrap().unwrap_err().to_string(), "cut");
}

/// Where a daemon is asked before it knows of the build it is asked again, once, and not where it has
/// begun to answer.
#[tokio::test]
async fn who_asks_before_the_build_is_there_asks_again() {
    let not_found = || trailers_of(5);
    for (what, first, again, wanted) in [
        ("came since", vec![not_found()], Some(vec![data(&named("late")), trailers()]), "late: 0"),
        ("is not there still", vec![not_found()], Some(vec![trailers_of(6)]), "6"),
        ("never came", vec![not_found()], None, "5"),
        ("broke off", vec![data(&named("a")), not_found()], Some(vec![trailers()]), "a: 5"),
        ("ended well", vec![trailers()], Some(vec![data(&named("never")), trailers()]), "0"),
    ] {
        let stream = |frames: Vec<_>| {
            let (sender, body) = daemon();
            frames.into_iter().for_each(|frame| sender.send(frame).unwrap());
            body
        };
        let found = of(Err(Foreign::Nobody));
        let again: Again = Box::pin(std::future::ready(again.map(stream).map(Response::new)));
        let weaving = Weaving {
            again: Some(again),
            ..Weaving::new(stream(first), "r".to_owned(), found, Box::new(|| None))
        };
        let (told, status) = all(weaving).await;
        assert_eq!(format!("{}{}", told.concat(), status.unwrap()), wanted, "{what}");
    }
}

/// Answers for progress, and nothing else.
struct Asked {
    claims: Claims,
    owner: Owner,
}

impl Handle for Asked {
    fn handle(&self, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(async move {
            status(&self.claims, &self.owner, call)
                .await
                .unwrap_or_else(|status| Ok(rpc::refusal(&status)))
        })
    }
}

/// A gate before these daemons, through which progress is asked for.
async fn gate(claims: &Claims, owner: &Owner, daemons: &[&Fake]) -> Proxied {
    let handler = Asked { claims: claims.clone(), owner: owner.clone() };
    let options = daemons.iter().map(|daemon| daemon.options()).collect();
    let drain = std::time::Duration::from_secs(1);
    Proxied::handled(options, Access::default(), drain, Arc::new(handler)).await
}

fn asking() -> Request<Body> {
    let asked = StatusRequest { r#ref: "r".to_owned() };
    request("/moby.buildkit.v1.Control/Status", rpc::one(&asked.encode_to_vec()))
}

const NOT_FOUND: &str = "no such job r";

/// What a daemon says of no build, all of it in its head.
fn not_found() -> Response<Body> {
    let mut answer = rpc::refusal(&Status::not_found(NOT_FOUND));
    answer.headers_mut().insert("x-theirs", "kept".parse().unwrap());
    answer
}

fn said(name: &str) -> Response<Body> {
    let vertex = Vertex { name: name.to_owned(), ..Vertex::default() };
    let message = StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() };
    rpc::answered(&message.encode_to_vec())
}

#[tokio::test]
async fn an_answer_that_is_only_a_head_passes_unchanged() {
    let daemon = Fake::start(|_| Box::pin(async { not_found() }));
    let bench = Bench::start(Mode::Enforce).await;
    let (claims, owner) = (Claims::default(), bench.build.begun().owner.clone());
    let proxied = gate(&claims, &owner, &[&daemon]).await;
    let channel = proxied.connect().await;
    let build = Arc::new(bench.build);
    build.progress().say("a decision".to_owned());
    let check = async |what: &str| {
        let (head, body) = channel.forward(asking()).await.unwrap().into_parts();
        let status = Status::from_header_map(&head.headers).expect(what);
        assert_eq!((status.code(), status.message()), (tonic::Code::NotFound, NOT_FOUND), "{what}");
        assert_eq!(head.headers["x-theirs"], "kept", "{what}");
        let rest = body.collect().await.unwrap();
        assert!(rest.trailers().is_none() && rest.to_bytes().is_empty(), "{what}");
    };
    check("of nobody").await;
    let claim = claims.arrive(&owner, "r").unwrap();
    claim.forwarded(&build);
    check("of a build with decisions").await;
}

/// Whichever of two daemons is asked first, the build goes to the other one, and so does the question after
/// it.
#[tokio::test]
async fn a_build_that_goes_to_another_daemon_is_asked_for_there() {
    let (go, calls) = (Arc::new(Notify::new()), Arc::new(AtomicUsize::new(0)));
    let (tell, mut asked) = mpsc::unbounded_channel();
    let daemon = |name: &'static str| {
        let (go, calls, tell) = (Arc::clone(&go), Arc::clone(&calls), tell.clone());
        Fake::start(move |request| {
            let (go, calls, tell) = (Arc::clone(&go), Arc::clone(&calls), tell.clone());
            Box::pin(async move {
                if request.uri().path() != "/moby.buildkit.v1.Control/Status" {
                    return rpc::refusal(&Status::unimplemented("only progress"));
                }
                let before = calls.fetch_add(1, Ordering::SeqCst);
                tell.send(name).unwrap();
                if before > 0 {
                    return said(name);
                }
                go.notified().await;
                not_found()
            })
        })
    };
    let daemons = [daemon("one"), daemon("two")];
    let bench = Bench::start(Mode::Enforce).await;
    let (claims, owner) = (Claims::default(), bench.build.begun().owner.clone());
    let proxied = gate(&claims, &owner, &[&daemons[0], &daemons[1]]).await;
    let channel = proxied.connect().await;
    let answer = tokio::spawn(async move { channel.forward(asking()).await.unwrap() });
    let first = asked.recv().await.unwrap();
    let (other, name) = if first == "one" { (&daemons[1], "two") } else { (&daemons[0], "one") };
    let there = Bench::at(Mode::Enforce, connect(&other.socket).await).await;
    let claim = claims.arrive(&owner, "r").unwrap();
    claim.forwarded(&Arc::new(there.build));
    go.notify_one();
    let whole = answer.await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(asked.recv().await, Some(name));
    assert_eq!(whole.trailers().unwrap()[GRPC_STATUS], OK);
    assert_eq!(messages(&whole.to_bytes()), [format!("{name}: ")]);
    drop(claim);
}
