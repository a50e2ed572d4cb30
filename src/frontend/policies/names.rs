//! What a policy reads, told by its text: imports, and literals that look like the name of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bytes::Bytes;
use regex::Regex;

/// What is looked for in the text of a policy.
struct Patterns {
    /// String literals.
    literal: Regex,
    import: Regex,
    /// A path with an extension; `%s` and its like stand for anything.
    file: Regex,
    verb: Regex,
}

static PATTERNS: LazyLock<Result<Patterns, regex::Error>> = LazyLock::new(|| {
    Ok(Patterns {
        literal: Regex::new(r#""((?:[^"\\\n]|\\.)*)"|`([^`]*)`"#)?,
        import: Regex::new(r"(?m)^\s*import\s+data\.([A-Za-z0-9_.]+)")?,
        file: Regex::new(r"^[A-Za-z0-9_%][A-Za-z0-9_.%+@ /-]{0,250}\.[A-Za-z0-9%]{1,10}$")?,
        verb: Regex::new(r"%[a-z]")?,
    })
});

/// Files that the Rego files among these read.
///
/// # Errors
/// When what is looked for is no pattern.
pub fn named_by(files: &BTreeMap<String, Bytes>) -> Result<BTreeSet<String>, regex::Error> {
    let patterns = PATTERNS.as_ref().map_err(Clone::clone)?;
    let rego = files.iter().filter(|(path, _)| path.ends_with(".rego"));
    Ok(rego.flat_map(|(_, content)| patterns.names_in(&String::from_utf8_lossy(content))).collect())
}

impl Patterns {
    /// Files that the text of a policy may read.
    fn names_in(&self, text: &str) -> BTreeSet<String> {
        let imported = self.import.captures_iter(text);
        let mut names: BTreeSet<String> =
            imported.map(|found| format!("{}.rego", found[1].replace('.', "/"))).collect();
        for found in self.literal.captures_iter(text) {
            let Some(text) = found.get(1).or(found.get(2)) else { continue };
            let text = text.as_str();
            if self.file.is_match(text) && !text.split('/').any(|part| part == "..") {
                names.insert(self.verb.replace_all(text, "*").into_owned());
            }
        }
        names
    }
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
        let files = [("Dockerfile.rego".to_owned(), text.into())].into();
        assert_eq!(named_by(&files).unwrap().into_iter().collect::<Vec<_>>(), wanted);
    }
}
