//! `pb.SourceOp` and `pb.Platform`.
//!
//! What an identifier means is for [`crate::source::Source`] to say; here it is carried over as it
//! came.

use super::proto::pb;
use crate::source::{Platform, SourceOp};

/// A platform on the wire that ours cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlatformError {
    /// Operating system or architecture is empty.
    #[error("platform: {field} is missing")]
    Missing {
        /// The protocol's name of the field.
        field: &'static str,
    },
    /// A part of it is not what platform specifiers are made of.
    #[error("platform: {field} `{value}` may only hold letters, digits, `_`, `.` and `-`")]
    Malformed {
        /// The protocol's name of the field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
    /// It is narrower than we can ask for: another image could be judged than the one fetched.
    #[error("platform: {field} `{value}` is not supported")]
    Unsupported {
        /// The protocol's name of the field.
        field: &'static str,
        /// What it holds.
        value: String,
    },
}

impl From<pb::SourceOp> for SourceOp {
    fn from(wire: pb::SourceOp) -> Self {
        let pb::SourceOp { identifier, attrs } = wire;
        Self { identifier, attrs }
    }
}

impl From<SourceOp> for pb::SourceOp {
    fn from(source: SourceOp) -> Self {
        let SourceOp { identifier, attrs } = source;
        Self { identifier, attrs }
    }
}

/// Normalises; refuses a version or features of the operating system, which [`Platform`] lacks.
impl TryFrom<pb::Platform> for Platform {
    type Error = PlatformError;

    fn try_from(wire: pb::Platform) -> Result<Self, Self::Error> {
        let platform = without_os_version(&wire)?;
        let pb::Platform { os_version, os_features, .. } = wire;
        if !os_version.is_empty() {
            return Err(PlatformError::Unsupported { field: "OSVersion", value: os_version });
        }
        if !os_features.is_empty() {
            let value = os_features.join(",");
            return Err(PlatformError::Unsupported { field: "OSFeatures", value });
        }
        Ok(platform)
    }
}

impl From<Platform> for pb::Platform {
    fn from(platform: Platform) -> Self {
        let Platform { os, architecture, variant } = platform;
        Self { architecture, os, variant, os_version: String::new(), os_features: Vec::new() }
    }
}

/// The platform as rules see it. Whoever calls this keeps the message, to ask with it again.
pub(super) fn without_os_version(wire: &pb::Platform) -> Result<Platform, PlatformError> {
    let pb::Platform { architecture, os, variant, os_version: _, os_features: _ } = wire;
    for (field, value, required) in
        [("OS", os, true), ("Architecture", architecture, true), ("Variant", variant, false)]
    {
        if required && value.is_empty() {
            return Err(PlatformError::Missing { field });
        }
        if !value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
            return Err(PlatformError::Malformed { field, value: value.clone() });
        }
    }
    Ok(Platform::from_parts(os, architecture, variant))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wire(spec: &str) -> pb::Platform {
        let mut parts = spec.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        let (os, architecture, variant) = (next(), next(), next());
        let os_version = next();
        let os_features = Some(next()).filter(|feature| !feature.is_empty()).into_iter().collect();
        pb::Platform { architecture, os, variant, os_version, os_features }
    }

    #[test]
    fn platforms_are_normalised() {
        for (given, wanted) in [
            ("linux/amd64", "linux/amd64/"),
            ("Linux/x86_64", "linux/amd64/"),
            ("linux/x86-64/V1", "linux/amd64/"),
            ("linux/amd64/v3", "linux/amd64/v3"),
            ("macOS/aarch64/v8", "darwin/arm64/"),
            ("linux/arm64/9", "linux/arm64/v9"),
            ("linux/arm64/v8.2", "linux/arm64/v8.2"),
            ("linux/i386/sse2", "linux/386/"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/5", "linux/arm/v5"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/arm/8", "linux/arm/v8"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("linux/armhf/v6", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("unknown/unknown", "unknown/unknown/"),
        ] {
            let Platform { os, architecture, variant } = wire(given).try_into().unwrap();
            assert_eq!(format!("{os}/{architecture}/{variant}"), wanted, "{given}");
        }
    }

    #[test]
    fn platforms_that_ours_cannot_be_are_refused_by_name() {
        for (given, wanted) in [
            ("", "platform: OS is missing"),
            ("/amd64", "platform: OS is missing"),
            ("linux", "platform: Architecture is missing"),
            (
                "linux/amd 64",
                "platform: Architecture `amd 64` may only hold letters, digits, `_`, `.` and `-`",
            ),
            (
                "linux/arm/v7\n",
                "platform: Variant `v7\n` may only hold letters, digits, `_`, `.` and `-`",
            ),
            ("windows/amd64//10.0", "platform: OSVersion `10.0` is not supported"),
            ("windows/amd64///win32k", "platform: OSFeatures `win32k` is not supported"),
        ] {
            let error = Platform::try_from(wire(given)).unwrap_err();
            assert_eq!(error.to_string(), wanted, "{given}");
        }
    }
}
