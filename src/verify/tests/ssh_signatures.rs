//! SSH signatures by each kind of key that ssh-keygen makes and by security keys made by hand, and what is
//! wrong with them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rsa::signature::Signer as _;
use ssh_key::public::{DsaPublicKey, KeyData, RsaPublicKey, SkEd25519};
use ssh_key::{Mpint, PublicKey, SshSig};

use super::*;
use crate::verify::clock::Clock;

/// Some key that signs nothing here.
pub(super) const OTHER: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7BBOXoZCXjUiyWgonTlLp8VG0pnj+a7kEcz88Vho1j";
const SK_ECDSA: &str = "sk-ecdsa-sha2-nistp256@openssh.com";

/// A key of ssh-keygen's.
pub(super) struct Key {
    pub(super) dir: tempfile::TempDir,
    pub(super) public: String,
}

impl Key {
    pub(super) fn new(kind: &str, bits: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut keygen = Command::new("ssh-keygen");
        keygen.args(["-q", "-t", kind, "-b", bits, "-N", "", "-C", "", "-f"]);
        run(keygen.arg(dir.path().join("key")), b"");
        let public = std::fs::read_to_string(dir.path().join("key.pub")).unwrap();
        Self { dir, public: public.trim().to_owned() }
    }

    pub(super) fn sign(&self, options: &[&str], payload: &[u8]) -> String {
        let mut sign = Command::new("ssh-keygen");
        sign.args(["-q", "-Y", "sign", "-n", "git"]).args(options);
        sign.arg("-f").arg(self.dir.path().join("key"));
        String::from_utf8(run(&mut sign, payload)).unwrap()
    }

    /// The public key in the wire format.
    fn wire(&self) -> Vec<u8> {
        STANDARD.decode(self.public.split(' ').nth(1).unwrap()).unwrap()
    }
}

fn verify_at(
    text: &str,
    payload: &[u8],
    keys: &str,
    dated: Option<i64>,
) -> Result<VerifiedSigner, NotVerified> {
    match KeyFile::parse(keys.as_bytes()).map_err(CouldNot::Keys)? {
        KeyFile::Ssh(keys) => {
            crate::verify::ssh::verify(text, payload, &keys, dated, &Clock::at(NOW))
        }
        KeyFile::OpenPgp(_) => panic!("OpenPGP keys"),
    }
}

pub(super) fn verify(
    text: &str,
    payload: &[u8],
    keys: &str,
) -> Result<VerifiedSigner, NotVerified> {
    verify_at(text, payload, keys, None)
}

/// Which of the answers it is, and in which words.
pub(super) fn says(result: &Result<VerifiedSigner, NotVerified>) -> String {
    match result {
        Ok(_) => "good".to_owned(),
        Err(NotVerified::Absent) => "absent".to_owned(),
        Err(NotVerified::Invalid(why)) => format!("invalid: {why}"),
        Err(NotVerified::CouldNot(why)) => format!("could not: {why}"),
    }
}

#[track_caller]
pub(super) fn expect(about: &str, result: &Result<VerifiedSigner, NotVerified>, wanted: &[&str]) {
    let got = says(result);
    assert!(wanted.iter().all(|it| got.contains(it)), "{about}: {got}, expected {wanted:?}");
}

/// Strings of the wire format, one after the other (RFC 4251, section 5).
fn wire(parts: &[&[u8]]) -> Vec<u8> {
    let length = |part: &[u8]| u32::try_from(part.len()).unwrap().to_be_bytes();
    parts.iter().flat_map(|part| [&length(part), *part].concat()).collect()
}

/// A signature's blob (PROTOCOL.sshsig).
fn blob(key: &[u8], namespace: &str, hash: &str, signature: &[u8]) -> Vec<u8> {
    let parts = wire(&[key, namespace.as_bytes(), b"", hash.as_bytes(), signature]);
    [b"SSHSIG\0\0\0\x01", &parts[..]].concat()
}

/// What is signed.
fn signed(hash: &str, payload: &[u8]) -> Vec<u8> {
    let digest = match hash {
        "sha256" => Sha256::digest(payload).to_vec(),
        _ => Sha512::digest(payload).to_vec(),
    };
    [b"SSHSIG", &wire(&[b"git", b"", hash.as_bytes(), &digest])[..]].concat()
}

fn armor(blob: &[u8]) -> String {
    let text = STANDARD.encode(blob);
    let lines: Vec<&str> =
        text.as_bytes().chunks(70).map(|it| std::str::from_utf8(it).unwrap()).collect();
    format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"))
}

fn unarmor(text: &str) -> Vec<u8> {
    armor::read(text).unwrap().blocks.remove(0).data
}

/// A number of the wire format.
fn mpint(number: &[u8]) -> Vec<u8> {
    Mpint::from_positive_bytes(number).unwrap().as_bytes().to_vec()
}

/// What a security key signs with: the digest of its application, flags, counter, and digest of the rest.
fn by_touch(tail: &[u8; 5], payload: &[u8]) -> Vec<u8> {
    let content = Sha256::digest(signed("sha512", payload));
    [&Sha256::digest("ssh:")[..], tail, &content].concat()
}

/// A signature of a security key of Ed25519, and its public key.
pub(super) fn sk_ed25519(payload: &[u8]) -> (String, String) {
    let pair = ssh_key::private::Ed25519Keypair::from_seed(&[7; 32]);
    let key = KeyData::SkEd25519(SkEd25519::new(pair.public, "ssh:"));
    let public = PublicKey::from(key).to_openssh().unwrap();
    let tail = [1, 0, 0, 0, 9];
    let signature = pair.try_sign(&by_touch(&tail, payload)).unwrap();
    let name = b"sk-ssh-ed25519@openssh.com";
    let signature = [&wire(&[name, signature.as_bytes()])[..], &tail].concat();
    let key = STANDARD.decode(public.split(' ').nth(1).unwrap()).unwrap();
    (armor(&blob(&key, "git", "sha512", &signature)), public)
}

/// The same of P-256.
pub(super) fn sk_ecdsa(payload: &[u8]) -> (String, String) {
    let secret = p256::ecdsa::SigningKey::from_slice(&[7; 32]).unwrap();
    let point = secret.verifying_key().to_encoded_point(false);
    let key = wire(&[SK_ECDSA.as_bytes(), b"nistp256", point.as_bytes(), b"ssh:"]);
    let tail = [1, 0, 0, 0, 9];
    let signature: p256::ecdsa::Signature = secret.sign(&by_touch(&tail, payload));
    let (r, s) = signature.split_bytes();
    let numbers = wire(&[&mpint(&r), &mpint(&s)]);
    let signature = [&wire(&[SK_ECDSA.as_bytes(), &numbers])[..], &tail].concat();
    let public = format!("{SK_ECDSA} {}", STANDARD.encode(&key));
    (armor(&blob(&key, "git", "sha512", &signature)), public)
}

/// What holds of every good signature, whatever made it. One bit of each `step`th octet is turned:
/// arithmetic is slow without optimisation.
fn matrix(about: &str, text: &str, public: &str, step: usize) {
    let good = verify(text, PAYLOAD, public).unwrap();
    assert_eq!(good.made(), None, "{about}: SSH signatures do not say when they were made");
    for (what, result, wanted) in [
        ("wrong key", verify(text, PAYLOAD, OTHER), &["invalid: ", "not in the key file"][..]),
        (
            "tampered payload",
            verify(text, b"release 1.1\n", public),
            &["invalid: ", "did not sign"],
        ),
        ("empty payload", verify(text, b"", public), &["invalid: ", "did not sign"]),
        ("huge payload", verify(text, &[b'x'; 1 << 20], public), &["invalid: ", "did not sign"]),
        ("empty", verify("", PAYLOAD, public), &["invalid: it cannot be read"]),
        ("no text", verify("hello", PAYLOAD, public), &["invalid: it cannot be read"]),
        (
            "expired",
            verify(text, PAYLOAD, &format!("a valid-before=\"20290601Z\" {public}")),
            &["invalid: ", "expired at 2029-06-01"],
        ),
        (
            "to come",
            verify(text, PAYLOAD, &format!("a valid-after=\"20300601Z\" {public}")),
            &["invalid: ", "valid only from 2030-06-01"],
        ),
        (
            "before its key",
            verify_at(text, PAYLOAD, &format!("a valid-after=\"20290601Z\" {public}"), Some(1)),
            &["invalid: ", "valid only from 2029-06-01"],
        ),
        (
            "for something else",
            verify(text, PAYLOAD, &format!("a namespaces=\"file\" {public}")),
            &["invalid: ", "does not allow"],
        ),
        (
            "a key that signs certificates",
            verify(text, PAYLOAD, &format!("a cert-authority {public}")),
            &["invalid: ", "not in the key file"],
        ),
        (
            "dated in the future",
            verify_at(text, PAYLOAD, public, Some(NOW + 301)),
            &["in the future"],
        ),
        ("dated now", verify_at(text, PAYLOAD, public, Some(NOW + 300)), &["good"]),
    ] {
        expect(&format!("{about}, {what}"), &result, wanted);
    }
    let huge = format!("{text}{}", "\n".repeat(64 << 10));
    expect(about, &verify(&huge, PAYLOAD, public), &["invalid: ", "more than 65536 bytes"]);

    let raw = unarmor(text);
    assert_eq!(armor(&raw), text.replace("\r\n", "\n"), "{about}");
    for length in 0..text.trim_end().len() {
        let cut = verify(&text[..length], PAYLOAD, public);
        assert!(cut.is_err(), "{about}: {length} characters are enough");
    }
    for length in 0..raw.len() {
        let cut = verify(&armor(&raw[..length]), PAYLOAD, public);
        assert!(cut.is_err(), "{about}: {length} octets are enough");
    }
    expect(about, &verify(&armor(&[&raw[..], b"x"].concat()), PAYLOAD, public), &["invalid: "]);
    for at in (0..raw.len()).step_by(step) {
        let mut flipped = raw.clone();
        flipped[at] ^= 1 << (at % 8);
        let got = verify(&armor(&flipped), PAYLOAD, public);
        assert!(got.is_err(), "{about}: octet {at} does not matter");
    }
}

#[test]
fn ssh_signatures_by_each_kind_of_key() {
    for (kind, bits, step) in [
        ("ed25519", "256", 1),
        ("ecdsa", "256", 1),
        ("ecdsa", "384", 11),
        ("ecdsa", "521", 17),
        ("rsa", "2048", 13),
    ] {
        let key = Key::new(kind, bits);
        let about = format!("{kind} {bits}");
        matrix(&about, &key.sign(&[], PAYLOAD), &key.public, step);
        let by_sha256 = key.sign(&["-O", "hashalg=sha256"], PAYLOAD);
        assert!(String::from_utf8_lossy(&unarmor(&by_sha256)).contains("sha256"), "{about}");
        expect(&about, &verify(&by_sha256, PAYLOAD, &key.public), &["good"]);
        expect(&about, &verify(&by_sha256, b"else", &key.public), &["did not sign"]);
        let other = Key::new("ed25519", "256").sign(&[], PAYLOAD);
        expect(&about, &verify(&other, PAYLOAD, &key.public), &["not in the key file"]);
    }
    let (text, public) = sk_ed25519(PAYLOAD);
    matrix("sk-ed25519", &text, &public, 1);
    let (text, public) = sk_ecdsa(PAYLOAD);
    matrix("sk-ecdsa", &text, &public, 1);
}

#[test]
fn ssh_signatures_that_are_not_accepted() {
    let ed25519 = Key::new("ed25519", "256");
    let good = unarmor(&ed25519.sign(&[], PAYLOAD));
    let inner = wire(&[b"ssh-ed25519", &good[good.len() - 64..]]);
    let made = |namespace, hash| armor(&blob(&ed25519.wire(), namespace, hash, &inner));
    assert_eq!(unarmor(&made("git", "sha512")), good);
    let mut version = good.clone();
    version[9] = 2;
    let mut older = good.clone();
    older[9] = 0;
    let weak = Key::new("rsa", "1024");
    for (about, text, keys, wanted) in [
        (
            "RSA of 1024 bits",
            weak.sign(&[], PAYLOAD),
            &weak.public,
            &["invalid: ", "1024 bits"][..],
        ),
        ("for files", made("file", "sha512"), &ed25519.public, &["its namespace is \"file\""]),
        ("for nothing", made("", "sha512"), &ed25519.public, &["invalid: "]),
        ("another hash", made("git", "sha384"), &ed25519.public, &["could not: ", "hash sha384"]),
        (
            "SHA-1 of the content",
            made("git", "sha1"),
            &ed25519.public,
            &["could not: ", "hash sha1"],
        ),
        ("of version 2", armor(&version), &ed25519.public, &["could not: ", "version 2 is not"]),
        ("of version 0", armor(&older), &ed25519.public, &["could not: ", "version 0 is not"]),
    ] {
        expect(about, &verify(&text, PAYLOAD, keys), wanted);
    }

    // Twice in one text, and with other text: programs disagree about which one counts.
    let text = armor(&good);
    for text in [format!("{text}{text}"), format!("hello\n{text}"), format!("{text}hello\n")] {
        expect("more than one", &verify(&text, PAYLOAD, &ed25519.public), &["invalid: "]);
    }

    // A part that is reserved for later, and signed: ssh-keygen takes it for empty.
    let content = [b"SSHSIG", &wire(&[b"git", b"x", b"sha512", &Sha512::digest(PAYLOAD)])[..]];
    let private = std::fs::read(ed25519.dir.path().join("key")).unwrap();
    let private = ssh_key::PrivateKey::from_openssh(private).unwrap();
    let by = private.key_data().ed25519().unwrap().try_sign(&content.concat()).unwrap();
    let inner = wire(&[b"ssh-ed25519", by.as_bytes()]);
    let parts = wire(&[&ed25519.wire(), b"git", b"x", b"sha512", &inner]);
    let text = armor(&[b"SSHSIG\0\0\0\x01", &parts[..]].concat());
    let read = SshSig::from_pem(&text).unwrap();
    let known = PublicKey::from_openssh(&ed25519.public).unwrap();
    assert!(known.verify("git", PAYLOAD, &read).is_ok(), "ssh-key takes it");
    expect("reserved", &verify(&text, PAYLOAD, &ed25519.public), &["invalid: ", "reserved part"]);

    // What ssh-keygen makes no more: DSA, and keys that the arithmetic does not take.
    let number = |octets: usize| Mpint::from_positive_bytes(&vec![0xc5; octets]).unwrap();
    let (p, q, g, y) = (number(128), number(20), number(128), number(128));
    let dsa = KeyData::Dsa(DsaPublicKey { p, q, g, y });
    let rsa = |e: usize, n: usize| KeyData::Rsa(RsaPublicKey { e: number(e), n: number(n) });
    for (about, key, name, octets, wanted) in [
        ("DSA", dsa, "ssh-dss", 40, "ssh-dss"),
        ("RSA of 16392 bits", rsa(3, 2049), "rsa-sha2-512", 2049, "16392 bits"),
        ("RSA with an exponent of 40 bits", rsa(5, 256), "rsa-sha2-512", 256, "exponent too large"),
        ("RSA with an exponent as long", rsa(256, 256), "rsa-sha2-512", 256, "exponent too large"),
    ] {
        let public = PublicKey::from(key).to_openssh().unwrap();
        let raw = STANDARD.decode(public.split(' ').nth(1).unwrap()).unwrap();
        let inner = wire(&[name.as_bytes(), &vec![0x42; octets]]);
        let text = armor(&blob(&raw, "git", "sha512", &inner));
        expect(about, &verify(&text, PAYLOAD, &public), &["could not: ", wanted, "not supported"]);
    }
}

/// What `ssh-keygen` itself says of a signature.
fn by_ssh_keygen(text: &str, public: &str) -> bool {
    let dir = tempfile::tempdir().unwrap();
    let [allowed, signature] = ["allowed", "signature"].map(|name| dir.path().join(name));
    std::fs::write(&allowed, format!("a {public}")).unwrap();
    std::fs::write(&signature, text).unwrap();
    let mut real = Command::new("ssh-keygen");
    real.args(["-Y", "verify", "-n", "git", "-I", "a", "-f"]).arg(&allowed);
    real.arg("-s").arg(&signature).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = real.stderr(Stdio::null()).spawn().unwrap();
    let _ = child.stdin.take().unwrap().write_all(PAYLOAD);
    child.wait().unwrap().success()
}

/// Signatures by security keys are made by hand here: `ssh-keygen` takes them, too, and no others.
#[test]
fn ssh_keygen_takes_what_security_keys_sign() {
    for sign in [sk_ed25519, sk_ecdsa] {
        let (text, public) = sign(PAYLOAD);
        assert!(by_ssh_keygen(&text, &public), "{public}");
        let (other, _) = sign(b"release 1.1\n");
        assert!(!by_ssh_keygen(&other, &public), "{public}");
    }
}

/// RSA as long as ssh-keygen takes it, and longer: made of many primes, which verifies like any other.
#[test]
fn ssh_rsa_of_any_length() {
    for (bits, public, text, wanted) in [
        (8_192, include_str!("rsa/8192.pub"), include_str!("rsa/8192.sig"), "good"),
        (16_384, include_str!("rsa/16384.pub"), include_str!("rsa/16384.sig"), "good"),
        (
            16_392,
            include_str!("rsa/16392.pub"),
            include_str!("rsa/16392.sig"),
            "could not: an RSA key of 16392 bits",
        ),
    ] {
        expect(&format!("{bits} bits"), &verify(text, PAYLOAD, public), &[wanted]);
        if wanted == "good" {
            let other = verify(text, b"release 1.1\n", public);
            expect(&format!("{bits} bits"), &other, &["invalid: ", "did not sign"]);
        }
        assert_eq!(by_ssh_keygen(text, public), wanted == "good", "ssh-keygen, {bits} bits");
    }
}

/// RSA's signature as ssh once made it: with SHA-1, which has the name of the key's type.
#[test]
fn ssh_rsa_by_sha1() {
    let key = Key::new("rsa", "2048");
    let private = std::fs::read(key.dir.path().join("key")).unwrap();
    let private = ssh_key::PrivateKey::from_openssh(private).unwrap();
    let pair = private.key_data().rsa().unwrap();
    let number = |it: &Mpint| rsa::BigUint::from_bytes_be(it.as_positive_bytes().unwrap());
    // PKCS #1 v1.5 with the name of SHA-1 (RFC 8017, section 9.2).
    let sign = |name: &[u8], digest: &[u8]| {
        let tail = [&[0][..], name, digest].concat();
        let padding = vec![0xff; 256 - 2 - tail.len()];
        let padded = rsa::BigUint::from_bytes_be(&[&[0, 1][..], &padding, &tail].concat());
        let signature = padded.modpow(&number(&pair.private.d), &number(&pair.public.n));
        let signature = signature.to_bytes_be();
        [vec![0; 256 - signature.len()], signature].concat()
    };
    let content = signed("sha512", PAYLOAD);
    let sha1 = hex::decode("3021300906052b0e03021a05000414").unwrap();
    let sha256 = hex::decode("3031300d060960864801650304020105000420").unwrap();
    let by_sha1 = sign(&sha1, &sha1_checked::Sha1::digest(&content));
    let by_sha256 = sign(&sha256, &Sha256::digest(&content));
    for (name, signature, wanted) in [
        ("ssh-rsa", &by_sha1, &["invalid: ", "it uses SHA1"][..]),
        ("rsa-sha2-256", &by_sha1, &["invalid: ", "did not sign"]),
        ("rsa-sha2-512", &by_sha256, &["invalid: ", "did not sign"]),
        // The same by hand, and accepted: what is refused above is the hash.
        ("rsa-sha2-256", &by_sha256, &["good"]),
    ] {
        let inner = wire(&[name.as_bytes(), signature]);
        let text = armor(&blob(&key.wire(), "git", "sha512", &inner));
        expect(name, &verify(&text, PAYLOAD, &key.public), wanted);
    }
}

#[test]
fn ssh_certificates() {
    let (authority, key) = (Key::new("ed25519", "256"), Key::new("ed25519", "256"));
    let mut certify = Command::new("ssh-keygen");
    certify.args(["-q", "-I", "a", "-n", "a@b.c", "-s"]).arg(authority.dir.path().join("key"));
    run(certify.arg(key.dir.path().join("key.pub")), b"");
    let mut sign = Command::new("ssh-keygen");
    sign.args(["-q", "-Y", "sign", "-n", "git", "-f"]).arg(key.dir.path().join("key-cert.pub"));
    let text = String::from_utf8(run(&mut sign, PAYLOAD)).unwrap();
    let by_authority = format!("a@b.c cert-authority {}", authority.public);
    for keys in [&by_authority, &authority.public, &key.public] {
        expect(
            "by a certificate",
            &verify(&text, PAYLOAD, keys),
            &["could not: ", "not supported"],
        );
    }
    // Nor is the authority's own signature one of its users'.
    let own = authority.sign(&[], PAYLOAD);
    expect("by the authority", &verify(&own, PAYLOAD, &by_authority), &["not in the key file"]);
    let certificate = std::fs::read_to_string(key.dir.path().join("key-cert.pub")).unwrap();
    expect("a certificate as key", &verify(&text, PAYLOAD, &certificate), &["could not: "]);
}
