//! Words: quotes, escapes and variables, as BuildKit's shell lexer reads them.
//!
//! It knows no instruction and no stage; it is told what a variable is worth. The quirks are the
//! lexer's: a Dockerfile means what BuildKit reads, not what a shell would.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use regex::Regex;

use super::error::ExpandError;
use super::pattern;

/// How deep substitutions may be nested; a person writes two or three.
const MAX_DEPTH: usize = 64;

/// What variables are worth.
pub(super) trait Lookup {
    /// The value of `name`, or nothing where it is not set.
    fn get(&self, name: &str) -> Option<Arc<str>>;
}

/// No variable is set.
pub(super) struct NoVariables;

impl Lookup for NoVariables {
    fn get(&self, _name: &str) -> Option<Arc<str>> {
        None
    }
}

/// How many bytes of values may be read: `ENV A=$A$A` doubles in every line.
pub(super) struct Budget {
    left: Cell<usize>,
    total: usize,
}

impl Budget {
    pub(super) fn new(total: usize) -> Self {
        Self { left: Cell::new(total), total }
    }

    fn spend(&self, bytes: usize) -> Result<(), ExpandError> {
        let left = self.left.get().checked_sub(bytes + 1);
        self.left.set(left.ok_or(ExpandError::TooLarge(self.total))?);
        Ok(())
    }
}

/// What quotes, escapes and unset variables become.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    pub(super) escape: char,
    /// Keep quotes in the result.
    pub(super) raw_quotes: bool,
    /// Keep escape characters in the result.
    pub(super) raw_escapes: bool,
    /// Leave a variable that is not set as it is written.
    pub(super) keep_unset: bool,
}

impl Mode {
    pub(super) fn plain(escape: char) -> Self {
        Self { escape, raw_quotes: false, raw_escapes: false, keep_unset: false }
    }
}

/// A word after expansion.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Expanded {
    /// The whole of it.
    pub(super) text: String,
    /// Its words, split after expansion.
    pub(super) words: Vec<String>,
    /// Variables that were read and are not set.
    pub(super) unset: BTreeSet<String>,
}

/// Expands `word`.
pub(super) fn expand(
    word: &str,
    mode: Mode,
    variables: &dyn Lookup,
    budget: &Budget,
) -> Result<Expanded, ExpandError> {
    // The scanner that BuildKit uses drops a byte order mark at the start of what it reads.
    let word = word.strip_prefix('\u{feff}').unwrap_or(word);
    let mut lexer = Lexer {
        rest: word.chars().peekable(),
        mode,
        raw_escapes: mode.raw_escapes,
        variables,
        budget,
        buffer: String::new(),
        unset: BTreeSet::new(),
        depth: 0,
    };
    let (text, words) = lexer.until(None, mode.raw_escapes, false)?;
    Ok(Expanded { text, words, unset: lexer.unset })
}

struct Lexer<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    mode: Mode,
    raw_escapes: bool,
    variables: &'a dyn Lookup,
    budget: &'a Budget,
    // One buffer for all levels: a substitution in mid-word drops what stood before it from the
    // list of words (never from the text), and so it does in BuildKit.
    buffer: String,
    unset: BTreeSet<String>,
    depth: usize,
}

#[derive(Default)]
struct Words {
    done: Vec<String>,
    in_word: bool,
}

impl Words {
    fn push(&mut self, buffer: &mut String, ch: char) {
        if !ch.is_whitespace() {
            self.push_raw(buffer, ch);
        } else if self.in_word && !buffer.is_empty() {
            self.done.push(std::mem::take(buffer));
            self.in_word = false;
        }
    }

    fn push_raw(&mut self, buffer: &mut String, ch: char) {
        buffer.push(ch);
        self.in_word = true;
    }

    fn finish(mut self, buffer: &mut String) -> Vec<String> {
        if !buffer.is_empty() {
            self.done.push(std::mem::take(buffer));
        }
        self.done
    }
}

type Pieces = (String, Vec<String>);

impl Lexer<'_> {
    fn until(
        &mut self,
        stop: Option<char>,
        raw_escapes: bool,
        pattern: bool,
    ) -> Result<Pieces, ExpandError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(ExpandError::TooDeep(MAX_DEPTH));
        }
        let outer = std::mem::replace(&mut self.raw_escapes, raw_escapes);
        let result = self.until_inner(stop, pattern);
        self.raw_escapes = outer;
        self.depth -= 1;
        result
    }

    fn until_inner(&mut self, stop: Option<char>, pattern: bool) -> Result<Pieces, ExpandError> {
        let mut text = String::new();
        self.buffer.clear();
        let mut words = Words::default();
        while let Some(&ch) = self.rest.peek() {
            if Some(ch) == stop {
                self.rest.next();
                return Ok((text, words.finish(&mut self.buffer)));
            }
            let piece = match ch {
                '$' => self.dollar()?,
                '<' => self.angle(),
                '\'' => self.single_quoted(pattern)?,
                '"' => self.double_quoted(pattern)?,
                _ => {
                    self.character(&mut text, &mut words);
                    continue;
                }
            };
            text.push_str(&piece);
            if ch == '$' {
                piece.chars().for_each(|ch| words.push(&mut self.buffer, ch));
            } else {
                self.buffer.push_str(&piece);
                words.in_word = true;
            }
        }
        match stop {
            None => Ok((text, words.finish(&mut self.buffer))),
            Some('}') => Err(ExpandError::Unmatched("}")),
            Some(_) => Err(ExpandError::Unmatched("/")),
        }
    }

    fn character(&mut self, text: &mut String, words: &mut Words) {
        let Some(ch) = self.rest.next() else { return };
        if ch != self.mode.escape {
            words.push(&mut self.buffer, ch);
            text.push(ch);
            return;
        }
        if self.raw_escapes {
            words.push_raw(&mut self.buffer, ch);
            text.push(ch);
        }
        if let Some(escaped) = self.rest.next() {
            words.push_raw(&mut self.buffer, escaped);
            text.push(escaped);
        }
    }

    fn single_quoted(&mut self, pattern: bool) -> Result<String, ExpandError> {
        self.rest.next();
        let mut text = String::new();
        if self.mode.raw_quotes {
            text.push('\'');
        }
        for ch in self.rest.by_ref() {
            if ch == '\'' {
                if self.mode.raw_quotes {
                    text.push(ch);
                }
                return Ok(text);
            }
            if pattern && ch == self.mode.escape {
                text.push(ch);
            }
            text.push(ch);
        }
        Err(ExpandError::Unmatched("single-quote"))
    }

    fn double_quoted(&mut self, pattern: bool) -> Result<String, ExpandError> {
        self.rest.next();
        let mut text = String::new();
        if self.mode.raw_quotes {
            text.push('"');
        }
        while let Some(&ch) = self.rest.peek() {
            if ch == '$' {
                text.push_str(&self.dollar()?);
                continue;
            }
            self.rest.next();
            if ch == '"' {
                if self.mode.raw_quotes {
                    text.push(ch);
                }
                return Ok(text);
            }
            if ch != self.mode.escape {
                text.push(ch);
                continue;
            }
            let Some(&next) = self.rest.peek() else {
                continue;
            };
            if matches!(next, '"' | '$') || next == self.mode.escape {
                if self.raw_escapes {
                    text.push(ch);
                }
                self.rest.next();
                text.push(next);
            } else {
                if self.raw_escapes && (!self.mode.raw_quotes || pattern) {
                    text.push(ch);
                }
                text.push(ch);
            }
        }
        Err(ExpandError::Unmatched("double-quote"))
    }

    fn angle(&mut self) -> String {
        self.rest.next();
        if self.rest.next_if_eq(&'<').is_none() {
            return "<".into();
        }
        let mut text = String::from("<<");
        while let Some(space) = self.rest.next_if(|ch| matches!(ch, '\t' | '\r' | ' ')) {
            text.push(space);
        }
        text
    }

    fn dollar(&mut self) -> Result<String, ExpandError> {
        self.rest.next();
        if self.rest.next_if_eq(&'{').is_none() {
            let name = self.name();
            if name.is_empty() {
                return Ok("$".into());
            }
            return Ok(match self.value(&name)? {
                Some(value) => value.to_string(),
                None if self.mode.keep_unset => format!("${name}"),
                None => String::new(),
            });
        }
        match self.rest.peek() {
            None => return Err(ExpandError::MissingBrace),
            Some('{' | '}' | ':') => return Err(ExpandError::BadSubstitution),
            Some(_) => {}
        }
        let name = self.name();
        match self.rest.next() {
            Some('}') => Ok(match self.value(&name)? {
                Some(value) => value.to_string(),
                None if self.mode.keep_unset => format!("${{{name}}}"),
                None => String::new(),
            }),
            Some(':') => {
                let modifier = self.rest.next().unwrap_or('\u{fffd}');
                self.modified(&name, modifier, EmptyIs::Unset)
            }
            Some(ch @ ('+' | '-' | '?' | '#' | '%')) => self.modified(&name, ch, EmptyIs::Set),
            Some('/') => self.replaced(&name),
            Some(other) => Err(ExpandError::Modifier(other.to_string())),
            None => Err(ExpandError::MissingBrace),
        }
    }

    fn modified(&mut self, name: &str, ch: char, empty: EmptyIs) -> Result<String, ExpandError> {
        let trims = matches!(ch, '#' | '%');
        let written = match empty {
            EmptyIs::Unset => format!(":{ch}"),
            EmptyIs::Set => ch.to_string(),
        };
        if trims && matches!(empty, EmptyIs::Unset) {
            return Err(ExpandError::Modifier(written));
        }
        let word = self.operand('}', trims, trims, ExpandError::MissingBrace)?;
        let value = self.value(name)?;
        if value.is_none() && self.mode.keep_unset {
            return Ok(format!("${{{name}{written}{word}}}"));
        }
        let present =
            value.clone().filter(|value| !(matches!(empty, EmptyIs::Unset) && value.is_empty()));
        match ch {
            '-' => Ok(present.map_or(word, |value| value.to_string())),
            '+' => Ok(present.map_or(String::new(), |_| word)),
            '?' => present.map(|value| value.to_string()).ok_or_else(|| {
                let state = if value.is_some() { "empty" } else { "unset" };
                let message = match word.is_empty() {
                    true => format!("is not allowed to be {state}"),
                    false => word,
                };
                ExpandError::Required { name: name.to_owned(), message }
            }),
            '#' | '%' => {
                let (pattern, greedy) = match word.strip_prefix(ch) {
                    Some(pattern) => (pattern, true),
                    None => (word.as_str(), false),
                };
                let value = value.unwrap_or_default();
                let side = if ch == '#' { pattern::Side::Start } else { pattern::Side::End };
                pattern::trim(&value, pattern, side, greedy)
            }
            _ => Err(ExpandError::Modifier(written)),
        }
    }

    fn replaced(&mut self, name: &str) -> Result<String, ExpandError> {
        let all = self.rest.next_if_eq(&'/').is_some();
        let pattern = self.operand('/', true, true, ExpandError::MissingSlash)?;
        let replacement = self.operand('}', true, false, ExpandError::MissingBrace)?;
        let value = self.value(name)?;
        if value.is_none() && self.mode.keep_unset {
            return Ok(format!("${{{name}/{pattern}/{replacement}}}"));
        }
        let value = value.unwrap_or_default();
        let text = pattern::replace(&value, &pattern, &replacement, all)?;
        self.budget.spend(text.len())?;
        Ok(text)
    }

    fn operand(
        &mut self,
        stop: char,
        raw_escapes: bool,
        pattern: bool,
        missing: ExpandError,
    ) -> Result<String, ExpandError> {
        match self.until(Some(stop), raw_escapes, pattern) {
            Ok((word, _)) => Ok(word),
            Err(limit @ (ExpandError::TooDeep(_) | ExpandError::TooLarge(_))) => Err(limit),
            Err(_) if self.rest.peek().is_none() => Err(missing),
            Err(error) => Err(error),
        }
    }

    fn value(&mut self, name: &str) -> Result<Option<Arc<str>>, ExpandError> {
        let value = self.variables.get(name);
        match &value {
            Some(value) => self.budget.spend(value.len())?,
            None => {
                self.unset.insert(name.to_owned());
            }
        }
        Ok(value)
    }

    fn name(&mut self) -> String {
        let mut name = String::new();
        let Some(&first) = self.rest.peek() else {
            return name;
        };
        if is_digit(first) {
            while let Some(digit) = self.rest.next_if(|ch| is_digit(*ch)) {
                name.push(digit);
            }
            return name;
        }
        if matches!(first, '@' | '*' | '#' | '?' | '-' | '$' | '!') {
            self.rest.next();
            return first.to_string();
        }
        while let Some(ch) = self.rest.next_if(|ch| is_letter(*ch) || is_digit(*ch) || *ch == '_') {
            name.push(ch);
        }
        name
    }
}

/// What `:` before a modifier says of a variable that is set to nothing.
#[derive(Clone, Copy)]
enum EmptyIs {
    Set,
    Unset,
}

fn is_letter(ch: char) -> bool {
    static LETTER: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{L}$").ok());
    if ch.is_ascii() { ch.is_ascii_alphabetic() } else { matches(&LETTER, ch) }
}

fn is_digit(ch: char) -> bool {
    static DIGIT: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"^\p{Nd}$").ok());
    if ch.is_ascii() { ch.is_ascii_digit() } else { matches(&DIGIT, ch) }
}

fn matches(class: &LazyLock<Option<Regex>>, ch: char) -> bool {
    class.as_ref().is_some_and(|class| class.is_match(ch.encode_utf8(&mut [0; 4])))
}
