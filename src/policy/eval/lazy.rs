//! Fields that are not resolved yet.
//!
//! An object of the input that lacks such fields carries a mark: a key that no rule can make, with the
//! number of the node as its value. Whoever asks for a missing member looks for the mark; whoever
//! looks at an object as a whole (compares, serialises, iterates) looks for it first.

use regorus::Value;
use regorus::value::Object;

use super::super::natives::Wanted;
use super::{Around, Machine, Result};
use crate::input::{Field, FieldSet};
use crate::meta::{ChecksumRequest, MetaRequest, NodePath};

/// The key of the mark. What is undefined is no value, so no object of a rule has it for a key.
pub(in crate::policy) const MARK: Value = Value::Undefined;

/// The nodes of an input that have fields to resolve.
#[derive(Debug, Default)]
pub(in crate::policy) struct Lazy {
    pub nodes: Vec<LazyNode>,
}

/// One node: a source, or a material of a provenance.
#[derive(Debug)]
pub(in crate::policy) struct LazyNode {
    pub path: NodePath,
    pub unresolved: FieldSet,
    pub unverifiable: FieldSet,
    /// Why these cannot be vouched for.
    pub because: String,
}

/// Fields that were read and not known.
#[derive(Debug, Default)]
pub(in crate::policy) struct Reads {
    /// By number of the node.
    pub unresolved: Vec<(usize, FieldSet)>,
    /// The first field read that could not be verified.
    pub unverifiable: Option<(Field, String)>,
    /// `pin_image` was called on the way to what is unknown: it may turn out not to be called.
    pub doubtful_pin: bool,
    /// The first digest that a signature is to be verified by.
    pub checksum: Option<ChecksumRequest>,
    /// What is to be asked aside.
    pub aside: Vec<MetaRequest>,
}

impl Reads {
    fn note(&mut self, node: usize, fields: FieldSet) {
        match self.unresolved.iter_mut().find(|(known, _)| *known == node) {
            Some((_, known)) => *known = known.union(fields),
            None => self.unresolved.push((node, fields)),
        }
    }
}

/// The mark of an object: its node, and which of the node's objects it is.
pub(in crate::policy) fn mark(node: usize, object: &str) -> Value {
    let kind = OBJECTS.iter().position(|name| *name == object).unwrap_or_default();
    Value::from((node * OBJECTS.len() + kind) as u64)
}

/// How a field is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// By a reference that starts with `input`.
    Direct,
    /// Through a variable, an argument or a rule.
    Through,
}

/// The objects of a node that have fields to resolve.
pub(in crate::policy) const OBJECTS: [&str; 3] = ["image", "http", "git"];

impl<'p> Machine<'p> {
    /// Whether a field that is read so here is to be resolved for it.
    fn asks(&self, read: Read) -> bool {
        match (self.around, self.tainted) {
            (Around::Certain, false) => true,
            (Around::Certain, true) | (Around::Ahead, _) => read == Read::Direct,
            (Around::Otherwise, _) => false,
        }
    }

    /// Whether what is evaluated now may turn out not to be evaluated at all.
    pub(super) fn is_doubtful(&self) -> bool {
        self.tainted || self.around != Around::Certain
    }

    /// Asks for what a builtin needs, where the answer is sure to matter.
    pub(super) fn ask(&mut self, wanted: Wanted) {
        if !self.asks(Read::Through) {
            return;
        }
        match wanted {
            // Two signatures may need two digests, and one request asks for one.
            Wanted::Checksum(request) => {
                self.reads.checksum.get_or_insert(request);
            }
            Wanted::Field(field) => {
                let root = self.lazy.nodes.iter().position(|node| node.path.is_empty());
                if let Some(root) = root {
                    self.reads.note(root, FieldSet::of(&[field]));
                }
            }
            Wanted::Aside(request) => {
                if !self.reads.aside.contains(&request) {
                    self.reads.aside.push(request);
                }
            }
        }
    }

    fn marked(&self, object: &Object) -> Option<(usize, &'static str, &'p LazyNode)> {
        let mark = match object.get(&MARK)? {
            Value::Number(number) => usize::try_from(number.as_u64()?).ok()?,
            _ => return None,
        };
        let node = mark / OBJECTS.len();
        Some((node, OBJECTS[mark % OBJECTS.len()], self.lazy.nodes.get(node)?))
    }

    /// Asks for a member that the object does not have: whether it is only not known yet.
    ///
    /// Where the body rests on something unknown already, only what is read from `input` itself is
    /// asked for ahead; what is read through variables waits until it is sure to matter.
    pub(super) fn missing(&mut self, object: &Object, key: &Value, read: Read) -> bool {
        if self.lazy.nodes.is_empty() {
            return false;
        }
        let Some((number, kind, node)) = self.marked(object) else { return false };
        let Value::String(name) = key else { return false };
        let find = |fields: FieldSet| fields.iter().find(|field| field.path() == (kind, &**name));
        if let Some(field) = find(node.unresolved) {
            if self.asks(read) {
                self.reads.note(number, FieldSet::of(&[field]));
            }
            return true;
        }
        if let Some(field) = find(node.unverifiable) {
            self.reads.unverifiable.get_or_insert((field, node.because.clone()));
            return true;
        }
        false
    }

    /// Looks at an object's members together. True if any is not known yet.
    pub(super) fn observe_object(&mut self, object: &Object) -> bool {
        if self.lazy.nodes.is_empty() {
            return false;
        }
        let Some((number, kind, node)) = self.marked(object) else { return false };
        let of_kind = |fields: FieldSet| {
            fields.iter().filter(|field| field.path().0 == kind && !has(object, *field))
        };
        let unresolved: Vec<Field> = of_kind(node.unresolved).collect();
        let unverifiable = of_kind(node.unverifiable).next();
        if let Some(field) = unverifiable {
            self.reads.unverifiable.get_or_insert((field, node.because.clone()));
        }
        if !unresolved.is_empty() && self.asks(Read::Through) {
            self.reads.note(number, FieldSet::of(&unresolved));
        }
        unverifiable.is_some() || !unresolved.is_empty()
    }

    /// Takes the mark off an object whose fields a `with` has all given.
    pub(super) fn unmark(&self, object: &mut Object) {
        let complete = self.marked(object).is_some_and(|(_, kind, node)| {
            node.unresolved
                .union(node.unverifiable)
                .iter()
                .all(|field| field.path().0 != kind || has(object, field))
        });
        if complete {
            object.remove(&MARK);
        }
    }

    /// Spends what it costs to look at a value as a whole, without looking at it.
    pub(super) fn weigh(&mut self, value: &Value) -> Result<()> {
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            self.budget.spend(1)?;
            match value {
                Value::Object(object) => {
                    open.extend(object.iter().flat_map(|(key, value)| [key, value]));
                }
                Value::Array(array) => open.extend(array.iter()),
                Value::Set(set) => open.extend(set.iter()),
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Undefined => {}
            }
        }
        Ok(())
    }

    /// Looks at a value as a whole. True if any part of it is not known yet.
    ///
    /// The walk costs budget even where nothing is unresolved: it stands in front of comparisons
    /// and builtins, and a small value can be exponentially large when it is written out.
    pub(super) fn observe(&mut self, value: &Value) -> Result<bool> {
        let mut unknown = false;
        let mut open = vec![value];
        while let Some(value) = open.pop() {
            match value {
                Value::Object(object) => {
                    self.budget.spend(1 + object.len() as u64)?;
                    unknown |= self.observe_object(object);
                    let parts = object.iter().flat_map(|(key, value)| [key, value]);
                    open.extend(parts.filter(|part| is_composite(part)));
                }
                Value::Array(array) => {
                    self.budget.spend(1 + array.len() as u64)?;
                    open.extend(array.iter().filter(|part| is_composite(part)));
                }
                Value::Set(set) => {
                    self.budget.spend(1 + set.len() as u64)?;
                    open.extend(set.iter().filter(|part| is_composite(part)));
                }
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::String(_)
                | Value::Undefined => {}
            }
        }
        Ok(unknown)
    }
}

/// Whether a `with` gave the object the field after all.
fn has(object: &Object, field: Field) -> bool {
    object.contains_key(&super::string(field.path().1))
}

/// Whether a value has members.
pub(super) fn is_composite(value: &Value) -> bool {
    matches!(value, Value::Array(_) | Value::Set(_) | Value::Object(_))
}
