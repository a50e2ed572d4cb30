//! Metadata that is at hand: conformance cases and tests answer from memory.
//!
//! Only what a request asks for is given, as a daemon would: a config only where the config was
//! asked for. Metadata of a kind that is not at hand is an error.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::Deserialize;

use super::digest::{self, Hasher};
use crate::meta::{
    AttestationBlob, AttestationChain, ChecksumAlgorithm, ChecksumResponse, Content, GitMeta,
    HttpMeta, ImageMeta, ImageSignatures, MetaRequest, ResolveError, ResolveSourceMeta, Resolving,
    SourceMeta,
};

/// Metadata by kind of source, and a record of what was asked.
#[derive(Debug, Default)]
pub struct Fixtures {
    /// What any image resolves to: everything that can be asked for.
    pub image: Option<ImageMeta>,
    /// What any git repository resolves to.
    pub git: Option<GitMeta>,
    /// What any URL holds.
    pub http: Option<FileFixture>,
    /// What signs any image, by the digest that it is looked for by.
    pub signatures: Option<Vec<AttestationBlob>>,
    /// What other files hold, by their URL; `None` for one that is not there.
    pub contents: BTreeMap<String, Option<Bytes>>,
    requests: Mutex<Vec<MetaRequest>>,
}

/// A file as a server would hand it out; hashed as it is asked for.
#[derive(Clone, Debug, Default)]
pub struct FileFixture {
    /// What it holds.
    pub content: Bytes,
    /// Its name.
    pub filename: String,
}

/// Metadata of a case that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum FixtureError {
    /// Not of the documented form.
    #[error("the case's metadata is not of the documented form: {0}")]
    Form(#[from] serde_json::Error),
    /// Not base64.
    #[error("the case's metadata holds bad base64 in {field}: {source}")]
    Base64 {
        /// Where.
        field: &'static str,
        /// Why.
        source: base64::DecodeError,
    },
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CaseMetadata {
    image: Option<CaseImage>,
    git: Option<CaseGit>,
    http: Option<CaseHttp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CaseImage {
    digest: Option<String>,
    config: Option<serde_json::Value>,
    attestation_chain: Option<CaseChain>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CaseChain {
    root: String,
    image_manifest: String,
    attestation_manifest: String,
    signature_manifests: Vec<String>,
    blobs: BTreeMap<String, CaseBlob>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CaseBlob {
    media_type: String,
    annotations: BTreeMap<String, String>,
    data: String,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CaseGit {
    checksum: String,
    #[serde(rename = "ref")]
    reference: String,
    commit_checksum: String,
    commit_object: Option<String>,
    tag_object: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CaseHttp {
    content: String,
    filename: String,
}

impl Fixtures {
    /// Reads the `metadata` of a conformance case (`conformance/README.md`); `null` holds nothing.
    ///
    /// # Errors
    /// When it is not of that form.
    pub fn from_case_metadata(metadata: &serde_json::Value) -> Result<Self, FixtureError> {
        let case = Option::<CaseMetadata>::deserialize(metadata)?.unwrap_or_default();
        Ok(Self {
            image: case.image.map(image).transpose()?,
            git: case.git.map(git).transpose()?,
            http: case.http.map(http).transpose()?,
            ..Self::default()
        })
    }

    /// What was asked so far, in order.
    pub fn requests(&self) -> Vec<MetaRequest> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer(&self, request: &MetaRequest) -> Result<SourceMeta, ResolveError> {
        let lacking = || ResolveError::NotFound {
            what: format!("metadata of {}", request.source.identifier),
        };
        let mut meta = SourceMeta::default();
        if let Some(asked) = request.image {
            let held = self.image.as_ref().ok_or_else(lacking)?;
            meta.image = Some(ImageMeta {
                digest: held.digest.clone(),
                config: held.config.clone().filter(|_| asked.config),
                // An image that nobody attested has a chain too: an empty one.
                attestations: asked
                    .attestations
                    .then(|| held.attestations.clone().unwrap_or_default()),
            });
        }
        if let Some(asked) = &request.signatures {
            let found = self.signatures.clone().ok_or_else(lacking)?;
            meta.signatures = Some(ImageSignatures { digest: asked.digest.clone(), found });
        }
        if request.content.is_some() {
            let data = self.contents.get(&request.source.identifier).ok_or_else(lacking)?.clone();
            meta.content = Some(Content { source: request.source.clone(), data });
        }
        if let Some(asked) = request.git {
            let mut held = self.git.clone().ok_or_else(lacking)?;
            if !asked.objects {
                held.commit_object = None;
                held.tag_object = None;
            }
            meta.git = Some(held);
        }
        if let Some(asked) = &request.http {
            let held = self.http.as_ref().ok_or_else(lacking)?;
            let checksum_response = asked.checksum.as_ref().map(|asked| {
                let mut hasher = Hasher::new(asked.algorithm);
                hasher.update(&held.content);
                hasher.update(&asked.suffix);
                ChecksumResponse { digest: hasher.finish(), suffix: asked.suffix.clone() }
            });
            meta.http = Some(HttpMeta {
                checksum: digest::of(ChecksumAlgorithm::Sha256, &held.content),
                filename: held.filename.clone(),
                checksum_response,
            });
        }
        Ok(meta)
    }
}

impl ResolveSourceMeta for Fixtures {
    fn resolve<'a>(&'a self, request: &'a MetaRequest) -> Resolving<'a> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).push(request.clone());
        Box::pin(std::future::ready(self.answer(request)))
    }
}

fn image(case: CaseImage) -> Result<ImageMeta, FixtureError> {
    let config = case.config.map(|config| serde_json::to_vec(&config)).transpose()?;
    Ok(ImageMeta {
        digest: case.digest,
        config: config.map(Bytes::from),
        attestations: case.attestation_chain.map(chain).transpose()?,
    })
}

fn chain(case: CaseChain) -> Result<AttestationChain, FixtureError> {
    let blob = |(digest, blob): (String, CaseBlob)| {
        let CaseBlob { media_type, annotations, data } = blob;
        let data = decode("blobs", &data)?;
        Ok((digest, AttestationBlob { media_type, annotations, data }))
    };
    Ok(AttestationChain {
        root: case.root,
        image_manifest: case.image_manifest,
        attestation_manifest: case.attestation_manifest,
        signature_manifests: case.signature_manifests,
        blobs: case.blobs.into_iter().map(blob).collect::<Result<_, FixtureError>>()?,
    })
}

fn git(case: CaseGit) -> Result<GitMeta, FixtureError> {
    let object = |field, text: Option<String>| text.map(|text| decode(field, &text)).transpose();
    Ok(GitMeta {
        checksum: case.checksum,
        reference: case.reference,
        commit_checksum: case.commit_checksum,
        commit_object: object("commit_object", case.commit_object)?,
        tag_object: object("tag_object", case.tag_object)?,
    })
}

fn http(case: CaseHttp) -> Result<FileFixture, FixtureError> {
    Ok(FileFixture { content: decode("content", &case.content)?, filename: case.filename })
}

fn decode(field: &'static str, text: &str) -> Result<Bytes, FixtureError> {
    let decoded = STANDARD.decode(text);
    decoded.map(Bytes::from).map_err(|source| FixtureError::Base64 { field, source })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::meta::{ChecksumRequest, GitRequest, HttpRequest, ImageRequest};

    fn fixtures() -> Fixtures {
        Fixtures::from_case_metadata(&serde_json::json!({
            "image": {
                "digest": "sha256:aa",
                "config": {"os": "linux"},
                "attestation_chain": {"root": "sha256:aa", "blobs": {"sha256:bb": {"data": "eA=="}}},
            },
            "git": {"checksum": "c0", "ref": "refs/heads/main", "commit_object": "dHJlZQ=="},
            "http": {"content": "YWJj", "filename": "abc"},
        }))
        .unwrap()
    }

    #[tokio::test]
    async fn only_what_was_asked_is_answered() {
        let fixtures = fixtures();
        let image = |config, attestations| MetaRequest {
            image: Some(ImageRequest { config, attestations }),
            ..MetaRequest::default()
        };
        for (config, attestations) in [(false, false), (true, false), (false, true), (true, true)] {
            let request = image(config, attestations);
            let meta = fixtures.resolve(&request).await.unwrap().image.unwrap();
            assert_eq!(meta.digest.as_deref(), Some("sha256:aa"));
            assert_eq!(meta.config.is_some(), config);
            assert_eq!(meta.attestations.is_some(), attestations);
        }
        let git =
            |objects| MetaRequest { git: Some(GitRequest { objects }), ..MetaRequest::default() };
        for objects in [false, true] {
            let request = git(objects);
            let meta = fixtures.resolve(&request).await.unwrap().git.unwrap();
            assert_eq!(meta.reference, "refs/heads/main");
            assert_eq!(meta.commit_object.is_some(), objects);
        }
        let checksum = ChecksumRequest {
            algorithm: ChecksumAlgorithm::Sha512,
            suffix: Bytes::from_static(b"d"),
        };
        let request = MetaRequest {
            http: Some(HttpRequest { checksum: Some(checksum) }),
            ..MetaRequest::default()
        };
        let meta = fixtures.resolve(&request).await.unwrap().http.unwrap();
        assert_eq!(meta.checksum, digest::of(ChecksumAlgorithm::Sha256, b"abc"));
        let response = meta.checksum_response.unwrap();
        assert_eq!(response.digest, digest::of(ChecksumAlgorithm::Sha512, b"abcd"));
        assert_eq!(fixtures.requests().len(), 7);
    }

    #[tokio::test]
    async fn a_kind_that_is_lacking_is_an_error() {
        let fixtures = Fixtures::from_case_metadata(&serde_json::Value::Null).unwrap();
        let request = MetaRequest {
            source: crate::source::SourceOp {
                identifier: "docker-image://x".into(),
                ..Default::default()
            },
            image: Some(ImageRequest::default()),
            ..MetaRequest::default()
        };
        let error = fixtures.resolve(&request).await.unwrap_err();
        assert_eq!(error.to_string(), "metadata of docker-image://x: not found");
    }

    #[test]
    fn bad_metadata_is_named() {
        let cases = [
            (serde_json::json!({"image": {"digset": "x"}}), "unknown field `digset`"),
            (serde_json::json!({"http": {"content": "%"}}), "bad base64 in content"),
            (serde_json::json!("x"), "not of the documented form"),
        ];
        for (metadata, expected) in cases {
            let error = Fixtures::from_case_metadata(&metadata).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
