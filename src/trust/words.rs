//! How old a trust root is, and how long it holds, in words for people.

use crate::verify::sigstore::{Origin, TrustRoot};

const DAY: i64 = 86_400;

/// Where a root came from.
pub const fn origin(root: &TrustRoot) -> &'static str {
    match root.origin() {
        Origin::Embedded => "built in",
        Origin::Plain => "from a file",
        Origin::Updated => "from a file, by TUF",
    }
}

/// Since when its content stands, at `now` (seconds since 1970).
pub fn as_of(root: &TrustRoot, now: i64) -> String {
    match root.as_of() {
        Some(at) => format!("{} ({} old)", moment(at), days(now.saturating_sub(at))),
        None => "unknown: the file does not say".to_owned(),
    }
}

/// Until when it holds.
pub fn expires(root: &TrustRoot, now: i64) -> String {
    match root.expires() {
        Some(at) if at <= now => format!("{}: EXPIRED", moment(at)),
        Some(at) => format!("{} (in {})", moment(at), days(at.saturating_sub(now))),
        None => "never: nothing in it says when".to_owned(),
    }
}

/// All of that in one line.
pub fn line(root: &TrustRoot, now: i64) -> String {
    let (name, origin) = (root.name(), origin(root));
    format!(
        "trust root `{name}`: {origin}, as of {}, expires {}",
        as_of(root, now),
        expires(root, now)
    )
}

fn days(seconds: i64) -> String {
    match seconds / DAY {
        1 => "1 day".to_owned(),
        days => format!("{days} days"),
    }
}

fn moment(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}
