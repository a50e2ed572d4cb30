//! Builds inside a build (`BuildOp`): LLB that a daemon reads from a file while it builds.
//!
//! They are told by the bytes of an op, which is one thing or none that passes.

use super::kind::{TwoKinds, single};
use super::proto::pb;
use super::raw::{self, RawError};

/// `pb.Op.build`.
const BUILD: u32 = 5;
/// `pb.BuildOp.inputs`, a map.
const INPUTS: u32 = 2;
/// The value of a map's entry.
const VALUE: u32 = 2;

/// What a build inside a build says of its inputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inputs {
    /// Each says which one it is.
    Whole,
    /// One says nothing: BuildKit's decoder makes nil of it, and the daemon ends over that.
    Broken,
}

/// An op that cannot be looked into.
#[derive(Debug, thiserror::Error)]
pub enum NestedError {
    /// It is no message.
    #[error("LLB: {0}")]
    Malformed(#[from] RawError),
    /// It is more than one thing.
    #[error(transparent)]
    TwoKinds(#[from] TwoKinds),
}

/// The builds inside a definition.
///
/// # Errors
/// When an op is no message, or more than one thing.
pub fn nested(definition: &pb::Definition) -> Result<Vec<Inputs>, NestedError> {
    let mut found = Vec::new();
    for op in &definition.def {
        let fields = raw::fields(op)?;
        single(op, &fields)?;
        for field in fields.into_iter().filter(|field| field.number == BUILD) {
            found.push(match field.content {
                Some(build) => inputs(&build)?,
                None => Inputs::Broken,
            });
        }
    }
    Ok(found)
}

fn inputs(build: &bytes::Bytes) -> Result<Inputs, RawError> {
    for entry in raw::fields(build)?.into_iter().filter(|field| field.number == INPUTS) {
        let Some(entry) = entry.content else { return Ok(Inputs::Broken) };
        if !raw::fields(&entry)?.iter().any(|it| it.number == VALUE && it.content.is_some()) {
            return Ok(Inputs::Broken);
        }
    }
    Ok(Inputs::Whole)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;

    fn check(op: &[u8], wanted: &[Inputs]) {
        let def = vec![bytes::Bytes::copy_from_slice(op)];
        let definition = pb::Definition { def, ..pb::Definition::default() };
        assert_eq!(nested(&definition).unwrap(), wanted, "{op:x?}");
    }

    fn build(input: i64) -> Vec<u8> {
        let inputs = [("a".to_owned(), pb::BuildInput { input })].into();
        let build = pb::BuildOp { builder: -1, inputs, ..pb::BuildOp::default() };
        pb::Op { op: Some(pb::op::Op::Build(build)), ..pb::Op::default() }.encode_to_vec()
    }

    #[test]
    fn builds_are_found_by_their_bytes() {
        let source = pb::SourceOp::default();
        let source = pb::Op { op: Some(pb::op::Op::Source(source)), ..pb::Op::default() };
        check(&source.encode_to_vec(), &[]);
        check(&build(1), &[Inputs::Whole]);
        // prost leaves out a value that is all zero.
        check(&build(0), &[Inputs::Broken]);
        check(&[0x28, 1], &[Inputs::Broken]);
        // The last of several counts to some.
        for two in [[build(1), source.encode_to_vec()], [source.encode_to_vec(), build(1)]] {
            let def = vec![two.concat().into()];
            let definition = pb::Definition { def, ..pb::Definition::default() };
            assert!(matches!(nested(&definition), Err(NestedError::TwoKinds(_))));
        }
    }
}
