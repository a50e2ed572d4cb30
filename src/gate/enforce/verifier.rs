//! `PolicyVerifier` alone: a policy session's questions, on a socket of its own, for other proxies and
//! for tests.
//!
//! Here nobody resolves metadata but the daemon that asks: what rules need is asked of it in return, and
//! its next question brings it. That question carries no id, so that it is taken only while the same
//! source was asked about on the same connection, and as often; of several, what it brings tells which one
//! it goes on with (`open`). What no daemon can be asked through its question (materials, and the
//! attestation chain, which may end it) could not be verified, and is refused; submodules are left out.
//!
//! A client's static rules could still put one source in place of another behind a follow-up: whoever
//! uses this passes no `SourcePolicy` of a client on. The gate itself does not ask this way.

mod open;

use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tonic::Status;

use self::open::{Key, Open, Round};
use super::ruling;
use super::turns::{Evaluator, Turns};
use crate::check::{Evaluate, Outcome, Question as Asked, Step};
use crate::gate::ops::{self, Action, Decision, Mode, PolicySet, Recorder};
use crate::gate::proxy::{Arrival, Listener};
use crate::gateway;
use crate::input::Env;
use crate::meta::{ASIDE, Known, MetaRequest, SourceMeta};
use crate::rpc;
use crate::session::{self, Verifier, Verifying};
use crate::source::{Platform, Source, SourceOp, mask_text};
use crate::wire::policy::{Answer, Question};
use crate::wire::proto::policysession::{CheckPolicyRequest, CheckPolicyResponse};

/// Connections at once; who comes then is turned away.
const MAX_CONNECTIONS: usize = 256;
/// Questions at once on one connection.
const MAX_CALLS: u32 = 256;
/// How often a connection is asked whether anyone is there, and how long that may take.
const PING: Duration = Duration::from_secs(30);

/// Answers questions by the policies of one set.
#[derive(Clone)]
pub struct Standalone {
    policies: PolicySet,
    mode: Mode,
    recorder: Arc<Recorder>,
    turns: Turns,
    seats: Arc<Semaphore>,
}

impl Standalone {
    /// A verifier of these policies, which takes its turns among these.
    pub(super) fn new(
        policies: PolicySet,
        mode: Mode,
        recorder: Arc<Recorder>,
        turns: Turns,
    ) -> Self {
        let seats = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        Self { policies, mode, recorder, turns, seats }
    }

    /// Serves everyone at a listener until `stop` comes; who is connected then is cut off.
    pub async fn listen(self, listener: Listener, stop: impl Future<Output = ()>) {
        let serve = |arrival: Arrival| {
            let (standalone, seat) = (self.clone(), Arc::clone(&self.seats).try_acquire_owned());
            async move {
                let Ok(_seat) = seat else {
                    tracing::warn!("a client was turned away: {MAX_CONNECTIONS} are here");
                    return;
                };
                match arrival.greet().await {
                    Ok((io, _client)) => standalone.serve(io).await,
                    Err(error) => tracing::warn!("a client was turned away: {error}"),
                }
            }
        };
        let mut connections = listener.each(stop, serve).await;
        connections.shutdown().await;
    }

    /// Serves one connection until it ends.
    pub async fn serve(&self, io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) {
        let answering: Arc<dyn Verifier> = Arc::new(Connection::new(self.clone()));
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
    /// Where its questions take their turns, as those of one build do.
    turns: Evaluator,
    open: Open,
}

impl Verifier for Connection {
    fn verify(self: Arc<Self>, question: CheckPolicyRequest) -> Verifying {
        Box::pin(async move { self.answer(question).await })
    }
}

impl Connection {
    fn new(standalone: Standalone) -> Self {
        let turns = standalone.turns.of_build(Arc::from([]));
        Self { standalone, turns, open: Open::default() }
    }

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
            Round::first()
        } else {
            self.open.take(&key, &question.meta).ok_or_else(|| {
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
        let policies = self.turns.by(Arc::clone(&revision.policies));
        let judged = match policies.step(&asked, &round.known).await {
            _ if !is_written_as_read(&asked.op) => {
                Err("it is not how BuildKit writes this source".to_owned())
            }
            Ok(stepped) => match stepped.step {
                Step::Decided(outcome) => match with_bundle(&policies, &asked, *outcome).await {
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
        let mut round = Round { request: request.clone(), ..round };
        round.fetched.push(vec![request.clone()]);
        self.open.put(key.clone(), round);
        Ok(response)
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
async fn with_bundle(
    policies: &Evaluator,
    asked: &Asked,
    outcome: Outcome,
) -> Result<Outcome, String> {
    let op = match &outcome {
        Outcome::Allowed(_) => asked.op.bundle(),
        Outcome::Denied(_) | Outcome::Converted(_) => None,
    };
    let Some(op) = op else { return Ok(outcome) };
    let asked = Asked { op, ..asked.clone() };
    let stepped = policies.step(&asked, &Known::default()).await;
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
mod tests;
