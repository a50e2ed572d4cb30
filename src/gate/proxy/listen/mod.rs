//! Where clients come in: unix sockets with a mode and a group, TCP with mutual TLS, and plain TCP on
//! loopback alone unless told otherwise.

mod socket;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::task::{JoinError, JoinSet};
use tokio_rustls::{TlsAcceptor, TlsStream};

use super::address::Address;
use super::client::{Client, Identity};
use super::io::{Io, tune};
use super::methods::Access;
use super::tls::{ALPN, Certified, CertifiedError, NamePattern, Reloaded, ServerTls, TlsError};

pub use socket::{Group, Socket, SocketError};

/// How long a client may take to show who it is.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long to wait where the system cannot take another connection (no descriptors left).
const BREATH: Duration = Duration::from_millis(100);

/// A listener that is wanted.
#[derive(Clone, Debug)]
pub struct ListenOptions {
    /// What it is called in messages and logs; the address where nothing is said.
    pub name: Option<String>,
    /// Where.
    pub address: Address,
    /// Permissions of a unix socket. Owner alone (0600), or owner and group (0660) where one is set.
    pub mode: Option<u32>,
    /// Group of a unix socket.
    pub group: Option<Group>,
    /// TLS of a TCP listener.
    pub tls: Option<ServerTls>,
    /// Where TCP may go without.
    pub plaintext: Plaintext,
    /// Who may call what.
    pub access: Access,
}

impl ListenOptions {
    /// A listener there, with nothing said about the rest.
    #[must_use]
    pub fn at(address: Address) -> Self {
        Self {
            name: None,
            address,
            mode: None,
            group: None,
            tls: None,
            plaintext: Plaintext::Loopback,
            access: Access::default(),
        }
    }
}

/// Where TCP may be spoken without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    /// On this machine.
    Loopback,
    /// Anywhere: the network is trusted (`--insecure`).
    Anywhere,
}

/// A listener that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The unix socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The port.
    #[error("{address}: {source}")]
    Tcp {
        /// Where.
        address: Address,
        /// Why.
        source: io::Error,
    },
    /// Everyone could build there.
    #[error(
        "{0} is reachable from elsewhere and has no TLS: give --tls-cert, --tls-key and --tls-client-ca, \
         listen on loopback, or say --insecure"
    )]
    Open(Address),
    /// TLS that a unix socket has no use for.
    #[error("{0}: TLS is for TCP listeners")]
    TlsOnUnix(Address),
    /// Permissions that only a unix socket has.
    #[error("{0}: mode and group are for unix sockets")]
    ModeOnTcp(Address),
    /// Its files.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

/// A listener that is open.
#[derive(Debug)]
pub struct Listener {
    name: Arc<str>,
    access: Arc<Access>,
    door: Door,
}

#[derive(Debug)]
enum Door {
    Unix(Socket),
    Plain(TcpListener),
    Tls { tcp: TcpListener, config: Reloaded<ServerConfig>, allow: Arc<[NamePattern]> },
}

/// Opens a listener.
///
/// # Errors
/// When it cannot be, or would let in more than was said.
pub async fn bind(options: ListenOptions) -> Result<Listener, ListenError> {
    let address = options.address;
    let name = options.name.unwrap_or_else(|| address.to_string()).into();
    let access = Arc::new(options.access);
    let (host, port) = match &address {
        Address::Unix(path) => {
            if options.tls.is_some() {
                return Err(ListenError::TlsOnUnix(address));
            }
            let socket = Socket::bind(path, options.mode, options.group.as_ref())?;
            return Ok(Listener { name, access, door: Door::Unix(socket) });
        }
        Address::Tcp { host, port } => (host.clone(), *port),
    };
    if options.mode.is_some() || options.group.is_some() {
        return Err(ListenError::ModeOnTcp(address));
    }
    let wrong = |source| ListenError::Tcp { address: address.clone(), source };
    let host = if host.is_empty() { "::".to_owned() } else { host };
    let tcp = TcpListener::bind((host.as_str(), port)).await.map_err(wrong)?;
    let local = tcp.local_addr().map_err(wrong)?;
    let door = match options.tls {
        Some(tls) => Door::Tls { tcp, config: tls.load().await?, allow: tls.allow.into() },
        None if local.ip().is_loopback() => Door::Plain(tcp),
        None => match options.plaintext {
            Plaintext::Anywhere => Door::Plain(tcp),
            Plaintext::Loopback => return Err(ListenError::Open(address)),
        },
    };
    Ok(Listener { name, access, door })
}

/// A client that is sent away before it has called anything.
#[derive(Debug, thiserror::Error)]
pub enum Stranger {
    /// It says nothing.
    #[error("it did not say who it is within {} s", HANDSHAKE.as_secs())]
    Slow,
    /// TLS failed: no certificate, a wrong one, an expired one.
    #[error("TLS: {0}")]
    Handshake(#[source] io::Error),
    /// It does not want HTTP/2.
    #[error("it does not speak HTTP/2 (ALPN)")]
    Protocol,
    /// It showed no certificate.
    #[error("it has no certificate")]
    NoCertificate,
    /// It showed one that says nothing clear.
    #[error(transparent)]
    Certificate(#[from] CertifiedError),
    /// It is somebody else.
    #[error("{0} is not on the list of clients")]
    NotAllowed(String),
    /// The kernel does not say.
    #[error("the system does not say who it is: {0}")]
    Credentials(#[source] io::Error),
}

/// A connection that was taken, and is yet to be known.
pub(in crate::gate) struct Arrival {
    way: Way,
    listener: Arc<str>,
}

enum Way {
    Unix(UnixStream),
    Plain(TcpStream, SocketAddr),
    Tls { tcp: TcpStream, config: Arc<ServerConfig>, allow: Arc<[NamePattern]> },
}

/// Says that a connection was ended by a fault of ours, where it was.
pub(super) fn whole(listener: &str, ended: Result<(), JoinError>) {
    if let Err(fault) = ended {
        tracing::error!(listener, "a client was cut off: {fault}");
    }
}

impl Listener {
    /// What it is called.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Who may call what here.
    pub(super) fn access(&self) -> Arc<Access> {
        Arc::clone(&self.access)
    }

    /// Where it listens: the port is known where 0 was asked for.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn address(&self) -> io::Result<Address> {
        match &self.door {
            Door::Unix(socket) => Ok(Address::Unix(socket.path().to_owned())),
            Door::Plain(tcp) | Door::Tls { tcp, .. } => {
                let local = tcp.local_addr()?;
                Ok(Address::Tcp { host: local.ip().to_string(), port: local.port() })
            }
        }
    }

    /// Serves each connection in a task of its own, until `stop` comes: then nobody is taken any more,
    /// and those that are still there are given back.
    pub(in crate::gate) async fn each<F>(
        self,
        stop: impl Future<Output = ()>,
        serve: impl Fn(Arrival) -> F,
    ) -> JoinSet<()>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut stop = std::pin::pin!(stop);
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                () = &mut stop => return connections,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    whole(&self.name, ended);
                }
                arrival = self.accept() => match arrival {
                    Ok(arrival) => {
                        connections.spawn(serve(arrival));
                    }
                    Err(error) => {
                        let listener = &*self.name;
                        tracing::error!(listener, "a connection could not be taken: {error}");
                        tokio::time::sleep(BREATH).await;
                    }
                },
            }
        }
    }

    /// Takes the next connection, without a word to it yet.
    pub(super) async fn accept(&self) -> io::Result<Arrival> {
        let way = match &self.door {
            Door::Unix(socket) => Way::Unix(socket.accept().await?),
            Door::Plain(tcp) => {
                let (tcp, from) = tcp.accept().await?;
                tune(&tcp)?;
                Way::Plain(tcp, from)
            }
            Door::Tls { tcp, config, allow } => {
                let (tcp, _) = tcp.accept().await?;
                tune(&tcp)?;
                Way::Tls { tcp, config: config.current(), allow: Arc::clone(allow) }
            }
        };
        Ok(Arrival { way, listener: Arc::clone(&self.name) })
    }
}

impl Arrival {
    /// Name of the listener that took it.
    pub(super) fn listener(&self) -> Arc<str> {
        Arc::clone(&self.listener)
    }

    /// Learns who it is.
    pub(in crate::gate) async fn greet(self) -> Result<(Io, Client), Stranger> {
        let (io, identity) = match self.way {
            Way::Unix(unix) => {
                let peer = unix.peer_cred().map_err(Stranger::Credentials)?;
                let identity = Identity::Unix { uid: peer.uid(), gid: peer.gid(), pid: peer.pid() };
                (Io::Unix(unix), identity)
            }
            Way::Plain(tcp, from) => (Io::Tcp(tcp), Identity::Plain { address: from.ip() }),
            Way::Tls { tcp, config, allow } => {
                let accepted = TlsAcceptor::from(config).accept(tcp);
                let tls = tokio::time::timeout(HANDSHAKE, accepted).await;
                let tls = tls.map_err(|_| Stranger::Slow)?.map_err(Stranger::Handshake)?;
                let (_, session) = tls.get_ref();
                // Buildx offers no protocol, and speaks HTTP/2. Who offers only others has failed already.
                if session.alpn_protocol().is_some_and(|agreed| agreed != ALPN) {
                    return Err(Stranger::Protocol);
                }
                let shown = session.peer_certificates().and_then(<[_]>::first);
                let certified = Certified::read(shown.ok_or(Stranger::NoCertificate)?)?;
                if !allow.is_empty() && !allow.iter().any(|name| name.matches(&certified)) {
                    return Err(Stranger::NotAllowed(certified.principal()));
                }
                let identity = Identity::Tls(Arc::new(certified));
                (Io::Tls(Box::new(TlsStream::Server(tls))), identity)
            }
        };
        static CONNECTIONS: AtomicU64 = AtomicU64::new(1);
        let connection = CONNECTIONS.fetch_add(1, Ordering::Relaxed);
        Ok((io, Client { identity, listener: self.listener, connection }))
    }
}
