//! Submodules: the daemon fetches them from wherever an allowed repository says, and asks nobody.
//!
//! So an allowed repository is looked into before the build gets it, at the commit that the build
//! will get. Whoever judges submodules judges each as a git source at the commit that the
//! repository links to, and so do theirs; whoever does not refuses what has any.
//!
//! What the daemon's git fetches is fixed by that: `.gitmodules` and the links are content of a
//! commit that is pinned, and what git takes from a submodule's URL is the commit of the link. Not
//! fixed is where it asks: the daemon keeps a clone of each repository, and its git the URL that a
//! submodule had when its name came up first. So each URL is judged that a submodule of this name
//! had, as far as whoever judges remembers builds before.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::pin::Pin as Boxed;

use super::gitmodules::{Entry, links, modules, relative};
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
/// Most URLs of one of them.
const MAX_URLS: usize = 64;

/// By what a daemon's git knows a submodule: the place of the repository that a build names, and the
/// names of submodules from there down.
pub type Names = Vec<String>;

/// Who judges submodules.
pub trait JudgeSubmodule: Send + Sync {
    /// Judges one, as a git source of its own.
    ///
    /// An `Err` says why it is refused.
    fn judge<'a>(
        &'a self,
        op: &'a SourceOp,
    ) -> Boxed<Box<dyn Future<Output = Result<(), String>> + Send + 'a>>;

    /// The URLs that builds before gave a submodule: its daemon may ask there still. None where builds
    /// before are not remembered.
    fn urls_before(&self, _names: &Names) -> Vec<String> {
        Vec::new()
    }

    /// Remembers the URLs of a build's submodules, all of which are judged.
    ///
    /// An `Err` says why the build cannot have them.
    fn remember(&self, _found: Vec<(Names, String)>) -> Result<(), String> {
        Ok(())
    }
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
    let Ok(Source::Git(GitSource { remote, .. })) = Source::parse(&op) else {
        return Err("it is no git repository".to_owned());
    };
    let names = vec![place(&remote).to_ascii_lowercase()];
    let mut open = VecDeque::from([Repository { op: op.clone(), names, urls: vec![remote] }]);
    let (mut seen, mut found) = (0, Vec::new());
    while let Some(repository) = open.pop_front() {
        for submodule in of(gateway, &repository.op).await? {
            seen += 1;
            if seen > MAX_SUBMODULES {
                return Err(format!("it has more than {MAX_SUBMODULES} submodules"));
            }
            let below = submodule.judged(&repository, judge).await?;
            found.extend(below.urls.iter().map(|url| (below.names.clone(), url.clone())));
            open.push_back(below);
        }
    }
    judge.remember(found)?;
    Ok(op)
}

/// A repository whose submodules are judged.
struct Repository {
    /// As it is looked into.
    op: SourceOp,
    names: Names,
    /// Where the daemon's git may have it from: the first is where it is said to be.
    urls: Vec<String>,
}

/// A link of a repository, and what is said of it.
#[derive(Debug)]
struct Submodule {
    path: String,
    commit: String,
    entry: Entry,
}

impl Submodule {
    /// Judges it at each URL that the daemon's git may ask.
    async fn judged(
        self,
        of: &Repository,
        judge: &dyn JudgeSubmodule,
    ) -> Result<Repository, String> {
        let Self { path, commit, entry: Entry { name, url } } = self;
        let mut names = of.names.clone();
        names.push(name);
        let mut urls: Vec<String> = Vec::new();
        let relative = of.urls.iter().map(|remote| {
            relative(remote, &url)
                .map_err(|why| format!("the URL of its submodule `{path}`: {why}"))
        });
        for url in relative.chain(judge.urls_before(&names).into_iter().map(Ok)) {
            let url = url?;
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        if urls.len() > MAX_URLS {
            return Err(format!("its submodule `{path}` had more than {MAX_URLS} URLs by now"));
        }
        let mut first = None;
        for url in &urls {
            let op = submodule(url, &commit, &of.op)
                .ok_or_else(|| format!("its submodule `{path}` has a URL that git alone reads"))?;
            judge.judge(&op).await.map_err(|why| match &first {
                None => format!("its submodule `{path}`, {}, is refused: {why}", op.masked()),
                Some(_) => format!(
                    "its submodule `{path}` had another URL in a build before, where BuildKit's git \
                     would ask for it until its cache is pruned (and the gate started again), and {} \
                     is refused: {why}",
                    op.masked()
                ),
            })?;
            first.get_or_insert(op);
        }
        let op = first.ok_or_else(|| format!("its submodule `{path}` has no URL"))?;
        Ok(Repository { op, names, urls })
    }
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

/// The submodules of a repository.
async fn of(gateway: &Gateway, op: &SourceOp) -> Result<Vec<Submodule>, String> {
    let status = |it: tonic::Status| it.message().to_owned();
    let unread = |it: ReadError| it.to_string();
    let bare = bare(op);
    let tree = load(gateway, &bare).await?;
    if !tree.has(".gitmodules").await.map_err(status)? {
        return Ok(Vec::new());
    }
    if op.attrs.get(CHECKSUM).is_none_or(|checksum| checksum.len() != SHA1) {
        return Err("it has submodules, and its objects are not of SHA-1".to_owned());
    }
    let text = tree.read(".gitmodules", MAX_TEXT).await.map_err(unread)?;
    let entries = modules(&text).map_err(|error| format!(".gitmodules: {error}"))?;
    let mut whole = bare;
    whole.attrs.insert(KEEP.into(), "true".into());
    let tree = load(gateway, &whole).await?;
    let index = tree.read(".git/index", MAX_INDEX).await.map_err(unread)?;
    let links = links(&index).map_err(|error| format!("the index of its submodules: {error}"))?;
    linked(entries, links)
}

/// Each link with its entry. An entry without a link is fetched by nobody; over a link without an entry
/// git ends, or else reads the entries in another way than we do.
fn linked(
    mut entries: BTreeMap<String, Entry>,
    links: BTreeMap<String, String>,
) -> Result<Vec<Submodule>, String> {
    links
        .into_iter()
        .map(|(path, commit)| match entries.remove(&path) {
            Some(entry) => Ok(Submodule { path, commit, entry }),
            None => Err(format!(
                "it links to a submodule at `{path}` without a path and URL in .gitmodules"
            )),
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
mod tests;
