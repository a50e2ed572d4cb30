//! OpenPGP certificates: which of their keys are in force, and may sign.
//!
//! What a certificate says of itself counts only where its primary key signed it. What permits
//! anything must use SHA-2 and be in force. What restricts counts whatever its hash: a revocation,
//! and every newer statement that ends a key's life or takes away what it is for.

// Algorithms and packets are enums of others that grow; whatever is not accepted by name is refused.
#![allow(clippy::wildcard_enum_match_arm)]

use pgp::composed::{Deserializable as _, SignedPublicKey, SignedPublicSubKey};
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{KeyFlags, PacketParser, Signature, SignatureType, SubpacketData};
use pgp::types::{
    EcdsaPublicParams, EddsaLegacyPublicParams, Fingerprint, KeyDetails as _, KeyVersion,
    PublicParams, SignatureBytes, VerifyingKey as _,
};
use rsa::traits::PublicKeyParts as _;

use super::super::armor;
use super::super::clock::Clock;
use super::super::error::{Invalid, KeyFileError, NotVerified};
use super::critical::{is_not_computed, not_understood};
use super::statements::is_in_force;
use super::{is_strong, unsupported};

const MIN_RSA_BITS: usize = 2048;
/// Most certificates of a key file.
const MAX_CERTIFICATES: usize = 2_000;

/// The certificates of a key file, one for each primary key.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    certificates: Vec<SignedPublicKey>,
}

impl Keyring {
    /// Reads armoured certificates, in any number of blocks.
    ///
    /// # Errors
    /// When a block cannot be read, holds something else, or there is none.
    pub(in crate::verify) fn from_armor(text: &str) -> Result<Self, KeyFileError> {
        let armored = armor::read(text).map_err(|why| KeyFileError::OpenPgp { why })?;
        let mut keyring = Self::default();
        for block in armored.blocks {
            match block.label.as_str() {
                "PGP PUBLIC KEY BLOCK" => keyring.add(&block.data)?,
                "PGP PRIVATE KEY BLOCK" => return Err(KeyFileError::PrivateKey),
                other => {
                    let why = format!("it holds a {other}, where a PGP PUBLIC KEY BLOCK is wanted");
                    return Err(KeyFileError::OpenPgp { why });
                }
            }
        }
        keyring.or_empty()
    }

    /// Reads binary certificates, one after the other.
    ///
    /// # Errors
    /// As [`Keyring::from_armor`].
    pub(in crate::verify) fn from_packets(data: &[u8]) -> Result<Self, KeyFileError> {
        let mut keyring = Self::default();
        keyring.add(data)?;
        keyring.or_empty()
    }

    fn or_empty(self) -> Result<Self, KeyFileError> {
        if self.certificates.is_empty() { Err(KeyFileError::NoKeys) } else { Ok(self) }
    }

    fn add(&mut self, packets: &[u8]) -> Result<(), KeyFileError> {
        for certificate in SignedPublicKey::from_packets(PacketParser::new(packets).peekable()) {
            let certificate =
                certificate.map_err(|error| KeyFileError::OpenPgp { why: super::words(&error) })?;
            self.merge(certificate);
            if self.certificates.len() > MAX_CERTIFICATES {
                let why = format!("it holds more than {MAX_CERTIFICATES} keys");
                return Err(KeyFileError::OpenPgp { why });
            }
        }
        Ok(())
    }

    /// Adds a certificate to another copy of it: one of them may revoke what the other does not.
    fn merge(&mut self, new: SignedPublicKey) {
        let same = |known: &&mut SignedPublicKey| known.fingerprint() == new.fingerprint();
        match self.certificates.iter_mut().find(same) {
            Some(known) => {
                known.details.revocation_signatures.extend(new.details.revocation_signatures);
                known.details.direct_signatures.extend(new.details.direct_signatures);
                for user in new.details.users {
                    match known.details.users.iter_mut().find(|it| it.id == user.id) {
                        Some(known) => known.signatures.extend(user.signatures),
                        None => known.details.users.push(user),
                    }
                }
                for subkey in new.public_subkeys {
                    let same = |it: &&mut SignedPublicSubKey| {
                        it.key.fingerprint() == subkey.key.fingerprint()
                    };
                    match known.public_subkeys.iter_mut().find(same) {
                        Some(known) => known.signatures.extend(subkey.signatures),
                        None => known.public_subkeys.push(subkey),
                    }
                }
            }
            None => self.certificates.push(new),
        }
    }

    /// Each key of each certificate.
    pub(super) fn components(&self) -> impl Iterator<Item = Component<'_>> {
        self.certificates.iter().flat_map(|certificate| {
            let subkeys = certificate.public_subkeys.iter().map(Some);
            std::iter::once(None)
                .chain(subkeys)
                .map(move |subkey| Component { certificate, subkey })
        })
    }
}

/// A key of a certificate: its primary key, or a subkey.
#[derive(Clone, Copy, Debug)]
pub(super) struct Component<'k> {
    pub certificate: &'k SignedPublicKey,
    pub subkey: Option<&'k SignedPublicSubKey>,
}

impl<'k> Component<'k> {
    /// Its fingerprint.
    pub fn name(&self) -> String {
        key_name(&self.fingerprint())
    }

    /// Fingerprint of its primary key.
    pub fn primary(&self) -> String {
        key_name(&self.certificate.fingerprint())
    }

    fn fingerprint(&self) -> Fingerprint {
        self.subkey.map_or_else(|| self.certificate.fingerprint(), |it| it.key.fingerprint())
    }

    fn params(&self) -> &'k PublicParams {
        match self.subkey {
            None => self.certificate.primary_key.public_params(),
            Some(subkey) => subkey.key.public_params(),
        }
    }

    /// Whether the signature names this key, or none.
    pub fn may_have_made(&self, signature: &Signature) -> bool {
        let (ids, fingerprints) = (signature.issuer_key_id(), signature.issuer_fingerprint());
        if !fingerprints.is_empty() {
            let own = self.fingerprint();
            return fingerprints.contains(&&own);
        }
        let own = match self.subkey {
            None => self.certificate.legacy_key_id(),
            Some(subkey) => subkey.key.legacy_key_id(),
        };
        ids.is_empty() || ids.contains(&&own)
    }

    /// Whether it signed `payload` with `signature`, by arithmetic alone.
    pub fn signed(&self, signature: &Signature, payload: &[u8]) -> bool {
        match self.subkey {
            None => signature.verify(&self.certificate.primary_key, payload).is_ok(),
            Some(subkey) => signature.verify(&subkey.key, payload).is_ok(),
        }
    }

    /// Whether it signed `digest` with `signature`, one of version 4, by arithmetic alone.
    pub fn signed_digest(
        &self,
        hash: HashAlgorithm,
        digest: &[u8],
        signature: &SignatureBytes,
    ) -> bool {
        // Keys of version 6 make no signatures of version 4 (RFC 9580, section 5.2).
        if self.certificate.primary_key.version() == KeyVersion::V6 {
            return false;
        }
        match self.subkey {
            None => self.certificate.primary_key.verify(hash, digest, signature).is_ok(),
            Some(subkey) => subkey.key.verify(hash, digest, signature).is_ok(),
        }
    }

    /// Refuses algorithms that are too weak, or that nobody here can compute.
    pub fn check_algorithm(&self) -> Result<(), NotVerified> {
        let what = match self.params() {
            PublicParams::RSA(params) => {
                let bits = params.key.n().bits();
                if bits < MIN_RSA_BITS {
                    return Err(Invalid::ShortKey { key: self.name(), bits }.into());
                }
                return Ok(());
            }
            PublicParams::EdDSALegacy(EddsaLegacyPublicParams::Ed25519 { .. })
            | PublicParams::Ed25519(_)
            | PublicParams::ECDSA(
                EcdsaPublicParams::P256 { .. }
                | EcdsaPublicParams::P384 { .. }
                | EcdsaPublicParams::P521 { .. },
            ) => return Ok(()),
            PublicParams::ECDSA(params) => format!("ECDSA over {}", params.curve()),
            PublicParams::EdDSALegacy(_) => "EdDSA over this curve".to_owned(),
            PublicParams::DSA(_) => "DSA".to_owned(),
            PublicParams::Ed448(_) => "Ed448".to_owned(),
            PublicParams::ECDH(_)
            | PublicParams::Elgamal(_)
            | PublicParams::X25519(_)
            | PublicParams::X448(_) => "a signature by an encryption key".to_owned(),
            PublicParams::Unknown { .. } => "the algorithm".to_owned(),
        };
        Err(unsupported(format!("{what} (key {})", self.name())))
    }

    /// Holds it against what its certificate says: expired, revoked, from the future, or not meant
    /// to sign.
    pub fn check_in_force(&self, made: i64, clock: &Clock) -> Result<(), NotVerified> {
        let primary = Component { subkey: None, ..*self };
        primary.check_revocations(&self.certificate.details.revocation_signatures)?;
        let statement = primary.own_statement(clock)?;
        let own = primary.own_restrictions(statement, clock);
        for statement in std::iter::once(statement).chain(own.iter().copied()) {
            primary.check_understood([statement])?;
            primary.check_time(statement, made, clock)?;
            if self.subkey.is_none() {
                self.check_flags(statement)?;
            }
        }
        let Some(subkey) = self.subkey else { return Ok(()) };
        self.check_revocations(&subkey.signatures)?;
        let binding = self.binding(subkey, clock)?;
        let newer = self.newer_bindings(subkey, binding, clock);
        for binding in std::iter::once(binding).chain(newer) {
            self.check_understood([binding])?;
            self.check_time(binding, made, clock)?;
            self.check_flags(binding)?;
        }
        self.check_back_signature(subkey, binding, clock)
    }

    /// Refuses a key that any signature in `signatures` revokes.
    fn check_revocations(&self, signatures: &[Signature]) -> Result<(), NotVerified> {
        let kind = match self.subkey {
            None => SignatureType::KeyRevocation,
            Some(_) => SignatureType::SubkeyRevocation,
        };
        for revocation in signatures.iter().filter(|it| it.typ() == Some(kind)) {
            let own = match self.subkey {
                None => revocation.verify_key(&self.certificate.primary_key),
                Some(subkey) => {
                    revocation.verify_subkey_binding(&self.certificate.primary_key, &subkey.key)
                }
            };
            // A revoker that the owner appointed is believed unseen: the file is the policy's own.
            if !self.may_restrict(revocation, own.is_ok()) && !self.has_revoker() {
                continue;
            }
            let reason = revocation.revocation_reason_string().map_or_else(String::new, |reason| {
                String::from_utf8_lossy(reason).chars().filter(|it| !it.is_control()).collect()
            });
            return Err(Invalid::KeyRevoked { key: self.name(), reason }.into());
        }
        Ok(())
    }

    /// Whether something that restricts the certificate is its own. Nobody here computes weak hashes
    /// with newer algorithms, nor signatures that insist on what is not known; where such a one says that
    /// it is the primary key's, it is believed unseen, because the file is the policy's own, and all that
    /// can come of it is a refusal.
    pub fn may_restrict(&self, signature: &Signature, holds: bool) -> bool {
        let primary = Component { subkey: None, ..*self };
        let weak = !signature.hash_alg().is_some_and(is_strong);
        let unseen = weak || is_not_computed(signature);
        holds || (unseen && primary.may_have_made(signature))
    }

    /// Whether the certificate appoints someone else who may revoke it.
    fn has_revoker(&self) -> bool {
        let details = &self.certificate.details;
        let by_users = details.users.iter().flat_map(|user| &user.signatures);
        let mut all = details.direct_signatures.iter().chain(by_users);
        all.any(|signature| signature.revocation_key().is_some())
    }

    fn check_time(
        &self,
        statement: &Signature,
        made: i64,
        clock: &Clock,
    ) -> Result<(), NotVerified> {
        let created = match self.subkey {
            None => self.certificate.primary_key.created_at(),
            Some(subkey) => subkey.key.created_at(),
        };
        let from = i64::from(created.as_secs());
        if clock.is_ahead(from) || from > made {
            return Err(Invalid::KeyTooYoung { key: self.name(), from }.into());
        }
        let lifetime = statement.key_expiration_time().map(|after| i64::from(after.as_secs()));
        if let Some(since) = lifetime.filter(|after| *after > 0).map(|after| from + after)
            && (since <= made || clock.has_come(since))
        {
            return Err(Invalid::KeyExpired { key: self.name(), since }.into());
        }
        Ok(())
    }

    fn check_flags(&self, statement: &Signature) -> Result<(), NotVerified> {
        if flags(statement).is_none_or(KeyFlags::sign) {
            return Ok(());
        }
        let why = "its owner made it for other purposes";
        Err(Invalid::NotForSigning { key: self.name(), why }.into())
    }

    /// A subkey must agree to be one: else anyone could adopt another's key, and its signatures.
    fn check_back_signature(
        &self,
        subkey: &SignedPublicSubKey,
        binding: &Signature,
        clock: &Clock,
    ) -> Result<(), NotVerified> {
        let back = binding.embedded_signature();
        if let Some(why) = back.and_then(not_understood) {
            return Err(Invalid::NotUnderstood { key: self.name(), why }.into());
        }
        let agrees = back.is_some_and(|signature| {
            signature.hash_alg().is_some_and(is_strong)
                && is_in_force(signature, clock)
                && signature
                    .verify_primary_key_binding(&subkey.key, &self.certificate.primary_key)
                    .is_ok()
        });
        if agrees {
            return Ok(());
        }
        let why = "the subkey has not signed that it belongs to its primary key";
        Err(Invalid::NotForSigning { key: self.name(), why }.into())
    }
}

/// What a key is for, where that is said.
fn flags(signature: &Signature) -> Option<&KeyFlags> {
    signature.config()?.hashed_subpackets().find_map(|subpacket| match &subpacket.data {
        SubpacketData::KeyFlags(flags) => Some(flags),
        _ => None,
    })
}

/// A fingerprint as people compare it.
pub(super) fn key_name(fingerprint: &Fingerprint) -> String {
    hex::encode(fingerprint.as_bytes())
}
