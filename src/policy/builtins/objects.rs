//! Builtins on objects.

use regorus::Value;
use regorus::value::{Array, Object, Set};

use super::value::{Fail, Outcome, arg, array, as_int, is_float, object};

/// The union of two objects; where both hold an object under a key, their union.
pub(super) fn union(args: &[Value]) -> Outcome {
    let (a, b) = (object(args, 0)?, object(args, 1)?);
    Ok(merged(a, b).into_value())
}

fn merged(a: &Object, b: &Object) -> Object {
    let mut all = a.clone();
    for (key, value) in b.iter() {
        let value = match (all.get(key), value) {
            (Some(Value::Object(a)), Value::Object(b)) => merged(a, b).into_value(),
            _ => value.clone(),
        };
        all.insert(key.clone(), value);
    }
    all
}

/// The union of many, the last of them winning.
pub(super) fn union_n(args: &[Value]) -> Outcome {
    let mut all = Object::default();
    for item in array(args, 0)?.iter() {
        all = merged(&all, item.as_object().map_err(|_| Fail::Undefined)?);
    }
    Ok(all.into_value())
}

fn keys_argument(args: &[Value]) -> Result<Set, Fail> {
    match arg(args, 1)? {
        Value::Array(items) => Ok(items.iter().cloned().collect()),
        Value::Set(items) => Ok((**items).clone()),
        Value::Object(object) => Ok(object.keys().cloned().collect()),
        _ => Err(Fail::Undefined),
    }
}

fn keep(args: &[Value], listed: bool) -> Outcome {
    let (object, keys) = (object(args, 0)?, keys_argument(args)?);
    let kept = object.iter().filter(|(key, _)| keys.contains(key) == listed);
    let kept: Object = kept.map(|(key, value)| (key.clone(), value.clone())).collect();
    Ok(kept.into_value())
}

pub(super) fn remove(args: &[Value]) -> Outcome {
    keep(args, false)
}

pub(super) fn filter(args: &[Value]) -> Outcome {
    keep(args, true)
}

/// The value under a key, or at the end of a path (an array), or else the default.
pub(super) fn get(args: &[Value]) -> Outcome {
    object(args, 0)?;
    let default = arg(args, 2)?;
    let found = match arg(args, 1)? {
        Value::Array(path) => path.iter().try_fold(arg(args, 0)?, |at, key| element(at, key)),
        key => element(arg(args, 0)?, key),
    };
    Ok(found.unwrap_or(default).clone())
}

/// One step of a path: a key of an object, an index of an array, an element of a set.
pub(super) fn element<'a>(value: &'a Value, key: &Value) -> Option<&'a Value> {
    match value {
        Value::Object(object) => object.get(key),
        Value::Set(items) => items.get(key),
        Value::Array(items) if matches!(key, Value::Number(_)) && !is_float(key) => {
            items.get(usize::try_from(as_int(key)?).ok()?)
        }
        _ => None,
    }
}

pub(super) fn keys(args: &[Value]) -> Outcome {
    let keys: Set = object(args, 0)?.keys().cloned().collect();
    Ok(keys.into_value())
}

/// Whether the second is a part of the first: objects deeply, sets by their elements, arrays as
/// a run of elements, a set of an array in any order.
pub(super) fn subset(args: &[Value]) -> Outcome {
    let holds = match (arg(args, 0)?, arg(args, 1)?) {
        (Value::Object(all), Value::Object(part)) => object_subset(all, part),
        (Value::Set(all), Value::Set(part)) => part.is_subset(all),
        (Value::Array(all), Value::Array(part)) => array_subset(all, part),
        (Value::Array(all), Value::Set(part)) => array_holds(all, part),
        _ => return Err(Fail::Undefined),
    };
    Ok(Value::from(holds))
}

fn object_subset(all: &Object, part: &Object) -> bool {
    part.iter().all(|(key, part)| match (all.get(key), part) {
        (None, _) => false,
        (Some(all), part) if all == part => true,
        (Some(Value::Object(all)), Value::Object(part)) => object_subset(all, part),
        (Some(Value::Set(all)), Value::Set(part)) => part.is_subset(all),
        (Some(Value::Array(all)), Value::Array(part)) => array_subset(all, part),
        (Some(_), _) => false,
    })
}

/// OPA's search: after a mismatch it goes on one element later, from where the run had begun.
fn array_subset(all: &Array, part: &Array) -> bool {
    if part.len() > all.len() {
        return false;
    }
    let part: Vec<&Value> = part.iter().collect();
    let all: Vec<&Value> = all.iter().collect();
    part.is_empty() || all.windows(part.len()).any(|window| window == part)
}

/// OPA counts elements of the array that the set has, repeated ones too, and stops when there
/// are as many as the set has elements. It does so only when it looks at an element.
fn array_holds(all: &Array, part: &Set) -> bool {
    let mut unmatched = part.len();
    for item in all.iter() {
        if part.contains(item) {
            unmatched = unmatched.saturating_sub(1);
        }
        if unmatched == 0 {
            return true;
        }
    }
    false
}
