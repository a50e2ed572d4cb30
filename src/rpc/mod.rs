//! Just enough of gRPC to carry calls through unread, to read one message and to write one.
//!
//! It knows HTTP/2 and framing, and nothing of BuildKit.

mod body;
mod channel;

pub use body::{Body, BoxError, GrpcError, one, read_one, refusal, through};
pub use channel::{Channel, ConnectError, MAX_HEADERS, WINDOW, unavailable};
