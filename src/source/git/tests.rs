use proptest::prelude::*;

use super::*;
use crate::source::Source;

fn parse(identifier: &str, attrs: &[(&str, &str)]) -> GitSource {
    let mut op = SourceOp::new(identifier);
    op.attrs.extend(attrs.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    match Source::parse(&op) {
        Ok(Source::Git(git)) => git,
        other => panic!("{identifier}: {other:?}"),
    }
}

#[test]
fn takes_every_form_buildkit_takes() {
    for (rest, scheme, host, remote) in [
        ("github.com/a/b.git", "https", "github.com", "https://github.com/a/b.git"),
        ("github.com", "https", "github.com", "https://github.com"),
        ("http://a.b/c", "http", "a.b", "http://a.b/c"),
        ("HTTPS://A.b/c", "https", "A.b", "https://A.b/c"),
        ("https://a.b:443/c?x=1#main", "https", "a.b:443", "https://a.b:443/c"),
        ("https://user:pw@a.b/c", "https", "a.b", "https://user:pw@a.b/c"),
        ("https://a.b/c%20d", "https", "a.b", "https://a.b/c%20d"),
        ("git://a.b/c", "git", "a.b", "git://a.b/c"),
        ("ssh://git@a.b:22/c.git", "ssh", "a.b:22", "ssh://git@a.b:22/c.git"),
        ("git@a.b:c/d.git#main", "ssh", "a.b", "git@a.b:c/d.git"),
        ("git@a.b:2222/c/d.git", "ssh", "a.b", "git@a.b:2222/c/d.git"),
        ("user@host.xz:~me/repo", "ssh", "host.xz", "user@host.xz:~me/repo"),
        ("user@host.xz:/abs/repo?x=1", "ssh", "host.xz", "user@host.xz:/abs/repo"),
        ("[::1]:/a", "https", "[::1]:", "https://[::1]:/a"),
        ("file:///x", "https", "file:", "https://file:///x"),
        ("bücher.example/a", "https", "bücher.example", "https://b%C3%BCcher.example/a"),
    ] {
        let git = parse(&format!("git://{rest}"), &[]);
        assert_eq!(
            (git.scheme.as_str(), git.host.as_str(), git.remote.as_str()),
            (scheme, host, remote)
        );
        assert_eq!(git.full_url, None);
        let git = parse("Git://x.y/z#v1:sub", &[("git.fullurl", rest)]);
        assert_eq!(
            (git.scheme.as_str(), git.host.as_str(), git.remote.as_str()),
            (scheme, host, remote)
        );
        assert_eq!(git.full_url, Some(with_transport(rest)));
        assert_eq!((git.reference.as_deref(), git.subdir.as_deref()), (Some("v1"), Some("sub")));
    }
}

#[test]
fn splits_reference_and_directory() {
    let sha = "ab".repeat(20);
    for (fragment, reference, subdir) in [
        ("", None, None),
        ("main", Some("main"), None),
        ("main#x", Some("main#x"), None),
        (":sub", None, Some("sub")),
        ("main:", Some("main"), None),
        ("main:/", Some("main"), None),
        ("main:./a//b/", Some("main"), Some("a/b")),
        ("v1:s:t", Some("v1"), Some("s:t")),
        ("refs/tags/v1:sub dir", Some("refs/tags/v1"), Some("sub dir")),
        ("refs%2Fheads%2Fx:a%20b", Some("refs/heads/x"), Some("a b")),
        (sha.as_str(), Some(sha.as_str()), None),
    ] {
        let git = parse(&format!("git://a.b/c#{fragment}"), &[]);
        assert_eq!(
            (git.reference.as_deref(), git.subdir.as_deref()),
            (reference, subdir),
            "{fragment}"
        );
    }
    assert_eq!(parse("git://a.b/c#refs/tags/v1", &[]).tag_name(), Some("v1"));
    assert_eq!(parse("git://a.b/c#refs/heads/x/y", &[]).branch(), Some("x/y"));
    assert_eq!(parse(&format!("git://a.b/c#{sha}"), &[]).commit(), Some(sha.as_str()));
    assert_eq!(parse(&format!("git://a.b/c#{}", "AB".repeat(20)), &[]).commit(), None);
    assert_eq!(parse(&format!("git://a.b/c#{}", &sha[1..]), &[]).commit(), None);
    assert!(is_commit(&"0".repeat(64)) && !is_commit(&"0".repeat(63)));
}

#[test]
fn reads_its_attributes() {
    let git = parse("git://a.b/c", &[("git.checksum", "abcdef0")]);
    assert_eq!(git.declared_checksum.as_deref(), Some("abcdef0"));
    assert_eq!(parse("git://a.b/c", &[("git.checksum", "")]).declared_checksum, None);
    let bundle = format!("oci-layout+blob://store@sha256:{}", "0".repeat(64));
    let attrs = [("git.checksum", "abcdef0"), ("git.bundle", &bundle), ("oci.session", "s")];
    assert_eq!(parse("git://a.b/c", &attrs).bundle.as_ref(), Some(&bundle));
    let mut op = SourceOp::new("git://a.b/c");
    assert_eq!(op.bundle(), None);
    op.attrs.extend(attrs.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let blob = op.bundle().unwrap();
    assert_eq!(blob.identifier, bundle);
    let expected = [("oci.session", "s"), ("oci.store", "store")];
    assert_eq!(blob.attrs, expected.map(|(name, value)| (name.into(), value.into())).into());
}

proptest! {
    #[test]
    fn never_panics_and_leads_nowhere_else(
        rest in "(https://|ssh://|git@)?[a-z.]{1,6}[:/]?[a-z%2ef./@\\\\;-]{0,20}(#[a-z./:%-]{0,12})?|(?s).{0,40}",
    ) {
        let op = SourceOp::new(format!("git://{rest}"));
        if let Ok(Source::Git(git)) = Source::parse(&op) {
            prop_assert!(!git.remote.starts_with('-') && !git.host.starts_with('-'));
            prop_assert!(!git.remote.contains("/../") && !git.remote.ends_with("/.."));
            prop_assert!(!git.remote.contains('\\') && !git.remote.contains(char::is_control));
            prop_assert!(!git.reference.unwrap_or_default().starts_with('-'));
            prop_assert!(!git.subdir.unwrap_or_default().split('/').any(|part| part == ".."));
            let again = Source::parse(&SourceOp::new(format!("git://{}", git.remote)));
            let Ok(Source::Git(again)) = again else { panic!("{again:?}") };
            prop_assert_eq!((again.remote, again.host), (git.remote, git.host));
        }
    }
}
