//! `json.filter`, `json.remove` and `json.patch`: paths into a document.

use std::collections::BTreeMap;

use regorus::Value;
use regorus::value::{Array, Object, Set};

use super::objects::element;
use super::value::{Fail, MAX_DEPTH, Outcome, arg, array, as_int, elements, limit, object};

type Path = Vec<Value>;

/// Paths as a tree. A path that goes on below another's end is cut there.
enum Tree {
    Leaf,
    Node(BTreeMap<Value, Tree>),
}

fn path(value: &Value) -> Result<Path, Fail> {
    let path: Path = match value {
        Value::String(text) if text.is_empty() => Path::new(),
        Value::String(text) => {
            let segments = text.trim_start_matches('/').split('/');
            segments
                .take(MAX_DEPTH + 1)
                .map(|part| Value::from(part.replace("~1", "/").replace("~0", "~")))
                .collect()
        }
        Value::Array(items) => items.to_vec(),
        _ => return Err(Fail::Undefined),
    };
    // Paths become trees, and trees are walked and let go of by recursion.
    if path.len() > MAX_DEPTH {
        return Err(limit("a path into JSON", MAX_DEPTH, "steps"));
    }
    Ok(path)
}

fn tree(args: &[Value]) -> Result<Tree, Fail> {
    let mut root = BTreeMap::new();
    for item in elements(arg(args, 1)?)? {
        insert(&mut root, &path(item)?);
    }
    Ok(Tree::Node(root))
}

fn insert(node: &mut BTreeMap<Value, Tree>, path: &[Value]) {
    let Some((key, rest)) = path.split_first() else {
        return;
    };
    if rest.is_empty() {
        node.insert(key.clone(), Tree::Leaf);
        return;
    }
    match node.entry(key.clone()).or_insert_with(|| Tree::Node(BTreeMap::new())) {
        Tree::Leaf => {}
        Tree::Node(below) => insert(below, rest),
    }
}

/// Only what the paths lead to.
pub(super) fn filter(args: &[Value]) -> Outcome {
    object(args, 0)?;
    Ok(filtered(arg(args, 0)?, &tree(args)?))
}

fn filtered(value: &Value, tree: &Tree) -> Value {
    let Tree::Node(wanted) = tree else {
        return value.clone();
    };
    match value {
        Value::Object(object) => {
            let kept = object.iter().filter_map(|(key, value)| {
                wanted.get(key).map(|tree| (key.clone(), filtered(value, tree)))
            });
            kept.collect::<Object>().into_value()
        }
        Value::Array(items) => {
            let kept = items.iter().enumerate().filter_map(|(at, item)| {
                wanted.get(&Value::from(at.to_string())).map(|tree| filtered(item, tree))
            });
            Value::from(kept.collect::<Vec<_>>())
        }
        Value::Set(items) => {
            let kept =
                items.iter().filter_map(|item| wanted.get(item).map(|tree| filtered(item, tree)));
            kept.collect::<Set>().into_value()
        }
        _ => value.clone(),
    }
}

/// Everything but what the paths lead to.
pub(super) fn remove(args: &[Value]) -> Outcome {
    object(args, 0)?;
    removed(arg(args, 0)?, Some(&tree(args)?)).ok_or(Fail::Undefined)
}

fn removed(value: &Value, tree: Option<&Tree>) -> Option<Value> {
    let unwanted = match tree {
        None => return Some(value.clone()),
        Some(Tree::Leaf) => return None,
        Some(Tree::Node(unwanted)) => unwanted,
    };
    Some(match value {
        Value::Object(object) => {
            let kept = object.iter().filter_map(|(key, value)| {
                removed(value, unwanted.get(key)).map(|value| (key.clone(), value))
            });
            kept.collect::<Object>().into_value()
        }
        Value::Array(items) => {
            let kept = items
                .iter()
                .enumerate()
                .filter_map(|(at, item)| removed(item, unwanted.get(&Value::from(at.to_string()))));
            Value::from(kept.collect::<Vec<_>>())
        }
        Value::Set(items) => {
            let kept = items.iter().filter_map(|item| removed(item, unwanted.get(item)));
            kept.collect::<Set>().into_value()
        }
        _ => value.clone(),
    })
}

/// JSON Patch (RFC 6902), on sets as well.
pub(super) fn patch(args: &[Value]) -> Outcome {
    let mut document = Some(arg(args, 0)?.clone());
    for operation in array(args, 1)?.iter() {
        let operation = operation.as_object().map_err(|_| Fail::Undefined)?;
        document = applied(document, operation)?;
    }
    document.ok_or(Fail::Undefined)
}

fn field<'a>(operation: &'a Object, name: &str) -> Result<&'a Value, Fail> {
    operation.get(&Value::from(name)).ok_or(Fail::Undefined)
}

fn applied(document: Option<Value>, operation: &Object) -> Result<Option<Value>, Fail> {
    let at = path(field(operation, "path")?)?;
    let Value::String(name) = field(operation, "op")? else {
        return Err(Fail::Undefined);
    };
    match &**name {
        "add" => put(document, &at, field(operation, "value")?.clone()),
        "remove" => take(document, &at),
        "replace" => {
            let without = take(document, &at)?;
            put(without, &at, field(operation, "value")?.clone())
        }
        "move" => {
            let from = path(field(operation, "from")?)?;
            let chunk = read(document.as_ref(), &from)?.clone();
            put(take(document, &from)?, &at, chunk)
        }
        "copy" => {
            let chunk = read(document.as_ref(), &path(field(operation, "from")?)?)?.clone();
            put(document, &at, chunk)
        }
        "test" if read(document.as_ref(), &at)? == field(operation, "value")? => Ok(document),
        _ => Err(Fail::Undefined),
    }
}

fn read<'a>(document: Option<&'a Value>, path: &[Value]) -> Result<&'a Value, Fail> {
    let document = document.ok_or(Fail::Undefined)?;
    let found = path.iter().try_fold(document, |at, key| match at {
        Value::Array(items) => items.get(index(items, key)?),
        _ => element(at, key),
    });
    found.ok_or(Fail::Undefined)
}

fn index(items: &Array, key: &Value) -> Option<usize> {
    let index = match key {
        Value::String(text) if &**text == "-" => return Some(items.len()),
        Value::String(text) if text.len() > 1 && text.starts_with('0') => return None,
        Value::String(text) => text.parse::<i64>().ok()?,
        _ => as_int(key)?,
    };
    usize::try_from(index).ok()
}

fn put(document: Option<Value>, path: &[Value], value: Value) -> Result<Option<Value>, Fail> {
    let Some((last, parents)) = path.split_last() else {
        return Ok(Some(value));
    };
    edit(document, parents, &|parent| match parent {
        Value::Object(object) => {
            let mut object = (**object).clone();
            object.insert(last.clone(), value.clone());
            Ok(object.into_value())
        }
        Value::Set(items) if *last == value => {
            let mut items = (**items).clone();
            items.insert(value.clone());
            Ok(items.into_value())
        }
        Value::Array(items) => {
            let at = index(items, last).filter(|at| *at <= items.len());
            let mut all = items.to_vec();
            all.insert(at.ok_or(Fail::Undefined)?, value.clone());
            Ok(Value::from(all))
        }
        _ => Err(Fail::Undefined),
    })
}

fn take(document: Option<Value>, path: &[Value]) -> Result<Option<Value>, Fail> {
    let Some((last, parents)) = path.split_last() else {
        return document.map(|_| None).ok_or(Fail::Undefined);
    };
    edit(document, parents, &|parent| match parent {
        Value::Object(object) => {
            let mut object = (**object).clone();
            object.remove(last).ok_or(Fail::Undefined)?;
            Ok(object.into_value())
        }
        Value::Set(items) => {
            let mut items = (**items).clone();
            if items.remove(last) { Ok(items.into_value()) } else { Err(Fail::Undefined) }
        }
        Value::Array(items) => {
            let at = index(items, last).filter(|at| *at < items.len());
            let mut all = items.to_vec();
            all.remove(at.ok_or(Fail::Undefined)?);
            Ok(Value::from(all))
        }
        _ => Err(Fail::Undefined),
    })
}

type Change<'a> = &'a dyn Fn(&Value) -> Outcome;

/// Rebuilds the document with the value at `path` changed.
fn edit(document: Option<Value>, path: &[Value], change: Change) -> Result<Option<Value>, Fail> {
    edited(&document.ok_or(Fail::Undefined)?, path, change).map(Some)
}

fn edited(value: &Value, path: &[Value], change: Change) -> Outcome {
    let Some((key, rest)) = path.split_first() else {
        return change(value);
    };
    match value {
        Value::Object(object) => {
            let below = edited(object.get(key).ok_or(Fail::Undefined)?, rest, change)?;
            let mut object = (**object).clone();
            object.insert(key.clone(), below);
            Ok(object.into_value())
        }
        Value::Set(items) => {
            let below = edited(items.get(key).ok_or(Fail::Undefined)?, rest, change)?;
            let mut items = (**items).clone();
            items.remove(key);
            items.insert(below);
            Ok(items.into_value())
        }
        Value::Array(items) => {
            let at = index(items, key).ok_or(Fail::Undefined)?;
            let mut all = items.to_vec();
            let item = all.get_mut(at).ok_or(Fail::Undefined)?;
            *item = edited(item, rest, change)?;
            Ok(Value::from(all))
        }
        _ => Err(Fail::Undefined),
    }
}
