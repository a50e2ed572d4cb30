//! Decisions in a build's progress: messages of our own between those of the daemon.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::build::Build;
use super::claims::{Claims, Foreign, Owner};
use crate::rpc::{Body, BoxError};
use crate::wire::proto::control::{StatusResponse, Vertex, VertexLog};

/// Length of a frame's head: a flag and the length of the message.
const HEAD: usize = 5;
/// The name that people see.
const NAME: &str = "[policy] buildgate";
/// The standard output of a vertex.
const STDOUT: i64 = 1;

/// A progress stream on its way through.
struct Weaving {
    daemon: Body,
    /// What came of a message that is not whole yet.
    partial: BytesMut,
    finding: Option<tokio::task::JoinHandle<Result<Arc<Build>, Foreign>>>,
    build: Option<(Arc<Build>, watch::Receiver<usize>)>,
    digest: String,
    said: usize,
    trailers: Option<Frame<Bytes>>,
    ended: bool,
}

impl Drop for Weaving {
    fn drop(&mut self) {
        if let Some(finding) = &self.finding {
            finding.abort();
        }
    }
}

/// What comes next.
enum Next {
    Daemon(Option<Result<Frame<Bytes>, BoxError>>),
    Found(Option<Arc<Build>>),
    More,
}

/// Puts the decisions of a client's build among its progress.
pub fn weave(daemon: Body, claims: Claims, owner: Owner, reference: String) -> Body {
    let digest = Sha256::digest(format!("buildgate policy {reference}"));
    let finding = tokio::spawn(async move { claims.build(&owner, &reference).await });
    let weaving = Weaving {
        daemon,
        partial: BytesMut::new(),
        finding: Some(finding),
        build: None,
        digest: format!("sha256:{}", hex::encode(digest)),
        said: 0,
        trailers: None,
        ended: false,
    };
    let frames = futures_util::stream::unfold(weaving, |mut weaving| async move {
        let frame = weaving.next().await?;
        Some((frame, weaving))
    });
    StreamBody::new(frames).boxed_unsync()
}

impl Weaving {
    async fn next(&mut self) -> Option<Result<Frame<Bytes>, BoxError>> {
        loop {
            if let Some(whole) = self.whole() {
                return Some(Ok(Frame::data(whole)));
            }
            if let Some(ours) = self.ours(self.ended) {
                return Some(Ok(Frame::data(ours)));
            }
            if self.ended {
                if !self.partial.is_empty() {
                    return Some(Ok(Frame::data(self.partial.split().freeze())));
                }
                return self.trailers.take().map(Ok);
            }
            match self.wait().await {
                Next::Daemon(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.partial.extend_from_slice(&data),
                    Err(trailers) => {
                        self.trailers = Some(trailers);
                        self.ended = true;
                    }
                },
                Next::Daemon(Some(Err(error))) => return Some(Err(error)),
                Next::Daemon(None) => self.ended = true,
                Next::Found(build) => {
                    self.finding = None;
                    self.build = build.map(|build| {
                        let watch = build.progress().watch();
                        (build, watch)
                    });
                }
                Next::More => {}
            }
        }
    }

    async fn wait(&mut self) -> Next {
        let found = async {
            match &mut self.finding {
                Some(finding) => finding.await.ok().and_then(Result::ok),
                None => std::future::pending().await,
            }
        };
        let more = async {
            let Some((_, watch)) = &mut self.build else { return std::future::pending().await };
            if watch.changed().await.is_err() {
                std::future::pending().await
            }
        };
        tokio::select! {
            frame = self.daemon.frame() => Next::Daemon(frame),
            build = found => Next::Found(build),
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

    /// What was decided since, as one message.
    fn ours(&mut self, last: bool) -> Option<Bytes> {
        let (build, _) = self.build.as_ref()?;
        let lines = build.progress().since(self.said);
        let begun = self.said > 0 || !lines.is_empty();
        if lines.is_empty() && !(last && begun) {
            return None;
        }
        self.said += lines.len();
        let now = std::time::SystemTime::now();
        let first = build.progress().since(0).first().map_or(now, |line| line.at);
        let vertex = Vertex {
            digest: self.digest.clone(),
            name: NAME.to_owned(),
            started: Some(first.into()),
            completed: last.then(|| now.into()),
            ..Vertex::default()
        };
        if last {
            self.build = None;
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
