//! Between child and daemon: every call goes through as it came, but those that name sources.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use prost::Message;
use std::sync::{Mutex, PoisonError};
use tonic::Status;

use super::solve;
use super::verdict::{Gatekeeper, Purpose, Refusal};
use crate::gateway::SERVICE;
use crate::meta::MetaRequest;
use crate::rpc::{self, Body, BoxError, Channel, unavailable};
use crate::source::{ImageSource, Platform, Source, SourceOp};
use crate::wire::proto::gateway;
use crate::wire::raw::{Field, RawMessage};

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
        let request = match method.as_deref() {
            Some("Solve") => {
                let (request, message) = unary(request).await?;
                changed(request, &solve::admit(&self.keeper, message).await?)
            }
            Some("ResolveSourceMeta") => {
                let (request, message) = unary(request).await?;
                changed(request, &self.resolve(message).await?)
            }
            Some("ResolveImageConfig") => {
                let (request, message) = unary(request).await?;
                changed(request, &self.resolve_config(message).await?)
            }
            _ => request.map(rpc::through),
        };
        let response = self.daemon.forward(request).await.map_err(unavailable)?;
        if method.as_deref() == Some("Return") {
            self.returned.store(true, Ordering::SeqCst);
        }
        Ok(response.map(rpc::through))
    }

    async fn resolve(&self, message: Bytes) -> Result<Bytes, Status> {
        let wire = gateway::ResolveSourceMetaRequest::decode(message.clone()).map_err(invalid)?;
        if !wire.source_policies.is_empty() {
            return Err(own_rules("ResolveSourceMeta"));
        }
        let asked = MetaRequest::try_from(wire).map_err(invalid)?;
        let admitted = self.judge(&asked.source, asked.platform).await?;
        if admitted == asked.source {
            return Ok(message);
        }
        let mut raw = RawMessage::parse(message).map_err(invalid)?;
        let source = crate::wire::proto::pb::SourceOp::from(admitted).encode_to_vec();
        raw.replace_bytes_field(Field::GATEWAY_RESOLVE_SOURCE, &source).map_err(invalid)?;
        Ok(raw.into_bytes())
    }

    /// The same question as older frontends put it.
    async fn resolve_config(&self, message: Bytes) -> Result<Bytes, Status> {
        let wire = gateway::ResolveImageConfigRequest::decode(message.clone()).map_err(invalid)?;
        if !wire.source_policies.is_empty() {
            return Err(own_rules("ResolveImageConfig"));
        }
        let platform = wire.platform.map(Platform::try_from).transpose().map_err(invalid)?;
        if wire.resolver_type != 0 {
            let op = SourceOp::new(format!("oci-layout://{}", wire.r#ref));
            self.judge(&op, platform).await?;
            return Ok(message);
        }
        let refused = |error: &dyn std::fmt::Display| {
            Refusal::new(&wire.r#ref, error.to_string()).status(&[])
        };
        let image = ImageSource::parse(&wire.r#ref).map_err(|error| refused(&error))?;
        let op = SourceOp::new(image.or_latest().identifier());
        let admitted = self.judge(&op, platform).await?;
        let Ok(Source::Image(image)) = Source::parse(&admitted) else {
            return Err(refused(&"a policy puts something in its place that is no image"));
        };
        let mut raw = RawMessage::parse(message.clone()).map_err(invalid)?;
        raw.replace_bytes_field(Field::GATEWAY_RESOLVE_REF, image.reference().as_bytes())
            .map_err(invalid)?;
        Ok(raw.into_bytes())
    }

    async fn judge(&self, op: &SourceOp, platform: Option<Platform>) -> Result<SourceOp, Status> {
        match self.keeper.judge(op, platform, Purpose::Source).await {
            Ok(admitted) => Ok(admitted),
            Err(refusal) => {
                Err(refusal.status(&self.keeper.mount_lines(&refusal.identifier).await))
            }
        }
    }
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

/// The same call with this message.
fn changed(mut parts: http::request::Parts, message: &[u8]) -> Request<Body> {
    parts.headers.remove(header::CONTENT_LENGTH);
    Request::from_parts(parts, rpc::one(message))
}
