//! A policy's files as they are at one moment, read whole, with the digest of all of them.
//!
//! What is evaluated later reads these bytes and no others: a build keeps its rules, its keys and
//! its data, whatever becomes of the files. Nothing is parsed here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::policy::{FileError, MAX_DATA, MAX_REGO, Policy, PolicyError, PolicyFiles};

/// Most files of a policy's folder, and of the folders in it.
const MAX_FILES: usize = 2_000;
/// Most bytes of all of them.
const MAX_BYTES: usize = 64 << 20;
/// How deep folders may stand in each other.
const MAX_DEPTH: usize = 16;

/// A policy whose files cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// It is not there, or may not be looked at.
    #[error("policy {} cannot be read: {source}", path.display())]
    Path {
        /// The policy, or a folder in it.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file of it cannot be read.
    #[error("policy {}: {source}", path.display())]
    File {
        /// The policy.
        path: PathBuf,
        /// Why.
        source: FileError,
    },
    /// Its folder holds more than a policy does.
    #[error(
        "policy {}: its folder holds more than {MAX_FILES} files, {} MiB or {MAX_DEPTH} levels; \
         all that is beside a policy belongs to it: give it a folder of its own",
        path.display(), MAX_BYTES >> 20
    )]
    TooLarge {
        /// The policy.
        path: PathBuf,
    },
}

/// The files of one policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Snapshot {
    name: String,
    modules: Vec<String>,
    files: BTreeMap<String, Bytes>,
}

impl Snapshot {
    /// Reads the policy at `path`, a Rego file or a folder.
    ///
    /// Hidden folders are left out (`..data` of a mounted ConfigMap, `.git`), and so is what no
    /// rule could read: sockets, links that lead out, files above the limit. A Rego file that
    /// cannot be read is an error: rules must not go missing.
    pub(super) fn read(path: &Path) -> Result<Self, SnapshotError> {
        let at = |source| SnapshotError::Path { path: path.to_owned(), source };
        let folder = std::fs::metadata(path).map_err(at)?.is_dir();
        let root = root_of(path, folder);
        let disk = PolicyFiles::directory(root);
        let failed = |source| SnapshotError::File { path: path.to_owned(), source };
        let mut walk = Walk { policy: path, disk: &disk, files: BTreeMap::new(), bytes: 0 };
        walk.folder(root, "", 0)?;
        let mut files = walk.files;
        let mut modules = match path.file_name() {
            Some(name) if !folder => vec![name.to_string_lossy().into_owned()],
            Some(_) | None => disk.top_level_rego().map_err(failed)?,
        };
        if folder {
            modules.retain(|module| !module.ends_with("_test.rego"));
        }
        // Each of them, whatever its name and kind, is read or is an error.
        for module in &modules {
            if !files.contains_key(module) {
                files.insert(module.clone(), disk.read(module, MAX_REGO).map_err(failed)?);
            }
        }
        Ok(Self { name: path.display().to_string(), modules, files })
    }

    /// Feeds names and bytes, each with its length before it, to a digest.
    pub(super) fn digest(&self, into: &mut Sha256) {
        let mut field = |bytes: &[u8]| {
            into.update((bytes.len() as u64).to_be_bytes());
            into.update(bytes);
        };
        field(self.name.as_bytes());
        field(&(self.modules.len() as u64).to_be_bytes());
        for module in &self.modules {
            field(module.as_bytes());
        }
        field(&(self.files.len() as u64).to_be_bytes());
        for (name, data) in &self.files {
            field(name.as_bytes());
            field(data);
        }
    }

    /// The policy that these files are.
    pub(super) fn compile(self) -> Result<Policy, PolicyError> {
        if self.modules.is_empty() {
            return Err(PolicyError::Empty { policy: self.name });
        }
        Policy::load(&self.name, PolicyFiles::memory(self.files), &self.modules)
    }
}

/// The folder whose files all belong to a policy: the policy itself, or what its file stands in.
pub(super) fn root_of(policy: &Path, is_folder: bool) -> &Path {
    let parent = policy.parent().filter(|parent| !parent.as_os_str().is_empty());
    if is_folder { policy } else { parent.unwrap_or_else(|| Path::new(".")) }
}

struct Walk<'a> {
    policy: &'a Path,
    disk: &'a PolicyFiles,
    files: BTreeMap<String, Bytes>,
    bytes: usize,
}

impl Walk<'_> {
    fn folder(&mut self, root: &Path, below: &str, depth: usize) -> Result<(), SnapshotError> {
        let folder = root.join(below);
        let failed = |source| SnapshotError::Path { path: folder.clone(), source };
        if depth > MAX_DEPTH {
            return Err(self.too_large());
        }
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // What is no text has no name that a rule could write.
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            match std::fs::metadata(entry.path()) {
                Ok(kind) if kind.is_dir() => {
                    if !name.starts_with('.') {
                        self.folder(root, &path, depth + 1)?;
                    }
                }
                // A link to nowhere is left to the reading below.
                Ok(_) | Err(_) => self.file(path)?,
            }
        }
        Ok(())
    }

    fn file(&mut self, path: String) -> Result<(), SnapshotError> {
        let rego = path.ends_with(".rego");
        match self.disk.read(&path, if rego { MAX_REGO } else { MAX_DATA }) {
            Ok(data) => {
                self.bytes += data.len();
                self.files.insert(path, data);
                if self.files.len() > MAX_FILES || self.bytes > MAX_BYTES {
                    return Err(self.too_large());
                }
                Ok(())
            }
            Err(
                FileError::NotFound { .. }
                | FileError::Escape { .. }
                | FileError::NotRegular { .. }
                | FileError::TooLarge { .. },
            ) if !rego => Ok(()),
            Err(source) => Err(SnapshotError::File { path: self.policy.to_owned(), source }),
        }
    }

    fn too_large(&self) -> SnapshotError {
        SnapshotError::TooLarge { path: self.policy.to_owned() }
    }
}
