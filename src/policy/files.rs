//! The policy filesystem: the only place that a policy reads from.
//!
//! A path of it cannot lead out of its root, not by `..`, not by a link; what is read is a regular
//! file below a size limit. It never blocks on a FIFO or a device, because those are refused before
//! they are opened.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;

/// Largest Rego file, in bytes.
pub const MAX_REGO: u64 = 1 << 20;
/// Largest data file (JSON, keys, bundles), in bytes.
pub const MAX_DATA: u64 = 8 << 20;

/// A file of a policy that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// There is no such file.
    #[error("policy file `{path}` does not exist in {root}")]
    NotFound {
        /// The path as asked for.
        path: String,
        /// The root it was looked for in.
        root: String,
    },
    /// The path leads out of the policy's root, or is no path.
    #[error("policy file `{path}` is refused: {why}")]
    Escape {
        /// The path as asked for.
        path: String,
        /// Why it is refused.
        why: &'static str,
    },
    /// It is a directory, a FIFO, a device or a socket.
    #[error("policy file `{path}` is {kind}, not a regular file")]
    NotRegular {
        /// The path as asked for.
        path: String,
        /// What it is.
        kind: &'static str,
    },
    /// It is larger than it may be.
    #[error("policy file `{path}` is larger than {limit} bytes")]
    TooLarge {
        /// The path as asked for.
        path: String,
        /// The limit, in bytes.
        limit: u64,
    },
    /// It is no UTF-8 text.
    #[error("policy file `{path}` is not UTF-8 text")]
    NotText {
        /// The path as asked for.
        path: String,
    },
    /// The operating system would not.
    #[error("policy file `{path}` cannot be read: {message}")]
    Io {
        /// The path as asked for.
        path: String,
        /// What the system said.
        message: String,
    },
}

/// Where a policy's files come from.
#[derive(Clone, Debug)]
pub enum PolicyFiles {
    /// A folder and what is below it.
    Directory(Arc<Path>),
    /// Files held in memory, by path.
    Memory(Arc<BTreeMap<String, Bytes>>),
}

impl PolicyFiles {
    /// The files below `root`.
    pub fn directory(root: impl Into<PathBuf>) -> Self {
        Self::Directory(root.into().into())
    }

    /// Files held in memory, by path.
    pub fn memory(files: BTreeMap<String, Bytes>) -> Self {
        Self::Memory(Arc::new(files))
    }

    /// Reads one file.
    ///
    /// # Errors
    /// When the path leads out of the root, is no regular file, or is larger than `limit` bytes.
    pub fn read(&self, path: &str, limit: u64) -> Result<Bytes, FileError> {
        let clean = clean(path)?;
        match self {
            Self::Memory(files) => {
                let data = files.get(&clean).ok_or_else(|| FileError::NotFound {
                    path: path.to_owned(),
                    root: "the policy's files".to_owned(),
                })?;
                if data.len() as u64 > limit {
                    return Err(FileError::TooLarge { path: path.to_owned(), limit });
                }
                Ok(data.clone())
            }
            Self::Directory(root) => read_below(root, &clean, limit),
        }
    }

    /// Reads one file as text.
    ///
    /// # Errors
    /// As [`PolicyFiles::read`], and when it is not UTF-8.
    pub fn read_text(&self, path: &str, limit: u64) -> Result<String, FileError> {
        let data = self.read(path, limit)?;
        let text =
            std::str::from_utf8(&data).map_err(|_| FileError::NotText { path: path.to_owned() })?;
        Ok(text.strip_prefix('\u{feff}').unwrap_or(text).to_owned())
    }

    /// Names of the `*.rego` files at the top, sorted.
    ///
    /// # Errors
    /// When the folder cannot be listed.
    pub fn top_level_rego(&self) -> Result<Vec<String>, FileError> {
        let mut names = match self {
            Self::Memory(files) => {
                files.keys().filter(|name| !name.contains('/')).cloned().collect::<Vec<_>>()
            }
            Self::Directory(root) => {
                let io = |error: &std::io::Error| io_error(&root.display().to_string(), error);
                fs::read_dir(root)
                    .map_err(|error| io(&error))?
                    .map(|entry| {
                        entry
                            .map(|entry| entry.file_name().to_string_lossy().into_owned())
                            .map_err(|error| io(&error))
                    })
                    .collect::<Result<Vec<_>, _>>()?
            }
        };
        names.retain(|name| name.ends_with(".rego") && !name.starts_with('.'));
        names.sort();
        Ok(names)
    }
}

/// A relative path without `.` and `..`, with `/` between its parts.
fn clean(path: &str) -> Result<String, FileError> {
    let escape = |why| FileError::Escape { path: path.to_owned(), why };
    if path.is_empty() {
        return Err(escape("it is empty"));
    }
    if path.contains(['\0', '\\']) {
        return Err(escape("it contains a NUL or a backslash"));
    }
    if path.starts_with('/') {
        return Err(escape("it is absolute; paths are relative to the policy's folder"));
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(escape("it contains `..`")),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(escape("it names the policy's folder itself"));
    }
    Ok(parts.join("/"))
}

fn read_below(root: &Path, path: &str, limit: u64) -> Result<Bytes, FileError> {
    let not_found =
        || FileError::NotFound { path: path.to_owned(), root: root.display().to_string() };
    let map = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => not_found(),
        _ => io_error(path, &error),
    };
    let real_root = fs::canonicalize(root).map_err(map)?;
    let real = fs::canonicalize(real_root.join(path)).map_err(map)?;
    if !real.starts_with(&real_root) {
        return Err(FileError::Escape {
            path: path.to_owned(),
            why: "a link in it leads out of the policy's folder",
        });
    }
    check_regular(path, &fs::symlink_metadata(&real).map_err(map)?)?;
    let file = fs::File::open(&real).map_err(map)?;
    // Once more on what was opened: the name may have been given to something else in between.
    check_regular(path, &file.metadata().map_err(map)?)?;
    let mut data = Vec::new();
    file.take(limit + 1).read_to_end(&mut data).map_err(map)?;
    if data.len() as u64 > limit {
        return Err(FileError::TooLarge { path: path.to_owned(), limit });
    }
    Ok(data.into())
}

fn check_regular(path: &str, metadata: &fs::Metadata) -> Result<(), FileError> {
    let kind = metadata.file_type();
    if kind.is_file() {
        return Ok(());
    }
    Err(FileError::NotRegular {
        path: path.to_owned(),
        kind: if kind.is_dir() { "a directory" } else { "a FIFO, socket or device" },
    })
}

fn io_error(path: &str, error: &std::io::Error) -> FileError {
    FileError::Io { path: path.to_owned(), message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(path: &str) -> Result<String, String> {
        clean(path).map_err(|error| error.to_string())
    }

    #[test]
    fn paths_stay_inside() {
        assert_eq!(check("a/./b//c.json").as_deref(), Ok("a/b/c.json"));
        for (path, why) in [
            ("", "it is empty"),
            ("/etc/passwd", "it is absolute; paths are relative to the policy's folder"),
            ("../x", "it contains `..`"),
            ("a/../../x", "it contains `..`"),
            ("a\\..\\x", "it contains a NUL or a backslash"),
            ("a\0b", "it contains a NUL or a backslash"),
            ("./.", "it names the policy's folder itself"),
        ] {
            assert_eq!(check(path), Err(format!("policy file `{path}` is refused: {why}")));
        }
    }

    #[cfg(unix)]
    #[test]
    fn only_regular_files_below_the_root_are_read() {
        use std::os::unix::fs::symlink;
        let outside = tempfile::tempdir().unwrap();
        fs::write(outside.path().join("secret"), "s").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        fs::write(root.join("ok.json"), "{}").unwrap();
        fs::create_dir(root.join("sub")).unwrap();
        symlink(outside.path().join("secret"), root.join("leak")).unwrap();
        symlink("ok.json", root.join("alias")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        symlink("/dev/zero", root.join("zero")).unwrap();
        let fifo = root.join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let huge = fs::File::create(root.join("huge")).unwrap();
        huge.set_len(200 << 20).unwrap();

        let files = PolicyFiles::directory(root);
        let read = |path: &str| files.read(path, MAX_DATA).map_err(|error| error.to_string());
        assert_eq!(read("ok.json").as_deref(), Ok(&b"{}"[..]));
        assert_eq!(read("alias").as_deref(), Ok(&b"{}"[..]));
        assert_eq!(read("sub"), Err("policy file `sub` is a directory, not a regular file".into()));
        assert_eq!(
            read("fifo"),
            Err("policy file `fifo` is a FIFO, socket or device, not a regular file".into())
        );
        assert_eq!(read("huge"), Err("policy file `huge` is larger than 8388608 bytes".into()));
        for path in ["leak", "zero"] {
            assert_eq!(
                read(path),
                Err(format!(
                    "policy file `{path}` is refused: a link in it leads out of the policy's folder"
                ))
            );
        }
        assert!(read("loop").unwrap_err().starts_with("policy file `loop` cannot be read"));
        assert!(read("missing").unwrap_err().contains("does not exist"));
    }
}
