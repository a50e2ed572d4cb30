//! The same decisions by Buildx's own engine and by ours, in turn, in one run: what each takes, the
//! ratio, the round trips and the memory.
//!
//! `PEER` names the program that runs Buildx's engine (`integration-tests/tools/peer`); a path as
//! argument adds the cases of that file. Both have the policy loaded as they have it for a build.
#![allow(missing_docs, clippy::print_stdout, clippy::print_stderr)]

mod common;

use std::hint::black_box;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use buildgate::policy::Policy;
use serde::Deserialize;

use self::common::{Case, OWN, action};

/// How often each case is measured, on both sides in turn. The medians count.
const REPETITIONS: usize = 5;
/// How long each side is measured at a time.
const TIME: Duration = Duration::from_millis(200);
/// Decisions on one set of fixtures, which remember what they were asked.
const BATCH: u64 = 64;

/// What the peer says of a case.
#[derive(Deserialize)]
struct Peer {
    cases: Vec<PeerCase>,
    peak_rss_kib: u64,
}

#[derive(Deserialize)]
struct PeerCase {
    action: String,
    rounds: usize,
    ns_per_decision: f64,
}

/// A line of the table.
struct Line {
    ours: f64,
    theirs: f64,
    our_rounds: usize,
    their_rounds: usize,
    their_memory: u64,
}

fn main() -> anyhow::Result<()> {
    let peer: PathBuf = std::env::var_os("PEER").context("PEER names no program")?.into();
    let mut cases = common::read(Path::new(OWN))?;
    for argument in std::env::args_os().skip(1) {
        // Cargo's own, as it passes it to every benchmark.
        if argument != "--bench" {
            cases.extend(common::read(Path::new(&argument))?);
        }
    }
    println!(
        "{:<40} {:>10} {:>12} {:>8} {:>7} {:>7}",
        "case", "ours ns", "theirs ns", "ratio", "rounds", "theirs"
    );
    let mut lines = Vec::new();
    for case in &cases {
        match measure(case, &peer) {
            Ok(line) => {
                println!(
                    "{:<40} {:>10.0} {:>12.0} {:>7.0}× {:>7} {:>7}",
                    case.name,
                    line.ours,
                    line.theirs,
                    line.ratio(),
                    line.our_rounds,
                    line.their_rounds,
                );
                lines.push(line);
            }
            Err(error) => println!("{:<40} left out: {error:#}", case.name),
        }
    }
    summarise(&lines)
}

fn summarise(lines: &[Line]) -> anyhow::Result<()> {
    ensure!(!lines.is_empty(), "no case was decided by both");
    let ratios: Vec<f64> = lines.iter().map(Line::ratio).collect();
    let slowest = lines.iter().map(|line| line.ours).fold(0.0, f64::max);
    let more_rounds = lines.iter().filter(|line| line.our_rounds > line.their_rounds).count();
    let their_memory = lines.iter().map(|line| line.their_memory).max().unwrap_or_default();
    println!("slowest of ours: {:.1} µs", slowest / 1_000.0);
    println!("more round trips than the peer: {more_rounds} of {} cases", lines.len());
    println!(
        "resident at most: {:.1} MiB here with all policies, {:.1} MiB the peer with one",
        mib(resident_kib()?),
        mib(their_memory)
    );
    let worst = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    println!("bench-peer: worst {worst:.0}×, median {:.0}×", median(ratios));
    Ok(())
}

impl Line {
    /// How many times longer theirs takes.
    fn ratio(&self) -> f64 {
        self.theirs / self.ours
    }
}

fn measure(case: &Case, peer: &Path) -> anyhow::Result<Line> {
    let policies = [case.policy()?];
    let fixtures = case.fixtures();
    let own = action(&case.decide(&policies, &fixtures));
    let our_rounds = fixtures.requests().len();
    let mut file = tempfile::NamedTempFile::new()?;
    serde_json::to_writer(&mut file, &[&case.json])?;
    file.flush()?;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    let (mut their_rounds, mut their_memory) = (0, 0);
    for _ in 0..REPETITIONS {
        ours.push(nanos_per_decision(case, &policies));
        let report = ask(peer, file.path())?;
        let [measured] = report.cases.as_slice() else { bail!("the peer measured something else") };
        ensure!(measured.action == own, "{own} here, {} there", measured.action);
        theirs.push(measured.ns_per_decision);
        their_rounds = measured.rounds;
        their_memory = their_memory.max(report.peak_rss_kib);
    }
    Ok(Line { ours: median(ours), theirs: median(theirs), our_rounds, their_rounds, their_memory })
}

/// What a decision of ours takes, in nanoseconds, all rounds included.
fn nanos_per_decision(case: &Case, policies: &[Policy]) -> f64 {
    let started = Instant::now();
    let mut decisions = 0;
    while started.elapsed() < TIME {
        let fixtures = case.fixtures();
        for _ in 0..BATCH {
            let _ = black_box(case.decide(black_box(policies), &fixtures));
        }
        decisions += BATCH;
    }
    started.elapsed().as_nanos() as f64 / decisions as f64
}

/// Has the peer measure a case.
fn ask(peer: &Path, case: &Path) -> anyhow::Result<Peer> {
    let time = format!("{}ms", TIME.as_millis());
    let output = Command::new(peer)
        .args(["bench", "-time", &time])
        .arg(case)
        .output()
        .with_context(|| format!("cannot run {}", peer.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "the peer: {}", said.trim());
    serde_json::from_slice(&output.stdout).context("the peer's report")
}

/// The most memory this process has held, in KiB.
fn resident_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("no /proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

fn mib(kib: u64) -> f64 {
    kib as f64 / 1_024.0
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(f64::NAN)
}
