//! Digests as text (`sha256:…`), and hashing while bytes stream by.

use sha2::{Digest as _, Sha256, Sha384, Sha512};

use crate::meta::ChecksumAlgorithm;

/// A hash under way.
#[derive(Clone)]
pub(crate) enum Hasher {
    Sha256(Sha256),
    Sha384(Sha384),
    Sha512(Sha512),
}

impl Hasher {
    /// A hash of nothing yet.
    pub(crate) fn new(algorithm: ChecksumAlgorithm) -> Self {
        match algorithm {
            ChecksumAlgorithm::Sha256 => Hasher::Sha256(Sha256::new()),
            ChecksumAlgorithm::Sha384 => Hasher::Sha384(Sha384::new()),
            ChecksumAlgorithm::Sha512 => Hasher::Sha512(Sha512::new()),
        }
    }

    /// Adds `bytes`.
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        match self {
            Hasher::Sha256(hash) => hash.update(bytes),
            Hasher::Sha384(hash) => hash.update(bytes),
            Hasher::Sha512(hash) => hash.update(bytes),
        }
    }

    /// `algorithm:hex`.
    pub(crate) fn finish(self) -> String {
        match self {
            Hasher::Sha256(hash) => format!("sha256:{}", hex::encode(hash.finalize())),
            Hasher::Sha384(hash) => format!("sha384:{}", hex::encode(hash.finalize())),
            Hasher::Sha512(hash) => format!("sha512:{}", hex::encode(hash.finalize())),
        }
    }
}

/// The digest of `bytes`.
pub(crate) fn of(algorithm: ChecksumAlgorithm, bytes: &[u8]) -> String {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(bytes);
    hasher.finish()
}

/// The algorithm of a well-formed digest; `None` for anything else.
pub(crate) fn algorithm(digest: &str) -> Option<ChecksumAlgorithm> {
    let (name, hex) = digest.split_once(':')?;
    let (algorithm, length) = match name {
        "sha256" => (ChecksumAlgorithm::Sha256, 64),
        "sha384" => (ChecksumAlgorithm::Sha384, 96),
        "sha512" => (ChecksumAlgorithm::Sha512, 128),
        _ => return None,
    };
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    (hex.len() == length && hex.bytes().all(lower_hex)).then_some(algorithm)
}
