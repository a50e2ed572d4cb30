//! What was verified. Nothing outside this folder can make one.

use bytes::Bytes;

use super::error::{SigstoreInvalid, clipped};
use super::log::Lasting;
use super::signed::{
    AttestationSignature, SignatureKind, SignatureType, SignerInfo, TrustedTimestamp,
};

/// A signature that was verified. There is no other way to come by one.
///
/// ```
/// fn signer(proof: &buildgate::verify::sigstore::VerifiedSignature) -> bool {
///     proof.signer().is_some()
/// }
/// ```
///
/// ```compile_fail
/// fn forged(proof: &buildgate::verify::sigstore::VerifiedSignature) {
///     let buildgate::verify::sigstore::VerifiedSignature { signer, .. } = proof;
/// }
/// ```
///
/// ```compile_fail
/// let forged = <buildgate::verify::sigstore::VerifiedSignature as Default>::default();
/// ```
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub struct VerifiedSignature {
    pub(super) signature_type: SignatureType,
    pub(super) kind: SignatureKind,
    pub(super) signer: Option<SignerInfo>,
    pub(super) key: Option<String>,
    pub(super) timestamps: Vec<TrustedTimestamp>,
    pub(super) payload: Option<Bytes>,
    pub(super) statement: Option<Statement>,
    pub(super) docker_reference: String,
    pub(super) is_dhi: bool,
    pub(super) trust_root: Option<String>,
    /// Logs that must be in force whenever it is relied upon, because no time is known at which they were.
    pub(super) lasting: Vec<Lasting>,
}

/// An in-toto statement that was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// What it states, a URI.
    pub predicate_type: String,
    /// What it is about.
    pub subjects: Vec<Subject>,
    /// The predicate's JSON as it was signed; empty where there is none.
    pub predicate: Bytes,
}

/// What a statement is about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// Its name, as whoever signed calls it.
    pub name: String,
    /// Its digests: algorithm and lower-case hex.
    pub digests: Vec<(String, String)>,
}

/// Who must have signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// The certificate's subject, exactly: an email address or a URI.
    pub subject: String,
    /// Who vouched for it, exactly: the OIDC issuer's URL.
    pub issuer: String,
}

impl VerifiedSignature {
    /// The format of the signature.
    pub const fn signature_type(&self) -> SignatureType {
        self.signature_type
    }

    /// Who stands behind it, by Docker's names.
    pub const fn kind(&self) -> SignatureKind {
        self.kind
    }

    /// What the certificate says of who signed; `None` for a key.
    pub const fn signer(&self) -> Option<&SignerInfo> {
        self.signer.as_ref()
    }

    /// SHA-256 of the key that signed, `SHA256:` and hex of its DER; `None` for a certificate.
    pub fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// Trusted times at which the signature existed.
    pub fn timestamps(&self) -> &[TrustedTimestamp] {
        &self.timestamps
    }

    /// What was signed, where the signature came with it: a statement, or a simple signing payload.
    pub const fn payload(&self) -> Option<&Bytes> {
        self.payload.as_ref()
    }

    /// The statement that was signed; `None` where no statement was.
    pub const fn statement(&self) -> Option<&Statement> {
        self.statement.as_ref()
    }

    /// The image's name as a simple signing payload has it; it is the signer's word.
    pub fn docker_reference(&self) -> &str {
        &self.docker_reference
    }

    /// Whether Docker Hardened Images' key made it.
    pub const fn is_dhi(&self) -> bool {
        self.is_dhi
    }

    /// Name of the trust root that it was verified by, where one was needed.
    pub fn trust_root(&self) -> Option<&str> {
        self.trust_root.as_deref()
    }

    /// Whether an identity made it.
    ///
    /// # Errors
    /// When another one did, or a key.
    pub fn is_by(&self, wanted: &Identity) -> Result<(), SigstoreInvalid> {
        let Some(signer) = &self.signer else {
            return Err(SigstoreInvalid::Material { found: "a key", wanted: "a certificate" });
        };
        if signer.subject_alternative_name == wanted.subject && signer.issuer == wanted.issuer {
            return Ok(());
        }
        let person = |subject: &str, issuer: &str| format!("{subject:?} of {issuer:?}");
        Err(SigstoreInvalid::Identity {
            wanted: person(&wanted.subject, &wanted.issuer),
            found: person(&signer.subject_alternative_name, &signer.issuer),
        })
    }

    /// Whether its certificate says that it was built from the repository of this URL, and whether
    /// `issuer` vouched for that: an authority puts into its certificates what issuers say of their own
    /// places, and a repository's name is a name at its issuer alone. GitHub's names differ in more than
    /// the case of their letters.
    ///
    /// # Errors
    /// When it was built from another one, another issuer says so, or a key made it.
    pub fn is_built_from(&self, wanted: &str, issuer: &str) -> Result<(), SigstoreInvalid> {
        let Some(signer) = &self.signer else {
            return Err(SigstoreInvalid::Material { found: "a key", wanted: "a certificate" });
        };
        if signer.issuer != issuer {
            let found = clipped(&signer.issuer);
            return Err(SigstoreInvalid::Issuer { wanted: issuer.to_owned(), found });
        }
        if signer.source_repository_uri.eq_ignore_ascii_case(wanted) {
            return Ok(());
        }
        let found = clipped(&signer.source_repository_uri);
        Err(SigstoreInvalid::Repository { wanted: wanted.to_owned(), found })
    }

    /// Its statement, of one of these predicate types.
    ///
    /// # Errors
    /// When it states something else, or nothing.
    pub fn states(&self, wanted: &[&str]) -> Result<&Statement, SigstoreInvalid> {
        let found = self.statement.as_ref();
        found.filter(|it| wanted.contains(&it.predicate_type.as_str())).ok_or_else(|| {
            SigstoreInvalid::PredicateType {
                found: found.map(|it| clipped(&it.predicate_type)).unwrap_or_default(),
                wanted: wanted.join(", "),
            }
        })
    }

    /// As rules see it in `input.image.signatures`.
    pub fn document(&self) -> AttestationSignature {
        AttestationSignature::of(self)
    }
}
