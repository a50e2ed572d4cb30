//! Just enough of gRPC to carry calls through unread, to read one message and to write one.
//!
//! It knows HTTP/2 and framing, and nothing of BuildKit.

mod batch;
mod body;
mod channel;
pub mod frame;
mod pongs;
mod reset;
mod serve;

pub use batch::Batched;
pub use body::{
    Body, BoxError, GrpcError, answered, one, read_one, read_within, refusal, through, whole,
};
pub use channel::{
    CONNECTION_WINDOW, Channel, ConnectError, MAX_HEADERS, RESETS, Scope, Unsent, WINDOW,
    unavailable,
};
pub use reset::{Reset, reset_of};
pub use serve::serve;
