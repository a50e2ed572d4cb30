//! Walks over LLB.

use std::collections::BTreeSet;

use bytes::Bytes;
use prost::Message;

use super::super::llb::{LlbError, Loads, MAX_DEPTH, MAX_OPS};
use super::super::proto::{errdefs, pb};
use super::{golden, source, tool};
use crate::source::Platform;

fn check_loads(definition: &pb::Definition, wanted: &[&str]) {
    let loads = Loads::of(definition).unwrap();
    let got: BTreeSet<String> = loads
        .sources
        .iter()
        .map(|vertex| {
            let platform = vertex.platform.as_ref().map_or("-", |p| p.architecture.as_str());
            format!("{} {platform} {}", vertex.source.identifier, show(&vertex.lines))
        })
        .chain(loads.builds.iter().map(|vertex| format!("build {}", show(&vertex.lines))))
        .collect();
    assert_eq!(got, wanted.iter().map(|&line| line.to_owned()).collect());
}

fn show(lines: &[errdefs::Source]) -> String {
    let show = |source: &errdefs::Source| {
        let lines: Vec<_> =
            source.ranges.iter().map(|range| range.start.unwrap().line.to_string()).collect();
        format!("{}:{}", source.info.as_ref().unwrap().filename, lines.join(","))
    };
    lines.iter().map(show).collect::<Vec<_>>().join(" ")
}

#[test]
fn the_graph_that_go_marshals_is_walked() {
    check_loads(
        &pb::Definition::decode(golden("definition")).unwrap(),
        &[
            "docker-image://docker.io/library/alpine:latest amd64 Dockerfile:1",
            "https://example.com/tool.tgz - Dockerfile:2",
            "docker-image://docker.io/library/busybox:latest arm64 Dockerfile:3",
        ],
    );
}

/// A definition built op by op: each gets its inputs by place and, for a line above zero, that line.
#[derive(Default)]
struct Graph {
    definition: pb::Definition,
    digests: Vec<String>,
}

impl Graph {
    fn op(mut self, inputs: &[usize], line: i32, op: Option<pb::op::Op>) -> Self {
        use sha2::Digest as _;
        let inputs = inputs
            .iter()
            .map(|&place| pb::Input { digest: self.digests[place].clone(), index: 0 })
            .collect();
        let op = pb::Op { inputs, op, ..Default::default() }.encode_to_vec();
        let digest = format!("sha256:{}", hex::encode(sha2::Sha256::digest(&op)));
        let source = self.definition.source.get_or_insert_with(|| pb::Source {
            infos: vec![pb::SourceInfo { filename: "f".into(), ..Default::default() }],
            ..Default::default()
        });
        let start = Some(pb::Position { line, character: 0 });
        let ranges = if line > 0 { vec![pb::Range { start, end: start }] } else { Vec::new() };
        let location = pb::Location { source_index: 0, ranges };
        source.locations.insert(digest.clone(), pb::Locations { locations: vec![location] });
        self.definition.def.push(op.into());
        self.digests.push(digest);
        self
    }

    fn load(self, identifier: &str, line: i32) -> Self {
        self.op(&[], line, Some(pb::op::Op::Source(source(identifier, &[]).into())))
    }

    fn exec(self, inputs: &[usize], line: i32) -> Self {
        self.op(inputs, line, Some(pb::op::Op::Exec(pb::ExecOp::default())))
    }

    fn result(self, of: usize) -> pb::Definition {
        self.op(&[of], 0, None).definition
    }
}

#[test]
fn a_source_without_lines_has_those_of_its_nearest_consumer() {
    let nearest = Graph::default().load("a://", 0).exec(&[0], 0).exec(&[1], 5).exec(&[0, 2], 9);
    check_loads(&nearest.result(3), &["a:// - f:9"]);
    let own = Graph::default().load("a://", 2).exec(&[0], 7);
    check_loads(&own.result(1), &["a:// - f:2"]);
    let far = Graph::default().load("a://", 0).exec(&[0], 0).exec(&[1], 5);
    check_loads(&far.result(2), &["a:// - f:5"]);
    let nowhere = Graph::default().load("a://", 0).exec(&[0], 0);
    check_loads(&nowhere.result(1), &["a:// - "]);
    let unreachable = Graph::default().load("a://", 0).load("b://", 1).exec(&[1], 2);
    check_loads(&unreachable.result(2), &["a:// - ", "b:// - f:1"]);
    check_loads(&pb::Definition::default(), &[]);
}

#[test]
fn build_ops_are_looked_into_and_reported() {
    let inner = Graph::default().load("inner://", 3).result(0);
    let build = pb::op::Op::Build(pb::BuildOp { def: Some(inner), ..Default::default() });
    let outer = Graph::default().load("llb://", 0).op(&[0], 4, Some(build));
    check_loads(&outer.result(1), &["llb:// - f:4", "inner:// - f:3", "build f:4"]);
}

#[test]
fn an_op_that_comes_twice_is_judged_once() {
    let mut definition = Graph::default().load("a://", 1).exec(&[0], 2).result(1);
    let first = definition.def[0].clone();
    definition.def.insert(0, first);
    assert_eq!(Loads::of(&definition).unwrap().sources.len(), 1);
}

#[test]
fn definitions_that_cannot_be_judged_are_refused() {
    let check = |definition: &pb::Definition, wanted: &str| {
        let error = anyhow::Error::from(Loads::of(definition).unwrap_err());
        assert_eq!(format!("{error:#}"), wanted);
    };
    let unknown = Graph::default().op(&[], 0, None);
    let digest = unknown.digests[0].clone();
    check(&unknown.result(0), &format!("LLB: op {digest} is of an unknown kind"));

    for index in [-1, 1, i32::MAX] {
        let graph = Graph::default().load("a://", 1);
        let digest = graph.digests[0].clone();
        let mut definition = graph.result(0);
        let locations = &mut definition.source.as_mut().unwrap().locations;
        locations.get_mut(&digest).unwrap().locations[0].source_index = index;
        let wanted =
            format!("LLB: the location of op {digest} names file {index}, which is not there");
        check(&definition, &wanted);
    }

    let mut windows = pb::Op {
        op: Some(pb::op::Op::Source(tool().into())),
        platform: Some(Platform::default().into()),
        ..Default::default()
    };
    windows.platform.as_mut().unwrap().os_version = "10.0".into();
    let definition =
        pb::Definition { def: vec![windows.encode_to_vec().into()], ..Default::default() };
    check(
        &definition,
        "LLB: source `https://example.com/tool.tgz`: platform: OSVersion `10.0` is not supported",
    );

    let malformed = pb::Definition { def: vec![Bytes::from_static(b"\x0a")], ..Default::default() };
    assert!(matches!(Loads::of(&malformed), Err(LlbError::Op { index: 0, .. })));

    let many = pb::Definition { def: vec![Bytes::new(); MAX_OPS + 1], ..Default::default() };
    check(&many, "LLB: more than 131072 ops");

    let nest = |inner| {
        let build = pb::op::Op::Build(pb::BuildOp { def: Some(inner), ..Default::default() });
        Graph::default().op(&[], 0, Some(build)).result(0)
    };
    let deep = (1..MAX_DEPTH).fold(pb::Definition::default(), |inner, _| nest(inner));
    assert_eq!(Loads::of(&deep).unwrap().builds.len(), MAX_DEPTH - 1);
    check(&nest(deep), "LLB: definitions are nested more than 8 deep");
}
