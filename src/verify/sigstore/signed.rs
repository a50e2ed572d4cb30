//! What rules see of a signature that was verified: an entry of `input.image.signatures`.
//!
//! The document takes no other entries, and only a [`VerifiedSignature`] makes one.

use schemars::JsonSchema;
use serde::Serialize;

use super::VerifiedSignature;

/// One verified signature of an image (`input.image.signatures[_]`).
///
/// [`VerifiedSignature::document`] makes it, and nothing else does. Rust code can read a document:
///
/// ```
/// fn signed(image: &buildgate::input::Image) -> bool {
///     !image.signatures.is_empty()
/// }
/// assert!(!signed(&buildgate::input::Image::default()));
/// ```
///
/// It can put nothing into it that nobody verified: neither written out,
///
/// ```compile_fail
/// let forged = buildgate::input::AttestationSignature {
///     kind: None,
///     signature_type: None,
///     timestamps: Vec::new(),
///     docker_reference: String::new(),
///     is_dhi: true,
///     signer: None,
/// };
/// ```
///
/// nor empty,
///
/// ```compile_fail
/// let forged = <buildgate::input::AttestationSignature as Default>::default();
/// ```
///
/// nor from JSON.
///
/// ```compile_fail
/// let forged: buildgate::input::AttestationSignature = serde_json::from_str("{}").unwrap();
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AttestationSignature {
    /// Who stands behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<SignatureKind>,
    /// Format of the signature.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    signature_type: Option<SignatureType>,
    /// Trusted times at which it existed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    timestamps: Vec<TrustedTimestamp>,
    /// Image reference that a simple signing payload names.
    #[serde(rename = "dockerReference", skip_serializing_if = "String::is_empty")]
    docker_reference: String,
    /// Whether it is a Docker Hardened Image.
    #[serde(rename = "isDHI", skip_serializing_if = "std::ops::Not::not")]
    is_dhi: bool,
    /// The certificate of who signed.
    #[serde(skip_serializing_if = "Option::is_none")]
    signer: Option<SignerInfo>,
}

impl AttestationSignature {
    /// What was verified, as rules see it.
    pub(super) fn of(verified: &VerifiedSignature) -> Self {
        Self {
            kind: Some(verified.kind()),
            signature_type: Some(verified.signature_type()),
            timestamps: verified.timestamps().to_vec(),
            docker_reference: verified.docker_reference().to_owned(),
            is_dhi: verified.is_dhi(),
            signer: verified.signer().cloned(),
        }
    }
}

/// Who stands behind a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum SignatureKind {
    /// Docker's builder on GitHub.
    DockerGithubBuilder,
    /// A Docker Hardened Image.
    DockerHardenedImage,
    /// A workflow of the image's own GitHub repository.
    SelfSignedGithubRepo,
    /// A key or identity of its own.
    SelfSigned,
    /// Nobody known.
    Untrusted,
}

/// Format of a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub enum SignatureType {
    /// A Sigstore bundle.
    #[serde(rename = "bundle-v0.3")]
    BundleV03,
    /// Simple signing.
    #[serde(rename = "simplesigning-v1")]
    SimpleSigningV1,
}

/// A trusted time at which a signature existed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct TrustedTimestamp {
    /// `Tlog` or `TimestampAuthority`.
    #[serde(rename = "type")]
    pub timestamp_type: String,
    /// Who vouches for it.
    pub uri: String,
    /// The time: RFC 3339.
    pub timestamp: String,
}

/// What a Sigstore certificate says of who signed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SignerInfo {
    /// Who issued the certificate.
    #[serde(rename = "certificateIssuer")]
    pub certificate_issuer: String,
    /// Whom it was issued to.
    #[serde(rename = "subjectAlternativeName")]
    pub subject_alternative_name: String,
    /// Who vouched for the identity (OID 1.3.6.1.4.1.57264.1.8).
    #[serde(skip_serializing_if = "String::is_empty")]
    pub issuer: String,
    /// Build instructions that signed (….1.9).
    #[serde(rename = "buildSignerURI", skip_serializing_if = "String::is_empty")]
    pub build_signer_uri: String,
    /// Digest of these (….1.10).
    #[serde(rename = "buildSignerDigest", skip_serializing_if = "String::is_empty")]
    pub build_signer_digest: String,
    /// `github-hosted` or `self-hosted` (….1.11).
    #[serde(rename = "runnerEnvironment", skip_serializing_if = "String::is_empty")]
    pub runner_environment: String,
    /// Repository that was built (….1.12).
    #[serde(rename = "sourceRepositoryURI", skip_serializing_if = "String::is_empty")]
    pub source_repository_uri: String,
    /// Commit of it (….1.13).
    #[serde(rename = "sourceRepositoryDigest", skip_serializing_if = "String::is_empty")]
    pub source_repository_digest: String,
    /// Reference of it (….1.14).
    #[serde(rename = "sourceRepositoryRef", skip_serializing_if = "String::is_empty")]
    pub source_repository_ref: String,
    /// Its immutable identifier (….1.15).
    #[serde(rename = "sourceRepositoryIdentifier", skip_serializing_if = "String::is_empty")]
    pub source_repository_identifier: String,
    /// Its owner (….1.16).
    #[serde(rename = "sourceRepositoryOwnerURI", skip_serializing_if = "String::is_empty")]
    pub source_repository_owner_uri: String,
    /// Its owner's immutable identifier (….1.17).
    #[serde(rename = "sourceRepositoryOwnerIdentifier", skip_serializing_if = "String::is_empty")]
    pub source_repository_owner_identifier: String,
    /// Top-level build instructions (….1.18).
    #[serde(rename = "buildConfigURI", skip_serializing_if = "String::is_empty")]
    pub build_config_uri: String,
    /// Digest of these (….1.19).
    #[serde(rename = "buildConfigDigest", skip_serializing_if = "String::is_empty")]
    pub build_config_digest: String,
    /// Event that began the build (….1.20).
    #[serde(rename = "buildTrigger", skip_serializing_if = "String::is_empty")]
    pub build_trigger: String,
    /// The run (….1.21).
    #[serde(rename = "runInvocationURI", skip_serializing_if = "String::is_empty")]
    pub run_invocation_uri: String,
    /// `public` or `private`, when it was signed (….1.22).
    #[serde(
        rename = "sourceRepositoryVisibilityAtSigning",
        skip_serializing_if = "String::is_empty"
    )]
    pub source_repository_visibility_at_signing: String,
}
