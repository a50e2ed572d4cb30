//! `buildgate frontend`: the entrypoint of the frontend's image.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::frontend::{self, Options};

/// Serve one build as a BuildKit frontend, on standard input and output
///
/// A BuildKit daemon starts this in a container; it is of no use in a terminal.
#[derive(Args, Clone, Debug)]
pub struct FrontendArgs {
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

/// Serves the build. Standard output is the daemon's: nothing else is ever written there.
pub fn run(args: FrontendArgs) -> ExitCode {
    let FrontendArgs { child, policies } = args;
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!("the runtime cannot be set up: {error}");
            return ExitCode::from(2);
        }
    };
    let ended = runtime.block_on(frontend::run(Options { child, policies }));
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(2)
        }
    }
}
