//! Why metadata could not be had, in words for people.

use std::fmt;
use std::time::Duration;

/// Metadata that could not be had.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// `--offline`, or a door that cannot fetch this.
    #[error("{what} would have to be fetched, and fetching is switched off")]
    Offline {
        /// What was wanted.
        what: String,
    },
    /// The other side has no such thing.
    #[error("{what}: not found")]
    NotFound {
        /// What was wanted.
        what: String,
    },
    /// The other side wants credentials, or others than it got.
    #[error("{what}: {host} refused access; {advice}")]
    Unauthorized {
        /// What was wanted.
        what: String,
        /// Who refused.
        host: String,
        /// What the person can do about it.
        advice: String,
    },
    /// The other side has had enough of us (429), and more waiting than we do would be needed.
    #[error("{what}: {host} answered that there were too many requests; {}", Wait(*retry_after))]
    RateLimited {
        /// What was wanted.
        what: String,
        /// Who refused.
        host: String,
        /// How long it asks to wait (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// There is more of it than we read.
    #[error("{what}: larger than the limit of {limit} bytes")]
    TooLarge {
        /// What was wanted.
        what: String,
        /// The limit in bytes.
        limit: u64,
    },
    /// What came is not what its digest says.
    #[error("{what}: expected {expected}, got {actual}")]
    DigestMismatch {
        /// What was wanted.
        what: String,
        /// The digest that it was asked for by.
        expected: String,
        /// The digest of what came.
        actual: String,
    },
    /// It took too long.
    #[error("{what}: no answer within {}", Seconds(*after))]
    Timeout {
        /// What was wanted.
        what: String,
        /// The limit that ran out.
        after: Duration,
    },
    /// A redirect that is not followed.
    #[error("{what}: {host} redirects {problem}")]
    Redirect {
        /// What was wanted.
        what: String,
        /// Who redirects.
        host: String,
        /// Why it is not followed.
        problem: RedirectProblem,
    },
    /// It cannot be resolved here, whatever the other side says.
    #[error("{what} cannot be resolved: {why}")]
    Unsupported {
        /// What was wanted.
        what: String,
        /// Why not, and what to do instead.
        why: String,
    },
    /// The other side answered with something that may not be believed, or not at all.
    #[error("{what}: {source}")]
    Failed {
        /// What was wanted.
        what: String,
        /// Why it failed.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// Why a redirect is not followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RedirectProblem {
    /// A chain or a circle of redirects.
    #[error("more than {0} times in a row")]
    TooMany(usize),
    /// From HTTPS to plain HTTP.
    #[error("from https to plain http, {0}")]
    Downgrade(String),
    /// To something that is no URL, or none of HTTP.
    #[error("to something that is no http(s) URL: {0:?}")]
    Target(String),
    /// A redirect where none may be: a request that carries a secret in its body.
    #[error("where a redirect may not be followed, to {0}")]
    Forbidden(String),
}

/// A span as whole or tenths of seconds.
struct Seconds(Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.0.as_secs_f64())
    }
}

/// What `Retry-After` says, for people.
struct Wait(Option<Duration>);

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(after) => write!(f, "try again in {}", Seconds(after)),
            None => f.write_str("try again later"),
        }
    }
}
