//! Flags that several commands share, and the options they stand for.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::meta::ResolveSourceMeta;
use crate::report::Format;
use crate::resolve::{Network, Offline, Options};
use crate::source::Platform;

/// How metadata is come by.
#[derive(Debug, Args)]
#[command(next_help_heading = "Metadata")]
pub(super) struct Resolving {
    /// Fetch nothing: what cannot be decided without is not decided
    #[arg(long)]
    offline: bool,
    /// Ask URL before the registry HOST itself (repeatable)
    #[arg(long, value_name = "HOST=URL", value_parser = mirror)]
    registry_mirror: Vec<(String, url::Url)>,
    /// Speak plain HTTP to the registry HOST or HOST:PORT (repeatable; loopback always is)
    #[arg(long, value_name = "HOST")]
    plain_http: Vec<String>,
    /// Trust the certificates of this PEM file too
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Most seconds that one metadata request may take
    #[arg(long, value_name = "SECONDS", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    timeout: u64,
}

impl Resolving {
    /// Who answers metadata.
    pub(super) fn resolver(&self) -> Result<Box<dyn ResolveSourceMeta>> {
        if self.offline {
            return Ok(Box::new(Offline));
        }
        let mut options = Options {
            plain_http: self.plain_http.iter().cloned().collect(),
            ca_file: self.ca_file.clone(),
            ..Options::default()
        };
        for (host, url) in &self.registry_mirror {
            options.mirrors.entry(host.clone()).or_default().push(url.clone());
        }
        options.timeouts.total = Duration::from_secs(self.timeout);
        Ok(Box::new(Network::new(options).context("the network cannot be set up")?))
    }
}

/// How a report is written.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub(super) struct Output {
    /// How the answer is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    pub(super) format: FormatFlag,
    /// When to use colours and links
    #[arg(long, value_enum, default_value_t, value_name = "WHEN")]
    pub(super) color: Color,
}

/// `--format`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum FormatFlag {
    /// Drawn for people
    #[default]
    Text,
    /// JSON
    Json,
    /// SARIF 2.1.0, for code scanning
    Sarif,
    /// JUnit XML, for CI
    Junit,
}

impl From<FormatFlag> for Format {
    fn from(flag: FormatFlag) -> Self {
        match flag {
            FormatFlag::Text => Self::Text,
            FormatFlag::Json => Self::Json,
            FormatFlag::Sarif => Self::Sarif,
            FormatFlag::Junit => Self::Junit,
        }
    }
}

/// `--color`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

/// The platforms of `--platform`: comma lists, repeatable.
pub(super) fn platforms(given: &[String]) -> Result<Vec<Platform>> {
    let mut platforms = Vec::new();
    for text in given.iter().flat_map(|list| list.split(',')).map(str::trim) {
        let platform = match text {
            "" => bail!("--platform: an empty platform; write os/arch, for example linux/amd64"),
            "local" => host(),
            text => Platform::parse(text).context("--platform")?,
        };
        if !platforms.contains(&platform) {
            platforms.push(platform);
        }
    }
    Ok(platforms)
}

/// The platform that a daemon on this machine builds for.
pub(super) fn host() -> Platform {
    Options::default().platform
}

/// `K=V`, with a name that is not empty.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err("expected NAME=VALUE".to_owned()),
    }
}

fn mirror(text: &str) -> Result<(String, url::Url), String> {
    let (host, url) = pair(text).map_err(|_| "expected HOST=URL".to_owned())?;
    let url = url::Url::parse(&url).map_err(|error| error.to_string())?;
    match url.scheme() {
        "http" | "https" => Ok((host, url)),
        _ => Err("the URL of a mirror is http:// or https://".to_owned()),
    }
}
