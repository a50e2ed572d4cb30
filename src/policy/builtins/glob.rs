//! `glob.match` and `glob.quote_meta`, with the patterns of Go's `gobwas/glob`.
//!
//! A pattern becomes a regular expression: `*` and `?` stop at delimiters, `**` does not.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;
use regorus::Value;

use super::value::{Fail, Outcome, arg, string};

/// How many compiled patterns a thread keeps.
const KEPT: usize = 256;

thread_local! {
    static COMPILED: RefCell<HashMap<(String, String), Option<Regex>>> = RefCell::default();
}

/// Delimiters: none where `null` is given, a point where the list is empty.
fn delimiters(value: &Value) -> Result<String, Fail> {
    let items = match value {
        Value::Null => return Ok(String::new()),
        Value::Array(items) if items.is_empty() => return Ok(".".to_owned()),
        Value::Array(items) => items,
        _ => return Err(Fail::Undefined),
    };
    items
        .iter()
        .map(|item| match item {
            Value::String(text) => {
                let mut chars = text.chars();
                chars
                    .next()
                    .filter(|_| chars.next().is_none())
                    .ok_or(Fail::Undefined)
            }
            _ => Err(Fail::Undefined),
        })
        .collect()
}

pub(super) fn matches(args: &[Value]) -> Outcome {
    let key = (string(args, 0)?.to_owned(), delimiters(arg(args, 1)?)?);
    let text = string(args, 2)?;
    let known = COMPILED.with_borrow(|store| store.get(&key).cloned());
    let regex = match known {
        Some(known) => known,
        None => {
            let regex = Pattern::translate(&key.0, &key.1).and_then(|text| Regex::new(&text).ok());
            COMPILED.with_borrow_mut(|store| {
                if store.len() >= KEPT {
                    store.clear();
                }
                store.insert(key, regex.clone());
            });
            regex
        }
    };
    Ok(Value::from(regex.ok_or(Fail::Undefined)?.is_match(text)))
}

pub(super) fn quote_meta(args: &[Value]) -> Outcome {
    let mut out = String::new();
    for c in string(args, 0)?.chars() {
        if r"*?\[]{}".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    Ok(Value::from(out))
}

struct Pattern<'a> {
    rest: &'a str,
    out: String,
    /// How many `{` are open.
    open: usize,
    single: String,
}

impl Pattern<'_> {
    fn translate(pattern: &str, delimiters: &str) -> Option<String> {
        let single = match delimiters {
            "" => ".".to_owned(),
            _ => format!("[^{}]", delimiters.chars().map(member).collect::<String>()),
        };
        let mut reader = Pattern {
            rest: pattern,
            out: String::from(r"(?s)\A(?:"),
            open: 0,
            single,
        };
        reader.read()?;
        reader.out.push_str(&")".repeat(reader.open));
        reader.out.push_str(r")\z");
        Some(reader.out)
    }

    fn next(&mut self) -> Option<char> {
        // The lexer takes the NUL character for the end.
        let c = self.rest.chars().next().filter(|c| *c != '\0')?;
        self.rest = self.rest.get(c.len_utf8()..)?;
        Some(c)
    }

    fn read(&mut self) -> Option<()> {
        while let Some(c) = self.next() {
            match c {
                '{' => {
                    self.open += 1;
                    self.out.push_str("(?:");
                }
                '}' if self.open > 0 => {
                    self.open -= 1;
                    self.out.push(')');
                }
                ',' if self.open > 0 => self.out.push('|'),
                '[' => self.class()?,
                '?' => self.out.push_str(&self.single),
                '*' if self.rest.starts_with('*') => {
                    self.next();
                    self.out.push_str(".*");
                }
                '*' => {
                    self.out.push_str(&self.single);
                    self.out.push('*');
                }
                // A backslash at the very end is nothing.
                '\\' => {
                    if let Some(c) = self.next() {
                        self.literal(c);
                    }
                }
                _ => self.literal(c),
            }
        }
        Some(())
    }

    fn literal(&mut self, c: char) {
        self.out
            .push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }

    /// `[a-z]` is a range only if it is all there is; any other class is a list of characters.
    fn class(&mut self) -> Option<()> {
        let negated = match self.rest.strip_prefix('!') {
            Some(rest) => {
                self.rest = rest;
                "^"
            }
            None => "",
        };
        let first = self.rest.chars().next()?;
        let behind = self.rest.get(first.len_utf8()..)?;
        if let Some(rest) = behind.strip_prefix('-') {
            self.rest = rest;
            let last = self.next()?;
            if last < first || self.next()? != ']' {
                return None;
            }
            self.out
                .push_str(&format!("[{negated}{}-{}]", member(first), member(last)));
            return Some(());
        }
        let mut list = String::new();
        loop {
            match self.next()? {
                ']' => break,
                '\\' => list.push_str(&member(self.next()?)),
                c => list.push_str(&member(c)),
            }
        }
        if list.is_empty() {
            return None;
        }
        self.out.push_str(&format!("[{negated}{list}]"));
        Some(())
    }
}

/// A character as a member of a regular expression's class.
fn member(c: char) -> String {
    if c.is_ascii_punctuation() {
        format!("\\{c}")
    } else {
        c.to_string()
    }
}
