//! Numbers as OPA computes with them: integers exactly, everything else in binary floating point
//! with a mantissa of 64 bits, read from and written to the shortest decimal text.

use num_bigint::{BigInt, Sign};
use regorus::Value;

use super::BuiltinError;
use super::value::{Fail, is_float, limit};

/// The most bits an integer may have.
const MAX_BITS: u64 = 1 << 18;
/// The precision of Go's `big.Float` when it is made from a text.
const PRECISION: u64 = 64;

/// A number argument.
#[derive(Clone, Debug)]
pub(super) enum Num {
    Int(BigInt),
    Float(f64),
}

impl Num {
    pub(super) fn of(value: &Value) -> Result<Num, Fail> {
        let number = value.as_number().map_err(|_| Fail::Undefined)?;
        if is_float(value) {
            return number.as_f64().map(Num::Float).ok_or(Fail::Undefined);
        }
        number.to_big().map(|big| Num::Int((*big).clone())).map_err(|_| Fail::Undefined)
    }

    /// The integer it is, `1.0` included.
    pub(super) fn to_int(&self) -> Option<BigInt> {
        match self {
            Num::Int(int) => Some(int.clone()),
            Num::Float(float) if float.fract() == 0.0 => Some(Big::of_f64(*float).trunc()),
            Num::Float(_) => None,
        }
    }

    pub(super) fn to_big(&self) -> Big {
        match self {
            Num::Int(int) => Big { mantissa: int.clone(), exponent: 0 }.round(),
            Num::Float(float) => Big::of_f64(*float),
        }
    }
}

/// The integer as a value; `function` is named when it is too large.
pub(super) fn int_value(function: &'static str, int: &BigInt) -> Result<Value, Fail> {
    if let Ok(small) = i64::try_from(int) {
        return Ok(Value::from(small));
    }
    if int.bits() > MAX_BITS {
        return Err(limit(function, MAX_BITS as usize, "bits"));
    }
    Value::from_numeric_string(&int.to_string()).map_err(|_| Fail::Undefined)
}

/// A binary floating point number, `mantissa × 2^exponent`, of at most 64 bits when rounded.
#[derive(Clone, Debug)]
pub(super) struct Big {
    pub(super) mantissa: BigInt,
    pub(super) exponent: i64,
}

impl Big {
    /// OPA reads the decimal text. The shortest text is it, unless it has all the digits that a
    /// float can have: then it stands for a longer one that OPA had computed, and the binary
    /// value is nearer to it.
    pub(super) fn of_f64(float: f64) -> Big {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let fraction = digits.split_once('.').map_or(0, |(_, fraction)| fraction.len());
        let significant = digits.chars().filter(char::is_ascii_digit).count();
        let plain: String = digits.chars().filter(|c| *c != '.').collect();
        match (plain.parse::<BigInt>(), exponent.parse::<i64>()) {
            (Ok(mantissa), Ok(exponent)) if significant < 16 => {
                Big::decimal(mantissa, exponent - fraction as i64)
            }
            _ => Big::binary(float),
        }
    }

    fn binary(float: f64) -> Big {
        let bits = float.to_bits();
        let field = ((bits >> 52) & 0x7ff) as i64;
        let fraction = (bits & ((1 << 52) - 1)) as i64;
        let (mantissa, exponent) = match field {
            0 => (fraction, -1074),
            _ => (fraction | (1 << 52), field - 1075),
        };
        let mantissa = BigInt::from(if float.is_sign_negative() { -mantissa } else { mantissa });
        Big { mantissa, exponent }
    }

    /// `mantissa × 10^exponent`, rounded.
    pub(super) fn decimal(mantissa: BigInt, exponent: i64) -> Big {
        let power = BigInt::from(10).pow(u32::try_from(exponent.unsigned_abs()).unwrap_or(0));
        if exponent >= 0 {
            Big { mantissa: mantissa * power, exponent: 0 }.round()
        } else {
            Big::ratio(mantissa, &power)
        }
    }

    /// `numerator / denominator`, rounded to nearest, ties to even.
    fn ratio(numerator: BigInt, denominator: &BigInt) -> Big {
        let shift = PRECISION as i64 + 2 + denominator.bits() as i64 - numerator.bits() as i64;
        let shift = shift.max(0);
        let scaled = numerator << shift;
        let quotient = &scaled / denominator;
        let exact = (&quotient * denominator) == scaled;
        // One sticky bit below keeps the rounding right where the division left a rest.
        let sticky = match (exact, scaled.sign()) {
            (true, _) => BigInt::from(0),
            (false, Sign::Minus) => BigInt::from(-1),
            (false, _) => BigInt::from(1),
        };
        Big { mantissa: (quotient << 1) + sticky, exponent: -shift - 1 }.round()
    }

    /// Rounds to 64 bits, to nearest, ties to even.
    pub(super) fn round(self) -> Big {
        let excess = self.mantissa.bits() as i64 - PRECISION as i64;
        if excess <= 0 {
            return self;
        }
        let negative = self.mantissa.sign() == Sign::Minus;
        let magnitude = BigInt::from(self.mantissa.magnitude().clone());
        let mut kept: BigInt = &magnitude >> excess;
        let rest = &magnitude - (&kept << excess);
        let half: BigInt = BigInt::from(1) << (excess - 1);
        if rest > half || (rest == half && kept.bit(0)) {
            kept += 1;
        }
        let mantissa = if negative { -kept } else { kept };
        Big { mantissa, exponent: self.exponent + excess }
    }

    pub(super) fn is_zero(&self) -> bool {
        self.mantissa.sign() == Sign::NoSign
    }

    pub(super) fn is_negative(&self) -> bool {
        self.mantissa.sign() == Sign::Minus
    }

    pub(super) fn add(&self, other: &Big) -> Big {
        let exponent = self.exponent.min(other.exponent);
        let align = |big: &Big| big.mantissa.clone() << (big.exponent - exponent);
        Big { mantissa: align(self) + align(other), exponent }.round()
    }

    pub(super) fn neg(&self) -> Big {
        Big { mantissa: -self.mantissa.clone(), exponent: self.exponent }
    }

    pub(super) fn mul(&self, other: &Big) -> Big {
        let mantissa = &self.mantissa * &other.mantissa;
        Big { mantissa, exponent: self.exponent + other.exponent }.round()
    }

    /// The quotient; `None` for a division by zero.
    pub(super) fn div(&self, other: &Big) -> Option<Big> {
        if other.is_zero() {
            return None;
        }
        let negative = other.is_negative();
        let numerator = if negative { -self.mantissa.clone() } else { self.mantissa.clone() };
        let denominator = BigInt::from(other.mantissa.magnitude().clone());
        let mut quotient = Big::ratio(numerator, &denominator);
        quotient.exponent += self.exponent - other.exponent;
        Some(quotient)
    }

    /// The integer part, towards zero.
    pub(super) fn trunc(&self) -> BigInt {
        if self.exponent >= 0 {
            return self.mantissa.clone() << self.exponent;
        }
        let magnitude = BigInt::from(self.mantissa.magnitude().clone()) >> -self.exponent;
        if self.is_negative() { -magnitude } else { magnitude }
    }

    pub(super) fn is_int(&self) -> bool {
        self.exponent >= 0 || (self.trunc() << -self.exponent) == self.mantissa
    }

    /// The value OPA gives for it: the shortest decimal that stands for it at 64 bits.
    pub(super) fn to_value(&self, function: &'static str) -> Result<Value, Fail> {
        if self.is_zero() {
            return Ok(Value::from(0));
        }
        if self.is_int() && self.trunc().bits() < PRECISION {
            return int_value(function, &self.trunc());
        }
        let (digits, point) = self.shortest();
        let sign = if self.is_negative() { "-" } else { "" };
        let text = format!("{sign}0.{digits}e{point}");
        if self.is_int() {
            let zeros = usize::try_from(point).unwrap_or(0).saturating_sub(digits.len());
            let text = format!("{sign}{digits}{}", "0".repeat(zeros));
            return Value::from_numeric_string(&text).map_err(|_| Fail::Undefined);
        }
        match text.parse::<f64>() {
            Ok(float) if float.is_finite() && float != 0.0 => Ok(Value::from(float)),
            _ => Err(BuiltinError::Inexact { function }.into()),
        }
    }

    /// The shortest digits, and where the point stands (`0.DIGITS × 10^point`), that lie within
    /// half a unit of the last place of a 64-bit mantissa.
    fn shortest(&self) -> (String, i64) {
        let magnitude = BigInt::from(self.mantissa.magnitude().clone());
        let precision = PRECISION.max(magnitude.bits());
        let up = (precision - magnitude.bits()) as i64;
        let (mantissa, exponent) = (magnitude << up, self.exponent - up);
        let inclusive = !mantissa.bit(0);
        let doubled: BigInt = mantissa << 1u8;
        let decimal = |mantissa: BigInt| decimal_digits(mantissa, exponent - 1);
        let (lower, middle, upper) =
            (decimal(&doubled - 1), decimal(doubled.clone()), decimal(doubled + 1));
        let digit = |of: &(Vec<u8>, i64), at: usize| of.0.get(at).copied().unwrap_or(b'0');
        for (at, m) in middle.0.iter().copied().enumerate() {
            let (l, u) = (digit(&lower, at), digit(&upper, at));
            let down_ok = l != m || (inclusive && at + 1 == lower.0.len());
            let up_ok = m != u && (inclusive || m + 1 < u || at + 1 < upper.0.len());
            if down_ok || up_ok {
                let kept = middle.0.get(..=at).unwrap_or_default().to_vec();
                let rest = middle.0.get(at + 1..).unwrap_or_default();
                let up = if down_ok && up_ok { rounds_up(&kept, rest) } else { up_ok };
                return finish(kept, middle.1, up);
            }
        }
        finish(middle.0, middle.1, false)
    }
}

fn rounds_up(kept: &[u8], rest: &[u8]) -> bool {
    match rest.first() {
        Some(b'5') if rest.len() == 1 => kept.last().is_some_and(|last| (last - b'0') % 2 == 1),
        Some(first) => *first >= b'5',
        None => false,
    }
}

fn finish(mut digits: Vec<u8>, mut point: i64, up: bool) -> (String, i64) {
    if up {
        while digits.last() == Some(&b'9') {
            digits.pop();
        }
        match digits.last_mut() {
            Some(last) => *last += 1,
            None => {
                digits.push(b'1');
                point += 1;
            }
        }
    }
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
    }
    (digits.into_iter().map(char::from).collect(), point)
}

/// All decimal digits of `mantissa × 2^exponent`, without trailing zeros, and the point's place.
fn decimal_digits(mantissa: BigInt, exponent: i64) -> (Vec<u8>, i64) {
    let (int, places) = if exponent >= 0 {
        (mantissa << exponent, 0)
    } else {
        let places = u32::try_from(-exponent).unwrap_or(u32::MAX);
        (mantissa * BigInt::from(5).pow(places), i64::from(places))
    };
    let mut digits = int.to_string().into_bytes();
    let point = digits.len() as i64 - places;
    while digits.len() > 1 && digits.last() == Some(&b'0') {
        digits.pop();
    }
    (digits, point)
}
