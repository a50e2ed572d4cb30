//! OpenPGP's other algorithms, versions and types of signatures: what is accepted of them, and what is
//! refused in which words.

use pgp::composed::{KeyType, SecretKeyParamsBuilder, SignedSecretKey};
use pgp::crypto::ecc_curve::ECCCurve;
use pgp::crypto::hash::HashAlgorithm;
use pgp::packet::{
    PacketHeader, PacketTrait as _, Signature, SignatureConfig, SignatureType, Subpacket,
    SubpacketData,
};
use pgp::ser::Serialize as _;
use pgp::types::{KeyDetails as _, KeyVersion, Password, SigningKey as _, Tag, Timestamp};
use rsa::rand_core::OsRng;

use super::*;

/// 2025-01-01, and 2029-01-01.
const SECONDS: [u32; 2] = [1_735_689_600, 1_861_920_000];

/// A key that rPGP makes, which knows more algorithms than the gpg of stable distributions.
fn key(kind: KeyType, version: KeyVersion) -> SignedSecretKey {
    let mut params = SecretKeyParamsBuilder::default();
    params.version(version).key_type(kind).can_sign(true).can_certify(true);
    params.created_at(Timestamp::from_secs(SECONDS[0])).primary_user_id("A <a@b.c>".to_owned());
    params.build().unwrap().generate(OsRng).unwrap()
}

fn public(key: &SignedSecretKey) -> Vec<u8> {
    key.to_public_key().to_bytes().unwrap()
}

fn sign(key: &SignedSecretKey, hash: HashAlgorithm, more: Vec<Subpacket>) -> Vec<u8> {
    let key = &key.primary_key;
    let (kind, algorithm) = (SignatureType::Binary, key.algorithm());
    let mut config = if key.version() == KeyVersion::V6 {
        SignatureConfig::v6(OsRng, kind, algorithm, hash).unwrap()
    } else {
        SignatureConfig::v4(kind, algorithm, hash)
    };
    let made = SubpacketData::SignatureCreationTime(Timestamp::from_secs(SECONDS[1]));
    let issuer = SubpacketData::IssuerFingerprint(key.fingerprint());
    config.hashed_subpackets =
        vec![Subpacket::regular(made).unwrap(), Subpacket::regular(issuer).unwrap()];
    config.hashed_subpackets.extend(more);
    bytes(&config.sign(key, &Password::empty(), PAYLOAD).unwrap())
}

fn bytes(signature: &Signature) -> Vec<u8> {
    let mut bytes = Vec::new();
    signature.to_writer_with_header(&mut bytes).unwrap();
    bytes
}

#[test]
fn openpgp_algorithms_that_are_not_accepted() {
    let gpg = Gpg::new();
    for (algorithm, what) in
        [("dsa1024", "DSA"), ("brainpoolP256r1", "ECDSA over"), ("secp256k1", "ECDSA over")]
    {
        gpg.key(algorithm, algorithm, BEGUN, "never");
        let signature = gpg.sign(algorithm, MADE, &["--digest-algo", "SHA256"]);
        let keys = gpg.export(&[algorithm]);
        let got = check(&keys, &signature, PAYLOAD);
        let wanted = "its signature could not be verified: ";
        assert!(got.starts_with(&format!("{wanted}{what}")), "{algorithm}: {got}");
        assert!(got.contains("is not supported"), "{algorithm}: {got}");
        // Nor does such a key stand in the way of others of the same file.
        let other = gpg.key("good", "ed25519", BEGUN, "never");
        let good = gpg.sign(&other, MADE, &[]);
        let both = [keys, gpg.export(&[&other])].concat();
        assert_eq!(check(&both, &good, PAYLOAD), "good", "{algorithm}");
        gpg.run(MADE, &["--delete-secret-and-public-key", &other], b"");
    }
    for (kind, version, hash, wanted) in [
        (KeyType::Ed448, KeyVersion::V6, HashAlgorithm::Sha512, "could not be verified: Ed448"),
        (
            KeyType::ECDSA(ECCCurve::Secp256k1),
            KeyVersion::V4,
            HashAlgorithm::Sha256,
            "could not be verified: ECDSA over",
        ),
        (KeyType::Ed25519, KeyVersion::V4, HashAlgorithm::Sha256, "good"),
        (KeyType::Ed25519, KeyVersion::V4, HashAlgorithm::Sha3_256, "it uses SHA3-256"),
    ] {
        let about = format!("{kind:?} {version:?} {hash:?}");
        let key = key(kind, version);
        let got = check(&public(&key), &sign(&key, hash, Vec::new()), PAYLOAD);
        assert!(got.contains(wanted), "{about}: {got}");
    }
}

/// RSA of more bits than gpg makes: made of many primes, which verifies like any other, here and by gpg.
#[test]
fn openpgp_rsa_of_any_length() {
    for (bits, keys, signature, wanted) in [
        (
            8_192,
            include_str!("rsa/openpgp-8192.asc"),
            include_str!("rsa/openpgp-8192.sig"),
            ["good", "did not sign"],
        ),
        // rPGP reads no such key, and says so.
        (
            16_384,
            include_str!("rsa/openpgp-16384.asc"),
            include_str!("rsa/openpgp-16384.sig"),
            ["the key file cannot be read", "the key file cannot be read"],
        ),
    ] {
        for (content, wanted) in [PAYLOAD, b"release 1.1\n"].iter().zip(wanted) {
            let got = check(keys.as_bytes(), signature.as_bytes(), content);
            assert!(got.contains(wanted), "{bits} bits: {got}");
        }
        let gpg = Gpg::new();
        gpg.run(MADE, &["--import"], keys.as_bytes());
        let [file, content] = ["signature", "content"].map(|name| gpg.0.path().join(name));
        std::fs::write(&file, signature).unwrap();
        std::fs::write(&content, PAYLOAD).unwrap();
        let files = [file.to_str().unwrap(), content.to_str().unwrap()];
        gpg.run("20300101T000000!", &["--verify", files[0], files[1]], b"");
    }
}

/// The sample certificate and the sample signature of RFC 9580 (appendices A.3 and A.6): somebody else's.
const SAMPLE_KEY: &str = "-----BEGIN PGP PUBLIC KEY BLOCK-----

xioGY4d/4xsAAAAg+U2nu0jWCmHlZ3BqZYfQMxmZu52JGggkLq2EVD34laPCsQYf
GwoAAABCBYJjh3/jAwsJBwUVCg4IDAIWAAKbAwIeCSIhBssYbE8GCaaX5NUt+mxy
KwwfHifBilZwj2Ul7Ce62azJBScJAgcCAAAAAK0oIBA+LX0ifsDm185Ecds2v8lw
gyU2kCcUmKfvBXbAf6rhRYWzuQOwEn7E/aLwIwRaLsdry0+VcallHhSu4RN6HWaE
QsiPlR4zxP/TP7mhfVEe7XWPxtnMUMtf15OyA51YBM4qBmOHf+MZAAAAIIaTJINn
+eUBXbki+PSAld2nhJh/LVmFsS+60WyvXkQ1wpsGGBsKAAAALAWCY4d/4wKbDCIh
BssYbE8GCaaX5NUt+mxyKwwfHifBilZwj2Ul7Ce62azJAAAAAAQBIKbpGG2dWTX8
j+VjFM21J0hqWlEg+bdiojWnKfA5AQpWUWtnNwDEM0g12vYxoWM8Y81W+bHBw805
I8kWVkXU6vFOi+HWvv/ira7ofJu16NnoUkhclkUrk0mXubZvyl4GBg==
-----END PGP PUBLIC KEY BLOCK-----
";
const SAMPLE_SIGNATURE: &str = "-----BEGIN PGP SIGNATURE-----

wpgGARsKAAAAKQWCY5ijYyIhBssYbE8GCaaX5NUt+mxyKwwfHifBilZwj2Ul7Ce6
2azJAAAAAGk2IHZJX1AhiJD39eLuPBgiUU9wUA9VHYblySHkBONKU/usJ9BvuAqo
/FvLFuGWMbKAdA+epq7V4HOtAPlBWmU8QOd6aud+aSunHQaaEJ+iTFjP2OMW0KBr
NK2ay45cX1IVAQ==
-----END PGP SIGNATURE-----
";
const SAMPLE: &str = "What we need from the grocery store:\n\n- tofu\n- vegetables\n- noodles\n";

#[test]
fn openpgp_version_6() {
    let (keys, signature) = (SAMPLE_KEY.as_bytes(), SAMPLE_SIGNATURE.as_bytes());
    assert_eq!(check(keys, signature, SAMPLE.as_bytes()), "good");
    let parsed = DetachedSignature::parse(signature).unwrap();
    let KeyFile::OpenPgp(ring) = KeyFile::parse(keys).unwrap() else { panic!("no OpenPGP") };
    let signer = parsed.verify(SAMPLE.as_bytes(), &ring, NOW).unwrap();
    let fingerprint = "cb186c4f0609a697e4d52dfa6c722b0c1f1e27c18a56708f6525ec27bad9acc9";
    let SigningKey::OpenPgp { primary, .. } = signer.key() else { panic!("{signer:?}") };
    assert_eq!(primary, fingerprint);
    let got = check(keys, signature, b"What we need:\n");
    assert!(got.contains("did not sign"), "{got}");

    // Over a file there is no way: what is hashed begins with a salt.
    let ours = key(KeyType::Ed25519, KeyVersion::V6);
    let made = sign(&ours, HashAlgorithm::Sha512, Vec::new());
    assert_eq!(check(&public(&ours), &made, PAYLOAD), "good");
    let asked = DetachedSignature::parse(&made).unwrap().checksum_request();
    assert!(
        matches!(&asked, Err(NotVerified::CouldNot(CouldNot::Unsupported { what, .. }))
            if what.contains("version 6")),
        "{asked:?}"
    );
    for at in 0..made.len() {
        let mut flipped = made.clone();
        flipped[at] ^= 1 << (at % 8);
        let got = check(&public(&ours), &flipped, PAYLOAD);
        assert_ne!(got, "good", "octet {at} does not matter");
    }
    // Nor does a key of one version make signatures of the other, whatever the arithmetic says.
    let older = key(KeyType::Ed25519, KeyVersion::V4);
    let got = check(&public(&older), &made, PAYLOAD);
    assert!(got.contains("not in the key file"), "{got}");
}

/// A signature of version 4, but for its key, which is of version 6: no program makes one.
#[test]
fn openpgp_versions_do_not_mix() {
    let ours = key(KeyType::Ed25519, KeyVersion::V6);
    // Version, binary, Ed25519, SHA-512; made in 2029; nothing that is not hashed.
    let made = [&[5, 2][..], &SECONDS[1].to_be_bytes()].concat();
    let head = [&[4, 0, 27, 10, 0, 6][..], &made].concat();
    let trailer = [&[4, 0xff][..], &u32::try_from(head.len()).unwrap().to_be_bytes()].concat();
    let digest = Sha512::new().chain_update(PAYLOAD).chain_update(&head).chain_update(trailer);
    let digest = digest.finalize();
    let signature =
        ours.primary_key.sign(&Password::empty(), HashAlgorithm::Sha512, &digest).unwrap();
    let pgp::types::SignatureBytes::Native(signature) = signature else { panic!("no octets") };
    let body = [&head[..], &[0, 0], &digest[..2], &signature].concat();
    let packet = [&[0xc2, u8::try_from(body.len()).unwrap()][..], &body].concat();
    let got = check(&public(&ours), &packet, PAYLOAD);
    assert!(got.contains("did not sign"), "{got}");
}

/// A signature of version 3, which is right: it has no room for what we hold signatures against.
#[test]
fn openpgp_version_3() {
    let ours = key(KeyType::Ed25519Legacy, KeyVersion::V4);
    let key = &ours.primary_key;
    let made = Timestamp::from_secs(SECONDS[1]);
    let hashed = [&[0][..], &SECONDS[1].to_be_bytes()].concat();
    let digest = Sha256::new().chain_update(PAYLOAD).chain_update(hashed).finalize();
    let signature = key.sign(&Password::empty(), HashAlgorithm::Sha256, &digest).unwrap();
    let signature = Signature::v3(
        PacketHeader::new_fixed(Tag::Signature, 0),
        SignatureType::Binary,
        key.algorithm(),
        HashAlgorithm::Sha256,
        made,
        key.legacy_key_id(),
        [digest[0], digest[1]],
        signature,
    );
    assert!(signature.verify(&key.public_key(), PAYLOAD).is_ok(), "rPGP takes it");
    let got = check(&public(&ours), &bytes(&signature), PAYLOAD);
    assert!(got.contains("could not be verified: an OpenPGP signature of version 3"), "{got}");
}

/// Packets of gpg's, whose headers are of the old format.
fn signatures(packets: &[u8]) -> Vec<Vec<u8>> {
    let (mut found, mut rest) = (Vec::new(), packets);
    while let [tag, after @ ..] = rest {
        let (head, length) = match tag & 3 {
            0 => (2, usize::from(after[0])),
            1 => (3, usize::from(u16::from_be_bytes([after[0], after[1]]))),
            _ => panic!("gpg wrote {tag:#x}"),
        };
        let (packet, after) = rest.split_at(head + length);
        if (tag >> 2) & 0xf == 2 {
            found.push(packet.to_vec());
        }
        rest = after;
    }
    found
}

/// Signatures over keys and user ids, which are right as such, are none of a document.
#[test]
fn openpgp_types_that_are_no_documents() {
    let gpg = Gpg::new();
    let key = gpg.key("A", "ed25519", BEGUN, "never");
    gpg.run(BEGUN, &["--quick-add-key", &key, "ed25519", "sign", "never"], b"");
    let keys = gpg.export(&["A"]);
    let mut found = signatures(&keys);
    let revocation = gpg.0.path().join(format!("openpgp-revocs.d/{key}.rev"));
    let revocation = std::fs::read_to_string(revocation).unwrap().replace(":-----", "-----");
    found.push(armor::read(&revocation).unwrap().blocks.remove(0).data);
    assert_eq!(found.len(), 3);
    for (packet, kind) in found.iter().zip(["0x13", "0x18", "0x20"]) {
        let got = check(&keys, packet, PAYLOAD);
        assert!(got.contains(&format!("its type is {kind}, not a document's")), "{kind}: {got}");
    }
    // A good one, said to be of every other type there is.
    let good = armor::read(std::str::from_utf8(&gpg.sign(&key, MADE, &[])).unwrap()).unwrap();
    let good = good.blocks[0].data.clone();
    assert_eq!(check(&keys, &good, PAYLOAD), "good");
    assert_eq!(good[3], 0);
    for kind in 1..=u8::MAX {
        let mut other = good.clone();
        other[3] = kind;
        assert_ne!(check(&keys, &other, PAYLOAD), "good", "{kind:#x}");
    }
}

/// What a signer marks as not to be ignored is not ignored.
#[test]
fn openpgp_critical_words() {
    let gpg = Gpg::new();
    gpg.key("A", "ed25519", BEGUN, "never");
    let keys = gpg.export(&["A"]);
    for (notation, wanted) in [
        ("note@example.com=x", "good"),
        ("!note@example.com=x", "nobody here acts upon its critical notation note@example.com"),
    ] {
        let signature = gpg.sign("A", MADE, &["--sig-notation", notation]);
        let got = check(&keys, &signature, PAYLOAD);
        assert!(got.contains(wanted), "{notation}: {got}");
    }
    let ours = key(KeyType::Ed25519, KeyVersion::V4);
    for (number, unknown) in [
        (77, SubpacketData::Other(77, vec![1, 2, 3].into())),
        (101, SubpacketData::Experimental(101, vec![1, 2, 3].into())),
    ] {
        let subpacket = Subpacket::regular(unknown).unwrap();
        let mut signature = sign(&ours, HashAlgorithm::Sha256, vec![subpacket]);
        assert_eq!(check(&public(&ours), &signature, PAYLOAD), "good", "{number}");
        // rPGP signs no such thing, and so the mark is set afterwards; what is said comes before arithmetic.
        let at = signature.windows(4).position(|it| it == [number, 1, 2, 3]).unwrap();
        signature[at] |= 0x80;
        let got = check(&public(&ours), &signature, PAYLOAD);
        assert!(got.contains("critical"), "{number}: {got}");
    }
}

/// A text has one hash for two contents where its lines end in carriage returns, and so neither counts.
#[test]
fn openpgp_texts_with_carriage_returns() {
    let gpg = Gpg::new();
    gpg.key("A", "ed25519", BEGUN, "never");
    let keys = gpg.export(&["A"]);
    let signature = gpg.sign("A", MADE, &["--textmode"]);
    assert_eq!(check(&keys, &signature, PAYLOAD), "good");
    let got = check(&keys, &signature, b"release 1.0\r\n");
    assert!(got.contains("could not be verified") && got.contains("carriage returns"), "{got}");
    let got = check(&keys, &signature, b"release 1.1\n");
    assert!(got.contains("did not sign"), "{got}");
    let binary = gpg.sign("A", MADE, &[]);
    let got = check(&keys, &binary, b"release 1.0\r\n");
    assert!(got.contains("did not sign"), "{got}");
}
