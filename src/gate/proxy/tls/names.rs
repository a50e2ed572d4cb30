//! What a verified certificate says of its holder, and the names that are let in.

use std::fmt;
use std::str::FromStr;

use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_cert::Certificate;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// What a certificate that was verified says of its holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certified {
    spiffe: Option<String>,
    dns: Vec<String>,
    subject: String,
    fingerprint: String,
}

/// A certificate whose names cannot be relied on. Whoever shows it is sent away.
#[derive(Debug, thiserror::Error)]
pub enum CertifiedError {
    /// Not the certificate of anyone.
    #[error("the client's certificate cannot be read: {0}")]
    Malformed(#[from] x509_cert::der::Error),
    /// A workload has one SPIFFE id (X.509-SVID, section 2).
    #[error("the client's certificate has more than one SPIFFE id")]
    ManyIds,
    /// Nothing to know it by.
    #[error("the client's certificate has no name")]
    Nameless,
}

impl Certified {
    /// Reads the names of a certificate that was verified already.
    ///
    /// # Errors
    /// When it says nothing, or more than one thing.
    pub fn read(certificate: &CertificateDer<'_>) -> Result<Self, CertifiedError> {
        let parsed = Certificate::from_der(certificate)?;
        let (mut ids, mut dns) = (Vec::new(), Vec::new());
        if let Some((_, names)) = parsed.tbs_certificate.get::<SubjectAltName>()? {
            for name in names.0 {
                match name {
                    GeneralName::UniformResourceIdentifier(uri) => {
                        ids.extend(
                            Some(uri.to_string()).filter(|uri| uri.starts_with("spiffe://")),
                        );
                    }
                    GeneralName::DnsName(name) => dns.push(name.as_str().to_ascii_lowercase()),
                    GeneralName::OtherName(_)
                    | GeneralName::Rfc822Name(_)
                    | GeneralName::DirectoryName(_)
                    | GeneralName::EdiPartyName(_)
                    | GeneralName::IpAddress(_)
                    | GeneralName::RegisteredId(_) => {}
                }
            }
        }
        dns.sort();
        dns.dedup();
        let subject = parsed.tbs_certificate.subject.to_string();
        if ids.len() > 1 {
            return Err(CertifiedError::ManyIds);
        }
        if ids.is_empty() && dns.is_empty() && subject.is_empty() {
            return Err(CertifiedError::Nameless);
        }
        let fingerprint = hex::encode(Sha256::digest(certificate));
        Ok(Self { spiffe: ids.pop(), dns, subject, fingerprint })
    }

    /// Its SPIFFE id (a URI among its alternative names).
    #[must_use]
    pub fn spiffe(&self) -> Option<&str> {
        self.spiffe.as_deref()
    }

    /// Its DNS names, in lower case, sorted.
    #[must_use]
    pub fn dns(&self) -> &[String] {
        &self.dns
    }

    /// Its subject, as RFC 4514 writes it.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// SHA-256 of the certificate, in hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What its holder is known by: the SPIFFE id, else the DNS names, else the subject.
    #[must_use]
    pub fn principal(&self) -> String {
        match &self.spiffe {
            Some(id) => id.clone(),
            None if self.dns.is_empty() => format!("subject:{}", self.subject),
            None => format!("dns:{}", self.dns.join(",")),
        }
    }
}

/// Which certificates are meant: `spiffe://domain/path` (`spiffe://domain/team/*` for all below),
/// `dns:name` (a name among the alternative names), `subject:CN=…` (the whole subject).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamePattern {
    /// This SPIFFE id.
    Spiffe(String),
    /// Every SPIFFE id that begins so; it ends in a slash.
    SpiffeBelow(String),
    /// This DNS name.
    Dns(String),
    /// This subject.
    Subject(String),
}

/// What is no name of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}: a certificate is named spiffe://domain/path, spiffe://domain/* (all below), dns:name or subject:…"
)]
pub struct NamePatternError(String);

impl NamePattern {
    /// Whether the certificate is meant.
    #[must_use]
    pub fn matches(&self, certified: &Certified) -> bool {
        match self {
            Self::Spiffe(id) => certified.spiffe() == Some(id),
            Self::SpiffeBelow(prefix) => certified
                .spiffe()
                .is_some_and(|id| id.len() > prefix.len() && id.starts_with(prefix)),
            Self::Dns(name) => certified.dns.contains(name),
            Self::Subject(subject) => certified.subject == *subject,
        }
    }
}

impl FromStr for NamePattern {
    type Err = NamePatternError;

    fn from_str(text: &str) -> Result<Self, NamePatternError> {
        let no = || NamePatternError(text.to_owned());
        if let Some(rest) = text.strip_prefix("spiffe://") {
            let (whole, below) = match rest.strip_suffix("/*") {
                Some(whole) => (whole, true),
                None => (rest, false),
            };
            if whole.is_empty() || whole.starts_with('/') || whole.contains('*') {
                return Err(no());
            }
            return Ok(if below {
                Self::SpiffeBelow(format!("spiffe://{whole}/"))
            } else {
                Self::Spiffe(text.to_owned())
            });
        }
        match text.split_once(':') {
            Some(("dns", name)) if !name.is_empty() && !name.contains(['*', ' ']) => {
                Ok(Self::Dns(name.to_ascii_lowercase()))
            }
            Some(("subject", name)) if !name.is_empty() => Ok(Self::Subject(name.to_owned())),
            Some(_) | None => Err(no()),
        }
    }
}

impl fmt::Display for NamePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => f.write_str(id),
            Self::SpiffeBelow(prefix) => write!(f, "{prefix}*"),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Subject(subject) => write!(f, "subject:{subject}"),
        }
    }
}
