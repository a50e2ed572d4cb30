//! A daemon of the tests: started with a log, waited for until it is ready, and ended by its pid,
//! whether it is dropped or this process dies.

use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Runs the daemon beside a `cat` on the pipe that this process holds: when the pipe closes, for
/// whatever reason, the daemon is ended by pid and waited for, and its folder removed. Statics are
/// never dropped and a killed test process cleans nothing up, so that nothing less will do.
const SUPERVISOR: &str = r#"
dir=$1
shift
exec 3<&0
"$@" </dev/null 3<&- &
pid=$!
cat <&3 >/dev/null
kill -TERM "$pid" 2>/dev/null
tries=40
while kill -0 "$pid" 2>/dev/null && [ "$tries" -gt 0 ]; do
  tries=$((tries - 1))
  sleep 0.25
done
kill -KILL "$pid" 2>/dev/null
wait "$pid"
# A daemon that was killed leaves its mounts behind.
while read -r _ place _; do
  case $place in "$dir"/*) umount -l "$place" ;; esac
done </proc/self/mounts
[ -n "$BUILDGATE_TEST_KEEP" ] || rm -rf --one-file-system "$dir"
"#;

/// How often a condition is looked at again.
const POLL: Duration = Duration::from_millis(20);

/// A running daemon.
pub struct Daemon {
    name: &'static str,
    log: PathBuf,
    supervisor: Child,
    lifeline: Option<ChildStdin>,
}

impl Daemon {
    /// Starts `program` in `dir`, its own from now on; what it prints goes to `NAME.log` there.
    /// With `BUILDGATE_TEST_KEEP=1` in the environment the folder outlives it.
    pub fn start<A: AsRef<OsStr>>(
        name: &'static str,
        program: &Path,
        args: &[A],
        dir: TempDir,
    ) -> Self {
        let dir = dir.keep();
        let log = dir.join(format!("{name}.log"));
        let out = File::create(&log).unwrap();
        let mut supervisor = Command::new("sh")
            .args(["-c", SUPERVISOR, name])
            .arg(&dir)
            .arg(program)
            .args(args)
            .env("OTEL_TRACES_EXPORTER", "none")
            .current_dir(&dir)
            // Out of reach of the terminal's ^C, which would end it before the daemon.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        let lifeline = supervisor.stdin.take();
        Self { name, log, supervisor, lifeline }
    }

    /// Waits until `ready` has something to say; panics with the log when it has not in time.
    pub fn wait_for<T>(
        &mut self,
        within: Duration,
        mut ready: impl FnMut(&Self) -> Option<T>,
    ) -> T {
        let deadline = Instant::now() + within;
        loop {
            if let Some(found) = ready(self) {
                return found;
            }
            assert!(
                Instant::now() < deadline,
                "{} was not ready within {within:?}; its log:\n{}",
                self.name,
                self.log()
            );
            std::thread::sleep(POLL);
        }
    }

    /// Its process, the supervisor's only child but for `cat`.
    pub fn pid(&self) -> u32 {
        let supervisor = self.supervisor.id();
        let children = format!("/proc/{supervisor}/task/{supervisor}/children");
        let children = std::fs::read_to_string(children).unwrap();
        let is_cat = |pid: &str| {
            std::fs::read_to_string(format!("/proc/{pid}/comm")).is_ok_and(|it| it.trim() == "cat")
        };
        children.split_whitespace().find(|pid| !is_cat(pid)).unwrap().parse().unwrap()
    }

    /// Everything the daemon has written so far.
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&std::fs::read(&self.log).unwrap_or_default()).into_owned()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        drop(self.lifeline.take());
        if self.supervisor.wait().is_err() || std::thread::panicking() {
            eprintln!("the log of {}:\n{}", self.name, self.log());
        }
    }
}
