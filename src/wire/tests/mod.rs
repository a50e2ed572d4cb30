//! The contract against the bytes of BuildKit's own Go types, and round trips.

mod contract;
mod llb;
mod policy;
mod roundtrip;
mod status;

use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::Value;

use crate::source::SourceOp;

static GOLDEN: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("golden.json")).unwrap());

fn golden(name: &str) -> Bytes {
    let hex = GOLDEN[name].as_str().unwrap_or_else(|| panic!("no golden {name}"));
    hex::decode(hex).unwrap().into()
}

fn digest(of: char) -> String {
    format!("sha256:{}", of.to_string().repeat(64))
}

fn source(identifier: &str, attrs: &[(&str, &str)]) -> SourceOp {
    let attrs = attrs.iter().map(|&(k, v)| (k.to_owned(), v.to_owned())).collect();
    SourceOp { identifier: identifier.to_owned(), attrs }
}

fn alpine() -> SourceOp {
    source(
        "docker-image://docker.io/library/alpine:3.20",
        &[("image.resolvemode", "pull"), ("image.recordtype", "regular")],
    )
}

fn buildkit() -> SourceOp {
    source(
        "git://github.com/moby/buildkit.git#v0.34.2",
        &[("git.fullurl", "https://github.com/moby/buildkit.git")],
    )
}

fn tool() -> SourceOp {
    source("https://example.com/tool.tgz", &[])
}
