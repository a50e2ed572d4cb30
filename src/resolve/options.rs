//! What a person may set about fetching: limits, mirrors, trust, credentials.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::source::Platform;

/// How the network is used. The default is right for most machines.
#[derive(Clone, Debug)]
pub struct Options {
    /// The platform of an image where a request names none.
    pub platform: Platform,
    /// Mirrors of a registry (`docker.io`), tried in order before the registry itself.
    pub mirrors: BTreeMap<String, Vec<Url>>,
    /// Registries (`host:port`) that speak plain HTTP; those on loopback always do.
    pub plain_http: BTreeSet<String>,
    /// PEM file with certificates that are trusted besides the system's.
    pub ca_file: Option<PathBuf>,
    /// Docker's `config.json`; `None` for the one that `docker` itself would read.
    pub docker_config: Option<PathBuf>,
    /// Sizes that are read at most.
    pub sizes: Sizes,
    /// How long anything may take.
    pub timeouts: Timeouts,
    /// How often a refused request is made again.
    pub retries: Retries,
}

/// Sizes in bytes that are read at most.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// An image manifest or index; also a list of referrers.
    pub manifest: u64,
    /// An image config.
    pub config: u64,
    /// One attestation or signature blob.
    pub attestation: u64,
    /// A file by URL.
    pub file: u64,
    /// All that git fetches for one reference.
    pub git: u64,
}

/// How long anything may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// Until a connection stands.
    pub connect: Duration,
    /// Between two pieces of an answer.
    pub idle: Duration,
    /// One metadata request as a whole.
    pub total: Duration,
}

/// How often, and how patiently, a request is made again after a 429 or a 5xx.
#[derive(Clone, Copy, Debug)]
pub struct Retries {
    /// At most so many times.
    pub count: u32,
    /// Waiting time before the first; it doubles.
    pub backoff: Duration,
    /// A `Retry-After` beyond this is not waited for.
    pub patience: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            platform: host_platform(),
            mirrors: BTreeMap::new(),
            plain_http: BTreeSet::new(),
            ca_file: None,
            docker_config: None,
            sizes: Sizes::default(),
            timeouts: Timeouts::default(),
            retries: Retries::default(),
        }
    }
}

impl Default for Sizes {
    fn default() -> Self {
        const MIB: u64 = 1 << 20;
        Self {
            manifest: 4 * MIB,
            config: 8 * MIB,
            attestation: 16 * MIB,
            file: 1024 * MIB,
            git: 512 * MIB,
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(300),
        }
    }
}

impl Default for Retries {
    fn default() -> Self {
        Self { count: 2, backoff: Duration::from_millis(500), patience: Duration::from_secs(10) }
    }
}

/// Linux on this machine's architecture: what a daemon on this machine would build for.
fn host_platform() -> Platform {
    let (architecture, variant) = match std::env::consts::ARCH {
        "x86_64" => ("amd64", ""),
        "x86" => ("386", ""),
        "aarch64" => ("arm64", ""),
        "arm" => ("arm", "v7"),
        "powerpc64" => ("ppc64le", ""),
        other => (other, ""),
    };
    Platform { os: "linux".into(), architecture: architecture.into(), variant: variant.into() }
}
