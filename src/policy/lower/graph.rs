//! Rules that need themselves to be decided are refused.

use std::collections::BTreeSet;

use super::super::error::{PolicyError, Position, snippet};
use super::super::ir::{Group, GroupId, GroupKind, Program};
use super::Unit;

/// Refuses rules below a rule that gives its whole value: which of the two would hold is not said.
///
/// # Errors
/// With both places.
pub(super) fn refuse_nested(units: &[Unit], program: &Program) -> Result<(), PolicyError> {
    let mut open = vec![(&program.tree, None::<&Group>)];
    while let Some((node, above)) = open.pop() {
        let own = node.group.and_then(|group| program.groups.get(group as usize));
        if let (Some(above), Some(own)) = (above, own) {
            return Err(error_at(
                units,
                &own.position,
                format!(
                    "`{}` is part of `{}`, which has its value at {}",
                    own.path.join("."),
                    above.path.join("."),
                    above.position
                ),
            ));
        }
        let whole = own.filter(|group| group.kind != GroupKind::Partial).or(above);
        open.extend(node.children.values().map(|child| (child, whole)));
    }
    Ok(())
}

/// Refuses rules that depend on themselves, by whatever way.
///
/// # Errors
/// With the rules of the first cycle, in order.
pub(super) fn refuse_cycles(
    units: &[Unit],
    program: &Program,
    dependencies: &[BTreeSet<GroupId>],
) -> Result<(), PolicyError> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let mut states = vec![State::New; dependencies.len()];
    for start in 0..dependencies.len() {
        if states[start] != State::New {
            continue;
        }
        // Depth first, with a stack of our own: a policy may chain thousands of rules.
        let mut stack = vec![(start, dependencies[start].iter())];
        states[start] = State::Open;
        while let Some((at, rest)) = stack.last_mut() {
            let at = *at;
            match rest.next() {
                None => {
                    states[at] = State::Done;
                    stack.pop();
                }
                Some(&next) => match states[next as usize] {
                    State::Done => {}
                    State::New => {
                        states[next as usize] = State::Open;
                        stack.push((next as usize, dependencies[next as usize].iter()));
                    }
                    State::Open => {
                        let path: Vec<usize> = stack
                            .iter()
                            .map(|(group, _)| *group)
                            .skip_while(|group| *group != next as usize)
                            .collect();
                        return Err(cycle(units, program, &path));
                    }
                },
            }
        }
    }
    Ok(())
}

fn cycle(units: &[Unit], program: &Program, path: &[usize]) -> PolicyError {
    let names: Vec<String> = path
        .iter()
        .chain(path.first())
        .map(|group| program.groups[*group].path.join("."))
        .collect();
    let position = program.groups[path.first().copied().unwrap_or_default()].position.clone();
    let message = format!("rules may not depend on themselves: {}", names.join(" -> "));
    error_at(units, &position, message)
}

fn error_at(units: &[Unit], position: &Position, message: String) -> PolicyError {
    let text = units
        .iter()
        .find(|unit| unit.file.name == position.file)
        .map_or("", |unit| &*unit.file.text);
    PolicyError::Source {
        message,
        snippet: snippet(text, position.line, position.column),
        position: position.clone(),
    }
}
