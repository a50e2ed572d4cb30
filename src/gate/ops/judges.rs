//! Whose builds are judged by which policies, and how.

use std::collections::HashMap;
use std::sync::Arc;

use super::config::{Access, ListenerPlan};
use super::policies::{PolicySet, PolicySets};
use super::settings::Settings;
use crate::gate::proxy::Client;

/// What judges a client's builds.
#[derive(Clone)]
pub struct Judge {
    /// The policies; a build takes their current revision when it begins.
    pub set: PolicySet,
    /// How.
    pub settings: Arc<Settings>,
}

/// What judges the builds of each client of each listener.
pub struct Judges {
    listeners: HashMap<String, ListenerPlan>,
    sets: Arc<PolicySets>,
}

impl Judges {
    /// As the plan has it.
    pub fn new(listeners: &[ListenerPlan], sets: Arc<PolicySets>) -> Self {
        let listeners = listeners.iter().map(|plan| (plan.name(), plan.clone())).collect();
        Self { listeners, sets }
    }

    /// What judges this client's builds. Where there is nothing, every call of it is refused.
    pub fn of(&self, client: &Client) -> Option<Judge> {
        let access = self.listeners.get(&*client.listener)?.access(&client.identity)?;
        let Access { set, settings } = &**access;
        Some(Judge { set: self.sets.set(set)?, settings: Arc::clone(settings) })
    }
}
