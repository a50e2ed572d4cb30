//! Signatures that real gpg, git and ssh-keygen made, and what is wrong with some of them.

mod allowed_signers;
mod critical;
mod flips;
mod git;
mod gpg;
mod kinds;
mod openpgp_others;
mod rules;
mod signers;
mod ssh_keys;
mod ssh_signatures;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use self::gpg::Gpg;
use super::*;
use crate::input::gitobject::{GitObject, Kind};
use crate::meta::{ChecksumAlgorithm, ChecksumResponse};

const PAYLOAD: &[u8] = b"release 1.0\n";
/// 2030-01-01.
const NOW: i64 = 1_893_456_000;
const MADE: &str = "20290101T000000!";

fn run(command: &mut Command, stdin: &[u8]) -> Vec<u8> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin).unwrap();
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {error}");
    output.stdout
}

/// Verifies as a git object would be, and as a file would be; both must agree.
fn check(keys: &[u8], signature: &[u8], payload: &[u8]) -> String {
    let keys = match KeyFile::parse(keys) {
        Ok(KeyFile::OpenPgp(keys)) => keys,
        Ok(KeyFile::Ssh(_)) => return "SSH keys".to_owned(),
        Err(error) => return error.to_string(),
    };
    let words = |result: Result<VerifiedSigner, NotVerified>| match result {
        Ok(_) => "good".to_owned(),
        Err(error) => error.to_string(),
    };
    let signature = match DetachedSignature::parse(signature) {
        Ok(signature) => signature,
        Err(error) => return error.to_string(),
    };
    let direct = words(signature.verify(payload, &keys, NOW));
    match signature.checksum_request() {
        Ok(request) => {
            let file = [payload, &request.suffix].concat();
            let digest = match request.algorithm {
                ChecksumAlgorithm::Sha256 => {
                    format!("sha256:{}", hex::encode(Sha256::digest(file)))
                }
                ChecksumAlgorithm::Sha384 => {
                    format!("sha384:{}", hex::encode(Sha384::digest(file)))
                }
                ChecksumAlgorithm::Sha512 => {
                    format!("sha512:{}", hex::encode(Sha512::digest(file)))
                }
            };
            let response = ChecksumResponse { digest, suffix: request.suffix };
            assert_eq!(words(signature.verify_digest(&response, &keys, NOW)), direct);
            // What was hashed with another suffix, or otherwise, is no answer to the question.
            let mut other = response.clone();
            other.suffix = [&other.suffix[..], b"x"].concat().into();
            let other = signature.verify_digest(&other, &keys, NOW);
            assert!(matches!(other, Err(NotVerified::CouldNot(_))), "{other:?}");
            let mut other = response;
            other.digest = other.digest.replacen("sha", "sha1", 1);
            let other = signature.verify_digest(&other, &keys, NOW);
            assert!(matches!(other, Err(NotVerified::CouldNot(_))), "{other:?}");
        }
        // A text cannot be judged by a digest of the file, and a weak hash by none.
        Err(NotVerified::CouldNot(_)) => {}
        Err(error) => assert_eq!(error.to_string(), direct),
    }
    direct
}

#[test]
fn openpgp_algorithms_and_key_files() {
    let gpg = Gpg::new();
    for algorithm in ["rsa2048", "ed25519", "nistp256", "nistp384", "nistp521"] {
        gpg.key(algorithm, algorithm, "20250101T000000!", "never");
        let armored = gpg.export(&["--armor", algorithm]);
        let mut signature = Vec::new();
        // gpg signs with no shorter hash than the key asks for.
        let hashes = match algorithm {
            "nistp384" => &["SHA384", "SHA512"][..],
            "nistp521" => &["SHA512"],
            _ => &["SHA256", "SHA384", "SHA512"],
        };
        for hash in hashes {
            signature = gpg.sign(algorithm, MADE, &["--digest-algo", hash]);
            let parsed = DetachedSignature::parse(&signature).unwrap();
            let asked = parsed.checksum_request().unwrap().algorithm;
            assert_eq!(format!("{asked:?}").to_uppercase(), *hash, "{algorithm}");
            assert_eq!(check(&armored, &signature, PAYLOAD), "good", "{algorithm} {hash}");
        }
        assert_eq!(check(&gpg.export(&[algorithm]), &signature, PAYLOAD), "good", "{algorithm}");
        let tampered = check(&armored, &signature, b"release 1.1\n");
        assert!(tampered.contains("did not sign this content"), "{algorithm}: {tampered}");
    }
    gpg.key("weak", "rsa1024", "20250101T000000!", "never");
    let weak = check(&gpg.export(&["weak"]), &gpg.sign("weak", MADE, &[]), PAYLOAD);
    assert!(weak.contains("has 1024 bits"), "{weak}");

    let signature = gpg.sign("rsa2048", MADE, &[]);
    let (one, other) = (gpg.export(&["--armor", "ed25519"]), gpg.export(&["--armor", "rsa2048"]));
    assert_eq!(check(&[one.clone(), other].concat(), &signature, PAYLOAD), "good");
    assert_eq!(check(&gpg.export(&[]), &signature, PAYLOAD), "good");
    let wrong = check(&one, &signature, PAYLOAD);
    assert!(wrong.contains("which is not in the key file"), "{wrong}");
    let sha1 = gpg.sign("rsa2048", MADE, &["--digest-algo", "SHA1"]);
    let sha1 = check(&gpg.export(&["rsa2048"]), &sha1, PAYLOAD);
    assert!(sha1.contains("it uses SHA1"), "{sha1}");
    // A text is hashed with its line ends changed, which no digest of the file is of.
    let text = gpg.sign("ed25519", MADE, &["--textmode", "--digest-algo", "SHA512"]);
    assert_eq!(check(&one, &text, PAYLOAD), "good", "over the content itself");
    let text = DetachedSignature::parse(&text).unwrap().checksum_request();
    assert!(
        matches!(text, Err(NotVerified::CouldNot(CouldNot::Unsupported { .. }))),
        "over a file: {text:?}"
    );
    let secret = gpg.run(MADE, &["--armor", "--export-secret-keys", "ed25519"], b"");
    assert!(check(&secret, &signature, PAYLOAD).contains("private key"));
}

#[test]
fn openpgp_times_and_revocations() {
    let gpg = Gpg::new();
    let made = "20250101T000000!";
    gpg.key("good", "ed25519", made, "never");
    gpg.key("expired", "ed25519", made, "20290601T000000");
    let revoked = gpg.key("revoked", "ed25519", made, "never");
    let parent = gpg.key("parent", "ed25519", made, "never");
    gpg.run(made, &["--quick-add-key", &parent, "ed25519", "sign", "never"], b"");
    let subkey = format!("{}!", gpg.fingerprints("parent").remove(1));
    let cases = [
        ("good", gpg.sign("good", MADE, &[]), "good"),
        ("good", gpg.sign("good", "20300601T000000!", &[]), "it is dated in the future"),
        (
            "good",
            gpg.sign("good", MADE, &["--default-sig-expire", "20290201T000000"]),
            "it expired at 2029",
        ),
        ("expired", gpg.sign("expired", MADE, &[]), "expired at 2029-06"),
        ("parent", gpg.sign(&subkey, MADE, &[]), "good"),
    ];
    for (user, signature, expected) in &cases {
        let got = check(&gpg.export(&["--armor", user]), signature, PAYLOAD);
        assert!(got.contains(expected), "{user}: {got}, expected {expected}");
    }

    let signature = gpg.sign("revoked", MADE, &[]);
    let before = gpg.export(&["revoked"]);
    assert_eq!(check(&before, &signature, PAYLOAD), "good");
    let path = gpg.0.path().join(format!("openpgp-revocs.d/{revoked}.rev"));
    let certificate = std::fs::read_to_string(path).unwrap().replace(":-----BEGIN", "-----BEGIN");
    gpg.run(MADE, &["--import"], certificate.as_bytes());
    let after = gpg.export(&["revoked"]);
    // An older copy beside the revoked one does not bring the key back.
    for keys in [after.clone(), [before.clone(), after.clone()].concat(), [after, before].concat()]
    {
        let got = check(&keys, &signature, PAYLOAD);
        assert!(got.contains("was revoked"), "{got}");
    }

    gpg.edit(MADE, &["--edit-key", &parent], "key 1\nrevkey\ny\n0\n\ny\nsave\n");
    let got = check(&gpg.export(&["parent"]), &cases[4].1, PAYLOAD);
    assert!(got.contains("was revoked"), "{got}");
}

/// When the keys of a table are made, and when their owners think better of it.
const BEGUN: &str = "20250101T000000!";
const LATER: &str = "20260101T000000!";

/// Makes statements of a hash that permits nothing any more.
const BY_SHA1: [&str; 3] = ["--cert-digest-algo", "SHA1", "--allow-weak-digest-algos"];

#[test]
fn openpgp_statements_of_a_key() {
    let gpg = Gpg::new();
    // gpg puts a new statement in the place of the old one; whoever has fetched the key twice has both.
    for (user, options, before, after, expected) in [
        ("ended", &[][..], "never", "20290601T000000", "expired at 2029-06"),
        ("ended by SHA-1", &BY_SHA1[..], "never", "20290601T000000", "expired at 2029-06"),
        ("rsa ended by SHA-1", &BY_SHA1[..], "never", "20290601T000000", "expired at 2029-06"),
        ("prolonged", &[][..], "20290601T000000", "20400101T000000", "good"),
        (
            "prolonged by SHA-1",
            &BY_SHA1[..],
            "20290601T000000",
            "20400101T000000",
            "expired at 2029-06",
        ),
    ] {
        let algorithm = if user.starts_with("rsa") { "rsa2048" } else { "ed25519" };
        let key = gpg.key(user, algorithm, BEGUN, before);
        let signature = gpg.sign(&key, MADE, &[]);
        let old = gpg.export(&[&key]);
        let mut args = options.to_vec();
        args.extend(["--quick-set-expire", &key, after]);
        gpg.run(LATER, &args, b"");
        let new = gpg.export(&[&key]);
        assert_ne!(old, new, "{user}");
        for keys in [[&old[..], &new].concat(), [&new[..], &old].concat()] {
            let got = check(&keys, &signature, PAYLOAD);
            assert!(got.contains(expected), "{user}: {got}, expected {expected}");
        }
    }
    let mut args = BY_SHA1.to_vec();
    args.extend(["--quick-generate-key", "old", "ed25519", "sign,cert", "never"]);
    gpg.run(BEGUN, &args, b"");
    let got = check(&gpg.export(&["old"]), &gpg.sign("old", MADE, &[]), PAYLOAD);
    assert!(got.contains("no self-signature in force that uses SHA-2"), "{got}");

    // A signature that is older than its key, and a key that is not made yet.
    for (user, made, expected) in [
        ("of May", "20290501T000000!", "is valid only from 2029-05"),
        ("of tomorrow", "20300601T000000!", "no self-signature in force"),
    ] {
        gpg.key(user, "ed25519", made, "never");
        let older = gpg.sign(user, MADE, &["--ignore-time-conflict"]);
        let got = check(&gpg.export(&[user]), &older, PAYLOAD);
        assert!(got.contains(expected), "{user}: {got}");
    }

    // A user id that its owner revoked says nothing any more.
    let key = gpg.key("left <l@x.y>", "ed25519", BEGUN, "never");
    let signature = gpg.sign(&key, MADE, &[]);
    let mut args = BY_SHA1.to_vec();
    args.extend(["--quick-add-uid", &key, "stays <s@x.y>"]);
    gpg.run(LATER, &args, b"");
    assert_eq!(check(&gpg.export(&[&key]), &signature, PAYLOAD), "good");
    gpg.run(MADE, &["--quick-revoke-uid", &key, "left <l@x.y>"], b"");
    let got = check(&gpg.export(&[&key]), &signature, PAYLOAD);
    assert!(got.contains("no self-signature in force"), "{got}");

    // Somebody whom the owner appointed revokes the key, and is believed.
    let (key, revoker) = (
        gpg.key("trusting", "ed25519", BEGUN, "never"),
        gpg.key("appointed", "ed25519", BEGUN, "never"),
    );
    let signature = gpg.sign(&key, MADE, &[]);
    gpg.edit(LATER, &["--edit-key", &key], &format!("addrevoker\n{revoker}\ny\nsave\n"));
    assert_eq!(check(&gpg.export(&[&key]), &signature, PAYLOAD), "good");
    let revocation = gpg.edit(MADE, &["--armor", "--desig-revoke", &key], "y\n0\n\ny\n");
    gpg.run(MADE, &["--import"], &revocation);
    let got = check(&gpg.export(&[&key]), &signature, PAYLOAD);
    assert!(got.contains("was revoked"), "{got}");
}

#[test]
fn openpgp_subkeys() {
    let gpg = Gpg::new();
    let shorten = |options: &[&str], parent: &str, subkey: &str| {
        let mut args = options.to_vec();
        args.extend(["--quick-set-expire", parent, "20290601T000000", subkey]);
        gpg.run(LATER, &args, b"");
    };
    for (user, expires, expected) in [
        ("good", "never", "good"),
        ("ended", "20290601T000000", "expired at 2029-06"),
        ("shortened", "never", "expired at 2029-06"),
        ("shortened by SHA-1", "never", "expired at 2029-06"),
        ("of another use", "never", "for other purposes"),
        ("to encrypt", "never", "for other purposes"),
        ("taken in", "never", "has not signed that it belongs"),
    ] {
        let parent = gpg.key(user, "ed25519", BEGUN, "never");
        // Of these two algorithms, RSA encrypts too.
        let algorithm = if user == "to encrypt" { "rsa2048" } else { "ed25519" };
        gpg.run(BEGUN, &["--quick-add-key", &parent, algorithm, "sign", expires], b"");
        let subkey = gpg.fingerprints(user).remove(1);
        let signature = gpg.sign(&format!("{subkey}!"), MADE, &[]);
        let before = gpg.export(&[&parent]);
        match user {
            "shortened" => shorten(&[], &parent, &subkey),
            "shortened by SHA-1" => shorten(&BY_SHA1, &parent, &subkey),
            "of another use" => {
                let words = "key 1\nchange-usage\nS\nA\nQ\nsave\n";
                gpg.edit(LATER, &["--edit-key", &parent], words);
            }
            "to encrypt" => {
                let words = "key 1\nchange-usage\nS\nE\nQ\nsave\n";
                gpg.edit(LATER, &["--edit-key", &parent], words);
            }
            _ => {}
        }
        let after = gpg.export(&[&parent]);
        let keys = match user {
            "taken in" => without_back_signatures(&after),
            _ => [before, after].concat(),
        };
        let got = check(&keys, &signature, PAYLOAD);
        assert!(got.contains(expected), "{user}: {got}, expected {expected}");
    }
}

/// The packets of a certificate, as gpg writes them, with bindings of subkeys that the subkeys have not
/// signed in turn: what anybody can make of a key that is not theirs.
fn without_back_signatures(packets: &[u8]) -> Vec<u8> {
    let (mut out, mut rest) = (Vec::new(), packets);
    while let [tag, after @ ..] = rest {
        // RFC 9580, section 4.2.2: the old format, with lengths of one octet or two.
        let (length, body) = match (tag & 3, after) {
            (0, [length, body @ ..]) => (usize::from(*length), body),
            (1, [high, low, body @ ..]) => (usize::from(u16::from_be_bytes([*high, *low])), body),
            _ => panic!("gpg wrote {tag:#x}"),
        };
        let (body, after) = body.split_at(length);
        let mut body = body.to_vec();
        if (tag >> 2) & 0xf == 2 && body[1] == 0x18 {
            // gpg puts it among what is not hashed.
            let hashed = usize::from(u16::from_be_bytes([body[4], body[5]]));
            let from = 6 + hashed;
            let unhashed = usize::from(u16::from_be_bytes([body[from], body[from + 1]]));
            body.splice(from..from + 2 + unhashed, [0, 0]);
        }
        out.push((tag & !3) | 1);
        out.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        out.extend(body);
        rest = after;
    }
    out
}

#[test]
fn openpgp_garbage() {
    let gpg = Gpg::new();
    gpg.key("good", "ed25519", "20250101T000000!", "never");
    let (keys, signature) = (gpg.export(&["--armor", "good"]), gpg.sign("good", MADE, &[]));
    let half = &signature[..signature.len() / 2];
    let huge = vec![b'A'; MAX_SIGNATURE + 1];
    for (name, signature, expected) in [
        ("empty", &b""[..], "there is no signature"),
        ("garbage", b"hello", "there is no signature"),
        ("truncated", half, "does not end"),
        ("huge", &huge, "more than"),
        ("a key", &keys, "there is no signature"),
    ] {
        let got = check(&keys, signature, PAYLOAD);
        assert!(got.contains(expected), "{name}: {got}");
    }
    for (name, keys, expected) in [
        ("empty", &b""[..], "no public key"),
        ("garbage", b"hello", "no public key"),
        ("binary garbage", b"\x99\x00", "key file"),
        ("truncated", &keys[..keys.len() / 2], "does not end"),
        ("huge", &vec![b'A'; MAX_KEY_FILE + 1], "at most 1048576 are read"),
        ("a signature", &signature, "PGP SIGNATURE"),
    ] {
        let got = check(keys, &signature, PAYLOAD);
        assert!(got.contains(expected), "{name}: {got}");
    }
}

proptest! {
    #[test]
    fn no_key_file_is_a_fault(data in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = KeyFile::parse(&data);
        let _ = DetachedSignature::parse(&data);
    }

    #[test]
    fn no_line_of_keys_is_a_fault(text in "[ \"=,a-z!*0-9]{0,40}( ssh-ed25519 AAAA[a-zA-Z0-9]{0,60})?") {
        let _ = AllowedSigners::parse(&text);
    }
}
