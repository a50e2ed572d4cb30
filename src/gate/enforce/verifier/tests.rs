//! A connection to the verifier alone: what it asks in return, and what it refuses.

use super::*;
use crate::gate::ops::{Metrics, PolicySets};
use crate::wire::proto::gateway::{ResolveSourceHttpResponse, ResolveSourceMetaResponse};
use crate::wire::proto::policysession::DecisionResponse;
use crate::wire::proto::policysession::check_policy_response::Result as Answered;

const URL: &str = "https://example.com/a";
const DIGEST: &str = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

fn connection(rule: &str) -> (tempfile::TempDir, Connection) {
    connection_saying(rule, "\ndeny_msg contains \"no\" if false")
}

fn connection_saying(rule: &str, says: &str) -> (tempfile::TempDir, Connection) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("p.rego");
    let rego = format!(
        "package docker\ndefault allow := false\nallow if {rule}{says}\n\
         decision := {{\"allow\": allow, \"deny_msg\": deny_msg}}\n"
    );
    std::fs::write(&file, rego).unwrap();
    let sets = PolicySets::load([("all".to_owned(), vec![file])]).unwrap();
    let recorder = Arc::new(Recorder::new(None, Arc::new(Metrics::new())));
    let set = sets.set("all").unwrap();
    (dir, Connection::new(Standalone::new(set, Mode::Enforce, recorder, Turns::default())))
}

/// What is answered, in a word.
async fn ask(connection: &Connection, url: &str, checksum: Option<&str>) -> String {
    let http = checksum.map(|checksum| ResolveSourceHttpResponse {
        checksum: checksum.to_owned(),
        ..Default::default()
    });
    let source = ResolveSourceMetaResponse {
        source: Some(SourceOp::new(url).into()),
        http,
        ..Default::default()
    };
    let question = CheckPolicyRequest { source: Some(source), ..Default::default() };
    match connection.answer(question).await {
        Err(status) => status.message().to_owned(),
        Ok(CheckPolicyResponse { result: Some(Answered::Request(_)) }) => "asks".to_owned(),
        Ok(CheckPolicyResponse { result: Some(Answered::Decision(decision)) }) => {
            let DecisionResponse { action, update, .. } = decision;
            format!("{action} {}", update.map(|it| format!("{:?}", it.attrs)).unwrap_or_default())
        }
        Ok(CheckPolicyResponse { result: None }) => "nothing".to_owned(),
    }
}

#[tokio::test]
async fn a_follow_up_is_taken_once_for_each_that_was_asked_for() {
    let rule = format!("input.http.checksum == {DIGEST:?}");
    let (_dir, connection) = connection(&rule);
    let unasked = format!("buildgate: nothing was asked about {URL} on this connection");
    let pinned = format!("2 {{\"http.checksum\": {DIGEST:?}}}");
    assert_eq!(ask(&connection, URL, Some(DIGEST)).await, unasked);
    assert_eq!(ask(&connection, URL, None).await, "asks");
    assert_eq!(ask(&connection, URL, None).await, "asks");
    let other = ask(&connection, "https://example.com/b", Some(DIGEST)).await;
    assert!(other.contains("nothing was asked about"), "{other}");
    assert_eq!(ask(&connection, URL, Some(DIGEST)).await, pinned);
    assert_eq!(ask(&connection, URL, Some("sha256:0")).await, "1 ");
    assert_eq!(ask(&connection, URL, Some(DIGEST)).await, unasked);
}

#[tokio::test]
async fn a_bundle_is_judged_where_its_repository_is_allowed_and_in_its_own_words() {
    let blob = format!("docker-image+blob://docker.io/library/a@{DIGEST}");
    let mut op = SourceOp::new("git://example.com/a.git#main");
    op.attrs.insert("git.fullurl".to_owned(), "https://example.com/a.git".to_owned());
    op.attrs.insert("git.bundle".to_owned(), blob);
    op.attrs.insert("git.checksum".to_owned(), "a".repeat(40));
    let question = || CheckPolicyRequest {
        source: Some(ResolveSourceMetaResponse {
            source: Some(op.clone().into()),
            ..Default::default()
        }),
        ..Default::default()
    };
    let says = "\ndeny_msg contains \"no git\" if not input.blob\n\
                deny_msg contains \"no blob\" if input.blob";
    for (rule, wanted) in [
        ("input.blob", Some("no git")),
        ("input.git", Some("no blob")),
        ("{input.git}\nallow if input.blob", None),
    ] {
        let (_dir, connection) = connection_saying(rule, says);
        let answer = connection.answer(question()).await.unwrap();
        let Some(Answered::Decision(decision)) = answer.result else { panic!("{rule}") };
        let messages: Vec<_> = decision.deny_messages.into_iter().map(|it| it.message).collect();
        assert_eq!(messages, Vec::from_iter(wanted), "{rule}");
        assert_eq!(decision.action == 1, wanted.is_some(), "{rule}");
    }
}

#[tokio::test]
async fn what_cannot_be_asked_for_is_refused() {
    let attested = "github_attestation(input.http, \"a/b\")";
    let (_dir, attesting) = connection(attested);
    assert_eq!(ask(&attesting, URL, None).await, "asks");
    assert_eq!(ask(&attesting, URL, Some(DIGEST)).await, "1 ", "a file besides the source");
    let (_dir, connection) = connection("input.image.hasProvenance");
    assert_eq!(ask(&connection, "docker-image://docker.io/library/a:1", None).await, "1 ");
    assert_eq!(ask(&connection, "docker-image://evil", None).await, "1 ");
}

/// Slow policies are evaluated beside the threads that carry bytes, when it is their turn among all builds'.
#[tokio::test]
async fn its_evaluations_take_their_turns() {
    let (_dir, connection) = connection("true");
    let held = connection.standalone.turns.hold().await;
    let asked = ask(&connection, URL, None);
    let mut asked = std::pin::pin!(asked);
    let early = tokio::time::timeout(Duration::from_millis(100), &mut asked).await;
    assert!(early.is_err(), "{early:?}");
    drop(held);
    assert_eq!(asked.await, "0 ");
}
