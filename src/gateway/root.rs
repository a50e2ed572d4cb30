//! The root of an image, read as far as it tells whether a daemon may be asked for the attestations.
//!
//! A daemon ends (dereferencing nil, 0.32 to 0.34) where it is asked for the attestations of what is no
//! OCI index to it. So the bytes decide: where nothing in them attests anything there is nothing to ask
//! for, and where something does, they have to say that they are an OCI index.

use serde_json::{Map, Value};

const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";

/// Most bytes of a manifest: what registries take.
pub(super) const MAX_ROOT: u64 = 4 << 20;

/// What an image's root says of attestations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attested {
    /// There are none.
    Absent,
    /// There may be some, and the daemon can be asked for them.
    Askable,
}

/// A root that is no answer: its attestations could not be verified.
#[derive(Debug, thiserror::Error)]
pub(super) enum RootError {
    /// It is no JSON.
    #[error(
        "its manifest is not JSON of the expected form; its attestations could not be verified"
    )]
    Json(#[from] serde_json::Error),
    /// It is another kind of JSON.
    #[error("{0} of its manifest is not what it has to be; its attestations could not be verified")]
    Form(&'static str),
    /// Go's JSON ignores case, and we do not.
    #[error(
        "its manifest has the field {found:?}, which others read as {meant:?}; its attestations \
         could not be verified"
    )]
    Folded {
        /// As it stands there.
        found: String,
        /// What others take it for.
        meant: &'static str,
    },
    /// It is an image and an index at once, or none of them.
    #[error(
        "its manifest is of the type {0:?} and not built like one; its attestations could not be \
         verified"
    )]
    Shape(String),
    /// The daemon would not be safe.
    #[error(
        "it lists attestations and is of the type {0:?}, which is no OCI index: they could not be \
         verified"
    )]
    NoIndex(String),
}

/// Reads a root.
///
/// # Errors
/// When it can be read in more than one way, or in none.
pub(super) fn attested(root: &[u8]) -> Result<Attested, RootError> {
    let root: Map<String, Value> = serde_json::from_slice(root)?;
    let kind = text(&root, "mediaType")?;
    let manifests = match field(&root, "manifests")? {
        None => None,
        Some(Value::Array(manifests)) => Some(manifests.as_slice()),
        Some(_) => return Err(RootError::Form("manifests")),
    };
    let is_image = field(&root, "config")?.is_some();
    let is_layered = field(&root, "layers")?.is_some();
    let shape = || RootError::Shape(kind.to_owned());
    let manifests = match (kind, manifests) {
        (OCI_MANIFEST | DOCKER_MANIFEST | "", None) if is_image => return Ok(Attested::Absent),
        (OCI_INDEX | DOCKER_LIST | "", Some(manifests)) if !is_image && !is_layered => manifests,
        _ => return Err(shape()),
    };
    let mut any = false;
    let mut hardened = annotation(&root, "org.opencontainers.image.title")?.starts_with("dhi/");
    for manifest in manifests {
        let Value::Object(manifest) = manifest else { return Err(RootError::Form("manifests")) };
        any |= annotation(manifest, "vnd.docker.reference.type")? == "attestation-manifest";
        // Such an image's attestations are referrers of it.
        hardened &= !annotation(manifest, "com.docker.dhi.build.id")?.is_empty();
    }
    match (any || hardened, kind) {
        (false, _) => Ok(Attested::Absent),
        (true, OCI_INDEX) => Ok(Attested::Askable),
        (true, _) => Err(RootError::NoIndex(kind.to_owned())),
    }
}

/// A field that is there; `null` is nothing.
fn field<'v>(
    object: &'v Map<String, Value>,
    name: &'static str,
) -> Result<Option<&'v Value>, RootError> {
    // As Go folds: `ſ` and the sign for kelvin are an `s` and a `k` to it.
    let fold = |name: &str| name.to_uppercase().to_lowercase();
    let meant = fold(name);
    if let Some(found) = object.keys().find(|found| *found != name && fold(found) == meant) {
        return Err(RootError::Folded { found: found.clone(), meant: name });
    }
    Ok(object.get(name).filter(|value| !value.is_null()))
}

/// A text, empty where there is none.
fn text<'v>(object: &'v Map<String, Value>, name: &'static str) -> Result<&'v str, RootError> {
    match field(object, name)? {
        None => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(RootError::Form(name)),
    }
}

/// An annotation, empty where there is none. The case of their names matters to everybody.
fn annotation<'v>(object: &'v Map<String, Value>, name: &str) -> Result<&'v str, RootError> {
    let annotations = match field(object, "annotations")? {
        None => return Ok(""),
        Some(Value::Object(annotations)) => annotations,
        Some(_) => return Err(RootError::Form("annotations")),
    };
    match annotations.get(name) {
        None | Some(Value::Null) => Ok(""),
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(RootError::Form("annotations")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_is_asked_only_about_what_says_that_it_is_an_oci_index() {
        let plain = r#"{"digest":"d","platform":{"os":"linux"}}"#;
        let unknown = r#"{"digest":"d","platform":{"os":"unknown","architecture":"unknown"}}"#;
        let attests = r#"{"annotations":{"vnd.docker.reference.type":"attestation-manifest"}}"#;
        let hardened = r#"{"annotations":{"com.docker.dhi.build.id":"1"}}"#;
        let title = r#","annotations":{"org.opencontainers.image.title":"dhi/node"}"#;
        let typed = |kind: &str, rest: &str| format!(r#"{{"mediaType":"{kind}",{rest}}}"#);
        let listed = |manifests: &[&str]| format!(r#""manifests":[{}]"#, manifests.join(","));
        let image = r#""config":{},"layers":[]"#;
        let (no, ask) = (Ok(Attested::Absent), Ok(Attested::Askable));
        let fails = |why: &'static str| Err(why);
        for (root, wanted) in [
            (typed(OCI_MANIFEST, image), no),
            (typed(DOCKER_MANIFEST, image), no),
            (format!("{{{image}}}"), no),
            (typed(OCI_INDEX, &listed(&[plain])), no),
            (typed(OCI_INDEX, &listed(&[plain, unknown])), no),
            (typed(OCI_INDEX, &listed(&[plain, attests])), ask),
            (typed(OCI_INDEX, &(listed(&[hardened]) + title)), ask),
            (typed(OCI_INDEX, &(listed(&[hardened, plain]) + title)), no),
            (typed(OCI_INDEX, &listed(&[hardened])), no),
            (typed(DOCKER_LIST, &listed(&[plain])), no),
            (typed(DOCKER_LIST, &listed(&[plain, unknown])), no),
            (typed(DOCKER_LIST, &listed(&[plain, attests])), fails("no OCI index")),
            (typed(DOCKER_LIST, &(listed(&[hardened]) + title)), fails("no OCI index")),
            (format!("{{{}}}", listed(&[plain])), no),
            (format!("{{{}}}", listed(&[plain, attests])), fails("no OCI index")),
            (typed(OCI_MANIFEST, &listed(&[attests])), fails("not built like one")),
            (typed(OCI_INDEX, image), fails("not built like one")),
            (typed(OCI_INDEX, &format!("{image},{}", listed(&[attests]))), fails("not built like")),
            (typed("text/plain", image), fails("not built like one")),
            ("{}".to_owned(), fails("not built like one")),
            (typed(OCI_INDEX, &format!(r#""Manifests":[{attests}]"#)), fails("others read as")),
            (typed(OCI_INDEX, &listed(&[r#"{"Annotations":{}}"#])), fails("others read as")),
            (typed(OCI_INDEX, r#""manifests":{}"#), fails("manifests")),
            (typed(OCI_INDEX, &listed(&["1"])), fails("manifests")),
            (typed(OCI_INDEX, &listed(&[r#"{"annotations":[]}"#])), fails("annotations")),
            ("[]".to_owned(), fails("not JSON")),
            ("not".to_owned(), fails("not JSON")),
            (String::new(), fails("not JSON")),
        ] {
            match (attested(root.as_bytes()), wanted) {
                (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{root}"),
                (Err(error), Err(why)) => {
                    let said = error.to_string();
                    assert!(said.contains(why) && said.contains("could not be"), "{root}: {said}");
                }
                (got, wanted) => panic!("{root}: {got:?} is not {wanted:?}"),
            }
        }
    }
}
