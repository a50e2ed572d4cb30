//! `buildgate frontend`: the entrypoint of the frontend's image.
//!
//! Standard output is the daemon's: nothing is ever written there. What goes to standard error ends
//! up in the daemon's log.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::Args;
use tracing_subscriber::EnvFilter;

use crate::frontend::{self, Options};

/// Serve one build as a BuildKit frontend, on standard input and output
///
/// A BuildKit daemon starts this in a container for whoever names the image in `# syntax=`; it is of
/// no use in a terminal. `buildgate check` judges a Dockerfile by the same rules without a daemon.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Flags {
    /// The stock Dockerfile frontend, run as our child: it parses and builds, we judge
    #[arg(
        long,
        value_name = "FILE",
        env = "BUILDGATE_CHILD",
        default_value = "/bin/dockerfile-frontend"
    )]
    child: PathBuf,
    /// Folder of the policies in the image: each folder in it is one policy, the Rego files at its top
    /// form one too, and all must allow. Trust roots (NAME.json) are in the folder `trust` beside it
    #[arg(long, value_name = "DIR", default_value = "/etc/buildgate/policy")]
    policies: PathBuf,
}

const EXAMPLES: &str = "\
Make the image, push it and build by it:
  make image IMAGE=registry.example/buildgate POLICIES=policies/registry-gatekeeper
  docker buildx build --build-arg BUILDKIT_SYNTAX=registry.example/buildgate .

An org's own, from one that is there:
  FROM registry.example/buildgate
  COPY policies/ /etc/buildgate/policy/
  COPY roots/internal.json /etc/buildgate/trust/

These may judge a build, and all that are there must allow; with none nothing is built:
  /etc/buildgate/policy/          in the image, which no build can take away
  Dockerfile.rego                 beside the Dockerfile (api.Dockerfile.rego beside api.Dockerfile)
  --build-context policy=DIR      of whoever builds

Exit codes: 0 the build has its result, or the error that it ends with; 2 the child gave neither and
the daemon was told so, or wrong use";

/// Serves the build.
pub(super) fn run(flags: &Flags) -> anyhow::Result<u8> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    // One build is carried: what changes threads on its way costs more than all that is done with it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be set up")?;
    let options = Options { child: flags.child.clone(), policies: flags.policies.clone() };
    let ended = runtime.block_on(frontend::run(options));
    // Nothing that is still under way may hold the end of the build up.
    runtime.shutdown_background();
    ended?;
    Ok(0)
}
