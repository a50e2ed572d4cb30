//! Texts → what they mean: modes, methods, sockets, addresses. Each is looked into once, here.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::SocketPlan;
use super::said::{ConfigError, Said, Top};
use crate::gate::ops::log::LogTarget;
use crate::gate::ops::settings::{BuildOp, DOCKERFILE, Mode, Settings, Signing, Submodules};
use crate::gate::proxy::{Address, Group, Methods};
use crate::source::{ImageSource, Source, SourceOp};

/// Longest drain: a day, in seconds.
const MAX_DRAIN: u64 = 86_400;

/// How builds are judged, as the first of `scopes` says that says anything.
pub(super) fn settings(scopes: &[&Top], signing: &Arc<Signing>) -> Result<Settings, ConfigError> {
    let mut settings = Settings { signing: Arc::clone(signing), ..Settings::default() };
    if let Some(said) = scopes.iter().find_map(|scope| scope.mode.as_ref()) {
        settings.mode = match said.value.as_str() {
            "enforce" => Mode::Enforce,
            "audit" => Mode::Audit,
            other => return Err(unknown(said, other, "enforce, audit")),
        };
    }
    if let Some(said) = scopes.iter().find_map(|scope| scope.git_submodules.as_ref()) {
        settings.submodules = match said.value.as_str() {
            "judge" => Submodules::Judge,
            "skip" => Submodules::Skip,
            "deny" => Submodules::Deny,
            other => return Err(unknown(said, other, "judge, skip, deny")),
        };
    }
    if let Some(said) = scopes.iter().find_map(|scope| scope.build_op.as_ref()) {
        settings.build_op = match said.value.as_str() {
            "refuse" => BuildOp::Refuse,
            "allow" => BuildOp::Allow,
            other => return Err(unknown(said, other, "refuse, allow")),
        };
    }
    let first = |list: fn(&Top) -> &Vec<Said>| {
        scopes.iter().map(|scope| list(scope)).find(|said| !said.is_empty())
    };
    for said in first(|top| &top.cache_types).into_iter().flatten() {
        match said.value.as_str() {
            "registry" | "local" | "gha" | "s3" | "azblob" => {
                settings.cache_types.insert(said.value.clone());
            }
            other => return Err(unknown(said, other, "registry, local, gha, s3, azblob")),
        }
    }
    for said in first(|top| &top.frontends).into_iter().flatten() {
        settings.frontends.insert(frontend(said)?);
    }
    for said in first(|top| &top.deny_entitlement).into_iter().flatten() {
        match said.value.as_str() {
            "security.insecure" | "network.host" | "device" => {
                settings.denied_entitlements.insert(said.value.clone());
            }
            other => return Err(unknown(said, other, "security.insecure, network.host, device")),
        }
    }
    Ok(settings)
}

/// The daemon's own frontend, or the repository of an image that is one.
fn frontend(said: &Said) -> Result<String, ConfigError> {
    let value = said.value.as_str();
    if value == DOCKERFILE {
        return Ok(value.to_owned());
    }
    match ImageSource::parse(value) {
        Ok(image) if image.tag.is_none() && image.digest.is_none() && !value.ends_with(".v0") => {
            Ok(image.full_repo())
        }
        Ok(_) | Err(_) => Err(said.wrong(format_args!(
            "`{}` is no frontend: {DOCKERFILE}, or the repository of an image, without a tag: \
             docker/dockerfile",
            value.escape_debug()
        ))),
    }
}

fn unknown(said: &Said, value: &str, accepted: &str) -> ConfigError {
    said.wrong(format_args!("`{}` is none of {accepted}", value.escape_debug()))
}

/// Where signatures of images are looked for.
pub(super) fn signing(top: &Top) -> Result<Signing, ConfigError> {
    let hosts = |said: &[Said]| -> Result<BTreeSet<String>, ConfigError> {
        said.iter().map(|said| host(said, &said.value)).collect()
    };
    let signing = Signing {
        registries: hosts(&top.signature_registries)?,
        plain_http: hosts(&top.plain_http)?,
        ca_file: top.ca_file.as_ref().map(|said| PathBuf::from(&said.value)),
        ..Signing::default()
    };
    let mut mirrors = std::collections::BTreeMap::<String, Vec<Url>>::new();
    for said in &top.registry_mirror {
        let wrong = || said.wrong("a mirror is HOST=URL, and its URL http:// or https://");
        let (name, url) = said.value.split_once('=').ok_or_else(wrong)?;
        let url: Url = url.parse().map_err(|_| wrong())?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err(wrong());
        }
        mirrors.entry(host(said, name)?).or_default().push(url);
    }
    let unused = top.registry_mirror.first().or(top.plain_http.first()).or(top.ca_file.as_ref());
    match unused {
        Some(said) if signing.registries.is_empty() => Err(said.wrong(
            "goes with signature-registries, which is missing: the gate asks no other registry itself",
        )),
        Some(_) | None => Ok(Signing { mirrors, ..signing }),
    }
}

/// The name of a registry, as images have it: `docker.io`, `registry.example:5000`.
fn host(said: &Said, name: &str) -> Result<String, ConfigError> {
    let name = name.to_ascii_lowercase();
    let image = SourceOp::new(format!("docker-image://{name}/a/b:c"));
    match Source::parse(&image) {
        Ok(Source::Image(image)) if image.host == name => Ok(name),
        Ok(_) | Err(_) => Err(said.wrong(format_args!(
            "`{}` is no registry as images name it: docker.io, registry.example:5000",
            name.escape_debug()
        ))),
    }
}

pub(super) fn methods(allow: &[Said], deny: &[Said]) -> Result<Methods, ConfigError> {
    let mut methods = Methods::default();
    if !allow.is_empty() {
        methods.allow = all(allow)?;
    }
    methods.deny = all(deny)?;
    Ok(methods)
}

pub(super) fn socket(mode: Option<&Said>, group: Option<&Said>) -> Result<SocketPlan, ConfigError> {
    let mode = mode.map(|said| {
        u32::from_str_radix(&said.value, 8)
            .ok()
            .filter(|mode| *mode <= 0o777 && !said.value.starts_with('+'))
            .ok_or_else(|| said.wrong("a mode is octal, from 0 to 0777: 0660"))
    });
    let group = match group {
        Some(said) if said.value.is_empty() => {
            return Err(said.wrong("a group is a name or a number"));
        }
        group => group.map(|said| Group::from(said.value.clone())),
    };
    Ok(SocketPlan { mode: mode.transpose()?, group })
}

/// Refuses what is said at the top of TLS where no listener speaks it, and of sockets where none is one:
/// whoever reads it would believe what does not hold.
pub(super) fn for_nothing(
    top: &Top,
    listeners: &[&Address],
    verifier: Option<&Address>,
) -> Result<(), ConfigError> {
    let is_unix = |address: &&Address| matches!(address, Address::Unix(_));
    let tls = [&top.tls_cert, &top.tls_key, &top.tls_client_ca];
    let mut tls = tls.into_iter().flatten().chain(&top.tls_client_name);
    if listeners.iter().all(is_unix)
        && let Some(said) = tls.next()
    {
        return Err(said.wrong("every listener is a unix socket, and those have no TLS"));
    }
    let of_sockets = top.listen_mode.as_ref().or(top.listen_group.as_ref());
    match of_sockets {
        Some(said) if !listeners.iter().copied().chain(verifier).any(|it| is_unix(&it)) => {
            Err(said.wrong("only a unix socket has a mode and a group, and no listener is one"))
        }
        Some(_) | None => Ok(()),
    }
}

pub(super) fn pair(
    cert: Option<&Said>,
    key: Option<&Said>,
    cert_name: &str,
    key_name: &str,
) -> Result<Option<(PathBuf, PathBuf)>, ConfigError> {
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(((&cert.value).into(), (&key.value).into()))),
        (Some(cert), None) => {
            Err(cert.wrong(format_args!("goes with {key_name}, which is missing")))
        }
        (None, Some(key)) => {
            Err(key.wrong(format_args!("goes with {cert_name}, which is missing")))
        }
        (None, None) => Ok(None),
    }
}

pub(super) fn decision_log(said: &Said) -> Result<LogTarget, ConfigError> {
    match said.value.as_str() {
        "" => Err(said.wrong("a decision log is a file, or - for standard output")),
        "-" => Ok(LogTarget::Stdout),
        path => Ok(LogTarget::File(path.into())),
    }
}

pub(super) fn metrics(said: &Said) -> Result<SocketAddr, ConfigError> {
    let text = said.value.strip_prefix("tcp://").unwrap_or(&said.value);
    text.parse().map_err(|_| said.wrong("metrics are served at IP:PORT: 127.0.0.1:9464"))
}

pub(super) fn drain(said: &Said<u64>) -> Result<Duration, ConfigError> {
    if said.value > MAX_DRAIN {
        return Err(said.wrong(format_args!("a drain has {MAX_DRAIN} seconds at most")));
    }
    Ok(Duration::from_secs(said.value))
}

pub(super) fn either<'a>(own: &'a [Said], top: &'a [Said]) -> &'a [Said] {
    if own.is_empty() { top } else { own }
}

pub(super) fn parsed<T: FromStr<Err: Display>>(said: &Said) -> Result<T, ConfigError> {
    said.value.parse().map_err(|error| said.wrong(error))
}

pub(super) fn all<T: FromStr<Err: Display>>(said: &[Said]) -> Result<Vec<T>, ConfigError> {
    said.iter().map(parsed).collect()
}
