//! `PolicyVerifier` alone: a policy session's questions, on a socket of its own, for other proxies and
//! for tests.
//!
//! Here nobody resolves metadata but the daemon that asks: what rules need is asked of it in return, and
//! its next question brings it. That question carries no id, so that it is taken only while the same
//! source was asked about on the same connection, and as often. What no daemon can be asked through its
//! question (materials, and the attestation chain, which may end it) could not be verified, and is
//! refused; submodules are left out.
//!
//! A client's static rules could still put one source in place of another behind a follow-up: whoever
//! uses this passes no `SourcePolicy` of a client on. The gate itself does not ask this way.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tonic::Status;

use super::ruling;
use crate::check::{self, Outcome, Question as Asked, Step};
use crate::gate::ops::{self, Action, Decision, Mode, PolicySet, Recorder};
use crate::gate::proxy::Listener;
use crate::gateway;
use crate::input::Env;
use crate::meta::{ASIDE, Known, MetaRequest, SourceMeta};
use crate::rpc;
use crate::session::{self, Verifier, Verifying};
use crate::source::{Platform, Source, SourceOp, mask_text};
use crate::wire::policy::{Answer, Question};
use crate::wire::proto::policysession::{CheckPolicyRequest, CheckPolicyResponse};

/// Sources with questions open at once, on one connection.
const MAX_OPEN: usize = 10_000;

/// Connections at once; who comes then is turned away.
const MAX_CONNECTIONS: usize = 256;
/// Questions at once on one connection.
const MAX_CALLS: u32 = 256;
/// How often a connection is asked whether anyone is there, and how long that may take.
const PING: Duration = Duration::from_secs(30);

/// How long to wait where the system cannot take another connection.
const BREATH: Duration = Duration::from_millis(100);

/// What is asked about: a source and its platform.
type Key = (SourceOp, Option<Platform>);

/// Answers questions by the policies of one set.
#[derive(Clone)]
pub struct Standalone {
    policies: PolicySet,
    mode: Mode,
    recorder: Arc<Recorder>,
    seats: Arc<Semaphore>,
}

impl Standalone {
    /// A verifier of these policies.
    pub fn new(policies: PolicySet, mode: Mode, recorder: Arc<Recorder>) -> Self {
        Self { policies, mode, recorder, seats: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }

    /// Serves everyone at a listener until `stop` comes; who is connected then is cut off.
    pub async fn listen(self, listener: Listener, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut connections = JoinSet::new();
        loop {
            let arrival = tokio::select! {
                () = &mut stop => break,
                Some(_) = connections.join_next(), if !connections.is_empty() => continue,
                arrival = listener.accept() => arrival,
            };
            match arrival {
                Ok(arrival) => {
                    let standalone = self.clone();
                    let Ok(seat) = Arc::clone(&self.seats).try_acquire_owned() else {
                        tracing::warn!("a client was turned away: {MAX_CONNECTIONS} are here");
                        continue;
                    };
                    connections.spawn(async move {
                        let _seat = seat;
                        match arrival.greet().await {
                            Ok((io, _client)) => standalone.serve(io).await,
                            Err(error) => tracing::warn!("a client was turned away: {error}"),
                        }
                    });
                }
                Err(error) => {
                    tracing::error!("a connection could not be taken: {error}");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
        connections.shutdown().await;
    }

    /// Serves one connection until it ends.
    pub async fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let answering: Arc<dyn Verifier> =
            Arc::new(Connection { standalone: self.clone(), open: Mutex::default() });
        let service = hyper::service::service_fn(move |request| {
            let answering = Arc::clone(&answering);
            async move { Ok::<_, std::convert::Infallible>(session::answer(answering, request).await) }
        });
        let served = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_header_list_size(rpc::MAX_HEADERS)
            .max_concurrent_streams(MAX_CALLS)
            .keep_alive_interval(PING)
            .keep_alive_timeout(PING)
            .serve_connection(TokioIo::new(io), service)
            .await;
        if let Err(error) = served {
            tracing::debug!("a connection to the verifier broke: {error}");
        }
    }
}

/// One connection, and what was asked on it in return.
struct Connection {
    standalone: Standalone,
    open: Mutex<HashMap<Key, Vec<Round>>>,
}

/// Metadata that was asked for and has not come yet.
#[derive(Clone)]
struct Round {
    began: Instant,
    request: MetaRequest,
    fetched: Vec<Vec<MetaRequest>>,
    known: Known,
}

impl Verifier for Connection {
    fn verify(self: Arc<Self>, question: CheckPolicyRequest) -> Verifying {
        Box::pin(async move { self.answer(question).await })
    }
}

impl Connection {
    async fn answer(&self, question: CheckPolicyRequest) -> Result<CheckPolicyResponse, Status> {
        let refused =
            |why: &dyn std::fmt::Display| Status::permission_denied(format!("buildgate: {why}"));
        let platform = question
            .platform
            .clone()
            .map(Platform::try_from)
            .transpose()
            .map_err(|e| refused(&e))?;
        let question = Question::try_from(question).map_err(|error| refused(&error))?;
        let key = (question.source.clone(), platform.clone());
        let mut round = if question.meta == SourceMeta::default() {
            Round {
                began: Instant::now(),
                request: MetaRequest::default(),
                fetched: Vec::new(),
                known: Known::default(),
            }
        } else {
            self.take(&key).ok_or_else(|| {
                refused(&format!("nothing was asked about {} on this connection", question.source))
            })?
        };
        round.known.insert(Vec::new(), question.meta.clone());
        let asked = Asked {
            op: question.source.clone(),
            platform: platform.unwrap_or_default(),
            env: Env::default(),
        };
        let revision = self.standalone.policies.current();
        let judged = match check::step(&revision.policies, &asked, &round.known) {
            _ if !is_written_as_read(&asked.op) => {
                Err("it is not how BuildKit writes this source".to_owned())
            }
            Ok(stepped) => match stepped.step {
                Step::Decided(outcome) => match with_bundle(&revision, &asked, *outcome) {
                    Ok(outcome) => {
                        Ok((answer_of(&asked.op, outcome), stepped.warnings, stepped.notes))
                    }
                    Err(why) => Err(why),
                },
                Step::Needs(requests) => match self.ask(&question, &key, round.clone(), requests) {
                    Ok(response) => return Ok(response),
                    Err(why) => Err(why),
                },
            },
            Err(error) => Err(mask_text(&error.to_string())),
        };
        self.written(asked, revision, round, judged).await
    }

    /// Asks the daemon for what rules need.
    fn ask(
        &self,
        question: &Question,
        key: &Key,
        round: Round,
        requests: Vec<(Vec<usize>, MetaRequest)>,
    ) -> Result<CheckPolicyResponse, String> {
        if requests.iter().any(|(path, _)| path.first() == Some(&ASIDE)) {
            return Err(
                "what signs an image, and files besides the source, cannot be asked for in a \
                        policy session, so that it could not be verified; use the gate"
                    .to_owned(),
            );
        }
        let request = match requests.as_slice() {
            [(path, request)] if path.is_empty() => request,
            _ => {
                return Err(
                    "metadata of materials cannot be asked for in a policy session".to_owned()
                );
            }
        };
        if request.image.is_some_and(|image| image.attestations) {
            return Err(
                "attestations cannot be asked for here: a daemon may end by it; use the gate"
                    .to_owned(),
            );
        }
        if round.request == *request || round.fetched.iter().flatten().any(|it| it == request) {
            return Err(
                "metadata was asked for and not returned: it could not be verified".to_owned()
            );
        }
        let response = question.ask(request.clone()).map_err(|error| error.to_string())?;
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if open.len() >= MAX_OPEN {
            return Err("too many questions are open on this connection".to_owned());
        }
        let mut round = Round { request: request.clone(), ..round };
        round.fetched.push(vec![request.clone()]);
        open.entry(key.clone()).or_default().push(round);
        Ok(response)
    }

    fn take(&self, key: &Key) -> Option<Round> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let rounds = open.get_mut(key)?;
        let round = rounds.pop();
        if rounds.is_empty() {
            open.remove(key);
        }
        round
    }

    async fn written(
        &self,
        asked: Asked,
        revision: Arc<ops::Revision>,
        round: Round,
        judged: Result<(Answer, Vec<String>, Vec<String>), String>,
    ) -> Result<CheckPolicyResponse, Status> {
        let Standalone { mode, recorder, .. } = &self.standalone;
        let (answer, warnings, notes, error) = match judged {
            Ok((answer @ Answer::Deny { .. }, warnings, notes)) => (answer, warnings, notes, None),
            Ok((answer, warnings, _)) => (answer, warnings, Vec::new(), None),
            Err(why) => {
                let message = format!("it could not be judged, and so is refused: {why}");
                (Answer::Deny { messages: vec![message] }, Vec::new(), Vec::new(), Some(why))
            }
        };
        let (action, converted, messages) = match &answer {
            Answer::Allow => (Action::Allow, None, Vec::new()),
            Answer::Convert(instead) => (Action::Convert, Some(instead.clone()), Vec::new()),
            Answer::Deny { messages } => (Action::Deny, None, messages.clone()),
        };
        let build = ops::Build {
            reference: String::new(),
            client: "verifier".to_owned(),
            revision,
            mode: *mode,
            span: tracing::Span::current(),
        };
        let decision = Decision {
            source: asked.op,
            platform: Some(asked.platform),
            action,
            converted,
            messages,
            warnings,
            notes,
            fetched: round.fetched,
            error,
            latency: round.began.elapsed(),
        };
        recorder.record(&build, &decision).await.map_err(|error| {
            Status::unavailable(format!(
                "buildgate: the decision could not be written down: {error}"
            ))
        })?;
        Ok(match (answer, mode) {
            (Answer::Deny { .. }, Mode::Audit) => Answer::Allow.into(),
            (answer, Mode::Audit | Mode::Enforce) => answer.into(),
        })
    }
}

fn is_written_as_read(op: &SourceOp) -> bool {
    Source::parse(op).is_ok_and(|source| ruling::is_canonical(op, &source))
}

/// Judges the blob that an allowed repository is read from: daemons before 0.34 do not ask about it. It is
/// refused where its bundle is, in the words of that.
fn with_bundle(
    revision: &ops::Revision,
    asked: &Asked,
    outcome: Outcome,
) -> Result<Outcome, String> {
    let op = match &outcome {
        Outcome::Allowed(_) => asked.op.bundle(),
        Outcome::Denied(_) | Outcome::Converted(_) => None,
    };
    let Some(op) = op else { return Ok(outcome) };
    let stepped =
        check::step(&revision.policies, &Asked { op, ..asked.clone() }, &Known::default());
    match stepped.map_err(|error| mask_text(&error.to_string()))?.step {
        Step::Decided(bundle) => match *bundle {
            Outcome::Allowed(_) => Ok(outcome),
            denied @ Outcome::Denied(_) => Ok(denied),
            Outcome::Converted(_) => Err("its bundle would be another one".to_owned()),
        },
        Step::Needs(_) => Err("metadata of its bundle cannot be asked for here".to_owned()),
    }
}

/// An outcome as it is answered: what rests on content goes out as a pin, which is asked about again.
fn answer_of(op: &SourceOp, outcome: Outcome) -> Answer {
    match outcome {
        Outcome::Allowed(allowed) => {
            let mut admitted = gateway::pinned(op, allowed.pin.as_ref());
            if matches!(Source::parse(op), Ok(Source::Git(_))) {
                // Nobody could be asked about them.
                admitted.attrs.insert(ruling::SKIP_SUBMODULES.to_owned(), "true".to_owned());
            }
            if admitted == *op { Answer::Allow } else { Answer::Convert(admitted) }
        }
        Outcome::Denied(denied) if denied.messages.is_empty() => Answer::Deny {
            messages: vec![format!("denied by {}, which gives no reason", denied.policy)],
        },
        Outcome::Denied(denied) => {
            Answer::Deny { messages: denied.messages.iter().map(|it| mask_text(it)).collect() }
        }
        Outcome::Converted(instead) => Answer::Convert(instead),
    }
}

#[cfg(test)]
mod tests {
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
        let standalone = Standalone::new(sets.set("all").unwrap(), Mode::Enforce, recorder);
        (dir, Connection { standalone, open: Mutex::default() })
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
                format!(
                    "{action} {}",
                    update.map(|it| format!("{:?}", it.attrs)).unwrap_or_default()
                )
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
            let messages: Vec<_> =
                decision.deny_messages.into_iter().map(|it| it.message).collect();
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
}
