//! Who gets which credentials, and who never.

use super::*;

/// A registry with a token server in one: tokens for `Basic dXNlcjpwYXNz` or an identity token.
fn guarded(store: Store) -> impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static {
    move |asked, _| {
        let host = &asked.headers["host"];
        let authorization = asked.headers.get("authorization").map_or("", String::as_str);
        if asked.target.starts_with("/token") {
            let identity =
                asked.method == "POST" && asked.body.contains("refresh_token=id%2Ftoken");
            return match identity || authorization == "Basic dXNlcjpwYXNz" {
                true => Reply::ok("application/json", "{\"access_token\":\"good\"}"),
                false => Reply::status(401),
            };
        }
        match authorization {
            "Bearer good" => store.get(asked),
            _ => Reply::status(401).with(
                "WWW-Authenticate",
                &format!("Bearer realm=\"http://{host}/token\",service=\"svc\",scope=\"x:y:push\""),
            ),
        }
    }
}

#[tokio::test]
async fn tokens_are_asked_for_with_docker_s_credentials() {
    let refused = Err("log in with `docker login HOST`");
    let cases = [
        (
            r#"{"auths":{"HOST":{"auth":"dXNlcjpwYXNz"}}}"#,
            Ok("GET /token?service=svc&scope=repository%3Aacme%2Fapp%3Apull"),
        ),
        (
            r#"{"auths":{"https://HOST/v1/":{"username":"user","password":"pass"}}}"#,
            Ok("GET /token?service=svc&scope=repository%3Aacme%2Fapp%3Apull"),
        ),
        (r#"{"auths":{"HOST":{"identitytoken":"id/token"}}}"#, Ok("POST /token")),
        (r#"{"auths":{"HOST":{"auth":"d3Jvbmc6cGFzcw=="}}}"#, refused),
        (r#"{"auths":{"other.example":{"auth":"dXNlcjpwYXNz"}}}"#, refused),
        ("{}", refused),
        (
            r#"{"auths":{"HOST":{"auth":"%%%"}}}"#,
            Err("whose `auth` is not user:password in base64"),
        ),
        (
            r#"{"credsStore":"not/a/name"}"#,
            Err("names a credential helper that is no program name"),
        ),
        (
            r#"{"credHelpers":{"HOST":"buildgate-lacks-this"}}"#,
            Err("cannot run docker-credential-buildgate-lacks-this"),
        ),
    ];
    for (config, expected) in cases {
        let mut store = Store::default();
        plain(&mut store);
        let server = Server::start(guarded(store)).await;
        let (network, _folder) = network(&config.replace("HOST", &server.host), |_| {});
        let found = ask(&network, &server.host, CONFIG).await;
        match (found, expected) {
            (Ok(_), Ok(token)) => {
                let log = server.log();
                assert_eq!((log.len(), log[1].as_str()), (4, token), "{log:?}");
            }
            (Err(error), Err(expected)) => {
                let error = error.to_string().replace(&server.host, "HOST");
                assert!(error.contains(expected), "{config}: {error}");
            }
            (found, expected) => panic!("{config}: {found:?} instead of {expected:?}"),
        }
    }
}

#[tokio::test]
async fn a_token_that_is_refused_is_not_asked_for_forever() {
    let server = Server::start(|asked, _| match asked.target.starts_with("/token") {
        true => Reply::ok("application/json", "{\"token\":\"bad\"}"),
        false => Reply::status(401).with(
            "WWW-Authenticate",
            &format!("Bearer realm=\"http://{}/token\"", asked.headers["host"]),
        ),
    })
    .await;
    let (network, _folder) = network("{}", |_| {});
    let error = ask(&network, &server.host, DIGEST).await.unwrap_err();
    assert!(matches!(error, ResolveError::Unauthorized { .. }), "{error}");
    assert_eq!(server.log().len(), 3);
}

#[tokio::test]
async fn strange_token_answers_are_errors() {
    let cases: &[(Reply, &str)] = &[
        (
            Reply::ok("", "[]"),
            "the token server's answer is not JSON: invalid length 0, expected struct TokenAnswer with 2 elements at line 1 column 2",
        ),
        (Reply::ok("", "{}"), "the token server's answer holds no usable token"),
        (
            Reply::ok("", "{\"token\":\"a\\r\\nX-Evil: 1\"}"),
            "the token server's answer holds no usable token",
        ),
        (Reply::status(302).with("Location", "https://evil.example/"), ""),
    ];
    for (reply, expected) in cases {
        let reply = reply.clone();
        let server = Server::start(move |asked, _| match asked.target.starts_with("/token") {
            true => reply.clone(),
            false => Reply::status(401).with(
                "WWW-Authenticate",
                &format!("Bearer realm=\"http://{}/token\"", asked.headers["host"]),
            ),
        })
        .await;
        let (network, _folder) = network("{}", |_| {});
        let error = ask(&network, &server.host, DIGEST).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn credentials_never_reach_where_a_redirect_leads() {
    let mut store = Store::default();
    plain(&mut store);
    let cdn_store = store.clone();
    let cdn = Server::start(move |asked, _| cdn_store.get(asked)).await;
    let cdn_host = cdn.host.clone();
    let inner = guarded(store);
    let server = Server::start(move |asked, number| {
        let reply = inner(asked, number);
        let found = matches!(reply, Reply::Full(200, ..));
        if found && asked.target.contains("/blobs/") {
            Reply::redirect(&format!("http://{cdn_host}{}", asked.target))
        } else {
            reply
        }
    })
    .await;
    let config = r#"{"auths":{"HOST":{"auth":"dXNlcjpwYXNz"}}}"#.replace("HOST", &server.host);
    let (network, _folder) = network(&config, |_| {});
    ask(&network, &server.host, CONFIG).await.unwrap();
    assert_eq!(cdn.asked().len(), 1);
    assert!(!cdn.asked()[0].headers.contains_key("authorization"));
    let sent =
        server.asked().iter().filter(|asked| asked.headers.contains_key("authorization")).count();
    assert_eq!(sent, 3, "token server, manifest and blob");
}
