//! The resolve loop: [`step`] is one round of a decision, [`check`] the one loop around it.
//!
//! A door that is asked round by round (a daemon's policy session) calls [`step`] with what it was
//! told so far; whoever can resolve by itself calls [`check`]. Both come to the same decisions.

mod answer;
mod evaluate;
pub mod reasons;
mod signed;
#[cfg(test)]
mod tests;

use std::time::Duration;

use futures_util::future::try_join_all;

pub use self::answer::{Allowed, CheckError, Checked, Denied, Fetched, Outcome, Pin, Unpinnable};
pub use self::evaluate::{Evaluate, Stepping};
pub use self::signed::verify as verify_signatures;

use crate::input::{self, Document, Env, Input};
use crate::meta::{ASIDE, Known, MetaRequest, NodePath, ResolveSourceMeta};
use crate::policy::{Caps, Decision, EvalError, Needs, Policy, Round};
use crate::source::{Digest, ImageSource, Platform, Source, SourceOp};

/// Most rounds of one decision, the last included (the daemon's own limit).
pub const MAX_ROUNDS: usize = 10;
/// Most times that a source is converted into another.
const MAX_CONVERSIONS: usize = 5;

/// What is judged: a source of a build.
#[derive(Clone, Debug)]
pub struct Question {
    /// The source as it was put to us.
    pub op: SourceOp,
    /// The platform it is loaded for.
    pub platform: Platform,
    /// What is known of the build.
    pub env: Env,
}

/// What one round came to.
#[derive(Clone, Debug)]
pub enum Step {
    /// A decision.
    Decided(Box<Outcome>),
    /// Metadata to resolve first, all of it at once.
    Needs(Vec<(NodePath, MetaRequest)>),
}

/// One round, and what it left behind.
#[derive(Clone, Debug)]
pub struct Stepped {
    /// What it came to.
    pub step: Step,
    /// The document that rules read.
    pub input: Input,
    /// What rules said besides: warnings of the decision.
    pub warnings: Vec<String>,
    /// What rules printed.
    pub prints: Vec<String>,
    /// Why signatures that rules asked about are not verified.
    pub notes: Vec<String>,
}

/// Judges a source by what is known of it, as far as that goes.
///
/// Every policy must allow. A policy that refuses settles it, whatever the others still need.
///
/// # Errors
/// When the source is none, when what is known may not be believed, or when a policy comes to no
/// decision. Nothing is allowed by that.
pub fn step(
    policies: &[Policy],
    question: &Question,
    known: &Known,
) -> Result<Stepped, CheckError> {
    step_within(policies, question, known, Duration::MAX)
}

/// The same, where no policy may take longer than `most`, or than its own limit if that is less.
///
/// # Errors
/// As [`step`]; [`CheckError::is_timeout`] when one would take longer.
pub fn step_within(
    policies: &[Policy],
    question: &Question,
    known: &Known,
    most: Duration,
) -> Result<Stepped, CheckError> {
    if policies.is_empty() {
        return Err(CheckError::NoPolicy);
    }
    let source = Source::parse(&question.op)?;
    let mut document =
        input::build(&question.op, &source, &question.platform, known, &question.env)?;
    let mut needs = Needs::default();
    let mut decisions = Vec::with_capacity(policies.len());
    let (mut prints, mut notes) = (Vec::new(), Vec::new());
    for policy in policies {
        // Whose signatures count is each policy's own matter.
        add(&mut notes, verify_signatures(&mut document.input, known, policy.trust()));
        let evaluated =
            policy.judge_within(&document.input, most).map_err(|source| CheckError::Policy {
                policy: policy.name().to_owned(),
                source,
                input: Box::new(document.input.clone()),
            })?;
        prints.extend(evaluated.prints);
        add(&mut notes, evaluated.notes);
        match evaluated.round {
            Round::Decided(decision) if !decision.allow => {
                let warnings = decision.warnings.clone();
                let outcome = Outcome::Denied(Denied {
                    policy: policy.name().to_owned(),
                    messages: decision.deny_messages,
                });
                let step = Step::Decided(Box::new(outcome));
                return Ok(Stepped { step, input: document.input, warnings, prints, notes });
            }
            Round::Decided(decision) => decisions.push(decision),
            Round::Needs(more) => {
                needs.fields.extend(more.fields);
                needs.checksum = needs.checksum.or(more.checksum);
                add(&mut needs.aside, more.aside);
            }
        }
    }
    let warnings = decisions.iter().flat_map(|decision| decision.warnings.clone()).collect();
    let step = if needs.is_empty() {
        Step::Decided(Box::new(allow(question, &source, known, &decisions)?))
    } else {
        Step::Needs(requests(&document, known, &needs)?)
    };
    Ok(Stepped { step, input: document.input, warnings, prints, notes })
}

/// Adds what is not there yet.
fn add<T: PartialEq>(all: &mut Vec<T>, more: Vec<T>) {
    for one in more {
        if !all.contains(&one) {
            all.push(one);
        }
    }
}

/// Turns fields that rules read into requests, one for each source.
fn requests(
    document: &Document<'_>,
    known: &Known,
    needs: &Needs,
) -> Result<Vec<(NodePath, MetaRequest)>, CheckError> {
    let mut merged: Vec<(NodePath, input::FieldSet)> = Vec::new();
    if needs.checksum.is_some() {
        merged.push((NodePath::new(), input::FieldSet::EMPTY));
    }
    for (path, fields) in &needs.fields {
        match merged.iter_mut().find(|(known, _)| known == path) {
            Some((_, known)) => *known = known.union(*fields),
            None => merged.push((path.clone(), *fields)),
        }
    }
    let aside = needs.aside.iter().map(|request| Ok((vec![ASIDE], request.clone())));
    merged
        .into_iter()
        .map(|(path, fields)| {
            let checksum = needs.checksum.as_ref().filter(|_| path.is_empty());
            let request = document
                .node
                .at(&path)
                .and_then(|node| input::request(node, fields, checksum, known.get(&path)));
            match request {
                Some(request) => Ok((path, request)),
                None => Err(CheckError::Unresolvable { fields: names(fields) }),
            }
        })
        .chain(aside)
        .collect()
}

/// All policies allow: with what that rests on, or converted into what they pin it to.
fn allow(
    question: &Question,
    source: &Source,
    known: &Known,
    decisions: &[Decision],
) -> Result<Outcome, CheckError> {
    let mut pins: Vec<&String> = decisions.iter().filter_map(|it| it.pin.as_ref()).collect();
    pins.dedup();
    match (pins.as_slice(), source) {
        ([], _) => Ok(Outcome::Allowed(Allowed { pin: Pin::of(source, known)? })),
        ([digest], Source::Image(image)) => {
            let digest: Digest = digest.parse().map_err(CheckError::Pin)?;
            Ok(Outcome::Converted(pinned(&question.op, image, &digest)))
        }
        _ => Err(CheckError::Pins),
    }
}

/// The source with a digest, as the daemon takes it.
fn pinned(op: &SourceOp, image: &ImageSource, digest: &Digest) -> SourceOp {
    let mut attrs = op.attrs.clone();
    attrs.insert("image.checksum".to_owned(), digest.to_string());
    SourceOp { identifier: image.with_digest(digest).identifier(), attrs }
}

/// Decides about one source, resolving what rules need.
///
/// # Errors
/// As [`step`], when metadata cannot be resolved, or when it takes more than [`MAX_ROUNDS`].
pub async fn decide(
    policies: &(impl Evaluate + ?Sized),
    question: &Question,
    resolver: &dyn ResolveSourceMeta,
) -> Result<Checked, CheckError> {
    let mut known = Known::default();
    let mut fetched = Fetched::default();
    for _ in 0..MAX_ROUNDS {
        let stepped = policies.step(question, &known).await?;
        let requests = match stepped.step {
            Step::Decided(outcome) => {
                return Ok(Checked {
                    op: question.op.clone(),
                    outcome: *outcome,
                    input: stepped.input,
                    warnings: stepped.warnings,
                    prints: stepped.prints,
                    notes: stepped.notes,
                    fetched,
                    converted_from: None,
                });
            }
            Step::Needs(requests) => requests,
        };
        if let Some((_, again)) = requests.iter().find(|(_, it)| fetched.contains(it)) {
            return Err(CheckError::NotAnswered { request: Box::new(again.clone()) });
        }
        let answers =
            try_join_all(requests.iter().map(|(_, request)| resolver.resolve(request))).await?;
        for ((path, _), answer) in requests.iter().zip(answers) {
            known.insert(path.clone(), answer);
        }
        fetched.push(requests.into_iter().map(|(_, request)| request).collect());
    }
    Err(CheckError::Rounds { limit: MAX_ROUNDS })
}

/// Judges a source of a build to the end: what it is converted into is judged again, and so is the
/// blob that a repository is read from.
///
/// # Errors
/// As [`decide`].
pub async fn check(
    policies: &(impl Evaluate + ?Sized),
    question: &Question,
    resolver: &dyn ResolveSourceMeta,
) -> Result<Checked, CheckError> {
    let mut question = question.clone();
    let mut converted_from = None;
    for _ in 0..MAX_CONVERSIONS {
        let mut checked = decide(policies, &question, resolver).await?;
        checked.converted_from = converted_from.clone();
        match &checked.outcome {
            Outcome::Converted(op) => {
                converted_from.get_or_insert(question.op.clone());
                question.op = op.clone();
            }
            Outcome::Denied(_) => return Ok(checked),
            Outcome::Allowed(_) => {
                let Some(bundle) = question.op.bundle() else { return Ok(checked) };
                let inner = Question { op: bundle, ..question };
                let bundle = decide(policies, &inner, resolver).await?;
                return match bundle.outcome {
                    Outcome::Allowed(_) => Ok(checked),
                    Outcome::Denied(_) | Outcome::Converted(_) => Ok(bundle),
                };
            }
        }
    }
    Err(CheckError::Conversions { limit: MAX_CONVERSIONS })
}

/// What the policies ask of the build as a whole, before any source is judged.
///
/// # Errors
/// When a policy fails over that, or would have to read metadata: there is no source it could be of.
/// A policy that decides nothing about it asks for nothing.
pub fn caps(policies: &[Policy], env: &Env) -> Result<Caps, CheckError> {
    caps_within(policies, env, Duration::MAX)
}

/// The same, where no policy may take longer than `most`, or than its own limit if that is less.
///
/// # Errors
/// As [`caps`]; [`CheckError::is_timeout`] when one would take longer.
pub fn caps_within(policies: &[Policy], env: &Env, most: Duration) -> Result<Caps, CheckError> {
    let input = Input { env: Env { caps_request: true, ..env.clone() }, ..Input::default() };
    let mut caps = Caps::default();
    for policy in policies {
        let evaluated = match policy.judge_within(&input, most) {
            Ok(evaluated) => evaluated,
            Err(EvalError::Undefined { .. }) => continue,
            Err(source) => {
                let (policy, input) = (policy.name().to_owned(), Box::new(input));
                return Err(CheckError::Policy { policy, source, input });
            }
        };
        match evaluated.round {
            Round::Decided(Decision { caps: Caps { exec_proxy: Some(true) }, .. }) => {
                caps.exec_proxy = Some(true);
            }
            Round::Decided(_) => {}
            Round::Needs(Needs { fields, .. }) => {
                let fields: Vec<String> = fields.into_iter().map(|(_, it)| names(it)).collect();
                return Err(CheckError::Unresolvable { fields: fields.join(", ") });
            }
        }
    }
    Ok(caps)
}

fn names(fields: input::FieldSet) -> String {
    let names: Vec<String> = fields
        .iter()
        .map(|field| {
            let (object, name) = field.path();
            format!("input.{object}.{name}")
        })
        .collect();
    names.join(", ")
}
