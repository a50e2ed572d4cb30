#![no_main]
//! What a registry answers: a header's value and a body, parted by a line of `--8<--`. Whatever they are,
//! no token is asked for without encryption, no list goes on elsewhere, and what is read says how big it is.

use buildgate::resolve::read_anything;
use libfuzzer_sys::fuzz_target;
use url::Url;

mod parts;

fuzz_target!(|data: &[u8]| {
    let [head, body] = parts::of(data);
    let Ok(head) = std::str::from_utf8(head) else { return };
    let from = Url::parse("https://registry.example.com/v2/app/referrers/sha256:0").unwrap();
    let reading = read_anything(&from, head, body);
    if let Some(server) = &reading.token_server {
        assert_eq!(server.scheme(), "https");
    }
    if let Some(next) = &reading.next {
        assert_eq!((next.origin(), next.path()), (from.origin(), from.path()));
    }
    if let Some((media_type, found)) = &reading.document {
        assert!(media_type.starts_with("application/vnd."));
        assert!(found.len() <= body.len());
    }
    assert!(reading.granted.is_none_or(|value| value.starts_with("Bearer ") && value.len() > 7));
    assert!(reading.referrers.is_none_or(|number| number <= body.len()));
    // Whoever is asked the same says the same.
    assert_eq!(read_anything(&from, head, body).document, reading.document);
});
