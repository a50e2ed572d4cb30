//! One argument under one verb: integers, strings, and what Go says of a verb that does not fit.

use num_bigint::{BigInt, Sign};

use super::super::value::{Fail, Printable, is_printable, quote, quote_char};
use super::{Arg, Out, Spec, float, unprintable};

pub(super) fn write(out: &mut Out, spec: Spec, arg: &Arg, verb: char) -> Result<(), Fail> {
    match (verb, arg) {
        ('T', _) => text(out, spec, arg.type_name()),
        ('p' | 'w', Arg::Big(_)) => Err(unprintable()),
        ('p', _) => bad_verb(out, spec, arg, verb),
        (_, Arg::Int(int)) => integer(out, spec, *int, verb),
        (_, Arg::Big(big)) => big_integer(out, spec, big, verb),
        (_, Arg::Float(float)) => match float::text(spec, *float, verb) {
            Some(text) => float::pad(out, spec, &text?),
            None => bad_verb(out, spec, arg, verb),
        },
        (_, Arg::Text(value)) => string(out, spec, value, verb),
    }
}

fn bad_verb(out: &mut Out, spec: Spec, arg: &Arg, verb: char) -> Result<(), Fail> {
    out.push(&format!("%!{verb}({}=", arg.type_name()))?;
    write(out, spec, arg, 'v')?;
    out.push(")")
}

/// Pads on the left, or on the right with `-`. Zeros pad on the left only.
pub(super) fn pad(out: &mut Out, spec: Spec, text: &str) -> Result<(), Fail> {
    let missing = spec.width.unwrap_or(0).saturating_sub(text.chars().count());
    if spec.minus {
        out.push(text)?;
        return out.fill(' ', missing);
    }
    out.fill(if spec.zero { '0' } else { ' ' }, missing)?;
    out.push(text)
}

fn truncated(spec: Spec, text: &str) -> &str {
    let end = spec.precision.and_then(|precision| text.char_indices().nth(precision));
    end.and_then(|(end, _)| text.get(..end)).unwrap_or(text)
}

fn text(out: &mut Out, spec: Spec, value: &str) -> Result<(), Fail> {
    pad(out, spec, truncated(spec, value))
}

fn string(out: &mut Out, spec: Spec, value: &str, verb: char) -> Result<(), Fail> {
    match verb {
        'v' if spec.sharp_v => quoted(out, spec, value),
        'v' | 's' => text(out, spec, value),
        'x' => hexadecimal(out, spec, value, false),
        'X' => hexadecimal(out, spec, value, true),
        'q' => quoted(out, spec, value),
        _ => bad_verb(out, spec, &Arg::Text(value.to_owned()), verb),
    }
}

fn quoted(out: &mut Out, spec: Spec, value: &str) -> Result<(), Fail> {
    let value = truncated(spec, value);
    let raw = |c: char| c != '`' && c != '\u{7f}' && c != '\u{feff}' && (c >= ' ' || c == '\t');
    if spec.sharp && value.chars().all(raw) {
        return pad(out, spec, &format!("`{value}`"));
    }
    let mut text = String::new();
    quote(&mut text, value, if spec.plus { Printable::Ascii } else { Printable::Unicode });
    pad(out, spec, &text)
}

fn hexadecimal(out: &mut Out, spec: Spec, value: &str, upper: bool) -> Result<(), Fail> {
    let length = spec.precision.unwrap_or(value.len()).min(value.len());
    let prefix = match (spec.sharp, upper) {
        (false, _) => "",
        (true, false) => "0x",
        (true, true) => "0X",
    };
    let mut text = String::new();
    for (at, byte) in value.bytes().take(length).enumerate() {
        if at == 0 || spec.space {
            text.push_str(if at > 0 { " " } else { "" });
            text.push_str(prefix);
        }
        let digits = if upper { format!("{byte:02X}") } else { format!("{byte:02x}") };
        text.push_str(&digits);
    }
    pad(out, spec, &text)
}

fn integer(out: &mut Out, spec: Spec, int: i64, verb: char) -> Result<(), Fail> {
    let base = match verb {
        'v' | 'd' => 10,
        'b' => 2,
        'o' | 'O' => 8,
        'x' | 'X' => 16,
        'c' => return pad(out, spec, &character(int).to_string()),
        'q' => return quoted_character(out, spec, character(int)),
        'U' => return code_point(out, spec, int),
        _ => return bad_verb(out, spec, &Arg::Int(int), verb),
    };
    based(out, spec, int, (verb, base))
}

fn based(out: &mut Out, mut spec: Spec, int: i64, (verb, base): (char, u32)) -> Result<(), Fail> {
    let signed = int < 0 || spec.plus || spec.space;
    let digits = match spec.precision {
        Some(0) if int == 0 => {
            spec.zero = false;
            return out.fill(' ', spec.width.unwrap_or(0));
        }
        Some(precision) => precision,
        None if spec.zero && !spec.minus => {
            spec.width.map_or(0, |width| width.saturating_sub(usize::from(signed)))
        }
        None => 0,
    };
    let magnitude = BigInt::from(int.unsigned_abs()).to_str_radix(base);
    let magnitude = if verb == 'X' { magnitude.to_ascii_uppercase() } else { magnitude };
    let mut number = Out(String::new());
    number.push(if int < 0 { "-" } else { sign(spec) })?;
    number.push(if verb == 'O' { "0o" } else { "" })?;
    let zeros = digits.saturating_sub(magnitude.len());
    number.push(match base {
        2 if spec.sharp => "0b",
        8 if spec.sharp && zeros == 0 && magnitude != "0" => "0",
        16 if spec.sharp && verb == 'X' => "0X",
        16 if spec.sharp => "0x",
        _ => "",
    })?;
    number.fill('0', zeros)?;
    number.push(&magnitude)?;
    spec.zero = false;
    pad(out, spec, &number.0)
}

fn sign(spec: Spec) -> &'static str {
    match spec {
        Spec { plus: true, .. } => "+",
        Spec { space: true, .. } => " ",
        _ => "",
    }
}

fn character(int: i64) -> char {
    u32::try_from(int).ok().and_then(char::from_u32).unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn quoted_character(out: &mut Out, spec: Spec, c: char) -> Result<(), Fail> {
    let mut text = String::from("'");
    let printable = if spec.plus { Printable::Ascii } else { Printable::Unicode };
    quote_char(&mut text, c, '\'', printable);
    text.push('\'');
    pad(out, spec, &text)
}

fn code_point(out: &mut Out, mut spec: Spec, int: i64) -> Result<(), Fail> {
    let digits = spec.precision.filter(|precision| *precision > 4).unwrap_or(4);
    let hexadecimal = format!("{int:X}");
    let mut text = Out(String::from("U+"));
    text.fill('0', digits.saturating_sub(hexadecimal.len()))?;
    text.push(&hexadecimal)?;
    let shown = u32::try_from(int).ok().and_then(char::from_u32).filter(|c| is_printable(*c));
    if let (true, Some(c)) = (spec.sharp, shown) {
        text.push(&format!(" '{c}'"))?;
    }
    spec.zero = false;
    pad(out, spec, &text.0)
}

/// `*big.Int` formats itself, by slightly other rules than small integers.
fn big_integer(out: &mut Out, spec: Spec, big: &BigInt, verb: char) -> Result<(), Fail> {
    let base = match verb {
        'b' => 2,
        'o' | 'O' => 8,
        'd' | 's' | 'v' => 10,
        'x' | 'X' => 16,
        _ => return out.push(&format!("%!{verb}(big.Int={big})")),
    };
    let spec = Spec { sharp: spec.sharp || spec.sharp_v, plus: spec.plus || spec.plus_v, ..spec };
    let sign = if big.sign() == Sign::Minus { "-" } else { sign(spec) };
    let prefix = match (verb, spec.sharp) {
        ('O', _) => "0o",
        ('b', true) => "0b",
        ('o', true) => "0",
        ('x', true) => "0x",
        ('X', true) => "0X",
        _ => "",
    };
    let digits = BigInt::from(big.magnitude().clone()).to_str_radix(base);
    let digits = if verb == 'X' { digits.to_ascii_uppercase() } else { digits };
    let mut zeros = spec.precision.unwrap_or(0).saturating_sub(digits.len());
    let length = sign.len() + prefix.len() + zeros + digits.len();
    let missing = spec.width.unwrap_or(0).saturating_sub(length);
    let (mut left, mut right) = (0, 0);
    match spec {
        Spec { minus: true, .. } => right = missing,
        Spec { zero: true, precision: None, .. } => zeros = missing,
        _ => left = missing,
    }
    out.fill(' ', left)?;
    out.push(sign)?;
    out.push(prefix)?;
    out.fill('0', zeros)?;
    out.push(&digits)?;
    out.fill(' ', right)
}
