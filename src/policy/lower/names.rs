//! What names mean before there are scopes: imports, rules of the package, variables of a term.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use regorus::Value;
use regorus::unstable::{AssignOp, Expr, Literal, LiteralStmt, Query, Span};

use super::super::error::PolicyError;
use super::super::ir::Tree;
use super::Unit;

/// What an import's name stands for.
#[derive(Clone, Debug)]
pub(super) enum Import {
    Input(Vec<Value>),
    Data(Vec<Arc<str>>),
}

/// The imports of a file, by the name they have in it.
///
/// # Errors
/// When an import is neither of `data` nor of `input`, or two have one name.
pub(super) fn imports(unit: &Unit) -> Result<HashMap<String, Import>, PolicyError> {
    let mut imports = HashMap::new();
    for import in &unit.file.module.imports {
        let parts = path_of(&import.refr);
        let (Some(root), Some(last)) = (parts.first(), parts.last()) else { continue };
        let target = match &**root {
            "data" => Import::Data(parts[1..].to_vec()),
            "input" => {
                Import::Input(parts[1..].iter().map(|part| Value::String(part.clone())).collect())
            }
            // `rego.v1` and `future.keywords` say nothing that is not so already.
            _ => continue,
        };
        let name = import.r#as.as_ref().map_or(&**last, |alias| alias.text()).to_owned();
        if matches!(&*name, "input" | "data") {
            return Err(unit.file.error(
                &import.span,
                format!("an import may not be named `{name}`; give it another name with `as`"),
            ));
        }
        if unit.file.module.policy.iter().any(|rule| super::head::first_name(rule) == name) {
            return Err(unit.file.error(
                &import.span,
                format!(
                    "an import and a rule of this file are both named `{name}`; give the import \
                     another name with `as`"
                ),
            ));
        }
        if imports.insert(name.clone(), target).is_some() {
            return Err(unit.file.error(
                &import.span,
                format!("two imports are named `{name}`; give one another name with `as`"),
            ));
        }
    }
    Ok(imports)
}

/// The parts of a constant reference.
pub(in crate::policy) fn path_of(expr: &Expr) -> Vec<Arc<str>> {
    let mut parts: Vec<Arc<str>> = Vec::new();
    let mut expr = expr;
    loop {
        match expr {
            Expr::RefDot { refr, field, .. } => {
                parts.push(field.0.text().into());
                expr = refr;
            }
            Expr::RefBrack { refr, index, .. } => {
                if let Expr::String { value: Value::String(name), .. } = &**index {
                    parts.push(name.clone());
                }
                expr = refr;
            }
            other => {
                parts.push(other.span().text().into());
                break;
            }
        }
    }
    parts.reverse();
    parts
}

/// The node of the tree at `path`.
pub(super) fn find<'a>(tree: &'a Tree, path: &[Arc<str>]) -> Option<&'a Tree> {
    path.iter().try_fold(tree, |node, part| node.children.get(part))
}

/// Calls `found` with each variable of a term, but for those in closures and functions' names.
pub(super) fn variables<'a>(expr: &'a Expr, found: &mut dyn FnMut(&'a str, &'a Span)) {
    walk(expr, Closures::Skip, found);
}

/// Calls `found` with each variable of a term, those in closures included.
pub(super) fn all_variables<'a>(expr: &'a Expr, found: &mut dyn FnMut(&'a str, &'a Span)) {
    walk(expr, Closures::Enter, found);
}

/// Calls `found` with each variable that a statement reads or sets from outside its closures: what
/// those declare themselves is left out.
pub(super) fn free_variables<'a>(
    statement: &'a LiteralStmt,
    found: &mut dyn FnMut(&'a str, &'a Span),
) {
    statement_variables(statement, Closures::Free, found);
}

/// Calls `found` with each variable of a query, those in closures included.
pub(super) fn query_variables<'a>(query: &'a Query, found: &mut dyn FnMut(&'a str, &'a Span)) {
    for statement in &query.stmts {
        statement_variables(statement, Closures::Enter, found);
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Closures {
    Skip,
    Enter,
    /// Enters them, and leaves out the variables that they declare.
    Free,
}

/// The variables that a query declares with `:=` or `some`.
pub(super) fn declared_by(statements: &[LiteralStmt]) -> BTreeSet<&str> {
    let mut own = BTreeSet::new();
    for statement in statements {
        match &statement.literal {
            Literal::SomeVars { vars, .. } => own.extend(vars.iter().map(|var| var.text())),
            Literal::SomeIn { key, value, .. } => {
                for pattern in key.iter().chain([value]) {
                    variables(pattern, &mut |name, _| {
                        own.insert(name);
                    });
                }
            }
            Literal::Expr { expr, .. } => {
                if let Expr::AssignExpr { op: AssignOp::ColEq, lhs, .. } = &**expr {
                    variables(lhs, &mut |name, _| {
                        own.insert(name);
                    });
                }
            }
            Literal::NotExpr { .. } | Literal::Every { .. } => {}
        }
    }
    own
}

/// Calls `found` with each variable of a statement.
pub(super) fn statement_variables<'a>(
    statement: &'a LiteralStmt,
    closures: Closures,
    found: &mut dyn FnMut(&'a str, &'a Span),
) {
    match &statement.literal {
        Literal::SomeVars { vars, .. } => vars.iter().for_each(|var| found(var.text(), var)),
        Literal::SomeIn { key, value, collection, .. } => {
            key.iter().chain([value, collection]).for_each(|expr| walk(expr, closures, found));
        }
        Literal::Expr { expr, .. } | Literal::NotExpr { expr, .. } => walk(expr, closures, found),
        Literal::Every { key, value, domain, query, .. } => {
            walk(domain, closures, found);
            match closures {
                Closures::Skip => {}
                Closures::Enter => {
                    key.iter().chain([value]).for_each(|var| found(var.text(), var));
                    query_variables(query, found);
                }
                Closures::Free => {
                    let mut own = declared_by(&query.stmts);
                    own.extend(key.iter().chain([value]).map(|var| var.text()));
                    query_free(query, &own, found);
                }
            }
        }
    }
    for with in &statement.with_mods {
        walk(&with.r#as, closures, found);
    }
}

fn walk_closure<'a>(
    outputs: &[&'a Expr],
    query: &'a Query,
    closures: Closures,
    found: &mut dyn FnMut(&'a str, &'a Span),
) {
    match closures {
        Closures::Skip => {}
        Closures::Enter => {
            outputs.iter().for_each(|output| walk(output, closures, found));
            query_variables(query, found);
        }
        Closures::Free => {
            let own = declared_by(&query.stmts);
            for output in outputs {
                walk(output, closures, &mut |name, span| {
                    if !own.contains(name) {
                        found(name, span);
                    }
                });
            }
            query_free(query, &own, found);
        }
    }
}

fn query_free<'a>(
    query: &'a Query,
    own: &BTreeSet<&str>,
    found: &mut dyn FnMut(&'a str, &'a Span),
) {
    for statement in &query.stmts {
        free_variables(statement, &mut |name, span| {
            if !own.contains(name) {
                found(name, span);
            }
        });
    }
}

fn walk<'a>(expr: &'a Expr, closures: Closures, found: &mut dyn FnMut(&'a str, &'a Span)) {
    match expr {
        Expr::String { .. }
        | Expr::RawString { .. }
        | Expr::Number { .. }
        | Expr::Bool { .. }
        | Expr::Null { .. } => {}
        Expr::Var { span, .. } => found(span.text(), span),
        Expr::Array { items, .. } | Expr::Set { items, .. } => {
            items.iter().for_each(|item| walk(item, closures, found));
        }
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, key, value)| {
            walk(key, closures, found);
            walk(value, closures, found);
        }),
        Expr::ArrayCompr { term, query, .. } | Expr::SetCompr { term, query, .. } => {
            walk_closure(&[term], query, closures, found);
        }
        Expr::ObjectCompr { key, value, query, .. } => {
            walk_closure(&[key, value], query, closures, found);
        }
        Expr::Call { params, .. } => params.iter().for_each(|param| walk(param, closures, found)),
        Expr::UnaryExpr { expr, .. } => walk(expr, closures, found),
        Expr::RefDot { refr, .. } => walk(refr, closures, found),
        Expr::RefBrack { refr, index, .. } => {
            walk(refr, closures, found);
            walk(index, closures, found);
        }
        Expr::BinExpr { lhs, rhs, .. }
        | Expr::BoolExpr { lhs, rhs, .. }
        | Expr::ArithExpr { lhs, rhs, .. }
        | Expr::AssignExpr { lhs, rhs, .. } => {
            walk(lhs, closures, found);
            walk(rhs, closures, found);
        }
        Expr::Membership { key, value, collection, .. } => {
            key.iter().chain([value, collection]).for_each(|expr| walk(expr, closures, found));
        }
    }
}

/// Calls `found` with each number literal of a term, those in its calls and closures left out.
pub(super) fn literals<'a>(expr: &'a Expr, found: &mut dyn FnMut(&'a Span)) {
    match expr {
        Expr::Number { span, .. } => found(span),
        Expr::Array { items, .. } | Expr::Set { items, .. } => {
            items.iter().for_each(|item| literals(item, found));
        }
        Expr::Object { fields, .. } => fields.iter().for_each(|(_, key, value)| {
            literals(key, found);
            literals(value, found);
        }),
        _ => {}
    }
}
