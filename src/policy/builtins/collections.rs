//! Builtins on arrays and sets, and the type predicates.

use regorus::Value;
use regorus::value::Set;

use super::value::{
    Fail, MAX_ELEMENTS, Outcome, arg, array, as_set, compare, elements, int, limit, set,
};

pub(super) fn count(args: &[Value]) -> Outcome {
    let count = match arg(args, 0)? {
        Value::Array(items) => items.len(),
        Value::Set(items) => items.len(),
        Value::Object(object) => object.len(),
        Value::String(text) => text.chars().count(),
        _ => return Err(Fail::Undefined),
    };
    Ok(Value::from(count))
}

pub(super) fn max(args: &[Value]) -> Outcome {
    let all = elements(arg(args, 0)?)?;
    all.into_iter().max_by(|a, b| compare(a, b)).cloned().ok_or(Fail::Undefined)
}

/// The least element. Of a set that holds `null`, OPA gives the least of the others.
pub(super) fn min(args: &[Value]) -> Outcome {
    let value = arg(args, 0)?;
    let all = elements(value)?;
    let others = all.iter().filter(|item| !matches!(item, Value::Null));
    let least = match value {
        Value::Set(_) => others.min_by(|a, b| compare(a, b)).or(all.first()),
        _ => all.iter().min_by(|a, b| compare(a, b)),
    };
    least.map(|item| (*item).clone()).ok_or(Fail::Undefined)
}

pub(super) fn sort(args: &[Value]) -> Outcome {
    let mut all = elements(arg(args, 0)?)?;
    all.sort_by(|a, b| compare(a, b));
    Ok(Value::from(all.into_iter().cloned().collect::<Vec<_>>()))
}

pub(super) fn concat(args: &[Value]) -> Outcome {
    let (a, b) = (array(args, 0)?, array(args, 1)?);
    if a.len() + b.len() > MAX_ELEMENTS {
        return Err(limit("array.concat", MAX_ELEMENTS, "elements"));
    }
    Ok(Value::from(a.iter().chain(b.iter()).cloned().collect::<Vec<_>>()))
}

/// One level of nesting less.
pub(super) fn flatten(args: &[Value]) -> Outcome {
    let mut all = Vec::new();
    for item in array(args, 0)?.iter() {
        match item {
            Value::Array(nested) => all.extend(nested.iter().cloned()),
            _ => all.push(item.clone()),
        }
        if all.len() > MAX_ELEMENTS {
            return Err(limit("array.flatten", MAX_ELEMENTS, "elements"));
        }
    }
    Ok(Value::from(all))
}

/// The elements from `start` up to `stop`, both clamped to the array.
pub(super) fn slice(args: &[Value]) -> Outcome {
    let (items, start, stop) = (array(args, 0)?, int(args, 1)?, int(args, 2)?);
    let stop = stop.clamp(0, items.len() as i64);
    let start = start.clamp(0, stop);
    let taken = items.iter().skip(start as usize).take((stop - start) as usize);
    Ok(Value::from(taken.cloned().collect::<Vec<_>>()))
}

pub(super) fn reverse(args: &[Value]) -> Outcome {
    Ok(Value::from(array(args, 0)?.iter().rev().cloned().collect::<Vec<_>>()))
}

pub(super) fn union(args: &[Value]) -> Outcome {
    let mut all = Set::default();
    for item in set(args, 0)?.iter() {
        for element in as_set(item)?.iter() {
            all.insert(element.clone());
        }
    }
    Ok(all.into_value())
}

pub(super) fn intersection(args: &[Value]) -> Outcome {
    let mut common: Option<Set> = None;
    for item in set(args, 0)?.iter() {
        let item = as_set(item)?;
        common = Some(common.map_or_else(|| item.clone(), |common| common.intersection(item)));
    }
    Ok(common.unwrap_or_default().into_value())
}

pub(super) fn type_name(args: &[Value]) -> Outcome {
    let name = match arg(args, 0)? {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
        Value::Set(_) => "set",
        Value::Undefined => return Err(Fail::Undefined),
    };
    Ok(Value::from(name))
}

fn is(args: &[Value], predicate: fn(&Value) -> bool) -> Outcome {
    Ok(Value::from(predicate(arg(args, 0)?)))
}

pub(super) fn is_number(args: &[Value]) -> Outcome {
    is(args, |value| matches!(value, Value::Number(_)))
}

pub(super) fn is_string(args: &[Value]) -> Outcome {
    is(args, |value| matches!(value, Value::String(_)))
}

pub(super) fn is_boolean(args: &[Value]) -> Outcome {
    is(args, |value| matches!(value, Value::Bool(_)))
}

pub(super) fn is_array(args: &[Value]) -> Outcome {
    is(args, |value| matches!(value, Value::Array(_)))
}

pub(super) fn is_set(args: &[Value]) -> Outcome {
    is(args, |value| matches!(value, Value::Set(_)))
}

pub(super) fn is_object(args: &[Value]) -> Outcome {
    is(args, |value| matches!(value, Value::Object(_)))
}

pub(super) fn is_null(args: &[Value]) -> Outcome {
    is(args, |value| matches!(value, Value::Null))
}
