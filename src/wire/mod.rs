//! Protobuf ↔ domain, and the generated code.
//!
//! The one place where BuildKit's messages and our types meet. Every conversion takes its message
//! apart field by field, so that a field added to `proto/` breaks the build here and nowhere else,
//! and each boundary has one small error of its own. Nothing here connects, decides or fetches.
//!
//! | module        | boundary                                                            |
//! |---------------|---------------------------------------------------------------------|
//! | [`proto`]     | the generated messages, clients and servers                         |
//! | `source`      | `pb.SourceOp`, `pb.Platform`                                        |
//! | `meta`        | metadata: the request and the response                              |
//! | `attestation` | the attestation chain                                               |
//! | [`policy`]    | the question of a policy session, and its answer                    |
//! | [`status`]    | a denial as clients print it: message, reasons, Dockerfile lines    |
//! | [`llb`]       | which sources an LLB definition loads, and at which line            |
//! | `kind`        | that an op is one thing                                             |
//! | [`nested`]    | builds inside a definition                                          |
//! | [`raw`]       | changing a message without losing what we do not know of it         |
//! | [`request`]   | what of a client's request is looked into, without decoding the rest |
//! | [`rewrite`]   | a definition with other sources in it                               |

mod attestation;
mod kind;
pub mod llb;
mod meta;
pub mod nested;
pub mod policy;
pub mod proto;
pub mod raw;
pub mod request;
pub mod rewrite;
mod source;
pub mod status;

pub use kind::TwoKinds;
pub use meta::{MetaError, PROVENANCE_PREDICATES, Resolved};
pub use source::PlatformError;

#[cfg(test)]
mod tests;
