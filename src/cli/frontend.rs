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
/// A BuildKit daemon starts this in a container; it is of no use in a terminal.
#[derive(Args, Clone, Debug)]
pub(super) struct Flags {
    /// The stock Dockerfile frontend, run as our child
    #[arg(
        long,
        value_name = "FILE",
        env = "BUILDGATE_CHILD",
        default_value = "/bin/dockerfile-frontend"
    )]
    child: PathBuf,
    /// Folder of the policies in the image: each folder in it is one, and all must allow
    #[arg(long, value_name = "DIR", default_value = "/etc/buildgate/policy")]
    policies: PathBuf,
}

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
