//! What is served in a policy session: the question about a source, and health.

use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use prost::Message;
use tonic::Status;

use crate::rpc::{self, Body};
use crate::wire::proto::health::{HealthCheckResponse, health_check_response::ServingStatus};
use crate::wire::proto::policysession::{CheckPolicyRequest, CheckPolicyResponse};

/// The question about a source.
pub const CHECK_POLICY: &str =
    "/moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier/CheckPolicy";
/// Health, which a daemon asks each five seconds.
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// An answer under way.
pub type Verifying = Pin<Box<dyn Future<Output = Result<CheckPolicyResponse, Status>> + Send>>;

/// Whoever answers questions about sources.
pub trait Verifier: Send + Sync + 'static {
    /// Answers one question. An error fails the build that asked.
    fn verify(self: Arc<Self>, question: CheckPolicyRequest) -> Verifying;
}

/// Answers one call of a daemon.
pub async fn answer(verifier: Arc<dyn Verifier>, request: Request<Incoming>) -> Response<Body> {
    match respond(verifier, request).await {
        Ok(message) => rpc::answered(&message),
        Err(status) => rpc::refusal(&status),
    }
}

async fn respond(verifier: Arc<dyn Verifier>, request: Request<Incoming>) -> Result<Bytes, Status> {
    let method = request.uri().path().to_owned();
    match method.as_str() {
        CHECK_POLICY => {
            let (message, _) = rpc::read_one(request.into_body()).await?;
            let question = CheckPolicyRequest::decode(message.unwrap_or_default())
                .map_err(|error| Status::invalid_argument(format!("buildgate: {error}")))?;
            Ok(verifier.verify(question).await?.encode_to_vec().into())
        }
        HEALTH => {
            let healthy = HealthCheckResponse { status: ServingStatus::Serving.into() };
            Ok(healthy.encode_to_vec().into())
        }
        _ => Err(Status::unimplemented(format!("buildgate: {method} is not served here"))),
    }
}
