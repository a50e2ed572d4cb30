//! Whom signatures of images and attestations are trusted by, and what was verified by them already.

use std::sync::{Arc, LazyLock};

use url::{Host, Url};

use super::SignerCache;
use super::error::KeyFileError;
use super::sigstore::{HardenedKey, TrustRoot, TrustRootError, TrustRoots, VerificationCache};
use crate::source::mask_text;

/// Trust roots by name, and a memory of what held. One for all policies of a process.
#[derive(Debug)]
pub struct Trust {
    roots: Result<TrustRoots, TrustRootError>,
    hardened: Result<HardenedKey, KeyFileError>,
    github: Github,
    /// What was verified already.
    pub cache: VerificationCache,
    /// What was verified already by key files, which needs no roots.
    pub signers: SignerCache,
}

/// Who vouches for the workflows of github.com, as certificates name it.
pub(super) const GITHUB_ISSUER: &str = "https://token.actions.githubusercontent.com";

/// Where GitHub is: the public one, or an enterprise's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Github {
    /// Its API, without a slash at the end.
    pub api: String,
    /// Where its repositories are, as certificates name them; without a slash at the end.
    pub web: String,
    /// Who vouches for its workflows, as certificates name it: the OIDC issuer's URL.
    pub issuer: String,
}

/// A URL that is no API of GitHub.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{url:?} is no API of GitHub: {why}")]
pub struct GithubError {
    /// What was given.
    url: String,
    /// Why not, and what is accepted.
    why: String,
}

impl Default for Github {
    fn default() -> Self {
        Self {
            api: "https://api.github.com".to_owned(),
            web: "https://github.com".to_owned(),
            issuer: GITHUB_ISSUER.to_owned(),
        }
    }
}

impl Github {
    /// The GitHub whose API this is: `https://api.github.com`, an enterprise's in GitHub's cloud
    /// (`https://api.NAME.ghe.com`), or an enterprise's server (`https://HOST/api/v3`). Where its
    /// repositories are and who vouches for its workflows follows from that
    /// (<https://docs.github.com/enterprise-server/rest>).
    ///
    /// # Errors
    /// When it is no plain URL, or one without TLS beyond this machine.
    pub fn at(api: &str) -> Result<Self, GithubError> {
        let wrong = |why: &str| GithubError { url: mask_text(api), why: why.to_owned() };
        // A parser of URLs passes over some of them.
        if api.chars().any(|c| c.is_whitespace() || c.is_control()) {
            return Err(wrong("a URL holds no blanks"));
        }
        let url: Url = api.parse().map_err(|error: url::ParseError| wrong(&error.to_string()))?;
        let host = url.host_str().ok_or_else(|| wrong("it names no host"))?.to_owned();
        let here = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(address)) => address.is_loopback(),
            Some(Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        match url.scheme() {
            "https" => {}
            "http" if here => {}
            _ => return Err(wrong("https is wanted, but for loopback")),
        }
        let plain = url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !plain {
            return Err(wrong("it is a URL without credentials, query or fragment"));
        }
        let api = url.as_str().trim_end_matches('/').to_owned();
        let public = Self::default();
        if api == public.api {
            return Ok(public);
        }
        let enterprise = host.strip_prefix("api.").filter(|rest| rest.ends_with(".ghe.com"));
        if let (Some(rest), None, "https") = (enterprise, url.port(), url.scheme()) {
            let (web, issuer) =
                (format!("https://{rest}"), format!("https://token.actions.{rest}"));
            return Ok(Self { api, web, issuer });
        }
        let web = url.origin().ascii_serialization();
        let issuer = format!("{web}/_services/token");
        Ok(Self { api, web, issuer })
    }
}

static EMBEDDED: LazyLock<Arc<Trust>> =
    LazyLock::new(|| Arc::new(Trust::of(TrustRoots::embedded())));

impl Trust {
    /// Trust in these roots, and in the key of Docker Hardened Images that is built in.
    pub fn new(roots: TrustRoots) -> Self {
        Self::of(Ok(roots))
    }

    /// Trust in the roots that are part of this program, the same for all who ask.
    pub fn embedded() -> Arc<Self> {
        EMBEDDED.clone()
    }

    fn of(roots: Result<TrustRoots, TrustRootError>) -> Self {
        let hardened = HardenedKey::built_in();
        Self {
            roots,
            hardened,
            github: Github::default(),
            cache: VerificationCache::default(),
            signers: SignerCache::default(),
        }
    }

    /// The same with another key for Docker Hardened Images, for whoever tests without Docker's.
    #[doc(hidden)]
    #[must_use]
    pub fn with_hardened(mut self, key: HardenedKey) -> Self {
        self.hardened = Ok(key);
        self
    }

    /// The same with another GitHub.
    #[must_use]
    pub fn with_github(mut self, github: Github) -> Self {
        self.github = github;
        self
    }

    /// The root of a name; Sigstore's public instance where none is given.
    ///
    /// # Errors
    /// When there is none of that name, or an embedded one cannot be read.
    pub fn root(&self, name: Option<&str>) -> Result<&Arc<TrustRoot>, TrustRootError> {
        self.roots.as_ref().map_err(Clone::clone)?.get(name)
    }

    /// All roots, by name.
    ///
    /// # Errors
    /// When an embedded one cannot be read.
    pub fn roots(&self) -> Result<&TrustRoots, TrustRootError> {
        self.roots.as_ref().map_err(Clone::clone)
    }

    /// The key of Docker Hardened Images.
    ///
    /// # Errors
    /// When it cannot be read, which the tests of this program rule out.
    pub fn hardened(&self) -> Result<&HardenedKey, KeyFileError> {
        self.hardened.as_ref().map_err(Clone::clone)
    }

    /// Where GitHub is.
    pub const fn github(&self) -> &Github {
        &self.github
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_the_api_is_the_rest_is() {
        let hub = |api: &str, web: &str, issuer: &str| {
            Ok(Github { api: api.to_owned(), web: web.to_owned(), issuer: issuer.to_owned() })
        };
        let server = "https://git.corp.example/_services/token";
        for (given, wanted) in [
            ("https://api.github.com", Ok(Github::default())),
            ("https://api.github.com/", Ok(Github::default())),
            ("HTTPS://API.GitHub.com:443", Ok(Github::default())),
            (
                "https://api.corp.ghe.com/",
                hub(
                    "https://api.corp.ghe.com",
                    "https://corp.ghe.com",
                    "https://token.actions.corp.ghe.com",
                ),
            ),
            // A name of somebody else's domain is nobody in GitHub's cloud.
            (
                "https://api.ghe.com.example",
                hub(
                    "https://api.ghe.com.example",
                    "https://api.ghe.com.example",
                    "https://api.ghe.com.example/_services/token",
                ),
            ),
            (
                "https://git.corp.example/api/v3/",
                hub("https://git.corp.example/api/v3", "https://git.corp.example", server),
            ),
            (
                "https://git.corp.example/a/../api/v3",
                hub("https://git.corp.example/api/v3", "https://git.corp.example", server),
            ),
            (
                "http://127.0.0.1:3000/api/v3",
                hub(
                    "http://127.0.0.1:3000/api/v3",
                    "http://127.0.0.1:3000",
                    "http://127.0.0.1:3000/_services/token",
                ),
            ),
            (
                "http://[::1]:1",
                hub("http://[::1]:1", "http://[::1]:1", "http://[::1]:1/_services/token"),
            ),
            ("http://git.corp.example/api/v3", Err("https is wanted")),
            ("http://api.github.com", Err("https is wanted")),
            ("http://127.0.0.1.example", Err("https is wanted")),
            ("ftp://git.corp.example", Err("https is wanted")),
            ("https://me:secret@git.corp.example", Err("without credentials")),
            ("https://me@git.corp.example", Err("without credentials")),
            ("https://git.corp.example/?a=b", Err("without credentials")),
            ("https://git.corp.example/#a", Err("without credentials")),
            ("https://git.corp.example/ https://x.example", Err("holds no blanks")),
            ("https://git.corp\n.example", Err("holds no blanks")),
            ("git.corp.example", Err("is no API of GitHub")),
            ("file:///etc/passwd", Err("names no host")),
            ("", Err("is no API of GitHub")),
        ] {
            match (Github::at(given), wanted) {
                (Ok(found), Ok(wanted)) => assert_eq!(found, wanted, "{given}"),
                (Err(error), Err(words)) => {
                    let said = error.to_string();
                    assert!(said.contains(words), "{given}: {said}");
                    assert!(!said.contains("secret"), "{given}: {said}");
                }
                (found, wanted) => panic!("{given}: {found:?}, and {wanted:?} was wanted"),
            }
        }
    }
}
