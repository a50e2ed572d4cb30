//! `buildgate completions`: what a shell reads to complete our commands.

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::{Shell, generate};

use super::{Cli, output};

/// Print the completions of a shell
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Flags {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  buildgate completions bash > /etc/bash_completion.d/buildgate
  buildgate completions zsh > \"${fpath[1]}/_buildgate\"
  buildgate completions fish > ~/.config/fish/completions/buildgate.fish";

/// Runs the command and gives its exit code.
pub(super) fn run(flags: &Flags) -> Result<u8> {
    let mut script = Vec::new();
    generate(flags.shell, &mut Cli::command(), "buildgate", &mut script);
    let script = String::from_utf8(script).context("the completions are no text")?;
    output::answer(&script)?;
    Ok(0)
}
