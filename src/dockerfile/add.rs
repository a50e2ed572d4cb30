//! `ADD`: which of its sources are repositories, which are URLs, and which are files of the context.

use std::sync::Arc;

use super::Options;
use super::context::{git_error, with_advice};
use super::error::Problem;
use super::instruction::Add;
use super::variables::Word;
use crate::source::{Digest, GitForm, GitUserSource, SourceOp, parse_git_user};

/// One source of an `ADD`.
pub(super) struct Added {
    /// None where it is a file of the context.
    pub(super) op: Option<SourceOp>,
    /// As written.
    pub(super) text: String,
    /// A variable in it that the base image may set.
    pub(super) uncertain: Option<Arc<str>>,
}

/// The sources of an `ADD`.
pub(super) fn add_op(
    add: &Add,
    options: &Options,
    expand: impl Fn(&str) -> Result<Word, Problem>,
) -> Result<Vec<Added>, Problem> {
    let checksum = expand(&add.checksum)?;
    let mut words = Vec::new();
    for source in &add.sources {
        words.push((source, expand(source)?));
    }
    if !checksum.text.is_empty() {
        check_checksum(&words)?;
    }
    let mut state = Flags { checksum: checksum.text, keep_git_dir: add.keep_git_dir };
    words
        .into_iter()
        .map(|(text, word)| {
            let uncertain = word.uncertain.or_else(|| checksum.uncertain.clone());
            let op = state.op(&word.text, options)?;
            Ok(Added { op, text: text.clone(), uncertain })
        })
        .collect()
}

fn check_checksum(words: &[(&String, Word)]) -> Result<(), Problem> {
    let refuse = |reason: &str| Err(Problem::Checksum { reason: reason.to_owned() });
    match words {
        [(_, word)] if git(&word.text)?.is_some() || is_url(&word.text) => Ok(()),
        [_] => refuse("it requires an HTTP(S) or git source"),
        _ => refuse("it can't be specified for multiple sources"),
    }
}

/// What flags say; a git URL's query may say it for the sources after it as well.
struct Flags {
    checksum: String,
    keep_git_dir: Option<bool>,
}

impl Flags {
    fn op(&mut self, source: &str, options: &Options) -> Result<Option<SourceOp>, Problem> {
        if let Some(git) = git(source)? {
            return self.git(git).map(|op| Some(with_advice(op, options)));
        }
        if !is_url(source) {
            return Ok(None);
        }
        let mut op = SourceOp::new(source);
        op.attrs.insert("http.filename".into(), file_name(source));
        if !self.checksum.is_empty() {
            let digest: Digest = self.checksum.parse().map_err(|error| Problem::Checksum {
                reason: format!("{:?} is no digest: {error}", self.checksum),
            })?;
            op.attrs.insert("http.checksum".into(), digest.to_string());
        }
        Ok(Some(op))
    }

    fn git(&mut self, mut git: GitUserSource) -> Result<SourceOp, Problem> {
        if let (Some(flag), Some(query)) = (self.keep_git_dir, git.keep_git_dir)
            && flag != query
        {
            return Err(Problem::KeepGitDir);
        }
        self.keep_git_dir = git.keep_git_dir.or(self.keep_git_dir);
        if let Some(query) = &git.checksum {
            if !self.checksum.is_empty() && self.checksum != *query {
                let reason = format!("{:?} is not the URL's {query:?}", self.checksum);
                return Err(Problem::Checksum { reason });
            }
            self.checksum.clone_from(query);
        }
        git.keep_git_dir = self.keep_git_dir;
        git.checksum = Some(self.checksum.clone()).filter(|checksum| !checksum.is_empty());
        // `ADD` leaves times alone, whatever the query says.
        git.mtime = None;
        Ok(git.to_op())
    }
}

/// `COPY` takes files only.
pub(super) fn refuse_remote_copy(source: &str) -> Result<(), Problem> {
    if git(source)?.is_some() {
        return Err(Problem::RemoteCopy { kind: "git ref" });
    }
    if is_url(source) {
        return Err(Problem::RemoteCopy { kind: "URL" });
    }
    Ok(())
}

fn git(source: &str) -> Result<Option<GitUserSource>, Problem> {
    let found = parse_git_user(source).map_err(git_error)?;
    Ok(found.filter(|git| git.form != GitForm::LikePath))
}

fn is_url(source: &str) -> bool {
    source.starts_with("http://") || source.starts_with("https://")
}

/// The last element of a URL's path, as Go's `path.Base` has it.
fn file_name(url: &str) -> String {
    const UNNAMED: &str = "__unnamed__";
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let Some((_, path)) = rest.split_once('/') else {
        return UNNAMED.into();
    };
    let decoded = percent_encoding::percent_decode_str(path).decode_utf8_lossy();
    let base = decoded.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
    if matches!(base, "" | ".") { UNNAMED.into() } else { base.to_owned() }
}
