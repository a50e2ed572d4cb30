use proptest::prelude::*;

use super::*;
use crate::source::Source;

fn parse(url: &str) -> HttpSource {
    match Source::parse(&SourceOp::new(url)) {
        Ok(Source::Http(http)) => http,
        other => panic!("{url}: {other:?}"),
    }
}

#[test]
fn normalises_hosts() {
    for (url, host) in [
        ("https://A.B/C", "a.b"),
        ("Https://a.b./c", "a.b"),
        ("https://EVIL.com.:443/", "evil.com"),
        ("http://a.b:80/", "a.b"),
        ("http://a.b:0080/", "a.b"),
        ("http://a.b:443/", "a.b:443"),
        ("https://a.b:/", "a.b"),
        ("https://a.b:08443/", "a.b:8443"),
        ("https://user:pw@a.b/c", "a.b"),
        ("https://a_b.c/", "a_b.c"),
        ("https://1.2.3.4/x", "1.2.3.4"),
        ("https://0x7f.1/c", "0x7f.1"),
        ("https://[0:0:0:0:0:0:0:1]:8443/x", "[::1]:8443"),
        ("https://[2001:DB8::A]/x", "[2001:db8::a]"),
        ("https://[::ffff:1.2.3.4]/x", "[::ffff:1.2.3.4]"),
        ("https://[fe80::1%25en0]/x", "[fe80::1%en0]"),
        ("https://пример.рф/x", "xn--e1afmkfd.xn--p1ai"),
        ("https://%D0%BF.example/x", "xn--o1a.example"),
        ("https://ＡＢ.com/x", "ab.com"),
        ("https://ⅷ.com/x", "viii.com"),
        ("https://a。b/x", "a.b"),
        ("https://BÜCHER.example/x", "xn--bcher-kva.example"),
        ("https://straße.example/x", "xn--strae-oqa.example"),
    ] {
        assert_eq!(parse(url).host, host, "{url}");
    }
}

#[test]
fn decodes_paths_and_queries() {
    let check = |url: &str, path: &str, query: &[(&str, &[&str])]| {
        let http = parse(url);
        let values = |(key, values): &(&str, &[&str])| {
            ((*key).to_owned(), values.iter().map(|it| (*it).to_owned()).collect())
        };
        assert_eq!((http.path.as_str(), http.url.as_str()), (path, url));
        assert_eq!(http.query, query.iter().map(values).collect(), "{url}");
    };
    check("http://a.b", "", &[]);
    check("http://a.b/c%20d", "/c d", &[]);
    check("http://a.b//c/...", "//c/...", &[]);
    check("http://a.b/c;d?e=f;g=h", "/c;d", &[]);
    check("http://a.b/c#d", "/c", &[]);
    check("http://a.b?x", "", &[("x", &[""])]);
    check("http://a.b?@evil/../x", "", &[("@evil/../x", &[""])]);
    check("http://a.b/?x=1&y=z&x=2", "/", &[("x", &["1", "2"]), ("y", &["z"])]);
    check("http://a.b/?%78=a+b%2bc&&=v", "/", &[("", &["v"]), ("x", &["a b+c"])]);
    check("http://a.b/?x=%zz&y=1;2&z=3", "/", &[("z", &["3"])]);
}

#[test]
fn reads_its_attributes() {
    let mut op = SourceOp::new("https://a.b/c");
    op.attrs.insert("http.authheadersecret".into(), String::new());
    let digest = format!("sha256:{}", "0".repeat(64));
    op.attrs.insert("http.checksum".into(), digest.clone());
    let Ok(Source::Http(http)) = Source::parse(&op) else { panic!() };
    assert!(http.has_auth);
    assert_eq!(http.declared_checksum, Some(digest));
    let plain = parse("https://a.b/c");
    assert!(!plain.has_auth && plain.declared_checksum.is_none());
}

#[test]
fn too_many_parameters_are_an_error() {
    assert!(parse_query(&"a&".repeat(MAX_PARAMETERS - 1)).is_ok());
    assert_eq!(parse_query(&"a&".repeat(MAX_PARAMETERS)), Err(UrlError::TooManyParameters));
}

proptest! {
    #[test]
    fn never_panics_and_hosts_are_normal(
        host in "[a-zA-Z0-9.:%@\\[\\]-]{0,20}|\\PC{0,8}", path in "(?s).{0,30}",
    ) {
        let op = SourceOp::new(format!("https://{host}/{path}"));
        if let Ok(Source::Http(http)) = Source::parse(&op) {
            // An IPv6 zone is an interface's name, and keeps its case.
            let host = http.host.split('%').next().unwrap();
            prop_assert_eq!(host.to_ascii_lowercase(), host);
            prop_assert!(host.is_ascii() && !host.is_empty() && !host.ends_with('.'));
            prop_assert!(!http.path.split(['/', '\\']).any(|segment| segment == ".."));
            let again = parse(&format!("https://{}/", http.host.replace('%', "%25")));
            prop_assert_eq!(again.host, http.host);
        }
    }
}
