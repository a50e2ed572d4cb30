//! The document that rules read: what a source says of itself, and what was resolved of it.

mod document;
mod fields;

pub use document::*;
pub use fields::{Field, FieldSet};

/// Which material of which material of the source: empty for the source itself.
pub type NodePath = Vec<usize>;
