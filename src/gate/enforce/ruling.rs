//! What is to be answered about one source: by the policies, by the client's own verifier, and by
//! what no policy may undo.

use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::timeout;

use super::build::{Begun, Build, Purpose, Verdict};
use super::frontends;
use super::internal::{Asked, Internal};
use super::peer::Says;
use crate::check::{self, Outcome, Question};
use crate::gate::ops::{Mode, Submodules};
use crate::gateway::{self, JudgeSubmodule};
use crate::input::Env;
use crate::meta::{MetaRequest, ResolveError, ResolveSourceMeta, Resolving};
use crate::source::{Platform, Source, SourceOp, mask_text};

const HIDES: &str = "the client's own policy puts something in place of a frontend, which would not be told \
                     as one any more (--frontends)";

/// Attributes that name a session.
const SESSIONS: [&str; 2] = ["local.session", "oci.session"];
/// Attribute of a repository that is fetched without its submodules.
pub(super) const SKIP_SUBMODULES: &str = "git.skipsubmodules";

/// How long one decision may take, with everything that is resolved for it: ours, and the client's own.
const PATIENCE: Duration = Duration::from_secs(120);

/// What is to be answered, and what it rests on.
#[derive(Debug)]
pub struct Ruling {
    /// The answer.
    pub verdict: Verdict,
    /// Warnings of the policies.
    pub warnings: Vec<String>,
    /// Why signatures that rules asked about are not verified, where the source is refused.
    pub notes: Vec<String>,
    /// What was resolved, in rounds.
    pub fetched: Vec<Vec<MetaRequest>>,
    /// Why there was no decision.
    pub error: Option<String>,
    /// What becomes of a denial in audit mode.
    pub audited: Audited,
}

/// What becomes of a denial where ours are only written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Audited {
    /// The source is loaded all the same.
    Passes,
    /// The client's own verifier puts this in its place, which is asked about.
    Redirects(SourceOp),
    /// It stands: it is not ours to undo, or protects other clients.
    Stands,
}

impl Ruling {
    fn of(verdict: Verdict) -> Self {
        Self {
            verdict,
            warnings: Vec::new(),
            notes: Vec::new(),
            fetched: Vec::new(),
            error: None,
            audited: Audited::Passes,
        }
    }

    /// Refused for a reason of our own.
    pub fn refused(why: impl Into<String>) -> Self {
        Self::of(Verdict::Deny(vec![why.into()]))
    }

    /// Refused because there is no decision.
    pub fn undecided(why: String) -> Self {
        let message = undecided(&why);
        Self { error: Some(why), ..Self::refused(message) }
    }
}

fn undecided(why: &str) -> String {
    format!("it could not be judged, and so is refused: {why}")
}

/// Decides about one source.
pub async fn rule(build: &Build, key: &(SourceOp, Platform, Purpose)) -> Ruling {
    let (op, platform, purpose) = key;
    if let Some(why) = foreign_session(build, op).await {
        return Ruling { audited: Audited::Stands, ..Ruling::refused(why) };
    }
    let ruling = if build.has_handed_out(key) {
        Ruling::of(Verdict::Allow)
    } else if let Some(why) = frontends::refused(&build.begun().settings, op) {
        Ruling::refused(why)
    } else {
        let judged = timeout(PATIENCE, by_policy(build, op, platform, *purpose)).await;
        judged.unwrap_or_else(|_| Ruling::undecided(too_long("no decision")))
    };
    match (&ruling.verdict, purpose, build.begun().facts.mode) {
        (Verdict::Allow | Verdict::Convert(_), Purpose::Source, _)
        // Auditing would pass it: nobody but us can ask the client's verifier then.
        | (Verdict::Deny(_), Purpose::Source, Mode::Audit) => {
            by_client(build, op, platform, ruling).await
        }
        (Verdict::Deny(_), Purpose::Source, Mode::Enforce)
        | (Verdict::Redirect(_), Purpose::Source, _)
        | (_, Purpose::Cache | Purpose::Submodule, _) => ruling,
    }
}

fn too_long(what: &str) -> String {
    format!("{what} within {} s", PATIENCE.as_secs())
}

/// A session that the source names and that is not the client's.
async fn foreign_session(build: &Build, op: &SourceOp) -> Option<String> {
    let Begun { claims, owner, .. } = build.begun();
    for name in SESSIONS {
        let Some(value) = op.attrs.get(name).filter(|value| !value.is_empty()) else { continue };
        if let Err(error) = claims.owns(owner, value).await {
            return Some(format!("the session that {name} names cannot be used: {error}"));
        }
    }
    None
}

/// Whether an identifier is written as the daemon reads it. What it reads another way than we do
/// (`docker-image://evil/app`, which is no image of Docker Hub there) only comes past its own
/// normalising by a client's static rules.
pub(super) fn is_canonical(op: &SourceOp, source: &Source) -> bool {
    match source {
        Source::Image(image) => image.identifier() == op.identifier,
        Source::Blob(blob) => op.identifier.starts_with(&format!("{}://", blob.scheme)),
        Source::Http(http) => op.identifier.starts_with(&format!("{}://", http.scheme)),
        Source::Git(_) => op.identifier.starts_with("git://"),
        Source::Local(_) => op.identifier.starts_with("local://"),
        Source::OciLayout(_) => op.identifier.starts_with("oci-layout://"),
    }
}

async fn by_policy(build: &Build, op: &SourceOp, platform: &Platform, purpose: Purpose) -> Ruling {
    let source = match Source::parse(op) {
        Ok(source) => source,
        Err(error) => return Ruling::undecided(error.to_string()),
    };
    if !is_canonical(op, &source) {
        return Ruling::undecided(format!(
            "{} is not how BuildKit writes this source, so that it could mean another one",
            op.masked()
        ));
    }
    let Begun { evaluator, env, .. } = build.begun();
    let env = Env { cache_import: purpose == Purpose::Cache, ..env.clone() };
    let question = Question { op: op.clone(), platform: platform.clone(), env };
    let resolver = Lazily(build);
    let checked = match check::check(&**evaluator, &question, &resolver).await {
        Ok(checked) => checked,
        Err(error) => return Ruling::undecided(mask_text(&error.to_string())),
    };
    let fetched = checked.fetched.rounds().to_vec();
    let verdict = match checked.outcome {
        Outcome::Allowed(allowed) => {
            let admitted = gateway::pinned(&checked.op, allowed.pin.as_ref());
            match without_surprises(build, admitted, platform, purpose).await {
                Ok(admitted) if admitted == *op => Verdict::Allow,
                Ok(admitted) => Verdict::Convert(admitted),
                Err(why) => Verdict::Deny(vec![why]),
            }
        }
        Outcome::Denied(denied) => {
            let mut messages: Vec<String> =
                denied.messages.iter().map(|message| mask_text(message)).collect();
            if messages.is_empty() {
                messages.push(format!("denied by {}, which gives no reason", denied.policy));
            }
            Verdict::Deny(messages)
        }
        Outcome::Converted(_) => {
            Verdict::Deny(vec!["what it is converted into was not judged".to_owned()])
        }
    };
    let notes = match &verdict {
        Verdict::Deny(_) => checked.notes,
        Verdict::Allow | Verdict::Convert(_) | Verdict::Redirect(_) => Vec::new(),
    };
    Ruling { warnings: checked.warnings, notes, fetched, ..Ruling::of(verdict) }
}

/// What the daemon would fetch along with a repository, and ask nobody about.
async fn without_surprises(
    build: &Build,
    mut op: SourceOp,
    platform: &Platform,
    purpose: Purpose,
) -> Result<SourceOp, String> {
    let skips = op.attrs.get(SKIP_SUBMODULES).is_some_and(|value| value == "true");
    let is_git = matches!(Source::parse(&op), Ok(Source::Git(_)));
    if !is_git || skips || purpose == Purpose::Submodule {
        return Ok(op);
    }
    let mode = build.begun().settings.submodules;
    if mode == Submodules::Skip {
        op.attrs.insert(SKIP_SUBMODULES.to_owned(), "true".to_owned());
        return Ok(op);
    }
    let internal = build.internal().await.map_err(|error| error.to_string())?;
    let asked = internal.ask_for(&op).map_err(|error| error.to_string())?;
    match mode {
        Submodules::Skip => Ok(op),
        Submodules::Deny => gateway::without(internal.gateway(), op).await,
        Submodules::Judge => {
            let asked = Mutex::new(vec![asked]);
            let judge = Each { build, internal: &internal, platform, asked };
            gateway::judged(internal.gateway(), op, &judge).await
        }
    }
}

/// Judges the submodules of one repository.
struct Each<'b> {
    build: &'b Build,
    internal: &'b Internal,
    platform: &'b Platform,
    /// What may be looked into, for submodules of theirs.
    asked: Mutex<Vec<Asked>>,
}

impl JudgeSubmodule for Each<'_> {
    fn judge<'a>(
        &'a self,
        op: &'a SourceOp,
    ) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        Box::pin(async move {
            let platform = Some(self.platform.clone());
            // Boxed: a build that judges a source that judges its submodules by the build.
            let judged: Pin<Box<dyn Future<Output = Verdict> + Send>> =
                Box::pin(self.build.judge(op, platform, Purpose::Submodule));
            match judged.await {
                Verdict::Allow => {
                    let asked = self.internal.ask_for(op).map_err(|error| error.to_string())?;
                    self.asked.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
                    Ok(())
                }
                Verdict::Deny(messages) => Err(messages.join("; ")),
                // BuildKit fetches what the repository says, whatever we would put in its place.
                Verdict::Convert(_) | Verdict::Redirect(_) => {
                    Err("a policy puts another source in its place, which a submodule cannot have"
                        .to_owned())
                }
            }
        })
    }
}

/// Asks the client's own verifier about what would be loaded. Its word is its own: auditing ours
/// does not change it.
async fn by_client(build: &Build, op: &SourceOp, platform: &Platform, ruling: Ruling) -> Ruling {
    let Some(peer) = &build.begun().peer else { return ruling };
    let asked = async {
        let internal = build.internal().await.map_err(|error| error.to_string())?;
        peer.ask(&internal, op, platform).await.map_err(|error| error.to_string())
    };
    let says = timeout(PATIENCE, asked).await.unwrap_or_else(|_| {
        Err(too_long("the client's own policy session has come to no decision"))
    });
    match says {
        Ok(Says::Allow) => ruling,
        Ok(Says::Deny(messages)) => by_theirs(ruling, messages, None),
        Ok(Says::Convert(instead)) if instead == *op => ruling,
        Ok(Says::Convert(instead)) if frontends::hides(&build.begun().settings, op, &instead) => {
            by_theirs(ruling, vec![HIDES.to_owned()], None)
        }
        // Judged when the daemon asks about it.
        Ok(Says::Convert(instead)) => match ruling.verdict {
            Verdict::Deny(_) => Ruling { audited: Audited::Redirects(instead), ..ruling },
            Verdict::Allow | Verdict::Convert(_) | Verdict::Redirect(_) => {
                Ruling { verdict: Verdict::Redirect(instead), ..ruling }
            }
        },
        Err(why) => by_theirs(ruling, vec![undecided(&why)], Some(why)),
    }
}

/// Refused by the client's own verifier, or for want of its word. What we would have said, where we
/// only audit, stays in the log.
fn by_theirs(ruling: Ruling, messages: Vec<String>, why: Option<String>) -> Ruling {
    let Ruling { verdict, mut warnings, notes, fetched, error, .. } = ruling;
    if let Verdict::Deny(ours) = verdict {
        warnings.extend(ours.iter().map(|message| format!("would be denied: {message}")));
    }
    let error = why.or(error);
    let verdict = Verdict::Deny(messages);
    Ruling { verdict, warnings, notes, fetched, error, audited: Audited::Stands }
}

/// Metadata by the build of our own, opened when a rule needs the first of it. What signs an image
/// no daemon tells: a registry client of our own looks for it.
struct Lazily<'b>(&'b Build);

impl ResolveSourceMeta for Lazily<'_> {
    fn resolve<'a>(&'a self, request: &'a MetaRequest) -> Resolving<'a> {
        Box::pin(async move {
            let what = || request.source.masked();
            if request.signatures.is_some() {
                let admitted = self.0.begun().settings.signing.admits(&request.source);
                admitted.map_err(|why| ResolveError::Unsupported { what: what(), why })?;
                let registry = self.0.registry().await.map_err(|error| ResolveError::Failed {
                    what: what(),
                    source: Box::new(error),
                })?;
                return registry.resolve(request).await;
            }
            let internal = self.0.internal().await;
            let internal: std::sync::Arc<Internal> = internal
                .map_err(|error| ResolveError::Failed { what: what(), source: Box::new(error) })?;
            internal.resolve(request).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_daemon_reads_another_way_is_not_canonical() {
        let digest = format!("sha256:{}", "a".repeat(64));
        for (identifier, wanted) in [
            ("docker-image://docker.io/library/alpine:3", true),
            (&format!("docker-image://docker.io/library/alpine:3@{digest}"), true),
            ("docker-image://alpine:3", false),
            ("docker-image://evil/app:1", false),
            ("docker-image://index.docker.io/library/alpine:3", false),
            ("Docker-Image://docker.io/library/alpine:3", false),
            ("https://example.com/a", true),
            ("HTTPS://example.com/a", false),
            ("git://example.com/a.git#main", true),
            ("GIT://example.com/a.git", false),
            ("local://context", true),
            ("LOCAL://context", false),
        ] {
            let op = SourceOp::new(identifier);
            let source = Source::parse(&op).unwrap();
            assert_eq!(is_canonical(&op, &source), wanted, "{identifier}");
        }
    }
}
