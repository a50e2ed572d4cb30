//! Certificates with other keys than Fulcio's usual P-256: what such keys sign, and with which hash.

use p384::ecdsa::signature::hazmat::PrehashSigner as _;
use p384::pkcs8::EncodePrivateKey as _;
use rcgen::KeyPair;
use rsa::signature::{SignatureEncoding as _, Signer as _};
use sha2::{Digest as _, Sha256, Sha384, Sha512};

use super::forge::{Rekor, STATEMENT, b64, pae, statement};
use super::*;

/// Signs with the hash of that many bits.
type Sign = Box<dyn Fn(usize, &[u8]) -> Vec<u8>>;

fn digest(bits: usize, data: &[u8]) -> Vec<u8> {
    match bits {
        256 => Sha256::digest(data).to_vec(),
        384 => Sha384::digest(data).to_vec(),
        _ => Sha512::digest(data).to_vec(),
    }
}

fn p384() -> (KeyPair, Sign) {
    let secret = p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap();
    let pair = KeyPair::try_from(secret.to_pkcs8_der().unwrap().as_bytes()).unwrap();
    let sign = move |bits: usize, data: &[u8]| {
        let signature: p384::ecdsa::Signature = secret.sign_prehash(&digest(bits, data)).unwrap();
        signature.to_der().as_bytes().to_vec()
    };
    (pair, Box::new(sign))
}

fn rsa() -> (KeyPair, Sign) {
    let secret = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
    let pair = KeyPair::try_from(secret.to_pkcs8_der().unwrap().as_bytes()).unwrap();
    let sign = move |bits: usize, data: &[u8]| match bits {
        256 => rsa::pkcs1v15::SigningKey::<Sha256>::new(secret.clone()).sign(data).to_vec(),
        384 => rsa::pkcs1v15::SigningKey::<Sha384>::new(secret.clone()).sign(data).to_vec(),
        _ => rsa::pkcs1v15::SigningKey::<Sha512>::new(secret.clone()).sign(data).to_vec(),
    };
    (pair, Box::new(sign))
}

#[test]
fn other_keys_in_certificates() {
    let forge = Forge::new(10);
    let root = root_of(&forge);
    let who = Who::person("jane@example.com");
    // Where nothing names the hash, it is the one that the key suggests.
    for (name, (pair, sign), own) in [("P-384", p384(), 384), ("RSA", rsa(), 256)] {
        let certificate = forge.certified(&who, &pair);
        let text = statement(SLSA, ARTIFACT);
        let attested = |bits| {
            let signature = sign(bits, &pae(STATEMENT, &text));
            forge.attested(&certificate, (&text, &signature), Rekor::V1)
        };
        let good = attested(own);
        check(name, &keyless(&good, &root), "verified");
        let verified = keyless(&good, &root).unwrap();
        let jane = Identity {
            subject: "jane@example.com".into(),
            issuer: "https://accounts.example.com".into(),
        };
        assert_eq!(verified.is_by(&jane), Ok(()), "{name}");
        for bits in [256, 384, 512] {
            let wanted = if bits == own { "verified" } else { "signature" };
            check(&format!("{name}, SHA-{bits}"), &keyless(&attested(bits), &root), wanted);
        }
        let other = root_of(&Forge::new(30));
        assert!(keyless(&good, &other).is_err(), "{name}: other parties");
        let mut tampered = good.clone();
        tampered["dsseEnvelope"]["payload"] = b64(statement(SLSA, b"else")).into();
        assert!(keyless(&tampered, &root).is_err(), "{name}: another payload");
        let mut tampered = good.clone();
        flip(&mut tampered["dsseEnvelope"]["signatures"][0]["sig"]);
        assert!(keyless(&tampered, &root).is_err(), "{name}: another signature");
        // The signature of one key with the certificate of another.
        let p256 = person(&forge);
        let signature = sign(own, &pae(STATEMENT, &text));
        let mixed = forge.attested(&p256.certificate, (&text, &signature), Rekor::V1);
        assert!(keyless(&mixed, &root).is_err(), "{name}: another certificate");

        // A file's signature says by which hash it was made; both of a digest and of the content.
        for bits in [256, 384] {
            let signature = sign(bits, ARTIFACT);
            let file = forge.signed_file(&certificate, (ARTIFACT, &signature), Rekor::V1);
            let wanted = if bits == 256 { "verified" } else { "signature" };
            check(&format!("{name}, a file, SHA-{bits}"), &keyless(&file, &root), wanted);
            let by_content = verify_bundle(
                file.to_string().as_bytes(),
                Artifact::Bytes(ARTIFACT),
                Signer::Keyless(&root),
                NOW,
            );
            check(&format!("{name}, a file's content, SHA-{bits}"), &by_content, wanted);
        }
    }
}
