//! A build's progress: messages of our own between those of the daemon.
//!
//! A client asks for it beside its solve, which may have to wait here for what it names to be judged. A
//! daemon says of a build that has not reached it that there is none, over which clients give up: it is
//! asked when the solve is on its way, and once more where it was asked before anybody knew of one.

use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use prost::Message;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tonic::Status;

use super::claims::{Claims, Foreign, Owner, shown};
use super::progress::Progress;
use crate::gate::proxy::{Answer, Call, answered};
use crate::rpc::frame::{self, FrameError};
use crate::rpc::{self, Body, BoxError, Channel};
use crate::wire::proto::control::{StatusRequest, StatusResponse, Vertex, VertexLog};

/// The name that people see.
const NAME: &str = "[policy] buildgate";
/// The standard output of a vertex.
const STDOUT: i64 = 1;

/// Finds the decisions of the build that a stream is about.
type Finding = BoxFuture<'static, Result<Arc<Progress>, Foreign>>;
/// Whether that build is under way and not the client's.
type Foreignness = Box<dyn Fn() -> Option<Foreign> + Send>;

/// Asks the daemon once more, where its build has come in since.
type Again = BoxFuture<'static, Option<Response<Body>>>;

/// The status of a call, in its headers or behind it.
const GRPC_STATUS: &str = "grpc-status";
/// That it ended well.
const OK: &str = "0";

/// A progress stream on its way through.
struct Weaving {
    daemon: Body,
    /// For when the daemon knows of no build.
    again: Option<Again>,
    /// It is asked once more, and what it said before.
    asking: Option<(Again, Frame<Bytes>)>,
    /// Whether it said anything of the build.
    heard: bool,
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
    Again(Option<Response<Body>>),
    Found(Result<Arc<Progress>, Foreign>),
    More,
}

/// Answers `Control/Status`.
///
/// # Errors
/// When the build is not the client's.
pub async fn status(claims: &Claims, owner: &Owner, mut call: Call) -> Result<Answer, Status> {
    let taken = std::mem::replace(&mut call.request, Request::new(rpc::one(b"")));
    let (parts, body) = taken.into_parts();
    let (message, _) = rpc::read_one(body).await?;
    let message = message.unwrap_or_default();
    let request = StatusRequest::decode(message.clone())
        .map_err(|error| Status::invalid_argument(format!("buildgate: Status: {error}")))?;
    let StatusRequest { r#ref: reference } = request;
    let known = claims.is_under_way(&reference);
    if known {
        match claims.forwarded(owner, &reference).await {
            // One that ended before it got there: the daemon says so.
            Ok(_) | Err(Foreign::Nobody | Foreign::Taken) => {}
            Err(foreign @ (Foreign::Client | Foreign::Ours | Foreign::Long)) => {
                return Err(refused(&reference, foreign));
            }
        }
    }
    // Progress tells commands and files; references are in everyone's history.
    if let Some(foreign) = claims.is_anothers(owner, &reference) {
        return Err(refused(&reference, foreign));
    }
    let first = Asking { channel: call.channel().clone(), parts, message };
    let again: Option<Again> = (!known).then(|| {
        let (claims, owner, reference) = (claims.clone(), owner.clone(), reference.clone());
        let asking = first.clone();
        Box::pin(async move {
            if !claims.is_under_way(&reference) {
                return None;
            }
            let build = claims.forwarded(&owner, &reference).await.ok()?;
            // At the daemon that it went to, which need not be the one that was asked first.
            let channel = build.begun().channel.clone();
            Asking { channel, ..asking }.again().await
        }) as Again
    });
    call.request = first.request();
    let (mut answer, mut again) = match call.forward().await {
        Ok(answer) => (answer, again),
        Err(reset) => return Ok(Err(reset)),
    };
    if let Some(status) = answer.headers().get(GRPC_STATUS) {
        // Its head is all of it, and nothing of ours can stand behind that.
        let later = match again.take().filter(|_| status != OK) {
            Some(again) => again.await,
            None => None,
        };
        if let Some(foreign) = claims.is_anothers(owner, &reference) {
            return Err(refused(&reference, foreign));
        }
        match later {
            Some(later) => answer = later,
            None => return Ok(Ok(answer)),
        }
    }
    let (claims, owner) = (claims.clone(), owner.clone());
    let woven = |body| Weaving { again, ..weaving(body, claims, owner, reference) }.into_body();
    Ok(Ok(answer.map(woven)))
}

fn refused(reference: &str, foreign: Foreign) -> Status {
    Status::permission_denied(format!("buildgate: build {}: {foreign}", shown(reference)))
}

/// What a client asks of the daemon, to be asked more than once.
#[derive(Clone)]
struct Asking {
    channel: Channel,
    parts: Parts,
    message: Bytes,
}

impl Asking {
    fn request(&self) -> Request<Body> {
        Request::from_parts(self.parts.clone(), rpc::one(&self.message))
    }

    /// `None` where nothing better comes of it.
    async fn again(self) -> Option<Response<Body>> {
        let answer = answered(self.channel.forward(self.request()).await).ok()?;
        (!answer.headers().contains_key(GRPC_STATUS)).then_some(answer)
    }
}

/// Puts the decisions of a client's build among its progress, and ends the stream where the build turns out
/// to be another client's: it may begin after the stream did.
fn weaving(daemon: Body, claims: Claims, owner: Owner, reference: String) -> Weaving {
    let finding = {
        let (claims, owner, reference) = (claims.clone(), owner.clone(), reference.clone());
        async move { Ok(Arc::clone(claims.build(&owner, &reference).await?.progress())) }
    };
    let about = reference.clone();
    let foreign = Box::new(move || claims.is_anothers(&owner, &about));
    Weaving::new(daemon, reference, Box::pin(finding), foreign)
}

impl Weaving {
    fn new(daemon: Body, reference: String, finding: Finding, foreign: Foreignness) -> Self {
        let digest = Sha256::digest(format!("buildgate policy {reference}"));
        Self {
            daemon,
            again: None,
            asking: None,
            heard: false,
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
                return Some(ours.map(Frame::data).map_err(Into::into));
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
                Next::Again(answer) => match (answer, self.asking.take()) {
                    (Some(answer), _) => self.daemon = answer.into_body(),
                    (None, said) => {
                        self.trailers = said.map(|(_, trailers)| trailers);
                        self.ended = true;
                    }
                },
                Next::Found(found) => {
                    self.finding = None;
                    match found {
                        Ok(progress) => {
                            let watch = progress.watch();
                            self.progress = Some((progress, watch));
                        }
                        // One that ended before, or never passed here.
                        Err(Foreign::Nobody | Foreign::Taken) => {}
                        Err(foreign @ (Foreign::Client | Foreign::Ours | Foreign::Long)) => {
                            self.refuse(foreign);
                        }
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
            Ok(data) => {
                self.heard = true;
                self.partial.extend_from_slice(&data);
            }
            Err(trailers) => match self.again.take().filter(|_| !self.heard && failed(&trailers)) {
                Some(again) => self.asking = Some((again, trailers)),
                None => {
                    self.trailers = Some(trailers);
                    self.ended = true;
                }
            },
        }
    }

    /// Ends the stream for whom the build is not.
    fn refuse(&mut self, foreign: Foreign) {
        let status = refused(&self.reference, foreign);
        let mut headers = rpc::refusal(&status).into_parts().0.headers;
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
        let daemon = async {
            match &mut self.asking {
                Some((again, _)) => Next::Again(again.await),
                None => Next::Daemon(self.daemon.frame().await),
            }
        };
        tokio::select! {
            // What is known of a build counts before what is told of it.
            biased;
            found = found => Next::Found(found),
            said = daemon => said,
            () = more => Next::More,
        }
    }

    /// All whole messages of the daemon that are here.
    fn whole(&mut self) -> Option<Bytes> {
        let end = frame::whole(&self.partial);
        (end > 0).then(|| self.partial.split_to(end).freeze())
    }

    /// What was decided since, as one message; the last one says that it is all.
    fn ours(&mut self) -> Option<Result<Bytes, FrameError>> {
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
        Some(frame::put(&message.encode_to_vec()))
    }
}

/// Whether a call ended badly.
fn failed(trailers: &Frame<Bytes>) -> bool {
    let status = |it: &HeaderMap| it.get(GRPC_STATUS).is_some_and(|status| status != OK);
    trailers.trailers_ref().is_some_and(status)
}

#[cfg(test)]
mod tests;
