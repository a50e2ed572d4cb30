//! OpenPGP signatures over git objects and files (RFC 9580), and what is accepted of them.
//!
//! The arithmetic is rPGP's; what may sign is decided here: SHA-256, SHA-384 or SHA-512, RSA of 2048
//! bits or more, Ed25519, ECDSA over NIST's curves, by keys that are in force.

// Algorithms and packets are enums of others that grow; whatever is not accepted by name is refused.
#![allow(clippy::wildcard_enum_match_arm)]

mod certificate;
mod critical;
mod statements;

use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{Packet, PacketParser, Signature, SignatureType, SignatureVersion};
use pgp::ser::Serialize as _;

pub use self::certificate::Keyring;
use self::certificate::{Component, key_name};
use self::critical::not_understood;
use super::clock::Clock;
use super::error::{CouldNot, Invalid, NotVerified};
use super::{SigningKey, VerifiedSigner, armor};
use crate::meta::{ChecksumAlgorithm, ChecksumRequest, ChecksumResponse};

/// Most bytes of a signature, armour included.
pub const MAX_SIGNATURE: usize = 512 << 10;

/// Octets of a version 4 signature before its hashed subpackets: version, type, two algorithms and
/// the length.
const HEAD: usize = 6;

/// A detached signature, read and not verified.
#[derive(Clone, Debug)]
pub struct DetachedSignature {
    signature: Signature,
    hash: HashAlgorithm,
    made: i64,
    expires: Option<i64>,
}

impl DetachedSignature {
    /// Reads the first signature of a file: armoured, or binary.
    ///
    /// # Errors
    /// When there is none, or it is of a kind that is not accepted.
    pub fn parse(data: &[u8]) -> Result<Self, NotVerified> {
        if data.len() > MAX_SIGNATURE {
            return Err(malformed(format!("it has more than {MAX_SIGNATURE} bytes")));
        }
        let packets = match std::str::from_utf8(data) {
            Ok(text) => signature_blocks(text)?.0,
            Err(_) => data.to_vec(),
        };
        Self::first(&packets).map(|(signature, _)| signature)
    }

    /// Reads a text that is one armoured signature and nothing else. Where there are several, git
    /// believes none, and programs disagree about which one counts.
    ///
    /// # Errors
    /// As [`DetachedSignature::parse`], and when there is anything else.
    pub(super) fn parse_only(text: &str) -> Result<Self, NotVerified> {
        if text.len() > MAX_SIGNATURE {
            return Err(malformed(format!("it has more than {MAX_SIGNATURE} bytes")));
        }
        let (packets, alone) = signature_blocks(text)?;
        let (signature, last) = Self::first(&packets)?;
        if !alone || !last {
            return Err(malformed("there is more than one signature, or other text".to_owned()));
        }
        Ok(signature)
    }

    /// The first signature packet, and whether it is the only packet.
    fn first(packets: &[u8]) -> Result<(Self, bool), NotVerified> {
        let mut alone = true;
        let mut parser = PacketParser::new(packets);
        while let Some(packet) = parser.next() {
            match packet {
                Ok(Packet::Signature(signature)) => {
                    alone &= parser.next().is_none();
                    return Ok((Self::accept(signature)?, alone));
                }
                Ok(_) => alone = false,
                Err(error) => return Err(malformed(words(&error))),
            }
        }
        Err(malformed("there is no signature in it".to_owned()))
    }

    fn accept(signature: Signature) -> Result<Self, NotVerified> {
        if !matches!(signature.version(), SignatureVersion::V4 | SignatureVersion::V6) {
            let version = u8::from(signature.version());
            return Err(unsupported(format!("an OpenPGP signature of version {version}")));
        }
        let (Some(typ), Some(hash)) = (signature.typ(), signature.hash_alg()) else {
            return Err(malformed("its header is missing".to_owned()));
        };
        // A signature of another type is about a key or a user id, not about a document.
        if !matches!(typ, SignatureType::Binary | SignatureType::Text) {
            return Err(malformed(format!("its type is {:#04x}, not a document's", u8::from(typ))));
        }
        let made = signature
            .created()
            .map(|made| i64::from(made.as_secs()))
            .ok_or_else(|| malformed("it does not say when it was made".to_owned()))?;
        let expires = signature
            .signature_expiration_time()
            .map(|after| i64::from(after.as_secs()))
            .filter(|after| *after > 0)
            .map(|after| made + after);
        Ok(Self { signature, hash, made, expires })
    }

    /// Verifies it over `payload`, at `now` (seconds since 1970).
    ///
    /// # Errors
    /// When it does not hold, or that cannot be told.
    pub fn verify(
        &self,
        payload: &[u8],
        keys: &Keyring,
        now: i64,
    ) -> Result<VerifiedSigner, NotVerified> {
        self.verify_at(payload, keys, &Clock::at(now))
    }

    /// The same by a clock that learns for how long it stands.
    pub(super) fn verify_at(
        &self,
        payload: &[u8],
        keys: &Keyring,
        clock: &Clock,
    ) -> Result<VerifiedSigner, NotVerified> {
        // The lines of a text are hashed as if they ended in CR LF. Without CR in it there is one content
        // to a hash; with it there are two, and nobody knows which of them was signed.
        if self.signature.typ() == Some(SignatureType::Text) && payload.contains(&b'\r') {
            return Err(CouldNot::Unsupported {
                what: "an OpenPGP signature of a text (type 0x01) that has carriage returns"
                    .to_owned(),
                instead: "sign it as it is, without --textmode",
            }
            .into());
        }
        self.signer(keys, clock, |component| component.signed(&self.signature, payload))
    }

    /// What to ask the daemon for to verify it over a file that we do not have.
    ///
    /// # Errors
    /// When its hash is not accepted, or more than a digest of the file would be needed.
    pub fn checksum_request(&self) -> Result<ChecksumRequest, NotVerified> {
        let algorithm = match self.hash {
            HashAlgorithm::Sha256 => ChecksumAlgorithm::Sha256,
            HashAlgorithm::Sha384 => ChecksumAlgorithm::Sha384,
            HashAlgorithm::Sha512 => ChecksumAlgorithm::Sha512,
            other => return Err(weak_hash(other)),
        };
        // The lines of a text are hashed as if they ended in CR LF, and the daemon hashes what is there.
        if self.signature.typ() != Some(SignatureType::Binary) {
            return Err(CouldNot::Unsupported {
                what: "an OpenPGP signature of a text (type 0x01) over a file".to_owned(),
                instead: "sign the file as it is, without --textmode",
            }
            .into());
        }
        // Version 6 hashes a salt before the file, and the daemon appends only.
        if self.signature.version() != SignatureVersion::V4 {
            return Err(unsupported("an OpenPGP signature of version 6 over a file".to_owned()));
        }
        self.check_subpackets()?;
        Ok(ChecksumRequest { algorithm, suffix: self.suffix()?.into() })
    }

    /// Verifies it by a digest of the file and the suffix that was asked for.
    ///
    /// # Errors
    /// When it does not hold, the digest is of something else than was asked for, or it cannot be
    /// told.
    pub fn verify_digest(
        &self,
        response: &ChecksumResponse,
        keys: &Keyring,
        now: i64,
    ) -> Result<VerifiedSigner, NotVerified> {
        self.verify_digest_at(response, keys, &Clock::at(now))
    }

    /// The same by a clock that learns for how long it stands.
    pub(super) fn verify_digest_at(
        &self,
        response: &ChecksumResponse,
        keys: &Keyring,
        clock: &Clock,
    ) -> Result<VerifiedSigner, NotVerified> {
        let request = self.checksum_request()?;
        if !request.is_answered_by(response) {
            return Err(CouldNot::Unsupported {
                what: "a digest of something else than was asked for".to_owned(),
                instead: "the daemon must hash the file with the suffix it was given",
            }
            .into());
        }
        let digest = response
            .digest
            .split_once(':')
            .and_then(|(_, hex)| hex::decode(hex).ok())
            .ok_or_else(|| CouldNot::Missing { what: "the digest of the file".to_owned() })?;
        self.signer(keys, clock, |component| {
            self.signature.signed_hash_value().is_some_and(|start| digest.starts_with(&start))
                && self
                    .signature
                    .signature()
                    .is_some_and(|signature| component.signed_digest(self.hash, &digest, signature))
        })
    }

    /// The first key that made it and may have made it.
    fn signer(
        &self,
        keys: &Keyring,
        clock: &Clock,
        signed: impl Fn(&Component<'_>) -> bool,
    ) -> Result<VerifiedSigner, NotVerified> {
        let mut failed = None;
        for component in keys.components().filter(|it| it.may_have_made(&self.signature)) {
            match self.check(&component, clock, &signed) {
                Ok(signer) => return Ok(signer),
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        Err(failed.unwrap_or_else(|| Invalid::UnknownKey { key: self.issuer() }.into()))
    }

    fn check(
        &self,
        component: &Component<'_>,
        clock: &Clock,
        signed: impl Fn(&Component<'_>) -> bool,
    ) -> Result<VerifiedSigner, NotVerified> {
        if !is_strong(self.hash) {
            return Err(weak_hash(self.hash));
        }
        component.check_algorithm()?;
        self.check_subpackets()?;
        if !signed(component) {
            return Err(Invalid::Mismatch { key: component.name() }.into());
        }
        if clock.is_ahead(self.made) {
            return Err(Invalid::Future { made: self.made }.into());
        }
        if let Some(since) = self.expires.filter(|expires| clock.has_come(*expires)) {
            return Err(Invalid::Expired { since }.into());
        }
        component.check_in_force(self.made, clock)?;
        let key =
            SigningKey::OpenPgp { primary: component.primary(), fingerprint: component.name() };
        Ok(VerifiedSigner { key, made: Some(self.made) })
    }

    /// Refuses what the signer marked as not to be ignored and nobody here acts upon.
    fn check_subpackets(&self) -> Result<(), NotVerified> {
        let Some(config) = self.signature.config() else {
            return Err(malformed("its header is missing".to_owned()));
        };
        if let Some(why) = not_understood(&self.signature) {
            return Err(malformed(why));
        }
        let mut hasher =
            HashAlgorithm::Sha256.new_hasher().map_err(|error| malformed(error.to_string()))?;
        config
            .hash_signature_data(&mut hasher)
            .map(|_| ())
            .map_err(|error| malformed(error.to_string()))
    }

    /// What is hashed after the document: the head of the signature and its length (RFC 9580,
    /// section 5.2.4).
    fn suffix(&self) -> Result<Vec<u8>, NotVerified> {
        let body = self.signature.to_bytes().map_err(|error| malformed(error.to_string()))?;
        let hashed = match body.get(4..HEAD) {
            Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
            _ => return Err(malformed("its header is cut off".to_owned())),
        };
        let head = body
            .get(..HEAD + hashed)
            .ok_or_else(|| malformed("its hashed part is cut off".to_owned()))?;
        let length = u32::try_from(head.len())
            .map_err(|_| malformed("its hashed part is too long".to_owned()))?;
        let mut suffix = head.to_vec();
        suffix.extend([4, 0xff]);
        suffix.extend(length.to_be_bytes());
        Ok(suffix)
    }

    /// Who it says made it.
    fn issuer(&self) -> String {
        let fingerprint = self.signature.issuer_fingerprint().first().map(|it| key_name(it));
        let key_id = || self.signature.issuer_key_id().first().map(|it| hex::encode(it.as_ref()));
        fingerprint.or_else(key_id).unwrap_or_else(|| "(unnamed)".to_owned())
    }
}

/// The packets of the first signature block of a text, and whether the text is nothing else.
fn signature_blocks(text: &str) -> Result<(Vec<u8>, bool), NotVerified> {
    let armored = armor::read(text).map_err(malformed)?;
    let alone = armored.blocks.len() == 1 && !armored.stray;
    let block = armored.blocks.into_iter().find(|block| block.label == "PGP SIGNATURE");
    let block = block.ok_or_else(|| malformed("there is no signature in it".to_owned()))?;
    Ok((block.data, alone))
}

fn is_strong(hash: HashAlgorithm) -> bool {
    matches!(hash, HashAlgorithm::Sha256 | HashAlgorithm::Sha384 | HashAlgorithm::Sha512)
}

fn weak_hash(hash: HashAlgorithm) -> NotVerified {
    Invalid::Hash { hash: hash.to_string() }.into()
}

fn malformed(why: String) -> NotVerified {
    Invalid::Malformed { why }.into()
}

fn unsupported(what: String) -> NotVerified {
    CouldNot::Unsupported {
        what,
        instead: "sign with RSA of 2048 bits or more, Ed25519 or ECDSA (P-256, P-384, P-521)",
    }
    .into()
}

/// What is wrong with a packet, without the library's own calls that found it.
fn words(error: &pgp::errors::Error) -> String {
    if let pgp::errors::Error::InvalidPacketContent { source } = error {
        return words(source);
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use pgp::errors::Error;

    use super::*;

    #[test]
    fn what_is_wrong_is_said_without_who_found_it() {
        let inner = || Box::new(Error::from("too short".to_owned()));
        let outer = Error::InvalidPacketContent { source: inner() };
        let twice = Error::InvalidPacketContent { source: Box::new(outer) };
        for error in [*inner(), Error::InvalidPacketContent { source: inner() }, twice] {
            assert_eq!(words(&error), "too short");
        }
    }
}
