//! Every call of every client, passed to a daemon as the bytes it came in.
//!
//! ```text
//! listen → Client → Access → route → Handle ─ forward → upstream
//! ```
//!
//! It knows who calls ([`Client`]), what it may call ([`Access`]), and where the call goes
//! ([`Upstreams`]). It reads no message, but for the ids by which several daemons are told apart. What
//! is decided about a call is decided by whoever implements [`Handle`]; [`Forward`] decides nothing.

mod address;
mod client;
mod counters;
mod io;
mod listen;
mod methods;
mod pass;
mod route;
mod serve;
mod tls;
mod upstream;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};

pub use address::{Address, AddressError};
pub use client::{Client, ClientPattern, ClientPatternError, Identity, Principal};
pub use counters::Counters;
pub(in crate::gate) use listen::Arrival;
pub use listen::{
    Group, ListenError, ListenOptions, Listener, Plaintext, Socket, SocketError, Stranger, bind,
};
pub use methods::{Access, ClientRule, MethodPattern, MethodPatternError, Methods};
pub use pass::answered;
pub use serve::{Drained, Gate, serve};
pub use tls::{
    Certified, CertifiedError, ClientTls, NamePattern, NamePatternError, Pair, ServerTls, TlsError,
};
pub use upstream::{
    Health, Key, Upstream, UpstreamError, UpstreamOptions, Upstreams, UpstreamsError,
};

use self::route::Way;
use crate::rpc::{Body, Channel, Reset};

/// What a call comes to: an answer, or the reset of its stream.
pub type Answer = Result<Response<Body>, Reset>;

/// Who answers the calls of clients.
pub trait Handle: Send + Sync + 'static {
    /// Answers one call. It is dropped where the client gives up.
    fn handle(&self, call: Call) -> BoxFuture<'_, Answer>;
}

/// One call, admitted and with its way found.
pub struct Call {
    /// Whose.
    pub client: Arc<Client>,
    /// The call itself. Its body is the client's, message by message as it comes in.
    pub request: Request<Body>,
    way: Way,
}

impl Call {
    /// `/package.Service/Method`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.request.uri().path()
    }

    /// The daemon it goes to.
    #[must_use]
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.way.upstream
    }

    /// The connection it goes on, which this client connection alone uses.
    #[must_use]
    pub fn channel(&self) -> &Channel {
        &self.way.channel
    }

    /// Passes it on as it is: bytes, metadata, trailers, deadlines, resets, and the pace of the reader.
    pub async fn forward(self) -> Answer {
        match self.way.channel.try_forward(self.request).await {
            Ok(answer) => answered(answer),
            // Only a connection that ended between the route and the call comes here: once more, on
            // one that ends with the client as the first would have.
            Err(unsent) => match self.way.upstream.connect_within(&self.way.scope).await {
                Ok(channel) => answered(channel.forward(unsent.request).await),
                Err(error) => Ok(crate::rpc::refusal(&pass::gone(&error))),
            },
        }
    }
}

/// Passes everything on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Forward;

impl Handle for Forward {
    fn handle(&self, call: Call) -> BoxFuture<'_, Answer> {
        Box::pin(call.forward())
    }
}

#[cfg(test)]
pub(in crate::gate) mod tests;
