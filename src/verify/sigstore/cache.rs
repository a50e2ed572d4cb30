//! What was verified already, so that one image is verified once a build.
//!
//! Only what holds is kept: a signature that does not may hold by a later trust root or clock. What
//! is kept is asked for by a digest of everything that went into it, the trust root's content and
//! the key included; a trust root that has expired since is an error all the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::{
    Artifact, Log, Signer, SimpleSigning, TrustRoot, VerifiedSignature, verify_bundle,
    verify_simple_signing,
};
use crate::verify::NotVerified;

type Key = [u8; 32];
type Known = HashMap<Key, Arc<VerifiedSignature>>;

/// How many signatures are kept at most.
const CAPACITY: usize = 1024;

/// Verified signatures, the most recently used of them. Cheap to share, and bounded.
#[derive(Debug)]
pub struct VerificationCache {
    generations: Mutex<Generations>,
    half: usize,
}

/// Two generations: what is used moves to the young one, and when that is full the old one goes.
#[derive(Debug, Default)]
struct Generations {
    young: Known,
    old: Known,
}

impl Default for VerificationCache {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl VerificationCache {
    /// A cache of at most so many signatures.
    pub fn new(capacity: usize) -> Self {
        Self { generations: Mutex::default(), half: (capacity / 2).max(1) }
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
        self.once(about.finish(), || verify_bundle(bundle, artifact, by, now))
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
        self.once(about.finish(), || verify_simple_signing(signed, manifest, by, now))
    }

    /// How many are kept.
    pub fn len(&self) -> usize {
        let generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.young.len() + generations.old.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn once(
        &self,
        key: Key,
        verify: impl FnOnce() -> Result<VerifiedSignature, NotVerified>,
    ) -> Result<Arc<VerifiedSignature>, NotVerified> {
        // A thread that panicked left the maps whole: each change of them is one call.
        let known = self.generations.lock().unwrap_or_else(PoisonError::into_inner).get(&key);
        if let Some(known) = known {
            return Ok(self.keep(key, known));
        }
        Ok(self.keep(key, Arc::new(verify()?)))
    }

    fn keep(&self, key: Key, verified: Arc<VerifiedSignature>) -> Arc<VerifiedSignature> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        generations.old.remove(&key);
        generations.young.insert(key, verified.clone());
        if generations.young.len() >= self.half {
            generations.old = std::mem::take(&mut generations.young);
        }
        verified
    }
}

impl Generations {
    fn get(&self, key: &Key) -> Option<Arc<VerifiedSignature>> {
        self.young.get(key).or_else(|| self.old.get(key)).cloned()
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
            Signer::DockerHardenedImages(root) => parts.add(b"dhi").root(root),
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
