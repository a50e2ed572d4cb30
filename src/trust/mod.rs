//! Trust roots from elsewhere: files, and Sigstore's update framework (TUF,
//! <https://theupdateframework.github.io/specification/latest/>).
//!
//! This is what `buildgate trust` does, and nothing else calls [`update`]: no decision ever fetches.
//!
//! What an earlier update wrote is its memory: it begins with the keys that were reached then, and takes
//! no metadata of a lower version (TUF, sections 5.4.3, 5.5.5 and 5.6.5). Nobody can bring back a set
//! that was replaced, while it has not expired.

mod file;
pub mod words;

use serde_json::value::RawValue;
use sigstore_tuf::transport::FetchFuture;
use sigstore_tuf::{Repository, Updater};
use url::Url;

pub use self::file::{FileError, before, read, write};
use crate::resolve::{Body, Options, Outgoing, Transport, TransportSetupError};
use crate::verify::sigstore::{TrustRoot, TrustRootError, UpdatedRoot, Versions, Vouched};

/// Where Sigstore's public instance keeps its trust root.
pub const SIGSTORE_MIRROR: &str = "https://tuf-repo-cdn.sigstore.dev";
/// The root of trust of that mirror: whoever these keys name may say what comes next.
pub const SIGSTORE_ROOT: &[u8] = include_bytes!("sigstore-root.json");
/// The file that is a trust root, by Sigstore's convention.
pub const TARGET: &str = "trusted_root.json";

/// What to fetch.
#[derive(Clone, Debug)]
pub struct Update<'a> {
    /// The repository; metadata stands below it, targets below `targets/`.
    pub mirror: &'a Url,
    /// The first `root.json` that is trusted, whatever its age.
    pub root: &'a [u8],
    /// Name of the target that is the trust root.
    pub target: &'a str,
    /// What an earlier update has left.
    pub before: Option<&'a UpdatedRoot>,
}

/// Why there is no newer trust root.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    /// The HTTP client cannot be made.
    #[error(transparent)]
    Setup(#[from] TransportSetupError),
    /// The repository cannot be reached, or what it holds is not signed as it must be.
    #[error("{mirror} gave no trust root")]
    Repository {
        /// The mirror.
        mirror: String,
        /// Why.
        source: sigstore_tuf::Error,
    },
    /// It is older than what an earlier update found.
    #[error(
        "{mirror} gave {role} of version {found}, and version {before} was there before; if that was of \
         another repository, remove the file"
    )]
    Older {
        /// The mirror.
        mirror: String,
        /// The role of TUF whose metadata is older.
        role: &'static str,
        /// Its version.
        found: u64,
        /// The version before.
        before: u64,
    },
    /// A role has no metadata, which the update rules out.
    #[error("{mirror} gave no {role}")]
    Missing {
        /// The mirror.
        mirror: String,
        /// The role of TUF.
        role: &'static str,
    },
    /// What was signed is no trust root.
    #[error(transparent)]
    Root(#[from] TrustRootError),
    /// What was signed is no JSON.
    #[error("{target} of {mirror} is no JSON")]
    Json {
        /// The target.
        target: String,
        /// The mirror.
        mirror: String,
        /// Why.
        source: serde_json::Error,
    },
    /// What was signed is no text.
    #[error("{target} of {mirror} is no text")]
    Text {
        /// The target.
        target: String,
        /// The mirror.
        mirror: String,
        /// Why.
        source: std::string::FromUtf8Error,
    },
}

/// Fetches a trust root and everything that vouches for it, at `now`. It is good until the first of
/// its keyholders' signatures expires: the root's or the targets'.
///
/// # Errors
/// When anything is missing, expired, older than what vouches for it, or not signed by enough keys.
pub async fn update(
    wanted: &Update<'_>,
    options: &Options,
    now: jiff::Timestamp,
) -> Result<UpdatedRoot, UpdateError> {
    update_from(wanted, || Ok(Mirror::new(wanted.mirror, Transport::new(options)?)), now).await
}

/// The same from repositories that are not reached over HTTP, for whoever tests with anything.
///
/// # Errors
/// As [`update`].
#[doc(hidden)]
pub async fn update_from<R: Repository + 'static>(
    wanted: &Update<'_>,
    repository: impl Fn() -> Result<R, TransportSetupError>,
    now: jiff::Timestamp,
) -> Result<UpdatedRoot, UpdateError> {
    crate::verify::sigstore::use_our_algorithms();
    let mirror = || wanted.mirror.to_string();
    let target = || wanted.target.to_owned();
    let failed = |source| UpdateError::Repository { mirror: mirror(), source };
    let known = wanted.before.and_then(UpdatedRoot::vouched);
    let mut updater = Updater::new(repository()?, wanted.root).map_err(failed)?;
    if let Some(known) = known.filter(|it| it.versions.root > updater.trusted().root().version) {
        updater = Updater::new(repository()?, known.root.get().as_bytes()).map_err(failed)?;
    }
    updater.refresh(now).await.map_err(failed)?;
    let content = updater.get_target(wanted.target, now).await.map_err(failed)?;
    let content = String::from_utf8(content).map_err(|source| UpdateError::Text {
        target: target(),
        mirror: mirror(),
        source,
    })?;
    TrustRoot::parse(wanted.target, content.as_bytes())?;
    let trusted = updater.trusted();
    let missing = |role| UpdateError::Missing { mirror: mirror(), role };
    let versions = Versions {
        root: trusted.root().version,
        timestamp: trusted.timestamp().ok_or_else(|| missing("timestamp"))?.version,
        snapshot: trusted.snapshot().ok_or_else(|| missing("snapshot"))?.version,
        targets: trusted.targets_role("targets").ok_or_else(|| missing("targets"))?.version,
    };
    if let Some((role, found, before)) = known.and_then(|it| versions.older_than(&it.versions)) {
        return Err(UpdateError::Older { mirror: mirror(), role, found, before });
    }
    let targets = trusted.targets_role("targets").map(|targets| targets.expires);
    let root = trusted.root().expires;
    let expires = targets.map_or(root, |targets| targets.min(root));
    let not_json = |source| UpdateError::Json { target: target(), mirror: mirror(), source };
    let root = serde_json::from_slice::<Box<RawValue>>(trusted.root_bytes()).map_err(not_json)?;
    let updated = UpdatedRoot::new(wanted.mirror.as_str(), now, expires, &content);
    Ok(updated.map_err(not_json)?.vouched_by(Vouched { versions, root }))
}

/// A TUF repository over our own HTTP: its redirects, limits and certificates.
struct Mirror {
    base: Url,
    transport: Transport,
}

impl Mirror {
    fn new(base: &Url, transport: Transport) -> Self {
        let mut base = base.clone();
        if !base.path().ends_with('/') {
            let path = format!("{}/", base.path());
            base.set_path(&path);
        }
        Self { base, transport }
    }

    async fn fetch(&self, path: &str, limit: u64) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        let url = self.base.join(path).map_err(|source| {
            sigstore_tuf::Error::transport_with_source(format!("invalid path {path:?}"), source)
        })?;
        if !url.as_str().starts_with(self.base.as_str()) {
            return Err(sigstore_tuf::Error::transport(format!("{path:?} leaves the repository")));
        }
        let what = url.to_string();
        let request = Outgoing {
            what: &what,
            url,
            headers: http::HeaderMap::new(),
            authorization: None,
            body: Body::GetDecoded,
        };
        let failed = |source| {
            sigstore_tuf::Error::transport_with_source(format!("cannot get {what}"), source)
        };
        let answer = self.transport.send(&request).await.map_err(failed)?;
        match answer.response.status() {
            // Object stores answer 403 for what is not there.
            http::StatusCode::NOT_FOUND | http::StatusCode::FORBIDDEN => Ok(None),
            status if status.is_success() => {
                Ok(Some(answer.bytes(&what, limit).await.map_err(failed)?.to_vec()))
            }
            _ => Err(failed(answer.unexpected(&what))),
        }
    }
}

impl Repository for Mirror {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(self.fetch(name, max_length))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { self.fetch(&format!("targets/{path}"), max_length).await })
    }
}
