//! The decisions of one build: each source judged once for each platform, and the answer to a
//! refusal as the daemon itself would give it.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::options::BuildOptions;
use super::policies::{Loader, Policies, SetupError};
use crate::check::{self, CheckError, Checked, Outcome, Question};
use crate::dockerfile::{self, Lines};
use crate::gateway::{self, Gateway};
use crate::input::Env;
use crate::source::{Platform, Source, SourceOp, mask_text};
use crate::wire::proto::{errdefs, pb};
use crate::wire::status;

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

    /// The answer that clients print, with these lines.
    pub fn status(&self, lines: &[errdefs::Source]) -> tonic::Status {
        status::denial(&self.identifier, &self.messages, lines)
    }
}

type Verdict = Result<SourceOp, Refusal>;
type Key = (SourceOp, Platform, Purpose);

/// Decides for one build.
pub struct Gatekeeper {
    gateway: Gateway,
    options: BuildOptions,
    baked: PathBuf,
    policies: OnceCell<Result<Policies, SetupError>>,
    decided: Mutex<HashMap<Key, Arc<OnceCell<Verdict>>>>,
}

impl Gatekeeper {
    /// A gatekeeper that has decided nothing yet; policies are read when they are first needed.
    pub fn new(gateway: Gateway, options: BuildOptions, baked: PathBuf) -> Self {
        Self { gateway, options, baked, policies: OnceCell::new(), decided: Mutex::default() }
    }

    /// Judges a source; what it gives is what the daemon may be asked for, pinned to the content
    /// that was judged.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn judge(
        &self,
        op: &SourceOp,
        platform: Option<Platform>,
        purpose: Purpose,
    ) -> Verdict {
        let platform = platform.unwrap_or_else(|| self.options.platform.clone());
        let key = (op.clone(), platform.clone(), purpose);
        let cell = {
            let mut decided = self.decided.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(decided.entry(key).or_default())
        };
        cell.get_or_init(|| self.decide(op, platform, purpose)).await.clone()
    }

    async fn decide(&self, op: &SourceOp, platform: Platform, purpose: Purpose) -> Verdict {
        let policies = match self.policies().await {
            Ok(policies) => policies,
            Err(error) => return Err(Refusal::new(&op.masked(), error.to_string())),
        };
        let env = Env { cache_import: purpose == Purpose::Cache, ..self.options.env() };
        let question = Question { op: op.clone(), platform, env };
        let checked = check::check(&policies.policies, &question, &self.gateway).await;
        let verdict = match conclude(op, checked) {
            Ok(admitted) => gateway::without(&self.gateway, admitted)
                .await
                .map_err(|why| Refusal::new(&op.masked(), why)),
            Err(refusal) => Err(refusal),
        };
        match &verdict {
            Ok(_) => tracing::info!(source = %op, "allowed"),
            Err(refusal) => tracing::info!(source = %op, messages = ?refusal.messages, "refused"),
        }
        verdict
    }

    async fn policies(&self) -> Result<&Policies, &SetupError> {
        let loader = Loader { gateway: &self.gateway, options: &self.options, baked: &self.baked };
        self.policies.get_or_init(|| loader.load()).await.as_ref()
    }

    /// Lines of the Dockerfile that name a source where the child adds none: `RUN --mount=from=`.
    pub async fn mount_lines(&self, identifier: &str) -> Vec<errdefs::Source> {
        // Where a mount names a build context, the plan tells the context and no mount.
        let is_run = |text: &str, at: &Lines| {
            let line = text.lines().nth(at.start.saturating_sub(1)).unwrap_or_default();
            line.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case("run"))
        };
        self.lines_where(identifier, |text, lines| lines.iter().all(|at| is_run(text, at))).await
    }

    /// Lines of the Dockerfile that name a source, whoever else tells them.
    pub async fn lines(&self, identifier: &str) -> Vec<errdefs::Source> {
        self.lines_where(identifier, |_, _| true).await
    }

    async fn lines_where(
        &self,
        identifier: &str,
        wanted: impl Fn(&str, &[Lines]) -> bool,
    ) -> Vec<errdefs::Source> {
        let Ok(Policies { dockerfile: Some(text), .. }) = self.policies().await else {
            return Vec::new();
        };
        let Ok(plan) = dockerfile::plan(text, &self.options.plan()) else { return Vec::new() };
        let lines = plan.lines_of(identifier);
        if lines.is_empty() || !wanted(text, &lines) {
            return Vec::new();
        }
        let position = |line: usize| {
            Some(pb::Position { line: i32::try_from(line).unwrap_or_default(), character: 0 })
        };
        let ranges = lines
            .iter()
            .map(|at| pb::Range { start: position(at.start), end: position(at.end) })
            .collect();
        let info = pb::SourceInfo {
            filename: self.options.filename().to_owned(),
            data: text.clone().into_bytes().into(),
            definition: None,
            language: "Dockerfile".into(),
        };
        vec![errdefs::Source { info: Some(info), ranges }]
    }
}

fn conclude(op: &SourceOp, checked: Result<Checked, CheckError>) -> Verdict {
    let checked = checked.map_err(|error| Refusal::new(&op.masked(), could_not(&error)))?;
    match checked.outcome {
        Outcome::Allowed(allowed) => {
            let admitted = gateway::pinned(&checked.op, allowed.pin.as_ref());
            Source::parse(&admitted)
                .map_err(|error| Refusal::new(&op.masked(), error.to_string()))?;
            Ok(admitted)
        }
        Outcome::Denied(denied) => {
            let mut messages: Vec<String> =
                denied.messages.iter().map(|message| mask_text(message)).collect();
            if messages.is_empty() {
                messages.push(format!("denied by {}, which gives no reason", denied.policy));
            }
            Err(Refusal { identifier: op.masked(), messages })
        }
        Outcome::Converted(_) => {
            Err(Refusal::new(&op.masked(), "what it is converted into was not judged"))
        }
    }
}

/// A source that could not be judged, in words.
fn could_not(error: &CheckError) -> String {
    format!("it could not be judged, and so is refused: {error}")
}
