//! One build of a client: its questions, each decided once, written down, and answered.
//!
//! A daemon asks about a source before it loads it. We resolve what rules need by a build of our own
//! ([`Internal`]), never through the question: its follow-up carries no id, and could be about another
//! source than the one that is loaded. So a question that brings metadata is one that we never asked
//! for, and is refused.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;
use tonic::Status;

use super::claims::{Claims, Owner};
use super::daemon::Daemon;
use super::internal::{Internal, InternalError};
use super::peer::Peer;
use super::progress::Progress;
use super::ruling::{self, Ruling};
use super::turns::Evaluator;
use crate::gate::ops::{self, Action, Decision, ErrorKind, Mode, Recorder, Settings};
use crate::input::Env;
use crate::meta::SourceMeta;
use crate::resolve::{self, Network, Options};
use crate::rpc::Channel;
use crate::session::{Verifier, Verifying};
use crate::source::{Platform, SourceOp, mask_text};
use crate::wire::policy::{Answer, Question};
use crate::wire::proto::policysession::CheckPolicyRequest;

/// How long one decision may take, with everything that is resolved for it.
const PATIENCE: Duration = Duration::from_secs(120);
/// Most sources of one build that are decided about: what a client names costs memory and a line of the log.
const MAX_SOURCES: usize = 10_000;

/// What a source is loaded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Content of the build.
    Source,
    /// A cache that steps are taken from.
    Cache,
    /// A submodule, which the daemon fetches from where its repository says.
    Submodule,
}

/// What is answered about a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Load it.
    Allow,
    /// Load this instead, which the policies have decided about.
    Convert(SourceOp),
    /// Look at this instead, which nobody has decided about.
    Redirect(SourceOp),
    /// Do not, for these reasons.
    Deny(Vec<String>),
}

type Key = (SourceOp, Platform, Purpose);

/// What a build begins with.
pub struct Begun {
    /// What its decisions have in common.
    pub facts: ops::Build,
    /// Whose it is.
    pub owner: Owner,
    /// The build as rules see it.
    pub env: Env,
    /// The client's session, `""` for none.
    pub session: String,
    /// How its client's builds are judged.
    pub settings: Arc<Settings>,
    /// Where decisions are written down.
    pub recorder: Arc<Recorder>,
    /// Whose sessions are whose.
    pub claims: Claims,
    /// The daemon it runs on.
    pub channel: Channel,
    /// What that daemon can do.
    pub daemon: Arc<Daemon>,
    /// Where its policies are evaluated.
    pub evaluator: Evaluator,
    /// The client's own verifier.
    pub peer: Option<Peer>,
    /// Whether the client's static rules may put sources in place of others.
    pub converts: bool,
}

/// A build under way.
pub struct Build {
    begun: Begun,
    internal: tokio::sync::Mutex<Option<Arc<Internal>>>,
    registry: OnceCell<Arc<Network>>,
    decided: Mutex<HashMap<Key, Arc<OnceCell<Verdict>>>>,
    /// What we put in place of sources: decided already.
    handed_out: Mutex<HashSet<Key>>,
    progress: Progress,
}

impl Build {
    /// A build that nothing was asked about yet.
    pub fn new(begun: Begun) -> Self {
        Self {
            begun,
            internal: tokio::sync::Mutex::default(),
            registry: OnceCell::new(),
            decided: Mutex::default(),
            handed_out: Mutex::default(),
            progress: Progress::default(),
        }
    }

    /// Whether it is this client's.
    pub fn is_of(&self, owner: &Owner) -> bool {
        self.begun.owner == *owner
    }

    /// What it began with.
    pub fn begun(&self) -> &Begun {
        &self.begun
    }

    /// What people see of its decisions.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// The build of our own beside it, opened when it is first needed and again when it is gone.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub async fn internal(&self) -> Result<Arc<Internal>, InternalError> {
        let mut internal = self.internal.lock().await;
        match internal.as_ref().filter(|internal| !internal.is_gone()) {
            Some(internal) => Ok(Arc::clone(internal)),
            None => {
                let Begun { channel, claims, session, .. } = &self.begun;
                let opened = Arc::new(Internal::open(channel, claims, session).await?);
                *internal = Some(Arc::clone(&opened));
                Ok(opened)
            }
        }
    }

    /// A registry client of our own, with the credentials of whoever runs the gate. It remembers what
    /// it was told, and so is one build's.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub async fn registry(&self) -> Result<&Arc<Network>, resolve::SetupError> {
        let network = || async { Network::new(Options::default()).map(Arc::new) };
        self.registry.get_or_try_init(network).await
    }

    /// Decides about a source, once for each platform and purpose.
    pub async fn judge(
        &self,
        op: &SourceOp,
        platform: Option<Platform>,
        purpose: Purpose,
    ) -> Verdict {
        let platform = platform.unwrap_or_else(|| self.begun.daemon.platform.clone());
        let key = (op.clone(), platform, purpose);
        let cell = {
            let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
            if decided.len() >= MAX_SOURCES && !decided.contains_key(&key) {
                let why = format!("one build has more than {MAX_SOURCES} sources");
                return Verdict::Deny(vec![why]);
            }
            Arc::clone(decided.entry(key.clone()).or_default())
        };
        cell.get_or_init(|| self.decide(key)).await.clone()
    }

    /// Whether a source is one that we put in place of another.
    pub fn has_handed_out(&self, key: &Key) -> bool {
        self.handed_out.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    async fn decide(&self, key: Key) -> Verdict {
        let began = Instant::now();
        let ruling = tokio::time::timeout(PATIENCE, ruling::rule(self, &key)).await;
        let ruling = ruling.unwrap_or_else(|_| {
            Ruling::undecided(format!("no decision within {} s", PATIENCE.as_secs()))
        });
        let (op, platform, purpose) = key;
        let verdict = self.written(&op, &platform, ruling, began).await;
        if let Verdict::Convert(instead) = &verdict {
            let mut handed_out = self.handed_out.lock().unwrap_or_else(PoisonError::into_inner);
            handed_out.insert((instead.clone(), platform, purpose));
        }
        verdict
    }

    /// Writes a ruling down, and makes of it what is answered.
    async fn written(
        &self,
        op: &SourceOp,
        platform: &Platform,
        ruling: Ruling,
        began: Instant,
    ) -> Verdict {
        let Ruling { verdict, warnings, notes, fetched, error, closed } = ruling;
        let (action, converted, messages) = match &verdict {
            Verdict::Allow => (Action::Allow, None, Vec::new()),
            Verdict::Convert(instead) | Verdict::Redirect(instead) => {
                (Action::Convert, Some(instead.clone()), Vec::new())
            }
            Verdict::Deny(messages) => (Action::Deny, None, messages.clone()),
        };
        let Begun { facts, recorder, .. } = &self.begun;
        if error.is_some() {
            recorder.metrics().error(ErrorKind::Undecided);
        }
        self.progress.say(line(facts.mode, action, op, converted.as_ref(), &messages));
        for warning in &warnings {
            self.progress.say(format!("warning: {}", mask_text(warning)));
        }
        for note in &notes {
            self.progress.say(format!("note: {}", mask_text(note)));
        }
        let decision = Decision {
            source: op.clone(),
            platform: Some(platform.clone()),
            action,
            converted,
            messages,
            warnings,
            notes,
            fetched,
            error,
            latency: began.elapsed(),
        };
        if let Err(error) = recorder.record(facts, &decision).await {
            return Verdict::Deny(vec![format!(
                "it is refused because its decision could not be written down: {error}"
            )]);
        }
        match (verdict, facts.mode) {
            (Verdict::Deny(_), Mode::Audit) if !closed => Verdict::Allow,
            (verdict, Mode::Audit | Mode::Enforce) => verdict,
        }
    }

    async fn answer(&self, question: CheckPolicyRequest) -> Result<Answer, Status> {
        let invalid = |error: &dyn std::error::Error| {
            Status::permission_denied(format!("buildgate: {error}"))
        };
        // The strict reading: a version of the operating system could not be asked for.
        let platform = question
            .platform
            .clone()
            .map(Platform::try_from)
            .transpose()
            .map_err(|e| invalid(&e))?;
        let question = Question::try_from(question).map_err(|error| invalid(&error))?;
        if question.meta != SourceMeta::default() {
            self.begun.recorder.metrics().error(ErrorKind::Refused);
            return Err(Status::permission_denied(format!(
                "buildgate: the question about {} brings metadata that was not asked for",
                question.source
            )));
        }
        Ok(match self.judge(&question.source, platform, Purpose::Source).await {
            Verdict::Allow => Answer::Allow,
            Verdict::Convert(instead) | Verdict::Redirect(instead) => Answer::Convert(instead),
            Verdict::Deny(messages) => Answer::Deny { messages },
        })
    }
}

/// A decision in one line, for people.
fn line(
    mode: Mode,
    action: Action,
    op: &SourceOp,
    converted: Option<&SourceOp>,
    messages: &[String],
) -> String {
    let word = match (action, mode) {
        (Action::Deny, Mode::Audit) => "would deny",
        (action, Mode::Audit | Mode::Enforce) => action.name(),
    };
    let mut line = format!("{word} {}", op.masked());
    if let Some(converted) = converted {
        line.push_str(&format!(" -> {}", converted.masked()));
        for (name, value) in converted.attrs.iter().filter(|(name, _)| name.ends_with(".checksum"))
        {
            line.push_str(&format!(" {name}={value}"));
        }
    }
    if !messages.is_empty() {
        line.push_str(&format!(": {}", messages.join("; ")));
    }
    line
}

impl Verifier for Build {
    fn verify(self: Arc<Self>, question: CheckPolicyRequest) -> Verifying {
        Box::pin(async move { Ok(self.answer(question).await?.into()) })
    }
}
