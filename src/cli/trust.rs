//! `buildgate trust`: whose certificates, logs and timestamps count.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, Subcommand};
use url::Url;

use super::{UNDECIDED, output};
use crate::resolve::Options;
use crate::trust::{self, SIGSTORE_MIRROR, SIGSTORE_ROOT, TARGET, Update, words};
use crate::verify::sigstore::{TrustRoot, TrustRoots};
use crate::verify::{Github, Trust};

/// Show the trust roots that signatures are verified by, or refresh one
///
/// A trust root names the certificate authorities, transparency logs and timestamp authorities that
/// count. Sigstore's own are built in; a file takes their place, or adds another one by name.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Flags {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  buildgate trust show
  buildgate trust update --output sigstore.json          where there is a network
  buildgate trust show --trust-root sigstore.json        where there is none
  buildgate trust show --trust-root ours=trusted_root.json
  buildgate check --trust-root sigstore.json --trust-root ours=trusted_root.json

Exit codes: 0 shown or written, 2 a root has expired or cannot be read, nothing was written, or wrong
use";

#[derive(Debug, Subcommand)]
enum Command {
    /// Show each trust root: its age, its expiry, and whom it trusts
    Show(Roots),
    /// Fetch the newest trust root into a file, for machines that have no network
    Update(UpdateFlags),
}

/// Whom signatures and attestations are trusted by.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Signatures")]
pub(super) struct Trusting {
    #[command(flatten)]
    roots: Roots,
    /// Ask this API for GitHub's attestations of files, in place of https://api.github.com:
    /// https://HOST/api/v3 of an enterprise's server, https://api.NAME.ghe.com
    #[arg(long, value_name = "URL", value_parser = Github::at)]
    github_api: Option<Github>,
}

/// Trust roots besides those that are built in.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Signatures")]
struct Roots {
    /// Verify signatures by the trust root in FILE, as NAME for rules that name it, or without a NAME in
    /// place of `sigstore`, which is built in (repeatable)
    #[arg(long, value_name = "[NAME=]FILE", value_parser = named)]
    trust_root: Vec<(String, PathBuf)>,
}

impl Roots {
    /// Every trust root, those that are built in and those of files.
    fn roots(&self) -> Result<TrustRoots> {
        let mut roots = TrustRoots::embedded()?;
        for (name, path) in &self.trust_root {
            roots.insert(trust::read(name, path)?)?;
        }
        Ok(roots)
    }
}

impl Trusting {
    /// Trust in them; nothing is read where no file is named.
    pub(super) fn trust(&self) -> Result<Arc<Trust>> {
        let Self { roots, github_api } = self;
        if roots.trust_root.is_empty() && github_api.is_none() {
            return Ok(Trust::embedded());
        }
        let trust = Trust::new(roots.roots()?);
        Ok(Arc::new(trust.with_github(github_api.clone().unwrap_or_default())))
    }
}

#[derive(Debug, Args)]
struct UpdateFlags {
    /// Fetch from this TUF repository
    #[arg(long, value_name = "URL", default_value = SIGSTORE_MIRROR)]
    mirror: Url,
    /// Begin with this root.json (default: Sigstore's own, which is built in)
    #[arg(long, value_name = "FILE")]
    root: Option<PathBuf>,
    /// Take this target of the repository
    #[arg(long, value_name = "NAME", default_value = TARGET)]
    target: String,
    /// Trust the certificates of this PEM file too
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Write the trust root to this file, at once or not at all; what an earlier update left there is not
    /// replaced by anything older
    #[arg(long, value_name = "FILE")]
    output: PathBuf,
}

/// Runs the command and gives its exit code.
pub(super) fn run(flags: &Flags) -> Result<u8> {
    match &flags.command {
        Command::Show(roots) => show(roots),
        Command::Update(flags) => update(flags),
    }
}

fn show(roots: &Roots) -> Result<u8> {
    let roots = roots.roots()?;
    let now = jiff::Timestamp::now().as_second();
    let mut text = String::new();
    for root in roots.iter() {
        describe(&mut text, root, now).context("the trust root cannot be described")?;
    }
    output::answer(&text)?;
    let expired = roots.iter().filter_map(|root| root.usable(now).err());
    let mut code = 0;
    for error in expired {
        output::error(&error.into());
        code = UNDECIDED;
    }
    Ok(code)
}

fn describe(text: &mut String, root: &TrustRoot, now: i64) -> std::fmt::Result {
    writeln!(text, "{} ({})", root.name(), words::origin(root))?;
    if !root.source().is_empty() {
        writeln!(text, "  mirror    {}", root.source())?;
    }
    writeln!(text, "  as of     {}", words::as_of(root, now))?;
    writeln!(text, "  expires   {}", words::expires(root, now))?;
    let titles = ["authority", "log", "ct log", "timestamps"];
    for (title, uris) in titles.into_iter().zip(root.names()) {
        for uri in uris {
            writeln!(text, "  {title:10} {uri}")?;
        }
    }
    Ok(())
}

fn update(flags: &UpdateFlags) -> Result<u8> {
    let root = match &flags.root {
        Some(path) => {
            std::fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?
        }
        None => SIGSTORE_ROOT.to_vec(),
    };
    let before = trust::before(&flags.output)?;
    let before = before.as_ref();
    let wanted = Update { mirror: &flags.mirror, root: &root, target: &flags.target, before };
    let options = Options { ca_file: flags.ca_file.clone(), ..Options::default() };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime cannot be started")?;
    let updated = runtime.block_on(trust::update(&wanted, &options, jiff::Timestamp::now()))?;
    trust::write(&updated, &flags.output)?;
    let mut text = String::new();
    let root = trust::read(TrustRoots::DEFAULT, &flags.output)?;
    describe(&mut text, &root, jiff::Timestamp::now().as_second())
        .context("the trust root cannot be described")?;
    output::answer(&text)?;
    Ok(0)
}

/// `FILE` or `NAME=FILE`.
fn named(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((name, file)) if !name.is_empty() && !name.contains('/') && !file.is_empty() => {
            Ok((name.to_owned(), file.into()))
        }
        None if !text.is_empty() => Ok((TrustRoots::DEFAULT.to_owned(), text.into())),
        _ => Err("NAME=FILE or FILE is wanted; a path with `=` needs a NAME".to_owned()),
    }
}
