//! Stages and the images they name: who starts from, copies from and mounts from whom.
//!
//! The order of [`Graph::states`] is BuildKit's, for `COPY --from=2` counts in it: the stages as
//! written, then each image that a command names, in the order of the commands.

use std::collections::HashMap;

use super::context::{NamedContext, named_context};
use super::error::{Fault, Problem, nearest};
use super::expand::{Budget, Mode, NoVariables, expand};
use super::instruction::{Instruction, InstructionKind};
use super::stages::{File, Stage, trigger};
use super::variables::Variables;
use super::{Lines, Options, Platform, Via};

/// The base that is nothing.
pub(super) const SCRATCH: &str = "scratch";
/// Far more `ONBUILD`s than anyone writes; each is read again in each stage that it runs in.
const MAX_TRIGGERS: usize = 10_000;

/// A stage, or an image that a command names.
#[derive(Clone, Debug)]
pub(super) struct State {
    pub(super) kind: StateKind,
    /// Lower case.
    pub(super) name: Option<String>,
    /// Image or stage that it starts from, expanded.
    pub(super) base_name: String,
    /// The same, as written.
    pub(super) written: String,
    /// `FROM --platform`.
    pub(super) platform: Option<Platform>,
    /// The stage that it starts from.
    pub(super) base: Option<usize>,
    /// What replaces the whole stage.
    pub(super) replaced: Option<NamedContext>,
    pub(super) commands: Vec<Command>,
    pub(super) lines: Lines,
    triggers_read: bool,
}

/// What a state is in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum StateKind {
    /// `FROM`.
    Stage,
    /// An image that `COPY --from` or `RUN --mount=from=` names.
    Named(Via),
}

/// An instruction and the states that it names: one for `COPY --from`, one for each mount.
#[derive(Clone, Debug)]
pub(super) struct Command {
    pub(super) instruction: Instruction,
    pub(super) sources: Vec<usize>,
}

/// All states of one build for one platform.
pub(super) struct Graph<'o> {
    pub(super) states: Vec<State>,
    by_name: HashMap<String, usize>,
    escape: char,
    options: &'o Options,
}

impl<'o> Graph<'o> {
    /// Expands the `FROM`s and links the stages.
    pub(super) fn build(
        file: &File,
        options: &'o Options,
        (target, globals): (&Platform, &Variables),
        budget: &Budget,
    ) -> Result<Self, Fault> {
        let mut graph =
            Self { states: Vec::new(), by_name: HashMap::new(), escape: file.escape, options };
        for stage in &file.stages {
            let state = graph.stage(stage, (target, globals), budget)?;
            graph.add(state);
        }
        for (index, stage) in file.stages.iter().enumerate() {
            let commands = stage.commands.iter().map(|it| graph.command(it.clone()));
            let commands = commands.collect::<Result<_, _>>()?;
            if let Some(state) = graph.states.get_mut(index) {
                state.commands = commands;
            }
        }
        graph.refuse_circles()?;
        Ok(graph)
    }

    fn stage(
        &self,
        stage: &Stage,
        (target, globals): (&Platform, &Variables),
        budget: &Budget,
    ) -> Result<State, Fault> {
        let fault = |problem| Fault::at(stage.lines, problem);
        let from = &stage.from;
        let base = globals.expand(&from.base, self.escape, budget).map_err(fault)?;
        if base.text.is_empty() {
            let written = from.base.clone();
            return Err(fault(Problem::BlankBase { written, variables: base.unset }));
        }
        let platform = match &from.platform {
            None => None,
            Some(written) => {
                let word = globals.expand(written, self.escape, budget).map_err(fault)?;
                if word.text.is_empty() {
                    let written = written.clone();
                    return Err(fault(Problem::BlankPlatform { written, variables: word.unset }));
                }
                Some(Platform::parse(&word.text).map_err(|error| {
                    fault(Problem::Platform { written: written.clone(), error })
                })?)
            }
        };
        // The names `scratch` and `context` are never looked up among the named contexts.
        let looked_up = from.name.as_deref().filter(|name| !matches!(*name, SCRATCH | "context"));
        let replaced = looked_up
            .map(|name| named_context(self.options, name, platform.as_ref().unwrap_or(target)))
            .transpose()
            .map_err(fault)?
            .flatten();
        Ok(State {
            kind: StateKind::Stage,
            name: from.name.clone(),
            base_name: base.text,
            written: from.base.clone(),
            platform,
            base: None,
            replaced,
            commands: Vec::new(),
            lines: stage.lines,
            triggers_read: false,
        })
    }

    fn add(&mut self, mut state: State) -> usize {
        // Stages are looked up in lower case but named as written: `FROM Builder` is an image.
        let base = self.by_name.get(&state.base_name).copied();
        state.base = base.filter(|_| state.replaced.is_none());
        let index = self.states.len();
        if let Some(name) = &state.name {
            self.by_name.insert(name.clone(), index);
        }
        self.states.push(state);
        index
    }

    fn find(&self, name: &str) -> Option<usize> {
        self.by_name.get(&name.to_lowercase()).copied()
    }

    fn command(&mut self, instruction: Instruction) -> Result<Command, Fault> {
        let lines = instruction.lines;
        let sources = match &instruction.kind {
            InstructionKind::Copy(copy) => match &copy.from {
                Some(from) => vec![self.copied(from, lines)?],
                None => Vec::new(),
            },
            // A mount without `from` depends on a stage called `scratch`, where there is one.
            InstructionKind::Run(mounts) => mounts
                .iter()
                .map(|mount| {
                    let from = mount.from.as_deref().unwrap_or(SCRATCH);
                    self.find(from).unwrap_or_else(|| self.image(from, Via::MountFrom, lines))
                })
                .collect(),
            InstructionKind::Arg(_)
            | InstructionKind::From(_)
            | InstructionKind::Env(_)
            | InstructionKind::Add(_)
            | InstructionKind::Onbuild(_)
            | InstructionKind::Other => Vec::new(),
        };
        Ok(Command { instruction, sources })
    }

    fn copied(&mut self, from: &str, lines: Lines) -> Result<usize, Fault> {
        let fault = |problem| Fault::at(lines, problem);
        let mode = Mode::plain(self.escape);
        let plain = expand(from, mode, &NoVariables, &Budget::new(from.len() * 4))
            .map_err(|error| fault(Problem::Expand { word: from.to_owned(), error }))?;
        if plain.text != from {
            return Err(fault(Problem::VariableInFrom { option: "--from" }));
        }
        if let Ok(index) = from.parse::<i64>() {
            let state = usize::try_from(index).ok().filter(|index| *index < self.states.len());
            return state.ok_or(fault(Problem::StageIndex { index: from.to_owned() }));
        }
        Ok(self.find(from).unwrap_or_else(|| self.image(from, Via::CopyFrom, lines)))
    }

    fn image(&mut self, name: &str, via: Via, lines: Lines) -> usize {
        self.add(State {
            kind: StateKind::Named(via),
            name: None,
            base_name: name.to_owned(),
            written: name.to_owned(),
            platform: None,
            base: None,
            replaced: None,
            commands: Vec::new(),
            lines,
            triggers_read: false,
        })
    }

    /// The stage that is built.
    pub(super) fn target(&self) -> Result<usize, Fault> {
        let stages = self.states.iter().filter(|state| state.kind == StateKind::Stage);
        let Some(name) = self.options.target.as_deref().filter(|name| !name.is_empty()) else {
            // BuildKit's default is the last stage; images are not among the states yet.
            return Ok(stages.count().saturating_sub(1));
        };
        self.find(name).ok_or_else(|| {
            let names = stages.filter_map(|stage| stage.name.as_deref());
            let nearest = nearest(name, names);
            Problem::Target { name: name.to_owned(), nearest }.into()
        })
    }

    /// What `target` needs: bases, and all that a command of a needed stage names.
    pub(super) fn reachable(&self, target: usize) -> Vec<bool> {
        self.walk(target, |state| {
            state.commands.iter().flat_map(|command| command.sources.iter().copied()).collect()
        })
    }

    /// Marks `start` and what follows from it through bases and `next`.
    pub(super) fn walk(&self, start: usize, next: impl Fn(&State) -> Vec<usize>) -> Vec<bool> {
        let mut reached = vec![false; self.states.len()];
        let mut open = vec![start];
        while let Some(index) = open.pop() {
            let (Some(seen), Some(state)) = (reached.get_mut(index), self.states.get(index)) else {
                continue;
            };
            if !std::mem::replace(seen, true) {
                open.extend(state.base);
                open.extend(next(state));
            }
        }
        reached
    }

    /// Puts the `ONBUILD` instructions of each needed stage's base before its own, and returns what
    /// the target needs then.
    pub(super) fn run_triggers(&mut self, target: usize) -> Result<Vec<bool>, Fault> {
        let mut left = MAX_TRIGGERS;
        loop {
            let reachable = self.reachable(target);
            let mut depends = false;
            for (index, _) in reachable.iter().enumerate().filter(|(_, reached)| **reached) {
                let mut commands = Vec::new();
                for (text, lines) in self.triggers_of(index) {
                    let limit = Problem::TooLarge { what: "ONBUILD triggers", limit: MAX_TRIGGERS };
                    left = usize::checked_sub(left, 1).ok_or(Fault::at(lines, limit))?;
                    commands.push(self.command(trigger(&text, lines)?)?);
                }
                depends |= commands.iter().any(|command| !command.sources.is_empty());
                if let Some(state) = self.states.get_mut(index) {
                    state.commands.splice(0..0, commands);
                }
            }
            if !depends {
                return Ok(reachable);
            }
        }
    }

    fn triggers_of(&mut self, index: usize) -> Vec<(String, Lines)> {
        let Some(state) = self.states.get_mut(index) else {
            return Vec::new();
        };
        let Some(base) = state.base.filter(|_| !state.triggers_read) else {
            return Vec::new();
        };
        state.triggers_read = true;
        let commands = self.states.get(base).map(|base| base.commands.as_slice());
        commands
            .unwrap_or_default()
            .iter()
            .filter_map(|command| match &command.instruction.kind {
                InstructionKind::Onbuild(text) => Some((text.clone(), command.instruction.lines)),
                InstructionKind::Arg(_)
                | InstructionKind::From(_)
                | InstructionKind::Env(_)
                | InstructionKind::Copy(_)
                | InstructionKind::Add(_)
                | InstructionKind::Run(_)
                | InstructionKind::Other => None,
            })
            .collect()
    }

    fn refuse_circles(&self) -> Result<(), Fault> {
        #[derive(Clone, Copy, PartialEq)]
        enum Visit {
            New,
            Open,
            Done,
        }
        let mut visits = vec![Visit::New; self.states.len()];
        for start in 0..self.states.len() {
            let mut open = vec![(start, false)];
            while let Some((index, leaving)) = open.pop() {
                let (Some(visit), Some(state)) = (visits.get_mut(index), self.states.get(index))
                else {
                    continue;
                };
                match (leaving, *visit) {
                    (true, _) => *visit = Visit::Done,
                    (false, Visit::New) => {
                        *visit = Visit::Open;
                        open.push((index, true));
                        for command in &state.commands {
                            open.extend(command.sources.iter().map(|source| (*source, false)));
                        }
                    }
                    (false, Visit::Open) => {
                        let stage = label(state, index);
                        return Err(Fault::at(state.lines, Problem::Circular { stage }));
                    }
                    (false, Visit::Done) => {}
                }
            }
        }
        Ok(())
    }
}

/// What to call a state.
pub(super) fn label(state: &State, index: usize) -> String {
    match (&state.name, &state.kind) {
        (Some(name), _) => name.clone(),
        (None, StateKind::Stage) => index.to_string(),
        (None, StateKind::Named(_)) => state.written.clone(),
    }
}
