//! Whether a plan is good, told without opening anything.

use std::path::Path;

use super::GateError;
use crate::gate::ops::config::Plan;
use crate::gate::ops::{LogTarget, PolicySets};
use crate::resolve;

/// Says what a plan comes to, or what is wrong with the files it names. Opens no socket and no log.
///
/// # Errors
/// When a policy or a certificate cannot be loaded.
pub async fn check(plan: &Plan) -> Result<String, GateError> {
    let sets = PolicySets::trusting(plan.sets.clone(), plan.trust_roots.clone())?;
    beside(&sets, plan)?;
    signing(plan)?;
    for tls in plan.listeners.iter().filter_map(|listener| listener.tls.as_ref()) {
        tls.load().await?;
    }
    for tls in plan.upstreams.iter().filter_map(|upstream| upstream.tls.as_ref()) {
        tls.load().await?;
    }
    let mut found: Vec<String> = Vec::new();
    for revision in sets.revisions() {
        let names: Vec<&str> = revision.policies.iter().map(crate::policy::Policy::name).collect();
        let (set, digest) = (&revision.set, &revision.digest);
        found.push(format!("policies `{set}`: {} ({digest})", names.join(", ")));
    }
    for listener in &plan.listeners {
        let kind = if listener.tls.is_some() { " (TLS)" } else { "" };
        let whom = match (&listener.clients[..], &listener.others) {
            (_, Some(others)) => format!("judged by `{}`", others.access.set),
            (clients, None) => format!("for {} kinds of clients alone", clients.len()),
        };
        found.push(format!("listens at {}{kind}, {whom}", listener.address));
    }
    if let Some(verifier) = &plan.verifier {
        let (address, set) = (&verifier.address, &verifier.set);
        sets.set(set).ok_or_else(|| GateError::NoSet(set.clone()))?;
        found.push(format!("answers questions alone at {address}, judged by `{set}`"));
    }
    found.extend(plan.upstreams.iter().map(|it| format!("passes builds to {}", it.address)));
    found.push("all good\n".to_owned());
    Ok(found.join("\n"))
}

/// Refuses a decision log that lies where a policy's files do.
pub(super) fn beside(sets: &PolicySets, plan: &Plan) -> Result<(), GateError> {
    match &plan.decision_log {
        Some(LogTarget::File(path)) => {
            apart(sets, &format!("the decision log {}", path.display()), path)
        }
        Some(LogTarget::Stdout) | None => Ok(()),
    }
}

/// Refuses certificates or credentials for registries that no build could use.
pub(super) fn signing(plan: &Plan) -> Result<(), GateError> {
    if !plan.signing.registries.is_empty() {
        resolve::Network::new(plan.signing.options())?;
    }
    Ok(())
}

pub(super) fn apart(sets: &PolicySets, what: &str, file: &Path) -> Result<(), GateError> {
    match sets.owning(file) {
        Some(policy) => {
            Err(GateError::InPolicy { what: what.to_owned(), policy: policy.to_owned() })
        }
        None => Ok(()),
    }
}
