//! Platforms: `os[/arch[/variant]]`, parsed and normalised as containerd does it
//! (<https://pkg.go.dev/github.com/containerd/platforms>), with `linux/amd64` where a part is left out.

use std::fmt;
use std::str::FromStr;

use super::mask;

/// A normalised platform.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// Operating system, for example `linux`.
    pub os: String,
    /// Architecture, for example `amd64`.
    pub architecture: String,
    /// Variant, for example `v7`; empty where there is none.
    pub variant: String,
}

/// A text that is no platform.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PlatformError {
    /// A pattern.
    #[error("platform `{platform}`: wildcards are not supported; expected os[/arch[/variant]]")]
    Wildcard {
        /// The text.
        platform: String,
    },
    /// A part has characters that are in no name.
    #[error(
        "platform `{platform}`: `{part}` is not a name; expected os[/arch[/variant]] of letters, \
         digits, `_`, `-` and `.`"
    )]
    Part {
        /// The text.
        platform: String,
        /// The part of it.
        part: String,
    },
    /// More than three parts.
    #[error("platform `{platform}` has more than three parts; expected os[/arch[/variant]]")]
    TooManyParts {
        /// The text.
        platform: String,
    },
    /// A single word that is neither.
    #[error(
        "platform `{platform}` is no known operating system or architecture; write os/arch, for \
         example linux/amd64"
    )]
    Unknown {
        /// The text.
        platform: String,
    },
}

/// What a lone word is taken for, as an operating system.
const KNOWN_OS: [&str; 17] = [
    "aix",
    "android",
    "darwin",
    "dragonfly",
    "freebsd",
    "hurd",
    "illumos",
    "ios",
    "js",
    "linux",
    "nacl",
    "netbsd",
    "openbsd",
    "plan9",
    "solaris",
    "windows",
    "zos",
];

/// What a lone word is taken for, as an architecture.
const KNOWN_ARCH: [&str; 24] = [
    "386",
    "amd64",
    "amd64p32",
    "arm",
    "arm64",
    "arm64be",
    "armbe",
    "loong64",
    "mips",
    "mips64",
    "mips64le",
    "mips64p32",
    "mips64p32le",
    "mipsle",
    "ppc",
    "ppc64",
    "ppc64le",
    "riscv",
    "riscv64",
    "s390",
    "s390x",
    "sparc",
    "sparc64",
    "wasm",
];

impl Platform {
    /// Parses and normalises `text`.
    ///
    /// # Errors
    /// When it is not `os[/arch[/variant]]`, or a lone word that is no known name.
    pub fn parse(text: &str) -> Result<Self, PlatformError> {
        if text.contains('*') {
            return Err(PlatformError::Wildcard { platform: mask::part(text) });
        }
        let mut parts: Vec<&str> = text.splitn(4, '/').collect();
        if let Some(os) = parts.first_mut() {
            *os = without_version(os);
        }
        let bad = parts.iter().enumerate().find(|(at, part)| !is_name(part, *at == 0));
        if let Some((_, part)) = bad {
            return Err(PlatformError::Part { platform: mask::part(text), part: mask::part(part) });
        }
        match parts.as_slice() {
            [word] => Self::from_word(word)
                .ok_or_else(|| PlatformError::Unknown { platform: mask::part(text) }),
            [os, architecture] => Ok(Self::from_parts(os, architecture, "")),
            [os, architecture, variant] => Ok(Self::from_parts(os, architecture, variant)),
            _ => Err(PlatformError::TooManyParts { platform: mask::part(text) }),
        }
    }

    /// Normalises the parts as the wire has them. An empty `os` is `linux`, and where there is
    /// neither, the architecture is `amd64`: what builds run on.
    pub fn from_parts(os: &str, architecture: &str, variant: &str) -> Self {
        if os.is_empty() && architecture.is_empty() {
            return Self::default();
        }
        let (architecture, variant) = normalise_architecture(architecture, variant);
        Self { os: normalise_os(os), architecture, variant }
    }

    /// A lone word names a system or an architecture; the other half is the default's.
    fn from_word(word: &str) -> Option<Self> {
        let default = Self::default();
        let os = normalise_os(word);
        if KNOWN_OS.contains(&os.as_str()) {
            return Some(Self { os, ..default });
        }
        let (architecture, variant) = normalise_architecture(word, "");
        KNOWN_ARCH.contains(&architecture.as_str()).then_some(Self {
            os: default.os,
            architecture,
            variant,
        })
    }
}

impl Default for Platform {
    fn default() -> Self {
        Self { os: "linux".into(), architecture: "amd64".into(), variant: String::new() }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.os)?;
        for part in [&self.architecture, &self.variant] {
            if !part.is_empty() {
                write!(f, "/{part}")?;
            }
        }
        Ok(())
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        Self::parse(text)
    }
}

/// `windows(10.0.17763+win32k)` without its version and features, which rules do not see.
fn without_version(os: &str) -> &str {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"_.%-+".contains(&byte);
    match os.strip_suffix(')').and_then(|rest| rest.split_once('(')) {
        Some((name, version)) if version.bytes().all(known) => name,
        Some(_) | None => os,
    }
}

fn is_name(part: &str, is_os: bool) -> bool {
    !part.is_empty()
        && part.bytes().all(|byte| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-') || (byte == b'.' && !is_os)
        })
}

fn normalise_os(os: &str) -> String {
    match os.to_ascii_lowercase().as_str() {
        "" => "linux".into(),
        "macos" => "darwin".into(),
        other => other.into(),
    }
}

fn normalise_architecture(architecture: &str, variant: &str) -> (String, String) {
    let architecture = architecture.to_ascii_lowercase();
    let variant = variant.to_ascii_lowercase();
    let (architecture, variant) = match (architecture.as_str(), variant.as_str()) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64" | "amd64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8" | "v8.0") => ("arm64", ""),
        ("aarch64" | "arm64", "9" | "9.0" | "v9.0") => ("arm64", "v9"),
        ("aarch64" | "arm64", variant) => ("arm64", variant),
        ("armhf", _) | ("arm", "" | "7") => ("arm", "v7"),
        ("armel", _) | ("arm", "6") => ("arm", "v6"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "8") => ("arm", "v8"),
        (architecture, variant) => (architecture, variant),
    };
    (architecture.into(), variant.into())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: &str) {
        let platform = Platform::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(platform.to_string(), expected, "{text}");
    }

    #[test]
    fn normalises_as_containerd_does() {
        for (text, expected) in [
            ("linux", "linux/amd64"),
            ("windows", "windows/amd64"),
            ("macos", "darwin/amd64"),
            ("arm64", "linux/arm64"),
            ("aarch64", "linux/arm64"),
            ("x86_64", "linux/amd64"),
            ("arm", "linux/arm/v7"),
            ("armel", "linux/arm/v6"),
            ("sparc64", "linux/sparc64"),
            ("linux/amd64", "linux/amd64"),
            ("Linux/AMD64", "linux/amd64"),
            ("linux/amd64/v1", "linux/amd64"),
            ("linux/amd64/v2", "linux/amd64/v2"),
            ("linux/x86-64/V3", "linux/amd64/v3"),
            ("linux/i386", "linux/386"),
            ("linux/i386/x", "linux/386"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/arm/v7", "linux/arm/v7"),
            ("linux/arm/7", "linux/arm/v7"),
            ("linux/arm/5", "linux/arm/v5"),
            ("linux/arm/6", "linux/arm/v6"),
            ("linux/arm/v8", "linux/arm/v8"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/armel", "linux/arm/v6"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm64/8", "linux/arm64"),
            ("linux/arm64/v8.0", "linux/arm64"),
            ("linux/arm64/9", "linux/arm64/v9"),
            ("linux/arm64/v9.0", "linux/arm64/v9"),
            ("linux/arm64/v8.1", "linux/arm64/v8.1"),
            ("macos/arm64", "darwin/arm64"),
            ("freebsd/amd64", "freebsd/amd64"),
            ("unknown/unknown", "unknown/unknown"),
            ("windows(10.0.17763.1+win32k)/amd64", "windows/amd64"),
        ] {
            check(text, expected);
        }
    }

    #[test]
    fn refuses_what_is_no_platform() {
        let check = |text: &str, message: &str| {
            assert_eq!(Platform::parse(text).unwrap_err().to_string(), message);
        };
        let part = |text: &str, part: &str| {
            format!(
                "platform `{text}`: `{part}` is not a name; expected os[/arch[/variant]] of \
                 letters, digits, `_`, `-` and `.`"
            )
        };
        check("*", "platform `*`: wildcards are not supported; expected os[/arch[/variant]]");
        check(
            "linux/amd64/v3/x",
            "platform `linux/amd64/v3/x` has more than three parts; expected os[/arch[/variant]]",
        );
        check(
            "toaster",
            "platform `toaster` is no known operating system or architecture; write os/arch, for \
             example linux/amd64",
        );
        check("", &part("", ""));
        check("linux/", &part("linux/", ""));
        check("linux/amd 64", &part("linux/amd 64", "amd 64"));
        check("linux/é", &part("linux/é", "é"));
        check("windows(1 0)/amd64", &part("windows(1 0)/amd64", "windows(1 0)"));
        check("linux/amd64(1)", &part("linux/amd64(1)", "amd64(1)"));
    }

    #[test]
    fn takes_the_parts_of_the_wire() {
        let check = |parts: [&str; 3], expected: &str| {
            assert_eq!(Platform::from_parts(parts[0], parts[1], parts[2]).to_string(), expected);
        };
        check(["", "", ""], "linux/amd64");
        check(["Linux", "x86_64", ""], "linux/amd64");
        check(["linux", "arm64", "v8"], "linux/arm64");
        check(["linux", "arm", ""], "linux/arm/v7");
    }

    proptest! {
        #[test]
        fn never_panics_and_is_stable(text in "[a-zA-Z0-9_./*() -]{0,24}|\\PC{0,12}") {
            if let Ok(platform) = Platform::parse(&text) {
                let formatted = platform.to_string();
                prop_assert_eq!(Platform::parse(&formatted), Ok(platform));
            }
        }
    }
}
