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

/// An error and its causes. A cause that was told already is left out, and once the innermost was told, so
/// is what only stands between.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let causes: Vec<String> = std::iter::successors(error.source(), |error| error.source())
        .map(ToString::to_string)
        .collect();
    let told = |text: &str| causes.last().is_none_or(|innermost| text.contains(innermost));
    for words in &causes {
        if told(&text) {
            break;
        }
        if !text.contains(words) {
            text.push_str(": ");
            text.push_str(words);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_is_told_once() {
        for (causes, wanted) in [
            (&["all"][..], "all"),
            (&["what", "why"], "what: why"),
            (&["what: why", "why"], "what: why"),
            (&["what", "how", "why"], "what: how: why"),
            (&["what", "what", "why"], "what: why"),
            // Whoever is on top has told the bottom.
            (&["what: why", "how: in short", "why"], "what: why"),
            (&["what", "how: why", "it could not", "why"], "what: how: why"),
        ] {
            let mut causes: Vec<&str> = causes.to_vec();
            let innermost = anyhow::Error::msg(causes.pop().unwrap().to_owned());
            let error = causes
                .iter()
                .rev()
                .fold(innermost, |error, words| error.context((*words).to_owned()));
            assert_eq!(chain(error.as_ref()), wanted);
        }
    }
}
