//! Go's time layouts: the reference time `Mon Jan 2 15:04:05 MST 2006` in pieces, and writing.

use super::time::{Moment, days_of};

pub(super) const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

pub(super) const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// A layout that OPA knows by name, or the text itself.
pub(super) fn named(layout: &str) -> &str {
    match layout {
        "ANSIC" => "Mon Jan _2 15:04:05 2006",
        "UnixDate" => "Mon Jan _2 15:04:05 MST 2006",
        "RubyDate" => "Mon Jan 02 15:04:05 -0700 2006",
        "RFC822" => "02 Jan 06 15:04 MST",
        "RFC822Z" => "02 Jan 06 15:04 -0700",
        "RFC850" => "Monday, 02-Jan-06 15:04:05 MST",
        "RFC1123" => "Mon, 02 Jan 2006 15:04:05 MST",
        "RFC1123Z" => "Mon, 02 Jan 2006 15:04:05 -0700",
        "RFC3339" => "2006-01-02T15:04:05Z07:00",
        "RFC3339Nano" => "2006-01-02T15:04:05.999999999Z07:00",
        _ => layout,
    }
}

/// One piece of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    LongMonth,
    Month,
    NumMonth,
    ZeroMonth,
    LongWeekday,
    Weekday,
    Day,
    UnderDay,
    ZeroDay,
    UnderYearDay,
    ZeroYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    LongYear,
    Year,
    UpperPm,
    LowerPm,
    ZoneName,
    /// A numeric offset: `Z` for UTC, colons, how many of hours, minutes and seconds.
    Offset {
        z: bool,
        colons: bool,
        parts: u8,
    },
    /// A fraction of so many digits; `trim` drops trailing zeros.
    Fraction {
        digits: usize,
        trim: bool,
        separator: char,
    },
}

const PIECES: &[(&str, Piece)] = &[
    ("January", Piece::LongMonth),
    ("Jan", Piece::Month),
    ("Monday", Piece::LongWeekday),
    ("Mon", Piece::Weekday),
    ("MST", Piece::ZoneName),
    ("002", Piece::ZeroYearDay),
    ("01", Piece::ZeroMonth),
    ("02", Piece::ZeroDay),
    ("03", Piece::ZeroHour12),
    ("04", Piece::ZeroMinute),
    ("05", Piece::ZeroSecond),
    ("06", Piece::Year),
    ("15", Piece::Hour),
    ("1", Piece::NumMonth),
    ("2006", Piece::LongYear),
    ("2", Piece::Day),
    ("__2", Piece::UnderYearDay),
    ("_2", Piece::UnderDay),
    ("3", Piece::Hour12),
    ("4", Piece::Minute),
    ("5", Piece::Second),
    ("PM", Piece::UpperPm),
    ("pm", Piece::LowerPm),
    ("-07:00:00", Piece::Offset { z: false, colons: true, parts: 3 }),
    ("-070000", Piece::Offset { z: false, colons: false, parts: 3 }),
    ("-07:00", Piece::Offset { z: false, colons: true, parts: 2 }),
    ("-0700", Piece::Offset { z: false, colons: false, parts: 2 }),
    ("-07", Piece::Offset { z: false, colons: false, parts: 1 }),
    ("Z07:00:00", Piece::Offset { z: true, colons: true, parts: 3 }),
    ("Z070000", Piece::Offset { z: true, colons: false, parts: 3 }),
    ("Z07:00", Piece::Offset { z: true, colons: true, parts: 2 }),
    ("Z0700", Piece::Offset { z: true, colons: false, parts: 2 }),
    ("Z07", Piece::Offset { z: true, colons: false, parts: 1 }),
];

/// The text before the next piece, the piece, and what is behind it.
pub(super) fn next(layout: &str) -> (&str, Option<Piece>, &str) {
    for (at, _) in layout.char_indices() {
        let (before, rest) = layout.split_at(at);
        // `_2006` is an underscore and the year.
        if rest.starts_with("_2006") {
            return (
                layout.get(..at + 1).unwrap_or_default(),
                Some(Piece::LongYear),
                rest.get(5..).unwrap_or_default(),
            );
        }
        if let Some((piece, length)) = fraction(rest) {
            return (before, Some(piece), rest.get(length..).unwrap_or_default());
        }
        for (text, piece) in PIECES {
            let Some(behind) = rest.strip_prefix(text) else {
                continue;
            };
            // `Jan` and `Mon` end where no small letter follows them.
            let short = matches!(piece, Piece::Month | Piece::Weekday);
            if short && behind.starts_with(|c: char| c.is_ascii_lowercase()) {
                continue;
            }
            return (before, Some(*piece), behind);
        }
    }
    (layout, None, "")
}

fn fraction(text: &str) -> Option<(Piece, usize)> {
    let separator = text.chars().next().filter(|c| matches!(c, '.' | ','))?;
    let behind = text.get(1..)?;
    let digit = behind.chars().next().filter(|c| matches!(c, '0' | '9'))?;
    let digits = behind.chars().take_while(|c| *c == digit).count();
    if behind.get(digits..)?.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    Some((Piece::Fraction { digits, trim: digit == '9', separator }, digits + 1))
}

/// The moment as the layout shows it.
pub(super) fn format(moment: &Moment, mut layout: &str) -> String {
    let mut out = String::new();
    while !layout.is_empty() {
        let (before, piece, rest) = next(layout);
        out.push_str(before);
        if let Some(piece) = piece {
            out.push_str(&written(moment, piece));
        }
        layout = rest;
    }
    out
}

fn written(moment: &Moment, piece: Piece) -> String {
    let (year, month, day) = moment.date();
    let (hour, minute, second) = moment.clock();
    let hour12 = if hour % 12 == 0 { 12 } else { hour % 12 };
    let year_day = moment.days() - days_of(year, 1, 1) + 1;
    let month_name = MONTHS.get((month - 1) as usize).copied().unwrap_or_default();
    let weekday = WEEKDAYS.get(moment.weekday() as usize).copied().unwrap_or_default();
    match piece {
        Piece::LongMonth => month_name.to_owned(),
        Piece::Month => month_name.chars().take(3).collect(),
        Piece::NumMonth => month.to_string(),
        Piece::ZeroMonth => format!("{month:02}"),
        Piece::LongWeekday => weekday.to_owned(),
        Piece::Weekday => weekday.chars().take(3).collect(),
        Piece::Day => day.to_string(),
        Piece::UnderDay => format!("{day:2}"),
        Piece::ZeroDay => format!("{day:02}"),
        Piece::UnderYearDay => format!("{year_day:3}"),
        Piece::ZeroYearDay => format!("{year_day:03}"),
        Piece::Hour => format!("{hour:02}"),
        Piece::Hour12 => hour12.to_string(),
        Piece::ZeroHour12 => format!("{hour12:02}"),
        Piece::Minute => minute.to_string(),
        Piece::ZeroMinute => format!("{minute:02}"),
        Piece::Second => second.to_string(),
        Piece::ZeroSecond => format!("{second:02}"),
        Piece::LongYear => format!("{year:04}"),
        Piece::Year => format!("{:02}", year.rem_euclid(100)),
        Piece::UpperPm => if hour >= 12 { "PM" } else { "AM" }.to_owned(),
        Piece::LowerPm => if hour >= 12 { "pm" } else { "am" }.to_owned(),
        Piece::ZoneName => zone_name(moment),
        Piece::Offset { z: true, .. } if moment.offset == 0 => "Z".to_owned(),
        Piece::Offset { colons, parts, .. } => offset(moment.offset, colons, parts),
        Piece::Fraction { digits, trim, separator } => {
            fraction_text(moment.nanosecond(), digits, trim, separator)
        }
    }
}

/// A zone without letters for a name is shown by its offset.
fn zone_name(moment: &Moment) -> String {
    if moment.zone.is_empty() { offset(moment.offset, false, 2) } else { moment.zone.clone() }
}

fn offset(seconds: i64, colons: bool, parts: u8) -> String {
    let sign = if seconds < 0 { '-' } else { '+' };
    let all = seconds.abs();
    let colon = if colons { ":" } else { "" };
    let mut out = format!("{sign}{:02}", all / 3600);
    if parts > 1 {
        out.push_str(&format!("{colon}{:02}", all / 60 % 60));
    }
    if parts > 2 {
        out.push_str(&format!("{colon}{:02}", all % 60));
    }
    out
}

fn fraction_text(nanosecond: i64, digits: usize, trim: bool, separator: char) -> String {
    let all = format!("{nanosecond:09}");
    let mut text: String = all.chars().chain(std::iter::repeat('0')).take(digits.min(9)).collect();
    if trim {
        text.truncate(text.trim_end_matches('0').len());
        if text.is_empty() {
            return text;
        }
    }
    format!("{separator}{text}")
}
