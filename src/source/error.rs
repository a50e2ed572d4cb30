//! Why an identifier is no source.
//!
//! Each message names the source (with its secrets masked), what is wrong with it and what would be
//! accepted. What is wrong is a type of its own, so that nobody has to read the text.

use super::ambiguous::Ambiguity;
use super::digest::DigestError;
use super::git_user::GitQueryError;
use super::reference::ReferenceError;
use super::weburl::UrlError;

/// Longest identifier or attribute that is read, in bytes. Presigned URLs are the longest honest
/// ones, and stay far below.
pub const MAX_LENGTH: usize = 64 * 1024;

/// An identifier that is no source, or one whose meaning depends on who reads it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no `scheme://`.
    #[error(
        "`{identifier}` is not a source identifier: it has no scheme; expected one of {SCHEMES}"
    )]
    NoScheme {
        /// The identifier, masked.
        identifier: String,
    },
    /// The scheme is none that a build can load from.
    #[error("`{identifier}`: unknown source scheme `{scheme}`; expected one of {SCHEMES}")]
    UnknownScheme {
        /// The identifier, masked.
        identifier: String,
        /// Its scheme.
        scheme: String,
    },
    /// Longer than [`MAX_LENGTH`].
    #[error("a source of {length} bytes is too long; at most {MAX_LENGTH} are read")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// Not a reference by Docker's grammar.
    #[error("`{identifier}` is not an image reference: {source}")]
    Reference {
        /// The identifier, masked.
        identifier: String,
        /// What is wrong with it.
        source: ReferenceError,
    },
    /// Not a URL.
    #[error("`{identifier}` is not a URL that can be fetched: {source}")]
    Url {
        /// The identifier or attribute, masked.
        identifier: String,
        /// What is wrong with it.
        source: UrlError,
    },
    /// It means one place to a rule and another to whoever fetches it.
    #[error("`{identifier}` is ambiguous and refused: {source}")]
    Ambiguous {
        /// The identifier or attribute, masked.
        identifier: String,
        /// What makes it so.
        source: Ambiguity,
    },
    /// The query of a git URL in a Dockerfile is not what BuildKit takes.
    #[error("`{identifier}`: {source}")]
    GitQuery {
        /// The URL, masked.
        identifier: String,
        /// What is wrong with its query.
        source: GitQueryError,
    },
    /// `http.checksum` is no digest.
    #[error("`{identifier}`: attribute http.checksum is not a digest: {source}")]
    HttpChecksum {
        /// The identifier, masked.
        identifier: String,
        /// What is wrong with the digest.
        source: DigestError,
    },
    /// `git.checksum` is no commit.
    #[error(
        "`{identifier}`: attribute git.checksum is `{checksum}`; expected a commit in hexadecimal"
    )]
    GitChecksum {
        /// The identifier, masked.
        identifier: String,
        /// The attribute's value.
        checksum: String,
    },
    /// `git.bundle` is no blob.
    #[error(
        "`{identifier}`: attribute git.bundle: expected docker-image+blob:// or oci-layout+blob:// \
         with a sha256 digest, and git.checksum beside it"
    )]
    GitBundle {
        /// The identifier, masked.
        identifier: String,
        /// What is wrong with the locator, where it is the locator.
        #[source]
        source: Option<Box<SourceError>>,
    },
    /// The name of a `local://` source.
    #[error(
        "`{identifier}`: expected the name of a directory that the client offers, without control \
         characters, for example local://context"
    )]
    LocalName {
        /// The identifier, masked.
        identifier: String,
    },
    /// A blob without a digest, with a tag, or by a short name.
    #[error(
        "`{identifier}`: expected a full repository and the digest of the blob, for example \
         docker-image+blob://docker.io/library/app@sha256:…"
    )]
    Blob {
        /// The identifier, masked.
        identifier: String,
    },
}

/// The schemes that BuildKit knows, as messages name them.
const SCHEMES: &str = "docker-image, docker-image+blob, http, https, git, local, oci-layout, \
                       oci-layout+blob";
