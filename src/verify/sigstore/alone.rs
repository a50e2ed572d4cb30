//! A key's signature with nothing else: no log, no trusted time.

use sha2::{Digest as _, Sha256, Sha384, Sha512};
use sigstore_crypto::{SigningScheme, verify_signature, verify_signature_prehashed};
use sigstore_verify::types::bundle::{MessageSignature, SignatureContent};
use sigstore_verify::types::{
    ArtifactDigest, Bundle, DsseEnvelope, HashAlgorithm, SignatureBytes, Statement,
};

use super::bundle::parse_digest;
use super::error::{SigstoreInvalid, malformed, unsupported};
use super::{Artifact, PublicKey};
use crate::verify::{Invalid, NotVerified};

const IN_TOTO: &str = "application/vnd.in-toto+json";

/// Verifies that a key signed what a bundle holds, and that it is about the artifact.
pub(super) fn verify(
    bundle: &Bundle,
    artifact: Artifact<'_>,
    key: &PublicKey,
) -> Result<(), NotVerified> {
    match &bundle.content {
        SignatureContent::DsseEnvelope(envelope) => {
            signed(key, &envelope.pae(), &envelope.signature.sig)?;
            about(envelope, artifact)
        }
        SignatureContent::MessageSignature(signature) => message(signature, artifact, key),
        _ => Err(unsupported("this content of a bundle", "statements and messages are")),
    }
}

fn about(envelope: &DsseEnvelope, artifact: Artifact<'_>) -> Result<(), NotVerified> {
    if envelope.payload_type != IN_TOTO {
        let what = format!("an envelope of {:?}", envelope.payload_type);
        return Err(unsupported(what, "application/vnd.in-toto+json is"));
    }
    let statement: Statement =
        serde_json::from_slice(envelope.payload.as_bytes()).map_err(malformed)?;
    let digests = match artifact {
        Artifact::Digest(digest) => vec![parse_digest(digest)?],
        Artifact::Bytes(bytes) => {
            vec![digest(HashAlgorithm::Sha2256, bytes)?, digest(HashAlgorithm::Sha2512, bytes)?]
        }
    };
    let matches = digests.iter().any(|digest| {
        let (algorithm, octets) = (digest.algorithm(), digest.as_bytes());
        (algorithm == HashAlgorithm::Sha2256
            && octets.try_into().is_ok_and(|it| statement.matches_sha256(&it)))
            || (algorithm == HashAlgorithm::Sha2512
                && octets.try_into().is_ok_and(|it| statement.matches_sha512(&it)))
    });
    if matches { Ok(()) } else { Err(other("none of the statement's subjects has its digest")) }
}

fn message(
    signature: &MessageSignature,
    artifact: Artifact<'_>,
    key: &PublicKey,
) -> Result<(), NotVerified> {
    if let Some(claimed) = &signature.message_digest {
        let actual = match artifact {
            Artifact::Bytes(bytes) => digest(claimed.algorithm, bytes)?,
            Artifact::Digest(digest) => parse_digest(digest)?,
        };
        let same = actual.algorithm() == claimed.algorithm
            && actual.as_bytes() == claimed.digest.as_bytes();
        if !same {
            return Err(other("the digest that the signature names is another"));
        }
    }
    match artifact {
        Artifact::Bytes(bytes) => signed(key, bytes, &signature.signature),
        Artifact::Digest(digest) => {
            let digest = parse_digest(digest)?;
            let schemes = key.schemes().iter().copied();
            let usable: Vec<SigningScheme> = schemes
                .filter(|scheme| scheme.hash_algorithm() == Some(digest.algorithm()))
                .collect();
            if usable.is_empty() {
                let what = format!("a {} digest with such a key", digest.algorithm());
                return Err(unsupported(what, "the digest that the key signs is wanted"));
            }
            by_any(&usable, |scheme| {
                let signature = &signature.signature;
                verify_signature_prehashed(key.der(), digest.as_bytes(), signature, scheme)
            })
        }
    }
}

/// That a key signed these bytes.
fn signed(key: &PublicKey, bytes: &[u8], signature: &SignatureBytes) -> Result<(), NotVerified> {
    by_any(key.schemes(), |scheme| verify_signature(key.der(), bytes, signature, scheme))
}

fn by_any(
    schemes: &[SigningScheme],
    mut verify: impl FnMut(SigningScheme) -> sigstore_crypto::Result<()>,
) -> Result<(), NotVerified> {
    let mut why = "no algorithm fits the key".to_owned();
    for scheme in schemes {
        match verify(*scheme) {
            Ok(()) => return Ok(()),
            Err(error) => why = error.to_string(),
        }
    }
    Err(Invalid::Sigstore(SigstoreInvalid::Signature { why }).into())
}

fn digest(algorithm: HashAlgorithm, bytes: &[u8]) -> Result<ArtifactDigest, NotVerified> {
    let octets = match algorithm {
        HashAlgorithm::Sha2256 => Sha256::digest(bytes).to_vec(),
        HashAlgorithm::Sha2384 => Sha384::digest(bytes).to_vec(),
        HashAlgorithm::Sha2512 => Sha512::digest(bytes).to_vec(),
        other => return Err(unsupported(other.to_string(), "SHA-256, SHA-384 and SHA-512 are")),
    };
    ArtifactDigest::new(algorithm, octets).map_err(malformed)
}

fn other(why: &str) -> NotVerified {
    Invalid::Sigstore(SigstoreInvalid::Subject { why: why.to_owned() }).into()
}
