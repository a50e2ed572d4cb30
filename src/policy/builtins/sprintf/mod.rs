//! `sprintf`: Go's `fmt.Sprintf` with OPA's conversion of arguments.
//!
//! This file reads the format; [`verbs`] writes one argument.

mod float;
mod verbs;

use num_bigint::BigInt;
use regorus::Value;

use super::BuiltinError;
use super::value::{Fail, Outcome, arg, array, as_int, is_float, limit, string, to_rego_text};

/// The longest result, in bytes.
const MAX_RESULT: usize = 1 << 20;
/// Go's largest width, precision and argument index.
const MAX_NUMBER: i64 = 1_000_000;

/// What Go gets to see of an argument.
pub(super) enum Arg {
    Int(i64),
    Big(BigInt),
    Float(f64),
    Text(String),
}

impl Arg {
    fn of(value: &Value) -> Result<Arg, Fail> {
        Ok(match value {
            Value::String(text) => Arg::Text(text.to_string()),
            Value::Number(number) if is_float(value) => {
                Arg::Float(number.as_f64().ok_or(Fail::Undefined)?)
            }
            Value::Number(number) => match as_int(value) {
                Some(int) => Arg::Int(int),
                None => Arg::Big((*number.to_big().map_err(|_| Fail::Undefined)?).clone()),
            },
            _ => Arg::Text(to_rego_text(value)),
        })
    }

    fn type_name(&self) -> &'static str {
        match self {
            Arg::Int(_) => "int64",
            Arg::Big(_) => "*big.Int",
            Arg::Float(_) => "float64",
            Arg::Text(_) => "string",
        }
    }
}

/// Flags, width and precision of one verb.
#[derive(Clone, Copy, Default)]
pub(super) struct Spec {
    pub(super) sharp: bool,
    pub(super) zero: bool,
    pub(super) plus: bool,
    pub(super) minus: bool,
    pub(super) space: bool,
    /// `%#v` and `%+v`, which mean something else than the flags alone.
    pub(super) sharp_v: bool,
    pub(super) plus_v: bool,
    pub(super) width: Option<usize>,
    pub(super) precision: Option<usize>,
}

impl Spec {
    fn for_verb(mut self, verb: char) -> Spec {
        if matches!(verb, 'v' | 'w') {
            (self.sharp_v, self.sharp) = (self.sharp, false);
            (self.plus_v, self.plus) = (self.plus, false);
        }
        self
    }
}

/// The text written so far, which never grows past the limit.
pub(super) struct Out(String);

impl Out {
    pub(super) fn push(&mut self, text: &str) -> Result<(), Fail> {
        if self.0.len() + text.len() > MAX_RESULT {
            return Err(limit("sprintf", MAX_RESULT, "bytes"));
        }
        self.0.push_str(text);
        Ok(())
    }

    pub(super) fn fill(&mut self, with: char, count: usize) -> Result<(), Fail> {
        if self.0.len() + count > MAX_RESULT {
            return Err(limit("sprintf", MAX_RESULT, "bytes"));
        }
        self.0.extend(std::iter::repeat_n(with, count));
        Ok(())
    }
}

pub(super) fn sprintf(args: &[Value]) -> Outcome {
    let (format, values) = (string(args, 0)?, array(args, 1)?);
    let _ = arg(args, 1)?;
    let args = values.iter().map(Arg::of).collect::<Result<Vec<_>, _>>()?;
    let mut printer =
        Printer { format, args: &args, at: 0, next: 0, reordered: false, good_index: true };
    let mut out = Out(String::new());
    printer.print(&mut out)?;
    Ok(Value::from(out.0))
}

struct Printer<'a> {
    format: &'a str,
    args: &'a [Arg],
    /// Where we are in the format, in bytes.
    at: usize,
    /// The next argument.
    next: usize,
    /// An explicit index was used: unused arguments are not reported.
    reordered: bool,
    /// The index of this verb was a good one.
    good_index: bool,
}

impl Printer<'_> {
    fn rest(&self) -> &str {
        self.format.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<u8> {
        self.format.as_bytes().get(self.at).copied()
    }

    fn print(&mut self, out: &mut Out) -> Result<(), Fail> {
        while !self.rest().is_empty() {
            let plain = self.rest().find('%').unwrap_or(self.rest().len());
            out.push(self.rest().get(..plain).unwrap_or_default())?;
            self.at += plain;
            if self.peek().is_some() {
                self.at += 1;
                self.verb(out)?;
            }
        }
        self.extra(out)
    }

    fn verb(&mut self, out: &mut Out) -> Result<(), Fail> {
        self.good_index = true;
        let mut spec = self.flags();
        let simple = self.peek().filter(u8::is_ascii_lowercase).map(char::from);
        if let (Some(verb), Some(arg)) = (simple, self.args.get(self.next)) {
            self.at += 1;
            self.next += 1;
            return verbs::write(out, spec.for_verb(verb), arg, verb);
        }
        self.measures(&mut spec, out)?;
        let Some(verb) = self.rest().chars().next() else {
            return out.push("%!(NOVERB)");
        };
        self.at += verb.len_utf8();
        match self.args.get(self.next) {
            _ if verb == '%' => out.push("%"),
            _ if !self.good_index => out.push(&format!("%!{verb}(BADINDEX)")),
            None => out.push(&format!("%!{verb}(MISSING)")),
            Some(arg) => {
                self.next += 1;
                verbs::write(out, spec.for_verb(verb), arg, verb)
            }
        }
    }

    fn flags(&mut self) -> Spec {
        let mut spec = Spec::default();
        while let Some(flag) = self.peek() {
            match flag {
                b'#' => spec.sharp = true,
                b'0' => spec.zero = true,
                b'+' => spec.plus = true,
                b'-' => spec.minus = true,
                b' ' => spec.space = true,
                _ => break,
            }
            self.at += 1;
        }
        spec
    }

    /// Argument index, width and precision.
    fn measures(&mut self, spec: &mut Spec, out: &mut Out) -> Result<(), Fail> {
        let mut after_index = self.index();
        if self.peek() == Some(b'*') {
            self.at += 1;
            let width = self.int_argument();
            if width.is_none() {
                out.push("%!(BADWIDTH)")?;
            }
            if width.is_some_and(|width| width < 0) {
                spec.minus = true;
                spec.zero = false;
            }
            spec.width = width.map(|width| width.unsigned_abs() as usize);
            after_index = false;
        } else {
            spec.width = self.number();
            self.good_index &= !(after_index && spec.width.is_some());
        }
        if self.peek() == Some(b'.') && self.at + 1 < self.format.len() {
            self.at += 1;
            self.good_index &= !after_index;
            after_index = self.index();
            if self.peek() == Some(b'*') {
                self.at += 1;
                let precision = self.int_argument();
                spec.precision = precision.and_then(|precision| usize::try_from(precision).ok());
                if spec.precision.is_none() {
                    out.push("%!(BADPREC)")?;
                }
                after_index = false;
            } else {
                spec.precision = Some(self.number().unwrap_or(0));
            }
        }
        if !after_index {
            self.index();
        }
        Ok(())
    }

    /// `[n]`: whether there was one.
    fn index(&mut self) -> bool {
        if self.peek() != Some(b'[') {
            return false;
        }
        self.reordered = true;
        let (index, length, found) = bracket(self.rest());
        self.at += length;
        match index.and_then(|index| index.checked_sub(1)) {
            Some(index) if index < self.args.len() => {
                self.next = index;
                true
            }
            _ => {
                self.good_index = false;
                found
            }
        }
    }

    /// The digits here. A number that is too long swallows the rest of the format, as in Go.
    fn number(&mut self) -> Option<usize> {
        let (number, end) = parse_number(self.rest().as_bytes());
        self.at += end;
        number
    }

    fn int_argument(&mut self) -> Option<i64> {
        let arg = self.args.get(self.next)?;
        self.next += 1;
        match arg {
            Arg::Int(int) if (-MAX_NUMBER..=MAX_NUMBER).contains(int) => Some(*int),
            Arg::Int(_) | Arg::Big(_) | Arg::Float(_) | Arg::Text(_) => None,
        }
    }

    fn extra(&self, out: &mut Out) -> Result<(), Fail> {
        let extra = self.args.get(self.next..).unwrap_or_default();
        if self.reordered || extra.is_empty() {
            return Ok(());
        }
        out.push("%!(EXTRA ")?;
        for (at, arg) in extra.iter().enumerate() {
            out.push(if at > 0 { ", " } else { "" })?;
            out.push(arg.type_name())?;
            out.push("=")?;
            verbs::write(out, Spec::default(), arg, 'v')?;
        }
        out.push(")")
    }
}

/// The number at the start, if there is a good one, and where it ends.
fn parse_number(text: &[u8]) -> (Option<usize>, usize) {
    let mut number: Option<usize> = None;
    for (at, byte) in text.iter().enumerate() {
        if !byte.is_ascii_digit() {
            return (number, at);
        }
        if number.is_some_and(|number| number > MAX_NUMBER as usize) {
            return (None, text.len());
        }
        number = Some(number.unwrap_or(0) * 10 + usize::from(byte - b'0'));
    }
    (number, text.len())
}

/// `[n]` at the start of `text`: its number, its length, and whether it is well-formed.
fn bracket(text: &str) -> (Option<usize>, usize, bool) {
    if text.len() < 3 {
        return (None, 1, false);
    }
    let Some(close) = text.find(']') else {
        return (None, 1, false);
    };
    let inner = text.as_bytes().get(1..close).unwrap_or_default();
    match parse_number(inner) {
        (Some(number), end) if end == inner.len() => (Some(number), close + 1, true),
        _ => (None, close + 1, false),
    }
}

/// What Go prints from its own memory layout, and we cannot.
pub(super) fn unprintable() -> Fail {
    let what = "this verb for an integer of more than 64 bits";
    BuiltinError::Unsupported { function: "sprintf", what }.into()
}
