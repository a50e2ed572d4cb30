//! What Fulcio, Rekor and a timestamp authority answer, for clients that are real. What they are told is
//! believed: nobody here has anything to lose.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use p256::pkcs8::DecodePublicKey as _;
use serde_json::{Value, json};

use super::{AT, Forge, PublicKey, Who, b64, log, pem, sha256, spki};

fn text<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value.pointer(pointer).and_then(Value::as_str).unwrap()
}

fn octets(value: &Value, pointer: &str) -> Vec<u8> {
    STANDARD.decode(text(value, pointer)).unwrap()
}

/// An identity token (JWT) that nobody checks.
pub fn token(email: &str, issuer: &str) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let claims = json!({
        "iss": issuer, "sub": email, "email": email, "email_verified": true, "aud": "sigstore",
        "iat": 1_700_000_000, "nbf": 1_700_000_000, "exp": 4_000_000_000_u64,
    });
    format!("{}.{}.c2ln", part(json!({"alg": "RS256", "typ": "JWT"})), part(claims))
}

impl Forge {
    /// Fulcio's `POST /api/v2/signingCert`: a certificate for whom the token names.
    pub fn certify(&self, token: &str, request: &Value) -> Value {
        let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        let issuer = text(&claims, "/iss").to_owned();
        let who = Who { extensions: vec![(8, issuer)], ..Who::person(text(&claims, "/email")) };
        let key = text(request, "/publicKeyRequest/publicKey/content");
        let key = p256::ecdsa::VerifyingKey::from_public_key_pem(key).unwrap();
        let bits = key.to_encoded_point(false);
        let key = PublicKey { algorithm: &rcgen::PKCS_ECDSA_P256_SHA256, bits: bits.as_bytes() };
        let leaf = pem("CERTIFICATE", &self.certified(&who, &key));
        json!({"signedCertificateEmbeddedSct": {
            "chain": {"certificates": [leaf, self.authority_pem()]},
        }})
    }

    /// Rekor's `POST /api/v1/log/entries`: the name of the entry, and the entry.
    pub fn enter(&self, proposed: &Value) -> (String, Value) {
        let kind = text(proposed, "/kind");
        assert!(matches!(kind, "dsse" | "hashedrekord"), "an entry of kind {kind}");
        let body = if kind == "dsse" { canonical_dsse(proposed) } else { proposed.clone() };
        let body = body.to_string();
        let id = sha256(spki(&self.rekor));
        let entry = self.rekor_entry("any", &body);
        let proof = &entry["inclusionProof"];
        let anonymous = json!({
            "body": b64(&body), "integratedTime": AT + 60, "logIndex": 0,
            "logID": hex::encode(id),
            "verification": {
                "signedEntryTimestamp": b64(log::promise(&self.rekor, &body, AT + 60)),
                "inclusionProof": {
                    "checkpoint": proof["checkpoint"]["envelope"], "hashes": [], "logIndex": 0,
                    "rootHash": hex::encode(octets(proof, "/rootHash")), "treeSize": 1,
                },
            },
        });
        (hex::encode(sha256(&body)), anonymous)
    }

    /// Rekor's `POST /api/v2/log/entries`.
    pub fn append(&self, request: &Value) -> Value {
        let asked = &request["hashedRekordRequestV002"];
        let digest: [u8; 32] = octets(asked, "/digest").try_into().unwrap();
        let signature = octets(asked, "/signature/content");
        let verifier = &asked["signature"]["verifier"];
        let (certificate, key);
        let verifier = if verifier["x509Certificate"].is_object() {
            certificate = octets(verifier, "/x509Certificate/rawBytes");
            log::Verifier::Certificate(&certificate)
        } else {
            key = octets(verifier, "/publicKey/rawBytes");
            log::Verifier::Key(&key)
        };
        let body = log::hashedrekord2(digest, &signature, verifier).to_string();
        self.rekor2_entry("hashedrekord", &body)
    }

    /// A timestamp authority's answer (RFC 3161, section 3.4).
    pub fn stamp(&self, request: &[u8]) -> Vec<u8> {
        // The one string of so many octets in a request is the digest.
        let at = request.windows(2).position(|it| it == [0x04, 0x20]).unwrap() + 2;
        let imprint: [u8; 32] = request[at..at + 32].try_into().unwrap();
        self.token(&imprint, AT + 60)
    }
}

/// The entry that Rekor v1 makes of an envelope: digests in place of what is in it.
fn canonical_dsse(proposed: &Value) -> Value {
    let envelope = text(proposed, "/spec/proposedContent/envelope");
    let parsed: Value = serde_json::from_str(envelope).unwrap();
    let payload = octets(&parsed, "/payload");
    json!({
        "apiVersion": "0.0.1", "kind": "dsse",
        "spec": {
            "envelopeHash": {"algorithm": "sha256", "value": hex::encode(sha256(envelope))},
            "payloadHash": {"algorithm": "sha256", "value": hex::encode(sha256(payload))},
            "signatures": [{
                "signature": text(&parsed, "/signatures/0/sig"),
                "verifier": text(proposed, "/spec/proposedContent/verifiers/0"),
            }],
        },
    })
}
