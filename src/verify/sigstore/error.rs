//! Why a Sigstore signature does not hold, and why a trust root is of no use.

use jiff::Timestamp;
use sigstore_verify::Error as Refusal;

use crate::verify::error::{CouldNot, Invalid, NotVerified};

/// Why a bundle or a simple signing signature does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SigstoreInvalid {
    /// The signature is not the key's over what is signed.
    #[error("the signature does not match: {why}")]
    Signature {
        /// What is wrong with it.
        why: String,
    },
    /// It signs something else.
    #[error("it is about something else: {why}")]
    Subject {
        /// What it is about, and what was wanted.
        why: String,
    },
    /// The certificate is not good for this signature.
    #[error("the signer's certificate is not accepted by trust root {root}: {why}")]
    Certificate {
        /// Name of the trust root.
        root: String,
        /// Why not.
        why: String,
    },
    /// No log of the trust root vouches for it.
    #[error("the transparency log of trust root {root} does not vouch for it: {why}")]
    Log {
        /// Name of the trust root.
        root: String,
        /// Why not.
        why: String,
    },
    /// No timestamp authority or log says when it was made.
    #[error("no trusted time of trust root {root} says when it was made: {why}")]
    Time {
        /// Name of the trust root.
        root: String,
        /// Why not.
        why: String,
    },
    /// One of these, and not for good: a time that it goes by has not come yet.
    #[error("{because}")]
    NotYet {
        /// Why it does not hold now.
        because: Box<Self>,
        /// When that may be otherwise, in seconds since 1970.
        from: i64,
    },
    /// Somebody else signed.
    #[error("it was signed by {found}, not by {wanted}")]
    Identity {
        /// Who was wanted.
        wanted: String,
        /// Who signed.
        found: String,
    },
    /// It was built from something else.
    #[error("it was built from {found:?}, not from {wanted:?}")]
    Repository {
        /// The repository that was wanted.
        wanted: String,
        /// The repository that its certificate names.
        found: String,
    },
    /// Another place vouched for who signed.
    #[error("{found:?} vouched for who signed it, not {wanted:?}")]
    Issuer {
        /// Who was to vouch.
        wanted: String,
        /// Who did.
        found: String,
    },
    /// It states something else.
    #[error("its predicate type is {found:?}; accepted are {wanted}")]
    PredicateType {
        /// What it states.
        found: String,
        /// What would be accepted.
        wanted: String,
    },
    /// A key made it where a certificate is wanted, or the other way round.
    #[error("it was made with {found}, and {wanted} is wanted")]
    Material {
        /// What made it, with an article.
        found: &'static str,
        /// What is wanted, with an article.
        wanted: &'static str,
    },
}

/// A trust root that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustRootError {
    /// More bytes than are read.
    #[error("trust root {name} has {size} bytes; at most {limit} are read")]
    TooLarge {
        /// Its name.
        name: String,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// It cannot be read, or something in it cannot be trusted.
    #[error("trust root {name} cannot be read: {why}")]
    Malformed {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// It has expired.
    #[error(
        "trust root {name} expired at {}; refresh it (buildgate trust update --output FILE)",
        moment(*.at)
    )]
    Expired {
        /// Its name.
        name: String,
        /// When, in seconds since 1970.
        at: i64,
    },
    /// It was fetched later than now: one of the clocks is wrong.
    #[error("trust root {name} was fetched at {}, which is in the future", moment(*.at))]
    Future {
        /// Its name.
        name: String,
        /// When, in seconds since 1970.
        at: i64,
    },
    /// There is none of that name.
    #[error("there is no trust root {name:?}; known are {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// Two of one name.
    #[error("there are two trust roots {name:?}")]
    Twice {
        /// Their name.
        name: String,
    },
}

/// A moment for people.
pub(super) fn moment(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

/// Most characters of what a stranger wrote that an error repeats.
const MAX_QUOTED: usize = 300;

/// A text of a stranger, cut where it is longer than anybody would read.
pub(super) fn clipped(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED) {
        Some((at, _)) => format!("{}…", text.get(..at).unwrap_or_default()),
        None => text.to_owned(),
    }
}

pub(super) fn malformed(why: impl ToString) -> NotVerified {
    Invalid::Malformed { why: clipped(&why.to_string()) }.into()
}

pub(super) fn unsupported(what: impl Into<String>, instead: &'static str) -> NotVerified {
    CouldNot::Unsupported { what: clipped(&what.into()), instead }.into()
}

const ALGORITHMS: &str = "ECDSA on P-256 and P-384, Ed25519 and RSA from 2048 bits are";
const BUNDLES: &str =
    "Sigstore bundles v0.1 to v0.3 with in-toto statements or message signatures are";

/// What the verifier's refusal means, by trust root `root`.
pub(super) fn refused(refusal: &Refusal, root: &str) -> NotVerified {
    let why = clipped(&refusal.to_string());
    let root = root.to_owned();
    let invalid = match refusal {
        Refusal::SignatureInvalid(_) => SigstoreInvalid::Signature { why },
        Refusal::ArtifactMismatch(_) => SigstoreInvalid::Subject { why },
        Refusal::Certificate(_) => SigstoreInvalid::Certificate { root, why },
        Refusal::TransparencyLog(_) => SigstoreInvalid::Log { root, why },
        Refusal::Timestamp(_) => SigstoreInvalid::Time { root, why },
        Refusal::IdentityMismatch { .. } | Refusal::IssuerMismatch { .. } => {
            SigstoreInvalid::Certificate { root, why }
        }
        Refusal::Crypto(sigstore_crypto::Error::UnsupportedAlgorithm(what)) => {
            return unsupported(what, ALGORITHMS);
        }
        Refusal::UnsupportedBundle(what) | Refusal::UnsupportedArtifact(what) => {
            return unsupported(what, BUNDLES);
        }
        Refusal::InvalidTrustRoot(_) | Refusal::TrustRoot(_) | Refusal::TrustedCertificate(_) => {
            return CouldNot::TrustRoot(TrustRootError::Malformed { name: root, why }).into();
        }
        Refusal::InvalidBundle(_)
        | Refusal::Types(_)
        | Refusal::Crypto(_)
        | Refusal::Bundle(_)
        | Refusal::ArtifactRead(_) => return malformed(why),
        // The enum may grow; what is not known is not an answer.
        _ => return unsupported(why, BUNDLES),
    };
    Invalid::Sigstore(invalid).into()
}
