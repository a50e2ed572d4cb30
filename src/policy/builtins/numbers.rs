//! Builtins on numbers: rounding, bits, ranges, sums, and numbers from and to text.

use num_bigint::{BigInt, Sign};
use regorus::Value;

use super::BuiltinError;
use super::number::{Big, Num, int_value};
use super::value::{Fail, MAX_ELEMENTS, Outcome, arg, as_int, elements, limit, undefined};

pub(super) fn abs(args: &[Value]) -> Outcome {
    let big = Num::of(arg(args, 0)?)?.to_big();
    let positive = if big.is_negative() { big.neg() } else { big };
    positive.to_value("abs")
}

fn rounded(args: &[Value], name: &'static str, round: fn(&Big) -> Big) -> Outcome {
    let value = arg(args, 0)?;
    if as_int(value).is_some() {
        return Ok(value.clone());
    }
    round(&Num::of(value)?.to_big()).to_value(name)
}

fn whole(int: BigInt) -> Big {
    Big { mantissa: int, exponent: 0 }
}

/// To the nearest integer, halves away from zero.
pub(super) fn round(args: &[Value]) -> Outcome {
    rounded(args, "round", |big| {
        let half = Big { mantissa: BigInt::from(1), exponent: -1 };
        let half = if big.is_negative() { half.neg() } else { half };
        whole(big.add(&half).trunc())
    })
}

pub(super) fn ceil(args: &[Value]) -> Outcome {
    rounded(args, "ceil", |big| {
        // OPA looks at the sign of the integer part, which -0.5 has lost.
        let int = big.trunc();
        let up = if int.sign() == Sign::Minus || big.is_int() { 0 } else { 1 };
        whole(int + up)
    })
}

pub(super) fn floor(args: &[Value]) -> Outcome {
    rounded(args, "floor", |big| {
        let int = big.trunc();
        let down = if int.sign() == Sign::Minus && !big.is_int() { 1 } else { 0 };
        whole(int - down)
    })
}

fn bits(args: &[Value], name: &'static str, op: fn(BigInt, BigInt) -> BigInt) -> Outcome {
    int_value(name, &op(big_int(args, 0)?, big_int(args, 1)?))
}

fn big_int(args: &[Value], at: usize) -> Result<BigInt, Fail> {
    Num::of(arg(args, at)?)?.to_int().ok_or_else(undefined)
}

pub(super) fn bits_or(args: &[Value]) -> Outcome {
    bits(args, "bits.or", |a, b| a | b)
}

pub(super) fn bits_and(args: &[Value]) -> Outcome {
    bits(args, "bits.and", |a, b| a & b)
}

pub(super) fn bits_xor(args: &[Value]) -> Outcome {
    bits(args, "bits.xor", |a, b| a ^ b)
}

pub(super) fn bits_negate(args: &[Value]) -> Outcome {
    int_value("bits.negate", &!big_int(args, 0)?)
}

pub(super) fn bits_lsh(args: &[Value]) -> Outcome {
    let (int, by) = (big_int(args, 0)?, shift(args)?);
    if int.sign() == Sign::NoSign {
        return Ok(Value::from(0));
    }
    if by > MAX_SHIFT {
        return Err(limit("bits.lsh", MAX_SHIFT as usize, "bits"));
    }
    int_value("bits.lsh", &(int << by))
}

pub(super) fn bits_rsh(args: &[Value]) -> Outcome {
    let (int, by) = (big_int(args, 0)?, shift(args)?);
    // Nothing that fits our integers has bits left after so long a shift.
    int_value("bits.rsh", &(int >> by.min(MAX_SHIFT * 2)))
}

const MAX_SHIFT: u64 = 1 << 18;

/// OPA takes the low 64 bits of the shift.
fn shift(args: &[Value]) -> Result<u64, Fail> {
    let by = big_int(args, 1)?;
    if by.sign() == Sign::Minus {
        return Err(Fail::Undefined);
    }
    Ok(by.magnitude().iter_u64_digits().next().unwrap_or(0))
}

fn total(
    args: &[Value],
    (name, start): (&'static str, i64),
    exact: fn(BigInt, BigInt) -> BigInt,
    float: fn(&Big, &Big) -> Big,
) -> Outcome {
    let numbers =
        elements(arg(args, 0)?)?.into_iter().map(Num::of).collect::<Result<Vec<_>, _>>()?;
    if let Some(ints) = numbers.iter().map(Num::to_int).collect::<Option<Vec<_>>>() {
        let mut all = BigInt::from(start);
        for int in ints {
            all = exact(all, int);
            if all.bits() > MAX_SHIFT {
                return Err(limit(name, MAX_SHIFT as usize, "bits"));
            }
        }
        return int_value(name, &all);
    }
    let start = whole(BigInt::from(start));
    numbers.iter().fold(start, |all, number| float(&all, &number.to_big())).to_value(name)
}

pub(super) fn sum(args: &[Value]) -> Outcome {
    // OPA adds small integers in 64 bits, and wraps around.
    let items = elements(arg(args, 0)?)?;
    if let Some(ints) = items.into_iter().map(as_int).collect::<Option<Vec<i64>>>() {
        return Ok(Value::from(ints.into_iter().fold(0i64, i64::wrapping_add)));
    }
    total(args, ("sum", 0), |a, b| a + b, Big::add)
}

pub(super) fn product(args: &[Value]) -> Outcome {
    total(args, ("product", 1), |a, b| a * b, Big::mul)
}

pub(super) fn range(args: &[Value]) -> Outcome {
    numbers_range("numbers.range", args, &BigInt::from(1))
}

pub(super) fn range_step(args: &[Value]) -> Outcome {
    let step = big_int(args, 2)?;
    if step.sign() != Sign::Plus {
        return Err(Fail::Undefined);
    }
    numbers_range("numbers.range_step", args, &step)
}

fn numbers_range(name: &'static str, args: &[Value], step: &BigInt) -> Outcome {
    let (from, to) = (big_int(args, 0)?, big_int(args, 1)?);
    let count = (&to - &from).magnitude() / step.magnitude();
    let count = usize::try_from(count).ok().filter(|count| *count < MAX_ELEMENTS);
    let count = count.ok_or_else(|| limit(name, MAX_ELEMENTS, "elements"))?;
    let step = if from <= to { step.clone() } else { -step };
    let mut all = Vec::with_capacity(count + 1);
    let mut next = from;
    for _ in 0..=count {
        all.push(int_value(name, &next)?);
        next += &step;
    }
    Ok(Value::from(all))
}

/// A number from `null`, a boolean, a number, or a text as Go's `strconv.ParseFloat` reads it.
pub(super) fn to_number(args: &[Value]) -> Outcome {
    match arg(args, 0)? {
        Value::Null | Value::Bool(false) => Ok(Value::from(0)),
        Value::Bool(true) => Ok(Value::from(1)),
        Value::Number(_) => Ok(arg(args, 0)?.clone()),
        Value::String(text) => parse(text),
        _ => Err(Fail::Undefined),
    }
}

fn parse(text: &str) -> Outcome {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned.contains('_') || unsigned.starts_with("0x") || unsigned.starts_with("0X") {
        return parse_go_syntax(text, unsigned);
    }
    // Rust's grammar is Go's without these words.
    if unsigned.contains(|c: char| c.is_ascii_alphabetic() && !matches!(c, 'e' | 'E')) {
        return Err(Fail::Undefined);
    }
    let float = text.parse::<f64>().map_err(|_| Fail::Undefined)?;
    if !float.is_finite() {
        return Err(Fail::Undefined);
    }
    let digits = unsigned.split(['e', 'E']).next().unwrap_or_default();
    if float == 0.0 && digits.contains(|c: char| ('1'..='9').contains(&c)) {
        return Err(BuiltinError::Inexact { function: "to_number" }.into());
    }
    Value::from_numeric_string(text).map_err(|_| Fail::Undefined)
}

/// Go reads hexadecimal floats and, after a base prefix or not, underscores. Nobody means it.
fn parse_go_syntax(text: &str, unsigned: &str) -> Outcome {
    let hexadecimal = unsigned.starts_with("0x") || unsigned.starts_with("0X");
    let malformed = text.starts_with('_') || text.ends_with('_') || unsigned.starts_with('_');
    let foreign =
        |c: char| !c.is_ascii_hexdigit() && !matches!(c, '_' | '.' | 'e' | 'E' | '-' | '+');
    if malformed || (!hexadecimal && unsigned.contains(foreign)) {
        return Err(Fail::Undefined);
    }
    if hexadecimal && !unsigned.contains(['p', 'P']) {
        return Err(Fail::Undefined);
    }
    let what = "numbers with underscores or in hexadecimal";
    Err(BuiltinError::Unsupported { function: "to_number", what }.into())
}

/// The integer part of a number in base 2, 8, 10 or 16.
pub(super) fn format_int(args: &[Value]) -> Outcome {
    let number = Num::of(arg(args, 0)?)?;
    let base = match as_int(arg(args, 1)?) {
        Some(base @ (2 | 8 | 10 | 16)) => base as u32,
        _ => return Err(Fail::Undefined),
    };
    let int = match &number {
        Num::Int(int) => int.clone(),
        Num::Float(_) => number.to_big().trunc(),
    };
    Ok(Value::from(int.to_str_radix(base)))
}

/// Go's `json.Number` grammar, which the text of a number in JSON has to meet.
pub(super) fn is_json_number(text: &str) -> bool {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let (int, fraction) = match mantissa.split_once('.') {
        Some((int, fraction)) => (int, Some(fraction)),
        None => (mantissa, None),
    };
    digits(int)
        && (int == "0" || !int.starts_with('0'))
        && fraction.is_none_or(digits)
        && exponent.is_none_or(|text| digits(text.strip_prefix(['+', '-']).unwrap_or(text)))
}
