//! What the document says of a git repository, its commit and its tag, and of a file by URL.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::input::gitobject::GitObject;
use crate::meta::{ChecksumResponse, Content};

/// A file by URL (`input.http`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Http {
    /// The URL as given.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub url: String,
    /// `http` or `https`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub schema: String,
    /// Host, normalised: lower case, ASCII, no trailing dot; with the port where it is not the default.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// Path, percent-decoded.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub path: String,
    /// Query parameters, decoded.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, Vec<String>>,
    /// Whether a secret is sent as the `Authorization` header.
    #[serde(rename = "hasAuth", skip_serializing_if = "std::ops::Not::not")]
    pub has_auth: bool,
    /// Digest of what the URL serves.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub checksum: String,
    /// Digest that the build pins (`ADD --checksum=`).
    #[serde(rename = "declaredChecksum", skip_serializing_if = "String::is_empty")]
    pub declared_checksum: String,
    /// Other digests of it, for whoever verifies a signature.
    #[serde(skip)]
    pub checksums: Vec<ChecksumResponse>,
    /// Files that were read besides it, for whoever verifies an attestation.
    #[serde(skip)]
    pub contents: Vec<Content>,
}

/// A git repository (`input.git`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Git {
    /// `https`, `http`, `ssh` or `git`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub schema: String,
    /// Host with port.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub host: String,
    /// URL without reference and directory.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote: String,
    /// URL as the build wrote it, where it gave one.
    #[serde(rename = "fullURL", skip_serializing_if = "String::is_empty")]
    pub full_url: String,
    /// Tag that the reference names.
    #[serde(rename = "tagName", skip_serializing_if = "String::is_empty")]
    pub tag_name: String,
    /// Branch that the reference names.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub branch: String,
    /// The full reference, `refs/heads/main`, or the commit.
    #[serde(rename = "ref", skip_serializing_if = "String::is_empty")]
    pub reference: String,
    /// Directory below the root of the repository.
    #[serde(rename = "subDir", skip_serializing_if = "String::is_empty")]
    pub subdir: String,
    /// Whether the reference is a commit.
    #[serde(rename = "isCommitRef", skip_serializing_if = "std::ops::Not::not")]
    pub is_commit_ref: bool,
    /// Whether the repository uses SHA-256.
    #[serde(rename = "isSHA256", skip_serializing_if = "std::ops::Not::not")]
    pub is_sha256: bool,
    /// Object that the reference names: a commit or an annotated tag.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub checksum: String,
    /// Commit that the reference names in the end.
    #[serde(rename = "commitChecksum", skip_serializing_if = "String::is_empty")]
    pub commit_checksum: String,
    /// Whether the reference names an annotated tag.
    #[serde(rename = "isAnnotatedTag", skip_serializing_if = "std::ops::Not::not")]
    pub is_annotated_tag: bool,
    /// Checksum that the build pins (`ADD --checksum=`).
    #[serde(rename = "declaredChecksum", skip_serializing_if = "String::is_empty")]
    pub declared_checksum: String,
    /// The annotated tag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Tag>,
    /// The commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<Commit>,
}

/// Who did something to a repository, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Actor {
    /// Name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// E-mail address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub email: String,
    /// When, with the zone that was written down: RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
}

impl Actor {
    /// Whether nothing is known, and the field is left out.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A commit (`input.git.commit`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Commit {
    /// Its tree.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tree: String,
    /// The commits before it.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub parents: Vec<String>,
    /// Who wrote the change.
    #[serde(skip_serializing_if = "Actor::is_empty")]
    pub author: Actor,
    /// Who committed it.
    #[serde(skip_serializing_if = "Actor::is_empty")]
    pub committer: Actor,
    /// Its message, without the last newline.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What its OpenPGP signature says of itself. It is not verified.
    #[serde(rename = "pgpSignature", skip_serializing_if = "Option::is_none")]
    pub pgp_signature: Option<PgpSignature>,
    /// What its SSH signature says of itself. It is not verified.
    #[serde(rename = "sshSignature", skip_serializing_if = "Option::is_none")]
    pub ssh_signature: Option<SshSignature>,
    /// The object, for whoever verifies the signature.
    #[serde(skip)]
    pub raw: Option<GitObject>,
}

/// An annotated tag (`input.git.tag`).
#[derive(Clone, Debug, Default, PartialEq, Serialize, JsonSchema)]
pub struct Tag {
    /// Object that it names.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub object: String,
    /// Type of that object, `commit`.
    #[serde(rename = "type", skip_serializing_if = "String::is_empty")]
    pub target_type: String,
    /// Its name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub tag: String,
    /// Who made it.
    #[serde(skip_serializing_if = "Actor::is_empty")]
    pub tagger: Actor,
    /// Its message, without the signature and the last newline.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// What its OpenPGP signature says of itself. It is not verified.
    #[serde(rename = "pgpSignature", skip_serializing_if = "Option::is_none")]
    pub pgp_signature: Option<PgpSignature>,
    /// What its SSH signature says of itself. It is not verified.
    #[serde(rename = "sshSignature", skip_serializing_if = "Option::is_none")]
    pub ssh_signature: Option<SshSignature>,
    /// The object, for whoever verifies the signature.
    #[serde(skip)]
    pub raw: Option<GitObject>,
}

/// What an OpenPGP signature says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct PgpSignature {
    /// Version of its packet.
    pub version: u8,
    /// Key id of the issuer: 16 hexadecimal digits.
    #[serde(rename = "keyID", skip_serializing_if = "String::is_empty")]
    pub key_id: String,
}

/// What an SSH signature says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct SshSignature {
    /// Version of its format.
    pub version: u32,
    /// Fingerprint of the public key, `SHA256:…`.
    #[serde(rename = "pubKey", skip_serializing_if = "String::is_empty")]
    pub public_key: String,
}
