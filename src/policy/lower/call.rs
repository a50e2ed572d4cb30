//! Calls: which function a name means, its arguments, and what `with` puts in its place.

use std::sync::Arc;

use regorus::Value;
use regorus::unstable::{Expr, Ref, Span, WithModifier};

use super::super::builtins::{self, Origin};
use super::super::ir::{Callee, Change, GroupId, GroupKind, Pattern, Step, Target, Term};
use super::names::{self, Import};
use super::term::collect_groups;
use super::{Lowerer, Result};

/// What a called name means.
enum Function {
    Group(GroupId, usize),
    Builtin(&'static builtins::Builtin),
}

pub(super) enum Param {
    Term(Term),
    /// Set by the call, in OPA's older form of an assignment.
    Output(Pattern),
}

impl Lowerer<'_> {
    pub(super) fn terms_for_call(
        &mut self,
        fcn: &Expr,
        params: &[Ref<Expr>],
        steps: &mut Vec<Step>,
    ) -> Result<Vec<Param>> {
        let output = self.output_parameter(fcn, params.len());
        params
            .iter()
            .enumerate()
            .map(|(at, param)| {
                if output == Some(at) {
                    return Ok(Param::Output(self.pattern(param, steps)?));
                }
                Ok(Param::Term(self.term(param, steps)?))
            })
            .collect()
    }

    /// OPA prints a number literal as it is written, and regorus keeps only its value. `sprintf` takes
    /// one with an exponent as a string; what cannot be kept otherwise is refused.
    pub(super) fn keep_number_texts(
        &self,
        fcn: &Expr,
        params: &[Ref<Expr>],
        args: &mut [Param],
    ) -> Result<()> {
        let name = fcn.span().text();
        if !matches!(name, "sprintf" | "json.marshal" | "json.marshal_with_options") {
            return Ok(());
        }
        let mut lost = None;
        for param in params {
            names::literals(param, &mut |literal| {
                if !builtins::keeps_its_text(literal.text()) {
                    lost.get_or_insert(literal);
                }
            });
        }
        let Some(lost) = lost else { return Ok(()) };
        if name == "sprintf"
            && let (Some(Expr::Array { items, .. }), Some(Param::Term(term))) =
                (params.get(1).map(|param| &**param), args.get_mut(1))
            && let Some(texts) = exponents_as_texts(items)
            && let Term::Const(value) = term
        {
            *value = texts;
            return Ok(());
        }
        Err(self.error(
            lost,
            format!(
                "write the number `{}` out in full: `{name}` would print it otherwise",
                lost.text()
            ),
        ))
    }

    /// The parameter that the call sets: the one too many, in OPA's older form of `y := f(x)`.
    pub(super) fn output_parameter(&self, fcn: &Expr, given: usize) -> Option<usize> {
        let max = match self.function(fcn, fcn.span()).ok()? {
            Function::Group(_, arity) => arity,
            Function::Builtin(builtin) => usize::from(builtin.max_args),
        };
        (given == max.checked_add(1)?).then_some(max)
    }

    pub(super) fn call(
        &mut self,
        fcn: &Expr,
        mut params: Vec<Param>,
        span: &Span,
        steps: &mut Vec<Step>,
    ) -> Result<Term> {
        let function = self.function(fcn, span)?;
        let (min, max) = match &function {
            Function::Group(_, arity) => (*arity, *arity),
            Function::Builtin(builtin) => {
                (usize::from(builtin.min_args), usize::from(builtin.max_args))
            }
        };
        if let Function::Group(group, _) = &function {
            self.used.insert(*group);
        }
        let given = params.len();
        let mut output = None;
        if given == max.saturating_add(1) {
            output = params.pop();
        } else if given < min || given > max {
            let expected = if min == max { format!("{min}") } else { format!("{min} to {max}") };
            return Err(self.error(
                span,
                format!("`{}` takes {expected} arguments, not {given}", fcn.span().text()),
            ));
        }
        let args = params
            .into_iter()
            .map(|param| match param {
                Param::Term(term) => Ok(term),
                Param::Output(_) => {
                    Err(self.error(span, "an argument is unsafe: nothing gives it a value"))
                }
            })
            .collect::<Result<Vec<_>>>()?;
        let call = match function {
            Function::Group(group, _) => Term::Call(group, args),
            Function::Builtin(builtin) => {
                let position = self.unit.file.position(span);
                Term::Builtin(builtin, args, Box::new(position))
            }
        };
        match output {
            None => Ok(call),
            Some(output) => {
                let pattern = match output {
                    Param::Term(term) => Pattern::Equals(term),
                    Param::Output(pattern) => pattern,
                };
                steps.push(Step::Match(pattern, call));
                Ok(Term::Const(Value::Bool(true)))
            }
        }
    }

    fn function(&self, fcn: &Expr, span: &Span) -> Result<Function> {
        let parts = names::path_of(fcn);
        let Some(root) = parts.first() else {
            return Err(self.error(span, "not the name of a function"));
        };
        if self.scopes.find(root).is_some() {
            return Err(self
                .error(span, format!("function `{}` is shadowed by a variable", parts.join("."))));
        }
        let path: Option<Vec<Arc<str>>> = if &**root == "data" {
            Some(parts[1..].to_vec())
        } else if self.package_names.contains(&**root) {
            Some(self.unit.package.iter().cloned().chain(parts.iter().cloned()).collect())
        } else {
            match self.imports.get(&**root) {
                Some(Import::Data(path)) => {
                    Some(path.iter().cloned().chain(parts[1..].iter().cloned()).collect())
                }
                Some(Import::Input(_)) | None => None,
            }
        };
        let name = parts.join(".");
        if let Some(path) = path {
            let group = names::find(&self.program.tree, &path).and_then(|node| node.group);
            return match group.map(|group| (group, self.program.groups[group as usize].kind)) {
                Some((group, GroupKind::Function(arity))) => Ok(Function::Group(group, arity)),
                _ => Err(self.error(span, format!("unknown function `{name}`"))),
            };
        }
        match builtins::lookup(&name) {
            None => Err(self.error(span, format!("unknown function `{name}`"))),
            Some(builtin) => match builtin.origin {
                Origin::Refused(why) => {
                    Err(self.error(span, format!("`{name}` cannot be used here: {why}")))
                }
                Origin::Ours(_) | Origin::Context => Ok(Function::Builtin(builtin)),
            },
        }
    }

    /// `with` modifiers.
    pub(super) fn changes(
        &mut self,
        modifiers: &[WithModifier],
        steps: &mut Vec<Step>,
    ) -> Result<Vec<Change>> {
        modifiers.iter().map(|modifier| self.change(modifier, steps)).collect()
    }

    fn change(&mut self, modifier: &WithModifier, steps: &mut Vec<Step>) -> Result<Change> {
        let parts = names::path_of(&modifier.refr);
        let strings = |parts: &[Arc<str>]| -> Vec<Value> {
            parts.iter().cloned().map(Value::String).collect()
        };
        let root = parts.first().map_or("", |root| &**root);
        let target = match (root, self.imports.get(root)) {
            ("input", _) => Target::Input(strings(&parts[1..])),
            (_, Some(Import::Input(path))) => {
                Target::Input(path.iter().cloned().chain(strings(&parts[1..])).collect())
            }
            _ => match self.function(&modifier.refr, &modifier.span) {
                Ok(Function::Group(group, _)) => Target::Function(group),
                Ok(Function::Builtin(builtin)) => Target::Builtin(builtin.name),
                Err(error) => match (root, self.imports.get(root)) {
                    ("data", _) => Target::Data(strings(&parts[1..])),
                    (_, Some(Import::Data(path))) => Target::Data(
                        path.iter().chain(&parts[1..]).cloned().map(Value::String).collect(),
                    ),
                    _ if self.package_names.contains(root) => Target::Data(
                        self.unit
                            .package
                            .iter()
                            .chain(&parts)
                            .cloned()
                            .map(Value::String)
                            .collect(),
                    ),
                    _ => return Err(error),
                },
            },
        };
        if let Target::Data(path) = &target {
            let names: Vec<Arc<str>> = path.iter().filter_map(name_of).collect();
            // The rules above the target, itself, and those below it.
            for end in 0..=names.len() {
                match names::find(&self.program.tree, &names[..end]) {
                    Some(node) if end == names.len() => collect_groups(node, &mut self.used),
                    Some(node) => self.used.extend(node.group),
                    None => {}
                }
            }
        }
        let value = match (&target, &*modifier.r#as) {
            (
                Target::Function(_) | Target::Builtin(_),
                name @ (Expr::Var { .. } | Expr::RefDot { .. }),
            ) => match self.function(name, name.span()) {
                Ok(Function::Group(group, _)) => Term::Function(Callee::Group(group)),
                Ok(Function::Builtin(builtin)) => Term::Function(Callee::Builtin(builtin)),
                Err(_) => self.term(name, steps)?,
            },
            (_, expr) => self.term(expr, steps)?,
        };
        Ok(Change { target, value })
    }
}

/// An array of literals in which numbers with an exponent and no point are strings.
fn exponents_as_texts(items: &[Ref<Expr>]) -> Option<Value> {
    let values = items
        .iter()
        .map(|item| match &**item {
            Expr::Number { span, value, .. } => {
                let text = span.text();
                match (builtins::keeps_its_text(text), text.contains('.')) {
                    (true, _) => Some(value.clone()),
                    (false, true) => None,
                    (false, false) => Some(Value::from(text)),
                }
            }
            Expr::String { value, .. }
            | Expr::RawString { value, .. }
            | Expr::Bool { value, .. }
            | Expr::Null { value, .. } => Some(value.clone()),
            _ => None,
        })
        .collect::<Option<Vec<_>>>()?;
    Some(Value::from(values))
}

fn name_of(value: &Value) -> Option<Arc<str>> {
    match value {
        Value::String(name) => Some(name.clone()),
        _ => None,
    }
}
