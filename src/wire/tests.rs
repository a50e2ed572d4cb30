//! The contract against the bytes of BuildKit's own Go types, and round trips.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;
use serde_json::Value;

use super::llb::{LlbError, Loads, MAX_DEPTH, MAX_OPS};
use super::policy::{Answer, AnswerError, Question, QuestionError};
use super::proto::{control, errdefs, gateway, pb, policysession, sourcepolicy};
use super::{MetaError, Resolved, status};
use crate::meta::{
    AttestationBlob, AttestationChain, ChecksumAlgorithm, ChecksumRequest, ChecksumResponse,
    GitMeta, GitRequest, HttpMeta, HttpRequest, ImageMeta, ImageRequest, MetaRequest, SourceMeta,
};
use crate::source::{Platform, SourceOp};

static GOLDEN: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("golden.json")).unwrap());

fn golden(name: &str) -> Bytes {
    let hex = GOLDEN[name]
        .as_str()
        .unwrap_or_else(|| panic!("no golden {name}"));
    hex::decode(hex).unwrap().into()
}

fn digest(of: char) -> String {
    format!("sha256:{}", of.to_string().repeat(64))
}

fn source(identifier: &str, attrs: &[(&str, &str)]) -> SourceOp {
    let attrs = attrs
        .iter()
        .map(|&(k, v)| (k.to_owned(), v.to_owned()))
        .collect();
    SourceOp {
        identifier: identifier.to_owned(),
        attrs,
    }
}

fn alpine() -> SourceOp {
    source(
        "docker-image://docker.io/library/alpine:3.20",
        &[
            ("image.resolvemode", "pull"),
            ("image.recordtype", "regular"),
        ],
    )
}

fn buildkit() -> SourceOp {
    source(
        "git://github.com/moby/buildkit.git#v0.34.2",
        &[("git.fullurl", "https://github.com/moby/buildkit.git")],
    )
}

fn tool() -> SourceOp {
    source("https://example.com/tool.tgz", &[])
}

// Questions.

fn check_question(name: &str, source: SourceOp, platform: Option<Platform>, meta: SourceMeta) {
    let question = Question::decode(golden(name)).unwrap();
    assert_eq!(question.source, source, "{name}");
    assert_eq!(question.platform, platform, "{name}");
    assert_eq!(question.meta, meta, "{name}");
}

#[test]
fn questions_read_as_go_writes_them() {
    let blob = |media_type: &str, annotations: &[(&str, &str)], data: &'static str| {
        let annotations = annotations
            .iter()
            .map(|&(k, v)| (k.to_owned(), v.to_owned()))
            .collect();
        AttestationBlob {
            media_type: media_type.to_owned(),
            annotations,
            data: data.into(),
        }
    };
    let predicate = [(
        "in-toto.io/predicate-type",
        "https://slsa.dev/provenance/v1",
    )];
    let chain = AttestationChain {
        root: digest('1'),
        image_manifest: "sha256:44".into(),
        attestation_manifest: digest('2'),
        signature_manifests: vec!["sha256:55".into()],
        blobs: BTreeMap::from([
            (
                digest('2'),
                blob("application/vnd.oci.image.manifest.v1+json", &[], "{}"),
            ),
            (
                digest('3'),
                blob("application/vnd.in-toto+json", &predicate, "null"),
            ),
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
        SourceMeta {
            image: Some(image),
            ..Default::default()
        },
    );
    let windows = Platform {
        os: "windows".into(),
        architecture: "amd64".into(),
        variant: String::new(),
    };
    check_question(
        "check_windows",
        alpine(),
        Some(windows),
        SourceMeta::default(),
    );
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
        SourceMeta {
            git: Some(git),
            ..Default::default()
        },
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
        SourceMeta {
            http: Some(http),
            ..Default::default()
        },
    );

    let caps = Question::decode(golden("check_image")).unwrap().caps;
    assert_eq!(
        caps,
        BTreeMap::from([("a".to_owned(), true), ("b".to_owned(), false)])
    );
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
    check_malformed(
        |wire| wire.source = None,
        "policy question: no source is named",
    );
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
            let response = gateway::ChecksumResponse {
                digest: String::new(),
                suffix: Bytes::new(),
            };
            let http = gateway::ResolveSourceHttpResponse {
                checksum_response: Some(response),
                ..Default::default()
            };
            wire.source.as_mut().unwrap().http = Some(http);
        },
        "policy question: what is told of the source does not hold: \
         http: the answer to the checksum request holds no digest",
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
        assert!(
            matches!(error, QuestionError::Decode(_)),
            "{bytes:x?}: {error}"
        );
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

// Requests.

fn check_request(name: &str, request: MetaRequest, read_back: &MetaRequest) {
    let wire = gateway::ResolveSourceMetaRequest::from(request);
    assert_eq!(
        hex::encode(wire.encode_to_vec()),
        hex::encode(golden(name)),
        "{name}"
    );
    assert_eq!(MetaRequest::try_from(wire).unwrap(), *read_back, "{name}");
}

#[test]
fn requests_are_written_as_go_reads_them() {
    let image = |config, attestations| {
        Some(ImageRequest {
            config,
            attestations,
        })
    };
    let chain = MetaRequest {
        source: alpine(),
        platform: Some(Platform::default()),
        image: image(false, true),
        ..Default::default()
    };
    check_request("request_image", chain.clone(), &chain);
    let digest_only = MetaRequest {
        source: alpine(),
        image: image(false, false),
        ..Default::default()
    };
    let with_config = MetaRequest {
        image: image(true, false),
        ..digest_only.clone()
    };
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
        http: Some(HttpRequest {
            checksum: Some(checksum),
        }),
        ..Default::default()
    };
    check_request("request_http", http.clone(), &http);
}

#[test]
fn an_unknown_algorithm_is_refused() {
    let wire = gateway::ChecksumRequest {
        algo: 3,
        suffix: Bytes::new(),
    };
    assert_eq!(
        ChecksumRequest::try_from(wire),
        Err(MetaError::Algorithm(3))
    );
}

#[test]
fn a_question_is_asked_back_word_for_word() {
    let question = Question::decode(golden("check_windows")).unwrap();
    let image = Some(ImageRequest {
        config: true,
        attestations: false,
    });
    let request = MetaRequest {
        source: question.source.clone(),
        platform: question.platform.clone(),
        image,
        ..Default::default()
    };
    let reply = question.ask(request.clone()).unwrap();
    assert_eq!(
        hex::encode(reply.encode_to_vec()),
        hex::encode(golden("response_ask_windows"))
    );

    let material = MetaRequest {
        source: tool(),
        ..request
    };
    assert_eq!(
        question.ask(material).unwrap_err().to_string(),
        "policy question about `docker-image://docker.io/library/alpine:3.20`: \
         cannot ask the daemon for metadata of `https://example.com/tool.tgz`"
    );
}

// Answers.

#[test]
fn answers_are_written_as_go_reads_them() {
    let mut pinned = alpine();
    pinned.identifier = format!("{}@{}", pinned.identifier, digest('1'));
    let messages = vec![
        "not from our registry".to_owned(),
        "pin <it> & come back".to_owned(),
    ];
    for (name, answer) in [
        ("response_allow", Answer::Allow),
        ("response_deny", Answer::Deny { messages }),
        ("response_convert", Answer::Convert(pinned)),
    ] {
        let wire = policysession::CheckPolicyResponse::from(answer.clone());
        assert_eq!(
            hex::encode(wire.encode_to_vec()),
            hex::encode(golden(name)),
            "{name}"
        );
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
            AnswerError::StrayUpdate {
                action: "ALLOW",
                identifier: identifier(),
            },
        ),
        (
            Deny.into(),
            Some(update),
            AnswerError::StrayUpdate {
                action: "DENY",
                identifier: identifier(),
            },
        ),
    ] {
        let wire = policysession::DecisionResponse {
            action,
            deny_messages: Vec::new(),
            update,
        };
        assert_eq!(Answer::try_from(wire), Err(wanted));
    }
}

// Status.

#[test]
fn messages_are_quoted_as_go_quotes_them() {
    let messages: Vec<[String; 2]> = serde_json::from_value(GOLDEN["messages"].clone()).unwrap();
    for [identifier, wanted] in messages {
        assert_eq!(
            status::denial_message(&identifier),
            wanted,
            "{identifier:?}"
        );
    }
}

#[test]
fn a_denial_carries_its_reasons_and_lines() {
    let position = |line, character| Some(pb::Position { line, character });
    let lines = errdefs::Source {
        info: Some(pb::SourceInfo {
            filename: "Dockerfile".into(),
            data: "FROM scratch\nADD http://x /\n".into(),
            definition: None,
            language: "Dockerfile".into(),
        }),
        ranges: vec![pb::Range {
            start: position(2, 0),
            end: position(2, 15),
        }],
    };
    let messages = [
        "not from our registry".to_owned(),
        "pin <it> & come back".to_owned(),
    ];
    let denial = status::denial("http://x", &messages, &[lines]);
    assert_eq!(denial.code(), tonic::Code::Unknown);
    assert_eq!(
        denial.message(),
        r#"source "http://x" not allowed by policy: action DENY"#
    );

    let details: Vec<(String, Value)> = status::details(&denial)
        .unwrap()
        .into_iter()
        .map(|detail| {
            (
                detail.type_url,
                serde_json::from_slice(&detail.value).unwrap(),
            )
        })
        .collect();
    assert_eq!(
        details,
        [
            (
                status::DECISION_TYPE.to_owned(),
                GOLDEN["detail_decision"].clone()
            ),
            (
                status::SOURCE_TYPE.to_owned(),
                GOLDEN["detail_source"].clone()
            ),
        ]
    );
}

#[test]
fn a_denial_without_reasons_has_no_decision() {
    let denial = status::denial("http://x", &[], &[]);
    assert_eq!(status::details(&denial).unwrap(), []);
}

#[test]
fn details_that_are_no_status_are_an_error() {
    let status = tonic::Status::with_details(tonic::Code::Unknown, "x", Bytes::from_static(&[10]));
    assert!(status::details(&status).is_err());
}

// LLB.

fn check_loads(definition: &pb::Definition, wanted: &[&str]) {
    let loads = Loads::of(definition).unwrap();
    let got: BTreeSet<String> = loads
        .sources
        .iter()
        .map(|vertex| {
            let platform = vertex
                .platform
                .as_ref()
                .map_or("-", |p| p.architecture.as_str());
            format!(
                "{} {platform} {}",
                vertex.source.identifier,
                show(&vertex.lines)
            )
        })
        .chain(
            loads
                .builds
                .iter()
                .map(|vertex| format!("build {}", show(&vertex.lines))),
        )
        .collect();
    assert_eq!(got, wanted.iter().map(|&line| line.to_owned()).collect());
}

fn show(lines: &[errdefs::Source]) -> String {
    let show = |source: &errdefs::Source| {
        let lines: Vec<_> = source
            .ranges
            .iter()
            .map(|range| range.start.unwrap().line.to_string())
            .collect();
        format!(
            "{}:{}",
            source.info.as_ref().unwrap().filename,
            lines.join(",")
        )
    };
    lines.iter().map(show).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_graph_that_go_marshals_is_walked() {
    check_loads(
        &pb::Definition::decode(golden("definition")).unwrap(),
        &[
            "docker-image://docker.io/library/alpine:latest amd64 Dockerfile:1",
            "https://example.com/tool.tgz - Dockerfile:2",
            "docker-image://docker.io/library/busybox:latest arm64 Dockerfile:3",
        ],
    );
}

/// A definition built op by op: each gets its inputs by place and, for a line above zero, that line.
#[derive(Default)]
struct Graph {
    definition: pb::Definition,
    digests: Vec<String>,
}

impl Graph {
    fn op(mut self, inputs: &[usize], line: i32, op: Option<pb::op::Op>) -> Self {
        use sha2::Digest as _;
        let inputs = inputs
            .iter()
            .map(|&place| pb::Input {
                digest: self.digests[place].clone(),
                index: 0,
            })
            .collect();
        let op = pb::Op {
            inputs,
            op,
            ..Default::default()
        }
        .encode_to_vec();
        let digest = format!("sha256:{}", hex::encode(sha2::Sha256::digest(&op)));
        let source = self.definition.source.get_or_insert_with(|| pb::Source {
            infos: vec![pb::SourceInfo {
                filename: "f".into(),
                ..Default::default()
            }],
            ..Default::default()
        });
        let start = Some(pb::Position { line, character: 0 });
        let ranges = if line > 0 {
            vec![pb::Range { start, end: start }]
        } else {
            Vec::new()
        };
        let location = pb::Location {
            source_index: 0,
            ranges,
        };
        source.locations.insert(
            digest.clone(),
            pb::Locations {
                locations: vec![location],
            },
        );
        self.definition.def.push(op.into());
        self.digests.push(digest);
        self
    }

    fn load(self, identifier: &str, line: i32) -> Self {
        self.op(
            &[],
            line,
            Some(pb::op::Op::Source(source(identifier, &[]).into())),
        )
    }

    fn exec(self, inputs: &[usize], line: i32) -> Self {
        self.op(inputs, line, Some(pb::op::Op::Exec(pb::ExecOp::default())))
    }

    fn result(self, of: usize) -> pb::Definition {
        self.op(&[of], 0, None).definition
    }
}

#[test]
fn a_source_without_lines_has_those_of_its_nearest_consumer() {
    let nearest = Graph::default()
        .load("a://", 0)
        .exec(&[0], 0)
        .exec(&[1], 5)
        .exec(&[0, 2], 9);
    check_loads(&nearest.result(3), &["a:// - f:9"]);
    let own = Graph::default().load("a://", 2).exec(&[0], 7);
    check_loads(&own.result(1), &["a:// - f:2"]);
    let far = Graph::default().load("a://", 0).exec(&[0], 0).exec(&[1], 5);
    check_loads(&far.result(2), &["a:// - f:5"]);
    let nowhere = Graph::default().load("a://", 0).exec(&[0], 0);
    check_loads(&nowhere.result(1), &["a:// - "]);
    let unreachable = Graph::default()
        .load("a://", 0)
        .load("b://", 1)
        .exec(&[1], 2);
    check_loads(&unreachable.result(2), &["a:// - ", "b:// - f:1"]);
    check_loads(&pb::Definition::default(), &[]);
}

#[test]
fn build_ops_are_looked_into_and_reported() {
    let inner = Graph::default().load("inner://", 3).result(0);
    let build = pb::op::Op::Build(pb::BuildOp {
        def: Some(inner),
        ..Default::default()
    });
    let outer = Graph::default().load("llb://", 0).op(&[0], 4, Some(build));
    check_loads(
        &outer.result(1),
        &["llb:// - f:4", "inner:// - f:3", "build f:4"],
    );
}

#[test]
fn an_op_that_comes_twice_is_judged_once() {
    let mut definition = Graph::default().load("a://", 1).exec(&[0], 2).result(1);
    let first = definition.def[0].clone();
    definition.def.insert(0, first);
    assert_eq!(Loads::of(&definition).unwrap().sources.len(), 1);
}

#[test]
fn definitions_that_cannot_be_judged_are_refused() {
    let check = |definition: &pb::Definition, wanted: &str| {
        let error = anyhow::Error::from(Loads::of(definition).unwrap_err());
        assert_eq!(format!("{error:#}"), wanted);
    };
    let unknown = Graph::default().op(&[], 0, None);
    let digest = unknown.digests[0].clone();
    check(
        &unknown.result(0),
        &format!("LLB: op {digest} is of an unknown kind"),
    );

    for index in [-1, 1, i32::MAX] {
        let graph = Graph::default().load("a://", 1);
        let digest = graph.digests[0].clone();
        let mut definition = graph.result(0);
        let locations = &mut definition.source.as_mut().unwrap().locations;
        locations.get_mut(&digest).unwrap().locations[0].source_index = index;
        let wanted =
            format!("LLB: the location of op {digest} names file {index}, which is not there");
        check(&definition, &wanted);
    }

    let mut windows = pb::Op {
        op: Some(pb::op::Op::Source(tool().into())),
        platform: Some(Platform::default().into()),
        ..Default::default()
    };
    windows.platform.as_mut().unwrap().os_version = "10.0".into();
    let definition = pb::Definition {
        def: vec![windows.encode_to_vec().into()],
        ..Default::default()
    };
    check(
        &definition,
        "LLB: source `https://example.com/tool.tgz`: platform: OSVersion `10.0` is not supported",
    );

    let malformed = pb::Definition {
        def: vec![Bytes::from_static(b"\x0a")],
        ..Default::default()
    };
    assert!(matches!(
        Loads::of(&malformed),
        Err(LlbError::Op { index: 0, .. })
    ));

    let many = pb::Definition {
        def: vec![Bytes::new(); MAX_OPS + 1],
        ..Default::default()
    };
    check(&many, "LLB: more than 65536 ops");

    let nest = |inner| {
        let build = pb::op::Op::Build(pb::BuildOp {
            def: Some(inner),
            ..Default::default()
        });
        Graph::default().op(&[], 0, Some(build)).result(0)
    };
    let deep = (1..MAX_DEPTH).fold(pb::Definition::default(), |inner, _| nest(inner));
    assert_eq!(Loads::of(&deep).unwrap().builds.len(), MAX_DEPTH - 1);
    check(&nest(deep), "LLB: definitions are nested more than 8 deep");
}

// The contract itself.

#[test]
fn services_are_called_by_their_names() {
    let methods = |generated: &str| -> BTreeSet<String> {
        let path = regex::Regex::new(r#""(/[a-zA-Z0-9.]+/[a-zA-Z]+)""#).unwrap();
        path.captures_iter(generated)
            .map(|found| found[1].to_owned())
            .collect()
    };
    let of = |service: &str, names: &[&str]| -> BTreeSet<String> {
        names
            .iter()
            .map(|name| format!("/{service}/{name}"))
            .collect()
    };
    macro_rules! generated {
        ($package:literal) => {
            methods(include_str!(concat!(env!("OUT_DIR"), "/", $package, ".rs")))
        };
    }
    let bridge = "ResolveImageConfig ResolveSourceMeta Solve ReadFile ReadDir StatFile Evaluate \
                  Ping Return Inputs NewContainer ReleaseContainer ExecProcess ReadFileContainer \
                  ReadDirContainer StatFileContainer Warn";
    let bridge: Vec<_> = bridge.split_whitespace().collect();
    assert_eq!(
        generated!("moby.buildkit.v1.frontend"),
        of("moby.buildkit.v1.frontend.LLBBridge", &bridge)
    );
    let control = "DiskUsage Prune Solve Status Session ListWorkers Info ListenBuildHistory \
                   UpdateBuildHistory";
    let control: Vec<_> = control.split_whitespace().collect();
    assert_eq!(
        generated!("moby.buildkit.v1"),
        of("moby.buildkit.v1.Control", &control)
    );
    assert_eq!(
        generated!("moby.buildkit.v1.sourcepolicy.policysession"),
        of(
            "moby.buildkit.v1.sourcepolicy.policysession.PolicyVerifier",
            &["CheckPolicy"]
        )
    );
    assert_eq!(
        generated!("grpc.health.v1"),
        of("grpc.health.v1.Health", &["Check", "Watch"])
    );
}

#[test]
fn the_session_of_a_solve_is_field_15() {
    let solve = control::SolveRequest {
        source_policy_session: "s".into(),
        ..Default::default()
    };
    assert_eq!(solve.encode_to_vec(), [15 << 3 | 2, 1, b's']);
}

// Round trips.

fn text() -> impl Strategy<Value = String> {
    "[ -~é→]{0,12}"
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
    let blob =
        (text(), texts(), content()).prop_map(|(media_type, annotations, data)| AttestationBlob {
            media_type,
            annotations,
            data,
        });
    let blobs = prop::collection::btree_map(text(), blob, 0..3);
    (
        text(),
        text(),
        text(),
        prop::collection::vec(text(), 0..3),
        blobs,
    )
        .prop_map(
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
    let image = (digest, some_content(), prop::option::of(any_chain())).prop_map(
        |(digest, config, attestations)| ImageMeta {
            digest,
            config,
            attestations,
        },
    );
    let git = (text(), text(), text(), some_content(), some_content()).prop_map(
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
    let http = (text(), text(), prop::option::of(response)).prop_map(
        |(checksum, filename, checksum_response)| HttpMeta {
            checksum,
            filename,
            checksum_response,
        },
    );
    (
        prop::option::of(image),
        prop::option::of(git),
        prop::option::of(http),
    )
        .prop_map(|(image, git, http)| SourceMeta { image, git, http })
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
