//! Builtins on strings, with Go's rules.

use regorus::Value;

use super::BuiltinError;
use super::value::{
    Fail, MAX_ELEMENTS, MAX_TEXT, Outcome, arg, array, compare, int, limit, object, string,
    strings, texts, utf8,
};

fn checked(function: &'static str, length: usize) -> Result<(), Fail> {
    if length > MAX_TEXT {
        return Err(limit(function, MAX_TEXT, "bytes"));
    }
    Ok(())
}

fn one_or_many(value: &Value) -> Result<Vec<&str>, Fail> {
    match value {
        Value::String(text) => Ok(vec![text]),
        _ => strings(value),
    }
}

fn any_match(args: &[Value], matches: fn(&str, &str) -> bool) -> Outcome {
    let (texts, affixes) = (one_or_many(arg(args, 0)?)?, one_or_many(arg(args, 1)?)?);
    let any = texts.iter().any(|text| affixes.iter().any(|affix| matches(text, affix)));
    Ok(Value::from(any))
}

pub(super) fn any_prefix_match(args: &[Value]) -> Outcome {
    any_match(args, |text, prefix| text.starts_with(prefix))
}

pub(super) fn any_suffix_match(args: &[Value]) -> Outcome {
    any_match(args, |text, suffix| text.ends_with(suffix))
}

/// The strings of an array, or of a set in its order, with a separator between them.
pub(super) fn concat(args: &[Value]) -> Outcome {
    let (separator, items) = (string(args, 0)?, strings(arg(args, 1)?)?);
    let length: usize = items.iter().map(|item| item.len() + separator.len()).sum();
    checked("concat", length)?;
    Ok(Value::from(items.join(separator)))
}

/// Where, in characters, `search` stands in `text`, each one even if they overlap.
fn positions(args: &[Value]) -> Result<impl Iterator<Item = usize>, Fail> {
    let (text, search) = (string(args, 0)?, string(args, 1)?);
    if search.is_empty() {
        return Err(Fail::Undefined);
    }
    let starts = text.char_indices().enumerate();
    Ok(starts.filter_map(move |(at, (byte, _))| {
        text.get(byte..).is_some_and(|rest| rest.starts_with(search)).then_some(at)
    }))
}

pub(super) fn indexof(args: &[Value]) -> Outcome {
    Ok(positions(args)?.next().map_or(Value::from(-1), Value::from))
}

pub(super) fn indexof_n(args: &[Value]) -> Outcome {
    let all: Vec<Value> = positions(args)?.take(MAX_ELEMENTS + 1).map(Value::from).collect();
    if all.len() > MAX_ELEMENTS {
        return Err(limit("indexof_n", MAX_ELEMENTS, "elements"));
    }
    Ok(Value::from(all))
}

/// `length` characters from `start`, all the rest where `length` is negative.
pub(super) fn substring(args: &[Value]) -> Outcome {
    let (text, start, length) = (string(args, 0)?, int(args, 1)?, int(args, 2)?);
    let start = usize::try_from(start).map_err(|_| Fail::Undefined)?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if start > 0 && length < usize::MAX && (start as i64).checked_add(length as i64).is_none() {
        // Go's sum of the two wraps around, and slicing with it panics.
        let what = "an offset and length whose sum exceeds 64 bits";
        return Err(BuiltinError::Unsupported { function: "substring", what }.into());
    }
    Ok(Value::from(text.chars().skip(start).take(length).collect::<String>()))
}

pub(super) fn contains(args: &[Value]) -> Outcome {
    Ok(Value::from(string(args, 0)?.contains(string(args, 1)?)))
}

/// How often, without overlaps; the empty string stands around every character.
pub(super) fn count(args: &[Value]) -> Outcome {
    let (text, search) = (string(args, 0)?, string(args, 1)?);
    let count = match search {
        "" => text.chars().count() + 1,
        _ => text.matches(search).count(),
    };
    Ok(Value::from(count))
}

pub(super) fn startswith(args: &[Value]) -> Outcome {
    Ok(Value::from(string(args, 0)?.starts_with(string(args, 1)?)))
}

pub(super) fn endswith(args: &[Value]) -> Outcome {
    Ok(Value::from(string(args, 0)?.ends_with(string(args, 1)?)))
}

pub(super) fn lower(args: &[Value]) -> Outcome {
    Ok(Value::from(to_lower(string(args, 0)?)))
}

pub(super) fn upper(args: &[Value]) -> Outcome {
    Ok(Value::from(string(args, 0)?.chars().map(simple_upper).collect::<String>()))
}

/// Go's `strings.ToLower`: a character for a character.
pub(super) fn to_lower(text: &str) -> String {
    text.chars().map(simple_lower).collect()
}

fn simple_lower(c: char) -> char {
    // U+0130 is the only one whose full mapping is longer.
    if c == '\u{130}' { 'i' } else { c.to_lowercase().next().unwrap_or(c) }
}

/// Unicode's simple mapping. Where the full one is longer, the simple one is the title case of
/// Greek letters with an iota subscript, and nothing else.
fn simple_upper(c: char) -> char {
    let mut full = c.to_uppercase();
    if let (Some(only), None) = (full.next(), full.next()) {
        return only;
    }
    let up = match c {
        '\u{1f80}'..='\u{1f87}' | '\u{1f90}'..='\u{1f97}' | '\u{1fa0}'..='\u{1fa7}' => 8,
        '\u{1fb3}' | '\u{1fc3}' | '\u{1ff3}' => 9,
        _ => 0,
    };
    char::from_u32(c as u32 + up).unwrap_or(c)
}

pub(super) fn split(args: &[Value]) -> Outcome {
    let (text, separator) = (string(args, 0)?, string(args, 1)?);
    let count = match separator {
        "" => text.len(),
        _ => text.matches(separator).count(),
    };
    if count >= MAX_ELEMENTS {
        return Err(limit("split", MAX_ELEMENTS, "elements"));
    }
    Ok(match separator {
        "" => texts(text.chars().map(String::from)),
        _ => texts(text.split(separator)),
    })
}

pub(super) fn replace(args: &[Value]) -> Outcome {
    let (text, old, new) = (string(args, 0)?, string(args, 1)?, string(args, 2)?);
    replace_all("replace", text, &[(old, new)])
}

/// Every key by its value, the first key in order that fits where a replacement can start.
pub(super) fn replace_n(args: &[Value]) -> Outcome {
    let (patterns, text) = (object(args, 0)?, string(args, 1)?);
    let mut pairs = Vec::with_capacity(patterns.len());
    for (key, value) in patterns.iter() {
        match (key, value) {
            (Value::String(key), Value::String(value)) => pairs.push((&**key, &**value)),
            _ => return Err(Fail::Undefined),
        }
    }
    pairs.sort_unstable();
    replace_all("strings.replace_n", text, &pairs)
}

/// Go's `strings.Replacer`. It walks bytes: an empty key also matches inside a character.
fn replace_all(function: &'static str, text: &str, pairs: &[(&str, &str)]) -> Outcome {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let (mut at, mut after_empty) = (0, false);
    while let Some(rest) = bytes.get(at..) {
        let found = pairs
            .iter()
            .find(|(old, _)| rest.starts_with(old.as_bytes()) && !(old.is_empty() && after_empty));
        after_empty = matches!(found, Some(("", _)));
        match found {
            Some((old, new)) => {
                out.extend_from_slice(new.as_bytes());
                at += old.len();
            }
            None => {
                out.extend(rest.first());
                at += 1;
            }
        }
        checked(function, out.len())?;
    }
    utf8(function, out)
}

fn trimmed(args: &[Value], trim: for<'a> fn(&'a str, &str) -> &'a str) -> Outcome {
    Ok(Value::from(trim(string(args, 0)?, string(args, 1)?)))
}

pub(super) fn trim(args: &[Value]) -> Outcome {
    trimmed(args, |text, cutset| text.trim_matches(|c| cutset.contains(c)))
}

pub(super) fn trim_left(args: &[Value]) -> Outcome {
    trimmed(args, |text, cutset| text.trim_start_matches(|c| cutset.contains(c)))
}

pub(super) fn trim_right(args: &[Value]) -> Outcome {
    trimmed(args, |text, cutset| text.trim_end_matches(|c| cutset.contains(c)))
}

pub(super) fn trim_prefix(args: &[Value]) -> Outcome {
    trimmed(args, |text, prefix| text.strip_prefix(prefix).unwrap_or(text))
}

pub(super) fn trim_suffix(args: &[Value]) -> Outcome {
    trimmed(args, |text, suffix| text.strip_suffix(suffix).unwrap_or(text))
}

pub(super) fn trim_space(args: &[Value]) -> Outcome {
    Ok(Value::from(string(args, 0)?.trim()))
}

pub(super) fn reverse(args: &[Value]) -> Outcome {
    Ok(Value::from(string(args, 0)?.chars().rev().collect::<String>()))
}

/// What OPA lowers `$"…{x}…"` to: each part is a string, or the set of what an expression gave.
pub(super) fn template_string(args: &[Value]) -> Outcome {
    Ok(Value::from(template_text(array(args, 0)?.iter())))
}

/// The text of a template string's parts. A set of one is its element; an empty set and the
/// undefined value print `<undefined>`.
pub(super) fn template_text<'a>(parts: impl Iterator<Item = &'a Value>) -> String {
    let mut out = String::new();
    for part in parts {
        let mut part = part;
        if let Value::Set(items) = part {
            let least = items.iter().min_by(|a, b| compare(a, b));
            part = least.unwrap_or(&Value::Undefined);
        }
        match part {
            Value::String(text) => out.push_str(text),
            _ => out.push_str(&super::to_rego_text(part)),
        }
    }
    out
}
