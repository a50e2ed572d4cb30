//! Trust roots: whose certificates, logs and timestamps count, and until when.
//!
//! Two forms are read. A plain `trusted_root.json`
//! (<https://github.com/sigstore/protobuf-specs/blob/main/protos/sigstore_trustroot.proto>), as a
//! private Sigstore's operators hand it out, says nothing of when it must be renewed: it counts as
//! expired once every certificate authority in it, or where it has none every log, has ended. The
//! form that `buildgate trust update` writes ([`UpdatedRoot`]) holds the same and when it was
//! fetched, and expires with the TUF metadata that its keyholders signed: the earlier of the root's
//! and the targets' expiry. (The timestamp's and the snapshot's, a matter of days, protect an update
//! from a stale mirror and are judged when it is made.)
//!
//! The embedded roots are what the pinned `sigstore-trust-root` crate carries; they have an age and
//! no expiry of their own.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use sha2::{Digest as _, Sha256};
use sigstore_trust_root::{
    SIGSTORE_GITHUB_TRUSTED_ROOT, SIGSTORE_PRODUCTION_TRUSTED_ROOT, TrustedRoot, TsaAuthority,
};
use sigstore_verify::Verifier;

use super::error::TrustRootError;
use super::{provider, time, windows};
use crate::verify::CLOCK_SKEW;

/// Most bytes of a trust root.
pub const MAX_TRUST_ROOT: usize = 4 << 20;

/// The embedded trust roots: name, content, and the day of the release that carries it (seconds
/// since 1970). Sigstore's public instance is the one that is used where none is named.
pub const EMBEDDED: [(&str, &str, i64); 2] = [
    ("sigstore", SIGSTORE_PRODUCTION_TRUSTED_ROOT, EMBEDDED_AS_OF),
    ("github", SIGSTORE_GITHUB_TRUSTED_ROOT, EMBEDDED_AS_OF),
];

/// 2026-10-23, when sigstore-trust-root 0.15.1 was released. A test ties this to the version in
/// Cargo.lock and to what is in the roots.
const EMBEDDED_AS_OF: i64 = 1_792_713_600;

/// The form of before versions were kept, and the one that is written.
const UPDATED_V1: &str = "application/vnd.buildgate.trust-root.v1+json";
const UPDATED: &str = "application/vnd.buildgate.trust-root.v2+json";

/// Where a trust root came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// It is part of this program.
    Embedded,
    /// A plain `trusted_root.json`.
    Plain,
    /// `buildgate trust update` fetched it.
    Updated,
}

/// A trust root, ready to verify with.
#[derive(Clone)]
pub struct TrustRoot {
    name: String,
    origin: Origin,
    as_of: Option<i64>,
    expires: Option<i64>,
    source: String,
    fingerprint: [u8; 32],
    material: TrustedRoot,
    verifier: Arc<Verifier>,
    timestamp_authorities: Arc<[(String, TsaAuthority)]>,
}

/// What `buildgate trust update` writes. The file is trusted as any trust root is: its expiry binds
/// whoever reads it, and whoever may write it may as well write other keys into it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdatedRoot {
    media_type: String,
    /// The mirror that it came from.
    source: String,
    /// When it was fetched: RFC 3339.
    fetched: jiff::Timestamp,
    /// When it must be fetched again: RFC 3339.
    expires: jiff::Timestamp,
    /// What vouched for it: an update takes nothing older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    vouched: Option<Vouched>,
    /// The `trusted_root.json`, as it was signed.
    trusted_root: Box<RawValue>,
}

/// The TUF metadata that vouched for a trust root.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vouched {
    /// Version of each role's metadata.
    pub versions: Versions,
    /// The `root.json` that was reached: whose keys count from here on.
    pub root: Box<RawValue>,
}

/// Versions of TUF metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Versions {
    /// Of `root.json`.
    pub root: u64,
    /// Of `timestamp.json`.
    pub timestamp: u64,
    /// Of `snapshot.json`.
    pub snapshot: u64,
    /// Of `targets.json`.
    pub targets: u64,
}

impl Versions {
    /// The first role that is older than in `before`: its name, its version, and the one before.
    pub fn older_than(&self, before: &Self) -> Option<(&'static str, u64, u64)> {
        let roles = [
            ("root", self.root, before.root),
            ("timestamp", self.timestamp, before.timestamp),
            ("snapshot", self.snapshot, before.snapshot),
            ("targets", self.targets, before.targets),
        ];
        roles.into_iter().find(|(_, now, before)| now < before)
    }
}

impl UpdatedRoot {
    /// What was fetched from `source` at `fetched`, good until `expires`.
    ///
    /// # Errors
    /// When the content is no JSON.
    pub fn new(
        source: &str,
        fetched: jiff::Timestamp,
        expires: jiff::Timestamp,
        trusted_root: &str,
    ) -> Result<Self, serde_json::Error> {
        Ok(Self {
            media_type: UPDATED.to_owned(),
            source: source.to_owned(),
            fetched,
            expires,
            vouched: None,
            trusted_root: RawValue::from_string(trusted_root.trim().to_owned())?,
        })
    }

    /// The same with what vouched for it.
    #[must_use]
    pub fn vouched_by(mut self, vouched: Vouched) -> Self {
        self.vouched = Some(vouched);
        self
    }

    /// What vouched for it, where that was written down.
    pub const fn vouched(&self) -> Option<&Vouched> {
        self.vouched.as_ref()
    }

    /// Whether this is of the form that is meant here.
    pub fn is_one(&self) -> bool {
        matches!(self.media_type.as_str(), UPDATED | UPDATED_V1)
    }
}

impl TrustRoot {
    /// Reads a trust root of either form.
    ///
    /// # Errors
    /// When it is too large, cannot be read, or holds a key or certificate that cannot be used.
    pub fn parse(name: &str, data: &[u8]) -> Result<Self, TrustRootError> {
        if data.len() > MAX_TRUST_ROOT {
            let name = name.to_owned();
            return Err(TrustRootError::TooLarge { name, size: data.len(), limit: MAX_TRUST_ROOT });
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Form {
            media_type: String,
        }
        let malformed = |why: &dyn fmt::Display| malformed(name, why);
        let form: Form = serde_json::from_slice(data).map_err(|error| malformed(&error))?;
        if !matches!(form.media_type.as_str(), UPDATED | UPDATED_V1) {
            let json = std::str::from_utf8(data).map_err(|error| malformed(&error))?;
            let mut root = Self::read(name, json, Origin::Plain)?;
            root.expires = windows::ended(&root.material);
            return Ok(root);
        }
        let file: UpdatedRoot = serde_json::from_slice(data).map_err(|error| malformed(&error))?;
        let mut root = Self::read(name, file.trusted_root.get(), Origin::Updated)?;
        root.as_of = Some(file.fetched.as_second());
        root.expires = Some(file.expires.as_second());
        root.source = file.source;
        Ok(root)
    }

    fn embedded(name: &str, json: &str, as_of: i64) -> Result<Self, TrustRootError> {
        let mut root = Self::read(name, json, Origin::Embedded)?;
        root.as_of = Some(as_of);
        root.expires = windows::ended(&root.material);
        Ok(root)
    }

    fn read(name: &str, json: &str, origin: Origin) -> Result<Self, TrustRootError> {
        provider::install();
        let malformed = |why: &dyn fmt::Display| malformed(name, why);
        let material = TrustedRoot::from_json(json).map_err(|error| malformed(&error))?;
        let known = material.media_type.strip_prefix("application/vnd.dev.sigstore.trustedroot");
        if !known.is_some_and(|version| version.ends_with("json") || version.contains("json;")) {
            return Err(malformed(&format!("it is {:?}", material.media_type)));
        }
        let verifier = Verifier::new(&material).map_err(|error| malformed(&error))?;
        Ok(Self {
            name: name.to_owned(),
            origin,
            as_of: None,
            expires: None,
            source: String::new(),
            fingerprint: Sha256::digest(json).into(),
            timestamp_authorities: time::authorities(&material).into(),
            material,
            verifier: Arc::new(verifier),
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it came from.
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// The mirror that it was fetched from; empty where nobody says.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The day that it is of, in seconds since 1970, where that is known.
    pub const fn as_of(&self) -> Option<i64> {
        self.as_of
    }

    /// When it expires, in seconds since 1970, where anything says so.
    pub const fn expires(&self) -> Option<i64> {
        self.expires
    }

    /// SHA-256 of its content.
    pub const fn fingerprint(&self) -> &[u8; 32] {
        &self.fingerprint
    }

    /// The authorities and logs that it names, by their URLs: certificate authorities, logs,
    /// certificate transparency logs, timestamp authorities.
    pub fn names(&self) -> [Vec<&str>; 4] {
        let root = &self.material;
        [
            root.certificate_authorities.iter().map(|it| it.uri.as_str()).collect(),
            root.tlogs.iter().map(|it| it.base_url.as_str()).collect(),
            root.ctlogs.iter().map(|it| it.base_url.as_str()).collect(),
            root.timestamp_authorities
                .iter()
                .map(|it| it.uri.as_deref().unwrap_or_default())
                .collect(),
        ]
    }

    /// Whether it may be used at `now` (seconds since 1970).
    ///
    /// # Errors
    /// When it has expired, or was fetched in the future.
    pub fn usable(&self, now: i64) -> Result<(), TrustRootError> {
        let name = || self.name.clone();
        if let Some(at) = self.expires.filter(|at| *at <= now) {
            return Err(TrustRootError::Expired { name: name(), at });
        }
        // Only an update is dated by a clock, and that one may have been wrong.
        let fetched = self.as_of.filter(|_| self.origin == Origin::Updated);
        match fetched.filter(|at| *at > now.saturating_add(CLOCK_SKEW)) {
            Some(at) => Err(TrustRootError::Future { name: name(), at }),
            None => Ok(()),
        }
    }

    pub(super) fn material(&self) -> &TrustedRoot {
        &self.material
    }

    /// The timestamp authorities, each with its URL.
    pub(super) fn timestamp_authorities(&self) -> &[(String, TsaAuthority)] {
        &self.timestamp_authorities
    }

    pub(super) fn verifier(&self) -> &Verifier {
        &self.verifier
    }
}

impl fmt::Debug for TrustRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrustRoot")
            .field("name", &self.name)
            .field("origin", &self.origin)
            .field("as_of", &self.as_of)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// Trust roots by name.
#[derive(Clone, Debug)]
pub struct TrustRoots {
    roots: BTreeMap<String, Arc<TrustRoot>>,
}

impl TrustRoots {
    /// The name that is meant where none is given.
    pub const DEFAULT: &'static str = "sigstore";
    /// GitHub's own instance, which vouches for its private repositories.
    pub const GITHUB: &'static str = "github";

    /// The embedded roots alone.
    ///
    /// # Errors
    /// When one cannot be read, which the tests of this program rule out.
    pub fn embedded() -> Result<Self, TrustRootError> {
        let mut roots = BTreeMap::new();
        for (name, json, as_of) in EMBEDDED {
            roots.insert(name.to_owned(), Arc::new(TrustRoot::embedded(name, json, as_of)?));
        }
        Ok(Self { roots })
    }

    /// Adds a root; one of an embedded root's name takes its place.
    ///
    /// # Errors
    /// When there is another of its name that is not embedded.
    pub fn insert(&mut self, root: TrustRoot) -> Result<(), TrustRootError> {
        let before = self.roots.get(root.name());
        if before.is_some_and(|before| before.origin() != Origin::Embedded) {
            return Err(TrustRootError::Twice { name: root.name });
        }
        self.roots.insert(root.name.clone(), Arc::new(root));
        Ok(())
    }

    /// The root of a name; the public instance's where none is given.
    ///
    /// # Errors
    /// When there is none of that name.
    pub fn get(&self, name: Option<&str>) -> Result<&Arc<TrustRoot>, TrustRootError> {
        let name = name.unwrap_or(Self::DEFAULT);
        self.roots.get(name).ok_or_else(|| TrustRootError::Unknown {
            name: name.to_owned(),
            known: self.roots.keys().cloned().collect::<Vec<_>>().join(", "),
        })
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TrustRoot>> {
        self.roots.values()
    }
}

fn malformed(name: &str, why: &dyn fmt::Display) -> TrustRootError {
    TrustRootError::Malformed { name: name.to_owned(), why: why.to_string() }
}
