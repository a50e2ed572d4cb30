//! `regex.*`, with Go's syntax and matches.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use regex::{Captures, Regex, RegexBuilder};
use regorus::Value;

use super::BuiltinError;
use super::regex_go::translate;
use super::value::{Fail, MAX_ELEMENTS, MAX_TEXT, Outcome, int, limit, string, texts};

/// How large a compiled expression may be, in bytes.
const SIZE_LIMIT: usize = 4 << 20;
/// How many compiled expressions a thread keeps.
const KEPT: usize = 256;

thread_local! {
    static COMPILED: RefCell<HashMap<String, Option<Compiled>>> = RefCell::default();
}

/// An expression, and the names of its groups.
#[derive(Clone)]
struct Compiled {
    regex: Regex,
    names: Rc<[(String, usize)]>,
}

/// The expression compiled, from the thread's store if it is there; undefined where Go has none.
fn compiled(pattern: &str) -> Result<Compiled, Fail> {
    let known = COMPILED.with_borrow(|store| store.get(pattern).cloned());
    if let Some(known) = known {
        return known.ok_or(Fail::Undefined);
    }
    let compiled = compile(pattern)?;
    COMPILED.with_borrow_mut(|store| {
        if store.len() >= KEPT {
            store.clear();
        }
        store.insert(pattern.to_owned(), compiled.clone());
    });
    compiled.ok_or(Fail::Undefined)
}

fn compile(pattern: &str) -> Result<Option<Compiled>, Fail> {
    let Some(translated) = translate(pattern) else {
        return Ok(None);
    };
    if let Some(what) = translated.unsupported {
        return Err(BuiltinError::Unsupported { function: "regex", what }.into());
    }
    match RegexBuilder::new(&translated.pattern).size_limit(SIZE_LIMIT).build() {
        Ok(regex) => Ok(Some(Compiled { regex, names: translated.names.into() })),
        Err(regex::Error::CompiledTooBig(_)) => Err(limit("regex", SIZE_LIMIT, "bytes")),
        Err(_) => Ok(None),
    }
}

pub(super) fn is_valid(args: &[Value]) -> Outcome {
    match string(args, 0).and_then(compiled) {
        Ok(_) => Ok(Value::from(true)),
        Err(Fail::Undefined) => Ok(Value::from(false)),
        Err(error) => Err(error),
    }
}

pub(super) fn matches(args: &[Value]) -> Outcome {
    let (pattern, text) = (string(args, 0)?, string(args, 1)?);
    Ok(Value::from(compiled(pattern)?.regex.is_match(text)))
}

/// Matches as Go finds them: an empty one is none right behind another match. A negative count
/// means all.
fn found<'t>(regex: &Regex, text: &'t str, count: i64) -> Result<Vec<Captures<'t>>, Fail> {
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    let mut all = Vec::new();
    let mut end = None;
    for captures in regex.captures_iter(text) {
        if all.len() >= count {
            break;
        }
        let whole = captures.get(0).ok_or(Fail::Undefined)?;
        if whole.is_empty() && end == Some(whole.start()) {
            continue;
        }
        end = Some(whole.end());
        all.push(captures);
        if all.len() > MAX_ELEMENTS {
            return Err(limit("regex", MAX_ELEMENTS, "matches"));
        }
    }
    Ok(all)
}

fn whole(captures: &Captures) -> String {
    captures.get(0).map_or("", |found| found.as_str()).to_owned()
}

pub(super) fn find_n(args: &[Value]) -> Outcome {
    let (pattern, text, count) = (string(args, 0)?, string(args, 1)?, int(args, 2)?);
    Ok(texts(found(&compiled(pattern)?.regex, text, count)?.iter().map(whole)))
}

/// Every match with its groups; a group that took no part is the empty string.
pub(super) fn find_all_string_submatch_n(args: &[Value]) -> Outcome {
    let (pattern, text, count) = (string(args, 0)?, string(args, 1)?, int(args, 2)?);
    let all = found(&compiled(pattern)?.regex, text, count)?;
    let groups = |captures: &Captures| {
        texts(captures.iter().map(|group| group.map_or("", |group| group.as_str())))
    };
    Ok(Value::from(all.iter().map(groups).collect::<Vec<_>>()))
}

pub(super) fn split(args: &[Value]) -> Outcome {
    let (pattern, text) = (string(args, 0)?, string(args, 1)?);
    let regex = compiled(pattern)?.regex;
    if !pattern.is_empty() && text.is_empty() {
        return Ok(texts([""]));
    }
    let (mut parts, mut begin, mut end) = (Vec::new(), 0, 0);
    for captures in found(&regex, text, -1)? {
        let separator = captures.get(0).ok_or(Fail::Undefined)?;
        end = separator.start();
        if separator.end() != 0 {
            parts.push(text.get(begin..end).unwrap_or_default());
        }
        begin = separator.end();
    }
    if end != text.len() {
        parts.push(text.get(begin..).unwrap_or_default());
    }
    Ok(texts(parts))
}

/// Every match by the template, in which `$1` and `${name}` stand for groups.
pub(super) fn replace(args: &[Value]) -> Outcome {
    let (text, pattern, template) = (string(args, 0)?, string(args, 1)?, string(args, 2)?);
    let Compiled { regex, names } = compiled(pattern)?;
    let (mut out, mut end) = (String::new(), 0);
    for captures in found(&regex, text, -1)? {
        let whole = captures.get(0).ok_or(Fail::Undefined)?;
        out.push_str(text.get(end..whole.start()).unwrap_or_default());
        expand(&mut out, template, (&captures, &names));
        end = whole.end();
        if out.len() > MAX_TEXT {
            return Err(limit("regex.replace", MAX_TEXT, "bytes"));
        }
    }
    out.push_str(text.get(end..).unwrap_or_default());
    Ok(Value::from(out))
}

/// Go's `Regexp.Expand`.
fn expand(out: &mut String, template: &str, (captures, names): (&Captures, &[(String, usize)])) {
    let mut rest = template;
    while let Some((plain, behind)) = rest.split_once('$') {
        out.push_str(plain);
        rest = behind;
        if let Some(behind) = rest.strip_prefix('$') {
            out.push('$');
            rest = behind;
            continue;
        }
        match group_reference(rest) {
            Some((name, behind)) => {
                rest = behind;
                let number = name.bytes().all(|b| b.is_ascii_digit());
                let canonical = name == "0" || !name.starts_with('0');
                let group = match name.parse::<usize>() {
                    Ok(number) if canonical => captures.get(number),
                    _ if number && canonical => None,
                    _ => names
                        .iter()
                        .filter(|(known, _)| known == name)
                        .find_map(|(_, number)| captures.get(*number)),
                };
                out.push_str(group.map_or("", |group| group.as_str()));
            }
            None => out.push('$'),
        }
    }
    out.push_str(rest);
}

/// The name behind a `$`, in braces or as long as it goes, and what follows.
fn group_reference(text: &str) -> Option<(&str, &str)> {
    let word = |c: char| c == '_' || c.is_alphanumeric();
    let (braced, inner) = match text.strip_prefix('{') {
        Some(inner) => (true, inner),
        None => (false, text),
    };
    let end = inner.find(|c| !word(c)).unwrap_or(inner.len());
    let (name, rest) = inner.split_at(end);
    match (name.is_empty(), braced) {
        (true, _) => None,
        (false, false) => Some((name, rest)),
        (false, true) => rest.strip_prefix('}').map(|rest| (name, rest)),
    }
}

/// Literal text with expressions between two delimiters, matched as a whole.
pub(super) fn template_match(args: &[Value]) -> Outcome {
    let (template, text) = (string(args, 0)?, string(args, 1)?);
    let (Ok([start]), Ok([end])) = (
        <[u8; 1]>::try_from(string(args, 2)?.as_bytes()),
        <[u8; 1]>::try_from(string(args, 3)?.as_bytes()),
    ) else {
        return Err(Fail::Undefined);
    };
    let mut pattern = String::from("^");
    let (mut level, mut opened, mut done) = (0usize, 0, 0);
    for (at, byte) in template.bytes().enumerate() {
        if byte == start {
            level += 1;
            if level == 1 {
                opened = at;
            }
        } else if byte == end {
            level = level.checked_sub(1).ok_or(Fail::Undefined)?;
            if level == 0 {
                let inner = template.get(opened + 1..at).unwrap_or_default();
                compiled(&format!("^{inner}$"))?;
                pattern.push_str(&quote(template.get(done..opened).unwrap_or_default()));
                pattern.push_str(&format!("({inner})"));
                done = at + 1;
            }
        }
    }
    if level > 0 {
        return Err(Fail::Undefined);
    }
    pattern.push_str(&quote(template.get(done..).unwrap_or_default()));
    pattern.push('$');
    Ok(Value::from(compiled(&pattern)?.regex.is_match(text)))
}

/// Go's `regexp.QuoteMeta`.
fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}
