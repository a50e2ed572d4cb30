//! Each algorithm by itself: RSA-PSS, which certificates and TUF may use, hashes that are not the curve's
//! own, and keys at the ends of what is taken.

use p256::ecdsa::signature::hazmat::PrehashSigner as _;
use rsa::RsaPrivateKey;
use rsa::pkcs1::EncodeRsaPublicKey as _;
use rsa::pkcs1v15::SigningKey as Pkcs1;
use rsa::pss::SigningKey as Pss;
use rsa::rand_core::OsRng;
use rsa::signature::{RandomizedSigner as _, SignatureEncoding as _, Signer as _};

use super::*;

const MESSAGE: &[u8] = b"a tarball";

fn raw(scheme: SigningScheme, key: &[u8], signature: &[u8]) -> bool {
    Provider.verify_raw(scheme, key, MESSAGE, signature).is_ok()
}

fn prehashed(scheme: SigningScheme, key: &[u8], signature: &[u8]) -> Result<()> {
    let digest = match scheme.hash_algorithm() {
        Some(HashAlgorithm::Sha2384) => Sha384::digest(MESSAGE).to_vec(),
        Some(HashAlgorithm::Sha2512) => Sha512::digest(MESSAGE).to_vec(),
        _ => Sha256::digest(MESSAGE).to_vec(),
    };
    Provider.verify_prehashed(scheme, key, &digest, signature)
}

/// A signature with its last bit turned.
fn broken(signature: &[u8]) -> Vec<u8> {
    let mut broken = signature.to_vec();
    *broken.last_mut().unwrap() ^= 1;
    broken
}

#[test]
fn rsa() {
    let secret = RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
    let key = secret.to_public_key().to_pkcs1_der().unwrap();
    let key = key.as_bytes();
    let (s, rng) = (|| secret.clone(), &mut OsRng);
    let short = Pss::<Sha256>::new_with_salt_len(s(), 8).sign_with_rng(rng, MESSAGE).to_vec();
    let pss = [
        Pss::<Sha256>::new(s()).sign_with_rng(rng, MESSAGE).to_vec(),
        Pss::<Sha384>::new(s()).sign_with_rng(rng, MESSAGE).to_vec(),
        Pss::<Sha512>::new(s()).sign_with_rng(rng, MESSAGE).to_vec(),
    ];
    let pkcs1 = [
        Pkcs1::<Sha256>::new(s()).sign(MESSAGE).to_vec(),
        Pkcs1::<Sha384>::new(s()).sign(MESSAGE).to_vec(),
        Pkcs1::<Sha512>::new(s()).sign(MESSAGE).to_vec(),
    ];
    let schemes = [
        (SigningScheme::RsaPssSha256, &pss[0]),
        (SigningScheme::RsaPssSha384, &pss[1]),
        (SigningScheme::RsaPssSha512, &pss[2]),
        (SigningScheme::RsaPkcs1Sha256, &pkcs1[0]),
        (SigningScheme::RsaPkcs1Sha384, &pkcs1[1]),
        (SigningScheme::RsaPkcs1Sha512, &pkcs1[2]),
    ];
    for (at, (scheme, _)) in schemes.iter().enumerate() {
        // Each holds as what it is, and as nothing else.
        for (other, (_, signature)) in schemes.iter().enumerate() {
            assert_eq!(raw(*scheme, key, signature), at == other, "{scheme:?} {other}");
            assert!(!raw(*scheme, key, &broken(signature)), "{scheme:?} {other}");
            let by_digest = prehashed(*scheme, key, signature);
            // No bundle can say that it is RSA-PSS's.
            match at {
                ..3 => assert!(matches!(by_digest, Err(Error::UnsupportedAlgorithm(_)))),
                _ => assert_eq!(by_digest.is_ok(), at == other, "{scheme:?} {other}"),
            }
            assert!(prehashed(*scheme, key, &broken(signature)).is_err());
        }
        assert!(!raw(*scheme, key, b""), "{scheme:?}");
        assert!(!raw(*scheme, key, &short), "{scheme:?}: a salt that is too short");
        assert!(!raw(*scheme, &key[..key.len() - 1], schemes[at].1), "{scheme:?}: a key cut off");
    }
}

#[test]
fn ecdsa_with_either_hash() {
    let p256 = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let p384 = p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap();
    let point256 = p256.verifying_key().to_encoded_point(false);
    let point384 = p384.verifying_key().to_encoded_point(false);
    let (sha256, sha384) = (Sha256::digest(MESSAGE), Sha384::digest(MESSAGE));
    let by256 = |digest: &[u8]| {
        let signature: p256::ecdsa::Signature = p256.sign_prehash(digest).unwrap();
        signature.to_der().as_bytes().to_vec()
    };
    let by384 = |digest: &[u8]| {
        let signature: p384::ecdsa::Signature = p384.sign_prehash(digest).unwrap();
        signature.to_der().as_bytes().to_vec()
    };
    let schemes = [
        (SigningScheme::EcdsaP256Sha256, point256.as_bytes(), by256(&sha256)),
        (SigningScheme::EcdsaP256Sha384, point256.as_bytes(), by256(&sha384)),
        (SigningScheme::EcdsaP384Sha256, point384.as_bytes(), by384(&sha256)),
        (SigningScheme::EcdsaP384Sha384, point384.as_bytes(), by384(&sha384)),
    ];
    for (at, (scheme, key, _)) in schemes.iter().enumerate() {
        for (other, (_, _, signature)) in schemes.iter().enumerate() {
            let wanted = at == other;
            assert_eq!(raw(*scheme, key, signature), wanted, "{scheme:?} {other}");
            assert_eq!(prehashed(*scheme, key, signature).is_ok(), wanted, "{scheme:?} {other}");
            assert!(!raw(*scheme, key, &broken(signature)), "{scheme:?} {other}");
            assert!(prehashed(*scheme, key, &broken(signature)).is_err(), "{scheme:?} {other}");
        }
    }
}

/// RSA's keys may have 8192 bits, and a digest is held against those above 4096 too.
#[test]
fn long_rsa() {
    use base64::Engine as _;
    let decode = |text: &str| {
        let text: String = text.split_whitespace().collect();
        base64::engine::general_purpose::STANDARD.decode(text).unwrap()
    };
    let (key, signature) = (decode(LONG_KEY), decode(LONG_SIGNATURE));
    for scheme in [SigningScheme::RsaPkcs1Sha256, SigningScheme::RsaPkcs1Sha384] {
        let is_right = scheme == SigningScheme::RsaPkcs1Sha256;
        assert_eq!(raw(scheme, &key, &signature), is_right);
        assert_eq!(prehashed(scheme, &key, &signature).is_ok(), is_right);
        assert!(prehashed(scheme, &key, &broken(&signature)).is_err());
    }
}

/// `openssl genrsa 5120`, its public key as PKCS #1 has it, and its signature of the message with SHA-256.
const LONG_KEY: &str = "\
    MIICigKCAoEAr89zIEFrLKLcqEKSXAAjmgr+dceshxVqNX5ZOXh7uuUUYfiaEbh4aH73seGNl/M4eid0VQ0wRch3\
    1CM7om5841ldBDn081M+EZXJjkzKa5lv+qnbh990ZFSTuIjwkWW55Oz0IyX9JQunwzjDrR/Xsru9vHNoTLVWc/Zj\
    gxlW3vFoy3ZRYtTtfjv1cnZ4MqsyXdA/R/UuaAH9RV0poAguC+s+opxRF24R/Qc0QGScXPMoUERYLizxv852rSRU\
    Jg3lt7rIoHx4eWaXVhEwWbFmjkc4ScW2Xf2AvPoFx/uJZh99QORIxCYrnqQQhp5L7Ah4YWClo4wBAq7tK8pir79s\
    r0s0VBoodos3ZGvmmh8GY+cVk7jtM4WQEgMAbzAyQBn2FlmHT9miLHCx/iYEpRP1qCnlLIYY4l1GtQjoUn+aqIpi\
    89TrQB8kcARWFJy3yA+LjvVpBYPEkwAYw96dHOon3JLPJdTFIQCICO0CDl7COdwOX7OwWT12BXzTmH5KYD68qlCp\
    DiA5eUoKyLiXi4/gdwAy32bDV38kB281RU0oMaHlZoYyziIUV0PJx+5Gd3OgQwA3daQ43qe4ZDIiC+wWyfZIZDm/\
    dgn/7Y4a8+BbLC7j6ni5Rmf8z3Y/DeYIpUm9Ar/dZFjugjdsGA8c3dIjRn/mvVgPxOIjqZQ+lLGHT3s1YNQKcFdq\
    fus4T5mlPbLxmRW6NLOELyjoVNGzyZabwSspu41owxEr+4AIAOKP0LTiW6i65PArL0hyEYQJihTBUjpHn5Bkq2+o\
    CAvJxmAj/zDfz6iE4gwhJuEpGTErc5GjUuEf8r5SV1kBGdsIMju88aoc+gCEVEgeTqmI28HEjQIDAQAB";
const LONG_SIGNATURE: &str = "\
    i+Y0cbHQSotdEWkynwHfX+FFz9jMj1oYPb7kx99G/S+2p1Mf+s9Ju5p2BlN4iV1OUnZ8uHUndYJb7AH1gdMdzUhi\
    fjj9lXfMeZz3qOfB56dndvEChz/e9Kh/kOcRRjCVT4M5jZly+C84ilrp7CWZhAJFUe5r4eIvxf+GyUxJsQZI+dp5\
    y91dlhHFVDbhy3LJsTQyDVEX0i08MJxjUhz2rehCgYNwR2f8Codnjkq1W/uILIwIrZO2BddryDqltuPLRUVhEqO6\
    T1EGKe/GZ8hkJoupWEKvPOxX3DlvHCg6ureTejdUnM/TiGgWJfXIpTvwMSGaA9rs5vRRJBzr35qlfrKnqrgySFcI\
    aR5vX70QzO8SVNSeg68HrP1i1mZOerLXr3W1odVlVYIQ8TbS4yoBAknry5RMfGiYPBbb4KOnMdfCO+RHp15blxjO\
    5HgFOlGkGmTL3r+6iyzGxIOBbF1+bDk+hbKywUbabbOf3uqRoNnMI9JSJAey43Cd0ZRgZ/0+o4eFYjGLCB+c9rdf\
    SzRWT17I8Bd+9kebO0676YpM6HXBOjJA2z66nQy3JkV9ETG1olEXBEh3MqPpn0MOmFmPz/QDW9/SCgppE9N2e0Cx\
    YxK/0KX9nEz3wU2IToDaAAdIteLvK/fmbpViGOscuvvE74tRvTa1gzWBzVOT/GMYQU2dpxHrGeYBDTouTZ4m2unl\
    tbEeSdN13z8WZMzkLY0br951sHSROjv2D0o1s+tXZpnYroSLVemDTTnmt9fGLh+xLhKCVfmi8JNQF+i84FqTARym\
    EEFxg0J5ej5LmxJV10RQTTtV3TAxAuQjWXIhuYmg+2X9a/Og9eDkQhN9YwXLig==";
