//! What signatures and certificates mark as not to be ignored: every type of part there is, in each place.

// Parts and types are enums of rPGP's that grow; whatever is not accepted by name is refused.
#![allow(clippy::wildcard_enum_match_arm)]

use pgp::composed::{
    KeyType, SecretKeyParamsBuilder, SignedKeyDetails, SignedPublicKey, SignedPublicSubKey,
    SignedSecretKey, SubkeyParamsBuilder,
};
use pgp::crypto::aead::AeadAlgorithm;
use pgp::crypto::hash::HashAlgorithm;
use pgp::crypto::public_key::PublicKeyAlgorithm;
use pgp::crypto::sym::SymmetricKeyAlgorithm;
use pgp::packet::{
    Features, KeyFlags, Notation, PacketTrait as _, RevocationCode, Signature, SignatureConfig,
    SignatureType, Subpacket, SubpacketData, SubpacketType,
};
use pgp::ser::Serialize as _;
use pgp::types::{
    CompressionAlgorithm, Duration, KeyDetails as _, Password, RevocationKey, RevocationKeyClass,
    SignedUser, Tag, Timestamp,
};
use rsa::rand_core::OsRng;

use super::*;

/// 2025-01-01, and 2029-01-01.
const SECONDS: [u32; 2] = [1_735_689_600, 1_861_920_000];
/// Types that nobody has given a meaning, or whose meaning rPGP does not know.
const UNKNOWN: [u8; 3] = [0, 37, 127];

/// Where a part stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Document,
    UserId,
    Key,
    Subkey,
    Back,
    Revocation,
}

/// A certificate with a subkey that signs, made once for all.
struct Maker {
    key: SignedSecretKey,
    /// Without anything more, and documents by the primary key and by the subkey.
    made: Option<(SignedPublicKey, [Signature; 2])>,
}

impl Maker {
    fn new() -> Self {
        let mut subkey = SubkeyParamsBuilder::default();
        subkey.key_type(KeyType::Ed25519).can_sign(true);
        subkey.created_at(Timestamp::from_secs(SECONDS[0]));
        let mut params = SecretKeyParamsBuilder::default();
        params.key_type(KeyType::Ed25519).can_sign(true).can_certify(true);
        params.created_at(Timestamp::from_secs(SECONDS[0]));
        params.primary_user_id("A <a@b.c>".to_owned()).subkey(subkey.build().unwrap());
        let mut maker = Self { key: params.build().unwrap().generate(OsRng).unwrap(), made: None };
        let (certificate, by_primary) = maker.make(Place::Document, &[]);
        let (_, by_subkey) = maker.make(Place::Subkey, &[]);
        maker.made = Some((certificate, [by_primary, by_subkey]));
        maker
    }

    /// What every signature of the primary key says, and more.
    fn config(&self, kind: SignatureType, more: Vec<Subpacket>) -> SignatureConfig {
        let primary = &self.key.primary_key;
        let made = if matches!(kind, SignatureType::Binary) { SECONDS[1] } else { SECONDS[0] };
        let made = SubpacketData::SignatureCreationTime(Timestamp::from_secs(made));
        let issuer = SubpacketData::IssuerFingerprint(primary.fingerprint());
        let mut config = SignatureConfig::v4(kind, primary.algorithm(), HashAlgorithm::Sha256);
        config.hashed_subpackets =
            vec![Subpacket::critical(made).unwrap(), Subpacket::critical(issuer).unwrap()];
        config.hashed_subpackets.extend(more);
        config
    }

    /// The same with `more` in one place.
    fn make(&self, place: Place, more: &[Subpacket]) -> (SignedPublicKey, Signature) {
        let (primary, none) = (&self.key.primary_key, Password::empty());
        let (public, subkey) = (self.key.primary_key.public_key(), &self.key.secret_subkeys[0].key);
        let more = |at: Place| if at == place { more.to_vec() } else { Vec::new() };
        let mut flags = KeyFlags::default();
        flags.set_sign(true);
        flags.set_certify(true);
        let flags = || Subpacket::critical(SubpacketData::KeyFlags(flags.clone())).unwrap();

        // Arithmetic is slow without optimisation: what stays as it is was signed before.
        let known = |at: &[Place]| self.made.as_ref().filter(|_| !at.contains(&place));
        let id = self.key.details.users[0].id.clone();
        let by_user = known(&[Place::UserId]).map_or_else(
            || {
                let mut config = self.config(SignatureType::CertPositive, vec![flags()]);
                config.hashed_subpackets.extend(more(Place::UserId));
                config.sign_certification(primary, &public, &none, Tag::UserId, &id).unwrap()
            },
            |(made, _)| made.details.users[0].signatures[0].clone(),
        );
        let direct = known(&[Place::Key]).map_or_else(
            || {
                let config = self.config(SignatureType::Key, more(Place::Key));
                config.sign_key(primary, &none, &public).unwrap()
            },
            |(made, _)| made.details.direct_signatures[0].clone(),
        );
        let of_subkey = |kind: SignatureType, more: Vec<Subpacket>| {
            let mut config = self.config(kind, more);
            config.pub_alg = subkey.algorithm();
            let own = SubpacketData::IssuerFingerprint(subkey.fingerprint());
            config.hashed_subpackets[1] = Subpacket::critical(own).unwrap();
            config
        };
        let bind = || {
            let back = of_subkey(SignatureType::KeyBinding, more(Place::Back))
                .sign_primary_key_binding(subkey, &subkey.public_key(), &none, &public)
                .unwrap();
            let back = SubpacketData::EmbeddedSignature(Box::new(back));
            let mut config = self.config(SignatureType::SubkeyBinding, vec![flags()]);
            if place == Place::Back {
                // Where gpg has it, and where it can be altered without the rest.
                config.unhashed_subpackets.push(Subpacket::regular(back).unwrap());
            } else {
                config.hashed_subpackets.push(Subpacket::critical(back).unwrap());
            }
            config.hashed_subpackets.extend(more(Place::Subkey));
            config.sign_subkey_binding(primary, &public, &none, &subkey.public_key()).unwrap()
        };
        let binding = known(&[Place::Subkey, Place::Back])
            .map_or_else(bind, |(made, _)| made.public_subkeys[0].signatures[0].clone());
        let mut revoked = Vec::new();
        if place == Place::Revocation {
            let config = self.config(SignatureType::KeyRevocation, more(Place::Revocation));
            revoked.push(config.sign_key(primary, &none, &public).unwrap());
        }
        let users = vec![SignedUser::new(id, vec![by_user])];
        let details = SignedKeyDetails::new(revoked, vec![direct], users, Vec::new());
        let subkeys = vec![SignedPublicSubKey::new(subkey.public_key().clone(), vec![binding])];
        let certificate = SignedPublicKey::new(public.clone(), details, subkeys);

        let by_subkey = matches!(place, Place::Subkey | Place::Back);
        let document = known(&[Place::Document]).map_or_else(
            || {
                let config = self.config(SignatureType::Binary, more(Place::Document));
                let by_primary = config.sign(primary, &none, PAYLOAD).unwrap();
                let config = of_subkey(SignatureType::Binary, Vec::new());
                [by_primary, config.sign(subkey, &none, PAYLOAD).unwrap()]
            },
            |(_, made)| made.clone(),
        );
        let [by_primary, of_subkey] = document;
        (certificate, if by_subkey { of_subkey } else { by_primary })
    }

    /// What becomes of a document where a critical part stands in a place; the mark is set afterwards where rPGP does
    /// not make it, which is told from arithmetic by what is said.
    fn verdict(&self, place: Place, data: &SubpacketData) -> String {
        let is_unknown = matches!(data, SubpacketData::Other(..));
        let subpacket = if is_unknown {
            Subpacket::regular(data.clone()).unwrap()
        } else {
            Subpacket::critical(data.clone()).unwrap()
        };
        let kind = subpacket.typ().as_u8(false);
        let (certificate, document) = self.make(place, &[subpacket]);
        let (mut keys, mut signature) = (certificate.to_bytes().unwrap(), bytes(&document));
        if is_unknown {
            let marked = if place == Place::Document { &mut signature } else { &mut keys };
            let at = marked.windows(5).position(|it| it == [4, kind, 0xd1, 0xd2, 0xd3]);
            marked[at.unwrap() + 1] |= 0x80;
        }
        let KeyFile::OpenPgp(keys) = KeyFile::parse(&keys).unwrap() else { panic!("no OpenPGP") };
        let signature = DetachedSignature::parse(&signature).unwrap();
        match signature.verify(PAYLOAD, &keys, NOW) {
            Ok(_) => "good".to_owned(),
            Err(error) => error.to_string(),
        }
    }
}

fn bytes(signature: &Signature) -> Vec<u8> {
    let mut bytes = Vec::new();
    signature.to_writer_with_header(&mut bytes).unwrap();
    bytes
}

/// A part of each type, saying nothing that would refuse the signature by itself.
fn parts(maker: &Maker, place: Place) -> Vec<SubpacketData> {
    let (primary, subkey) = (&maker.key.primary_key, &maker.key.secret_subkeys[0].key);
    let (id, issuer) = match place {
        Place::Back => (subkey.legacy_key_id(), subkey.fingerprint()),
        _ => (primary.legacy_key_id(), primary.fingerprint()),
    };
    let mut flags = KeyFlags::default();
    flags.set_sign(true);
    let (certificate, _) = maker.make(Place::Subkey, &[]);
    let back = certificate.public_subkeys[0].signatures[0].embedded_signature().unwrap().clone();
    let fingerprint = [7; 20];
    let revoker =
        RevocationKey::new(RevocationKeyClass::Default, PublicKeyAlgorithm::RSA, &fingerprint);
    let notation = Notation { readable: true, name: "note@example.com".into(), value: "x".into() };
    let mut parts = vec![
        SubpacketData::SignatureCreationTime(Timestamp::from_secs(SECONDS[1])),
        SubpacketData::SignatureExpirationTime(Duration::from_secs(u32::MAX)),
        SubpacketData::ExportableCertification(true),
        SubpacketData::TrustSignature(1, 60),
        SubpacketData::RegularExpression("<[^>]+[@.]b\\.c>$".into()),
        SubpacketData::Revocable(true),
        SubpacketData::KeyExpirationTime(Duration::from_secs(u32::MAX)),
        SubpacketData::PreferredSymmetricAlgorithms([SymmetricKeyAlgorithm::AES256][..].into()),
        SubpacketData::RevocationKey(revoker),
        SubpacketData::IssuerKeyId(id),
        SubpacketData::Notation(notation),
        SubpacketData::PreferredHashAlgorithms([HashAlgorithm::Sha256][..].into()),
        SubpacketData::PreferredCompressionAlgorithms([CompressionAlgorithm::ZIP][..].into()),
        SubpacketData::KeyServerPreferences([0x80][..].into()),
        SubpacketData::PreferredKeyServer("https://keys.example.com".to_owned()),
        SubpacketData::IsPrimary(true),
        SubpacketData::PolicyURI("https://example.com/policy".to_owned()),
        SubpacketData::KeyFlags(flags),
        SubpacketData::SignersUserID("A <a@b.c>".into()),
        SubpacketData::RevocationReason(RevocationCode::NoReason, "".into()),
        SubpacketData::Features(Features::new()),
        SubpacketData::SignatureTarget(
            PublicKeyAlgorithm::Ed25519,
            HashAlgorithm::Sha256,
            vec![0; 32].into(),
        ),
        SubpacketData::EmbeddedSignature(Box::new(back)),
        SubpacketData::IssuerFingerprint(issuer.clone()),
        SubpacketData::PreferredEncryptionModes([AeadAlgorithm::Ocb][..].into()),
        SubpacketData::IntendedRecipientFingerprint(issuer),
        SubpacketData::PreferredAeadAlgorithms(
            [(SymmetricKeyAlgorithm::AES256, AeadAlgorithm::Ocb)][..].into(),
        ),
    ];
    if place == Place::Back {
        // There rPGP reads none, whatever is said of it.
        parts.retain(|it| !matches!(it, SubpacketData::EmbeddedSignature(_)));
    }
    parts.extend([100, 110].map(|it| SubpacketData::Experimental(it, vec![1].into())));
    parts.extend(UNKNOWN.map(|it| SubpacketData::Other(it, vec![0xd1, 0xd2, 0xd3].into())));
    parts
}

/// Where a critical part of this type is acted upon.
fn is_acted_upon(kind: SubpacketType, place: Place) -> bool {
    match kind {
        SubpacketType::SignatureCreationTime
        | SubpacketType::SignatureExpirationTime
        | SubpacketType::IssuerKeyId
        | SubpacketType::IssuerFingerprint => true,
        SubpacketType::KeyExpirationTime | SubpacketType::KeyFlags => {
            matches!(place, Place::UserId | Place::Key | Place::Subkey)
        }
        SubpacketType::PrimaryUserId | SubpacketType::RevocationKey => {
            matches!(place, Place::UserId | Place::Key)
        }
        SubpacketType::EmbeddedSignature => place == Place::Subkey,
        _ => false,
    }
}

/// Every type in one place, marked as critical; a part that is not so is passed over.
fn check_place(place: Place) {
    let maker = Maker::new();
    let (certificate, document) = maker.make(place, &[]);
    let alone = check(&certificate.to_bytes().unwrap(), &bytes(&document), PAYLOAD);
    let revoked = place == Place::Revocation;
    assert!(if revoked { alone.contains("was revoked") } else { alone == "good" }, "{alone}");
    let parts = parts(&maker, place);
    let regular: Vec<Subpacket> =
        parts.iter().map(|it| Subpacket::regular(it.clone()).unwrap()).collect();
    let (certificate, document) = maker.make(place, &regular);
    let together = check(&certificate.to_bytes().unwrap(), &bytes(&document), PAYLOAD);
    assert_eq!(together, alone, "all of them in {place:?}, none critical");
    for part in parts {
        let kind = Subpacket::regular(part.clone()).unwrap().typ();
        let about = format!("{kind:?} in {place:?}");
        let got = maker.verdict(place, &part);
        // A key is taken back whatever else is said.
        if revoked || is_acted_upon(kind, place) {
            assert_eq!(got, alone, "{about}");
        } else {
            assert!(got.contains("nobody here acts upon its critical "), "{about}: {got}");
        }
    }
}

#[test]
fn openpgp_critical_parts_of_documents() {
    check_place(Place::Document);
}

#[test]
fn openpgp_critical_parts_of_user_ids() {
    check_place(Place::UserId);
}

#[test]
fn openpgp_critical_parts_of_keys() {
    check_place(Place::Key);
}

#[test]
fn openpgp_critical_parts_of_subkeys() {
    check_place(Place::Subkey);
    check_place(Place::Back);
}

#[test]
fn openpgp_critical_parts_of_revocations() {
    check_place(Place::Revocation);
}

/// A statement that nobody understands does not hand its place to an older one that permits more.
#[test]
fn openpgp_critical_parts_of_newer_statements() {
    let maker = Maker::new();
    let (old, document) = maker.make(Place::Document, &[]);
    let policy = SubpacketData::PolicyURI("https://example.com/policy".to_owned());
    let (new, _) = maker.make(Place::UserId, &[Subpacket::critical(policy).unwrap()]);
    let [old, new] = [old, new].map(|it| it.to_bytes().unwrap());
    for keys in [[&old[..], &new].concat(), [&new[..], &old].concat()] {
        let got = check(&keys, &bytes(&document), PAYLOAD);
        assert!(got.contains("what its owner says of it is not valid"), "{got}");
        assert!(got.contains("critical policy"), "{got}");
    }
}
