//! Which manifest of an index is for a platform, as containerd chooses (`platforms.Only`).

use super::document::{DescribedPlatform, Descriptor, is_image_manifest, is_index};
use crate::source::Platform;

/// Docker's annotation that says what a manifest is to another.
pub(crate) const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// Its value for attestations.
pub(crate) const ATTESTATION_MANIFEST: &str = "attestation-manifest";

/// Whether nested indexes may be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nesting {
    /// As for an image's config.
    Follow,
    /// As for an attestation chain: BuildKit reads one level only.
    Skip,
}

/// The manifests of an index that are for `wanted`, the best first; those without a platform last.
pub(crate) fn candidates<'a>(
    manifests: &'a [Descriptor],
    wanted: &Platform,
    nesting: Nesting,
) -> Vec<&'a Descriptor> {
    let order = acceptable(wanted);
    let mut found: Vec<(usize, &Descriptor)> = manifests
        .iter()
        .filter(|descriptor| {
            is_image_manifest(&descriptor.media_type)
                || nesting == Nesting::Follow && is_index(&descriptor.media_type)
        })
        .filter(|descriptor| !is_attestation(descriptor))
        .filter_map(|descriptor| match &descriptor.platform {
            None => Some((order.len(), descriptor)),
            Some(platform) => Some((rank(&order, platform)?, descriptor)),
        })
        .collect();
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, descriptor)| descriptor).collect()
}

/// Whether an image of platform `found` runs where `wanted` is.
pub(crate) fn accepts(wanted: &Platform, found: &DescribedPlatform) -> bool {
    rank(&acceptable(wanted), found).is_some()
}

/// Attestations stand in an index as manifests of the platform `unknown/unknown`.
fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.annotations.get(REFERENCE_TYPE).is_some_and(|kind| kind == ATTESTATION_MANIFEST)
        || descriptor
            .platform
            .as_ref()
            .is_some_and(|platform| platform.os == "unknown" || platform.architecture == "unknown")
}

fn rank(order: &[Platform], found: &DescribedPlatform) -> Option<usize> {
    // BuildKit asks for no OS features, so a manifest that needs some is not for us.
    if !found.os_features.is_empty() {
        return None;
    }
    let found = normalize(&found.os, &found.architecture, &found.variant);
    order.iter().position(|platform| *platform == found)
}

/// What runs on `wanted`, the best first.
fn acceptable(wanted: &Platform) -> Vec<Platform> {
    let wanted = normalize(&wanted.os, &wanted.architecture, &wanted.variant);
    let of = |architecture: &str, variant: String| normalize(&wanted.os, architecture, &variant);
    match wanted.architecture.as_str() {
        "amd64" => {
            let version = version(&wanted.variant).unwrap_or(1);
            let lower = (1..version).rev().map(|version| of("amd64", format!("v{version}")));
            let mut order = vec![wanted.clone()];
            order.extend(lower);
            order.push(of("386", String::new()));
            order
        }
        "arm" => {
            let lower = version(&wanted.variant).unwrap_or(0);
            let mut order = vec![wanted.clone()];
            order.extend((5..lower).rev().map(|version| of("arm", format!("v{version}"))));
            order
        }
        "arm64" => {
            let Some(levels) = arm64_levels(&wanted.variant) else {
                return vec![wanted];
            };
            let mut order: Vec<Platform> = levels
                .into_iter()
                .flat_map(|(major, highest)| (0..=highest).rev().map(move |minor| (major, minor)))
                .map(|(major, minor)| match minor {
                    0 => of("arm64", format!("v{major}")),
                    minor => of("arm64", format!("v{major}.{minor}")),
                })
                .collect();
            order.extend((5..=8).rev().map(|version| of("arm", format!("v{version}"))));
            order
        }
        _ => vec![wanted],
    }
}

/// The levels of the 64-bit Arm architecture that run on `variant`: major version, highest minor.
fn arm64_levels(variant: &str) -> Option<Vec<(u32, u32)>> {
    let text = if variant.is_empty() { "8" } else { variant.strip_prefix('v')? };
    let (major, minor) = match text.split_once('.') {
        Some((major, minor)) => (major.parse().ok()?, minor.parse().ok()?),
        None => (text.parse::<u32>().ok()?, 0u32),
    };
    match (major, minor) {
        (8, 0..=9) => Some(vec![(8, minor)]),
        (9, 0..=7) => Some(vec![(9, minor), (8, (minor + 5).min(9))]),
        _ => None,
    }
}

/// The number of `v7`.
fn version(variant: &str) -> Option<u32> {
    variant.strip_prefix('v')?.parse().ok().filter(|version| *version <= 64)
}

/// containerd's `platforms.Normalize`.
fn normalize(os: &str, architecture: &str, variant: &str) -> Platform {
    let os = match os.to_ascii_lowercase().as_str() {
        "macos" => "darwin".to_owned(),
        other => other.to_owned(),
    };
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.to_ascii_lowercase().as_str(), &*variant) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", other) => ("amd64", other),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", other) => ("arm64", other),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        (other, variant) => {
            let (architecture, variant) = (other.to_owned(), variant.to_owned());
            return Platform { os, architecture, variant };
        }
    };
    Platform { os, architecture: architecture.into(), variant: variant.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resolve::registry::document::media_type::{OCI_INDEX, OCI_MANIFEST};

    fn platform(text: &str) -> (String, String, String) {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        (next(), next(), next())
    }

    fn descriptor(text: &str) -> Descriptor {
        let (os, architecture, variant) = platform(text);
        let described = DescribedPlatform { os, architecture, variant, os_features: Vec::new() };
        Descriptor {
            media_type: OCI_MANIFEST.into(),
            digest: text.into(),
            size: 1,
            artifact_type: String::new(),
            annotations: [].into(),
            platform: (!text.is_empty()).then_some(described),
        }
    }

    #[test]
    fn the_best_of_an_index_comes_first() {
        let cases: &[(&str, &[&str], &[&str])] = &[
            ("linux/amd64", &["linux/arm64", "linux/amd64"], &["linux/amd64"]),
            ("linux/amd64", &["linux/386", "linux/amd64"], &["linux/amd64", "linux/386"]),
            (
                "linux/amd64/v3",
                &["linux/amd64", "linux/amd64/v2"],
                &["linux/amd64/v2", "linux/amd64"],
            ),
            ("linux/amd64", &["linux/amd64/v2"], &[]),
            ("linux/arm64", &["linux/arm64/v8"], &["linux/arm64/v8"]),
            ("linux/arm64/v8", &["linux/arm64", "linux/arm/v7"], &["linux/arm64", "linux/arm/v7"]),
            ("linux/arm64", &["linux/arm/v6", "linux/arm/v7"], &["linux/arm/v7", "linux/arm/v6"]),
            (
                "linux/arm64/v9",
                &["linux/arm64/v8.6", "linux/arm64/v8.5", "linux/arm64"],
                &["linux/arm64/v8.5", "linux/arm64"],
            ),
            ("linux/arm64", &["linux/arm64/v9"], &[]),
            ("linux/arm/v7", &["linux/arm/v6", "linux/arm"], &["linux/arm", "linux/arm/v6"]),
            ("linux/arm/v6", &["linux/arm/v7"], &[]),
            ("linux/s390x", &["linux/s390x", "linux/ppc64le"], &["linux/s390x"]),
            ("windows/amd64", &["linux/amd64"], &[]),
            ("linux/amd64", &["", "linux/amd64"], &["linux/amd64", ""]),
            ("linux/aarch64", &["Linux/ARM64"], &["Linux/ARM64"]),
            ("unknown/unknown", &["unknown/unknown"], &[]),
        ];
        for (wanted, index, expected) in cases {
            let (os, architecture, variant) = platform(wanted);
            let wanted = Platform { os, architecture, variant };
            let index: Vec<Descriptor> = index.iter().map(|text| descriptor(text)).collect();
            let found: Vec<&str> = candidates(&index, &wanted, Nesting::Follow)
                .iter()
                .map(|descriptor| descriptor.digest.as_str())
                .collect();
            assert_eq!(found, *expected, "{wanted:?}");
        }
    }

    #[test]
    fn attestations_and_strange_types_are_never_images() {
        let wanted = Platform::default();
        let mut attestation = descriptor("linux/amd64");
        attestation.annotations =
            [(REFERENCE_TYPE.to_owned(), ATTESTATION_MANIFEST.to_owned())].into();
        let mut nested = descriptor("linux/amd64");
        nested.media_type = OCI_INDEX.into();
        let mut strange = descriptor("linux/amd64");
        strange.media_type = "application/vnd.x".into();
        let mut features = descriptor("linux/amd64");
        if let Some(platform) = &mut features.platform {
            platform.os_features = vec!["sse4".into()];
        }
        let index = [attestation, nested, strange, features];
        assert_eq!(candidates(&index, &wanted, Nesting::Follow), [&index[1]]);
        assert!(candidates(&index, &wanted, Nesting::Skip).is_empty());
    }
}
