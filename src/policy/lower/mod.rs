//! From syntax trees to a [`Program`]: names resolved, statements put in an order in which they can
//! run, everything that enumerates moved to the front, OPA's treatment of `not` applied.
//!
//! What OPA refuses when it compiles is refused here: unknown functions, wrong arities, unsafe
//! variables, recursion, rules of one name and different kinds.

mod body;
mod call;
mod declare;
mod graph;
mod head;
mod names;
mod negation;
mod safety;
mod scope;
mod term;

pub(super) use names::path_of;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use regorus::unstable::{Expr, Rule as AstRule, Span};

use self::head::{Head, Key};
use self::scope::Scopes;
use super::error::PolicyError;
use super::ir::{Clause, Group, GroupId, GroupKind, Output, Program, Rule, RuleInfo, Term};
use super::parse::ParsedFile;

/// A parsed file and the package its rules are in.
pub(super) struct Unit {
    pub file: ParsedFile,
    /// Path below `data`.
    pub package: Vec<Arc<str>>,
    /// Whether it holds the engine's own helpers.
    pub internal: bool,
}

type Result<T> = std::result::Result<T, PolicyError>;

/// Compiles files that belong together.
///
/// # Errors
/// With file, line and column of the first thing that OPA would refuse, or that we do.
pub(super) fn compile(units: &[Unit]) -> Result<Program> {
    let mut program = Program::default();
    for unit in units {
        for rule in &unit.file.module.policy {
            declare(&mut program, unit, rule)?;
        }
    }
    graph::refuse_nested(units, &program)?;
    let mut dependencies = vec![BTreeSet::new(); program.groups.len()];
    for unit in units {
        let imports = names::imports(unit)?;
        let package_names = package_names(units, unit);
        for rule in &unit.file.module.policy {
            let mut lowerer = Lowerer {
                unit,
                imports: &imports,
                package_names: &package_names,
                program: &mut program,
                scopes: Scopes::default(),
                used: BTreeSet::new(),
                statements: Vec::new(),
            };
            let group = lowerer.rule(rule)?;
            let used = lowerer.used;
            if let Some(entry) = dependencies.get_mut(group as usize) {
                entry.extend(used);
            }
        }
    }
    graph::refuse_cycles(units, &program, &dependencies)?;
    program.groups.iter_mut().for_each(Group::settle);
    Ok(program)
}

/// First names of all rules in the unit's package, whichever file they stand in.
fn package_names(units: &[Unit], unit: &Unit) -> BTreeSet<String> {
    units
        .iter()
        .filter(|other| other.package == unit.package)
        .flat_map(|other| other.file.module.policy.iter())
        .map(|rule| head::first_name(rule).to_owned())
        .collect()
}

/// Notes a rule's path and kind, and that it agrees with the others of that path.
fn declare(program: &mut Program, unit: &Unit, rule: &AstRule) -> Result<()> {
    let head = Head::of(rule);
    let path: Vec<Arc<str>> =
        unit.package.iter().cloned().chain(head.path.iter().cloned()).collect();
    let mut node = &mut program.tree;
    for part in &path {
        node = node.children.entry(part.clone()).or_default();
    }
    let span = rule.span();
    let Some(id) = node.group else {
        node.group = Some(program.groups.len() as GroupId);
        program.groups.push(Group {
            path,
            kind: head.kind,
            rules: Vec::new(),
            default: None,
            alike: false,
            default_slots: 0,
            position: unit.file.position(span),
        });
        return Ok(());
    };
    let group = &mut program.groups[id as usize];
    let conflict = |what: &str| {
        unit.file.error(
            span,
            format!("`{}` {what}: it is also defined at {}", group.path.join("."), group.position),
        )
    };
    match (group.kind, head.kind) {
        (GroupKind::Function(a), GroupKind::Function(b)) if a != b => {
            Err(conflict(&format!("takes {b} arguments here and {a} elsewhere")))
        }
        (a, b) if a == b => Ok(()),
        // A default for rules of another kind is as good as a rule of that kind.
        _ => Err(conflict("has rules of different kinds")),
    }
}

/// Lowers one rule.
struct Lowerer<'a> {
    unit: &'a Unit,
    imports: &'a HashMap<String, names::Import>,
    package_names: &'a BTreeSet<String>,
    program: &'a mut Program,
    scopes: Scopes,
    used: BTreeSet<GroupId>,
    statements: Vec<u32>,
}

impl Lowerer<'_> {
    fn error(&self, span: &Span, message: impl Into<String>) -> PolicyError {
        self.unit.file.error(span, message)
    }

    fn rule(&mut self, rule: &AstRule) -> Result<GroupId> {
        let head = Head::of(rule);
        let path: Vec<Arc<str>> =
            self.unit.package.iter().cloned().chain(head.path.iter().cloned()).collect();
        let Some(id) = names::find(&self.program.tree, &path).and_then(|node| node.group) else {
            return Err(self.error(rule.span(), "rule was not declared"));
        };
        match rule {
            AstRule::Default { value, span, .. } => self.default(id, span, value)?,
            AstRule::Spec { bodies, span, .. } => {
                // Bodies that are no `else` are rules of their own with the same head.
                let starts: Vec<usize> = (0..bodies.len())
                    .filter(|at| *at == 0 || !bodies[*at].is_else)
                    .chain(std::iter::once(bodies.len()))
                    .collect();
                if bodies.iter().all(|body| body.query.stmts.is_empty())
                    && head.args.is_empty()
                    && head.value.is_none()
                    && head.member.is_none()
                    && head.path.len() + head.keys.len() > 1
                {
                    return Err(self.error(
                        span,
                        "a rule of a set is written `name contains member`, one of an object \
                         `name[key] := value`",
                    ));
                }
                if bodies.is_empty() {
                    self.spec(id, &head, span, &[])?;
                }
                for pair in starts.windows(2) {
                    if let [from, to] = *pair
                        && from < to
                    {
                        self.spec(id, &head, span, &bodies[from..to])?;
                    }
                }
            }
        }
        Ok(id)
    }

    fn default(&mut self, id: GroupId, span: &Span, value: &Expr) -> Result<()> {
        if self.program.groups[id as usize].default.is_some() {
            return Err(self.error(span, "more than one default for this rule"));
        }
        self.scopes = Scopes::default();
        self.scopes.open(BTreeMap::new());
        let mut steps = Vec::new();
        let term = self.term(value, &mut steps)?;
        if !steps.is_empty()
            || !matches!(
                self.program.groups[id as usize].kind,
                GroupKind::Complete | GroupKind::Function(_)
            )
        {
            return Err(self.error(span, "a default must be a value, for a rule with one value"));
        }
        let slots = self.scopes.slots();
        let group = &mut self.program.groups[id as usize];
        group.default = Some(term);
        group.default_slots = slots;
        Ok(())
    }

    fn spec(
        &mut self,
        id: GroupId,
        head: &Head<'_>,
        span: &Span,
        bodies: &[regorus::unstable::RuleBody],
    ) -> Result<()> {
        self.scopes = Scopes::default();
        let params = self.params(head)?;
        let mut chain = Vec::new();
        let mut clauses = Vec::new();
        let first = bodies.first().map(|body| &*body.query);
        let mut clause = |this: &mut Self, query, value: Option<&Expr>| {
            this.statements = Vec::new();
            let lowered = this.clause(head, query, value)?;
            clauses.push(std::mem::take(&mut this.statements));
            chain.push(lowered);
            Result::Ok(())
        };
        clause(self, first, head.value)?;
        for body in bodies.iter().skip(1) {
            let value = body.assign.as_ref().map(|assign| &*assign.value);
            clause(self, Some(&*body.query), value)?;
        }
        let info = self.program.rules.len();
        self.program.rules.push(RuleInfo {
            name: head.name(),
            position: self.unit.file.position(span),
            clauses,
            internal: self.unit.internal,
        });
        let rule = Rule { info, params, chain, slots: self.scopes.slots() };
        self.program.groups[id as usize].rules.push(rule);
        Ok(())
    }

    fn params(&mut self, head: &Head<'_>) -> Result<Vec<super::ir::Pattern>> {
        let mut names = BTreeSet::new();
        let mut reserved = None;
        for arg in head.args {
            names::variables(arg, &mut |name, span| {
                names.insert(name.to_owned());
                if matches!(name, "input" | "data") {
                    reserved.get_or_insert(span);
                }
            });
        }
        if let Some(span) = reserved {
            return Err(self.error(span, format!("an argument may not be named `{}`", span.text())));
        }
        names.retain(|name| name != "_");
        self.scopes.declare(names);
        let mut steps = Vec::new();
        let patterns = head
            .args
            .iter()
            .map(|arg| self.pattern(arg, &mut steps))
            .collect::<Result<Vec<_>>>()?;
        match (steps.is_empty(), head.args.first()) {
            (false, Some(arg)) => {
                Err(self.error(arg.span(), "an argument must be a variable or a value"))
            }
            _ => Ok(patterns),
        }
    }

    fn clause(
        &mut self,
        head: &Head<'_>,
        query: Option<&regorus::unstable::Query>,
        value: Option<&Expr>,
    ) -> Result<Clause> {
        let keys = head.keys.iter().filter_map(|key| match key {
            Key::Term(term) => Some(*term),
            Key::Const(_) => None,
        });
        let outputs: Vec<&Expr> = keys.chain(head.member).chain(value).collect();
        if let Some(query) = query {
            let own = names::declared_by(&query.stmts);
            if let Some(name) = own.iter().find(|name| self.scopes.find(name).is_some()) {
                return Err(self.error(
                    &query.span,
                    format!("argument `{name}` may not be declared again in the body"),
                ));
            }
        }
        let mark = self.scopes.mark();
        let mut steps = Vec::new();
        self.enter_body(query.map_or(&[][..], |query| &query.stmts), &outputs)?;
        self.body(query.map_or(&[][..], |query| &query.stmts), &mut steps)?;
        let keys = head
            .keys
            .iter()
            .map(|key| match key {
                Key::Term(term) => self.term(term, &mut steps),
                Key::Const(name) => Ok(Term::Const(regorus::Value::String(name.clone()))),
            })
            .collect::<Result<Vec<_>>>()?;
        let output = match (head.member, value) {
            (Some(member), _) => Output::Member(self.term(member, &mut steps)?),
            (None, Some(value)) => Output::Value(self.term(value, &mut steps)?),
            (None, None) => Output::Value(Term::Const(regorus::Value::Bool(true))),
        };
        self.scopes.close(mark);
        Ok(Clause { steps, keys, output })
    }
}
