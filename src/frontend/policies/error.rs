//! Why a build has no policies, and so is refused.

use tonic::Status;

use crate::check::CheckError;
use crate::policy::PolicyError;
use crate::source::{SourceError, SourceOp};
use crate::verify::GithubError;

/// Policies that cannot be had. The build is refused.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is none at all.
    #[error(
        "there is no policy, so nothing is allowed: put {file}.rego beside the Dockerfile, pass \
         --build-context policy=DIR, or bake policies into the frontend's image"
    )]
    None {
        /// Name of the Dockerfile.
        file: String,
    },
    /// One cannot be loaded.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The folder of the image cannot be read.
    #[error("{path}: {source}")]
    Baked {
        /// The folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// Something in the folder of the image is neither a policy nor of use to one.
    #[error(
        "{path} lies among the policies of the frontend's image, but holds no rules (*.rego), and \
         no rule beside it reads it"
    )]
    Idle {
        /// The file or folder.
        path: String,
    },
    /// A trust root of the image cannot be used.
    #[error("trust root: {0}")]
    Trust(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The GitHub that the image names cannot be used.
    #[error("{path}: {source}")]
    Github {
        /// The file that names it.
        path: String,
        /// Why not.
        source: GithubError,
    },
    /// The daemon could not read the files.
    #[error("the policy files of {place} cannot be read: {}", status.message())]
    Files {
        /// Where they are.
        place: String,
        /// What the daemon said.
        status: Box<Status>,
    },
    /// The named context is of a kind that no policy is read from.
    #[error("the build context `policy` is `{value}`; only a directory can hold a policy")]
    Context {
        /// As given.
        value: String,
    },
    /// A remote context without anyone to judge it.
    #[error(
        "the context {context} would be fetched before any policy is known: pass \
         --build-context policy=DIR, or bake policies into the frontend's image"
    )]
    Unjudged {
        /// As given.
        context: String,
    },
    /// What policies read cannot be told.
    #[error("what a policy reads cannot be told: {0}")]
    Names(#[from] regex::Error),
    /// A remote context that is none.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What holds the policy could not be judged.
    #[error(transparent)]
    Check(#[from] Box<CheckError>),
    /// What holds the policy is denied by the policies before it.
    #[error("{op} is denied by {policy}: {}", messages.join("; "))]
    Denied {
        /// The source.
        op: SourceOp,
        /// Who denies it.
        policy: String,
        /// In its words.
        messages: Vec<String>,
    },
    /// What holds the policy is replaced by something that nobody judged.
    #[error("what a policy puts in place of {op} was not judged")]
    Unsettled {
        /// The source.
        op: SourceOp,
    },
    /// The Dockerfile is in an input whose sources cannot be told.
    #[error("the input `{name}` holds the Dockerfile, and cannot be judged: {source}")]
    Input {
        /// Its name.
        name: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The build names a frontend beside this one.
    #[error("BUILDKIT_SYNTAX names {other}, which is not followed from inside this frontend")]
    Syntax {
        /// As given.
        other: String,
    },
    /// A policy wants the build's HTTP traffic proxied.
    #[error(
        "a policy asks for exec.proxy, which no frontend can switch on: it takes a gate in front \
         of buildkitd, or Buildx's own --policy"
    )]
    ExecProxy,
}
