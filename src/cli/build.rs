//! The build that is judged, as `docker build` is told of it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Deserialize;

use super::dockerfile::Dockerfile;
use super::flags;
use crate::dockerfile::{DockerfileKind, Options};
use crate::input::Env;
use crate::source::{Digest, mask};

/// Largest `index.json` of an OCI layout that is read, in bytes.
const MAX_INDEX: u64 = 4 << 20;
/// The annotation that has the tag of an image in an OCI layout.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What the build is told, in the words of `docker build`.
#[derive(Debug, Args)]
#[command(next_help_heading = "Build")]
pub(super) struct BuildFlags {
    /// The Dockerfile, `-` for standard input [default: CONTEXT/Dockerfile]
    #[arg(short, long, value_name = "FILE")]
    pub(super) file: Option<PathBuf>,
    /// Set a build argument; without a value it is taken from the environment (repeatable)
    #[arg(long, value_name = "NAME[=VALUE]")]
    build_arg: Vec<String>,
    /// Stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// Platforms to build for, a comma list (repeatable) [default: linux on this machine]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Vec<String>,
    /// What a name in the Dockerfile stands for: a folder, URL, docker-image:// or
    /// oci-layout:// (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = flags::pair)]
    build_context: Vec<(String, String)>,
    /// A label that the build sets (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
}

impl BuildFlags {
    /// The options of the plan.
    pub(super) fn options(&self, dockerfile: &Dockerfile) -> Result<Options> {
        let mut contexts = BTreeMap::new();
        for (name, value) in &self.build_context {
            contexts.insert(name.clone(), context_value(name, value)?);
        }
        Ok(Options {
            build_args: build_args(&self.build_arg)?,
            target: self.target.clone(),
            platforms: flags::platforms(&self.platform)?,
            build_platform: flags::host(),
            contexts,
            context: dockerfile.context.clone(),
            dockerfile: DockerfileKind::Client,
        })
    }

    /// What rules see of the build (`input.env`).
    pub(super) fn env(&self, options: &Options) -> Env {
        let named = self.file.as_ref().and_then(|path| path.file_name());
        // Buildx says `Dockerfile` wherever none is named.
        let name = named.map_or("Dockerfile".into(), |name| name.to_string_lossy());
        Env {
            args: options.build_args.clone(),
            labels: self.label.iter().cloned().collect(),
            filename: name.into_owned(),
            target: self.target.clone().unwrap_or_default(),
            ..Env::default()
        }
    }
}

fn build_args(given: &[String]) -> Result<BTreeMap<String, Option<String>>> {
    let mut args = BTreeMap::new();
    for text in given {
        let (name, value) = match text.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (text.as_str(), std::env::var(text).ok()),
        };
        if name.is_empty() {
            bail!("--build-arg: a build argument has a name: NAME=VALUE, or NAME");
        }
        args.insert(name.to_owned(), value);
    }
    Ok(args)
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some(_) => flags::pair(text),
        None if text.is_empty() => Err("expected NAME=VALUE".to_owned()),
        None => Ok((text.to_owned(), String::new())),
    }
}

/// The value of a named context, with the digest of an OCI layout in it.
fn context_value(name: &str, value: &str) -> Result<String> {
    let Some(layout) = value.strip_prefix("oci-layout://") else { return Ok(value.to_owned()) };
    if layout.rsplit_once('@').is_some_and(|(_, digest)| digest.parse::<Digest>().is_ok()) {
        return Ok(value.to_owned());
    }
    let (path, tag) = match layout.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        Some(_) | None => (layout, "latest"),
    };
    let digest = layout_digest(Path::new(path), tag)
        .with_context(|| format!("--build-context {name}={}", mask(value)))?;
    Ok(format!("oci-layout://{path}@{digest}"))
}

/// `index.json` of an OCI layout, what of it is read here
/// (<https://github.com/opencontainers/image-spec/blob/main/image-layout.md>).
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

/// The digest that a tag has in the index of an OCI layout.
fn layout_digest(folder: &Path, tag: &str) -> Result<Digest> {
    let path = folder.join("index.json");
    let shown = path.display();
    let size = std::fs::metadata(&path).with_context(|| format!("{shown} cannot be read"))?;
    if !size.is_file() || size.len() > MAX_INDEX {
        bail!("{shown} is no file of at most {MAX_INDEX} bytes");
    }
    let text = std::fs::read_to_string(&path).with_context(|| format!("{shown} cannot be read"))?;
    let index: Index =
        serde_json::from_str(&text).with_context(|| format!("{shown} is no OCI index"))?;
    let name = |manifest: &Descriptor| manifest.annotations.get(REF_NAME).cloned();
    let named = index.manifests.iter().find(|manifest| name(manifest).as_deref() == Some(tag));
    let only = match index.manifests.as_slice() {
        [only] if name(only).is_none() && tag == "latest" => Some(only),
        _ => None,
    };
    let Some(found) = named.or(only) else {
        bail!(
            "{shown} has no image with the tag {tag}; name its digest: oci-layout://PATH@sha256:…"
        );
    };
    let digest = &found.digest;
    digest.parse().with_context(|| format!("{shown} names the digest {digest}"))
}
