//! Definitions with other sources and hosts in them, held against what they were made of.

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
            for input in pb::Op::decode(op.clone()).unwrap().inputs {
                assert!(there.contains(&input.digest), "{}", input.digest);
            }
        }
        let has_unknown = |op: &[u8]| op.windows(UNKNOWN.len()).any(|part| part == UNKNOWN);
        for (old, new) in ops.iter().zip(&got.def) {
            assert_eq!(has_unknown(new), has_unknown(old), "what is not known stays");
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

#[test]
fn an_op_that_is_two_things_is_refused() {
    let exec = Some(pb::op::Op::Exec(pb::ExecOp::default()));
    let two = [on(&[], exec).as_slice(), &source("docker-image://a")].concat();
    let given = definition(&[&two, &on(&[&two], None)]);
    for name in [Some("new.ours"), None] {
        let refused = with_hosts(&given, Hosts { suffix: ".ours", name }).unwrap_err();
        assert!(matches!(refused, RewriteError::TwoKinds(_)), "{refused}");
    }
    assert!(matches!(rewrite(&given, &BTreeMap::new()), Err(RewriteError::TwoKinds(_))));
}

/// How long this thread has run, in nanoseconds, whatever else runs on the machine.
fn worked() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

/// Were each looked at again for each that waits, it would be some hundred times as much.
#[test]
fn the_worst_order_costs_no_more_than_the_best() {
    let mut ops = vec![source("docker-image://a")];
    while ops.len() < MAX_OPS / 4 {
        ops.push(on(&[&ops[ops.len() - 1]], Some(pb::op::Op::Merge(pb::MergeOp::default()))));
    }
    let sources = [(digest(&ops[0]), SourceOp::new("docker-image://b"))].into();
    let rewritten = |ops: &[Vec<u8>]| {
        let def = ops.iter().map(|op| Bytes::copy_from_slice(op)).collect();
        let given = pb::Definition { def, ..pb::Definition::default() }.encode_to_vec().into();
        let before = worked();
        let got = rewrite(&given, &sources).unwrap();
        (pb::Definition::decode(got).unwrap().def, worked() - before)
    };
    let (forwards, best) = rewritten(&ops);
    ops.reverse();
    let (mut backwards, worst) = rewritten(&ops);
    assert!(worst < 10 * best, "{worst} ns instead of {best} ns");
    backwards.reverse();
    assert!(forwards == backwards && forwards.len() == ops.len());
    assert!(forwards.iter().zip(ops.iter().rev()).all(|(new, old)| *new != *old));
}

#[test]
fn what_waits_for_itself_is_told() {
    for (inputs, wanted) in [
        (vec![vec![1], vec![2], vec![]], Ok(vec![2, 1, 0])),
        (vec![vec![], vec![0, 0], vec![1, 0]], Ok(vec![0, 1, 2])),
        (vec![vec![], vec![0, 2], vec![1]], Err(1)),
    ] {
        assert_eq!(behind_inputs(&inputs), wanted, "{inputs:?}");
    }
}
