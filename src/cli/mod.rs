//! The command line: flags → options → core → print. One file a command.

mod frontend;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "buildgate", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Frontend(frontend::FrontendArgs),
}

/// Runs the command line of this process and gives its exit code.
pub fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Frontend(args) => frontend::run(args),
    }
}
