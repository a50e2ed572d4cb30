//! The command line: flags → options → core → print. One file a command.
//!
//! Standard output has the answer and nothing else; what went wrong, notes and progress go to
//! standard error. It decides nothing.

mod build;
mod check;
mod completions;
mod dockerfile;
mod eval;
mod finding;
mod flags;
mod frontend;
mod hint;
mod judge;
mod output;
mod policies;
mod schema;
mod serve;
mod test;
mod trust;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// The code of a command that could not decide, or was used wrongly.
const UNDECIDED: u8 = 2;

/// Decides, before anything is fetched, whether a build may use each of its sources.
#[derive(Debug, Parser)]
#[command(name = "buildgate", version, about, propagate_version = true, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(check::Flags),
    Eval(eval::Flags),
    Test(test::Flags),
    Trust(trust::Flags),
    Frontend(frontend::Flags),
    Serve(Box<serve::Flags>),
    Schema(schema::Flags),
    Completions(completions::Flags),
}

const EXAMPLES: &str = "\
Examples:
  buildgate check                            judge ./Dockerfile by ./Dockerfile.rego
  buildgate check --policy policies/registry-gatekeeper --offline
  buildgate eval alpine:3.20 --print         the input that rules read of an image
  buildgate test policies/registry-gatekeeper
  buildgate serve --config gate.toml --check whether the gate would open, and for whom

Each command has a --help with examples.

Exit codes: 0 allowed or passed, 1 denied or a test failed, 2 could not decide or used wrongly";

/// Runs the command line of this process and gives its exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are answers; where they cannot be written there is nobody to tell.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { UNDECIDED } else { 0 });
        }
    };
    let done = match cli.command {
        Command::Check(flags) => check::run(&flags),
        Command::Eval(flags) => eval::run(&flags),
        Command::Test(flags) => test::run(&flags),
        Command::Trust(flags) => trust::run(&flags),
        Command::Frontend(flags) => frontend::run(&flags),
        Command::Serve(flags) => serve::run(&flags),
        Command::Schema(flags) => schema::run(&flags),
        Command::Completions(flags) => completions::run(&flags),
    };
    ExitCode::from(done.unwrap_or_else(|error| {
        output::error(&error);
        UNDECIDED
    }))
}
