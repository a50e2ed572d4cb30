//! Who answers metadata: registries, HTTP servers, git, fixtures.
//!
//! [`Network`] asks the world, [`Offline`] refuses to, [`Fixtures`] answer from memory. All of
//! them answer only what they are asked, and an answer is whole or an error. Nothing here judges.

mod digest;
mod fixtures;
mod git;
mod http;
mod memo;
mod options;
mod registry;
mod tls;
mod transport;

use std::sync::Arc;

pub use fixtures::{FileFixture, FixtureError, Fixtures};
pub use options::{Options, Retries, Sizes, Timeouts};
pub use registry::CredentialError;
#[doc(hidden)]
pub use registry::{Reading, read_anything};
pub use tls::TlsError;
pub(crate) use tls::client as tls_client;
pub use transport::SetupError as TransportSetupError;
pub(crate) use transport::{Body, Outgoing, Transport};

use self::git::Repositories;
use self::http::Files;
use self::memo::Memo;
use self::registry::Registries;
use crate::meta::{Content, MetaRequest, ResolveError, ResolveSourceMeta, Resolving, SourceMeta};
use crate::source::Source;

/// Asks registries, HTTP servers and git repositories; each thing once in a run.
pub struct Network {
    registries: Registries,
    files: Files,
    repositories: Repositories,
    options: Options,
    answers: Memo<MetaRequest, SourceMeta>,
}

/// A network that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// HTTP cannot be set up.
    #[error(transparent)]
    Transport(#[from] TransportSetupError),
    /// Docker's credentials cannot be read.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
}

/// Fetches nothing: every request is an error that names what would have to be fetched.
#[derive(Clone, Copy, Debug, Default)]
pub struct Offline;

impl Network {
    /// A network as `options` have it. Nothing is fetched yet.
    ///
    /// # Errors
    /// When the CA file or Docker's config cannot be used.
    pub fn new(options: Options) -> Result<Self, SetupError> {
        let transport = Arc::new(Transport::new(&options)?);
        Ok(Self {
            registries: Registries::new(Arc::clone(&transport), &options)?,
            files: Files::new(transport, options.sizes.file),
            repositories: Repositories::new(options.sizes.git),
            answers: Memo::default(),
            options,
        })
    }

    async fn ask(&self, request: &MetaRequest) -> Result<SourceMeta, ResolveError> {
        let source = Source::parse(&request.source)
            .map_err(|error| transport::failed(&request.source.identifier, error))?;
        let attrs = &request.source.attrs;
        let mut meta = SourceMeta::default();
        match &source {
            Source::Image(image) => {
                if let Some(asked) = request.image {
                    let platform = request.platform.as_ref().unwrap_or(&self.options.platform);
                    meta.image = Some(self.registries.resolve(image, platform, asked).await?);
                }
                if let Some(asked) = &request.signatures {
                    let found = self.registries.signatures(image, &asked.digest).await?;
                    meta.signatures = Some(found);
                }
            }
            Source::Http(file) => {
                if let Some(asked) = &request.http {
                    meta.http = Some(self.files.resolve(file, attrs, asked).await?);
                }
                if request.content.is_some() {
                    let data = self.files.content(file, attrs).await?;
                    meta.content = Some(Content { source: request.source.clone(), data });
                }
            }
            Source::Git(repository) => {
                if let Some(asked) = request.git {
                    meta.git = Some(self.repositories.resolve(repository, attrs, asked).await?);
                }
            }
            Source::Local(local) => {
                return Err(nothing(
                    format!("the directory `{}`", local.name),
                    "a directory of the client has no metadata",
                ));
            }
            Source::OciLayout(layout) => {
                return Err(nothing(
                    format!("the OCI layout `{}`", layout.name),
                    "it is the client's own, and no registry has it",
                ));
            }
            Source::Blob(blob) => {
                return Err(nothing(
                    format!("the blob {}", blob.digest),
                    "a blob has no metadata but its digest",
                ));
            }
        }
        Ok(meta)
    }
}

impl ResolveSourceMeta for Network {
    fn resolve<'a>(&'a self, request: &'a MetaRequest) -> Resolving<'a> {
        Box::pin(async move {
            let after = self.options.timeouts.total;
            let answer = self.answers.get(request.clone(), self.ask(request));
            match tokio::time::timeout(after, answer).await {
                Ok(answer) => answer,
                Err(_) => Err(ResolveError::Timeout { what: named(request), after }),
            }
        })
    }
}

impl ResolveSourceMeta for Offline {
    fn resolve<'a>(&'a self, request: &'a MetaRequest) -> Resolving<'a> {
        Box::pin(std::future::ready(Err(ResolveError::Offline { what: wanted(request) })))
    }
}

fn nothing(what: String, why: &str) -> ResolveError {
    ResolveError::Unsupported { what, why: why.into() }
}

/// The source of a request, for people: userinfo and query left out of URLs.
fn named(request: &MetaRequest) -> String {
    let identifier = &request.source.identifier;
    match url::Url::parse(identifier) {
        Ok(url) if matches!(url.scheme(), "http" | "https" | "git") => transport::shown(&url),
        _ => request.source.masked(),
    }
}

/// What a request asks for, for people.
fn wanted(request: &MetaRequest) -> String {
    let image = request.image.map(|asked| match (asked.config, asked.attestations) {
        (false, false) => "the digest",
        (true, false) => "the config",
        (false, true) => "the attestations",
        (true, true) => "the config and the attestations",
    });
    let git = request.git.map(|asked| match asked.objects {
        false => "the commit",
        true => "the commit and tag objects",
    });
    let http = request.http.as_ref().map(|_| "the checksum");
    let signatures = request.signatures.as_ref().map(|_| "the signatures");
    let content = request.content.map(|_| "the content");
    let parts: Vec<&str> = [image, git, http, signatures, content].into_iter().flatten().collect();
    let parts = if parts.is_empty() { "metadata".to_owned() } else { parts.join(" and ") };
    format!("{parts} of {}", named(request))
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
