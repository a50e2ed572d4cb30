//! `artifact_attestation` and `github_attestation`: provenance of a file, signed keyless.
//!
//! Both give what `input.image.signatures` holds of an image, or are undefined with a note. As in
//! Docker's engine they trust Sigstore's public instance, and believe only SLSA provenance.

use std::sync::Arc;

use regorus::Value;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::signatures::CallError;
use super::{Called, Natives, Wanted};
use crate::input::Field;
use crate::meta::{Content, ContentRequest, MAX_CONTENT, MetaRequest};
use crate::policy::document::value_of;
use crate::source::SourceOp;
use crate::verify::chain::PROVENANCE;
use crate::verify::sigstore::{Artifact, Signer, VerifiedSignature};
use crate::verify::{CouldNot, NotVerified};

/// Most bytes of a bundle in the policy's files (Docker's limit).
const MAX_BUNDLE: u64 = 8 << 20;
/// Bundles of one file that are looked at.
const MAX_BUNDLES: usize = 32;

/// What GitHub answers about a digest.
#[derive(Deserialize)]
struct Attestations<'a> {
    #[serde(borrow, default)]
    attestations: Vec<Attestation<'a>>,
}

#[derive(Deserialize)]
struct Attestation<'a> {
    #[serde(borrow, default)]
    bundle: Option<&'a RawValue>,
    #[serde(default)]
    bundle_url: String,
}

impl Natives<'_> {
    /// The attestation in a file of the policy.
    pub(super) fn artifact_attestation(
        &mut self,
        http: &Value,
        path: &Arc<str>,
    ) -> Result<Called, CallError> {
        let checksum = match self.judged_file("artifact_attestation", http) {
            Ok(checksum) => checksum,
            Err(called) => return Ok(*called),
        };
        let bundle = self.shared.files.read(path, MAX_BUNDLE)?;
        match self.provenance(&bundle, &checksum) {
            Ok(signature) => document(&signature),
            Err(source @ NotVerified::CouldNot(_)) => {
                Err(CallError::Attestation { what: format!("`{path}`"), source })
            }
            Err(error @ (NotVerified::Absent | NotVerified::Invalid(_))) => {
                self.notes.push(format!("input.http is not attested by `{path}`: {error}"));
                Ok(Called::Undefined)
            }
        }
    }

    /// The attestation that GitHub keeps for a repository.
    pub(super) fn github_attestation(
        &mut self,
        http: &Value,
        repository: &Arc<str>,
    ) -> Result<Called, CallError> {
        let checksum = match self.judged_file("github_attestation", http) {
            Ok(checksum) => checksum,
            Err(called) => return Ok(*called),
        };
        if !is_repository(repository) {
            self.notes.push(format!(
                "github_attestation: {repository:?} is no repository of GitHub (`owner/name`)"
            ));
            return Ok(Called::Undefined);
        }
        let asked = github(repository, &checksum);
        let Some(answer) = self.content(&asked) else { return Ok(needs(asked)) };
        let Some(data) = &answer.data else {
            self.notes.push(format!("{repository} has no attestation of {checksum} on GitHub"));
            return Ok(Called::Undefined);
        };
        let about = format!("GitHub's attestations of {checksum} by {repository}");
        let unreadable =
            |source| CallError::GithubAnswer { what: about.clone(), source: Arc::new(source) };
        let listed: Attestations<'_> = serde_json::from_slice(data).map_err(unreadable)?;
        let mut bundles = Vec::new();
        for attestation in listed.attestations.iter().take(MAX_BUNDLES) {
            if let Some(bundle) = attestation.bundle.filter(|bundle| bundle.get() != "null") {
                bundles.push(bundle.get().as_bytes().to_vec());
            } else if attestation.bundle_url.starts_with("https://") {
                let asked = SourceOp::new(attestation.bundle_url.clone());
                let Some(answer) = self.content(&asked) else { return Ok(needs(asked)) };
                let bundle = answer.data.as_deref().unwrap_or_default();
                bundles.push(
                    plain(&attestation.bundle_url, bundle)
                        .map_err(|why| CallError::GithubBundle { what: about.clone(), why })?,
                );
            }
        }
        self.first_of(&bundles, &checksum, &about)
    }

    /// The first bundle that holds.
    fn first_of(
        &mut self,
        bundles: &[Vec<u8>],
        checksum: &str,
        about: &str,
    ) -> Result<Called, CallError> {
        let mut undecided = None;
        for bundle in bundles {
            match self.provenance(bundle, checksum) {
                Ok(signature) => return document(&signature),
                Err(source @ NotVerified::CouldNot(_)) => undecided = Some(source),
                Err(error @ (NotVerified::Absent | NotVerified::Invalid(_))) => {
                    self.notes.push(format!("{about}: {error}"));
                }
            }
        }
        match undecided {
            Some(source) => Err(CallError::Attestation { what: about.to_owned(), source }),
            None => {
                if bundles.is_empty() {
                    self.notes.push(format!("{about}: there are none"));
                }
                Ok(Called::Undefined)
            }
        }
    }

    /// Digest of the file that is judged, or what becomes of a call that is about another one.
    fn judged_file(&mut self, builtin: &str, http: &Value) -> Result<String, Box<Called>> {
        let Some(judged) = self.verifying.and_then(|input| input.http.as_ref()) else {
            return Err(Box::new(Called::Undefined));
        };
        if self.http.as_ref() != Some(http) {
            return Err(Box::new(self.not_judged(builtin, "input.http")));
        }
        if judged.checksum.is_empty() {
            return Err(Box::new(Called::Needs(Wanted::Field(Field::HttpChecksum))));
        }
        Ok(judged.checksum.clone())
    }

    fn content(&self, source: &SourceOp) -> Option<Content> {
        let http = self.verifying.and_then(|input| input.http.as_ref())?;
        http.contents.iter().find(|content| content.source == *source).cloned()
    }

    fn provenance(
        &mut self,
        bundle: &[u8],
        checksum: &str,
    ) -> Result<Arc<VerifiedSignature>, NotVerified> {
        let now = self.seconds();
        let trust = &self.shared.trust;
        let root = trust.root(None).map_err(CouldNot::TrustRoot)?;
        let by = Signer::Keyless(root);
        let signature = trust.cache.bundle(bundle, Artifact::Digest(checksum), by, now)?;
        signature.states(&PROVENANCE).map_err(|it| NotVerified::Invalid(it.into()))?;
        Ok(signature)
    }
}

fn document(signature: &VerifiedSignature) -> Result<Called, CallError> {
    let value = value_of(&signature.document()).map_err(|it| CallError::Document(Box::new(it)))?;
    Ok(Called::Value(value))
}

fn needs(source: SourceOp) -> Called {
    Called::Needs(Wanted::Aside(MetaRequest {
        source,
        content: Some(ContentRequest),
        ..MetaRequest::default()
    }))
}

/// GitHub's list of what attests a digest
/// (<https://docs.github.com/rest/repos/attestations>).
fn github(repository: &str, checksum: &str) -> SourceOp {
    let mut op = SourceOp::new(format!(
        "https://api.github.com/repos/{repository}/attestations/{checksum}\
         ?predicate_type=https%3A%2F%2Fslsa.dev%2Fprovenance%2Fv1"
    ));
    op.attrs.insert("http.header.accept".into(), "application/vnd.github+json".into());
    op.attrs.insert("http.filename".into(), "attestations.json".into());
    op
}

/// `owner/name`, of the characters that GitHub allows: nothing that changes where a URL leads.
fn is_repository(text: &str) -> bool {
    let word = |part: &str| {
        !part.is_empty()
            && part.chars().any(|c| c != '.')
            && part.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
    };
    text.split_once('/').is_some_and(|(owner, name)| word(owner) && word(name))
}

/// A bundle as it is stored: plain, or in Snappy's block format where its URL says so.
fn plain(url: &str, data: &[u8]) -> Result<Vec<u8>, String> {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    if !path.ends_with(".json.sn") {
        return Ok(data.to_vec());
    }
    let length = snap::raw::decompress_len(data).map_err(|error| error.to_string())?;
    if length > MAX_CONTENT {
        return Err(format!("it has more than {MAX_CONTENT} bytes"));
    }
    snap::raw::Decoder::new().decompress_vec(data).map_err(|error| error.to_string())
}
