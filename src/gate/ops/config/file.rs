//! The file: TOML whose keys are the flags' names, and tables for what flags cannot say.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use serde::Deserialize;
use toml::Spanned;

use super::said::{ConfigError, Place, Said, Top};

type One<T = String> = Option<Spanned<T>>;
type Many = Option<Vec<Spanned<String>>>;

/// The file as it is written.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
struct Raw {
    listen: Many,
    listen_mode: One,
    listen_group: One,
    tls_cert: One,
    tls_key: One,
    tls_client_ca: One,
    tls_client_name: Many,
    insecure: One<bool>,
    upstream: Many,
    upstream_tls_ca: One,
    upstream_tls_cert: One,
    upstream_tls_key: One,
    policy: Many,
    policy_set: One,
    trust_root: Many,
    github_api: One,
    signature_registries: Many,
    registry_mirror: Many,
    plain_http: Many,
    ca_file: One,
    mode: One,
    git_submodules: One,
    build_op: One,
    cache_types: Many,
    frontends: Many,
    deny_entitlement: Many,
    methods: Many,
    deny_methods: Many,
    verifier_listen: One,
    verifier_policy_set: One,
    decision_log: One,
    metrics_listen: One,
    drain: One<u64>,
    policy_sets: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    listener: Vec<RawListener>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawListener {
    listen: Spanned<String>,
    listen_mode: One,
    listen_group: One,
    tls_cert: One,
    tls_key: One,
    tls_client_ca: One,
    tls_client_name: Many,
    insecure: One<bool>,
    policy_set: One,
    mode: One,
    git_submodules: One,
    build_op: One,
    cache_types: Many,
    frontends: Many,
    deny_entitlement: Many,
    methods: Many,
    deny_methods: Many,
    #[serde(default)]
    client: Vec<RawClient>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct RawClient {
    name: Vec<Spanned<String>>,
    policy_set: One,
    mode: One,
    git_submodules: One,
    build_op: One,
    cache_types: Many,
    frontends: Many,
    deny_entitlement: Many,
    methods: Many,
    deny_methods: Many,
}

/// What a file says. Paths in it are relative to its own folder.
#[derive(Debug, Default)]
pub(super) struct File {
    /// What flags say too.
    pub(super) top: Top,
    /// `[policy-sets]`: name and policies.
    pub(super) sets: Vec<(Said, Vec<Said>)>,
    /// `[[listener]]`.
    pub(super) listeners: Vec<Listener>,
}

/// A `[[listener]]`. What it does not say of TLS, the socket and judging is as at the top.
#[derive(Debug)]
pub(super) struct Listener {
    /// What it says itself; `listen` is one address.
    pub(super) own: Top,
    /// `[[listener.client]]`.
    pub(super) clients: Vec<Client>,
}

/// A `[[listener.client]]`.
#[derive(Debug)]
pub(super) struct Client {
    /// Whom it is about.
    pub(super) names: Vec<Said>,
    /// What it says of policies, judging and methods.
    pub(super) own: Top,
}

/// Turns spans into places.
struct Reader<'a> {
    file: Arc<str>,
    text: &'a str,
    folder: &'a Path,
}

impl File {
    /// Reads a file's text.
    ///
    /// # Errors
    /// With the line, and what is accepted there.
    pub(super) fn parse(name: &str, text: &str) -> Result<Self, ConfigError> {
        let folder = Path::new(name).parent().unwrap_or_else(|| Path::new(""));
        let reader = Reader { file: name.into(), text, folder };
        let raw: Raw = toml::from_str(text).map_err(|error| ConfigError::Toml {
            file: Arc::clone(&reader.file),
            line: reader.line(error.span().map_or(0, |span| span.start)),
            message: error.message().trim_end().replace('\n', "; "),
        })?;
        Ok(reader.file(raw))
    }
}

impl Reader<'_> {
    fn line(&self, offset: usize) -> usize {
        1 + self.text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
    }

    fn said<T>(&self, key: &'static str, spanned: Spanned<T>) -> Said<T> {
        let line = self.line(spanned.span().start);
        let place = Place::File { file: Arc::clone(&self.file), line, key };
        Said { value: spanned.into_inner(), place }
    }

    fn one<T>(&self, key: &'static str, said: One<T>) -> Option<Said<T>> {
        said.map(|spanned| self.said(key, spanned))
    }

    fn many(&self, key: &'static str, said: Many) -> Vec<Said> {
        said.into_iter().flatten().map(|spanned| self.said(key, spanned)).collect()
    }

    /// A path, as it is from where we are.
    fn path(&self, key: &'static str, said: One) -> Option<Said> {
        self.one(key, said).map(|said| self.here(said))
    }

    /// Files of trust roots, each with its name before it where it has one.
    fn roots(&self, said: Many) -> Vec<Said> {
        let here = |said: Said| match said.value.split_once('=') {
            Some((name, path)) if !path.is_empty() => {
                let value = format!("{name}={}", self.folder.join(path).display());
                Said { value, ..said }
            }
            Some(_) => said,
            None => self.here(said),
        };
        self.many("trust-root", said).into_iter().map(here).collect()
    }

    fn here(&self, said: Said) -> Said {
        if said.value.is_empty() {
            return said;
        }
        let value = self.folder.join(&said.value).display().to_string();
        Said { value, ..said }
    }

    fn file(&self, raw: Raw) -> File {
        let policies = |said: Vec<Said>| said.into_iter().map(|it| self.here(it)).collect();
        let decision_log = self.one("decision-log", raw.decision_log);
        let top = Top {
            listen: self.many("listen", raw.listen),
            listen_mode: self.one("listen-mode", raw.listen_mode),
            listen_group: self.one("listen-group", raw.listen_group),
            tls_cert: self.path("tls-cert", raw.tls_cert),
            tls_key: self.path("tls-key", raw.tls_key),
            tls_client_ca: self.path("tls-client-ca", raw.tls_client_ca),
            tls_client_name: self.many("tls-client-name", raw.tls_client_name),
            insecure: self.one("insecure", raw.insecure),
            upstream: self.many("upstream", raw.upstream),
            upstream_tls_ca: self.path("upstream-tls-ca", raw.upstream_tls_ca),
            upstream_tls_cert: self.path("upstream-tls-cert", raw.upstream_tls_cert),
            upstream_tls_key: self.path("upstream-tls-key", raw.upstream_tls_key),
            policy: policies(self.many("policy", raw.policy)),
            policy_set: self.one("policy-set", raw.policy_set),
            trust_root: self.roots(raw.trust_root),
            github_api: self.one("github-api", raw.github_api),
            signature_registries: self.many("signature-registries", raw.signature_registries),
            registry_mirror: self.many("registry-mirror", raw.registry_mirror),
            plain_http: self.many("plain-http", raw.plain_http),
            ca_file: self.path("ca-file", raw.ca_file),
            mode: self.one("mode", raw.mode),
            git_submodules: self.one("git-submodules", raw.git_submodules),
            build_op: self.one("build-op", raw.build_op),
            cache_types: self.many("cache-types", raw.cache_types),
            frontends: self.many("frontends", raw.frontends),
            deny_entitlement: self.many("deny-entitlement", raw.deny_entitlement),
            methods: self.many("methods", raw.methods),
            deny_methods: self.many("deny-methods", raw.deny_methods),
            verifier_listen: self.one("verifier-listen", raw.verifier_listen),
            verifier_policy_set: self.one("verifier-policy-set", raw.verifier_policy_set),
            decision_log: decision_log.map(|said| match said.value.as_str() {
                "-" => said,
                _ => self.here(said),
            }),
            metrics_listen: self.one("metrics-listen", raw.metrics_listen),
            drain: self.one("drain", raw.drain),
        };
        let sets = raw.policy_sets.into_iter().map(|(name, paths)| {
            let paths = paths.into_iter().map(|path| self.said("policy-sets", path));
            (self.said("policy-sets", name), policies(paths.collect()))
        });
        let sets = sets.collect();
        let listeners = raw.listener.into_iter().map(|raw| self.listener(raw)).collect();
        File { top, sets, listeners }
    }

    fn listener(&self, raw: RawListener) -> Listener {
        let own = Top {
            listen: vec![self.said("listen", raw.listen)],
            listen_mode: self.one("listen-mode", raw.listen_mode),
            listen_group: self.one("listen-group", raw.listen_group),
            tls_cert: self.path("tls-cert", raw.tls_cert),
            tls_key: self.path("tls-key", raw.tls_key),
            tls_client_ca: self.path("tls-client-ca", raw.tls_client_ca),
            tls_client_name: self.many("tls-client-name", raw.tls_client_name),
            insecure: self.one("insecure", raw.insecure),
            policy_set: self.one("policy-set", raw.policy_set),
            mode: self.one("mode", raw.mode),
            git_submodules: self.one("git-submodules", raw.git_submodules),
            build_op: self.one("build-op", raw.build_op),
            cache_types: self.many("cache-types", raw.cache_types),
            frontends: self.many("frontends", raw.frontends),
            deny_entitlement: self.many("deny-entitlement", raw.deny_entitlement),
            methods: self.many("methods", raw.methods),
            deny_methods: self.many("deny-methods", raw.deny_methods),
            ..Top::default()
        };
        let clients = raw.client.into_iter().map(|raw| self.client(raw)).collect();
        Listener { own, clients }
    }

    fn client(&self, raw: RawClient) -> Client {
        let own = Top {
            policy_set: self.one("policy-set", raw.policy_set),
            mode: self.one("mode", raw.mode),
            git_submodules: self.one("git-submodules", raw.git_submodules),
            build_op: self.one("build-op", raw.build_op),
            cache_types: self.many("cache-types", raw.cache_types),
            frontends: self.many("frontends", raw.frontends),
            deny_entitlement: self.many("deny-entitlement", raw.deny_entitlement),
            methods: self.many("methods", raw.methods),
            deny_methods: self.many("deny-methods", raw.deny_methods),
            ..Top::default()
        };
        let names = raw.name.into_iter().map(|name| self.said("name", name)).collect();
        Client { names, own }
    }
}
