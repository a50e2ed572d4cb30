//! Git repositories, asked through `git` itself.
//!
//! `git ls-remote` tells what a reference names, chosen among branches and tags as BuildKit
//! chooses; the raw commit and tag objects come from a shallow fetch of that one reference,
//! without trees where the server can leave them out. A commit named by its full hash is its own
//! answer, and `git.checksum` is compared as BuildKit compares it.
//!
//! Credentials that only the daemon's client has (`git.auth…secret`) are not at hand: a repository
//! that wants some answers with an error that says so.

mod process;
mod refs;

use std::collections::BTreeMap;

use bytes::Bytes;

use self::process::{Git, Scratch, Transports};
use super::memo::Memo;
use super::transport::failed;
use crate::meta::{GitMeta, GitRequest, ResolveError};
use crate::source::GitSource;

/// Where the one reference that is fetched is kept.
const TARGET: &str = "refs/buildgate/target";

/// Git repositories, each reference asked for once.
pub(crate) struct Repositories {
    /// Bytes on disk that a fetch may take.
    limit: u64,
    transports: Transports,
    resolved: Memo<Wanted, GitMeta>,
    fetched: Memo<Wanted, GitMeta>,
}

/// A reference of a repository, and what changes how it is resolved.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Wanted {
    remote: String,
    reference: String,
    checksum: String,
    known_hosts: String,
    by_commit: bool,
    keep_git_dir: bool,
}

/// What a repository may not be, or answer.
#[derive(Debug, thiserror::Error)]
enum GitError {
    #[error("`{0}` is no reference that git may be given")]
    Reference(String),
    #[error("`{0}` is no URL that git may be given")]
    Remote(String),
    #[error("git.checksum `{0}` is no hex number")]
    Checksum(String),
    #[error("git.fetchbycommit needs a full commit hash as git.checksum or reference")]
    ByCommit,
    #[error("the repository does not say what its default branch is")]
    NoDefaultBranch,
    #[error("the repository answered with `{0}` instead of an object's hash")]
    NoHash(String),
    #[error("{reference} was {before}, and is {after} by now: try again")]
    Moved { reference: String, before: String, after: String },
    #[error("{hash} is a {kind}, not a commit or an annotated tag")]
    Kind { hash: String, kind: String },
}

impl Repositories {
    /// Repositories of which a fetch takes at most `limit` bytes.
    pub(crate) fn new(limit: u64) -> Self {
        Self {
            limit,
            transports: Transports::Network,
            resolved: Memo::default(),
            fetched: Memo::default(),
        }
    }

    /// Repositories on this machine's disk as well, for tests.
    #[cfg(test)]
    pub(crate) fn with_files(limit: u64) -> Self {
        Self { transports: Transports::NetworkAndFiles, ..Self::new(limit) }
    }

    /// What `request` asks for of `source`.
    ///
    /// # Errors
    /// When the repository cannot be read, lacks the reference, or contradicts `git.checksum`.
    pub(crate) async fn resolve(
        &self,
        source: &GitSource,
        attrs: &BTreeMap<String, String>,
        request: GitRequest,
    ) -> Result<GitMeta, ResolveError> {
        let wanted = Wanted::of(source, attrs);
        let what = wanted.what();
        if source.bundle.is_some() {
            return Err(ResolveError::Unsupported {
                what,
                why: "it is read from a bundle (git.bundle), which is a source of its own".into(),
            });
        }
        wanted.check().map_err(|error| failed(&what, error))?;
        let resolved = self.resolved.get(wanted.clone(), self.look_up(&what, &wanted)).await?;
        if !request.objects {
            return Ok(resolved);
        }
        self.fetched.get(wanted.clone(), self.objects(&what, &wanted, resolved)).await
    }

    async fn look_up(&self, what: &str, wanted: &Wanted) -> Result<GitMeta, ResolveError> {
        if is_hash(&wanted.reference) {
            let hash = wanted.reference.clone();
            if !hash.starts_with(&wanted.checksum) {
                return Err(mismatch(what, wanted, &hash));
            }
            return Ok(GitMeta { checksum: hash.clone(), reference: hash, ..GitMeta::default() });
        }
        if wanted.by_commit {
            return wanted.declared().map_err(|error| failed(what, error));
        }
        let git = self.git(what, wanted)?;
        let reference = match wanted.reference.as_str() {
            "" => {
                let head = ["ls-remote", "--symref", "--", &wanted.remote, "HEAD"];
                refs::default_branch(&git.run(&head).await?)
                    .ok_or_else(|| failed(what, GitError::NoDefaultBranch))?
            }
            reference => reference.to_owned(),
        };
        if reference.starts_with('-') {
            return Err(failed(what, GitError::Reference(reference)));
        }
        let peeled = format!("{reference}^{{}}");
        let listed = git.run(&["ls-remote", "--", &wanted.remote, &reference, &peeled]).await?;
        let found = refs::choose(&listed, &reference)
            .ok_or_else(|| ResolveError::NotFound { what: what.into() })?;
        if !is_hash(&found.hash) {
            return Err(failed(what, GitError::NoHash(found.hash)));
        }
        let peeled = found.peeled.filter(|peeled| is_hash(peeled));
        let declared = |hash: &str| hash.starts_with(&wanted.checksum);
        if !declared(&found.hash) && !peeled.as_deref().is_some_and(declared) {
            return Err(mismatch(what, wanted, &found.hash));
        }
        Ok(GitMeta {
            checksum: found.hash,
            reference: found.reference,
            commit_checksum: peeled.filter(|_| !wanted.keep_git_dir).unwrap_or_default(),
            commit_object: None,
            tag_object: None,
        })
    }

    /// Adds the raw objects to what was resolved.
    async fn objects(
        &self,
        what: &str,
        wanted: &Wanted,
        mut meta: GitMeta,
    ) -> Result<GitMeta, ResolveError> {
        let git = self.git(what, wanted)?;
        let format = if meta.checksum.len() == 64 { "sha256" } else { "sha1" };
        git.run(&["init", "--quiet", "--bare", &format!("--object-format={format}")]).await?;
        git.run(&["remote", "add", "--", "origin", &wanted.remote]).await?;
        self.fetch(&git, what, wanted, &meta).await?;
        let kind = git.line(&["cat-file", "-t", &meta.checksum]).await?;
        let commit = match kind.as_str() {
            "commit" => {
                meta.commit_checksum.clear();
                meta.checksum.clone()
            }
            "tag" => {
                let peeled = format!("{}^{{commit}}", meta.checksum);
                meta.commit_checksum =
                    git.line(&["rev-parse", "--verify", "--end-of-options", &peeled]).await?;
                let tag = git.run(&["cat-file", "tag", &meta.checksum]).await?;
                meta.tag_object = Some(Bytes::from(tag));
                meta.commit_checksum.clone()
            }
            _ => {
                let hash = meta.checksum;
                return Err(failed(what, GitError::Kind { hash, kind }));
            }
        };
        if !is_hash(&commit) {
            return Err(failed(what, GitError::NoHash(commit)));
        }
        let object = git.run(&["cat-file", "commit", &commit]).await?;
        meta.commit_object = Some(Bytes::from(object));
        Ok(meta)
    }

    /// Fetches what `meta` resolved to, and makes sure that it still is that.
    async fn fetch(
        &self,
        git: &Git<'_>,
        what: &str,
        wanted: &Wanted,
        meta: &GitMeta,
    ) -> Result<(), ResolveError> {
        const SHALLOW: [&str; 5] =
            ["fetch", "--quiet", "--no-recurse-submodules", "--depth=1", "--filter=tree:0"];
        let by_hash = wanted.by_commit || !meta.reference.starts_with("refs/");
        let refspec =
            if by_hash { meta.checksum.clone() } else { format!("+{}:{TARGET}", meta.reference) };
        let one = [&SHALLOW[..], &["--no-tags", "--", "origin", &refspec]].concat();
        let fetched = git.run(&one).await;
        if by_hash {
            // A server may refuse to hand out a commit by its hash: then it must be below a
            // branch or tag, and all of those are fetched, within the same limits.
            if let Err(ResolveError::Failed { .. } | ResolveError::NotFound { .. }) = fetched {
                let (heads, tags) = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*");
                let all = ["fetch", "--quiet", "--no-recurse-submodules", "--filter=tree:0"];
                let all = [&all[..], &["--no-tags", "--", "origin", heads, tags]].concat();
                git.run(&all).await?;
            } else {
                fetched?;
            }
            return Ok(());
        }
        fetched?;
        let after = git.line(&["rev-parse", "--verify", "--end-of-options", TARGET]).await?;
        if after == meta.checksum {
            return Ok(());
        }
        let (reference, before) = (meta.reference.clone(), meta.checksum.clone());
        Err(failed(what, GitError::Moved { reference, before, after }))
    }

    fn git<'a>(&self, what: &'a str, wanted: &Wanted) -> Result<Git<'a>, ResolveError> {
        let scratch = Scratch::new(&wanted.known_hosts).map_err(|error| failed(what, error))?;
        Ok(Git::new(what, scratch, self.transports, self.limit))
    }
}

impl Wanted {
    fn of(source: &GitSource, attrs: &BTreeMap<String, String>) -> Self {
        let is_set = |name: &str| attrs.get(name).is_some_and(|value| value == "true");
        Self {
            remote: source.full_url.clone().unwrap_or_else(|| source.remote.clone()),
            reference: source.reference.clone().unwrap_or_default(),
            checksum: source.declared_checksum.clone().unwrap_or_default(),
            known_hosts: attrs.get("git.knownsshhosts").cloned().unwrap_or_default(),
            by_commit: is_set("git.fetchbycommit"),
            keep_git_dir: is_set("git.keepgitdir"),
        }
    }

    /// Repository and reference as people write them, userinfo masked.
    fn what(&self) -> String {
        let remote = refs::masked(&self.remote);
        match self.reference.as_str() {
            "" => remote,
            reference => format!("{remote}#{reference}"),
        }
    }

    /// Refuses what git would take for an option, a local command or several arguments.
    fn check(&self) -> Result<(), GitError> {
        let hostile = |text: &str| text.starts_with('-') || text.chars().any(char::is_control);
        if self.remote.is_empty() || hostile(&self.remote) || self.remote.contains("::") {
            return Err(GitError::Remote(refs::masked(&self.remote)));
        }
        if hostile(&self.reference)
            || self.reference.contains([' ', '^', ':', '~', '?', '*', '[', '\\'])
        {
            return Err(GitError::Reference(self.reference.clone()));
        }
        if !self.checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(GitError::Checksum(self.checksum.clone()));
        }
        Ok(())
    }

    /// The answer of `git.fetchbycommit`: what was declared, canonical.
    fn declared(&self) -> Result<GitMeta, GitError> {
        if !is_hash(&self.checksum) {
            return Err(GitError::ByCommit);
        }
        let reference = match self.reference.as_str() {
            "" => self.checksum.clone(),
            full if full.starts_with("refs/") => full.to_owned(),
            short => format!("refs/heads/{short}"),
        };
        Ok(GitMeta { checksum: self.checksum.clone(), reference, ..GitMeta::default() })
    }
}

/// Whether `text` is a full object hash, SHA-1 or SHA-256, as BuildKit has it.
fn is_hash(text: &str) -> bool {
    let lower_hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    matches!(text.len(), 40 | 64) && text.bytes().all(lower_hex)
}

fn mismatch(what: &str, wanted: &Wanted, actual: &str) -> ResolveError {
    ResolveError::DigestMismatch {
        what: what.into(),
        expected: wanted.checksum.clone(),
        actual: actual.into(),
    }
}

#[cfg(test)]
mod tests;
