//! What `git ls-remote` says, and which line of it a reference means.

/// The line that a reference means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// The object it names.
    pub hash: String,
    /// Its full name.
    pub reference: String,
    /// The commit behind an annotated tag.
    pub peeled: Option<String>,
}

/// Chooses as BuildKit does: the name below `refs/`, then a branch, then a tag.
pub(super) fn choose(listed: &[u8], reference: &str) -> Option<Found> {
    let below =
        |folder: &str| format!("{folder}{}", reference.strip_prefix(folder).unwrap_or(reference));
    let (full, branch, tag) = (below("refs/"), below("refs/heads/"), below("refs/tags/"));
    let hash_of =
        |name: &str| lines(listed).find(|(_, found)| *found == name).map(|(hash, _)| hash);
    let found = |hash: &str, reference: &str, peeled: Option<&str>| Found {
        hash: hash.to_owned(),
        reference: reference.to_owned(),
        peeled: peeled.map(str::to_owned),
    };
    // A full name of a tag is a tag's, so that its commit is told along.
    if full != tag
        && let Some(hash) = hash_of(&full)
    {
        return Some(found(hash, &full, None));
    }
    if let Some(hash) = hash_of(&branch) {
        return Some(found(hash, &branch, None));
    }
    let hash = hash_of(&tag)?;
    Some(found(hash, &tag, hash_of(&format!("{tag}^{{}}"))))
}

/// The default branch in what `ls-remote --symref … HEAD` says.
pub(super) fn default_branch(listed: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(listed).ok()?;
    let symref = text.lines().find_map(|line| line.strip_prefix("ref: "))?;
    let (target, _) = symref.split_once('\t')?;
    target.strip_prefix("refs/heads/").map(|_| target.to_owned())
}

/// A remote for people: what stands before `@` is masked, and a query left out.
pub(super) fn masked(remote: &str) -> String {
    let remote = remote.split('?').next().unwrap_or(remote);
    let (scheme, rest) = match remote.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), remote),
    };
    let end = rest.find('/').unwrap_or(rest.len());
    match rest.get(..end).and_then(|authority| authority.rfind('@')) {
        Some(at) if scheme.is_empty() || !rest.starts_with("git@") => {
            let user = if rest.starts_with("git@") { "git" } else { "***" };
            format!("{scheme}{user}{}", rest.get(at..).unwrap_or(""))
        }
        _ => format!("{scheme}{rest}"),
    }
}

fn lines(listed: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    listed
        .split(|byte| *byte == b'\n')
        .filter_map(|line| std::str::from_utf8(line).ok())
        .filter_map(|line| line.split_once('\t'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_means_one_line() {
        let all = "1\trefs/heads/x\n2\trefs/tags/x\n3\trefs/tags/x^{}\n4\trefs/x\n\
                   5\trefs/heads/refs/tags/y\n6\trefs/tags/y\n7\trefs/tags/y^{}\n\
                   8\trefs/pull/1/head\n9\trefs/heads/release/1\n";
        let cases = [
            ("x", Some(("4", "refs/x", None))),
            ("refs/heads/x", Some(("1", "refs/heads/x", None))),
            ("heads/x", Some(("1", "refs/heads/x", None))),
            ("refs/tags/x", Some(("2", "refs/tags/x", Some("3")))),
            ("tags/x", Some(("2", "refs/tags/x", None))),
            ("y", Some(("6", "refs/tags/y", Some("7")))),
            // BuildKit reads the branch of that odd name first, too.
            ("refs/tags/y", Some(("5", "refs/heads/refs/tags/y", None))),
            ("refs/pull/1/head", Some(("8", "refs/pull/1/head", None))),
            ("release/1", Some(("9", "refs/heads/release/1", None))),
            ("1", None),
            ("", None),
        ];
        for (reference, expected) in cases {
            let expected = expected.map(|(hash, reference, peeled)| Found {
                hash: hash.into(),
                reference: reference.into(),
                peeled: peeled.map(str::to_owned),
            });
            assert_eq!(choose(all.as_bytes(), reference), expected, "{reference}");
        }
    }

    #[test]
    fn the_default_branch_is_a_symbolic_ref() {
        let cases = [
            ("ref: refs/heads/main\tHEAD\nabc\tHEAD\n", Some("refs/heads/main")),
            ("abc\tHEAD\n", None),
            ("ref: refs/tags/v1\tHEAD\n", None),
            ("", None),
        ];
        for (listed, expected) in cases {
            assert_eq!(default_branch(listed.as_bytes()).as_deref(), expected, "{listed}");
        }
    }

    #[test]
    fn secrets_in_remotes_are_masked() {
        let cases = [
            ("https://user:secret@host/x.git", "https://***@host/x.git"),
            ("https://host/x@y.git?token=1", "https://host/x@y.git"),
            ("ssh://git@host/x", "ssh://git@host/x"),
            ("git@host:x.git", "git@host:x.git"),
            ("me:secret@host:x.git", "***@host:x.git"),
        ];
        for (remote, expected) in cases {
            assert_eq!(masked(remote), expected);
        }
    }
}
