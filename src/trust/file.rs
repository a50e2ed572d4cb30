//! Trust roots in files.

use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};

use crate::verify::sigstore::{MAX_TRUST_ROOT, TrustRoot, TrustRootError, UpdatedRoot};

/// A trust root that cannot be read from a file, or written to one.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The file cannot be read.
    #[error("{path} cannot be read")]
    Read {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be written.
    #[error("{path} cannot be written")]
    Write {
        /// Its path.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be written as JSON.
    #[error("{path} cannot be written")]
    Json {
        /// Its path.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// It holds no trust root.
    #[error("{path}: {source}")]
    Root {
        /// Its path.
        path: String,
        /// Why not.
        source: TrustRootError,
    },
}

/// Reads the trust root `name` from a file of either form.
///
/// # Errors
/// When it cannot be read, or holds none.
pub fn read(name: &str, path: &Path) -> Result<TrustRoot, FileError> {
    let shown = || path.display().to_string();
    let mut data = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_TRUST_ROOT as u64 + 1).read_to_end(&mut data))
        .map_err(|source| FileError::Read { path: shown(), source })?;
    TrustRoot::parse(name, &data).map_err(|source| FileError::Root { path: shown(), source })
}

/// What an earlier update has written to a file; `None` where there is no file, or something else.
///
/// # Errors
/// When the file is there and cannot be read.
pub fn before(path: &Path) -> Result<Option<UpdatedRoot>, FileError> {
    let unreadable = |source| FileError::Read { path: path.display().to_string(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unreadable(error)),
    };
    let mut data = Vec::new();
    file.take(MAX_TRUST_ROOT as u64 + 1).read_to_end(&mut data).map_err(unreadable)?;
    // What is no update of ours remembers nothing, and is replaced as any file is.
    let found: Option<UpdatedRoot> = serde_json::from_slice(&data).ok();
    Ok(found.filter(UpdatedRoot::is_one))
}

/// Writes a trust root: whoever reads the file meanwhile sees the old one whole or the new one whole.
///
/// # Errors
/// When it cannot be written; then what stood there still does.
pub fn write(root: &UpdatedRoot, path: &Path) -> Result<(), FileError> {
    let shown = || path.display().to_string();
    let mut text = serde_json::to_string_pretty(root)
        .map_err(|source| FileError::Json { path: shown(), source })?;
    text.push('\n');
    let beside = beside(path);
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(&beside)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&beside, path));
    written.map_err(|source| {
        // What is left of it is of no use, and may be of somebody else: then it stays.
        if source.kind() != std::io::ErrorKind::AlreadyExists {
            let _ = fs::remove_file(&beside);
        }
        FileError::Write { path: shown(), source }
    })
}

/// A name in the same folder, which a rename does not leave.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}.new", std::process::id()))
}
