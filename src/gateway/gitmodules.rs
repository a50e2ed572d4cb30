//! What git reads to find submodules: `.gitmodules`, the links in the index, relative URLs.
//!
//! Read as git does where git is plain, and refused where two readers could differ: versions of git
//! end a value at NUL, or make a space of what is white space to them.

use std::collections::BTreeMap;

/// What separates words for every version of git.
const BLANK: [char; 2] = [' ', '\t'];
/// Mode of an index entry that links to a commit.
const LINK: u32 = 0o160_000;

/// Something that only git could read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum GitError {
    /// A line of `.gitmodules`.
    #[error("line {line} is not of the form that can be judged: {why}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
    /// It is no text.
    #[error("it is no text: {0}")]
    Text(#[from] std::str::Utf8Error),
    /// The index is none that is known.
    #[error("it is of an unknown form")]
    Index,
    /// A relative URL that leads out of the repository's own.
    #[error("`{url}` leads out of its repository's URL")]
    Relative {
        /// The URL.
        url: String,
    },
}

/// The URL of each submodule, by its path.
///
/// # Errors
/// When a line is of a form that only git reads, or a key is given twice.
pub(super) fn modules(text: &[u8]) -> Result<BTreeMap<String, String>, GitError> {
    let text = std::str::from_utf8(text)?;
    let mut section: Option<String> = None;
    let mut found: BTreeMap<String, (Option<String>, Option<String>)> = BTreeMap::new();
    for (at, line) in text.lines().enumerate() {
        let wrong = |why| GitError::Line { line: at + 1, why };
        if line.contains(|it: char| it.is_control() && it != '\t') {
            return Err(wrong("a control character"));
        }
        let line = line.trim_matches(BLANK);
        if line.is_empty() || line.starts_with(['#', ';']) {
            continue;
        }
        if line.contains(|it: char| it.is_whitespace() && !BLANK.contains(&it)) {
            return Err(wrong("white space that is not ASCII"));
        }
        if let Some(header) = line.strip_prefix('[') {
            let header = header.strip_suffix(']').ok_or(wrong("text behind a section"))?;
            section = Some(name(header).ok_or(wrong("a section that is no submodule"))?);
            continue;
        }
        let section = section.as_ref().ok_or(wrong("a key outside of a section"))?;
        let (key, value) = line.split_once('=').ok_or(wrong("a key without a value"))?;
        let value = plain(value.trim_matches(BLANK));
        let value = value.ok_or(wrong("a value with quotes, comments or tabs"))?;
        let key = key.trim_end_matches(BLANK);
        if !key.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'-') {
            return Err(wrong("a key of other characters than git's"));
        }
        let entry = found.entry(section.clone()).or_default();
        let slot = match key.to_ascii_lowercase().as_str() {
            "path" => &mut entry.0,
            "url" => &mut entry.1,
            _ => continue,
        };
        if slot.replace(value.to_owned()).is_some() {
            return Err(wrong("a key that is given twice"));
        }
    }
    let mut urls = BTreeMap::new();
    for (path, url) in found.into_values() {
        let (Some(path), Some(url)) = (path, url) else { continue };
        if urls.insert(path, url).is_some() {
            return Err(GitError::Line { line: 0, why: "two submodules at one path" });
        }
    }
    Ok(urls)
}

/// The name in `submodule "name"`.
fn name(header: &str) -> Option<String> {
    let (kind, name) = header.split_once(BLANK)?;
    let name = name.trim_start_matches(BLANK).strip_prefix('"')?.strip_suffix('"')?;
    let simple = !name.contains(['"', '\\', '\t']);
    (kind.eq_ignore_ascii_case("submodule") && simple).then(|| name.to_owned())
}

/// A value that means itself; quotes around all of it are taken off.
fn plain(value: &str) -> Option<&str> {
    let inner = value.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    let value = inner.unwrap_or(value);
    let comment = inner.is_none() && value.contains(['#', ';']);
    (!comment && !value.contains(['"', '\\', '\t'])).then_some(value)
}

/// The commits that an index (version 2 or 3) links to, by path.
///
/// # Errors
/// When it is of another version, or cut off.
pub(super) fn links(index: &[u8]) -> Result<BTreeMap<String, String>, GitError> {
    let read = |at: usize, length: usize| index.get(at..at + length).ok_or(GitError::Index);
    let number = |at: usize| -> Result<usize, GitError> {
        let bytes = read(at, 4)?.try_into().map_err(|_| GitError::Index)?;
        usize::try_from(u32::from_be_bytes(bytes)).map_err(|_| GitError::Index)
    };
    if read(0, 4)? != b"DIRC" || !matches!(number(4)?, 2 | 3) {
        return Err(GitError::Index);
    }
    let mut at = 12;
    let mut links = BTreeMap::new();
    for _ in 0..number(8)? {
        let mode = u32::try_from(number(at + 24)?).map_err(|_| GitError::Index)?;
        let object = hex::encode(read(at + 40, 20)?);
        let flags = read(at + 60, 2)?;
        let extended = flags.first().is_some_and(|flags| flags & 0x40 != 0);
        let name = at + if extended { 64 } else { 62 };
        let rest = index.get(name..).ok_or(GitError::Index)?;
        let length = rest.iter().position(|byte| *byte == 0).ok_or(GitError::Index)?;
        if mode == LINK {
            let path = rest.get(..length).unwrap_or_default().to_vec();
            links.insert(String::from_utf8(path).map_err(|_| GitError::Index)?, object);
        }
        // One to eight zeros make the entry's length a multiple of eight.
        at += (name - at + length) / 8 * 8 + 8;
    }
    Ok(links)
}

/// The URL of a submodule, relative to its repository's where it says so, as git resolves it.
///
/// # Errors
/// When it leads above the host.
pub(super) fn relative(remote: &str, url: &str) -> Result<String, GitError> {
    if !url.starts_with("./") && !url.starts_with("../") {
        return Ok(url.to_owned());
    }
    let out = || GitError::Relative { url: url.to_owned() };
    let mut base = remote.trim_end_matches('/');
    let mut rest = url;
    let mut separator = '/';
    loop {
        if let Some(below) = rest.strip_prefix("../") {
            let cut = match base.rfind('/') {
                Some(cut) => cut,
                None => {
                    separator = ':';
                    base.rfind(':').ok_or_else(out)?
                }
            };
            base = &base[..cut];
            rest = below;
        } else if let Some(same) = rest.strip_prefix("./") {
            rest = same;
        } else {
            break;
        }
    }
    // What is left must still name the host, or the next part would become it.
    let host = base.split_once("://").is_some_and(|(_, host)| !host.is_empty());
    let scp = !base.contains("://") && base.contains('@');
    if !host && !scp {
        return Err(out());
    }
    Ok(format!("{base}{separator}{}", rest.trim_end_matches('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_files_are_read_and_others_refused() {
        for (text, wanted) in [
            ("", Some(vec![])),
            ("[submodule \"a\"]\n\tpath = a\n\turl = ../a.git\n", Some(vec![("a", "../a.git")])),
            (
                "# c\n[SubModule \"x y\"]\npath=\"l x\"\nURL=https://h/a\nbranch = main\n",
                Some(vec![("l x", "https://h/a")]),
            ),
            ("[submodule \"a\"]\n\tpath = a\n", Some(vec![])),
            ("[submodule \"a\"]\npath = a\nurl = x\nurl = y\n", None),
            ("[submodule \"a\"]\npath = a\nurl = x\n[submodule \"b\"]\npath = a\nurl = y\n", None),
            ("[submodule \"a\"] path = a\n", None),
            ("[submodule.a]\npath = a\n", None),
            ("[include]\npath = other\n", None),
            ("path = a\n", None),
            ("[submodule \"a\"]\nurl = a\\\nb\n", None),
            ("[submodule \"a\"]\nurl = \"a\"b\n", None),
            ("[submodule \"a\"]\nurl = a # b\n", None),
            (
                "# \u{a0}\r\n[submodule \"a\"]\r\npath = \u{e9}\r\nurl=u\r\n",
                Some(vec![("\u{e9}", "u")]),
            ),
            // Git takes these for `lib\u{a0}`, `v\x0b`, `a b` and `n`.
            ("[submodule \"a\"]\npath = lib\u{a0}\nurl = u\n", None),
            ("[submodule \"a\"]\npath = v\u{b}\nurl = u\n", None),
            ("[submodule \"a\"]\npath = a\tb\nurl = u\n", None),
            ("[submodule \"a\"]\npath = \"a\tb\"\nurl = u\n", None),
            ("[submodule \"a\"]\npath = n\0tail\nurl = u\n", None),
            ("[submodule \"a\"]\npath = a\nurl = u\u{2028}\n", None),
            ("[submodule \"a\"]\npath = a\u{85}\nurl = u\n", None),
            ("\u{3000}[submodule \"a\"]\npath = a\nurl = u\n", None),
            ("[submodule\u{a0}\"a\"]\npath = a\nurl = u\n", None),
            ("[submodule \"a\"]\npath\u{a0}= a\nurl = u\n", None),
            ("[submodule \"a\"]\npa.th = a\n", None),
            ("[submodule \"a\"]\r[submodule \"b\"]\npath = a\n", None),
        ] {
            let got = modules(text.as_bytes()).ok();
            let wanted = wanted.map(|pairs| {
                pairs.into_iter().map(|(p, u)| (p.to_owned(), u.to_owned())).collect()
            });
            assert_eq!(got, wanted, "{text}");
        }
    }

    #[test]
    fn urls_are_resolved_as_git_does() {
        for (remote, url, wanted) in [
            ("https://h/o/a.git", "../b.git", Some("https://h/o/b.git")),
            ("https://h/o/a.git/", "./../b.git/", Some("https://h/o/b.git")),
            ("https://h/o/a.git", "./b", Some("https://h/o/a.git/b")),
            ("https://h/o/a.git", "../../b", Some("https://h/b")),
            ("https://h/o/a.git", "../../../evil/b", None),
            ("https://h/o/a.git", "../../../../b", None),
            ("git@h:o/a.git", "../b.git", Some("git@h:o/b.git")),
            ("git@h:a.git", "../b.git", Some("git@h:b.git")),
            ("git@h:a.git", "../../b.git", None),
            ("https://h/a", "https://o/b", Some("https://o/b")),
            ("https://h/a", "/b", Some("/b")),
        ] {
            assert_eq!(relative(remote, url).ok().as_deref(), wanted, "{remote} {url}");
        }
    }

    #[test]
    fn links_are_those_of_the_index() {
        let entry = |mode: u32, name: &str| {
            let mut entry = vec![0; 62];
            entry[24..28].copy_from_slice(&mode.to_be_bytes());
            entry[40..60].fill(0xab);
            entry.extend_from_slice(name.as_bytes());
            entry.resize(entry.len() / 8 * 8 + 8, 0);
            entry
        };
        let index = |version: u32, entries: &[Vec<u8>]| {
            let count = u32::try_from(entries.len()).unwrap();
            let head = [b"DIRC".as_slice(), &version.to_be_bytes(), &count.to_be_bytes()].concat();
            [head, entries.concat()].concat()
        };
        let entries = [entry(0o100_644, ".gitmodules"), entry(LINK, "lib"), entry(LINK, "x/12345")];
        let wanted = ["lib", "x/12345"].map(|path| (path.to_owned(), "ab".repeat(20)));
        assert_eq!(links(&index(2, &entries)), Ok(wanted.into()));
        assert_eq!(links(&index(4, &entries)), Err(GitError::Index));
        let whole = index(2, &entries);
        assert_eq!(links(&whole[..whole.len() - 12]), Err(GitError::Index));
        assert_eq!(links(b""), Err(GitError::Index));
    }
}
