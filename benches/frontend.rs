//! What a policy adds to the wall time of a build, in pairs in one run: against the stock frontend as
//! an image, buildgate in its place, and Buildx's own policy of the same rules before it.
//!
//! `BUILDGATE` names the static release binary that is measured; this program only starts clients and
//! looks at the clock, and the daemon, the registry and Buildx are those of the tests. `BENCH_PAIRS`
//! is how often each of the three builds runs, in turn. It fails where ours adds as much as Buildx's own
//! policy does, or more, and where the daemon hears of the program later than 50 ms after its start: run
//! it on a quiet machine.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr
)]

#[path = "common/clock.rs"]
mod clock;
#[allow(dead_code, unused_imports, unused_macros, reason = "the tests use all of it")]
#[path = "../integration-tests/peers/mod.rs"]
mod peers;

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, ensure};

use self::clock::{percentile, timed};
use self::peers::World;

/// Rules that decide by what the Dockerfile says. `bench` is the frontend, which Buildx asks about too.
const STATIC: &str = "package docker\n\
    default allow := false\n\
    allow if input.local\n\
    allow if { endswith(input.image.repo, \"/bench\") }\n\
    allow if { endswith(input.image.repo, \"/base\") }\n\
    deny_msg contains \"not ours\" if not allow\n\
    decision := {\"allow\": allow, \"deny_msg\": deny_msg}\n";

/// Rules that want the image's configuration.
const LABELS: &str = "package docker\n\
    default allow := false\n\
    allow if input.local\n\
    allow if { endswith(input.image.repo, \"/bench\") }\n\
    allow if { input.image.labels[\"org.example.tier\"] == \"base\" }\n\
    deny_msg contains \"not ours\" if not allow\n\
    decision := {\"allow\": allow, \"deny_msg\": deny_msg}\n";

/// Milliseconds in which the daemon wants to hear of a frontend that it has started.
const AT_ONCE: f64 = 50.0;
/// How often that is measured.
const STARTS: usize = 30;

/// One way to build.
#[derive(Clone, Copy)]
enum Way {
    Stock,
    Ours,
    Buildx,
}

struct Bench {
    world: &'static World,
    stock: String,
    ours: String,
    buildx: PathBuf,
    config: tempfile::TempDir,
}

fn main() -> anyhow::Result<()> {
    let (binary, pairs) = (clock::binary()?, clock::pairs(25)?);
    let late = first_bytes(&binary)?;
    let world = peers::world()?;
    let made = peers::make_image(world, "bench:made", &binary, "");
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let bench = Bench {
        world,
        stock: peers::push_stock(world, "bench:stock"),
        ours: world.image("bench:made"),
        buildx: peers::pinned("buildx")?,
        config: tempfile::tempdir()?,
    };
    bench.run(&["create", "--name=bench", "--driver=remote", world.buildkit.address()])?;
    println!("milliseconds, of {pairs} builds each: the median (the quartiles)");
    println!(
        "{:<28} {:>22} {:>22} {:>22} {:>6}",
        "rules", "stock", "ours adds", "Buildx adds", "ratio"
    );
    let mut lost = Vec::new();
    for (name, rules) in
        [("by what the Dockerfile says", STATIC), ("by a label of the image", LABELS)]
    {
        if !bench.compare(name, rules, pairs)? {
            lost.push(name);
        }
    }
    ensure!(
        lost.is_empty() || clock::once(),
        "ours adds as much as Buildx's own policy, or more: {lost:?}"
    );
    ensure!(
        !late || clock::once(),
        "the daemon hears of the program later than {AT_ONCE} ms after its start"
    );
    Ok(())
}

/// Prints what the program takes from its start to its first byte, and gives whether the middle of it is
/// too long.
fn first_bytes(binary: &Path) -> anyhow::Result<bool> {
    let mut took = Vec::new();
    for _ in 0..STARTS {
        let began = Instant::now();
        let mut frontend = Command::new(binary)
            .args(["frontend", "--child=/bin/cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut first = [0; 3];
        frontend.stdout.as_mut().context("no pipe")?.read_exact(&mut first)?;
        took.push(began.elapsed().as_secs_f64() * 1_000.0);
        frontend.kill()?;
        frontend.wait()?;
        ensure!(&first == b"PRI", "the first bytes are {first:?}");
    }
    let spread = Spread::of(took.clone());
    println!(
        "milliseconds from start to first byte, of {STARTS}: {spread}, at most {:.1}",
        percentile(took, 100)
    );
    Ok(spread.median >= AT_ONCE)
}

impl Bench {
    /// Prints what the ways take, and gives whether ours adds less in the median.
    fn compare(&self, name: &str, rules: &str, pairs: usize) -> anyhow::Result<bool> {
        let contexts =
            [Way::Stock, Way::Ours, Way::Buildx].map(|way| (way, self.context(way, rules)));
        for (way, context) in &contexts {
            self.refuses(*way, rules)?;
            self.build(*way, context.path())?;
        }
        let mut stock = Vec::new();
        let (mut ours, mut buildx) = (Vec::new(), Vec::new());
        for round in 0..pairs {
            // Each goes first in turn: whoever does pays for what the others find warm.
            let mut took = [0.0; 3];
            for at in (0..3).map(|step| (round + step) % 3) {
                let (way, context) = &contexts[at];
                took[at] = self.build(*way, context.path())?;
            }
            let [plain, gate, client] = took;
            stock.push(plain);
            ours.push(gate - plain);
            buildx.push(client - plain);
        }
        let [stock, ours, buildx] = [stock, ours, buildx].map(Spread::of);
        let ratio = ours.median / buildx.median;
        println!("{name:<28} {stock:>22} {ours:>22} {buildx:>22} {ratio:>6.2}");
        Ok(ours.median < buildx.median)
    }

    /// The same files for each way, but for the policy that has to be there or not.
    fn context(&self, way: Way, rules: &str) -> tempfile::TempDir {
        let image = match way {
            Way::Stock | Way::Buildx => &self.stock,
            Way::Ours => &self.ours,
        };
        let dockerfile =
            format!("# syntax={image}\nFROM {}\nCOPY a /a\n", self.world.image("base:1"));
        let context = peers::folder(&[("Dockerfile", &dockerfile), ("a", "content")]);
        if !matches!(way, Way::Stock) {
            std::fs::write(context.path().join("Dockerfile.rego"), rules).unwrap();
        }
        context
    }

    /// That what is measured decides anything at all: another image is denied.
    fn refuses(&self, way: Way, rules: &str) -> anyhow::Result<()> {
        if matches!(way, Way::Stock) {
            return Ok(());
        }
        let context = self.context(way, rules);
        let file = context.path().join("Dockerfile");
        let text = std::fs::read_to_string(&file)?.replace("/base:1", "/app:plain");
        std::fs::write(file, text)?;
        ensure!(self.build(way, context.path()).is_err(), "what should be denied was built");
        Ok(())
    }

    /// Builds, and gives the milliseconds that the client took.
    fn build(&self, way: Way, context: &Path) -> anyhow::Result<f64> {
        let context = context.to_str().context("a path")?;
        let mut arguments = vec!["build", "--progress=plain", "--output=type=cacheonly"];
        // Only one of the two reads the policy beside the Dockerfile.
        if !matches!(way, Way::Buildx) {
            arguments.extend(["--policy", "disabled=true"]);
        }
        arguments.push(context);
        Ok(self.run(&arguments)? * 1_000.0)
    }

    /// Runs Buildx, and gives the seconds that it took.
    fn run(&self, arguments: &[&str]) -> anyhow::Result<f64> {
        let mut buildx = Command::new(&self.buildx);
        buildx
            .env("BUILDX_CONFIG", self.config.path())
            .env("DOCKER_CONFIG", self.config.path())
            .env("BUILDX_BUILDER", "bench")
            .args(arguments);
        timed(&mut buildx, Stdio::null())
    }
}

/// The middle of what was measured, and half of it around that.
struct Spread {
    lower: f64,
    median: f64,
    upper: f64,
}

impl Spread {
    fn of(numbers: Vec<f64>) -> Self {
        let at = |percent| percentile(numbers.clone(), percent);
        Self { lower: at(25), median: at(50), upper: at(75) }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { lower, median, upper } = self;
        f.pad(&format!("{median:.1} ({lower:.1}..{upper:.1})"))
    }
}
