//! Git sources as people write them: in a Dockerfile's `ADD`, as a build context, on the command line.
//!
//! Decides whether a text is one, as BuildKit's Dockerfile frontend does, and makes the source that
//! the frontend would. Takes `#reference:directory` and the query form (`?ref=…&subdir=…`).

use std::collections::BTreeMap;

use super::git::{self, GitUrl};
use super::http;
use super::weburl::check_escapes;
use super::{MAX_LENGTH, SourceError, SourceOp, ambiguous, mask};

/// A git source as it was written, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitUserSource {
    /// URL without query and fragment.
    pub remote: String,
    /// Host with port.
    pub host: String,
    /// Path on that host, escapes undone.
    pub path: String,
    /// Branch, tag, full reference or commit.
    pub reference: Option<String>,
    /// Directory below the root of the repository.
    pub subdir: Option<String>,
    /// Commit that the reference must lead to.
    pub checksum: Option<String>,
    /// Whether `.git` is kept; `None` where nothing is said of it.
    pub keep_git_dir: Option<bool>,
    /// Whether submodules are fetched; `None` where nothing is said of it.
    pub submodules: Option<bool>,
    /// `checkout` or `commit`.
    pub mtime: Option<String>,
    /// Whether the commit is fetched without asking the remote for the reference.
    pub fetch_by_commit: Option<bool>,
    /// Whether the text could be a local path as well.
    pub form: GitForm,
}

/// How a git source was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GitForm {
    /// As a URL, or `user@host:path`.
    Url,
    /// As `github.com/…`: a build context, but a path in a Dockerfile's `ADD` and `COPY`.
    LikePath,
}

/// A query that is not what BuildKit takes for a git source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GitQueryError {
    /// A parameter that BuildKit does not know.
    #[error("unknown parameter `{name}`; expected one of {KEYS}")]
    Unknown {
        /// Its name.
        name: String,
    },
    /// A parameter without a value.
    #[error("parameter `{name}` has no value")]
    NoValue {
        /// Its name.
        name: String,
    },
    /// A parameter given twice.
    #[error("parameter `{name}` is given more than once")]
    Repeated {
        /// Its name.
        name: String,
    },
    /// A value that is none for its parameter.
    #[error("parameter `{name}` has the value `{value}`; expected {expected}")]
    Value {
        /// Its name.
        name: &'static str,
        /// Its value.
        value: String,
        /// What would be accepted.
        expected: &'static str,
    },
    /// Two references, or two directories.
    #[error("two different values for the {what}: `{first}` and `{second}`")]
    Conflict {
        /// `reference` or `subdirectory`.
        what: &'static str,
        /// One.
        first: String,
        /// The other.
        second: String,
    },
    /// Something that would be dropped in silence.
    #[error(
        "`{pair}` has a `;` or a broken percent-escape; expected name=value pairs with & between"
    )]
    Malformed {
        /// The pair.
        pair: String,
    },
}

/// The parameters that BuildKit knows.
const KEYS: &str =
    "ref, tag, branch, subdir, checksum, commit, keep-git-dir, submodules, mtime, fetch-by-commit";

/// Takes `text` for a git source where the Dockerfile frontend would: `ssh://`, `git://`,
/// `user@host:path`, `github.com/…`, and `http(s)://` with a path that ends in `.git`.
///
/// # Errors
/// Where it is one, and is ambiguous or has a query that BuildKit would refuse.
pub fn parse_git_user(text: &str) -> Result<Option<GitUserSource>, SourceError> {
    if text.len() > MAX_LENGTH {
        return Err(SourceError::TooLong { length: text.len() });
    }
    let Some((url, form)) = classify(text)? else {
        return Ok(None);
    };
    let mut source = GitUserSource {
        remote: url.remote,
        host: url.host,
        path: url.path,
        reference: Some(url.reference).filter(|reference| !reference.is_empty()),
        subdir: Some(url.subdir).filter(|subdir| !subdir.is_empty()),
        checksum: None,
        keep_git_dir: None,
        submodules: None,
        mtime: None,
        fetch_by_commit: None,
        form,
    };
    let refuse = |source| SourceError::GitQuery { identifier: mask::mask(text), source };
    let too_many = |source| SourceError::Url { identifier: mask::mask(text), source };
    if let Some(query) = url.query.filter(|query| !query.is_empty()) {
        check_pairs(&query).map_err(refuse)?;
        let values = http::parse_query(&query).map_err(too_many)?;
        source.load(values).map_err(refuse)?;
        source.check().map_err(|problem| problem.of(text))?;
    }
    Ok(Some(source))
}

impl GitUserSource {
    /// The source that the Dockerfile frontend makes of it. The attributes that name secrets and
    /// SSH sockets are the client's, and not set.
    pub fn to_op(&self) -> SourceOp {
        let segments = self.path.split('/').filter(|part| !part.is_empty() && *part != ".");
        let path = segments.collect::<Vec<_>>().join("/");
        let mut identifier = format!("git://{}/{path}", self.host);
        if self.reference.is_some() || self.subdir.is_some() {
            identifier.push('#');
            identifier.push_str(self.reference.as_deref().unwrap_or_default());
        }
        if let Some(subdir) = &self.subdir {
            identifier.push(':');
            identifier.push_str(subdir);
        }
        let on = |flag: Option<bool>, wanted| (flag == Some(wanted)).then(|| "true".to_owned());
        let attrs = [
            (git::FULL_URL, Some(self.remote.clone())),
            (git::CHECKSUM, self.checksum.clone()),
            ("git.keepgitdir", on(self.keep_git_dir, true)),
            ("git.skipsubmodules", on(self.submodules, false)),
            ("git.mtime", self.mtime.clone()),
            ("git.fetchbycommit", on(self.fetch_by_commit, true)),
        ];
        let attrs = attrs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        SourceOp { identifier, attrs: attrs.collect() }
    }

    fn load(&mut self, values: BTreeMap<String, Vec<String>>) -> Result<(), GitQueryError> {
        let (mut tag, mut branch) = (None, None);
        for (name, values) in values {
            let [value] = values.as_slice() else {
                return Err(GitQueryError::Repeated { name: mask::part(&name) });
            };
            let flag = matches!(name.as_str(), "submodules" | "keep-git-dir" | "fetch-by-commit");
            let known = KEYS.split(", ").any(|key| key == name);
            if known && !flag && value.is_empty() {
                return Err(GitQueryError::NoValue { name });
            }
            let value = value.clone();
            match name.as_str() {
                "ref" => set("reference", &mut self.reference, value)?,
                "tag" => tag = Some(qualify("refs/tags/", value)),
                "branch" => branch = Some(qualify("refs/heads/", value)),
                "subdir" => set("subdirectory", &mut self.subdir, value)?,
                // BuildKit takes whichever of the two it comes to last: they must agree.
                "checksum" | "commit" => set("checksum", &mut self.checksum, value)?,
                "keep-git-dir" => self.keep_git_dir = Some(parse_bool("keep-git-dir", &value)?),
                "submodules" => self.submodules = Some(parse_bool("submodules", &value)?),
                "fetch-by-commit" => {
                    self.fetch_by_commit = Some(parse_bool("fetch-by-commit", &value)?);
                }
                "mtime" if matches!(value.as_str(), "checkout" | "commit") => {
                    self.mtime = Some(value);
                }
                "mtime" => {
                    let expected = "checkout or commit";
                    return Err(GitQueryError::Value {
                        name: "mtime",
                        value: mask::part(&value),
                        expected,
                    });
                }
                _ => {
                    return Err(GitQueryError::Unknown { name: mask::part(&name) });
                }
            }
        }
        for reference in [tag, branch].into_iter().flatten() {
            set("reference", &mut self.reference, reference)?;
        }
        Ok(())
    }

    /// Checks what came from the query as what stands in a fragment is checked.
    fn check(&mut self) -> Result<(), git::Problem> {
        ambiguous::check_reference(self.reference.as_deref().unwrap_or_default())?;
        if let Some(subdir) = &self.subdir {
            self.subdir = Some(git::clean_subdir(subdir)?).filter(|subdir| !subdir.is_empty());
        }
        Ok(())
    }
}

/// Parses `text` where it is a git source by its form.
fn classify(text: &str) -> Result<Option<(GitUrl, GitForm)>, SourceError> {
    if text.starts_with("./") || text.starts_with("../") {
        return Ok(None);
    }
    let broken = |problem: git::Problem| problem.of(text);
    if text.starts_with("github.com/") {
        let url = GitUrl::parse(&format!("https://{text}")).map_err(broken)?;
        return Ok(Some((url, GitForm::LikePath)));
    }
    let wanted = match git::scheme_of(text).as_deref() {
        Some("ssh" | "git") => true,
        Some("http" | "https") => path_of(text).ends_with(".git"),
        Some(_) => false,
        None => git::split_scp(text).is_some(),
    };
    if !wanted {
        return Ok(None);
    }
    Ok(Some((GitUrl::parse(text).map_err(broken)?, GitForm::Url)))
}

/// The path of a URL, escapes undone where they can be.
fn path_of(text: &str) -> String {
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let path = rest.split_once('/').map_or("", |(_, path)| path);
    percent_encoding::percent_decode_str(path).decode_utf8_lossy().into_owned()
}

/// Go drops such pairs in silence; here they are an error.
fn check_pairs(query: &str) -> Result<(), GitQueryError> {
    let broken = |pair: &&str| pair.contains(';') || check_escapes(pair).is_err();
    match query.split('&').find(broken) {
        Some(pair) => Err(GitQueryError::Malformed { pair: mask::part(pair) }),
        None => Ok(()),
    }
}

fn qualify(prefix: &str, name: String) -> String {
    if name.starts_with(prefix) { name } else { format!("{prefix}{name}") }
}

fn set(what: &'static str, slot: &mut Option<String>, value: String) -> Result<(), GitQueryError> {
    match slot.as_ref() {
        Some(first) if *first != value => Err(GitQueryError::Conflict {
            what,
            first: mask::part(first),
            second: mask::part(&value),
        }),
        Some(_) | None => {
            *slot = Some(value);
            Ok(())
        }
    }
}

/// The words that Go's `strconv.ParseBool` takes, and nothing for `true`.
fn parse_bool(name: &'static str, value: &str) -> Result<bool, GitQueryError> {
    match value {
        "" | "1" | "t" | "T" | "TRUE" | "true" | "True" => Ok(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Ok(false),
        other => {
            Err(GitQueryError::Value { name, value: mask::part(other), expected: "true or false" })
        }
    }
}

#[cfg(test)]
mod tests;
