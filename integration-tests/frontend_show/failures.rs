//! What ends a build from outside: its processes are killed, the disk is full, the daemon goes away.
//! The build fails, with a reason, and nothing stays behind or hangs.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::clients::{self, Frontend};
use super::{binary, containers, gate};
use crate::peers::{self, Buildkit, HttpServer, Response, World, need};

/// In which everything must be over.
const PATIENCE: Duration = Duration::from_secs(15);

/// A server that answers nothing until it is told to, so that a build stands where it is.
pub struct Slow {
    /// The server.
    pub server: HttpServer,
    open: Arc<(Mutex<bool>, Condvar)>,
}

impl Slow {
    /// One that waits.
    pub fn start() -> Self {
        let open = Arc::new((Mutex::new(false), Condvar::new()));
        let gate = Arc::clone(&open);
        let server = HttpServer::start(move |_| {
            let closed = gate.0.lock().unwrap();
            let wait = gate.1.wait_timeout_while(closed, 4 * PATIENCE, |open| !*open);
            drop(wait.unwrap());
            Response::ok("late")
        });
        Self { server, open }
    }

    /// Answers, from now on.
    pub fn open(&self) {
        *self.open.0.lock().unwrap() = true;
        self.open.1.notify_all();
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.open();
    }
}

/// Lets everything in, files by URL by what they hold.
const READS: &str = "package docker\n\
    default allow := false\n\
    allow if not input.http\n\
    allow if startswith(input.http.checksum, \"sha256:\")\n\
    decision := {\"allow\": allow}\n";

/// Where a build stands still.
#[derive(Clone, Copy, Debug)]
enum Where {
    /// The child was started and has asked for nothing yet.
    Start,
    /// We load the context, to look for a policy in it; the child waits for its first answers.
    Context,
    /// The child has asked for what it builds, and we look at what that loads.
    Solve,
    /// The child reads the context, and the daemon loads it for that.
    Read,
    /// The child asks for metadata of an image, and the daemon asks its registry.
    Metadata,
    /// The child waits for a process that it runs in a container.
    Process,
}

/// The last one stands only for a while.
const EVERYWHERE: [Where; 6] =
    [Where::Context, Where::Solve, Where::Read, Where::Metadata, Where::Process, Where::Start];

/// A build that stands still in the middle, and the processes of its frontend.
struct Standing<'a> {
    daemon: &'a Buildkit,
    slow: Slow,
    ours: u32,
    child: u32,
    /// What runs in a container of the child's.
    process: Option<u32>,
    build: std::process::Child,
    _context: tempfile::TempDir,
}

impl<'a> Standing<'a> {
    fn start(world: &World, daemon: &'a Buildkit, at: Where) -> Self {
        let slow = Slow::start();
        let url = slow.server.url("/late");
        let add = format!("FROM scratch\nADD {url} /x\n");
        let from = format!("FROM {}/late:1\n", slow.server.url("").trim_start_matches("http://"));
        let (gate, dockerfile, options) = match at {
            Where::Start => (starting(world), &add, vec![]),
            Where::Context => (gate(world), &add, vec![format!("--opt=context={url}")]),
            Where::Solve => (reading(world), &add, vec![]),
            Where::Read => {
                let options =
                    [format!("--opt=context={url}"), "--opt=dockerfilekey=dockerfile".into()];
                (gate(world), &add, options.into())
            }
            Where::Metadata => (gate(world), &from, vec![]),
            Where::Process => {
                let image = format!("--opt=image={}", world.image("base:1"));
                let options = ["--opt=do=wait".into(), image, "--opt=seconds=20".into()];
                (containers::gated(world), &add, options.into())
            }
        };
        let context = peers::folder(&[("Dockerfile", dockerfile)]);
        let before = descendants(daemon.pid());
        let build = clients::buildctl_command(daemon, &gate, context.path(), &options)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let process =
            |name: &str| until(name, || named(&(&descendants(daemon.pid()) - &before), name));
        let run = match at {
            Where::Start => None,
            Where::Context | Where::Solve | Where::Read | Where::Metadata => {
                let asked = || (!slow.server.asked().is_empty()).then_some(());
                until("the build stands still", asked);
                None
            }
            Where::Process => Some(process("busybox")),
        };
        let (ours, child) = (process("buildgate"), process("dockerfile-fron"));
        Self { daemon, slow, ours, child, process: run, build, _context: context }
    }

    /// Waits for the client's end, which something at `since` has brought about, and gives what it said.
    fn end(&mut self, since: Instant) -> String {
        let (status, said) = self.ended();
        assert!(since.elapsed() < PATIENCE, "{:?}: {said}", since.elapsed());
        assert!(!status.success(), "it passed: {said}");
        said
    }

    fn ended(&mut self) -> (ExitStatus, String) {
        let mut stderr = self.build.stderr.take().unwrap();
        let reader = std::thread::spawn(move || {
            let mut said = String::new();
            std::io::Read::read_to_string(&mut stderr, &mut said).unwrap();
            said
        });
        let status = until("the client ends", || self.build.try_wait().unwrap());
        (status, reader.join().unwrap())
    }

    /// Nothing of the frontend is left.
    fn gone(&self) {
        for pid in [self.ours, self.child] {
            until("the frontend is gone", || (!alive(pid)).then_some(()));
        }
    }

    /// The daemon builds as before, and has ended what the frontend ran.
    fn goes_on(&self, world: &World) {
        if let Some(pid) = self.process {
            until("the process in a container is gone", || (!alive(pid)).then_some(()));
        }
        let context = peers::folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
        clients::buildctl(self.daemon, &gate(world), context.path(), &[]).passed("the next build");
    }
}

/// The frontend with rules that read what files hold.
fn reading(world: &World) -> Frontend {
    static READING: OnceLock<Frontend> = OnceLock::new();
    let made = READING.get_or_init(|| {
        // Made by whoever comes first.
        gate(world);
        let from = world.image("gate:made");
        Frontend::of(world, peers::push_org(world, &from, "gate:reads", binary(), READS))
    });
    made.clone()
}

/// The frontend with a child that takes its time before it says a word; no longer than it may.
fn starting(world: &World) -> Frontend {
    static STARTING: OnceLock<Frontend> = OnceLock::new();
    let made = STARTING.get_or_init(|| {
        let gate = gate(world);
        let dockerfile = format!(
            "FROM {}\nCOPY --from={} /bin/busybox /bin/busybox\n\
             COPY --from={} /bin/dockerfile-frontend /bin/stock-frontend\n\
             COPY --chmod=755 child /bin/dockerfile-frontend\n",
            gate.image,
            world.image("base:1"),
            gate.image
        );
        let script = "#!/bin/busybox sh\n/bin/busybox sleep 8\n/bin/stock-frontend\n";
        let context = peers::folder(&[("Dockerfile", &dockerfile), ("child", script)]);
        let reference = world.image("gate:starts");
        world.buildkit.push(context.path(), &reference, &[], "");
        Frontend::of(world, reference)
    });
    made.clone()
}

/// Waits for something, no longer than anything may take.
fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// All processes below one, by what the system says of their parents.
pub fn descendants(root: u32) -> BTreeSet<u32> {
    let processes: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| Some((pid, stat(pid)?.1)))
        .collect();
    let mut found = BTreeSet::from([root]);
    loop {
        let below = processes.iter().filter(|(_, parent)| found.contains(parent));
        let more: Vec<u32> = below.map(|(pid, _)| *pid).filter(|it| !found.contains(it)).collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// A process's state and its parent.
fn stat(pid: u32) -> Option<(String, u32)> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut words = rest.split(' ');
    Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
}

pub fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

pub fn named(pids: &BTreeSet<u32>, name: &str) -> Option<u32> {
    let comm = |pid: &u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    pids.iter().find(|pid| comm(pid).trim() == name).copied()
}

fn signal(name: &str, pid: u32) {
    let sent = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status().unwrap();
    assert!(sent.success());
}

#[test]
fn a_killed_child_fails_the_build() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start(world.registry.host()));
    for at in EVERYWHERE {
        let mut standing = Standing::start(world, &daemon, at);
        let killed = Instant::now();
        signal("KILL", standing.child);
        let said = standing.end(killed);
        let wanted = "the Dockerfile frontend ended without a result (signal: 9 (SIGKILL))";
        assert!(said.contains(wanted), "{at:?}: {said}");
        standing.gone();
        standing.goes_on(world);
    }
}

#[test]
fn a_killed_frontend_fails_the_build() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start(world.registry.host()));
    for at in EVERYWHERE {
        let mut standing = Standing::start(world, &daemon, at);
        let killed = Instant::now();
        signal("KILL", standing.ours);
        let said = standing.end(killed);
        assert!(said.contains("failed to solve"), "{at:?}: {said}");
        assert!(said.contains("137") || said.contains("killed"), "{at:?}: {said}");
        standing.gone();
        standing.goes_on(world);
    }
}

/// A child that is stopped, wherever it is; one that waits for as long, and is left alone; and one whose whole
/// container is paused for longer than a child may stand still, which goes on as if nothing had been.
#[test]
fn a_stopped_child_fails_the_build_and_a_waiting_one_does_not() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start(world.registry.host()));
    let waiting = Standing::start(world, &daemon, Where::Solve);
    let paused = Standing::start(world, &daemon, Where::Solve);
    let mut all = EVERYWHERE.map(|at| Standing::start(world, &daemon, at));
    let stopped = Instant::now();
    for standing in &all {
        signal("STOP", standing.child);
    }
    // The child first, so that a ping of ours is under way when the two of us stand.
    signal("STOP", paused.child);
    std::thread::sleep(Duration::from_secs(4));
    signal("STOP", paused.ours);
    for (standing, at) in all.iter_mut().zip(EVERYWHERE) {
        let said = standing.end(stopped);
        // Where nothing was asked yet, either may be seen first.
        let how = match at {
            Where::Start | Where::Context => "",
            Where::Solve | Where::Read | Where::Metadata | Where::Process => {
                ", and answered no ping, and was ended"
            }
        };
        let wanted = format!("the Dockerfile frontend did nothing for 10 s{how}");
        assert!(said.contains(&wanted), "{at:?}: {said}");
        standing.gone();
    }
    assert!(stopped.elapsed() > Duration::from_secs(10), "{:?}", stopped.elapsed());
    std::thread::sleep(Duration::from_secs(25).saturating_sub(stopped.elapsed()));
    for pid in [paused.ours, paused.child] {
        signal("CONT", pid);
    }
    std::thread::sleep(Duration::from_secs(1));
    for mut standing in [paused, waiting] {
        assert!(standing.build.try_wait().unwrap().is_none());
        standing.slow.open();
        let (status, said) = standing.ended();
        assert!(status.success(), "{said}");
        standing.goes_on(world);
    }
}

#[test]
fn a_client_that_goes_away_leaves_nothing_behind() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start(world.registry.host()));
    let mut standing = Standing::start(world, &daemon, Where::Context);
    let killed = Instant::now();
    signal("KILL", standing.build.id());
    standing.end(killed);
    standing.gone();
    standing.goes_on(world);
}

/// One daemon, killed under builds that stand everywhere.
#[test]
fn a_daemon_that_goes_away_ends_everything() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start(world.registry.host()));
    let mut all = EVERYWHERE.map(|at| Standing::start(world, &daemon, at));
    let killed = Instant::now();
    signal("KILL", daemon.pid());
    for (standing, at) in all.iter_mut().zip(EVERYWHERE) {
        let said = standing.end(killed);
        assert!(said.contains("error: "), "{at:?}: {said}");
        standing.gone();
    }
    assert!(killed.elapsed() < PATIENCE, "{:?}", killed.elapsed());
}

/// A file system of its own, small, and unmounted by whoever made it.
struct Disk(PathBuf);

impl Disk {
    fn mount(size: &str) -> Self {
        let dir = tempfile::tempdir().unwrap().keep();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]).arg(&dir);
        assert!(mount.status().unwrap().success());
        Self(dir)
    }

    /// Leaves room for nothing.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("full")).unwrap();
        let block = [0_u8; 1 << 16];
        while std::io::Write::write_all(&mut file, &block).is_ok() {}
        while std::io::Write::write_all(&mut file, &block[..512]).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // The daemon's own mounts lie below, and end with it.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
        let _ = std::fs::remove_dir(&self.0);
    }
}

/// Each row fills the disk at another point: nothing is left of room when it comes there.
#[test]
fn a_full_disk_fails_the_build() {
    let world = need!(peers::world());
    let disk = Disk::mount("700m");
    let daemon = need!(Buildkit::start_in(world.registry.host(), &disk.0.join("state")));
    let base = world.image("base:1");
    let big = |byte: &str| byte.repeat(8 << 20);
    let files = HttpServer::files([("/one", big("1").into()), ("/two", big("2").into())]);
    let made = world.image("gate:made");
    let never = Frontend::of(world, peers::push_org(world, &made, "gate:never", binary(), READS));
    let copied = |name: &str| format!("FROM {base}\nCOPY {name} /\n");
    let added = |name: &str| format!("FROM {base}\nADD {} /\n", files.url(name));
    let written = |name: &str| {
        format!(
            "FROM {base}\nUSER 0\nRUN [\"/bin/busybox\", \"dd\", \"if=/dev/zero\", \
             \"of=/{name}\", \"bs=1M\", \"count=8\"]\n"
        )
    };
    let build = |gate: &Frontend, dockerfile: &str| {
        let context =
            peers::folder(&[("Dockerfile", dockerfile), ("one", &big("x")), ("two", &big("y"))]);
        let started = Instant::now();
        let ended = clients::buildctl(&daemon, gate, context.path(), &[]);
        (ended, started.elapsed())
    };
    for (gate, dockerfile) in [
        (gate(world), copied("one")),
        (reading(world), added("/one")),
        (gate(world), written("one")),
    ] {
        build(&gate, &dockerfile).0.passed("with room");
    }
    disk.fill();
    let rows = [
        ("the context is sent", gate(world), copied("two")),
        ("a file is fetched for a rule", reading(world), added("/two")),
        ("a step writes", gate(world), written("two")),
        ("the frontend is unpacked", never, copied("one")),
    ];
    for (what, gate, dockerfile) in &rows {
        let (ended, took) = build(gate, dockerfile);
        assert!(took < PATIENCE, "{what}: {took:?}");
        let wanted = "no space left on device";
        let said = ended.said.to_lowercase();
        assert!(!ended.passed && said.contains(wanted), "{what}: {}", ended.said);
    }
    std::fs::remove_file(disk.0.join("full")).unwrap();
    for (what, gate, dockerfile) in &rows {
        build(gate, dockerfile).0.passed(&format!("{what}, with room again"));
    }
    drop(daemon);
}
