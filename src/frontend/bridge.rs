//! Between child and daemon: every call goes through as it came, but those that name sources, and the
//! last one, by which the child gives its result: that counts once the child has ended well.
//!
//! A method that is not known here may name a source, so it is none: frontends do without.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use prost::Message;
use tonic::{Code, Status};

use super::solve;
use super::verdict::{Asked, Gatekeeper, Purpose, Refusal};
use crate::gateway::{Precision, SERVICE, names, only, with_digest};
use crate::meta::MetaRequest;
use crate::rpc::{self, Body, BoxError, Channel, unavailable};
use crate::source::{ImageSource, Platform, Source, SourceOp};
use crate::wire::proto::gateway;
use crate::wire::raw::{Field, RawMessage};
use crate::wire::status::Denied;

/// Values of `ResolveImageConfigRequest.ResolverType`.
const REGISTRY: i32 = 0;
const OCI_LAYOUT: i32 = 1;

/// Methods that load nothing which was not judged before: they speak of results, files and containers
/// that the daemon made of what was solved.
const OTHERS: [&str; 12] = [
    "Ping",
    "Warn",
    "Evaluate",
    "ReadFile",
    "ReadDir",
    "StatFile",
    "NewContainer",
    "ReleaseContainer",
    "ExecProcess",
    "ReadFileContainer",
    "ReadDirContainer",
    "StatFileContainer",
];

/// What a daemon serves to its frontends beside its gateway.
const HEALTH: [&str; 2] = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"];

/// Serves the child.
pub struct Bridge {
    daemon: Channel,
    keeper: Gatekeeper,
    activity: Arc<Activity>,
    given: Mutex<Given>,
}

/// What the child has given as the end of its build.
#[derive(Debug, Default)]
pub enum Given {
    /// Nothing that the daemon would take.
    #[default]
    Nothing,
    /// An error, which the daemon has taken.
    Error,
    /// A result, of which the daemon does not know yet.
    Result(Box<Request<Body>>),
}

/// What the child has under way.
#[derive(Debug, Default)]
pub struct Activity {
    open: AtomicUsize,
    begun: AtomicU64,
}

/// One call under way, until it is dropped.
#[derive(Debug)]
pub struct Call(Arc<Activity>);

impl Activity {
    /// Notes a call.
    pub fn begin(self: &Arc<Self>) -> Call {
        self.open.fetch_add(1, Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
        Call(Arc::clone(self))
    }

    /// How many calls the child waits for.
    pub fn open(&self) -> usize {
        self.open.load(Ordering::SeqCst)
    }

    /// How many calls it has made so far.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Bridge {
    /// A bridge that nothing has crossed yet.
    pub fn new(daemon: Channel, keeper: Gatekeeper) -> Self {
        Self { daemon, keeper, activity: Arc::default(), given: Mutex::default() }
    }

    /// Reads the policies, so that they are there when the first source is asked for.
    pub async fn prepare(&self) {
        self.keeper.prepare().await;
    }

    /// What the child has under way.
    pub fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// What the child has given so far; it is given once.
    pub fn given(&self) -> Given {
        std::mem::take(&mut *self.given.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Gives the daemon the child's result.
    ///
    /// # Errors
    /// When the daemon does not take it.
    pub async fn give(&self, result: Request<Body>) -> Result<(), Status> {
        // The build ends with it, and with it whatever is still to be shown.
        self.keeper.finish().await;
        read(self.forward(result).await?).await?.taken()
    }

    /// Answers one call of the child.
    pub async fn serve(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let call = self.activity.begin();
        let response = match self.answer(request).await {
            Ok(response) => response,
            Err(status) => rpc::refusal(&status),
        };
        response.map(|body| {
            body.map_frame(move |frame| {
                let _under_way = &call;
                frame
            })
            .boxed_unsync()
        })
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        // As it is on the wire, so that no two readers take it for two methods.
        let path = request.uri().path_and_query().map(http::uri::PathAndQuery::as_str);
        let path = path.unwrap_or_default().to_owned();
        match path.strip_prefix(SERVICE) {
            Some("Solve") => {
                let (request, message) = unary(request).await?;
                let message = Box::pin(solve::admit(&self.keeper, message)).await?;
                self.forward(changed(request, &message)).await
            }
            Some("ResolveSourceMeta") => {
                let (request, message) = unary(request).await?;
                let resolved = self.resolve(message).await?;
                self.resolve_with(request, resolved).await
            }
            Some("ResolveImageConfig") => {
                let (request, message) = unary(request).await?;
                let resolved = self.resolve_config(message).await?;
                self.resolve_with(request, resolved).await
            }
            Some("Inputs") => {
                let answered = read(self.forward(request.map(rpc::through)).await?).await?;
                if answered.is_taken() {
                    solve::inputs(&self.keeper, answered.message).await?;
                }
                Ok(answered.response)
            }
            Some("Return") => self.end(request).await,
            Some(method) if OTHERS.contains(&method) => {
                self.forward(request.map(rpc::through)).await
            }
            None if HEALTH.contains(&path.as_str()) => {
                self.forward(request.map(rpc::through)).await
            }
            Some(_) | None => {
                let why = "is no method of which buildgate knows what it loads";
                Err(Status::unimplemented(format!("{path} {why}")))
            }
        }
    }

    /// Takes the end of the build: an error is passed on, and a result is kept until the child has
    /// ended, for a child that fails after it gave one has failed.
    async fn end(&self, request: Request<Incoming>) -> Result<Response<Body>, Status> {
        let (request, message) = unary(request).await?;
        let given = gateway::ReturnRequest::decode(message.clone()).map_err(invalid)?;
        let call = changed(request, &message);
        let keep = |end| *self.given.lock().unwrap_or_else(PoisonError::into_inner) = end;
        if given.error.is_some() {
            self.keeper.finish().await;
            let answered = read(self.forward(call).await?).await?;
            if answered.is_taken() {
                keep(Given::Error);
            }
            return Ok(answered.response);
        }
        if !matches!(*self.given.lock().unwrap_or_else(PoisonError::into_inner), Given::Nothing) {
            return Err(Status::unknown("buildgate: the result of this build is given already"));
        }
        keep(Given::Result(Box::new(call)));
        Ok(rpc::answered(&[]))
    }

    async fn forward(&self, request: Request<Body>) -> Result<Response<Body>, Status> {
        let response = self.daemon.forward(request).await.map_err(unavailable)?;
        Ok(response.map(rpc::through))
    }

    /// Passes a question about a source on. The digest that the daemon finds is the image that was
    /// judged: the child asks for it by that next.
    async fn resolve_with(
        &self,
        request: http::request::Parts,
        resolved: Resolved,
    ) -> Result<Response<Body>, Status> {
        let Resolved { message, op, platform, answer } = resolved;
        let response = self.forward(changed(request, &message)).await?;
        let answered = read(response).await?;
        if !answered.is_taken() {
            return Ok(answered.response);
        }
        let Answered { response, message, .. } = answered;
        let (name, digest) = match answer {
            Answer::Meta => {
                let meta = gateway::ResolveSourceMetaResponse::decode(message).map_err(invalid)?;
                let name = meta.source.map(|source| source.identifier);
                (name, meta.image.map(|image| image.digest))
            }
            Answer::Config => {
                let config =
                    gateway::ResolveImageConfigResponse::decode(message).map_err(invalid)?;
                (Some(format!("docker-image://{}", config.r#ref)), Some(config.digest))
            }
        };
        // Of another source than was judged, the child's next question is judged anew.
        if name.is_some_and(|name| names(&op, &name))
            && let Some(image) = with_digest(&op, &digest.unwrap_or_default())
        {
            let platform = platform.unwrap_or_else(|| self.keeper.platform().clone());
            self.keeper.admit(&image, platform, Purpose::Source);
        }
        Ok(response)
    }

    async fn resolve(&self, message: Bytes) -> Result<Resolved, Status> {
        let wire = gateway::ResolveSourceMetaRequest::decode(message.clone()).map_err(invalid)?;
        if !wire.source_policies.is_empty() {
            return Err(own_rules("ResolveSourceMeta"));
        }
        let asked = MetaRequest::try_from(wire).map_err(invalid)?;
        let op = self.judge(&asked.source, asked.platform.clone()).await?;
        let mut raw = RawMessage::parse(message).map_err(invalid)?;
        if op != asked.source {
            let source = crate::wire::proto::pb::SourceOp::from(op.clone()).encode_to_vec();
            raw.replace_bytes_field(Field::GATEWAY_RESOLVE_SOURCE, &source).map_err(invalid)?;
        }
        let rules = only([&op], Precision::MayBePinned).encode_to_vec();
        raw.append_bytes_field(Field::GATEWAY_RESOLVE_SOURCE_POLICIES, &rules);
        let message = raw.into_bytes();
        Ok(Resolved { message, op, platform: asked.platform, answer: Answer::Meta })
    }

    /// The same question as older frontends put it.
    async fn resolve_config(&self, message: Bytes) -> Result<Resolved, Status> {
        let wire = gateway::ResolveImageConfigRequest::decode(message.clone()).map_err(invalid)?;
        if !wire.source_policies.is_empty() {
            return Err(own_rules("ResolveImageConfig"));
        }
        let platform = wire.platform.map(Platform::try_from).transpose().map_err(invalid)?;
        let mut raw = RawMessage::parse(message).map_err(invalid)?;
        let refused = |error: &dyn std::fmt::Display| {
            Refusal::new(&wire.r#ref, error.to_string()).status_in(Denied::Metadata, &[])
        };
        let image = ImageSource::parse(&wire.r#ref).map_err(|error| refused(&error))?;
        let (op, rules) = match wire.resolver_type {
            REGISTRY => {
                let op = SourceOp::new(image.or_latest().identifier());
                let op = self.judge(&op, platform.clone()).await?;
                let Ok(Source::Image(image)) = Source::parse(&op) else {
                    return Err(refused(&"a policy puts something in its place that is no image"));
                };
                raw.replace_bytes_field(Field::GATEWAY_RESOLVE_REF, image.reference().as_bytes())
                    .map_err(invalid)?;
                let rules = only([&op], Precision::MayBePinned);
                (op, rules)
            }
            OCI_LAYOUT => {
                let mut op = SourceOp::new(format!("oci-layout://{}", wire.r#ref));
                let attrs = [("oci.session", &wire.session_id), ("oci.store", &wire.store_id)];
                let attrs = attrs.into_iter().filter(|(_, value)| !value.is_empty());
                op.attrs.extend(attrs.map(|(name, value)| (name.to_owned(), value.clone())));
                if self.judge(&op, platform.clone()).await? != op {
                    let why =
                        "a policy puts something else in its place, which it cannot have here";
                    return Err(refused(&why));
                }
                // A daemon writes the name out as it does an image's.
                let mut whole = op.clone();
                whole.identifier = format!("oci-layout://{}", image.reference());
                let rules = only([&op, &whole], Precision::Exact);
                (op, rules)
            }
            other => {
                return Err(refused(&format!("it is to be resolved by something new ({other})")));
            }
        };
        raw.append_bytes_field(Field::GATEWAY_CONFIG_SOURCE_POLICIES, &rules.encode_to_vec());
        Ok(Resolved { message: raw.into_bytes(), op, platform, answer: Answer::Config })
    }

    async fn judge(&self, op: &SourceOp, platform: Option<Platform>) -> Result<SourceOp, Status> {
        let asked = Asked { op, platform, purpose: Purpose::Source, lines: &[] };
        match self.keeper.judge(asked).await {
            Ok(admitted) => Ok(admitted),
            Err(refusal) => {
                let lines = self.keeper.mount_lines(&refusal.identifier).await;
                Err(refusal.status_in(Denied::Metadata, &lines))
            }
        }
    }
}

/// A question about a source that may be passed on.
struct Resolved {
    message: Bytes,
    /// What it asks about.
    op: SourceOp,
    platform: Option<Platform>,
    answer: Answer,
}

/// What answers it.
enum Answer {
    /// `ResolveSourceMetaResponse`.
    Meta,
    /// `ResolveImageConfigResponse`.
    Config,
}

/// Static rules apply after us, and could undo what we decide.
fn own_rules(method: &str) -> Status {
    Status::permission_denied(format!(
        "buildgate: {method}: the frontend brings static source policies of its own"
    ))
}

fn invalid(error: impl Into<BoxError>) -> Status {
    Status::invalid_argument(format!("buildgate: {}", error.into()))
}

/// A call taken apart: its head, and its one message.
async fn unary(request: Request<Incoming>) -> Result<(http::request::Parts, Bytes), Status> {
    let (parts, body) = request.into_parts();
    let (message, _) = rpc::read_one(body).await?;
    Ok((parts, message.unwrap_or_default()))
}

/// An answer that was looked into.
struct Answered {
    /// As it came.
    response: Response<Body>,
    /// Its message; empty where the daemon refuses.
    message: Bytes,
    status: Option<Status>,
}

impl Answered {
    /// Whether the daemon has done what it was asked.
    fn is_taken(&self) -> bool {
        self.status.as_ref().is_some_and(|status| status.code() == Code::Ok)
    }

    fn taken(self) -> Result<(), Status> {
        match self.status {
            Some(status) if status.code() == Code::Ok => Ok(()),
            Some(status) => Err(status),
            None => Err(Status::unknown("the daemon answered without a status")),
        }
    }
}

async fn read(response: Response<Body>) -> Result<Answered, Status> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.map_err(unavailable)?;
    let trailers = collected.trailers().cloned();
    let whole = collected.to_bytes();
    let copy = Full::new(whole.clone()).map_err(|never| match never {});
    let (message, _) = rpc::read_one(copy).await?;
    let at_the_end = || trailers.as_ref().and_then(Status::from_header_map);
    let status = Status::from_header_map(&parts.headers).or_else(at_the_end);
    let whole = Full::new(whole).map_err(|never: std::convert::Infallible| match never {});
    // Without trailers the status is in the headers, and nothing may follow them.
    let body = match trailers {
        Some(trailers) => {
            whole.with_trailers(std::future::ready(Some(Ok(trailers)))).boxed_unsync()
        }
        None => whole.boxed_unsync(),
    };
    let response = Response::from_parts(parts, body);
    Ok(Answered { response, message: message.unwrap_or_default(), status })
}

/// The same call with this message.
fn changed(mut parts: http::request::Parts, message: &[u8]) -> Request<Body> {
    parts.headers.remove(header::CONTENT_LENGTH);
    Request::from_parts(parts, rpc::one(message))
}
