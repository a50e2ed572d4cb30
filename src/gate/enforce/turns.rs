//! Where policies are evaluated. Most take some microseconds, less than to wake another thread: they are
//! evaluated where the question came in. A policy may take a second, though, and for so long no transfer
//! may stop and no session miss its daemon's question after its health. So each has a few milliseconds there;
//! what has not come to an end by then is begun anew on a thread beside those that carry bytes, and so is all
//! that comes after it until nothing was slow for a while.
//!
//! Beside them at most as many are evaluated at once as there are cores, of one build a few: a build with
//! many sources and a slow policy holds up itself before others.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::check::{self, CheckError, Evaluate, Question, Stepped, Stepping};
use crate::input::Env;
use crate::meta::Known;
use crate::policy::{Caps, Policy, thread_time};

/// Evaluations of one build at once.
const OF_ONE_BUILD: usize = 2;
/// What each policy has where its question came in, of the processor's time: many times what waking a thread
/// takes.
const IN_PLACE: Duration = Duration::from_millis(5);
/// How long nothing is evaluated in place after a slow one.
const AFTER_SLOW: Duration = Duration::from_secs(60);

/// The evaluations of all builds.
#[derive(Clone, Debug)]
pub struct Turns {
    all: Arc<Semaphore>,
    /// Evaluations in place.
    here: Arc<AtomicUsize>,
    /// Most of them.
    most_here: usize,
    /// When the last slow one ended.
    slow: Arc<Mutex<Option<Instant>>>,
}

/// A place among those evaluated where they came in, until it is dropped.
struct Here<'t>(&'t AtomicUsize);

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Default for Turns {
    fn default() -> Self {
        let cores = available_parallelism().map_or(1, usize::from);
        let carriers = Handle::try_current().map_or(cores, |it| it.metrics().num_workers());
        Self::of(cores, carriers)
    }
}

impl Turns {
    fn of(cores: usize, carriers: usize) -> Self {
        Self {
            all: Arc::new(Semaphore::new(cores)),
            here: Arc::default(),
            most_here: carriers.saturating_sub(1).max(1),
            slow: Arc::default(),
        }
    }

    /// A place to evaluate in at once; `None` where it has to be aside.
    fn here(&self) -> Option<Here<'_>> {
        let slow = *self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        if slow.is_some_and(|at| at.elapsed() < AFTER_SLOW) {
            return None;
        }
        let before = self.here.fetch_add(1, Ordering::Relaxed);
        let here = Here(&self.here);
        (before < self.most_here).then_some(here)
    }

    /// Takes all turns, as slow evaluations would.
    #[cfg(test)]
    pub async fn hold(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.was_slow();
        let all = u32::try_from(self.all.available_permits()).unwrap();
        Arc::clone(&self.all).acquire_many_owned(all).await.unwrap()
    }

    fn was_slow(&self) {
        *self.slow.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Does the work, and notes whether it was slow: by what it took of the processor, so that a busy machine
    /// makes none slow.
    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = thread_time();
        let done = work();
        if thread_time().saturating_sub(began) >= IN_PLACE {
            self.was_slow();
        }
        done
    }

    /// Those of one build, by the policies that it began with.
    pub fn of_build(&self, policies: Arc<[Policy]>) -> Evaluator {
        let own = Arc::new(Semaphore::new(OF_ONE_BUILD));
        Evaluator { policies, own, turns: self.clone() }
    }
}

/// Evaluates one build's policies when it is their turn.
#[derive(Debug)]
pub struct Evaluator {
    policies: Arc<[Policy]>,
    own: Arc<Semaphore>,
    turns: Turns,
}

impl Evaluator {
    /// Other policies in the turns of the same build.
    pub fn by(&self, policies: Arc<[Policy]>) -> Self {
        Self { policies, own: Arc::clone(&self.own), turns: self.turns.clone() }
    }

    /// What the policies ask of the build as a whole, as [`check::caps`] has it.
    ///
    /// # Errors
    /// As there, and when the evaluation breaks off.
    pub async fn caps(&self, env: &Env) -> Result<Caps, CheckError> {
        let env = env.clone();
        self.run(move |policies, most| check::caps_within(policies, &env, most)).await
    }

    /// Does the work by the policies within the time that each has: in place if it can be.
    async fn run<T: Send + 'static>(
        &self,
        work: impl Fn(&[Policy], Duration) -> Result<T, CheckError> + Send + 'static,
    ) -> Result<T, CheckError> {
        if let Some(_here) = self.turns.here() {
            match self.turns.timed(|| work(&self.policies, IN_PLACE)) {
                Err(error) if error.is_timeout() => {}
                done => return done,
            }
        }
        // Held until the work is done, whether anyone still waits for it or not.
        let own = Arc::clone(&self.own).acquire_owned().await;
        let own = own.map_err(|error| CheckError::Broken(Box::new(error)))?;
        let all = Arc::clone(&self.turns.all).acquire_owned().await;
        let all = all.map_err(|error| CheckError::Broken(Box::new(error)))?;
        let (policies, turns) = (Arc::clone(&self.policies), self.turns.clone());
        let done = tokio::task::spawn_blocking(move || {
            let _turns = (own, all);
            turns.timed(|| work(&policies, Duration::MAX))
        });
        done.await.map_err(|error| CheckError::Broken(Box::new(error)))?
    }

    async fn round(&self, question: Question, known: Known) -> Result<Stepped, CheckError> {
        self.run(move |policies, most| check::step_within(policies, &question, &known, most)).await
    }
}

impl Evaluate for Evaluator {
    fn step<'a>(&'a self, question: &'a Question, known: &'a Known) -> Stepping<'a> {
        Box::pin(self.round(question.clone(), known.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::{Outcome, Step};
    use crate::policy::{Limits, PolicyFiles};
    use crate::source::{Platform, SourceOp};

    /// Works for so long.
    fn busy(time: Duration) {
        let began = thread_time();
        while thread_time() - began < time {}
    }

    #[tokio::test]
    async fn what_is_slow_is_evaluated_aside_and_leaves_turns_to_other_builds() {
        let turns = Turns::of(OF_ONE_BUILD + 1, OF_ONE_BUILD + 1);
        let here = std::thread::current().id();
        let thread = |_: &[Policy], _| Ok(std::thread::current().id());
        let first = turns.of_build(Arc::from([]));
        let waits = |_: &[Policy], _| {
            std::thread::sleep(2 * IN_PLACE);
            Ok(())
        };
        first.run(waits).await.unwrap();
        assert_eq!(first.run(thread).await.unwrap(), here, "what waits for others is not slow");
        let slow = |_: &[Policy], _| {
            busy(IN_PLACE);
            Ok(())
        };
        first.run(slow).await.unwrap();
        assert_ne!(first.run(thread).await.unwrap(), here, "after a slow one");
        let greedy = Arc::new(turns.of_build(Arc::from([])));
        let running = Arc::new(AtomicUsize::new(0));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let many: Vec<_> = (0..10)
            .map(|_| {
                let (greedy, running, wait) =
                    (Arc::clone(&greedy), Arc::clone(&running), Arc::clone(&wait));
                tokio::spawn(async move {
                    let work = move |_: &[Policy], _| {
                        running.fetch_add(1, Ordering::SeqCst);
                        // Until the test lets it end.
                        let _ = wait.lock().map(|wait| wait.recv());
                        Ok(())
                    };
                    greedy.run(work).await
                })
            })
            .collect();
        while running.load(Ordering::SeqCst) < OF_ONE_BUILD {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let other = turns.of_build(Arc::from([]));
        let answered = tokio::time::timeout(Duration::from_secs(10), other.run(|_, _| Ok(7))).await;
        assert_eq!(answered.unwrap().unwrap(), 7);
        assert_eq!(running.load(Ordering::SeqCst), OF_ONE_BUILD);
        let broken = other.run::<()>(|_, _| panic!("as a bug would")).await;
        assert!(matches!(broken, Err(CheckError::Broken(_))));
        drop(go);
        for one in many {
            one.await.unwrap().unwrap();
        }
    }

    /// A policy that would stop all transfers for its second stops them for some milliseconds, and decides
    /// the same.
    #[tokio::test]
    async fn a_slow_policy_begins_anew_beside_those_that_carry_bytes() {
        let rego = "package docker\ndefault allow := false\n\
            n := numbers.range(1, 600)\n\
            allow if count([1 | some a in n; some b in n; a == b]) == 600\n\
            decision := {\"allow\": allow}";
        let files = PolicyFiles::memory([("p.rego".to_owned(), rego.into())].into());
        let limits = Limits { time: Duration::from_secs(60), ..Limits::default() };
        let policy = Policy::load("p", files, &["p.rego".to_owned()]).unwrap().with_limits(limits);
        let question = Question {
            op: SourceOp::new("docker-image://docker.io/library/alpine:3"),
            platform: Platform::from_parts("linux", "amd64", ""),
            env: Env::default(),
        };
        let turns = Turns::of(2, 1);
        let build = turns.of_build(Arc::from([policy]));
        let here = std::thread::current().id();
        let tried = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&tried);
        let work = move |policies: &[Policy], most| {
            let began = thread_time();
            let done = check::step_within(policies, &question, &Known::default(), most);
            let took = thread_time() - began;
            log.lock().unwrap().push((std::thread::current().id() == here, took));
            done
        };
        let stepped = build.run(work).await.unwrap();
        assert!(
            matches!(stepped.step, Step::Decided(outcome) if matches!(*outcome, Outcome::Allowed(_)))
        );
        let tried = tried.lock().unwrap();
        let [(true, first), (false, second)] = tried[..] else { panic!("{tried:?}") };
        assert!(second > 4 * IN_PLACE, "{second:?} is not slow");
        assert!(first < second / 2, "{first:?} of {second:?}");
        assert!(turns.here().is_none());
    }

    /// Slow ones that begin together, before any of them is known to be slow.
    #[test]
    fn a_thread_is_left_that_carries_bytes() {
        for (cores, wanted) in [(1, 1), (2, 1), (4, 3)] {
            let turns = Turns::of(cores, cores);
            let mut held: Vec<_> = (0..10).filter_map(|_| turns.here()).collect();
            assert_eq!(held.len(), wanted, "{cores}");
            assert!(turns.here().is_none());
            held.pop();
            assert!(turns.here().is_some(), "{cores}");
            drop(held);
            assert_eq!(turns.here.load(Ordering::Relaxed), 0);
        }
    }

    #[tokio::test]
    async fn what_breaks_off_in_place_leaves_its_place() {
        let turns = Turns::of(1, 1);
        let first = Arc::new(turns.of_build(Arc::from([])));
        let broken = Arc::clone(&first);
        let broken =
            tokio::spawn(async move { broken.run::<()>(|_, _| panic!("as a bug would")).await });
        assert!(broken.await.unwrap_err().is_panic());
        assert!(turns.here().is_some());
    }
}
