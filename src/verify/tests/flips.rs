//! Bits of OpenPGP signatures and of signed git objects, turned one after the other, and signatures that
//! are cut off anywhere.

use super::git::objects;
use super::*;
use crate::verify::openpgp::DetachedSignature;

/// The packet of an armoured signature.
fn packet(signature: &[u8]) -> Vec<u8> {
    armor::read(std::str::from_utf8(signature).unwrap()).unwrap().blocks.remove(0).data
}

fn armored(packet: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(packet);
    format!("-----BEGIN PGP SIGNATURE-----\n\n{text}\n-----END PGP SIGNATURE-----\n").into_bytes()
}

/// Where what nobody signs stands in a version 4 signature, as gpg writes it: what is not hashed, and how
/// many bits each number of the signature is said to have.
fn unsigned(packet: &[u8]) -> Vec<std::ops::Range<usize>> {
    let head = match packet[0] & 3 {
        0 => 2,
        1 => 3,
        _ => panic!("gpg wrote {:#x}", packet[0]),
    };
    let number = |at: usize| usize::from(u16::from_be_bytes([packet[at], packet[at + 1]]));
    let unhashed = head + 6 + number(head + 4);
    let end = unhashed + 2 + number(unhashed);
    let (mut parts, mut at) = (Vec::new(), end + 2);
    while at < packet.len() {
        parts.push(at..at + 2);
        at += 2 + number(at).div_ceil(8);
    }
    assert_eq!(at, packet.len());
    parts.push(unhashed + 2..end);
    parts
}

/// Both ways of verifying, which agree.
fn verdict(signature: &[u8], keys: &Keyring) -> Result<VerifiedSigner, NotVerified> {
    let signature = DetachedSignature::parse(signature)?;
    let direct = signature.verify(PAYLOAD, keys, NOW);
    let Ok(request) = signature.checksum_request() else { return direct };
    let file = [PAYLOAD, &request.suffix].concat();
    let digest = match request.algorithm {
        ChecksumAlgorithm::Sha256 => format!("sha256:{}", hex::encode(Sha256::digest(file))),
        ChecksumAlgorithm::Sha384 => format!("sha384:{}", hex::encode(Sha384::digest(file))),
        ChecksumAlgorithm::Sha512 => format!("sha512:{}", hex::encode(Sha512::digest(file))),
    };
    let response = ChecksumResponse { digest, suffix: request.suffix };
    assert_eq!(signature.verify_digest(&response, keys, NOW), direct);
    direct
}

#[test]
fn no_altered_openpgp_signature_passes() {
    let gpg = Gpg::new();
    for (algorithm, step) in [("ed25519", 1), ("nistp256", 3), ("rsa2048", 11)] {
        gpg.key(algorithm, algorithm, BEGUN, "never");
        let KeyFile::OpenPgp(keys) = KeyFile::parse(&gpg.export(&[algorithm])).unwrap() else {
            panic!("no OpenPGP");
        };
        let packet = packet(&gpg.sign(algorithm, MADE, &["--digest-algo", "SHA512"]));
        let good = verdict(&packet, &keys).unwrap();
        assert_eq!(verdict(&armored(&packet), &keys).as_ref(), Ok(&good), "{algorithm}");
        let unsigned = unsigned(&packet);
        for at in (0..packet.len()).step_by(step) {
            let mut flipped = packet.clone();
            flipped[at] ^= 1 << (at % 8);
            let got = verdict(&armored(&flipped), &keys);
            // What nobody signs may be anything, as long as nothing is believed of it.
            let believed = got.as_ref().is_ok_and(|signer| {
                *signer != good || !unsigned.iter().any(|part| part.contains(&at))
            });
            assert!(!believed, "{algorithm}: octet {at} of {packet:02x?} does not matter");
        }
        for length in 0..packet.len() {
            let cut = verdict(&armored(&packet[..length]), &keys);
            assert!(cut.is_err(), "{algorithm}: {length} octets are enough");
        }
    }
}

#[test]
fn no_altered_git_object_passes() {
    let gpg = Gpg::new();
    gpg.key("A <a@b.c>", "ed25519", "20200101T000000!", "never");
    let keys = KeyFile::parse(&gpg.export(&["A"])).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let raw = objects(dir.path(), "sha1", &[gpg.program()]);
    for (kind, raw) in [Kind::Commit, Kind::Tag].into_iter().zip(raw) {
        let verify = |raw: &[u8]| {
            let object = GitObject::parse(kind, raw.to_vec().into()).ok()?;
            let signer = verify_git(&object, ObjectFormat::Sha1, &keys, NOW).ok()?;
            let signature = object.signature_in("gpgsig")?.into_owned();
            let blocks = armor::read(&signature).ok()?.blocks;
            Some((signer, object.signed_payload(), blocks))
        };
        let good = verify(&raw).unwrap();
        for at in (0..raw.len()).step_by(2) {
            let mut flipped = raw.clone();
            flipped[at] ^= 1 << (at % 7);
            let Some(passed) = verify(&flipped) else { continue };
            // Armour has white space and a checksum that say nothing.
            let same = passed.1 == good.1 && passed.0 == good.0 && {
                let (mine, other) = (&good.2[0].data, &passed.2[0].data);
                mine == other
                    || unsigned(mine).iter().any(|part| {
                        (0..mine.len()).all(|at| mine[at] == other[at] || part.contains(&at))
                    })
            };
            assert!(same, "{kind}: octet {at} does not matter");
        }
        for length in 0..raw.len() {
            let Some(passed) = verify(&raw[..length]) else { continue };
            assert!(passed == good, "{kind}: {length} octets are enough");
        }
    }
}

/// Objects of any size: a signature that is too long, and a message that is not.
#[test]
fn git_objects_of_any_size() {
    let gpg = Gpg::new();
    gpg.key("A", "ed25519", BEGUN, "never");
    let keys = KeyFile::parse(&gpg.export(&["A"])).unwrap();
    let head =
        format!("object {}\ntype commit\ntag v1\ntagger A <a@b.c> 1 +0000\n\n", "7".repeat(40));
    let verify = |raw: String| {
        let object = GitObject::parse(Kind::Tag, raw.into()).unwrap();
        match verify_git(&object, ObjectFormat::Sha1, &keys, NOW) {
            Ok(_) => "good".to_owned(),
            Err(error) => error.to_string(),
        }
    };
    let sign = |content: &str| {
        let args = ["--armor", "--local-user", "A", "--detach-sign"];
        String::from_utf8(gpg.run(MADE, &args, content.as_bytes())).unwrap()
    };
    let long = format!("{head}{}\n", "x".repeat(1 << 20));
    let signature = sign(&long);
    assert_eq!(verify(format!("{long}{signature}")), "good");
    let shorter = format!("{head}{}\n", "x".repeat((1 << 20) - 1));
    let got = verify(format!("{shorter}{signature}"));
    assert!(got.contains("did not sign"), "{got}");
    let got = verify(format!("{long}{signature}{}", "\n".repeat(MAX_SIGNATURE)));
    assert!(got.contains("more than 524288 bytes"), "{got}");
    let got = verify(format!("{head}{signature}{}", sign(&head)));
    assert!(got.contains("more than one signature"), "{got}");
    for cut in [
        "-----BEGIN PGP SIGNATURE-----\n",
        "-----BEGIN PGP SIGNATURE-----\n\n-----END PGP SIGNATURE-----\n",
    ] {
        let got = verify(format!("{head}{cut}"));
        assert!(got.contains("cannot be read"), "{got}");
    }
}
