//! `glob.match` and `glob.quote_meta`, with the patterns of Go's `gobwas/glob`.
//!
//! A pattern becomes a regular expression: `*` and `?` stop at delimiters, `**` does not.

use std::cell::RefCell;
use std::collections::HashMap;

use regex::Regex;
use regorus::Value;

use super::BuiltinError;
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
                chars.next().filter(|_| chars.next().is_none()).ok_or(Fail::Undefined)
            }
            _ => Err(Fail::Undefined),
        })
        .collect()
}

pub(super) fn matches(args: &[Value]) -> Outcome {
    let (pattern, delimiters) = (string(args, 0)?, delimiters(arg(args, 1)?)?);
    let text = string(args, 2)?;
    if let Some(what) = unsupported(pattern, &delimiters, text) {
        return Err(BuiltinError::Unsupported { function: "glob.match", what }.into());
    }
    let regex = compiled(pattern, &delimiters)?;
    let known = overlapping(pattern, &delimiters, text) || nothing_listed(pattern, text);
    Ok(Value::from(known || regex.is_match(text)))
}

fn compiled(pattern: &str, delimiters: &str) -> Result<Regex, Fail> {
    let key = (pattern.to_owned(), delimiters.to_owned());
    let known = COMPILED.with_borrow(|store| store.get(&key).cloned());
    let regex = known.unwrap_or_else(|| {
        let translated = Pattern::translate(pattern, delimiters);
        let regex = translated.and_then(|text| Regex::new(&text).ok());
        COMPILED.with_borrow_mut(|store| {
            if store.len() >= KEPT {
                store.clear();
            }
            store.insert(key, regex.clone());
        });
        regex
    });
    regex.ok_or(Fail::Undefined)
}

/// Where Go's library gives answers that its own rules do not: we give none.
fn unsupported(pattern: &str, delimiters: &str, text: &str) -> Option<&'static str> {
    let class = pattern.split('[').skip(1).filter_map(|rest| rest.split(']').next());
    if class.into_iter().any(|class| !class.is_ascii()) {
        return Some("a class of characters beyond ASCII");
    }
    if pattern.contains("***") {
        return Some("three asterisks in a row");
    }
    let beside = ["*?", "?*", "??"].iter().any(|two| pattern.contains(two));
    if beside && delimiters.chars().nth(1).is_some() {
        return Some("a question mark beside another wildcard, with two delimiters,");
    }
    if ['{', '*', '?'].iter().all(|c| pattern.contains(*c)) {
        return Some("both asterisks and question marks where there are alternatives");
    }
    let one = pattern.contains('?') || pattern.contains("[!");
    if text.is_empty() && one && pattern.contains('{') {
        return Some("the empty text by alternatives with single characters");
    }
    None
}

/// Go's library lets the text before and the text behind an asterisk overlap, where that is all
/// the pattern has: `ab**ba` matches `aba`.
fn overlapping(pattern: &str, delimiters: &str, text: &str) -> bool {
    let any = if delimiters.is_empty() && !pattern.contains("**") { "*" } else { "**" };
    match pattern.split_once(any) {
        Some((before, behind)) if !format!("{before}{behind}").contains(SPECIAL) => {
            text.starts_with(before) && text.ends_with(behind)
        }
        _ => false,
    }
}

const SPECIAL: [char; 7] = ['*', '?', '\\', '[', ']', '{', '}'];

/// To Go's library the empty text is a character that no list has and that is no delimiter, if a
/// list or a question mark is all there is.
fn nothing_listed(pattern: &str, text: &str) -> bool {
    if pattern == "?" && text.is_empty() {
        return true;
    }
    let list = pattern.strip_prefix("[!").and_then(|rest| rest.strip_suffix(']'));
    text.is_empty() && list.is_some_and(|list| !list.contains(SPECIAL))
}

pub(super) fn quote_meta(args: &[Value]) -> Outcome {
    let mut out = String::new();
    for c in string(args, 0)?.chars() {
        if SPECIAL.contains(&c) {
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
        let mut reader =
            Pattern { rest: pattern, out: String::from(r"(?s)\A(?:"), open: 0, single };
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
        self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
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
            self.out.push_str(&format!("[{negated}{}-{}]", member(first), member(last)));
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
    if c.is_ascii_punctuation() { format!("\\{c}") } else { c.to_string() }
}
