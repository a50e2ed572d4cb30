//! Registries that take their time, or never end.

use super::*;

#[tokio::test]
async fn nobody_can_make_us_wait_or_read_forever() {
    check(|_, _| Reply::Endless, DIGEST, "HOST/acme/app:1: larger than the limit of 16384 bytes")
        .await;
    check(
        |_, _| Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".to_vec()),
        DIGEST,
        "HOST/acme/app:1: larger than the limit of 16384 bytes",
    )
    .await;
    check(|_, _| Reply::Silence, DIGEST, "HOST/acme/app:1: no answer within 0.6 s").await;
    check(|_, _| Reply::Drip, DIGEST, "docker-image://HOST/acme/app:1: no answer within 1.5 s")
        .await;
    check(
        |_, _| Reply::Raw(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec()),
        DIGEST,
        "HOST/acme/app:1: HOST broke off in the middle of its answer: end of file before \
         message length reached",
    )
    .await;
    check(
        |_, _| Reply::Raw(b"nonsense\r\n\r\n".to_vec()),
        DIGEST,
        "HOST/acme/app:1: HOST cannot be reached: invalid HTTP version parsed",
    )
    .await;
    check(
        |asked, _| Reply::redirect(&asked.target),
        DIGEST,
        "HOST/acme/app:1: HOST redirects more than 10 times in a row",
    )
    .await;
    check(
        |_, _| Reply::redirect("file:///etc/passwd"),
        DIGEST,
        "HOST/acme/app:1: HOST redirects to something that is no http(s) URL: \
         \"file:///etc/passwd\"",
    )
    .await;
    check(
        |_, _| Reply::status(302),
        DIGEST,
        "HOST/acme/app:1: HOST redirects to something that is no http(s) URL: \"\"",
    )
    .await;
}

#[tokio::test]
async fn nested_indexes_end() {
    let mut store = Store::default();
    let mut inner = plain(&mut store);
    let mut root = Value::Null;
    for _ in 0..8 {
        inner["platform"] = json!({"os": "linux", "architecture": "amd64"});
        inner = store.document(OCI_INDEX, Some("1"), &json!({"manifests": [inner]}));
        root = inner.clone();
    }
    let expected = format!(
        "HOST/acme/app@{}: indexes are nested more than 4 deep",
        root["digest"].as_str().unwrap()
    );
    check(serving(store), CONFIG, &expected).await;
}

#[tokio::test]
async fn a_busy_registry_is_asked_again_but_not_forever() {
    for (failures, expected) in [(2, Ok(())), (3, Err(()))] {
        for status in [429, 503] {
            let mut store = Store::default();
            plain(&mut store);
            let server = Server::start(move |asked, number| match number < failures {
                true => Reply::status(status).with("Retry-After", "0"),
                false => store.get(asked),
            })
            .await;
            let (network, _folder) = network("{}", |_| {});
            let found = ask(&network, &server.host, DIGEST).await;
            assert_eq!(found.map(|_| ()).map_err(|_| ()), expected, "{status} {failures}");
            assert_eq!(server.log().len(), 3);
        }
    }
}
