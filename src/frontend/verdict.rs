//! The decisions of one build: each source judged once for each platform, and the answer to a
//! refusal as the daemon itself would give it.

mod lines;
mod submodules;
mod words;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use self::submodules::Submodules;
use self::words::{could_not, fetched, shown};
use super::options::BuildOptions;
use super::policies::{Loader, Policies, Unready};
use super::progress::Progress;
use crate::check::{self, CheckError, Checked, Outcome, Question, reasons};
use crate::gateway::{self, Gateway};
use crate::input::Env;
use crate::policy::Policy;
use crate::source::{Platform, Source, SourceOp};
use crate::wire::proto::errdefs;
use crate::wire::status::{self, Denied};

/// What a source is loaded as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Content of the build.
    Source,
    /// A cache that steps are taken from.
    Cache,
}

/// A source that is refused, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The source as it was asked for.
    pub identifier: String,
    /// For people: the policy's own words, or ours.
    pub messages: Vec<String>,
}

impl Refusal {
    /// A refusal of our own.
    pub fn new(identifier: &str, message: impl Into<String>) -> Self {
        Self { identifier: identifier.to_owned(), messages: vec![message.into()] }
    }

    /// The answer that clients print, with these lines, to a call in which the daemon itself denies nothing.
    pub fn status(&self, lines: &[errdefs::Source]) -> tonic::Status {
        status::denial(&self.identifier, &self.messages, lines)
    }

    /// The same to a call in which the daemon would have denied the source.
    pub fn status_in(&self, call: Denied, lines: &[errdefs::Source]) -> tonic::Status {
        status::denial_in(call, &self.identifier, &self.messages, lines)
    }
}

type Verdict = Result<SourceOp, Refusal>;
type Key = (SourceOp, Platform, Purpose);

/// What of a source is asked about, beside where it is.
#[derive(Clone, Debug)]
pub struct Asked<'a> {
    /// The source.
    pub op: &'a SourceOp,
    /// The platform it is loaded for; `None` means the daemon's default.
    pub platform: Option<Platform>,
    /// What it is loaded as.
    pub purpose: Purpose,
    /// Its lines, where they are known.
    pub lines: &'a [errdefs::Source],
}

/// Decides for one build.
pub struct Gatekeeper {
    gateway: Gateway,
    options: BuildOptions,
    baked: PathBuf,
    progress: Progress,
    policies: OnceCell<Result<Policies, Unready>>,
    decided: Mutex<HashMap<Key, Arc<OnceCell<Verdict>>>>,
}

impl Gatekeeper {
    /// A gatekeeper that has decided nothing yet; policies are read when they are first needed.
    pub fn new(gateway: Gateway, options: BuildOptions, baked: PathBuf) -> Self {
        let progress = Progress::new(gateway.clone());
        let (policies, decided) = (OnceCell::new(), Mutex::default());
        Self { gateway, options, baked, progress, policies, decided }
    }

    /// Reads the policies before anything is asked for. Why they cannot be had is told by whatever is
    /// judged.
    pub async fn prepare(&self) {
        if let Err(Unready { error, .. }) = self.policies().await {
            tracing::info!("no policies: {error}");
        }
    }

    /// Judges a source; what it gives is what the daemon may be asked for, pinned to the content
    /// that was judged.
    ///
    /// A source is judged once, for each platform. What it was admitted as is admitted.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn judge(&self, asked: Asked<'_>) -> Verdict {
        let platform = asked.platform.clone().unwrap_or_else(|| self.options.platform.clone());
        let told = essence(asked.op);
        let cell = self.cell((told.clone(), platform.clone(), asked.purpose));
        // What a daemon has fetched for its answer it takes again, if it is asked for in the same manner.
        let whole = match Source::parse(asked.op) {
            Ok(Source::Image(_)) => &told,
            Ok(_) | Err(_) => asked.op,
        };
        let decide = async {
            let verdict = Box::pin(self.decide(whole, &platform, &asked)).await;
            verdict.map(|admitted| essence(&admitted))
        };
        let admitted = cell.get_or_init(|| decide).await.clone()?;
        if admitted != told {
            self.admit(&admitted, platform, asked.purpose);
        }
        Ok(with_essence(asked.op, &told, admitted))
    }

    /// Notes that a source needs no judging: it is one that was admitted, by its digest.
    pub fn admit(&self, op: &SourceOp, platform: Platform, purpose: Purpose) {
        let told = essence(op);
        let cell = self.cell((told.clone(), platform, purpose));
        // What was decided about it before, stands.
        drop(cell.set(Ok(told)));
    }

    /// The platform of sources that name none.
    pub fn platform(&self) -> &Platform {
        &self.options.platform
    }

    /// Waits until people have been told of all that was decided.
    pub async fn finish(&self) {
        self.progress.finish().await;
    }

    fn cell(&self, key: Key) -> Arc<OnceCell<Verdict>> {
        let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(decided.entry(key).or_default())
    }

    async fn decide(&self, op: &SourceOp, platform: &Platform, asked: &Asked<'_>) -> Verdict {
        let policies = match self.policies().await {
            Ok(policies) => policies,
            Err(unready) => return Err(Refusal::new(&op.masked(), unready.error.to_string())),
        };
        let env = Env { cache_import: asked.purpose == Purpose::Cache, ..self.options.env() };
        let op = policies.as_read(op);
        let question = Question { op: op.clone(), platform: platform.clone(), env };
        let checked = check::check(&policies.policies, &question, &self.gateway).await;
        let told = checked.as_ref().ok().map(|checked| self.account(policies, checked, &question));
        let verdict = match conclude(&policies.policies, &op, checked) {
            Ok(admitted) => {
                let judge = Submodules { keeper: self, policies };
                gateway::judged(&self.gateway, admitted, &judge)
                    .await
                    .map_err(|why| Refusal::new(&op.masked(), why))
            }
            Err(refusal) => Err(refusal),
        };
        let (why, warnings) = told.unwrap_or_default();
        let place = match platform == self.platform() {
            true => String::new(),
            false => format!(" ({platform})"),
        };
        let cache = if asked.purpose == Purpose::Cache { " as a cache" } else { "" };
        match &verdict {
            Ok(admitted) => {
                let pinned = match *admitted == op {
                    true => String::new(),
                    false => format!(" as {}", shown(&op, admitted)),
                };
                tracing::info!(source = %op, "allowed");
                let lines = match (warnings.is_empty(), asked.lines) {
                    (true, _) => Vec::new(),
                    (false, []) => self.lines(&op.identifier).await,
                    (false, lines) => lines.to_vec(),
                };
                let text = format!("[policy] allowed{cache}: {op}{place}{pinned}{why}");
                self.progress.tell(&text, warnings, lines);
            }
            Err(refusal) => {
                tracing::info!(source = %op, messages = ?refusal.messages, "refused");
                let reasons = refusal.messages.join("; ");
                let text = format!("[policy] refused{cache}: {op}{place}: {reasons}");
                self.progress.tell(&text, Vec::new(), Vec::new());
            }
        }
        verdict
    }

    /// Why a source is allowed, and what is said aloud of it.
    fn account(
        &self,
        policies: &Policies,
        checked: &Checked,
        question: &Question,
    ) -> (String, Vec<String>) {
        let fetched: Vec<String> = checked
            .fetched
            .rounds()
            .iter()
            .flatten()
            .map(|request| fetched(request, &question.op))
            .collect();
        let mut why = String::new();
        if !fetched.is_empty() {
            why.push_str(&format!("; fetched {}", fetched.join(", ")));
        }
        let held = reasons::held(&policies.policies, &checked.input);
        if !held.is_empty() {
            why.push_str(&format!("; held: {}", held.join(", ")));
        }
        (why, reasons::warnings(checked))
    }

    async fn policies(&self) -> Result<&Policies, &Unready> {
        let load = async {
            let loader =
                Loader { gateway: &self.gateway, options: &self.options, baked: &self.baked };
            // It is large, and polled deep within calls.
            let loaded = Box::pin(loader.load()).await;
            if let Ok(Policies { policies, .. }) = &loaded {
                let names: Vec<&str> = policies.iter().map(Policy::name).collect();
                let text = format!("[policy] sources are judged by {}", names.join(", "));
                self.progress.tell(&text, Vec::new(), Vec::new());
            }
            loaded
        };
        self.policies.get_or_init(|| load).await.as_ref()
    }
}

/// Attributes that say how content is laid out or found again, and not which content it is.
const MANNER: [(&str, &[&str]); 3] = [
    ("http", &["http.filename", "http.perm", "http.uid", "http.gid"]),
    ("git", &["git.keepgitdir", "git.mtime", "git.advice"]),
    (
        "local",
        &[
            "local.unique",
            "local.includepattern",
            "local.followpaths",
            "local.excludepatterns",
            "local.sharedkeyhint",
            "local.metadatatransfer",
            "local.metadatatransferexclude",
            "local.differ",
        ],
    ),
];

/// What a decision about a source hangs on. The Dockerfile frontend asks about an image first, and
/// says how to load it later, and it asks for the parts of a directory one by one: that is no other
/// source.
fn essence(op: &SourceOp) -> SourceOp {
    let kind = match Source::parse(op) {
        Ok(Source::Image(image)) => {
            let mut told = SourceOp::new(image.identifier());
            let checksum = op.attrs.get_key_value("image.checksum");
            told.attrs.extend(checksum.map(|(name, value)| (name.clone(), value.clone())));
            return told;
        }
        Ok(Source::Http(_)) => "http",
        Ok(Source::Git(_)) => "git",
        Ok(Source::Local(_)) => "local",
        Ok(Source::OciLayout(_) | Source::Blob(_)) | Err(_) => return op.clone(),
    };
    let manner = MANNER.iter().find(|(of, _)| *of == kind).map(|(_, names)| *names);
    let mut told = op.clone();
    told.attrs.retain(|name, _| !manner.unwrap_or_default().contains(&name.as_str()));
    told
}

/// The source with what was admitted of it, and how it is loaded as it was.
fn with_essence(op: &SourceOp, told: &SourceOp, admitted: SourceOp) -> SourceOp {
    if admitted == *told {
        return op.clone();
    }
    let scheme = |op: &SourceOp| op.identifier.split("://").next().map(str::to_ascii_lowercase);
    if scheme(&admitted) != scheme(told) {
        return admitted;
    }
    let SourceOp { identifier, attrs } = admitted;
    let mut op = SourceOp { identifier, attrs: op.attrs.clone() };
    op.attrs.extend(attrs);
    op
}

fn conclude(policies: &[Policy], op: &SourceOp, checked: Result<Checked, CheckError>) -> Verdict {
    let checked = checked.map_err(|error| Refusal::new(&op.masked(), could_not(&error)))?;
    match &checked.outcome {
        Outcome::Allowed(allowed) => {
            let admitted = gateway::pinned(&checked.op, allowed.pin.as_ref());
            Source::parse(&admitted)
                .map_err(|error| Refusal::new(&op.masked(), error.to_string()))?;
            Ok(admitted)
        }
        Outcome::Denied(_) => {
            let messages = reasons::refusal(policies, &checked);
            Err(Refusal { identifier: op.masked(), messages })
        }
        Outcome::Converted(_) => {
            Err(Refusal::new(&op.masked(), "what it is converted into was not judged"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(identifier: &str, attrs: &[(&str, &str)]) -> SourceOp {
        let mut op = SourceOp::new(identifier);
        op.attrs.extend(attrs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        op
    }

    #[test]
    fn an_image_is_the_same_however_it_is_loaded() {
        let mode = ("image.resolvemode", "local");
        let digest = format!("sha256:{}", "a".repeat(64));
        let name = "docker-image://docker.io/library/alpine:3";
        let pinned = op(&format!("{name}@{digest}"), &[("image.checksum", &digest)]);
        let asked = op("docker-image://alpine:3", &[mode]);
        let told = essence(&asked);
        assert_eq!(told, op(name, &[]));
        assert_eq!(with_essence(&asked, &told, told.clone()), asked);
        let wanted = op(&pinned.identifier, &[mode, ("image.checksum", &digest)]);
        assert_eq!(with_essence(&asked, &told, pinned.clone()), wanted);
        assert_eq!(essence(&wanted), pinned);
    }

    #[test]
    fn a_source_is_the_same_however_it_is_laid_out() {
        let commit = "c".repeat(40);
        let digest = format!("sha256:{}", "a".repeat(64));
        let url = "https://h.example/f";
        let git = "git://h.example/a.git";
        let layout = format!("oci-layout://x@{digest}");
        for (identifier, manner, decisive) in [
            (
                url,
                &[("http.perm", "755"), ("http.filename", "f")][..],
                &[("http.checksum", digest.as_str())][..],
            ),
            (url, &[], &[("http.authheadersecret", "s"), ("http.header.accept", "x")]),
            (
                git,
                &[("git.keepgitdir", "true")],
                &[("git.checksum", commit.as_str()), ("git.skipsubmodules", "true")],
            ),
            (
                "local://context",
                &[("local.followpaths", "[\"a\"]"), ("local.sharedkeyhint", "k")],
                &[("local.session", "s"), ("local.new", "n")],
            ),
            (&layout, &[], &[("oci.session", "s"), ("oci.store", "t")]),
        ] {
            let asked = op(identifier, &[manner, decisive].concat());
            let told = essence(&asked);
            assert_eq!(told, op(identifier, decisive), "{asked:?}");
            assert_eq!(with_essence(&asked, &told, told.clone()), asked);
            let mut pinned = told.clone();
            pinned.attrs.insert("git.checksum".into(), "pinned".into());
            let mut wanted = asked.clone();
            wanted.attrs.extend(pinned.attrs.clone());
            assert_eq!(with_essence(&asked, &told, pinned), wanted);
            // Another kind of source has nothing of it.
            let other = op("docker-image://docker.io/library/alpine:3", &[]);
            assert_eq!(with_essence(&asked, &told, other.clone()), other);
        }
    }
}
