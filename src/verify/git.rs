//! Signatures of git objects (<https://git-scm.com/docs/gitformat-signature>).

use super::error::{CouldNot, Invalid, NotVerified};
use super::openpgp::DetachedSignature;
use super::{KeyFile, VerifiedSigner, ssh};
use crate::input::gitobject::{GitObject, Kind};

const PGP: &str = "-----BEGIN PGP SIGNATURE-----";
const SSH: &str = "-----BEGIN SSH SIGNATURE-----";

/// Which hash names a repository's objects. A commit may carry a signature for each, and only the
/// one for its own format is about these bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectFormat {
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
}

impl ObjectFormat {
    /// The header that a commit's signature stands in.
    pub const fn signature_header(self) -> &'static str {
        match self {
            Self::Sha1 => "gpgsig",
            Self::Sha256 => "gpgsig-sha256",
        }
    }
}

/// Verifies the signature of a commit or tag by the keys of a file, at `now` (seconds since 1970).
///
/// # Errors
/// When it is not signed, the signature does not hold, or that cannot be told.
pub fn verify_git(
    object: &GitObject,
    format: ObjectFormat,
    keys: &KeyFile,
    now: i64,
) -> Result<VerifiedSigner, NotVerified> {
    let signature = object.signature_in(format.signature_header()).ok_or(NotVerified::Absent)?;
    let payload = object.signed_payload();
    match (keys, signature.trim_start()) {
        (KeyFile::OpenPgp(keys), text) if text.starts_with(PGP) => {
            DetachedSignature::parse_only(text)?.verify(&payload, keys, now)
        }
        (KeyFile::Ssh(keys), text) if text.starts_with(SSH) => {
            ssh::verify(text, &payload, keys, dated(object), now)
        }
        (KeyFile::Ssh(_), text) if text.starts_with(PGP) => {
            Err(Invalid::OtherKind { signature: "an OpenPGP", keys: "SSH" }.into())
        }
        (KeyFile::OpenPgp(_), text) if text.starts_with(SSH) => {
            Err(Invalid::OtherKind { signature: "an SSH", keys: "OpenPGP" }.into())
        }
        (_, text) if text.starts_with("-----BEGIN SIGNED MESSAGE-----") => {
            Err(CouldNot::Unsupported {
                what: "an X.509 (S/MIME) signature".to_owned(),
                instead: "sign with OpenPGP or SSH",
            }
            .into())
        }
        _ => Err(Invalid::Malformed { why: "it is neither OpenPGP's nor SSH's".to_owned() }.into()),
    }
}

/// When the object says it was made, in seconds since 1970.
fn dated(object: &GitObject) -> Option<i64> {
    let header = match object.kind() {
        Kind::Commit => "committer",
        Kind::Tag => "tagger",
    };
    let line = object.header(header)?;
    let (_, when) = line.rsplit_once('>')?;
    when.split_whitespace().next()?.parse().ok()
}
