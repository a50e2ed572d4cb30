//! A file as stages: global arguments, then `FROM` and what follows it.

use super::Lines;
use super::error::{Fault, Problem};
use super::instruction::{From, Instruction, InstructionKind, instruction};
use super::node::{self, Node};

/// Far more than anyone writes; each stage holds a copy of its variables.
const MAX_STAGES: usize = 1000;

/// A Dockerfile, read once for all platforms.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct File {
    /// `ARG`s before the first `FROM`.
    pub(super) globals: Vec<Instruction>,
    pub(super) stages: Vec<Stage>,
    pub(super) escape: char,
}

/// One stage as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stage {
    pub(super) from: From,
    pub(super) lines: Lines,
    pub(super) commands: Vec<Instruction>,
}

/// Reads a Dockerfile.
pub(super) fn parse(text: &str) -> Result<File, Fault> {
    if text.is_empty() {
        return Err(Problem::Empty.into());
    }
    let parsed = node::parse(text)?;
    let mut file = File { globals: Vec::new(), stages: Vec::new(), escape: parsed.escape };
    for node in &parsed.nodes {
        let read = instruction(node, parsed.escape)?;
        match (read.kind, file.stages.last_mut()) {
            (InstructionKind::From(from), _) => {
                if file.stages.len() == MAX_STAGES {
                    let problem = Problem::TooLarge { what: "stages", limit: MAX_STAGES };
                    return Err(Fault::at(read.lines, problem));
                }
                file.stages.push(Stage { from, lines: read.lines, commands: Vec::new() });
            }
            (kind, Some(stage)) => stage.commands.push(Instruction { kind, lines: read.lines }),
            (kind @ InstructionKind::Arg(_), None) => {
                file.globals.push(Instruction { kind, lines: read.lines });
            }
            (_, None) => {
                let problem = Problem::BeforeFrom { keyword: node.head.name() };
                return Err(Fault::at(read.lines, problem));
            }
        }
    }
    if file.stages.is_empty() {
        return Err(Problem::NoStages.into());
    }
    Ok(file)
}

/// Reads the instruction of an `ONBUILD`, at that one's place. The escape directive of the file
/// does not reach it: BuildKit reads triggers as files of their own.
pub(super) fn trigger(text: &str, lines: Lines) -> Result<Instruction, Fault> {
    let refused = |instruction: &str| {
        Fault::at(lines, Problem::Trigger { instruction: instruction.to_owned() })
    };
    let here = |fault: Fault| Fault::at(lines, fault.problem);
    let parsed = node::parse(text).map_err(here)?;
    let [node]: &[Node] = parsed.nodes.as_slice() else {
        return Err(refused("more than one instruction"));
    };
    let read = instruction(node, parsed.escape).map_err(here)?;
    match read.kind {
        InstructionKind::From(_) => Err(refused("FROM")),
        InstructionKind::Onbuild(_) => Err(refused("ONBUILD")),
        kind @ (InstructionKind::Arg(_)
        | InstructionKind::Env(_)
        | InstructionKind::Copy(_)
        | InstructionKind::Add(_)
        | InstructionKind::Run(_)
        | InstructionKind::Other) => Ok(Instruction { kind, lines }),
    }
}
