//! cosign's simple signing: a payload that names an image's digest, and a signature beside it
//! (<https://github.com/sigstore/cosign/blob/main/specs/SIGNATURE_SPEC.md>).

use std::collections::BTreeMap;

use super::error::unsupported;
use super::{Signer, VerifiedSignature};
use crate::verify::NotVerified;

/// Most bytes of a payload.
pub const MAX_PAYLOAD: usize = 1 << 20;
/// Most bytes of an annotation.
pub const MAX_ANNOTATION: usize = 1 << 20;

/// A simple signing signature: one layer of a signature manifest.
#[derive(Clone, Copy, Debug)]
pub struct SimpleSigning<'a> {
    /// The layer's content, as it was signed.
    pub payload: &'a [u8],
    /// The annotations of the layer's descriptor: signature, certificate, chain, log entry, timestamp.
    pub annotations: &'a BTreeMap<String, String>,
}

/// Verifies that a signature is of the manifest with this digest (`sha256:…`), at `now` (seconds
/// since 1970).
///
/// # Errors
/// When it is not signed, the signature does not hold, or that cannot be told.
pub fn verify_simple_signing(
    _signed: &SimpleSigning<'_>,
    _manifest: &str,
    _by: Signer<'_>,
    _now: i64,
) -> Result<VerifiedSignature, NotVerified> {
    Err(unsupported("simple signing", "bundles are"))
}
