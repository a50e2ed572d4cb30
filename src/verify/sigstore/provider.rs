//! The algorithms that Sigstore's crates verify with: ring's, and RustCrypto's where a digest is
//! given instead of the message. Nothing else is accepted, and nothing is ever signed.
//!
//! RSA-PSS is for what says itself that it was signed so: certificates of authorities, and metadata of TUF.
//! No bundle can say it, so that a digest is never held against such a signature. P-256 with SHA-384 and
//! P-384 with SHA-256 are accepted where a certificate or a bundle names the hash; [`PublicKey`] has what
//! is tried where none is named.
//!
//! [`PublicKey`]: super::PublicKey

use std::sync::OnceLock;

use p256::ecdsa::signature::hazmat::PrehashVerifier as _;
use ring::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA384_ASN1, ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1,
    ED25519, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    UnparsedPublicKey, VerificationAlgorithm,
};
use rsa::traits::PublicKeyParts as _;
use rsa::{BigUint, Pkcs1v15Sign, RsaPublicKey};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use sigstore_crypto::{
    CryptoProvider, Error, HashContext, KeyAlgorithm, Result, SigningScheme,
    install_default_provider,
};
use sigstore_verify::types::HashAlgorithm;
use x509_cert::der::Decode as _;

/// What ring takes, too.
const MAX_RSA_BITS: usize = 8192;

/// Shorter RSA keys sign nothing.
const MIN_RSA_BITS: usize = 2048;

#[derive(Debug)]
struct Provider;

static PROVIDER: Provider = Provider;

/// Makes these the algorithms of Sigstore's crates in this process, once. Everything in this folder
/// does it by itself; whoever uses those crates elsewhere (TUF) does it first.
pub fn install() {
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        // Nobody else in this process installs one, and the first stays.
        let _ = install_default_provider(&PROVIDER);
    });
}

/// Whether signatures by such keys can be verified.
pub(super) const fn supports(algorithm: KeyAlgorithm) -> bool {
    matches!(
        algorithm,
        KeyAlgorithm::EcdsaP256
            | KeyAlgorithm::EcdsaP384
            | KeyAlgorithm::Ed25519
            | KeyAlgorithm::Rsa
    )
}

struct Hash<D>(D);

impl<D: sha2::Digest + Send> HashContext for Hash<D> {
    fn update(&mut self, data: &[u8]) {
        self.0.update(data);
    }

    fn finalize(self: Box<Self>) -> Vec<u8> {
        self.0.finalize().to_vec()
    }
}

impl CryptoProvider for Provider {
    fn hash(&self, algorithm: HashAlgorithm) -> Result<Box<dyn HashContext>> {
        match algorithm {
            HashAlgorithm::Sha2256 => Ok(Box::new(Hash(Sha256::new()))),
            HashAlgorithm::Sha2384 => Ok(Box::new(Hash(Sha384::new()))),
            HashAlgorithm::Sha2512 => Ok(Box::new(Hash(Sha512::new()))),
            other => Err(Error::UnsupportedAlgorithm(other.to_string())),
        }
    }

    fn sha256(&self, data: &[u8]) -> [u8; 32] {
        Sha256::digest(data).into()
    }

    fn sha384(&self, data: &[u8]) -> [u8; 48] {
        Sha384::digest(data).into()
    }

    fn sha512(&self, data: &[u8]) -> [u8; 64] {
        Sha512::digest(data).into()
    }

    fn verify_raw(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        data: &[u8],
        signature: &[u8],
    ) -> Result<()> {
        UnparsedPublicKey::new(algorithm(scheme)?, key)
            .verify(data, signature)
            .map_err(|_| mismatch(scheme))
    }

    fn verify_prehashed(
        &self,
        scheme: SigningScheme,
        key: &[u8],
        digest: &[u8],
        signature: &[u8],
    ) -> Result<()> {
        let holds = match scheme {
            SigningScheme::EcdsaP256Sha256 | SigningScheme::EcdsaP256Sha384 => {
                p256_holds(key, digest, signature)
            }
            SigningScheme::EcdsaP384Sha256 | SigningScheme::EcdsaP384Sha384 => {
                p384_holds(key, digest, signature)
            }
            SigningScheme::RsaPkcs1Sha256 => {
                rsa_holds(key, digest, signature, Pkcs1v15Sign::new::<Sha256>())
            }
            SigningScheme::RsaPkcs1Sha384 => {
                rsa_holds(key, digest, signature, Pkcs1v15Sign::new::<Sha384>())
            }
            SigningScheme::RsaPkcs1Sha512 => {
                rsa_holds(key, digest, signature, Pkcs1v15Sign::new::<Sha512>())
            }
            SigningScheme::RsaPssSha256
            | SigningScheme::RsaPssSha384
            | SigningScheme::RsaPssSha512
            | SigningScheme::Ed25519
            | SigningScheme::MlDsa44
            | SigningScheme::MlDsa65
            | SigningScheme::MlDsa87
            | _ => return Err(unsupported(scheme)),
        };
        holds.ok_or_else(|| mismatch(scheme))
    }
}

fn algorithm(scheme: SigningScheme) -> Result<&'static dyn VerificationAlgorithm> {
    Ok(match scheme {
        SigningScheme::EcdsaP256Sha256 => &ECDSA_P256_SHA256_ASN1,
        SigningScheme::EcdsaP256Sha384 => &ECDSA_P256_SHA384_ASN1,
        SigningScheme::EcdsaP384Sha256 => &ECDSA_P384_SHA256_ASN1,
        SigningScheme::EcdsaP384Sha384 => &ECDSA_P384_SHA384_ASN1,
        SigningScheme::Ed25519 => &ED25519,
        SigningScheme::RsaPkcs1Sha256 => &RSA_PKCS1_2048_8192_SHA256,
        SigningScheme::RsaPkcs1Sha384 => &RSA_PKCS1_2048_8192_SHA384,
        SigningScheme::RsaPkcs1Sha512 => &RSA_PKCS1_2048_8192_SHA512,
        SigningScheme::RsaPssSha256 => &RSA_PSS_2048_8192_SHA256,
        SigningScheme::RsaPssSha384 => &RSA_PSS_2048_8192_SHA384,
        SigningScheme::RsaPssSha512 => &RSA_PSS_2048_8192_SHA512,
        SigningScheme::MlDsa44 | SigningScheme::MlDsa65 | SigningScheme::MlDsa87 | _ => {
            return Err(unsupported(scheme));
        }
    })
}

fn p256_holds(key: &[u8], digest: &[u8], signature: &[u8]) -> Option<()> {
    let key = p256::ecdsa::VerifyingKey::from_sec1_bytes(key).ok()?;
    let signature = p256::ecdsa::Signature::from_der(signature).ok()?;
    key.verify_prehash(digest, &signature).ok()
}

fn p384_holds(key: &[u8], digest: &[u8], signature: &[u8]) -> Option<()> {
    let key = p384::ecdsa::VerifyingKey::from_sec1_bytes(key).ok()?;
    let signature = p384::ecdsa::Signature::from_der(signature).ok()?;
    // P-384 takes no digest shorter than half the curve's size, and SHA-256's is longer.
    key.verify_prehash(digest, &signature).ok()
}

fn rsa_holds(key: &[u8], digest: &[u8], signature: &[u8], padding: Pkcs1v15Sign) -> Option<()> {
    let key = rsa::pkcs1::RsaPublicKey::from_der(key).ok()?;
    let [modulus, exponent] =
        [key.modulus, key.public_exponent].map(|it| BigUint::from_bytes_be(it.as_bytes()));
    let key = RsaPublicKey::new_with_max_size(modulus, exponent, MAX_RSA_BITS).ok()?;
    // As ring has it where the message is given.
    if key.n().bits() < MIN_RSA_BITS {
        return None;
    }
    key.verify(padding, digest, signature).ok()
}

fn mismatch(scheme: SigningScheme) -> Error {
    Error::Verification(format!("{} signature invalid", scheme.name()))
}

fn unsupported(scheme: SigningScheme) -> Error {
    Error::UnsupportedAlgorithm(scheme.name().to_owned())
}

#[cfg(test)]
#[path = "tests/provider.rs"]
mod tests;
