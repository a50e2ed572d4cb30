//! Builds inside a build (`BuildOp`): LLB that a daemon reads from a file while it builds.
//!
//! They are told by the bytes of an op, which is one thing or none that passes.

use super::kind::{KindError, TwoKinds, single};
use super::raw::{self, RawError};

/// `pb.Definition.def`.
const DEF: u32 = 1;
/// `pb.Op.build`.
const BUILD: u32 = 5;
/// `pb.BuildOp.inputs`, a map.
const INPUTS: u32 = 2;
/// The value of a map's entry.
const VALUE: u32 = 2;
/// The key of a map's entry.
const KEY: u32 = 1;

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
    /// It is not what stands at its place.
    #[error("LLB: an op is no message")]
    NoOp,
}

impl From<KindError> for NestedError {
    fn from(error: KindError) -> Self {
        match error {
            KindError::Malformed(error) => error.into(),
            KindError::TwoKinds(error) => error.into(),
        }
    }
}

/// The builds inside a definition. It is read op by op, and nothing of it is kept.
///
/// # Errors
/// When it or an op is no message, or more than one thing.
pub fn nested(definition: &[u8]) -> Result<Vec<Inputs>, NestedError> {
    let mut found = Vec::new();
    for part in raw::each(definition) {
        let part = part?;
        if part.number != DEF {
            continue;
        }
        let op = part.content.ok_or(NestedError::NoOp)?;
        single(op)?;
        for field in raw::each(op) {
            let field = field?;
            if field.number == BUILD {
                found.push(field.content.map_or(Ok(Inputs::Broken), inputs)?);
            }
        }
    }
    Ok(found)
}

fn inputs(build: &[u8]) -> Result<Inputs, RawError> {
    for field in raw::each(build) {
        let field = field?;
        if field.number != INPUTS {
            continue;
        }
        let Some(entry) = field.content else { return Ok(Inputs::Broken) };
        let mut has_value = false;
        for it in raw::each(entry) {
            let it = it?;
            // The daemon takes these for key and value whatever type they say they are of.
            if !matches!(it.number, KEY | VALUE) || it.content.is_none() {
                return Ok(Inputs::Broken);
            }
            has_value |= it.number == VALUE;
        }
        if !has_value {
            return Ok(Inputs::Broken);
        }
    }
    Ok(Inputs::Whole)
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::proto::pb;
    use super::*;

    fn of(op: Vec<u8>) -> Vec<u8> {
        pb::Definition { def: vec![op.into()], ..pb::Definition::default() }.encode_to_vec()
    }

    fn check(op: &[u8], wanted: &[Inputs]) {
        assert_eq!(nested(&of(op.to_vec())).unwrap(), wanted, "{op:x?}");
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
        // The daemon takes the second field's bytes for a key, and finds no value.
        let hidden = [&[0x08, 0x04, 0x12, 0x02, 0x08, 0x01, 0x0a, 0x01][..], b"a"].concat();
        let (mut op, mut hiding) = (Vec::new(), Vec::new());
        prost::encoding::bytes::encode(INPUTS, &hidden, &mut hiding);
        prost::encoding::bytes::encode(BUILD, &hiding, &mut op);
        check(&op, &[Inputs::Broken]);
        // The last of several counts to some.
        for two in [[build(1), source.encode_to_vec()], [source.encode_to_vec(), build(1)]] {
            assert!(matches!(nested(&of(two.concat())), Err(NestedError::TwoKinds(_))));
        }
        assert!(matches!(nested(&[0x08, 1]), Err(NestedError::NoOp)));
        assert!(matches!(nested(&[0x0a]), Err(NestedError::Malformed(_))));
    }
}
