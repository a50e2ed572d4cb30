//! Which certificates a registry or download server may show: the system's, and those of a file.

use std::path::Path;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

/// Certificates that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file with certificates cannot be read.
    #[error("cannot read the CA file {path}: {source}")]
    CaFile {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no certificate, or something that is none.
    #[error("the CA file {path} holds no usable PEM certificate")]
    NoCertificate {
        /// Its path.
        path: String,
    },
    /// The library refuses its own defaults.
    #[error("cannot set up TLS: {0}")]
    Setup(#[from] rustls::Error),
}

/// Trusts what the system trusts, and the certificates of `ca_file`.
///
/// # Errors
/// When the file cannot be used.
pub(crate) fn client(ca_file: Option<&Path>) -> Result<ClientConfig, TlsError> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    for error in &system.errors {
        tracing::debug!(%error, "a system certificate cannot be read");
    }
    roots.add_parsable_certificates(system.certs);
    if let Some(path) = ca_file {
        add_file(&mut roots, path)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn add_file(roots: &mut RootCertStore, path: &Path) -> Result<(), TlsError> {
    let shown = path.display().to_string();
    let unusable = || TlsError::NoCertificate { path: shown.clone() };
    let pem =
        std::fs::read(path).map_err(|source| TlsError::CaFile { path: shown.clone(), source })?;
    let mut found = false;
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        roots.add(certificate.map_err(|_| unusable())?).map_err(|_| unusable())?;
        found = true;
    }
    if found { Ok(()) } else { Err(unusable()) }
}
