//! Terms: references, calls, literals, comprehensions; and OPA's treatment of `not`.

use std::sync::Arc;

use regorus::Value;
use regorus::unstable::{
    ArithOp, BinOp, BoolOp, Expr, LiteralStmt, Query, Ref, Span, WithModifier,
};

use super::super::builtins::{self, Origin};
use super::super::ir::{
    Arithmetic, Callee, Change, Comparison, Comprehension, ComprehensionKind, GroupId, GroupKind,
    Membership, Pattern, Step, Target, Term, Tree,
};
use super::names::{self, Import};
use super::{Lowerer, Result};

/// What a called name means.
enum Function {
    Group(GroupId, usize),
    Builtin(&'static builtins::Builtin),
}

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

    fn terms_for_call(
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
    fn keep_number_texts(
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

    fn call(
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

    /// What stands under a `not`.
    ///
    /// OPA evaluates the operands of a negated call in front of the `not`: where one is undefined,
    /// the statement is, and does not hold. A reference on its own, or beside `==` or `=`, stays.
    pub(super) fn negated(
        &mut self,
        expr: &Expr,
        outer: &mut Vec<Step>,
        inner: &mut Vec<Step>,
    ) -> Result<()> {
        let term = match expr {
            Expr::Call { fcn, params, span, .. } => {
                let mut args = Vec::new();
                for param in self.terms_for_call(fcn, params, outer)? {
                    args.push(match param {
                        Param::Term(term) => Param::Term(self.hold(term, outer)),
                        output @ Param::Output(_) => output,
                    });
                }
                self.call(fcn, args, span, inner)?
            }
            Expr::BoolExpr { op: BoolOp::Eq, lhs, rhs, .. } | Expr::AssignExpr { lhs, rhs, .. } => {
                let lhs = self.kept(lhs, outer, inner)?;
                let rhs = self.kept(rhs, outer, inner)?;
                Term::Compare(Comparison::Equal, Box::new((lhs, rhs)))
            }
            Expr::BoolExpr { op, lhs, rhs, .. } => {
                let pair = Box::new((self.hoisted(lhs, outer)?, self.hoisted(rhs, outer)?));
                Term::Compare(comparison(op), pair)
            }
            Expr::ArithExpr { op, lhs, rhs, .. } => {
                let pair = Box::new((self.hoisted(lhs, outer)?, self.hoisted(rhs, outer)?));
                Term::Arithmetic(arithmetic(op), pair)
            }
            Expr::BinExpr { op, lhs, rhs, .. } => {
                let pair = Box::new((self.hoisted(lhs, outer)?, self.hoisted(rhs, outer)?));
                Term::Arithmetic(binary(op), pair)
            }
            Expr::Membership { key, value, collection, .. } => {
                let key = key.as_ref().map(|key| self.hoisted(key, outer)).transpose()?;
                let value = self.hoisted(value, outer)?;
                let collection = self.hoisted(collection, outer)?;
                Term::Member(Box::new(Membership { key, value, collection }))
            }
            expr => self.kept(expr, outer, inner)?,
        };
        inner.push(Step::Test(term));
        Ok(())
    }

    fn hoisted(&mut self, expr: &Expr, outer: &mut Vec<Step>) -> Result<Term> {
        let term = self.term(expr, outer)?;
        Ok(self.hold(term, outer))
    }

    /// A term that stays under the `not`, where it is a reference or a comprehension.
    fn kept(&mut self, expr: &Expr, outer: &mut Vec<Step>, inner: &mut Vec<Step>) -> Result<Term> {
        match expr {
            Expr::Var { .. } | Expr::RefDot { .. } | Expr::RefBrack { .. } => {
                let (base, operands) = flatten(expr);
                for operand in &operands {
                    if let Operand::Index(index) = operand
                        && self.unset(index).is_none()
                        && !is_wildcard(index)
                        && !matches!(
                            index,
                            Expr::String { .. } | Expr::Number { .. } | Expr::Var { .. }
                        )
                    {
                        // Evaluated in front for whether it is defined; the reference reads it again.
                        self.hoisted(index, outer)?;
                    }
                }
                if !matches!(base, Expr::Var { .. }) {
                    self.hoisted(base, outer)?;
                }
                self.term(expr, inner)
            }
            Expr::ArrayCompr { .. } | Expr::SetCompr { .. } | Expr::ObjectCompr { .. } => {
                self.term(expr, inner)
            }
            expr => self.hoisted(expr, outer),
        }
    }
}

enum Param {
    Term(Term),
    /// Set by the call, in OPA's older form of an assignment.
    Output(Pattern),
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

fn name_of(value: &Value) -> Option<Arc<str>> {
    match value {
        Value::String(name) => Some(name.clone()),
        _ => None,
    }
}

fn extend(base: Term, path: Vec<Term>) -> Term {
    if path.is_empty() { base } else { Term::Path(Box::new(base), path) }
}

pub(super) fn is_wildcard(expr: &Expr) -> bool {
    matches!(expr, Expr::Var { span, .. } if span.text() == "_")
}

fn collect_groups(node: &Tree, groups: &mut std::collections::BTreeSet<GroupId>) {
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

fn comparison(op: &BoolOp) -> Comparison {
    match op {
        BoolOp::Lt => Comparison::Less,
        BoolOp::Le => Comparison::LessOrEqual,
        BoolOp::Eq => Comparison::Equal,
        BoolOp::Ge => Comparison::GreaterOrEqual,
        BoolOp::Gt => Comparison::Greater,
        BoolOp::Ne => Comparison::NotEqual,
    }
}

fn arithmetic(op: &ArithOp) -> Arithmetic {
    match op {
        ArithOp::Add => Arithmetic::Add,
        ArithOp::Sub => Arithmetic::Subtract,
        ArithOp::Mul => Arithmetic::Multiply,
        ArithOp::Div => Arithmetic::Divide,
        ArithOp::Mod => Arithmetic::Remainder,
    }
}

fn binary(op: &BinOp) -> Arithmetic {
    match op {
        BinOp::Intersection => Arithmetic::And,
        BinOp::Union => Arithmetic::Or,
    }
}
