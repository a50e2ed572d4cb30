//! That an op is one thing. Decoders differ in what they make of one that is two: the last counts, or
//! the first, or parts of both. What one of them judges another would then run as something else.

use sha2::{Digest, Sha256};

use super::raw::{self, RawError};

/// The numbers of `pb.Op.op`, of which an op has one (its last has none).
const KINDS: std::ops::RangeInclusive<u32> = 2..=8;

/// An op that is more than one thing, or one thing twice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("LLB: op {digest} is two things at once")]
pub struct TwoKinds {
    /// The op.
    pub digest: String,
}

/// An op that cannot be taken for one thing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KindError {
    /// It is no message.
    #[error(transparent)]
    Malformed(#[from] RawError),
    /// It is more than one thing.
    #[error(transparent)]
    TwoKinds(#[from] TwoKinds),
}

/// Refuses an op that says more than once what it is.
///
/// # Errors
/// When it does, or is no message.
pub fn single(op: &[u8]) -> Result<(), KindError> {
    let mut kinds = 0_usize;
    for part in raw::each(op) {
        kinds += usize::from(KINDS.contains(&part?.number));
    }
    match kinds {
        0 | 1 => Ok(()),
        _ => Err(TwoKinds { digest: digest(op) }.into()),
    }
}

/// The name of an op.
pub(super) fn digest(op: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(op)))
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::super::proto::pb;
    use super::*;

    #[test]
    fn an_op_is_one_thing() {
        let op = |op| pb::Op { op, ..pb::Op::default() }.encode_to_vec();
        let source = op(Some(pb::op::Op::Source(pb::SourceOp::default())));
        let exec = op(Some(pb::op::Op::Exec(pb::ExecOp::default())));
        let passthrough = op(Some(pb::op::Op::Passthrough(pb::PassthroughOp::default())));
        let inputs = vec![pb::Input::default(); 3];
        let last = pb::Op { inputs, ..pb::Op::default() }.encode_to_vec();
        for (parts, wanted) in [
            (vec![], true),
            (vec![&last], true),
            (vec![&last, &exec], true),
            (vec![&passthrough], true),
            (vec![&exec, &source], false),
            (vec![&source, &last, &exec], false),
            (vec![&source, &source], false),
            (vec![&passthrough, &exec], false),
        ] {
            let op: Vec<u8> = parts.into_iter().flatten().copied().collect();
            assert_eq!(single(&op).is_ok(), wanted, "{op:x?}");
        }
        // Whatever type it has.
        assert!(matches!(single(&[0x28, 1, 0x10, 1]), Err(KindError::TwoKinds(_))));
        assert!(matches!(single(&[0x28]), Err(KindError::Malformed(_))));
    }
}
