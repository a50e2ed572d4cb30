//! Good and bad download hosts, played on loopback.

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::meta::{ChecksumRequest, MetaRequest, ResolveSourceMeta};
use crate::resolve::Network;
use crate::resolve::testing::{Asked, Reply, Server, options};
use crate::source::SourceOp;

fn network() -> (Network, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, "{}").unwrap();
    (Network::new(options(&path)).unwrap(), folder)
}

fn request(url: &str, attrs: &[(&str, &str)], checksum: Option<ChecksumRequest>) -> MetaRequest {
    let attrs = attrs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    MetaRequest {
        source: SourceOp { identifier: url.into(), attrs },
        http: Some(HttpRequest { checksum }),
        ..MetaRequest::default()
    }
}

async fn ask(
    network: &Network,
    url: &str,
    attrs: &[(&str, &str)],
    checksum: Option<ChecksumRequest>,
) -> Result<HttpMeta, ResolveError> {
    let request = request(url, attrs, checksum);
    network.resolve(&request).await.map(|meta| meta.http.unwrap())
}

async fn check<F>(reply: F, attrs: &[(&str, &str)], expected: &str)
where
    F: Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
{
    let server = Server::start(reply).await;
    let (network, _folder) = network();
    let found = match ask(&network, &format!("http://{}/a/b.tgz", server.host), attrs, None).await {
        Ok(meta) => format!("{} {}", meta.filename, meta.checksum),
        Err(error) => error.to_string().replace(&server.host, "HOST"),
    };
    assert_eq!(found, expected);
}

const ABC: &str = "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

fn suffixed(suffix: &'static [u8]) -> Option<ChecksumRequest> {
    let suffix = Bytes::from_static(suffix);
    Some(ChecksumRequest { algorithm: ChecksumAlgorithm::Sha384, suffix })
}

#[tokio::test]
async fn a_file_is_named_as_buildkit_names_it() {
    let named = |value: &'static str| {
        move |_: &Asked, _: usize| Reply::ok("", "abc").with("Content-Disposition", value)
    };
    let cases = [
        ("attachment", "b.tgz"),
        ("attachment; filename=x.tgz", "x.tgz"),
        ("attachment; filename=\"x y;z.tgz\"", "x y;z.tgz"),
        ("attachment; filename=\"../../etc/passwd\"", "passwd"),
        ("attachment; filename=\"..\"", "download"),
        ("attachment; filename=\"dir/\"", "b.tgz"),
        ("attachment; filename=a; filename*=UTF-8''%e2%82%ac.txt", "€.txt"),
    ];
    for (value, expected) in cases {
        check(named(value), &[], &format!("{expected} {ABC}")).await;
    }
    check(named("attachment; filename=x"), &[("http.filename", "mine")], &format!("mine {ABC}"))
        .await;
}

#[tokio::test]
async fn a_checksum_request_hashes_the_suffix_too() {
    let server = Server::start(|_, _| Reply::ok("", "abc")).await;
    let (network, _folder) = network();
    let url = format!("http://{}/f", server.host);
    let meta = ask(&network, &url, &[], suffixed(b"xyz")).await.unwrap();
    assert_eq!(meta.checksum, ABC);
    let response = meta.checksum_response.unwrap();
    assert_eq!(response.digest, digest::of(ChecksumAlgorithm::Sha384, b"abcxyz"));
    assert_eq!(&*response.suffix, b"xyz");
    static LONG: [u8; MAX_SUFFIX + 1] = [0; MAX_SUFFIX + 1];
    let error = ask(&network, &url, &[], suffixed(&LONG)).await.unwrap_err().to_string();
    assert!(error.ends_with("the suffix of a checksum request has 4097 bytes, more than 4096"));
}

#[tokio::test]
async fn a_declared_checksum_is_the_answer_and_verified_when_read() {
    let server = Server::start(|_, _| Reply::ok("", "abc")).await;
    let (network, _folder) = network();
    let url = format!("http://{}/f", server.host);
    let other = format!("sha256:{}", "0".repeat(64));
    let meta = ask(&network, &url, &[("http.checksum", &other)], None).await.unwrap();
    assert_eq!((meta.checksum, meta.filename.as_str()), (other.clone(), "f"));
    assert!(server.log().is_empty());
    let read = ask(&network, &url, &[("http.checksum", &other)], suffixed(b"")).await;
    assert!(matches!(read, Err(ResolveError::DigestMismatch { .. })), "{read:?}");
}

#[tokio::test]
async fn a_file_may_not_change_while_it_is_judged() {
    let server = Server::start(|_, number| Reply::ok("", format!("{number}"))).await;
    let (network, _folder) = network();
    let url = format!("http://{}/f", server.host);
    ask(&network, &url, &[], None).await.unwrap();
    // The same question is not asked again; another one reads the file again.
    ask(&network, &url, &[], None).await.unwrap();
    assert_eq!(server.log().len(), 1);
    let error = ask(&network, &url, &[], suffixed(b"x")).await.unwrap_err().to_string();
    assert!(error.contains("/f changed while it was judged: expected sha256:"), "{error}");
}

#[tokio::test]
async fn bad_hosts_are_errors() {
    let status = |status| move |_: &Asked, _: usize| Reply::status(status);
    let what = "http://HOST/a/b.tgz";
    check(status(404), &[], &format!("{what}: not found")).await;
    check(
        status(401),
        &[],
        &format!("{what}: HOST refused access; buildgate sends no credentials to download hosts"),
    )
    .await;
    check(status(503), &[], &format!("{what}: HOST answered 503 Service Unavailable")).await;
    check(|_, _| Reply::Endless, &[], &format!("{what}: larger than the limit of 65536 bytes"))
        .await;
    check(|_, _| Reply::Silence, &[], &format!("{what}: no answer within 0.6 s")).await;
    check(|_, _| Reply::Drip, &[], &format!("{what}: no answer within 1.5 s")).await;
    check(
        |_, _| Reply::redirect("/a/b.tgz"),
        &[],
        &format!("{what}: HOST redirects more than 10 times in a row"),
    )
    .await;
    check(
        |_, _| Reply::redirect("ftp://x/"),
        &[],
        &format!("{what}: HOST redirects to something that is no http(s) URL: \"ftp://x/\""),
    )
    .await;
    check(
        |_, _| Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc".to_vec()),
        &[],
        &format!(
            "{what}: HOST broke off in the middle of its answer: end of file before message \
             length reached"
        ),
    )
    .await;
    check(
        |_, _| Reply::ok("", "abc"),
        &[("http.authheadersecret", "token")],
        &format!(
            "{what} cannot be resolved: the build sends a secret with it (http.authheadersecret), \
             which only the daemon's client has; let a rule judge it without http.checksum, or \
             declare its checksum"
        ),
    )
    .await;
}

#[test]
fn https_never_becomes_http() {
    let from = Url::parse("https://a.example/x").unwrap();
    let cases = [
        ("http://a.example/x", Some("from https to plain http, http://a.example/x")),
        ("//b.example/y", None),
        ("https://b.example/y", None),
        ("/z", None),
        ("javascript:x", Some("to something that is no http(s) URL: \"javascript:x\"")),
    ];
    for (location, expected) in cases {
        let headers: HeaderMap =
            [(::http::header::LOCATION, HeaderValue::from_static(location))].into_iter().collect();
        let found = crate::resolve::transport::target(&from, &headers).map_err(|e| e.to_string());
        assert_eq!(found.err().as_deref(), expected, "{location}");
    }
}
