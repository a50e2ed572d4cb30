//! What benchmarks of whole builds have in common: what is measured, how often, and the numbers that come
//! of it. Whoever needs it declares it by its path.

// Each benchmark uses a part of this.
#![allow(dead_code)]

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};

/// The static release binary that `BUILDGATE` names.
pub fn binary() -> anyhow::Result<PathBuf> {
    Ok(std::env::var_os("BUILDGATE").context("BUILDGATE names no binary")?.into())
}

/// How often each build is measured, where `BENCH_PAIRS` does not say.
pub fn pairs(default: usize) -> anyhow::Result<usize> {
    number("BENCH_PAIRS", default)
}

/// A number of the environment.
pub fn number(name: &str, default: usize) -> anyhow::Result<usize> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => text.parse().with_context(|| format!("{name}={text}")),
        _ => Ok(default),
    }
}

/// Whether this run only shows that the benchmark runs (`BENCH_ONCE=1`): what it measures is judged by
/// nobody.
pub fn once() -> bool {
    std::env::var("BENCH_ONCE").is_ok_and(|once| once == "1")
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

/// What is wanted, and whether it was held. A number that is none misses.
#[derive(Debug, Default)]
pub struct Wanted {
    lines: Vec<(String, bool)>,
}

impl Wanted {
    /// Notes whether this was held.
    pub fn note(&mut self, what: String, held: bool) {
        self.lines.push((what, held));
    }

    /// Says of each whether it was held. One that was missed is an error, but for a run that only shows
    /// that the benchmark runs.
    pub fn judge(self) -> anyhow::Result<()> {
        let Self { lines } = self;
        println!();
        for (what, held) in &lines {
            let word = match (once(), held) {
                (true, _) => "shown ",
                (false, true) => "held  ",
                (false, false) => "MISSED",
            };
            println!("{word} {what}");
        }
        let missed = lines.iter().filter(|(_, held)| !held).count();
        ensure!(missed == 0 || once(), "{missed} of {} targets were missed", lines.len());
        Ok(())
    }
}
