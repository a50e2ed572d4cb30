//! Sigstore bundles (<https://docs.sigstore.dev/about/bundle/>): what is in one, and by whom.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;
use sigstore_verify::types::bundle::{SignatureContent, VerificationMaterialContent};
use sigstore_verify::types::{Artifact as Given, ArtifactDigest, Bundle, HashAlgorithm};
use sigstore_verify::{PublicKeyVerificationPolicy, VerificationPolicy, VerificationResult};

use super::error::{SigstoreInvalid, malformed, refused, unsupported};
use super::proof::{Statement, Subject};
use super::signed::{SignatureKind, SignatureType, TrustedTimestamp};
use super::{
    Artifact, HardenedKey, Log, PublicKey, Signer, TrustRoot, VerifiedSignature, alone, kind, log,
    signer, time,
};
use crate::verify::{Invalid, NotVerified};

/// Most bytes of a bundle.
pub const MAX_BUNDLE: usize = 16 << 20;
/// Most log entries, timestamps or certificates of one signature, each.
const MAX_PARTS: usize = 32;

/// Verifies that a bundle (JSON) signs an artifact, at `now` (seconds since 1970).
///
/// # Errors
/// When it is not signed, the signature does not hold, or that cannot be told.
pub fn verify_bundle(
    bundle: &[u8],
    artifact: Artifact<'_>,
    by: Signer<'_>,
    now: i64,
) -> Result<VerifiedSignature, NotVerified> {
    by.usable(now)?;
    let bundle = parse(bundle)?;
    let mut verified = verify(&bundle, artifact, by, now)?;
    if let SignatureContent::DsseEnvelope(envelope) = &bundle.content {
        let payload = Bytes::copy_from_slice(envelope.payload.as_bytes());
        verified.statement = Some(statement(&payload)?);
        verified.payload = Some(payload);
    }
    verified.kind = kind::kind(&verified, by.root());
    Ok(verified)
}

fn parse(bundle: &[u8]) -> Result<Bundle, NotVerified> {
    super::provider::install();
    if bundle.len() > MAX_BUNDLE {
        let size = bundle.len();
        return Err(malformed(format!("it has {size} bytes; at most {MAX_BUNDLE} are read")));
    }
    let text = std::str::from_utf8(bundle).map_err(malformed)?;
    if text.trim().is_empty() {
        return Err(malformed("it is empty"));
    }
    Bundle::from_json(text).map_err(malformed)
}

/// Verifies a bundle as it stands; what it signs and whose kind it is are filled in by the caller.
pub(super) fn verify(
    bundle: &Bundle,
    artifact: Artifact<'_>,
    by: Signer<'_>,
    now: i64,
) -> Result<VerifiedSignature, NotVerified> {
    let material = &bundle.verification_material;
    let mut certificates = 1;
    if let VerificationMaterialContent::X509CertificateChain { certificates: chain } =
        &material.content
    {
        certificates = chain.len();
    }
    let timestamps = material.timestamp_verification_data.rfc3161_timestamps.len();
    if material.tlog_entries.len().max(timestamps).max(certificates) > MAX_PARTS {
        return Err(malformed(format!("it has more than {MAX_PARTS} parts of one kind")));
    }
    let verified = match by {
        Signer::Keyless(root) => keyless(bundle, artifact, root, now),
        Signer::Key(key, log) => by_key(bundle, artifact, (key, log), now),
        Signer::DockerHardenedImages(root, hardened) => {
            hardened_image(bundle, artifact, (root, hardened), now)
        }
    };
    verified.map_err(|refused| time::until_it_has_come(bundle, now, refused))
}

fn hardened_image(
    bundle: &Bundle,
    artifact: Artifact<'_>,
    (root, hardened): (&TrustRoot, &HardenedKey),
    now: i64,
) -> Result<VerifiedSignature, NotVerified> {
    let mut verified = by_key(bundle, artifact, (&hardened.key, Log::WherePresent(root)), now)?;
    time::none_before(hardened.since, &verified.timestamps, root)?;
    verified.is_dhi = true;
    Ok(verified)
}

fn keyless(
    bundle: &Bundle,
    artifact: Artifact<'_>,
    root: &TrustRoot,
    now: i64,
) -> Result<VerifiedSignature, NotVerified> {
    if matches!(bundle.verification_material.content, VerificationMaterialContent::PublicKey(_)) {
        return Err(material("a key", "a certificate"));
    }
    let certificate =
        bundle.signing_certificate().ok_or_else(|| malformed("it holds no certificate"))?;
    let needs = root.material();
    let mut policy = VerificationPolicy::any_identity();
    if needs.tlogs.is_empty() {
        policy = policy.skip_tlog_unsafe();
    }
    if needs.ctlogs.is_empty() {
        policy = policy.skip_sct();
    }
    let result = root
        .verifier()
        .verify(given(artifact)?, bundle, &policy)
        .map_err(|error| refused(&error, root.name()))?;
    whole(&result, root)?;
    let info = result.certificate().ok_or_else(|| malformed("it holds no certificate"))?;
    let signer = signer::signer(certificate, info).map_err(|why| {
        Invalid::Sigstore(SigstoreInvalid::Certificate { root: root.name().to_owned(), why })
    })?;
    let mut verified = proven(Some(root));
    verified.timestamps = time::timestamps(bundle, root, now)?;
    verified.lasting = log::in_force(bundle, &verified.timestamps, root, now)?;
    verified.signer = Some(signer);
    Ok(verified)
}

/// That nothing was left out that the trust root has the means for.
fn whole(result: &VerificationResult, root: &TrustRoot) -> Result<(), NotVerified> {
    let needs = root.material();
    let whole = result.certificate_verified()
        && (result.sct_verified() || needs.ctlogs.is_empty())
        && (result.tlog_verified() || needs.tlogs.is_empty())
        && !result.verified_timestamps().is_empty();
    if whole {
        return Ok(());
    }
    Err(unsupported("a bundle that was verified in part", "whole ones are"))
}

fn by_key(
    bundle: &Bundle,
    artifact: Artifact<'_>,
    (key, log): (&PublicKey, Log<'_>),
    now: i64,
) -> Result<VerifiedSignature, NotVerified> {
    if !matches!(bundle.verification_material.content, VerificationMaterialContent::PublicKey(_)) {
        return Err(material("a certificate", "a key"));
    }
    let mut verified = match log {
        Log::Required(root) => logged(bundle, artifact, (key, root), now)?,
        Log::WherePresent(root) if !bundle.verification_material.tlog_entries.is_empty() => {
            logged(bundle, artifact, (key, root), now)?
        }
        Log::WherePresent(root) => {
            alone::verify(bundle, artifact, key)?;
            let mut verified = proven(Some(root));
            verified.timestamps = time::timestamps(bundle, root, now)?;
            verified
        }
        Log::Ignored => {
            alone::verify(bundle, artifact, key)?;
            proven(None)
        }
    };
    verified.key = Some(key.fingerprint());
    Ok(verified)
}

/// Verifies a signature by a key that a log has an entry of.
fn logged(
    bundle: &Bundle,
    artifact: Artifact<'_>,
    (key, root): (&PublicKey, &TrustRoot),
    now: i64,
) -> Result<VerifiedSignature, NotVerified> {
    let policy = PublicKeyVerificationPolicy::new(key.der().clone());
    let result = root
        .verifier()
        .verify(given(artifact)?, bundle, &policy)
        .map_err(|error| refused(&error, root.name()))?;
    if !result.tlog_verified() || bundle.verification_material.tlog_entries.is_empty() {
        return Err(unsupported("a bundle that was verified in part", "whole ones are"));
    }
    let mut verified = proven(Some(root));
    verified.timestamps = time::timestamps(bundle, root, now)?;
    verified.lasting = log::in_force(bundle, &verified.timestamps, root, now)?;
    Ok(verified)
}

/// The one place where a proof begins: whoever calls it has verified.
fn proven(root: Option<&TrustRoot>) -> VerifiedSignature {
    VerifiedSignature {
        signature_type: SignatureType::BundleV03,
        kind: SignatureKind::Untrusted,
        signer: None,
        key: None,
        timestamps: Vec::<TrustedTimestamp>::new(),
        payload: None,
        statement: None,
        docker_reference: String::new(),
        is_dhi: false,
        trust_root: root.map(|root| root.name().to_owned()),
        lasting: Vec::new(),
    }
}

pub(super) fn material(found: &'static str, wanted: &'static str) -> NotVerified {
    Invalid::Sigstore(SigstoreInvalid::Material { found, wanted }).into()
}

/// An artifact as the verifier takes it.
fn given(artifact: Artifact<'_>) -> Result<Given<'_>, NotVerified> {
    match artifact {
        Artifact::Bytes(bytes) => Ok(Given::from_blob(bytes)),
        Artifact::Digest(digest) => Ok(Given::from_digest(parse_digest(digest)?)),
    }
}

/// A digest as OCI writes it.
pub(super) fn parse_digest(digest: &str) -> Result<ArtifactDigest, NotVerified> {
    let instead = "sha256:…, sha384:… and sha512:… in lower-case hex are";
    let other = || unsupported(format!("digest {digest:?}"), instead);
    let (name, hex) = digest.split_once(':').ok_or_else(other)?;
    let algorithm = match name {
        "sha256" => HashAlgorithm::Sha2256,
        "sha384" => HashAlgorithm::Sha2384,
        "sha512" => HashAlgorithm::Sha2512,
        _ => return Err(other()),
    };
    if hex.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(other());
    }
    let octets = hex::decode(hex).map_err(|_| other())?;
    ArtifactDigest::new(algorithm, octets).map_err(|_| other())
}

/// Reads a statement that was verified.
fn statement(payload: &Bytes) -> Result<Statement, NotVerified> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Form<'a> {
        predicate_type: String,
        subject: Vec<FormSubject>,
        #[serde(borrow)]
        predicate: Option<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct FormSubject {
        #[serde(default)]
        name: String,
        #[serde(default)]
        digest: std::collections::BTreeMap<String, String>,
    }
    let form: Form<'_> = serde_json::from_slice(payload).map_err(malformed)?;
    let predicate = form.predicate.map(|it| Bytes::copy_from_slice(it.get().as_bytes()));
    let subject = |it: FormSubject| Subject {
        name: it.name,
        digests: it.digest.into_iter().map(|(name, hex)| (name, hex.to_lowercase())).collect(),
    };
    Ok(Statement {
        predicate_type: form.predicate_type,
        subjects: form.subject.into_iter().map(subject).collect(),
        predicate: predicate.unwrap_or_default(),
    })
}
