//! An input as the evaluator reads it: values, with marks where fields are not resolved.

mod serializer;

use std::sync::Arc;

use regorus::Value;
use serde::Serialize;

use self::serializer::Serializer;
use super::error::EvalError;
use super::eval::{Lazy, LazyNode, MARK, OBJECTS, mark};
use crate::input::Input;
use crate::meta::NodePath;

/// The value of an input, and its nodes that have fields to resolve.
///
/// # Errors
/// When the input cannot be made a document, which no input of ours is known to do.
pub(super) fn to_value(input: &Input) -> Result<(Value, Lazy), EvalError> {
    let mut value = value_of(input)?;
    let mut lazy = Lazy::default();
    mark_node(&mut value, input, &mut Vec::new(), &mut lazy);
    Ok((value, lazy))
}

/// Something as rules see it.
///
/// # Errors
/// When it cannot be made a value.
pub(super) fn value_of(value: &impl Serialize) -> Result<Value, EvalError> {
    value.serialize(Serializer).map_err(|error| EvalError::Internal { message: error.to_string() })
}

fn mark_node(value: &mut Value, input: &Input, path: &mut NodePath, lazy: &mut Lazy) {
    if !input.unresolved.is_empty() || !input.unverifiable.is_empty() {
        let node = lazy.nodes.len();
        lazy.nodes.push(LazyNode {
            path: path.clone(),
            unresolved: input.unresolved,
            unverifiable: input.unverifiable,
            because: input.unverifiable_because.clone(),
        });
        for object in OBJECTS {
            if let Some(Value::Object(object_value)) = member_mut(value, object) {
                Arc::make_mut(object_value).insert(MARK, mark(node, object));
            }
        }
    }
    let Some(provenance) = input.image.as_ref().and_then(|image| image.provenance.as_ref()) else {
        return;
    };
    let materials = member_mut(value, "image")
        .and_then(|image| member_mut(image, "provenance"))
        .and_then(|provenance| member_mut(provenance, "materials"));
    let Some(Value::Array(materials)) = materials else { return };
    let values = Arc::make_mut(materials);
    for (at, (material, value)) in provenance.materials.iter().zip(values.iter_mut()).enumerate() {
        path.push(at);
        mark_node(value, material, path, lazy);
        path.pop();
    }
}

fn member_mut<'v>(value: &'v mut Value, name: &str) -> Option<&'v mut Value> {
    match value {
        Value::Object(object) => Arc::make_mut(object).get_mut(&Value::from(name)),
        _ => None,
    }
}
