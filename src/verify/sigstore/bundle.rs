//! Sigstore bundles (<https://docs.sigstore.dev/about/bundle/>).

use super::error::unsupported;
use super::{Artifact, Signer, VerifiedSignature};
use crate::verify::NotVerified;

/// Most bytes of a bundle.
pub const MAX_BUNDLE: usize = 16 << 20;

/// Verifies that a bundle (JSON) signs an artifact, at `now` (seconds since 1970).
///
/// # Errors
/// When it is not signed, the signature does not hold, or that cannot be told.
pub fn verify_bundle(
    _bundle: &[u8],
    _artifact: Artifact<'_>,
    _by: Signer<'_>,
    _now: i64,
) -> Result<VerifiedSignature, NotVerified> {
    Err(unsupported("a bundle", "nothing is"))
}
