//! What logs sign: Rekor's entries, promises and checkpoints (a tree of one leaf), and certificate
//! timestamps (RFC 6962).

use p256::ecdsa::SigningKey;
use serde_json::{Value, json};
use x509_cert::der::{Decode as _, Encode as _};

use super::{AT, b64, pem, sha256, sign, spki};

/// What a signature is verified by.
#[derive(Clone, Copy)]
pub enum Verifier<'a> {
    Certificate(&'a [u8]),
    Key(&'a [u8]),
}

impl Verifier<'_> {
    fn pem(self) -> String {
        match self {
            Self::Certificate(der) => pem("CERTIFICATE", der),
            Self::Key(der) => pem("PUBLIC KEY", der),
        }
    }

    fn json(self) -> Value {
        let details = "PKIX_ECDSA_P256_SHA_256";
        match self {
            Self::Certificate(der) => {
                json!({"keyDetails": details, "x509Certificate": {"rawBytes": b64(der)}})
            }
            Self::Key(der) => json!({"keyDetails": details, "publicKey": {"rawBytes": b64(der)}}),
        }
    }
}

pub fn hashedrekord(digest: [u8; 32], signature: &[u8], verifier: Verifier<'_>) -> Value {
    json!({
        "apiVersion": "0.0.1", "kind": "hashedrekord",
        "spec": {
            "data": {"hash": {"algorithm": "sha256", "value": hex::encode(digest)}},
            "signature": {"content": b64(signature), "publicKey": {"content": b64(verifier.pem())}},
        },
    })
}

pub fn hashedrekord2(digest: [u8; 32], signature: &[u8], verifier: Verifier<'_>) -> Value {
    json!({
        "apiVersion": "0.0.2", "kind": "hashedrekord",
        "spec": {"hashedRekordV002": {
            "data": {"algorithm": "SHA2_256", "digest": b64(digest)},
            "signature": {"content": b64(signature), "verifier": verifier.json()},
        }},
    })
}

pub fn dsse(payload: &[u8], signature: &[u8], verifier: Verifier<'_>) -> Value {
    json!({
        "apiVersion": "0.0.1", "kind": "dsse",
        "spec": {
            "envelopeHash": {"algorithm": "sha256", "value": hex::encode(sha256(b"envelope"))},
            "payloadHash": {"algorithm": "sha256", "value": hex::encode(sha256(payload))},
            "signatures": [{"signature": b64(signature), "verifier": b64(verifier.pem())}],
        },
    })
}

/// A log, by what its checkpoints call it.
pub struct Log<'a> {
    pub origin: &'a str,
    pub id: [u8; 32],
    pub sign: &'a dyn Fn(&[u8]) -> Vec<u8>,
}

/// What the log of this origin with an Ed25519 key is called by
/// (<https://github.com/C2SP/C2SP/blob/main/signed-note.md>).
pub fn checkpoint_key(origin: &str, key: &ed25519_dalek::VerifyingKey) -> [u8; 32] {
    sha256([origin.as_bytes(), b"\n\x01", key.as_bytes()].concat())
}

/// An entry, alone in its log, with its proof.
pub fn entry((kind, version): (&str, &str), body: &str, log: &Log<'_>) -> Value {
    let Log { origin, id, sign } = log;
    let mut leaf = vec![0];
    leaf.extend(body.as_bytes());
    let root = sha256(leaf);
    let note = format!("{origin}\n1\n{}\n", b64(root));
    let mut hinted = id[..4].to_vec();
    hinted.extend(sign(note.as_bytes()));
    // Rekor v1 puts the number of its tree behind its name.
    let name = origin.split(' ').next().unwrap();
    let checkpoint = format!("{note}\n\u{2014} {name} {}\n", b64(hinted));
    json!({
        "logIndex": "0", "logId": {"keyId": b64(id)},
        "kindVersion": {"kind": kind, "version": version},
        "inclusionProof": {
            "logIndex": "0", "rootHash": b64(root), "treeSize": "1", "hashes": [],
            "checkpoint": {"envelope": checkpoint},
        },
        "canonicalizedBody": b64(body),
    })
}

/// The log's promise to take an entry in.
pub fn promise(log: &SigningKey, body: &str, at: i64) -> Vec<u8> {
    let id = hex::encode(sha256(spki(log)));
    let text =
        format!(r#"{{"body":"{}","integratedTime":{at},"logID":"{id}","logIndex":0}}"#, b64(body));
    sign(log, text.as_bytes())
}

/// The list with the one timestamp of a certificate that has none yet.
pub fn sct_list(log: &SigningKey, certificate: &[u8], issuer_spki: &[u8], at: i64) -> Vec<u8> {
    let certificate = x509_cert::Certificate::from_der(certificate).unwrap();
    let tbs = certificate.tbs_certificate.to_der().unwrap();
    let millis = u64::try_from(at.max(AT)).unwrap() * 1000;
    // Version, kind of signature, time, precertificate.
    let mut signed = vec![0, 0];
    signed.extend(millis.to_be_bytes());
    signed.extend([0, 1]);
    signed.extend(sha256(issuer_spki));
    signed.extend(&u32::try_from(tbs.len()).unwrap().to_be_bytes()[1..]);
    signed.extend(&tbs);
    signed.extend([0, 0]);
    let signature = sign(log, &signed);

    let mut sct = vec![0];
    sct.extend(sha256(spki(log)));
    sct.extend(millis.to_be_bytes());
    // No extensions; SHA-256 with ECDSA.
    sct.extend([0, 0, 4, 3]);
    sct.extend(u16::try_from(signature.len()).unwrap().to_be_bytes());
    sct.extend(signature);
    let mut list = u16::try_from(sct.len() + 2).unwrap().to_be_bytes().to_vec();
    list.extend(u16::try_from(sct.len()).unwrap().to_be_bytes());
    list.extend(sct);
    list
}
