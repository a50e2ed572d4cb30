//! Key files, and each algorithm.

use p256::pkcs8::EncodePublicKey as _;
use proptest::prelude::*;
use rsa::pkcs1v15::SigningKey as RsaSigner;
use rsa::pkcs8::LineEnding;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use serde_json::json;
use sha2::Sha256;

use super::algorithms::rsa_key;
use super::forge::{self, b64, key, public_pem};
use super::*;
use crate::verify::KeyFileError;

/// A bundle with a signature of [`ARTIFACT`] by a key.
fn bundle(signature: &[u8], algorithm: &str, digest: &[u8]) -> String {
    json!({
        "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
        "verificationMaterial": {"publicKey": {"hint": ""}, "tlogEntries": []},
        "messageSignature": {
            "messageDigest": {"algorithm": algorithm, "digest": b64(digest)},
            "signature": b64(signature),
        },
    })
    .to_string()
}

fn check_key(about: &str, pem: &str, signature: &[u8]) {
    let key = PublicKey::from_pem(pem.as_bytes()).unwrap();
    let by = Signer::Key(&key, Log::Ignored);
    let text = bundle(signature, "SHA2_256", &forge::sha256(ARTIFACT));
    let verify = |text: &str, artifact| verify_bundle(text.as_bytes(), artifact, by, NOW);
    check(about, &verify(&text, Artifact::Bytes(ARTIFACT)), "verified");
    check(about, &verify(&text, Artifact::Bytes(b"else")), "subject");
    let mut broken = signature.to_vec();
    *broken.last_mut().unwrap() ^= 1;
    let broken = bundle(&broken, "SHA2_256", &forge::sha256(ARTIFACT));
    check(about, &verify(&broken, Artifact::Bytes(ARTIFACT)), "signature");
    let empty = bundle(&[], "SHA2_256", &forge::sha256(ARTIFACT));
    assert!(verify(&empty, Artifact::Bytes(ARTIFACT)).is_err());
    // Ed25519 hashes by itself, and so needs the bytes.
    let digest = forge::digest(ARTIFACT);
    let wanted = if about == "ed25519" { "could not: unsupported" } else { "verified" };
    check(about, &verify(&text, Artifact::Digest(&digest)), wanted);
}

#[test]
fn each_algorithm() {
    check_key("p256", &public_pem(&key(50)), &forge::sign(&key(50), ARTIFACT));

    let p384 = p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap();
    let pem = p384.verifying_key().to_public_key_pem(LineEnding::LF).unwrap();
    let by_curve: p384::ecdsa::Signature = p384.sign(ARTIFACT);
    // As cosign signs: with SHA-256, whatever the curve.
    let by_cosign: p384::ecdsa::Signature = {
        use p384::ecdsa::signature::hazmat::PrehashSigner as _;
        p384.sign_prehash(&forge::sha256(ARTIFACT)).unwrap()
    };
    check_key("p384", &pem, by_cosign.to_der().as_bytes());
    let key = PublicKey::from_pem(pem.as_bytes()).unwrap();
    let digest = <sha2::Sha384 as sha2::Digest>::digest(ARTIFACT);
    let text = bundle(by_curve.to_der().as_bytes(), "SHA2_384", &digest);
    let by = Signer::Key(&key, Log::Ignored);
    check(
        "p384, SHA-384",
        &verify_bundle(text.as_bytes(), Artifact::Bytes(ARTIFACT), by, NOW),
        "verified",
    );

    // A hash that is nobody's habit with the key is not tried where nothing but the key says which.
    let by_other: p256::ecdsa::Signature = {
        use p256::ecdsa::signature::hazmat::PrehashSigner as _;
        forge::key(50).sign_prehash(&digest).unwrap()
    };
    let text = bundle(by_other.to_der().as_bytes(), "SHA2_384", &digest);
    let key = PublicKey::from_pem(public_pem(&forge::key(50)).as_bytes()).unwrap();
    check(
        "p256, SHA-384",
        &verify_bundle(
            text.as_bytes(),
            Artifact::Bytes(ARTIFACT),
            Signer::Key(&key, Log::Ignored),
            NOW,
        ),
        "signature",
    );

    let ed25519 = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let pem = forge::pem("PUBLIC KEY", &forge::ed25519_spki(&ed25519));
    check_key("ed25519", &pem, &ed25519.sign(ARTIFACT).to_bytes());

    let rsa = rsa_key(2048).clone();
    let pem = rsa.to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
    check_key("rsa", &pem, &RsaSigner::<Sha256>::new(rsa).sign(ARTIFACT).to_vec());
}

#[test]
fn key_files_that_are_none() {
    let right = public_pem(&key(50));
    let short = rsa_key(1024).to_public_key().to_public_key_pem(LineEnding::LF).unwrap();
    assert!(matches!(PublicKey::from_pem(short.as_bytes()), Err(KeyFileError::PublicKey { .. })));
    let p521 = "-----BEGIN PUBLIC KEY-----\nMIGbMBAGByqGSM49AgEGBSuBBAAjA4GGAAQBAAAAAAAAAAAAAAAAAAAAAAAAAAAA\n-----END PUBLIC KEY-----\n";
    for (what, text) in [
        ("empty", String::new()),
        ("text", "a key".into()),
        ("truncated", right[..60].into()),
        ("two", format!("{right}{right}")),
        ("a certificate", right.replace("PUBLIC KEY", "CERTIFICATE")),
        ("another curve", p521.into()),
        ("huge", format!("{right}{}", "\n".repeat(MAX_PUBLIC_KEY))),
    ] {
        assert!(PublicKey::from_pem(text.as_bytes()).is_err(), "{what}");
    }
    let private = right.replace("PUBLIC", "PRIVATE");
    assert_eq!(PublicKey::from_pem(private.as_bytes()), Err(KeyFileError::PrivateKey));
    assert!(PublicKey::from_pem(format!("\n{right}\n").as_bytes()).is_ok());
}

#[test]
fn the_built_in_key_is_one() {
    let hardened = HardenedKey::built_in().unwrap();
    assert!(hardened.key.fingerprint().starts_with("SHA256:"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn no_flipped_bit_of_a_key_or_signature_passes(in_key: bool, at in 0..10_000usize, bit in 0..8u8) {
        let mut signature = forge::sign(&key(50), ARTIFACT);
        let mut der = forge::spki(&key(50));
        let bytes = if in_key { &mut der } else { &mut signature };
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let pem = forge::pem("PUBLIC KEY", &der);
        let Ok(key) = PublicKey::from_pem(pem.as_bytes()) else { return Ok(()) };
        let text = bundle(&signature, "SHA2_256", &forge::sha256(ARTIFACT));
        let by = Signer::Key(&key, Log::Ignored);
        prop_assert!(verify_bundle(text.as_bytes(), Artifact::Bytes(ARTIFACT), by, NOW).is_err());
    }
}
