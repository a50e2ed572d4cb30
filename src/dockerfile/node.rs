//! Instructions as text: continuation lines, comments between them, heredocs, and their lines.
//!
//! It knows what a keyword allows only where that decides how lines are read (heredocs, JSON).

use super::Lines;
use super::directive::Directives;
use super::error::{Fault, Problem};
use super::expand::{Budget, Mode, NoVariables, expand};
use super::words::{self, Head};

/// BuildKit reads lines with a buffer of 64 KiB.
const MAX_LINE: usize = 64 * 1024 - 1;

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Keyword, flags and the rest.
    pub(super) head: Head,
    /// The instruction on one line, without its heredocs.
    pub(super) text: String,
    pub(super) lines: Lines,
    pub(super) heredocs: Vec<Heredoc>,
}

/// A heredoc that belongs to an instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Heredoc {
    pub(super) name: String,
    pub(super) chomp: bool,
    pub(super) content: String,
}

/// A file as instructions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Nodes {
    pub(super) nodes: Vec<Node>,
    /// What escapes a character and continues a line: `\` or a backtick.
    pub(super) escape: char,
}

/// Splits `text` into instructions.
pub(super) fn parse(text: &str) -> Result<Nodes, Fault> {
    let mut reader = Reader {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        line: 0,
        directives: Directives::new("#"),
        escape: '\\',
    };
    let mut nodes = Vec::new();
    while let Some(raw) = reader.next()? {
        if let Some(node) = reader.instruction(raw)? {
            nodes.push(node);
        }
    }
    if nodes.is_empty() {
        return Err(Problem::NoInstructions.into());
    }
    Ok(Nodes { nodes, escape: reader.escape })
}

struct Reader<'t> {
    rest: &'t str,
    line: usize,
    directives: Directives,
    escape: char,
}

impl<'t> Reader<'t> {
    /// The next physical line with its line ending.
    fn next(&mut self) -> Result<Option<&'t str>, Fault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let end = self.rest.find('\n').map_or(self.rest.len(), |at| at + 1);
        let (line, rest) = self.rest.split_at(end);
        self.line += 1;
        if line.strip_suffix('\n').unwrap_or(line).len() > MAX_LINE {
            return Err(Fault::at(Lines::one(self.line), Problem::LongLine { limit: MAX_LINE }));
        }
        self.rest = rest;
        Ok(Some(line))
    }

    fn instruction(&mut self, raw: &str) -> Result<Option<Node>, Fault> {
        let start = self.line;
        let line = raw.trim_end_matches(['\r', '\n']).trim_start();
        self.directive(line)?;
        let line = if line.starts_with('#') { "" } else { line };
        let (first, mut ends) = self.continued(line);
        if ends && first.is_empty() {
            return Ok(None);
        }
        let mut text = first.to_owned();
        while !ends {
            let Some(raw) = self.next()? else { break };
            let line = raw.trim_end_matches(['\r', '\n']);
            self.directive(line)?;
            if line.trim_start().starts_with('#') || line.trim_start().is_empty() {
                continue;
            }
            let (piece, end) = self.continued(line);
            text.push_str(piece);
            ends = end;
        }
        let lines = |end| Lines { start, end };
        let head = words::split_command(&text, self.escape)
            .map_err(|problem| Fault::at(lines(self.line), problem))?;
        let heredocs = match head.allows_heredoc() && text.contains("<<") {
            true => self.heredocs(&text, start)?,
            false => Vec::new(),
        };
        Ok(Some(Node { head, text, lines: lines(self.line), heredocs }))
    }

    fn directive(&mut self, line: &str) -> Result<(), Fault> {
        let fault = |problem| Fault::at(Lines::one(self.line), problem);
        match self.directives.line(line).map_err(fault)? {
            Some((name, token)) if name == "escape" => {
                self.escape = match token.as_str() {
                    "\\" => '\\',
                    "`" => '`',
                    _ => return Err(fault(Problem::EscapeToken { token })),
                };
            }
            Some(_) | None => {}
        }
        Ok(())
    }

    /// The line without its continuation mark, and whether the instruction ends with it.
    fn continued<'l>(&self, line: &'l str) -> (&'l str, bool) {
        let Some(piece) = line.trim_end_matches([' ', '\t']).strip_suffix(self.escape) else {
            return (line, true);
        };
        // An escaped escape character at the end is a character.
        if piece.ends_with(self.escape) { (line, true) } else { (piece, false) }
    }

    fn heredocs(&mut self, text: &str, start: usize) -> Result<Vec<Heredoc>, Fault> {
        let mut heredocs = heredocs_of(text);
        for heredoc in &mut heredocs {
            loop {
                let Some(raw) = self.next()? else {
                    let name = heredoc.name.clone();
                    let lines = Lines { start, end: self.line };
                    return Err(Fault::at(lines, Problem::UnterminatedHeredoc { name }));
                };
                let line = raw.trim_end_matches(['\r', '\n']);
                let line = if heredoc.chomp { line.trim_start_matches('\t') } else { line };
                if line == heredoc.name {
                    break;
                }
                heredoc.content.push_str(raw);
            }
        }
        Ok(heredocs)
    }
}

/// The heredocs that an instruction opens. A line that the lexer refuses opens none.
fn heredocs_of(text: &str) -> Vec<Heredoc> {
    let mode = Mode { escape: '\\', raw_quotes: true, raw_escapes: true, keep_unset: true };
    let words = expand(text, mode, &NoVariables, &Budget::new(text.len() * 4));
    let words = words.map(|expanded| expanded.words).unwrap_or_default();
    words.iter().filter_map(|word| heredoc(word)).collect()
}

/// The heredoc that a word is, if it is one: `<<EOF`, `3<<-"EOF"`.
pub(super) fn heredoc(word: &str) -> Option<Heredoc> {
    let rest = word.trim_start_matches(|ch: char| ch.is_ascii_digit()).strip_prefix("<<")?;
    let (rest, chomp) = match rest.strip_prefix('-') {
        Some(rest) => (rest, true),
        None => (rest, false),
    };
    let rest = rest.trim_start_matches(['\t', '\n', '\u{c}', '\r', ' ']);
    if rest.is_empty() || rest.contains('<') {
        return None;
    }
    let mode = Mode { keep_unset: true, ..Mode::plain('\\') };
    let words = expand(rest, mode, &NoVariables, &Budget::new(rest.len() * 4)).ok()?.words;
    let [name] = words.as_slice() else {
        return None;
    };
    Some(Heredoc { name: name.clone(), chomp, content: String::new() })
}
