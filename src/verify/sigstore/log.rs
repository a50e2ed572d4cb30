//! Logs whose time is over vouch for nothing that came later.
//!
//! The verifier holds the time that Rekor v1 promises against the log's own window. An entry that has
//! a place in a log and no promise (Rekor v2) has no such time, and its checkpoint is verified by any
//! log of the trust root that has begun, ended or not. So that is held against the trusted times here.

use sigstore_verify::types::bundle::TransparencyLogEntry;
use sigstore_verify::types::{Bundle, KindVersion};

use super::TrustRoot;
use super::error::SigstoreInvalid;
use super::signed::TrustedTimestamp;
use crate::verify::{Invalid, NotVerified};

/// That every log that may have signed a checkpoint of the bundle was in force at each of the times;
/// where there is none, at `now` (seconds since 1970). Who signed one is told by four octets of the
/// key, and so all logs count that have them.
pub(super) fn in_force(
    bundle: &Bundle,
    times: &[TrustedTimestamp],
    root: &TrustRoot,
    now: i64,
) -> Result<(), NotVerified> {
    let unreadable = |why: String| refused(root, why);
    let mut moments = Vec::with_capacity(times.len().max(1));
    for it in times {
        let at: jiff::Timestamp =
            it.timestamp.parse().map_err(|error: jiff::Error| unreadable(error.to_string()))?;
        moments.push(at);
    }
    if moments.is_empty() {
        moments.push(
            jiff::Timestamp::from_second(now).map_err(|error| unreadable(error.to_string()))?,
        );
    }
    let entries = &bundle.verification_material.tlog_entries;
    for entry in entries.iter().filter(|entry| !is_promised(entry)) {
        let proof = entry.inclusion_proof.as_ref();
        let checkpoint = proof.and_then(|proof| proof.checkpoint.checkpoint());
        let checkpoint = checkpoint.ok_or_else(|| unreadable("it has no checkpoint".to_owned()))?;
        for log in &root.material().tlogs {
            let hint = log.log_id.key_id.as_bytes().get(..4);
            let may_have_signed = |hints: &[u8]| {
                checkpoint.signatures().iter().any(|it| it.key_id.as_bytes() == hints)
            };
            if !hint.is_some_and(may_have_signed) {
                continue;
            }
            let window = log.public_key.valid_for;
            if let Some(at) =
                moments.iter().find(|at| window.is_some_and(|window| !window.contains(**at)))
            {
                return Err(refused(root, format!("{} was not in force at {at}", log.base_url)));
            }
        }
    }
    Ok(())
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
