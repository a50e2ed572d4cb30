//! What a policy is compiled to: rules as lists of steps over numbered slots.
//!
//! Two properties make the evaluator small. A [`Term`] has at most one value: everything that
//! enumerates (`x[_]`, `some v in xs`) was moved in front of it as a [`Step::Scan`]. And steps are
//! in an order in which each slot is set before it is read, so nothing is undone on backtracking.

use std::collections::BTreeMap;
use std::sync::Arc;

use regorus::Value;

use super::builtins::Builtin;
use super::error::Position;

/// Number of a variable in its rule's frame.
pub(super) type Slot = u32;
/// Index into [`Program::groups`].
pub(super) type GroupId = u32;
/// Index into [`Program::statements`].
pub(super) type StatementId = u32;

/// A compiled policy.
#[derive(Debug, Default)]
pub(super) struct Program {
    pub groups: Vec<Group>,
    pub tree: Tree,
    pub rules: Vec<RuleInfo>,
    pub statements: Vec<StatementInfo>,
}

/// The tree of packages and rules under `data`.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub group: Option<GroupId>,
    pub children: BTreeMap<Arc<str>, Tree>,
}

/// All rules of one path.
#[derive(Debug)]
pub(super) struct Group {
    /// Path below `data`, for example `docker.allow`.
    pub path: Vec<Arc<str>>,
    pub kind: GroupKind,
    pub rules: Vec<Rule>,
    pub default: Option<Term>,
    /// Whether each body of each rule gives the same constant.
    pub alike: bool,
    /// Slots that the default's term needs.
    pub default_slots: u32,
    pub position: Position,
}

impl Group {
    /// Notes what can be said of all its rules together.
    pub fn settle(&mut self) {
        let mut constants = self.rules.iter().flat_map(|rule| &rule.chain).map(Clause::constant);
        let first = constants.next().flatten();
        self.alike = first.is_some() && constants.all(|constant| constant == first);
    }
}

/// What the rules of a group make together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupKind {
    /// One value.
    Complete,
    /// An object, grown by rules with keys; `contains` below keys grows sets in it.
    Partial,
    /// A set, grown by `contains`.
    Set,
    /// A function of so many arguments.
    Function(usize),
}

/// One rule: a chain of bodies, of which the first that holds gives the value.
#[derive(Debug)]
pub(super) struct Rule {
    pub info: usize,
    pub params: Vec<Pattern>,
    pub chain: Vec<Clause>,
    pub slots: u32,
}

/// One body of a rule, and what it gives.
#[derive(Debug)]
pub(super) struct Clause {
    pub steps: Vec<Step>,
    /// Keys below the group's path, for rules such as `p[k] := v`.
    pub keys: Vec<Term>,
    pub output: Output,
}

impl Clause {
    /// The value that it gives whenever it holds, where that is always the same.
    pub fn constant(&self) -> Option<&Value> {
        match &self.output {
            Output::Value(Term::Const(value)) => Some(value),
            Output::Value(_) | Output::Member(_) => None,
        }
    }
}

/// What a clause that holds adds to its group.
#[derive(Debug)]
pub(super) enum Output {
    Value(Term),
    Member(Term),
}

/// Where a rule stands, for explanations and coverage.
#[derive(Clone, Debug)]
pub(super) struct RuleInfo {
    /// Name as rules write it below their package.
    pub name: String,
    pub position: Position,
    /// Statements of each clause, in source order.
    pub clauses: Vec<Vec<StatementId>>,
    /// Part of the engine's own helpers, not of the policy.
    pub internal: bool,
}

/// Where a statement stands, for explanations and coverage.
#[derive(Clone, Debug)]
pub(super) struct StatementInfo {
    pub position: Position,
    pub end_line: u32,
    pub text: String,
}

/// A step of a body.
#[derive(Debug)]
pub(super) enum Step {
    /// Everything up to here of this statement was reached.
    Enter(StatementId),
    /// The statement held.
    Held(StatementId),
    /// Goes on if the term is neither undefined nor false.
    Test(Term),
    /// Goes on with the value, if there is one.
    Bind(Slot, Term),
    /// Goes on if the value has the pattern's shape.
    Match(Pattern, Term),
    /// Goes on once for each member of the collection.
    Scan { collection: Term, key: Pattern, value: Pattern },
    /// Goes on if the steps do not hold.
    Not(Vec<Step>),
    /// Goes on if the steps hold for each member of the domain.
    Every { domain: Term, key: Option<Slot>, value: Slot, steps: Vec<Step> },
    /// Runs the steps in a changed world, and goes on for each way in which they hold.
    With { changes: Vec<Change>, steps: Vec<Step>, binds: Vec<Slot> },
}

/// A `with … as …`.
#[derive(Debug)]
pub(super) struct Change {
    pub target: Target,
    pub value: Term,
}

/// What a `with` replaces.
#[derive(Debug)]
pub(super) enum Target {
    Input(Vec<Value>),
    Data(Vec<Value>),
    Builtin(&'static str),
    /// A function of the policy.
    Function(GroupId),
}

/// What a `with` puts in the place of a function.
#[derive(Debug)]
pub(super) enum Callee {
    Builtin(&'static Builtin),
    Group(GroupId),
}

/// An expression with at most one value.
#[derive(Debug)]
pub(super) enum Term {
    Const(Value),
    Slot(Slot),
    Input,
    /// A group's value.
    Group(GroupId),
    /// A reference below `data` that does not end at one group.
    Data(Vec<Term>),
    Path(Box<Term>, Vec<Term>),
    Array(Vec<Term>),
    Set(Vec<Term>),
    Object(Vec<(Term, Term)>),
    Comprehension(Box<Comprehension>),
    Compare(Comparison, Box<(Term, Term)>),
    Arithmetic(Arithmetic, Box<(Term, Term)>),
    Member(Box<Membership>),
    Call(GroupId, Vec<Term>),
    Builtin(&'static Builtin, Vec<Term>, Box<Position>),
    /// A function's name where a `with` needs it as a value.
    Function(Callee),
}

/// `k, v in xs`.
#[derive(Debug)]
pub(super) struct Membership {
    pub key: Option<Term>,
    pub value: Term,
    pub collection: Term,
}

/// A comprehension.
#[derive(Debug)]
pub(super) struct Comprehension {
    pub kind: ComprehensionKind,
    pub steps: Vec<Step>,
    pub position: Position,
}

/// What a comprehension builds.
#[derive(Debug)]
pub(super) enum ComprehensionKind {
    Array(Term),
    Set(Term),
    Object(Term, Term),
}

/// Comparisons, by OPA's total order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Operators whose meaning [`super::builtins::operators`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    And,
    Or,
}

/// The left side of a unification.
#[derive(Debug)]
pub(super) enum Pattern {
    Any,
    Bind(Slot),
    Equals(Term),
    Array(Vec<Pattern>),
    Object(Vec<(Term, Pattern)>),
}
