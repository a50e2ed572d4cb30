//! The keys that may sign by SSH: public key files and git's `allowed_signers` (ssh-keygen(1)). Times
//! without `Z` are UTC here.
//!
//! No key is revoked here: neither revocation lists nor an option for it are known to such files, so that a
//! line which looks like one is refused, and a key is taken back by taking its line out.

// Algorithms are enums of others that grow; whatever is not accepted by name is refused.
#![allow(clippy::wildcard_enum_match_arm)]

use std::collections::BTreeSet;

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, HashAlg, PublicKey};

use super::{MAX_RSA_BITS, MIN_RSA_BITS, NAMESPACE, bits, unsupported};
use crate::verify::CLOCK_SKEW;
use crate::verify::error::{Invalid, KeyFileError, NotVerified};

/// Most keys of a key file.
const MAX_KEYS: usize = 10_000;

/// The keys of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedSigners {
    pub(super) keys: Vec<AllowedSigner>,
}

/// A key, and what it may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedSigner {
    /// Who it belongs to; empty for a plain public key.
    pub(super) principals: String,
    /// What it may sign: patterns; empty where nothing is said.
    namespaces: String,
    valid_after: Option<i64>,
    valid_before: Option<i64>,
    /// It signs certificates, nothing else.
    pub(super) is_authority: bool,
    pub(super) key: KeyData,
}

impl AllowedSigners {
    /// Reads public keys, one a line, with or without principals and options before them.
    ///
    /// # Errors
    /// When a line cannot be read: an option that is passed over might be a restriction.
    pub fn parse(text: &str) -> Result<Self, KeyFileError> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match AllowedSigner::parse(line) {
                Ok(key) => keys.push(key),
                // What has no key at all in its first line is no key file.
                Err(_) if keys.is_empty() && !line.contains("AAAA") => {
                    return Err(private_or_none(text));
                }
                Err(why) => return Err(KeyFileError::Line { line: index + 1, why }),
            }
            if keys.len() > MAX_KEYS {
                let why = format!("there are more than {MAX_KEYS} keys");
                return Err(KeyFileError::Line { line: index + 1, why });
            }
        }
        if keys.is_empty() { Err(KeyFileError::NoKeys) } else { Ok(Self { keys }) }
    }
}

fn private_or_none(text: &str) -> KeyFileError {
    if text.contains("PRIVATE KEY-----") { KeyFileError::PrivateKey } else { KeyFileError::NoKeys }
}

impl AllowedSigner {
    fn parse(line: &str) -> Result<Self, String> {
        let mut signer = Self {
            principals: String::new(),
            namespaces: String::new(),
            valid_after: None,
            valid_before: None,
            is_authority: false,
            key: KeyData::Ed25519(ssh_key::public::Ed25519PublicKey([0; 32])),
        };
        let (mut first, mut rest) = word(line)?;
        if !is_key_type(&first) {
            check_principals(&first)?;
            signer.principals = first.trim_matches('"').to_owned();
            (first, rest) = word(rest)?;
            if !is_key_type(&first) {
                signer.options(&first)?;
                (first, rest) = word(rest)?;
            }
        }
        if !is_key_type(&first) {
            return Err(format!("`{first}` is no type of key"));
        }
        let (data, _comment) = word(rest)?;
        let key = PublicKey::from_openssh(&format!("{first} {data}"))
            .map_err(|error| format!("the key cannot be read: {error}"))?;
        signer.key = key.key_data().clone();
        Ok(signer)
    }

    fn options(&mut self, options: &str) -> Result<(), String> {
        let mut given = BTreeSet::new();
        for option in split_options(options) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let value = value.trim_matches('"');
            let name = name.to_ascii_lowercase();
            // Which of two counts, two readers may see in two ways.
            if !given.insert(name.clone()) {
                return Err(format!("the option `{name}` is given twice"));
            }
            match name.as_str() {
                "cert-authority" => self.is_authority = true,
                "namespaces" if !value.is_empty() => self.namespaces = value.to_owned(),
                "valid-after" => self.valid_after = Some(time(value)?),
                "valid-before" => self.valid_before = Some(time(value)?),
                _ => return Err(format!("unknown option `{option}`")),
            }
        }
        Ok(())
    }

    pub(super) fn name(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Holds what the file says of the key against what it signed, and when.
    pub(super) fn check(&self, dated: Option<i64>, now: i64) -> Result<(), NotVerified> {
        let key = self.name();
        if !self.namespaces.is_empty() && !in_patterns(&self.namespaces, NAMESPACE) {
            let namespaces = self.namespaces.clone();
            return Err(Invalid::NotAllowed { key, namespaces }.into());
        }
        if dated.is_some_and(|dated| dated > now.saturating_add(CLOCK_SKEW)) {
            return Err(Invalid::Future { made: dated.unwrap_or_default() }.into());
        }
        let times = [Some(now), dated];
        for time in times.into_iter().flatten() {
            if let Some(from) = self.valid_after.filter(|from| time < *from) {
                return Err(Invalid::KeyTooYoung { key, from }.into());
            }
            if let Some(since) = self.valid_before.filter(|since| time >= *since) {
                return Err(Invalid::KeyExpired { key, since }.into());
            }
        }
        Ok(())
    }

    pub(super) fn check_algorithm(&self) -> Result<(), NotVerified> {
        match &self.key {
            KeyData::Ed25519(_)
            | KeyData::Ecdsa(_)
            | KeyData::SkEd25519(_)
            | KeyData::SkEcdsaSha2NistP256(_) => Ok(()),
            KeyData::Rsa(key) => match bits(key.n.as_positive_bytes().unwrap_or_default()) {
                MIN_RSA_BITS..=MAX_RSA_BITS => Ok(()),
                bits if bits > MAX_RSA_BITS => {
                    Err(unsupported(format!("an RSA key of {bits} bits (key {})", self.name())))
                }
                bits => Err(Invalid::ShortKey { key: self.name(), bits }.into()),
            },
            other => Err(unsupported(format!("{} (key {})", other.algorithm(), self.name()))),
        }
    }
}

/// Refuses what stands where principals do and is meant otherwise: options out of place, markers of a
/// `known_hosts` such as `@revoked`, and options of an `authorized_keys`. Whoever wrote them wanted less
/// than the key's every signature.
fn check_principals(word: &str) -> Result<(), String> {
    let lower = word.to_ascii_lowercase();
    let is_option = ["cert-authority", "namespaces=", "valid-after=", "valid-before="]
        .iter()
        .any(|option| lower.starts_with(option));
    if is_option || lower.contains("=\"") {
        return Err("options stand after the principals".to_owned());
    }
    if lower.starts_with('@') || lower == "revoked" {
        return Err(format!(
            "`{word}` is no principal; a key is taken back by taking its line out"
        ));
    }
    Ok(())
}

/// The next word of a line; quotes keep spaces in it.
fn word(text: &str) -> Result<(String, &str), String> {
    let text = text.trim_start();
    let mut quoted = false;
    for (at, character) in text.char_indices() {
        match character {
            '"' => quoted = !quoted,
            ' ' | '\t' if !quoted => {
                let (word, rest) = text.split_at(at);
                return Ok((word.to_owned(), rest));
            }
            _ => {}
        }
    }
    match (text, quoted) {
        ("", _) => Err("the key is missing".to_owned()),
        (_, true) => Err("a quote does not end".to_owned()),
        (text, false) => Ok((text.to_owned(), "")),
    }
}

/// Options, split at the commas outside quotes.
fn split_options(options: &str) -> Vec<&str> {
    let mut quoted = false;
    options
        .split(move |character: char| {
            quoted ^= character == '"';
            character == ',' && !quoted
        })
        .collect()
}

pub(super) fn is_key_type(word: &str) -> bool {
    word.parse::<Algorithm>().is_ok_and(|algorithm| !matches!(algorithm, Algorithm::Other(_)))
}

/// `YYYYMMDD[HHMM[SS]][Z]`, in seconds since 1970.
fn time(text: &str) -> Result<i64, String> {
    let wrong = || format!("`{text}` is no time such as 20300101 or 203001011230Z");
    let digits = text.strip_suffix('Z').unwrap_or(text);
    if !digits.bytes().all(|digit| digit.is_ascii_digit()) || ![8, 12, 14].contains(&digits.len()) {
        return Err(wrong());
    }
    let part = |from: usize, to: usize| digits.get(from..to).unwrap_or("0").parse::<i16>();
    let small = |from, to| part(from, to).ok().and_then(|it| i8::try_from(it).ok());
    let parts =
        (part(0, 4).ok(), small(4, 6), small(6, 8), small(8, 10), small(10, 12), small(12, 14));
    let (Some(year), Some(month), Some(day), Some(hour), Some(minute), Some(second)) = parts else {
        return Err(wrong());
    };
    DateTime::new(year, month, day, hour, minute, second, 0)
        .and_then(|time| time.to_zoned(TimeZone::UTC))
        .map(|time| time.timestamp().as_second())
        .map_err(|_| wrong())
}

/// Whether a text is in a list of patterns with `*`, `?` and `!` (ssh_config(5)).
fn in_patterns(patterns: &str, text: &str) -> bool {
    let mut found = false;
    for pattern in patterns.split(',').map(str::trim) {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern.as_bytes(), text.as_bytes()) => return false,
            Some(_) => {}
            None => found |= matches(pattern.as_bytes(), text.as_bytes()),
        }
    }
    found
}

/// Whether a pattern matches. Linear in the text for each asterisk, without recursion.
fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while let Some(byte) = text.get(t) {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(wanted) if *wanted == b'?' || wanted == byte => {
                p += 1;
                t += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    p = at + 1;
                    t = from + 1;
                }
                None => return false,
            },
        }
    }
    pattern.get(p..).unwrap_or_default().iter().all(|byte| *byte == b'*')
}
