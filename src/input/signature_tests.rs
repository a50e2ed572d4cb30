//! Signatures that GnuPG and OpenSSH made, and what is none.

use bytes::Bytes;
use proptest::prelude::*;

use super::super::gitobject::{GitObject, Kind};
use super::*;

const KEY_ID: &str = "459fa3038e19af4b";
const FINGERPRINT: &str = "SHA256:NFn4u8cIytK13ZRnn3mWuYnkWomdb3jmY/ILsrDL6G8";

fn signature(kind: Kind, raw: &'static [u8]) -> String {
    let object = GitObject::parse(kind, Bytes::from_static(raw)).unwrap();
    object.signature().unwrap().into_owned()
}

fn armour(packets: &[u8]) -> String {
    let data = STANDARD.encode(packets);
    format!("-----BEGIN PGP SIGNATURE-----\nVersion: x\n\n{data}\n-----END PGP SIGNATURE-----\n")
}

#[test]
fn an_openpgp_signature_names_its_key() {
    for (kind, raw) in [
        (Kind::Tag, include_bytes!("fixtures/pgp-tag").as_slice()),
        (Kind::Commit, include_bytes!("fixtures/pgp-commit").as_slice()),
    ] {
        let text = signature(kind, raw);
        assert_eq!(pgp(&text), Some(PgpSignature { version: 4, key_id: KEY_ID.into() }));
        assert_eq!(ssh(&text), None);
    }
}

#[test]
fn an_ssh_signature_names_its_key() {
    for (kind, raw) in [
        (Kind::Tag, include_bytes!("fixtures/ssh-tag").as_slice()),
        (Kind::Commit, include_bytes!("fixtures/ssh-commit").as_slice()),
    ] {
        let text = signature(kind, raw);
        assert_eq!(ssh(&text), Some(SshSignature { version: 1, public_key: FINGERPRINT.into() }));
        assert_eq!(pgp(&text), None);
    }
}

#[test]
fn packets_of_every_shape() {
    let issuer = [9, ISSUER, 1, 2, 3, 4, 5, 6, 7, 8];
    let mut fingerprint = vec![34, ISSUER_FINGERPRINT, 6];
    fingerprint.extend(10..42);
    let v4 = |hashed: &[u8], unhashed: &[u8]| {
        let mut body = vec![4, 0, 22, 8, 0, u8::try_from(hashed.len()).unwrap()];
        body.extend(hashed);
        body.extend([0, u8::try_from(unhashed.len()).unwrap()]);
        body.extend(unhashed);
        body
    };
    let packet = |head: &[u8], body: &[u8]| [head, body].concat();
    let length = |body: &[u8]| u8::try_from(body.len()).unwrap();
    let named = v4(&[], &issuer);
    let v6 = {
        let mut body = vec![6, 0, 27, 8, 0, 0, 0, length(&fingerprint)];
        body.extend(&fingerprint);
        body.extend([0, 0, 0, 0]);
        body
    };
    let id = Some("0102030405060708");
    let old = |body: &[u8]| packet(&[0x88, length(body)], body);
    for (about, packets, key_id) in [
        ("old format", old(&named), id),
        ("old format, two octets", packet(&[0x89, 0, length(&named)], &named), id),
        ("old format, to the end", packet(&[0x8b], &named), id),
        ("new format", packet(&[0xc2, length(&named)], &named), id),
        ("new format, five octets", packet(&[0xc2, 255, 0, 0, 0, length(&named)], &named), id),
        ("behind a marker", packet(&[0xca, 3, b'P', b'G', b'P'], &old(&named)), id),
        ("hashed", old(&v4(&issuer, &[])), id),
        ("nobody", old(&v4(&[], &[])), Some("")),
        ("version 6", old(&v6), Some("0a0b0c0d0e0f1011")),
        ("new format, partial", packet(&[0xc2, 224], &named), None),
        ("version 3", old(&[3, 0, 22, 8, 0, 0, 0, 0]), None),
        ("RIPEMD-160", old(&[4, 0, 22, 3, 0, 0, 0, 0]), None),
        ("ElGamal", old(&[4, 0, 16, 8, 0, 0, 0, 0]), None),
        ("short issuer", old(&v4(&[], &[2, ISSUER, 1])), None),
        ("issuer past the end", old(&v4(&[], &[9, ISSUER, 1])), None),
        ("empty subpacket", old(&v4(&[0], &[])), None),
        ("cut off", packet(&[0x88, 200], &named), None),
        ("no packet", vec![0x42], None),
        ("nothing", vec![], None),
    ] {
        let got = pgp(&armour(&packets));
        assert_eq!(got.as_ref().map(|got| got.key_id.as_str()), key_id, "{about}");
    }
}

#[test]
fn armour_that_is_none() {
    let good = armour(&[0x88, 8, 4, 0, 22, 8, 0, 0, 0, 0]);
    assert!(pgp(&good).is_some());
    for bad in [
        String::new(),
        good.replace("BEGIN PGP SIGNATURE", "BEGIN PGP MESSAGE"),
        good.replace("-----END PGP SIGNATURE-----", ""),
        good.replace("iAg", "!!!"),
        format!("x\n{good}"),
        good.replace("Version", &"x".repeat(MAX_ARMOUR)),
    ] {
        assert_eq!(pgp(&bad), None, "{bad:.80}");
    }
}

proptest! {
    #[test]
    fn never_panics(packets in prop::collection::vec(any::<u8>(), 0..200), text in "\\PC*") {
        let _ = pgp(&armour(&packets));
        let _ = ssh(&armour(&packets).replace("PGP", "SSH"));
        let _ = (pgp(&text), ssh(&text));
        let mut blob = b"SSHSIG\0\0\0\x01".to_vec();
        blob.extend(&packets);
        let _ = ssh(&armour(&blob).replace("PGP", "SSH").replace("Version: x\n\n", ""));
    }
}
