//! Template strings, `$"…{x}…"`: regorus cannot read them, so they are written as what OPA makes of
//! them, `internal.template_string(["…", {v | v := x}, "…"])`, on the same lines.

use std::borrow::Cow;
use std::iter::Peekable;
use std::str::CharIndices;

/// A template string that is none: where, in bytes, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TemplateError {
    pub at: usize,
    pub message: &'static str,
}

type Result<T> = std::result::Result<T, TemplateError>;

/// How deep templates may stand within each other.
const MAX_DEPTH: usize = 4;

/// The text with its template strings written out.
///
/// # Errors
/// When one does not end.
pub(super) fn lower(text: &str) -> Result<Cow<'_, str>> {
    if !text.contains("$\"") && !text.contains("$`") {
        return Ok(Cow::Borrowed(text));
    }
    let mut writer = Writer { rest: text.char_indices().peekable(), out: String::new(), names: 0 };
    writer.code(0)?;
    Ok(Cow::Owned(writer.out))
}

struct Writer<'t> {
    rest: Peekable<CharIndices<'t>>,
    out: String,
    names: usize,
}

impl Writer<'_> {
    /// Copies code: to the end of the text, or inside a template to the brace that closes it.
    fn code(&mut self, depth: usize) -> Result<()> {
        let mut braces = 0_usize;
        while let Some((at, c)) = self.rest.next() {
            match c {
                '#' => {
                    self.out.push(c);
                    while let Some((_, c)) = self.rest.next_if(|(_, c)| *c != '\n') {
                        self.out.push(c);
                    }
                }
                '"' | '`' => self.string(c),
                '$' if matches!(self.rest.peek(), Some((_, '"' | '`'))) => {
                    if depth >= MAX_DEPTH {
                        return Err(TemplateError {
                            at,
                            message: "template strings nest too deep",
                        });
                    }
                    let quote = self.rest.next().map_or('"', |(_, quote)| quote);
                    self.template((at, quote), depth)?;
                }
                '}' if braces == 0 && depth > 0 => return Ok(()),
                c => {
                    match c {
                        '{' => braces += 1,
                        '}' => braces = braces.saturating_sub(1),
                        _ => {}
                    }
                    self.out.push(c);
                }
            }
        }
        if depth == 0 { Ok(()) } else { Err(TemplateError { at: 0, message: UNFINISHED }) }
    }

    /// Copies a string. One that does not end is the parser's to refuse.
    fn string(&mut self, quote: char) {
        self.out.push(quote);
        while let Some((_, c)) = self.rest.next() {
            self.out.push(c);
            if c == quote {
                return;
            }
            if c == '\\'
                && quote == '"'
                && let Some((_, escaped)) = self.rest.next()
            {
                self.out.push(escaped);
            }
        }
    }

    fn template(&mut self, (at, quote): (usize, char), depth: usize) -> Result<()> {
        let unfinished = TemplateError { at, message: UNFINISHED };
        self.out.push_str("internal.template_string([");
        loop {
            self.out.push('"');
            let mut lines = 0;
            let end = loop {
                let Some((_, c)) = self.rest.next() else { return Err(unfinished) };
                match (c, quote) {
                    ('{', _) => break '{',
                    (c, quote) if c == quote => break c,
                    ('\n', '"') => return Err(unfinished),
                    ('\\', _) if self.rest.next_if(|(_, c)| *c == '{').is_some() => {
                        self.out.push('{');
                    }
                    ('\\', '"') => {
                        self.out.push('\\');
                        self.out.extend(self.rest.next().map(|(_, c)| c));
                    }
                    ('\n', _) => {
                        self.out.push_str("\\n");
                        lines += 1;
                    }
                    ('"' | '\\', _) => self.out.extend(['\\', c]),
                    (c, _) if c.is_control() => self.out.push_str(&format!("\\u{:04x}", c as u32)),
                    (c, _) => self.out.push(c),
                }
            };
            self.out.push('"');
            // What follows stays on the line that it is on.
            self.out.extend(std::iter::repeat_n('\n', lines));
            if end == quote {
                self.out.push_str("])");
                return Ok(());
            }
            self.names += 1;
            let name = format!("template_{}__", self.names);
            self.out.push_str(&format!(", {{{name} | {name} := "));
            self.code(depth + 1).map_err(|error| match error.at {
                0 => unfinished.clone(),
                _ => error,
            })?;
            self.out.push_str("}, ");
        }
    }
}

const UNFINISHED: &str = "this template string does not end";

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        lower(text).map_or_else(|error| format!("{}: {}", error.at, error.message), Cow::into_owned)
    }

    #[test]
    fn templates_are_written_out_and_nothing_else() {
        for (text, expected) in [
            ("x := \"$\\\"{a}\" # $\"{b}\"", "x := \"$\\\"{a}\" # $\"{b}\""),
            (
                "x := $\"a{y}b\"",
                "x := internal.template_string([\"a\", {template_1__ | template_1__ := y}, \"b\"])",
            ),
            ("$\"\\{x}\\n\"", "internal.template_string([\"{x}\\n\"])"),
            (
                "$`a\"\n{y}`",
                "internal.template_string([\"a\\\"\\n\"\n, {template_1__ | template_1__ := y}, \"\"])",
            ),
            ("a\n$\"{", "2: this template string does not end"),
            ("$\"a\nb\"", "0: this template string does not end"),
        ] {
            assert_eq!(check(text), expected, "{text}");
        }
    }

    #[test]
    fn lines_stay_where_they_are() {
        let text = "package docker\nx := $`a\nb{y}\nc`\nz := 1\n";
        let line = |text: &str| text.split("z :=").next().unwrap().matches('\n').count();
        assert_eq!(line(&check(text)), line(text));
    }

    proptest::proptest! {
        #[test]
        fn any_text_ends(text in "[$\"`{}\\\\a-c\n# ]{0,60}") {
            let _ = lower(&text);
        }
    }
}
