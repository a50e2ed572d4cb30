//! `units.parse` and `units.parse_bytes`: an amount and its unit.

use num_bigint::{BigInt, Sign};
use regorus::Value;

use super::BuiltinError;
use super::number::{Big, int_value};
use super::strings::to_lower;
use super::value::{Fail, Outcome, string};

const MAX_EXPONENT_DIGITS: usize = 6;
/// The largest exponent that we compute: far more than any size has.
const MAX_EXPONENT: i64 = 10_000;

/// Where the number ends and the unit begins. Go looks at bytes.
fn split(text: &str) -> Result<(&str, &str), Fail> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let sign = |at: usize| matches!(bytes.get(at), Some(b'+' | b'-'));
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match byte {
            b'e' | b'E' if !digit(at + 1) && !sign(at + 1) => break,
            b'e' | b'E' => {
                at += usize::from(sign(at + 1));
                let length = bytes.iter().skip(at + 1).take_while(|b| b.is_ascii_digit()).count();
                if length > MAX_EXPONENT_DIGITS {
                    return Err(Fail::Undefined);
                }
            }
            b'0'..=b'9' | b'.' | b'+' | b'-' => {}
            _ => break,
        }
        at += 1;
    }
    match at {
        0 => Err(Fail::Undefined),
        _ => Ok(text.split_at_checked(at).unwrap_or((text, ""))),
    }
}

/// A decimal: digits and a power of ten.
fn decimal(function: &'static str, text: &str) -> Result<(BigInt, i64), Fail> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let unsigned = mantissa.strip_prefix(['+', '-']).unwrap_or(mantissa);
    let (int, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let digits = format!("{int}{fraction}");
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return Err(Fail::Undefined);
    }
    let value = BigInt::parse_bytes(digits.as_bytes(), 10).ok_or(Fail::Undefined)?;
    let value = if mantissa.starts_with('-') { -value } else { value };
    let exponent: i64 = exponent.parse().map_err(|_| Fail::Undefined)?;
    if exponent.abs() > MAX_EXPONENT || digits.len() as i64 > MAX_EXPONENT {
        return Err(BuiltinError::Inexact { function }.into());
    }
    Ok((value, exponent - fraction.len() as i64))
}

fn binary(power: u32) -> BigInt {
    BigInt::from(1024).pow(power)
}

fn thousands(power: u32) -> BigInt {
    BigInt::from(1000).pow(power)
}

fn quoted(text: &str) -> Result<String, Fail> {
    let text = text.replace('"', "");
    if text.contains(' ') { Err(Fail::Undefined) } else { Ok(text) }
}

/// Bytes, rounded towards zero; units are not case-sensitive.
pub(super) fn parse_bytes(args: &[Value]) -> Outcome {
    let text = quoted(&to_lower(string(args, 0)?))?;
    let (number, unit) = split(&text)?;
    let factor = match unit {
        "" => binary(0),
        "kb" | "k" => thousands(1),
        "kib" | "ki" => binary(1),
        "mb" | "m" => thousands(2),
        "mib" | "mi" => binary(2),
        "gb" | "g" => thousands(3),
        "gib" | "gi" => binary(3),
        "tb" | "t" => thousands(4),
        "tib" | "ti" => binary(4),
        "pb" | "p" => thousands(5),
        "pib" | "pi" => binary(5),
        "eb" | "e" => thousands(6),
        "eib" | "ei" => binary(6),
        _ => return Err(Fail::Undefined),
    };
    let (mantissa, exponent) = decimal("units.parse_bytes", number)?;
    let amount = Big::decimal(mantissa, exponent);
    let total = amount.mul(&Big { mantissa: factor, exponent: 0 });
    int_value("units.parse_bytes", &total.trunc())
}

/// An exact amount, to ten decimal places; `m` is a thousandth and `M` a million.
pub(super) fn parse(args: &[Value]) -> Outcome {
    let text = quoted(string(args, 0)?)?;
    let (number, unit) = split(&text)?;
    let (factor, places) = match factor(unit) {
        Some(factor) => (factor, 0),
        // A thousandth is the binary float nearest to it.
        None if unit == "m" => (BigInt::from(1_152_921_504_606_847i64), 60),
        None => return Err(Fail::Undefined),
    };
    let (mantissa, exponent) = decimal("units.parse", number)?;
    let power = BigInt::from(10).pow(exponent.unsigned_abs() as u32);
    let mut numerator = mantissa * factor;
    let mut denominator: BigInt = BigInt::from(1) << places;
    if exponent >= 0 {
        numerator *= power;
    } else {
        denominator *= power;
    }
    if (&numerator % &denominator).sign() == Sign::NoSign {
        return int_value("units.parse", &(numerator / denominator));
    }
    ten_places(&numerator, &denominator)
}

fn factor(unit: &str) -> Option<BigInt> {
    let mut chars = unit.chars();
    let Some(first) = chars.next() else {
        return Some(binary(0));
    };
    let power = match first {
        'k' | 'K' => 1,
        'm' | 'M' => 2,
        'g' | 'G' => 3,
        't' | 'T' => 4,
        'p' | 'P' => 5,
        'e' | 'E' => 6,
        _ => return None,
    };
    match to_lower(chars.as_str()).as_str() {
        "i" => Some(binary(power)),
        "" if first != 'm' => Some(thousands(power)),
        _ => None,
    }
}

/// Rounded to ten places, halves away from zero.
fn ten_places(numerator: &BigInt, denominator: &BigInt) -> Outcome {
    let scaled = BigInt::from(numerator.magnitude().clone()) * BigInt::from(10).pow(10);
    let rounded: BigInt = (scaled * 2 + denominator) / (denominator * 2);
    let digits = format!("{rounded:0>11}");
    let (int, fraction) = digits.split_at(digits.len() - 10);
    let sign = if numerator.sign() == Sign::Minus { "-" } else { "" };
    Value::from_numeric_string(&format!("{sign}{int}.{fraction}")).map_err(|_| Fail::Undefined)
}
