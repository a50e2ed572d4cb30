//! JSON: reading as Go reads it, writing as Go writes it.

use regorus::Value;
use regorus::value::Object;

use super::BuiltinError;
use super::numbers::is_json_number;
use super::value::{
    Fail, MAX_DEPTH, MAX_TEXT, Outcome, arg, limit, number_text, object, sorted, string,
};

/// A value as JSON, the way Go's `json.Marshal` writes what OPA makes of it: sets are arrays,
/// keys that are no strings are JSON texts, and `<`, `>`, `&`, U+2028 and U+2029 are escaped.
///
/// # Errors
///
/// When the value is nested too deep or its text too long.
pub fn to_json(value: &Value) -> Result<String, BuiltinError> {
    match written(value, None) {
        Ok(text) => Ok(text),
        Err(Fail::Error(error)) => Err(error),
        Err(Fail::Undefined) => Ok(String::new()),
    }
}

pub(super) fn marshal(args: &[Value]) -> Outcome {
    Ok(Value::from(written(arg(args, 0)?, None)?))
}

/// `json.marshal_with_options`: `pretty`, `prefix` and `indent`.
pub(super) fn marshal_with_options(args: &[Value]) -> Outcome {
    let value = arg(args, 0)?;
    let (mut prefix, mut indent) = ("", "\t");
    let (mut implied, mut pretty) = (false, None);
    for (key, option) in object(args, 1)?.iter() {
        let Value::String(key) = key else {
            return Err(Fail::Undefined);
        };
        match (&**key, option) {
            ("prefix", Value::String(text)) => (prefix, implied) = (text, true),
            ("indent", Value::String(text)) => (indent, implied) = (text, true),
            ("pretty", Value::Bool(wanted)) => pretty = Some(*wanted),
            _ => return Err(Fail::Undefined),
        }
    }
    if !pretty.unwrap_or(implied) {
        return marshal(args);
    }
    Ok(Value::from(format!("{prefix}{}", written(value, Some((prefix, indent)))?)))
}

type Layout<'a> = Option<(&'a str, &'a str)>;

fn written(value: &Value, layout: Layout) -> Result<String, Fail> {
    let mut writer = Writer { out: String::new(), layout, depth: 0 };
    writer.value(value)?;
    Ok(writer.out)
}

struct Writer<'a> {
    out: String,
    layout: Layout<'a>,
    depth: usize,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value) -> Result<(), Fail> {
        if self.out.len() > MAX_TEXT {
            return Err(limit("json.marshal", MAX_TEXT, "bytes"));
        }
        match value {
            Value::Undefined => return Err(Fail::Undefined),
            Value::Null => self.out.push_str("null"),
            Value::Bool(true) => self.out.push_str("true"),
            Value::Bool(false) => self.out.push_str("false"),
            Value::Number(_) => self.out.push_str(&number_text(value)),
            Value::String(text) => escape(&mut self.out, text),
            Value::Array(items) => self.list(items.iter())?,
            Value::Set(items) => self.list(sorted(items).into_iter())?,
            Value::Object(object) => self.object(object)?,
        }
        Ok(())
    }

    fn list<'v>(&mut self, items: impl ExactSizeIterator<Item = &'v Value>) -> Result<(), Fail> {
        let empty = items.len() == 0;
        self.open('[')?;
        for (at, item) in items.enumerate() {
            self.element(at);
            self.value(item)?;
        }
        self.close(']', empty);
        Ok(())
    }

    fn object(&mut self, object: &Object) -> Result<(), Fail> {
        let mut fields = Vec::with_capacity(object.len());
        for (key, value) in object.iter() {
            let key = match key {
                Value::String(text) => text.to_string(),
                _ => written(key, None)?,
            };
            fields.push((key, value));
        }
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        self.open('{')?;
        for (at, (key, value)) in fields.iter().enumerate() {
            self.element(at);
            escape(&mut self.out, key);
            self.out.push_str(if self.layout.is_some() { ": " } else { ":" });
            self.value(value)?;
        }
        self.close('}', fields.is_empty());
        Ok(())
    }

    fn open(&mut self, bracket: char) -> Result<(), Fail> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(limit("json.marshal", MAX_DEPTH, "levels"));
        }
        self.out.push(bracket);
        Ok(())
    }

    fn element(&mut self, at: usize) {
        if at > 0 {
            self.out.push(',');
        }
        self.line();
    }

    fn close(&mut self, bracket: char, empty: bool) {
        self.depth -= 1;
        if !empty {
            self.line();
        }
        self.out.push(bracket);
    }

    fn line(&mut self) {
        if let Some((prefix, indent)) = self.layout {
            self.out.push('\n');
            self.out.push_str(prefix);
            self.out.push_str(&indent.repeat(self.depth));
        }
    }
}

fn escape(out: &mut String, text: &str) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            _ => out.push(c),
        }
    }
    out.push('"');
}

pub(super) fn unmarshal(args: &[Value]) -> Outcome {
    parse("json.unmarshal", string(args, 0)?)
}

/// Whether a string is JSON; anything but a string is not.
pub(super) fn is_valid(args: &[Value]) -> Outcome {
    match string(args, 0).and_then(|text| parse("json.is_valid", text)) {
        Ok(_) | Err(Fail::Error(BuiltinError::Inexact { .. })) => Ok(Value::from(true)),
        Err(Fail::Undefined) => Ok(Value::from(false)),
        Err(error) => Err(error),
    }
}

/// Reads one JSON document. Lone surrogates become U+FFFD, the last of equal keys wins.
pub(super) fn parse(function: &'static str, text: &str) -> Outcome {
    let mut parser = Parser { function, text, at: 0, depth: 0 };
    parser.space();
    let value = parser.value()?;
    parser.space();
    if parser.at < text.len() { Err(Fail::Undefined) } else { Ok(value) }
}

struct Parser<'a> {
    function: &'static str,
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn rest(&self) -> &'a str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, byte: u8) -> Result<(), Fail> {
        if self.take(byte) { Ok(()) } else { Err(Fail::Undefined) }
    }

    fn value(&mut self) -> Outcome {
        match self.peek() {
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::list),
            Some(b'"') => Ok(Value::from(self.string()?)),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => self.word(),
        }
    }

    fn nested(&mut self, read: fn(&mut Self) -> Outcome) -> Outcome {
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(limit(self.function, MAX_DEPTH, "levels"));
        }
        self.space();
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn list(&mut self) -> Outcome {
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(Value::from(items));
        }
        loop {
            self.space();
            items.push(self.value()?);
            self.space();
            if self.take(b']') {
                return Ok(Value::from(items));
            }
            self.expect(b',')?;
        }
    }

    fn object(&mut self) -> Outcome {
        let mut object = Object::default();
        if self.take(b'}') {
            return Ok(object.into_value());
        }
        loop {
            self.space();
            let key = self.string()?;
            self.space();
            self.expect(b':')?;
            self.space();
            let value = self.value()?;
            object.insert(Value::from(key), value);
            self.space();
            if self.take(b'}') {
                return Ok(object.into_value());
            }
            self.expect(b',')?;
        }
    }

    fn word(&mut self) -> Outcome {
        let words =
            [("null", Value::Null), ("true", Value::Bool(true)), ("false", Value::Bool(false))];
        for (word, value) in words {
            if self.rest().starts_with(word) {
                self.at += word.len();
                return Ok(value);
            }
        }
        Err(Fail::Undefined)
    }

    fn number(&mut self) -> Outcome {
        let end = self.rest().find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'));
        let text = self.rest().get(..end.unwrap_or(self.rest().len())).unwrap_or_default();
        if !is_json_number(text) {
            return Err(Fail::Undefined);
        }
        self.at += text.len();
        read_number(self.function, text)
    }

    fn string(&mut self) -> Result<String, Fail> {
        self.expect(b'"')?;
        let mut out = String::new();
        loop {
            let plain = self.rest().find(|c| c < ' ' || c == '"' || c == '\\');
            let plain = plain.ok_or(Fail::Undefined)?;
            out.push_str(self.rest().get(..plain).unwrap_or_default());
            self.at += plain;
            if self.take(b'"') {
                return Ok(out);
            }
            self.expect(b'\\')?;
            let c = self.escaped()?;
            out.push(c);
        }
    }

    fn escaped(&mut self) -> Result<char, Fail> {
        let escape = self.peek().ok_or(Fail::Undefined)?;
        self.at += 1;
        Ok(match escape {
            b'"' | b'\\' | b'/' => char::from(escape),
            b'b' => '\x08',
            b'f' => '\x0c',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => self.unicode()?,
            _ => return Err(Fail::Undefined),
        })
    }

    fn unicode(&mut self) -> Result<char, Fail> {
        let first = self.hexadecimal()?;
        if let Some(c) = char::from_u32(first) {
            return Ok(c);
        }
        let back = self.at;
        if (0xd800..0xdc00).contains(&first) && self.rest().starts_with("\\u") {
            self.at += 2;
            let second = self.hexadecimal()?;
            if (0xdc00..0xe000).contains(&second) {
                let code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return char::from_u32(code).ok_or(Fail::Undefined);
            }
            self.at = back;
        }
        Ok(char::REPLACEMENT_CHARACTER)
    }

    fn hexadecimal(&mut self) -> Result<u32, Fail> {
        let digits = self.rest().get(..4).ok_or(Fail::Undefined)?;
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(Fail::Undefined);
        }
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|_| Fail::Undefined)
    }
}

/// A number that our values can hold; any other is an error and not nearly that number.
pub(super) fn read_number(function: &'static str, text: &str) -> Outcome {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let zero = !mantissa.contains(|c: char| ('1'..='9').contains(&c));
    let inexact = || Fail::Error(BuiltinError::Inexact { function });
    if zero && !mantissa.contains('.') {
        return Ok(Value::from(0));
    }
    // An exponent is a promise of as many digits.
    if exponent.parse::<i32>().map_or(true, |exponent| exponent.abs() > 10_000) {
        return Err(inexact());
    }
    let value = Value::from_numeric_string(text).map_err(|_| inexact())?;
    let vanished = value.as_number().ok().and_then(|number| number.as_f64()) == Some(0.0);
    if vanished && !zero { Err(inexact()) } else { Ok(value) }
}
