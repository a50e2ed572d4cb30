//! Signatures: who made something, by cryptography and keys that the policy brought along.
//!
//! Every verification ends in one of three ways that are never mixed up: a [`VerifiedSigner`], which
//! only this module can make; [`NotVerified::Absent`] or [`NotVerified::Invalid`], answers about the
//! object; or [`NotVerified::CouldNot`], which is no answer at all. Nothing here reads a file, asks
//! the network or looks at a clock: bytes and the time come as arguments.
//!
//! Time is judged strictly, because whoever holds a stolen key also chooses the date in what is
//! signed: keys must be valid *now* and when the signature says it was made, and nothing may be
//! dated later than [`CLOCK_SKEW`] from now.

mod armor;
pub mod chain;
mod clock;
mod error;
mod git;
mod keys;
mod openpgp;
mod signers;
pub mod sigstore;
mod ssh;
#[cfg(test)]
mod tests;
mod trust;

pub use self::error::{CouldNot, Invalid, KeyFileError, NotVerified};
pub use self::git::{ObjectFormat, verify_git};
pub use self::keys::{KeyFile, MAX_KEY_FILE};
pub use self::openpgp::{DetachedSignature, Keyring, MAX_SIGNATURE};
pub use self::signers::SignerCache;
pub use self::ssh::{AllowedSigner, AllowedSigners};
pub use self::trust::{Github, GithubError, Trust};

/// How far clocks may differ, in seconds.
pub const CLOCK_SKEW: i64 = 300;

/// Whoever made a signature that was verified. There is no other way to come by one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct VerifiedSigner {
    key: SigningKey,
    made: Option<i64>,
}

/// The key that made a signature.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SigningKey {
    /// An OpenPGP key.
    OpenPgp {
        /// Fingerprint of its primary key, in lower-case hex.
        primary: String,
        /// Fingerprint of the key itself: the primary key or a subkey of it.
        fingerprint: String,
    },
    /// An SSH key.
    Ssh {
        /// `SHA256:…`
        fingerprint: String,
        /// Principals that the key file names for it, as written; empty for a plain public key.
        principals: String,
    },
}

impl VerifiedSigner {
    /// The key that signed.
    pub const fn key(&self) -> &SigningKey {
        &self.key
    }

    /// When the signature says it was made, in seconds since 1970; SSH signatures do not say.
    pub const fn made(&self) -> Option<i64> {
        self.made
    }
}
