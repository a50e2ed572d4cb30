//! A registry client that only pulls metadata: digests, image configs and attestations.
//!
//! It is written over `reqwest` rather than taken from `oci-client`: that one (0.18) reads every
//! manifest, token and list of referrers with `Response::bytes`, without a limit, follows redirects
//! by reqwest's defaults, asks no token server for an identity token, and does not try again after
//! a 429; none of it can be set from outside. Here every answer is bounded in size and time,
//! every digest is verified, and nothing is fetched that was not asked for.
//!
//! Whatever cannot be read for certain is an error: a chain of attestations that could not be
//! fetched is never the same as an image without attestations.

mod auth;
mod chain;
mod content;
mod credentials;
mod document;
mod links;
mod platform;
mod reading;
mod referrers;
mod signatures;

use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;

use self::auth::Access;
use self::content::{Contents, Repository, index_of};
pub use self::credentials::CredentialError;
use self::credentials::Credentials;
use self::document::{Content, DescribedPlatform, Descriptor, Document, Manifest, media_type};
use self::platform::{Nesting, accepts, candidates};
pub use self::reading::{Reading, read_anything};
use super::options::Options;
use super::transport::{Transport, failed};
use crate::meta::{ImageMeta, ImageRequest, ResolveError};
use crate::source::{ImageSource, Platform};

/// Indexes in indexes are followed so deep.
const MAX_NESTING: usize = 4;
/// Manifests of an index that do not say their platform are opened, so many of them.
const MAX_UNNAMED: usize = 8;

/// Registries, one client for all.
pub(crate) struct Registries {
    contents: Contents,
}

/// An image that is none for us.
#[derive(Debug, thiserror::Error)]
enum ImageError {
    #[error("it has no image for the platform {wanted}{}", list(.offered))]
    NoPlatform { wanted: String, offered: Vec<String> },
    #[error("indexes are nested more than {MAX_NESTING} deep")]
    Nested,
    #[error("it is no container image: its config is of type {0:?}")]
    NoImage(String),
    #[error("its config is not JSON: {0}")]
    Config(serde_json::Error),
    #[error("the image has neither tag nor digest")]
    NoReference,
}

impl Registries {
    /// A client over `transport` with Docker's credentials.
    ///
    /// # Errors
    /// When Docker's config is there and cannot be used.
    pub(crate) fn new(
        transport: Arc<Transport>,
        options: &Options,
    ) -> Result<Self, CredentialError> {
        let credentials = Credentials::load(options.docker_config.as_ref())?;
        let access = Access::new(transport, credentials);
        Ok(Self { contents: Contents::new(access, options) })
    }

    /// What `request` asks for of `image`. A reference with a digest is not fetched for its digest.
    ///
    /// # Errors
    /// When any part of it cannot be had, or is not what its digest says.
    pub(crate) async fn resolve(
        &self,
        image: &ImageSource,
        platform: &Platform,
        request: ImageRequest,
    ) -> Result<ImageMeta, ResolveError> {
        let repository = Repository { host: image.host.clone(), path: image.path.clone() };
        let reference = match (&image.digest, &image.tag) {
            (Some(digest), _) => digest.as_str(),
            (None, Some(tag)) => tag.as_str(),
            (None, None) => {
                let what = format!("{}/{}", image.host, image.path);
                return Err(failed(&what, ImageError::NoReference));
            }
        };
        if let (Some(digest), ImageRequest { config: false, attestations: false }) =
            (&image.digest, request)
        {
            return Ok(ImageMeta { digest: Some(digest.clone()), ..ImageMeta::default() });
        }
        let root = self.contents.document(&repository, reference).await?;
        let mut meta = ImageMeta { digest: Some(root.digest.clone()), ..ImageMeta::default() };
        if request.config {
            meta.config = Some(self.config(&repository, &root, platform).await?);
        }
        if request.attestations {
            meta.attestations = Some(self.chain(&repository, &root, platform).await?);
        }
        Ok(meta)
    }

    async fn config(
        &self,
        repository: &Repository,
        root: &Arc<Document>,
        platform: &Platform,
    ) -> Result<Bytes, ResolveError> {
        let (document, _) = self.image(repository, root, platform, Nesting::Follow).await?;
        match &document.content {
            Content::Manifest(manifest) => {
                self.config_of(repository, &document.digest, manifest).await
            }
            Content::Index(_) => {
                Err(failed(&repository.what(&document.digest), ImageError::Nested))
            }
        }
    }

    async fn config_of(
        &self,
        repository: &Repository,
        digest: &str,
        manifest: &Manifest,
    ) -> Result<Bytes, ResolveError> {
        let what = repository.what(digest);
        match manifest.config.media_type.as_str() {
            media_type::OCI_CONFIG | media_type::DOCKER_CONFIG => {}
            other => return Err(failed(&what, ImageError::NoImage(other.into()))),
        }
        let config = self.contents.config(repository, &manifest.config).await?;
        let parsed = serde_json::from_slice::<serde::de::IgnoredAny>(&config);
        parsed.map_err(|error| failed(&what, ImageError::Config(error)))?;
        Ok(config)
    }

    /// The manifest for `platform`, with the descriptor that led there. A root that is one image
    /// is taken whatever its platform, as BuildKit does.
    async fn image(
        &self,
        repository: &Repository,
        root: &Arc<Document>,
        platform: &Platform,
        nesting: Nesting,
    ) -> Result<(Arc<Document>, Option<Descriptor>), ResolveError> {
        let what = repository.what(&root.digest);
        let mut document = Arc::clone(root);
        let mut via = None;
        for _ in 0..=MAX_NESTING {
            let Some(index) = index_of(&document) else {
                return Ok((document, via));
            };
            let found = candidates(&index.manifests, platform, nesting);
            let chosen = self.choose(repository, &found, platform).await?.ok_or_else(|| {
                let offered = index.manifests.iter().filter_map(offer).collect();
                let wanted = text(platform);
                failed(&what, ImageError::NoPlatform { wanted, offered })
            })?;
            via = Some(chosen.clone());
            document = self.contents.described(repository, chosen).await?;
        }
        Err(failed(&what, ImageError::Nested))
    }

    /// The first candidate that says its platform, or else turns out to be for it.
    async fn choose<'a>(
        &self,
        repository: &Repository,
        candidates: &[&'a Descriptor],
        platform: &Platform,
    ) -> Result<Option<&'a Descriptor>, ResolveError> {
        for candidate in candidates.iter().take(MAX_UNNAMED) {
            if candidate.platform.is_some() {
                return Ok(Some(candidate));
            }
            let document = self.contents.described(repository, candidate).await?;
            let Content::Manifest(manifest) = &document.content else {
                return Ok(Some(candidate));
            };
            let config = self.config_of(repository, &document.digest, manifest).await?;
            let what = repository.what(&document.digest);
            let found =
                DescribedPlatform::deserialize(&mut serde_json::Deserializer::from_slice(&config))
                    .map_err(|error| failed(&what, ImageError::Config(error)))?;
            if accepts(platform, &found) {
                return Ok(Some(candidate));
            }
        }
        Ok(None)
    }
}

/// The platform that a descriptor offers, for people.
fn offer(descriptor: &Descriptor) -> Option<String> {
    let platform = descriptor.platform.as_ref().filter(|platform| platform.os != "unknown")?;
    Some(joined(&platform.os, &platform.architecture, &platform.variant))
}

fn text(platform: &Platform) -> String {
    joined(&platform.os, &platform.architecture, &platform.variant)
}

fn joined(os: &str, architecture: &str, variant: &str) -> String {
    let parts = [os, architecture, variant];
    parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/")
}

fn list(platforms: &[String]) -> String {
    const SHOWN: usize = 8;
    if platforms.is_empty() {
        return String::new();
    }
    let more = if platforms.len() > SHOWN { ", …" } else { "" };
    let shown = platforms.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    format!(" (it has {shown}{more})")
}

#[cfg(test)]
mod signatures_tests;
#[cfg(test)]
mod tests;
