//! Between child and daemon: every call goes through as it came, but those that name sources.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use prost::Message;
use std::sync::{Mutex, PoisonError};
use tonic::Status;

use super::solve;
use super::verdict::{Asked, Gatekeeper, Purpose, Refusal};
use crate::gateway::{Precision, SERVICE, names, only, with_digest};
use crate::meta::MetaRequest;
use crate::rpc::{self, Body, BoxError, Channel, unavailable};
use crate::source::{ImageSource, Platform, Source, SourceOp};
use crate::wire::proto::gateway;
use crate::wire::raw::{Field, RawMessage};

/// Values of `ResolveImageConfigRequest.ResolverType`.
const REGISTRY: i32 = 0;
const OCI_LAYOUT: i32 = 1;

/// Serves the child.
pub struct Bridge {
    daemon: Channel,
    keeper: Gatekeeper,
    activity: Arc<Activity>,
    returned: AtomicBool,
}

/// What the child has under way.
#[derive(Debug)]
pub struct Activity {
    calls: AtomicUsize,
    quiet_since: Mutex<Instant>,
}

/// One call under way.
struct Call(Arc<Activity>);

impl Activity {
    fn new() -> Self {
        Self { calls: AtomicUsize::new(0), quiet_since: Mutex::new(Instant::now()) }
    }

    fn begin(self: &Arc<Self>) -> Call {
        self.calls.fetch_add(1, Ordering::SeqCst);
        Call(Arc::clone(self))
    }

    /// For how long the child has asked nothing and waited for nothing.
    pub fn quiet(&self) -> Duration {
        if self.calls.load(Ordering::SeqCst) > 0 {
            return Duration::ZERO;
        }
        self.quiet_since.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut since = self.0.quiet_since.lock().unwrap_or_else(PoisonError::into_inner);
        *since = Instant::now();
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Bridge {
    /// A bridge that nothing has crossed yet.
    pub fn new(daemon: Channel, keeper: Gatekeeper) -> Self {
        let activity = Arc::new(Activity::new());
        Self { daemon, keeper, activity, returned: AtomicBool::new(false) }
    }

    /// What the child has under way.
    pub fn activity(&self) -> Arc<Activity> {
        Arc::clone(&self.activity)
    }

    /// Whether the child has given its result, or its error, to the daemon.
    pub fn has_returned(&self) -> bool {
        self.returned.load(Ordering::SeqCst)
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
        let method = request.uri().path().strip_prefix(SERVICE).map(str::to_owned);
        match method.as_deref() {
            Some("Solve") => {
                let (request, message) = unary(request).await?;
                let message = solve::admit(&self.keeper, message).await?;
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
                let response = self.forward(request.map(rpc::through)).await?;
                let (response, message) = read(response).await?;
                solve::inputs(&self.keeper, message).await?;
                Ok(response)
            }
            Some("Return") => {
                // The build ends with it, and with it whatever is still to be shown.
                self.keeper.finish().await;
                let response = self.forward(request.map(rpc::through)).await?;
                self.returned.store(true, Ordering::SeqCst);
                Ok(response)
            }
            _ => self.forward(request.map(rpc::through)).await,
        }
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
        let (response, message) = read(response).await?;
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
            Refusal::new(&wire.r#ref, error.to_string()).status(&[])
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
                Err(refusal.status(&self.keeper.mount_lines(&refusal.identifier).await))
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

/// The message of an answer, and the answer as it came. It is empty where the daemon refuses.
async fn read(response: Response<Body>) -> Result<(Response<Body>, Bytes), Status> {
    let (parts, body) = response.into_parts();
    let collected = body.collect().await.map_err(unavailable)?;
    let trailers = collected.trailers().cloned();
    let whole = collected.to_bytes();
    let copy = Full::new(whole.clone()).map_err(|never| match never {});
    let (message, _) = rpc::read_one(copy).await?;
    let body = Full::new(whole)
        .with_trailers(async move { trailers.map(Ok) })
        .map_err(|never: std::convert::Infallible| match never {})
        .boxed_unsync();
    Ok((Response::from_parts(parts, body), message.unwrap_or_default()))
}

/// The same call with this message.
fn changed(mut parts: http::request::Parts, message: &[u8]) -> Request<Body> {
    parts.headers.remove(header::CONTENT_LENGTH);
    Request::from_parts(parts, rpc::one(message))
}
