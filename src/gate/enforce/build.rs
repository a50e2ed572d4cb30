//! One build of a client: its questions, each decided once, written down, and answered.
//!
//! A daemon asks about a source before it loads it. We resolve what rules need by a build of our own
//! ([`Internal`]), never through the question: its follow-up carries no id, and could be about another
//! source than the one that is loaded. So a question that brings metadata is one that we never asked
//! for, and is refused.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;
use tonic::Status;

use super::claims::{Claims, Owner};
use super::daemon::Daemon;
use super::definitions;
use super::internal::{Internal, InternalError};
use super::peer::Peer;
use super::progress::Progress;
use super::ruling::{self, Audited, Ruling};
use super::turns::Evaluator;
use crate::check::{CheckError, Evaluate};
use crate::gate::ops::{self, Action, Decision, ErrorKind, Mode, Recorder, Settings};
use crate::input::Env;
use crate::meta::SourceMeta;
use crate::policy::Caps;
use crate::resolve::{self, Network};
use crate::rpc::Channel;
use crate::session::{Verifier, Verifying};
use crate::source::{Platform, SourceOp, mask_text};
use crate::wire::policy::{Answer, Question};
use crate::wire::proto::policysession::CheckPolicyRequest;

/// Most sources of one build that are decided about: what a client names costs memory and a line of the log.
const MAX_SOURCES: usize = 10_000;
/// Most bytes of what they are called.
const MAX_NAMES: usize = 16 << 20;

/// What is said where judging ends in a panic. (The panic itself is in the gate's own log.)
const BROKE_OFF: &str = "judging broke off by a fault of buildgate's own, which its log tells";

/// What is said where the words of a build's decisions are too many to be kept.
const TOO_MUCH: &str = "the decisions of one build say more than buildgate keeps; its log has them";

/// What stands for a source that a question does not name.
const UNNAMED: &str = "no source";

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

/// Who evaluates a build's policies.
pub trait Judging: Evaluate + Send {
    /// What they ask of the build as a whole.
    fn caps<'a>(&'a self, env: &'a Env) -> BoxFuture<'a, Result<Caps, CheckError>>;
}

impl Judging for Evaluator {
    fn caps<'a>(&'a self, env: &'a Env) -> BoxFuture<'a, Result<Caps, CheckError>> {
        Box::pin(self.caps(env))
    }
}

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
    /// Who evaluates its policies.
    pub evaluator: Box<dyn Judging>,
    /// The client's own verifier.
    pub peer: Option<Peer>,
    /// Whether the client's static rules may put sources in place of others.
    pub converts: bool,
}

/// The decisions about sources.
#[derive(Default)]
struct Decided {
    of: HashMap<Key, Arc<OnceCell<Verdict>>>,
    /// Bytes of what they are called.
    names: usize,
}

/// A build under way.
pub struct Build {
    begun: Begun,
    internal: tokio::sync::Mutex<Option<Arc<Internal>>>,
    registry: OnceCell<Arc<Network>>,
    decided: Mutex<Decided>,
    /// What we put in place of sources: decided already.
    handed_out: Mutex<HashSet<Key>>,
    progress: Arc<Progress>,
    /// What is answered about sources beyond [`MAX_SOURCES`], written down once.
    beyond: OnceCell<Verdict>,
    /// By what its commands are told from those of other builds, where their HTTP is judged.
    commands: OnceCell<Option<String>>,
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
            progress: Arc::default(),
            beyond: OnceCell::new(),
            commands: OnceCell::new(),
        }
    }

    /// What it began with.
    pub fn begun(&self) -> &Begun {
        &self.begun
    }

    /// What people see of its decisions.
    pub fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Whether the policies want HTTP of its commands judged: then the name by which these are told from all
    /// others.
    ///
    /// # Errors
    /// When that is not decided, or the daemon cannot do it.
    pub async fn commands(&self) -> Result<Option<&str>, Status> {
        let refused = |why: String| Status::failed_precondition(format!("buildgate: {why}"));
        let Begun { evaluator, env, daemon, .. } = &self.begun;
        let name = async || {
            let undecided = |why: &dyn std::fmt::Display| {
                refused(format!("what the policies ask of the build could not be decided: {why}"))
            };
            let caps = AssertUnwindSafe(evaluator.caps(env)).catch_unwind().await;
            let caps =
                caps.map_err(|_| undecided(&BROKE_OFF))?.map_err(|error| undecided(&error))?;
            if caps.exec_proxy != Some(true) {
                return Ok(None);
            }
            daemon.proxies().map_err(|error| refused(error.to_string()))?;
            definitions::name().map(Some).map_err(|error| Status::internal(error.to_string()))
        };
        Ok(self.commands.get_or_try_init(name).await?.as_deref())
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

    /// A registry client of our own, with the credentials of whoever runs the gate, for registries that
    /// are listed. It remembers what it was told, and so is one build's.
    ///
    /// # Errors
    /// When it cannot be set up.
    pub async fn registry(&self) -> Result<&Arc<Network>, resolve::SetupError> {
        let options = self.begun.settings.signing.options();
        let network = || async { Network::new(options).map(Arc::new) };
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
        match self.cell(&key) {
            Some(cell) => cell.get_or_init(|| self.decide(key)).await.clone(),
            None => {
                let why = format!(
                    "one build has more than {MAX_SOURCES} sources, or {MAX_NAMES} bytes of their names"
                );
                let beyond = self.beyond.get_or_init(|| self.refuse(op, why, Audited::Stands));
                beyond.await.clone()
            }
        }
    }

    /// Where the decision about a source is; `None` where there are too many.
    fn cell(&self, key: &Key) -> Option<Arc<OnceCell<Verdict>>> {
        let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = decided.of.get(key) {
            return Some(Arc::clone(cell));
        }
        let (op, ..) = key;
        let names = decided.names.saturating_add(op.size());
        if decided.of.len() >= MAX_SOURCES || names > MAX_NAMES {
            return None;
        }
        decided.names = names;
        Some(Arc::clone(decided.of.entry(key.clone()).or_default()))
    }

    /// Counts what a decision says, which is kept as the names are; whether there is room for it.
    fn keeps(&self, verdict: &Verdict) -> bool {
        let said = match verdict {
            Verdict::Allow => 0,
            Verdict::Deny(messages) => messages.iter().map(String::len).sum(),
            Verdict::Convert(op) | Verdict::Redirect(op) => op.size(),
        };
        let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        decided.names = decided.names.saturating_add(said);
        decided.names <= MAX_NAMES || said <= TOO_MUCH.len()
    }

    /// Refuses something of it for a reason of our own, written down as any decision is; gives what is
    /// answered.
    pub async fn refuse(&self, op: &SourceOp, why: String, audited: Audited) -> Verdict {
        let ruling = Ruling { audited, ..Ruling::refused(why) };
        self.written(op, &self.begun.daemon.platform, ruling, Instant::now()).await
    }

    /// Whether a source is one that we put in place of another.
    pub fn has_handed_out(&self, key: &Key) -> bool {
        self.handed_out.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    async fn decide(&self, key: Key) -> Verdict {
        let began = Instant::now();
        // Nothing is half done by it that anyone would go on with: it is refused, once and for all.
        let ruling = AssertUnwindSafe(ruling::rule(self, &key)).catch_unwind().await;
        let ruling = ruling.unwrap_or_else(|_| Ruling::undecided(BROKE_OFF.to_owned()));
        let (op, platform, purpose) = key;
        let verdict = self.written(&op, &platform, ruling, began).await;
        if !self.keeps(&verdict) {
            return Verdict::Deny(vec![TOO_MUCH.to_owned()]);
        }
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
        let Ruling { verdict, warnings, notes, fetched, error, audited } = ruling;
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
        match (verdict, facts.mode, audited) {
            (Verdict::Deny(_), Mode::Audit, Audited::Passes) => Verdict::Allow,
            (Verdict::Deny(_), Mode::Audit, Audited::Redirects(instead)) => {
                Verdict::Redirect(instead)
            }
            (verdict, Mode::Audit, Audited::Stands | Audited::Passes | Audited::Redirects(_))
            | (verdict, Mode::Enforce, _) => verdict,
        }
    }

    /// Refuses a question that no daemon of ours asks.
    async fn unanswered(&self, op: &SourceOp, why: String) -> Status {
        self.begun.recorder.metrics().error(ErrorKind::Refused);
        let status = Status::permission_denied(format!("buildgate: {why}"));
        // Refused, whether it could be written down or not.
        match self.refuse(op, why, Audited::Stands).await {
            Verdict::Allow | Verdict::Convert(_) | Verdict::Redirect(_) | Verdict::Deny(_) => {
                status
            }
        }
    }

    async fn answer(&self, question: CheckPolicyRequest) -> Result<Answer, Status> {
        let named = question.source.as_ref().and_then(|told| told.source.clone());
        let named = named.map_or_else(|| SourceOp::new(UNNAMED), SourceOp::from);
        // The strict reading: a version of the operating system could not be asked for.
        let platform = question.platform.clone().map(Platform::try_from).transpose();
        let platform = match platform {
            Ok(platform) => platform,
            Err(error) => return Err(self.unanswered(&named, error.to_string()).await),
        };
        let question = match Question::try_from(question) {
            Ok(question) => question,
            Err(error) => return Err(self.unanswered(&named, error.to_string()).await),
        };
        if question.meta != SourceMeta::default() {
            let why = format!("the question about {named} brings metadata that was not asked for");
            return Err(self.unanswered(&named, why).await);
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

#[cfg(test)]
pub(super) mod tests;
