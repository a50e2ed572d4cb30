//! Loads policies anew when their files change, when it is time to look, and when told to.
//!
//! The system's word that a file changed is a hint: what counts is the digest of what is read, and
//! it is looked at now and then anyway (network filesystems say nothing).

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{EventKind, RecursiveMode, Watcher};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::metrics::Metrics;
use super::policies::{PolicySets, Reloaded};
use super::snapshot::root_of;

/// How often files are looked at although nothing was heard of them.
pub const POLL: Duration = Duration::from_secs(10);
/// How long it has to be quiet before files are read.
const QUIET: Duration = Duration::from_millis(100);
/// How long is waited for quiet at most.
const RESTLESS: Duration = Duration::from_secs(2);

/// Loads policies anew for as long as it is polled.
pub struct Reloader {
    sets: Arc<PolicySets>,
    metrics: Arc<Metrics>,
    changed: Arc<Notify>,
    poll: Duration,
}

/// Tells a [`Reloader`] to look now. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Wake(Arc<Notify>);

impl Wake {
    /// Look now (SIGHUP).
    pub fn now(&self) {
        self.0.notify_one();
    }
}

impl Reloader {
    /// A reloader that looks every `poll`, and sooner where the system says that a file changed.
    pub fn new(sets: Arc<PolicySets>, metrics: Arc<Metrics>, poll: Duration) -> Self {
        metrics.policies(&sets);
        Self { sets, metrics, changed: Arc::new(Notify::new()), poll }
    }

    /// What tells it to look now.
    pub fn wake(&self) -> Wake {
        Wake(Arc::clone(&self.changed))
    }

    /// Does not come back.
    pub async fn run(self) {
        // Kept while it is in use; dropped, it hears nothing.
        let mut _watcher = self.watch();
        loop {
            let told = timeout(self.poll, self.changed.notified()).await.is_ok();
            if told {
                self.quiet().await;
            }
            let sets = Arc::clone(&self.sets);
            let reloaded = tokio::task::spawn_blocking(move || sets.reload()).await;
            let reloaded = reloaded.unwrap_or_else(|fault| Reloaded::Failed {
                error: format!("loading policies failed: {fault}"),
                news: true,
            });
            self.said(&reloaded, told);
            if let Reloaded::Changed { .. } = reloaded {
                // Folders may have been exchanged for others of the same name.
                _watcher = self.watch();
            }
        }
    }

    fn said(&self, reloaded: &Reloaded, told: bool) {
        match reloaded {
            Reloaded::Unchanged => tracing::debug!("the policies are what they were"),
            Reloaded::Changed { number, sets } => {
                tracing::info!("policies loaded anew, now revision {number}: {}", sets.join(", "));
                self.metrics.policies(&self.sets);
            }
            Reloaded::Failed { error, news: true } => {
                tracing::error!("POLICIES NOT LOADED, the last good ones stay in force: {error}")
            }
            // Said once, and shown by /readyz and the metrics until it is mended.
            Reloaded::Failed { news: false, .. } => {}
        }
        // Looking by the clock counts where it found something.
        let news = match reloaded {
            Reloaded::Changed { .. } | Reloaded::Failed { news: true, .. } => true,
            Reloaded::Unchanged | Reloaded::Failed { news: false, .. } => false,
        };
        if told || news {
            self.metrics.reloaded(reloaded);
        }
    }

    /// Waits until nothing changed for a moment.
    async fn quiet(&self) {
        let still = async { while timeout(QUIET, self.changed.notified()).await.is_ok() {} };
        let _ = timeout(RESTLESS, still).await;
    }

    fn watch(&self) -> Option<notify::RecommendedWatcher> {
        let changed = Arc::clone(&self.changed);
        let folders: Vec<PathBuf> = folders(self.sets.paths()).into_iter().collect();
        // What stands beside a policy's folder is no part of it: a log may be written there.
        let ours = move |event: &notify::Event| {
            let inside = |path: &PathBuf| folders.iter().any(|folder| path.starts_with(folder));
            event.paths.is_empty() || event.paths.iter().any(inside)
        };
        let heard = move |event: notify::Result<notify::Event>| {
            // Our own reading is no change. An error may hide one.
            if event.as_ref().map_or(true, |event| is_change(event.kind) && ours(event)) {
                changed.notify_one();
            }
        };
        let watched = notify::recommended_watcher(heard).and_then(|mut watcher| {
            for (path, mode) in places(self.sets.paths()) {
                watcher.watch(&path, mode)?;
            }
            Ok(watcher)
        });
        match watched {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(
                    "changes of policies are noticed only every {:?}: {error}",
                    self.poll
                );
                None
            }
        }
    }
}

/// Whether something is another than before.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        EventKind::Any
        | EventKind::Create(_)
        | EventKind::Modify(_)
        | EventKind::Remove(_)
        | EventKind::Other => true,
    }
}

/// The folder of each policy, from the root on.
fn folders<'a>(policies: impl Iterator<Item = &'a Path>) -> BTreeSet<PathBuf> {
    policies
        .map(|policy| {
            let root = root_of(policy, policy.is_dir());
            // Where there is no working directory, the name as it stands is the best there is.
            std::path::absolute(root).unwrap_or_else(|_| root.to_owned())
        })
        .collect()
}

/// What to watch: each policy's folder with all in it, and what the folder stands in, where it may
/// be exchanged for another.
fn places<'a>(policies: impl Iterator<Item = &'a Path>) -> Vec<(PathBuf, RecursiveMode)> {
    let folders = folders(policies);
    let mut parents: BTreeSet<PathBuf> =
        folders.iter().filter_map(|folder| Some(folder.parent()?.to_owned())).collect();
    parents.retain(|parent| !folders.contains(parent));
    let deep = folders.into_iter().map(|path| (path, RecursiveMode::Recursive));
    deep.chain(parents.into_iter().map(|path| (path, RecursiveMode::NonRecursive))).collect()
}
