//! `LLBBridge` on the control socket: a client's frontend asks, for a build that is the client's.
//!
//! The daemon asks us about every source of what passes here. Only caches it does not ask about, and
//! an attestation chain that would end it.

use http::{HeaderMap, Request, header};
use prost::Message;
use tonic::Status;

use super::Enforcer;
use super::build::{Build, Purpose, Verdict};
use super::cache::{self, Import};
use super::claims::{Owner, shown};
use super::definitions;
use super::frontends;
use crate::gate::ops::ErrorKind;
use crate::gate::proxy::{Answer, Call};
use crate::gateway::{BUILD_ID, SERVICE};
use crate::rpc::{self, BoxError};
use crate::source::{Platform, SourceOp};
use crate::wire::proto::gateway::{
    CacheOptionsEntry, ResolveSourceMetaRequest, ResolveSourceMetaResponse,
};
use crate::wire::raw::{Field, RawMessage};
use crate::wire::request::{self, Looked};
use crate::wire::status;

/// Answers a call of `LLBBridge`.
///
/// # Errors
/// When the build is not the client's, or what it asks for is refused.
pub async fn bridge(enforcer: &Enforcer, owner: &Owner, call: Call) -> Result<Answer, Status> {
    let reference = build_id(call.request.headers())?;
    let build = enforcer.claims.forwarded(owner, &reference).await.map_err(|error| {
        enforcer.recorder.metrics().error(ErrorKind::Refused);
        Status::permission_denied(format!("buildgate: build {}: {error}", shown(&reference)))
    })?;
    match call.method().strip_prefix(SERVICE) {
        Some("Solve") => {
            let (call, message) = unary(call).await?;
            let message = admitted(&build, message).await?;
            Ok(with(call, &message).forward().await)
        }
        Some("ResolveSourceMeta") => {
            let (call, message) = unary(call).await?;
            match chain(&build, message.clone()).await? {
                Some(answer) => Ok(Ok(rpc::answered(&answer.encode_to_vec()))),
                None => Ok(with(call, &message).forward().await),
            }
        }
        Some(_) | None => Ok(call.forward().await),
    }
}

/// The one build that a call names. A daemon takes none of several.
fn build_id(headers: &HeaderMap) -> Result<String, Status> {
    let refused = || Status::permission_denied("buildgate: the call names no build, or several");
    let mut values = headers.get_all(BUILD_ID).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => Ok(value.to_str().map_err(|_| refused())?.to_owned()),
        (Some(_), Some(_)) | (None, _) => Err(refused()),
    }
}

fn unread(error: impl Into<BoxError>) -> Status {
    Status::invalid_argument(format!("buildgate: it cannot be understood: {}", error.into()))
}

/// A call taken apart: its head, and its one message.
async fn unary(mut call: Call) -> Result<(Call, bytes::Bytes), Status> {
    let body = std::mem::replace(call.request.body_mut(), rpc::one(b""));
    let (message, _) = rpc::read_one(body).await?;
    Ok((call, message.unwrap_or_default()))
}

/// The same call with this message.
fn with(mut call: Call, message: &[u8]) -> Call {
    call.request.headers_mut().remove(header::CONTENT_LENGTH);
    let request = std::mem::replace(&mut call.request, Request::new(rpc::one(b"")));
    call.request = request.map(|_| rpc::one(message));
    call
}

/// Judges what a solve brings along that the daemon does not ask about: LLB, and the caches it imports.
async fn admitted(build: &Build, message: bytes::Bytes) -> Result<bytes::Bytes, Status> {
    let Looked { request, definitions: llb, rules } = request::gateway(&message).map_err(unread)?;
    frontends::admit(build, &request.frontend, &request.frontend_opt, rules).await?;
    definitions::admit(build, &llb).await?;
    let mut raw = RawMessage::parse(message).map_err(unread)?;
    definitions::apart(build, &mut raw, definitions::GATEWAY).await?;
    if let Some((name, value)) = definitions::options(build, &request.frontend_opt).await? {
        raw.append_map_entry(Field::GATEWAY_SOLVE_FRONTEND_OPT, name, &value);
    }
    for (name, value) in cache::admit_options(build, &request.frontend_opt).await? {
        raw.append_map_entry(Field::GATEWAY_SOLVE_FRONTEND_OPT, name, &value);
    }
    if !request.cache_imports.is_empty() {
        raw.take(Field::GATEWAY_SOLVE_CACHE_IMPORTS).map_err(unread)?;
        for CacheOptionsEntry { r#type: kind, attrs } in request.cache_imports {
            let Import { kind, attrs } = cache::admit(build, Import { kind, attrs }).await?;
            let entry = CacheOptionsEntry { r#type: kind, attrs };
            raw.append_bytes_field(Field::GATEWAY_SOLVE_CACHE_IMPORTS, &entry.encode_to_vec());
        }
    }
    Ok(raw.into_bytes())
}

/// Answers a request for an attestation chain ourselves; `None` where none is asked for.
async fn chain(
    build: &Build,
    message: bytes::Bytes,
) -> Result<Option<ResolveSourceMetaResponse>, Status> {
    let Looked { request, rules, .. } = request::metadata(&message).map_err(unread)?;
    let asks = |it: &crate::wire::proto::gateway::ResolveSourceImageRequest| {
        it.attestation_chain || !it.resolve_attestations.is_empty()
    };
    if !request.image.as_ref().is_some_and(asks) {
        return Ok(None);
    }
    // Rules that convert apply in the daemon, behind what we could look at here.
    if build.begun().converts || rules.any {
        return Err(Status::failed_precondition(
            "buildgate: attestations cannot be asked for together with static source policies",
        ));
    }
    let source = request.source.clone().ok_or_else(|| unread("no source is named"))?;
    let op = SourceOp::from(source);
    let platform = request.platform.clone().map(Platform::try_from).transpose().map_err(unread)?;
    let op = match build.judge(&op, platform, Purpose::Source).await {
        Verdict::Allow => op,
        Verdict::Convert(instead) => instead,
        Verdict::Deny(messages) => return Err(status::denial(&op.masked(), &messages, &[])),
        Verdict::Redirect(_) => {
            return Err(Status::failed_precondition(
                "buildgate: the client's own policy converts a source whose attestations are asked for",
            ));
        }
    };
    let internal = build.internal().await;
    let internal = internal.map_err(|error| Status::unavailable(format!("buildgate: {error}")))?;
    let _asked = internal.ask_for(&op).map_err(unread)?;
    let request = ResolveSourceMetaRequest { source: Some(op.into()), ..request };
    Ok(Some(internal.gateway().answer_for(request).await?))
}
