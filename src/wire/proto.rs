//! BuildKit's contract as generated from `proto/`, under the short names that we use.
//!
//! Decoding drops fields that are not in `proto/`: a message that is passed on is passed on as the
//! bytes it came in (see [`super::raw`]).

#[allow(missing_docs, clippy::all, clippy::pedantic, clippy::wildcard_enum_match_arm)]
mod generated {
    include!(concat!(env!("OUT_DIR"), "/contract.rs"));
}

/// Typed error details.
pub use generated::errdefs;
/// Directory entries.
pub use generated::fsutil::types as fsutil;
/// `google.rpc.Status`.
pub use generated::google::rpc;
/// gRPC health.
pub use generated::grpc::health::v1 as health;
/// The control socket.
pub use generated::moby::buildkit::v1 as control;
/// Capabilities.
pub use generated::moby::buildkit::v1::apicaps as caps;
/// The gateway, `LLBBridge`.
pub use generated::moby::buildkit::v1::frontend as gateway;
/// Static source policies.
pub use generated::moby::buildkit::v1::sourcepolicy;
/// The policy session, `PolicyVerifier`.
pub use generated::moby::buildkit::v1::sourcepolicy::policysession;
/// Workers.
pub use generated::moby::buildkit::v1::types as worker;
/// LLB (`solver/pb`).
pub use generated::pb;
