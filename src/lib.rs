//! buildgate decides, before anything is fetched, whether a BuildKit build may use each of its
//! sources.
//!
//! ```text
//! SourceOp → Source → check ⟲ { input + what is known → policy → decided | needs metadata → resolve }
//!                   → Decision → the door's answer, with the reason
//! ```
//!
//! | module         | owns                                                                    |
//! |----------------|-------------------------------------------------------------------------|
//! | [`source`]     | what a build would load, parsed and normalised; knows no wire           |
//! | [`meta`]       | what can be resolved about a source, and the trait that resolves it     |
//! | [`input`]      | the document that rules read                                            |
//! | [`policy`]     | loading, compiling, limits, lazy fields, builtins; all of regorus       |
//! | [`verify`]     | signatures: proof types that only verification can make                 |
//! | [`check`]      | one round of a decision, and the one loop that resolves what it needs   |
//! | [`wire`]       | protobuf ↔ domain                                                       |
//! | [`resolve`]    | who answers metadata: registries, HTTP, git, fixtures                   |
//! | [`trust`]      | trust roots from files and by TUF; no decision calls it                 |
//! | [`rpc`]        | gRPC as bytes: calls carried through, one message read or written       |
//! | [`session`]    | sessions on a daemon: who answers in them, and when they are gone       |
//! | [`gateway`]    | a daemon's gateway as we ask it: metadata, files, submodules            |
//! | [`dockerfile`] | which sources a Dockerfile names, and at which line                     |
//! | [`frontend`]   | the door behind `# syntax=`: between a daemon and its stock frontend    |
//! | [`gate`]       | the door before a daemon, for every client and every build              |
//! | [`report`]     | text, JSON, SARIF and JUnit                                             |
//! | [`cli`]        | one file a command                                                      |
//!
//! Dependencies point downwards only: `source`, `meta`, `input`, `policy`, `verify` and `check` know no
//! protobuf, no gRPC and no command line.

pub mod check;
pub mod cli;
pub mod dockerfile;
pub mod frontend;
pub mod gate;
pub mod gateway;
pub mod input;
pub mod meta;
pub mod policy;
pub mod report;
pub mod resolve;
pub mod rpc;
pub mod session;
pub mod source;
pub mod trust;
pub mod verify;
pub mod wire;
