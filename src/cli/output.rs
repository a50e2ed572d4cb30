//! What is written: answers to standard output, everything else to standard error.

use std::io::{self, IsTerminal, Write};

use anyhow::{Context, Result};

use super::flags::Color;
use crate::report::Style;

/// Writes an answer. A reader that went away is no error: it has had enough.
pub(super) fn answer(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("standard output cannot be written")
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What standard output can show.
pub(super) fn style(color: Color) -> Style {
    let terminal = io::stdout().is_terminal();
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    // https://no-color.org: set and not empty, whatever it says.
    let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    match color {
        Color::Never => Style::Plain,
        Color::Auto if !terminal || dumb || unwanted => Style::Plain,
        Color::Always if !terminal => Style::Ansi,
        Color::Auto | Color::Always => Style::AnsiWithLinks,
    }
}

/// Says something beside the answer, each line of it safe for a terminal.
pub(super) fn note(kind: &str, text: &str) {
    let mut err = io::stderr().lock();
    // Where standard error is closed there is nobody to tell.
    let _ = writeln!(err, "{kind}: {}", crate::report::escape::lines(text));
}

/// Says why there is no answer: what, and below it why.
pub(super) fn error(error: &anyhow::Error) {
    note("error", &chain(error.as_ref()));
}

/// An error and its causes. A cause that its parent has already told is left out.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let words = error.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        cause = error.source();
    }
    text
}
