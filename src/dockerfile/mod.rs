//! Which sources a build of a Dockerfile would load, and at which line, without a daemon.
//!
//! [`plan()`] reads a Dockerfile as BuildKit's stock frontend does (v0.34) and answers with the same
//! [`SourceOp`]s: contexts, the `# syntax` frontend, `FROM`, `COPY --from`, `RUN --mount=from=`,
//! `ADD` of URLs and git repositories, in the stages that the target needs. Nothing is fetched, so
//! the configuration of base images is not known: what their `ONBUILD` triggers load is not in the
//! plan, and a variable that they may set counts as unset, with a warning. It knows no policy.

mod add;
mod build;
mod context;
mod directive;
mod error;
mod expand;
mod flags;
mod graph;
mod instruction;
mod mount;
mod node;
mod pattern;
mod plan;
mod stages;
mod variables;
mod words;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;

use crate::source::{Platform, SourceOp};

pub use error::{DockerfileError, ExpandError, Problem};
pub use plan::plan;

/// How a build is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// `--build-arg`, by name. `None` is a name without a value whose variable the caller did not
    /// find in its environment: it counts as not given.
    pub build_args: BTreeMap<String, Option<String>>,
    /// `--target`; the last stage where there is none.
    pub target: Option<String>,
    /// `--platform`; the build platform where it is empty.
    pub platforms: Vec<Platform>,
    /// The platform of whoever builds.
    pub build_platform: Platform,
    /// `--build-context`, by name. A name may end in `::os/arch`.
    pub contexts: BTreeMap<String, String>,
    /// The main context.
    pub context: ContextKind,
    /// Where the Dockerfile is read from.
    pub dockerfile: DockerfileKind,
}

impl Options {
    fn build_arg(&self, name: &str) -> Option<&str> {
        self.build_args.get(name)?.as_deref()
    }
}

/// Where the main context is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ContextKind {
    /// A directory of the client.
    #[default]
    Local,
    /// A git repository or a URL, as given on the command line.
    Remote(String),
    /// Standard input holds the Dockerfile, and the context is empty: to a build, a directory.
    Stdin,
}

/// Where the Dockerfile is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DockerfileKind {
    /// With the client, whatever the context is.
    #[default]
    Client,
    /// In the main context where that is remote.
    Context,
}

/// Everything that a build would load.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order in which a reader meets them: frontend, Dockerfile, context, then by stage. A
    /// source is there once for each place and platform that it is loaded for.
    pub sources: Vec<SourceUse>,
    /// What the plan cannot know.
    pub warnings: Vec<Warning>,
}

impl Plan {
    /// The Dockerfile's lines at which the source of this identifier stands, in order.
    ///
    /// An image may be asked for by tag, or by the digest that the tag was resolved to; a layout is told
    /// by its digest, for its name is written in several ways.
    pub fn lines_of(&self, identifier: &str) -> Vec<Lines> {
        let tagged =
            |identifier: &str| identifier.rsplit_once('@').map(|(name, _)| name.to_owned());
        let asked = tagged(identifier).filter(|_| identifier.starts_with("docker-image://"));
        let layout = |identifier: &str| {
            let name = identifier.strip_prefix("oci-layout://")?;
            Some(name.rsplit_once('@')?.1.to_owned())
        };
        let digest = layout(identifier);
        let mut lines: Vec<Lines> = self
            .sources
            .iter()
            .filter(|used| {
                used.op.identifier == identifier
                    || Some(&used.op.identifier) == asked.as_ref()
                    || (digest.is_some() && layout(&used.op.identifier) == digest)
            })
            .filter_map(|used| used.lines)
            .collect();
        lines.sort();
        lines.dedup();
        lines
    }
}

/// A source and where a build uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceUse {
    /// As the frontend would send it, without what only a session knows (ids of sessions and
    /// stores, SSH host keys) and without patterns of a local directory.
    pub op: SourceOp,
    /// Platform that it is resolved for; none where it has none, or the daemon's default counts.
    pub platform: Option<Platform>,
    /// What makes the build load it.
    pub via: Via,
    /// The whole instruction; none where no line of the Dockerfile says so.
    pub lines: Option<Lines>,
    /// As written, before expansion.
    pub text: String,
}

/// What makes a build load a source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Via {
    /// `# syntax=…`, or the build argument `BUILDKIT_SYNTAX`.
    Syntax,
    /// The directory that holds the Dockerfile.
    Dockerfile,
    /// The main context.
    Context,
    /// `FROM`.
    From {
        /// The stage's name, or its index.
        stage: String,
    },
    /// `COPY --from`.
    CopyFrom,
    /// `RUN --mount=from=`.
    MountFrom,
    /// `ADD`.
    Add,
    /// `--build-context`, in place of what the Dockerfile says.
    NamedContext {
        /// The name that was matched.
        name: String,
    },
    /// `SOURCE_DATE_EPOCH`, which may name a stage or a context to take the time from.
    Epoch,
}

/// Lines of a Dockerfile: 1-based, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lines {
    /// The first.
    pub start: usize,
    /// The last, heredocs included.
    pub end: usize,
}

impl Lines {
    fn one(line: usize) -> Self {
        Self { start: line, end: line }
    }
}

/// Something that the plan cannot know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// Where it matters.
    pub lines: Option<Lines>,
    /// What it is.
    pub kind: WarningKind,
}

/// What the plan cannot know.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum WarningKind {
    /// A source depends on a variable that is not set here; the base image may set it.
    BaseVariable {
        /// The variable.
        name: String,
    },
    /// The file is read by another frontend than the Dockerfile's, which may load what it likes.
    OtherFrontend {
        /// Its image, as written.
        image: String,
    },
    /// The file is not a Dockerfile: only its frontend and its context are known.
    NotADockerfile {
        /// Its frontend's image, as written.
        image: String,
    },
    /// A named context is an input of the client (`input:`), whose sources it does not tell.
    ClientInput {
        /// The context.
        name: String,
    },
}

impl fmt::Display for WarningKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BaseVariable { name } => write!(
                f,
                "${name} is not set in the Dockerfile and counts as empty; the base image may set it"
            ),
            Self::OtherFrontend { image } => write!(
                f,
                "the frontend {image} reads this file; it may load more than a Dockerfile would"
            ),
            Self::NotADockerfile { image } => write!(
                f,
                "only the frontend {image} can read this file; what it loads is not known"
            ),
            Self::ClientInput { name } => {
                write!(
                    f,
                    "the build context {name} is made by the client; its sources are not known"
                )
            }
        }
    }
}
