//! Bodies: steps one after the other, and again for each member that a scan finds.

use regorus::Value;

use super::super::ir::{Pattern, Step};
use super::term::is_true;
use super::{Around, Flow, Frame, Machine, Outcome, Result};

/// What is done each time a body holds.
pub(super) type Continue<'c, 'p> = &'c mut dyn FnMut(&mut Machine<'p>, &mut Frame) -> Result<Flow>;

/// Whether a value has a pattern's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    Yes,
    No,
    Unknown,
}

/// What a body came to, all ways through it taken together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Yes,
    No,
    Unknown,
}

impl<'p> Machine<'p> {
    /// Runs `steps`, and `then` for each way in which they hold.
    pub(super) fn run(
        &mut self,
        steps: &'p [Step],
        frame: &mut Frame,
        then: Continue<'_, 'p>,
    ) -> Result<Flow> {
        for (at, step) in steps.iter().enumerate() {
            match step {
                Step::Enter(id) => {
                    if let Some(trace) = &mut self.trace {
                        trace.enter(*id);
                    }
                    self.budget.spend(1)?;
                }
                Step::Held(id) => {
                    if let Some(trace) = &mut self.trace {
                        trace.held(*id, self.tainted);
                    }
                }
                Step::Test(term) => match self.term(term, frame)? {
                    Outcome::Known(value) if is_true(&value) => {}
                    Outcome::Known(_) | Outcome::Undefined => return Ok(Flow::More),
                    Outcome::Unknown => self.tainted = true,
                },
                Step::Bind(slot, term) => match self.term(term, frame)? {
                    Outcome::Undefined => return Ok(Flow::More),
                    value => {
                        self.tainted |= value == Outcome::Unknown;
                        frame.set(*slot, value);
                    }
                },
                Step::Match(pattern, term) => {
                    let value = self.term(term, frame)?;
                    match self.matches(pattern, &value, frame)? {
                        Match::Yes => {}
                        Match::No => return Ok(Flow::More),
                        Match::Unknown => self.tainted = true,
                    }
                }
                Step::Not(inner) => match self.holds(inner, frame)? {
                    Holds::Yes => return Ok(Flow::More),
                    Holds::No => {}
                    Holds::Unknown => self.tainted = true,
                },
                Step::Every { .. } => match self.every(step, frame)? {
                    Holds::Yes => {}
                    Holds::No => return Ok(Flow::More),
                    Holds::Unknown => self.tainted = true,
                },
                Step::Scan { collection, key, value } => {
                    let collection = self.term(collection, frame)?;
                    let rest = &steps[at + 1..];
                    return self.scan(&collection, (key, value), frame, &mut |machine, frame| {
                        machine.run(rest, frame, then)
                    });
                }
                Step::With { changes, steps: inner, binds } => {
                    let rest = &steps[at + 1..];
                    return self.with((changes, inner, binds), frame, &mut |machine, frame| {
                        machine.run(rest, frame, then)
                    });
                }
            }
        }
        then(self, frame)
    }

    /// Whether there is a way in which the steps hold.
    pub(super) fn holds(&mut self, steps: &'p [Step], frame: &mut Frame) -> Result<Holds> {
        let outside = self.go_inside();
        let mut holds = Holds::No;
        self.run(steps, frame, &mut |machine, _| {
            if machine.tainted {
                holds = Holds::Unknown;
                Ok(Flow::More)
            } else {
                holds = Holds::Yes;
                Ok(Flow::Enough)
            }
        })?;
        self.come_outside(outside);
        Ok(holds)
    }

    /// Goes into a body of its own: whether that holds does not rest on what is unknown here, but
    /// whether it matters does.
    pub(super) fn go_inside(&mut self) -> (bool, Around) {
        let outside = (self.tainted, self.around);
        if self.tainted {
            self.around = self.around.max(Around::Ahead);
        }
        self.tainted = false;
        outside
    }

    /// Comes out of it again.
    pub(super) fn come_outside(&mut self, outside: (bool, Around)) {
        (self.tainted, self.around) = outside;
    }

    fn every(&mut self, step: &'p Step, frame: &mut Frame) -> Result<Holds> {
        let Step::Every { domain, key, value, steps } = step else { return Ok(Holds::No) };
        let bind = |frame: &mut Frame, k: Outcome, v: Outcome| {
            if let Some(slot) = key {
                frame.set(*slot, k);
            }
            frame.set(*value, v);
        };
        let domain = match self.term(domain, frame)? {
            Outcome::Undefined => return Ok(Holds::No),
            Outcome::Unknown => {
                // One member of which nothing is known shows what the body would read.
                bind(frame, Outcome::Unknown, Outcome::Unknown);
                self.holds(steps, frame)?;
                return Ok(Holds::Unknown);
            }
            Outcome::Known(domain) => domain,
        };
        if let Value::Object(object) = &domain
            && self.observe_object(object)
        {
            return Ok(Holds::Unknown);
        }
        let Some(members) = super::scan::members(&domain) else { return Ok(Holds::No) };
        let mut all = Holds::Yes;
        for (k, v) in members {
            self.budget.spend(1)?;
            bind(frame, Outcome::Known(k), Outcome::Known(v));
            match self.holds(steps, frame)? {
                Holds::Yes => {}
                Holds::No => return Ok(Holds::No),
                Holds::Unknown => all = Holds::Unknown,
            }
        }
        Ok(all)
    }

    /// Whether a value has the pattern's shape; sets the pattern's variables.
    pub(super) fn matches(
        &mut self,
        pattern: &'p Pattern,
        value: &Outcome,
        frame: &mut Frame,
    ) -> Result<Match> {
        if *value == Outcome::Undefined {
            return Ok(Match::No);
        }
        match pattern {
            Pattern::Any => {
                Ok(if *value == Outcome::Unknown { Match::Unknown } else { Match::Yes })
            }
            Pattern::Bind(slot) => {
                frame.set(*slot, value.clone());
                Ok(if *value == Outcome::Unknown { Match::Unknown } else { Match::Yes })
            }
            Pattern::Equals(term) => match (self.term(term, frame)?, value) {
                (Outcome::Undefined, _) => Ok(Match::No),
                (Outcome::Unknown, _) | (_, Outcome::Unknown) => Ok(Match::Unknown),
                (Outcome::Known(a), Outcome::Known(b)) => match self.equal(&a, b)? {
                    None => Ok(Match::Unknown),
                    Some(true) => Ok(Match::Yes),
                    Some(false) => Ok(Match::No),
                },
                (Outcome::Known(_), Outcome::Undefined) => Ok(Match::No),
            },
            Pattern::Array(items) => {
                let values: Vec<Outcome> = match value {
                    Outcome::Unknown => vec![Outcome::Unknown; items.len()],
                    Outcome::Known(Value::Array(array)) if array.len() == items.len() => {
                        array.iter().cloned().map(Outcome::Known).collect()
                    }
                    _ => return Ok(Match::No),
                };
                self.match_all(items.iter().zip(&values), frame)
            }
            Pattern::Object(fields) => self.match_object(fields, value, frame),
        }
    }

    fn match_object(
        &mut self,
        fields: &'p [(super::Term, Pattern)],
        value: &Outcome,
        frame: &mut Frame,
    ) -> Result<Match> {
        let object = match value {
            Outcome::Unknown => None,
            Outcome::Known(Value::Object(object)) => {
                if self.observe_object(object) {
                    None
                } else if object.len() == fields.len() {
                    Some(object.clone())
                } else {
                    return Ok(Match::No);
                }
            }
            _ => return Ok(Match::No),
        };
        let mut values = Vec::with_capacity(fields.len());
        for (key, _) in fields {
            values.push(match (self.term(key, frame)?, &object) {
                (Outcome::Undefined, _) => return Ok(Match::No),
                (Outcome::Unknown, _) | (_, None) => Outcome::Unknown,
                (Outcome::Known(key), Some(object)) => match object.get(&key) {
                    Some(value) => Outcome::Known(value.clone()),
                    None => return Ok(Match::No),
                },
            });
        }
        self.match_all(fields.iter().map(|(_, pattern)| pattern).zip(&values), frame)
    }

    fn match_all<'v>(
        &mut self,
        pairs: impl Iterator<Item = (&'p Pattern, &'v Outcome)>,
        frame: &mut Frame,
    ) -> Result<Match> {
        let mut all = Match::Yes;
        for (pattern, value) in pairs {
            match self.matches(pattern, value, frame)? {
                Match::Yes => {}
                Match::No => return Ok(Match::No),
                Match::Unknown => all = Match::Unknown,
            }
        }
        Ok(all)
    }
}
