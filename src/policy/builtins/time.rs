//! `time.*`: instants in nanoseconds since 1970, and what a clock in a place shows of them.

use chrono::{DateTime, Offset, TimeZone};
use chrono_tz::{OffsetName, Tz};
use num_bigint::BigInt;
use regorus::Value;

use super::BuiltinError;
use super::number::Num;
use super::time_layout::{self, named};
use super::time_parse::{self, duration};
use super::value::{Fail, Outcome, arg, int, string};

const SECOND: i128 = 1_000_000_000;
const DAY: i64 = 86_400;

/// What a calendar and a clock show at some instant.
#[derive(Clone, Debug)]
pub(super) struct Moment {
    /// Nanoseconds since 1970, UTC.
    pub(super) instant: i128,
    /// Seconds east of UTC.
    pub(super) offset: i64,
    /// The zone's name at that instant.
    pub(super) zone: String,
}

impl Moment {
    fn at(instant: i128, zone: Tz) -> Result<Moment, Fail> {
        known(instant.div_euclid(SECOND) as i64, zone)?;
        let utc =
            DateTime::from_timestamp(instant.div_euclid(SECOND) as i64, 0).unwrap_or_default();
        let local = zone.offset_from_utc_datetime(&utc.naive_utc());
        Ok(Moment {
            instant,
            offset: i64::from(local.fix().local_minus_utc()),
            zone: local.abbreviation().unwrap_or_default().to_owned(),
        })
    }

    fn local_seconds(&self) -> i64 {
        self.instant.div_euclid(SECOND) as i64 + self.offset
    }

    pub(super) fn nanosecond(&self) -> i64 {
        self.instant.rem_euclid(SECOND) as i64
    }

    pub(super) fn days(&self) -> i64 {
        self.local_seconds().div_euclid(DAY)
    }

    /// Year, month and day.
    pub(super) fn date(&self) -> (i64, i64, i64) {
        civil(self.days())
    }

    /// Hour, minute and second.
    pub(super) fn clock(&self) -> (i64, i64, i64) {
        let second = self.local_seconds().rem_euclid(DAY);
        (second / 3600, second / 60 % 60, second % 60)
    }

    /// Days since Sunday.
    pub(super) fn weekday(&self) -> i64 {
        (self.days() + 4).rem_euclid(7)
    }
}

/// The date that is so many days after 1970-01-01.
pub(super) fn civil(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted.rem_euclid(146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year + era * 400 + i64::from(month <= 2), month, day)
}

/// The days from 1970-01-01 to a date, whose month and day may lie outside their ranges.
pub(super) fn days_of(year: i64, month: i64, day: i64) -> i64 {
    let year = year + (month - 1).div_euclid(12);
    let month = (month - 1).rem_euclid(12) + 1;
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * (if month > 2 { month - 3 } else { month + 9 }) + 2) / 5;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468 + day - 1
}

/// Our table of zones has local time from 1900 to 2037; Go's goes on by rules.
const KNOWN: std::ops::Range<i64> = -2_208_988_800..2_145_916_800;

fn known(seconds: i64, zone: Tz) -> Result<(), Fail> {
    if zone == Tz::UTC || KNOWN.contains(&seconds) {
        return Ok(());
    }
    let what = "a time zone before 1900 or after 2037";
    Err(BuiltinError::Unsupported { function: "time", what }.into())
}

fn instant(value: &Value) -> Result<i128, Fail> {
    let number = Num::of(value)?;
    let big = number.to_big();
    let int: BigInt = big.trunc();
    if !big.is_int() {
        return Err(Fail::Undefined);
    }
    i64::try_from(&int).map(i128::from).map_err(|_| Fail::Undefined)
}

fn zone(name: &str) -> Result<Tz, Fail> {
    match name {
        "" | "UTC" => Ok(Tz::UTC),
        // Where we run must not decide; Go's containers run in UTC.
        "Local" => Ok(Tz::UTC),
        _ => name.parse().map_err(|_| Fail::Undefined),
    }
}

/// `ns`, `[ns]`, `[ns, zone]` or `[ns, zone, layout]`.
fn moment(value: &Value) -> Result<(Moment, Tz, String), Fail> {
    let Value::Array(items) = value else {
        return Ok((Moment::at(instant(value)?, Tz::UTC)?, Tz::UTC, String::new()));
    };
    let ns = items.first().ok_or(Fail::Undefined)?;
    if !matches!(ns, Value::Number(_)) {
        return Err(Fail::Undefined);
    }
    let text = |at: usize| match items.get(at) {
        None => Ok(""),
        Some(Value::String(text)) => Ok(&**text),
        Some(_) => Err(Fail::Undefined),
    };
    let (zone, layout) = (zone(text(1)?)?, text(2)?.to_owned());
    Ok((Moment::at(instant(ns)?, zone)?, zone, layout))
}

fn numbers<const N: usize>(numbers: [i64; N]) -> Value {
    Value::from(numbers.into_iter().map(Value::from).collect::<Vec<_>>())
}

fn nanoseconds(instant: i128) -> Outcome {
    i64::try_from(instant).map(Value::from).map_err(|_| Fail::Undefined)
}

pub(super) fn date(args: &[Value]) -> Outcome {
    let (year, month, day) = moment(arg(args, 0)?)?.0.date();
    Ok(numbers([year, month, day]))
}

pub(super) fn clock(args: &[Value]) -> Outcome {
    let (hour, minute, second) = moment(arg(args, 0)?)?.0.clock();
    Ok(numbers([hour, minute, second]))
}

pub(super) fn weekday(args: &[Value]) -> Outcome {
    let weekday = moment(arg(args, 0)?)?.0.weekday();
    let name = time_layout::WEEKDAYS.get(weekday as usize).ok_or(Fail::Undefined)?;
    Ok(Value::from(*name))
}

pub(super) fn format(args: &[Value]) -> Outcome {
    let (moment, _, layout) = moment(arg(args, 0)?)?;
    let layout = if layout.is_empty() { "RFC3339Nano" } else { &layout };
    Ok(Value::from(time_layout::format(&moment, named(layout))))
}

/// Years, months and days later on the calendar of the place, at the same hour there.
pub(super) fn add_date(args: &[Value]) -> Outcome {
    let (moment, zone, _) = moment(arg(args, 0)?)?;
    let (year, month, day) = moment.date();
    // Beyond this nothing comes back into the range of nanoseconds.
    let bounded = |value: i64| {
        if value.abs() < 10_000_000 { Ok(value) } else { Err(Fail::Undefined) }
    };
    let (years, months, days) = (int(args, 1)?, int(args, 2)?, int(args, 3)?);
    let days = days_of(year + bounded(years)?, month + bounded(months)?, day) + bounded(days)?;
    let second = moment.local_seconds().rem_euclid(DAY);
    let local = days * DAY + second;
    known(local, zone)?;
    let utc = local - offset_of_local(local, zone);
    nanoseconds(i128::from(utc) * SECOND + i128::from(moment.nanosecond()))
}

/// Go's guess of the offset at a local time: that of the time taken as UTC, corrected once where
/// a change lies between.
fn offset_of_local(local: i64, zone: Tz) -> i64 {
    let offset = |utc: i64| {
        let utc = DateTime::from_timestamp(utc, 0).unwrap_or_default().naive_utc();
        i64::from(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
    };
    let first = offset(local);
    if first == 0 {
        return first;
    }
    let second = offset(local - first);
    if second == first { first } else { offset_after_change(local, (first, second), offset) }
}

fn offset_after_change(
    local: i64,
    (first, second): (i64, i64),
    offset: impl Fn(i64) -> i64,
) -> i64 {
    // The time taken as UTC lay in another period: the period before or behind it counts if the
    // corrected time lies in it, else the first guess stands.
    if offset(local - second) == second { second } else { first }
}

/// Years, months, days, hours, minutes and seconds between two instants, in the first one's zone.
pub(super) fn diff(args: &[Value]) -> Outcome {
    let (mut a, zone, _) = moment(arg(args, 0)?)?;
    let (b, ..) = moment(arg(args, 1)?)?;
    let mut b = Moment::at(b.instant, zone)?;
    if a.instant > b.instant {
        std::mem::swap(&mut a, &mut b);
    }
    let ((y1, m1, d1), (y2, m2, d2)) = (a.date(), b.date());
    let ((h1, n1, s1), (h2, n2, s2)) = (a.clock(), b.clock());
    let (mut year, mut month, mut day) = (y2 - y1, m2 - m1, d2 - d1);
    let (mut hour, mut minute, mut second) = (h2 - h1, n2 - n1, s2 - s1);
    let borrow = |low: &mut i64, high: &mut i64, size: i64| {
        if *low < 0 {
            *low += size;
            *high -= 1;
        }
    };
    borrow(&mut second, &mut minute, 60);
    borrow(&mut minute, &mut hour, 60);
    borrow(&mut hour, &mut day, 24);
    borrow(&mut day, &mut month, days_of(y1, m1 + 1, 1) - days_of(y1, m1, 1));
    borrow(&mut month, &mut year, 12);
    Ok(numbers([year, month, day, hour, minute, second]))
}

pub(super) fn parse_ns(args: &[Value]) -> Outcome {
    let (layout, text) = (string(args, 0)?, string(args, 1)?);
    nanoseconds(time_parse::parse(named(layout), text).ok_or(Fail::Undefined)?)
}

pub(super) fn parse_rfc3339_ns(args: &[Value]) -> Outcome {
    nanoseconds(time_parse::parse(named("RFC3339"), string(args, 0)?).ok_or(Fail::Undefined)?)
}

pub(super) fn parse_duration_ns(args: &[Value]) -> Outcome {
    duration(string(args, 0)?).map(Value::from).ok_or(Fail::Undefined)
}
