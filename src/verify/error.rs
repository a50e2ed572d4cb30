//! Why something is not verified, in words for people.

use jiff::Timestamp;

use super::sigstore::{SigstoreInvalid, TrustRootError};

/// A verification that ended without a signer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotVerified {
    /// There is no signature.
    #[error("it is not signed")]
    Absent,
    /// There is a signature, and it does not hold.
    #[error("its signature is not valid: {0}")]
    Invalid(#[from] Invalid),
    /// Whether it holds cannot be told.
    #[error("its signature could not be verified: {0}")]
    CouldNot(#[from] CouldNot),
}

/// Why a signature does not hold. A key is named by its fingerprint or key id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// It cannot be read.
    #[error("it cannot be read: {why}")]
    Malformed {
        /// What is wrong with it.
        why: String,
    },
    /// None of the keys made it.
    #[error("it was made by key {key}, which is not in the key file")]
    UnknownKey {
        /// The key that it names.
        key: String,
    },
    /// It is of another kind than the keys.
    #[error("it is {signature} signature, and the key file holds {keys} keys")]
    OtherKind {
        /// What it is, with an article.
        signature: &'static str,
        /// What the keys are.
        keys: &'static str,
    },
    /// What was signed is something else, or the signature was altered.
    #[error("key {key} did not sign this content")]
    Mismatch {
        /// The key.
        key: String,
    },
    /// Its hash algorithm is too weak.
    #[error("it uses {hash}; only SHA-256, SHA-384 and SHA-512 are accepted")]
    Hash {
        /// The algorithm.
        hash: String,
    },
    /// The key is too short.
    #[error("RSA key {key} has {bits} bits; at least 2048 are needed")]
    ShortKey {
        /// The key.
        key: String,
        /// Its length.
        bits: usize,
    },
    /// The key expired.
    #[error("key {key} expired at {}", at(*.since))]
    KeyExpired {
        /// The key.
        key: String,
        /// When, in seconds since 1970.
        since: i64,
    },
    /// The key was revoked.
    #[error("key {key} was revoked{}", because(.reason))]
    KeyRevoked {
        /// The key.
        key: String,
        /// What its owner said about it.
        reason: String,
    },
    /// The key is not valid yet, or was made after the signature.
    #[error("key {key} is valid only from {}", at(*.from))]
    KeyTooYoung {
        /// The key.
        key: String,
        /// When, in seconds since 1970.
        from: i64,
    },
    /// Nothing that is in force makes the key one that may sign.
    #[error("key {key} may not sign: {why}")]
    NotForSigning {
        /// The key.
        key: String,
        /// Why.
        why: &'static str,
    },
    /// What its owner says of the key cannot be obeyed.
    #[error("key {key} may not sign: what its owner says of it is not valid: {why}")]
    NotUnderstood {
        /// The key.
        key: String,
        /// What cannot be.
        why: String,
    },
    /// It expired.
    #[error("it expired at {}", at(*.since))]
    Expired {
        /// When, in seconds since 1970.
        since: i64,
    },
    /// It is dated in the future.
    #[error("it is dated in the future: {}", at(*.made))]
    Future {
        /// When, in seconds since 1970.
        made: i64,
    },
    /// It signs something else than git objects.
    #[error("its namespace is {namespace:?}, not \"git\"")]
    Namespace {
        /// What it was made for.
        namespace: String,
    },
    /// The key file allows its key for something else.
    #[error(
        "the key file does not allow key {key} to sign git objects (namespaces={namespaces:?})"
    )]
    NotAllowed {
        /// The key.
        key: String,
        /// What the key file allows it for.
        namespaces: String,
    },
    /// The key file allows its key for nobody.
    #[error("the key file's principals of key {key} are nobody's: {principals:?}")]
    NoPrincipal {
        /// The key.
        key: String,
        /// What stands where its principals do.
        principals: String,
    },
    /// The attestations do not lead from the image to its signature.
    #[error("the chain of attestations is broken: {why}")]
    Chain {
        /// Where.
        why: String,
    },
    /// A Sigstore signature that does not hold.
    #[error(transparent)]
    Sigstore(#[from] SigstoreInvalid),
}

/// Why it cannot be told whether a signature holds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CouldNot {
    /// The keys cannot be read.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// The trust root cannot be used.
    #[error(transparent)]
    TrustRoot(#[from] TrustRootError),
    /// Something that it needs was not given to us.
    #[error("{what} was not returned")]
    Missing {
        /// What was not.
        what: String,
    },
    /// There is more of it than is looked at.
    #[error("{what}: more is not looked at")]
    TooMuch {
        /// How much there is, and how much is looked at.
        what: String,
    },
    /// An algorithm or format that is not supported.
    #[error("{what} is not supported; {instead}")]
    Unsupported {
        /// What is not.
        what: String,
        /// What is.
        instead: &'static str,
    },
}

/// A key file that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileError {
    /// More bytes than are read.
    #[error("the key file has {size} bytes; at most {limit} are read")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Nothing in it is a key.
    #[error("the key file holds no public key: neither OpenPGP's, armored or binary, nor SSH's")]
    NoKeys,
    /// It holds a key that must not be there.
    #[error("the key file holds a private key; export the public one (gpg --armor --export KEY)")]
    PrivateKey,
    /// Nothing in it is a public key in PEM.
    #[error("the key file holds no public key: no -----BEGIN PUBLIC KEY-----")]
    NoPublicKey,
    /// It holds more than one block.
    #[error("the key file holds more than one PEM block; one public key is wanted")]
    ManyPublicKeys,
    /// Its public key cannot be used.
    #[error("the key file's public key cannot be used: {why}")]
    PublicKey {
        /// Why.
        why: String,
    },
    /// OpenPGP's part of it cannot be read.
    #[error("the key file cannot be read: {why}")]
    OpenPgp {
        /// Why.
        why: String,
    },
    /// A line of SSH keys cannot be read.
    #[error("line {line} of the key file cannot be read: {why}")]
    Line {
        /// Which, from one.
        line: usize,
        /// Why.
        why: String,
    },
}

/// A moment for people.
fn at(seconds: i64) -> String {
    Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(" ({reason})") }
}
