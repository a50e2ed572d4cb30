//! What was asked once in a run is not asked again: one fetch for each key, shared by all callers.
//!
//! Failures are kept as well: a registry that has refused is not asked a second time for the same
//! thing. A caller that goes away while it fetches hands over to the next one who waits.

use std::collections::HashMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use crate::meta::ResolveError;

type Outcome<V> = Result<V, Arc<ResolveError>>;

/// Answers by key, each fetched at most once.
pub(crate) struct Memo<K, V> {
    cells: Mutex<HashMap<K, Arc<OnceCell<Outcome<V>>>>>,
}

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self { cells: Mutex::default() }
    }
}

impl<K: Eq + Hash, V: Clone> Memo<K, V> {
    /// The answer to `key`; runs `fetch` where nobody has, and waits where somebody does.
    ///
    /// # Errors
    /// What `fetch` failed with, now or when it was run for another caller.
    pub(crate) async fn get<F>(&self, key: K, fetch: F) -> Result<V, ResolveError>
    where
        F: Future<Output = Result<V, ResolveError>>,
    {
        let cell = {
            let mut cells = self.cells.lock().unwrap_or_else(PoisonError::into_inner);
            Arc::clone(cells.entry(key).or_default())
        };
        let outcome = cell.get_or_init(|| async { fetch.await.map_err(Arc::new) }).await;
        outcome.clone().map_err(|error| replay(&error))
    }
}

/// The same failure, for another caller.
fn replay(error: &Arc<ResolveError>) -> ResolveError {
    match &**error {
        ResolveError::Offline { what } => ResolveError::Offline { what: what.clone() },
        ResolveError::NotFound { what } => ResolveError::NotFound { what: what.clone() },
        ResolveError::Unauthorized { what, host, advice } => ResolveError::Unauthorized {
            what: what.clone(),
            host: host.clone(),
            advice: advice.clone(),
        },
        ResolveError::RateLimited { what, host, retry_after } => ResolveError::RateLimited {
            what: what.clone(),
            host: host.clone(),
            retry_after: *retry_after,
        },
        ResolveError::TooLarge { what, limit } => {
            ResolveError::TooLarge { what: what.clone(), limit: *limit }
        }
        ResolveError::DigestMismatch { what, expected, actual } => ResolveError::DigestMismatch {
            what: what.clone(),
            expected: expected.clone(),
            actual: actual.clone(),
        },
        ResolveError::Timeout { what, after } => {
            ResolveError::Timeout { what: what.clone(), after: *after }
        }
        ResolveError::Redirect { what, host, problem } => ResolveError::Redirect {
            what: what.clone(),
            host: host.clone(),
            problem: problem.clone(),
        },
        ResolveError::Unsupported { what, why } => {
            ResolveError::Unsupported { what: what.clone(), why: why.clone() }
        }
        ResolveError::Failed { what, source: _ } => {
            ResolveError::Failed { what: what.clone(), source: Box::new(Shared(Arc::clone(error))) }
        }
    }
}

/// The cause of a failure that several callers share.
#[derive(Debug)]
struct Shared(Arc<ResolveError>);

impl Shared {
    fn cause(&self) -> &(dyn Error + 'static) {
        if let ResolveError::Failed { source, .. } = &*self.0 { &**source } else { &*self.0 }
    }
}

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.cause(), f)
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause().source()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn concurrent_callers_share_one_fetch() {
        let memo = Memo::<u8, u8>::default();
        let fetched = AtomicUsize::new(0);
        let one = || {
            memo.get(1, async {
                fetched.fetch_add(1, Ordering::SeqCst);
                tokio::task::yield_now().await;
                Ok(7)
            })
        };
        let (a, b, c) = tokio::join!(one(), one(), one());
        assert_eq!([a.unwrap(), b.unwrap(), c.unwrap()], [7, 7, 7]);
        assert_eq!(fetched.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn a_failure_is_shared_with_its_cause() {
        let memo = Memo::<u8, u8>::default();
        let cause = std::io::Error::other("reset by peer");
        let fail = ResolveError::Failed { what: "x".into(), source: Box::new(cause) };
        let first = memo.get(1, async { Err(fail) }).await.unwrap_err();
        let second = memo.get(1, async { Ok(1) }).await.unwrap_err();
        assert_eq!(first.to_string(), "x: reset by peer");
        assert_eq!(second.to_string(), "x: reset by peer");
        assert!(second.source().is_some());
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_hands_over() {
        let memo = Memo::<u8, u8>::default();
        {
            let stuck = memo.get(1, std::future::pending());
            let waited = tokio::time::timeout(std::time::Duration::from_millis(5), stuck).await;
            assert!(waited.is_err());
        }
        assert_eq!(memo.get(1, async { Ok(3) }).await.unwrap(), 3);
    }
}
