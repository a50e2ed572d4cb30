//! Logs whose time is over vouch for nothing that came later.
//!
//! The verifier holds the time that Rekor v1 promises against the log's own window. An entry that has
//! a place in a log and no promise (Rekor v2) has no such time, and its checkpoint is verified by any
//! log of the trust root that has begun, ended or not. So that is held against the trusted times here.

use sigstore_trust_root::TimeRange;
use sigstore_verify::types::bundle::TransparencyLogEntry;
use sigstore_verify::types::{Bundle, KindVersion};

use super::TrustRoot;
use super::error::SigstoreInvalid;
use super::signed::TrustedTimestamp;
use crate::verify::{Invalid, NotVerified};

/// A log, and when it is in force.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lasting {
    url: String,
    window: TimeRange,
}

/// That every log that may have signed a checkpoint of the bundle was in force at each of the times;
/// where there is none, at `now` (seconds since 1970), and then these logs are returned: the signature
/// holds while they [last](still). Who signed a checkpoint is told by four octets of the key, and so all
/// logs count that have them.
pub(super) fn in_force(
    bundle: &Bundle,
    times: &[TrustedTimestamp],
    root: &TrustRoot,
    now: i64,
) -> Result<Vec<Lasting>, NotVerified> {
    let logs = without_promise(bundle, root)?;
    for it in times {
        let at: jiff::Timestamp =
            it.timestamp.parse().map_err(|error: jiff::Error| refused(root, error.to_string()))?;
        all_at(&logs, root, at)?;
    }
    if !times.is_empty() {
        return Ok(Vec::new());
    }
    still(&logs, root, now)?;
    Ok(logs)
}

/// That logs are in force at `now` (seconds since 1970).
pub(super) fn still(logs: &[Lasting], root: &TrustRoot, now: i64) -> Result<(), NotVerified> {
    let at = jiff::Timestamp::from_second(now);
    all_at(logs, root, at.map_err(|error| refused(root, error.to_string()))?)
}

fn all_at(logs: &[Lasting], root: &TrustRoot, at: jiff::Timestamp) -> Result<(), NotVerified> {
    match logs.iter().find(|log| !log.window.contains(at)) {
        Some(log) => Err(refused(root, format!("{} was not in force at {at}", log.url))),
        None => Ok(()),
    }
}

/// The logs that may have signed a checkpoint of an entry whose time nobody promised, and have a time
/// of their own.
fn without_promise(bundle: &Bundle, root: &TrustRoot) -> Result<Vec<Lasting>, NotVerified> {
    let mut logs = Vec::new();
    let entries = &bundle.verification_material.tlog_entries;
    for entry in entries.iter().filter(|entry| !is_promised(entry)) {
        let proof = entry.inclusion_proof.as_ref();
        let checkpoint = proof.and_then(|proof| proof.checkpoint.checkpoint());
        let checkpoint =
            checkpoint.ok_or_else(|| refused(root, "it has no checkpoint".to_owned()))?;
        for log in &root.material().tlogs {
            let hint = log.log_id.key_id.as_bytes().get(..4);
            let may_have_signed = |hints: &[u8]| {
                checkpoint.signatures().iter().any(|it| it.key_id.as_bytes() == hints)
            };
            if let (true, Some(window)) =
                (hint.is_some_and(may_have_signed), log.public_key.valid_for)
            {
                logs.push(Lasting { url: log.base_url.clone(), window });
            }
        }
    }
    Ok(logs)
}

/// Whether the time of an entry is what the log promised, and so was held against its window.
fn is_promised(entry: &TransparencyLogEntry) -> bool {
    entry.inclusion_promise.is_some()
        && entry.integrated_time.is_some()
        && entry.kind_version != KindVersion::HashedRekordV002
}

fn refused(root: &TrustRoot, why: String) -> NotVerified {
    let root = root.name().to_owned();
    Invalid::Sigstore(SigstoreInvalid::Log { root, why }).into()
}
