//! Whom signatures of images and attestations are trusted by, and what was verified by them already.

use std::sync::{Arc, LazyLock};

use super::sigstore::{TrustRoot, TrustRootError, TrustRoots, VerificationCache};

/// Trust roots by name, and a memory of what held. One for all policies of a process.
#[derive(Debug)]
pub struct Trust {
    roots: Result<TrustRoots, TrustRootError>,
    /// What was verified already.
    pub cache: VerificationCache,
}

static EMBEDDED: LazyLock<Arc<Trust>> =
    LazyLock::new(|| Arc::new(Trust::of(TrustRoots::embedded())));

impl Trust {
    /// Trust in these roots.
    pub fn new(roots: TrustRoots) -> Self {
        Self::of(Ok(roots))
    }

    /// Trust in the roots that are part of this program, the same for all who ask.
    pub fn embedded() -> Arc<Self> {
        EMBEDDED.clone()
    }

    fn of(roots: Result<TrustRoots, TrustRootError>) -> Self {
        Self { roots, cache: VerificationCache::default() }
    }

    /// The root of a name; Sigstore's public instance where none is given.
    ///
    /// # Errors
    /// When there is none of that name, or an embedded one cannot be read.
    pub fn root(&self, name: Option<&str>) -> Result<&Arc<TrustRoot>, TrustRootError> {
        self.roots.as_ref().map_err(Clone::clone)?.get(name)
    }
}
