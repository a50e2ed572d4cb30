//! What the head of a rule says: its path, its keys, its arguments, its value.

use std::sync::Arc;

use regorus::unstable::{Expr, Ref, Rule, RuleHead};

use super::super::ir::GroupKind;

/// The head of a rule, taken apart.
pub(super) struct Head<'a> {
    /// The part of its reference that is constant.
    pub path: Vec<Arc<str>>,
    /// What follows the first part that is not.
    pub keys: Vec<Key<'a>>,
    pub args: &'a [Ref<Expr>],
    /// After `contains`.
    pub member: Option<&'a Expr>,
    /// After `:=` or `=`.
    pub value: Option<&'a Expr>,
    pub kind: GroupKind,
}

impl<'a> Head<'a> {
    pub fn of(rule: &'a Rule) -> Self {
        match rule {
            Rule::Default { refr, args, value, .. } => {
                let (path, keys) = split(refr);
                let kind = if args.is_empty() {
                    GroupKind::Complete
                } else {
                    GroupKind::Function(args.len())
                };
                Self { path, keys, args, member: None, value: Some(value), kind }
            }
            Rule::Spec { head, .. } => Self::of_spec(head),
        }
    }

    fn of_spec(head: &'a RuleHead) -> Self {
        match head {
            RuleHead::Compr { refr, assign, .. } => {
                let (path, keys) = split(refr);
                let kind = if keys.is_empty() { GroupKind::Complete } else { GroupKind::Partial };
                let value = assign.as_ref().map(|assign| &*assign.value);
                Self { path, keys, args: &[], member: None, value, kind }
            }
            RuleHead::Set { refr, key, .. } => {
                let (path, keys) = split(refr);
                let kind = match (keys.is_empty(), key) {
                    (true, Some(_)) => GroupKind::Set,
                    (true, None) => GroupKind::Complete,
                    (false, _) => GroupKind::Partial,
                };
                Self { path, keys, args: &[], member: key.as_deref(), value: None, kind }
            }
            RuleHead::Func { refr, args, assign, .. } => {
                let (path, keys) = split(refr);
                let value = assign.as_ref().map(|assign| &*assign.value);
                Self {
                    path,
                    keys,
                    args,
                    member: None,
                    value,
                    kind: GroupKind::Function(args.len()),
                }
            }
        }
    }

    /// The rule's name as its author wrote it, without the parts that vary.
    pub fn name(&self) -> String {
        self.path.join(".")
    }
}

/// The first name of a rule's reference.
pub(super) fn first_name(rule: &Rule) -> &str {
    let mut expr: &Expr = match rule {
        Rule::Default { refr, .. } => refr,
        Rule::Spec { head, .. } => match head {
            RuleHead::Compr { refr, .. }
            | RuleHead::Set { refr, .. }
            | RuleHead::Func { refr, .. } => refr,
        },
    };
    loop {
        match expr {
            Expr::RefDot { refr, .. } | Expr::RefBrack { refr, .. } => expr = refr,
            other => return other.span().text(),
        }
    }
}

/// Splits a reference into its constant beginning and what follows.
fn split(refr: &Expr) -> (Vec<Arc<str>>, Vec<Key<'_>>) {
    let mut parts = Vec::new();
    let mut expr = refr;
    loop {
        match expr {
            Expr::RefDot { refr, field, .. } => {
                parts.push(Part::Name(field.0.text()));
                expr = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                parts.push(match &**index {
                    Expr::String { value: regorus::Value::String(name), .. }
                    | Expr::RawString { value: regorus::Value::String(name), .. } => {
                        Part::Shared(name.clone())
                    }
                    index => Part::Key(index),
                });
                expr = refr;
            }
            other => {
                parts.push(Part::Name(other.span().text()));
                break;
            }
        }
    }
    let mut path: Vec<Arc<str>> = Vec::new();
    let mut keys = Vec::new();
    for part in parts.into_iter().rev() {
        match part {
            Part::Key(key) => keys.push(Key::Term(key)),
            Part::Name(name) if keys.is_empty() => path.push(name.into()),
            Part::Shared(name) if keys.is_empty() => path.push(name),
            Part::Name(name) => keys.push(Key::Const(name.into())),
            Part::Shared(name) => keys.push(Key::Const(name)),
        }
    }
    (path, keys)
}

/// A key of a rule such as `p[k].name := v`.
#[derive(Clone)]
pub(super) enum Key<'a> {
    Term(&'a Expr),
    Const(Arc<str>),
}

enum Part<'a> {
    Name(&'a str),
    Shared(Arc<str>),
    Key(&'a Expr),
}
