//! What was judged is what is fetched: a decision's pin, put on the source.

use crate::check::Pin;
use crate::source::{Source, SourceOp};

/// Attribute of the object that a git reference must lead to.
pub(super) const GIT_CHECKSUM: &str = "git.checksum";

/// The source as the daemon takes it, and no other content than the one that was judged.
pub fn pinned(op: &SourceOp, pin: Option<&Pin>) -> SourceOp {
    let mut op = op.clone();
    if let Ok(Source::Image(image)) = Source::parse(&op) {
        op.identifier = match pin {
            Some(Pin::Image(digest)) if image.digest.is_none() => image.with_digest(digest),
            Some(Pin::Image(_) | Pin::Git(_) | Pin::Http(_)) | None => image,
        }
        .identifier();
    }
    let (name, value) = match pin {
        Some(Pin::Git(checksum)) => (GIT_CHECKSUM, checksum),
        Some(Pin::Http(checksum)) => ("http.checksum", checksum),
        Some(Pin::Image(_)) | None => return op,
    };
    if !op.attrs.get(name).is_some_and(|declared| is_fixed(name, declared)) {
        op.attrs.insert(name.to_owned(), value.clone());
    }
    op
}

/// Whether a checksum that somebody declared leaves one content and no other. BuildKit takes the
/// first digits of a commit, and none at all, for any commit that begins with them.
pub fn is_fixed(name: &str, declared: &str) -> bool {
    if name == GIT_CHECKSUM { is_whole_object(declared) } else { !declared.is_empty() }
}

/// Whether it is the whole name of a git object, of SHA-1 or of SHA-256.
pub(super) fn is_whole_object(name: &str) -> bool {
    matches!(name.len(), 40 | 64) && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(identifier: &str, pin: Option<Pin>, wanted: &str, attrs: &[(&str, &str)]) {
        let got = pinned(&SourceOp::new(identifier), pin.as_ref());
        assert_eq!(got.identifier, wanted);
        let got: Vec<_> = got.attrs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        assert_eq!(got, attrs);
    }

    #[test]
    fn what_was_judged_is_what_is_fetched() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let other = format!("sha256:{}", "b".repeat(64));
        let image = "docker-image://docker.io/library/alpine:3";
        check(image, None, image, &[]);
        check("docker-image://alpine:3", None, image, &[]);
        check(image, Some(Pin::Image(digest.parse().unwrap())), &format!("{image}@{digest}"), &[]);
        let named = format!("{image}@{other}");
        check(&named, Some(Pin::Image(digest.parse().unwrap())), &named, &[]);
        let url = "https://example.com/a";
        check(url, Some(Pin::Http(digest.clone())), url, &[("http.checksum", &digest)]);
        let git = "git://example.com/a.git#main";
        check(git, Some(Pin::Git("c".repeat(40))), git, &[("git.checksum", &"c".repeat(40))]);
    }

    #[test]
    fn what_is_declared_stays_only_where_it_is_whole() {
        let commit = "c".repeat(40);
        for (declared, wanted) in [
            ("", &commit),
            ("c", &commit),
            ("ccccccc", &commit),
            (&"c".repeat(39), &commit),
            (&"d".repeat(40), &"d".repeat(40)),
            (&"d".repeat(64), &"d".repeat(64)),
        ] {
            let mut op = SourceOp::new("git://example.com/a.git#main");
            op.attrs.insert(GIT_CHECKSUM.to_owned(), declared.to_owned());
            let got = pinned(&op, Some(&Pin::Git(commit.clone())));
            assert_eq!(got.attrs[GIT_CHECKSUM], *wanted, "{declared}");
        }
    }
}
