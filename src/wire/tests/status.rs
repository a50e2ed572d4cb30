//! Denials as clients read them.

use bytes::Bytes;
use serde_json::Value;

use super::super::proto::{errdefs, pb};
use super::super::status;
use super::GOLDEN;

#[test]
fn messages_are_quoted_as_go_quotes_them() {
    let messages: Vec<[String; 2]> = serde_json::from_value(GOLDEN["messages"].clone()).unwrap();
    for [identifier, wanted] in messages {
        assert_eq!(status::denial_message(&identifier), wanted, "{identifier:?}");
    }
}

#[test]
fn a_denial_carries_its_reasons_and_lines() {
    let position = |line, character| Some(pb::Position { line, character });
    let lines = [errdefs::Source {
        info: Some(pb::SourceInfo {
            filename: "Dockerfile".into(),
            data: "FROM scratch\nADD http://x /\n".into(),
            definition: None,
            language: "Dockerfile".into(),
        }),
        ranges: vec![pb::Range { start: position(2, 0), end: position(2, 15) }],
    }];
    let messages = ["not from our registry".to_owned(), "pin <it> & come back".to_owned()];
    let denial = status::denial("http://x", &messages, &lines);
    assert_eq!(denial.code(), tonic::Code::Unknown);
    assert_eq!(denial.message(), r#"source "http://x" not allowed by policy: action DENY"#);
    for (call, first) in [
        (status::Denied::Metadata, "could not resolve image due to policy: "),
        (status::Denied::Solve, "failed to load LLB: error evaluating the source policy: "),
    ] {
        let answered = status::denial_in(call, "http://x", &messages, &lines);
        assert_eq!(answered.message(), format!("{first}{}", denial.message()));
        assert_eq!(answered.code(), denial.code());
        let details = status::details(&denial).unwrap();
        assert_eq!(status::details(&answered).unwrap(), details);
    }

    let details: Vec<(String, Value)> = status::details(&denial)
        .unwrap()
        .into_iter()
        .map(|detail| (detail.type_url, serde_json::from_slice(&detail.value).unwrap()))
        .collect();
    assert_eq!(
        details,
        [
            (status::DECISION_TYPE.to_owned(), GOLDEN["detail_decision"].clone()),
            (status::SOURCE_TYPE.to_owned(), GOLDEN["detail_source"].clone()),
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
