//! What a decision costs: the resolve loop with all of its rounds on metadata that is at hand,
//! with a policy that is loaded for it (cold) and with one that is loaded already (warm), in one
//! thread and in two that share it; and one round alone.
//!
//! `BENCH_CASES=FILE` adds the cases of a file.
#![allow(missing_docs)]

mod common;

use std::hint::black_box;
use std::path::Path;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use anyhow::ensure;
use buildgate::check::{MAX_ROUNDS, step};
use buildgate::meta::Known;
use buildgate::policy::Policy;
use criterion::Criterion;

use self::common::{Case, OWN, action};

/// Decisions on one set of fixtures, which remember what they were asked.
const BATCH: u64 = 64;

fn main() -> anyhow::Result<()> {
    let mut cases = common::read(Path::new(OWN))?;
    if let Some(more) = std::env::var_os("BENCH_CASES").filter(|path| !path.is_empty()) {
        cases.extend(common::read(Path::new(&more))?);
    }
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(200))
        .measurement_time(Duration::from_millis(800))
        .sample_size(20)
        .without_plots()
        .configure_from_args();
    for case in &cases {
        measure(&mut criterion, case)?;
    }
    criterion.final_summary();
    Ok(())
}

fn measure(criterion: &mut Criterion, case: &Case) -> anyhow::Result<()> {
    let policies = [case.policy()?];
    let fixtures = case.fixtures();
    let checked = case.decide(&policies, &fixtures);
    ensure!(
        case.expects(action(&checked)),
        "{}: {}, which is not expected",
        case.name,
        action(&checked)
    );
    ensure!(fixtures.requests().len() <= MAX_ROUNDS, "{}: too many requests", case.name);

    let mut group = criterion.benchmark_group(&case.name);
    let known = Known::default();
    group.bench_function("step", |bencher| {
        bencher.iter(|| step(&policies, black_box(&case.question), &known));
    });
    group.bench_function("warm", |bencher| {
        bencher.iter_custom(|iterations| decide_often(case, &policies, iterations));
    });
    group.bench_function("two-threads", |bencher| {
        bencher.iter_custom(|iterations| decide_in_two_threads(case, &policies, iterations));
    });
    group.bench_function("cold", |bencher| {
        bencher.iter(|| {
            let policies = [case.policy()?];
            let checked = case.decide(&policies, &case.fixtures());
            anyhow::Ok(checked.is_ok())
        });
    });
    group.finish();
    Ok(())
}

/// How long so many decisions take, one after the other.
fn decide_often(case: &Case, policies: &[Policy], iterations: u64) -> Duration {
    let mut left = iterations;
    let mut took = Duration::ZERO;
    while left > 0 {
        let fixtures = case.fixtures();
        let batch = left.min(BATCH);
        let started = Instant::now();
        for _ in 0..batch {
            let _ = black_box(case.decide(black_box(policies), &fixtures));
        }
        took += started.elapsed();
        left -= batch;
    }
    took
}

/// How long each of two threads takes for so many decisions while the other makes as many.
fn decide_in_two_threads(case: &Case, policies: &[Policy], iterations: u64) -> Duration {
    let together = Barrier::new(2);
    let run = || {
        together.wait();
        decide_often(case, policies, iterations)
    };
    std::thread::scope(|threads| {
        let other = threads.spawn(run);
        let own = run();
        other.join().map_or(own, |other| own.max(other))
    })
}
