//! When the parties of a trust root are in force.

use sigstore_trust_root::{TimeRange, TrustedRoot};

/// When the last of its certificate authorities ends, or of its logs where it has none; `None` where
/// one never does.
pub(super) fn ended(root: &TrustedRoot) -> Option<i64> {
    let end = |window: Option<TimeRange>| window.and_then(|it| it.end).map(|end| end.as_second());
    let last = |ends: Vec<Option<i64>>| {
        ends.into_iter().collect::<Option<Vec<_>>>().and_then(|ends| ends.into_iter().max())
    };
    if root.certificate_authorities.is_empty() {
        return last(root.tlogs.iter().map(|it| end(it.public_key.valid_for)).collect());
    }
    last(root.certificate_authorities.iter().map(|it| end(it.valid_for)).collect())
}

/// When the next of its parties begins or has ended, after `now` (seconds since 1970).
pub(super) fn changes_after(root: &TrustedRoot, now: i64) -> Option<i64> {
    // A part of a second counts with the one that it ends in; a last moment is one that holds.
    let begins = |window: TimeRange| {
        let start = window.start;
        start.as_second().saturating_add(i64::from(start.subsec_nanosecond() > 0))
    };
    let ends = |window: TimeRange| window.end.map(|end| end.as_second().saturating_add(1));
    let moments = all(root).flat_map(|it| [Some(begins(it)), ends(it)]).flatten();
    moments.filter(|at| *at > now).min()
}

/// The window of each of its parties that has one.
pub(super) fn all(root: &TrustedRoot) -> impl Iterator<Item = TimeRange> {
    let logs = root.tlogs.iter().map(|it| it.public_key.valid_for);
    let of_certificates = root.ctlogs.iter().map(|it| it.public_key.valid_for);
    let authorities = root.certificate_authorities.iter().map(|it| it.valid_for);
    let stampers = root.timestamp_authorities.iter().map(|it| it.valid_for);
    logs.chain(of_certificates).chain(authorities).chain(stampers).flatten()
}
