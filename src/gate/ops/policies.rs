//! Named sets of policies: loaded whole or not at all, and exchanged under running builds.
//!
//! A build takes a [`Revision`] when it begins and keeps it. What fails to load changes nothing
//! but what is said about it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use sha2::{Digest as _, Sha256};

use super::snapshot::{Snapshot, SnapshotError, root_of};
use crate::policy::{Policy, PolicyError};
use crate::trust;
use crate::verify::sigstore::{HardenedKey, TrustRootError, TrustRoots};
use crate::verify::{Github, Trust};

/// Readings of the same files that may differ before it is an error.
const MAX_READINGS: usize = 5;
/// How long files that just changed are left alone.
const SETTLE: std::time::Duration = std::time::Duration::from_millis(50);
/// Links that are followed in a row, as the system follows them.
const MAX_LINKS: usize = 40;

/// Policies that cannot be loaded. Those that were loaded before stay.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetsError {
    /// Nothing would say that anything is allowed.
    #[error("policy set `{set}` names no policy, so nothing would be allowed")]
    Empty {
        /// The set.
        set: String,
    },
    /// There is no set at all.
    #[error("there is no policy, so nothing is allowed; name one with --policy FILE|DIR")]
    None,
    /// Files of a policy cannot be read.
    #[error("policy set `{set}`: {source}")]
    Read {
        /// The set.
        set: String,
        /// Why.
        source: SnapshotError,
    },
    /// A policy is none.
    #[error("policy set `{set}`: policy {} cannot be loaded: {source}", path.display())]
    Policy {
        /// The set.
        set: String,
        /// The policy.
        path: PathBuf,
        /// Why.
        source: PolicyError,
    },
    /// A trust root cannot be read.
    #[error("trust root `{name}`: {source}")]
    TrustFile {
        /// Its name.
        name: String,
        /// Why.
        source: trust::FileError,
    },
    /// Trust roots that cannot stand together.
    #[error(transparent)]
    TrustRoot(#[from] TrustRootError),
    /// Files change faster than they can be read.
    #[error("the files of policy set `{set}` change while they are read")]
    Unstable {
        /// The set.
        set: String,
    },
}

/// The policies of a set as they were at one moment.
#[derive(Debug)]
pub struct Revision {
    /// The set's name.
    pub set: Arc<str>,
    /// Counts loads of all sets from one; a set keeps its number while its files stay as they are.
    pub number: u64,
    /// `sha256:…` over the names and bytes of all files of its policies, and over the trust roots
    /// that are read from files.
    pub digest: String,
    /// All must allow.
    pub policies: Arc<[Policy]>,
}

/// What the last attempt to load came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reloaded {
    /// The files are what they were.
    Unchanged,
    /// These sets changed, each now at this revision.
    Changed {
        /// The number of the load.
        number: u64,
        /// Names of the sets that changed.
        sets: Vec<String>,
    },
    /// Nothing changed, because something is wrong; what was loaded before still holds.
    Failed {
        /// What is wrong.
        error: String,
        /// Whether the attempt before said something else.
        news: bool,
    },
}

/// The sets. Cheap to read from everywhere.
pub struct PolicySets {
    paths: BTreeMap<Arc<str>, Vec<PathBuf>>,
    trusting: Trusting,
    current: ArcSwap<BTreeMap<Arc<str>, Arc<Revision>>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    number: u64,
    failure: Option<String>,
}

/// Whom the policies trust.
struct Trusting {
    /// Files of trust roots, by name.
    roots: Vec<(String, PathBuf)>,
    /// Who is asked for attestations of files.
    github: Github,
    /// In place of Docker's key.
    hardened: Option<HardenedKey>,
}

/// One set of [`PolicySets`].
#[derive(Clone)]
pub struct PolicySet {
    sets: Arc<PolicySets>,
    /// Stands for as long as the sets do not know the name, which [`PolicySets::set`] rules out.
    fallback: Arc<Revision>,
}

impl PolicySet {
    /// The set's name.
    pub fn name(&self) -> &str {
        &self.fallback.set
    }

    /// The policies that hold now. A build asks once and keeps what it got.
    pub fn current(&self) -> Arc<Revision> {
        let current = self.sets.current.load();
        Arc::clone(current.get(&self.fallback.set).unwrap_or(&self.fallback))
    }
}

impl PolicySets {
    /// Loads sets of policies, by name; each path is one policy.
    ///
    /// # Errors
    /// When there is none, or one of them cannot be loaded.
    pub fn load(
        named: impl IntoIterator<Item = (String, Vec<PathBuf>)>,
    ) -> Result<Arc<Self>, SetsError> {
        Self::trusting(named, Vec::new())
    }

    /// The same, trusting signatures of images and attestations by the roots in these files besides
    /// those that are built in. They are read again with the policies.
    ///
    /// # Errors
    /// As [`PolicySets::load`], and when a trust root cannot be read.
    pub fn trusting(
        named: impl IntoIterator<Item = (String, Vec<PathBuf>)>,
        roots: Vec<(String, PathBuf)>,
    ) -> Result<Arc<Self>, SetsError> {
        Self::asking(named, roots, Github::default())
    }

    /// The same, asking another GitHub than the public one for attestations.
    ///
    /// # Errors
    /// As [`PolicySets::trusting`].
    pub fn asking(
        named: impl IntoIterator<Item = (String, Vec<PathBuf>)>,
        roots: Vec<(String, PathBuf)>,
        github: Github,
    ) -> Result<Arc<Self>, SetsError> {
        Self::begin(named, Trusting { roots, github, hardened: None })
    }

    /// As [`PolicySets::trusting`], with another key for Docker Hardened Images, for whoever tests
    /// without Docker's.
    ///
    /// # Errors
    /// As there.
    #[doc(hidden)]
    pub fn hardened(
        named: impl IntoIterator<Item = (String, Vec<PathBuf>)>,
        roots: Vec<(String, PathBuf)>,
        key: HardenedKey,
    ) -> Result<Arc<Self>, SetsError> {
        Self::begin(named, Trusting { roots, github: Github::default(), hardened: Some(key) })
    }

    fn begin(
        named: impl IntoIterator<Item = (String, Vec<PathBuf>)>,
        trusting: Trusting,
    ) -> Result<Arc<Self>, SetsError> {
        let paths: BTreeMap<Arc<str>, Vec<PathBuf>> =
            named.into_iter().map(|(name, paths)| (name.into(), paths)).collect();
        if paths.is_empty() {
            return Err(SetsError::None);
        }
        let current = load(&paths, &trusted(&trusting)?, 1, &BTreeMap::new())?;
        let state = Mutex::new(State { number: 1, failure: None });
        Ok(Arc::new(Self { paths, trusting, current: ArcSwap::from_pointee(current), state }))
    }

    /// The set of this name.
    pub fn set(self: &Arc<Self>, name: &str) -> Option<PolicySet> {
        let fallback = self.current.load().get(name).cloned()?;
        Some(PolicySet { sets: Arc::clone(self), fallback })
    }

    /// What holds now, in order of the names.
    pub fn revisions(&self) -> Vec<Arc<Revision>> {
        self.current.load().values().cloned().collect()
    }

    /// The policies' paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.paths.values().flatten().map(PathBuf::as_path)
    }

    /// The policy in whose folder a file lies, or would lie, links followed: it belongs to the
    /// policy, so that whoever writes to it changes the policy.
    pub fn owning(&self, file: &Path) -> Option<&Path> {
        let file = real(file, MAX_LINKS);
        self.paths().find(|policy| {
            let root = root_of(policy, policy.is_dir());
            file.starts_with(real(root, MAX_LINKS))
        })
    }

    /// Why the last attempt to load failed, where it did.
    pub fn failure(&self) -> Option<String> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).failure.clone()
    }

    /// Loads all sets again: all of them, or none. Blocks while it reads.
    pub fn reload(&self) -> Reloaded {
        // Held for the whole of it: two at once could put the older one in last.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = self.current.load_full();
        let loaded = trusted(&self.trusting)
            .and_then(|roots| load(&self.paths, &roots, state.number + 1, &before));
        match loaded {
            Ok(current) => {
                state.failure = None;
                let changed = |it: &&Arc<Revision>| it.number > state.number;
                let sets: Vec<String> =
                    current.values().filter(changed).map(|it| it.set.to_string()).collect();
                if sets.is_empty() {
                    return Reloaded::Unchanged;
                }
                state.number += 1;
                self.current.store(Arc::new(current));
                Reloaded::Changed { number: state.number, sets }
            }
            Err(error) => {
                let error = error.to_string();
                let news = state.failure.as_ref() != Some(&error);
                state.failure = Some(error.clone());
                Reloaded::Failed { error, news }
            }
        }
    }
}

/// Where a path leads, links followed as far as anything is there.
fn real(path: &Path, links: usize) -> PathBuf {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    for at in path.ancestors() {
        let found = match (at.canonicalize(), std::fs::read_link(at), at.parent()) {
            (Ok(found), _, _) => found,
            // A link to what is not there yet.
            (Err(_), Ok(to), Some(parent)) if links > 0 => real(&parent.join(to), links - 1),
            (Err(_), _, _) => continue,
        };
        return path.strip_prefix(at).map_or_else(|_| found.clone(), |rest| found.join(rest));
    }
    path
}

/// Trust roots, and what tells them from others.
struct Trusted {
    trust: Arc<Trust>,
    digest: Vec<u8>,
}

/// Reads trust roots from files.
fn trusted(trusting: &Trusting) -> Result<Trusted, SetsError> {
    let Trusting { roots: files, github, hardened } = trusting;
    if files.is_empty() && *github == Github::default() && hardened.is_none() {
        return Ok(Trusted { trust: Trust::embedded(), digest: Vec::new() });
    }
    let mut roots = TrustRoots::embedded()?;
    let mut digest = Sha256::new();
    for (name, path) in files {
        let root = trust::read(name, path)
            .map_err(|source| SetsError::TrustFile { name: name.clone(), source })?;
        let dates = [root.as_of(), root.expires()].map(|at| at.unwrap_or(i64::MIN).to_be_bytes());
        for part in [name.as_bytes(), root.fingerprint(), &dates.concat()] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        roots.insert(root)?;
    }
    let digest = digest.finalize().to_vec();
    let mut trust = Trust::new(roots).with_github(github.clone());
    if let Some(key) = hardened {
        trust = trust.with_hardened(key.clone());
    }
    Ok(Trusted { trust: Arc::new(trust), digest })
}

type Sets = BTreeMap<Arc<str>, Arc<Revision>>;

fn load(
    paths: &BTreeMap<Arc<str>, Vec<PathBuf>>,
    trusted: &Trusted,
    number: u64,
    before: &Sets,
) -> Result<Sets, SetsError> {
    paths
        .iter()
        .map(|(name, paths)| {
            let loaded = one((name, paths), trusted, number, before.get(name))?;
            Ok((Arc::clone(name), loaded))
        })
        .collect()
}

/// One set: what it was, where its files are what they were.
fn one(
    (set, paths): (&Arc<str>, &[PathBuf]),
    trusted: &Trusted,
    number: u64,
    before: Option<&Arc<Revision>>,
) -> Result<Arc<Revision>, SetsError> {
    if paths.is_empty() {
        return Err(SetsError::Empty { set: set.to_string() });
    }
    let (digest, snapshots) = settled(set, paths, trusted)?;
    if let Some(same) = before.filter(|before| before.digest == digest) {
        return Ok(Arc::clone(same));
    }
    let policies = snapshots
        .into_iter()
        .zip(paths)
        .map(|(snapshot, path)| {
            let compiled = snapshot.compile().map(|it| it.with_trust(Arc::clone(&trusted.trust)));
            compiled.map_err(|source| SetsError::Policy {
                set: set.to_string(),
                path: path.clone(),
                source,
            })
        })
        .collect::<Result<Vec<Policy>, _>>()?;
    Ok(Arc::new(Revision { set: Arc::clone(set), number, digest, policies: policies.into() }))
}

/// Files that are the same when they are read twice: nobody was in the middle of writing them.
fn settled(
    set: &str,
    paths: &[PathBuf],
    trusted: &Trusted,
) -> Result<(String, Vec<Snapshot>), SetsError> {
    let mut last = read(set, paths, trusted)?;
    for _ in 0..MAX_READINGS {
        let again = read(set, paths, trusted)?;
        if again.0 == last.0 {
            return Ok(again);
        }
        last = again;
        std::thread::sleep(SETTLE);
    }
    Err(SetsError::Unstable { set: set.to_owned() })
}

fn read(
    set: &str,
    paths: &[PathBuf],
    trusted: &Trusted,
) -> Result<(String, Vec<Snapshot>), SetsError> {
    let mut digest = Sha256::new();
    digest.update(&trusted.digest);
    let mut snapshots = Vec::with_capacity(paths.len());
    for path in paths {
        let snapshot = Snapshot::read(path)
            .map_err(|source| SetsError::Read { set: set.to_owned(), source })?;
        snapshot.digest(&mut digest);
        snapshots.push(snapshot);
    }
    Ok((format!("sha256:{}", hex::encode(digest.finalize())), snapshots))
}
