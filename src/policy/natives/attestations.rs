//! `artifact_attestation` and `github_attestation`: provenance of a file, signed keyless.
//!
//! Both give what `input.image.signatures` holds of an image, or are undefined with a note. As in
//! Docker's engine they trust Sigstore's public instance, and believe only SLSA provenance.
//!
//! `github_attestation` trusts GitHub's own instance too, which vouches for private repositories, and
//! believes only what was built from the repository that it names, as GitHub's own issuer has it: GitHub's
//! answer alone proves nothing about that. Docker's engine leaves it to the rule to look at the signer.
//! *Absent* is an empty list. That there is nothing at the URL is not: see [`Natives::github_attestation`].

use std::borrow::Cow;
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
use crate::verify::sigstore::{Artifact, Signer, SigstoreInvalid, TrustRoots, VerifiedSignature};
use crate::verify::{CouldNot, Invalid, NotVerified};

/// Most bytes of a bundle in the policy's files (Docker's limit).
const MAX_BUNDLE: u64 = 8 << 20;
/// Bundles of one file that are looked at, and their bytes together.
const MAX_BUNDLES: usize = 32;
const MAX_BYTES: usize = 32 << 20;
/// Notes about bundles that do not hold.
const MAX_REASONS: usize = 8;

/// What GitHub answers about a digest.
#[derive(Deserialize)]
struct Attestations<'a> {
    #[serde(borrow)]
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
        let now = self.seconds()?;
        match self.provenance(&bundle, &checksum, TrustRoots::DEFAULT, now) {
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
        let asked = github(&self.shared.trust.github().api, repository, &checksum);
        let Some(answer) = self.content(&asked) else { return Ok(needs(asked)) };
        let about = format!("GitHub's attestations of {checksum} by {repository}");
        // GitHub says the same of a repository that it does not show to strangers, and a daemon that
        // fetches for us the same of any failure.
        let Some(data) = &answer.data else {
            let why = "GitHub answered that there is nothing (404), which it says of what it may not show, too";
            return Err(CallError::GithubList { what: about, why: why.to_owned() });
        };
        let unreadable =
            |source| CallError::GithubAnswer { what: about.clone(), source: Arc::new(source) };
        let listed: Attestations<'_> = serde_json::from_slice(data).map_err(unreadable)?;
        let unusable = |why: String| CallError::GithubList { what: about.clone(), why };
        if listed.attestations.len() > MAX_BUNDLES {
            return Err(unusable(format!("there are more than {MAX_BUNDLES}")));
        }
        let mut kept = Vec::new();
        for attestation in &listed.attestations {
            let url = &attestation.bundle_url;
            if let Some(bundle) = attestation.bundle.filter(|bundle| bundle.get() != "null") {
                kept.push(Kept::Inline(bundle.get().as_bytes()));
            } else if url.starts_with("https://") {
                let asked = SourceOp::new(url.clone());
                let Some(answer) = self.content(&asked) else { return Ok(needs(asked)) };
                let data = answer
                    .data
                    .ok_or_else(|| unusable("a bundle is not where it is said to be".to_owned()))?;
                kept.push(Kept::At(url, data));
            } else {
                return Err(unusable("one holds no bundle, nor an https URL of one".to_owned()));
            }
        }
        self.first_of(&kept, &checksum, repository, &about)
    }

    /// The first bundle that holds and is of the repository.
    fn first_of(
        &mut self,
        kept: &[Kept<'_>],
        checksum: &str,
        repository: &str,
        about: &str,
    ) -> Result<Called, CallError> {
        let now = self.seconds()?;
        let trust = self.shared.trust.clone();
        let github = trust.github();
        let source = format!("{}/{repository}", github.web);
        let (mut undecided, mut reasons, mut left) = (None, Vec::new(), MAX_BYTES);
        for kept in kept {
            self.in_time()?;
            let bundle = kept
                .plain(left)
                .map_err(|why| CallError::GithubBundle { what: about.to_owned(), why })?;
            left = left.saturating_sub(bundle.len());
            let found = self.of_github(&bundle, checksum, now).and_then(|signature| {
                let from = signature.is_built_from(&source, &github.issuer);
                from.map(|()| signature).map_err(|it| NotVerified::Invalid(it.into()))
            });
            match found {
                Ok(signature) => return document(&signature),
                Err(source @ NotVerified::CouldNot(_)) => undecided = Some(source),
                Err(error @ (NotVerified::Absent | NotVerified::Invalid(_))) => {
                    reasons.push(format!("{about}: {error}"));
                }
            }
        }
        if let Some(source) = undecided {
            return Err(CallError::Attestation { what: about.to_owned(), source });
        }
        if reasons.is_empty() {
            reasons.push(format!("{about}: there are none"));
        }
        self.notes.extend(reasons.into_iter().take(MAX_REASONS));
        Ok(Called::Undefined)
    }

    /// Provenance by Sigstore's public instance, or else by GitHub's own.
    fn of_github(
        &self,
        bundle: &[u8],
        checksum: &str,
        now: i64,
    ) -> Result<Arc<VerifiedSignature>, NotVerified> {
        let public = self.provenance(bundle, checksum, TrustRoots::DEFAULT, now);
        // Only these say that another authority may have vouched for it.
        let Err(NotVerified::Invalid(Invalid::Sigstore(
            SigstoreInvalid::Certificate { .. }
            | SigstoreInvalid::Log { .. }
            | SigstoreInvalid::Time { .. }
            | SigstoreInvalid::NotYet { .. },
        ))) = &public
        else {
            return public;
        };
        match self.provenance(bundle, checksum, TrustRoots::GITHUB, now) {
            Ok(signature) => Ok(signature),
            Err(error @ NotVerified::CouldNot(_)) => Err(error),
            Err(NotVerified::Absent | NotVerified::Invalid(_)) => public,
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
        &self,
        bundle: &[u8],
        checksum: &str,
        root: &str,
        now: i64,
    ) -> Result<Arc<VerifiedSignature>, NotVerified> {
        let trust = &self.shared.trust;
        let by = Signer::Keyless(trust.root(Some(root)).map_err(CouldNot::TrustRoot)?);
        let signature = trust.cache.bundle(bundle, Artifact::Digest(checksum), by, now)?;
        signature.states(&PROVENANCE).map_err(|it| NotVerified::Invalid(it.into()))?;
        Ok(signature)
    }
}

/// A bundle as GitHub keeps it.
enum Kept<'a> {
    /// In the list itself.
    Inline(&'a [u8]),
    /// At a URL.
    At(&'a str, bytes::Bytes),
}

impl Kept<'_> {
    /// Its bytes, of which there may be `limit`: plain, or in Snappy's block format where its URL
    /// says so.
    fn plain(&self, limit: usize) -> Result<Cow<'_, [u8]>, String> {
        let within = |length: usize| match length <= limit.min(MAX_CONTENT) {
            true => Ok(()),
            false => Err(format!("it has {length} bytes, too many to be read")),
        };
        let (url, data) = match self {
            Self::Inline(data) => ("", *data),
            Self::At(url, data) => (*url, &**data),
        };
        let path = url.split(['?', '#']).next().unwrap_or_default();
        if !path.ends_with(".json.sn") {
            within(data.len())?;
            return Ok(Cow::Borrowed(data));
        }
        within(snap::raw::decompress_len(data).map_err(|error| error.to_string())?)?;
        let plain = snap::raw::Decoder::new().decompress_vec(data);
        plain.map(Cow::Owned).map_err(|error| error.to_string())
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
fn github(api: &str, repository: &str, checksum: &str) -> SourceOp {
    let mut op = SourceOp::new(format!(
        "{api}/repos/{repository}/attestations/{checksum}\
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
