//! What a policy reads, told by its text: imports, what the builtins that read files are given, and
//! literals that look like the name of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bytes::Bytes;
use regex::{Captures, Regex};

/// What is looked for in the text of a policy.
struct Patterns {
    /// String literals.
    literal: Regex,
    import: Regex,
    /// What a builtin that reads files is given.
    call: Regex,
    /// An option of such a builtin that names who has signed, and no file.
    signer: Regex,
    /// The name of an object's member.
    member: Regex,
    /// A path.
    path: Regex,
    /// A path with an extension; `%s` and its like stand for anything.
    file: Regex,
    verb: Regex,
}

static PATTERNS: LazyLock<Result<Patterns, regex::Error>> = LazyLock::new(|| {
    Ok(Patterns {
        literal: Regex::new(r#""((?:[^"\\\n]|\\.)*)"|`([^`]*)`"#)?,
        import: Regex::new(r"(?m)^\s*import\s+data\.([A-Za-z0-9_.]+)")?,
        call: Regex::new(
            r"\b(?:load_json|artifact_attestation|verify_(?:git|http_pgp|image)_signature)\(([^()]*)\)",
        )?,
        signer: Regex::new(
            r#""(?:identity|issuer|trust_root)"\s*:\s*(?:"(?:[^"\\\n]|\\.)*"|`[^`]*`)"#,
        )?,
        member: Regex::new(r#""[^"]*"\s*:"#)?,
        path: Regex::new(r"^[A-Za-z0-9_%][A-Za-z0-9_.%+@ /-]{0,250}$")?,
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
        let without = |call: &Captures<'_>| self.signer.replace_all(&call[0], "").into_owned();
        let text = &self.call.replace_all(text, without);
        let imported = self.import.captures_iter(text);
        let mut names: BTreeSet<String> =
            imported.map(|found| format!("{}.rego", found[1].replace('.', "/"))).collect();
        names.extend(self.literals(text, &self.file));
        // `allowed_signers` is a file, too.
        for call in self.call.captures_iter(text) {
            let given = self.member.replace_all(&call[1], "");
            names.extend(self.literals(&given, &self.path));
        }
        names
    }

    /// Literals of such a form that lead out of no folder.
    fn literals<'t>(&'t self, text: &'t str, form: &'t Regex) -> impl Iterator<Item = String> + 't {
        let found = self.literal.captures_iter(text);
        let texts = found.filter_map(|found| Some(found.get(1).or(found.get(2))?.as_str()));
        let within = |text: &&str| !text.split('/').any(|part| part == "..");
        texts
            .filter(|text| form.is_match(text))
            .filter(within)
            .map(|text| self.verb.replace_all(text, "*").into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, wanted: &[&str]) {
        let files = [("Dockerfile.rego".to_owned(), Bytes::copy_from_slice(text.as_bytes()))];
        let named = named_by(&files.into()).unwrap();
        assert_eq!(named.into_iter().collect::<Vec<_>>(), wanted, "{text}");
    }

    /// Whoever asked for a folder by such a name would be sent all that is in it.
    #[test]
    fn who_has_signed_is_no_file() {
        let signed = |options: &str| format!("verify_image_signature(input.image, {{{options}}})");
        for (options, wanted) in [
            (r#""trust_root": "internal""#, &[][..]),
            (r#""identity":"build/release", "issuer" : "accounts.google.com""#, &[]),
            (r#""issuer": `accounts.google.com`, "identity": "a \"b\" c""#, &[]),
            (r#""trust_root": "internal", "key": "keys/cosign""#, &["keys/cosign"]),
            (r#""key": "internal", "trust_root": "internal""#, &["internal"]),
            (r#""key": `keys/a`, "identity": "keys/b""#, &["keys/a"]),
        ] {
            check(&signed(options), wanted);
        }
        check(r#"who := {"identity": "keys/a.pem"}"#, &["keys/a.pem"]);
    }

    #[test]
    fn a_policy_tells_what_it_reads() {
        let text = r#"package docker
            import data.lib.images as images
            keys := "keys/maintainers.asc"
            allowed := load_json(`config.json`)
            key := sprintf("keys/%s.pem", [name])
            signed if verify_git_signature(input.git.commit, "allowed_signers")
            known if verify_image_signature(input.image, {"key": "keys/cosign"})
            out if load_json("../secret")
            never := ["../secret.json", "/etc/passwd.txt", "node_modules", "*.*", "a b"]
        "#;
        let wanted = [
            "allowed_signers",
            "config.json",
            "keys/*.pem",
            "keys/cosign",
            "keys/maintainers.asc",
            "lib/images.rego",
        ];
        check(text, &wanted);
    }
}
