//! What people see of the decisions: a progress vertex each, and build warnings.
//!
//! A daemon shows a vertex for each question about a source, under the name that the asker gives it,
//! and about a directory of the client it answers without looking: so that is what is asked, and the
//! name is the message. Nothing is decided here, and a message that is lost is no error.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::gateway::Gateway;
use crate::wire::proto::{errdefs, gateway, pb};

/// How long the end of a build waits for messages under way.
const PATIENCE: Duration = Duration::from_secs(2);
/// Longest message, in characters.
const MAX_TEXT: usize = 1_000;
/// What is asked about: every build has it.
const CONTEXT: &str = "local://context";

/// Tells people about decisions.
pub struct Progress {
    gateway: Gateway,
    told: AtomicU64,
    under_way: Arc<Mutex<JoinSet<()>>>,
}

impl Progress {
    /// Nothing is told yet.
    pub fn new(gateway: Gateway) -> Self {
        Self { gateway, told: AtomicU64::new(0), under_way: Arc::default() }
    }

    /// Shows a message, and these warnings at these lines, and does not wait for it.
    pub fn tell(&self, text: &str, warnings: Vec<String>, lines: Vec<errdefs::Source>) {
        let number = self.told.fetch_add(1, Ordering::Relaxed);
        let gateway = self.gateway.clone();
        let text = one_line(text);
        let task = async move {
            // The name of a vertex that was shown before would be shown in its place: the version
            // tells them apart.
            let version = format!("policy.{number}");
            show(&gateway, &text, &version).await;
            for warning in &warnings {
                warn(&gateway, warning, &version, &lines).await;
            }
            if !warnings.is_empty() {
                // Clients print a warning with the next news of its vertex, and without any not at all.
                show(&gateway, &text, &version).await;
            }
        };
        let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
        while under_way.try_join_next().is_some() {}
        under_way.spawn(task);
    }

    /// Waits for what is under way, for a while.
    pub async fn finish(&self) {
        let mut under_way = {
            let mut under_way = self.under_way.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *under_way)
        };
        let all = async { while under_way.join_next().await.is_some() {} };
        if timeout(PATIENCE, all).await.is_err() {
            tracing::warn!("the daemon takes no progress messages");
        }
    }
}

async fn show(gateway: &Gateway, text: &str, version: &str) {
    let request = gateway::ResolveSourceMetaRequest {
        source: Some(pb::SourceOp { identifier: CONTEXT.into(), ..Default::default() }),
        platform: Some(pb::Platform {
            architecture: "amd64".into(),
            os: "linux".into(),
            os_version: version.into(),
            ..Default::default()
        }),
        log_name: text.to_owned(),
        ..Default::default()
    };
    let shown: Result<gateway::ResolveSourceMetaResponse, _> =
        gateway.call("ResolveSourceMeta", &request).await;
    if let Err(status) = shown {
        tracing::debug!("not shown: {text}: {}", status.message());
    }
}

async fn warn(gateway: &Gateway, text: &str, version: &str, lines: &[errdefs::Source]) {
    let first = lines.first();
    let request = gateway::WarnRequest {
        digest: vertex(version),
        level: 1,
        short: with_line(text, first).into_bytes().into(),
        info: first.and_then(|it| it.info.clone()),
        ranges: first.map(|it| it.ranges.clone()).unwrap_or_default(),
        ..Default::default()
    };
    let warned: Result<gateway::WarnResponse, _> = gateway.call("Warn", &request).await;
    if let Err(status) = warned {
        tracing::warn!("not shown: {text}: {}", status.message());
    }
}

/// The warning with the number of its line: clients show the lines themselves to those alone who ask
/// for details, and so the Dockerfile frontend writes its own warnings like this too.
fn with_line(text: &str, at: Option<&errdefs::Source>) -> String {
    let start = at.and_then(|source| source.ranges.first()).and_then(|range| range.start);
    match start {
        Some(pb::Position { line, .. }) => format!("{text} (line {line})"),
        None => text.to_owned(),
    }
}

/// The digest of the vertex that [`show`] makes: of the source's name and its platform.
fn vertex(version: &str) -> String {
    let id = format!("{CONTEXT}linux({version})/amd64");
    format!("sha256:{}", hex::encode(Sha256::digest(id)))
}

fn one_line(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}
