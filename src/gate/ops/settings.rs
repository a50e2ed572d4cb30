//! How a client's builds are judged, besides by which policies.

use std::collections::BTreeSet;

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
    /// Entitlements that are refused (`--deny-entitlement`).
    pub denied_entitlements: BTreeSet<String>,
}

impl Settings {
    /// Whether a build may ask for an entitlement. `device` stands for each of its devices
    /// (`device=…`).
    pub fn allows_entitlement(&self, name: &str) -> bool {
        let kind = name.split_once('=').map_or(name, |(kind, _)| kind);
        !self.denied_entitlements.contains(kind)
    }

    /// Whether a cache of this type may be imported; `registry` always may be asked for, and is
    /// judged.
    pub fn allows_cache(&self, kind: &str) -> bool {
        kind == "registry" || self.cache_types.contains(kind)
    }
}
