//! TLS at both ends: certificates and keys as files, read again when they change, whole or not at all.
//!
//! A client is known by a certificate that was verified, or not at all: there is no TLS here without
//! client certificates, and no resumed session that would skip their verification.

mod names;
mod reload;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

pub use names::{Certified, CertifiedError, NamePattern, NamePatternError};
pub use reload::Reloaded;

/// The one protocol we speak inside (RFC 9113, section 3.2).
pub const ALPN: &[u8] = b"h2";

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// TLS of a listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Our certificate and those between it and its root, PEM.
    pub cert: PathBuf,
    /// Its key, PEM.
    pub key: PathBuf,
    /// Who signs the certificates of clients, PEM.
    pub client_ca: PathBuf,
    /// Which clients are let in. Where it is empty, all whom the authority signed.
    pub allow: Vec<NamePattern>,
}

/// TLS to an upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// Who signs the upstream's certificate, PEM.
    pub ca: PathBuf,
    /// Our certificate, where the upstream wants one.
    pub pair: Option<Pair>,
    /// The name that its certificate must have, where it is not the address's host.
    pub server_name: Option<String>,
}

/// A certificate and its key, PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate and those between it and its root.
    pub cert: PathBuf,
    /// The key.
    pub key: PathBuf,
}

/// Files that TLS cannot be made of.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file that cannot be read.
    #[error("{}: {source}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file that is not what it should be.
    #[error("{}: no PEM of {what}: {source}", file.display())]
    Pem {
        /// Which.
        file: PathBuf,
        /// What it should hold.
        what: &'static str,
        /// Why.
        source: rustls_pki_types::pem::Error,
    },
    /// A file without a certificate.
    #[error("{}: holds no certificate", .0.display())]
    Empty(PathBuf),
    /// An authority that cannot be one.
    #[error("{}: no certificate of an authority: {source}", file.display())]
    Authority {
        /// Which.
        file: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// Client certificates cannot be verified with that.
    #[error("the authority of client certificates: {0}")]
    Verifier(#[from] rustls::server::VerifierBuilderError),
    /// Certificate and key do not go together, or are no good.
    #[error("{} and its key: {source}", file.display())]
    Pair {
        /// The certificate.
        file: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// TLS itself.
    #[error("TLS cannot be set up: {0}")]
    Setup(#[source] rustls::Error),
}

/// A file and what it held.
struct Loaded<'a> {
    file: &'a Path,
    bytes: &'a [u8],
}

impl ServerTls {
    /// Loads it now, and again whenever a file changes.
    ///
    /// # Errors
    /// When it is no good now. Later, the last good one stays.
    pub async fn load(&self) -> Result<Reloaded<ServerConfig>, TlsError> {
        let files = vec![self.cert.clone(), self.key.clone(), self.client_ca.clone()];
        Reloaded::start(files, LOOK, |loaded| match loaded {
            [cert, key, ca] => server_config(cert, key, ca),
            _ => Err(TlsError::Setup(rustls::Error::General("files are missing".to_owned()))),
        })
        .await
    }
}

impl ClientTls {
    /// Loads it now, and again whenever a file changes.
    ///
    /// # Errors
    /// When it is no good now. Later, the last good one stays.
    pub async fn load(&self) -> Result<Reloaded<ClientConfig>, TlsError> {
        let mut files = vec![self.ca.clone()];
        if let Some(pair) = &self.pair {
            files.extend([pair.cert.clone(), pair.key.clone()]);
        }
        Reloaded::start(files, LOOK, |loaded| match loaded {
            [ca] => client_config(ca, None),
            [ca, cert, key] => client_config(ca, Some((cert, key))),
            _ => Err(TlsError::Setup(rustls::Error::General("files are missing".to_owned()))),
        })
        .await
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn server_config(
    cert: &Loaded<'_>,
    key: &Loaded<'_>,
    ca: &Loaded<'_>,
) -> Result<ServerConfig, TlsError> {
    let roots = Arc::new(roots(ca)?);
    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(cert)?, private_key(key)?)
        .map_err(|source| TlsError::Pair { file: cert.file.to_owned(), source })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would let in whoever was let in once, expired or not.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

fn client_config(
    ca: &Loaded<'_>,
    pair: Option<(&Loaded<'_>, &Loaded<'_>)>,
) -> Result<ClientConfig, TlsError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(TlsError::Setup)?
        .with_root_certificates(roots(ca)?);
    let mut config =
        match pair {
            None => config.with_no_client_auth(),
            Some((cert, key)) => config
                .with_client_auth_cert(certificates(cert)?, private_key(key)?)
                .map_err(|source| TlsError::Pair { file: cert.file.to_owned(), source })?,
        };
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(config)
}

fn roots(ca: &Loaded<'_>) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(ca)? {
        store
            .add(certificate)
            .map_err(|source| TlsError::Authority { file: ca.file.to_owned(), source })?;
    }
    Ok(store)
}

fn certificates(loaded: &Loaded<'_>) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(loaded.bytes).collect();
    let found = found.map_err(|source| loaded.no_pem("certificates", source))?;
    if found.is_empty() { Err(TlsError::Empty(loaded.file.to_owned())) } else { Ok(found) }
}

fn private_key(loaded: &Loaded<'_>) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(loaded.bytes)
        .map_err(|source| loaded.no_pem("a private key", source))
}

impl Loaded<'_> {
    fn no_pem(&self, what: &'static str, source: rustls_pki_types::pem::Error) -> TlsError {
        TlsError::Pem { file: self.file.to_owned(), what, source }
    }
}
