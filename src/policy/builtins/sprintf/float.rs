//! Floats under Go's verbs: `%e %f %g %x %b`, the `#` flag, and zero padding behind the sign.

use super::super::value::Fail;
use super::{Out, Spec, unprintable};

/// The float with its sign, `+` included; `None` where the verb does not fit floats.
pub(super) fn text(spec: Spec, value: f64, verb: char) -> Option<Result<String, Fail>> {
    let precision = |default: Option<usize>| spec.precision.or(default);
    let magnitude = value.abs();
    let text = match verb {
        'v' | 'g' => general(magnitude, precision(None), 'e'),
        'G' => general(magnitude, precision(None), 'E'),
        'f' | 'F' => fixed(magnitude, precision(Some(6)).unwrap_or(6)),
        'e' => scientific(magnitude, precision(Some(6)), 'e'),
        'E' => scientific(magnitude, precision(Some(6)), 'E'),
        'b' | 'x' | 'X' => return Some(Err(unprintable_float())),
        _ => return None,
    };
    let text = if spec.sharp { sharp(spec, text, verb) } else { text };
    Some(Ok(format!("{}{text}", if value.is_sign_negative() { '-' } else { '+' })))
}

fn unprintable_float() -> Fail {
    match unprintable() {
        Fail::Error(super::BuiltinError::Unsupported { function, .. }) => {
            let what = "%b and %x of a number with a fraction";
            super::BuiltinError::Unsupported { function, what }.into()
        }
        other => other,
    }
}

/// More decimal places than any float has digits; what follows is zeros.
const ALL_DIGITS: usize = 1100;

fn fixed(value: f64, precision: usize) -> String {
    let zeros = "0".repeat(precision.saturating_sub(ALL_DIGITS));
    format!("{value:.*}{zeros}", precision.min(ALL_DIGITS))
}

/// The digits and the exponent of the first one.
fn digits(value: f64, precision: Option<usize>) -> (String, i32) {
    let text = match precision {
        Some(precision) => format!("{value:.*e}", precision.min(ALL_DIGITS)),
        None => format!("{value:e}"),
    };
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let zeros = precision.map_or(0, |precision| precision.saturating_sub(ALL_DIGITS));
    (digits.replace('.', "") + &"0".repeat(zeros), exponent.parse().unwrap_or(0))
}

fn scientific(value: f64, precision: Option<usize>, e: char) -> String {
    let (digits, exponent) = digits(value, precision);
    written(&digits, exponent, e)
}

fn written(digits: &str, exponent: i32, e: char) -> String {
    let (first, rest) = digits.split_at(1.min(digits.len()));
    let point = if rest.is_empty() { "" } else { "." };
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{first}{point}{rest}{e}{sign}{:02}", exponent.unsigned_abs())
}

/// `%g`: the exponent decides between the two forms, and trailing zeros are left away.
fn general(value: f64, precision: Option<usize>, e: char) -> String {
    let wanted = precision.map(|precision| precision.max(1));
    let (all, exponent) = digits(value, wanted.map(|wanted| wanted - 1));
    let trimmed = all.trim_end_matches('0');
    let kept = if trimmed.is_empty() { "0" } else { trimmed };
    let point = exponent + 1;
    let threshold = match wanted {
        None => 6,
        Some(wanted) => {
            let count = kept.len() as i32;
            let wanted = wanted as i32;
            if wanted > count && count >= point { count } else { wanted }
        }
    };
    if exponent < -4 || exponent >= threshold {
        return written(kept, exponent, e);
    }
    positional(kept, point)
}

fn positional(digits: &str, point: i32) -> String {
    match usize::try_from(point) {
        Ok(point) if point > 0 => {
            let zeros = "0".repeat(point.saturating_sub(digits.len()));
            let (int, fraction) = digits.split_at(point.min(digits.len()));
            let dot = if fraction.is_empty() { "" } else { "." };
            format!("{int}{zeros}{dot}{fraction}")
        }
        _ if digits == "0" => "0".to_owned(),
        _ => format!("0.{}{digits}", "0".repeat(point.unsigned_abs() as usize)),
    }
}

/// The `#` flag: always a point, and for `%g` the trailing zeros as well.
fn sharp(spec: Spec, text: String, verb: char) -> String {
    let (mut number, tail) = match text.find(['e', 'E']) {
        Some(at) => (text.get(..at).unwrap_or_default().to_owned(), text.get(at..)),
        None => (text.clone(), None),
    };
    let mut missing = match verb {
        'v' | 'g' | 'G' => spec.precision.map_or(6, |precision| precision as i64),
        _ => 0,
    };
    let significant = number.chars().filter(char::is_ascii_digit).skip_while(|c| *c == '0');
    missing -= significant.count() as i64;
    if !number.contains('.') {
        if number == "0" {
            missing -= 1;
        }
        number.push('.');
    }
    number.push_str(&"0".repeat(usize::try_from(missing).unwrap_or(0)));
    number + tail.unwrap_or_default()
}

/// Zeros go between the sign and the digits.
pub(super) fn pad(out: &mut Out, spec: Spec, signed: &str) -> Result<(), Fail> {
    let (sign, digits) = signed.split_at(1);
    let sign = match sign {
        "+" if spec.plus => "+",
        "+" if spec.space => " ",
        "+" => "",
        other => other,
    };
    let width = spec.width.unwrap_or(0);
    if spec.zero && !spec.minus && width > digits.len() + sign.len() {
        out.push(sign)?;
        out.fill('0', width - digits.len() - sign.len())?;
        return out.push(digits);
    }
    super::verbs::pad(out, spec, &format!("{sign}{digits}"))
}
