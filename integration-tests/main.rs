//! The one integration binary: buildgate against real peers on loopback, a registry with images
//! that BuildKit pushed, git over HTTP, and plain HTTP servers that count what they are asked.
//!
//! A test that cannot have a peer says `SKIPPED: test NAME: why` and passes; where `CI=true` that is
//! a failure. Nothing here reaches beyond loopback.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test that cannot go on fails, and says where"
)]

mod cli;
mod conforms;
mod docs;
mod forge;
mod frontend;
mod frontend_show;
mod frontend_work;
mod gate_bounds;
mod gate_daemons;
mod gate_deploy;
mod gate_doors;
mod gate_enforce;
mod gate_frontends;
mod gate_load;
mod gate_ops;
mod gate_process;
mod gate_proxy;
mod gate_readme;
mod gate_show;
mod gate_traces;
mod peers;
mod peers_work;
mod resolvers;
mod signatures;
