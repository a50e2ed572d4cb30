//! Questions, requests and answers.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::super::MetaError;
use super::super::llb::Loads;
use super::super::policy::{Answer, AnswerError, Question, QuestionError};
use super::super::proto::{gateway, pb, policysession, sourcepolicy};
use super::{alpine, buildkit, digest, golden, tool};
use crate::meta::{
    AttestationBlob, AttestationChain, ChecksumAlgorithm, ChecksumRequest, ChecksumResponse,
    GitMeta, GitRequest, HttpMeta, HttpRequest, ImageMeta, ImageRequest, MetaRequest, SourceMeta,
};
use crate::source::{Platform, SourceOp};

fn check_question(name: &str, source: SourceOp, platform: Option<Platform>, meta: SourceMeta) {
    let question = Question::decode(golden(name)).unwrap();
    assert_eq!(question.source, source, "{name}");
    assert_eq!(question.platform, platform, "{name}");
    assert_eq!(question.meta, meta, "{name}");
}

#[test]
fn questions_read_as_go_writes_them() {
    let blob = |media_type: &str, annotations: &[(&str, &str)], data: &'static str| {
        let annotations = annotations.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
        AttestationBlob { media_type: media_type.to_owned(), annotations, data: data.into() }
    };
    let predicate = [("in-toto.io/predicate-type", "https://slsa.dev/provenance/v1")];
    let chain = AttestationChain {
        root: digest('1'),
        image_manifest: "sha256:44".into(),
        attestation_manifest: digest('2'),
        signature_manifests: vec!["sha256:55".into()],
        blobs: BTreeMap::from([
            (digest('2'), blob("application/vnd.oci.image.manifest.v1+json", &[], "{}")),
            (digest('3'), blob("application/vnd.in-toto+json", &predicate, "null")),
        ]),
    };
    let image = ImageMeta {
        digest: Some(digest('1')),
        config: Some(r#"{"config":{}}"#.into()),
        attestations: Some(chain),
    };
    check_question(
        "check_image",
        alpine(),
        Some(Platform::default()),
        SourceMeta { image: Some(image), ..Default::default() },
    );
    let windows =
        Platform { os: "windows".into(), architecture: "amd64".into(), variant: String::new() };
    check_question("check_windows", alpine(), Some(windows), SourceMeta::default());
    let git = GitMeta {
        checksum: "aa11".into(),
        reference: "refs/tags/v0.34.2".into(),
        commit_checksum: "bb22".into(),
        commit_object: Some("tree x\n".into()),
        tag_object: Some("object y\n".into()),
    };
    check_question(
        "check_git",
        buildkit(),
        None,
        SourceMeta { git: Some(git), ..Default::default() },
    );
    let http = HttpMeta {
        checksum: "sha256:66".into(),
        filename: "tool.tgz".into(),
        checksum_response: Some(ChecksumResponse {
            digest: "sha512:77".into(),
            suffix: Bytes::from_static(&[4, 255]),
        }),
    };
    check_question(
        "check_http",
        tool(),
        None,
        SourceMeta { http: Some(http), ..Default::default() },
    );

    let caps = Question::decode(golden("check_image")).unwrap().caps;
    assert_eq!(caps, BTreeMap::from([("a".to_owned(), true), ("b".to_owned(), false)]));
}

fn check_malformed(change: impl FnOnce(&mut policysession::CheckPolicyRequest), wanted: &str) {
    let mut wire = policysession::CheckPolicyRequest::decode(golden("check_image")).unwrap();
    change(&mut wire);
    let error = anyhow::Error::from(Question::decode(wire.encode_to_vec().as_slice()).unwrap_err());
    assert_eq!(format!("{error:#}"), wanted);
}

#[test]
fn questions_that_contradict_themselves_are_refused() {
    type Chain = gateway::AttestationChain;
    fn chain(wire: &mut policysession::CheckPolicyRequest) -> &mut Chain {
        let image = wire.source.as_mut().unwrap().image.as_mut().unwrap();
        image.attestation_chain.as_mut().unwrap()
    }
    fn blob(wire: &mut policysession::CheckPolicyRequest) -> &mut gateway::Blob {
        chain(wire).blobs.get_mut(&digest('3')).unwrap()
    }
    let prefix = "policy question: what is told of the source does not hold: attestation chain:";
    let (two, three) = (digest('2'), digest('3'));
    check_malformed(|wire| wire.source = None, "policy question: no source is named");
    check_malformed(
        |wire| wire.source.as_mut().unwrap().source = None,
        "policy question: what is told of the source does not hold: metadata: the source is missing",
    );
    check_malformed(
        |wire| wire.platform = Some(pb::Platform::default()),
        "policy question about `docker-image://docker.io/library/alpine:3.20`: \
         platform: OS is missing",
    );
    check_malformed(
        |wire| blob(wire).descriptor = None,
        &format!("{prefix} blob {three} has no descriptor"),
    );
    check_malformed(
        |wire| blob(wire).descriptor.as_mut().unwrap().digest = digest('2'),
        &format!("{prefix} the blob under {three} is described as {two}"),
    );
    for (size, shown) in [(3, "3"), (-1, "-1"), (i64::MAX, "9223372036854775807")] {
        check_malformed(
            |wire| blob(wire).descriptor.as_mut().unwrap().size = size,
            &format!("{prefix} blob {three} has 4 bytes, its descriptor says {shown}"),
        );
    }
    check_malformed(
        |wire| {
            let response =
                gateway::ChecksumResponse { digest: String::new(), suffix: Bytes::new() };
            let http = gateway::ResolveSourceHttpResponse {
                checksum: digest('4'),
                checksum_response: Some(response),
                ..Default::default()
            };
            wire.source.as_mut().unwrap().http = Some(http);
        },
        "policy question: what is told of the source does not hold: \
         http: the answer to the checksum request holds no digest",
    );
    let lost = "policy question: what is told of the source does not hold:";
    check_malformed(
        |wire| wire.source.as_mut().unwrap().http = Some(Default::default()),
        &format!("{lost} http: the answer holds no checksum of what was resolved"),
    );
    check_malformed(
        |wire| wire.source.as_mut().unwrap().git = Some(Default::default()),
        &format!("{lost} git: the answer holds no checksum of what was resolved"),
    );
}

#[test]
fn bytes_that_are_no_message_are_refused() {
    let invalid_utf8 = b"\x12\x07\x0a\x05\x0a\x03a\xff\xffz".as_slice();
    for bytes in [
        b"\x0a".as_slice(),
        b"\x0a\x05\x01",
        b"\x08\x01",
        b"\xff\xff\xff\xff\xff\xff",
        b"\x12\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"not a message",
        invalid_utf8,
    ] {
        let error = Question::decode(bytes).unwrap_err();
        assert!(matches!(error, QuestionError::Decode(_)), "{bytes:x?}: {error}");
        assert!(Loads::decode(bytes).is_err(), "{bytes:x?}");
    }
    for name in ["check_image", "check_git", "check_http"] {
        let whole = golden(name);
        for end in 0..whole.len() {
            // A message cut off between two fields may be one; it must only not panic.
            let _ = Question::decode(whole.slice(..end));
        }
    }
}

fn check_request(name: &str, request: MetaRequest, read_back: &MetaRequest) {
    let wire = gateway::ResolveSourceMetaRequest::from(request);
    assert_eq!(hex::encode(wire.encode_to_vec()), hex::encode(golden(name)), "{name}");
    assert_eq!(MetaRequest::try_from(wire).unwrap(), *read_back, "{name}");
}

#[test]
fn requests_are_written_as_go_reads_them() {
    let image = |config, attestations| Some(ImageRequest { config, attestations });
    let chain = MetaRequest {
        source: alpine(),
        platform: Some(Platform::default()),
        image: image(false, true),
        ..Default::default()
    };
    check_request("request_image", chain.clone(), &chain);
    let digest_only =
        MetaRequest { source: alpine(), image: image(false, false), ..Default::default() };
    let with_config = MetaRequest { image: image(true, false), ..digest_only.clone() };
    check_request("request_digest", digest_only, &with_config);
    let git = MetaRequest {
        source: buildkit(),
        git: Some(GitRequest { objects: true }),
        ..Default::default()
    };
    check_request("request_git", git.clone(), &git);
    let checksum = ChecksumRequest {
        algorithm: ChecksumAlgorithm::Sha512,
        suffix: Bytes::from_static(&[4, 255]),
    };
    let http = MetaRequest {
        source: tool(),
        http: Some(HttpRequest { checksum: Some(checksum) }),
        ..Default::default()
    };
    check_request("request_http", http.clone(), &http);
}

#[test]
fn an_unknown_algorithm_is_refused() {
    let wire = gateway::ChecksumRequest { algo: 3, suffix: Bytes::new() };
    assert_eq!(ChecksumRequest::try_from(wire), Err(MetaError::Algorithm(3)));
}

#[test]
fn a_question_is_asked_back_word_for_word() {
    let question = Question::decode(golden("check_windows")).unwrap();
    let image = Some(ImageRequest { config: true, attestations: false });
    let request = MetaRequest {
        source: question.source.clone(),
        platform: question.platform.clone(),
        image,
        ..Default::default()
    };
    let reply = question.ask(request.clone()).unwrap();
    assert_eq!(hex::encode(reply.encode_to_vec()), hex::encode(golden("response_ask_windows")));

    let material = MetaRequest { source: tool(), ..request };
    assert_eq!(
        question.ask(material).unwrap_err().to_string(),
        "policy question about `docker-image://docker.io/library/alpine:3.20`: \
         cannot ask the daemon for metadata of `https://example.com/tool.tgz`"
    );
}

#[test]
fn answers_are_written_as_go_reads_them() {
    let mut pinned = alpine();
    pinned.identifier = format!("{}@{}", pinned.identifier, digest('1'));
    let messages = vec!["not from our registry".to_owned(), "pin <it> & come back".to_owned()];
    for (name, answer) in [
        ("response_allow", Answer::Allow),
        ("response_deny", Answer::Deny { messages }),
        ("response_convert", Answer::Convert(pinned)),
    ] {
        let wire = policysession::CheckPolicyResponse::from(answer.clone());
        assert_eq!(hex::encode(wire.encode_to_vec()), hex::encode(golden(name)), "{name}");
        let decision = policysession::DecisionResponse::from(answer.clone());
        assert_eq!(Answer::try_from(decision), Ok(answer), "{name}");
    }
}

#[test]
fn decisions_that_are_none_are_refused() {
    use sourcepolicy::PolicyAction::{Allow, Convert, Deny};
    let update = pb::SourceOp::from(tool());
    let identifier = || tool().identifier;
    for (action, update, wanted) in [
        (3, None, AnswerError::Action(3)),
        (-1, Some(update.clone()), AnswerError::Action(-1)),
        (Convert.into(), None, AnswerError::NoUpdate),
        (
            Allow.into(),
            Some(update.clone()),
            AnswerError::StrayUpdate { action: "ALLOW", identifier: identifier() },
        ),
        (
            Deny.into(),
            Some(update),
            AnswerError::StrayUpdate { action: "DENY", identifier: identifier() },
        ),
    ] {
        let wire = policysession::DecisionResponse { action, deny_messages: Vec::new(), update };
        assert_eq!(Answer::try_from(wire), Err(wanted));
    }
}
