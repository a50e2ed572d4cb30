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
/// Longest name that is looked for, in bytes. (BuildKit's are 25, ours 64.)
const LONGEST: usize = 1024;
/// Characters of a longer one in messages.
const SHOWN: usize = 64;

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
    /// Nothing has a name like that.
    #[error("its name has more than {LONGEST} bytes")]
    Long,
}

/// Everything that is claimed. Cheap to clone.
#[derive(Clone, Default)]
pub struct Claims(Arc<Shared>);

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
}

/// What somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Awaited {
    Session(String),
    Build(String),
}

#[derive(Default)]
struct State {
    sessions: HashMap<String, Claim>,
    builds: HashMap<String, UnderWay>,
    ours: HashSet<SessionId>,
    /// How many verifiers there were.
    verifiers: u64,
    /// What is waited for, by how many.
    awaited: HashMap<Awaited, (Arc<Notify>, usize)>,
}

impl State {
    /// Why no client has this: one of our names is in some part of it, or it is longer than any.
    fn barred(&self, value: &str) -> Option<Foreign> {
        if value.len() > LONGEST {
            return Some(Foreign::Long);
        }
        self.ours.iter().any(|id| value.contains(id.reveal())).then_some(Foreign::Ours)
    }

    /// Tells those who wait for it, and nobody else.
    fn tell(&self, what: &Awaited) {
        if let Some((changed, _)) = self.awaited.get(what) {
            changed.notify_waiters();
        }
    }

    /// What a client sees of a build, which `there` takes as soon as it is far enough.
    fn look<T>(
        &self,
        owner: &Owner,
        reference: &str,
        there: impl Fn(&Stage) -> Option<T>,
    ) -> Seen<Result<T, Foreign>> {
        if let Some(barred) = self.barred(reference) {
            return Seen::Found(Err(barred));
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

/// A name in messages: one that is longer than any is cut.
pub fn shown(name: &str) -> String {
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) if name.len() > LONGEST => {
            format!("{}…", name.get(..end).unwrap_or_default())
        }
        Some(_) | None => name.to_owned(),
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
        if let Some(barred) = state.barred(value) {
            return Err(barred);
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
        state.tell(&Awaited::Session(id.clone()));
        drop(state);
        Ok(SessionClaim { claims: self.clone(), id, verifier: number })
    }

    /// Whether a session that a source names is this client's; waits for one that nobody has yet.
    ///
    /// # Errors
    /// When it is not.
    pub async fn owns(&self, owner: &Owner, value: &str) -> Result<(), Foreign> {
        let look = |state: &State| match (state.barred(value), state.sessions.get(target(value))) {
            (Some(barred), _) => Seen::Found(Err(barred)),
            (None, Some(claim)) if claim.owner == *owner => Seen::Found(Ok(())),
            (None, Some(_)) => Seen::Found(Err(Foreign::Client)),
            (None, None) => Seen::Nothing,
        };
        let what = Awaited::Session(target(value).to_owned());
        self.wait(what, look).await.unwrap_or(Err(Foreign::Nobody))
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
        self.wait(Awaited::Session(target(value).to_owned()), look).await
    }

    /// Notes a solve that came in.
    ///
    /// # Errors
    /// When there is one of the same reference, or it has one of our names.
    pub fn arrive(&self, owner: &Owner, reference: &str) -> Result<BuildClaim, Foreign> {
        let mut state = self.state();
        if let Some(barred) = state.barred(reference) {
            return Err(barred);
        }
        if state.builds.contains_key(reference) {
            return Err(Foreign::Taken);
        }
        let arrived = UnderWay { owner: owner.clone(), stage: Stage::Arrived };
        state.builds.insert(reference.to_owned(), arrived);
        state.tell(&Awaited::Build(reference.to_owned()));
        drop(state);
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
        self.wait(Awaited::Build(reference.to_owned()), look).await.unwrap_or(Err(Foreign::Nobody))
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
        self.wait(Awaited::Build(reference.to_owned()), look).await.unwrap_or(Err(Foreign::Nobody))
    }

    /// Whether a solve of this reference came in.
    pub fn is_under_way(&self, reference: &str) -> bool {
        self.state().builds.contains_key(reference)
    }

    /// Whether a build of this reference is under way and not the client's.
    pub fn is_anothers(&self, owner: &Owner, reference: &str) -> Option<Foreign> {
        let state = self.state();
        if let Some(barred) = state.barred(reference) {
            return Some(barred);
        }
        let build = state.builds.get(reference)?;
        (build.owner != *owner).then_some(Foreign::Client)
    }

    /// Waits until `look` finds something. What nobody has heard of is waited for as long as anyone would;
    /// a build that is on its way until its solve has brought it there or has ended, which it does with
    /// its client at the latest: whatever it waits for itself, this does not give up before it.
    async fn wait<T>(&self, what: Awaited, look: impl Fn(&State) -> Seen<T>) -> Option<T> {
        let began = Instant::now();
        let waiting = Waiting::begin(self, what);
        loop {
            let mut changed = std::pin::pin!(waiting.changed.notified());
            // From here on no change is missed.
            changed.as_mut().enable();
            let seen = look(&self.state());
            match seen {
                Seen::Found(found) => return Some(found),
                Seen::Coming => changed.await,
                Seen::Nothing => timeout_at(began + PATIENCE, changed).await.ok()?,
            }
        }
    }
}

/// Somebody who waits.
struct Waiting<'c> {
    claims: &'c Claims,
    what: Awaited,
    changed: Arc<Notify>,
}

impl<'c> Waiting<'c> {
    fn begin(claims: &'c Claims, what: Awaited) -> Self {
        let mut state = claims.state();
        let (changed, waiters) = state.awaited.entry(what.clone()).or_default();
        *waiters += 1;
        let changed = Arc::clone(changed);
        drop(state);
        Self { claims, what, changed }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        let mut state = self.claims.state();
        if let Some((_, waiters)) = state.awaited.get_mut(&self.what) {
            *waiters -= 1;
            if *waiters == 0 {
                state.awaited.remove(&self.what);
            }
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
        let mut state = self.claims.state();
        let Some(under_way) = state.builds.get_mut(&self.reference) else { return };
        let before = std::mem::replace(&mut under_way.stage, stage);
        state.tell(&Awaited::Build(self.reference.clone()));
        drop(state);
        // As in `drop`.
        drop(before);
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
        let mut state = self.claims.state();
        let ended = state.builds.remove(&self.reference);
        // Who waits for it need not any longer.
        state.tell(&Awaited::Build(self.reference.clone()));
        drop(state);
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
