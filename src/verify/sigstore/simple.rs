//! cosign's simple signing: a payload that names an image's digest, and a signature beside it
//! (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>).
//!
//! It is verified as the bundle that it amounts to: a message signature of the payload, with the
//! certificates, the log entry and the timestamp of the annotations.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use sigstore_verify::types::bundle::{
    CertificateContent, InclusionPromise, LogId, MessageDigest, MessageSignature,
    PublicKeyIdentifier, Rfc3161Timestamp, SignatureContent, TimestampVerificationData,
    TransparencyLogEntry, VerificationMaterial, VerificationMaterialContent, X509Certificate,
};
use sigstore_verify::types::{
    Bundle, CanonicalizedBody, DerCertificate, DigestBytes, HashAlgorithm, KindVersion, LogIndex,
    LogKeyId, MediaType, SignatureBytes, SignedTimestamp, TimestampToken,
};

use super::bundle::{material, verify};
use super::error::{SigstoreInvalid, clipped, malformed};
use super::signed::SignatureType;
use super::{Artifact, Log, Signer, VerifiedSignature, kind};
use crate::verify::{Invalid, NotVerified};

/// Most bytes of a payload.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// Most bytes of an annotation.
pub const MAX_ANNOTATION: usize = 1 << 20;

const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";
const LOG_ENTRY: &str = "dev.sigstore.cosign/bundle";
const TIMESTAMP: &str = "dev.sigstore.cosign/rfc3161timestamp";

const TYPE: &str = "cosign container image signature";

/// A simple signing signature: one layer of a signature manifest.
#[derive(Clone, Copy, Debug)]
pub struct SimpleSigning<'a> {
    /// The layer's content, as it was signed.
    pub payload: &'a [u8],
    /// The annotations of the layer's descriptor: signature, certificate, chain, log entry, timestamp.
    pub annotations: &'a BTreeMap<String, String>,
}

/// Verifies that a signature is of the manifest with this digest (`sha256:…`), at `now` (seconds
/// since 1970).
///
/// # Errors
/// When it is not signed, the signature does not hold, or that cannot be told.
pub fn verify_simple_signing(
    signed: &SimpleSigning<'_>,
    manifest: &str,
    by: Signer<'_>,
    now: i64,
) -> Result<VerifiedSignature, NotVerified> {
    super::provider::install();
    by.usable(now)?;
    if signed.payload.len() > MAX_PAYLOAD {
        let size = signed.payload.len();
        return Err(malformed(format!("it has {size} bytes; at most {MAX_PAYLOAD} are read")));
    }
    let bundle = as_bundle(signed, by)?;
    let mut verified = verify(&bundle, Artifact::Bytes(signed.payload), by, now)?;
    let payload = Payload::read(signed.payload)?;
    if payload.critical.image.docker_manifest_digest != manifest {
        let signs = clipped(&payload.critical.image.docker_manifest_digest);
        let why = format!("it signs {signs}, not {manifest}");
        return Err(Invalid::Sigstore(SigstoreInvalid::Subject { why }).into());
    }
    verified.signature_type = SignatureType::SimpleSigningV1;
    verified.docker_reference = payload.critical.identity.docker_reference;
    verified.payload = Some(Bytes::copy_from_slice(signed.payload));
    verified.kind = kind::kind(&verified, by.root());
    Ok(verified)
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    identity: Named,
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Named {
    #[serde(rename = "docker-reference", default)]
    docker_reference: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    docker_manifest_digest: String,
}

impl Payload {
    fn read(payload: &[u8]) -> Result<Self, NotVerified> {
        let payload: Self = serde_json::from_slice(payload).map_err(malformed)?;
        if payload.critical.kind == TYPE {
            return Ok(payload);
        }
        let kind = clipped(&payload.critical.kind);
        Err(malformed(format!("its type is {kind:?}, not {TYPE:?}")))
    }
}

fn as_bundle(signed: &SimpleSigning<'_>, by: Signer<'_>) -> Result<Bundle, NotVerified> {
    let annotation = |name| annotation(signed.annotations, name);
    let signature = annotation(SIGNATURE)?.ok_or(NotVerified::Absent)?;
    let digest = DigestBytes::new(Sha256::digest(signed.payload).to_vec());
    let message = MessageSignature::new(SignatureBytes::new(decode(SIGNATURE, signature)?))
        .with_message_digest(MessageDigest::new(HashAlgorithm::Sha2256, digest));
    let content = match by {
        Signer::Keyless(_) => {
            let leaf =
                annotation(CERTIFICATE)?.ok_or_else(|| material("a key", "a certificate"))?;
            certificates(leaf, annotation(CHAIN)?.unwrap_or_default())?
        }
        Signer::Key(..) | Signer::DockerHardenedImages(..) => {
            VerificationMaterialContent::PublicKey(PublicKeyIdentifier::new(""))
        }
    };
    let ignored = matches!(by, Signer::Key(_, Log::Ignored));
    let entry = annotation(LOG_ENTRY)?.filter(|_| !ignored).map(log_entry).transpose()?;
    if entry.is_none() && needs_entry(by) {
        let root = by.root().map(|root| root.name().to_owned()).unwrap_or_default();
        let why = "the signature has no log entry".to_owned();
        return Err(Invalid::Sigstore(SigstoreInvalid::Log { root, why }).into());
    }
    let times = annotation(TIMESTAMP)?.map(timestamp).transpose()?;
    // Of the bundle's versions the first takes a log's promise alone, and the second takes a chain.
    let version = if entry.is_some() { MediaType::Bundle0_1 } else { MediaType::Bundle0_2 };
    let material = VerificationMaterial::new(content)
        .with_tlog_entries(entry.into_iter().collect())
        .with_timestamp_verification_data(times.unwrap_or_default());
    Ok(Bundle::new(version, material, SignatureContent::MessageSignature(message)))
}

fn needs_entry(by: Signer<'_>) -> bool {
    match by {
        Signer::Keyless(root) => !root.material().tlogs.is_empty(),
        Signer::Key(_, Log::Required(_)) => true,
        Signer::Key(_, Log::WherePresent(_) | Log::Ignored) | Signer::DockerHardenedImages(..) => {
            false
        }
    }
}

fn annotation<'a>(
    annotations: &'a BTreeMap<String, String>,
    name: &str,
) -> Result<Option<&'a str>, NotVerified> {
    let value = annotations.get(name).map(|value| value.trim()).filter(|value| !value.is_empty());
    if value.is_some_and(|value| value.len() > MAX_ANNOTATION) {
        return Err(malformed(format!("annotation {name} has more than {MAX_ANNOTATION} bytes")));
    }
    Ok(value)
}

fn decode(name: &str, value: &str) -> Result<Vec<u8>, NotVerified> {
    STANDARD.decode(value).map_err(|error| malformed(format!("annotation {name}: {error}")))
}

/// The signer's certificate, and those between it and the root's.
fn certificates(leaf: &str, chain: &str) -> Result<VerificationMaterialContent, NotVerified> {
    const END: &str = "-----END CERTIFICATE-----";
    let mut certificates = Vec::new();
    for (name, text) in [(CERTIFICATE, leaf), (CHAIN, chain)] {
        for block in text.split_inclusive(END) {
            if block.trim().is_empty() {
                continue;
            }
            let der = DerCertificate::from_pem(block.trim())
                .map_err(|error| malformed(format!("annotation {name}: {error}")))?;
            certificates.push(X509Certificate::new(der));
        }
    }
    match certificates.as_slice() {
        [only] => {
            let der = only.raw_bytes.clone();
            Ok(VerificationMaterialContent::Certificate(CertificateContent::new(der)))
        }
        _ => Ok(VerificationMaterialContent::X509CertificateChain { certificates }),
    }
}

/// The log's entry with its promise, as cosign has kept it since its first version.
fn log_entry(text: &str) -> Result<TransparencyLogEntry, NotVerified> {
    #[derive(Deserialize)]
    struct Form {
        #[serde(rename = "SignedEntryTimestamp")]
        promise: String,
        #[serde(rename = "Payload")]
        payload: Logged,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Logged {
        body: String,
        integrated_time: i64,
        log_index: u64,
        #[serde(rename = "logID")]
        log_id: String,
    }
    let unreadable = |why: String| malformed(format!("annotation {LOG_ENTRY}: {why}"));
    let form: Form = serde_json::from_str(text).map_err(|error| unreadable(error.to_string()))?;
    let id = hex::decode(&form.payload.log_id).map_err(|error| unreadable(error.to_string()))?;
    let index =
        LogIndex::new(form.payload.log_index).map_err(|error| unreadable(error.to_string()))?;
    let at = jiff::Timestamp::from_second(form.payload.integrated_time)
        .map_err(|error| unreadable(error.to_string()))?;
    let body = CanonicalizedBody::new(decode(LOG_ENTRY, &form.payload.body)?);
    let promise = SignedTimestamp::new(decode(LOG_ENTRY, &form.promise)?);
    let id = LogId::new(LogKeyId::new(id));
    Ok(TransparencyLogEntry::new(index, id, KindVersion::HashedRekordV001, body)
        .with_integrated_time(at)
        .with_inclusion_promise(InclusionPromise::new(promise)))
}

fn timestamp(text: &str) -> Result<TimestampVerificationData, NotVerified> {
    #[derive(Deserialize)]
    struct Form {
        #[serde(rename = "SignedRFC3161Timestamp")]
        token: String,
    }
    let form: Form = serde_json::from_str(text)
        .map_err(|error| malformed(format!("annotation {TIMESTAMP}: {error}")))?;
    let token = TimestampToken::new(decode(TIMESTAMP, &form.token)?);
    Ok(TimestampVerificationData::new(vec![Rfc3161Timestamp::new(token)]))
}
