//! Which policies judge a build: the one beside its Dockerfile, and those that are named.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, bail};

use super::finding::says;
use crate::input::Input;
use crate::policy::{Policy, Position};
use crate::report::RuleAt;
use crate::verify::Trust;

/// Policies, each with the folder that its files stand in.
#[derive(Debug)]
pub(super) struct Policies {
    loaded: Vec<Policy>,
    folders: Vec<PathBuf>,
}

impl Policies {
    /// Loads `paths`, each of which is one policy. One that is named twice is loaded once.
    pub(super) fn load(paths: &[PathBuf]) -> Result<Self> {
        let mut policies = Self { loaded: Vec::new(), folders: Vec::new() };
        let mut seen = Vec::new();
        for path in paths {
            let real = std::fs::canonicalize(path)
                .with_context(|| format!("policy {} cannot be read", path.display()))?;
            if seen.contains(&real) {
                continue;
            }
            seen.push(real);
            let policy = Policy::from_path(path)
                .with_context(|| format!("policy {} cannot be loaded", path.display()))?;
            let folder = if path.is_dir() { Some(path.as_path()) } else { path.parent() };
            policies.folders.push(folder.unwrap_or_else(|| Path::new("")).to_owned());
            policies.loaded.push(policy);
        }
        Ok(policies)
    }

    /// The same, trusting signatures of images and attestations by these roots.
    pub(super) fn trusting(mut self, trust: &Arc<Trust>) -> Self {
        let loaded = std::mem::take(&mut self.loaded).into_iter();
        self.loaded = loaded.map(|policy| policy.with_trust(trust.clone())).collect();
        self
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> &[Policy] {
        &self.loaded
    }

    /// The rule that says `text` about `input`, whichever policy it stands in.
    pub(super) fn rule_of(&self, input: &Input, text: &str) -> Option<RuleAt> {
        self.loaded.iter().find_map(|policy| {
            let explanation = policy.explain(input).ok()?;
            let (_, position) = explanation.messages.iter().find(|(said, _)| says(said, text))?;
            Some(self.named(policy.name())?.rule(position))
        })
    }

    /// The policy of this name.
    pub(super) fn named(&self, name: &str) -> Option<Named<'_>> {
        let at = self.loaded.iter().position(|policy| policy.name() == name)?;
        Some(Named { policy: self.loaded.get(at)?, folder: self.folders.get(at)? })
    }
}

/// A policy, and the folder that its files stand in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Named<'a> {
    /// The policy.
    pub(super) policy: &'a Policy,
    folder: &'a Path,
}

impl Named<'_> {
    /// A place in it as a person finds it: the file's path, and the text of the line.
    pub(super) fn rule(&self, position: &Position) -> RuleAt {
        let line = position.line.saturating_sub(1) as usize;
        let snippet = self.policy.text_of(&position.file).and_then(|text| text.lines().nth(line));
        RuleAt {
            file: self.file(&position.file),
            line: position.line,
            column: position.column,
            snippet: snippet.unwrap_or_default().to_owned(),
        }
    }

    /// The path of a file of it.
    pub(super) fn file(&self, name: &str) -> String {
        let path = self.folder.join(name);
        // Rules of ours have a name and no place on disk.
        if path.exists() { path.display().to_string() } else { name.to_owned() }
    }
}

/// The policies of a build: `FILE.rego` beside its Dockerfile, where there is one, then `named`.
pub(super) fn of_build(dockerfile: Option<&Path>, named: &[PathBuf]) -> Result<Policies> {
    let mut paths = Vec::new();
    let beside = dockerfile.map(|file| {
        let mut name = file.as_os_str().to_owned();
        name.push(".rego");
        PathBuf::from(name)
    });
    if let Some(beside) = &beside {
        // A link that leads nowhere is there too, and must not pass for no policy.
        match std::fs::symlink_metadata(beside) {
            Ok(_) => paths.push(beside.clone()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                return Err(error).context(format!("policy {} cannot be read", beside.display()));
            }
        }
    }
    paths.extend(named.iter().cloned());
    if paths.is_empty() {
        match beside {
            Some(beside) => bail!(
                "there is no policy, so nothing is allowed\n\
                 Write {}, or name a policy with --policy FILE|DIR.",
                beside.display()
            ),
            None => {
                bail!("there is no policy, so nothing is allowed\nName one with --policy FILE|DIR.")
            }
        }
    }
    Policies::load(&paths)
}
