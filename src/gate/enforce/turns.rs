//! Where policies are evaluated. Most take some microseconds, less than to wake another thread: they are
//! evaluated where the question came in. A policy may take a second, though, and for so long no transfer
//! may stop and no session miss its daemon's question after its health: once they are slow, all are
//! evaluated on threads beside those that carry bytes, until none was slow for a while. Nobody knows that
//! before: so one of those threads is left without any, where there are several. Where there is one, the
//! first slow evaluation holds it up once.
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
use crate::policy::{Caps, Policy};

/// Evaluations of one build at once.
const OF_ONE_BUILD: usize = 2;
/// What is slow: many times what waking a thread takes.
const SLOW: Duration = Duration::from_millis(10);
/// What no busy machine makes of a quick one.
const VERY_SLOW: Duration = Duration::from_millis(100);
/// How soon after a slow one the next is no chance: the system may have had better to do for some
/// milliseconds.
const AGAIN: Duration = Duration::from_secs(1);
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
    pace: Arc<Mutex<Pace>>,
}

/// How slow evaluations were.
#[derive(Debug, Default)]
struct Pace {
    /// When the last slow one ended.
    last: Option<Instant>,
    /// Since when they are evaluated aside: the last slow one after a slow one.
    aside: Option<Instant>,
}

impl Pace {
    fn is_aside(&self) -> bool {
        self.aside.is_some_and(|at| at.elapsed() < AFTER_SLOW)
    }

    fn note(&mut self, began: Instant, ended: Instant) {
        let took = ended.duration_since(began);
        if took < SLOW {
            return;
        }
        let again = self.last.is_some_and(|last| began.saturating_duration_since(last) < AGAIN);
        if again || took >= VERY_SLOW || self.is_aside() {
            self.aside = Some(ended);
        }
        self.last = Some(ended);
    }
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
            pace: Arc::default(),
        }
    }

    /// A place to evaluate in at once; `None` where it has to be aside.
    fn here(&self) -> Option<Here<'_>> {
        if self.pace.lock().unwrap_or_else(PoisonError::into_inner).is_aside() {
            return None;
        }
        let before = self.here.fetch_add(1, Ordering::Relaxed);
        let here = Here(&self.here);
        (before < self.most_here).then_some(here)
    }

    /// Takes all turns, as slow evaluations would.
    #[cfg(test)]
    pub async fn hold(&self) -> tokio::sync::OwnedSemaphorePermit {
        self.pace.lock().unwrap().aside = Some(Instant::now());
        let all = u32::try_from(self.all.available_permits()).unwrap();
        Arc::clone(&self.all).acquire_many_owned(all).await.unwrap()
    }

    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        let ended = Instant::now();
        if ended.duration_since(began) >= SLOW {
            self.pace.lock().unwrap_or_else(PoisonError::into_inner).note(began, ended);
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
        self.run(move |policies| check::caps(policies, &env)).await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&[Policy]) -> Result<T, CheckError> + Send + 'static,
    ) -> Result<T, CheckError> {
        if let Some(_here) = self.turns.here() {
            return self.turns.timed(|| work(&self.policies));
        }
        // Held until the work is done, whether anyone still waits for it or not.
        let own = Arc::clone(&self.own).acquire_owned().await;
        let own = own.map_err(|error| CheckError::Broken(Box::new(error)))?;
        let all = Arc::clone(&self.turns.all).acquire_owned().await;
        let all = all.map_err(|error| CheckError::Broken(Box::new(error)))?;
        let (policies, turns) = (Arc::clone(&self.policies), self.turns.clone());
        let done = tokio::task::spawn_blocking(move || {
            let _turns = (own, all);
            turns.timed(|| work(&policies))
        });
        done.await.map_err(|error| CheckError::Broken(Box::new(error)))?
    }

    async fn round(&self, question: Question, known: Known) -> Result<Stepped, CheckError> {
        self.run(move |policies| check::step(policies, &question, &known)).await
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

    #[tokio::test]
    async fn what_is_slow_is_evaluated_aside_and_leaves_turns_to_other_builds() {
        let turns = Turns::of(OF_ONE_BUILD + 1, OF_ONE_BUILD + 1);
        let here = std::thread::current().id();
        let thread = |_: &[Policy]| Ok(std::thread::current().id());
        let first = turns.of_build(Arc::from([]));
        assert_eq!(first.run(thread).await.unwrap(), here);
        let slow = |_: &[Policy]| {
            std::thread::sleep(SLOW);
            Ok(())
        };
        first.run(slow).await.unwrap();
        first.run(slow).await.unwrap();
        assert_ne!(first.run(thread).await.unwrap(), here, "after slow ones");
        let greedy = Arc::new(turns.of_build(Arc::from([])));
        let running = Arc::new(AtomicUsize::new(0));
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let wait = Arc::new(std::sync::Mutex::new(wait));
        let many: Vec<_> = (0..10)
            .map(|_| {
                let (greedy, running, wait) =
                    (Arc::clone(&greedy), Arc::clone(&running), Arc::clone(&wait));
                tokio::spawn(async move {
                    let work = move |_: &[Policy]| {
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
        let answered = tokio::time::timeout(Duration::from_secs(10), other.run(|_| Ok(7))).await;
        assert_eq!(answered.unwrap().unwrap(), 7);
        assert_eq!(running.load(Ordering::SeqCst), OF_ONE_BUILD);
        let broken = other.run::<()>(|_| panic!("as a bug would")).await;
        assert!(matches!(broken, Err(CheckError::Broken(_))));
        drop(go);
        for one in many {
            one.await.unwrap().unwrap();
        }
    }

    #[test]
    fn a_slow_one_may_be_chance_and_two_are_not() {
        let ms = Duration::from_millis;
        for (slow, wanted) in [
            (&[(0, 9), (10, 9)][..], false),
            (&[(0, 12)], false),
            (&[(0, 12), (20, 12)], true),
            (&[(0, 12), (900, 12)], true),
            (&[(0, 12), (1_100, 12)], false),
            (&[(0, 12), (1_100, 12), (1_200, 12)], true),
            (&[(0, 150)], true),
        ] {
            let (start, mut pace) = (Instant::now(), Pace::default());
            for (at, took) in slow {
                let began = start + ms(*at);
                pace.note(began, began + ms(*took));
            }
            assert_eq!(pace.is_aside(), wanted, "{slow:?}");
        }
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
            tokio::spawn(async move { broken.run::<()>(|_| panic!("as a bug would")).await });
        assert!(broken.await.unwrap_err().is_panic());
        assert!(turns.here().is_some());
    }
}
