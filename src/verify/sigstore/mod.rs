//! Sigstore: bundles and cosign's simple signing, keyless and with keys, by trust roots at hand.
//!
//! Nothing here asks the network: trust roots, keys, signatures and the time come as arguments. A
//! [`VerifiedSignature`] is what only [`verify_bundle`] and [`verify_simple_signing`] make.
//!
//! What a trust root names decides what a keyless signature must bring: a signed certificate
//! timestamp where the root names a certificate transparency log, an entry of the log where it names
//! a log, and always a trusted time at which the certificate was valid.
//!
//! The certificate's own clock is never asked: a Fulcio certificate lives for minutes, and counts at
//! the moment that a log or a timestamp authority vouches for. There is no revocation in Sigstore:
//! who is no longer trusted is taken out of the trust root, which has an expiry for that reason.

mod alone;
mod bundle;
mod cache;
mod error;
mod key;
mod kind;
mod log;
mod proof;
mod provider;
mod root;
mod signed;
mod signer;
mod simple;
#[cfg(test)]
pub(crate) mod tests;
mod time;
mod windows;

pub use self::bundle::{MAX_BUNDLE, verify_bundle};
pub(in crate::verify) use self::cache::Generations;
pub use self::cache::VerificationCache;
pub use self::error::{SigstoreInvalid, TrustRootError};
pub use self::key::{HardenedKey, MAX_PUBLIC_KEY, PublicKey};
pub use self::proof::{Identity, Statement, Subject, VerifiedSignature};
pub use self::provider::install as use_our_algorithms;
pub use self::root::{
    EMBEDDED, MAX_TRUST_ROOT, Origin, TrustRoot, TrustRoots, UpdatedRoot, Versions, Vouched,
};
pub use self::signed::{
    AttestationSignature, SignatureKind, SignatureType, SignerInfo, TrustedTimestamp,
};
pub use self::simple::{MAX_ANNOTATION, MAX_PAYLOAD, SimpleSigning, verify_simple_signing};

use super::error::{CouldNot, NotVerified};

/// What was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Artifact<'a> {
    /// Something by its digest, `sha256:…` (or `sha512:…`).
    Digest(&'a str),
    /// The thing itself.
    Bytes(&'a [u8]),
}

/// Whose signature is looked for.
#[derive(Clone, Copy, Debug)]
pub enum Signer<'a> {
    /// Whoever holds a certificate of the trust root; [`VerifiedSignature::is_by`] tells who.
    Keyless(&'a TrustRoot),
    /// Who holds the key.
    Key(&'a PublicKey, Log<'a>),
    /// Docker Hardened Images, by their key; a log entry is checked where there is one.
    DockerHardenedImages(&'a TrustRoot, &'a HardenedKey),
}

impl Signer<'_> {
    /// The trust root that it is verified by, where there is one.
    const fn root(&self) -> Option<&TrustRoot> {
        match self {
            Self::Keyless(root)
            | Self::DockerHardenedImages(root, _)
            | Self::Key(_, Log::Required(root) | Log::WherePresent(root)) => Some(root),
            Self::Key(_, Log::Ignored) => None,
        }
    }

    /// An expired trust root verifies nothing.
    fn usable(&self, now: i64) -> Result<(), NotVerified> {
        match self.root() {
            Some(root) => root.usable(now).map_err(|error| CouldNot::TrustRoot(error).into()),
            None => Ok(()),
        }
    }
}

/// What a signature with a key needs of a transparency log.
#[derive(Clone, Copy, Debug)]
pub enum Log<'a> {
    /// An entry in a log of the trust root.
    Required(&'a TrustRoot),
    /// Nothing; an entry that is there must hold by the trust root.
    WherePresent(&'a TrustRoot),
    /// Nothing; entries and timestamps are passed over, and vouch for no time.
    Ignored,
}
