//! Moments in RFC 3339, read and printed exactly as Go's `time.Time` does it in JSON.
//!
//! It knows the proleptic Gregorian calendar, years 0 to 9999, and no time zone database: the zone of
//! a moment is the offset that it was written with.

const SECONDS_A_DAY: i64 = 86_400;
/// Days from 0000-03-01 to 1970-01-01.
const DAYS_TO_EPOCH: i64 = 719_468;
const DAYS_IN_400_YEARS: i64 = 146_097;

/// A moment, with the offset of the zone it was written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    unix: i64,
    /// Seconds east of Greenwich.
    offset: i32,
}

impl Moment {
    /// The moment of a git timestamp: seconds since 1970, and the zone's offset in seconds.
    pub(super) const fn new(unix: i64, offset: i32) -> Self {
        Self { unix, offset }
    }

    /// Reads `2006-01-02T15:04:05[.999]Z` or the same with `±15:04`; fractions are dropped. `None`
    /// where the text is not that, or names no moment.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let text = text.as_bytes();
        let (date, rest) = text.split_at_checked(19)?;
        let year = number(date.get(0..4)?)?;
        let month = number(date.get(5..7)?)?;
        let day = number(date.get(8..10)?)?;
        let (hour, minute) = clock(date.get(11..16)?)?;
        let second = number(date.get(17..19)?)?;
        let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (16, b':')];
        if separators.iter().any(|(at, byte)| date.get(*at) != Some(byte))
            || second > 59
            || !(1..=12).contains(&month)
            || !(1..=days_of_month(year, month)).contains(&day)
        {
            return None;
        }
        let offset = match skip_fraction(rest)? {
            b"Z" => 0,
            [b'+', zone @ ..] => zone_seconds(zone)?,
            [b'-', zone @ ..] => -zone_seconds(zone)?,
            _ => return None,
        };
        let local =
            days_from_civil(year, month, day) * SECONDS_A_DAY + hour * 3_600 + minute * 60 + second;
        Some(Self { unix: local - i64::from(offset), offset })
    }

    /// The same moment in UTC.
    pub(super) const fn utc(self) -> Self {
        Self { offset: 0, ..self }
    }

    /// RFC 3339 in whole seconds. `None` where it has no such form: a year outside 0 to 9999, or an
    /// offset of a day or more.
    pub(super) fn rfc3339(self) -> Option<String> {
        let local = self.unix.checked_add(i64::from(self.offset))?;
        let (year, month, day) = civil_from_days(local.div_euclid(SECONDS_A_DAY));
        if !(0..=9_999).contains(&year) || i64::from(self.offset.abs()) >= SECONDS_A_DAY {
            return None;
        }
        let second = local.rem_euclid(SECONDS_A_DAY);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        let date = format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}");
        if self.offset == 0 {
            return Some(date + "Z");
        }
        let sign = if self.offset < 0 { '-' } else { '+' };
        let zone = self.offset.abs() / 60;
        Some(format!("{date}{sign}{:02}:{:02}", zone / 60, zone % 60))
    }
}

/// Digits alone: no sign, no blank.
fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |value, digit| {
        digit.is_ascii_digit().then(|| value * 10 + i64::from(digit - b'0'))
    })
}

/// `15:04`
fn clock(text: &[u8]) -> Option<(i64, i64)> {
    let [h1, h2, b':', m1, m2] = text else {
        return None;
    };
    let (hour, minute) = (number(&[*h1, *h2])?, number(&[*m1, *m2])?);
    (hour < 24 && minute < 60).then_some((hour, minute))
}

fn zone_seconds(zone: &[u8]) -> Option<i32> {
    let (hour, minute) = clock(zone)?;
    i32::try_from(hour * 3_600 + minute * 60).ok()
}

fn skip_fraction(text: &[u8]) -> Option<&[u8]> {
    let Some((b'.', fraction)) = text.split_first() else {
        return Some(text);
    };
    let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    fraction.get(digits..)
}

fn days_of_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days since 1970-01-01, counted in years that begin in March, so that leap days come last.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * DAYS_IN_400_YEARS + of_era * 365 + of_era / 4 - of_era / 100 + of_year - DAYS_TO_EPOCH
}

/// Year, month and day; the inverse of [`days_from_civil`].
fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + DAYS_TO_EPOCH;
    let era = days.div_euclid(DAYS_IN_400_YEARS);
    let day = days.rem_euclid(DAYS_IN_400_YEARS);
    let of_era = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * of_era + of_era / 4 - of_era / 100);
    let shifted = (5 * of_year + 2) / 153;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + of_era + i64::from(month <= 2);
    (year, month, of_year - (153 * shifted + 2) / 5 + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_and_prints_as_go_does() {
        for (text, printed) in [
            ("2024-05-06T07:08:09Z", Some("2024-05-06T07:08:09Z")),
            ("2024-05-06T07:08:09.123456789Z", Some("2024-05-06T07:08:09Z")),
            ("2024-05-06T07:08:09+02:00", Some("2024-05-06T07:08:09+02:00")),
            ("2024-05-06T07:08:09-00:00", Some("2024-05-06T07:08:09Z")),
            ("0000-01-01T00:00:00Z", Some("0000-01-01T00:00:00Z")),
            ("9999-12-31T23:59:59Z", Some("9999-12-31T23:59:59Z")),
            ("2024-02-29T00:00:00Z", Some("2024-02-29T00:00:00Z")),
            ("2023-02-29T00:00:00Z", None),
            ("2100-02-29T00:00:00Z", None),
            ("2024-13-01T00:00:00Z", None),
            ("2024-00-01T00:00:00Z", None),
            ("2024-01-00T00:00:00Z", None),
            ("2024-01-01T24:00:00Z", None),
            ("2024-01-01T23:59:60Z", None),
            ("2024-01-01T00:00:00", None),
            ("2024-01-01T00:00:00.Z", None),
            ("2024-01-01T00:00:00,5Z", None),
            ("2024-01-01t00:00:00Z", None),
            ("2024-01-01 00:00:00Z", None),
            ("2024-01-01T00:00:00z", None),
            ("2024-01-01T00:00:00+24:00", None),
            ("2024-01-01T00:00:00+0200", None),
            ("+024-01-01T00:00:00Z", None),
            ("", None),
            ("2024-01-01T00:00:0é", None),
        ] {
            let got = Moment::parse(text).and_then(Moment::rfc3339);
            assert_eq!(got.as_deref(), printed, "{text}");
        }
    }

    #[test]
    fn utc_moves_the_clock() {
        let moment = Moment::parse("2024-01-01T01:30:00+02:00").unwrap();
        assert_eq!(moment.utc().rfc3339().unwrap(), "2023-12-31T23:30:00Z");
    }

    #[test]
    fn a_moment_without_that_form_has_none() {
        for (unix, offset) in [(i64::MAX, 60), (i64::MIN, -60), (253_402_300_800, 0), (0, 86_400)] {
            assert_eq!(Moment::new(unix, offset).rfc3339(), None, "{unix} {offset}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "\\PC*") {
            let _ = Moment::parse(&text);
        }

        #[test]
        fn printed_moments_read_back(unix in -62_167_132_800_i64..253_402_200_000, minutes in -1_000_i32..1_000) {
            let moment = Moment::new(unix, minutes * 60);
            let text = moment.rfc3339().unwrap();
            prop_assert_eq!(Moment::parse(&text), Some(moment));
            let jiff: jiff::Timestamp = text.parse().unwrap();
            prop_assert_eq!(jiff.as_second(), unix);
        }
    }
}
