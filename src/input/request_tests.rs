//! Which request answers which fields.

use std::borrow::Cow;

use bytes::Bytes;

use super::*;
use crate::meta::{AttestationChain, GitMeta, HttpMeta, ImageMeta};
use crate::source::{Platform, SourceOp};

fn check(identifier: &str, fields: &[Field], known: &SourceMeta) -> String {
    let op = SourceOp::new(identifier);
    let source = Source::parse(&op).unwrap();
    let node = Node {
        op: Cow::Borrowed(&op),
        source: Cow::Owned(source),
        platform: Cow::Owned(Platform::default()),
        children: Vec::new(),
    };
    let Some(request) = request(&node, FieldSet::of(fields), None, Some(known)) else {
        return "none".into();
    };
    assert_eq!(request.source, op);
    assert_eq!(request.platform, Some(Platform::default()));
    let mut words = Vec::new();
    if let Some(image) = request.image {
        words.push("image");
        words.extend(image.config.then_some("config"));
        words.extend(image.attestations.then_some("attestations"));
    }
    if let Some(git) = request.git {
        words.push("git");
        words.extend(git.objects.then_some("objects"));
    }
    if let Some(http) = request.http {
        words.push("http");
        words.extend(http.checksum.map(|checksum| {
            assert_eq!(checksum.algorithm, ChecksumAlgorithm::Sha512);
            "assist"
        }));
    }
    words.join("+")
}

#[test]
fn asks_for_what_answers_the_fields_and_again_for_what_is_known() {
    let nothing = SourceMeta::default();
    let config = SourceMeta {
        image: Some(ImageMeta { config: Some(Bytes::new()), ..ImageMeta::default() }),
        ..SourceMeta::default()
    };
    let chain = SourceMeta {
        image: Some(ImageMeta {
            attestations: Some(AttestationChain::default()),
            ..ImageMeta::default()
        }),
        ..SourceMeta::default()
    };
    let objects = SourceMeta {
        git: Some(GitMeta { commit_object: Some(Bytes::new()), ..GitMeta::default() }),
        ..SourceMeta::default()
    };
    let suffixed = SourceMeta {
        http: Some(HttpMeta {
            checksum_response: Some(ChecksumResponse {
                digest: "sha512:00".into(),
                suffix: Bytes::new(),
            }),
            ..HttpMeta::default()
        }),
        ..SourceMeta::default()
    };
    let (image, git, http) = ("docker-image://alpine", "git://host/x.git", "https://host/x");
    for (identifier, fields, known, wanted) in [
        (image, vec![Field::ImageChecksum], &nothing, "image+config"),
        (image, vec![Field::ImageCreatedTime], &nothing, "image+config"),
        (image, vec![Field::ImageEnv, Field::ImageUser], &nothing, "image+config"),
        (image, vec![Field::ImageHasProvenance], &nothing, "image+attestations"),
        (image, vec![Field::ImageSignatures], &config, "image+config+attestations"),
        (image, vec![Field::ImageLabels], &chain, "image+config+attestations"),
        (image, vec![Field::GitTag, Field::HttpChecksum], &config, "none"),
        (image, vec![], &config, "none"),
        (git, vec![Field::GitRef], &nothing, "git"),
        (git, vec![Field::GitIsSha256], &objects, "git+objects"),
        (git, vec![Field::GitTag], &nothing, "git+objects"),
        (git, vec![Field::GitRef, Field::GitCommit], &nothing, "git+objects"),
        (git, vec![Field::ImageUser], &objects, "none"),
        (http, vec![Field::HttpChecksum], &nothing, "http"),
        (http, vec![Field::HttpChecksum], &suffixed, "http+assist"),
        (http, vec![Field::ImageUser], &suffixed, "none"),
        ("local://context", vec![Field::HttpChecksum], &nothing, "none"),
    ] {
        assert_eq!(check(identifier, &fields, known), wanted, "{identifier} {fields:?}");
    }
}
