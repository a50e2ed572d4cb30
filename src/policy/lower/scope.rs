//! Variables: which slot a name has where, and which slots are set so far.

use std::collections::{BTreeMap, BTreeSet};

use super::super::ir::Slot;

/// The scopes that are open, innermost last.
#[derive(Default)]
pub(super) struct Scopes {
    open: Vec<BTreeMap<String, Slot>>,
    bound: BTreeSet<Slot>,
    next: Slot,
}

/// A state of the scopes to go back to.
pub(super) struct Mark {
    depth: usize,
    bound: BTreeSet<Slot>,
}

impl Scopes {
    /// Opens a scope with names that have slots already.
    pub fn open(&mut self, names: BTreeMap<String, Slot>) {
        self.open.push(names);
    }

    /// Opens a scope in which `names` are new variables.
    pub fn declare(&mut self, names: impl IntoIterator<Item = String>) {
        let scope = names.into_iter().map(|name| (name, self.fresh())).collect();
        self.open.push(scope);
    }

    /// Remembers the state, for [`Scopes::close`].
    pub fn mark(&self) -> Mark {
        Mark { depth: self.open.len(), bound: self.bound.clone() }
    }

    /// Goes back: scopes opened since are closed, slots bound since are not bound.
    pub fn close(&mut self, mark: Mark) {
        self.open.truncate(mark.depth);
        self.bound = mark.bound;
    }

    /// The slots bound since `mark`.
    pub fn bound_since(&self, mark: &Mark) -> Vec<Slot> {
        self.bound.difference(&mark.bound).copied().collect()
    }

    /// The slot that `name` has here.
    pub fn find(&self, name: &str) -> Option<Slot> {
        self.open.iter().rev().find_map(|scope| scope.get(name).copied())
    }

    /// A slot that no name has.
    pub fn fresh(&mut self) -> Slot {
        let slot = self.next;
        self.next += 1;
        slot
    }

    /// Whether the slot is set by now.
    pub fn is_bound(&self, slot: Slot) -> bool {
        self.bound.contains(&slot)
    }

    /// From here on the slot is set.
    pub fn bind(&mut self, slot: Slot) {
        self.bound.insert(slot);
    }

    /// How many slots the rule needs.
    pub fn slots(&self) -> u32 {
        self.next
    }
}
