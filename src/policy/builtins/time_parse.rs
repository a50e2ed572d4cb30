//! Reading times by Go's layouts, and durations.

use super::time::days_of;
use super::time_layout::{MONTHS, Piece, WEEKDAYS, next};

const SECOND: i128 = 1_000_000_000;

/// What has been read of a time so far.
#[derive(Default)]
struct Fields {
    year: i64,
    month: Option<i64>,
    day: Option<i64>,
    year_day: Option<i64>,
    hour: i64,
    minute: i64,
    second: i64,
    nanosecond: i64,
    afternoon: Option<bool>,
    utc: bool,
    offset: Option<i64>,
}

/// The instant, in nanoseconds since 1970.
pub(super) fn parse(mut layout: &str, text: &str) -> Option<i128> {
    let mut fields = Fields::default();
    let mut rest = text;
    loop {
        let (before, piece, behind) = next(layout);
        rest = skip(rest, before)?;
        let Some(piece) = piece else {
            return if rest.is_empty() { fields.instant() } else { None };
        };
        layout = behind;
        rest = fields.read(piece, rest, layout)?;
    }
}

/// The text behind a literal. Spaces stand for as many spaces as there are.
fn skip<'a>(mut text: &'a str, literal: &str) -> Option<&'a str> {
    let mut chars = literal.chars().peekable();
    while let Some(c) = chars.next() {
        if c == ' ' {
            if !text.is_empty() && !text.starts_with(' ') {
                return None;
            }
            while chars.next_if_eq(&' ').is_some() {}
            text = text.trim_start_matches(' ');
        } else {
            text = text.strip_prefix(c)?;
        }
    }
    Some(text)
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// One or two digits; `fixed` wants two.
fn number(text: &str, fixed: bool) -> Option<(i64, &str)> {
    let length = digits(text).min(2);
    if length == 0 || (fixed && length < 2) {
        return None;
    }
    exact(text, length)
}

fn exact(text: &str, length: usize) -> Option<(i64, &str)> {
    let (number, rest) = text.split_at_checked(length)?;
    if digits(number) < length {
        return None;
    }
    Some((number.parse().ok()?, rest))
}

fn within((value, rest): (i64, &str), low: i64, high: i64) -> Option<(i64, &str)> {
    (low..=high).contains(&value).then_some((value, rest))
}

/// A name at the start, in any case, all of it or its first letters.
fn name<'a>(names: &[&str], text: &'a str, letters: usize) -> Option<(i64, &'a str)> {
    names.iter().zip(0..).find_map(|(name, at)| {
        let name = name.get(..letters.min(name.len()))?;
        let (start, rest) = text.split_at_checked(name.len())?;
        start.eq_ignore_ascii_case(name).then_some((at, rest))
    })
}

/// A point or comma and its digits, the first nine of which count.
fn nanoseconds(text: &str, length: usize) -> Option<(i64, &str)> {
    let behind = text.strip_prefix(['.', ','])?;
    let (all, rest) = behind.split_at_checked(length)?;
    if digits(all) < length {
        return None;
    }
    let nine: String = all.chars().chain("000000000".chars()).take(9).collect();
    Some((nine.parse().ok()?, rest))
}

impl Fields {
    /// Takes one piece from the text; `layout` is what follows it.
    fn read<'a>(&mut self, piece: Piece, text: &'a str, layout: &str) -> Option<&'a str> {
        let (value, rest) = match piece {
            Piece::LongYear => exact(text, 4)?,
            Piece::Year => exact(text, 2)?,
            Piece::Month => name(&MONTHS, text, 3)?,
            Piece::LongMonth => name(&MONTHS, text, usize::MAX)?,
            Piece::NumMonth => within(number(text, false)?, 1, 12)?,
            Piece::ZeroMonth => within(number(text, true)?, 1, 12)?,
            Piece::Weekday => name(&WEEKDAYS, text, 3)?,
            Piece::LongWeekday => name(&WEEKDAYS, text, usize::MAX)?,
            Piece::Day => number(text, false)?,
            Piece::UnderDay => number(text.strip_prefix(' ').unwrap_or(text), false)?,
            Piece::ZeroDay => number(text, true)?,
            Piece::UnderYearDay => {
                let once = text.strip_prefix(' ').unwrap_or(text);
                let text = once.strip_prefix(' ').unwrap_or(once);
                exact(text, digits(text).clamp(1, 3))?
            }
            Piece::ZeroYearDay => exact(text, 3)?,
            Piece::Hour => within(number(text, false)?, 0, 23)?,
            Piece::Hour12 => within(number(text, false)?, 0, 12)?,
            Piece::ZeroHour12 => within(number(text, true)?, 0, 12)?,
            Piece::Minute => within(number(text, false)?, 0, 59)?,
            Piece::ZeroMinute => within(number(text, true)?, 0, 59)?,
            Piece::Second => within(number(text, false)?, 0, 59)?,
            Piece::ZeroSecond => within(number(text, true)?, 0, 59)?,
            Piece::UpperPm => (i64::from(text.starts_with("PM")), half(text, ["AM", "PM"])?),
            Piece::LowerPm => (i64::from(text.starts_with("pm")), half(text, ["am", "pm"])?),
            Piece::Fraction { digits, trim: false, .. } => nanoseconds(text, digits)?,
            Piece::Fraction { .. } => self.any_fraction(text)?,
            Piece::ZoneName => return self.zone(text),
            Piece::Offset { z, colons, parts } => return self.offset(text, (z, colons, parts)),
        };
        self.keep(piece, value);
        let second = matches!(piece, Piece::Second | Piece::ZeroSecond);
        if second && !matches!(next(layout).1, Some(Piece::Fraction { .. })) {
            // A fraction that the layout does not ask for is read all the same.
            let (value, rest) = self.any_fraction(rest)?;
            self.nanosecond = value;
            return Some(rest);
        }
        Some(rest)
    }

    fn any_fraction<'a>(&self, text: &'a str) -> Option<(i64, &'a str)> {
        let length = text.strip_prefix(['.', ',']).map_or(0, digits);
        if length == 0 { Some((self.nanosecond, text)) } else { nanoseconds(text, length) }
    }

    fn keep(&mut self, piece: Piece, value: i64) {
        match piece {
            Piece::LongYear => self.year = value,
            // Unix time starts in 1969 in some places.
            Piece::Year => self.year = if value >= 69 { value + 1900 } else { value + 2000 },
            Piece::Month | Piece::LongMonth => self.month = Some(value + 1),
            Piece::NumMonth | Piece::ZeroMonth => self.month = Some(value),
            Piece::Day | Piece::UnderDay | Piece::ZeroDay => self.day = Some(value),
            Piece::UnderYearDay | Piece::ZeroYearDay => self.year_day = Some(value),
            Piece::Hour | Piece::Hour12 | Piece::ZeroHour12 => self.hour = value,
            Piece::Minute | Piece::ZeroMinute => self.minute = value,
            Piece::Second | Piece::ZeroSecond => self.second = value,
            Piece::UpperPm | Piece::LowerPm => self.afternoon = Some(value == 1),
            Piece::Fraction { .. } => self.nanosecond = value,
            Piece::Weekday | Piece::LongWeekday | Piece::ZoneName | Piece::Offset { .. } => {}
        }
    }

    fn offset<'a>(&mut self, text: &'a str, form: (bool, bool, u8)) -> Option<&'a str> {
        let (z, colons, parts) = form;
        if z && let Some(rest) = text.strip_prefix('Z') {
            self.utc = true;
            return Some(rest);
        }
        let sign = match text.chars().next()? {
            '+' => 1,
            '-' => -1,
            _ => return None,
        };
        let mut rest = text.get(1..)?;
        let mut seconds = 0;
        for (part, (unit, most)) in [(3600, 24), (60, 60), (1, 60)].into_iter().enumerate() {
            if part >= usize::from(parts) {
                break;
            }
            if colons && part > 0 {
                rest = rest.strip_prefix(':')?;
            }
            let (value, behind) = within(exact(rest, 2)?, 0, most)?;
            seconds += value * unit;
            rest = behind;
        }
        self.offset = Some(sign * seconds);
        Some(rest)
    }

    /// A zone's name, hours behind GMT included, is read and moves nothing.
    fn zone<'a>(&mut self, text: &'a str) -> Option<&'a str> {
        if let Some(rest) = text.strip_prefix("UTC") {
            self.utc = true;
            return Some(rest);
        }
        if text.len() < 3 {
            return None;
        }
        if let Some(rest) = text.strip_prefix("GMT") {
            return rest.get(signed_hours(rest).unwrap_or(0)..);
        }
        if text.starts_with(['+', '-']) {
            return text.get(signed_hours(text)?..);
        }
        if text.starts_with("ChST") || text.starts_with("MeST") {
            return text.get(4..);
        }
        let upper = text.bytes().take(6).take_while(u8::is_ascii_uppercase).count();
        let ends_in_t = upper > 0 && text.as_bytes().get(upper - 1) == Some(&b'T');
        let known = match upper {
            3 => true,
            4 => ends_in_t || text.starts_with("WITA"),
            5 => ends_in_t,
            _ => false,
        };
        if known { text.get(upper..) } else { None }
    }

    fn instant(self) -> Option<i128> {
        let hour = match self.afternoon {
            Some(true) if self.hour < 12 => self.hour + 12,
            Some(false) if self.hour == 12 => 0,
            _ => self.hour,
        };
        let first = days_of(self.year, 1, 1);
        let (month, day) = match self.year_day {
            None => (self.month.unwrap_or(1), self.day.unwrap_or(1)),
            Some(of_year) => {
                if !(1..=days_of(self.year + 1, 1, 1) - first).contains(&of_year) {
                    return None;
                }
                let (_, month, day) = super::time::civil(first + of_year - 1);
                let same = self.month.is_none_or(|seen| seen == month)
                    && self.day.is_none_or(|seen| seen == day);
                same.then_some((month, day))?
            }
        };
        let length = days_of(self.year, month + 1, 1) - days_of(self.year, month, 1);
        if !(1..=length).contains(&day) {
            return None;
        }
        let offset = if self.utc { 0 } else { self.offset.unwrap_or(0) };
        let days = days_of(self.year, month, day);
        let seconds = days * 86_400 + hour * 3600 + self.minute * 60 + self.second - offset;
        Some(i128::from(seconds) * SECOND + i128::from(self.nanosecond))
    }
}

fn half<'a>(text: &'a str, halves: [&str; 2]) -> Option<&'a str> {
    halves.iter().find_map(|half| text.strip_prefix(half))
}

/// How long `+3` is.
fn signed_hours(text: &str) -> Option<usize> {
    let behind = text.strip_prefix(['+', '-'])?;
    let length = digits(behind);
    let hours: i64 = behind.get(..length)?.parse().ok()?;
    (hours <= 23).then_some(length + 1)
}

/// Go's durations, `1h30m`, and OPA's days, weeks and years, in nanoseconds.
pub(super) fn duration(text: &str) -> Option<i64> {
    let negative = text.starts_with('-');
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut all = 0u64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let (amount, behind) = rest.split_at(end);
        let unit_end = behind.find(|c: char| c.is_ascii_digit() || c == '.');
        let (unit, behind) = behind.split_at(unit_end.unwrap_or(behind.len()));
        all = all.checked_add(part(amount, unit)?).filter(|all| *all <= 1 << 63)?;
        rest = behind;
    }
    match (negative, i64::try_from(all)) {
        (true, _) => Some((all as i64).wrapping_neg()),
        (false, Ok(all)) => Some(all),
        (false, Err(_)) => None,
    }
}

fn part(amount: &str, unit: &str) -> Option<u64> {
    let unit: u64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => return hours(amount, 24.0),
        "w" => return hours(amount, 168.0),
        "y" => return hours(amount, 8760.0),
        _ => return None,
    };
    let (int, fraction) = amount.split_once('.').unwrap_or((amount, ""));
    if (int.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if int.is_empty() { 0 } else { int.parse().ok()? };
    let whole = whole.checked_mul(unit).filter(|whole| *whole <= 1 << 63)?;
    // As many digits of the fraction as an integer holds.
    let (mut value, mut scale) = (0u64, 1.0f64);
    for digit in fraction.bytes() {
        let next = value.checked_mul(10).and_then(|v| v.checked_add(u64::from(digit - b'0')));
        match next.filter(|next| *next < 1 << 63) {
            Some(next) => (value, scale) = (next, scale * 10.0),
            None => break,
        }
    }
    whole.checked_add((value as f64 * (unit as f64 / scale)) as u64)
}

/// OPA writes days as hours first, and reads those.
fn hours(amount: &str, factor: f64) -> Option<u64> {
    let hours = amount.parse::<f64>().ok()? * factor;
    part(&hours.to_string(), "h")
}
