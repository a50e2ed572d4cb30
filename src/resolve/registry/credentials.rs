//! Docker's credentials: `config.json` with `auths`, `credHelpers` and `credsStore`.
//!
//! Read here rather than by a crate: `docker_credential` runs helpers without a time limit on a
//! blocking thread, cannot tell a missing config from an unreadable one, and puts a helper's
//! standard output, where secrets are, into its errors. A config that is there and cannot be read
//! is an error: going on without it would ask the registry as somebody else.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// How long a credential helper may take: it may have to unlock a keychain.
const HELPER_TIME: Duration = Duration::from_secs(30);
/// What a credential helper may say.
const HELPER_OUTPUT: u64 = 64 * 1024;
/// What Docker Hub is called in Docker's config.
const DOCKER_HUB: &str = "https://index.docker.io/v1/";
/// What a helper says where it has nothing (docker-credential-helpers).
const NOT_FOUND: &str = "credentials not found in native keychain";
/// The user name that marks a secret as an identity token.
const TOKEN_USER: &str = "<token>";

/// What a registry, or its token server, is told about who asks.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Credential {
    /// User name and password.
    Basic { user: String, password: String },
    /// A refresh token of the token server.
    IdentityToken(String),
    /// A token for the registry itself.
    RegistryToken(String),
}

/// Docker's config, read once.
#[derive(Debug, Default)]
pub(crate) struct Credentials {
    config: Config,
}

/// Credentials that are set up and cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// The config cannot be read.
    #[error("cannot read Docker's config {path}: {source}")]
    Read {
        /// Its path.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// The config is no config.
    #[error("Docker's config {path} cannot be understood: {source}")]
    Parse {
        /// Its path.
        path: String,
        /// Why.
        source: serde_json::Error,
    },
    /// An `auth` that is no `user:password` in base64.
    #[error("Docker's config has an entry for {host} whose `auth` is not user:password in base64")]
    Auth {
        /// The registry.
        host: String,
    },
    /// A helper that is no program name.
    #[error("Docker's config names a credential helper that is no program name: {name:?}")]
    HelperName {
        /// The name.
        name: String,
    },
    /// The helper cannot be run.
    #[error("cannot run docker-credential-{name}: {source}")]
    Helper {
        /// Its name.
        name: String,
        /// Why.
        source: io::Error,
    },
    /// The helper failed, took too long or made no sense. What it said is not shown.
    #[error("docker-credential-{name} gave no credentials for {host}: it {problem}")]
    HelperAnswer {
        /// Its name.
        name: String,
        /// The registry.
        host: String,
        /// What it did.
        problem: &'static str,
    },
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Config {
    auths: HashMap<String, Entry>,
    cred_helpers: HashMap<String, String>,
    creds_store: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "lowercase")]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct HelperAnswer {
    username: String,
    secret: String,
}

impl Credentials {
    /// Reads the config at `path`, or where `docker` has it; none there means no credentials.
    ///
    /// # Errors
    /// When it is there and cannot be read or understood, or when `path` names none.
    pub(crate) fn load(path: Option<&PathBuf>) -> Result<Self, CredentialError> {
        let Some(found) = path.cloned().or_else(default_path) else {
            return Ok(Self::default());
        };
        let shown = found.display().to_string();
        let text = match std::fs::read(&found) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound && path.is_none() => {
                return Ok(Self::default());
            }
            Err(source) => {
                return Err(CredentialError::Read { path: shown, source });
            }
        };
        let config = serde_json::from_slice(&text)
            .map_err(|source| CredentialError::Parse { path: shown, source })?;
        Ok(Self { config })
    }

    /// The credential for a registry `host` (`docker.io`, `ghcr.io`, `127.0.0.1:5000`); `None` to
    /// ask as nobody.
    ///
    /// # Errors
    /// When one is set up and cannot be had.
    pub(crate) async fn of(&self, host: &str) -> Result<Option<Credential>, CredentialError> {
        let server = if host == "docker.io" { DOCKER_HUB } else { host };
        if let Some(helper) =
            self.config.cred_helpers.get(server).or_else(|| self.config.cred_helpers.get(host))
        {
            return ask_helper(helper, server).await;
        }
        if let Some(entry) = self.entry(server) {
            let found = entry.credential(host)?;
            if found.is_some() {
                return Ok(found);
            }
        }
        match self.config.creds_store.as_str() {
            "" => Ok(None),
            helper => ask_helper(helper, server).await,
        }
    }

    /// The entry of `auths` for `server`, by name or by the host in a URL, as Docker looks it up.
    fn entry(&self, server: &str) -> Option<&Entry> {
        let auths = &self.config.auths;
        auths.get(server).or_else(|| {
            let host = hostname(server);
            auths.iter().find(|(key, _)| hostname(key) == host).map(|(_, entry)| entry)
        })
    }
}

impl Entry {
    fn credential(&self, host: &str) -> Result<Option<Credential>, CredentialError> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credential::IdentityToken(self.identitytoken.clone())));
        }
        if !self.registrytoken.is_empty() {
            return Ok(Some(Credential::RegistryToken(self.registrytoken.clone())));
        }
        if !self.auth.is_empty() {
            let wrong = || CredentialError::Auth { host: host.into() };
            let decoded = lenient_base64().decode(&self.auth).map_err(|_| wrong())?;
            let text = String::from_utf8(decoded).map_err(|_| wrong())?;
            let (user, password) = text.split_once(':').ok_or_else(wrong)?;
            let password = password.trim_end_matches('\0');
            return Ok(Some(Credential::Basic { user: user.into(), password: password.into() }));
        }
        if !self.username.is_empty() {
            let (user, password) = (self.username.clone(), self.password.clone());
            return Ok(Some(Credential::Basic { user, password }));
        }
        Ok(None)
    }
}

impl std::fmt::Debug for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Entry(…)")
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Credential::Basic { .. } => "Basic(…)",
            Credential::IdentityToken(_) => "IdentityToken(…)",
            Credential::RegistryToken(_) => "RegistryToken(…)",
        })
    }
}

fn lenient_base64() -> GeneralPurpose {
    let config =
        GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    GeneralPurpose::new(&base64::alphabet::STANDARD, config)
}

fn default_path() -> Option<PathBuf> {
    let folder = std::env::var_os("DOCKER_CONFIG")
        .filter(|folder| !folder.is_empty())
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".docker")))?;
    Some(folder.join("config.json"))
}

/// The host of `https://host/v1/` or of `host/path`.
fn hostname(key: &str) -> &str {
    let bare = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key);
    bare.split('/').next().unwrap_or(bare)
}

/// Asks `docker-credential-NAME get` (docker-credential-helpers' protocol).
async fn ask_helper(name: &str, server: &str) -> Result<Option<Credential>, CredentialError> {
    if name.is_empty() || name.contains(['/', '\\', '\0']) {
        return Err(CredentialError::HelperName { name: name.into() });
    }
    let answer =
        |problem| CredentialError::HelperAnswer { name: name.into(), host: server.into(), problem };
    let run = run_helper(name, server);
    let (success, output) = tokio::time::timeout(HELPER_TIME, run)
        .await
        .map_err(|_| answer("took too long"))?
        .map_err(|source| CredentialError::Helper { name: name.into(), source })?;
    if !success {
        let said = String::from_utf8_lossy(&output);
        return match said.trim() {
            NOT_FOUND => Ok(None),
            _ => Err(answer("failed")),
        };
    }
    let HelperAnswer { username, secret } =
        serde_json::from_slice(&output).map_err(|_| answer("did not answer with JSON"))?;
    Ok(match (username.as_str(), secret.is_empty()) {
        (_, true) => None,
        (TOKEN_USER, false) => Some(Credential::IdentityToken(secret)),
        (_, false) => Some(Credential::Basic { user: username, password: secret }),
    })
}

/// Whether the helper succeeded, and its bounded output.
async fn run_helper(name: &str, server: &str) -> io::Result<(bool, Vec<u8>)> {
    let mut child = tokio::process::Command::new(format!("docker-credential-{name}"))
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(server.as_bytes()).await {
            // A helper that does not read its input may still answer.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            other => other?,
        }
    }
    let mut output = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(HELPER_OUTPUT).read_to_end(&mut output).await?;
    }
    Ok((child.wait().await?.success(), output))
}
