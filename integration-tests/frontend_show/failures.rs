//! What ends a build from outside: its processes are killed, the disk is full, the daemon goes away.
//! The build fails, with a reason, and nothing stays behind or hangs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::{Duration, Instant};

use super::clients::{self, Ended, Frontend};
use super::{binary, gate};
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
    /// We load the context, to look for a policy in it; the child waits for its first answers.
    Context,
    /// The child has asked for what it builds, and we look at what that loads.
    Solve,
    /// The child reads the context, and the daemon loads it for that.
    Read,
}

const EVERYWHERE: [Where; 3] = [Where::Context, Where::Solve, Where::Read];

/// A build that stands still in the middle, and the processes of its frontend.
struct Standing<'a> {
    daemon: &'a Buildkit,
    gate: Frontend,
    slow: Slow,
    ours: u32,
    child: u32,
    build: std::process::Child,
    _context: tempfile::TempDir,
}

impl<'a> Standing<'a> {
    fn start(world: &World, daemon: &'a Buildkit, at: Where) -> Self {
        let slow = Slow::start();
        let url = slow.server.url("/late");
        let context = peers::folder(&[("Dockerfile", &format!("FROM scratch\nADD {url} /x\n"))]);
        let (gate, options) = match at {
            Where::Context => (gate(world), vec![format!("--opt=context={url}")]),
            Where::Solve => (reading(world), vec![]),
            Where::Read => {
                let options =
                    [format!("--opt=context={url}"), "--opt=dockerfilekey=dockerfile".into()];
                (gate(world), options.into())
            }
        };
        let before = descendants(daemon.pid());
        let build = clients::buildctl_command(daemon, &gate, context.path(), &options)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        until("the build stands still", || (!slow.server.asked().is_empty()).then_some(()));
        let process =
            |name: &str| until(name, || named(&(&descendants(daemon.pid()) - &before), name));
        let (ours, child) = (process("buildgate"), process("dockerfile-fron"));
        Self { daemon, gate, slow, ours, child, build, _context: context }
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

    /// The daemon builds as before.
    fn goes_on(&self) {
        let context = peers::folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
        clients::buildctl(self.daemon, &self.gate, context.path(), &[]).passed("the next build");
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
fn descendants(root: u32) -> BTreeSet<u32> {
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

fn alive(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != "Z" && state != "X")
}

fn named(pids: &BTreeSet<u32>, name: &str) -> Option<u32> {
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
        standing.goes_on();
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
        standing.goes_on();
    }
}

/// A child that is stopped in the middle of a call; and one that waits for as long, and is left alone.
#[test]
fn a_stopped_child_fails_the_build_and_a_waiting_one_does_not() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start(world.registry.host()));
    let mut waiting = Standing::start(world, &daemon, Where::Solve);
    let mut all = EVERYWHERE.map(|at| Standing::start(world, &daemon, at));
    let stopped = Instant::now();
    for standing in &all {
        signal("STOP", standing.child);
    }
    for (standing, at) in all.iter_mut().zip(EVERYWHERE) {
        let said = standing.end(stopped);
        // Where nothing was asked yet, either may be seen first.
        let how = match at {
            Where::Context => "",
            Where::Solve | Where::Read => ", and answered no ping, and was ended",
        };
        let wanted = format!("the Dockerfile frontend did nothing for 10 s{how}");
        assert!(said.contains(&wanted), "{at:?}: {said}");
        standing.gone();
    }
    assert!(stopped.elapsed() > Duration::from_secs(10), "{:?}", stopped.elapsed());
    assert!(waiting.build.try_wait().unwrap().is_none());
    waiting.slow.open();
    let (status, said) = waiting.ended();
    assert!(status.success(), "{said}");
    waiting.goes_on();
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
    standing.goes_on();
}

#[test]
fn a_daemon_that_goes_away_ends_everything() {
    let world = need!(peers::world());
    let daemon = need!(Buildkit::start(world.registry.host()));
    let mut standing = Standing::start(world, &daemon, Where::Context);
    let killed = Instant::now();
    signal("KILL", daemon.pid());
    let said = standing.end(killed);
    assert!(said.contains("error: "), "{said}");
    standing.gone();
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

#[test]
fn a_full_disk_fails_the_build() {
    let world = need!(peers::world());
    let disk = Disk::mount("600m");
    let daemon = need!(Buildkit::start_in(world.registry.host(), &disk.0.join("state")));
    let gate = gate(world);
    let dockerfile = format!("FROM {}\nCOPY big /\n", world.image("base:1"));
    let context = peers::folder(&[("Dockerfile", &dockerfile), ("big", &"x".repeat(8 << 20))]);
    let build = |context: &Path| -> Ended { clients::buildctl(&daemon, &gate, context, &[]) };
    build(context.path()).passed("with room");
    std::fs::write(context.path().join("big"), "y".repeat(8 << 20)).unwrap();
    disk.fill();
    let started = Instant::now();
    let ended = build(context.path());
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    assert!(!ended.passed && ended.said.contains("no space left on device"), "{}", ended.said);
    std::fs::remove_file(disk.0.join("full")).unwrap();
    build(context.path()).passed("with room again");
    drop(daemon);
}
