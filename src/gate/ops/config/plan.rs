//! What is said → what is to be done. Every text is looked into here, and what is wrong is said
//! with its place.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use super::file::{Client, File, Listener};
use super::said::{ConfigError, Said, Top};
use super::upstreams::upstreams;
use super::values::{
    all, decision_log, drain, either, for_nothing, methods, metrics, pair, parsed, settings,
    signing, socket,
};
use super::{Access, ClientPlan, DRAIN, ListenerPlan, OthersPlan, Plan, SocketPlan, VerifierPlan};
use crate::gate::ops::settings::Signing;
use crate::gate::proxy::{Address, ClientPattern, NamePattern, Plaintext, ServerTls};
use crate::verify::Github;
use crate::verify::sigstore::TrustRoots;

/// The set that `--policy` makes.
pub(super) const DEFAULT_SET: &str = "default";

const NO_LISTENER: &str =
    "there is nowhere for clients to come in: --listen unix:///path or tcp://host:port";
const NO_POLICY: &str =
    "there is no policy, so nothing would be allowed: --policy FILE|DIR, or [policy-sets]";
const OPEN: &str = "anyone who reaches it could build: give it --tls-cert, --tls-key and \
                    --tls-client-ca, or say --insecure";
const OPEN_VERIFIER: &str = "anyone who reaches it could ask: take a unix socket or loopback, or say \
                             --insecure";

type Sets = BTreeMap<String, Vec<PathBuf>>;

/// Makes the plan of what is said.
pub(super) fn plan(flags: Top, file: File) -> Result<Plan, ConfigError> {
    let top = flags.and(file.top)?;
    let sets = sets(&top.policy, &file.sets)?;
    let signing = Arc::new(signing(&top)?);
    let default = default_set(&top, &sets)?;
    let scope = Scope { default, top: &top, sets: &sets, signing: Arc::clone(&signing) };
    let mut listeners = Vec::new();
    for address in &top.listen {
        listeners.push((address, scope.listener(address, &Top::default(), &[])?));
    }
    for Listener { own, clients } in &file.listeners {
        for address in &own.listen {
            listeners.push((address, scope.listener(address, own, clients)?));
        }
    }
    if listeners.is_empty() {
        return Err(ConfigError::Missing(NO_LISTENER));
    }
    let verifier = scope.verifier()?;
    let mut taken: Vec<&Address> = verifier.iter().map(|verifier| &verifier.address).collect();
    for (said, listener) in &listeners {
        let free = matches!(listener.address, Address::Tcp { port: 0, .. });
        if !free && taken.contains(&&listener.address) {
            return Err(said.wrong(format_args!("{} is listened on already", listener.address)));
        }
        taken.push(&listener.address);
    }
    let opened: Vec<&Address> = listeners.iter().map(|(_, listener)| &listener.address).collect();
    for_nothing(&top, &opened, verifier.as_ref().map(|verifier| &verifier.address))?;
    Ok(Plan {
        verifier,
        listeners: listeners.into_iter().map(|(_, listener)| listener).collect(),
        upstreams: upstreams(&top)?,
        trust_roots: trust_roots(&top.trust_root)?,
        github: github(top.github_api.as_ref())?,
        signing,
        decision_log: top.decision_log.as_ref().map(decision_log).transpose()?,
        metrics: top.metrics_listen.as_ref().map(metrics).transpose()?,
        drain: top.drain.as_ref().map(drain).transpose()?.unwrap_or(DRAIN),
        sets,
    })
}

fn sets(policy: &[Said], named: &[(Said, Vec<Said>)]) -> Result<Sets, ConfigError> {
    let paths = |said: &[Said]| said.iter().map(|it| PathBuf::from(&it.value)).collect();
    let mut sets = Sets::new();
    if let Some(empty) = policy.iter().find(|path| path.value.is_empty()) {
        return Err(empty.wrong("a policy is a file or a folder"));
    }
    if !policy.is_empty() {
        sets.insert(DEFAULT_SET.to_owned(), paths(policy));
    }
    for (name, policies) in named {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if name.value.is_empty() || !name.value.chars().all(plain) {
            return Err(name.wrong(format_args!(
                "`{}` is no name of a set: letters, digits and -_.",
                name.value.escape_default()
            )));
        }
        if policies.is_empty() {
            return Err(name.wrong(format_args!(
                "set `{}` names no policy, so nothing would be allowed",
                name.value
            )));
        }
        if sets.insert(name.value.clone(), paths(policies)).is_some() {
            return Err(name.wrong("`default` is the set that --policy makes; choose another name"));
        }
    }
    if sets.is_empty() { Err(ConfigError::Missing(NO_POLICY)) } else { Ok(sets) }
}

/// `NAME=FILE`, or a file in place of the root that is built in.
fn trust_roots(said: &[Said]) -> Result<Vec<(String, PathBuf)>, ConfigError> {
    let mut roots: Vec<(String, PathBuf)> = Vec::new();
    for said in said {
        let (name, path) = said.value.split_once('=').unwrap_or((TrustRoots::DEFAULT, &said.value));
        if name.is_empty() || name.contains('/') || path.is_empty() {
            return Err(
                said.wrong("a trust root is FILE or NAME=FILE; a path with `=` needs a NAME")
            );
        }
        if roots.iter().any(|(known, _)| known == name) {
            return Err(said.wrong(format_args!("the trust root `{name}` is named twice")));
        }
        roots.push((name.to_owned(), PathBuf::from(path)));
    }
    Ok(roots)
}

/// The GitHub that is asked: the public one, where nothing is said.
fn github(said: Option<&Said>) -> Result<Github, ConfigError> {
    let at = |said: &Said| Github::at(&said.value).map_err(|error| said.wrong(error));
    said.map_or_else(|| Ok(Github::default()), at)
}

/// The set that judges where nothing is said.
fn default_set(top: &Top, sets: &Sets) -> Result<Option<String>, ConfigError> {
    match (&top.policy_set, sets.first_key_value()) {
        (Some(said), _) => known(said, sets).map(Some),
        (None, _) if sets.contains_key(DEFAULT_SET) => Ok(Some(DEFAULT_SET.to_owned())),
        (None, Some((only, _))) if sets.len() == 1 => Ok(Some(only.clone())),
        (None, _) => Ok(None),
    }
}

fn known(said: &Said, sets: &Sets) -> Result<String, ConfigError> {
    if sets.contains_key(&said.value) {
        return Ok(said.value.clone());
    }
    let names: Vec<&str> = sets.keys().map(String::as_str).collect();
    let value = &said.value;
    Err(said.wrong(format_args!("there is no set `{value}`; there is {}", names.join(", "))))
}

/// What holds for all listeners.
struct Scope<'a> {
    top: &'a Top,
    sets: &'a Sets,
    default: Option<String>,
    signing: Arc<Signing>,
}

impl Scope<'_> {
    fn listener(
        &self,
        at: &Said,
        own: &Top,
        clients: &[Client],
    ) -> Result<ListenerPlan, ConfigError> {
        let address: Address = parsed(at)?;
        let plaintext = self.plaintext(own);
        let mut tls = self.server_tls(&address, own)?;
        if tls.is_none() {
            guarded(at, &address, plaintext, OPEN)?;
        }
        let certified = tls.is_some();
        let clients = clients
            .iter()
            .map(|client| self.client(at, client, own, certified))
            .collect::<Result<Vec<_>, _>>()?;
        // Where some have policies of their own, the rest has what is said for it, or nothing.
        let others = (clients.is_empty() || own.policy_set.is_some())
            .then(|| self.others(at, own, certified))
            .transpose()?;
        if let (None, Some(name)) = (&others, own.tls_client_name.first()) {
            return Err(name
                .wrong("without policy-set beside it only [[listener.client]] may come in here"));
        }
        if let Some(tls) = &mut tls {
            tls.allow = let_in(&clients, others.as_ref());
        }
        let socket = match &address {
            Address::Unix(_) => socket(
                own.listen_mode.as_ref().or(self.top.listen_mode.as_ref()),
                own.listen_group.as_ref().or(self.top.listen_group.as_ref()),
            )?,
            Address::Tcp { .. } => match own.listen_mode.as_ref().or(own.listen_group.as_ref()) {
                Some(said) => return Err(said.wrong("only a unix socket has a mode and a group")),
                None => SocketPlan::default(),
            },
        };
        let methods = methods(
            either(&own.methods, &self.top.methods),
            either(&own.deny_methods, &self.top.deny_methods),
        )?;
        Ok(ListenerPlan { address, socket, tls, plaintext, methods, clients, others })
    }

    fn plaintext(&self, own: &Top) -> Plaintext {
        match own.insecure.as_ref().or(self.top.insecure.as_ref()) {
            Some(Said { value: true, .. }) => Plaintext::Anywhere,
            Some(Said { value: false, .. }) | None => Plaintext::Loopback,
        }
    }

    fn server_tls(&self, address: &Address, own: &Top) -> Result<Option<ServerTls>, ConfigError> {
        if let Address::Unix(_) = address {
            let said = [&own.tls_cert, &own.tls_key, &own.tls_client_ca];
            return match said.into_iter().flatten().chain(&own.tls_client_name).next() {
                Some(said) => Err(said.wrong("a unix socket has no TLS")),
                None => Ok(None),
            };
        }
        let top = self.top;
        let ca = own.tls_client_ca.as_ref().or(top.tls_client_ca.as_ref());
        let cert = own.tls_cert.as_ref().or(top.tls_cert.as_ref());
        let key = own.tls_key.as_ref().or(top.tls_key.as_ref());
        match (pair(cert, key, "tls-cert", "tls-key")?, ca) {
            (Some((cert, key)), Some(ca)) => {
                let client_ca = PathBuf::from(&ca.value);
                Ok(Some(ServerTls { cert, key, client_ca, allow: Vec::new() }))
            }
            (None, Some(ca)) => Err(ca.wrong("goes with tls-cert and tls-key, which are missing")),
            (Some(_), None) => match cert {
                Some(cert) => Err(cert.wrong(
                    "goes with tls-client-ca, which is missing: clients are known by certificates",
                )),
                None => Ok(None),
            },
            (None, None) => Ok(None),
        }
    }

    fn others(&self, at: &Said, own: &Top, certified: bool) -> Result<OthersPlan, ConfigError> {
        let names = either(&own.tls_client_name, &self.top.tls_client_name);
        let is_tcp = !at.value.starts_with("unix:");
        if let (Some(name), true) = (names.first(), is_tcp && !certified) {
            return Err(name.wrong("goes with tls-client-ca, which is missing"));
        }
        let names = if certified { all(names)? } else { Vec::new() };
        let set = match (&own.policy_set, &self.default) {
            (Some(said), _) => known(said, self.sets)?,
            (None, Some(default)) => default.clone(),
            (None, None) => {
                return Err(
                    at.wrong("there are several policy sets: say which judges here, by policy-set")
                );
            }
        };
        let settings = Arc::new(settings(&[own, self.top], &self.signing)?);
        Ok(OthersPlan { names, access: Arc::new(Access { set, settings }) })
    }

    fn client(
        &self,
        at: &Said,
        client: &Client,
        listener: &Top,
        certified: bool,
    ) -> Result<ClientPlan, ConfigError> {
        let Client { names, own } = client;
        for said in names {
            match (parsed(said)?, certified) {
                (ClientPattern::Name(_), false) => {
                    return Err(said.wrong("nobody shows a certificate here: there is no TLS"));
                }
                (ClientPattern::Uid(_) | ClientPattern::Gid(_) | ClientPattern::Plain, true) => {
                    return Err(said.wrong("clients are known by certificates here"));
                }
                (ClientPattern::Name(_), true) | (_, false) | (ClientPattern::Any, true) => {}
            }
        }
        if names.is_empty() {
            return Err(at.wrong("a [[listener.client]] has at least one name"));
        }
        let set = match (own.policy_set.as_ref().or(listener.policy_set.as_ref()), &self.default) {
            (Some(said), _) => known(said, self.sets)?,
            (None, Some(default)) => default.clone(),
            (None, None) => {
                return Err(at.wrong(
                    "there are several policy sets: say which judges each client, by policy-set",
                ));
            }
        };
        let settings = Arc::new(settings(&[own, listener, self.top], &self.signing)?);
        Ok(ClientPlan {
            names: all(names)?,
            methods: methods(&own.methods, &own.deny_methods)?,
            access: Arc::new(Access { set, settings }),
        })
    }

    fn verifier(&self) -> Result<Option<VerifierPlan>, ConfigError> {
        let top = self.top;
        let Some(at) = &top.verifier_listen else {
            return match &top.verifier_policy_set {
                Some(said) => Err(said.wrong("goes with verifier-listen, which is missing")),
                None => Ok(None),
            };
        };
        let address: Address = parsed(at)?;
        let plaintext = self.plaintext(&Top::default());
        guarded(at, &address, plaintext, OPEN_VERIFIER)?;
        let set = match (&top.verifier_policy_set, &self.default) {
            (Some(said), _) => known(said, self.sets)?,
            (None, Some(default)) => default.clone(),
            (None, None) => {
                return Err(at.wrong(
                    "there are several policy sets: say which answers, by verifier-policy-set",
                ));
            }
        };
        let socket = match &address {
            Address::Unix(_) => socket(top.listen_mode.as_ref(), top.listen_group.as_ref())?,
            Address::Tcp { .. } => SocketPlan::default(),
        };
        let mode = settings(&[top], &self.signing)?.mode;
        Ok(Some(VerifierPlan { address, socket, set, mode, plaintext }))
    }
}

/// The names of certificates that are let in; none is all.
fn let_in(clients: &[ClientPlan], others: Option<&OthersPlan>) -> Vec<NamePattern> {
    if others.is_some_and(|others| others.names.is_empty()) {
        return Vec::new();
    }
    let mut names: Vec<NamePattern> = others.map(|others| others.names.clone()).unwrap_or_default();
    for pattern in clients.iter().flat_map(|client| &client.names) {
        match pattern {
            ClientPattern::Any => return Vec::new(),
            ClientPattern::Name(name) => names.push(name.clone()),
            ClientPattern::Uid(_) | ClientPattern::Gid(_) | ClientPattern::Plain => {}
        }
    }
    names
}

/// Whether only those who are meant to can come in by plain words.
fn guarded(
    at: &Said,
    address: &Address,
    plaintext: Plaintext,
    why_not: &str,
) -> Result<(), ConfigError> {
    match plaintext {
        Plaintext::Loopback if !is_local(address) => Err(at.wrong(why_not)),
        Plaintext::Loopback | Plaintext::Anywhere => Ok(()),
    }
}

/// Whether nobody outside of this machine can be at the other end.
pub(super) fn is_local(address: &Address) -> bool {
    match address {
        Address::Unix(_) => true,
        Address::Tcp { host, port: _ } => {
            host.eq_ignore_ascii_case("localhost")
                || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
    }
}
