//! The readers of what registries say, for whoever tests them with anything: no request is made here, and
//! nothing is decided.

use http::header::{LINK, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderValue};
use url::Url;

use super::auth::{challenges, granted, token_server};
use super::document::{Content, read, read_referrers};
use super::referrers::following;

/// What was made of an answer, by each reader that may get to see it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// As a manifest or index: its media type, and what it points to by digest and size.
    pub document: Option<(String, Vec<(String, u64)>)>,
    /// As a list of referrers: how many it has.
    pub referrers: Option<usize>,
    /// As a token server's answer: the `Authorization`.
    pub granted: Option<String>,
    /// As a challenge: where a token is asked for.
    pub token_server: Option<Url>,
    /// As a link: where a list goes on.
    pub next: Option<Url>,
}

/// Reads an answer of the registry at `from`: a header's value and a body.
pub fn read_anything(from: &Url, head: &str, body: &[u8]) -> Reading {
    let document = read(head, body).ok().map(|(media_type, content)| {
        let found = match content {
            Content::Index(index) => index.manifests,
            Content::Manifest(manifest) => {
                std::iter::once(manifest.config).chain(manifest.layers).collect()
            }
        };
        (media_type, found.into_iter().map(|it| (it.digest, it.size)).collect())
    });
    let mut reading = Reading {
        document,
        referrers: read_referrers(body).ok().map(|index| index.manifests.len()),
        granted: granted(body).ok().map(|it| String::from_utf8_lossy(it.as_bytes()).into_owned()),
        ..Reading::default()
    };
    let Ok(value) = HeaderValue::from_str(head) else { return reading };
    let mut headers = HeaderMap::new();
    headers.insert(WWW_AUTHENTICATE, value.clone());
    headers.insert(LINK, value);
    reading.token_server =
        challenges(&headers).iter().find_map(|challenge| token_server(from, challenge).ok());
    reading.next = following("the list", from, None, &headers).ok().flatten();
    reading
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reader_gets_to_see_it() {
        let from = Url::parse("https://r.example/v2/a/referrers/x").unwrap();
        let index = "application/vnd.oci.image.index.v1+json";
        let body = br#"{"manifests":[{"digest":"sha256:0","size":7}],"token":"t"}"#;
        let reading = read_anything(&from, index, body);
        assert_eq!(reading.document, Some((index.to_owned(), vec![("sha256:0".to_owned(), 7)])));
        assert_eq!(reading.referrers, Some(1));
        assert_eq!(reading.granted.as_deref(), Some("Bearer t"));
        let reading = read_anything(&from, "Bearer realm=\"https://t.example/token\"", b"");
        assert_eq!(reading.token_server.unwrap().as_str(), "https://t.example/token");
        let reading = read_anything(&from, "</v2/a/referrers/x?n=2>; rel=\"next\"", b"");
        assert_eq!(reading.next.unwrap().as_str(), "https://r.example/v2/a/referrers/x?n=2");
        assert_eq!(read_anything(&from, "\n", b"\xff"), Reading::default());
        // serde would take a list for an index.
        assert_eq!(read_anything(&from, index, b"[[],{}]"), Reading::default());
    }
}
