//! One build for one platform: what its stages load, in the order of their instructions.

use std::sync::Arc;

use super::add::{Added, add_op, refuse_remote_copy};
use super::context::{When, image_op, named_context};
use super::error::{Fault, Problem};
use super::expand::Budget;
use super::graph::{Command, Graph, SCRATCH, State, StateKind, label};
use super::instruction::{Copy, InstructionKind};
use super::mount::{Mount, Reads};
use super::stages::File;
use super::variables::{Base, Variables};
use super::{Options, Plan, Platform, SourceUse, Via, WarningKind};

/// How many bytes of values a plan may read for one platform.
const MAX_VALUES: usize = 64 << 20;

/// One build, for one platform.
pub(super) struct Build<'a> {
    options: &'a Options,
    target: &'a Platform,
    escape: char,
    globals: Variables,
    graph: Graph<'a>,
    budget: Budget,
    /// What each state leaves behind, once its instructions have run.
    done: Vec<Option<Done>>,
}

/// A state after its instructions.
#[derive(Clone)]
struct Done {
    variables: Variables,
    /// States whose files it uses.
    uses: Vec<usize>,
    /// Sources that count where the state is used.
    added: Vec<(SourceUse, Option<Arc<str>>)>,
}

impl<'a> Build<'a> {
    /// Reads the arguments and links the stages.
    pub(super) fn new(
        file: &File,
        options: &'a Options,
        target: &'a Platform,
    ) -> Result<Self, Fault> {
        let budget = Budget::new(MAX_VALUES);
        let named = options.target.as_deref().filter(|name| !name.is_empty());
        let last = file.stages.last().and_then(|stage| stage.from.name.as_deref());
        let mut globals = Variables::automatic(options, target, named.or(last));
        for declared in &file.globals {
            let InstructionKind::Arg(pairs) = &declared.kind else {
                continue;
            };
            for (name, default) in pairs {
                globals
                    .declare_global((name, default.as_deref()), options, (file.escape, &budget))
                    .map_err(|problem| Fault::at(declared.lines, problem))?;
            }
        }
        let graph = Graph::build(file, options, (target, &globals), &budget)?;
        let escape = file.escape;
        Ok(Self { options, target, escape, globals, graph, budget, done: Vec::new() })
    }

    /// Adds to the plan what this build loads.
    pub(super) fn run(mut self, plan: &mut Plan) -> Result<(), Fault> {
        let target = self.graph.target()?;
        let needed = self.graph.run_triggers(target)?;
        self.done = vec![None; self.graph.states.len()];
        let mut sources: Vec<Option<(When, SourceUse)>> = Vec::new();
        for (index, reached) in needed.iter().enumerate() {
            sources.push(self.base(index, *reached, plan)?);
        }
        for (index, _) in needed.iter().enumerate().filter(|(_, reached)| **reached) {
            self.dispatch(index, plan)?;
        }
        let used = self.used(target);
        for (index, bases) in sources.into_iter().enumerate() {
            let used = used.get(index) == Some(&true);
            // Git repositories and URLs are not fetched for a state that nothing uses.
            let bases = bases.filter(|(when, _)| used || *when == When::Planning);
            bases.into_iter().for_each(|(_, source)| plan.add(source));
            let done = self.done.get_mut(index).and_then(Option::take).filter(|_| used);
            for (source, uncertain) in done.map(|done| done.added).unwrap_or_default() {
                if let Some(name) = uncertain {
                    let kind = WarningKind::BaseVariable { name: name.to_string() };
                    plan.warn(source.lines, kind);
                }
                plan.add(source);
            }
        }
        self.epoch(plan)
    }

    /// What a state starts from, where that is no stage. Every name is parsed, needed or not.
    fn base(
        &mut self,
        index: usize,
        needed: bool,
        plan: &mut Plan,
    ) -> Result<Option<(When, SourceUse)>, Fault> {
        let Some(state) = self.graph.states.get(index) else {
            return Ok(None);
        };
        if state.base.is_some() || (state.base_name == SCRATCH && state.replaced.is_none()) {
            self.start(index, Base::Known);
            return Ok(None);
        }
        let fault = |problem| Fault::at(state.lines, problem);
        let op = image_op(&state.base_name).map_err(fault)?;
        if !needed {
            return Ok(None);
        }
        let platform = state.platform.as_ref().unwrap_or(self.target);
        let reference = op.identifier.strip_prefix("docker-image://").unwrap_or_default();
        let context = match &state.replaced {
            Some(context) => Some(context.clone()),
            None => named_context(self.options, reference, platform).map_err(fault)?,
        };
        let (op, platform, via, base, when) = match context {
            Some(context) => {
                let loaded = context.load(self.options).map_err(fault)?;
                if let Some(warning) = loaded.warning {
                    plan.warn(Some(state.lines), warning);
                }
                let via = Via::NamedContext { name: context.name };
                (loaded.op, loaded.platform, via, loaded.base, loaded.when)
            }
            None => {
                (Some(op), Some(platform.clone()), via(state, index), Base::Image, When::Planning)
            }
        };
        let (lines, text) = (Some(state.lines), state.written.clone());
        self.start(index, base);
        Ok(op.map(|op| (when, SourceUse { op, platform, via, lines, text })))
    }

    fn start(&mut self, index: usize, base: Base) {
        let variables = Variables::of_base(base, &self.target.os);
        if let Some(done) = self.done.get_mut(index) {
            *done = Some(Done { variables, uses: Vec::new(), added: Vec::new() });
        }
    }

    /// Runs a stage's instructions.
    fn dispatch(&mut self, index: usize, plan: &mut Plan) -> Result<(), Fault> {
        let Some(state) = self.graph.states.get(index) else {
            return Ok(());
        };
        if state.kind != StateKind::Stage || state.replaced.is_some() {
            return Ok(());
        }
        let of_base = state.base.and_then(|base| self.done.get(base)?.as_ref());
        let own = self.done.get(index).and_then(Option::as_ref);
        let Some(variables) = of_base.or(own).map(|done| done.variables.clone()) else {
            return Ok(());
        };
        let mut done = Done { variables, uses: Vec::new(), added: Vec::new() };
        for command in &state.commands {
            self.instruction(index, command, &mut done, plan)
                .map_err(|problem| Fault::at(command.instruction.lines, problem))?;
        }
        if let Some(place) = self.done.get_mut(index) {
            *place = Some(done);
        }
        Ok(())
    }

    fn instruction(
        &self,
        index: usize,
        command: &Command,
        done: &mut Done,
        plan: &mut Plan,
    ) -> Result<(), Problem> {
        let reading = (self.escape, &self.budget);
        match &command.instruction.kind {
            InstructionKind::Arg(pairs) => {
                for (name, default) in pairs {
                    let pair = (name.as_str(), default.as_deref());
                    done.variables.declare(pair, self.options, &self.globals, reading)?;
                }
            }
            InstructionKind::Env(pairs) => {
                // All of them are expanded before the first is set.
                let mut words = Vec::new();
                for (name, value) in pairs {
                    let name = done.variables.expand(name, self.escape, &self.budget)?;
                    words.push((name, done.variables.expand(value, self.escape, &self.budget)?));
                }
                for (name, value) in words {
                    done.variables.set(&name.text, value);
                }
            }
            InstructionKind::Copy(copy) => self.copy(index, command, copy, done)?,
            InstructionKind::Run(mounts) => self.mounts(index, command, mounts, done)?,
            InstructionKind::Add(add) => {
                let variables = &done.variables;
                let expand = |word: &str| variables.expand(word, self.escape, &self.budget);
                for Added { op, text, uncertain } in add_op(add, self.options, expand)? {
                    if let (None, Some(name)) = (&op, &uncertain) {
                        // It expands to a path here; with the base's value it may be a URL.
                        let kind = WarningKind::BaseVariable { name: name.to_string() };
                        plan.warn(Some(command.instruction.lines), kind);
                    }
                    let Some(op) = op else { continue };
                    let (via, lines) = (Via::Add, Some(command.instruction.lines));
                    let source = SourceUse { op, platform: None, via, lines, text };
                    done.added.push((source, uncertain));
                }
            }
            InstructionKind::From(_) | InstructionKind::Onbuild(_) | InstructionKind::Other => {}
        }
        Ok(())
    }

    fn copy(
        &self,
        index: usize,
        command: &Command,
        copy: &Copy,
        done: &mut Done,
    ) -> Result<(), Problem> {
        for source in &command.sources {
            self.defined(index, *source, "copy")?;
        }
        for source in &copy.sources {
            let word = done.variables.expand(source, self.escape, &self.budget)?;
            refuse_remote_copy(&word.text)?;
            done.uses.extend(&command.sources);
        }
        Ok(())
    }

    fn mounts(
        &self,
        index: usize,
        command: &Command,
        mounts: &[Mount],
        done: &mut Done,
    ) -> Result<(), Problem> {
        for (mount, source) in mounts.iter().zip(&command.sources) {
            if mount.from.is_some() {
                self.defined(index, *source, "mount")?;
            }
            let expand = |word: &str| -> Result<String, Problem> {
                Ok(done.variables.expand(word, self.escape, &self.budget)?.text)
            };
            let reads = mount.reads(expand)?;
            if reads == Reads::Files && mount.from.is_some() {
                done.uses.push(*source);
            }
        }
        Ok(())
    }

    /// A stage can use what stands above it, and images.
    fn defined(&self, user: usize, used: usize, verb: &'static str) -> Result<(), Problem> {
        let Some(state) = self.graph.states.get(used) else {
            return Ok(());
        };
        if state.kind == StateKind::Stage && used >= user && state.replaced.is_none() {
            return Err(Problem::LaterStage { verb, stage: label(state, used) });
        }
        Ok(())
    }

    /// The states whose files end up in the target.
    fn used(&self, target: usize) -> Vec<bool> {
        let mut used = vec![false; self.graph.states.len()];
        let mut open = vec![target];
        while let Some(index) = open.pop() {
            let (Some(seen), Some(state)) = (used.get_mut(index), self.graph.states.get(index))
            else {
                continue;
            };
            if !std::mem::replace(seen, true) {
                open.extend(state.base);
                let done = self.done.get(index).and_then(Option::as_ref);
                open.extend(done.map(|done| done.uses.as_slice()).unwrap_or_default());
            }
        }
        used
    }

    /// `SOURCE_DATE_EPOCH` may name a stage or a context: the time is taken from its one source.
    fn epoch(&self, plan: &mut Plan) -> Result<(), Fault> {
        const NAME: &str = "SOURCE_DATE_EPOCH";
        let value = self.options.build_arg(NAME).or(self.globals.get(NAME)).unwrap_or_default();
        if value.is_empty() || value == "context" || value.parse::<i64>().is_ok() {
            return Ok(());
        }
        let place = |op, platform| SourceUse {
            op,
            platform,
            via: Via::Epoch,
            lines: None,
            text: value.to_owned(),
        };
        if let Some(context) = named_context(self.options, value, &self.options.build_platform)? {
            let loaded = context.load(self.options)?;
            if let Some(op) = loaded.op {
                plan.add(place(op, loaded.platform));
            }
            return Ok(());
        }
        let stages = self.graph.states.iter().filter(|state| state.kind == StateKind::Stage);
        let invalid = || Problem::Epoch { value: value.to_owned() };
        let stage = stages
            .filter(|state| state.name.as_deref() == Some(&*value.to_lowercase()))
            .find(|_| true)
            .ok_or_else(invalid)?;
        let mut variables = self.globals.clone();
        variables.unset(NAME);
        for command in &stage.commands {
            let fault = |problem| Fault::at(command.instruction.lines, problem);
            match &command.instruction.kind {
                InstructionKind::Arg(pairs) => {
                    for (name, default) in pairs {
                        let pair = (name.as_str(), default.as_deref());
                        variables
                            .declare_global(pair, self.options, (self.escape, &self.budget))
                            .map_err(fault)?;
                    }
                }
                InstructionKind::Add(add) => {
                    let expand = |word: &str| variables.expand(word, self.escape, &self.budget);
                    let added = add_op(add, self.options, expand).map_err(fault)?;
                    for (op, text) in added.into_iter().filter_map(|it| Some((it.op?, it.text))) {
                        let lines = Some(command.instruction.lines);
                        plan.add(SourceUse { lines, text, ..place(op, None) });
                    }
                }
                InstructionKind::From(_)
                | InstructionKind::Env(_)
                | InstructionKind::Copy(_)
                | InstructionKind::Run(_)
                | InstructionKind::Onbuild(_)
                | InstructionKind::Other => return Err(fault(invalid())),
            }
        }
        Ok(())
    }
}

fn via(state: &State, index: usize) -> Via {
    match &state.kind {
        StateKind::Stage => Via::From { stage: label(state, index) },
        StateKind::Named(via) => via.clone(),
    }
}
