//! A daemon's gateway (`LLBBridge`) as we ask it ourselves: metadata, files, submodules.
//!
//! The frontend reaches it over its stdio, the gate over the control socket with the id of a build
//! that it keeps open. What is asked for here has been judged by whoever asks.

mod gitmodules;
mod guard;
mod pin;
mod probe;
mod resolver;
mod root;
mod submodules;
#[cfg(test)]
mod tests;
mod tree;

pub use guard::{Precision, names, only, with_digest};
pub use pin::{is_fixed, pinned};
pub use resolver::wanted;
pub use submodules::{JudgeSubmodule, brings_submodules, judged, without};
pub use tree::{ReadError, Tree, UNPACKED, join, local};

use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message;
use tonic::Status;

use crate::rpc::Channel;

/// The service that a daemon serves to its frontends.
pub const SERVICE: &str = "/moby.buildkit.v1.frontend.LLBBridge/";

/// Metadata that names the build which a call on the control socket belongs to.
pub const BUILD_ID: HeaderName = HeaderName::from_static("buildkit-controlapi-buildid");

/// Where a gateway is reached, and what else is served there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// A frontend's own connection: nothing else.
    Frontend,
    /// The control socket, with the daemon's content beside it.
    ControlSocket,
}

/// The gateway of one build. Cheap to clone.
#[derive(Clone)]
pub struct Gateway {
    channel: Channel,
    metadata: HeaderMap,
    place: Place,
}

impl Gateway {
    /// The gateway at the other end of a connection that is one build's own.
    pub fn new(channel: Channel) -> Self {
        Self { channel, metadata: HeaderMap::new(), place: Place::Frontend }
    }

    /// The gateway of the build of this id, on the control socket.
    pub fn of_build(channel: Channel, id: HeaderValue) -> Self {
        let metadata = HeaderMap::from_iter([(BUILD_ID, id)]);
        Self { channel, metadata, place: Place::ControlSocket }
    }

    /// Makes a call: one message there, one back.
    ///
    /// # Errors
    /// What the daemon answers, or that it does not.
    pub async fn call<A: Message, B: Message + Default>(
        &self,
        method: &str,
        message: &A,
    ) -> Result<B, Status> {
        self.channel.call(&format!("{SERVICE}{method}"), &self.metadata, message).await
    }
}
