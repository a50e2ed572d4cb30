//! Signatures of git objects (<https://git-scm.com/docs/gitformat-signature>).

use super::clock::Clock;
use super::error::{CouldNot, Invalid, NotVerified};
use super::openpgp::DetachedSignature;
use super::{KeyFile, VerifiedSigner, ssh};
use crate::input::gitobject::{GitObject, Kind};

const PGP: &str = "-----BEGIN PGP SIGNATURE-----";
const SSH: &str = "-----BEGIN SSH SIGNATURE-----";
/// What git takes for a signature too, and is not verified here: how it begins, and what it is.
const OTHERS: [(&str, &str); 2] = [
    ("-----BEGIN SIGNED MESSAGE-----", "an X.509 (S/MIME) signature"),
    ("-----BEGIN PGP MESSAGE-----", "an OpenPGP message in the place of a detached signature"),
];

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
    verify_git_at(object, format, keys, &Clock::at(now))
}

/// The same by a clock that learns for how long it stands.
pub(super) fn verify_git_at(
    object: &GitObject,
    format: ObjectFormat,
    keys: &KeyFile,
    clock: &Clock,
) -> Result<VerifiedSigner, NotVerified> {
    let signature = object
        .signature_in(format.signature_header())
        .ok_or_else(|| other_in_tag(object).unwrap_or(NotVerified::Absent))?;
    check_format(object, format)?;
    let dated = dated(object)?;
    let payload = object.signed_payload();
    match (keys, signature.trim_start()) {
        (KeyFile::OpenPgp(keys), text) if text.starts_with(PGP) => {
            DetachedSignature::parse_only(text)?.verify_at(&payload, keys, clock)
        }
        (KeyFile::Ssh(keys), text) if text.starts_with(SSH) => {
            ssh::verify(text, &payload, keys, dated, clock)
        }
        (KeyFile::Ssh(_), text) if text.starts_with(PGP) => {
            Err(Invalid::OtherKind { signature: "an OpenPGP", keys: "SSH" }.into())
        }
        (KeyFile::OpenPgp(_), text) if text.starts_with(SSH) => {
            Err(Invalid::OtherKind { signature: "an SSH", keys: "OpenPGP" }.into())
        }
        (_, text) => Err(other(text).unwrap_or_else(|| {
            Invalid::Malformed { why: "it is neither OpenPGP's nor SSH's".to_owned() }.into()
        })),
    }
}

/// Refuses an object of a repository of the other format: its signature holds for the same octets, which
/// name nothing here.
fn check_format(object: &GitObject, format: ObjectFormat) -> Result<(), NotVerified> {
    let header = match object.kind() {
        Kind::Commit => "tree",
        Kind::Tag => "object",
    };
    let digits = match format {
        ObjectFormat::Sha1 => 40,
        ObjectFormat::Sha256 => 64,
    };
    if object.header(header).is_some_and(|id| id.len() == digits) {
        return Ok(());
    }
    let why = format!("the {} is one of a repository of the other format", object.kind());
    Err(Invalid::Malformed { why }.into())
}

/// A signature of a kind that git knows and nobody here verifies.
fn other(text: &str) -> Option<NotVerified> {
    let (_, what) = OTHERS.iter().find(|(begin, _)| text.starts_with(begin))?;
    let instead = "sign with OpenPGP or SSH, detached";
    Some(CouldNot::Unsupported { what: (*what).to_owned(), instead }.into())
}

/// The same behind the message of a tag, which for those who read signatures of other kinds is not signed.
fn other_in_tag(object: &GitObject) -> Option<NotVerified> {
    match object.kind() {
        Kind::Commit => None,
        Kind::Tag => object.message().lines().find_map(other),
    }
}

/// When the object says it was made, in seconds since 1970. One that names nobody is none of git's, which
/// believes no signature of it.
fn dated(object: &GitObject) -> Result<Option<i64>, NotVerified> {
    let header = match object.kind() {
        Kind::Commit => "committer",
        Kind::Tag => "tagger",
    };
    let line = object.header(header).unwrap_or_default();
    let Some((_, when)) = line.rsplit_once('>').filter(|(who, _)| who.contains('<')) else {
        let why = format!("the {header} of the {} is nobody", object.kind());
        return Err(Invalid::Malformed { why }.into());
    };
    let Some(seconds) = when.split_whitespace().next() else { return Ok(None) };
    // A time past all numbers is no less in the future.
    let is_number = !seconds.is_empty() && seconds.bytes().all(|it| it.is_ascii_digit());
    Ok(seconds.parse().ok().or(is_number.then_some(i64::MAX)))
}
