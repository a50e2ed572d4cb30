//! Sessions: HTTP/2 connections inside `Control/Session` streams, of which the opener is the server.
//!
//! ```text
//! we ── Control/Session (BytesMessage …) ──▶ daemon
//!       └ HTTP/2: the daemon asks PolicyVerifier/CheckPolicy and grpc.health, we answer ┘
//! ```
//!
//! It opens a session of our own on a daemon, under an id that nobody can guess, and tells when it is
//! gone. What is answered is for the [`Verifier`] to say. A session that a client brings is looked into
//! by [`tunnel()`] alone, at both of its ends.

mod id;
mod policy;
mod service;
mod tunnel;

pub use id::{NoId, SessionId};
pub use policy::{OpenError, PolicySession, SessionGone};
pub use service::{CHECK_POLICY, Verifier, Verifying, answer};
pub use tunnel::{Ended, Pump, Tunnel, serve, tunnel};

use http::HeaderName;

/// `Control/Session`, the stream that carries a session.
pub const SESSION: &str = "/moby.buildkit.v1.Control/Session";

/// Metadata of a session stream: its id. A daemon takes the first value.
pub const ID: HeaderName = HeaderName::from_static("x-docker-expose-session-uuid");
/// Metadata of a session stream: its name.
pub const NAME: HeaderName = HeaderName::from_static("x-docker-expose-session-name");
/// Metadata of a session stream: a key that caches of local files are kept under.
pub const SHARED_KEY: HeaderName = HeaderName::from_static("x-docker-expose-session-sharedkey");
/// Metadata of a session stream: a method that is served in it, once for each.
pub const METHOD: HeaderName = HeaderName::from_static("x-docker-expose-session-grpc-method");
