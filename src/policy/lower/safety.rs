//! Which variables a statement reads before anything has set them.

use std::collections::BTreeSet;

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Span};

use super::Lowerer;
use super::names;
use super::term::{Operand, flatten};

/// What a term reads, and what it sets while it is evaluated.
#[derive(Default)]
struct Needs {
    reads: Vec<(String, Span)>,
    sets: BTreeSet<String>,
}

impl Needs {
    fn missing(self) -> Option<(String, Span)> {
        self.reads.into_iter().find(|(name, _)| !self.sets.contains(name))
    }
}

impl Lowerer<'_> {
    /// A variable that `expr` reads and that is not set yet.
    pub(super) fn unset(&self, expr: &Expr) -> Option<(String, Span)> {
        let mut needs = Needs::default();
        self.needs(expr, &mut needs);
        needs.missing()
    }

    /// A variable that keeps a statement from being evaluated now.
    pub(super) fn missing(&self, statement: &LiteralStmt) -> Option<(String, Span)> {
        for with in &statement.with_mods {
            if let Some(missing) = self.unset(&with.r#as) {
                return Some(missing);
            }
        }
        match &statement.literal {
            Literal::SomeVars { .. } => None,
            Literal::SomeIn { collection, .. } => self.unset(collection),
            Literal::Expr { expr, .. } => match &**expr {
                Expr::AssignExpr { op: AssignOp::ColEq, rhs, .. } => self.unset(rhs),
                Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => self.not_unifiable(lhs, rhs),
                expr => self.unset(expr),
            },
            Literal::NotExpr { expr, .. } => {
                let mut needs = Needs::default();
                self.needs(expr, &mut needs);
                let inside = needs.sets.iter().next().cloned();
                needs.missing().or_else(|| inside.map(|name| (name, expr.span().clone())))
            }
            Literal::Every { domain, query, key, value, .. } => {
                if let Some(missing) = self.unset(domain) {
                    return Some(missing);
                }
                let own: BTreeSet<&str> = key.iter().chain([value]).map(Span::text).collect();
                let mut missing = None;
                names::query_variables(query, &mut |name, span| {
                    if missing.is_none() && !own.contains(name) && self.is_unset(name) {
                        missing = Some((name.to_owned(), span.clone()));
                    }
                });
                missing
            }
        }
    }

    fn not_unifiable(&self, lhs: &Expr, rhs: &Expr) -> Option<(String, Span)> {
        let missing = match (self.unset(lhs), self.unset(rhs)) {
            (None, right) => return right.and_then(|_| self.not_a_pattern(rhs)),
            (left, None) => return left.and_then(|_| self.not_a_pattern(lhs)),
            (left, Some(_)) => left,
        };
        match (lhs, rhs) {
            (Expr::Array { items: a, .. }, Expr::Array { items: b, .. }) if a.len() == b.len() => {
                a.iter().zip(b).find_map(|(a, b)| self.not_unifiable(a, b))
            }
            _ => missing,
        }
    }

    /// What keeps a term from being set by what it is compared with.
    fn not_a_pattern(&self, expr: &Expr) -> Option<(String, Span)> {
        match expr {
            Expr::Var { .. } => None,
            Expr::Array { items, .. } => items.iter().find_map(|item| self.not_a_pattern(item)),
            Expr::Object { fields, .. } => fields
                .iter()
                .find_map(|(_, key, value)| self.unset(key).or_else(|| self.not_a_pattern(value))),
            expr => self.unset(expr),
        }
    }

    /// Whether the name is a variable in scope that nothing has set yet.
    fn is_unset(&self, name: &str) -> bool {
        self.scopes.find(name).is_some_and(|slot| !self.scopes.is_bound(slot))
    }

    fn needs(&self, expr: &Expr, needs: &mut Needs) {
        match expr {
            Expr::String { .. }
            | Expr::RawString { .. }
            | Expr::Number { .. }
            | Expr::Bool { .. }
            | Expr::Null { .. } => {}
            Expr::Var { span, .. } => {
                if self.is_unset(span.text()) {
                    needs.reads.push((span.text().to_owned(), span.clone()));
                }
            }
            Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                let (base, operands) = flatten(expr);
                self.needs(base, needs);
                for operand in operands {
                    if let Operand::Index(index) = operand {
                        self.operand_needs(index, needs);
                    }
                }
            }
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                items.iter().for_each(|item| self.needs(item, needs));
            }
            Expr::Object { fields, .. } => fields.iter().for_each(|(_, key, value)| {
                self.needs(key, needs);
                self.needs(value, needs);
            }),
            Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {
                self.closure_needs(expr, needs);
            }
            Expr::Call { params, fcn, .. } => {
                let output = self.output_parameter(fcn, params.len());
                for (at, param) in params.iter().enumerate() {
                    if Some(at) == output {
                        self.operand_needs(param, needs);
                    } else {
                        self.needs(param, needs);
                    }
                }
            }
            Expr::UnaryExpr { expr, .. } => self.needs(expr, needs),
            Expr::BinExpr { lhs, rhs, .. }
            | Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => {
                self.needs(lhs, needs);
                self.needs(rhs, needs);
            }
            Expr::Membership { key, value, collection, .. } => {
                key.iter().chain([value, collection]).for_each(|expr| self.needs(expr, needs));
            }
        }
    }

    /// An operand of a reference that is an unset variable is set by it.
    fn operand_needs(&self, index: &Expr, needs: &mut Needs) {
        match index {
            Expr::Var { span, .. } => {
                if self.is_unset(span.text()) {
                    needs.sets.insert(span.text().to_owned());
                }
            }
            Expr::Array { items, .. } => {
                items.iter().for_each(|item| self.operand_needs(item, needs));
            }
            index => self.needs(index, needs),
        }
    }

    /// A closure reads the variables of the scopes around it; its own are its own affair.
    fn closure_needs(&self, expr: &Expr, needs: &mut Needs) {
        let (Expr::ArrayCompr { query, .. }
        | Expr::SetCompr { query, .. }
        | Expr::ObjectCompr { query, .. }) = expr
        else {
            return;
        };
        let own = names::declared_by(&query.stmts);
        names::all_variables(expr, &mut |name, span| {
            if !own.contains(name) && self.is_unset(name) {
                needs.reads.push((name.to_owned(), span.clone()));
            }
        });
    }
}
