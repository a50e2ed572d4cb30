//! The JSON Schema (2020-12) of the document, from the same types that it is written with.

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::document::Input;

/// The schema of `input`, for editors and tests of policies.
pub fn schema() -> Value {
    SchemaSettings::draft2020_12()
        .for_serialize()
        .into_generator()
        .into_root_schema_for::<Input>()
        .to_value()
}
