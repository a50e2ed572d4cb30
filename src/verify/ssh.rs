//! SSH signatures (<https://github.com/openssh/openssh-portable/blob/master/PROTOCOL.sshsig>) by the keys
//! that [`allowed`] reads.
//!
//! A signature does not say when it was made: a key that is valid for a time must be valid now, and at
//! the time that the signed object gives itself.

// Algorithms and packets are enums of others that grow; whatever is not accepted by name is refused.
#![allow(clippy::wildcard_enum_match_arm)]

mod allowed;

use rsa::pkcs1v15;
use rsa::signature::Verifier as _;
use sha2::{Sha256, Sha512};
use ssh_key::public::{KeyData, RsaPublicKey};
use ssh_key::{Algorithm, HashAlg, PublicKey, SshSig};

pub use self::allowed::{AllowedSigner, AllowedSigners};

use self::allowed::{is_key_type, permitting};
use super::clock::Clock;
use super::error::{CouldNot, Invalid, NotVerified};
use super::{SigningKey, VerifiedSigner, armor};

/// What git's signatures are made for.
const NAMESPACE: &str = "git";
const MIN_RSA_BITS: usize = 2048;
/// As much as OpenSSH takes: some milliseconds of arithmetic, because exponents are bounded too.
const MAX_RSA_BITS: usize = 16_384;
/// Most bytes of a signature.
const MAX_SIGNATURE: usize = 64 << 10;

/// Verifies an armoured signature over a git object that dates itself.
///
/// # Errors
/// When it does not hold, or that cannot be told.
pub(super) fn verify(
    armored: &str,
    payload: &[u8],
    allowed: &AllowedSigners,
    dated: Option<i64>,
    clock: &Clock,
) -> Result<VerifiedSigner, NotVerified> {
    let signature = parse(armored)?;
    if signature.namespace() != NAMESPACE {
        let namespace = signature.namespace().to_owned();
        return Err(Invalid::Namespace { namespace }.into());
    }
    let named = |key: &&AllowedSigner| key.key == *signature.public_key() && !key.is_authority;
    let lines: Vec<&AllowedSigner> = allowed.keys.iter().filter(named).collect();
    let Some(first) = lines.first() else {
        let key = signature.public_key().fingerprint(HashAlg::Sha256).to_string();
        return Err(Invalid::UnknownKey { key }.into());
    };
    first.check_algorithm()?;
    if !signed(&first.key, &signature, payload)? {
        return Err(Invalid::Mismatch { key: first.name() }.into());
    }
    if let Some(made) = dated.filter(|dated| clock.is_ahead(*dated)) {
        return Err(Invalid::Future { made }.into());
    }
    let signer = permitting(&lines, dated, clock)?;
    let principals = signer.principals.clone().unwrap_or_default();
    let key = SigningKey::Ssh { fingerprint: signer.name(), principals };
    Ok(VerifiedSigner { key, made: None })
}

/// Whether a key made a signature, by arithmetic alone.
fn signed(key: &KeyData, signature: &SshSig, payload: &[u8]) -> Result<bool, NotVerified> {
    match key {
        KeyData::Rsa(key) => signed_by_rsa(key, signature, payload),
        other => Ok(PublicKey::from(other.clone()).verify(NAMESPACE, payload, signature).is_ok()),
    }
}

/// The same of RSA, whose keys the reader above takes to 4096 bits alone.
fn signed_by_rsa(
    key: &RsaPublicKey,
    signature: &SshSig,
    payload: &[u8],
) -> Result<bool, NotVerified> {
    let [n, e] = [&key.n, &key.e]
        .map(|it| rsa::BigUint::from_bytes_be(it.as_positive_bytes().unwrap_or_default()));
    // The exponent has 33 bits at most: whoever names a larger one buys our time with it.
    let key = rsa::RsaPublicKey::new_with_max_size(n, e, MAX_RSA_BITS)
        .map_err(|error| unsupported(format!("this RSA key ({error})")))?;
    let Ok(content) = SshSig::signed_data(NAMESPACE, signature.hash_alg(), payload) else {
        return Ok(false);
    };
    let Ok(by) = pkcs1v15::Signature::try_from(signature.signature_bytes()) else {
        return Ok(false);
    };
    Ok(match signature.algorithm() {
        Algorithm::Rsa { hash: Some(HashAlg::Sha256) } => {
            pkcs1v15::VerifyingKey::<Sha256>::new(key).verify(&content, &by).is_ok()
        }
        Algorithm::Rsa { hash: Some(HashAlg::Sha512) } => {
            pkcs1v15::VerifyingKey::<Sha512>::new(key).verify(&content, &by).is_ok()
        }
        _ => false,
    })
}

/// Reads a signature. What an algorithm that is not known signs cannot be told.
fn parse(armored: &str) -> Result<SshSig, NotVerified> {
    if armored.len() > MAX_SIGNATURE {
        let why = format!("it has more than {MAX_SIGNATURE} bytes");
        return Err(Invalid::Malformed { why }.into());
    }
    let signature = SshSig::from_pem(armored.trim_end()).map_err(|error| match error {
        ssh_key::Error::AlgorithmUnknown | ssh_key::Error::AlgorithmUnsupported { .. } => {
            unsupported(format!("an SSH signature of this kind ({error})"))
        }
        ssh_key::Error::Version { number } => other_version(number),
        error => unreadable(armored, &error),
    })?;
    if signature.version() != SshSig::VERSION {
        return Err(other_version(signature.version()));
    }
    if let Algorithm::Other(name) = signature.algorithm() {
        return Err(unsupported(format!("{} as a signature", name.as_str())));
    }
    // Nobody signs it but the reader above: for ssh-keygen it is empty, whatever stands there.
    if !signature.reserved().is_empty() {
        return Err(Invalid::Malformed { why: "its reserved part is not empty".to_owned() }.into());
    }
    // The reader above passes over what stands before the block, and over lengths that are not true;
    // others may read something else.
    let own = PublicKey::from(signature.public_key().clone()).to_bytes().ok();
    let read = armor::read(armored).ok().filter(|read| read.blocks.len() == 1 && !read.stray);
    let parts = read.iter().flat_map(|read| &read.blocks).find_map(|it| Parts::of(&it.data));
    let is_whole = parts.is_some_and(|parts| {
        own.as_deref() == Some(parts.key) && parts.is_whole(&signature.algorithm())
    });
    if is_whole {
        return Ok(signature);
    }
    Err(Invalid::Malformed { why: "there is other text, or its lengths are not true".to_owned() }
        .into())
}

fn other_version(version: u32) -> NotVerified {
    unsupported(format!("an SSH signature of version {version}"))
}

/// Why a signature cannot be read: what is too weak, what is not known, and what is broken are told apart.
fn unreadable(armored: &str, error: &ssh_key::Error) -> NotVerified {
    let malformed = || Invalid::Malformed { why: error.to_string() }.into();
    let Ok(read) = armor::read(armored) else { return malformed() };
    let Some(parts) = read.blocks.first().and_then(|block| Parts::of(&block.data)) else {
        return malformed();
    };
    let name = |of: &[u8]| String::from_utf8_lossy(of).escape_debug().to_string();
    // RSA's signature with SHA-1 has the name of the key's type.
    match (parts.key_type(), parts.hash, parts.algorithm) {
        (_, _, b"ssh-rsa") => Invalid::Hash { hash: "SHA1 (ssh-rsa)".to_owned() }.into(),
        (key, _, _) if !key.is_empty() && !is_key_type(&name(key)) => {
            unsupported(format!("an SSH signature by {}", name(key)))
        }
        (_, b"sha256" | b"sha512", _) => malformed(),
        (_, hash, _) => unsupported(format!("an SSH signature with the hash {}", name(hash))),
    }
}

/// The strings of a signature, as they stand in it.
struct Parts<'b> {
    key: &'b [u8],
    hash: &'b [u8],
    /// What the signature inside says it is.
    algorithm: &'b [u8],
    /// What follows the number, or numbers, of the signature inside; and what follows everything.
    tails: [&'b [u8]; 2],
}

impl<'b> Parts<'b> {
    fn of(blob: &'b [u8]) -> Option<Self> {
        let rest = blob.strip_prefix(b"SSHSIG")?.get(4..)?;
        let (key, rest) = string(rest)?;
        let (_namespace, rest) = string(rest)?;
        let (_reserved, rest) = string(rest)?;
        let (hash, rest) = string(rest)?;
        let (signature, rest) = string(rest)?;
        let (algorithm, signature) = string(signature)?;
        let (_, tail) = string(signature)?;
        Some(Self { key, hash, algorithm, tails: [tail, rest] })
    }

    fn key_type(&self) -> &'b [u8] {
        string(self.key).map(|(name, _)| name).unwrap_or_default()
    }

    /// Whether all of its lengths are true: a security key adds flags and a counter, and nobody else
    /// anything.
    fn is_whole(&self, algorithm: &Algorithm) -> bool {
        let added = match algorithm {
            Algorithm::SkEd25519 | Algorithm::SkEcdsaSha2NistP256 => 5,
            _ => 0,
        };
        self.tails.map(<[u8]>::len) == [added, 0]
    }
}

/// A string of the wire format (RFC 4251, section 5), and what follows it.
fn string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Bits of a number without leading zeros.
fn bits(number: &[u8]) -> usize {
    number.first().map_or(0, |first| 8 * number.len() - first.leading_zeros() as usize)
}

fn unsupported(what: String) -> NotVerified {
    CouldNot::Unsupported {
        what,
        instead: "sign with ssh-ed25519, ecdsa-sha2-nistp*, rsa of 2048 to 16384 bits, or an sk- key",
    }
    .into()
}
