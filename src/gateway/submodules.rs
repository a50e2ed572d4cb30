//! Submodules: the daemon fetches them from wherever an allowed repository says, and asks nobody.
//!
//! So an allowed repository is looked into before the build gets it, at the commit that the build
//! will get. Whoever judges submodules judges each as a git source at the commit that the
//! repository links to, and so do theirs; whoever does not refuses what has any.
//!
//! What the daemon's git fetches is fixed by that: `.gitmodules` and the links are content of a
//! commit that is pinned, and what git takes from a submodule's URL is the commit of the link. Not
//! fixed is where it asks, once a build before gave a submodule of that name another URL: the daemon
//! keeps its clone, and git remembers.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin as Boxed;

use super::gitmodules::{links, modules, relative};
use super::pin::{GIT_CHECKSUM as CHECKSUM, is_whole_object};
use super::{Gateway, ReadError, Tree, pinned};
use crate::check::Pin;
use crate::meta::{GitRequest, MetaRequest, ResolveSourceMeta};
use crate::source::{GitSource, Source, SourceOp};

/// Attribute of a repository that is fetched without its submodules.
const SKIP: &str = "git.skipsubmodules";
/// Attribute of a repository that comes with its `.git`, where the links are.
const KEEP: &str = "git.keepgitdir";
/// Attribute of the URL that git is given.
const FULL_URL: &str = "git.fullurl";
/// Attributes of how SSH is spoken, with its submodules' hosts as with a repository's own.
const SSH: [&str; 2] = ["git.knownsshhosts", "git.mountsshsock"];
/// Attributes of secrets that only the host of the repository may see.
const SECRETS: [&str; 2] = ["git.authtokensecret", "git.authheadersecret"];
/// Digits of an object's name. The index of a repository with longer ones has another form.
const SHA1: usize = 40;
/// Most bytes of `.gitmodules`.
const MAX_TEXT: u64 = 1 << 20;
/// Most bytes of an index: some 80,000 files.
const MAX_INDEX: u64 = 8 << 20;
/// Most submodules of one repository, theirs included.
const MAX_SUBMODULES: usize = 64;

/// Who judges submodules.
pub trait JudgeSubmodule: Send + Sync {
    /// Judges one, as a git source of its own.
    ///
    /// An `Err` says why it is refused.
    fn judge<'a>(
        &'a self,
        op: &'a SourceOp,
    ) -> Boxed<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;
}

/// The same source, pinned, where it brings no submodules along.
///
/// # Errors
/// Why it is refused.
pub async fn without(gateway: &Gateway, op: SourceOp) -> Result<SourceOp, String> {
    if !brings_submodules(&op) {
        return Ok(op);
    }
    let op = at_commit(gateway, op).await?;
    let tree = load(gateway, &bare(&op)).await?;
    if tree.has(".gitmodules").await.map_err(|it| it.message().to_owned())? {
        return Err("it has submodules (.gitmodules), which BuildKit would fetch without asking \
                    anyone; leave them out with `?submodules=false`"
            .to_owned());
    }
    Ok(op)
}

/// The same source, pinned, where every submodule that it brings along is allowed.
///
/// # Errors
/// Why it is refused: one of them is, or cannot be told.
pub async fn judged(
    gateway: &Gateway,
    op: SourceOp,
    judge: &dyn JudgeSubmodule,
) -> Result<SourceOp, String> {
    if !brings_submodules(&op) {
        return Ok(op);
    }
    let op = at_commit(gateway, op).await?;
    let mut open = VecDeque::from([op.clone()]);
    let mut seen = 0;
    while let Some(repository) = open.pop_front() {
        for (path, submodule) in of(gateway, &repository).await? {
            seen += 1;
            if seen > MAX_SUBMODULES {
                return Err(format!("it has more than {MAX_SUBMODULES} submodules"));
            }
            judge.judge(&submodule).await.map_err(|why| {
                format!("its submodule `{path}`, {}, is refused: {why}", submodule.masked())
            })?;
            open.push_back(submodule);
        }
    }
    Ok(op)
}

/// Whether it is a repository that a daemon fetches with its submodules.
pub fn brings_submodules(op: &SourceOp) -> bool {
    let skips = op.attrs.get(SKIP).is_some_and(|value| value == "true");
    !skips && matches!(Source::parse(op), Ok(Source::Git(_)))
}

/// The source with the object that its reference leads to now.
async fn at_commit(gateway: &Gateway, op: SourceOp) -> Result<SourceOp, String> {
    if op.attrs.get(CHECKSUM).is_some_and(|checksum| is_whole_object(checksum)) {
        return Ok(op);
    }
    let request = MetaRequest {
        source: op.clone(),
        git: Some(GitRequest::default()),
        ..MetaRequest::default()
    };
    let meta = gateway.resolve(&request).await.map_err(|error| error.to_string())?;
    let checksum = meta.git.map(|git| git.checksum).unwrap_or_default();
    if checksum.is_empty() {
        return Err("the daemon does not tell its commit".to_owned());
    }
    Ok(pinned(&op, Some(&Pin::Git(checksum))))
}

/// The submodules of a repository, by their paths in it.
async fn of(gateway: &Gateway, op: &SourceOp) -> Result<Vec<(String, SourceOp)>, String> {
    let status = |it: tonic::Status| it.message().to_owned();
    let unread = |it: ReadError| it.to_string();
    let bare = bare(op);
    let tree = load(gateway, &bare).await?;
    if !tree.has(".gitmodules").await.map_err(status)? {
        return Ok(Vec::new());
    }
    let Ok(Source::Git(GitSource { remote, .. })) = Source::parse(op) else {
        return Err("it is no git repository".to_owned());
    };
    if op.attrs.get(CHECKSUM).is_none_or(|checksum| checksum.len() != SHA1) {
        return Err("it has submodules, and its objects are not of SHA-1".to_owned());
    }
    let text = tree.read(".gitmodules", MAX_TEXT).await.map_err(unread)?;
    let urls = modules(&text).map_err(|error| format!(".gitmodules: {error}"))?;
    let mut whole = bare;
    whole.attrs.insert(KEEP.into(), "true".into());
    let tree = load(gateway, &whole).await?;
    let index = tree.read(".git/index", MAX_INDEX).await.map_err(unread)?;
    let links = links(&index).map_err(|error| format!("the index of its submodules: {error}"))?;
    submodules(&remote, &urls, &links, op)
}

/// Each link with the URL that git would fetch it from. An entry without a link is fetched by nobody;
/// over a link without an entry git ends, or else reads the entries in another way than we do.
fn submodules(
    remote: &str,
    urls: &BTreeMap<String, String>,
    links: &BTreeMap<String, String>,
    of: &SourceOp,
) -> Result<Vec<(String, SourceOp)>, String> {
    links
        .iter()
        .map(|(path, commit)| {
            let url = urls.get(path).ok_or_else(|| {
                format!("it links to a submodule at `{path}` without a path and URL in .gitmodules")
            })?;
            let url = relative(remote, url)
                .map_err(|error| format!("the URL of its submodule `{path}`: {error}"))?;
            let op = submodule(&url, commit, of)
                .ok_or_else(|| format!("its submodule `{path}` has a URL that git alone reads"))?;
            Ok((path.clone(), op))
        })
        .collect()
}

/// Host and path of a URL: what stands before the host is for git alone.
fn place(remote: &str) -> String {
    match remote.split_once("://") {
        Some((_, place)) => {
            let host = place.find('/').unwrap_or(place.len());
            place.split_at(host).0.rfind('@').map_or(place, |user| &place[user + 1..]).to_owned()
        }
        None => remote.split_once('@').map_or(remote, |(_, it)| it).replacen(':', "/", 1),
    }
}

/// A submodule as the source that it is.
fn submodule(url: &str, commit: &str, of: &SourceOp) -> Option<SourceOp> {
    // What has no transport that is named is a path or another host to git.
    let named = ["https://", "http://", "ssh://", "git://"].iter().any(|it| url.starts_with(it));
    let scp =
        !url.contains("://") && url.split_once(':').is_some_and(|(host, _)| host.contains('@'));
    if url.contains(['#', '?']) || !(named || scp) {
        return None;
    }
    let mut op = SourceOp::new(format!("git://{url}#{commit}"));
    let Ok(Source::Git(GitSource { remote, scheme, host, .. })) = Source::parse(&op) else {
        return None;
    };
    op.identifier = format!("git://{}#{commit}", place(&remote));
    op.attrs.insert(FULL_URL.into(), url.to_owned());
    let same_host = matches!(
        Source::parse(of),
        Ok(Source::Git(GitSource { scheme: s, host: h, .. })) if (&s, &h) == (&scheme, &host)
    );
    for name in SSH.iter().chain(SECRETS.iter().filter(|_| same_host)) {
        if let Some(value) = of.attrs.get(*name) {
            op.attrs.insert((*name).into(), value.clone());
        }
    }
    op.attrs.insert(CHECKSUM.into(), commit.to_owned());
    Source::parse(&op).ok()?;
    Some(op)
}

async fn load<'g>(gateway: &'g Gateway, op: &SourceOp) -> Result<Tree<'g>, String> {
    Tree::load(gateway, op).await.map_err(|status| status.message().to_owned())
}

/// The whole repository, without its submodules.
fn bare(op: &SourceOp) -> SourceOp {
    let mut bare = op.clone();
    if let Some((repository, fragment)) = op.identifier.split_once('#') {
        let reference = fragment.split(':').next().unwrap_or_default();
        bare.identifier = match reference {
            "" => repository.to_owned(),
            reference => format!("{repository}#{reference}"),
        };
    }
    bare.attrs.insert(SKIP.into(), "true".into());
    bare
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_looked_into() {
        for (given, wanted) in [
            ("git://h/a.git", "git://h/a.git"),
            ("git://h/a.git#main", "git://h/a.git#main"),
            ("git://h/a.git#main:sub/dir", "git://h/a.git#main"),
            ("git://h/a.git#:sub", "git://h/a.git"),
        ] {
            let got = bare(&SourceOp::new(given));
            assert_eq!(got.identifier, wanted);
            assert_eq!(got.attrs.get(SKIP).map(String::as_str), Some("true"));
        }
    }

    #[test]
    fn secrets_stay_with_the_host_of_the_repository() {
        let mut of = SourceOp::new("git://h.example/a.git#main");
        of.attrs.insert("git.authtokensecret".into(), "TOKEN".into());
        of.attrs.insert("git.mountsshsock".into(), "default".into());
        let commit = "c".repeat(40);
        for (url, told) in [
            ("https://h.example/b.git", true),
            ("http://h.example/b.git", false),
            ("https://h.example:8443/b.git", false),
            ("https://o.example/b.git", false),
        ] {
            let op = submodule(url, &commit, &of).unwrap();
            assert_eq!(op.attrs.contains_key("git.authtokensecret"), told, "{url}");
            assert!(op.attrs.contains_key("git.mountsshsock"));
        }
    }

    #[test]
    fn every_link_has_an_entry_and_not_every_entry_a_link() {
        let text = |text: &str| text.to_owned();
        let link = |path: &str| (text(path), "c".repeat(40));
        let entry = |path: &str| (text(path), text("https://h.example/b.git"));
        for (entries, linked, wanted) in [
            (vec![entry("a")], vec![link("a")], Some(1)),
            (vec![entry("a"), entry("b")], vec![link("a")], Some(1)),
            (vec![entry("a")], vec![link("a"), link("a\u{a0}")], None),
            (vec![], vec![link("a")], None),
        ] {
            let (urls, links) = (entries.into_iter().collect(), linked.into_iter().collect());
            let got = submodules("https://h.example/a.git", &urls, &links, &SourceOp::default());
            assert_eq!(got.ok().map(|it| it.len()), wanted, "{urls:?} {links:?}");
        }
    }

    #[test]
    fn submodules_are_sources_at_the_commit_of_their_link() {
        let commit = "c".repeat(40);
        for (remote, url, wanted) in [
            ("https://h.example/a.git", "../b.git", Some("git://h.example/b.git")),
            (
                "https://h.example/a.git",
                "https://me@o.example/b.git",
                Some("git://o.example/b.git"),
            ),
            (
                "https://h.example/a.git",
                "https://o.example/a@b.git",
                Some("git://o.example/a@b.git"),
            ),
            (
                "https://h.example/a.git",
                "https://o.example:8443/x/b",
                Some("git://o.example:8443/x/b"),
            ),
            ("https://h.example/a.git", "git@o.example:x/b.git", Some("git://o.example/x/b.git")),
            ("https://h.example/a.git", "ssh://git@o.example/b.git", Some("git://o.example/b.git")),
            ("https://h.example/a.git", "/srv/b.git", None),
            ("https://h.example/a.git", "file:///srv/b.git", None),
            ("https://h.example/a.git", "ext::sh -c x", None),
            ("https://h.example/a.git", "o.example:x/b.git", None),
            ("https://h.example/a.git", "o.example/x/b.git", None),
            ("https://h.example/a.git", "HTTPS://o.example/b.git", None),
            ("https://h.example/a.git", "https://o.example/b.git#main", None),
            ("https://h.example/a.git", "https://o.example/a/../b.git", None),
        ] {
            let urls = [("lib".to_owned(), url.to_owned())].into();
            let links = [("lib".to_owned(), commit.clone())].into();
            let got = submodules(remote, &urls, &links, &SourceOp::default());
            let got = got.ok().map(|found| found[0].1.clone());
            let wanted = wanted.map(|it| format!("{it}#{commit}"));
            assert_eq!(got.as_ref().map(|op| op.identifier.clone()), wanted, "{url}");
            if let Some(op) = got {
                assert_eq!(op.attrs.get(CHECKSUM), Some(&commit));
            }
        }
    }
}
