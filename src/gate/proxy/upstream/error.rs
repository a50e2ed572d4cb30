//! Daemons that cannot be taken up, or reached.

use std::io;
use std::sync::Arc;

use super::CONNECT;
use crate::gate::proxy::address::Address;
use crate::gate::proxy::tls::TlsError;
use crate::rpc::ConnectError;

/// A configuration that leads nowhere.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamsError {
    /// No daemon.
    #[error("there is no upstream")]
    None,
    /// The same twice.
    #[error("{0}: is an upstream twice")]
    Twice(Address),
    /// TLS over a unix socket.
    #[error("{0}: TLS is for TCP upstreams")]
    TlsOnUnix(Address),
    /// A name that no certificate can have.
    #[error("{0}: no server name of a certificate")]
    ServerName(String),
    /// Its files.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A daemon that cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    /// Nobody is there.
    #[error("{upstream} cannot be reached: {source}")]
    Connect {
        /// Which.
        upstream: Arc<str>,
        /// Why.
        source: io::Error,
    },
    /// Somebody else is there.
    #[error("{upstream}: TLS: {source}")]
    Tls {
        /// Which.
        upstream: Arc<str>,
        /// Why.
        source: io::Error,
    },
    /// It wants another protocol.
    #[error("{0} does not speak HTTP/2 (ALPN)")]
    Protocol(Arc<str>),
    /// It is there, and is no daemon.
    #[error("{upstream}: {source}")]
    Http {
        /// Which.
        upstream: Arc<str>,
        /// Why.
        source: ConnectError,
    },
    /// Nobody answers.
    #[error("{upstream} did not answer within {} s", CONNECT.as_secs())]
    Slow {
        /// Which.
        upstream: Arc<str>,
    },
}
