//! Decisions in a build's progress: messages of our own between those of the daemon.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tonic::Status;

use super::claims::{Claims, Foreign, Owner};
use super::progress::Progress;
use crate::rpc::{self, Body, BoxError};
use crate::wire::proto::control::{StatusResponse, Vertex, VertexLog};

/// Length of a frame's head: a flag and the length of the message.
const HEAD: usize = 5;
/// The name that people see.
const NAME: &str = "[policy] buildgate";
/// The standard output of a vertex.
const STDOUT: i64 = 1;

/// Finds the decisions of the build that a stream is about.
type Finding = BoxFuture<'static, Result<Arc<Progress>, Foreign>>;
/// Whether that build is under way and not the client's.
type Foreignness = Box<dyn Fn() -> Option<Foreign> + Send>;

/// A progress stream on its way through.
struct Weaving {
    daemon: Body,
    /// What came of a message that is not whole yet.
    partial: BytesMut,
    reference: String,
    finding: Option<Finding>,
    foreign: Foreignness,
    progress: Option<(Arc<Progress>, watch::Receiver<usize>)>,
    digest: String,
    said: usize,
    /// When the first of our lines was said.
    first: Option<SystemTime>,
    trailers: Option<Frame<Bytes>>,
    ended: bool,
}

/// What comes next.
enum Next {
    Daemon(Option<Result<Frame<Bytes>, BoxError>>),
    Found(Result<Arc<Progress>, Foreign>),
    More,
}

/// Puts the decisions of a client's build among its progress, and ends the stream where the build turns out
/// to be another client's: it may begin after the stream did.
pub fn weave(daemon: Body, claims: Claims, owner: Owner, reference: String) -> Body {
    let finding = {
        let (claims, owner, reference) = (claims.clone(), owner.clone(), reference.clone());
        async move { Ok(Arc::clone(claims.build(&owner, &reference).await?.progress())) }
    };
    let about = reference.clone();
    let foreign = Box::new(move || claims.is_anothers(&owner, &about));
    Weaving::new(daemon, reference, Box::pin(finding), foreign).into_body()
}

impl Weaving {
    fn new(daemon: Body, reference: String, finding: Finding, foreign: Foreignness) -> Self {
        let digest = Sha256::digest(format!("buildgate policy {reference}"));
        Self {
            daemon,
            partial: BytesMut::new(),
            reference,
            finding: Some(finding),
            foreign,
            progress: None,
            digest: format!("sha256:{}", hex::encode(digest)),
            said: 0,
            first: None,
            trailers: None,
            ended: false,
        }
    }

    fn into_body(self) -> Body {
        let frames = futures_util::stream::unfold(self, |mut weaving| async move {
            let frame = weaving.next().await?;
            Some((frame, weaving))
        });
        StreamBody::new(frames).boxed_unsync()
    }

    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        loop {
            if let Some(whole) = self.whole() {
                return Some(Ok(Frame::data(whole)));
            }
            if let Some(ours) = self.ours() {
                return Some(Ok(Frame::data(ours)));
            }
            if self.ended {
                if !self.partial.is_empty() {
                    return Some(Ok(Frame::data(self.partial.split().freeze())));
                }
                return self.trailers.take().map(Ok);
            }
            match self.wait().await {
                Next::Daemon(Some(Ok(frame))) => self.take(frame),
                Next::Daemon(Some(Err(error))) => return Some(Err(error)),
                Next::Daemon(None) => self.ended = true,
                Next::Found(found) => {
                    self.finding = None;
                    match found {
                        Ok(progress) => {
                            let watch = progress.watch();
                            self.progress = Some((progress, watch));
                        }
                        // One that ended before, or never passed here.
                        Err(Foreign::Nobody | Foreign::Taken) => {}
                        Err(foreign @ (Foreign::Client | Foreign::Ours)) => self.refuse(foreign),
                    }
                }
                Next::More => {}
            }
        }
    }

    fn take(&mut self, frame: Frame<Bytes>) {
        // What the daemon has to say of a build that is not found yet may be another client's.
        if self.progress.is_none()
            && let Some(foreign) = (self.foreign)()
        {
            return self.refuse(foreign);
        }
        match frame.into_data() {
            Ok(data) => self.partial.extend_from_slice(&data),
            Err(trailers) => {
                self.trailers = Some(trailers);
                self.ended = true;
            }
        }
    }

    /// Ends the stream for whom the build is not.
    fn refuse(&mut self, foreign: Foreign) {
        let why = format!("buildgate: build {}: {foreign}", self.reference);
        let mut headers = rpc::refusal(&Status::permission_denied(why)).into_parts().0.headers;
        headers.remove(http::header::CONTENT_TYPE);
        self.partial.clear();
        self.trailers = Some(Frame::trailers(headers));
        self.ended = true;
    }

    async fn wait(&mut self) -> Next {
        let found = async {
            match &mut self.finding {
                Some(finding) => finding.await,
                None => std::future::pending().await,
            }
        };
        let more = async {
            let Some((_, watch)) = &mut self.progress else { return std::future::pending().await };
            if watch.changed().await.is_err() {
                std::future::pending().await
            }
        };
        tokio::select! {
            // What is known of a build counts before what is told of it.
            biased;
            found = found => Next::Found(found),
            frame = self.daemon.frame() => Next::Daemon(frame),
            () = more => Next::More,
        }
    }

    /// All whole messages of the daemon that are here.
    fn whole(&mut self) -> Option<Bytes> {
        let mut end = 0;
        while let Some([_, length @ ..]) =
            self.partial.get(end..).and_then(|rest| rest.first_chunk::<HEAD>())
        {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            match end.checked_add(HEAD).and_then(|it| it.checked_add(length)) {
                Some(next) if next <= self.partial.len() => end = next,
                Some(_) | None => break,
            }
        }
        (end > 0).then(|| self.partial.split_to(end).freeze())
    }

    /// What was decided since, as one message; the last one says that it is all.
    fn ours(&mut self) -> Option<Bytes> {
        let (progress, _) = self.progress.as_ref()?;
        let lines = progress.since(self.said);
        self.said += lines.len();
        self.first = self.first.or(lines.first().map(|line| line.at));
        let first = self.first?;
        if lines.is_empty() && !self.ended {
            return None;
        }
        let vertex = Vertex {
            digest: self.digest.clone(),
            name: NAME.to_owned(),
            started: Some(first.into()),
            completed: self.ended.then(|| SystemTime::now().into()),
            ..Vertex::default()
        };
        if self.ended {
            self.progress = None;
        }
        let logs = lines.into_iter().map(|line| VertexLog {
            vertex: self.digest.clone(),
            timestamp: Some(line.at.into()),
            stream: STDOUT,
            msg: format!("{}\n", line.text).into_bytes().into(),
        });
        let message =
            StatusResponse { vertexes: vec![vertex], logs: logs.collect(), ..Default::default() };
        Some(framed(&message.encode_to_vec()))
    }
}

fn framed(message: &[u8]) -> Bytes {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    [&[0][..], &length.to_be_bytes(), message].concat().into()
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use tokio::sync::mpsc;

    use super::*;

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
        Ok(Frame::trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), 0.into())])))
    }

    fn of(found: Result<Arc<Progress>, Foreign>) -> Finding {
        Box::pin(std::future::ready(found))
    }

    fn named(name: &str) -> Vec<u8> {
        let vertex = Vertex { name: name.to_owned(), ..Vertex::default() };
        let message = StatusResponse { vertexes: vec![vertex], ..StatusResponse::default() };
        framed(&message.encode_to_vec()).to_vec()
    }

    /// The messages in what was sent, each whole: names, what was logged, and whether it is the last.
    fn messages(mut sent: &[u8]) -> Vec<String> {
        let mut found = Vec::new();
        while let Some((head, rest)) = sent.split_first_chunk::<HEAD>() {
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
        assert!(
            end.ends_with(" done") && before.iter().all(|it| !it.ends_with(" done")),
            "{last:?}"
        );
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
}
