//! Each algorithm that a signature may be made by, and those that it may not.

use std::sync::OnceLock;

use p384::ecdsa::signature::Signer as _;
use p384::ecdsa::signature::hazmat::PrehashSigner as _;
use rsa::pkcs1::EncodeRsaPublicKey as _;
use rsa::pkcs8::EncodePublicKey as _;
use rsa::traits::SignatureScheme;
use rsa::{Pkcs1v15Sign, Pss, RsaPrivateKey};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use sigstore_crypto::{SigningScheme, verify_signature, verify_signature_prehashed};
use sigstore_verify::types::{DerPublicKey, SignatureBytes};

use super::forge::{Certified, PublicKey as Bits, Rekor, digest, sha256, statement};
use super::*;

/// An RSA key of so many bits; one of each length for all tests.
pub(super) fn rsa_key(bits: usize) -> &'static RsaPrivateKey {
    static KEYS: [OnceLock<RsaPrivateKey>; 2] = [const { OnceLock::new() }; 2];
    let of = &KEYS[usize::from(bits < 2048)];
    let key = of.get_or_init(|| RsaPrivateKey::new(&mut rsa::rand_core::OsRng, bits).unwrap());
    assert_eq!(rsa::traits::PublicKeyParts::n(key).bits(), bits);
    key
}

fn rsa_sign(key: &RsaPrivateKey, padding: impl SignatureScheme, digest: &[u8]) -> Vec<u8> {
    key.sign_with_rng(&mut rsa::rand_core::OsRng, padding, digest).unwrap()
}

/// Signs bytes.
type Sign = Box<dyn Fn(&[u8]) -> Vec<u8>>;

/// How a key of some kind signs: its algorithm, its bits, by default, and with SHA-256.
fn keys() -> Vec<(&'static str, &'static rcgen::SignatureAlgorithm, Vec<u8>, Sign, Sign)> {
    let p384 = || p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap();
    let ed25519 = || ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let rsa = |bits| {
        move |data: &[u8]| {
            rsa_sign(rsa_key(bits), Pkcs1v15Sign::new::<Sha256>(), &Sha256::digest(data))
        }
    };
    let bits = |size| rsa_key(size).to_public_key().to_pkcs1_der().unwrap().as_bytes().to_vec();
    let whole = move |data: &[u8]| {
        let signature: p384::ecdsa::Signature = p384().sign(data);
        signature.to_der().as_bytes().to_vec()
    };
    let short = move |data: &[u8]| {
        let signature: p384::ecdsa::Signature = p384().sign_prehash(&sha256(data)).unwrap();
        signature.to_der().as_bytes().to_vec()
    };
    let edwards = move |data: &[u8]| ed25519().sign(data).to_bytes().to_vec();
    let point = p384().verifying_key().to_encoded_point(false).as_bytes().to_vec();
    let public = ed25519().verifying_key().as_bytes().to_vec();
    vec![
        ("p384", &rcgen::PKCS_ECDSA_P384_SHA384, point, Box::new(whole), Box::new(short)),
        ("ed25519", &rcgen::PKCS_ED25519, public, Box::new(edwards), Box::new(edwards)),
        ("rsa", &rcgen::PKCS_RSA_SHA256, bits(2048), Box::new(rsa(2048)), Box::new(rsa(2048))),
        (
            "short rsa",
            &rcgen::PKCS_RSA_SHA256,
            bits(1024),
            Box::new(rsa(1024)),
            Box::new(rsa(1024)),
        ),
        // A point that lies on no curve.
        (
            "no point",
            &rcgen::PKCS_ECDSA_P384_SHA384,
            [&[4][..], &[1; 96]].concat(),
            Box::new(whole),
            Box::new(short),
        ),
    ]
}

#[test]
fn certificates_of_every_kind_of_key() {
    let forge = Forge::new(10);
    let root = root_of(&forge);
    let jane = Who::person("jane@example.com");
    let (about, manifest, artifact) = (statement(SLSA, ARTIFACT), digest(b"m"), digest(ARTIFACT));
    for (what, algorithm, bits, sign, short) in keys() {
        let certificate = forge.certified(&jane, &Bits { algorithm, bits: &bits });
        let by = Certified { certificate: &certificate, sign: &*sign };
        let cosign = Certified { certificate: &certificate, sign: &*short };
        let bundle = forge.attest_as(&by, &about, Rekor::V1);
        let file = forge.sign_file_as(&cosign, ARTIFACT, Rekor::V1).to_string();
        let by_root = Signer::Keyless(&root);
        let file_by_digest =
            verify_bundle(file.as_bytes(), Artifact::Digest(&artifact), by_root, NOW);
        let file_by_bytes = verify_bundle(file.as_bytes(), Artifact::Bytes(ARTIFACT), by_root, NOW);
        let (payload, annotations) = forge.simple_as(&cosign, &manifest);
        let signing = SimpleSigning { payload: &payload, annotations: &annotations };
        let simple = verify_simple_signing(&signing, &manifest, by_root, NOW);
        // The same with a bit of the signature changed, and by a key that is another's.
        let other = crate::verify::sigstore::tests::forge::key(77);
        let anothers = |data: &[u8]| forge::sign(&other, data);
        let anothers = Certified { certificate: &certificate, sign: &anothers };
        let by_another = keyless(&forge.attest_as(&anothers, &about, Rekor::V1), &root);
        let flipped = |data: &[u8]| {
            let mut signature = sign(data);
            *signature.last_mut().unwrap() ^= 1;
            signature
        };
        let flipped = Certified { certificate: &certificate, sign: &flipped };
        let flipped = keyless(&forge.attest_as(&flipped, &about, Rekor::V1), &root);
        let right = matches!(what, "p384" | "ed25519" | "rsa");
        let all = [
            ("statement", keyless(&bundle, &root), right),
            ("file", file_by_bytes, right),
            // Ed25519 hashes by itself, and so needs the bytes.
            ("digest of a file", file_by_digest, right && what != "ed25519"),
            ("simple", simple, right),
            ("another's", by_another, false),
            ("flipped", flipped, false),
        ];
        for (form, result, wanted) in all {
            assert_eq!(result.is_ok(), wanted, "{what}, {form}: {result:?}");
        }
    }
}

/// Whether a scheme is PKCS #1 v1.5, and not PSS.
fn is_pkcs1(scheme: SigningScheme) -> bool {
    use SigningScheme::{RsaPkcs1Sha256, RsaPkcs1Sha384, RsaPkcs1Sha512};
    matches!(scheme, RsaPkcs1Sha256 | RsaPkcs1Sha384 | RsaPkcs1Sha512)
}

#[test]
fn schemes_are_not_mixed_up() {
    use_our_algorithms();
    let spki = rsa_key(2048).to_public_key().to_public_key_der().unwrap();
    let rsa = DerPublicKey::new(spki.as_bytes().to_vec());
    let digests = [
        Sha256::digest(ARTIFACT).to_vec(),
        Sha384::digest(ARTIFACT).to_vec(),
        Sha512::digest(ARTIFACT).to_vec(),
    ];
    let key = rsa_key(2048);
    let schemes = [
        (SigningScheme::RsaPkcs1Sha256, 0),
        (SigningScheme::RsaPkcs1Sha384, 1),
        (SigningScheme::RsaPkcs1Sha512, 2),
        (SigningScheme::RsaPssSha256, 0),
        (SigningScheme::RsaPssSha384, 1),
        (SigningScheme::RsaPssSha512, 2),
    ];
    let signatures = [
        rsa_sign(key, Pkcs1v15Sign::new::<Sha256>(), &digests[0]),
        rsa_sign(key, Pkcs1v15Sign::new::<Sha384>(), &digests[1]),
        rsa_sign(key, Pkcs1v15Sign::new::<Sha512>(), &digests[2]),
        rsa_sign(key, Pss::new::<Sha256>(), &digests[0]),
        rsa_sign(key, Pss::new::<Sha384>(), &digests[1]),
        rsa_sign(key, Pss::new::<Sha512>(), &digests[2]),
    ];
    let both = |key: &DerPublicKey, digest: &[u8], signature: &[u8], scheme| {
        let signature = SignatureBytes::new(signature.to_vec());
        let whole = verify_signature(key, ARTIFACT, &signature, scheme).is_ok();
        let hashed = verify_signature_prehashed(key, digest, &signature, scheme).is_ok();
        (whole, hashed)
    };
    for (scheme, hash) in schemes {
        for ((made, _), signature) in schemes.iter().zip(&signatures) {
            let holds = both(&rsa, &digests[hash], signature, scheme);
            let right = *made == scheme;
            // Nothing asks for PSS of a digest, and nothing answers.
            let hashed = right && is_pkcs1(scheme);
            assert_eq!(holds, (right, hashed), "{made:?} as {scheme:?}");
            let mut flipped = signature.clone();
            flipped[100] ^= 1;
            assert_eq!(both(&rsa, &digests[hash], &flipped, scheme), (false, false), "{scheme:?}");
        }
    }
    // A salt of another length than the hash's is none that anybody here makes.
    let short = rsa_sign(key, Pss::new_with_salt::<Sha256>(8), &digests[0]);
    assert_eq!(both(&rsa, &digests[0], &short, SigningScheme::RsaPssSha256), (false, false));
    // A key that is too short, whoever hashes.
    let small = rsa_key(1024).to_public_key().to_public_key_der().unwrap();
    let small = DerPublicKey::new(small.as_bytes().to_vec());
    let signature = rsa_sign(rsa_key(1024), Pkcs1v15Sign::new::<Sha256>(), &digests[0]);
    assert_eq!(
        both(&small, &digests[0], &signature, SigningScheme::RsaPkcs1Sha256),
        (false, false)
    );
    // Curves with the other curve's hash.
    let p256 = forge::key(50);
    let p384 = p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap();
    let p256_spki = DerPublicKey::new(forge::spki(&p256));
    let p384_spki = p384.verifying_key().to_public_key_der().unwrap();
    let p384_spki = DerPublicKey::new(p384_spki.as_bytes().to_vec());
    for (hash, of_p256, of_p384) in [
        (0, SigningScheme::EcdsaP256Sha256, SigningScheme::EcdsaP384Sha256),
        (1, SigningScheme::EcdsaP256Sha384, SigningScheme::EcdsaP384Sha384),
    ] {
        let digest = &digests[hash];
        let small: p256::ecdsa::Signature = p256.sign_prehash(digest).unwrap();
        let large: p384::ecdsa::Signature = p384.sign_prehash(digest).unwrap();
        let (small, large) = (small.to_der(), large.to_der());
        assert_eq!(both(&p256_spki, digest, small.as_bytes(), of_p256), (true, true));
        assert_eq!(both(&p384_spki, digest, large.as_bytes(), of_p384), (true, true));
        let other = [SigningScheme::EcdsaP256Sha384, SigningScheme::EcdsaP256Sha256][hash];
        assert!(!both(&p256_spki, digest, small.as_bytes(), other).0);
        assert_eq!(both(&p256_spki, digest, large.as_bytes(), of_p256), (false, false));
        assert_eq!(both(&p384_spki, digest, small.as_bytes(), of_p384), (false, false));
    }
}

#[test]
fn a_key_file_s_rsa_key_signs_by_pkcs1_and_sha256_alone() {
    let pem = rsa_key(2048).to_public_key().to_public_key_pem(rsa::pkcs8::LineEnding::LF).unwrap();
    let ours = PublicKey::from_pem(pem.as_bytes()).unwrap();
    let manifest = digest(b"a manifest");
    let payload = forge::simple_payload(&manifest);
    let key = rsa_key(2048);
    let digest = Sha256::digest(&payload);
    for (what, signature, wanted) in [
        ("PKCS #1", rsa_sign(key, Pkcs1v15Sign::new::<Sha256>(), &digest), "verified"),
        ("PSS", rsa_sign(key, Pss::new::<Sha256>(), &digest), "signature"),
        (
            "PKCS #1, SHA-512",
            rsa_sign(key, Pkcs1v15Sign::new::<Sha512>(), &Sha512::digest(&payload)),
            "signature",
        ),
    ] {
        let annotations = std::collections::BTreeMap::from([forge::signed(&signature)]);
        let signing = SimpleSigning { payload: &payload, annotations: &annotations };
        let by = Signer::Key(&ours, Log::Ignored);
        check(what, &verify_simple_signing(&signing, &manifest, by, NOW), wanted);
    }
}
