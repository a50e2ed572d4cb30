//! Whether a plan is good, told without opening anything.

use std::path::Path;
use std::sync::Arc;

use super::GateError;
use crate::gate::ops::config::Plan;
use crate::gate::ops::{LogTarget, PolicySets};
use crate::resolve;
use crate::trust::words;

/// Says what a plan comes to, or what is wrong with the files it names. Opens no socket and no log.
///
/// # Errors
/// When a policy or a certificate cannot be loaded.
pub async fn check(plan: &Plan) -> Result<String, GateError> {
    let sets = policies(plan)?;
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
    let roots = roots(&sets);
    let expired = roots.iter().any(|root| !root.usable);
    found.extend(roots.into_iter().map(|root| root.line));
    found.push(match expired {
        false => "all good\n".to_owned(),
        true => "all good, but by what has expired no signature can be verified\n".to_owned(),
    });
    Ok(found.join("\n"))
}

/// The policies of a plan, and whom they trust.
pub(super) fn policies(plan: &Plan) -> Result<Arc<PolicySets>, GateError> {
    let Plan { sets, trust_roots, github, .. } = plan;
    Ok(PolicySets::asking(sets.clone(), trust_roots.clone(), github.clone())?)
}

/// A trust root of a gate.
pub(super) struct Root {
    /// Its name, its age and its end.
    pub(super) line: String,
    /// Whether it verifies anything now.
    pub(super) usable: bool,
}

/// The trust roots that policies have now.
pub(super) fn roots(sets: &PolicySets) -> Vec<Root> {
    let now = jiff::Timestamp::now().as_second();
    let revisions = sets.revisions();
    let policy = revisions.iter().flat_map(|revision| revision.policies.iter()).next();
    match policy.map(|policy| policy.trust().roots()) {
        Some(Ok(roots)) => roots
            .iter()
            .map(|root| Root { line: words::line(root, now), usable: root.usable(now).is_ok() })
            .collect(),
        Some(Err(error)) => vec![Root { line: error.to_string(), usable: false }],
        None => Vec::new(),
    }
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
