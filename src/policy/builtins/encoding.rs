//! Base64, hexadecimal and URL query encodings, as Go reads and writes them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::alphabet::{self, Alphabet};
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use regorus::Value;
use regorus::value::Object;

use super::value::{Fail, MAX_TEXT, Outcome, limit, object, string, strings, texts, utf8};

/// Go demands padding and does not look at the bits that padding leaves over.
const fn engine(alphabet: &Alphabet) -> GeneralPurpose {
    let config = GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical);
    GeneralPurpose::new(alphabet, config)
}

const STANDARD: GeneralPurpose = engine(&alphabet::STANDARD);
const URL: GeneralPurpose = engine(&alphabet::URL_SAFE);

fn encoded(args: &[Value], encode: impl Fn(&str) -> String) -> Outcome {
    let text = string(args, 0)?;
    if text.len() > MAX_TEXT / 3 {
        return Err(limit("encode", MAX_TEXT / 3, "bytes"));
    }
    Ok(Value::from(encode(text)))
}

pub(super) fn base64_encode(args: &[Value]) -> Outcome {
    encoded(args, |text| STANDARD.encode(text))
}

fn decoded(engine: &GeneralPurpose, text: &str) -> Result<Vec<u8>, Fail> {
    // Go passes over line ends.
    let text: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    engine.decode(text).map_err(|_| Fail::Undefined)
}

pub(super) fn base64_decode(args: &[Value]) -> Outcome {
    utf8("base64.decode", decoded(&STANDARD, string(args, 0)?)?)
}

pub(super) fn base64_is_valid(args: &[Value]) -> Outcome {
    let valid = string(args, 0).is_ok_and(|text| decoded(&STANDARD, text).is_ok());
    Ok(Value::from(valid))
}

pub(super) fn base64url_encode(args: &[Value]) -> Outcome {
    encoded(args, |text| URL.encode(text))
}

pub(super) fn base64url_encode_no_pad(args: &[Value]) -> Outcome {
    encoded(args, |text| URL.encode(text).trim_end_matches('=').to_owned())
}

/// Padding may be missing, by the length of the whole text.
pub(super) fn base64url_decode(args: &[Value]) -> Outcome {
    let mut text = string(args, 0)?.to_owned();
    if !text.ends_with('=') {
        match text.len() % 4 {
            0 => {}
            2 => text.push_str("=="),
            3 => text.push('='),
            _ => return Err(Fail::Undefined),
        }
    }
    utf8("base64url.decode", decoded(&URL, &text)?)
}

pub(super) fn hex_encode(args: &[Value]) -> Outcome {
    encoded(args, |text| hex::encode(text))
}

pub(super) fn hex_decode(args: &[Value]) -> Outcome {
    utf8("hex.decode", hex::decode(string(args, 0)?).map_err(|_| Fail::Undefined)?)
}

/// Go's `url.QueryEscape`.
fn query_escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b' ' => out.push('+'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

fn query_unescape(text: &str) -> Result<Vec<u8>, Fail> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'%' => {
                let digits = [bytes.next(), bytes.next()].map(|digit| digit.unwrap_or(b'%'));
                let mut decoded = [0];
                hex::decode_to_slice(digits, &mut decoded).map_err(|_| Fail::Undefined)?;
                out.extend(decoded);
            }
            b'+' => out.push(b' '),
            _ => out.push(byte),
        }
    }
    Ok(out)
}

pub(super) fn urlquery_encode(args: &[Value]) -> Outcome {
    encoded(args, query_escape)
}

pub(super) fn urlquery_decode(args: &[Value]) -> Outcome {
    utf8("urlquery.decode", query_unescape(string(args, 0)?)?)
}

/// Keys in order; a value is a string, or an array or set of strings.
pub(super) fn urlquery_encode_object(args: &[Value]) -> Outcome {
    let mut fields: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    for (key, value) in object(args, 0)?.iter() {
        let key = match key {
            Value::String(key) => key.to_string(),
            _ => super::json::to_json(key)?,
        };
        let values = match value {
            Value::String(text) => vec![&**text],
            _ => strings(value)?,
        };
        fields.insert(key, values);
    }
    let pairs = fields.iter().flat_map(|(key, values)| {
        values.iter().map(move |value| format!("{}={}", query_escape(key), query_escape(value)))
    });
    Ok(Value::from(pairs.collect::<Vec<_>>().join("&")))
}

/// Go's `url.ParseQuery`: every key with the list of its values.
pub(super) fn urlquery_decode_object(args: &[Value]) -> Outcome {
    let mut fields: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for pair in string(args, 0)?.split('&') {
        if pair.contains(';') {
            return Err(Fail::Undefined);
        }
        if pair.is_empty() {
            continue;
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let text = |bytes| match utf8("urlquery.decode_object", bytes)? {
            Value::String(text) => Ok(text.to_string()),
            _ => Err(Fail::Undefined),
        };
        let (key, value) = (text(query_unescape(key)?)?, text(query_unescape(value)?)?);
        fields.entry(key).or_default().push(value);
    }
    let fields = fields.into_iter().map(|(key, values)| (Value::from(key), texts(values)));
    Ok(fields.collect::<Object>().into_value())
}
