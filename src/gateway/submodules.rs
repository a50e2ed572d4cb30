//! Submodules: the daemon fetches them from wherever an allowed repository says, and asks nobody.
//!
//! So an allowed repository is looked into before the build gets it, at the commit that the build
//! will get, and refused where it has any; whoever wants it says `?submodules=false`.

use super::{Gateway, Tree, pinned};
use crate::check::Pin;
use crate::meta::{GitRequest, MetaRequest, ResolveSourceMeta};
use crate::source::{Source, SourceOp};

/// Attribute of a repository that is fetched without its submodules.
const SKIP: &str = "git.skipsubmodules";
/// Attribute of the object that the reference must lead to.
const CHECKSUM: &str = "git.checksum";

/// The same source, pinned, where it brings no submodules along.
///
/// # Errors
/// Why it is refused.
pub async fn without(gateway: &Gateway, op: SourceOp) -> Result<SourceOp, String> {
    let skips = op.attrs.get(SKIP).is_some_and(|value| value == "true");
    if skips || !matches!(Source::parse(&op), Ok(Source::Git(_))) {
        return Ok(op);
    }
    let mut op = op;
    if op.attrs.get(CHECKSUM).is_none_or(String::is_empty) {
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
        op = pinned(&op, Some(&Pin::Git(checksum)));
    }
    let tree = Tree::load(gateway, &bare(&op)).await.map_err(|it| it.message().to_owned())?;
    if tree.has(".gitmodules").await.map_err(|it| it.message().to_owned())? {
        return Err("it has submodules (.gitmodules), which BuildKit would fetch without asking \
                    anyone; leave them out with `?submodules=false`"
            .to_owned());
    }
    Ok(op)
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
}
