//! Digests: `algorithm:hex`, checked for length, as the OCI image specification registers them.

use std::fmt;
use std::str::FromStr;

use super::mask;

/// A digest whose algorithm is known and whose hexadecimal part has the algorithm's length.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(String);

/// A text that is no [`Digest`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DigestError {
    /// There is no `:`.
    #[error("`{digest}` has no algorithm; expected sha256:, sha384: or sha512: and hexadecimal")]
    NoAlgorithm {
        /// The text.
        digest: String,
    },
    /// The algorithm is none of the three.
    #[error("digest algorithm `{algorithm}` is unknown; expected sha256, sha384 or sha512")]
    Algorithm {
        /// The algorithm.
        algorithm: String,
    },
    /// Wrong length, upper case, or no hexadecimal at all.
    #[error("`{digest}`: {algorithm} takes {expected} lower-case hexadecimal digits")]
    Encoded {
        /// The text.
        digest: String,
        /// Its algorithm.
        algorithm: &'static str,
        /// How many digits that has.
        expected: usize,
    },
}

impl Digest {
    /// The digest as text, `sha256:…`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// `sha256`, `sha384` or `sha512`.
    pub fn algorithm(&self) -> &str {
        self.0.split_once(':').map_or("", |(algorithm, _)| algorithm)
    }

    /// The hexadecimal digits.
    pub fn hex(&self) -> &str {
        self.0.split_once(':').map_or("", |(_, hex)| hex)
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let Some((algorithm, hex)) = text.split_once(':') else {
            return Err(DigestError::NoAlgorithm { digest: mask::part(text) });
        };
        let (algorithm, expected) = match algorithm {
            "sha256" => ("sha256", 64),
            "sha384" => ("sha384", 96),
            "sha512" => ("sha512", 128),
            other => {
                return Err(DigestError::Algorithm { algorithm: mask::part(other) });
            }
        };
        if hex.len() == expected && hex.bytes().all(is_lower_hex) {
            return Ok(Self(text.into()));
        }
        Err(DigestError::Encoded { digest: mask::part(text), algorithm, expected })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for Digest {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

/// Whether a byte is a hexadecimal digit that a digest or a commit is written with.
pub(super) fn is_lower_hex(byte: u8) -> bool {
    byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_registered_algorithms_at_their_lengths() {
        for (algorithm, length) in [("sha256", 64), ("sha384", 96), ("sha512", 128)] {
            let text = format!("{algorithm}:{}", "0".repeat(length));
            let digest: Digest = text.parse().unwrap();
            assert_eq!(digest.as_str(), text);
            assert_eq!(digest.algorithm(), algorithm);
            assert_eq!(digest.hex().len(), length);
            for wrong in [length - 1, length + 1] {
                let text = format!("{algorithm}:{}", "0".repeat(wrong));
                assert!(text.parse::<Digest>().is_err(), "{text}");
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let check = |text: &str, message: &str| {
            assert_eq!(text.parse::<Digest>().unwrap_err().to_string(), message);
        };
        check("", "`` has no algorithm; expected sha256:, sha384: or sha512: and hexadecimal");
        check("md5:00", "digest algorithm `md5` is unknown; expected sha256, sha384 or sha512");
        check("sha256:AB", "`sha256:AB`: sha256 takes 64 lower-case hexadecimal digits");
    }
}
