//! One decision, as the log, the metrics and the traces have it.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use serde::Serialize;
use tracing::field::Empty;

use super::log::{DecisionLog, LogError};
use super::metrics::{ErrorKind, Metrics};
use super::policies::Revision;
use super::settings::Mode;
use crate::meta::MetaRequest;
use crate::source::{Platform, SourceOp, mask_text};

/// What was answered about a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// It may be fetched as it is.
    Allow,
    /// It may not be fetched.
    Deny,
    /// Another one may be fetched in its place, or itself by digest.
    Convert,
}

impl Action {
    /// As logs and metrics have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Convert => "convert",
        }
    }
}

/// A build that is judged: what all of its decisions have in common.
#[derive(Clone, Debug)]
pub struct Build {
    /// Its reference (`Ref` of `Control/Solve`).
    pub reference: String,
    /// Who asked for it, as the listener knows them.
    pub client: String,
    /// The policies that it began with.
    pub revision: Arc<Revision>,
    /// What becomes of its decisions.
    pub mode: Mode,
    /// The span that its decisions belong to.
    pub span: tracing::Span,
}

/// One decision about one source.
#[derive(Clone, Debug)]
pub struct Decision {
    /// The source, as it was put to us.
    pub source: SourceOp,
    /// The platform it is loaded for.
    pub platform: Option<Platform>,
    /// What the policies came to. In audit mode the answer may be another.
    pub action: Action,
    /// What it was converted into, or pinned to.
    pub converted: Option<SourceOp>,
    /// What the client is told.
    pub messages: Vec<String>,
    /// What rules said besides.
    pub warnings: Vec<String>,
    /// Why signatures that rules asked about are not verified, where it is refused.
    pub notes: Vec<String>,
    /// What was resolved before, in rounds.
    pub fetched: Vec<Vec<MetaRequest>>,
    /// Why there was no decision; the action is then [`Action::Deny`].
    pub error: Option<String>,
    /// From the first question about the source to now.
    pub latency: Duration,
}

/// Writes decisions down. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    log: Option<DecisionLog>,
    metrics: Arc<Metrics>,
}

impl Recorder {
    /// A recorder; without a log there are metrics and traces alone.
    pub fn new(log: Option<DecisionLog>, metrics: Arc<Metrics>) -> Self {
        Self { log, metrics }
    }

    /// What it counts into.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Writes a decision down. Answer only after it came back.
    ///
    /// # Errors
    /// When it could not be written: then nothing is allowed, whatever the decision was, in audit
    /// mode too.
    pub async fn record(&self, build: &Build, decision: &Decision) -> Result<(), LogError> {
        let written = self.written(build, decision).await;
        match &written {
            Ok(()) => self.metrics.decided(decision),
            Err(error) => {
                self.metrics.error(ErrorKind::DecisionLog);
                tracing::error!("{error}; {} is refused", decision.source.masked());
            }
        }
        written
    }

    async fn written(&self, build: &Build, decision: &Decision) -> Result<(), LogError> {
        let line = Line::new(build, decision, time(SystemTime::now())?);
        span(build, decision, &line);
        match &self.log {
            Some(log) => log.write(&line).await,
            None => Ok(()),
        }
    }

    /// Opens the log's file anew.
    ///
    /// # Errors
    /// When it cannot be opened; the old one stays in use.
    pub async fn reopen(&self) -> Result<(), LogError> {
        match &self.log {
            Some(log) => log.reopen().await,
            None => Ok(()),
        }
    }
}

/// A decision in a trace: a span of the build's, as long as it took.
fn span(build: &Build, decision: &Decision, line: &Line<'_>) {
    let span = tracing::info_span!(
        target: "buildgate.decision",
        parent: &build.span,
        "decision",
        buildgate.source = %line.source,
        buildgate.action = line.action,
        buildgate.policy.set = line.policy_set,
        buildgate.policy.revision = line.policy_revision,
        buildgate.latency_ms = line.latency_ms,
        otel.status_description = Empty,
    );
    match decision.action {
        Action::Deny => {
            if let Some(first) = line.messages.first() {
                span.record("otel.status_description", first.as_str());
            }
        }
        Action::Allow | Action::Convert => {}
    }
}

/// A line of the log.
#[derive(Serialize)]
struct Line<'a> {
    time: String,
    build: &'a str,
    client: &'a str,
    source: String,
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    platform: Option<String>,
    action: &'static str,
    mode: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    converted: Option<String>,
    messages: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    policy_set: &'a str,
    policy_revision: u64,
    policy_digest: &'a str,
    fetched: Vec<FetchedLine>,
    rounds: usize,
    latency_ms: f64,
}

/// Something that was resolved.
#[derive(Serialize)]
struct FetchedLine {
    source: String,
    what: Vec<&'static str>,
}

impl<'a> Line<'a> {
    fn new(build: &'a Build, decision: &Decision, time: String) -> Self {
        let masked = |texts: &[String]| texts.iter().map(|text| mask_text(text)).collect();
        Self {
            time,
            build: &build.reference,
            client: &build.client,
            source: decision.source.masked(),
            kind: kind(&decision.source),
            platform: decision.platform.as_ref().map(ToString::to_string),
            action: decision.action.name(),
            mode: match build.mode {
                Mode::Enforce => "enforce",
                Mode::Audit => "audit",
            },
            converted: decision.converted.as_ref().map(shown),
            messages: masked(&decision.messages),
            warnings: masked(&decision.warnings),
            notes: masked(&decision.notes),
            error: decision.error.as_deref().map(mask_text),
            policy_set: &build.revision.set,
            policy_revision: build.revision.number,
            policy_digest: &build.revision.digest,
            fetched: decision.fetched.iter().flatten().map(FetchedLine::new).collect(),
            rounds: decision.fetched.len(),
            latency_ms: (decision.latency.as_secs_f64() * 1e6).round() / 1e3,
        }
    }
}

impl FetchedLine {
    fn new(request: &MetaRequest) -> Self {
        let mut what = Vec::new();
        if let Some(image) = request.image {
            what.push("digest");
            what.extend(image.config.then_some("config"));
            what.extend(image.attestations.then_some("attestations"));
        }
        if let Some(git) = request.git {
            what.push("commit");
            what.extend(git.objects.then_some("objects"));
        }
        what.extend(request.http.as_ref().map(|_| "checksum"));
        what.extend(request.signatures.as_ref().map(|_| "signatures"));
        what.extend(request.content.map(|_| "content"));
        Self { source: request.source.masked(), what }
    }
}

/// A source and the content that it is pinned to.
fn shown(op: &SourceOp) -> String {
    let pins = ["image.checksum", "git.checksum", "http.checksum"];
    let pin = pins.iter().find_map(|name| Some(format!(" {name}={}", op.attrs.get(*name)?)));
    format!("{}{}", op.masked(), pin.unwrap_or_default())
}

/// The kind of a source by its scheme; what is none of ours is `other`, so that strangers cannot
/// make up kinds without end.
pub(super) fn kind(op: &SourceOp) -> &'static str {
    let scheme = op.identifier.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
    match scheme.as_deref() {
        Some("docker-image") => "image",
        Some("http" | "https") => "http",
        Some("git") => "git",
        Some("local") => "local",
        Some("oci-layout") => "oci-layout",
        Some("docker-image+blob" | "oci-layout+blob") => "blob",
        Some(_) | None => "other",
    }
}

/// RFC 3339 in UTC, to the microsecond.
///
/// # Errors
/// When the clock is set to a year that the format has no room for.
fn time(at: SystemTime) -> Result<String, LogError> {
    let time = jiff::Timestamp::try_from(at).map_err(LogError::Clock)?;
    Ok(format!("{time:.6}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_or_is_an_error() {
        let at = |seconds: i64| {
            let since = Duration::from_secs(seconds.unsigned_abs());
            match seconds {
                0.. => SystemTime::UNIX_EPOCH + since,
                _ => SystemTime::UNIX_EPOCH - since,
            }
        };
        assert_eq!(time(at(0)).unwrap(), "1970-01-01T00:00:00.000000Z");
        assert_eq!(time(at(-1)).unwrap(), "1969-12-31T23:59:59.000000Z");
        let error = time(at(400_000_000_000)).unwrap_err().to_string();
        assert!(error.starts_with("a decision has no time: "), "{error}");
    }
}
