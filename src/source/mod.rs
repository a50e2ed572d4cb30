//! Sources: what a build would load, parsed and normalised once, at the edge.
//!
//! A [`SourceOp`] is the raw pair of identifier and attributes as BuildKit's `pb.SourceOp` has it;
//! [`Source::parse`] turns it into the one of six kinds that rules are asked about, or says why it
//! is none. Nothing here knows protobuf, and nothing here fetches.

mod error;
mod platform;

use std::collections::BTreeMap;

pub use error::SourceError;
pub use platform::Platform;

/// What BuildKit names in a `pb.SourceOp`: an identifier (`docker-image://…`) and its attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceOp {
    /// Scheme and reference, as the peer wrote it (`SourceOp.identifier`).
    pub identifier: String,
    /// Attributes by name (`SourceOp.attrs`), for example `http.checksum`.
    pub attrs: BTreeMap<String, String>,
}

/// One source of a build, parsed and normalised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// `docker-image://`: an image of a registry.
    Image(ImageSource),
    /// `http://` and `https://`: one file.
    Http(HttpSource),
    /// `git://`: a git repository, whatever transport reaches it.
    Git(GitSource),
    /// `local://`: a directory of the client, by its name.
    Local(LocalSource),
    /// `oci-layout://`: an image of an OCI layout that the client holds.
    OciLayout(OciLayoutSource),
    /// `docker-image+blob://` and `oci-layout+blob://`: one blob by digest.
    Blob(BlobSource),
}

/// An image reference in its normalised form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageSource {
    /// Registry host with port, for example `docker.io`.
    pub host: String,
    /// Repository path on that host, for example `library/alpine`.
    pub path: String,
    /// Tag, where the reference has one.
    pub tag: Option<String>,
    /// Digest (`sha256:…`), where the reference has one.
    pub digest: Option<String>,
}

/// A URL that is fetched as one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpSource {
    /// The identifier as given.
    pub url: String,
    /// `http` or `https`, lower case.
    pub scheme: String,
    /// Host, normalised: lower case, ASCII, no trailing dot, no default port.
    pub host: String,
    /// Path, percent-decoded.
    pub path: String,
    /// Query parameters, decoded, in order of the values.
    pub query: BTreeMap<String, Vec<String>>,
    /// Whether a secret is sent as the `Authorization` header (`http.authheadersecret`).
    pub has_auth: bool,
    /// The checksum that the Dockerfile declared (`http.checksum`).
    pub declared_checksum: Option<String>,
}

/// A git repository, a reference in it and a directory below that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitSource {
    /// `https`, `http`, `ssh` or `git`.
    pub scheme: String,
    /// Host with port.
    pub host: String,
    /// URL without reference and directory, as git would be given it.
    pub remote: String,
    /// `git.fullurl`, where the source has it (with `https://` put before it where it has no transport).
    pub full_url: Option<String>,
    /// Reference as written: branch, tag, full reference or commit.
    pub reference: Option<String>,
    /// Directory below the root of the repository.
    pub subdir: Option<String>,
    /// The checksum that the Dockerfile declared (`git.checksum`).
    pub declared_checksum: Option<String>,
    /// The blob that the repository is read from (`git.bundle`), a source of its own.
    pub bundle: Option<String>,
}

/// A directory of the client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalSource {
    /// Its name: `context`, `dockerfile`, or a named context.
    pub name: String,
}

/// An image of an OCI layout that the client holds. Its name is the client's word alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OciLayoutSource {
    /// Name as given by the client, without the digest.
    pub name: String,
    /// Digest, the only evidence there is.
    pub digest: Option<String>,
}

/// One blob by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobSource {
    /// `docker-image+blob` or `oci-layout+blob`.
    pub scheme: String,
    /// Registry host, for `docker-image+blob`.
    pub host: Option<String>,
    /// Host and repository, for `docker-image+blob`; the client's name for `oci-layout+blob`.
    pub full_repo: String,
    /// Digest of the blob.
    pub digest: String,
}
