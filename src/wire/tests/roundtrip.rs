//! Domain → wire → domain, and any bytes at all.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

use super::super::Resolved;
use super::super::llb::Loads;
use super::super::policy::{Answer, Question};
use super::super::proto::{gateway, pb, policysession};
use crate::meta::{
    AttestationBlob, AttestationChain, ChecksumResponse, GitMeta, HttpMeta, ImageMeta, SourceMeta,
};
use crate::source::{Platform, SourceOp};

fn text() -> impl Strategy<Value = String> {
    "[ -~é→]{0,12}"
}

fn some_text() -> impl Strategy<Value = String> {
    "[ -~é→]{1,12}"
}

fn texts() -> impl Strategy<Value = BTreeMap<String, String>> {
    prop::collection::btree_map(text(), text(), 0..4)
}

fn content() -> impl Strategy<Value = Bytes> {
    prop::collection::vec(any::<u8>(), 0..16).prop_map(Bytes::from)
}

fn some_content() -> impl Strategy<Value = Option<Bytes>> {
    content().prop_map(|bytes| Some(bytes).filter(|bytes| !bytes.is_empty()))
}

fn any_source() -> impl Strategy<Value = SourceOp> {
    (text(), texts()).prop_map(|(identifier, attrs)| SourceOp { identifier, attrs })
}

fn any_chain() -> impl Strategy<Value = AttestationChain> {
    let blob = (text(), texts(), content()).prop_map(|(media_type, annotations, data)| {
        AttestationBlob { media_type, annotations, data }
    });
    let blobs = prop::collection::btree_map(text(), blob, 0..3);
    (text(), text(), text(), prop::collection::vec(text(), 0..3), blobs).prop_map(
        |(root, image_manifest, attestation_manifest, signature_manifests, blobs)| {
            AttestationChain {
                root,
                image_manifest,
                attestation_manifest,
                signature_manifests,
                blobs,
            }
        },
    )
}

fn any_meta() -> impl Strategy<Value = SourceMeta> {
    let digest = prop::option::of("sha256:[0-9a-f]{4}");
    let image = (digest, some_content(), prop::option::of(any_chain()))
        .prop_map(|(digest, config, attestations)| ImageMeta { digest, config, attestations });
    let git = (some_text(), text(), text(), some_content(), some_content()).prop_map(
        |(checksum, reference, commit_checksum, commit_object, tag_object)| GitMeta {
            checksum,
            reference,
            commit_checksum,
            commit_object,
            tag_object,
        },
    );
    let response = ("sha512:[0-9a-f]{4}", content())
        .prop_map(|(digest, suffix)| ChecksumResponse { digest, suffix });
    let http = (some_text(), text(), prop::option::of(response)).prop_map(
        |(checksum, filename, checksum_response)| HttpMeta {
            checksum,
            filename,
            checksum_response,
        },
    );
    (prop::option::of(image), prop::option::of(git), prop::option::of(http))
        .prop_map(|(image, git, http)| SourceMeta { image, git, http, ..SourceMeta::default() })
}

proptest! {
    #[test]
    fn metadata_survives_the_wire(source in any_source(), meta in any_meta()) {
        let resolved = Resolved { source, meta };
        let wire = gateway::ResolveSourceMetaResponse::from(resolved.clone()).encode_to_vec();
        let wire = gateway::ResolveSourceMetaResponse::decode(wire.as_slice()).unwrap();
        prop_assert_eq!(Resolved::try_from(wire).unwrap(), resolved);
    }

    #[test]
    fn answers_survive_the_wire(
        answer in prop_oneof![
            Just(Answer::Allow),
            prop::collection::vec(text(), 0..3).prop_map(|messages| Answer::Deny { messages }),
            any_source().prop_map(Answer::Convert),
        ],
    ) {
        let wire = policysession::DecisionResponse::from(answer.clone()).encode_to_vec();
        let wire = policysession::DecisionResponse::decode(wire.as_slice()).unwrap();
        prop_assert_eq!(Answer::try_from(wire), Ok(answer));
    }

    #[test]
    fn normal_platforms_survive_the_wire(
        os in "linux|windows|darwin|freebsd",
        (architecture, variant) in prop_oneof![
            Just(("amd64", "")), Just(("amd64", "v2")), Just(("arm64", "")), Just(("arm", "v6")),
            Just(("386", "")), Just(("riscv64", "")),
        ],
    ) {
        let (architecture, variant) = (architecture.to_owned(), variant.to_owned());
        let platform = Platform { os, architecture, variant };
        let wire = pb::Platform::from(platform.clone());
        prop_assert_eq!(Platform::try_from(wire), Ok(platform));
    }

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Question::decode(bytes.as_slice());
        let _ = Loads::decode(bytes.as_slice());
        let definition = pb::Definition { def: vec![bytes.into()], ..Default::default() };
        let _ = Loads::of(&definition);
    }
}
