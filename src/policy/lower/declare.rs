//! What a body may declare: OPA's rules for `:=`, `some` and `every`, each of which keeps a statement
//! from meaning something else than what its author reads.

use std::collections::{BTreeMap, BTreeSet};

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Query, Span};

use super::names::{self, Closures};
use super::{Lowerer, Result};

/// How a name came to be known to a body.
#[derive(Clone, Copy)]
enum How {
    Assigned,
    Declared,
    Referenced,
}

impl How {
    fn words(self) -> &'static str {
        match self {
            Self::Assigned => "assigned",
            Self::Declared => "declared",
            Self::Referenced => "referenced",
        }
    }
}

/// The names of one body, statement by statement.
#[derive(Default)]
struct Names<'a>(BTreeMap<&'a str, How>);

impl<'a> Names<'a> {
    fn see(&mut self, name: &'a str) {
        self.0.entry(name).or_insert(How::Referenced);
    }

    /// Declares a name. How it was known before, if it was.
    fn declare(&mut self, name: &'a str, how: How) -> Option<How> {
        if name == "_" { None } else { self.0.insert(name, how) }
    }
}

impl Lowerer<'_> {
    /// Refuses what OPA refuses: a variable that is declared twice, or after it was read, and one
    /// that is declared and not used.
    pub(super) fn check_declarations(&self, body: &[LiteralStmt], outputs: &[&Expr]) -> Result<()> {
        let mut names = Names::default();
        for statement in body {
            self.check_statement(statement, &mut names)?;
        }
        for statement in body {
            let Literal::SomeVars { vars, .. } = &statement.literal else { continue };
            for var in vars {
                let mut used = false;
                let mut see = |name: &str, _: &Span| used |= name == var.text();
                body.iter()
                    .filter(|other| !matches!(other.literal, Literal::SomeVars { .. }))
                    .for_each(|other| names::statement_variables(other, Closures::Enter, &mut see));
                outputs.iter().for_each(|output| names::all_variables(output, &mut see));
                if !used {
                    return Err(self.unused(var));
                }
            }
        }
        Ok(())
    }

    fn unused(&self, var: &Span) -> super::PolicyError {
        self.error(var, format!("var `{}` is declared and not used", var.text()))
    }

    fn check_statement<'a>(&self, statement: &'a LiteralStmt, names: &mut Names<'a>) -> Result<()> {
        let mut own = BTreeSet::new();
        let mut how = How::Declared;
        match &statement.literal {
            Literal::SomeVars { vars, .. } => {
                for var in vars {
                    self.declared(var.text(), var, names, How::Declared)?;
                }
                return Ok(());
            }
            Literal::SomeIn { key, value, .. } => {
                for pattern in key.iter().chain([value]) {
                    names::variables(pattern, &mut |name, span| {
                        own.insert((name, span.start));
                    });
                }
            }
            Literal::Expr { expr, .. } => {
                if let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = &**expr {
                    self.check_assignable(lhs)?;
                    how = How::Assigned;
                    names::variables(lhs, &mut |name, span| {
                        own.insert((name, span.start));
                    });
                }
            }
            Literal::NotExpr { .. } => {}
            Literal::Every { key, value, query, .. } => {
                self.check_every(key.as_ref(), value, query)?;
            }
        }
        let mut declared = Vec::new();
        names::free_variables(statement, &mut |name, span| {
            if own.contains(&(name, span.start)) {
                declared.push((name, span));
            } else {
                names.see(name);
            }
        });
        if let How::Declared = how {
            // `some x, x in xs` takes the members that are their own keys.
            let mut once = BTreeSet::new();
            declared.retain(|(name, _)| once.insert(*name));
        }
        declared.into_iter().try_for_each(|(name, span)| self.declared(name, span, names, how))
    }

    fn declared<'a>(
        &self,
        name: &'a str,
        span: &Span,
        names: &mut Names<'a>,
        how: How,
    ) -> Result<()> {
        match names.declare(name, how) {
            None => Ok(()),
            Some(before) => {
                Err(self.error(span, format!("var `{name}` is {} above", before.words())))
            }
        }
    }

    fn check_every(&self, key: Option<&Span>, value: &Span, query: &Query) -> Result<()> {
        for var in key.into_iter().chain([value]).filter(|var| var.text() != "_") {
            if matches!(var.text(), "input" | "data") {
                return Err(self.error(var, "`every` takes variables"));
            }
            let mut used = false;
            names::query_variables(query, &mut |name, _| used |= name == var.text());
            if !used {
                return Err(self.unused(var));
            }
        }
        Ok(())
    }

    /// Only variables can be assigned to, alone or in arrays and objects.
    fn check_assignable(&self, lhs: &Expr) -> Result<()> {
        match lhs {
            Expr::Var { .. } => Ok(()),
            Expr::Array { items, .. } => {
                items.iter().try_for_each(|item| self.check_assignable(item))
            }
            Expr::Object { fields, .. } => {
                fields.iter().try_for_each(|(_, _, value)| self.check_assignable(value))
            }
            other => Err(self.error(
                other.span(),
                "only variables can be assigned to with `:=`; compare with `==`",
            )),
        }
    }

    /// Refuses wildcards that stand under a `not` itself: OPA calls them unsafe. Those in a nested
    /// call or a comprehension are evaluated in front of it, or on their own.
    pub(super) fn check_negated(&self, expr: &Expr) -> Result<()> {
        let operands: Vec<&Expr> = match expr {
            Expr::Call { params, .. } => params.iter().map(|param| &**param).collect(),
            Expr::BoolExpr { lhs, rhs, .. }
            | Expr::ArithExpr { lhs, rhs, .. }
            | Expr::BinExpr { lhs, rhs, .. }
            | Expr::AssignExpr { lhs, rhs, .. } => vec![lhs, rhs],
            Expr::Membership { key, value, collection, .. } => {
                key.iter().chain([value, collection]).map(|expr| &**expr).collect()
            }
            other => vec![other],
        };
        operands.into_iter().try_for_each(|operand| self.check_wildcards(operand))
    }

    fn check_wildcards(&self, expr: &Expr) -> Result<()> {
        match expr {
            Expr::Var { span, .. } if span.text() == "_" => Err(self.error(
                span,
                "`_` is unsafe under `not`: say `not` of a rule, or use `every` or a comprehension",
            )),
            Expr::RefDot { refr, .. } => self.check_wildcards(refr),
            Expr::RefBrack { refr, index, .. } => {
                self.check_wildcards(refr)?;
                self.check_wildcards(index)
            }
            Expr::Array { items, .. } | Expr::Set { items, .. } => {
                items.iter().try_for_each(|item| self.check_wildcards(item))
            }
            Expr::Object { fields, .. } => fields.iter().try_for_each(|(_, key, value)| {
                self.check_wildcards(key)?;
                self.check_wildcards(value)
            }),
            _ => Ok(()),
        }
    }
}
