//! Key files: which kind they are, and what is in them.

use super::error::KeyFileError;
use super::openpgp::Keyring;
use super::ssh::AllowedSigners;

/// Most bytes of a key file.
pub const MAX_KEY_FILE: usize = 1 << 20;

/// The keys of a file.
#[derive(Clone, Debug)]
pub enum KeyFile {
    /// OpenPGP certificates, armoured (any number of blocks) or binary.
    OpenPgp(Keyring),
    /// SSH public keys, or git's `allowed_signers`.
    Ssh(AllowedSigners),
}

impl KeyFile {
    /// Reads a key file.
    ///
    /// # Errors
    /// When it is too large, holds no public key, or holds one that cannot be read: a key that is
    /// passed over might be the one that revokes another.
    pub fn parse(data: &[u8]) -> Result<Self, KeyFileError> {
        if data.len() > MAX_KEY_FILE {
            return Err(KeyFileError::TooLarge { size: data.len(), limit: MAX_KEY_FILE });
        }
        let text = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
        match (text.first(), std::str::from_utf8(text)) {
            (None, _) => Err(KeyFileError::NoKeys),
            // The first bit of an OpenPGP packet is always set.
            (Some(0x80..), _) => Keyring::from_packets(data).map(Self::OpenPgp),
            (Some(_), Ok(text)) if text.contains("-----BEGIN PGP ") => {
                Keyring::from_armor(text).map(Self::OpenPgp)
            }
            (Some(_), Ok(text)) => AllowedSigners::parse(text).map(Self::Ssh),
            (Some(_), Err(_)) => Err(KeyFileError::NoKeys),
        }
    }
}
