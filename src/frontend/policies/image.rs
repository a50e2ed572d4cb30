//! What an org has put into the frontend's image: policies, and whom signatures are trusted by.

use std::path::Path;
use std::sync::Arc;

use super::SetupError;
use crate::policy::{Policy, PolicyError};
use crate::trust;
use crate::verify::Trust;
use crate::verify::sigstore::TrustRoots;

/// The policies of the image: each folder below `root` is one, and the files in it form one too.
pub fn baked(root: &Path) -> Result<Vec<Policy>, SetupError> {
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

/// Whom signatures are trusted by: what is built in, and each `NAME.json` of a folder of the image.
pub fn trusted(folder: &Path) -> Result<Arc<Trust>, SetupError> {
    let path = folder.display().to_string();
    let wrong = |source| SetupError::Baked { path: path.clone(), source };
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Trust::embedded()),
        Err(error) => return Err(wrong(error)),
    };
    let mut roots = TrustRoots::embedded().map_err(|it| SetupError::Trust(it.into()))?;
    for entry in entries {
        let path = entry.map_err(wrong)?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let root = trust::read(&name, &path).map_err(|it| SetupError::Trust(it.into()))?;
        roots.insert(root).map_err(|it| SetupError::Trust(it.into()))?;
    }
    Ok(Arc::new(Trust::new(roots)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
