//! Bodies: statements put in an order in which they can run, and each turned into steps.

use std::collections::BTreeSet;

use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Query, Span};

use super::super::ir::{Pattern, Slot, StatementId, StatementInfo, Step, Term};
use super::names::{self, Closures};
use super::term::is_wildcard;
use super::{Lowerer, Result};

impl Lowerer<'_> {
    /// Opens the scope of a body and of the terms that are evaluated in it.
    pub(super) fn enter_body(&mut self, body: &[LiteralStmt], outputs: &[&Expr]) -> Result<()> {
        self.check_declarations(body, outputs)?;
        let mut declared: BTreeSet<String> =
            names::declared_by(body).into_iter().map(str::to_owned).collect();
        let mut free = BTreeSet::new();
        let mut see = |name: &str, _: &Span| {
            if !declared.contains(name) && !self.is_known(name) {
                free.insert(name.to_owned());
            }
        };
        for statement in body {
            names::statement_variables(statement, Closures::Skip, &mut see);
        }
        for output in outputs {
            names::variables(output, &mut see);
        }
        declared.remove("_");
        free.remove("_");
        self.scopes.declare(declared.into_iter().chain(free));
        Ok(())
    }

    /// Whether the name means something already: a variable of an outer scope, a rule, an import.
    fn is_known(&self, name: &str) -> bool {
        self.scopes.find(name).is_some()
            || matches!(name, "input" | "data")
            || self.imports.contains_key(name)
            || self.package_names.contains(name)
    }

    /// Lowers a body's statements, each as soon as what it reads is set.
    pub(super) fn body(&mut self, body: &[LiteralStmt], steps: &mut Vec<Step>) -> Result<()> {
        let mut rest: Vec<(&LiteralStmt, StatementId)> = body
            .iter()
            .filter(|statement| !matches!(statement.literal, Literal::SomeVars { .. }))
            .map(|statement| (statement, self.statement_info(statement)))
            .collect();
        while !rest.is_empty() {
            let before = rest.len();
            let mut waiting = Vec::new();
            for (statement, id) in rest {
                if self.missing(statement).is_none() {
                    self.statement(statement, id, steps)?;
                } else {
                    waiting.push((statement, id));
                }
            }
            rest = waiting;
            if rest.len() == before
                && let Some((name, span)) =
                    rest.first().and_then(|(statement, _)| self.missing(statement))
            {
                return Err(
                    self.error(&span, format!("var `{name}` is unsafe: nothing gives it a value"))
                );
            }
        }
        Ok(())
    }

    fn statement_info(&mut self, statement: &LiteralStmt) -> StatementId {
        let id = self.program.statements.len() as StatementId;
        let text = self.unit.file.text_of(&statement.span);
        let position = self.unit.file.position(&statement.span);
        self.program.statements.push(StatementInfo {
            end_line: position.line
                + u32::try_from(text.trim_end().matches('\n').count()).unwrap_or_default(),
            text: text.to_owned(),
            position,
        });
        self.statements.push(id);
        id
    }

    fn statement(
        &mut self,
        statement: &LiteralStmt,
        id: StatementId,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        steps.push(Step::Enter(id));
        if statement.with_mods.is_empty() {
            self.literal(&statement.literal, steps)?;
        } else {
            let changes = self.changes(&statement.with_mods, steps)?;
            let mark = self.scopes.mark();
            let mut inner = Vec::new();
            self.literal(&statement.literal, &mut inner)?;
            let binds = self.scopes.bound_since(&mark);
            steps.push(Step::With { changes, steps: inner, binds });
        }
        steps.push(Step::Held(id));
        Ok(())
    }

    fn literal(&mut self, literal: &Literal, steps: &mut Vec<Step>) -> Result<()> {
        match literal {
            Literal::SomeVars { .. } => Ok(()),
            Literal::SomeIn { key, value, collection, .. } => {
                let collection = self.term(collection, steps)?;
                let key = match key {
                    Some(key) => self.pattern(key, steps)?,
                    None => Pattern::Any,
                };
                let value = self.pattern(value, steps)?;
                steps.push(Step::Scan { collection, key, value });
                Ok(())
            }
            Literal::Expr { expr, .. } => match &**expr {
                Expr::AssignExpr { op: AssignOp::ColEq, lhs, rhs, .. } => {
                    let value = self.term(rhs, steps)?;
                    self.matches(lhs, value, steps)
                }
                Expr::AssignExpr { op: AssignOp::Eq, lhs, rhs, .. } => self.unify(lhs, rhs, steps),
                expr => {
                    let term = self.term(expr, steps)?;
                    steps.push(Step::Test(term));
                    Ok(())
                }
            },
            Literal::NotExpr { expr, .. } => {
                self.check_negated(expr)?;
                let mark = self.scopes.mark();
                let mut inner = Vec::new();
                self.negated(expr, steps, &mut inner)?;
                // What was bound in front of the `not` stays; what was bound under it does not.
                let outer: BTreeSet<Slot> = bound_by(steps);
                let bound = self.scopes.bound_since(&mark);
                self.scopes.close(mark);
                bound.into_iter().filter(|slot| outer.contains(slot)).for_each(|slot| {
                    self.scopes.bind(slot);
                });
                steps.push(Step::Not(inner));
                Ok(())
            }
            Literal::Every { key, value, domain, query, .. } => {
                let domain = self.term(domain, steps)?;
                let domain = self.hold(domain, steps);
                self.every((key.as_ref(), value), domain, query, steps)
            }
        }
    }

    fn every(
        &mut self,
        (key, value): (Option<&Span>, &Span),
        domain: Term,
        query: &Query,
        steps: &mut Vec<Step>,
    ) -> Result<()> {
        let mark = self.scopes.mark();
        self.scopes.declare(
            key.into_iter()
                .chain([value])
                .map(|span| span.text().to_owned())
                .filter(|name| name != "_"),
        );
        let mut slot = |span: &Span| {
            let slot = self.scopes.find(span.text()).filter(|_| span.text() != "_");
            let slot = slot.unwrap_or_else(|| self.scopes.fresh());
            self.scopes.bind(slot);
            slot
        };
        let key = key.map(&mut slot);
        let value = slot(value);
        let mut inner = Vec::new();
        self.enter_body(&query.stmts, &[])?;
        self.body(&query.stmts, &mut inner)?;
        self.scopes.close(mark);
        steps.push(Step::Every { domain, key, value, steps: inner });
        Ok(())
    }

    /// `lhs = rhs`: whichever side can be read gives its value to the other's pattern.
    fn unify(&mut self, lhs: &Expr, rhs: &Expr, steps: &mut Vec<Step>) -> Result<()> {
        if !self.is_open(rhs) {
            let value = self.term(rhs, steps)?;
            return self.matches(lhs, value, steps);
        }
        if !self.is_open(lhs) {
            let value = self.term(lhs, steps)?;
            return self.matches(rhs, value, steps);
        }
        if let (Expr::Array { items: a, .. }, Expr::Array { items: b, .. }) = (lhs, rhs) {
            if a.len() != b.len() {
                steps.push(Step::Test(Term::Const(regorus::Value::Bool(false))));
                return Ok(());
            }
            return a.iter().zip(b).try_for_each(|(a, b)| self.unify(a, b, steps));
        }
        let (name, span) = self.unset(rhs).unwrap_or_else(|| ("_".into(), rhs.span().clone()));
        Err(self.error(&span, format!("var `{name}` is unsafe: nothing gives it a value")))
    }

    /// Whether a term has places for values: variables that are not set, or wildcards.
    fn is_open(&self, expr: &Expr) -> bool {
        fn has_wildcard(expr: &Expr) -> bool {
            match expr {
                Expr::Array { items, .. } => items.iter().any(|item| has_wildcard(item)),
                Expr::Object { fields, .. } => {
                    fields.iter().any(|(_, _, value)| has_wildcard(value))
                }
                expr => is_wildcard(expr),
            }
        }
        has_wildcard(expr) || self.unset(expr).is_some()
    }

    fn matches(&mut self, pattern: &Expr, value: Term, steps: &mut Vec<Step>) -> Result<()> {
        match self.pattern(pattern, steps)? {
            Pattern::Any => steps.push(Step::Match(Pattern::Any, value)),
            Pattern::Bind(slot) => steps.push(Step::Bind(slot, value)),
            pattern => steps.push(Step::Match(pattern, value)),
        }
        Ok(())
    }

    /// The pattern that a term is where it may set variables.
    pub(super) fn pattern(&mut self, expr: &Expr, steps: &mut Vec<Step>) -> Result<Pattern> {
        match expr {
            Expr::Var { span, .. } if span.text() == "_" => Ok(Pattern::Any),
            Expr::Var { span, .. } => match self.scopes.find(span.text()) {
                Some(slot) if !self.scopes.is_bound(slot) => {
                    self.scopes.bind(slot);
                    Ok(Pattern::Bind(slot))
                }
                _ => Ok(Pattern::Equals(self.term(expr, steps)?)),
            },
            Expr::Array { items, .. } if self.is_open(expr) => Ok(Pattern::Array(
                items.iter().map(|item| self.pattern(item, steps)).collect::<Result<_>>()?,
            )),
            Expr::Object { fields, .. } if self.is_open(expr) => Ok(Pattern::Object(
                fields
                    .iter()
                    .map(|(_, key, value)| {
                        Ok((self.term(key, steps)?, self.pattern(value, steps)?))
                    })
                    .collect::<Result<_>>()?,
            )),
            expr => Ok(Pattern::Equals(self.term(expr, steps)?)),
        }
    }

    /// A term that is evaluated once, before what follows.
    pub(super) fn hold(&mut self, term: Term, steps: &mut Vec<Step>) -> Term {
        if matches!(term, Term::Const(_) | Term::Slot(_)) {
            return term;
        }
        let slot = self.scopes.fresh();
        self.scopes.bind(slot);
        steps.push(Step::Bind(slot, term));
        Term::Slot(slot)
    }
}

/// The slots that a list of steps sets for what follows it.
fn bound_by(steps: &[Step]) -> BTreeSet<Slot> {
    fn of_pattern(pattern: &Pattern, slots: &mut BTreeSet<Slot>) {
        match pattern {
            Pattern::Any | Pattern::Equals(_) => {}
            Pattern::Bind(slot) => {
                slots.insert(*slot);
            }
            Pattern::Array(items) => items.iter().for_each(|item| of_pattern(item, slots)),
            Pattern::Object(fields) => fields.iter().for_each(|(_, item)| of_pattern(item, slots)),
        }
    }
    let mut slots = BTreeSet::new();
    for step in steps {
        match step {
            Step::Bind(slot, _) => {
                slots.insert(*slot);
            }
            Step::Match(pattern, _) => of_pattern(pattern, &mut slots),
            Step::Scan { key, value, .. } => {
                of_pattern(key, &mut slots);
                of_pattern(value, &mut slots);
            }
            Step::With { binds, .. } => slots.extend(binds),
            Step::Enter(_) | Step::Held(_) | Step::Test(_) | Step::Not(_) | Step::Every { .. } => {}
        }
    }
    slots
}
