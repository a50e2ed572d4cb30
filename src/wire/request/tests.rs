//! What is looked into of a request is what a daemon decodes of it, and what it would read otherwise is refused.

use std::collections::BTreeMap;

use super::super::proto::{pb, sourcepolicy};
use super::*;

fn definition(op: &'static [u8]) -> pb::Definition {
    pb::Definition { def: vec![op.into()], ..pb::Definition::default() }
}

fn options(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
    entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn rule(action: i32, attr: &str) -> sourcepolicy::Rule {
    let updates = sourcepolicy::Update { attrs: options(&[(attr, "x")]), ..Default::default() };
    sourcepolicy::Rule { action, updates: Some(updates), ..Default::default() }
}

fn policy(rules: Vec<sourcepolicy::Rule>) -> sourcepolicy::Policy {
    sourcepolicy::Policy { rules, ..Default::default() }
}

/// A field that holds bytes.
fn field(number: u32, content: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    prost::encoding::bytes::encode(number, &content.to_vec(), &mut out);
    out
}

/// The daemon's decoder takes what stands behind the number of a key for the key, whatever type it says it is
/// of, and reads on behind that: an entry that hides another from us.
#[test]
fn entries_that_a_daemon_reads_otherwise_are_refused() {
    let value = definition(b"op").encode_to_vec();
    let [key, value] = [field(KEY, b"in"), field(VALUE, &value)];
    let hidden = field(3, &[&key[..], &value].concat());
    let attr = [field(KEY, RECORD_TYPE.as_bytes()), field(VALUE, b"regular")].concat();
    for (entry, passes) in [
        ([&key[..], &value].concat(), true),
        (value.clone(), true),
        ([&[0x08, 0x02][..], &hidden].concat(), false),
        ([&[0x08, 0x03][..], &hidden].concat(), false),
        ([&key[..], &[0x10, 0x02], &value].concat(), false),
        ([&key[..], &value, &field(3, b"")].concat(), false),
    ] {
        let control = control(&field(10, &entry).into());
        assert_eq!(control.is_ok(), passes, "{entry:x?}: {control:?}");
        let gateway = gateway(&field(13, &entry).into());
        assert_eq!(gateway.is_ok(), passes, "{entry:x?}: {gateway:?}");
        if passes {
            assert_eq!(control.unwrap().definitions.len(), 1);
        }
    }
    let renaming = |entry: &[u8]| {
        let update = field(ATTRS, entry);
        let rule = field(UPDATES, &update);
        control(&field(12, &field(RULES, &rule)).into()).map(|looked| looked.rules.renames)
    };
    assert!(renaming(&attr).unwrap());
    assert!(!renaming(&[field(KEY, b"other"), field(VALUE, b"x")].concat()).unwrap());
    renaming(&[&[0x08, 0x02][..], &field(3, &attr)].concat()).unwrap_err();
}

#[test]
fn what_is_looked_into_is_what_a_peer_decodes() {
    let cache = control::CacheOptions {
        imports: vec![control::CacheOptionsEntry {
            r#type: "registry".into(),
            attrs: options(&[("ref", "a")]),
        }],
        import_refs_deprecated: vec!["b".into()],
        ..Default::default()
    };
    let wanted = control::SolveRequest {
        r#ref: "r".into(),
        session: "s".into(),
        frontend: "dockerfile.v0".into(),
        frontend_attrs: options(&[("target", "t")]),
        cache: Some(cache),
        entitlements: vec!["network.host".into()],
        source_policy_session: "p".into(),
        ..Default::default()
    };
    let whole = control::SolveRequest {
        definition: Some(definition(b"one")),
        frontend_inputs: [("in".to_owned(), definition(b"two"))].into(),
        source_policy: Some(policy(vec![rule(1, "a")])),
        internal: true,
        ..wanted.clone()
    };
    let looked = control(&whole.encode_to_vec().into()).unwrap();
    let llb = [definition(b"two"), definition(b"one")].map(|it| Bytes::from(it.encode_to_vec()));
    assert_eq!(looked.definitions, llb);
    assert_eq!((looked.request, looked.rules.any, looked.rules.converts), (wanted, true, false));

    let wanted = gateway::SolveRequest {
        frontend: "gateway.v0".into(),
        frontend_opt: options(&[("source", "x")]),
        cache_imports: vec![gateway::CacheOptionsEntry::default()],
        ..Default::default()
    };
    let whole = gateway::SolveRequest {
        definition: Some(definition(b"one")),
        frontend_inputs: [("in".to_owned(), definition(b"two"))].into(),
        source_policies: vec![policy(vec![rule(2, RECORD_TYPE)])],
        evaluate: true,
        ..wanted.clone()
    };
    let looked = gateway(&whole.encode_to_vec().into()).unwrap();
    assert_eq!((looked.request, looked.definitions), (wanted, llb.to_vec()));
    assert_eq!(looked.rules, Rules { any: true, converts: true, renames: true });
}

#[test]
fn parts_are_put_together_as_a_peer_does() {
    let of = |op| control::SolveRequest { definition: Some(definition(op)), ..Default::default() };
    let sent = [of(b"a"), of(b"b"), of(b"c")].map(|it| it.encode_to_vec()).concat();
    let looked = control(&sent.into()).unwrap();
    let [merged] = &looked.definitions[..] else { panic!("{looked:?}") };
    let merged = pb::Definition::decode(merged.clone()).unwrap();
    assert_eq!(merged.def, [&b"a"[..], b"b", b"c"]);
}

#[test]
fn static_rules_are_told_by_what_they_do() {
    for (rules, converts, renames) in [
        (vec![], false, false),
        (vec![rule(0, "a"), rule(1, "b")], false, false),
        (vec![rule(0, "a"), rule(2, "b")], true, false),
        (vec![rule(7, "b")], true, false),
        (vec![rule(-1, "b")], true, false),
        (vec![rule(0, RECORD_TYPE)], false, true),
    ] {
        let request =
            control::SolveRequest { source_policy: Some(policy(rules)), ..Default::default() };
        let looked = control(&request.encode_to_vec().into()).unwrap();
        assert_eq!(looked.rules, Rules { any: true, converts, renames }, "{request:?}");
    }
}

#[test]
fn what_cannot_be_looked_into_is_refused() {
    for message in [&b"\x0a"[..], b"\x10\x01", b"\x0a\x01\xff", b"\x62\x02\x10\x01", b"\x50\x01"] {
        assert!(control(&Bytes::from_static(message)).is_err(), "{message:x?}");
    }
}

/// As many elements as there may be, of each kind, and one more. Of LLB there is no such bound.
#[test]
fn elements_are_counted_wherever_they_are() {
    // An empty one is two bytes long.
    let many = |number: u32, count: usize| {
        let mut one = BytesMut::new();
        raw::put(&mut one, number, b"");
        one.repeat(count)
    };
    let within = |number: u32, content: Vec<u8>| {
        let mut outer = BytesMut::new();
        raw::put(&mut outer, number, &content);
        outer.to_vec()
    };
    let (most, much) = (MAX_ELEMENTS, 6 * MAX_ELEMENTS);
    type Of = fn(&Bytes) -> bool;
    let of_control: Of = |message| control(message).is_ok();
    let of_gateway: Of = |message| gateway(message).is_ok();
    let of_metadata: Of = |message| metadata(message).is_ok();
    let large = MAX_METADATA / 2 + 1;
    for (what, of, message, wanted) in [
        ("options", of_control, many(7, most), true),
        ("too many options", of_control, many(7, most + 1), false),
        ("too many entitlements", of_control, many(9, much), false),
        ("too many inputs", of_control, many(10, much), false),
        ("too many caches", of_control, within(8, many(5, much)), false),
        ("too many old caches", of_control, within(8, many(2, much)), false),
        ("too many attributes", of_control, within(8, within(5, many(2, much))), false),
        ("many ops", of_control, within(2, many(1, much)), true),
        ("much metadata of ops", of_control, within(2, many(2, much)), true),
        ("definitions in parts", of_control, many(2, much), true),
        ("many rules", of_control, within(12, many(2, much)), true),
        ("many exporters", of_control, many(13, much), true),
        ("too many caches", of_gateway, many(12, much), false),
        ("too many attributes", of_gateway, within(12, many(2, much)), false),
        ("many policies", of_gateway, many(15, much), true),
        ("many policies", of_metadata, many(8, much), true),
        ("many attestations", of_metadata, within(6, many(5, large)), false),
    ] {
        assert_eq!(of(&message.into()), wanted, "{what}");
    }
}
