//! Access to a registry: challenges (RFC 7235), bearer tokens as distribution's token server gives
//! them, and basic authentication.
//!
//! A token is asked for pulling one repository, whatever the challenge would have us ask for. A
//! password goes to the registry it is for, and to the token server that this registry names over
//! HTTPS (or on loopback); nowhere else.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::WWW_AUTHENTICATE;
use http::{HeaderMap, HeaderValue, StatusCode};
use serde::Deserialize;
use url::Url;

use super::credentials::{Credential, Credentials};
use crate::meta::ResolveError;
use crate::resolve::transport::{
    Answer, Body, Outgoing, Transport, authority, failed, is_loopback, shown,
};

/// An answer of a token server is a JSON object with one or two tokens.
const MAX_TOKEN_ANSWER: u64 = 1 << 20;

/// Who we are to registries, and the tokens we have been given.
pub(crate) struct Access {
    transport: Arc<Transport>,
    credentials: Credentials,
    /// `Authorization` by origin and repository.
    granted: Mutex<HashMap<(String, String), HeaderValue>>,
}

/// A repository on one endpoint of a registry.
#[derive(Clone, Debug)]
pub(crate) struct Realm {
    /// The registry that credentials are looked up for.
    pub host: String,
    /// Path of the repository there.
    pub repository: String,
}

/// One challenge of a `WWW-Authenticate` header.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// `bearer` or `basic`, lower case.
    pub scheme: String,
    /// Parameters, names in lower case.
    pub parameters: HashMap<String, String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
}

/// A challenge or token that leads nowhere.
#[derive(Debug, thiserror::Error)]
pub(super) enum AuthError {
    #[error("the registry names a token server that is no URL: {0:?}")]
    Realm(String),
    #[error("the registry names a token server without HTTPS: {0}")]
    InsecureRealm(String),
    #[error("the token server's answer is not JSON: {0}")]
    Json(serde_json::Error),
    #[error("the token server's answer holds no usable token")]
    NoToken,
    #[error("the user name and password cannot be sent as a header")]
    Header,
}

impl Access {
    /// Access with `credentials`.
    pub(crate) fn new(transport: Arc<Transport>, credentials: Credentials) -> Self {
        Self { transport, credentials, granted: Mutex::default() }
    }

    /// Sends a request to `realm`, and again with a token where the registry wants one.
    ///
    /// # Errors
    /// When access is refused, the thing is not there, or anything but success is answered.
    pub(crate) async fn send(
        &self,
        realm: &Realm,
        mut request: Outgoing<'_>,
    ) -> Result<Answer, ResolveError> {
        let key = (request.url.origin().ascii_serialization(), realm.repository.clone());
        request.authorization = self.granted().get(&key).cloned();
        let mut answer = self.transport.send(&request).await?;
        if answer.response.status() == StatusCode::UNAUTHORIZED {
            let challenges = challenges(answer.response.headers());
            // The challenge of a redirect's target is not the registry's.
            if answer.response.url().origin() != request.url.origin() {
                return Err(self.refusal(
                    realm,
                    request.what,
                    "a redirect led to where nobody is \
                     logged in",
                ));
            }
            let value = self.authorize(realm, &request, &challenges).await?;
            request.authorization = Some(value.clone());
            answer = self.transport.send(&request).await?;
            if answer.response.status().is_success() {
                self.granted().insert(key, value);
            }
        }
        match answer.response.status() {
            status if status.is_success() => Ok(answer),
            StatusCode::NOT_FOUND => Err(ResolveError::NotFound { what: request.what.into() }),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                let advice = login_advice(&realm.host);
                Err(self.refusal(realm, request.what, &advice))
            }
            _ => Err(answer.unexpected(request.what)),
        }
    }

    fn granted(&self) -> std::sync::MutexGuard<'_, HashMap<(String, String), HeaderValue>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refusal(&self, realm: &Realm, what: &str, advice: &str) -> ResolveError {
        ResolveError::Unauthorized {
            what: what.into(),
            host: realm.host.clone(),
            advice: advice.into(),
        }
    }

    /// The `Authorization` that answers `challenges`.
    async fn authorize(
        &self,
        realm: &Realm,
        request: &Outgoing<'_>,
        challenges: &[Challenge],
    ) -> Result<HeaderValue, ResolveError> {
        let what = request.what;
        let credential =
            self.credentials.of(&realm.host).await.map_err(|error| failed(what, error))?;
        if let Some(bearer) = challenges.iter().find(|challenge| challenge.scheme == "bearer") {
            if let Some(Credential::RegistryToken(token)) = &credential {
                return header(&format!("Bearer {token}")).map_err(|error| failed(what, error));
            }
            return self.token(realm, request, bearer, credential).await;
        }
        let basic = challenges.iter().any(|challenge| challenge.scheme == "basic");
        match credential {
            Some(Credential::Basic { user, password }) if basic => {
                basic_header(&user, &password).map_err(|error| failed(what, error))
            }
            _ if basic => Err(self.refusal(realm, what, &login_advice(&realm.host))),
            _ => Err(self.refusal(
                realm,
                what,
                "it names no way to log in that buildgate knows (no Bearer or Basic challenge)",
            )),
        }
    }

    /// A token for pulling from the repository (distribution's token protocol).
    async fn token(
        &self,
        realm: &Realm,
        request: &Outgoing<'_>,
        challenge: &Challenge,
        credential: Option<Credential>,
    ) -> Result<HeaderValue, ResolveError> {
        let what = request.what;
        let url = token_server(&request.url, challenge).map_err(|error| failed(what, error))?;
        let service = challenge.parameters.get("service").map_or("", String::as_str);
        let scope = format!("repository:{}:pull", realm.repository);
        let host = authority(&url);
        let answer = match &credential {
            Some(Credential::IdentityToken(token)) => {
                let form = [
                    ("grant_type", "refresh_token"),
                    ("service", service),
                    ("client_id", "buildgate"),
                    ("scope", scope.as_str()),
                    ("refresh_token", token.as_str()),
                ];
                self.transport.send(&bare(what, url, Body::Form(&form))).await?
            }
            other => {
                let mut url = url;
                if !service.is_empty() {
                    url.query_pairs_mut().append_pair("service", service);
                }
                url.query_pairs_mut().append_pair("scope", &scope);
                let mut get = bare(what, url, Body::Get);
                if let Some(Credential::Basic { user, password }) = other {
                    let value =
                        basic_header(user, password).map_err(|error| failed(what, error))?;
                    get.authorization = Some(value);
                }
                self.transport.send(&get).await?
            }
        };
        let status = answer.response.status();
        if status.is_client_error() {
            let (host, advice) = (host, login_advice(&realm.host));
            return Err(ResolveError::Unauthorized { what: what.into(), host, advice });
        }
        if !status.is_success() {
            return Err(answer.unexpected(what));
        }
        let body = answer.bytes(&format!("the token for {what}"), MAX_TOKEN_ANSWER).await?;
        granted(&body).map_err(|error| failed(what, error))
    }
}

/// The `Authorization` that a token server's answer grants.
pub(super) fn granted(body: &[u8]) -> Result<HeaderValue, AuthError> {
    let parsed: TokenAnswer = serde_json::from_slice(body).map_err(AuthError::Json)?;
    parsed
        .token
        .filter(|token| !token.is_empty())
        .or(parsed.access_token.filter(|token| !token.is_empty()))
        .ok_or(AuthError::NoToken)
        .and_then(|token| header(&format!("Bearer {token}")).map_err(|_| AuthError::NoToken))
}

/// The challenges of an answer, in order.
pub(crate) fn challenges(headers: &HeaderMap) -> Vec<Challenge> {
    let values = headers.get_all(WWW_AUTHENTICATE).iter();
    values.filter_map(|value| value.to_str().ok()).flat_map(parse_challenges).collect()
}

/// Parses `scheme name=value, name="value", scheme …` (RFC 7235); stops at what it cannot read.
fn parse_challenges(value: &str) -> Vec<Challenge> {
    let mut found: Vec<Challenge> = Vec::new();
    let mut rest = value.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find(|c: char| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            break;
        }
        let trimmed = after.trim_start();
        match (trimmed.strip_prefix('='), found.last_mut()) {
            (Some(after), Some(challenge)) => {
                let (value, after) = parameter(after.trim_start());
                challenge.parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                rest = after;
            }
            (Some(_), None) => break,
            (None, _) => {
                let scheme = word.to_ascii_lowercase();
                found.push(Challenge { scheme, parameters: HashMap::new() });
                rest = trimmed;
            }
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    found
}

fn is_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

/// A parameter's value, and what follows it.
fn parameter(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or("")),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            _ => value.push(c),
        }
    }
    (value, "")
}

/// The token server that a registry names: over HTTPS, or on loopback for a registry there.
pub(super) fn token_server(registry: &Url, challenge: &Challenge) -> Result<Url, AuthError> {
    let text = challenge.parameters.get("realm").cloned().unwrap_or_default();
    let Ok(url) = Url::parse(&text) else {
        return Err(AuthError::Realm(text));
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if registry.scheme() == "http" && is_loopback(&url) => Ok(url),
        "http" => Err(AuthError::InsecureRealm(shown(&url))),
        _ => Err(AuthError::Realm(text)),
    }
}

fn bare<'a>(what: &'a str, url: Url, body: Body<'a>) -> Outgoing<'a> {
    Outgoing { what, url, headers: HeaderMap::new(), authorization: None, body }
}

fn header(value: &str) -> Result<HeaderValue, AuthError> {
    HeaderValue::from_str(value).map_err(|_| AuthError::Header)
}

fn basic_header(user: &str, password: &str) -> Result<HeaderValue, AuthError> {
    header(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))
}

fn login_advice(host: &str) -> String {
    match host {
        "docker.io" => "check the name of the image, or log in with `docker login`".into(),
        host => format!("check the name of the image, or log in with `docker login {host}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_rfc_7235_has_them() {
        type Expected = &'static [(&'static str, &'static [(&'static str, &'static str)])];
        let cases: &[(&str, Expected)] = &[
            ("Basic realm=\"x\"", &[("basic", &[("realm", "x")])]),
            (
                "Bearer realm=\"https://a/t\",service=\"s\", scope=\"repository:a/b:pull,push\"",
                &[(
                    "bearer",
                    &[
                        ("realm", "https://a/t"),
                        ("service", "s"),
                        ("scope", "repository:a/b:pull,push"),
                    ],
                )],
            ),
            ("Negotiate, BEARER Realm=x", &[("negotiate", &[]), ("bearer", &[("realm", "x")])]),
            ("Bearer realm=\"a\\\"b\"", &[("bearer", &[("realm", "a\"b")])]),
            ("Bearer realm=\"unclosed", &[("bearer", &[("realm", "unclosed")])]),
            ("Bearer realm=one,realm=two", &[("bearer", &[("realm", "one")])]),
            ("=", &[]),
            ("realm=x", &[]),
            ("", &[]),
        ];
        for (value, expected) in cases {
            let expected: Vec<Challenge> = expected
                .iter()
                .map(|(scheme, parameters)| Challenge {
                    scheme: (*scheme).into(),
                    parameters: parameters
                        .iter()
                        .map(|(name, value)| ((*name).into(), (*value).into()))
                        .collect(),
                })
                .collect();
            assert_eq!(parse_challenges(value), expected, "{value}");
        }
    }

    #[test]
    fn a_token_server_has_https_or_stands_beside_its_registry() {
        let cases = [
            ("https://r.example", "https://t.example/token", Ok(())),
            ("http://127.0.0.1:5", "http://127.0.0.1:6/token", Ok(())),
            (
                "https://r.example",
                "http://127.0.0.1:6/token",
                Err("the registry names a token server without HTTPS: http://127.0.0.1:6/token"),
            ),
            (
                "http://127.0.0.1:5",
                "http://t.example/token?a=secret",
                Err("the registry names a token server without HTTPS: http://t.example/token"),
            ),
            (
                "https://r.example",
                "file:///etc/passwd",
                Err("the registry names a token server that is no URL: \"file:///etc/passwd\""),
            ),
            (
                "https://r.example",
                "",
                Err("the registry names a token server that is no URL: \"\""),
            ),
        ];
        for (registry, realm, expected) in cases {
            let challenge = Challenge {
                scheme: "bearer".into(),
                parameters: HashMap::from([("realm".into(), realm.into())]),
            };
            let found = token_server(&Url::parse(registry).unwrap(), &challenge);
            let found = found.map(|_| ()).map_err(|error| error.to_string());
            assert_eq!(found, expected.map_err(str::to_owned), "{registry} {realm}");
        }
    }
}
