//! Who signed what by the keys of a policy, where that was found out already: git objects and downloads.
//!
//! An answer is asked for by a digest of all that it rests on: the octets that are signed, the signature and
//! the key file. What is in force changes with time: an answer is given again only while every comparison
//! with the clock that it came of comes out the same, so that it ends with a key, begins with one, and is
//! forgotten by a clock that was set back.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use sha2::{Digest as _, Sha256};

use super::clock::Clock;
use super::error::{CouldNot, Invalid, KeyFileError, NotVerified};
use super::git::verify_git_at;
use super::sigstore::Generations;
use super::{DetachedSignature, KeyFile, ObjectFormat, VerifiedSigner};
use crate::input::gitobject::GitObject;
use crate::meta::ChecksumResponse;

type Key = [u8; 32];

/// How many signers are kept at most, and as many refusals.
const CAPACITY: usize = 1024;
/// How many key files are kept at most, and up to which size.
const KEY_FILES: usize = 16;
const KEPT_KEY_FILE: usize = 64 << 10;

/// An answer, and from when until when it stands.
#[derive(Clone, Debug)]
struct Answer {
    from: i64,
    until: i64,
    answer: Result<VerifiedSigner, NotVerified>,
}

/// What was found out by key files, the most recently used of it. Cheap to share, and bounded.
#[derive(Debug)]
pub struct SignerCache {
    known: Mutex<Known>,
    half: usize,
    worked: AtomicU64,
}

#[derive(Debug, Default)]
struct Known {
    held: Generations<Answer>,
    refused: Generations<Answer>,
    keys: Generations<Arc<KeyFile>>,
}

impl Default for SignerCache {
    fn default() -> Self {
        Self::new(CAPACITY)
    }
}

impl SignerCache {
    /// A cache of at most so many signers.
    pub fn new(capacity: usize) -> Self {
        Self { known: Mutex::default(), half: (capacity / 2).max(1), worked: AtomicU64::new(0) }
    }

    /// As [`KeyFile::parse`].
    ///
    /// # Errors
    /// As there.
    pub fn keys(&self, data: &[u8]) -> Result<Arc<KeyFile>, KeyFileError> {
        self.keys_of(data, digest(b"keys", &[data]))
    }

    fn keys_of(&self, data: &[u8], name: Key) -> Result<Arc<KeyFile>, KeyFileError> {
        if let Some(keys) = self.known().keys.get(&name) {
            return Ok(keys);
        }
        let keys = Arc::new(KeyFile::parse(data)?);
        if data.len() <= KEPT_KEY_FILE {
            self.known().keys.keep(name, keys.clone(), KEY_FILES / 2);
        }
        Ok(keys)
    }

    /// As [`verify_git`](super::verify_git), by the octets of a key file.
    ///
    /// # Errors
    /// As there, and where no keys can be read from the file.
    pub fn git(
        &self,
        object: &GitObject,
        format: ObjectFormat,
        keys: &[u8],
        now: i64,
    ) -> Result<VerifiedSigner, NotVerified> {
        let kind = object.kind().name().as_bytes();
        let about = [kind, format.signature_header().as_bytes(), object.raw(), keys];
        self.once(digest(b"git", &about), now, |clock| {
            let keys = self.keys(keys).map_err(CouldNot::Keys)?;
            verify_git_at(object, format, &keys, clock)
        })
    }

    /// As [`DetachedSignature::verify_digest`], by the octets of a signature and of a key file.
    ///
    /// # Errors
    /// As there, and where no OpenPGP keys can be read from the file.
    pub fn http(
        &self,
        signature: &[u8],
        response: &ChecksumResponse,
        keys: &[u8],
        now: i64,
    ) -> Result<VerifiedSigner, NotVerified> {
        let about = [signature, response.digest.as_bytes(), &response.suffix, keys];
        self.once(digest(b"http", &about), now, |clock| {
            let signature = DetachedSignature::parse(signature)?;
            match &*self.keys(keys).map_err(CouldNot::Keys)? {
                KeyFile::OpenPgp(keys) => signature.verify_digest_at(response, keys, clock),
                KeyFile::Ssh(_) => {
                    Err(Invalid::OtherKind { signature: "an OpenPGP", keys: "SSH" }.into())
                }
            }
        })
    }

    /// How many answers are kept.
    pub fn len(&self) -> usize {
        let known = self.known();
        known.held.len() + known.refused.len()
    }

    /// Whether none is kept.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How often something was really verified, whatever came of it, and not found here.
    pub fn worked(&self) -> u64 {
        self.worked.load(Ordering::Relaxed)
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Known> {
        // A thread that panicked left the maps whole: each change of them is one call.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn once(
        &self,
        about: Key,
        now: i64,
        verify: impl FnOnce(&Clock) -> Result<VerifiedSigner, NotVerified>,
    ) -> Result<VerifiedSigner, NotVerified> {
        if let Some(answer) = self.known().find(&about, now, self.half) {
            return answer;
        }
        self.worked.fetch_add(1, Ordering::Relaxed);
        let clock = Clock::at(now);
        let answer = verify(&clock);
        let stands = clock.stands();
        let kept = Answer { from: stands.start, until: stands.end, answer: answer.clone() };
        let mut known = self.known();
        match &answer {
            Ok(_) => known.held.keep(about, kept, self.half),
            // All of them lie in the octets that were given.
            Err(
                NotVerified::Absent
                | NotVerified::Invalid(_)
                | NotVerified::CouldNot(CouldNot::Unsupported { .. } | CouldNot::Keys(_)),
            ) => known.refused.keep(about, kept, self.half),
            Err(NotVerified::CouldNot(
                CouldNot::TrustRoot(_) | CouldNot::Missing { .. } | CouldNot::TooMuch { .. },
            )) => {}
        }
        answer
    }
}

impl Known {
    /// What came of it before, where that still stands.
    fn find(
        &mut self,
        about: &Key,
        now: i64,
        half: usize,
    ) -> Option<Result<VerifiedSigner, NotVerified>> {
        for answers in [&mut self.held, &mut self.refused] {
            let Some(known) = answers.get(about) else { continue };
            if known.from <= now && now < known.until {
                answers.keep(*about, known.clone(), half);
                return Some(known.answer);
            }
        }
        None
    }
}

/// A digest of parts, each with its length.
fn digest(kind: &[u8], parts: &[&[u8]]) -> Key {
    let mut digest = Sha256::new();
    for part in [&[kind], parts].concat() {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}
