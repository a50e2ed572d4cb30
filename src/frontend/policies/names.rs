//! What a policy reads, told by its text: imports, and literals that look like the name of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bytes::Bytes;
use regex::Regex;

/// Files that the Rego files among these read.
pub fn named_by(files: &BTreeMap<String, Bytes>) -> BTreeSet<String> {
    files
        .iter()
        .filter(|(path, _)| path.ends_with(".rego"))
        .flat_map(|(_, content)| names_in(&String::from_utf8_lossy(content)))
        .collect()
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
}
