//! The document that rules read: what a source says of itself, and what was resolved of it.

mod config;
mod document;
mod fields;
pub mod gitobject;
mod json;
mod moment;
mod signature;

pub use config::ConfigError;
pub use document::*;
pub use fields::{Field, FieldSet};
