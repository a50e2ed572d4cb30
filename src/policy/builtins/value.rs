//! Reading arguments and writing texts: what every family of builtins needs of a `regorus::Value`.
//!
//! It owns OPA's order of values and the two texts of a value (Rego and JSON). It knows no builtin.

use std::cmp::Ordering;
use std::mem::discriminant;
use std::sync::LazyLock;

use regex::Regex;
use regorus::Value;
use regorus::value::{Array, Object, Set};

use super::BuiltinError;

/// The longest string, in bytes, that a builtin gives.
pub(super) const MAX_TEXT: usize = 16 << 20;
/// The most elements of an array, set or object that a builtin gives.
pub(super) const MAX_ELEMENTS: usize = 1_000_000;
/// How deep a value may be nested to be read or written.
pub(super) const MAX_DEPTH: usize = 256;

/// Why a builtin gives no value.
#[derive(Debug)]
pub(super) enum Fail {
    /// OPA's builtin error, which leaves the expression undefined.
    Undefined,
    /// Ends the evaluation.
    Error(BuiltinError),
}

impl From<BuiltinError> for Fail {
    fn from(error: BuiltinError) -> Self {
        Fail::Error(error)
    }
}

pub(super) type Outcome = Result<Value, Fail>;

/// Turns what is undefined in OPA into the undefined value.
pub(super) fn settle(outcome: Outcome) -> Result<Value, BuiltinError> {
    match outcome {
        Ok(value) => Ok(value),
        Err(Fail::Undefined) => Ok(Value::Undefined),
        Err(Fail::Error(error)) => Err(error),
    }
}

pub(super) fn limit(function: &'static str, limit: usize, unit: &'static str) -> Fail {
    Fail::Error(BuiltinError::Limit { function, limit, unit })
}

/// `undefined()` reads better than the variant where a closure is wanted.
pub(super) fn undefined() -> Fail {
    Fail::Undefined
}

pub(super) fn arg(args: &[Value], at: usize) -> Result<&Value, Fail> {
    args.get(at).ok_or(Fail::Undefined)
}

pub(super) fn string(args: &[Value], at: usize) -> Result<&str, Fail> {
    match arg(args, at)? {
        Value::String(text) => Ok(text),
        _ => Err(Fail::Undefined),
    }
}

pub(super) fn array(args: &[Value], at: usize) -> Result<&Array, Fail> {
    arg(args, at)?.as_array().map_err(|_| Fail::Undefined)
}

pub(super) fn set(args: &[Value], at: usize) -> Result<&Set, Fail> {
    as_set(arg(args, at)?)
}

pub(super) fn as_set(value: &Value) -> Result<&Set, Fail> {
    value.as_set().map_err(|_| Fail::Undefined)
}

pub(super) fn object(args: &[Value], at: usize) -> Result<&Object, Fail> {
    arg(args, at)?.as_object().map_err(|_| Fail::Undefined)
}

/// An integer that OPA writes without a point: `1.0` is none.
pub(super) fn int(args: &[Value], at: usize) -> Result<i64, Fail> {
    let value = arg(args, at)?;
    as_int(value).ok_or(Fail::Undefined)
}

/// The same as [`int`], of a value in hand.
pub(super) fn as_int(value: &Value) -> Option<i64> {
    if is_float(value) {
        return None;
    }
    value.as_i64().ok()
}

/// Whether a number is held as a float, as `1.5` and `1.0` are, and `1` is not.
pub(super) fn is_float(value: &Value) -> bool {
    match (value, Value::from(0.5)) {
        (Value::Number(number), Value::Number(float)) => {
            discriminant(number) == discriminant(&float)
        }
        _ => false,
    }
}

/// The elements of an array or a set, in OPA's order.
pub(super) fn elements(value: &Value) -> Result<Vec<&Value>, Fail> {
    match value {
        Value::Array(items) => Ok(items.iter().collect()),
        Value::Set(items) => Ok(sorted(items)),
        _ => Err(Fail::Undefined),
    }
}

/// The elements of a set in OPA's order.
pub(super) fn sorted(items: &Set) -> Vec<&Value> {
    let mut all: Vec<&Value> = items.iter().collect();
    all.sort_by(|a, b| compare(a, b));
    all
}

/// The strings of an array or a set.
pub(super) fn strings(value: &Value) -> Result<Vec<&str>, Fail> {
    elements(value)?
        .into_iter()
        .map(|item| match item {
            Value::String(text) => Ok(&**text),
            _ => Err(Fail::Undefined),
        })
        .collect()
}

/// An array of strings.
pub(super) fn texts<T: Into<String>>(items: impl IntoIterator<Item = T>) -> Value {
    Value::from(items.into_iter().map(|item| Value::from(item.into())).collect::<Vec<_>>())
}

/// A text that bytes make: OPA's strings hold any bytes, ours hold UTF-8 and nothing else.
pub(super) fn utf8(function: &'static str, bytes: Vec<u8>) -> Outcome {
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Value::from(text)),
        Err(source) => Err(BuiltinError::NotUtf8 { function, source }.into()),
    }
}

fn rank(value: &Value) -> u8 {
    match value {
        Value::Undefined => 0,
        Value::Null => 1,
        Value::Bool(_) => 2,
        Value::Number(_) => 3,
        Value::String(_) => 4,
        Value::Array(_) => 5,
        Value::Object(_) => 6,
        Value::Set(_) => 7,
    }
}

/// OPA's order of values. It is regorus's but for objects, which stand before sets.
pub fn compare(a: &Value, b: &Value) -> Ordering {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => compare_all(a.iter(), b.iter()),
        (Value::Set(a), Value::Set(b)) => compare_all(sorted(a), sorted(b)),
        (Value::Object(a), Value::Object(b)) => {
            compare_all(pairs(a).into_iter().flatten(), pairs(b).into_iter().flatten())
        }
        _ if rank(a) == rank(b) => a.cmp(b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn compare_all<'a>(
    a: impl IntoIterator<Item = &'a Value>,
    b: impl IntoIterator<Item = &'a Value>,
) -> Ordering {
    let (mut a, mut b) = (a.into_iter(), b.into_iter());
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match compare(a, b) {
                Ordering::Equal => {}
                other => return other,
            },
        }
    }
}

fn pairs(object: &Object) -> Vec<[&Value; 2]> {
    let mut all: Vec<[&Value; 2]> = object.iter().map(|(key, value)| [key, value]).collect();
    all.sort_by(|a, b| compare(a[0], b[0]));
    all
}

/// A number's text. Numbers are texts in OPA; what we keep of them is the value and whether
/// there was a point.
pub(super) fn number_text(value: &Value) -> String {
    match value {
        Value::Number(number) if is_float(value) => {
            let text = number.format_decimal();
            if text.contains('.') { text } else { text + ".0" }
        }
        Value::Number(number) => number.format_decimal(),
        _ => String::new(),
    }
}

/// Whether a number literal is written as we would write its value. OPA prints a number as its
/// source has it, `1e3` or `1.50`, and we keep the value only: where such a literal could be
/// printed, the answer would be another.
#[must_use]
pub fn keeps_its_text(literal: &str) -> bool {
    Value::from_numeric_string(literal).is_ok_and(|value| number_text(&value) == literal)
}

/// A value as Rego: what OPA prints for it.
pub fn to_rego_text(value: &Value) -> String {
    let mut out = String::new();
    write_rego(&mut out, value);
    out
}

fn write_rego(out: &mut String, value: &Value) {
    match value {
        Value::Undefined => out.push_str("<undefined>"),
        Value::Null => out.push_str("null"),
        Value::Bool(true) => out.push_str("true"),
        Value::Bool(false) => out.push_str("false"),
        Value::Number(_) => out.push_str(&number_text(value)),
        Value::String(text) => quote(out, text, Printable::Unicode),
        Value::Array(items) => write_list(out, ['[', ']'], items.iter()),
        Value::Set(items) if items.is_empty() => out.push_str("set()"),
        Value::Set(items) => write_list(out, ['{', '}'], sorted(items)),
        Value::Object(object) => {
            out.push('{');
            for (at, [key, value]) in pairs(object).into_iter().enumerate() {
                if at > 0 {
                    out.push_str(", ");
                }
                write_rego(out, key);
                out.push_str(": ");
                write_rego(out, value);
            }
            out.push('}');
        }
    }
}

fn write_list<'a>(
    out: &mut String,
    brackets: [char; 2],
    items: impl IntoIterator<Item = &'a Value>,
) {
    out.push(brackets[0]);
    for (at, item) in items.into_iter().enumerate() {
        if at > 0 {
            out.push_str(", ");
        }
        write_rego(out, item);
    }
    out.push(brackets[1]);
}

/// Which characters stand for themselves between Go's quotes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Printable {
    Unicode,
    Ascii,
}

/// Go's `strconv.IsPrint`.
pub(super) fn is_printable(c: char) -> bool {
    static PRINTABLE: LazyLock<Option<Regex>> =
        LazyLock::new(|| Regex::new(r"^[\p{L}\p{M}\p{N}\p{P}\p{S}]$").ok());
    if c.is_ascii() {
        return (' '..='~').contains(&c);
    }
    PRINTABLE.as_ref().is_some_and(|class| class.is_match(c.encode_utf8(&mut [0; 4])))
}

/// Go's `strconv.Quote` and `strconv.QuoteToASCII`.
pub(super) fn quote(out: &mut String, text: &str, printable: Printable) {
    out.push('"');
    for c in text.chars() {
        quote_char(out, c, '"', printable);
    }
    out.push('"');
}

pub(super) fn quote_char(out: &mut String, c: char, around: char, printable: Printable) {
    match c {
        '\\' => out.push_str("\\\\"),
        _ if c == around => {
            out.push('\\');
            out.push(c);
        }
        _ if is_printable(c) && (c.is_ascii() || printable == Printable::Unicode) => out.push(c),
        '\x07' => out.push_str("\\a"),
        '\x08' => out.push_str("\\b"),
        '\x0c' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\x0b' => out.push_str("\\v"),
        '\0'..='\x7f' => out.push_str(&format!("\\x{:02x}", c as u32)),
        '\u{80}'..='\u{ffff}' => out.push_str(&format!("\\u{:04x}", c as u32)),
        _ => out.push_str(&format!("\\U{:08x}", c as u32)),
    }
}
