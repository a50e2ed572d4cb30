//! What a signature marks as not to be ignored (RFC 9580, section 5.2.3.7). It must be of a type that is
//! understood and acted upon here, in the place where it stands; else the signature is not valid.
//!
//! Programs differ in what they know by name and then pass over. Preferences, policies, trust in others and
//! whatever narrows a certification mean nothing here, so that whoever insists on them is refused.

// Parts and types are enums of rPGP's that grow; whatever is not accepted by name is refused.
#![allow(clippy::wildcard_enum_match_arm)]

use pgp::packet::{Signature, SignatureType, Subpacket, SubpacketData};

/// What a signature is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// A primary key, by itself or by a user id.
    Key,
    /// A subkey, by its primary key.
    Subkey,
    /// What is taken back.
    Revoked,
    /// A document, or a primary key by its subkey.
    Other,
}

impl About {
    fn of(signature: &Signature) -> Self {
        match signature.typ() {
            Some(
                SignatureType::Key
                | SignatureType::CertGeneric
                | SignatureType::CertPersona
                | SignatureType::CertCasual
                | SignatureType::CertPositive,
            ) => Self::Key,
            Some(SignatureType::SubkeyBinding) => Self::Subkey,
            Some(
                SignatureType::KeyRevocation
                | SignatureType::SubkeyRevocation
                | SignatureType::CertRevocation,
            ) => Self::Revoked,
            _ => Self::Other,
        }
    }
}

/// What a signature insists on and nobody here acts upon, in words.
pub(super) fn not_understood(signature: &Signature) -> Option<String> {
    let (config, about) = (signature.config()?, About::of(signature));
    // Anybody may write into what is not hashed, and all that can come of it is a refusal.
    config
        .hashed_subpackets()
        .chain(config.unhashed_subpackets())
        .filter(|it| it.is_critical)
        .find_map(|it| (!is_acted_upon(it, about)).then(|| words(it)))
}

/// Whether it insists on what rPGP does not know, so that nobody here can tell whether it holds.
pub(super) fn is_not_computed(signature: &Signature) -> bool {
    signature.config().is_some_and(|config| {
        let mut critical = config.hashed_subpackets().filter(|it| it.is_critical);
        critical.any(|it| matches!(it.data, SubpacketData::Other(..)))
    })
}

fn is_acted_upon(subpacket: &Subpacket, about: About) -> bool {
    match &subpacket.data {
        SubpacketData::SignatureCreationTime(_)
        | SubpacketData::SignatureExpirationTime(_)
        | SubpacketData::IssuerKeyId(_)
        | SubpacketData::IssuerFingerprint(_) => true,
        SubpacketData::KeyExpirationTime(_) | SubpacketData::KeyFlags(_) => {
            matches!(about, About::Key | About::Subkey)
        }
        // Which user id is the primary one does not matter: what any of them says counts, the newest most,
        // and each newer one that restricts.
        SubpacketData::IsPrimary(_) | SubpacketData::RevocationKey(_) => about == About::Key,
        SubpacketData::EmbeddedSignature(_) => about == About::Subkey,
        SubpacketData::RevocationReason(..) => about == About::Revoked,
        _ => false,
    }
}

fn words(subpacket: &Subpacket) -> String {
    let what = match &subpacket.data {
        SubpacketData::Notation(notation) => {
            let name = String::from_utf8_lossy(&notation.name).escape_debug().to_string();
            format!("notation {name:.80}")
        }
        SubpacketData::PreferredKeyServer(_) => "preferred key server".to_owned(),
        SubpacketData::PolicyURI(_) => "policy".to_owned(),
        SubpacketData::SignersUserID(_) => "user id of the signer".to_owned(),
        SubpacketData::IntendedRecipientFingerprint(_) => "recipient".to_owned(),
        SubpacketData::TrustSignature(..) => "trust in others".to_owned(),
        SubpacketData::RegularExpression(_) => "regular expression".to_owned(),
        _ => format!("part of type {}", subpacket.typ().as_u8(false)),
    };
    format!("nobody here acts upon its critical {what}")
}
