//! `data` as a document: what the groups below a path come to together.

use regorus::Value;
use regorus::value::Object;

use super::super::error::EvalError;
use super::super::ir::{Program, Term, Tree};
use super::rule::conflict;
use super::{Machine, Outcome, Result};

impl<'p> Machine<'p> {
    /// A reference below `data` that ends at no single group: everything that is there.
    pub(super) fn data(&mut self, path: &'p [Term]) -> Result<Outcome> {
        let mut names: Vec<std::sync::Arc<str>> = Vec::with_capacity(path.len());
        for part in path {
            if let Term::Const(Value::String(name)) = part {
                names.push(name.clone());
            }
        }
        if let Some(replaced) = self.replaced_data(&names) {
            return Ok(replaced);
        }
        let program = self.program;
        let outcome = match find(&program.tree, &names) {
            None => Outcome::Undefined,
            Some(node) => self.node(node)?,
        };
        self.patched(&names, outcome)
    }

    fn node(&mut self, node: &'p Tree) -> Result<Outcome> {
        match node.group {
            Some(group) => self.group(group),
            None => self.children(node, Value::new_object()),
        }
    }

    /// What is below a node, laid over what its own rules give.
    pub(super) fn children(&mut self, node: &'p Tree, into: Value) -> Result<Outcome> {
        let mut object = match into {
            Value::Object(object) => (*object).clone(),
            _ => Object::new(),
        };
        for (name, child) in &node.children {
            match self.node(child)? {
                Outcome::Known(value) => {
                    let key = Value::String(name.clone());
                    let value = match object.get(&key) {
                        None => value,
                        Some(known) => match self.merged(known, value)? {
                            Some(value) => value,
                            None => return Err(clash(self.program, child)),
                        },
                    };
                    object.insert(key, value);
                }
                Outcome::Undefined => {}
                Outcome::Unknown => return Ok(Outcome::Unknown),
            }
        }
        Ok(Outcome::Known(object.into_value()))
    }

    /// What two rules give for one key. `None` where they contradict each other.
    fn merged(&mut self, a: &Value, b: Value) -> Result<Option<Value>> {
        self.weigh(&b)?;
        let (Value::Object(one), Value::Object(two)) = (a, &b) else {
            return Ok((*a == b).then_some(b));
        };
        let mut merged = (**one).clone();
        for (key, value) in two.iter() {
            let value = match one.get(key) {
                None => value.clone(),
                Some(known) => match self.merged(known, value.clone())? {
                    None => return Ok(None),
                    Some(value) => value,
                },
            };
            merged.insert(key.clone(), value);
        }
        Ok(Some(merged.into_value()))
    }
}

/// The node at a path.
pub(super) fn find<'t>(tree: &'t Tree, path: &[std::sync::Arc<str>]) -> Option<&'t Tree> {
    path.iter().try_fold(tree, |node, part| node.children.get(part))
}

fn clash(program: &Program, node: &Tree) -> Box<EvalError> {
    let mut open = vec![node];
    while let Some(node) = open.pop() {
        if let Some(group) = node.group.and_then(|group| program.groups.get(group as usize)) {
            return conflict(group);
        }
        open.extend(node.children.values());
    }
    Box::new(EvalError::Internal { message: "two rules give one key two values".to_owned() })
}
