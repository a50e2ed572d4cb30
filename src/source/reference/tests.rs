use proptest::prelude::*;

use super::*;

fn image(text: &str) -> ImageSource {
    ImageSource::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn completes_short_names() {
    let check = |text: &str, reference: &str, familiar: &str| {
        let image = image(text);
        assert_eq!(
            (image.reference().as_str(), image.familiar_repo().as_str()),
            (reference, familiar)
        );
    };
    check("alpine", "docker.io/library/alpine", "alpine");
    check("library/alpine", "docker.io/library/alpine", "alpine");
    check("docker.io/alpine:3", "docker.io/library/alpine:3", "alpine");
    check("docker.io/library", "docker.io/library/library", "library");
    check("library/library/alpine", "docker.io/library/library/alpine", "library/library/alpine");
    check("index.docker.io/foo/bar", "docker.io/foo/bar", "foo/bar");
    check("index.docker.io/alpine", "docker.io/library/alpine", "alpine");
    check("localhost/foo", "localhost/foo", "localhost/foo");
    check("Localhost/foo", "Localhost/foo", "Localhost/foo");
    check("LOCALHOST/foo", "LOCALHOST/foo", "LOCALHOST/foo");
    check("localhost:5000", "docker.io/library/localhost:5000", "localhost");
    check("foo:5000/bar", "foo:5000/bar", "foo:5000/bar");
    check(
        "docker.io:443/library/alpine",
        "docker.io:443/library/alpine",
        "docker.io:443/library/alpine",
    );
    check("Docker.io/library/alpine", "Docker.io/library/alpine", "Docker.io/library/alpine");
    check("127.0.0.1:5000/a/b/c:tag", "127.0.0.1:5000/a/b/c:tag", "127.0.0.1:5000/a/b/c");
    check("[2001:db8::1]/foo:1", "[2001:db8::1]/foo:1", "[2001:db8::1]/foo");
    check("[2001:DB8::1]:5000/foo", "[2001:DB8::1]:5000/foo", "[2001:DB8::1]:5000/foo");
    check("xn--alpine.com/a", "xn--alpine.com/a", "xn--alpine.com/a");
    check("a.io/b_c.d-e/f__g--h", "a.io/b_c.d-e/f__g--h", "a.io/b_c.d-e/f__g--h");
    check("a:_t.A-9", "docker.io/library/a:_t.A-9", "a");
}

#[test]
fn keeps_tag_and_digest() {
    let digest = format!("sha256:{}", "4b".repeat(32));
    let both = image(&format!("alpine:3@{digest}"));
    assert_eq!(both.reference(), format!("docker.io/library/alpine:3@{digest}"));
    assert_eq!(both.identifier(), format!("docker-image://docker.io/library/alpine:3@{digest}"));
    assert!(both.is_canonical());
    assert!(!image("alpine:3").is_canonical());
    let pinned = image("alpine:3").with_digest(&digest.parse().unwrap());
    assert_eq!(pinned, both);
    assert_eq!(image("alpine").or_latest().reference(), "docker.io/library/alpine:latest");
    assert_eq!(both.clone().or_latest(), both);
    for (algorithm, length) in [("sha384", 96), ("sha512", 128)] {
        assert!(image(&format!("a@{algorithm}:{}", "0".repeat(length))).is_canonical());
    }
}

#[test]
fn holds_the_limits() {
    image(&"a".repeat(255 - "library/".len()));
    image(&format!("a.b/{}", "a".repeat(255)));
    image(&format!("a:{}", "t".repeat(128)));
    image(&format!("foo/{}", "4b".repeat(32)));
    let length = |text: &str| match ImageSource::parse(text) {
        Err(ReferenceError::TooLong { length }) => length,
        other => panic!("{other:?}"),
    };
    assert_eq!(length(&"a".repeat(248)), 256);
    assert_eq!(length(&format!("a.b/{}", "a".repeat(256))), 256);
    assert!(matches!(
        ImageSource::parse(&format!("a:{}", "t".repeat(129))),
        Err(ReferenceError::Tag { .. })
    ));
}

proptest! {
    #[test]
    fn never_panics(text in "(?s).{0,80}") {
        let _ = ImageSource::parse(&text);
    }

    #[test]
    fn what_is_formatted_parses_to_the_same(
        text in "([a-zA-Z0-9.:\\[\\]-]{1,9}/)?[a-z0-9._/-]{1,20}(:[a-zA-Z0-9._-]{0,9})?(@sha256:[a-f0-9]{64})?",
    ) {
        if let Ok(image) = ImageSource::parse(&text) {
            prop_assert_eq!(ImageSource::parse(&image.reference()), Ok(image.clone()));
            prop_assert_eq!(ImageSource::parse(&image.familiar_repo()).unwrap().full_repo(), image.full_repo());
            prop_assert!(!image.host.is_empty() && !image.path.is_empty());
            prop_assert_eq!(image.path.to_lowercase(), image.path);
        }
    }
}
