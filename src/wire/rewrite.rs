//! An LLB definition with other sources in it, and everything else as it came.
//!
//! An op is named by the digest of its bytes, so that whatever consumes a changed op changes too, up
//! to the result. Ops, metadata and locations are taken apart field by field and never decoded:
//! what newer peers put into them stays.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::kind::{KindError, TwoKinds, digest, single};
use super::llb::MAX_OPS;
use super::proto::pb;
use super::raw::{self, Part, RawError};
use crate::source::SourceOp;

/// `pb.Definition.def`.
const DEF: u32 = 1;
/// `pb.Definition.metadata`, by digest.
const METADATA: u32 = 2;
/// `pb.Definition.Source`.
const SOURCE: u32 = 3;
/// `pb.Source.locations`, by digest.
const LOCATIONS: u32 = 1;
/// `pb.Op.inputs`.
const INPUTS: u32 = 1;
/// `pb.Op.exec`.
const OP_EXEC: u32 = 2;
/// `pb.Op.source`.
const OP_SOURCE: u32 = 3;
/// `pb.ExecOp.meta`.
const EXEC_META: u32 = 1;
/// `pb.Meta.extraHosts`.
const META_HOSTS: u32 = 6;
/// `pb.Input.digest`, `pb.HostIP.Host`, and the key of a map's entry.
const NAME: u32 = 1;
/// Where a name leads that is there for its own sake.
const LOOPBACK: &str = "127.0.0.1";

/// A definition that cannot be rewritten.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// A part of it is no message.
    #[error("LLB: {0}")]
    Malformed(#[from] RawError),
    /// The name of an op is no text.
    #[error("LLB: the digest of an op is no text")]
    Name,
    /// More ops than are looked into.
    #[error("LLB: more than {MAX_OPS} ops")]
    TooManyOps,
    /// An op that others could take for another one.
    #[error(transparent)]
    TwoKinds(#[from] TwoKinds),
    /// A source that was to be replaced is left: it would be loaded unjudged.
    #[error("LLB: op {digest} cannot be replaced")]
    Left {
        /// The op.
        digest: String,
    },
}

impl From<KindError> for RewriteError {
    fn from(error: KindError) -> Self {
        match error {
            KindError::Malformed(error) => error.into(),
            KindError::TwoKinds(error) => error.into(),
        }
    }
}

/// Puts other sources in place of those of these digests.
///
/// # Errors
/// When the definition is malformed, an op of it is two things, or consumes what it was to be made of.
pub fn rewrite(
    definition: &Bytes,
    sources: &BTreeMap<String, SourceOp>,
) -> Result<Bytes, RewriteError> {
    let source = |digest: &str, _: &[u8]| {
        let source = sources.get(digest).map(|source| pb::SourceOp::from(source.clone()));
        Ok(source.map(|source| (OP_SOURCE, source.encode_to_vec().into())))
    };
    with(definition, &source)
}

/// Names of hosts that commands carry for their own sake.
#[derive(Clone, Copy, Debug)]
pub struct Hosts<'a> {
    /// What all such names end in; those that commands carry already are taken away.
    pub suffix: &'a str,
    /// What each command carries instead, in its `/etc/hosts`: it is then another command than the same one
    /// without, to whatever remembers or shares what commands made.
    pub name: Option<&'a str>,
}

/// Gives each command of a definition a host's name, in place of those it has of the kind.
///
/// # Errors
/// As [`rewrite`].
pub fn with_hosts(definition: &Bytes, hosts: Hosts<'_>) -> Result<Bytes, RewriteError> {
    let meta = hosts.name.map(|name| {
        let host = pb::HostIp { host: name.to_owned(), ip: LOOPBACK.to_owned() };
        pb::Meta { extra_hosts: vec![host], ..pb::Meta::default() }.encode_to_vec()
    });
    let exec = |_: &str, op: &[u8]| {
        let Some(exec) = contents(op, OP_EXEC).next().transpose()? else { return Ok(None) };
        let mut changed = BytesMut::new();
        let had_any = without_hosts(exec, hosts.suffix, &mut changed)?;
        if let Some(meta) = &meta {
            raw::put(&mut changed, EXEC_META, meta);
        }
        Ok((had_any || meta.is_some()).then(|| (OP_EXEC, changed.freeze())))
    };
    with(definition, &exec)
}

/// Writes a command without its hosts of this kind, and tells whether there were any.
fn without_hosts(exec: &[u8], suffix: &str, out: &mut BytesMut) -> Result<bool, RawError> {
    let mut found = false;
    for part in raw::each(exec) {
        let Part { number, whole, content } = part?;
        let Some(meta) = content.filter(|_| number == EXEC_META) else {
            out.extend_from_slice(whole);
            continue;
        };
        let mut kept = BytesMut::with_capacity(meta.len());
        for part in raw::each(meta) {
            let Part { number, whole, content } = part?;
            let host = content.filter(|_| number == META_HOSTS).unwrap_or_default();
            let mut is_ours = false;
            for name in contents(host, NAME) {
                let name = name?;
                let tail = name.len().checked_sub(suffix.len()).and_then(|at| name.get(at..));
                is_ours |= tail.is_some_and(|tail| tail.eq_ignore_ascii_case(suffix.as_bytes()));
            }
            if is_ours {
                found = true;
            } else {
                kept.extend_from_slice(whole);
            }
        }
        raw::put(out, EXEC_META, &kept);
    }
    Ok(found)
}

/// What is put in place of a field of an op, told by its digest and itself.
type Change<'a> = dyn Fn(&str, &[u8]) -> Result<Option<(u32, Bytes)>, RawError> + 'a;

fn with(definition: &Bytes, change: &Change<'_>) -> Result<Bytes, RewriteError> {
    let mut ops: Vec<&[u8]> = Vec::new();
    for op in contents(definition, DEF) {
        if ops.len() == MAX_OPS {
            return Err(RewriteError::TooManyOps);
        }
        ops.push(op?);
    }
    let names = renamed(&ops, change)?;
    if names.is_empty() {
        return Ok(definition.clone());
    }
    let mut out = BytesMut::with_capacity(definition.len() + 1024);
    for part in raw::each(definition) {
        let Part { number, whole, content } = part?;
        match (number, content) {
            (DEF, Some(op)) => match names.get(&digest(op)) {
                Some(Renamed { op, .. }) => raw::put(&mut out, DEF, op),
                None => out.extend_from_slice(whole),
            },
            (METADATA, Some(entry)) => named_anew(&mut out, METADATA, entry, &names)?,
            (SOURCE, Some(source)) => raw::put(&mut out, SOURCE, &relocated(source, &names)?),
            _ => out.extend_from_slice(whole),
        }
    }
    Ok(out.freeze())
}

/// An op that is another one now.
struct Renamed {
    digest: String,
    op: Bytes,
}

/// The ops that change, by their old digest: those named, and whatever consumes one that changes. Of an op
/// is kept where its inputs stand, and no more.
fn renamed(ops: &[&[u8]], change: &Change<'_>) -> Result<BTreeMap<String, Renamed>, RewriteError> {
    let mut read: Vec<(String, &[u8])> = Vec::with_capacity(ops.len());
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for op in ops {
        // The same op twice is one.
        let Entry::Vacant(place) = places.entry(digest(op)) else { continue };
        single(op)?;
        let old = place.key().clone();
        place.insert(read.len());
        read.push((old, op));
    }
    let mut inputs: Vec<Vec<usize>> = Vec::with_capacity(read.len());
    for (_, op) in &read {
        let mut of_here = Vec::new();
        for input in contents(op, INPUTS) {
            // What is not here is for the daemon to miss.
            of_here.extend(places.get(name_of(input?)?));
        }
        inputs.push(of_here);
    }
    let order = behind_inputs(&inputs).map_err(|left| RewriteError::Left {
        digest: read.get(left).map(|(digest, _)| digest.clone()).unwrap_or_default(),
    })?;
    let mut names: BTreeMap<String, Renamed> = BTreeMap::new();
    for at in order {
        let (Some((old, op)), Some(inputs)) = (read.get(at), inputs.get(at)) else { continue };
        let change = change(old, op)?;
        let has_changed =
            |input: &usize| read.get(*input).is_some_and(|(digest, _)| names.contains_key(digest));
        if change.is_some() || inputs.iter().any(has_changed) {
            let op = changed(op, change, &names)?;
            names.insert(old.clone(), Renamed { digest: digest(&op), op });
        }
    }
    Ok(names)
}

/// An order in which each op stands behind all that it consumes, whatever order they came in; each
/// consumption is looked at once. Where there is none: an op that it leaves out.
fn behind_inputs(inputs: &[Vec<usize>]) -> Result<Vec<usize>, usize> {
    let mut open: Vec<usize> = inputs.iter().map(Vec::len).collect();
    let mut consumers = vec![Vec::new(); inputs.len()];
    for (at, inputs) in inputs.iter().enumerate() {
        for input in inputs {
            if let Some(consumers) = consumers.get_mut(*input) {
                consumers.push(at);
            }
        }
    }
    let mut order: Vec<usize> =
        open.iter().enumerate().filter_map(|(at, open)| (*open == 0).then_some(at)).collect();
    let mut done = 0;
    while let Some(at) = order.get(done).copied() {
        done += 1;
        for consumer in consumers.get(at).into_iter().flatten() {
            let Some(open) = open.get_mut(*consumer) else { continue };
            *open -= 1;
            if *open == 0 {
                order.push(*consumer);
            }
        }
    }
    match open.iter().position(|open| *open > 0) {
        None => Ok(order),
        Some(left) => Err(left),
    }
}

/// The op with this field, and with its inputs under their new names.
fn changed(
    op: &[u8],
    change: Option<(u32, Bytes)>,
    names: &BTreeMap<String, Renamed>,
) -> Result<Bytes, RewriteError> {
    let mut out = BytesMut::with_capacity(op.len());
    for part in raw::each(op) {
        let Part { number, whole, content } = part?;
        match (number, content, &change) {
            (INPUTS, Some(input), _) => named_anew(&mut out, INPUTS, input, names)?,
            (number, _, Some((changed, _))) if number == *changed => {}
            _ => out.extend_from_slice(whole),
        }
    }
    if let Some((number, content)) = change {
        raw::put(&mut out, number, &content);
    }
    Ok(out.freeze())
}

/// `pb.Source` with its locations under the new names.
fn relocated(source: &[u8], names: &BTreeMap<String, Renamed>) -> Result<BytesMut, RewriteError> {
    let mut out = BytesMut::with_capacity(source.len());
    for part in raw::each(source) {
        let Part { number, whole, content } = part?;
        match (number, content) {
            (LOCATIONS, Some(entry)) => named_anew(&mut out, LOCATIONS, entry, names)?,
            _ => out.extend_from_slice(whole),
        }
    }
    Ok(out)
}

/// Puts a message whose first field names an op, with the op's new name.
fn named_anew(
    into: &mut BytesMut,
    number: u32,
    message: &[u8],
    names: &BTreeMap<String, Renamed>,
) -> Result<(), RewriteError> {
    let Some(Renamed { digest, .. }) = names.get(name_of(message)?) else {
        raw::put(into, number, message);
        return Ok(());
    };
    let mut anew = BytesMut::with_capacity(message.len());
    raw::put(&mut anew, NAME, digest.as_bytes());
    for part in raw::each(message) {
        let part = part?;
        if part.number != NAME {
            anew.extend_from_slice(part.whole);
        }
    }
    raw::put(into, number, &anew);
    Ok(())
}

/// The op that a message names.
fn name_of(message: &[u8]) -> Result<&str, RewriteError> {
    let mut last: &[u8] = &[];
    for name in contents(message, NAME) {
        last = name?;
    }
    str::from_utf8(last).map_err(|_| RewriteError::Name)
}

/// What the fields of a number hold, and whatever is no field.
fn contents(message: &[u8], number: u32) -> impl Iterator<Item = Result<&[u8], RawError>> {
    raw::each(message).filter_map(move |part| match part {
        Ok(part) => part.content.filter(|_| part.number == number).map(Ok),
        Err(error) => Some(Err(error)),
    })
}

#[cfg(test)]
mod tests;
