//! A real BuildKit daemon with runc, and builds through its own client.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::daemon::Daemon;
use super::{Authority, NoPeer, Registry, tools};

/// A running buildkitd.
pub struct Buildkit {
    daemon: Daemon,
    buildctl: PathBuf,
    address: String,
    /// What its client says besides.
    client: Vec<String>,
    state: PathBuf,
}

impl Buildkit {
    /// Starts buildkitd with its state in a temporary folder; it pushes to `registry` over plain HTTP.
    pub fn start(registry: &str) -> Result<Self, NoPeer> {
        Self::start_with(registry, None, None, "")
    }

    /// The same of the oldest version that the gate takes.
    pub fn start_oldest(registry: &str) -> Result<Self, NoPeer> {
        Self::start_program("buildkitd-oldest", registry, None, None, "")
    }

    /// The same, which speaks TLS with `locked`, under all of its names, and trusts this authority for it.
    pub fn start_trusting(
        registry: &str,
        locked: &Registry,
        authority: &Authority,
    ) -> Result<Self, NoPeer> {
        let (ca, host) = (authority.file("ca"), locked.host());
        let mut also = format!("[registry.\"{host}\"]\nhttp = false\nca = [{ca:?}]\n");
        for name in [locked.name(), "mirrored.test".to_owned()] {
            also.push_str(&format!("[registry.\"{name}\"]\nmirrors = [\"{host}\"]\n"));
        }
        Self::start_with(registry, None, None, &also)
    }

    /// The same with this at the end of its configuration.
    pub fn start_also(registry: &str, config: &str) -> Result<Self, NoPeer> {
        Self::start_with(registry, None, None, config)
    }

    /// The same with its state in this folder.
    pub fn start_in(registry: &str, state: &Path) -> Result<Self, NoPeer> {
        Self::start_with(registry, Some(state), None, "")
    }

    /// The same over TCP, for clients that this authority has signed a certificate for. It is `daemon`
    /// of the authority, and its own client is `client`.
    pub fn start_tls(registry: &str, authority: &Authority) -> Result<Self, NoPeer> {
        let here = rcgen::SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
        authority.sign("daemon", here);
        authority.sign("client", rcgen::SanType::DnsName("client".try_into().unwrap()));
        Self::start_with(registry, None, Some(authority), "")
    }

    fn start_with(
        registry: &str,
        state: Option<&Path>,
        tls: Option<&Authority>,
        also: &str,
    ) -> Result<Self, NoPeer> {
        Self::start_program("buildkitd", registry, state, tls, also)
    }

    fn start_program(
        program: &str,
        registry: &str,
        state: Option<&Path>,
        tls: Option<&Authority>,
        also: &str,
    ) -> Result<Self, NoPeer> {
        let program = tools::pinned(program)?;
        let buildctl = tools::pinned("buildctl")?;
        tools::root()?;
        let runc = tools::installed("runc", "runc")?;
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("buildkitd.sock");
        let config = dir.path().join("buildkitd.toml");
        let state = state.map_or_else(|| dir.path().join("state"), Path::to_owned);
        let file = |authority: &Authority, name: &str| authority.file(name).display().to_string();
        let door = match tls {
            None => format!("address = [\"unix://{}\"]\n", socket.display()),
            Some(authority) => format!(
                "address = [\"tcp://127.0.0.1:0\"]\n\
                 [grpc.tls]\n\
                 cert = \"{}\"\n\
                 key = \"{}\"\n\
                 ca = \"{}\"\n",
                file(authority, "daemon"),
                file(authority, "daemon.key"),
                file(authority, "ca"),
            ),
        };
        let text = format!(
            "root = \"{root}\"\n\
             [grpc]\n\
             {door}\
             [worker.containerd]\n\
             enabled = false\n\
             [worker.oci]\n\
             enabled = true\n\
             binary = \"{runc}\"\n\
             networkMode = \"host\"\n\
             [registry.\"{registry}\"]\n\
             http = true\n{also}",
            root = state.display(),
            runc = runc.display(),
        );
        std::fs::write(&config, text).unwrap();
        let args = ["--config".as_ref(), config.as_os_str()];
        let mut daemon = Daemon::start("buildkitd", &program, &args, dir);
        let within = Duration::from_secs(60);
        let address = match tls {
            None => {
                daemon.wait_for(within, |_| UnixStream::connect(&socket).ok());
                format!("unix://{}", socket.display())
            }
            Some(_) => format!("tcp://{}", daemon.wait_for(within, |it| running_at(&it.log()))),
        };
        let client = tls.map_or_else(Vec::new, |authority| {
            [("--tlscacert", "ca"), ("--tlscert", "client"), ("--tlskey", "client.key")]
                .map(|(flag, name)| format!("{flag}={}", file(authority, name)))
                .into()
        });
        Ok(Self { daemon, buildctl, address, client, state })
    }

    /// Its own client, on its way to this daemon.
    pub fn buildctl(&self) -> Command {
        let mut command = Command::new(&self.buildctl);
        command.args(["--addr", &self.address]).args(&self.client);
        command
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Where it keeps content, by the digits of its SHA-256.
    pub fn blobs(&self) -> PathBuf {
        self.state.join("runc-overlayfs/content/blobs/sha256")
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
        let mut build = self.buildctl();
        build
            .args(["build", "--progress=plain"])
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

/// The address in `msg="running server on 127.0.0.1:40123"`.
fn running_at(log: &str) -> Option<String> {
    let (_, rest) = log.split_once("running server on ")?;
    let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'))?;
    Some(rest[..end].to_owned())
}
