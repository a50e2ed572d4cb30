//! The stock clients, on their way to a daemon.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::OnceLock;

use tempfile::TempDir;

use crate::peers::{self, Buildkit, World};

/// A frontend's image.
#[derive(Clone)]
pub struct Frontend {
    /// Its reference.
    pub image: String,
    /// Digest of its manifest.
    pub digest: String,
}

impl Frontend {
    /// The image of this reference.
    pub fn of(world: &World, image: String) -> Self {
        let (_, name) = image.split_once('/').unwrap();
        let (repository, tag) = name.split_once(':').unwrap();
        let digest = world.registry.digest(repository, tag);
        Self { image, digest }
    }
}

/// What a client came to.
pub struct Ended {
    /// Whether it passed.
    pub passed: bool,
    /// What it printed for people.
    pub said: String,
    /// What it printed for programs.
    pub output: String,
}

impl From<Output> for Ended {
    fn from(output: Output) -> Self {
        Self {
            passed: output.status.success(),
            said: String::from_utf8_lossy(&output.stderr).into_owned(),
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
        }
    }
}

impl Ended {
    /// The same, which has passed.
    pub fn passed(self, what: &str) -> Self {
        assert!(self.passed, "{what} failed:\n{}", self.said);
        self
    }
}

/// `buildctl build` of a folder by a frontend's image.
pub fn buildctl(
    daemon: &Buildkit,
    frontend: &Frontend,
    context: &Path,
    options: &[String],
) -> Ended {
    buildctl_command(daemon, frontend, context, options).output().unwrap().into()
}

/// The same by the daemon at this address.
pub fn buildctl_at(
    address: &str,
    frontend: &Frontend,
    context: &Path,
    options: &[String],
) -> Ended {
    let mut build = Command::new(peers::pinned("buildctl").unwrap());
    build.args(["--addr", address]);
    build_by(&mut build, frontend, context, options).output().unwrap().into()
}

/// The same, not started yet.
pub fn buildctl_command(
    daemon: &Buildkit,
    frontend: &Frontend,
    context: &Path,
    options: &[String],
) -> Command {
    let mut build = daemon.buildctl();
    build_by(&mut build, frontend, context, options);
    build
}

fn build_by<'a>(
    build: &'a mut Command,
    frontend: &Frontend,
    context: &Path,
    options: &[String],
) -> &'a mut Command {
    build
        .args(["build", "--progress=plain", "--frontend=gateway.v0"])
        .arg(format!("--opt=source={}", frontend.image))
        .arg(format!("--local=context={}", context.display()))
        .arg(format!("--local=dockerfile={}", context.display()))
        .args(options)
}

/// A Buildx with a builder of its own: the daemon of the world, by driver `remote`.
pub struct Buildx {
    program: std::path::PathBuf,
    config: TempDir,
}

impl Buildx {
    /// The shared one.
    pub fn get(world: &World) -> Result<&'static Self, peers::NoPeer> {
        static BUILDX: OnceLock<Result<Buildx, peers::NoPeer>> = OnceLock::new();
        BUILDX.get_or_init(|| Self::of(&world.buildkit)).as_ref().map_err(Clone::clone)
    }

    /// One that knows this daemon.
    pub fn of(daemon: &Buildkit) -> Result<Self, peers::NoPeer> {
        Self::at(daemon.address())
    }

    /// One that knows the daemon at this address.
    pub fn at(address: &str) -> Result<Self, peers::NoPeer> {
        let program = peers::pinned("buildx")?;
        let buildx = Self { program, config: tempfile::tempdir().unwrap() };
        let create = ["create", "--name=show", "--driver=remote", address];
        Ended::from(buildx.command(&create).output().unwrap()).passed("buildx create");
        Ok(buildx)
    }

    /// `buildx ARGS` with the builder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env("BUILDX_CONFIG", self.config.path())
            .env("DOCKER_CONFIG", self.config.path())
            .env("BUILDX_BUILDER", "show")
            .env("BUILDX_NO_DEFAULT_ATTESTATIONS", "1")
            .env("SOURCE_DATE_EPOCH", EPOCH)
            .args(args);
        command
    }

    /// `buildx build` of a folder.
    pub fn build(&self, context: &Path, options: &[String]) -> Ended {
        let mut build = self.command(&["build", "--progress=plain"]);
        build.args(options).arg(context);
        build.output().unwrap().into()
    }
}

/// One date for everything.
pub const EPOCH: &str = "1700000000";
