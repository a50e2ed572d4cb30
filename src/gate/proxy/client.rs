//! Who is at the other end of a connection, as far as it was proven.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use super::tls::{Certified, NamePattern, NamePatternError};

/// One connection of a client.
#[derive(Clone, Debug)]
pub struct Client {
    /// Who it is.
    pub identity: Identity,
    /// Name of the listener that took it.
    pub listener: Arc<str>,
    /// Number of the connection, never used twice by one process.
    pub connection: u64,
}

/// Who a client is, and what says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A process on this machine, as the kernel says.
    Unix {
        /// Its user.
        uid: u32,
        /// Its group.
        gid: u32,
        /// Its process, for the log: the number may be another's by now.
        pid: Option<i32>,
    },
    /// The holder of a certificate that was verified.
    Tls(Arc<Certified>),
    /// Nobody in particular: plain TCP proves nothing.
    Plain {
        /// Where it came from.
        address: IpAddr,
    },
}

/// What makes two connections those of one client: it owns its sessions and its builds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Principal {
    /// A user of this machine.
    User(u32),
    /// A certificate's SPIFFE id, or where it has none all its DNS names, or else its subject.
    Certificate(Arc<str>),
    /// Whoever reaches the port from there.
    Address(IpAddr),
}

impl Identity {
    /// What the client is known by across connections.
    #[must_use]
    pub fn principal(&self) -> Principal {
        match self {
            Self::Unix { uid, gid: _, pid: _ } => Principal::User(*uid),
            Self::Tls(certified) => Principal::Certificate(certified.principal().into()),
            Self::Plain { address } => Principal::Address(*address),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(uid) => write!(f, "uid:{uid}"),
            Self::Certificate(name) => f.write_str(name),
            Self::Address(address) => write!(f, "ip:{address}"),
        }
    }
}

/// As [`Principal`] says it.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.principal().fmt(f)
    }
}

/// Which clients a rule is about: `*`, `uid:N`, `gid:N`, `plain`, or a certificate's name
/// (`spiffe://…`, `dns:…`, `subject:…`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClientPattern {
    /// Every client.
    Any,
    /// A user of this machine.
    Uid(u32),
    /// A group of this machine: a process whose own group it is.
    Gid(u32),
    /// Plain TCP.
    Plain,
    /// A verified certificate.
    Name(NamePattern),
}

/// What is no pattern of clients.
#[derive(Debug, thiserror::Error)]
pub enum ClientPatternError {
    /// The number is none.
    #[error("{0}: a user or group id is a number")]
    Id(String),
    /// Not a name either.
    #[error("clients are *, uid:N, gid:N, plain, or a certificate's name")]
    Name(#[from] NamePatternError),
}

impl ClientPattern {
    /// Whether the rule is about this client.
    #[must_use]
    pub fn matches(&self, identity: &Identity) -> bool {
        match (self, identity) {
            (Self::Any, _) => true,
            (Self::Uid(wanted), Identity::Unix { uid, .. }) => wanted == uid,
            (Self::Gid(wanted), Identity::Unix { gid, .. }) => wanted == gid,
            (Self::Plain, Identity::Plain { .. }) => true,
            (Self::Name(pattern), Identity::Tls(certified)) => pattern.matches(certified),
            (Self::Uid(_) | Self::Gid(_), Identity::Tls(_) | Identity::Plain { .. })
            | (Self::Plain, Identity::Unix { .. } | Identity::Tls(_))
            | (Self::Name(_), Identity::Unix { .. } | Identity::Plain { .. }) => false,
        }
    }
}

impl FromStr for ClientPattern {
    type Err = ClientPatternError;

    fn from_str(text: &str) -> Result<Self, ClientPatternError> {
        let id = |number: &str| {
            number
                .parse()
                .map_err(|_: std::num::ParseIntError| ClientPatternError::Id(text.to_owned()))
        };
        match text.split_once(':') {
            None if text == "*" => Ok(Self::Any),
            None if text == "plain" => Ok(Self::Plain),
            Some(("uid", number)) => Ok(Self::Uid(id(number)?)),
            Some(("gid", number)) => Ok(Self::Gid(id(number)?)),
            Some(_) | None => Ok(Self::Name(text.parse()?)),
        }
    }
}
