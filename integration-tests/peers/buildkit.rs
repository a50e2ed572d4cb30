//! A real BuildKit daemon with runc, and builds through its own client.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::daemon::Daemon;
use super::{NoPeer, tools};

/// A running buildkitd.
pub struct Buildkit {
    daemon: Daemon,
    buildctl: PathBuf,
    address: String,
}

impl Buildkit {
    /// Starts buildkitd with its state in a temporary folder; it pushes to `registry` over plain HTTP.
    pub fn start(registry: &str) -> Result<Self, NoPeer> {
        Self::start_with(registry, None)
    }

    /// The same with its state in this folder.
    pub fn start_in(registry: &str, state: &Path) -> Result<Self, NoPeer> {
        Self::start_with(registry, Some(state))
    }

    fn start_with(registry: &str, state: Option<&Path>) -> Result<Self, NoPeer> {
        let program = tools::pinned("buildkitd")?;
        let buildctl = tools::pinned("buildctl")?;
        tools::root()?;
        let runc = tools::installed("runc", "runc")?;
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("buildkitd.sock");
        let config = dir.path().join("buildkitd.toml");
        let text = format!(
            "root = \"{root}\"\n\
             [grpc]\n\
             address = [\"unix://{socket}\"]\n\
             [worker.containerd]\n\
             enabled = false\n\
             [worker.oci]\n\
             enabled = true\n\
             binary = \"{runc}\"\n\
             networkMode = \"host\"\n\
             [registry.\"{registry}\"]\n\
             http = true\n",
            root = state.unwrap_or(&dir.path().join("state")).display(),
            socket = socket.display(),
            runc = runc.display(),
        );
        std::fs::write(&config, text).unwrap();
        let args = ["--config".as_ref(), config.as_os_str()];
        let mut daemon = Daemon::start("buildkitd", &program, &args, dir);
        daemon.wait_for(Duration::from_secs(60), |_| UnixStream::connect(&socket).ok());
        Ok(Self { daemon, buildctl, address: format!("unix://{}", socket.display()) })
    }

    /// Its own client, on its way to this daemon.
    pub fn buildctl(&self) -> Command {
        let mut command = Command::new(&self.buildctl);
        command.args(["--addr", &self.address]);
        command
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.daemon.pid()
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.daemon.log()
    }

    /// Builds `context` (a folder with a Dockerfile) and pushes the result as `image`. `options` go
    /// to the frontend (`platform=…`, `attest:provenance=mode=max`), `export` to the exporter.
    pub fn push(&self, context: &Path, image: &str, options: &[&str], export: &str) {
        let mut build = Command::new(&self.buildctl);
        build
            .args(["--addr", &self.address, "build", "--progress=plain"])
            .args(["--frontend", "dockerfile.v0"])
            .arg(format!("--local=context={}", context.display()))
            .arg(format!("--local=dockerfile={}", context.display()))
            .arg(format!("--output=type=image,name={image},push=true{export}"));
        for option in options {
            build.args(["--opt", option]);
        }
        let out = build.output().unwrap();
        assert!(
            out.status.success(),
            "buildctl build of {image} failed:\n{}\nthe daemon's log:\n{}",
            String::from_utf8_lossy(&out.stderr),
            self.daemon.log()
        );
    }
}
