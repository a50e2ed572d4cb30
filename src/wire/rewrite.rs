//! An LLB definition with other sources in it, and everything else as it came.
//!
//! An op is named by the digest of its bytes, so that whatever consumes a changed op changes too, up
//! to the result. Ops, metadata and locations are taken apart field by field and never decoded:
//! what newer peers put into them stays.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use prost::Message;
use sha2::{Digest, Sha256};

use super::llb::MAX_OPS;
use super::proto::pb;
use super::raw::{self, RawError, RawField};
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
    /// A source that was to be replaced is left: it would be loaded unjudged.
    #[error("LLB: op {digest} cannot be replaced")]
    Left {
        /// The op.
        digest: String,
    },
}

/// Puts other sources in place of those of these digests.
///
/// # Errors
/// When the definition is malformed, or an op of it consumes one that it was to be made of.
pub fn rewrite(
    definition: &Bytes,
    sources: &BTreeMap<String, SourceOp>,
) -> Result<Bytes, RewriteError> {
    let source = |digest: &str, _: &[RawField]| {
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
    let exec = |_: &str, fields: &[RawField]| {
        let mut changed = BytesMut::new();
        let (mut is_exec, mut is_changed) = (false, meta.is_some());
        // Several are merged into one.
        for exec in contents(fields, OP_EXEC) {
            is_exec = true;
            is_changed |= without_hosts(exec, hosts.suffix, &mut changed)?;
        }
        if let Some(meta) = &meta {
            raw::put(&mut changed, EXEC_META, meta);
        }
        Ok((is_exec && is_changed).then(|| (OP_EXEC, changed.freeze())))
    };
    with(definition, &exec)
}

/// Writes a command without its hosts of this kind, and tells whether there were any.
fn without_hosts(exec: &Bytes, suffix: &str, out: &mut BytesMut) -> Result<bool, RawError> {
    let mut found = false;
    for RawField { number, whole, content } in raw::fields(exec)? {
        let Some(meta) = content.filter(|_| number == EXEC_META) else {
            out.extend_from_slice(&whole);
            continue;
        };
        let mut kept = BytesMut::with_capacity(meta.len());
        for RawField { number, whole, content } in raw::fields(&meta)? {
            let names = match &content {
                Some(host) if number == META_HOSTS => raw::fields(host)?,
                Some(_) | None => Vec::new(),
            };
            let is_ours = |name: &Bytes| {
                let tail = name.len().checked_sub(suffix.len()).and_then(|at| name.get(at..));
                tail.is_some_and(|tail| tail.eq_ignore_ascii_case(suffix.as_bytes()))
            };
            if contents(&names, NAME).any(is_ours) {
                found = true;
            } else {
                kept.extend_from_slice(&whole);
            }
        }
        raw::put(out, EXEC_META, &kept);
    }
    Ok(found)
}

/// What is put in place of a field of an op, told by its digest and its fields.
type Change<'a> = dyn Fn(&str, &[RawField]) -> Result<Option<(u32, Bytes)>, RawError> + 'a;

fn with(definition: &Bytes, change: &Change<'_>) -> Result<Bytes, RewriteError> {
    let parts = raw::fields(definition)?;
    let ops: Vec<&Bytes> = contents(&parts, DEF).collect();
    if ops.len() > MAX_OPS {
        return Err(RewriteError::TooManyOps);
    }
    let names = renamed(&ops, change)?;
    if names.is_empty() {
        return Ok(definition.clone());
    }
    let mut out = BytesMut::with_capacity(definition.len() + 1024);
    for RawField { number, whole, content } in &parts {
        match (*number, content) {
            (DEF, Some(op)) => match names.get(&digest(op)) {
                Some(Renamed { op, .. }) => raw::put(&mut out, DEF, op),
                None => out.extend_from_slice(whole),
            },
            (METADATA, Some(entry)) => {
                raw::put(&mut out, METADATA, &with_name(entry, &names)?);
            }
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

/// The ops that change, by their old digest: those named, and whatever consumes one that changes.
fn renamed(ops: &[&Bytes], change: &Change<'_>) -> Result<BTreeMap<String, Renamed>, RewriteError> {
    let mut waiting = Vec::with_capacity(ops.len());
    for op in ops {
        let fields = raw::fields(op)?;
        let inputs = contents(&fields, INPUTS).map(name_of).collect::<Result<Vec<_>, _>>()?;
        waiting.push((digest(op), fields, inputs));
    }
    let mut left: std::collections::BTreeSet<String> =
        waiting.iter().map(|(digest, ..)| digest.clone()).collect();
    let mut names: BTreeMap<String, Renamed> = BTreeMap::new();
    // Whoever wrote it put an op behind those it consumes; one pass does unless they did not.
    while !waiting.is_empty() {
        let before = waiting.len();
        let mut later = Vec::new();
        for (old, fields, inputs) in waiting {
            if inputs.iter().any(|input| left.contains(input)) {
                later.push((old, fields, inputs));
                continue;
            }
            left.remove(&old);
            let change = change(&old, &fields)?;
            if change.is_some() || inputs.iter().any(|input| names.contains_key(input)) {
                let op = changed(&fields, change, &names)?;
                names.insert(old, Renamed { digest: digest(&op), op });
            }
        }
        waiting = later;
        if let (Some((digest, ..)), true) = (waiting.first(), waiting.len() == before) {
            return Err(RewriteError::Left { digest: digest.clone() });
        }
    }
    Ok(names)
}

/// The op with this field, and with its inputs under their new names.
fn changed(
    fields: &[RawField],
    change: Option<(u32, Bytes)>,
    names: &BTreeMap<String, Renamed>,
) -> Result<Bytes, RewriteError> {
    let mut out = BytesMut::new();
    for RawField { number, whole, content } in fields {
        match (*number, content, &change) {
            (INPUTS, Some(input), _) => raw::put(&mut out, INPUTS, &with_name(input, names)?),
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
fn relocated(source: &Bytes, names: &BTreeMap<String, Renamed>) -> Result<BytesMut, RewriteError> {
    let mut out = BytesMut::with_capacity(source.len());
    for RawField { number, whole, content } in raw::fields(source)? {
        match (number, content) {
            (LOCATIONS, Some(entry)) => raw::put(&mut out, LOCATIONS, &with_name(&entry, names)?),
            _ => out.extend_from_slice(&whole),
        }
    }
    Ok(out)
}

/// A message whose first field names an op, with the op's new name.
fn with_name(message: &Bytes, names: &BTreeMap<String, Renamed>) -> Result<Bytes, RewriteError> {
    let Some(Renamed { digest, .. }) = names.get(&name_of(message)?) else {
        return Ok(message.clone());
    };
    let mut out = BytesMut::with_capacity(message.len());
    raw::put(&mut out, NAME, digest.as_bytes());
    for RawField { number, whole, content: _ } in raw::fields(message)? {
        if number != NAME {
            out.extend_from_slice(&whole);
        }
    }
    Ok(out.freeze())
}

/// The op that a message names.
fn name_of(message: &Bytes) -> Result<String, RewriteError> {
    let fields = raw::fields(message)?;
    let name = contents(&fields, NAME).last().cloned().unwrap_or_default();
    String::from_utf8(name.to_vec()).map_err(|_| RewriteError::Name)
}

fn contents(fields: &[RawField], number: u32) -> impl Iterator<Item = &Bytes> {
    fields.iter().filter(move |it| it.number == number).filter_map(|it| it.content.as_ref())
}

fn digest(op: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(op)))
}

#[cfg(test)]
mod tests {
    use super::super::llb::Loads;
    use super::*;

    /// A field of a newer peer.
    const UNKNOWN: &[u8] = b"\xba\x3e\x03new";

    fn source(identifier: &str) -> Vec<u8> {
        let source = pb::SourceOp { identifier: identifier.into(), ..Default::default() };
        let op = pb::Op { op: Some(pb::op::Op::Source(source)), ..Default::default() };
        [op.encode_to_vec().as_slice(), UNKNOWN].concat()
    }

    fn on(inputs: &[&[u8]], op: Option<pb::op::Op>) -> Vec<u8> {
        let inputs = inputs.iter().map(|op| pb::Input { digest: digest(op), index: 0 }).collect();
        pb::Op { inputs, op, ..Default::default() }.encode_to_vec()
    }

    fn definition(ops: &[&[u8]]) -> Bytes {
        let metadata = |op: &&[u8]| {
            let description = [("was".to_owned(), digest(op))].into();
            (digest(op), pb::OpMetadata { description, ..Default::default() })
        };
        let locations = |op: &&[u8]| (digest(op), pb::Locations::default());
        let definition = pb::Definition {
            def: ops.iter().map(|op| Bytes::copy_from_slice(op)).collect(),
            metadata: ops.iter().map(metadata).collect(),
            source: Some(pb::Source {
                locations: ops.iter().map(locations).collect(),
                infos: Vec::new(),
            }),
        };
        [definition.encode_to_vec().as_slice(), UNKNOWN].concat().into()
    }

    #[test]
    fn what_consumes_a_changed_source_changes_and_nothing_else() {
        let (a, b) = (source("docker-image://a"), source("docker-image://b"));
        let exec = Some(pb::op::Op::Merge(pb::MergeOp::default()));
        let (on_a, on_b) = (on(&[&a], exec.clone()), on(&[&b], exec.clone()));
        let both = on(&[&on_a, &on_b], exec);
        let last = on(&[&both], None);
        // In whatever order.
        for ops in [[&a, &b, &on_a, &on_b, &both, &last], [&both, &on_b, &on_a, &b, &a, &last]] {
            let ops: Vec<&[u8]> = ops.into_iter().map(Vec::as_slice).collect();
            let given = definition(&ops);
            let sources = [(digest(&a), SourceOp::new("docker-image://c"))].into();
            let got = rewrite(&given, &sources).unwrap();
            assert!(got.ends_with(UNKNOWN));
            let got = pb::Definition::decode(got).unwrap();
            let loads = Loads::of(&got).unwrap();
            let mut identifiers: Vec<_> =
                loads.sources.iter().map(|it| it.source.identifier.as_str()).collect();
            identifiers.sort_unstable();
            assert_eq!(identifiers, ["docker-image://b", "docker-image://c"]);
            // Everything that is named is there, under the digest of its bytes.
            let there: Vec<String> = got.def.iter().map(|op| digest(op)).collect();
            for op in &got.def {
                assert!(op.ends_with(UNKNOWN) || !op.is_empty());
                for input in pb::Op::decode(op.clone()).unwrap().inputs {
                    assert!(there.contains(&input.digest), "{}", input.digest);
                }
            }
            for (old, new) in ops.iter().zip(&there) {
                let was = got.metadata[new].description["was"].as_str();
                assert_eq!(was, digest(old));
                assert!(got.source.as_ref().unwrap().locations.contains_key(new));
                let kept = [digest(&b), digest(&on_b)].contains(&digest(old));
                assert_eq!(digest(old) == *new, kept);
            }
        }
    }

    #[test]
    fn every_command_gets_the_host_in_place_of_its_like() {
        let exec = |arg: &str, hosts: &[&str]| {
            let host = |name: &&str| pb::HostIp { host: (*name).to_owned(), ip: "::1".into() };
            let meta = pb::Meta {
                args: vec![arg.into()],
                extra_hosts: hosts.iter().map(host).collect(),
                ..pb::Meta::default()
            };
            let mounts = vec![pb::Mount { dest: "/".into(), ..pb::Mount::default() }];
            pb::op::Op::Exec(pb::ExecOp { meta: Some(meta), mounts, ..pb::ExecOp::default() })
        };
        let a = source("docker-image://a");
        let first = on(&[&a], Some(exec("one", &["theirs"])));
        let second = on(&[&first], Some(exec("two", &["of-another.OURS", "ours", "x"])));
        let last = on(&[&second], None);
        let given = definition(&[&a, &first, &second, &last]);
        let check = |name: Option<&str>, wanted: [&[&str]; 2]| {
            let got = with_hosts(&given, Hosts { suffix: ".ours", name }).unwrap();
            let got = pb::Definition::decode(got).unwrap();
            assert_eq!(got.def[0], a, "a source is no command");
            for (at, (arg, wanted)) in [("one", wanted[0]), ("two", wanted[1])].iter().enumerate() {
                let op = pb::Op::decode(got.def[at + 1].clone()).unwrap();
                let Some(pb::op::Op::Exec(exec)) = op.op else { panic!("{name:?}") };
                let meta = exec.meta.unwrap();
                let hosts: Vec<&str> = meta.extra_hosts.iter().map(|it| it.host.as_str()).collect();
                assert_eq!((&meta.args[0][..], &hosts[..]), (*arg, *wanted), "{name:?}");
                assert_eq!((exec.mounts.len(), &op.inputs[0].digest), (1, &digest(&got.def[at])));
            }
            got
        };
        check(Some("new.ours"), [&["theirs", "new.ours"], &["ours", "x", "new.ours"]]);
        let got = check(None, [&["theirs"], &["ours", "x"]]);
        assert_eq!(got.def[1], first, "there was nothing to take away");
    }

    #[test]
    fn without_a_change_nothing_changes() {
        let a = source("docker-image://a");
        let given = definition(&[&a, &on(&[&a], None)]);
        assert_eq!(rewrite(&given, &BTreeMap::new()).unwrap(), given);
    }

    #[test]
    fn a_missing_input_is_for_the_daemon_to_refuse() {
        let lost = on(&[b"lost"], None);
        let given = definition(&[&lost]);
        assert_eq!(rewrite(&given, &BTreeMap::new()).unwrap(), given);
    }
}
