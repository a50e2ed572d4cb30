//! How a client's builds are judged, besides by which policies.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use url::Url;

use crate::resolve::Options;
use crate::source::{Source, SourceOp};

/// What becomes of a decision (`--mode`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What is refused is not fetched.
    #[default]
    Enforce,
    /// What would be refused is logged, and fetched.
    Audit,
}

/// What becomes of the submodules of an allowed repository (`--git-submodules`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Submodules {
    /// Each is judged as the repository it names.
    #[default]
    Judge,
    /// They are left out of the checkout.
    Skip,
    /// A repository that has any is refused.
    Deny,
}

/// What becomes of a build inside a build (`--build-op`): LLB that the daemon reads from a file while it
/// builds. It asks about what that loads only where it runs it, and not where it was run before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BuildOp {
    /// It is refused.
    #[default]
    Refuse,
    /// It is passed on: what another build loaded in it by other rules may be taken from there.
    Allow,
}

/// The frontend that every daemon has built in, as clients name it.
pub const DOCKERFILE: &str = "dockerfile.v0";

/// What a client may do beyond having its sources judged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// What becomes of a decision.
    pub mode: Mode,
    /// What becomes of submodules.
    pub submodules: Submodules,
    /// What becomes of a build inside a build.
    pub build_op: BuildOp,
    /// Types of cache imports besides `registry`, whose images are judged (`--cache-types`).
    pub cache_types: BTreeSet<String>,
    /// Frontends that builds may use: [`DOCKERFILE`], and repositories of images; where none is listed, all
    /// (`--frontends`).
    pub frontends: BTreeSet<String>,
    /// Entitlements that are refused (`--deny-entitlement`).
    pub denied_entitlements: BTreeSet<String>,
    /// Where signatures of images are looked for.
    pub signing: Arc<Signing>,
}

/// Where the gate itself looks for what signs an image, from its own network and with the credentials
/// of whoever runs it. A daemon tells no one, and clients name the images: nothing that is not listed
/// is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Signing {
    /// The registries, in lower case (`--signature-registries`).
    pub registries: BTreeSet<String>,
    /// Mirrors of them (`--registry-mirror`).
    pub mirrors: BTreeMap<String, Vec<Url>>,
    /// Those that speak plain HTTP (`--plain-http`).
    pub plain_http: BTreeSet<String>,
    /// Certificates that are trusted besides the system's (`--ca-file`).
    pub ca_file: Option<PathBuf>,
}

impl Signing {
    /// Whether the registry of an image may be asked.
    ///
    /// # Errors
    /// Why not, and what would allow it.
    pub fn admits(&self, op: &SourceOp) -> Result<(), String> {
        let host = match Source::parse(op) {
            Ok(Source::Image(image)) => image.host.to_ascii_lowercase(),
            Ok(_) => return Err("only images are signed in registries".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        if self.registries.contains(&host) {
            return Ok(());
        }
        Err(format!(
            "the gate asks {host} for no signatures, so that it could not be verified: it does by \
             --signature-registries {host}"
        ))
    }

    /// How they are asked.
    pub fn options(&self) -> Options {
        Options {
            mirrors: self.mirrors.clone(),
            plain_http: self.plain_http.clone(),
            ca_file: self.ca_file.clone(),
            ..Options::default()
        }
    }
}

impl Settings {
    /// Whether a build may ask for an entitlement. `device` stands for each of its devices
    /// (`device=…`).
    pub fn allows_entitlement(&self, name: &str) -> bool {
        let kind = name.split_once('=').map_or(name, |(kind, _)| kind);
        !self.denied_entitlements.contains(kind)
    }

    /// Whether a build may use a frontend: [`DOCKERFILE`], or the repository of an image.
    pub fn allows_frontend(&self, name: &str) -> bool {
        self.frontends.is_empty() || self.frontends.contains(name)
    }

    /// Whether a cache of this type may be imported; `registry` always may be asked for, and is
    /// judged.
    pub fn allows_cache(&self, kind: &str) -> bool {
        kind == "registry" || self.cache_types.contains(kind)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_registries_that_are_listed_are_asked_for_signatures() {
        let registries = ["docker.io", "reg.example:5000"].map(str::to_owned).into();
        let signing = Signing { registries, ..Signing::default() };
        let none = Signing::default();
        for (source, wanted) in [
            ("docker-image://docker.io/library/alpine:3", true),
            ("docker-image://reg.example:5000/app:1", true),
            ("docker-image://Reg.Example:5000/app:1", true),
            ("docker-image://reg.example/app:1", false),
            ("docker-image://evil.reg.example:5000/app:1", false),
            ("docker-image://169.254.169.254/app:1", false),
            ("https://docker.io/library/alpine", false),
            ("docker-image://", false),
        ] {
            let op = SourceOp::new(source);
            assert_eq!(signing.admits(&op).is_ok(), wanted, "{source}");
            assert!(none.admits(&op).is_err(), "{source}");
        }
    }
}
