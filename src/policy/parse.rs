//! From text to regorus's syntax tree, within bounds.
//!
//! The parser is regorus's. It backtracks where literals nest, so nesting is capped before it sees
//! the text, and it recurses where operators chain, so those are capped too.

use std::num::NonZeroU32;
use std::sync::Arc;

use regorus::unstable::{Lexer, Module, Parser, Span, Token, TokenKind};

use super::error::{PolicyError, Position, snippet};
use super::template;

/// How deep brackets, braces and parentheses may nest.
const MAX_NESTING: usize = 14;
/// How many operators may stand in one expression.
const MAX_OPERATORS: usize = 400;
/// How many steps a reference may have.
const MAX_REFERENCE: usize = 200;
/// How many characters a line may have.
const MAX_COLUMNS: u32 = 64 * 1024;

/// A policy file, parsed.
pub(super) struct ParsedFile {
    pub name: Arc<str>,
    /// As written.
    pub text: Arc<str>,
    /// As parsed: with its template strings written out.
    code: Arc<str>,
    pub module: Module,
    /// Where each line starts, in bytes.
    starts: Vec<u32>,
}

impl ParsedFile {
    /// Where a span starts.
    pub fn position(&self, span: &Span) -> Position {
        let (line, column) = self.place(span);
        Position { file: self.name.clone(), line, column }
    }

    /// The text of a span. Where a string is last, regorus ends the span before its closing quote.
    pub fn text_of(&self, span: &Span) -> &str {
        let (start, end) = (span.start as usize, span.end as usize);
        let text = self.code.get(start..end).unwrap_or_default();
        let next = self.code.get(end..).and_then(|rest| rest.chars().next());
        let open = |quote: char| text.matches(quote).count() % 2 == 1;
        match next {
            Some(quote @ ('"' | '`')) if open(quote) => {
                self.code.get(start..end + 1).unwrap_or(text)
            }
            _ => text,
        }
    }

    /// An error where a span starts.
    pub fn error(&self, span: &Span, message: impl Into<String>) -> PolicyError {
        source_error(&self.name, &self.text, self.place(span), message.into())
    }

    /// Line and column of a span's first byte. The line and column that regorus notes are those of
    /// the operator for infix terms, and of the bracket for calls.
    fn place(&self, span: &Span) -> (u32, u32) {
        let line = self.starts.partition_point(|start| *start <= span.start).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let before = self.code.get(start as usize..span.start as usize).unwrap_or_default();
        let column = u32::try_from(before.chars().count()).unwrap_or(u32::MAX).saturating_add(1);
        (u32::try_from(line).unwrap_or(u32::MAX), column)
    }
}

/// Parses one file as Rego v1.
///
/// # Errors
/// With file, line and column of what is no Rego v1, or nests deeper than is allowed.
pub(super) fn parse(name: &str, text: &str) -> Result<ParsedFile, PolicyError> {
    let name: Arc<str> = name.into();
    let text: Arc<str> = text.into();
    let fail = |error: &anyhow::Error| from_regorus(&name, &text, error);
    let code: Arc<str> = match template::lower(&text) {
        Ok(code) => code.into(),
        Err(error) => {
            let before = text.get(..error.at).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            let number = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
            let place = (number(line), number(column));
            return Err(source_error(&name, &text, place, error.message.to_owned()));
        }
    };
    let source = regorus::Source::from_contents(name.to_string(), code.to_string())
        .map_err(|error| fail(&error))?;
    check_shape(&name, &text, &source)?;
    let mut parser = Parser::new(&source).map_err(|error| fail(&error))?;
    if let Some(columns) = NonZeroU32::new(MAX_COLUMNS) {
        parser.set_max_col(columns);
    }
    parser.enable_rego_v1().map_err(|error| fail(&error))?;
    let module = parser.parse().map_err(|error| fail(&error))?;
    let starts = std::iter::once(0)
        .chain(code.match_indices('\n').filter_map(|(at, _)| u32::try_from(at + 1).ok()))
        .collect();
    Ok(ParsedFile { name, text, code, module, starts })
}

/// Refuses text whose parsing would take unreasonable time or stack.
fn check_shape(name: &str, text: &str, source: &regorus::Source) -> Result<(), PolicyError> {
    let mut lexer = Lexer::new(source);
    if let Some(columns) = NonZeroU32::new(MAX_COLUMNS) {
        lexer.set_max_col(columns);
    }
    let mut shape = Shape::default();
    loop {
        let token = lexer.next_token().map_err(|error| from_regorus(name, text, &error))?;
        if token.0 == TokenKind::Eof {
            return Ok(());
        }
        if let Some(message) = shape.take(&token) {
            return Err(source_error(name, text, (token.1.line, token.1.col), message));
        }
    }
}

/// What has been seen of a file, token by token.
#[derive(Default)]
struct Shape {
    depth: usize,
    operators: usize,
    steps: usize,
    line: u32,
    after_operator: bool,
}

impl Shape {
    fn take(&mut self, Token(kind, span): &Token) -> Option<String> {
        let text = span.text();
        let symbol = *kind == TokenKind::Symbol;
        let operator = symbol
            && matches!(
                text,
                "+" | "-" | "*" | "/" | "%" | "&" | "|" | "==" | "!=" | "<" | "<=" | ">" | ">="
            )
            || (*kind == TokenKind::Ident && text == "in")
            || (*kind == TokenKind::Number && text.starts_with('-'));
        if span.line != self.line && !operator && !self.after_operator {
            self.operators = 0;
            self.steps = 0;
        }
        self.line = span.line;
        self.after_operator = operator;
        if operator {
            self.operators += 1;
            self.steps = 0;
        }
        match text {
            "(" | "set(" | "{" if symbol => self.depth += 1,
            "[" if symbol => {
                self.depth += 1;
                self.steps += 1;
            }
            ")" | "]" | "}" if symbol => self.depth = self.depth.saturating_sub(1),
            "." if symbol => self.steps += 1,
            ";" | "," if symbol => {
                self.operators = 0;
                self.steps = 0;
            }
            _ => {}
        }
        if self.depth > MAX_NESTING {
            return Some(format!(
                "brackets nest deeper than {MAX_NESTING} levels; give the inner part a rule of its own"
            ));
        }
        if self.operators > MAX_OPERATORS {
            return Some(format!("more than {MAX_OPERATORS} operators in one expression"));
        }
        if self.steps > MAX_REFERENCE {
            return Some(format!("a reference with more than {MAX_REFERENCE} steps"));
        }
        None
    }
}

/// An error at a place in a file, drawn.
pub(super) fn source_error(
    name: &str,
    text: &str,
    (line, column): (u32, u32),
    message: String,
) -> PolicyError {
    PolicyError::Source {
        position: Position { file: name.into(), line, column },
        message,
        snippet: snippet(text, line, column),
    }
}

/// regorus draws its errors itself: `--> file:line:col`, the line, and `error: message` last.
/// What is read from that is where and what, never which kind.
fn from_regorus(name: &str, text: &str, error: &anyhow::Error) -> PolicyError {
    let drawn = error.to_string();
    let place = drawn
        .lines()
        .find_map(|line| line.trim().strip_prefix("--> "))
        .and_then(|place| {
            let mut parts = place.rsplitn(3, ':');
            let column = parts.next()?.parse().ok()?;
            let line = parts.next()?.parse().ok()?;
            Some((line, column))
        })
        .unwrap_or((1, 1));
    let message =
        drawn.rsplit_once("error: ").map_or(drawn.trim(), |(_, message)| message.trim()).to_owned();
    source_error(name, text, place, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str) -> String {
        parse("p.rego", text).map_or_else(|error| error.to_string(), |_| "ok".to_owned())
    }

    #[test]
    fn shapes_within_bounds_parse_and_others_say_where() {
        let nested = |levels: usize| {
            format!("package docker\nx := {}1{}\n", "[".repeat(levels), "]".repeat(levels))
        };
        assert_eq!(check(&nested(10)), "ok");
        assert!(check(&nested(15)).starts_with("p.rego:2:20: brackets nest deeper than 14 levels"));
        let sum = |terms: usize| format!("package docker\nx := {}\n", vec!["1"; terms].join(" + "));
        assert_eq!(check(&sum(400)), "ok");
        assert!(check(&sum(402)).contains("more than 400 operators"));
        let path = format!("package docker\nx := input{}\n", ".a".repeat(300));
        assert!(check(&path).contains("more than 200 steps"));
        let many = format!("package docker\nx := [\n{}1]\n", "1 + 1,\n".repeat(1000));
        assert_eq!(check(&many), "ok");
    }

    #[test]
    fn syntax_errors_have_a_place_and_show_the_line() {
        insta::assert_snapshot!(check("package docker\n\nallow if {\n  input.image.host ==\n}\n"));
        insta::assert_snapshot!(check("package docker\nallow { true }\n"));
        insta::assert_snapshot!(check("allow := true\n"));
        insta::assert_snapshot!(check("package docker\nx := \"\\q\"\n"));
        insta::assert_snapshot!(check("package docker\nx := $\"a{1\n"));
    }
}
