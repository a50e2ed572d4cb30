//! Terms: references, calls, literals, comprehensions; and OPA's treatment of `not`.

use std::sync::Arc;

use regorus::Value;
use regorus::unstable::{ArithOp, BinOp, BoolOp, Expr, LiteralStmt, Query, Ref, Span};

use super::super::ir::{
    Arithmetic, Comparison, Comprehension, ComprehensionKind, GroupId, GroupKind, Membership,
    Pattern, Step, Term, Tree,
};
use super::names::{self, Import};
use super::{Lowerer, Result};

impl Lowerer<'_> {
    /// The term of an expression. What it enumerates goes in front of it, as steps.
    pub(super) fn term(&mut self, expr: &Expr, steps: &mut Vec<Step>) -> Result<Term> {
        match expr {
            Expr::String { value, .. }
            | Expr::RawString { value, .. }
            | Expr::Number { value, .. }
            | Expr::Bool { value, .. }
            | Expr::Null { value, .. } => Ok(Term::Const(value.clone())),
            Expr::Array { items, .. } => Ok(fold_array(self.terms(items, steps)?)),
            Expr::Set { items, .. } => Ok(fold_set(self.terms(items, steps)?)),
            Expr::Object { fields, .. } => {
                let fields = fields
                    .iter()
                    .map(|(_, key, value)| Ok((self.term(key, steps)?, self.term(value, steps)?)))
                    .collect::<Result<Vec<_>>>()?;
                Ok(Term::Object(fields))
            }
            Expr::ArrayCompr { term, query, span, .. } => {
                self.comprehension(&[term], query, span, |mut terms| {
                    ComprehensionKind::Array(terms.remove(0))
                })
            }
            Expr::SetCompr { term, query, span, .. } => {
                self.comprehension(&[term], query, span, |mut terms| {
                    ComprehensionKind::Set(terms.remove(0))
                })
            }
            Expr::ObjectCompr { key, value, query, span, .. } => {
                self.comprehension(&[key, value], query, span, |mut terms| {
                    ComprehensionKind::Object(terms.remove(0), terms.remove(0))
                })
            }
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                self.reference(expr, steps)
            }
            Expr::Call { fcn, params, span, .. } => {
                let mut args = self.terms_for_call(fcn, params, steps)?;
                self.keep_number_texts(fcn, params, &mut args)?;
                self.call(fcn, args, span, steps)
            }
            Expr::UnaryExpr { expr, .. } => {
                let pair = Box::new((Term::Const(Value::from(0_u64)), self.term(expr, steps)?));
                Ok(Term::Arithmetic(Arithmetic::Subtract, pair))
            }
            Expr::BinExpr { op, lhs, rhs, .. } => {
                let pair = Box::new((self.term(lhs, steps)?, self.term(rhs, steps)?));
                Ok(Term::Arithmetic(binary(op), pair))
            }
            Expr::ArithExpr { op, lhs, rhs, .. } => {
                let pair = Box::new((self.term(lhs, steps)?, self.term(rhs, steps)?));
                Ok(Term::Arithmetic(arithmetic(op), pair))
            }
            Expr::BoolExpr { op, lhs, rhs, .. } => {
                let pair = Box::new((self.term(lhs, steps)?, self.term(rhs, steps)?));
                Ok(Term::Compare(comparison(op), pair))
            }
            Expr::AssignExpr { span, .. } => {
                Err(self
                    .error(span, "an assignment cannot stand in an expression; did you mean `==`?"))
            }
            Expr::Membership { key, value, collection, .. } => {
                let key = key.as_ref().map(|key| self.term(key, steps)).transpose()?;
                let value = self.term(value, steps)?;
                let collection = self.term(collection, steps)?;
                Ok(Term::Member(Box::new(Membership { key, value, collection })))
            }
        }
    }

    fn terms(&mut self, exprs: &[Ref<Expr>], steps: &mut Vec<Step>) -> Result<Vec<Term>> {
        exprs.iter().map(|expr| self.term(expr, steps)).collect()
    }

    fn comprehension(
        &mut self,
        outputs: &[&Expr],
        query: &Query,
        span: &Span,
        kind: impl FnOnce(Vec<Term>) -> ComprehensionKind,
    ) -> Result<Term> {
        let mark = self.scopes.mark();
        let statements: &[LiteralStmt] = &query.stmts;
        self.enter_body(statements, outputs)?;
        let mut steps = Vec::new();
        self.body(statements, &mut steps)?;
        let terms = outputs
            .iter()
            .map(|output| self.term(output, &mut steps))
            .collect::<Result<Vec<_>>>()?;
        self.scopes.close(mark);
        Ok(Term::Comprehension(Box::new(Comprehension {
            kind: kind(terms),
            steps,
            position: self.unit.file.position(span),
        })))
    }

    /// A variable, or a reference with its operands.
    fn reference(&mut self, expr: &Expr, steps: &mut Vec<Step>) -> Result<Term> {
        let (base, operands) = flatten(expr);
        let (head, rest) = self.base(base, &operands, steps)?;
        let mut current = head;
        let mut path = Vec::new();
        for operand in &operands[rest..] {
            match operand {
                Operand::Name(name) => path.push(Term::Const(Value::String(name.clone()))),
                Operand::Index(index) if self.unset(index).is_none() && !is_wildcard(index) => {
                    path.push(self.term(index, steps)?);
                }
                Operand::Index(index) => {
                    let collection = extend(current, std::mem::take(&mut path));
                    let key = self.pattern(index, steps)?;
                    let slot = self.scopes.fresh();
                    self.scopes.bind(slot);
                    steps.push(Step::Scan { collection, key, value: Pattern::Bind(slot) });
                    current = Term::Slot(slot);
                }
            }
        }
        Ok(extend(current, path))
    }

    /// What a reference starts from, and how many of its operands that used up.
    fn base(
        &mut self,
        base: &Expr,
        operands: &[Operand<'_>],
        steps: &mut Vec<Step>,
    ) -> Result<(Term, usize)> {
        let Expr::Var { span, .. } = base else { return Ok((self.term(base, steps)?, 0)) };
        let name = span.text();
        if name == "_" {
            return Err(self.error(span, "`_` has no value to read"));
        }
        if let Some(slot) = self.scopes.find(name) {
            if !self.scopes.is_bound(slot) {
                return Err(
                    self.error(span, format!("var `{name}` is unsafe: nothing gives it a value"))
                );
            }
            return Ok((Term::Slot(slot), 0));
        }
        if name == "input" {
            return Ok((Term::Input, 0));
        }
        if name == "data" {
            return self.data(Vec::new(), operands, span);
        }
        if self.package_names.contains(name) {
            let path = self.unit.package.iter().cloned().chain([name.into()]).collect();
            return self.data(path, operands, span);
        }
        match self.imports.get(name) {
            Some(Import::Input(path)) => {
                let path = path.iter().cloned().map(Term::Const).collect();
                Ok((extend(Term::Input, path), 0))
            }
            Some(Import::Data(path)) => self.data(path.clone(), operands, span),
            None => {
                Err(self.error(span, format!("`{name}` is unknown: no variable, rule or import")))
            }
        }
    }

    /// A reference below `data`: one group's value where it leads to one.
    fn data(
        &mut self,
        mut path: Vec<Arc<str>>,
        operands: &[Operand<'_>],
        span: &Span,
    ) -> Result<(Term, usize)> {
        let mut used = 0;
        loop {
            let node = names::find(&self.program.tree, &path);
            if let Some(Tree { group: Some(group), children }) = node
                && children.is_empty()
            {
                let group = *group;
                if let GroupKind::Function(_) = self.program.groups[group as usize].kind {
                    return Err(self.error(
                        span,
                        format!("`{}` is a function; call it with its arguments", path.join(".")),
                    ));
                }
                self.used.insert(group);
                return Ok((Term::Group(group), used));
            }
            if let Some(node @ Tree { group: Some(_), .. }) = node {
                // Rules with keys may give what no rule below is named for.
                collect_groups(node, &mut self.used);
                let path = path.into_iter().map(|part| Term::Const(Value::String(part))).collect();
                return Ok((Term::Data(path), used));
            }
            let next = match operands.get(used) {
                Some(Operand::Name(name)) => Some(name.clone()),
                Some(Operand::Index(Expr::String { value: Value::String(name), .. })) => {
                    Some(name.clone())
                }
                _ => None,
            };
            match next {
                Some(name) => {
                    path.push(name);
                    used += 1;
                }
                None => {
                    if let Some(node) = node {
                        collect_groups(node, &mut self.used);
                    }
                    let path =
                        path.into_iter().map(|part| Term::Const(Value::String(part))).collect();
                    return Ok((Term::Data(path), used));
                }
            }
        }
    }
}

/// One step of a reference.
pub(super) enum Operand<'a> {
    Name(Arc<str>),
    Index(&'a Expr),
}

/// A reference's base and its steps.
pub(super) fn flatten(expr: &Expr) -> (&Expr, Vec<Operand<'_>>) {
    let mut operands = Vec::new();
    let mut expr = expr;
    loop {
        match expr {
            Expr::RefDot { refr, field, .. } => {
                operands.push(Operand::Name(field.0.text().into()));
                expr = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                operands.push(Operand::Index(index));
                expr = refr;
            }
            base => {
                operands.reverse();
                return (base, operands);
            }
        }
    }
}

fn extend(base: Term, path: Vec<Term>) -> Term {
    if path.is_empty() { base } else { Term::Path(Box::new(base), path) }
}

pub(super) fn is_wildcard(expr: &Expr) -> bool {
    matches!(expr, Expr::Var { span, .. } if span.text() == "_")
}

pub(super) fn collect_groups(node: &Tree, groups: &mut std::collections::BTreeSet<GroupId>) {
    groups.extend(node.group);
    node.children.values().for_each(|child| collect_groups(child, groups));
}

/// A literal of constants is a constant.
fn fold_array(terms: Vec<Term>) -> Term {
    match constants(&terms) {
        Some(values) => Term::Const(Value::from(values)),
        None => Term::Array(terms),
    }
}

fn fold_set(terms: Vec<Term>) -> Term {
    match constants(&terms) {
        Some(values) => {
            Term::Const(Value::from(values.into_iter().collect::<std::collections::BTreeSet<_>>()))
        }
        None => Term::Set(terms),
    }
}

fn constants(terms: &[Term]) -> Option<Vec<Value>> {
    terms
        .iter()
        .map(|term| match term {
            Term::Const(value) => Some(value.clone()),
            _ => None,
        })
        .collect()
}

pub(super) fn comparison(op: &BoolOp) -> Comparison {
    match op {
        BoolOp::Lt => Comparison::Less,
        BoolOp::Le => Comparison::LessOrEqual,
        BoolOp::Eq => Comparison::Equal,
        BoolOp::Ge => Comparison::GreaterOrEqual,
        BoolOp::Gt => Comparison::Greater,
        BoolOp::Ne => Comparison::NotEqual,
    }
}

pub(super) fn arithmetic(op: &ArithOp) -> Arithmetic {
    match op {
        ArithOp::Add => Arithmetic::Add,
        ArithOp::Sub => Arithmetic::Subtract,
        ArithOp::Mul => Arithmetic::Multiply,
        ArithOp::Div => Arithmetic::Divide,
        ArithOp::Mod => Arithmetic::Remainder,
    }
}

pub(super) fn binary(op: &BinOp) -> Arithmetic {
    match op {
        BinOp::Intersection => Arithmetic::And,
        BinOp::Union => Arithmetic::Or,
    }
}
