//! What was verified already, so that one image is verified once a build.
//!
//! What is kept is asked for by a digest of everything that went into it, the trust root's content
//! and the key included. What depends on when somebody asks is judged each time: a trust root that has
//! expired since is an error all the same, a time that lies in the future by a clock that was set back is
//! one, and a log that vouches for no time must still be in force.
//!
//! A refusal is kept for a few minutes: long enough that nobody makes us refuse the same bytes for
//! each rule, policy and build anew, short enough that a clock that was wrong is forgiven. It is kept no
//! longer than nothing begins or ends that it may depend on.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::{
    Artifact, Log, Signer, SigstoreInvalid, SimpleSigning, TrustRoot, VerifiedSignature, log, time,
    verify_bundle, verify_simple_signing, windows,
};
use crate::verify::{CouldNot, Invalid, NotVerified};

type Key = [u8; 32];

/// How many signatures are kept at most, and as many refusals.
const CAPACITY: usize = 1024;
/// How long a refusal stands, in seconds.
const REFUSED_FOR: i64 = 300;

/// Verified signatures and refused ones, the most recently used of them. Cheap to share, and bounded.
#[derive(Debug)]
pub struct VerificationCache {
    known: Mutex<Known>,
    half: usize,
    worked: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    held: Generations<Arc<VerifiedSignature>>,
    /// From when until when it stands, and why it was refused.
    refused: Generations<(Range<i64>, NotVerified)>,
}

/// Two generations: what is used moves to the young one, and when that is full the old one goes.
#[derive(Debug)]
pub(in crate::verify) struct Generations<V> {
    young: HashMap<Key, V>,
    old: HashMap<Key, V>,
}

impl Default for VerificationCache {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl VerificationCache {
    /// A cache of at most so many signatures.
    pub fn new(capacity: usize) -> Self {
        let half = (capacity / 2).max(1);
        Self { known: Mutex::default(), half, worked: AtomicU64::new(0) }
    }

    /// As [`verify_bundle`].
    ///
    /// # Errors
    /// As there.
    pub fn bundle(
        &self,
        bundle: &[u8],
        artifact: Artifact<'_>,
        by: Signer<'_>,
        now: i64,
    ) -> Result<Arc<VerifiedSignature>, NotVerified> {
        by.usable(now)?;
        let mut about = Parts::new(b"bundle", &by);
        match artifact {
            Artifact::Digest(digest) => about.add(b"digest").add(digest.as_bytes()),
            Artifact::Bytes(bytes) => about.add(b"bytes").add(bytes),
        }
        .add(bundle);
        self.once(about.finish(), by, now, || verify_bundle(bundle, artifact, by, now))
    }

    /// As [`verify_simple_signing`].
    ///
    /// # Errors
    /// As there.
    pub fn simple_signing(
        &self,
        signed: &SimpleSigning<'_>,
        manifest: &str,
        by: Signer<'_>,
        now: i64,
    ) -> Result<Arc<VerifiedSignature>, NotVerified> {
        by.usable(now)?;
        let mut about = Parts::new(b"simplesigning", &by);
        about.add(manifest.as_bytes()).add(signed.payload);
        for (name, value) in signed.annotations {
            about.add(name.as_bytes()).add(value.as_bytes());
        }
        self.once(about.finish(), by, now, || verify_simple_signing(signed, manifest, by, now))
    }

    /// How many verified signatures are kept.
    pub fn len(&self) -> usize {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.held.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often something was really verified, whatever came of it, and not found here.
    pub fn worked(&self) -> u64 {
        self.worked.load(Ordering::Relaxed)
    }

    fn once(
        &self,
        key: Key,
        by: Signer<'_>,
        now: i64,
        verify: impl FnOnce() -> Result<VerifiedSignature, NotVerified>,
    ) -> Result<Arc<VerifiedSignature>, NotVerified> {
        if let Some(known) = self.known(&key, by, now) {
            return known;
        }
        self.worked.fetch_add(1, Ordering::Relaxed);
        let verified = verify().map(Arc::new);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        match &verified {
            Ok(verified) => known.held.keep(key, verified.clone(), self.half),
            // What lies in the bytes stays as it is; a trust root or a key file may be exchanged.
            Err(
                refused @ (NotVerified::Invalid(_)
                | NotVerified::CouldNot(CouldNot::Unsupported { .. })),
            ) => {
                let stands = now..stands_until(refused, by, now);
                known.refused.keep(key, (stands, refused.clone()), self.half);
            }
            Err(
                NotVerified::Absent
                | NotVerified::CouldNot(
                    CouldNot::Keys(_)
                    | CouldNot::TrustRoot(_)
                    | CouldNot::Missing { .. }
                    | CouldNot::TooMuch { .. },
                ),
            ) => {}
        }
        verified
    }

    /// What became of it before, where that still stands.
    fn known(
        &self,
        key: &Key,
        by: Signer<'_>,
        now: i64,
    ) -> Option<Result<Arc<VerifiedSignature>, NotVerified>> {
        // A thread that panicked left the maps whole: each change of them is one call.
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(verified) = known.held.get(key) {
            known.held.keep(*key, verified.clone(), self.half);
            return Some(holds(&verified, by, now).map(|()| verified));
        }
        let (stands, refused) = known.refused.get(key)?;
        stands.contains(&now).then_some(Err(refused))
    }
}

/// Whether what held once does at `now`, by a trust root that is in force.
fn holds(verified: &VerifiedSignature, by: Signer<'_>, now: i64) -> Result<(), NotVerified> {
    time::none_after(now, verified.timestamps(), by.root())?;
    by.root().map_or(Ok(()), |root| log::still(&verified.lasting, root, now))
}

/// Until when a refusal of `now` stands at most.
fn stands_until(refused: &NotVerified, by: Signer<'_>, now: i64) -> i64 {
    let mut until = now.saturating_add(REFUSED_FOR);
    if let NotVerified::Invalid(Invalid::Sigstore(SigstoreInvalid::NotYet { from, .. })) = refused {
        until = until.min(*from);
    }
    let changes = by.root().and_then(|root| windows::changes_after(root.material(), now));
    changes.map_or(until, |at| until.min(at))
}

impl<V> Default for Generations<V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<V: Clone> Generations<V> {
    pub(in crate::verify) fn get(&self, key: &Key) -> Option<V> {
        self.young.get(key).or_else(|| self.old.get(key)).cloned()
    }

    pub(in crate::verify) fn len(&self) -> usize {
        self.young.len() + self.old.len()
    }

    pub(in crate::verify) fn keep(&mut self, key: Key, value: V, half: usize) {
        self.old.remove(&key);
        self.young.insert(key, value);
        if self.young.len() >= half {
            self.old = std::mem::take(&mut self.young);
        }
    }
}

/// A digest of parts, each with its length.
struct Parts(Sha256);

impl Parts {
    fn new(kind: &[u8], by: &Signer<'_>) -> Self {
        let mut parts = Self(Sha256::new());
        parts.add(kind);
        match by {
            Signer::Keyless(root) => parts.add(b"keyless").root(root),
            Signer::DockerHardenedImages(root, hardened) => parts
                .add(b"dhi")
                .add(hardened.key.fingerprint().as_bytes())
                .add(&hardened.since.to_be_bytes())
                .root(root),
            Signer::Key(key, log) => {
                parts.add(b"key").add(key.fingerprint().as_bytes());
                match log {
                    Log::Required(root) => parts.add(b"required").root(root),
                    Log::WherePresent(root) => parts.add(b"present").root(root),
                    Log::Ignored => parts.add(b"ignored"),
                }
            }
        };
        parts
    }

    fn add(&mut self, part: &[u8]) -> &mut Self {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
        self
    }

    fn root(&mut self, root: &TrustRoot) -> &mut Self {
        self.add(root.name().as_bytes()).add(root.fingerprint())
    }

    fn finish(self) -> Key {
        self.0.finalize().into()
    }
}
