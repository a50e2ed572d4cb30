//! Loading: which files a policy consists of, and what they import.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;
use std::sync::{Arc, Mutex};

use regorus::unstable::{Module, Span};

use super::error::PolicyError;
use super::eval::{Limits, find_group};
use super::files::{MAX_REGO, PolicyFiles};
use super::lower::{self, Unit, path_of};
use super::parse::{self, ParsedFile};
use super::{Policy, Shared};
use crate::verify::Trust;

/// The helper rules, as a file.
const HELPERS: &str = include_str!("helpers.rego");
/// The name that positions in the helpers have.
const HELPERS_NAME: &str = "builtin/helpers.rego";
/// Most files that one policy may consist of.
const MAX_FILES: usize = 500;
/// Stack for parsing and compiling, in bytes: both recurse as deep as the text nests.
const STACK: usize = 32 << 20;

impl Policy {
    /// Loads the policy at `path`: a Rego file, or a folder whose top-level Rego files form one.
    ///
    /// The folder (of the file, or itself) is the policy's filesystem: imports, keys and data are
    /// read from it, and from nowhere else.
    ///
    /// # Errors
    /// When a file cannot be read or is not Rego v1, with file, line and column.
    pub fn from_path(path: &Path) -> Result<Self, PolicyError> {
        let name = path.display().to_string();
        let (files, modules) = modules_at(path, &name, Tests::Leave)?;
        Self::load(&name, files, &modules)
    }

    /// Loads a policy from the `modules` of a filesystem, and from what they import.
    ///
    /// # Errors
    /// When a file cannot be read or is not Rego v1, with file, line and column.
    pub fn load(name: &str, files: PolicyFiles, modules: &[String]) -> Result<Self, PolicyError> {
        if modules.is_empty() {
            return Err(PolicyError::Empty { policy: name.to_owned() });
        }
        let units = guarded(name, || units(name, &files, modules))?;
        let program = guarded(name, || lower::compile(&units))?;
        let decision = find_group(&program, &["docker", "decision"]);
        let texts =
            units.iter().map(|unit| (unit.file.name.clone(), unit.file.text.clone())).collect();
        Ok(Self {
            name: name.to_owned(),
            program,
            decision,
            shared: Shared { files, json: Mutex::new(BTreeMap::new()), trust: Trust::embedded() },
            limits: Limits::default(),
            texts,
        })
    }
}

/// Whether test files belong to what is loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tests {
    Leave,
    Take,
}

/// The filesystem and the top-level modules of the policy at `path`.
pub(super) fn modules_at(
    path: &Path,
    name: &str,
    tests: Tests,
) -> Result<(PolicyFiles, Vec<String>), PolicyError> {
    if path.is_dir() {
        let files = PolicyFiles::directory(path);
        let mut modules = files.top_level_rego()?;
        if tests == Tests::Leave {
            modules.retain(|module| !module.ends_with("_test.rego"));
        }
        if modules.is_empty() {
            return Err(PolicyError::Empty { policy: name.to_owned() });
        }
        return Ok((files, modules));
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let files = PolicyFiles::directory(parent.unwrap_or_else(|| Path::new(".")));
    let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok((files, vec![file]))
}

/// Reads and parses `modules` and all that they import.
fn units(name: &str, files: &PolicyFiles, modules: &[String]) -> Result<Vec<Unit>, PolicyError> {
    let mut units = vec![Unit {
        file: parse::parse(HELPERS_NAME, HELPERS)?,
        package: vec!["docker".into()],
        internal: true,
    }];
    let mut seen = BTreeSet::new();
    let too_many = || PolicyError::Internal {
        policy: name.to_owned(),
        message: format!("it consists of more than {MAX_FILES} files"),
    };
    if modules.len() > MAX_FILES {
        return Err(too_many());
    }
    for module in modules {
        let file = read(files, module)?;
        let package = package_of(&file)?;
        seen.insert(module.clone());
        units.push(Unit { file, package, internal: false });
    }
    let mut open: VecDeque<usize> = (0..units.len()).collect();
    while let Some(at) = open.pop_front() {
        for (path, span) in data_imports(&units[at].file.module) {
            if provides(&units, &path) {
                continue;
            }
            let module = format!("{}.rego", path.join("/"));
            if !seen.insert(module.clone()) {
                continue;
            }
            let file = read(files, &module).map_err(|error| match error {
                PolicyError::File(error) => units[at].file.error(
                    &span,
                    format!("import data.{} is read from {module}: {error}", path.join(".")),
                ),
                other => other,
            })?;
            open.push_back(units.len());
            // Its package is the path it is imported by, whatever it says of itself.
            units.push(Unit { file, package: path, internal: false });
            if units.len() > MAX_FILES {
                return Err(too_many());
            }
        }
    }
    Ok(units)
}

fn read(files: &PolicyFiles, module: &str) -> Result<ParsedFile, PolicyError> {
    let text = files.read_text(module, MAX_REGO)?;
    parse::parse(module, &text)
}

/// The path below `data` that a file names in `package`.
fn package_of(file: &ParsedFile) -> Result<Vec<Arc<str>>, PolicyError> {
    let package = path_of(&file.module.package.refr);
    let span = &file.module.package.span;
    if package.first().is_some_and(|first| matches!(&**first, "data" | "input")) {
        return Err(file.error(span, "a package is named without `data`"));
    }
    Ok(package)
}

/// Imports below `data`, and where they stand.
fn data_imports(module: &Module) -> Vec<(Vec<Arc<str>>, Span)> {
    module
        .imports
        .iter()
        .filter_map(|import| {
            let path = path_of(&import.refr);
            let (root, path) = path.split_first()?;
            (&**root == "data" && !path.is_empty()).then(|| (path.to_vec(), import.span.clone()))
        })
        .collect()
}

/// Whether a loaded package, or a rule of one, is what `path` names.
fn provides(units: &[Unit], path: &[Arc<str>]) -> bool {
    units.iter().any(|unit| unit.package.starts_with(path) || path.starts_with(&unit.package))
}

/// Parses or compiles with stack enough, so that a fault in it is an error and nothing more.
pub(super) fn guarded<T>(
    name: &str,
    work: impl FnOnce() -> Result<T, PolicyError>,
) -> Result<T, PolicyError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| stacker::grow(STACK, work)))
        .unwrap_or_else(|_| {
            Err(PolicyError::Internal {
                policy: name.to_owned(),
                message: "the Rego parser failed on it".to_owned(),
            })
        })
}
