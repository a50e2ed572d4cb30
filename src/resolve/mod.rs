//! Who answers metadata: registries, HTTP servers, git, fixtures.
mod digest;
mod fixtures;
pub use fixtures::*;
