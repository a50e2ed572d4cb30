//! Public keys of signers.

use sha2::{Digest as _, Sha256};
use sigstore_crypto::{KeyAlgorithm, SigningScheme, validate_raw_public_key};
use sigstore_verify::types::DerPublicKey;
use x509_cert::der::Decode as _;
use x509_cert::spki::SubjectPublicKeyInfoRef;

use super::provider;
use crate::verify::error::KeyFileError;

/// Most bytes of a public key file.
pub const MAX_PUBLIC_KEY: usize = 64 << 10;

/// The key that signs Docker Hardened Images, in use since [`DHI_SINCE`].
const DOCKER_HARDENED_IMAGES: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEKdROmntRJFBrOJOQF5ww6gDBJqGm
Fxa4333s1KsL9ISjtmRzGNih9lNRsqfRVjgFgJIdL6EQ9dohdanvn7r2cg==
-----END PUBLIC KEY-----
";

/// 2025-04-02: the key vouches for nothing that was signed before.
const DHI_SINCE: i64 = 1_743_595_200;

/// A public key: ECDSA on P-256 or P-384, Ed25519, or RSA of 2048 to 8192 bits.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    der: DerPublicKey,
    algorithm: KeyAlgorithm,
}

impl PublicKey {
    /// Reads a key file: one `PUBLIC KEY` block (RFC 7468), as `cosign public-key` writes it.
    ///
    /// # Errors
    /// When it is too large, holds none or more than one, or one that is not supported.
    pub fn from_pem(data: &[u8]) -> Result<Self, KeyFileError> {
        if data.len() > MAX_PUBLIC_KEY {
            return Err(KeyFileError::TooLarge { size: data.len(), limit: MAX_PUBLIC_KEY });
        }
        let text = std::str::from_utf8(data).map_err(|_| KeyFileError::NoPublicKey)?;
        if text.contains("PRIVATE KEY-----") {
            return Err(KeyFileError::PrivateKey);
        }
        match text.matches("-----BEGIN ").count() {
            0 => return Err(KeyFileError::NoPublicKey),
            1 => {}
            _ => return Err(KeyFileError::ManyPublicKeys),
        }
        let der = DerPublicKey::from_pem(text.trim())
            .map_err(|error| KeyFileError::PublicKey { why: error.to_string() })?;
        Self::from_der(der)
    }

    fn from_der(der: DerPublicKey) -> Result<Self, KeyFileError> {
        provider::install();
        let unusable = |why: String| KeyFileError::PublicKey { why };
        let algorithm =
            KeyAlgorithm::from_spki(&der).map_err(|error| unusable(error.to_string()))?;
        if !provider::supports(algorithm) {
            return Err(unusable(format!("{algorithm:?} is not supported")));
        }
        let info = SubjectPublicKeyInfoRef::from_der(der.as_bytes())
            .map_err(|error| unusable(error.to_string()))?;
        let scheme = algorithm.default_signing_scheme();
        validate_raw_public_key(scheme, info.subject_public_key.raw_bytes())
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { der, algorithm })
    }

    /// `SHA256:` and the SHA-256 of its DER, in hex.
    pub fn fingerprint(&self) -> String {
        format!("SHA256:{}", hex::encode(Sha256::digest(self.der.as_bytes())))
    }

    pub(super) const fn der(&self) -> &DerPublicKey {
        &self.der
    }

    /// How the key may have signed bytes where nothing but the key is there to say it: cosign hashes with
    /// SHA-256 whatever the curve, everybody else as the curve suggests. P-256 with SHA-384 is nobody's
    /// habit, and RSA is PKCS #1's with SHA-256, as cosign signs.
    pub(super) fn schemes(&self) -> &'static [SigningScheme] {
        match self.algorithm {
            KeyAlgorithm::EcdsaP256 => &[SigningScheme::EcdsaP256Sha256],
            KeyAlgorithm::EcdsaP384 => {
                &[SigningScheme::EcdsaP384Sha384, SigningScheme::EcdsaP384Sha256]
            }
            KeyAlgorithm::Ed25519 => &[SigningScheme::Ed25519],
            KeyAlgorithm::Rsa => &[SigningScheme::RsaPkcs1Sha256],
            // The provider refuses them, and `from_der` before it.
            KeyAlgorithm::MlDsa44 | KeyAlgorithm::MlDsa65 | KeyAlgorithm::MlDsa87 | _ => &[],
        }
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({:?}, {})", self.algorithm, self.fingerprint())
    }
}

/// A key that signs Docker Hardened Images, and since when: it vouches for nothing from before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HardenedKey {
    pub(super) key: PublicKey,
    pub(super) since: i64,
}

impl HardenedKey {
    /// Docker's key.
    ///
    /// # Errors
    /// When it cannot be read, which the tests of this program rule out.
    pub fn built_in() -> Result<Self, KeyFileError> {
        let key = PublicKey::from_pem(DOCKER_HARDENED_IMAGES.as_bytes())?;
        Ok(Self { key, since: DHI_SINCE })
    }

    /// Another key, in use since then (seconds since 1970), for whoever tests without Docker's.
    #[doc(hidden)]
    pub const fn new(key: PublicKey, since: i64) -> Self {
        Self { key, since }
    }
}
