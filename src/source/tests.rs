use super::*;

const SCHEMES: &str = "expected one of docker-image, docker-image+blob, http, https, git, local, \
                       oci-layout, oci-layout+blob";

fn digest() -> String {
    format!("sha256:{}", "4b".repeat(32))
}

fn refusal(identifier: &str, attrs: &[(&str, &str)]) -> String {
    let mut op = SourceOp::new(identifier);
    op.attrs.extend(attrs.iter().map(|(name, value)| ((*name).into(), (*value).into())));
    match Source::parse(&op) {
        Err(error) => error.to_string(),
        Ok(source) => panic!("{identifier}: {source:?}"),
    }
}

fn check(identifier: &str, message: &str) {
    let message = message.replace("{}", identifier);
    assert_eq!(refusal(identifier, &[]), message, "{identifier}");
}

#[test]
fn schemes() {
    let none = format!("`{{}}` is not a source identifier: it has no scheme; {SCHEMES}");
    for identifier in
        ["", "alpine", "docker-image", "https:a.b", "https:\\\\a.b\\c", "not-a-source"]
    {
        check(identifier, &none);
    }
    for (identifier, scheme) in [
        ("://x", ""),
        ("oops://x", "oops"),
        ("ftp://example.com/x", "ftp"),
        ("file:///etc/passwd", "file"),
        ("docker-image+x://alpine", "docker-image+x"),
        (" https://a.b", " https"),
    ] {
        check(identifier, &format!("`{{}}`: unknown source scheme `{scheme}`; {SCHEMES}"));
    }
    let long = "x".repeat(MAX_LENGTH - "local://".len());
    assert!(Source::parse(&SourceOp::new(format!("local://{long}"))).is_ok());
    assert_eq!(
        refusal(&format!("local://{long}x"), &[]),
        "a source of 65537 bytes is too long; at most 65536 are read"
    );
}

#[test]
fn images() {
    let component = |text: &str| {
        format!(
            "`{text}` is not a component of a repository name; expected lower-case letters and \
             digits, with single `.` or `_`, `__` or dashes between them"
        )
    };
    let host = |text: &str| {
        format!(
            "`{text}` is not a registry host; expected a name, IPv4 address or [IPv6 address], \
             with an optional :port"
        )
    };
    let tag = |text: &str| {
        format!(
            "`{text}` is not a tag; expected a letter, digit or `_`, then up to 127 of these, `.` \
             and `-`"
        )
    };
    let upper = |text: &str| format!("repository name `{text}` must be lower case");
    let empty = "it has no repository name; expected [host/]name[:tag][@digest]".to_owned();
    let id = "4b".repeat(32);
    for (text, problem) in [
        ("", empty.clone()),
        (":3", empty.clone()),
        ("docker.io/", empty),
        (
            id.as_str(),
            "64 hexadecimal digits are an image id, not a name; expected a name, or \
                       name@sha256:…"
                .into(),
        ),
        ("foo/BAR", upper("foo/BAR")),
        ("UPPER CASE", upper("UPPER CASE")),
        ("a___b", component("a___b")),
        ("-a", component("-a")),
        ("a/-b", component("-b")),
        ("/a", component("")),
        ("a/b/", component("")),
        ("a/./b", component(".")),
        ("a/../b", component("..")),
        ("a.io/b_-c", component("b_-c")),
        ("a?x=1", component("a?x=1")),
        ("a%2fb", component("a%2fb")),
        ("aé", component("aé")),
        ("a\nb", component("a\\nb")),
        ("-foo.com/a", host("-foo.com")),
        ("foo.com./a", host("foo.com.")),
        ("a:b/c", host("a:b")),
        ("[fe80::1%25en0]/a", host("[fe80::1%25en0]")),
        ("user:hunter2@host/a", host("***@host")),
        ("a:-x", tag("-x")),
        ("a:", tag("")),
        ("a:1:2", tag("1:2")),
        ("a@", "`` has no algorithm; expected sha256:, sha384: or sha512: and hexadecimal".into()),
        (
            "a@sha1:00",
            "digest algorithm `sha1` is unknown; expected sha256, sha384 or sha512".into(),
        ),
        ("a@sha256:4B", "`sha256:4B`: sha256 takes 64 lower-case hexadecimal digits".into()),
    ] {
        let identifier = format!("docker-image://{text}");
        let shown = mask(&identifier);
        let message = format!("`{shown}` is not an image reference: {problem}");
        assert_eq!(refusal(&identifier, &[]), message);
    }
}

/// What a rule and whoever fetches would read differently, for HTTP and git alike.
#[test]
fn ambiguous_paths() {
    let dots = |segment: &str| {
        format!(
            "its path has the dot segment `{segment}`, which whoever fetches it resolves; write \
             the place it leads to"
        )
    };
    let slash = "its path has an escaped slash, which some undo and others do not; write `/`";
    let backslash =
        |part: &str| format!("its {part} has a backslash, which some take for a slash; write `/`");
    for (path, problem) in [
        ("our/../evil/x.git", dots("..")),
        ("our/./x.git", dots(".")),
        ("our/..", dots("..")),
        ("our/%2e%2e/evil", dots("..")),
        ("our/%2E./evil", dots("..")),
        ("our/.%2e/evil", dots("..")),
        ("our/%252e%252E/evil", dots("..")),
        ("our/%25252e./evil", dots("..")),
        ("our%2f..%2fevil", dots("..")),
        ("our/..%2fevil", dots("..")),
        ("our/..%5cevil", dots("..")),
        ("our/..;/evil", dots("..;")),
        ("our/%2e%2e%3bx/evil", dots("..;x")),
        ("our%2fevil", slash.into()),
        ("our%252Fevil", slash.into()),
        ("our%5cevil", backslash("path")),
        ("our%255Cevil", backslash("path")),
        ("our\\evil", backslash("URL")),
        ("our/%00", "its path has a control character".into()),
        ("our/%0d%0aX", "its path has a control character".into()),
        ("our/%7f", "its path has a control character".into()),
        ("our/%25252541", "its path is percent-escaped more than 3 times over".into()),
    ] {
        let check = |identifier: String, attr: Option<&str>| {
            let attrs: Vec<_> = attr.iter().map(|url| ("git.fullurl", *url)).collect();
            let shown = attr.unwrap_or(&identifier);
            let message = format!("`{shown}` is ambiguous and refused: {problem}");
            assert_eq!(refusal(&identifier, &attrs), message);
        };
        check(format!("https://dl.example/{path}"), None);
        check(format!("git://github.com/{path}#main"), None);
        check(format!("git://ssh://git@github.com/{path}"), None);
        check("git://github.com/our/x".into(), Some(&format!("https://github.com/{path}")));
        if !path.contains('\\') {
            check(format!("git://git@github.com:{path}"), None);
            check("git://github.com/our/x".into(), Some(&format!("git@github.com:{path}")));
        }
    }
}

#[test]
fn ambiguous_urls() {
    let check = |identifier: &str, problem: &str| {
        let shown = mask(identifier);
        let message = format!("`{shown}` is ambiguous and refused: {problem}");
        assert_eq!(refusal(identifier, &[]), message);
    };
    let at =
        "it has more than one `@` before its path; escape the one in the user information as %40";
    let backslash = "its URL has a backslash, which some take for a slash; write `/`";
    let option =
        |part: &str| format!("its {part} begins with `-`, and could be taken for an option");
    check("http://user@a.b@evil/x", at);
    check("git://https://user@a.b@evil/x", at);
    check("https://a.b\\@evil/c", backslash);
    check("git://github.com\\a\\b", backslash);
    check("https://a.b/c\td", "its URL has a control character");
    check("https://a.b/c\u{85}", "its URL has a control character");
    check("git://a.b/c#x\ny", "its URL has a control character");
    check("https://a..b/x", "its host `a..b` has an empty label");
    check("https://.a.b/x", "its host `.a.b` has an empty label");
    check("https://./x", "its host `.` has an empty label");
    check("https://-a.b/x", &option("host"));
    check("git://ssh://-oProxyCommand/a", &option("host"));
    check("git://-oProxyCommand@host:path", &option("user"));
    check("git://ssh://-oProxyCommand@host/path", &option("user"));
    check("git://git@-oProxyCommand:path", &option("host"));
    check("git://git@host:-upload-pack", &option("path"));
    check("git://a.b/c#-x", &option("reference"));
    check("git://a.b/c#%2dx", &option("reference"));
    check("git://a.b/c#x%00", "its reference has a control character");
    check("git://a.b/c#main:x%1b", "its subdirectory has a control character");
    check("git://ｇithub.com/a", "its host `ｇithub.com` means `github.com`; write that");
    check(
        "git://a.b/c%23d",
        "its path has an escaped `#` or `?`, which git sources read as the start of a reference or \
         query",
    );
    for (reference, token) in [
        ("a..b", ".."),
        ("*", "*"),
        ("v1?", "?"),
        ("v[1]", "["),
        ("main^", "^"),
        ("main~1", "~"),
        ("a\\b", "\\"),
        ("main@{1}", "@{"),
        ("+main", "+"),
    ] {
        check(
            &format!("git://a.b/c#{reference}"),
            &format!(
                "its reference `{reference}` has `{token}`, which git takes for a pattern or an \
                 expression; write the name of a branch, tag or commit"
            ),
        );
    }
    for (fragment, part) in [
        ("../x", "reference"),
        ("refs/heads/../x", "reference"),
        ("main:../x", "subdirectory"),
        ("main:a/../../b", "subdirectory"),
        ("main:%2e%2e/b", "subdirectory"),
        ("main:%252e%252e/b", "subdirectory"),
    ] {
        check(
            &format!("git://a.b/c#{fragment}"),
            &format!(
                "its {part} has the dot segment `..`, which whoever fetches it resolves; write the \
                 place it leads to"
            ),
        );
    }
}

#[test]
fn broken_urls() {
    let host =
        |host: &str| format!("host `{host}` is not a name, an IPv4 address or an [IPv6 address]");
    let none = "it has no host; expected scheme://host/path".to_owned();
    let port = "its port is not a number from 0 to 65535".to_owned();
    for (identifier, problem) in [
        ("http:///c", none.clone()),
        ("https://", none.clone()),
        ("git:///local/path", none.clone()),
        ("git://https:///a", none.clone()),
        ("git://", none),
        ("https://a.b:99999/c", port.clone()),
        ("https://a.b:x/c", port.clone()),
        ("https://user:hunter/2@a.b/c", port.clone()),
        ("git://host.xz:path/repo", port.clone()),
        ("git://ext::sh -c true", port.clone()),
        ("git://git@[::1]:2222:a", port.clone()),
        ("https://a b/c", host("a b")),
        ("https://a\u{a0}b/c", host("a\u{a0}b")),
        ("https://%61.b/x", host("%61.b")),
        ("https://a.b%00.evil/x", host("a.b%00.evil")),
        ("https://a.b,c.d/x", host("a.b,c.d")),
        ("https://[::1/x", host("[::1")),
        (
            "https://a.b/%zz",
            "`%zz` is no percent-escape; expected % and two hexadecimal digits".into(),
        ),
        (
            "https://a.b/%c0%ae%c0%ae/",
            "its path is not UTF-8 once its percent-escapes are undone".into(),
        ),
        ("https://é-.b/", "host `é-.b` is not a valid internationalised name (IDNA)".into()),
    ] {
        let shown = mask(identifier);
        let message = format!("`{shown}` is not a URL that can be fetched: {problem}");
        assert_eq!(refusal(identifier, &[]), message);
        assert!(!message.contains("hunter"));
    }
}

#[test]
fn attributes() {
    let digest = digest();
    let blob = format!("docker-image+blob://ghcr.io/a/b@{digest}");
    let bundle = "attribute git.bundle: expected docker-image+blob:// or oci-layout+blob:// with a \
                  sha256 digest, and git.checksum beside it";
    for (identifier, attrs, message) in [
        (
            "https://a.b/c",
            vec![("http.checksum", "abc")],
            "attribute http.checksum is not a digest: `abc` has no algorithm; expected sha256:, \
             sha384: or sha512: and hexadecimal",
        ),
        (
            "git://a.b/c",
            vec![("git.checksum", "main")],
            "attribute git.checksum is `main`; expected a commit in hexadecimal",
        ),
        ("git://a.b/c", vec![("git.bundle", "https://evil"), ("git.checksum", "ab")], bundle),
        ("git://a.b/c", vec![("git.bundle", blob.as_str())], bundle),
    ] {
        assert_eq!(refusal(identifier, &attrs), format!("`{identifier}`: {message}"));
    }
    for url in ["", "-oProxyCommand=x@h:a", "git@[::1]:a", "https://"] {
        refusal("git://a.b/c", &[("git.fullurl", url)]);
    }
    assert_eq!(
        refusal("git://a.b/c", &[("git.fullurl", "https://u:hunter2@a.b/../c")]),
        "`https://***@a.b/../c` is ambiguous and refused: its path has the dot segment `..`, which \
         whoever fetches it resolves; write the place it leads to"
    );
}

#[test]
fn local_layouts_and_blobs() {
    let digest = digest();
    let parse = |identifier: String| Source::parse(&SourceOp::new(identifier)).unwrap();
    assert_eq!(parse("Local://a b".into()), Source::Local(LocalSource { name: "a b".into() }));
    for name in ["local-base", "docker.io/library/base:latest", "localhost:5000/a"] {
        let layout = OciLayoutSource { name: name.into(), digest: Some(digest.clone()) };
        assert_eq!(parse(format!("oci-layout://{name}@{digest}")), Source::OciLayout(layout));
    }
    let layout = OciLayoutSource { name: "base:1".into(), digest: None };
    assert_eq!(parse("oci-layout://base:1".into()), Source::OciLayout(layout));
    let blob = |scheme: &str, host: Option<&str>, full_repo: &str| {
        Source::Blob(BlobSource {
            scheme: scheme.into(),
            host: host.map(Into::into),
            full_repo: full_repo.into(),
            digest: digest.clone(),
        })
    };
    assert_eq!(
        parse(format!("docker-image+blob://ghcr.io/a/b@{digest}")),
        blob("docker-image+blob", Some("ghcr.io"), "ghcr.io/a/b")
    );
    assert_eq!(
        parse(format!("OCI-Layout+Blob://store@{digest}")),
        blob("oci-layout+blob", None, "store")
    );
    let message = "`{}`: expected a full repository and the digest of the blob, for example \
                   docker-image+blob://docker.io/library/app@sha256:…";
    for identifier in [
        "docker-image+blob://ghcr.io/a/b".to_owned(),
        format!("docker-image+blob://ghcr.io/a/b:1@{digest}"),
        format!("docker-image+blob://alpine@{digest}"),
        format!("docker-image+blob://evil/a@{digest}"),
        format!("docker-image+blob://index.docker.io/a/b@{digest}"),
        "oci-layout+blob://store".to_owned(),
        format!("oci-layout+blob://store:1@{digest}"),
    ] {
        check(&identifier, message);
    }
    for identifier in
        ["oci-layout://", "oci-layout://../x@y", "oci-layout://a b", "oci-layout://a:-"]
    {
        refusal(identifier, &[]);
    }
    let local = "`{}`: expected the name of a directory that the client offers, without control \
                 characters, for example local://context";
    check("local://", local);
    assert_eq!(refusal("local://a\nb", &[]), local.replace("{}", "local://a\\nb"));
}

#[test]
fn what_people_write() {
    for (text, identifier) in [
        ("alpine", "docker-image://docker.io/library/alpine:latest"),
        ("ghcr.io/a/b:1", "docker-image://ghcr.io/a/b:1"),
        (
            "app@sha256:4b7ce07002c69e8f3d704a9c5d6fd3053be500b7f1c69fc0d80990c2ad8dd412",
            "docker-image://docker.io/library/app@sha256:4b7ce07002c69e8f3d704a9c5d6fd3053be500b7f1c69fc0d80990c2ad8dd412",
        ),
        ("docker-image://alpine", "docker-image://docker.io/library/alpine:latest"),
        ("Docker-Image://alpine:3", "docker-image://docker.io/library/alpine:3"),
        ("https://a.b/c.tgz", "https://a.b/c.tgz"),
        ("https://a.b/c.git#main", "git://a.b/c.git#main"),
        ("git@a.b:c/d.git", "git://a.b/c/d.git"),
        ("ssh://git@a.b/c", "git://a.b/c"),
        ("git://a.b/c#v1", "git://a.b/c#v1"),
        ("github.com/a/b", "git://github.com/a/b"),
        ("local://context", "local://context"),
    ] {
        let op = SourceOp::from_user(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(op.identifier, identifier, "{text}");
        assert!(Source::parse(&op).is_ok());
    }
    for text in ["", "ftp://a/b", "UPPER CASE", "https://a.b/../c", "github.com/a/../b", "a:1:2"] {
        assert!(SourceOp::from_user(text).is_err(), "{text}");
    }
}

#[test]
fn shows_no_secret() {
    let op = SourceOp::new("https://user:hunter2@a.b/c?token=hunter2");
    assert_eq!(op.to_string(), "https://***@a.b/c?token=***");
}

#[test]
fn errors_keep_their_cause() {
    use std::error::Error;
    let error = Source::parse(&SourceOp::new("docker-image://a@sha256:0")).unwrap_err();
    assert!(error.source().is_some_and(|cause| cause.is::<ReferenceError>()));
    let error = Source::parse(&SourceOp::new("https://a.b/..")).unwrap_err();
    assert!(error.source().is_some_and(|cause| cause.is::<Ambiguity>()));
}

proptest::proptest! {
    #[test]
    fn no_text_panics(
        text in "(docker-image|oci-layout|git|http|https|local)(\\+blob)?://(?s).{0,60}|(?s).{0,60}",
        attr in "(?s).{0,40}",
    ) {
        let mut op = SourceOp::new(text.as_str());
        let errors = [Source::parse(&op).err(), SourceOp::from_user(&text).err(),
                      parse_git_user(&text).err()];
        for error in errors.into_iter().flatten() {
            proptest::prop_assert!(!error.to_string().contains(char::is_control));
        }
        for name in ["git.fullurl", "git.bundle", "git.checksum", "http.checksum"] {
            op.attrs.insert(name.into(), attr.clone());
        }
        let _ = (op.bundle(), op.to_string());
        if let Err(error) = Source::parse(&op) {
            proptest::prop_assert!(!error.to_string().contains(char::is_control));
        }
    }
}
