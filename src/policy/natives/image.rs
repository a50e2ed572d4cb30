//! `verify_image_signature`: what cosign signs on an image itself.
//!
//! ```rego
//! verify_image_signature(input.image, {"key": "cosign.pub"})
//! verify_image_signature(input.image, {
//!     "identity": "https://github.com/org/app/.github/workflows/release.yml@refs/heads/main",
//!     "issuer": "https://token.actions.githubusercontent.com",
//!     "trust_root": "internal",
//! })
//! ```
//!
//! The signatures are looked for by the digest that is judged, and verified against it: what is
//! fetched in the end is what was signed. A key needs no transparency log, unless a `trust_root`
//! is named, whose log must then vouch for the signature.

use std::sync::Arc;

use regorus::Value;
use serde_json::json;

use super::signatures::CallError;
use super::{Called, Natives, Wanted};
use crate::input::Field;
use crate::meta::{AttestationBlob, ImageSignatures, MetaRequest, SignaturesRequest};
use crate::policy::document::value_of;
use crate::source::SourceOp;
use crate::verify::chain::{BUNDLE, COSIGN_SIGN, SIMPLE_SIGNING};
use crate::verify::sigstore::{
    Artifact, Identity, Log, MAX_PUBLIC_KEY, PublicKey, Signer, SimpleSigning, TrustRoot,
    VerifiedSignature,
};
use crate::verify::{CouldNot, NotVerified};

/// Reasons that a note lists.
const MAX_REASONS: usize = 8;

/// Who must have signed.
enum Wants {
    Key { path: Arc<str>, key: PublicKey, log: Option<Arc<TrustRoot>> },
    Identity { identity: Identity, root: Arc<TrustRoot> },
}

/// The members of the second argument, as written.
#[derive(Default)]
struct Options {
    key: Option<Arc<str>>,
    identity: Option<Arc<str>>,
    issuer: Option<Arc<str>>,
    trust_root: Option<Arc<str>>,
}

impl Natives<'_> {
    /// Who signed the image that is judged, as an object; undefined where nobody that is wanted did.
    pub(super) fn verify_image(
        &mut self,
        image: &Value,
        options: &Value,
    ) -> Result<Called, CallError> {
        let Some(judged) = self.verifying.and_then(|input| input.image.as_ref()) else {
            return Ok(Called::Undefined);
        };
        if self.image.as_ref() != Some(image) {
            return Ok(self.not_judged("verify_image_signature", "input.image"));
        }
        let wants = self.wants(options)?;
        if judged.checksum.is_empty() {
            return Ok(Called::Needs(Wanted::Field(Field::ImageChecksum)));
        }
        let Some(signatures) = &judged.signed_by else {
            return Ok(Called::Needs(Wanted::Aside(MetaRequest {
                source: SourceOp::new(format!("docker-image://{}", judged.reference)),
                signatures: Some(SignaturesRequest { digest: judged.checksum.clone() }),
                ..MetaRequest::default()
            })));
        };
        if signatures.digest != judged.checksum {
            let (found, judged) = (signatures.digest.clone(), judged.checksum.clone());
            return Err(CallError::OtherImage { found, judged });
        }
        self.first_by(signatures, &wants)
    }

    fn wants(&self, options: &Value) -> Result<Wants, CallError> {
        let Options { key, identity, issuer, trust_root } =
            Options::read(options).map_err(CallError::Options)?;
        let root = || {
            let root = self.shared.trust.root(trust_root.as_deref());
            root.cloned().map_err(|it| CallError::Image(CouldNot::TrustRoot(it).into()))
        };
        match (key, identity, issuer) {
            (Some(path), None, None) => {
                let data = self.shared.files.read(&path, MAX_PUBLIC_KEY as u64)?;
                let key = PublicKey::from_pem(&data)
                    .map_err(|source| CallError::Key { path: path.clone(), source })?;
                let log = if trust_root.is_some() { Some(root()?) } else { None };
                Ok(Wants::Key { path, key, log })
            }
            (None, Some(subject), Some(issuer)) => Ok(Wants::Identity {
                identity: Identity { subject: subject.to_string(), issuer: issuer.to_string() },
                root: root()?,
            }),
            _ => Err(CallError::Options(
                "the object names either a `key` (a file of the policy), or both an `identity` and \
                 an `issuer`"
                    .to_owned(),
            )),
        }
    }

    /// The first signature that is by whom is wanted.
    fn first_by(
        &mut self,
        signatures: &ImageSignatures,
        wants: &Wants,
    ) -> Result<Called, CallError> {
        let now = self.seconds()?;
        let mut reasons = Vec::new();
        let mut undecided = None;
        for found in &signatures.found {
            self.in_time()?;
            match self.verify_one(found, &signatures.digest, wants, now) {
                Ok(signature) => return signer(&signature, &signatures.digest),
                Err(source @ NotVerified::CouldNot(_)) => undecided = Some(source),
                Err(error @ (NotVerified::Absent | NotVerified::Invalid(_))) => {
                    reasons.push(error.to_string());
                }
            }
        }
        if let Some(source) = undecided {
            return Err(CallError::Image(source));
        }
        let by = match wants {
            Wants::Key { path, .. } => format!("the key in `{path}`"),
            Wants::Identity { identity, .. } => {
                format!("{:?} of {:?}", identity.subject, identity.issuer)
            }
        };
        let reasons = match reasons.as_slice() {
            [] => "it has no signature".to_owned(),
            some => some.iter().take(MAX_REASONS).cloned().collect::<Vec<_>>().join("; "),
        };
        self.notes
            .push(format!("input.image ({}) is not signed by {by}: {reasons}", signatures.digest));
        Ok(Called::Undefined)
    }

    fn verify_one(
        &self,
        found: &AttestationBlob,
        digest: &str,
        wants: &Wants,
        now: i64,
    ) -> Result<Arc<VerifiedSignature>, NotVerified> {
        let by = match wants {
            Wants::Key { key, log: None, .. } => Signer::Key(key, Log::Ignored),
            Wants::Key { key, log: Some(root), .. } => Signer::Key(key, Log::Required(root)),
            Wants::Identity { root, .. } => Signer::Keyless(root),
        };
        let cache = &self.shared.trust.cache;
        let signature = match found.media_type.as_str() {
            BUNDLE => {
                let signature = cache.bundle(&found.data, Artifact::Digest(digest), by, now)?;
                // An attestation about the image is no signature of it, nor are bytes that happen to be
                // its manifest's (`cosign sign-blob`).
                signature.states(&[COSIGN_SIGN]).map_err(|it| NotVerified::Invalid(it.into()))?;
                signature
            }
            SIMPLE_SIGNING => {
                let signing =
                    SimpleSigning { payload: &found.data, annotations: &found.annotations };
                cache.simple_signing(&signing, digest, by, now)?
            }
            other => {
                return Err(NotVerified::CouldNot(CouldNot::Unsupported {
                    what: format!("a signature of type {other:?}"),
                    instead: "bundles and simple signing are",
                }));
            }
        };
        if let Wants::Identity { identity, .. } = wants {
            signature.is_by(identity).map_err(|it| NotVerified::Invalid(it.into()))?;
        }
        Ok(signature)
    }
}

impl Options {
    fn read(value: &Value) -> Result<Self, String> {
        let Value::Object(object) = value else {
            return Err("its second argument is no object".to_owned());
        };
        let mut options = Self::default();
        for (name, value) in object.iter() {
            let (Value::String(name), Value::String(value)) = (name, value) else {
                return Err("the members of its second argument are strings".to_owned());
            };
            let place = match &**name {
                "key" => &mut options.key,
                "identity" => &mut options.identity,
                "issuer" => &mut options.issuer,
                "trust_root" => &mut options.trust_root,
                other => {
                    return Err(format!(
                        "{other:?} is none of `key`, `identity`, `issuer` and `trust_root`"
                    ));
                }
            };
            if value.is_empty() {
                return Err(format!("`{name}` is empty"));
            }
            *place = Some(value.clone());
        }
        Ok(options)
    }
}

/// Who signed, and what: as `input.image.signatures` has it, with the key, the digest and the payload.
fn signer(signature: &VerifiedSignature, digest: &str) -> Result<Called, CallError> {
    let internal = |message: String| {
        CallError::Document(Box::new(crate::policy::EvalError::Internal { message }))
    };
    let mut document = json!(signature.document());
    let Some(members) = document.as_object_mut() else {
        return Err(internal("a signature is no object".to_owned()));
    };
    members.insert("digest".to_owned(), digest.into());
    if let Some(key) = signature.key() {
        members.insert("key".to_owned(), key.into());
    }
    if let Some(root) = signature.trust_root() {
        members.insert("trustRoot".to_owned(), root.into());
    }
    if let Some(payload) = signature.payload() {
        let payload = serde_json::from_slice(payload).map_err(|it| internal(it.to_string()))?;
        members.insert("payload".to_owned(), payload);
    }
    let value = value_of(&document).map_err(|it| CallError::Document(Box::new(it)))?;
    Ok(Called::Value(value))
}
