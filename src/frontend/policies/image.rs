//! What an org has put into the frontend's image: policies, and whom signatures are trusted by.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;

use super::SetupError;
use super::names::named_by;
use crate::policy::{MAX_REGO, Policy, PolicyError, PolicyFiles};
use crate::trust;
use crate::verify::sigstore::TrustRoots;
use crate::verify::{Github, Trust};

/// The policies of the image: each folder below `root` is one, and the rules that lie in it form one
/// too. An image without the folder, or with nothing in it, has none; anything that is there and is
/// no policy was meant to be one.
pub fn baked(root: &Path) -> Result<Vec<Policy>, SetupError> {
    let wrong = |path: &Path| {
        let path = path.display().to_string();
        move |source| SetupError::Baked { path, source }
    };
    match std::fs::symlink_metadata(root) {
        Ok(_) => {}
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(wrong(root)(error)),
    }
    let (mut folders, mut others, mut rules) = (Vec::new(), Vec::new(), BTreeMap::new());
    for entry in std::fs::read_dir(root).map_err(wrong(root))? {
        let path = entry.map_err(wrong(root))?.path();
        if std::fs::metadata(&path).map_err(wrong(&path))?.is_dir() {
            folders.push(path);
        } else if is_rules(&path) {
            let text = std::fs::read(&path).map_err(wrong(&path))?;
            rules.insert(name_of(&path), text.into());
        } else {
            others.push(path);
        }
    }
    folders.sort();
    others.sort();
    let idle = |path: &Path| SetupError::Idle { path: path.display().to_string() };
    let loose = !rules.is_empty();
    let read = read_by(rules, root)?;
    if let Some(other) = others.iter().find(|other| !reads_file(&read, other)) {
        return Err(idle(other));
    }
    let mut policies = Vec::new();
    if loose {
        policies.push(Policy::from_path(root)?);
    }
    for folder in folders {
        match Policy::from_path(&folder) {
            // Keys and data of the rules beside it.
            Err(PolicyError::Empty { .. }) if reads(&read, &folder) => {}
            Err(PolicyError::Empty { .. }) => return Err(idle(&folder)),
            other => policies.push(other?),
        }
    }
    Ok(policies)
}

/// Whether a policy that lies in the same folder consists of it: hidden files belong to none.
fn is_rules(path: &Path) -> bool {
    let name = name_of(path);
    name.ends_with(".rego") && !name.starts_with('.')
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Files below `root` that these rules read, and the rules that they import.
fn read_by(
    mut rules: BTreeMap<String, Bytes>,
    root: &Path,
) -> Result<BTreeSet<String>, regex::Error> {
    let files = PolicyFiles::directory(root);
    loop {
        let named = named_by(&rules)?;
        let known = rules.len();
        for name in named.iter().filter(|name| name.ends_with(".rego")) {
            // What cannot be read, the policy that imports it cannot be made of: it says so.
            if !rules.contains_key(name)
                && let Ok(text) = files.read(name, MAX_REGO)
            {
                rules.insert(name.clone(), text);
            }
        }
        if rules.len() == known {
            return Ok(named);
        }
    }
}

/// Whether this is one of these files; `*` stands for anything.
fn reads_file(files: &BTreeSet<String>, path: &Path) -> bool {
    let name = name_of(path);
    files.iter().any(|pattern| matches(pattern, &name))
}

fn matches(pattern: &str, name: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(start) else { return false };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let end = parts.pop().unwrap_or_default();
    for part in parts {
        let Some(at) = name.find(part) else { return false };
        name = &name[at + part.len()..];
    }
    name.ends_with(end)
}

/// Whether one of these files lies in the folder; `*` stands for anything.
fn reads(files: &BTreeSet<String>, folder: &Path) -> bool {
    let name = name_of(folder);
    let first = |file: &String| file.split_once('/').map(|(first, _)| first.to_owned());
    files.iter().filter_map(first).any(|first| first == name || first.contains('*'))
}

/// Whom signatures are trusted by: what is built in, and each `NAME.json` of a folder of the image. The
/// file `github-api` beside the folder holds the URL of GitHub's API, where it is not the public one.
pub fn trusted(folder: &Path) -> Result<Arc<Trust>, SetupError> {
    let path = folder.display().to_string();
    let wrong = |source| SetupError::Baked { path: path.clone(), source };
    let github = github(&folder.with_file_name("github-api"))?;
    let entries = match (std::fs::read_dir(folder), &github) {
        (Ok(entries), _) => Some(entries),
        (Err(error), None) if error.kind() == ErrorKind::NotFound => return Ok(Trust::embedded()),
        (Err(error), Some(_)) if error.kind() == ErrorKind::NotFound => None,
        (Err(error), _) => return Err(wrong(error)),
    };
    let mut roots = TrustRoots::embedded().map_err(|it| SetupError::Trust(it.into()))?;
    for entry in entries.into_iter().flatten() {
        let path = entry.map_err(wrong)?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let root = trust::read(&name, &path).map_err(|it| SetupError::Trust(it.into()))?;
        roots.insert(root).map_err(|it| SetupError::Trust(it.into()))?;
    }
    Ok(Arc::new(Trust::new(roots).with_github(github.unwrap_or_default())))
}

/// The GitHub that a file of the image names.
fn github(file: &Path) -> Result<Option<Github>, SetupError> {
    let path = || file.display().to_string();
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(SetupError::Baked { path: path(), source }),
    };
    let github = Github::at(text.trim());
    github.map(Some).map_err(|source| SetupError::Github { path: path(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: &str = "package docker\ndecision := {\"allow\": true}\n";

    /// How many policies there are with these files in the folder, which may be folders.
    fn check(files: &[(&str, &str)], wanted: Result<usize, &str>) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            match *text {
                "/" => std::fs::create_dir_all(path).unwrap(),
                text => std::fs::write(path, text).unwrap(),
            }
        }
        let got = baked(dir.path()).map(|it| it.len()).map_err(|error| {
            let SetupError::Idle { path } = error else { return error.to_string() };
            Path::new(&path).strip_prefix(dir.path()).unwrap().display().to_string()
        });
        assert_eq!(got, wanted.map_err(str::to_owned), "{files:?}");
    }

    #[test]
    fn folders_and_loose_files_are_policies() {
        let reading = "package docker\nkey := \"keys/a.asc\"\ndecision := {\"allow\": true}\n";
        check(&[], Ok(0));
        check(&[("org/policy.rego", RULE)], Ok(1));
        check(&[("org/policy.rego", RULE), ("loose.rego", RULE)], Ok(2));
        check(&[("loose.rego", reading), ("keys/a.asc", "")], Ok(1));
        let deep = "package docker\nimport data.lib.deep.x\ndecision := {\"allow\": true}\n";
        check(
            &[
                ("loose.rego", deep),
                ("loose_test.rego", "package docker\n"),
                ("lib/deep/x.rego", "package lib.deep.x\nours := load_json(\"ours.json\")\n"),
                ("ours.json", "[]"),
            ],
            Ok(1),
        );
    }

    /// Whoever put it there meant it to be a policy.
    #[test]
    fn what_is_no_policy_is_not_passed_over() {
        check(&[("policy.reg", RULE)], Err("policy.reg"));
        check(&[("org/policy.rego", RULE), ("policy.rego.txt", RULE)], Err("policy.rego.txt"));
        let reading = "package docker\n\
            ours := [load_json(\"ours.json\"), load_json(sprintf(\"of-%s.json\", [\"x\"]))]\n\
            decision := {\"allow\": true}\n";
        let beside = [("loose.rego", reading), ("ours.json", "[]"), ("of-x.json", "[]")];
        check(&beside, Ok(1));
        for other in ["README", "policy.reg", "other.json", ".hidden.rego", "of-x.yaml"] {
            check(&[&beside[..], &[(other, RULE)]].concat(), Err(other));
        }
        check(&[("org/policy.rego", RULE), (".hidden.rego", RULE)], Err(".hidden.rego"));
        check(&[("org", "/")], Err("org"));
        check(&[("org/policy.reg", RULE)], Err("org"));
        check(&[("loose.rego", RULE), ("org", "/")], Err("org"));
        check(&[("loose.rego", RULE), ("org/policy.reg", RULE)], Err("org"));
        check(&[("org/policy.rego", RULE), ("keys/a.asc", "")], Err("keys"));
    }

    #[test]
    fn the_image_names_trust_roots_and_a_github() {
        let forge =
            crate::verify::sigstore::tests::forge::Forge::new(10).trusted_root().to_string();
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("trust");
        let github = |text: &str| std::fs::write(dir.path().join("github-api"), text).unwrap();
        let trust = || trusted(&folder).map_err(|error| error.to_string());
        assert_eq!(*trust().unwrap().github(), Github::default());
        github("https://git.corp.example/api/v3/\n");
        assert_eq!(trust().unwrap().github().issuer, "https://git.corp.example/_services/token");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("ours.json"), &forge).unwrap();
        let both = trust().unwrap();
        assert_eq!(both.github().api, "https://git.corp.example/api/v3");
        assert!(both.root(Some("ours")).is_ok() && both.root(None).is_ok());
        for (text, words) in [
            ("", "is no API of GitHub"),
            ("http://git.corp.example/api/v3", "https is wanted"),
            ("https://a.example/ https://b.example/", "holds no blanks"),
        ] {
            github(text);
            let said = trust().unwrap_err();
            assert!(said.contains(words) && said.contains("github-api"), "{text}: {said}");
        }
        github("https://git.corp.example/api/v3");
        std::fs::write(folder.join("theirs.json"), "{}").unwrap();
        assert!(trust().unwrap_err().contains("theirs"), "a root that is none");
    }

    #[test]
    fn what_cannot_be_read_is_not_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(baked(&at("none")).unwrap().len(), 0);
        std::fs::write(at("file"), RULE).unwrap();
        std::os::unix::fs::symlink(at("gone"), at("link")).unwrap();
        std::fs::create_dir(at("folder")).unwrap();
        std::os::unix::fs::symlink(at("gone"), at("folder/link")).unwrap();
        for root in ["file", "file/below", "link", "folder"] {
            let read = baked(&at(root)).map(|it| it.len());
            assert!(matches!(read, Err(SetupError::Baked { .. })), "{root}: {read:?}");
        }
    }
}
