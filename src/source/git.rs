//! `git://`: a repository, a reference in it, and a directory below that.
//!
//! The identifier carries any transport BuildKit takes (`git://https://…`, `git://git@host:path`),
//! or none, which is `https`. The attribute `git.fullurl` says where the repository really is; the
//! reference and the directory are the identifier's.

use super::ambiguous::{self, Ambiguity};
use super::blob;
use super::digest::is_lower_hex;
use super::http;
use super::weburl::{UrlError, WebUrl, check_escapes};
use super::{GitSource, SourceError, SourceOp, mask};

/// Where the repository really is.
pub(super) const FULL_URL: &str = "git.fullurl";
/// The commit that the client declared.
pub(super) const CHECKSUM: &str = "git.checksum";
/// The blob that is read in place of the repository.
pub(super) const BUNDLE: &str = "git.bundle";

/// What git or BuildKit could not agree with a rule on, of one URL.
#[derive(Debug)]
pub(super) enum Problem {
    /// It is no URL.
    Url(UrlError),
    /// It is several.
    Ambiguous(Ambiguity),
}

/// A git URL in its parts.
#[derive(Debug)]
pub(super) struct GitUrl {
    /// `http`, `https`, `ssh` or `git`.
    pub scheme: String,
    /// Host with port, as written.
    pub host: String,
    /// Path, escapes undone.
    pub path: String,
    /// The URL without query and fragment.
    pub remote: String,
    /// Query as written.
    pub query: Option<String>,
    /// Before the fragment's `:`; empty where there is none.
    pub reference: String,
    /// After the fragment's `:`, cleaned; empty where there is none.
    pub subdir: String,
}

impl GitSource {
    /// The tag, where the reference is a full one (`refs/tags/…`).
    pub fn tag_name(&self) -> Option<&str> {
        self.reference.as_deref()?.strip_prefix("refs/tags/")
    }

    /// The branch, where the reference is a full one (`refs/heads/…`).
    pub fn branch(&self) -> Option<&str> {
        self.reference.as_deref()?.strip_prefix("refs/heads/")
    }

    /// The commit, where the reference is one.
    pub fn commit(&self) -> Option<&str> {
        self.reference.as_deref().filter(|reference| is_commit(reference))
    }
}

/// Whether `reference` is a whole commit id, SHA-1 or SHA-256.
pub fn is_commit(reference: &str) -> bool {
    matches!(reference.len(), 40 | 64) && reference.bytes().all(is_lower_hex)
}

/// Parses a source whose scheme is `git`; `rest` is the identifier without it.
pub(super) fn parse(op: &SourceOp, rest: &str) -> Result<GitSource, SourceError> {
    let url = GitUrl::parse(&with_transport(rest)).map_err(|problem| problem.of(&op.identifier))?;
    let full_url = op.attrs.get(FULL_URL).map(|text| with_transport(text));
    let full = match &full_url {
        Some(text) => Some(GitUrl::parse(text).map_err(|problem| problem.of(text))?),
        None => None,
    };
    let place = full.as_ref().unwrap_or(&url);
    let declared_checksum = parse_checksum(op)?;
    Ok(GitSource {
        scheme: place.scheme.clone(),
        host: place.host.clone(),
        remote: place.remote.clone(),
        bundle: parse_bundle(op, declared_checksum.is_some())?,
        declared_checksum,
        reference: Some(url.reference).filter(|reference| !reference.is_empty()),
        subdir: Some(url.subdir).filter(|subdir| !subdir.is_empty()),
        full_url,
    })
}

/// `text` with `https://` before it, where it names no transport of its own.
pub(super) fn with_transport(text: &str) -> String {
    if has_transport(text) { text.into() } else { format!("https://{text}") }
}

/// The scheme in front of `://`, lower case, where there is one of letters and digits.
pub(super) fn scheme_of(text: &str) -> Option<String> {
    let (scheme, _) = text.split_once("://")?;
    let named = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
    named.then(|| scheme.to_ascii_lowercase())
}

/// Whether git has this transport.
pub(super) fn is_transport(scheme: &str) -> bool {
    matches!(scheme, "http" | "https" | "ssh" | "git")
}

fn has_transport(text: &str) -> bool {
    match scheme_of(text) {
        Some(scheme) => is_transport(&scheme),
        None => split_scp(text).is_some(),
    }
}

/// The parts of `user@host:path`, with whatever follows in the path.
pub(super) fn split_scp(text: &str) -> Option<(&str, &str, &str)> {
    let (user, rest) = text.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    let named = |text: &str, more: &[u8]| {
        !text.is_empty()
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
    };
    (named(user, b"-_") && named(host, b"-.")).then_some((user, host, path))
}

impl GitUrl {
    /// Parses a URL with a transport, or `user@host:path`.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        http::check_text(text)?;
        let url = match scheme_of(text) {
            Some(scheme) if is_transport(&scheme) => Self::from_url(&WebUrl::parse(text)?)?,
            Some(_) => return Err(UrlError::NotGit.into()),
            None => Self::from_scp(text)?,
        };
        ambiguous::check_reference(&url.reference)?;
        Ok(url)
    }

    fn from_url(url: &WebUrl) -> Result<Self, Problem> {
        check_place(&url.hostname, &url.raw_path)?;
        let (reference, subdir) = split_fragment(&url.fragment)?;
        Ok(Self {
            scheme: url.scheme.clone(),
            host: url.host(),
            path: url.path.clone(),
            remote: url.without_query(),
            query: url.raw_query.clone(),
            reference,
            subdir,
        })
    }

    fn from_scp(text: &str) -> Result<Self, Problem> {
        let (user, host, rest) = split_scp(text).ok_or(UrlError::NotGit)?;
        let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
        let (path, query) = match rest.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (rest, None),
        };
        // Where Go cannot read the query, it takes the whole for something else.
        if query.is_some_and(|query| query.contains(';')) {
            return Err(UrlError::NotGit.into());
        }
        check_escapes(query.unwrap_or_default())?;
        for (part, text) in [("user", user), ("path", path)] {
            if text.starts_with('-') {
                return Err(Ambiguity::Option { part }.into());
            }
        }
        check_place(host, path)?;
        let (reference, subdir) = split_fragment(fragment)?;
        Ok(Self {
            scheme: "ssh".into(),
            host: host.into(),
            path: path.into(),
            remote: format!("{user}@{host}:{path}"),
            query: query.map(Into::into),
            reference,
            subdir,
        })
    }
}

/// Checks where the repository is: host without port, and path as written.
fn check_place(host: &str, path: &str) -> Result<(), Problem> {
    if host.is_empty() {
        return Err(UrlError::NoHost.into());
    }
    ambiguous::check_host(host)?;
    ambiguous::check_git_path(path)?;
    if host.is_ascii() {
        return Ok(());
    }
    // git hands the name to a library that maps it: a plain ASCII name must be written as such.
    let ascii = http::to_ascii(host)?;
    let labels = host.split('.').zip(ascii.split('.'));
    let honest = host.split('.').count() == ascii.split('.').count()
        && labels
            .into_iter()
            .all(|(written, meant)| written.is_ascii() || meant.starts_with("xn--"));
    if honest { Ok(()) } else { Err(Ambiguity::DisguisedHost { host: host.into(), ascii }.into()) }
}

/// `reference:directory`, the directory without empty and `.` segments.
fn split_fragment(fragment: &str) -> Result<(String, String), Ambiguity> {
    let (reference, subdir) = fragment.split_once(':').unwrap_or((fragment, ""));
    Ok((reference.into(), clean_subdir(subdir)?))
}

/// Checks a directory, and drops its empty and `.` segments as BuildKit does.
pub(super) fn clean_subdir(subdir: &str) -> Result<String, Ambiguity> {
    ambiguous::check_subdir(subdir)?;
    let segments = subdir.split('/').filter(|segment| !segment.is_empty() && *segment != ".");
    Ok(segments.collect::<Vec<_>>().join("/"))
}

fn parse_checksum(op: &SourceOp) -> Result<Option<String>, SourceError> {
    let Some(checksum) = op.attrs.get(CHECKSUM).filter(|checksum| !checksum.is_empty()) else {
        return Ok(None);
    };
    if checksum.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(checksum.clone()));
    }
    Err(SourceError::GitChecksum {
        identifier: mask::mask(&op.identifier),
        checksum: mask::mask(checksum),
    })
}

/// BuildKit demands a `sha256` digest and a declared commit; so that what is judged is what is read.
fn parse_bundle(op: &SourceOp, pinned: bool) -> Result<Option<String>, SourceError> {
    let Some(bundle) = op.attrs.get(BUNDLE).filter(|bundle| !bundle.is_empty()) else {
        return Ok(None);
    };
    let refuse = |source: Option<SourceError>| SourceError::GitBundle {
        identifier: mask::mask(&op.identifier),
        source: source.map(Box::new),
    };
    let blob = blob::parse_identifier(bundle).map_err(|error| refuse(Some(error)))?;
    if !pinned || !blob.digest.starts_with("sha256:") {
        return Err(refuse(None));
    }
    Ok(Some(bundle.clone()))
}

impl Problem {
    /// The error, of the source or attribute `text`.
    pub(super) fn of(self, text: &str) -> SourceError {
        let identifier = mask::mask(text);
        match self {
            Problem::Url(source) => SourceError::Url { identifier, source },
            Problem::Ambiguous(source) => SourceError::Ambiguous { identifier, source },
        }
    }
}

impl From<UrlError> for Problem {
    fn from(error: UrlError) -> Self {
        Problem::Url(error)
    }
}

impl From<Ambiguity> for Problem {
    fn from(error: Ambiguity) -> Self {
        Problem::Ambiguous(error)
    }
}

#[cfg(test)]
mod tests;
