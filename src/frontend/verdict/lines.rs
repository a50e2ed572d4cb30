//! Lines of the Dockerfile for what the child tells none of. Nothing is decided by them.

use super::Gatekeeper;
use crate::dockerfile::{self, Lines};
use crate::frontend::policies::{Policies, Unready};
use crate::wire::proto::{errdefs, pb};

impl Gatekeeper {
    /// Lines of the Dockerfile that name a source where the child adds none: `RUN --mount=from=`.
    pub async fn mount_lines(&self, identifier: &str) -> Vec<errdefs::Source> {
        // Where a mount names a build context, the plan tells the context and no mount.
        let is_run = |text: &str, at: &Lines| {
            text.lines().nth(at.start.saturating_sub(1)).is_some_and(|line| begins(line, "run"))
        };
        self.lines_where(identifier, |text, lines| lines.iter().all(|at| is_run(text, at))).await
    }

    /// Lines of the Dockerfile that name a source, whoever else tells them.
    pub async fn lines(&self, identifier: &str) -> Vec<errdefs::Source> {
        self.lines_where(identifier, |_, _| true).await
    }

    async fn lines_where(
        &self,
        identifier: &str,
        wanted: impl Fn(&str, &[Lines]) -> bool,
    ) -> Vec<errdefs::Source> {
        let (text, lines) = match self.policies().await {
            Ok(Policies { dockerfile: Some(text), .. }) => {
                let plan = dockerfile::plan(text, &self.options.plan());
                (text, plan.map(|plan| plan.lines_of(identifier)).unwrap_or_default())
            }
            // Whatever is asked for first: nothing is judged, from the first stage on.
            Err(Unready { dockerfile: Some(text), .. }) => (text, first_stage(text)),
            Ok(Policies { dockerfile: None, .. }) | Err(Unready { dockerfile: None, .. }) => {
                return Vec::new();
            }
        };
        if lines.is_empty() || !wanted(text, &lines) {
            return Vec::new();
        }
        let position = |line: usize| {
            Some(pb::Position { line: i32::try_from(line).unwrap_or_default(), character: 0 })
        };
        let ranges = lines
            .iter()
            .map(|at| pb::Range { start: position(at.start), end: position(at.end) })
            .collect();
        let info = pb::SourceInfo {
            filename: self.options.filename().to_owned(),
            data: text.clone().into_bytes().into(),
            definition: None,
            language: "Dockerfile".into(),
        };
        vec![errdefs::Source { info: Some(info), ranges }]
    }
}

/// Whether a line of a Dockerfile begins this instruction.
fn begins(line: &str, instruction: &str) -> bool {
    line.split_whitespace().next().is_some_and(|word| word.eq_ignore_ascii_case(instruction))
}

/// The line where a Dockerfile's first stage begins.
fn first_stage(text: &str) -> Vec<Lines> {
    let at = text.lines().position(|line| begins(line, "from"));
    at.map(|at| Lines { start: at + 1, end: at + 1 }).into_iter().collect()
}
