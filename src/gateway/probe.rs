//! Whether a daemon may be asked for an image's attestations.
//!
//! A daemon ends (dereferencing nil, 0.32 to 0.34) where it is asked for the attestations of what is no
//! OCI index to it. On the control socket the root is read from the daemon's content, and says what
//! it is. A frontend has no such place: there the image is looked up for the platform under which
//! indexes keep attestations, and for one that nobody has, which tells whether there is anything to
//! ask for; and the root is read as a blob of its registry, where that gives it as one (many give
//! only Docker's own types to whoever names none, which are those that would end the daemon).
//!
//! What attests a Docker Hardened Image refers to it, and stands under no platform: its index alone
//! says so. Where a registry does not give the index of what may be one, nobody knows.

use bytes::Bytes;
use tonic::Code;

use super::resolver::{attested_image, failed, unread};
use super::root::{Attested, MAX_ROOT, attested};
use super::{Gateway, Place, ReadError};
use crate::meta::{ImageRequest, MetaRequest, ResolveError};
use crate::source::{ImageSource, Platform, SourceOp};

/// Where Docker gives its hardened images out.
const HARDENED_HOST: &str = "dhi.io";
/// How the repositories begin that an organisation mirrors them to.
const HARDENED_NAME: &str = "dhi-";
/// How the labels of their configs begin, which a mirror cannot take away.
const HARDENED_LABEL: &[u8] = b"com.docker.dhi.";

/// containerd's content service, which a daemon serves beside its own.
const READ: &str = "/containerd.services.content.v1.Content/Read";

/// `containerd.services.content.v1.ReadContentRequest`.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReadContentRequest {
    #[prost(string, tag = "1")]
    pub(super) digest: String,
}

/// `containerd.services.content.v1.ReadContentResponse`. What is larger than one is an error here: a
/// message holds 1 MiB.
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ReadContentResponse {
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) data: Bytes,
}

/// What a daemon says of an image by the platforms that it has.
enum Kept {
    /// It is one image for every platform, with no place for attestations.
    Image,
    /// It is an index without any under the platform of attestations.
    Nothing {
        /// Of the image that was asked for.
        config: Bytes,
    },
    /// There is something under that platform.
    Something,
}

/// What a daemon says of an image for one platform.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Seen {
    /// Its config.
    Config(Bytes),
    /// It has none: nothing is there, or something that is no image.
    None(String),
}

impl Gateway {
    /// Whether the chain is asked for: there is one, and the daemon lives on. The source has a digest,
    /// so that what is looked at is what will be asked about.
    pub(super) async fn has_attestations(
        &self,
        request: &MetaRequest,
    ) -> Result<bool, ResolveError> {
        let what = || request.source.masked();
        let image = attested_image(request)?;
        let Some(digest) = image.digest.clone() else {
            let why = "its digest is not known".to_owned();
            return Err(ResolveError::Unsupported { what: what(), why });
        };
        let root = match self.place {
            Place::ControlSocket => self.stored(request, digest).await?,
            Place::Frontend => match self.kept(request).await? {
                Kept::Image => return Ok(false),
                Kept::Nothing { config } if !may_be_hardened(&image, &config) => return Ok(false),
                Kept::Nothing { config: _ } => match self.blob(&image, &digest).await? {
                    Some(root) => root,
                    None => return Err(unseen(request)),
                },
                Kept::Something => match self.blob(&image, &digest).await? {
                    Some(root) => root,
                    None => return Ok(true),
                },
            },
        };
        match attested(&root) {
            Ok(Attested::Absent) => Ok(false),
            Ok(Attested::Askable) => Ok(true),
            Err(error) => Err(ResolveError::Failed { what: what(), source: Box::new(error) }),
        }
    }

    /// The root out of the daemon's content, where it is as soon as the config was looked up.
    async fn stored(&self, request: &MetaRequest, digest: String) -> Result<Bytes, ResolveError> {
        let image = Some(ImageRequest { config: true, attestations: false });
        self.once(&MetaRequest { image, ..request.clone() }).await?;
        let root: ReadContentResponse = self
            .channel
            .call(READ, &http::HeaderMap::new(), &ReadContentRequest { digest })
            .await
            .map_err(|status| failed(&request.source, &status))?;
        Ok(root.data)
    }

    /// The root as a blob; `None` where its registry does not have it as one.
    async fn blob(&self, image: &ImageSource, digest: &str) -> Result<Option<Bytes>, ResolveError> {
        let root = SourceOp::new(format!("docker-image+blob://{}@{digest}", image.full_repo()));
        match self.file(&root, MAX_ROOT).await {
            Ok(Some(bytes)) => Ok(Some(bytes)),
            Ok(None) => Err(ResolveError::NotFound { what: root.masked() }),
            Err(ReadError::Daemon(status)) if is_none(status.code()) => Ok(None),
            Err(error) => Err(unread(&root, error)),
        }
    }

    /// What the image has under the platform of attestations. A plain manifest is the same image for each
    /// platform; an index without any has none for both, and says so alike.
    ///
    /// The root is at the daemon once the image was looked up, so that no registry has a say in whether
    /// both are alike.
    async fn kept(&self, request: &MetaRequest) -> Result<Kept, ResolveError> {
        let image = Some(ImageRequest { config: true, attestations: false });
        let found = self.once(&MetaRequest { image, ..request.clone() }).await?;
        let (kept, control) = futures_util::future::join(
            self.seen(request, Platform::from_parts("unknown", "unknown", "")),
            self.seen(request, Platform::from_parts("buildgate", "none", "")),
        )
        .await;
        match (kept?, control?) {
            (Seen::Config(kept), Seen::Config(control)) if kept == control => Ok(Kept::Image),
            (Seen::None(kept), Seen::None(control)) if kept == control => {
                let config = found.image.and_then(|image| image.config).unwrap_or_default();
                Ok(Kept::Nothing { config })
            }
            (Seen::Config(_) | Seen::None(_), Seen::None(_)) => Ok(Kept::Something),
            (Seen::Config(_) | Seen::None(_), Seen::Config(_)) => Err(ResolveError::Failed {
                what: request.source.masked(),
                source: "what the daemon says of its platforms does not fit together: its \
                         attestations could not be verified"
                    .into(),
            }),
        }
    }

    async fn seen(&self, request: &MetaRequest, platform: Platform) -> Result<Seen, ResolveError> {
        let probe = MetaRequest {
            source: request.source.clone(),
            platform: Some(platform),
            image: Some(ImageRequest { config: true, attestations: false }),
            ..MetaRequest::default()
        };
        match self.answer(&probe).await {
            Ok(answer) => {
                Ok(Seen::Config(answer.image.map(|image| image.config).unwrap_or_default()))
            }
            Err(status) if is_none(status.code()) || status.code() == Code::InvalidArgument => {
                Ok(Seen::None(status.message().to_owned()))
            }
            Err(status) => Err(failed(&request.source, &status)),
        }
    }
}

/// Whether an image without attestations in its index may have some that refer to it: by what it is called,
/// or by the labels of its config. What is built on one has those too.
fn may_be_hardened(image: &ImageSource, config: &[u8]) -> bool {
    let named = |part: &str| part == "dhi" || part.starts_with(HARDENED_NAME);
    image.host == HARDENED_HOST
        || image.path.split('/').any(named)
        || config.windows(HARDENED_LABEL.len()).any(|it| it == HARDENED_LABEL)
}

/// What attests it may refer to it, and its index, which would tell, is out of sight.
fn unseen(request: &MetaRequest) -> ResolveError {
    ResolveError::Unsupported {
        what: format!("what attests {}", request.source.masked()),
        why: "by its name or its labels it may be a Docker Hardened Image, whose attestations refer to \
              it, and its registry does not show BuildKit the index that would tell, so that they \
              could not be verified here; the gate and `buildgate check` see it"
            .to_owned(),
    }
}

/// Whether a daemon says by this that something is not there. It has no code of its own for most of what
/// registries answer.
fn is_none(code: Code) -> bool {
    match code {
        Code::NotFound | Code::Unknown => true,
        Code::Ok
        | Code::Cancelled
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}
