//! Which sources an LLB definition loads, and at which lines of a Dockerfile.
//!
//! Every op of the list counts, reachable or not: the daemon loads what it likes of them. Ops of a
//! kind that we do not know are refused, for they may fetch as well. Nothing here changes LLB.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use bytes::{Buf, Bytes};
use prost::Message;

use super::kind::{KindError, TwoKinds, digest, single};
use super::proto::{errdefs, pb};
use super::raw::RawError;
use super::source::PlatformError;
use crate::source::{Platform, SourceOp};

/// Ops in a definition, those of nested ones included. Large bake files have some thousands; no message
/// that a daemon takes has many more of any use than this.
pub const MAX_OPS: usize = 131_072;

/// Definitions inside definitions.
pub const MAX_DEPTH: usize = 8;

/// Lines that an op comes from: one entry for each place.
pub type Lines = Arc<[errdefs::Source]>;

/// What of a definition wants a decision.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Loads {
    /// What is loaded from elsewhere, in the definition's order, each op once.
    pub sources: Vec<SourceVertex>,
    /// Builds whose LLB is read from a file while the build runs, and so cannot be looked into.
    pub builds: Vec<BuildVertex>,
}

/// A source op.
#[derive(Clone, Debug, PartialEq)]
pub struct SourceVertex {
    /// `sha256:…` of the marshalled op.
    pub digest: String,
    /// The source.
    pub source: SourceOp,
    /// The platform it is loaded for; `None` means the daemon's default.
    pub platform: Option<Platform>,
    /// Its lines; those of the nearest op that consumes it where it has none of its own.
    pub lines: Lines,
}

/// A build op.
#[derive(Clone, Debug, PartialEq)]
pub struct BuildVertex {
    /// `sha256:…` of the marshalled op.
    pub digest: String,
    /// Its lines, as for a source.
    pub lines: Lines,
}

/// A definition that cannot be judged.
#[derive(Debug, thiserror::Error)]
pub enum LlbError {
    /// It is no `Definition`.
    #[error("LLB: malformed definition")]
    Definition(#[source] prost::DecodeError),
    /// An op is no `Op`.
    #[error("LLB: op {index} is malformed")]
    Op {
        /// Its place in the list.
        index: usize,
        /// What is wrong with it.
        source: prost::DecodeError,
    },
    /// The fields of an op cannot be told apart.
    #[error("LLB: op {index}: {source}")]
    Fields {
        /// Its place in the list.
        index: usize,
        /// What is wrong with it.
        source: RawError,
    },
    /// An op that others could take for another one.
    #[error(transparent)]
    TwoKinds(#[from] TwoKinds),
    /// An op of no kind that we know.
    #[error("LLB: op {digest} is of an unknown kind")]
    UnknownOp {
        /// The op.
        digest: String,
    },
    /// The platform of a source is none of ours.
    #[error("LLB: source `{identifier}`")]
    Platform {
        /// The source.
        identifier: String,
        /// What is wrong with its platform.
        source: PlatformError,
    },
    /// A location points at a file that is not there.
    #[error("LLB: the location of op {digest} names file {index}, which is not there")]
    Location {
        /// The op.
        digest: String,
        /// The index it names.
        index: i32,
    },
    /// More than [`MAX_OPS`].
    #[error("LLB: more than {MAX_OPS} ops")]
    TooManyOps,
    /// More than [`MAX_DEPTH`].
    #[error("LLB: definitions are nested more than {MAX_DEPTH} deep")]
    TooDeep,
}

impl Loads {
    /// Reads a `Definition`.
    ///
    /// # Errors
    /// As [`Loads::of`], and when it is malformed.
    pub fn decode(message: impl Buf) -> Result<Self, LlbError> {
        Self::of(&pb::Definition::decode(message).map_err(LlbError::Definition)?)
    }

    /// Walks a definition, and those in its build ops.
    ///
    /// # Errors
    /// When an op or a location in it cannot be read, or there is too much of it.
    pub fn of(definition: &pb::Definition) -> Result<Self, LlbError> {
        let mut loads = Self::default();
        let mut budget = MAX_OPS;
        loads.walk(definition, &mut budget, 1)?;
        Ok(loads)
    }

    fn walk(
        &mut self,
        definition: &pb::Definition,
        budget: &mut usize,
        depth: usize,
    ) -> Result<(), LlbError> {
        if depth > MAX_DEPTH {
            return Err(LlbError::TooDeep);
        }
        let pb::Definition { def, metadata: _, source } = definition;
        *budget = budget.checked_sub(def.len()).ok_or(LlbError::TooManyOps)?;
        let vertices = vertices(def)?;
        let lines = lines(&vertices, source.as_ref())?;
        for (Vertex { digest, op, .. }, lines) in vertices.into_iter().zip(lines) {
            match op {
                Kind::Source(source, platform) => {
                    self.sources.push(SourceVertex { digest, source, platform, lines });
                }
                Kind::Build(nested) => {
                    if let Some(nested) = nested {
                        self.walk(&nested, budget, depth + 1)?;
                    }
                    self.builds.push(BuildVertex { digest, lines });
                }
                Kind::Local => {}
            }
        }
        Ok(())
    }
}

struct Vertex {
    digest: String,
    /// Digests of the ops that it consumes.
    inputs: Vec<String>,
    op: Kind,
}

enum Kind {
    Source(SourceOp, Option<Platform>),
    Build(Option<pb::Definition>),
    /// Works on what its inputs give it.
    Local,
}

/// Reads the ops, each once.
fn vertices(def: &[Bytes]) -> Result<Vec<Vertex>, LlbError> {
    let mut seen = BTreeSet::new();
    let mut vertices = Vec::with_capacity(def.len());
    for (index, bytes) in def.iter().enumerate() {
        let digest = digest(bytes);
        if !seen.insert(digest.clone()) {
            continue;
        }
        let op = pb::Op::decode(bytes.clone()).map_err(|source| LlbError::Op { index, source })?;
        single(bytes).map_err(|error| match error {
            KindError::Malformed(source) => LlbError::Fields { index, source },
            KindError::TwoKinds(error) => error.into(),
        })?;
        let is_last = index + 1 == def.len();
        vertices.push(vertex(digest, op, is_last)?);
    }
    Ok(vertices)
}

fn vertex(digest: String, op: pb::Op, is_last: bool) -> Result<Vertex, LlbError> {
    let pb::Op { inputs, op, platform, constraints: _ } = op;
    let kind = match op {
        Some(pb::op::Op::Source(source)) => {
            let source = SourceOp::from(source);
            let platform = platform.map(TryInto::try_into).transpose().map_err(|error| {
                LlbError::Platform { identifier: source.identifier.clone(), source: error }
            })?;
            Kind::Source(source, platform)
        }
        Some(pb::op::Op::Build(pb::BuildOp { builder: _, inputs: _, def, attrs: _ })) => {
            Kind::Build(def)
        }
        Some(
            pb::op::Op::Exec(_)
            | pb::op::Op::File(_)
            | pb::op::Op::Merge(_)
            | pb::op::Op::Diff(_)
            | pb::op::Op::Passthrough(_),
        ) => Kind::Local,
        // The last op only names the result.
        None if is_last => Kind::Local,
        None => return Err(LlbError::UnknownOp { digest }),
    };
    let inputs = inputs.into_iter().map(|pb::Input { digest, index: _ }| digest).collect();
    Ok(Vertex { digest, inputs, op: kind })
}

/// The lines of each vertex: its own, or those of the nearest one that consumes it, directly or
/// through others that have none; of several that are equally near, the first.
fn lines(vertices: &[Vertex], source: Option<&pb::Source>) -> Result<Vec<Lines>, LlbError> {
    let Some(source) = source else {
        return Ok(vec![Lines::default(); vertices.len()]);
    };
    let mut own = own_lines(source)?;
    let mut found: Vec<Option<Lines>> =
        vertices.iter().map(|vertex| own.remove(vertex.digest.as_str())).collect();
    let places: BTreeMap<&str, usize> =
        vertices.iter().enumerate().map(|(place, v)| (v.digest.as_str(), place)).collect();

    let mut queue: VecDeque<(usize, Lines)> =
        found.iter().enumerate().filter_map(|(at, lines)| Some((at, lines.clone()?))).collect();
    while let Some((consumer, lines)) = queue.pop_front() {
        let inputs = vertices.get(consumer).map(|vertex| vertex.inputs.as_slice());
        for input in inputs.unwrap_or_default() {
            let Some(&place) = places.get(input.as_str()) else {
                continue;
            };
            if let Some(free @ None) = found.get_mut(place) {
                *free = Some(lines.clone());
                queue.push_back((place, lines.clone()));
            }
        }
    }
    Ok(found.into_iter().map(Option::unwrap_or_default).collect())
}

/// What the definition says of the lines of each op, without the entries that say nothing.
fn own_lines(source: &pb::Source) -> Result<BTreeMap<&str, Lines>, LlbError> {
    let pb::Source { locations, infos } = source;
    let mut own = BTreeMap::new();
    for (digest, pb::Locations { locations }) in locations {
        let mut lines = Vec::new();
        for pb::Location { source_index, ranges } in locations {
            let info = usize::try_from(*source_index).ok().and_then(|index| infos.get(index));
            let Some(pb::SourceInfo { filename, data, definition: _, language }) = info else {
                let index = *source_index;
                return Err(LlbError::Location { digest: digest.clone(), index });
            };
            if ranges.is_empty() {
                continue;
            }
            let info = pb::SourceInfo {
                filename: filename.clone(),
                data: data.clone(),
                definition: None,
                language: language.clone(),
            };
            lines.push(errdefs::Source { info: Some(info), ranges: ranges.clone() });
        }
        if !lines.is_empty() {
            own.insert(digest.as_str(), Lines::from(lines));
        }
    }
    Ok(own)
}
