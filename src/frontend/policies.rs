//! The policies of a build: those baked into the image, the one in the named context `policy`, and
//! the one beside the Dockerfile. All must allow; without any the build is refused.
//!
//! What a policy beside the Dockerfile reads is told by its text: imports, and literals that look
//! like the name of a file. Only those are asked of the client, never its whole directory.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::LazyLock;

use bytes::Bytes;
use regex::Regex;
use tonic::Status;

use super::options::{BuildOptions, Place};
use crate::check::{self, CheckError, Outcome, Question};
use crate::gateway::{self, Gateway, Tree, join, local};
use crate::policy::{Policy, PolicyError, PolicyFiles};
use crate::source::{SourceError, SourceOp, mask, parse_git_user};

/// Rounds of reading what the files read so far name.
const ROUNDS: usize = 8;

/// What a build is judged by.
#[derive(Debug)]
pub struct Policies {
    /// All of them; never none.
    pub policies: Vec<Policy>,
    /// The Dockerfile, where it is with the client.
    pub dockerfile: Option<String>,
}

/// Policies that cannot be had. The build is refused.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// There is none at all.
    #[error(
        "there is no policy, so nothing is allowed: put {file}.rego beside the Dockerfile, pass \
         --build-context policy=DIR, or bake policies into the frontend's image"
    )]
    None {
        /// Name of the Dockerfile.
        file: String,
    },
    /// One cannot be loaded.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The folder of the image cannot be read.
    #[error("{path}: {source}")]
    Baked {
        /// The folder.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// The daemon could not read the files.
    #[error("the policy files of {place} cannot be read: {}", status.message())]
    Files {
        /// Where they are.
        place: String,
        /// What the daemon said.
        status: Box<Status>,
    },
    /// The named context is of a kind that no policy is read from.
    #[error("the build context `policy` is `{value}`; only a directory can hold a policy")]
    Context {
        /// As given.
        value: String,
    },
    /// A remote context without anyone to judge it.
    #[error(
        "the context {context} would be fetched before any policy is known: pass \
         --build-context policy=DIR, or bake policies into the frontend's image"
    )]
    Unjudged {
        /// As given.
        context: String,
    },
    /// A remote context in which a policy cannot be looked for.
    #[error(
        "the context {context} is fetched as a file, and a policy in it cannot be read: pass \
         --build-context policy=DIR"
    )]
    Archive {
        /// As given.
        context: String,
    },
    /// A remote context that is none.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// What holds the policy could not be judged.
    #[error(transparent)]
    Check(#[from] Box<CheckError>),
    /// What holds the policy is denied by the policies before it.
    #[error("{op} is denied by {policy}: {}", messages.join("; "))]
    Denied {
        /// The source.
        op: SourceOp,
        /// Who denies it.
        policy: String,
        /// In its words.
        messages: Vec<String>,
    },
    /// A policy wants the build's HTTP traffic proxied.
    #[error(
        "a policy asks for exec.proxy, which no frontend can switch on: it takes a gate in front \
         of buildkitd, or Buildx's own --policy"
    )]
    ExecProxy,
}

/// Who loads policies, and from where.
pub struct Loader<'a> {
    /// Reads the build's files.
    pub gateway: &'a Gateway,
    /// The build.
    pub options: &'a BuildOptions,
    /// Folder of the policies in the image.
    pub baked: &'a Path,
}

impl Loader<'_> {
    /// Loads all of them, each judged by those before it.
    ///
    /// # Errors
    /// When there is none, or one cannot be had.
    pub async fn load(&self) -> Result<Policies, SetupError> {
        let mut policies = baked(self.baked)?;
        if let Some(named) = self.named(&policies).await? {
            policies.push(named);
        }
        let (own, dockerfile) = self.own(&policies).await?;
        policies.extend(own);
        if policies.is_empty() {
            return Err(SetupError::None { file: self.options.filename().to_owned() });
        }
        let caps = check::caps(&policies, &self.options.env()).map_err(Box::new)?;
        if caps.exec_proxy == Some(true) {
            return Err(SetupError::ExecProxy);
        }
        Ok(Policies { policies, dockerfile })
    }

    /// The policy in the named context `policy`.
    async fn named(&self, before: &[Policy]) -> Result<Option<Policy>, SetupError> {
        let Some(value) = self.options.get("context:policy") else { return Ok(None) };
        let Some(name) = value.strip_prefix("local:") else {
            return Err(SetupError::Context { value: mask(value) });
        };
        let place = || "the build context `policy`".to_owned();
        let op = self.judged(before, local(name, self.options.session_of(name), &[])).await?;
        let tree = Tree::load(self.gateway, &op).await.map_err(|it| files(place(), it))?;
        let files = tree.read_all("").await.map_err(|it| files(place(), it))?;
        let modules: Vec<String> = files
            .keys()
            .filter(|name| !name.contains('/') && !name.starts_with('.'))
            .filter(|name| name.ends_with(".rego") && !name.ends_with("_test.rego"))
            .cloned()
            .collect();
        Ok(Some(Policy::load("policy (build context)", PolicyFiles::memory(files), &modules)?))
    }

    /// The policy beside the Dockerfile, and the Dockerfile.
    async fn own(&self, before: &[Policy]) -> Result<(Option<Policy>, Option<String>), SetupError> {
        let filename = self.options.filename();
        let (dir, file) = filename.rsplit_once('/').unwrap_or(("", filename));
        let module = format!("{file}.rego");
        let (files, text) = match self.options.dockerfile() {
            Place::Local(name) => self.beside_local(before, &name, dir, &module).await?,
            Place::Remote(context) => (self.beside_remote(before, &context, dir).await?, None),
        };
        if !files.contains_key(&module) {
            return Ok((None, text));
        }
        let policy =
            Policy::load(&module, PolicyFiles::memory(files), std::slice::from_ref(&module))?;
        Ok((Some(policy), text))
    }

    async fn beside_local(
        &self,
        before: &[Policy],
        name: &str,
        dir: &str,
        module: &str,
    ) -> Result<(BTreeMap<String, Bytes>, Option<String>), SetupError> {
        let place = || format!("`{name}`");
        let filename = self.options.filename();
        let mut wanted = BTreeSet::from([module.to_owned()]);
        let mut files_below = BTreeMap::new();
        let mut text = None;
        for _ in 0..ROUNDS {
            let patterns: Vec<String> =
                wanted.iter().map(|path| join(dir, path)).chain([filename.to_owned()]).collect();
            let op = local(name, self.options.session_of(name), &patterns);
            let op = self.judged(before, op).await?;
            let tree = Tree::load(self.gateway, &op).await.map_err(|it| files(place(), it))?;
            if !dir.is_empty()
                && !tree
                    .list("")
                    .await
                    .map_err(|it| files(place(), it))?
                    .iter()
                    .any(|path| path.starts_with(dir))
            {
                break;
            }
            files_below = tree.read_all(dir).await.map_err(|it| files(place(), it))?;
            let file = filename.rsplit('/').next().unwrap_or(filename);
            if let Some(content) = files_below.remove(file) {
                text = Some(String::from_utf8_lossy(&content).into_owned());
            }
            let known = wanted.len();
            wanted.extend(
                files_below
                    .iter()
                    .filter(|(path, _)| path.ends_with(".rego"))
                    .flat_map(|(_, content)| names_in(&String::from_utf8_lossy(content))),
            );
            if wanted.len() == known {
                break;
            }
        }
        Ok((files_below, text))
    }

    /// Files of a remote context, which the policies before judge first.
    async fn beside_remote(
        &self,
        before: &[Policy],
        context: &str,
        dir: &str,
    ) -> Result<BTreeMap<String, Bytes>, SetupError> {
        if before.is_empty() {
            return Err(SetupError::Unjudged { context: mask(context) });
        }
        let Some(git) = parse_git_user(context)? else {
            self.judged(before, SourceOp::new(context)).await?;
            // An archive is unpacked by the child, out of our sight: a policy in it would be passed
            // over. Whoever names one in its place has said what judges the build.
            return match self.options.get("context:policy") {
                Some(_) => Ok(BTreeMap::new()),
                None => Err(SetupError::Archive { context: mask(context) }),
            };
        };
        let place = || mask(context);
        let op = self.judged(before, git.to_op()).await?;
        let tree = Tree::load(self.gateway, &op).await.map_err(|it| files(place(), it))?;
        tree.read_all(dir).await.map_err(|it| files(place(), it))
    }

    /// What holds a policy, judged by the policies before it, as it is to be fetched.
    async fn judged(&self, before: &[Policy], op: SourceOp) -> Result<SourceOp, SetupError> {
        if before.is_empty() {
            return Ok(op);
        }
        let question =
            Question { op, platform: self.options.platform.clone(), env: self.options.env() };
        let checked = check::check(before, &question, self.gateway).await.map_err(Box::new)?;
        match checked.outcome {
            Outcome::Allowed(allowed) => Ok(gateway::pinned(&checked.op, allowed.pin.as_ref())),
            Outcome::Denied(denied) => Err(SetupError::Denied {
                op: checked.op,
                policy: denied.policy,
                messages: denied.messages,
            }),
            Outcome::Converted(op) => Ok(op),
        }
    }
}

fn files(place: String, status: Status) -> SetupError {
    SetupError::Files { place, status: Box::new(status) }
}

/// The policies of the image: each folder below `root` is one, and the files in it form one too.
fn baked(root: &Path) -> Result<Vec<Policy>, SetupError> {
    let wrong = |source| SetupError::Baked { path: root.display().to_string(), source };
    if !root.exists() {
        return Ok(Vec::new());
    }
    let mut folders = Vec::new();
    let mut loose = false;
    for entry in std::fs::read_dir(root).map_err(wrong)? {
        let path = entry.map_err(wrong)?.path();
        if path.is_dir() {
            folders.push(path);
        } else {
            loose |= path.extension().is_some_and(|it| it == "rego");
        }
    }
    folders.sort();
    let mut policies = Vec::new();
    if loose {
        policies.push(Policy::from_path(root)?);
    }
    for folder in folders {
        // What an image without policies of its own is built with.
        if std::fs::read_dir(&folder).map_err(wrong)?.next().is_none() {
            continue;
        }
        match Policy::from_path(&folder) {
            // Keys and data of the files beside it.
            Err(PolicyError::Empty { .. }) if loose => {}
            other => policies.push(other?),
        }
    }
    Ok(policies)
}

/// String literals, and imports.
static LITERAL: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r#""((?:[^"\\\n]|\\.)*)"|`([^`]*)`"#).ok());
static IMPORT: LazyLock<Option<Regex>> =
    LazyLock::new(|| Regex::new(r"(?m)^\s*import\s+data\.([A-Za-z0-9_.]+)").ok());
/// A path with an extension; `%s` and its like stand for anything.
static FILE: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(r"^[A-Za-z0-9_%][A-Za-z0-9_.%+@ /-]{0,250}\.[A-Za-z0-9%]{1,10}$").ok()
});
static VERB: LazyLock<Option<Regex>> = LazyLock::new(|| Regex::new(r"%[a-z]").ok());

/// Files that the text of a policy may read.
fn names_in(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let (Some(literal), Some(import), Some(file), Some(verb)) =
        (LITERAL.as_ref(), IMPORT.as_ref(), FILE.as_ref(), VERB.as_ref())
    else {
        return names;
    };
    for found in import.captures_iter(text) {
        names.insert(format!("{}.rego", found[1].replace('.', "/")));
    }
    for found in literal.captures_iter(text) {
        let Some(text) = found.get(1).or(found.get(2)).map(|it| it.as_str()) else { continue };
        if file.is_match(text) && !text.split('/').any(|part| part == "..") {
            names.insert(verb.replace_all(text, "*").into_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_tells_what_it_reads() {
        let text = r#"package docker
            import data.lib.images as images
            keys := "keys/maintainers.asc"
            allowed := load_json(`config.json`)
            key := sprintf("keys/%s.pem", [name])
            never := ["../secret.json", "/etc/passwd.txt", "node_modules", "*.*", "a b"]
        "#;
        let wanted = ["config.json", "keys/*.pem", "keys/maintainers.asc", "lib/images.rego"];
        assert_eq!(names_in(text).into_iter().collect::<Vec<_>>(), wanted);
    }

    #[test]
    fn folders_and_loose_files_are_policies() {
        let rule = "package docker\ndecision := {\"allow\": true}\n";
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        assert_eq!(baked(&dir.path().join("none")).unwrap().len(), 0);
        assert_eq!(baked(dir.path()).unwrap().len(), 0);
        write("org/policy.rego", rule);
        assert_eq!(baked(dir.path()).unwrap().len(), 1);
        std::fs::create_dir(dir.path().join("empty")).unwrap();
        assert_eq!(baked(dir.path()).unwrap().len(), 1);
        write("keys/a.asc", "");
        assert!(matches!(baked(dir.path()), Err(SetupError::Policy(PolicyError::Empty { .. }))));
        write("loose.rego", rule);
        assert_eq!(baked(dir.path()).unwrap().len(), 2);
    }
}
