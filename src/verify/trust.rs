//! Whom signatures of images and attestations are trusted by, and what was verified by them already.

use std::sync::{Arc, LazyLock};

use super::error::KeyFileError;
use super::sigstore::{HardenedKey, TrustRoot, TrustRootError, TrustRoots, VerificationCache};

/// Trust roots by name, and a memory of what held. One for all policies of a process.
#[derive(Debug)]
pub struct Trust {
    roots: Result<TrustRoots, TrustRootError>,
    hardened: Result<HardenedKey, KeyFileError>,
    github: Github,
    /// What was verified already.
    pub cache: VerificationCache,
}

/// Where GitHub is: a public one, or one of an enterprise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Github {
    /// Its API, without a slash at the end.
    pub api: String,
    /// Where its repositories are, as certificates name them; without a slash at the end.
    pub web: String,
}

impl Default for Github {
    fn default() -> Self {
        Self { api: "https://api.github.com".to_owned(), web: "https://github.com".to_owned() }
    }
}

static EMBEDDED: LazyLock<Arc<Trust>> =
    LazyLock::new(|| Arc::new(Trust::of(TrustRoots::embedded())));

impl Trust {
    /// Trust in these roots, and in the key of Docker Hardened Images that is built in.
    pub fn new(roots: TrustRoots) -> Self {
        Self::of(Ok(roots))
    }

    /// Trust in the roots that are part of this program, the same for all who ask.
    pub fn embedded() -> Arc<Self> {
        EMBEDDED.clone()
    }

    fn of(roots: Result<TrustRoots, TrustRootError>) -> Self {
        let hardened = HardenedKey::built_in();
        Self { roots, hardened, github: Github::default(), cache: VerificationCache::default() }
    }

    /// The same with another key for Docker Hardened Images, for whoever tests without Docker's.
    #[doc(hidden)]
    #[must_use]
    pub fn with_hardened(mut self, key: HardenedKey) -> Self {
        self.hardened = Ok(key);
        self
    }

    /// The same with another GitHub.
    #[must_use]
    pub fn with_github(mut self, github: Github) -> Self {
        self.github = github;
        self
    }

    /// The root of a name; Sigstore's public instance where none is given.
    ///
    /// # Errors
    /// When there is none of that name, or an embedded one cannot be read.
    pub fn root(&self, name: Option<&str>) -> Result<&Arc<TrustRoot>, TrustRootError> {
        self.roots.as_ref().map_err(Clone::clone)?.get(name)
    }

    /// The key of Docker Hardened Images.
    ///
    /// # Errors
    /// When it cannot be read, which the tests of this program rule out.
    pub fn hardened(&self) -> Result<&HardenedKey, KeyFileError> {
        self.hardened.as_ref().map_err(Clone::clone)
    }

    /// Where GitHub is.
    pub const fn github(&self) -> &Github {
        &self.github
    }
}
