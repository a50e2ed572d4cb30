//! What flags and the top of the file say, each word with the place where it stands.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

/// Where something is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// On the command line.
    Flag(&'static str),
    /// In the configuration file.
    File {
        /// The file.
        file: Arc<str>,
        /// Its line, from one.
        line: usize,
        /// The key.
        key: &'static str,
    },
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => f.write_str(flag),
            Self::File { file, line, key } => write!(f, "{file}:{line}: {key}"),
        }
    }
}

/// Something said, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said<T = String> {
    /// What.
    pub value: T,
    /// Where.
    pub place: Place,
}

impl<T> Said<T> {
    /// What a flag says.
    pub fn flag(flag: &'static str, value: T) -> Self {
        Self { value, place: Place::Flag(flag) }
    }

    /// The error that this is wrong.
    pub(super) fn wrong(&self, why: impl fmt::Display) -> ConfigError {
        ConfigError::Wrong { place: self.place.clone(), why: why.to_string() }
    }
}

/// A configuration that is not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is no TOML, or holds what there is not.
    #[error("{file}:{line}: {message}")]
    Toml {
        /// The file.
        file: Arc<str>,
        /// Its line, from one.
        line: usize,
        /// What is wrong, and what is accepted.
        message: String,
    },
    /// Something said is wrong.
    #[error("{place}: {why}")]
    Wrong {
        /// Where it is said.
        place: Place,
        /// What is wrong, and what is accepted.
        why: String,
    },
    /// A flag and the file say the same thing.
    #[error("{flag} and {file}: say it in one place")]
    Twice {
        /// The flag.
        flag: Place,
        /// The file.
        file: Place,
    },
    /// Something is not said at all.
    #[error("{0}")]
    Missing(&'static str),
}

/// What flags say, or a file at its top. Texts are not looked into yet.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Top {
    /// `--listen`.
    pub listen: Vec<Said>,
    /// `--listen-mode`.
    pub listen_mode: Option<Said>,
    /// `--listen-group`.
    pub listen_group: Option<Said>,
    /// `--tls-cert`.
    pub tls_cert: Option<Said>,
    /// `--tls-key`.
    pub tls_key: Option<Said>,
    /// `--tls-client-ca`.
    pub tls_client_ca: Option<Said>,
    /// `--tls-client-name`.
    pub tls_client_name: Vec<Said>,
    /// `--insecure`.
    pub insecure: Option<Said<bool>>,
    /// `--upstream`.
    pub upstream: Vec<Said>,
    /// `--upstream-tls-ca`.
    pub upstream_tls_ca: Option<Said>,
    /// `--upstream-tls-cert`.
    pub upstream_tls_cert: Option<Said>,
    /// `--upstream-tls-key`.
    pub upstream_tls_key: Option<Said>,
    /// `--policy`.
    pub policy: Vec<Said>,
    /// `policy-set`: which set judges where nothing else is said.
    pub policy_set: Option<Said>,
    /// `--trust-root`.
    pub trust_root: Vec<Said>,
    /// `--github-api`.
    pub github_api: Option<Said>,
    /// `--signature-registries`.
    pub signature_registries: Vec<Said>,
    /// `--registry-mirror`.
    pub registry_mirror: Vec<Said>,
    /// `--plain-http`.
    pub plain_http: Vec<Said>,
    /// `--ca-file`.
    pub ca_file: Option<Said>,
    /// `--mode`.
    pub mode: Option<Said>,
    /// `--git-submodules`.
    pub git_submodules: Option<Said>,
    /// `--build-op`.
    pub build_op: Option<Said>,
    /// `--cache-types`.
    pub cache_types: Vec<Said>,
    /// `--frontends`.
    pub frontends: Vec<Said>,
    /// `--deny-entitlement`.
    pub deny_entitlement: Vec<Said>,
    /// `--methods`.
    pub methods: Vec<Said>,
    /// `--deny-methods`.
    pub deny_methods: Vec<Said>,
    /// `--verifier-listen`.
    pub verifier_listen: Option<Said>,
    /// `verifier-policy-set`: which set answers there.
    pub verifier_policy_set: Option<Said>,
    /// `--decision-log`.
    pub decision_log: Option<Said>,
    /// `--metrics-listen`.
    pub metrics_listen: Option<Said>,
    /// `--drain`, in seconds.
    pub drain: Option<Said<u64>>,
}

impl Top {
    /// What both say together.
    ///
    /// # Errors
    /// When both say the same thing: there would be a winner, and a reader of the other would
    /// believe what does not hold.
    pub(super) fn and(self, file: Self) -> Result<Self, ConfigError> {
        Ok(Self {
            listen: many(self.listen, file.listen)?,
            listen_mode: one(self.listen_mode, file.listen_mode)?,
            listen_group: one(self.listen_group, file.listen_group)?,
            tls_cert: one(self.tls_cert, file.tls_cert)?,
            tls_key: one(self.tls_key, file.tls_key)?,
            tls_client_ca: one(self.tls_client_ca, file.tls_client_ca)?,
            tls_client_name: many(self.tls_client_name, file.tls_client_name)?,
            insecure: one(self.insecure, file.insecure)?,
            upstream: many(self.upstream, file.upstream)?,
            upstream_tls_ca: one(self.upstream_tls_ca, file.upstream_tls_ca)?,
            upstream_tls_cert: one(self.upstream_tls_cert, file.upstream_tls_cert)?,
            upstream_tls_key: one(self.upstream_tls_key, file.upstream_tls_key)?,
            policy: many(self.policy, file.policy)?,
            policy_set: one(self.policy_set, file.policy_set)?,
            trust_root: many(self.trust_root, file.trust_root)?,
            github_api: one(self.github_api, file.github_api)?,
            signature_registries: many(self.signature_registries, file.signature_registries)?,
            registry_mirror: many(self.registry_mirror, file.registry_mirror)?,
            plain_http: many(self.plain_http, file.plain_http)?,
            ca_file: one(self.ca_file, file.ca_file)?,
            mode: one(self.mode, file.mode)?,
            git_submodules: one(self.git_submodules, file.git_submodules)?,
            build_op: one(self.build_op, file.build_op)?,
            cache_types: many(self.cache_types, file.cache_types)?,
            frontends: many(self.frontends, file.frontends)?,
            deny_entitlement: many(self.deny_entitlement, file.deny_entitlement)?,
            methods: many(self.methods, file.methods)?,
            deny_methods: many(self.deny_methods, file.deny_methods)?,
            verifier_listen: one(self.verifier_listen, file.verifier_listen)?,
            verifier_policy_set: one(self.verifier_policy_set, file.verifier_policy_set)?,
            decision_log: one(self.decision_log, file.decision_log)?,
            metrics_listen: one(self.metrics_listen, file.metrics_listen)?,
            drain: one(self.drain, file.drain)?,
        })
    }
}

fn one<T>(flag: Option<Said<T>>, file: Option<Said<T>>) -> Result<Option<Said<T>>, ConfigError> {
    match (flag, file) {
        (Some(flag), Some(file)) => Err(ConfigError::Twice { flag: flag.place, file: file.place }),
        (flag, file) => Ok(flag.or(file)),
    }
}

fn many(flags: Vec<Said>, file: Vec<Said>) -> Result<Vec<Said>, ConfigError> {
    match (flags.first(), file.first()) {
        (Some(flag), Some(file)) => {
            Err(ConfigError::Twice { flag: flag.place.clone(), file: file.place.clone() })
        }
        (Some(_), None) => Ok(flags),
        (None, _) => Ok(file),
    }
}
