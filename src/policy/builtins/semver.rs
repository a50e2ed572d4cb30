//! `semver.*`: versions as OPA reads them, a leading `v` allowed, leading zeros too.

use std::cmp::Ordering;

use num_bigint::BigInt;
use regorus::Value;

use super::value::{Fail, Outcome, string};

struct Version<'a> {
    core: [i64; 3],
    pre_release: &'a str,
}

fn identifiers(text: &str) -> bool {
    let good = |c: char| c.is_ascii_alphanumeric() || c == '-';
    text.split('.').all(|part| !part.is_empty() && part.chars().all(good))
}

impl<'a> Version<'a> {
    fn parse(text: &'a str) -> Option<Version<'a>> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (text, metadata) = text.split_once('+').unwrap_or((text, ""));
        let (core, pre_release) = text.split_once('-').unwrap_or((text, ""));
        for part in [metadata, pre_release] {
            if !part.is_empty() && !identifiers(part) {
                return None;
            }
        }
        let numbers = core.split('.').map(|part| part.parse::<i64>().ok());
        let numbers = numbers.collect::<Option<Vec<_>>>()?;
        Some(Version { core: numbers.try_into().ok()?, pre_release })
    }

    fn compare(&self, other: &Version) -> Ordering {
        self.core.cmp(&other.core).then_with(|| {
            match (self.pre_release.is_empty(), other.pre_release.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => pre_releases(self.pre_release, other.pre_release),
            }
        })
    }
}

/// By the specification. Where two lists differ only in leading zeros they are equal; OPA does
/// not come back from that.
fn pre_releases(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => match identifier(a, b) {
                Ordering::Equal => {}
                other => return other,
            },
        }
    }
}

fn identifier(a: &str, b: &str) -> Ordering {
    let number = |text: &str| {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| BigInt::parse_bytes(text.as_bytes(), 10)).flatten()
    };
    match (number(a), number(b)) {
        // Go's integers end at 64 bits, and what is larger becomes the largest.
        (Some(a), Some(b)) => a.min(i64::MAX.into()).cmp(&b.min(i64::MAX.into())),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

pub(super) fn is_valid(args: &[Value]) -> Outcome {
    let valid = string(args, 0).is_ok_and(|text| Version::parse(text).is_some());
    Ok(Value::from(valid))
}

pub(super) fn compare(args: &[Value]) -> Outcome {
    let a = Version::parse(string(args, 0)?).ok_or(Fail::Undefined)?;
    let b = Version::parse(string(args, 1)?).ok_or(Fail::Undefined)?;
    Ok(Value::from(a.compare(&b) as i64))
}
