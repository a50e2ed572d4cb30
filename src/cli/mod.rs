//! The command line: flags → options → core → print. One file a command.

use std::process::ExitCode;

/// Runs the command line of this process and gives its exit code.
pub fn main() -> ExitCode {
    ExitCode::from(2)
}
