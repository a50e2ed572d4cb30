//! The trusted times of a signature, and who vouches for each.

use sigstore_verify::trust_root::TsaAuthority;
use sigstore_verify::tsa::verify_timestamp_for_authority;
use sigstore_verify::types::bundle::SignatureContent;
use sigstore_verify::types::{Bundle, KindVersion};

use super::TrustRoot;
use super::error::{SigstoreInvalid, moment, unsupported};
use super::signed::TrustedTimestamp;
use crate::verify::{CLOCK_SKEW, Invalid, NotVerified};

/// The times of a bundle whose log entries the verifier has accepted; each token is verified here,
/// and none may be later than `now` (seconds since 1970), but for clocks that differ.
pub(super) fn timestamps(
    bundle: &Bundle,
    root: &TrustRoot,
    now: i64,
) -> Result<Vec<TrustedTimestamp>, NotVerified> {
    let signature = match &bundle.content {
        SignatureContent::MessageSignature(message) => &message.signature,
        SignatureContent::DsseEnvelope(envelope) => &envelope.signature.sig,
        _ => return Err(unsupported("this content of a bundle", "statements and messages are")),
    };
    let mut times = logged(bundle, root);
    for token in &bundle.verification_material.timestamp_verification_data.rfc3161_timestamps {
        let mut why = "it names no timestamp authority".to_owned();
        let mut by = None;
        for (uri, authority) in root.timestamp_authorities() {
            match verify_timestamp_for_authority(&token.signed_timestamp, signature, authority) {
                Ok(at) => {
                    by = Some((uri, at));
                    break;
                }
                Err(error) => why = error.to_string(),
            }
        }
        let Some((uri, at)) = by else { return Err(none(Some(root), why)) };
        times.push(TrustedTimestamp {
            timestamp_type: "TimestampAuthority".to_owned(),
            uri: uri.clone(),
            timestamp: at.to_string(),
        });
    }
    none_after(now, &times, Some(root))?;
    Ok(times)
}

/// That nobody vouches for a time that has not come yet: whoever can do that can also make a
/// certificate outlive itself.
pub(super) fn none_after(
    now: i64,
    timestamps: &[TrustedTimestamp],
    root: Option<&TrustRoot>,
) -> Result<(), NotVerified> {
    let latest = now.saturating_add(CLOCK_SKEW);
    for it in timestamps {
        let at: Option<jiff::Timestamp> = it.timestamp.parse().ok();
        let Some(at) = at.map(|at| at.as_second()) else {
            return Err(none(root, format!("{} is no time", it.timestamp)));
        };
        if at > latest {
            let because = none(root, format!("{} is in the future", it.timestamp));
            return Err(not_yet(because, at.saturating_sub(CLOCK_SKEW)));
        }
    }
    Ok(())
}

/// A refusal of a bundle with a promised time that lies after `now` (seconds since 1970): for that alone
/// the verifier refuses it, which goes by the clock of this machine.
pub(super) fn until_it_has_come(bundle: &Bundle, now: i64, refused: NotVerified) -> NotVerified {
    let entries = &bundle.verification_material.tlog_entries;
    let promised = entries.iter().filter(|entry| entry.inclusion_promise.is_some());
    let times = promised.filter_map(|entry| entry.integrated_time).map(|at| at.as_second());
    match times.filter(|at| *at > now).min() {
        Some(first) => not_yet(refused, first),
        None => refused,
    }
}

/// A refusal that stands until then at most.
fn not_yet(refused: NotVerified, from: i64) -> NotVerified {
    match refused {
        NotVerified::Invalid(Invalid::Sigstore(because))
            if !matches!(because, SigstoreInvalid::NotYet { .. }) =>
        {
            Invalid::Sigstore(SigstoreInvalid::NotYet { because: Box::new(because), from }).into()
        }
        refused @ (NotVerified::Absent | NotVerified::Invalid(_) | NotVerified::CouldNot(_)) => {
            refused
        }
    }
}

/// The times that Rekor v1 signed with its promises; an inclusion proof vouches for no time.
fn logged(bundle: &Bundle, root: &TrustRoot) -> Vec<TrustedTimestamp> {
    let promised = bundle.verification_material.tlog_entries.iter().filter(|entry| {
        entry.inclusion_promise.is_some() && entry.kind_version != KindVersion::HashedRekordV002
    });
    promised
        .filter_map(|entry| {
            let id = &entry.log_id.key_id;
            let log = root.material().tlogs.iter().find(|log| log.log_id.key_id == *id)?;
            Some(TrustedTimestamp {
                timestamp_type: "Tlog".to_owned(),
                uri: log.base_url.clone(),
                timestamp: entry.integrated_time?.to_string(),
            })
        })
        .collect()
}

/// That a key vouches for nothing from before it was in use.
pub(super) fn none_before(
    since: i64,
    timestamps: &[TrustedTimestamp],
    root: &TrustRoot,
) -> Result<(), NotVerified> {
    for it in timestamps {
        let at: Option<jiff::Timestamp> = it.timestamp.parse().ok();
        if at.is_none_or(|at| at.as_second() < since) {
            let why = format!("{} is before the key was in use ({})", it.timestamp, moment(since));
            return Err(none(Some(root), why));
        }
    }
    Ok(())
}

/// The timestamp authorities of a trust root, each with its URL.
pub(super) fn authorities(root: &sigstore_trust_root::TrustedRoot) -> Vec<(String, TsaAuthority)> {
    let each = root.timestamp_authorities.iter();
    each.flat_map(|authority| {
        let mut only = root.clone();
        only.timestamp_authorities = vec![authority.clone()];
        let uri = authority.uri.clone().unwrap_or_default();
        only.tsa_authorities().into_iter().map(move |it| (uri.clone(), it))
    })
    .collect()
}

fn none(root: Option<&TrustRoot>, why: String) -> NotVerified {
    let root = root.map(|root| root.name().to_owned()).unwrap_or_default();
    Invalid::Sigstore(SigstoreInvalid::Time { root, why }).into()
}
