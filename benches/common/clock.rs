//! What benchmarks of whole builds have in common: what is measured, how often, and the numbers that come
//! of it. Whoever needs it declares it by its path.

// Each benchmark uses a part of this.
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};

/// How often each build is measured where `BENCH_PAIRS` does not say.
const PAIRS: usize = 25;

/// The static release binary that `BUILDGATE` names.
pub fn binary() -> anyhow::Result<PathBuf> {
    Ok(std::env::var_os("BUILDGATE").context("BUILDGATE names no binary")?.into())
}

/// How often each build is measured.
pub fn pairs() -> anyhow::Result<usize> {
    number("BENCH_PAIRS", PAIRS)
}

/// A number of the environment.
pub fn number(name: &str, default: usize) -> anyhow::Result<usize> {
    std::env::var(name).map_or(Ok(default), |text| Ok(text.parse()?))
}

/// Runs a client, and gives the seconds that it took.
pub fn timed(command: &mut Command, input: Stdio) -> anyhow::Result<f64> {
    let began = Instant::now();
    let output = command.stdin(input).output()?;
    let took = began.elapsed().as_secs_f64();
    ensure!(output.status.success(), "{command:?}:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

/// How busy the machine is.
pub fn loaded() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load average {}", load.split(' ').next().unwrap_or_default())
}

/// What so many of a hundred numbers are below.
pub fn percentile(mut numbers: Vec<f64>, percent: usize) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let at = (numbers.len() * percent / 100).min(numbers.len().saturating_sub(1));
    numbers.get(at).copied().unwrap_or(f64::NAN)
}

/// What is wanted, and where it was missed. A number that is none misses.
#[derive(Debug, Default)]
pub struct Wanted {
    missed: Vec<String>,
}

impl Wanted {
    /// Notes whether this was held.
    pub fn note(&mut self, what: String, held: bool) {
        if !held {
            self.missed.push(what);
        }
    }

    /// Says what was missed, which is an error where `BENCH_STRICT=1`.
    pub fn judge(self) -> anyhow::Result<()> {
        let Self { missed } = self;
        for what in &missed {
            println!("MISSED: {what}");
        }
        let strict = std::env::var("BENCH_STRICT").is_ok_and(|strict| strict == "1");
        ensure!(missed.is_empty() || !strict, "{} of what is wanted was missed", missed.len());
        Ok(())
    }
}
