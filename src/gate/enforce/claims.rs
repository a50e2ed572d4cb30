//! Whose sessions and builds are whose.
//!
//! A daemon knows no clients: whoever names a session or a build has it. Here each belongs to the
//! client that opened it, for as long as it lives, and our own to nobody.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::build::Build;
use crate::gate::proxy::{Client, Principal};
use crate::rpc::Channel;
use crate::session::SessionId;

/// How long a session or a build that is named before it is there is waited for (the daemon waits as
/// long for a build).
pub const PATIENCE: Duration = Duration::from_secs(3);
/// How long a build is waited for that is there and has not reached its daemon: what its solve names
/// may have to be judged first. It ends with the solve.
const ARRIVING: Duration = Duration::from_secs(600);

/// What makes two connections those of one client: who it is, and where it came in. What begins at one
/// listener is not steered from another, which has policies and methods of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    principal: Principal,
    listener: Arc<str>,
}

impl Owner {
    /// Whoever is at the other end of this connection.
    pub fn of(client: &Client) -> Self {
        Self { principal: client.identity.principal(), listener: Arc::clone(&client.listener) }
    }
}

/// A session or a build that belongs to somebody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Foreign {
    /// Of another client.
    #[error("it belongs to another client")]
    Client,
    /// There is none of this name.
    #[error("no client has it")]
    Nobody,
    /// One of our own.
    #[error("it is not a client's")]
    Ours,
    /// A build of this reference is under way.
    #[error("there is one of this name already")]
    Taken,
}

/// Everything that is claimed. Cheap to clone.
#[derive(Clone, Default)]
pub struct Claims(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Default)]
struct State {
    sessions: HashMap<String, Claim>,
    builds: HashMap<String, UnderWay>,
    ours: HashSet<SessionId>,
    /// How many verifiers there were.
    verifiers: u64,
}

impl State {
    /// Whether one of our names is in any part of this.
    fn is_ours(&self, value: &str) -> bool {
        self.ours.iter().any(|id| value.contains(id.reveal()))
    }

    /// What a client sees of a build, which `there` takes as soon as it is far enough.
    fn look<T>(
        &self,
        owner: &Owner,
        reference: &str,
        there: impl Fn(&Stage) -> Option<T>,
    ) -> Seen<Result<T, Foreign>> {
        if self.is_ours(reference) {
            return Seen::Found(Err(Foreign::Ours));
        }
        match self.builds.get(reference) {
            None => Seen::Nothing,
            Some(build) if build.owner != *owner => Seen::Found(Err(Foreign::Client)),
            Some(build) => there(&build.stage).map_or(Seen::Coming, |it| Seen::Found(Ok(it))),
        }
    }
}

/// A solve that came in.
struct UnderWay {
    owner: Owner,
    stage: Stage,
}

/// How far a solve has come.
enum Stage {
    /// It is being looked at.
    Arrived,
    /// Its sources are asked about from now on.
    Begun(Arc<Build>),
    /// It is on its way to the daemon.
    Forwarded(Arc<Build>),
}

/// What somebody who waits sees.
enum Seen<T> {
    /// What they wait for.
    Found(T),
    /// It is on its way.
    Coming,
    /// Nobody has heard of it.
    Nothing,
}

struct Claim {
    owner: Owner,
    holders: usize,
    /// Where its policy verifier is reached, for a session that brings one: the last of them, by number.
    verifier: Option<(u64, Channel)>,
}

/// A claim on a session, until it is dropped.
pub struct SessionClaim {
    claims: Claims,
    id: String,
    /// The number of the verifier, for a session that brings one.
    verifier: Option<u64>,
}

/// A solve that came in, and its build, until it is dropped.
pub struct BuildClaim {
    claims: Claims,
    reference: String,
}

/// One of our own names, until it is dropped.
pub struct OwnName {
    claims: Claims,
    id: SessionId,
}

/// The id of the session that a daemon means by `value`: what stands before a `:` only tells local
/// directories apart.
pub fn target(value: &str) -> &str {
    match value.split_once(':') {
        Some((_, rest)) if !rest.is_empty() => rest,
        Some(_) | None => value,
    }
}

impl Claims {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps a name of our own from everyone.
    pub fn own(&self, id: &SessionId) -> OwnName {
        self.state().ours.insert(id.clone());
        OwnName { claims: self.clone(), id: id.clone() }
    }

    /// Takes a session for a client: the stream that is it, or a solve that names it.
    ///
    /// # Errors
    /// When it is somebody else's, or `value` has one of our names in any of its parts.
    pub fn session(
        &self,
        owner: &Owner,
        value: &str,
        verifier: Option<Channel>,
    ) -> Result<SessionClaim, Foreign> {
        let mut state = self.state();
        if state.is_ours(value) {
            return Err(Foreign::Ours);
        }
        state.verifiers += u64::from(verifier.is_some());
        let verifier = verifier.map(|channel| (state.verifiers, channel));
        let id = target(value).to_owned();
        let claim = state.sessions.entry(id.clone()).or_insert_with(|| Claim {
            owner: owner.clone(),
            holders: 0,
            verifier: None,
        });
        if claim.owner != *owner {
            return Err(Foreign::Client);
        }
        claim.holders += 1;
        let number = verifier.as_ref().map(|(number, _)| *number);
        if verifier.is_some() {
            claim.verifier = verifier;
        }
        drop(state);
        self.0.changed.notify_waiters();
        Ok(SessionClaim { claims: self.clone(), id, verifier: number })
    }

    /// Whether a session that a source names is this client's; waits for one that nobody has yet.
    ///
    /// # Errors
    /// When it is not.
    pub async fn owns(&self, owner: &Owner, value: &str) -> Result<(), Foreign> {
        let look = |state: &State| match state.sessions.get(target(value)) {
            _ if state.is_ours(value) => Seen::Found(Err(Foreign::Ours)),
            Some(claim) if claim.owner == *owner => Seen::Found(Ok(())),
            Some(_) => Seen::Found(Err(Foreign::Client)),
            None => Seen::Nothing,
        };
        self.wait(look).await.unwrap_or(Err(Foreign::Nobody))
    }

    /// Where the policy verifier of a client's session is reached; `None` where it brings none.
    pub async fn verifier(&self, owner: &Owner, value: &str) -> Option<Channel> {
        let look = |state: &State| {
            let claim = state.sessions.get(target(value)).filter(|claim| claim.owner == *owner);
            match claim.and_then(|claim| claim.verifier.as_ref()) {
                Some((_, verifier)) => Seen::Found(verifier.clone()),
                None => Seen::Nothing,
            }
        };
        self.wait(look).await
    }

    /// Notes a solve that came in.
    ///
    /// # Errors
    /// When there is one of the same reference, or it has one of our names.
    pub fn arrive(&self, owner: &Owner, reference: &str) -> Result<BuildClaim, Foreign> {
        let mut state = self.state();
        if state.is_ours(reference) {
            return Err(Foreign::Ours);
        }
        if state.builds.contains_key(reference) {
            return Err(Foreign::Taken);
        }
        let arrived = UnderWay { owner: owner.clone(), stage: Stage::Arrived };
        state.builds.insert(reference.to_owned(), arrived);
        drop(state);
        self.0.changed.notify_waiters();
        Ok(BuildClaim { claims: self.clone(), reference: reference.to_owned() })
    }

    /// The build of this reference, where it is the client's, as soon as its sources are asked about;
    /// waits for one that is not there yet.
    ///
    /// # Errors
    /// When there is none of the client's.
    pub async fn build(&self, owner: &Owner, reference: &str) -> Result<Arc<Build>, Foreign> {
        let look = |state: &State| {
            state.look(owner, reference, |stage| match stage {
                Stage::Arrived => None,
                Stage::Begun(build) | Stage::Forwarded(build) => Some(Arc::clone(build)),
            })
        };
        self.wait(look).await.unwrap_or(Err(Foreign::Nobody))
    }

    /// The same, as soon as it is on its way to the daemon: what names it there is not ahead of it then.
    ///
    /// # Errors
    /// When there is none of the client's.
    pub async fn forwarded(&self, owner: &Owner, reference: &str) -> Result<Arc<Build>, Foreign> {
        let look = |state: &State| {
            state.look(owner, reference, |stage| match stage {
                Stage::Arrived | Stage::Begun(_) => None,
                Stage::Forwarded(build) => Some(Arc::clone(build)),
            })
        };
        self.wait(look).await.unwrap_or(Err(Foreign::Nobody))
    }

    /// Whether a solve of this reference came in.
    pub fn is_under_way(&self, reference: &str) -> bool {
        self.state().builds.contains_key(reference)
    }

    /// Whether a build of this reference is under way and not the client's.
    pub fn is_anothers(&self, owner: &Owner, reference: &str) -> Option<Foreign> {
        let state = self.state();
        if state.is_ours(reference) {
            return Some(Foreign::Ours);
        }
        let build = state.builds.get(reference)?;
        (build.owner != *owner).then_some(Foreign::Client)
    }

    /// Waits until `look` finds something, for as long as anyone would.
    async fn wait<T>(&self, look: impl Fn(&State) -> Seen<T>) -> Option<T> {
        let began = Instant::now();
        loop {
            let changed = self.0.changed.notified();
            let mut changed = std::pin::pin!(changed);
            // From here on no change is missed.
            changed.as_mut().enable();
            let patience = match look(&self.state()) {
                Seen::Found(found) => return Some(found),
                Seen::Coming => ARRIVING,
                Seen::Nothing => PATIENCE,
            };
            timeout_at(began + patience, changed).await.ok()?;
        }
    }
}

impl BuildClaim {
    /// From now on its sources are asked about.
    pub fn begun(&self, build: &Arc<Build>) {
        self.reach(Stage::Begun(Arc::clone(build)));
    }

    /// From now on it is on its way to the daemon.
    pub fn forwarded(&self, build: &Arc<Build>) {
        self.reach(Stage::Forwarded(Arc::clone(build)));
    }

    fn reach(&self, stage: Stage) {
        if let Some(under_way) = self.claims.state().builds.get_mut(&self.reference) {
            under_way.stage = stage;
        }
        self.claims.0.changed.notify_waiters();
    }
}

impl Drop for SessionClaim {
    fn drop(&mut self) {
        let mut state = self.claims.state();
        let Some(claim) = state.sessions.get_mut(&self.id) else { return };
        claim.holders = claim.holders.saturating_sub(1);
        // Another stream of the same id may have come after it.
        let last = claim.verifier.as_ref().map(|(number, _)| *number);
        if self.verifier.is_some() && self.verifier == last {
            claim.verifier = None;
        }
        if claim.holders == 0 {
            state.sessions.remove(&self.id);
        }
    }
}

impl Drop for BuildClaim {
    fn drop(&mut self) {
        let ended = self.claims.state().builds.remove(&self.reference);
        // Who waits for it need not any longer.
        self.claims.0.changed.notify_waiters();
        // Not while the claims are held: a build gives back names of ours when it goes.
        drop(ended);
    }
}

impl Drop for OwnName {
    fn drop(&mut self) {
        self.claims.state().ours.remove(&self.id);
    }
}

#[cfg(test)]
mod tests;
