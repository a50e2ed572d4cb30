//! Protobuf ↔ domain, and the generated code.

pub mod proto;
