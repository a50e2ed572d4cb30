//! `buildgate schema`: the JSON Schema of the document that rules read.

use anyhow::{Context, Result};
use clap::Args;

use super::output;
use crate::input;

/// Print the JSON Schema of the input that rules read
///
/// It is of the draft 2020-12, for editors and for tests of policies.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Flags {}

const EXAMPLES: &str = "\
Example:
  buildgate schema > input.schema.json";

/// Runs the command and gives its exit code.
pub(super) fn run(_: &Flags) -> Result<u8> {
    let mut text =
        serde_json::to_string_pretty(&input::schema()).context("the schema cannot be written")?;
    text.push('\n');
    output::answer(&text)?;
    Ok(0)
}
