//! The document that rules read: what a source says of itself, and what was resolved of it.
//!
//! [`build()`] makes it, [`request()`] turns the fields that a rule read and that are not resolved into
//! the metadata to ask for, and [`schema()`] describes it. It verifies that objects are the ones they
//! are served as; it verifies no signature.

mod build;
mod config;
mod document;
mod error;
mod fields;
mod git;
pub mod gitobject;
mod json;
mod material;
mod moment;
mod provenance;
mod purl;
mod request;
mod schema;
mod signature;

pub use build::{Document, MAX_DEPTH, Node, Note, build};
pub use config::ConfigError;
pub use document::*;
pub use error::InputError;
pub use fields::{Field, FieldSet};
pub use provenance::{MAX_MATERIALS, MAX_STATEMENT, ProvenanceError, verify_blobs};
pub use request::request;
pub use schema::schema;
