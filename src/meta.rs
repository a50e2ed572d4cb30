//! What can be resolved about a source, and the trait that resolves it.
//!
//! The shapes mirror BuildKit's `ResolveSourceMetaRequest` and `ResolveSourceMetaResponse`, without
//! knowing them: a door translates, a registry client or a fixture answers directly. A request asks
//! for everything that is wanted at once, because a daemon's later answer replaces its earlier one.

mod error;

pub use error::{RedirectProblem, ResolveError};

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;

use crate::source::{Platform, SourceOp};

/// What to resolve about one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MetaRequest {
    /// The source, unchanged from how it was put to us.
    pub source: SourceOp,
    /// The platform asked for; `None` means the resolver's default.
    pub platform: Option<Platform>,
    /// For images: what of the image.
    pub image: Option<ImageRequest>,
    /// For git: what of the repository.
    pub git: Option<GitRequest>,
    /// For HTTP: what of the file.
    pub http: Option<HttpRequest>,
    /// For images: what signs the image itself. A daemon has no words for this question.
    pub signatures: Option<SignaturesRequest>,
    /// For HTTP: what the file holds, where somebody else than the build wants to read it.
    pub content: Option<ContentRequest>,
}

/// What signs an image itself, found in its registry: OCI referrers and the tag `sha256-….sig`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct SignaturesRequest {
    /// Digest of the manifest or index that is judged. The repository is the source's.
    pub digest: String,
}

/// The content of a file, of at most [`MAX_CONTENT`] bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContentRequest;

/// Most bytes of a file that is read for its content.
pub const MAX_CONTENT: usize = 16 << 20;

/// What to resolve about an image. The digest always comes along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ImageRequest {
    /// The image config (`no_config` unset on the wire).
    pub config: bool,
    /// The attestation chain, provenance predicates and signatures included.
    pub attestations: bool,
}

/// What to resolve about a git repository. Reference and checksums always come along.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GitRequest {
    /// The raw commit and tag objects too.
    pub objects: bool,
}

/// What to resolve about a file. Its SHA-256 always comes along.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct HttpRequest {
    /// Another digest of the file, with bytes appended to it before hashing.
    pub checksum: Option<ChecksumRequest>,
}

/// A digest of a file with a suffix (BuildKit's checksum assist).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ChecksumRequest {
    /// Hash algorithm.
    pub algorithm: ChecksumAlgorithm,
    /// Bytes hashed after the file.
    pub suffix: Bytes,
}

impl ChecksumRequest {
    /// Whether a digest is the one that was asked for: of this suffix, by this algorithm.
    pub fn is_answered_by(&self, response: &ChecksumResponse) -> bool {
        let (name, octets) = match self.algorithm {
            ChecksumAlgorithm::Sha256 => ("sha256", 32),
            ChecksumAlgorithm::Sha384 => ("sha384", 48),
            ChecksumAlgorithm::Sha512 => ("sha512", 64),
        };
        let digest = response.digest.strip_prefix(name).and_then(|rest| rest.strip_prefix(':'));
        let is_hex = |it: u8| matches!(it, b'0'..=b'9' | b'a'..=b'f');
        self.suffix == response.suffix
            && digest.is_some_and(|hex| hex.len() == 2 * octets && hex.bytes().all(is_hex))
    }
}

/// Hash algorithms of the checksum assist.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ChecksumAlgorithm {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// What was resolved about one source. A field that was asked for and is missing was not resolved:
/// that is *could not verify*, never *absent*.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SourceMeta {
    /// What is known of an image.
    pub image: Option<ImageMeta>,
    /// What is known of a git repository.
    pub git: Option<GitMeta>,
    /// What is known of a file.
    pub http: Option<HttpMeta>,
    /// What was found of what signs an image.
    pub signatures: Option<ImageSignatures>,
    /// What a file holds.
    pub content: Option<Content>,
}

/// What signs an image, as it was found: nothing of it is verified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSignatures {
    /// Digest of what they were looked for by.
    pub digest: String,
    /// Bundles and simple signing payloads, each as a layer of the manifest that holds it.
    pub found: Vec<AttestationBlob>,
}

/// What a file holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// The source that was read.
    pub source: SourceOp,
    /// Its bytes; `None` where the server has no such file.
    pub data: Option<Bytes>,
}

/// What was resolved about an image.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageMeta {
    /// Digest of what the reference names (the index, for a multi-platform image).
    pub digest: Option<String>,
    /// The image config, raw JSON.
    pub config: Option<Bytes>,
    /// Where the attestations were asked for: what was found.
    pub attestations: Option<AttestationChain>,
}

/// An image's attestations, from its index down to their blobs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttestationChain {
    /// Digest of the index; empty where the image is none.
    pub root: String,
    /// Digest of the manifest of the platform.
    pub image_manifest: String,
    /// Digest of its attestation manifest; empty where it has none.
    pub attestation_manifest: String,
    /// Digests of the manifests that sign the attestation manifest.
    pub signature_manifests: Vec<String>,
    /// Blobs by digest: manifests, statements, bundles.
    pub blobs: BTreeMap<String, AttestationBlob>,
}

/// One blob of an attestation chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AttestationBlob {
    /// Media type of the descriptor.
    pub media_type: String,
    /// Annotations of the descriptor (`in-toto.io/predicate-type`).
    pub annotations: BTreeMap<String, String>,
    /// The content.
    pub data: Bytes,
}

/// What was resolved about a git repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GitMeta {
    /// Object that the reference names: a commit or an annotated tag, in hex.
    pub checksum: String,
    /// The full reference (`refs/heads/main`).
    pub reference: String,
    /// The commit, where `checksum` is an annotated tag.
    pub commit_checksum: String,
    /// The raw commit, without git's header.
    pub commit_object: Option<Bytes>,
    /// The raw annotated tag, without git's header.
    pub tag_object: Option<Bytes>,
}

/// What was resolved about a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpMeta {
    /// `sha256:…` of the file.
    pub checksum: String,
    /// File name, from the URL or the server.
    pub filename: String,
    /// The answer to a [`ChecksumRequest`].
    pub checksum_response: Option<ChecksumResponse>,
}

/// The answer to a [`ChecksumRequest`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChecksumResponse {
    /// `sha512:…` of file and suffix.
    pub digest: String,
    /// The suffix that was hashed, for comparison.
    pub suffix: Bytes,
}

/// Where a material stands in a document: the index of each material on the way to it, from the
/// source of the build down. The empty path is that source itself.
pub type NodePath = Vec<usize>;

/// First part of the path of what belongs to the source of the build and is asked of somebody else
/// than who resolves that source. No material has this index.
pub const ASIDE: usize = usize::MAX;

/// All that was resolved so far for one decision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Of the source itself.
    pub root: SourceMeta,
    /// Of the materials of its provenance, and of theirs.
    pub materials: BTreeMap<NodePath, SourceMeta>,
    /// Answers to [`ChecksumRequest`]s about the source itself, about the content that `root` is of.
    pub checksums: Vec<ChecksumResponse>,
    /// What signs the image itself.
    pub signatures: Option<ImageSignatures>,
    /// Files that were read, and are no source of the build.
    pub contents: Vec<Content>,
}

impl Known {
    /// Notes what was resolved of the source at `path`. It replaces what was known of it before, but
    /// for what was asked aside.
    pub fn insert(&mut self, path: NodePath, meta: SourceMeta) {
        if path.first() == Some(&ASIDE) {
            self.signatures = meta.signatures.or_else(|| self.signatures.take());
            self.contents.extend(meta.content);
        } else if path.is_empty() {
            self.keep_checksum(&meta);
            self.root = meta;
        } else {
            self.materials.insert(path, meta);
        }
    }

    /// A later answer holds one digest; the earlier ones stay true while the file is the same.
    fn keep_checksum(&mut self, meta: &SourceMeta) {
        let checksum = |meta: &SourceMeta| meta.http.as_ref().map(|http| http.checksum.clone());
        if checksum(meta) != checksum(&self.root) {
            self.checksums.clear();
        }
        let answer = meta.http.as_ref().and_then(|http| http.checksum_response.as_ref());
        if let Some(answer) = answer.filter(|answer| !self.checksums.contains(answer)) {
            self.checksums.push(answer.clone());
        }
    }

    /// The answers to [`ChecksumRequest`]s, that of `meta` among them.
    pub fn checksums(&self, meta: Option<&HttpMeta>) -> Vec<ChecksumResponse> {
        let own = meta.and_then(|meta| meta.checksum_response.as_ref());
        let new = own.filter(|own| !self.checksums.contains(own));
        self.checksums.iter().chain(new).cloned().collect()
    }

    /// What is known of the source at `path`; `None` where nothing was resolved of it.
    pub fn get(&self, path: &[usize]) -> Option<&SourceMeta> {
        if path.is_empty() { Some(&self.root) } else { self.materials.get(path) }
    }
}

/// A metadata request under way.
pub type Resolving<'a> =
    Pin<Box<dyn Future<Output = Result<SourceMeta, ResolveError>> + Send + 'a>>;

/// Someone who answers metadata: a registry client, a daemon's gateway, a fixture.
pub trait ResolveSourceMeta: Send + Sync {
    /// Resolves everything that `request` asks for, in one round trip where that can be.
    ///
    /// # Errors
    /// When any part of it cannot be had; a partial answer is not given.
    fn resolve<'a>(&'a self, request: &'a MetaRequest) -> Resolving<'a>;
}
