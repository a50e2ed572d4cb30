//! Where policies are evaluated. Most take some microseconds, less than to wake another thread: they are
//! evaluated where the question came in. A policy may take a second, though, and for so long no transfer
//! may stop and no session miss its daemon's question after its health: once one was slow, all are
//! evaluated on threads beside those that carry bytes, until none was slow for a while.
//!
//! There at most as many are evaluated at once as there are cores, of one build a few: a build with
//! many sources and a slow policy holds up itself before others.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

use crate::check::{self, CheckError, Evaluate, Question, Stepped, Stepping};
use crate::input::Env;
use crate::meta::Known;
use crate::policy::{Caps, Policy};

/// Evaluations of one build at once.
const OF_ONE_BUILD: usize = 2;
/// What is slow: many times what waking a thread takes.
const SLOW: Duration = Duration::from_millis(10);
/// How long nothing is evaluated in place after a slow one.
const AFTER_SLOW: Duration = Duration::from_secs(60);

/// The evaluations of all builds.
#[derive(Clone, Debug)]
pub struct Turns {
    all: Arc<Semaphore>,
    /// When one was slow last.
    slow: Arc<Mutex<Option<Instant>>>,
}

impl Default for Turns {
    fn default() -> Self {
        Self::of(available_parallelism().map_or(1, usize::from))
    }
}

impl Turns {
    fn of(cores: usize) -> Self {
        Self { all: Arc::new(Semaphore::new(cores)), slow: Arc::default() }
    }

    fn was_slow(&self) -> bool {
        let slow = self.slow.lock().unwrap_or_else(PoisonError::into_inner);
        slow.is_some_and(|at| at.elapsed() < AFTER_SLOW)
    }

    fn timed<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        if began.elapsed() >= SLOW {
            *self.slow.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
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
        if !self.turns.was_slow() {
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
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn what_is_slow_is_evaluated_aside_and_leaves_turns_to_other_builds() {
        let turns = Turns::of(OF_ONE_BUILD + 1);
        let here = std::thread::current().id();
        let thread = |_: &[Policy]| Ok(std::thread::current().id());
        let first = turns.of_build(Arc::from([]));
        assert_eq!(first.run(thread).await.unwrap(), here);
        let slow = |_: &[Policy]| {
            std::thread::sleep(SLOW);
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
}
