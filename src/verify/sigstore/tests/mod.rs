//! Signatures by throwaway parties of our own, right and broken in every way that we know of.

mod algorithms;
mod bundles;
mod cache;
#[path = "../../../../integration-tests/forge/mod.rs"]
pub(crate) mod forge;
mod keys;
mod kinds;
mod leaves;
pub(crate) mod matrix;
mod roots;
mod simple;
mod times;

use serde_json::Value;

use self::forge::{AT, Forge, Leaf, Who};
use super::*;
use crate::verify::Invalid;

const ARTIFACT: &[u8] = b"a tarball";
const SLSA: &str = "https://slsa.dev/provenance/v1";
/// Long after everything was signed; certificates do not mind.
pub(crate) const NOW: i64 = AT + 86_400;

fn root_of(forge: &Forge) -> TrustRoot {
    root("sigstore", &forge.trusted_root())
}

pub(crate) fn root(name: &str, json: &Value) -> TrustRoot {
    TrustRoot::parse(name, json.to_string().as_bytes()).unwrap()
}

fn person(forge: &Forge) -> Leaf {
    forge.leaf(&Who::person("jane@example.com"), 100)
}

fn keyless(bundle: &Value, root: &TrustRoot) -> Result<VerifiedSignature, NotVerified> {
    let artifact = forge::digest(ARTIFACT);
    let artifact = Artifact::Digest(&artifact);
    verify_bundle(bundle.to_string().as_bytes(), artifact, Signer::Keyless(root), NOW)
}

/// What became of a verification, in one word.
pub(crate) fn outcome<T>(result: &Result<T, NotVerified>) -> &'static str {
    match result {
        Ok(_) => "verified",
        Err(NotVerified::Absent) => "absent",
        Err(NotVerified::CouldNot(CouldNot::TrustRoot(_))) => "could not: trust root",
        Err(NotVerified::CouldNot(CouldNot::Unsupported { .. })) => "could not: unsupported",
        Err(NotVerified::CouldNot(CouldNot::Keys(_))) => "could not: keys",
        Err(NotVerified::CouldNot(CouldNot::Missing { .. })) => "could not: missing",
        Err(NotVerified::CouldNot(CouldNot::TooMuch { .. })) => "could not: too much",
        Err(NotVerified::Invalid(Invalid::Malformed { .. })) => "malformed",
        Err(NotVerified::Invalid(Invalid::Sigstore(invalid))) => in_one_word(invalid),
        Err(NotVerified::Invalid(Invalid::Chain { .. })) => "chain",
        Err(NotVerified::Invalid(_)) => "invalid otherwise",
    }
}

fn in_one_word(invalid: &SigstoreInvalid) -> &'static str {
    match invalid {
        SigstoreInvalid::NotYet { because, .. } => in_one_word(because),
        SigstoreInvalid::Signature { .. } => "signature",
        SigstoreInvalid::Subject { .. } => "subject",
        SigstoreInvalid::Certificate { .. } => "certificate",
        SigstoreInvalid::Log { .. } => "log",
        SigstoreInvalid::Time { .. } => "time",
        SigstoreInvalid::Material { .. } => "material",
        SigstoreInvalid::Identity { .. } => "identity",
        SigstoreInvalid::Repository { .. } => "repository",
        SigstoreInvalid::Issuer { .. } => "issuer",
        SigstoreInvalid::PredicateType { .. } => "predicate type",
    }
}

#[track_caller]
fn check<T>(about: &str, result: &Result<T, NotVerified>, wanted: &str) {
    let words = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
    assert_eq!(outcome(result), wanted, "{about}: {words}");
}

/// Changes the first character of a base64 string's middle.
fn flip(text: &mut Value) {
    let old = text.as_str().unwrap();
    let at = old.len() / 2;
    let new = if &old[at..=at] == "A" { "B" } else { "A" };
    *text = format!("{}{new}{}", &old[..at], &old[at + 1..]).into();
}
