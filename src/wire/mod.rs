//! Protobuf ↔ domain, and the generated code.
