//! A whole Sigstore of our own, with throwaway keys: a certificate authority, a certificate
//! transparency log, Rekor v1 and v2, a timestamp authority, and whoever signs by them. What it makes
//! is right; tests break it.

#![allow(dead_code, reason = "each of those who include it uses a part")]

mod der;
mod log;
pub mod services;

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use p256::ecdsa::signature::Signer as _;
use p256::ecdsa::{Signature, SigningKey};
use p256::pkcs8::{EncodePrivateKey as _, EncodePublicKey as _, LineEnding};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// 2025-06-01 00:00:00: when everything is signed, in seconds since 1970.
pub const AT: i64 = 1_748_736_000;
/// A certificate lives for so long from [`AT`] on, in seconds.
pub const LIFE: u64 = 600;

/// What the logs' checkpoints call them: Rekor v1 with the number of its tree.
const REKOR: &str = "rekor.example.com - 1";
const REKOR2: &str = "rekor2.example.com";

pub const STATEMENT: &str = "application/vnd.in-toto+json";

/// Who gets a certificate.
#[derive(Clone)]
pub struct Who {
    /// An email address, or a URI.
    pub subject: String,
    /// Fulcio's extensions, by the last number of their OID.
    pub extensions: Vec<(u64, String)>,
    /// Seconds after [`AT`] that the certificate begins.
    pub begins: i64,
    /// Whether the certificate transparency log vouches for it.
    pub logged: bool,
    /// Whether it may sign code.
    pub signs_code: bool,
}

impl Who {
    pub fn person(subject: &str) -> Self {
        let issuer = "https://accounts.example.com".to_owned();
        let extensions = vec![(8, issuer)];
        Self { subject: subject.into(), extensions, begins: 0, logged: true, signs_code: true }
    }

    pub fn issuer(&self) -> &str {
        self.extensions.iter().find(|(number, _)| *number == 8).map_or("", |(_, value)| value)
    }
}

/// A certificate and its key.
pub struct Leaf {
    pub certificate: Vec<u8>,
    pub key: SigningKey,
}

impl Leaf {
    pub fn pem(&self) -> String {
        pem("CERTIFICATE", &self.certificate)
    }

    fn certified<'a>(&'a self, sign: &'a dyn Fn(&[u8]) -> Vec<u8>) -> Certified<'a> {
        Certified { certificate: &self.certificate, sign }
    }
}

/// A public key of any kind, as certificates have it.
pub struct PublicKey<'a> {
    pub algorithm: &'static rcgen::SignatureAlgorithm,
    /// The bits of the key itself: a point, a number.
    pub bits: &'a [u8],
}

impl PublicKeyData for PublicKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.bits
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.algorithm
    }
}

/// Somebody with a certificate, whatever the kind of their key.
pub struct Certified<'a> {
    pub certificate: &'a [u8],
    /// Signs bytes.
    pub sign: &'a dyn Fn(&[u8]) -> Vec<u8>,
}

/// How a signature gets its time and its place in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rekor {
    /// An entry with promise and proof.
    V1,
    /// An entry with proof, and a timestamp.
    V2,
    /// A timestamp alone.
    None,
}

/// The parties, whose keys follow from a seed.
pub struct Forge {
    authority: CertifiedIssuer<'static, KeyPair>,
    timestamps: CertifiedIssuer<'static, KeyPair>,
    pub stamper: Leaf,
    pub ct: SigningKey,
    pub rekor: SigningKey,
    pub rekor2: ed25519_dalek::SigningKey,
}

/// A key that follows from a number.
pub fn key(seed: u8) -> SigningKey {
    SigningKey::from_slice(&[seed.max(1); 32]).unwrap()
}

pub fn spki(key: &SigningKey) -> Vec<u8> {
    key.verifying_key().to_public_key_der().unwrap().into_vec()
}

/// The key behind the one prefix that RFC 8410 has for it.
pub fn ed25519_spki(key: &ed25519_dalek::SigningKey) -> Vec<u8> {
    let prefix = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    [prefix.as_slice(), key.verifying_key().as_bytes()].concat()
}

pub fn public_pem(key: &SigningKey) -> String {
    key.verifying_key().to_public_key_pem(LineEnding::LF).unwrap()
}

pub fn sign(key: &SigningKey, data: &[u8]) -> Vec<u8> {
    let signature: Signature = key.sign(data);
    signature.to_der().as_bytes().to_vec()
}

pub fn b64(data: impl AsRef<[u8]>) -> String {
    STANDARD.encode(data)
}

pub fn sha256(data: impl AsRef<[u8]>) -> [u8; 32] {
    Sha256::digest(data).into()
}

pub fn digest(data: impl AsRef<[u8]>) -> String {
    format!("sha256:{}", hex::encode(sha256(data)))
}

pub fn pem(label: &str, der: &[u8]) -> String {
    let text = b64(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|it| str::from_utf8(it).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// What DSSE signs (<https://github.com/secure-systems-lab/dsse/blob/master/protocol.md>).
pub fn pae(kind: &str, payload: &[u8]) -> Vec<u8> {
    let mut text = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len()).into_bytes();
    text.extend(payload);
    text
}

/// A statement about something.
pub fn statement(predicate_type: &str, artifact: &[u8]) -> Vec<u8> {
    about(predicate_type, &digest(artifact))
}

/// A statement about something by its digest, `sha256:…`.
pub fn about(predicate_type: &str, digest: &str) -> Vec<u8> {
    let (algorithm, hex) = digest.split_once(':').unwrap();
    let subject = json!([{"name": "it", "digest": {algorithm: hex}}]);
    json!({
        "_type": "https://in-toto.io/Statement/v1", "subject": subject,
        "predicateType": predicate_type, "predicate": {"builder": "ours"},
    })
    .to_string()
    .into_bytes()
}

fn pair(key: &SigningKey) -> KeyPair {
    KeyPair::try_from(key.to_pkcs8_der().unwrap().as_bytes()).unwrap()
}

fn params(organisation: &str, name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, organisation);
    subject.push(DnType::CommonName, name);
    params.distinguished_name = subject;
    params
}

fn authority(
    organisation: &str,
    name: &str,
    key: &SigningKey,
) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = params(organisation, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_before = rcgen::date_time_ymd(2024, 1, 1);
    params.not_after = rcgen::date_time_ymd(2099, 1, 1);
    CertifiedIssuer::self_signed(params, pair(key)).unwrap()
}

impl Forge {
    pub fn new(seed: u8) -> Self {
        let authority_of = |name, offset: u8| authority("sigstore.dev", name, &key(seed + offset));
        let timestamps = authority_of("timestamps", 2);
        let mut stamper = params("sigstore.dev", "stamper");
        stamper.not_before = rcgen::date_time_ymd(2024, 1, 1);
        stamper.not_after = rcgen::date_time_ymd(2099, 1, 1);
        stamper.serial_number = Some(SerialNumber::from(7u64));
        // id-kp-timeStamping, critical as RFC 3161 wants it.
        let mut usage =
            CustomExtension::from_oid_content(&[2, 5, 29, 37], der::TIME_STAMPING.to_vec());
        usage.set_criticality(true);
        stamper.custom_extensions = vec![usage];
        let stamping = key(seed + 3);
        let certificate = stamper.signed_by(&pair(&stamping), &timestamps).unwrap();
        Self {
            authority: authority_of("sigstore-intermediate", 1),
            stamper: Leaf { certificate: certificate.der().to_vec(), key: stamping },
            timestamps,
            ct: key(seed + 4),
            rekor: key(seed + 5),
            rekor2: ed25519_dalek::SigningKey::from_bytes(&[seed + 6; 32]),
        }
    }

    /// `trusted_root.json`.
    pub fn trusted_root(&self) -> Value {
        let since = json!({"start": "2024-01-01T00:00:00Z"});
        let log = |uri: &str, spki: &[u8], details: &str| {
            let id = match details {
                "PKIX_ED25519" => self.rekor2_id(),
                _ => sha256(spki),
            };
            json!({
                "baseUrl": uri, "hashAlgorithm": "SHA2_256",
                "publicKey": {"rawBytes": b64(spki), "keyDetails": details, "validFor": since},
                "logId": {"keyId": b64(id)},
            })
        };
        let authority = |uri: &str, chain: &[&[u8]]| {
            let certificates: Vec<Value> =
                chain.iter().map(|der| json!({"rawBytes": b64(der)})).collect();
            json!({
                "subject": {"organization": "sigstore.dev", "commonName": "ours"}, "uri": uri,
                "certChain": {"certificates": certificates}, "validFor": since,
            })
        };
        let p256 = "PKIX_ECDSA_P256_SHA_256";
        json!({
            "mediaType": "application/vnd.dev.sigstore.trustedroot+json;version=0.1",
            "tlogs": [
                log("https://rekor.example.com", &spki(&self.rekor), p256),
                log("https://rekor2.example.com", &self.rekor2_spki(), "PKIX_ED25519"),
            ],
            "certificateAuthorities":
                [authority("https://fulcio.example.com", &[self.authority.der()])],
            "ctlogs": [log("https://ct.example.com", &spki(&self.ct), p256)],
            "timestampAuthorities": [authority(
                "https://tsa.example.com",
                &[&self.stamper.certificate, self.timestamps.der()],
            )],
        })
    }

    fn rekor2_spki(&self) -> Vec<u8> {
        ed25519_spki(&self.rekor2)
    }

    fn rekor2_id(&self) -> [u8; 32] {
        log::checkpoint_key(REKOR2, &self.rekor2.verifying_key())
    }

    /// An entry of Rekor v1, with its proof.
    fn rekor_entry(&self, kind: &str, body: &str) -> Value {
        let signer = |text: &[u8]| sign(&self.rekor, text);
        let id = sha256(spki(&self.rekor));
        log::entry((kind, "0.0.1"), body, &log::Log { origin: REKOR, id, sign: &signer })
    }

    /// An entry of Rekor v2.
    fn rekor2_entry(&self, kind: &str, body: &str) -> Value {
        use ed25519_dalek::Signer as _;
        let signer = |text: &[u8]| self.rekor2.sign(text).to_bytes().to_vec();
        let id = self.rekor2_id();
        log::entry((kind, "0.0.2"), body, &log::Log { origin: REKOR2, id, sign: &signer })
    }

    /// A certificate for somebody, with the key of that seed.
    pub fn leaf(&self, who: &Who, seed: u8) -> Leaf {
        let key = key(seed);
        Leaf { certificate: self.certified(who, &pair(&key)), key }
    }

    /// A certificate for somebody with a key of any kind.
    pub fn certified(&self, who: &Who, key: &impl PublicKeyData) -> Vec<u8> {
        let without = self.certificate(who, key, None);
        if !who.logged {
            return without;
        }
        let scts = log::sct_list(&self.ct, &without, &spki(&self.authority_key()), AT);
        self.certificate(who, key, Some(scts))
    }

    /// The authority's own certificate.
    pub fn authority_pem(&self) -> String {
        pem("CERTIFICATE", self.authority.der())
    }

    fn authority_key(&self) -> SigningKey {
        use p256::pkcs8::DecodePrivateKey as _;
        SigningKey::from_pkcs8_der(&self.authority.key().serialize_der()).unwrap()
    }

    fn certificate(&self, who: &Who, key: &impl PublicKeyData, scts: Option<Vec<u8>>) -> Vec<u8> {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.distinguished_name = DistinguishedName::new();
        params.serial_number = Some(SerialNumber::from(42u64));
        let name = who.subject.as_str().try_into().unwrap();
        params.subject_alt_names = vec![if who.subject.contains("://") {
            SanType::URI(name)
        } else {
            SanType::Rfc822Name(name)
        }];
        let begin = rcgen::date_time_ymd(2025, 6, 1);
        let shift = Duration::from_secs(who.begins.unsigned_abs());
        params.not_before = if who.begins < 0 { begin - shift } else { begin + shift };
        params.not_after = params.not_before + Duration::from_secs(LIFE);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![if who.signs_code {
            ExtendedKeyUsagePurpose::CodeSigning
        } else {
            ExtendedKeyUsagePurpose::ServerAuth
        }];
        for (number, value) in &who.extensions {
            let oid = [1, 3, 6, 1, 4, 1, 57264, 1, *number];
            let content = der::tlv(0x0c, value.as_bytes());
            params.custom_extensions.push(CustomExtension::from_oid_content(&oid, content));
        }
        if let Some(list) = scts {
            let oid = [1, 3, 6, 1, 4, 1, 11129, 2, 4, 2];
            let content = der::tlv(0x04, &list);
            params.custom_extensions.push(CustomExtension::from_oid_content(&oid, content));
        }
        params.signed_by(key, &self.authority).unwrap().der().to_vec()
    }

    /// A bundle v0.3 of a statement.
    pub fn attest(&self, leaf: &Leaf, statement: &[u8], rekor: Rekor) -> Value {
        self.attest_as(&leaf.certified(&|data| sign(&leaf.key, data)), statement, rekor)
    }

    /// The same by a key of any kind.
    pub fn attest_as(&self, by: &Certified<'_>, statement: &[u8], rekor: Rekor) -> Value {
        let signature = (by.sign)(&pae(STATEMENT, statement));
        self.attested(by.certificate, (statement, &signature), rekor)
    }

    /// The same with a signature that somebody else made, of [`pae`].
    pub fn attested(
        &self,
        certificate: &[u8],
        (statement, signature): (&[u8], &[u8]),
        rekor: Rekor,
    ) -> Value {
        let material = json!({"certificate": {"rawBytes": b64(certificate)}});
        let verifier = log::Verifier::Certificate(certificate);
        self.enveloped(material, verifier, (statement, signature), rekor)
    }

    /// The same with a key of its own.
    pub fn attest_by_key(&self, key: &SigningKey, statement: &[u8], rekor: Option<Rekor>) -> Value {
        let signature = sign(key, &pae(STATEMENT, statement));
        let material = json!({"publicKey": {"hint": "ours"}});
        let verifier = spki(key);
        let verifier = log::Verifier::Key(&verifier);
        let by = rekor.unwrap_or(Rekor::None);
        let mut bundle = self.enveloped(material, verifier, (statement, &signature), by);
        if rekor.is_none() {
            bundle["verificationMaterial"]["timestampVerificationData"] = json!({});
        }
        bundle
    }

    /// A bundle v0.3 of a file.
    pub fn sign_file(&self, leaf: &Leaf, artifact: &[u8], rekor: Rekor) -> Value {
        self.sign_file_as(&leaf.certified(&|data| sign(&leaf.key, data)), artifact, rekor)
    }

    /// The same by a key of any kind.
    pub fn sign_file_as(&self, by: &Certified<'_>, artifact: &[u8], rekor: Rekor) -> Value {
        let signature = (by.sign)(artifact);
        self.signed_file(by.certificate, (artifact, &signature), rekor)
    }

    /// The same with a signature that somebody else made.
    pub fn signed_file(
        &self,
        certificate: &[u8],
        (artifact, signature): (&[u8], &[u8]),
        rekor: Rekor,
    ) -> Value {
        let mut material = json!({"certificate": {"rawBytes": b64(certificate)}});
        let verifier = log::Verifier::Certificate(certificate);
        let body = match rekor {
            Rekor::V2 => log::hashedrekord2(sha256(artifact), signature, verifier),
            Rekor::V1 | Rekor::None => log::hashedrekord(sha256(artifact), signature, verifier),
        };
        self.place(&mut material, ("hashedrekord", &body), signature, rekor);
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "messageSignature": {
                "messageDigest": {"algorithm": "SHA2_256", "digest": b64(sha256(artifact))},
                "signature": b64(signature),
            },
        })
    }

    fn enveloped(
        &self,
        mut material: Value,
        verifier: log::Verifier<'_>,
        (statement, signature): (&[u8], &[u8]),
        rekor: Rekor,
    ) -> Value {
        let (kind, body) = match rekor {
            Rekor::V1 | Rekor::None => ("dsse", log::dsse(statement, signature, verifier)),
            Rekor::V2 => {
                let digest = sha256(pae(STATEMENT, statement));
                ("hashedrekord", log::hashedrekord2(digest, signature, verifier))
            }
        };
        self.place(&mut material, (kind, &body), signature, rekor);
        json!({
            "mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
            "verificationMaterial": material,
            "dsseEnvelope": {
                "payloadType": STATEMENT, "payload": b64(statement),
                "signatures": [{"sig": b64(signature)}],
            },
        })
    }

    /// Adds the log's entry and the timestamp.
    fn place(
        &self,
        material: &mut Value,
        (kind, body): (&str, &Value),
        signature: &[u8],
        rekor: Rekor,
    ) {
        let body = body.to_string();
        let entry = match rekor {
            Rekor::V1 => {
                let mut entry = self.rekor_entry(kind, &body);
                let promise = log::promise(&self.rekor, &body, AT + 60);
                entry["integratedTime"] = json!((AT + 60).to_string());
                entry["inclusionPromise"] = json!({"signedEntryTimestamp": b64(promise)});
                Some(entry)
            }
            Rekor::V2 => Some(self.rekor2_entry(kind, &body)),
            Rekor::None => None,
        };
        material["tlogEntries"] = json!(entry.into_iter().collect::<Vec<_>>());
        if rekor != Rekor::V1 {
            let token = self.token(&sha256(signature), AT + 60);
            material["timestampVerificationData"] =
                json!({"rfc3161Timestamps": [{"signedTimestamp": b64(token)}]});
        }
    }

    /// cosign's simple signing of a manifest, keyless: the payload and the annotations.
    pub fn simple(&self, leaf: &Leaf, manifest: &str) -> (Vec<u8>, BTreeMap<String, String>) {
        self.simple_as(&leaf.certified(&|data| sign(&leaf.key, data)), manifest)
    }

    /// The same by a key of any kind.
    pub fn simple_as(
        &self,
        by: &Certified<'_>,
        manifest: &str,
    ) -> (Vec<u8>, BTreeMap<String, String>) {
        let payload = simple_payload(manifest);
        let annotations = self.annotated(by, &payload);
        (payload, annotations)
    }

    /// The annotations of a payload that somebody signs, whatever it says.
    pub fn simple_of(&self, leaf: &Leaf, payload: &[u8]) -> BTreeMap<String, String> {
        self.annotated(&leaf.certified(&|data| sign(&leaf.key, data)), payload)
    }

    fn annotated(&self, by: &Certified<'_>, payload: &[u8]) -> BTreeMap<String, String> {
        let signature = (by.sign)(payload);
        let verifier = log::Verifier::Certificate(by.certificate);
        let body = log::hashedrekord(sha256(payload), &signature, verifier);
        let mut annotations = self.logged(&body, &signature);
        let certificate = pem("CERTIFICATE", by.certificate);
        annotations.insert("dev.sigstore.cosign/certificate".into(), certificate);
        annotations
            .insert("dev.sigstore.cosign/chain".into(), pem("CERTIFICATE", self.authority.der()));
        annotations
    }

    /// The same with a key of one's own.
    pub fn simple_by_key(
        &self,
        key: &SigningKey,
        manifest: &str,
        logged: bool,
    ) -> (Vec<u8>, BTreeMap<String, String>) {
        let payload = simple_payload(manifest);
        let signature = sign(key, &payload);
        if !logged {
            return (payload, BTreeMap::from([signed(&signature)]));
        }
        let spki = spki(key);
        let body = log::hashedrekord(sha256(&payload), &signature, log::Verifier::Key(&spki));
        let annotations = self.logged(&body, &signature);
        (payload, annotations)
    }

    fn logged(&self, body: &Value, signature: &[u8]) -> BTreeMap<String, String> {
        let body = body.to_string();
        let entry = json!({
            "SignedEntryTimestamp": b64(log::promise(&self.rekor, &body, AT + 60)),
            "Payload": {
                "body": b64(&body), "integratedTime": AT + 60, "logIndex": 0,
                "logID": hex::encode(sha256(spki(&self.rekor))),
            },
        });
        BTreeMap::from([
            signed(signature),
            ("dev.sigstore.cosign/bundle".to_owned(), entry.to_string()),
        ])
    }

    /// What the timestamp authority says about something by its SHA-256.
    pub fn token(&self, imprint: &[u8; 32], at: i64) -> Vec<u8> {
        der::timestamp(&self.stamper, imprint, at)
    }

    /// The annotation of a timestamp.
    pub fn stamped(&self, signature: &[u8]) -> (String, String) {
        let token = self.token(&sha256(signature), AT + 60);
        let value = json!({"SignedRFC3161Timestamp": b64(token)}).to_string();
        ("dev.sigstore.cosign/rfc3161timestamp".to_owned(), value)
    }
}

/// The annotation of a signature.
pub fn signed(signature: &[u8]) -> (String, String) {
    ("dev.cosignproject.cosign/signature".to_owned(), b64(signature))
}

pub fn simple_payload(manifest: &str) -> Vec<u8> {
    json!({
        "critical": {
            "identity": {"docker-reference": "registry.example.com/app"},
            "image": {"docker-manifest-digest": manifest},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
    .to_string()
    .into_bytes()
}
