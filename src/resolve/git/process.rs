//! `git` as a child process that can neither ask, nor run anything, nor take forever.
//!
//! It sees none of the person's or machine's git configuration, has a home of its own that is
//! deleted afterwards, may use four transports, asks nobody anything, and is killed when its time
//! or its disk space is used up, or when nobody waits for it any more.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::{Child, Command};

use super::super::transport::failed;
use crate::meta::ResolveError;

/// How long one run of git may take.
const TIME: Duration = Duration::from_secs(120);
/// What git may write to its standard output, objects included.
const MAX_OUTPUT: u64 = 16 << 20;
/// What is kept of its standard error.
const MAX_COMPLAINT: u64 = 16 << 10;
/// How often the disk space of a fetch is looked at.
const WATCH: Duration = Duration::from_millis(200);

/// Ways that git may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Transports {
    /// http, https, ssh and git.
    Network,
    /// These, and paths on this machine.
    #[cfg(test)]
    NetworkAndFiles,
}

/// A directory that is there for one question, and deleted after it.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    known_hosts: Option<PathBuf>,
}

/// Git with a scratch directory as its home and repository.
#[derive(Debug)]
pub(super) struct Git<'a> {
    what: &'a str,
    scratch: Scratch,
    transports: Transports,
    limit: u64,
}

/// Git that failed.
#[derive(Debug, thiserror::Error)]
enum ProcessError {
    #[error("cannot run git: {0} (is it installed?)")]
    Spawn(io::Error),
    #[error("cannot read from git: {0}")]
    Read(io::Error),
    #[error("git failed: {0}")]
    Exit(String),
}

/// How a run of git ended.
struct Ended {
    success: bool,
    output: Vec<u8>,
    complaint: Vec<u8>,
}

impl Scratch {
    /// A new directory that only this user can read.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(super) fn new(known_hosts: &str) -> io::Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let mut builder = std::fs::DirBuilder::new();
        #[cfg(unix)]
        std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
        let path = loop {
            let next = NEXT.fetch_add(1, Ordering::Relaxed);
            let name = format!("buildgate-git-{}-{next}", std::process::id());
            let path = std::env::temp_dir().join(name);
            match builder.create(&path) {
                Ok(()) => break path,
                // Left over by a process of the same id: never used, only stepped around.
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        };
        let mut scratch = Self { path, known_hosts: None };
        if !known_hosts.is_empty() {
            let file = scratch.path.join("known_hosts");
            std::fs::write(&file, known_hosts)?;
            scratch.known_hosts = Some(file);
        }
        Ok(scratch)
    }

    fn repository(&self) -> PathBuf {
        self.path.join("repository.git")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot delete");
        }
    }
}

impl<'a> Git<'a> {
    /// Git for resolving `what`, which may take `limit` bytes of disk.
    pub(super) fn new(what: &'a str, scratch: Scratch, transports: Transports, limit: u64) -> Self {
        Self { what, scratch, transports, limit }
    }

    /// Runs git and returns what it wrote.
    ///
    /// # Errors
    /// When it fails, takes too long or writes too much.
    pub(super) async fn run(&self, arguments: &[&str]) -> Result<Vec<u8>, ResolveError> {
        let child = self
            .command(arguments)
            .spawn()
            .map_err(|error| failed(self.what, ProcessError::Spawn(error)))?;
        let too_large = |limit| ResolveError::TooLarge { what: self.what.into(), limit };
        let ended = tokio::select! {
            ended = tokio::time::timeout(TIME, collect(child)) => ended,
            () = outgrown(&self.scratch.path, self.limit) => return Err(too_large(self.limit)),
        };
        let ended = ended
            .map_err(|_| ResolveError::Timeout { what: self.what.into(), after: TIME })?
            .map_err(|error| failed(self.what, ProcessError::Read(error)))?;
        if ended.output.len() as u64 > MAX_OUTPUT {
            return Err(too_large(MAX_OUTPUT));
        }
        if ended.success {
            return Ok(ended.output);
        }
        let complaint = complaint(&ended.complaint, &self.scratch.path);
        Err(failed(self.what, ProcessError::Exit(complaint)))
    }

    /// Runs git and returns the one line that it wrote.
    ///
    /// # Errors
    /// As [`Git::run`].
    pub(super) async fn line(&self, arguments: &[&str]) -> Result<String, ResolveError> {
        let output = self.run(arguments).await?;
        Ok(String::from_utf8_lossy(&output).trim().to_owned())
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        let settings = [
            "core.hooksPath=/dev/null",
            "core.fsmonitor=false",
            "credential.helper=",
            "http.followRedirects=initial",
            "transfer.fsckObjects=false",
            "fetch.unpackLimit=1",
            "fetch.recurseSubmodules=false",
            "gc.auto=0",
            "maintenance.auto=false",
            "protocol.version=2",
        ];
        for setting in settings {
            command.args(["-c", setting]);
        }
        command
            .args(arguments)
            .env_clear()
            .env("HOME", &self.scratch.path)
            .env("GIT_DIR", self.scratch.repository())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_SYSTEM", "/dev/null")
            .env("GIT_ATTR_NOSYSTEM", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_ASKPASS", "false")
            .env("SSH_ASKPASS", "false")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_SSH_COMMAND", self.ssh())
            .env("GIT_ALLOW_PROTOCOL", self.transports.allowed())
            .env("LC_ALL", "C")
            .envs(passed_on())
            .current_dir(&self.scratch.path)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .process_group(0);
        command
    }

    /// Ssh that asks nothing and trusts no unknown host.
    fn ssh(&self) -> String {
        let ssh =
            "ssh -F /dev/null -o BatchMode=yes -o StrictHostKeyChecking=yes -o ConnectTimeout=10";
        match &self.scratch.known_hosts {
            // The path is ours, and holds nothing that a shell would read.
            Some(path) => format!("{ssh} -o UserKnownHostsFile='{}'", path.display()),
            None => ssh.to_owned(),
        }
    }
}

impl Transports {
    fn allowed(self) -> &'static str {
        match self {
            Transports::Network => "http:https:ssh:git",
            #[cfg(test)]
            Transports::NetworkAndFiles => "http:https:ssh:git:file",
        }
    }
}

/// What of our environment git may see: where programs are, proxies, and the ssh agent.
fn passed_on() -> impl Iterator<Item = (&'static str, OsString)> {
    [
        "PATH",
        "SSH_AUTH_SOCK",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
        "ALL_PROXY",
        "http_proxy",
        "https_proxy",
        "no_proxy",
        "all_proxy",
        "SSL_CERT_FILE",
        "SSL_CERT_DIR",
    ]
    .into_iter()
    .filter_map(|name| std::env::var_os(name).map(|value| (name, value)))
}

/// Reads both ends at once, so that neither can block the other, and waits.
async fn collect(mut child: Child) -> io::Result<Ended> {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (output, complaint) =
        tokio::try_join!(capped(stdout, MAX_OUTPUT + 1), capped(stderr, MAX_COMPLAINT))?;
    if output.len() as u64 > MAX_OUTPUT {
        child.kill().await?;
        return Ok(Ended { success: false, output, complaint });
    }
    let success = child.wait().await?.success();
    Ok(Ended { success, output, complaint })
}

/// The first `limit` bytes; the rest is read and dropped, unless it is one byte too many already.
async fn capped(stream: Option<impl AsyncRead + Unpin>, limit: u64) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(stream) = stream else {
        return Ok(kept);
    };
    let mut limited = stream.take(limit);
    limited.read_to_end(&mut kept).await?;
    if kept.len() as u64 > MAX_OUTPUT {
        return Ok(kept);
    }
    tokio::io::copy(&mut limited.into_inner(), &mut tokio::io::sink()).await?;
    Ok(kept)
}

/// Comes back when `folder` holds more than `limit` bytes.
async fn outgrown(folder: &Path, limit: u64) {
    loop {
        tokio::time::sleep(WATCH).await;
        if size(folder) > limit {
            return;
        }
    }
}

/// Bytes in the files below `folder`. Files come and go while git works, so what cannot be read
/// counts as nothing.
fn size(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .flatten()
        .map(|entry| match entry.metadata() {
            Ok(found) if found.is_dir() => size(&entry.path()),
            Ok(found) => found.len(),
            Err(_) => 0,
        })
        .sum()
}

/// What git said, on one line, without our own paths and control characters.
fn complaint(stderr: &[u8], scratch: &Path) -> String {
    let text = String::from_utf8_lossy(stderr).replace(&scratch.display().to_string(), "");
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let said = lines.collect::<Vec<_>>().join("; ");
    said.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1000).collect()
}
