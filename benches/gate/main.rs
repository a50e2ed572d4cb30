//! What the gate adds to a build, holds under load and takes from a transfer, each against the bare
//! daemon in the same run.
//!
//! What a question costs is asked by a daemon of ours that does nothing else ([`questions`]).
//!
//! `BUILDGATE` names the static release binary that is measured; daemon, registry and clients are those
//! of the tests. `BENCH_PAIRS` is how often a build runs with and without the gate, `BENCH_CONTEXT` how
//! many MiB of context are sent, `BENCH_MOST` how many builds there are at once at most.
//!
//! At its end it says of each target whether it was held: 3 % or 10 ms that the gate adds to a build in the
//! median; 1 ms that 99 of 100 decisions take, and 99 of 100 questions over a session, at any load; 90 % of the
//! bare daemon's transfer; 150 MB of memory; and that nothing is open when all is over that was not before
//! (descriptors, tasks, builds, calls, connections). One that was missed is an error, but with `BENCH_ONCE=1`,
//! which only shows that all of it runs. Run it on a quiet machine.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "../common/clock.rs"]
mod clock;
#[allow(dead_code, unused_imports, unused_macros, reason = "the tests use all of it")]
#[path = "../../integration-tests/peers/mod.rs"]
mod peers;
mod questions;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::ensure;
use buildgate::source::SourceOp;
use prost::Message as _;
use tokio::runtime::Runtime;

use self::clock::{Wanted, loaded, number, percentile, timed};
use self::peers::{GateProcess, World};

/// Pairs of builds where nobody says.
const PAIRS: usize = 60;
/// MiB of context where nobody says, and how often it is sent each way.
const CONTEXT: usize = 1024;
const TRANSFERS: usize = 3;

/// The gate among the addresses.
const GATE: usize = 1;
/// Most builds at once where nobody says.
const MOST: usize = 500;

/// What the gate may add to a build in the median: this share of it, in percent, or so many milliseconds.
const SHARE: f64 = 3.0;
const ADDED: f64 = 10.0;
/// Milliseconds that 99 of 100 decisions may take.
const DECISION: f64 = 1.0;
/// What share of the bare daemon's transfer there is at least, in percent.
const TRANSFER: f64 = 90.0;
/// Memory that the gate may ever have, in KiB: 150 MB.
const MEMORY: u64 = 150_000_000 >> 10;

const POLICY: &str = "package docker\n\
    default allow := false\n\
    allow if input.local\n\
    allow if { endswith(input.image.repo, \"/base\") }\n\
    deny_msg contains \"not ours\" if not allow\n\
    decision := {\"allow\": allow, \"deny_msg\": deny_msg}\n";

struct Bench {
    world: &'static World,
    gate: GateProcess,
    runtime: Runtime,
    buildctl: PathBuf,
    most: usize,
}

fn main() -> anyhow::Result<()> {
    let (binary, pairs) = (clock::binary()?, clock::pairs(PAIRS)?);
    let context = number("BENCH_CONTEXT", CONTEXT)?;
    let mut wanted = Wanted::default();
    let world = peers::world()?;
    let bench = Bench {
        world,
        gate: GateProcess::start(&binary, world.buildkit.address(), POLICY),
        runtime: Runtime::new()?,
        buildctl: peers::pinned("buildctl")?,
        most: number("BENCH_MOST", MOST)?,
    };
    // The first build opens what stays.
    bench.at_once(GATE, 1);
    bench.gate.until("the first build is over", |gate| {
        gate.metric("open_connections") == 0 && gate.metric("open_upstream_connections") <= 1
    });
    let (before, held) = (bench.gate.open(), bench.held());
    bench.one_build(pairs, &mut wanted)?;
    questions::measure(&bench.runtime, &binary, bench.most, &mut wanted)?;
    bench.load(&mut wanted);
    let once = bench.held();
    bench.at_once(GATE, bench.most);
    println!(
        "held after {} builds: {}, after as many again: {}",
        bench.most,
        said(once),
        said(bench.held())
    );
    bench.transfers(context, &mut wanted)?;
    let left = bench.gate.closes(before);
    println!("held before: {}\nheld after:  {}", said(held), said(bench.held()));
    wanted.note(
        match left {
            Ok(()) => "nothing is left open after the last build".to_owned(),
            Err(open) => format!("nothing is left open: {open:?}, {before:?} before"),
        },
        left.is_ok(),
    );
    let peak = bench.gate.status("VmHWM");
    wanted.note(format!("memory below 150 MB: {peak} KiB"), peak < MEMORY);
    wanted.judge()
}

/// How many builds there are at once in each row.
fn rows(most: usize) -> Vec<usize> {
    let mut rows = vec![1, 50.min(most), most];
    rows.dedup();
    rows
}

fn said((descriptors, threads, memory): (usize, u64, u64)) -> String {
    format!("{descriptors} descriptors, {threads} threads, {} MiB", memory >> 10)
}

impl Bench {
    fn held(&self) -> (usize, u64, u64) {
        (self.gate.descriptors(), self.gate.status("Threads"), self.gate.status("VmRSS"))
    }

    /// Without the gate and with it.
    fn addresses(&self) -> [String; 2] {
        [self.world.buildkit.address().to_owned(), self.gate.address()]
    }

    /// A build from a Dockerfile, by buildctl, in pairs.
    fn one_build(&self, pairs: usize, wanted: &mut Wanted) -> anyhow::Result<()> {
        let dockerfile = format!("FROM {}\nCOPY a /a\n", self.world.image("base:1"));
        let context = peers::folder(&[("Dockerfile", &dockerfile), ("a", "content")]);
        self.refuses()?;
        let addresses = self.addresses();
        let mut took = [Vec::new(), Vec::new()];
        for round in 0..=pairs {
            // Each goes first in turn. The first pair warms up.
            for at in [round % 2, (round + 1) % 2] {
                let mut build = self.dockerfile(&addresses[at], context.path());
                let milliseconds = timed(&mut build, Stdio::null())? * 1_000.0;
                if round > 0 {
                    took[at].push(milliseconds);
                }
            }
        }
        let added: Vec<f64> =
            took[1].iter().zip(&took[0]).map(|(gate, bare)| gate - bare).collect();
        let [lower, middle, upper] = [25, 50, 75].map(|at| percentile(added.clone(), at));
        let (bare, added) = (percentile(took[0].clone(), 50), middle);
        let share = 100.0 * added / bare;
        println!(
            "a build: bare {bare:.1} ms, the gate adds {added:.1} ms ({share:.1} %; quartiles {lower:.1} and \
             {upper:.1}), {pairs} pairs, {}",
            loaded()
        );
        wanted.note(
            format!("a build may take {SHARE} % or {ADDED} ms more: {share:.1} %, {added:.1} ms"),
            share < SHARE || added < ADDED,
        );
        Ok(())
    }

    fn dockerfile(&self, address: &str, context: &Path) -> Command {
        let mut build = Command::new(&self.buildctl);
        build.args(["--addr", address, "build", "--frontend=dockerfile.v0"]);
        for name in ["context", "dockerfile"] {
            build.arg(format!("--local={name}={}", context.display()));
        }
        build
    }

    /// That what is measured decides anything at all.
    fn refuses(&self) -> anyhow::Result<()> {
        let dockerfile = format!("FROM {}\n", self.world.image("app:plain"));
        let context = peers::folder(&[("Dockerfile", &dockerfile)]);
        let mut build = self.dockerfile(&self.gate.address(), context.path());
        ensure!(timed(&mut build, Stdio::null()).is_err(), "what should be denied was built");
        Ok(())
    }

    fn at_once(&self, address: usize, builds: usize) -> Vec<f64> {
        let image = self.world.image("base:1");
        let address = &self.addresses()[address];
        self.runtime.block_on(peers::builds_at_once(address, &image, builds))
    }

    fn load(&self, wanted: &mut Wanted) {
        println!(
            "{:>8} {:>12} {:>12} {:>14} {:>16} {:>16}",
            "at once", "bare p50 ms", "gate p50 ms", "peak MiB", "decision p50 ms", "p99 ms"
        );
        for builds in rows(self.most) {
            let known = self.gate.latencies().len();
            // So that p99 of a few is one of many, and each goes first in turn.
            let mut took = [Vec::new(), Vec::new()];
            for round in 0..(100 / builds).max(2) {
                for at in [round % 2, (round + 1) % 2] {
                    took[at].extend(self.at_once(at, builds));
                }
            }
            let decisions = self.gate.latencies().split_off(known);
            let [bare, gate] = took.map(|took| percentile(took, 50) * 1_000.0);
            println!(
                "{builds:>8} {bare:>12.1} {gate:>12.1} {:>14} {:>16.3} {:>16.3}  {} decisions, {}",
                self.gate.status("VmHWM") >> 10,
                percentile(decisions.clone(), 50),
                percentile(decisions.clone(), 99),
                decisions.len(),
                loaded()
            );
            let p99 = percentile(decisions, 99);
            let what = format!("a decision in {DECISION} ms, {builds} builds at once: {p99:.3} ms");
            wanted.note(what, p99 < DECISION);
        }
    }

    /// Context that the daemon does not have, sent both ways in turn.
    fn transfers(&self, mebibytes: usize, wanted: &mut Wanted) -> anyhow::Result<()> {
        let context = tempfile::tempdir()?;
        let file = context.path().join("big");
        let mut big = std::fs::File::create(&file)?;
        let block: Vec<u8> = (0..=u8::MAX).cycle().take(1 << 20).collect();
        for _ in 0..mebibytes {
            big.write_all(&block)?;
        }
        let definition = context.path().with_extension("llb");
        std::fs::write(
            &definition,
            peers::llb(&[SourceOp::new("local://context")]).encode_to_vec(),
        )?;
        let addresses = self.addresses();
        let mut took = [Vec::new(), Vec::new()];
        for round in 0..TRANSFERS {
            for at in [round % 2, (round + 1) % 2] {
                big.set_modified(std::time::SystemTime::now())?;
                let mut send = Command::new(&self.buildctl);
                send.args(["--addr", &addresses[at], "build", "--no-cache"]);
                send.arg(format!("--local=context={}", context.path().display()));
                took[at].push(timed(&mut send, std::fs::File::open(&definition)?.into())?);
            }
        }
        std::fs::remove_file(definition)?;
        let [bare, gate] = took.map(|took| mebibytes as f64 / percentile(took, 50));
        let share = 100.0 * gate / bare;
        println!(
            "{mebibytes} MiB: bare {bare:.0} MiB/s, gate {gate:.0} MiB/s ({share:.0} %), {TRANSFERS} pairs, {}",
            loaded()
        );
        wanted.note(
            format!("a transfer at {TRANSFER} % of the bare daemon's: {share:.0} %"),
            share >= TRANSFER,
        );
        Ok(())
    }
}
