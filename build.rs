//! Compiles the wire contract in `proto/`, without a system protoc.

use std::error::Error;

/// The files whose services or details we speak; what they import comes along.
const ROOTS: [&str; 5] =
    ["control.proto", "errdefs.proto", "gateway.proto", "health.proto", "policysession.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let contract = protox::compile(ROOTS, ["proto"])?;
    tonic_prost_build::configure()
        // Payloads are passed on by reference to the buffer they came in.
        .bytes(".")
        // Maps in order: the same message encodes to the same bytes.
        .btree_map(".")
        // How a peer is reached (stdio, a tunnel, a socket) is the doors' business.
        .build_transport(false)
        .emit_rerun_if_changed(false)
        .include_file("contract.rs")
        .compile_fds(contract)?;
    Ok(())
}
