use proptest::prelude::*;

use super::*;
use crate::source::Source;

/// Identifier and attributes, but for `git.fullurl`, as `name=value`.
fn check(text: &str, identifier: &str, full_url: &str, attrs: &[&str]) {
    let source = parse_git_user(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let mut op = source.unwrap_or_else(|| panic!("{text}: no git source")).to_op();
    assert_eq!(op.attrs.remove("git.fullurl").as_deref(), Some(full_url), "{text}");
    let rest: Vec<String> =
        op.attrs.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(
        (op.identifier.as_str(), rest),
        (identifier, attrs.iter().map(|it| (*it).into()).collect())
    );
}

#[test]
fn makes_the_source_that_the_frontend_makes() {
    const URL: &str = "https://github.com/a/b.git";
    check(URL, "git://github.com/a/b.git", URL, &[]);
    check(&format!("{URL}#main:sub"), "git://github.com/a/b.git#main:sub", URL, &[]);
    check(&format!("{URL}#:sub"), "git://github.com/a/b.git#:sub", URL, &[]);
    check("github.com/a/b", "git://github.com/a/b", "https://github.com/a/b", &[]);
    check(
        "git@github.com:a/b.git#v1",
        "git://github.com/a/b.git#v1",
        "git@github.com:a/b.git",
        &[],
    );
    check("git@h.x:a?branch=x", "git://h.x/a#refs/heads/x", "git@h.x:a", &[]);
    check("ssh://git@h.x:22//a/", "git://h.x:22/a", "ssh://git@h.x:22//a/", &[]);
    check("git://h.x/a", "git://h.x/a", "git://h.x/a", &[]);
    check("http://h.x/a.git?ref=v1&subdir=/d/", "git://h.x/a.git#v1:d", "http://h.x/a.git", &[]);
    let attrs = [
        "git.checksum=ab12",
        "git.fetchbycommit=true",
        "git.keepgitdir=true",
        "git.mtime=commit",
        "git.skipsubmodules=true",
    ];
    let query =
        "tag=v1&commit=ab12&checksum=ab12&keep-git-dir&submodules=0&mtime=commit&fetch-by-commit=T";
    check(&format!("{URL}?{query}"), "git://github.com/a/b.git#refs/tags/v1", URL, &attrs);
    check(
        &format!("{URL}?ref=x&submodules=true&keep-git-dir=false#x"),
        "git://github.com/a/b.git#x",
        URL,
        &[],
    );
    check(
        &format!("{URL}?tag=refs/tags/v1&ref=refs/tags/v1"),
        "git://github.com/a/b.git#refs/tags/v1",
        URL,
        &[],
    );
}

#[test]
fn leaves_everything_else_alone() {
    for text in [
        "",
        "alpine",
        "./a.git",
        "../b.git",
        "dir/a.git",
        "https://a.b/c",
        "https://a.b/c.git/x",
        "https://a.b/c?x=.git",
        "ftp://a.b/c.git",
        "docker-image://a",
        "a@b",
        "foo:bar",
        "a b@c:d",
    ] {
        assert_eq!(parse_git_user(text), Ok(None), "{text}");
    }
}

#[test]
fn refuses_queries_that_buildkit_refuses() {
    let check = |query: &str, message: &str| {
        let text = format!("https://a.b/c.git?{query}");
        let error = parse_git_user(&text).unwrap_err().to_string();
        assert!(error.ends_with(message), "{error}");
    };
    check(
        "x=1",
        "unknown parameter `x`; expected one of ref, tag, branch, subdir, checksum, commit, \
                  keep-git-dir, submodules, mtime, fetch-by-commit",
    );
    check("ref=", "parameter `ref` has no value");
    check("tag", "parameter `tag` has no value");
    check("ref=a&ref=a", "parameter `ref` is given more than once");
    check("ref=a#b", "two different values for the reference: `b` and `a`");
    check("ref=a&tag=a", "two different values for the reference: `a` and `refs/tags/a`");
    check(
        "tag=a&branch=a",
        "two different values for the reference: `refs/tags/a` and `refs/heads/a`",
    );
    check("subdir=a#:b", "two different values for the subdirectory: `b` and `a`");
    check("commit=ab&checksum=cd", "two different values for the checksum: `cd` and `ab`");
    check("submodules=yes", "parameter `submodules` has the value `yes`; expected true or false");
    check("mtime=now", "parameter `mtime` has the value `now`; expected checkout or commit");
    check(
        "ref=a;b",
        "`ref=a;b` has a `;` or a broken percent-escape; expected name=value pairs with & between",
    );
    check("ref=-x", "its reference begins with `-`, and could be taken for an option");
    check(
        "ref=a:b",
        "its reference `a:b` has `:`, which git takes for a pattern or an expression; \
                      write the name of a branch, tag or commit",
    );
    check(
        "subdir=../x",
        "its subdirectory has the dot segment `..`, which whoever fetches it resolves; \
                          write the place it leads to",
    );
}

proptest! {
    #[test]
    fn what_is_taken_parses_as_a_git_source(
        text in "(https://|ssh://|git@)[a-z.]{1,6}[:/][a-z./%2]{0,10}(\\.git)?(\\?(ref|subdir)=[a-z/]{0,5})?(#[a-z:/]{0,8})?|(?s).{0,40}",
    ) {
        if let Ok(Some(source)) = parse_git_user(&text) {
            let op = source.to_op();
            if let Ok(parsed) = Source::parse(&op) {
                let Source::Git(git) = parsed else { panic!("{op:?}") };
                prop_assert_eq!(git.reference, source.reference);
                prop_assert_eq!(git.subdir, source.subdir);
                prop_assert_eq!(git.host, source.host);
            }
        }
    }
}
