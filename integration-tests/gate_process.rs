//! `buildgate serve` as a process of its own, in a folder of its own, and builds through it.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::frontend_show::clients::Ended;
use crate::peers::{self, World, folder};

pub const BUILDGATE: &str = env!("CARGO_BIN_EXE_buildgate");
/// How long something may take that ought to happen.
const SOON: Duration = Duration::from_secs(30);

pub fn until<T>(what: &str, mut ready: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = ready() {
            return found;
        }
        assert!(Instant::now() < deadline, "{what} did not come to pass");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A gate that runs in its own process, in a folder with its files; ended by its pid.
pub struct Gate {
    dir: TempDir,
    pub child: Child,
}

impl Gate {
    /// Starts `buildgate serve` in this folder, and waits until it takes clients.
    pub fn start(dir: TempDir, args: &[&str], env: &[(&str, &str)]) -> Self {
        let mut command = Command::new(BUILDGATE);
        command.arg("serve").args(args).envs(env.iter().copied());
        Self::run(dir, &mut command)
    }

    /// The same as this user, in its own group, with a copy of the program and a folder of its own.
    pub fn start_as(user: u32, dir: TempDir, args: &[&str]) -> Self {
        let own = dir.path().join("buildgate");
        std::fs::copy(BUILDGATE, &own).unwrap();
        std::fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::chown(dir.path(), Some(user), Some(user)).unwrap();
        let mut command = Command::new(own);
        command.arg("serve").args(args).uid(user).gid(user).env("HOME", "/nonexistent");
        Self::run(dir, &mut command)
    }

    /// The same by a command that is all there already.
    pub fn run(dir: TempDir, command: &mut Command) -> Self {
        let child = command
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(File::create(dir.path().join("stdout")).unwrap())
            .stderr(File::create(dir.path().join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut gate = Self { dir, child };
        until("listening", || {
            assert!(gate.child.try_wait().unwrap().is_none(), "{}", gate.log());
            gate.log().contains("clients come in at").then_some(())
        });
        gate
    }

    /// With what every gate here has, before the shared daemon.
    pub fn before(world: &World, policy: &str, more: &[&str]) -> Self {
        Self::with_files(world, &[("policy/p.rego", policy)], more)
    }

    /// The same, with all files of its own.
    pub fn with_files(world: &World, files: &[(&str, &str)], more: &[&str]) -> Self {
        let dir = folder(files);
        let listen = format!("unix://{}/gate.sock", dir.path().display());
        let upstream = world.buildkit.address();
        let args = ["--listen", &listen, "--upstream", upstream, "--policy", "policy"];
        Self::start(dir, &[&args, more].concat(), &[])
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    pub fn log(&self) -> String {
        self.read("stderr")
    }

    pub fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
    }

    pub fn ended(&mut self) -> i32 {
        until("the end", || self.child.try_wait().unwrap()).code().unwrap_or(-1)
    }

    /// What is served at `path` beside the metrics, with its status line.
    pub fn http(&self, path: &str) -> String {
        peers::shown(&self.log(), path)
    }

    /// Builds this Dockerfile through the gate.
    pub fn build(&self, dockerfile: &str) -> Ended {
        self.building(dockerfile, "gate.sock").end()
    }

    pub fn building(&self, dockerfile: &str, socket: &str) -> Building {
        let context = folder(&[("Dockerfile", dockerfile)]);
        let child = self
            .buildctl(socket)
            .args(["build", "--progress=plain", "--no-cache", "--frontend=dockerfile.v0"])
            .arg(format!("--local=context={}", context.path().display()))
            .arg(format!("--local=dockerfile={}", context.path().display()))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        Building { child, _context: context }
    }

    pub fn buildctl(&self, socket: &str) -> Command {
        let mut command = Command::new(peers::pinned("buildctl").unwrap());
        command
            .arg(format!("--addr=unix://{}", self.path(socket).display()))
            .env("OTEL_TRACES_EXPORTER", "none");
        command
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the log of the gate:\n{}", self.log());
        }
    }
}

pub struct Building {
    pub child: Child,
    _context: TempDir,
}

impl Building {
    pub fn end(self) -> Ended {
        self.child.wait_with_output().unwrap().into()
    }
}

/// Runs `buildgate serve … --check` in a folder.
pub fn check(dir: &Path, args: &[&str]) -> Output {
    let mut command = Command::new(BUILDGATE);
    command.arg("serve").args(args).arg("--check").current_dir(dir).output().unwrap()
}
