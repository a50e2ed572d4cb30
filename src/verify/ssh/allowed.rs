//! The keys that may sign by SSH: public key files and git's `allowed_signers` (ssh-keygen(1)). Times
//! without `Z` are UTC here.
//!
//! What ssh-keygen refuses is refused, and what only it passes over is refused too: a line that cannot be
//! read makes a file that cannot. Who may sign is asked as git asks (`find-principals`, then `verify`).
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
use crate::verify::clock::Clock;
use crate::verify::error::{Invalid, KeyFileError, NotVerified};

/// Most keys of a key file.
const MAX_KEYS: usize = 10_000;
/// A pattern of a list that is as long makes the list match nothing, as in OpenSSH.
const MAX_PATTERN: usize = 1023;

/// The keys of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedSigners {
    pub(super) keys: Vec<AllowedSigner>,
}

/// A key, and what it may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowedSigner {
    /// Who it belongs to: patterns; nothing for a plain public key.
    pub(super) principals: Option<String>,
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
            let line = line.trim_matches([' ', '\t', '\r']);
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
        // Programs in C stop reading at one of them.
        if line.contains(|it: char| it.is_ascii_control() && it != '\t') {
            return Err("it holds control characters".to_owned());
        }
        let mut signer = Self {
            principals: None,
            namespaces: String::new(),
            valid_after: None,
            valid_before: None,
            is_authority: false,
            key: KeyData::Ed25519(ssh_key::public::Ed25519PublicKey([0; 32])),
        };
        let (mut first, mut rest) = word(line)?;
        if !is_key_type(first) {
            let principals;
            (principals, rest) = self::principals(line)?;
            signer.principals = Some(principals.to_owned());
            (first, rest) = word(rest)?;
            if !is_key_type(first) {
                signer.options(first)?;
                (first, rest) = word(rest)?;
            }
        }
        if !is_key_type(first) {
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
        let mut rest = Some(options);
        while let Some(option) = rest {
            let name = option.split(['=', ',']).next().unwrap_or_default();
            let after = option.get(name.len()..).unwrap_or_default();
            let (value, after) = match after.strip_prefix('=') {
                Some(quoted) => {
                    unquoted(name, quoted).map(|(value, after)| (Some(value), after))?
                }
                None => (None, after),
            };
            let name = name.to_ascii_lowercase();
            match (name.as_str(), value) {
                ("cert-authority", None) => self.is_authority = true,
                ("cert-authority", Some(_)) => {
                    return Err(format!("the option `{name}` takes no value"));
                }
                ("namespaces", Some(value)) if !value.is_empty() => {
                    self.namespaces = value.to_owned();
                }
                ("valid-after", Some(value)) => self.valid_after = Some(time(value)?),
                ("valid-before", Some(value)) => self.valid_before = Some(time(value)?),
                _ => return Err(format!("unknown option `{option}`")),
            }
            // Which of two counts, two readers may see in two ways.
            if !given.insert(name.clone()) {
                return Err(format!("the option `{name}` is given twice"));
            }
            rest = match after.strip_prefix(',') {
                None if !after.is_empty() => return Err(format!("unknown option `{option}`")),
                more => more,
            };
        }
        match (self.valid_after, self.valid_before) {
            (Some(from), Some(until)) if until <= from => {
                Err("`valid-before` is no later than `valid-after`".to_owned())
            }
            _ => Ok(()),
        }
    }

    pub(super) fn name(&self) -> String {
        self.key.fingerprint(HashAlg::Sha256).to_string()
    }

    /// Whom git asks about: the principals in their order, up to the first that is empty.
    fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.principals.as_deref().unwrap_or_default().split(',');
        names.take_while(|name| !name.is_empty())
    }

    /// Whether the line is about that principal.
    fn is_of(&self, principal: &str) -> bool {
        self.principals.as_ref().is_some_and(|patterns| in_patterns(patterns, principal))
    }

    fn check_namespace(&self) -> Result<(), NotVerified> {
        if self.namespaces.is_empty() || in_patterns(&self.namespaces, NAMESPACE) {
            return Ok(());
        }
        Err(Invalid::NotAllowed { key: self.name(), namespaces: self.namespaces.clone() }.into())
    }

    /// Whether the key is valid now, and when the object was made by its own word.
    fn check_times(&self, dated: Option<i64>, clock: &Clock) -> Result<(), NotVerified> {
        let has_come = |moment: i64| [clock.has_come(moment), dated.is_none_or(|it| it >= moment)];
        if let Some(from) = self.valid_after.filter(|from| has_come(*from).contains(&false)) {
            return Err(Invalid::KeyTooYoung { key: self.name(), from }.into());
        }
        let is_past = |moment: i64| clock.has_come(moment) || dated.is_some_and(|it| it >= moment);
        if let Some(since) = self.valid_before.filter(|since| is_past(*since)) {
            return Err(Invalid::KeyExpired { key: self.name(), since }.into());
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

/// Which of the lines of one key permits what it signed. As git does, it takes the principals of the first
/// line that is in force and looks for a line that is about one of them and permits it. A plain public key
/// permits everything.
pub(super) fn permitting<'k>(
    lines: &[&'k AllowedSigner],
    dated: Option<i64>,
    clock: &Clock,
) -> Result<&'k AllowedSigner, NotVerified> {
    let mut failed = None;
    let mut holds = |result: Result<(), NotVerified>| match result {
        Ok(()) => true,
        Err(error) => {
            failed.get_or_insert(error);
            false
        }
    };
    let Some(first) = lines.iter().find(|line| holds(line.check_times(dated, clock))) else {
        let key = lines.first().map(|line| line.name()).unwrap_or_default();
        return Err(failed.unwrap_or_else(|| Invalid::UnknownKey { key }.into()));
    };
    if first.principals.is_none() {
        return Ok(first);
    }
    for principal in first.names() {
        for line in lines.iter().filter(|line| line.is_of(principal)) {
            if holds(line.check_namespace()) && holds(line.check_times(dated, clock)) {
                return Ok(line);
            }
        }
    }
    let principals = first.principals.clone().unwrap_or_default();
    Err(failed.unwrap_or_else(|| Invalid::NoPrincipal { key: first.name(), principals }.into()))
}

/// The principals that a line begins with, and what follows them.
fn principals(line: &str) -> Result<(&str, &str), String> {
    let end = line.find([' ', '\t']).unwrap_or(line.len());
    check_principals(line.get(..end).unwrap_or_default())?;
    let (name, rest) = match line.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or("a quote does not end")?,
        None => line.split_at(end),
    };
    if name.contains('"') || !(rest.is_empty() || rest.starts_with([' ', '\t'])) {
        return Err("a quote stands within the principals".to_owned());
    }
    Ok((name, rest))
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
fn word(text: &str) -> Result<(&str, &str), String> {
    let text = text.trim_start_matches([' ', '\t']);
    let mut quoted = false;
    let mut parted = |character: char| {
        quoted ^= character == '"';
        !quoted && matches!(character, ' ' | '\t')
    };
    let end = text.find(&mut parted).unwrap_or(text.len());
    match (text, quoted) {
        ("", _) => Err("the key is missing".to_owned()),
        (_, true) => Err("a quote does not end".to_owned()),
        (text, false) => Ok(text.split_at(end)),
    }
}

/// The value of an option, which stands in quotes, and what follows it.
fn unquoted<'t>(name: &str, text: &'t str) -> Result<(&'t str, &'t str), String> {
    let quoted = text.strip_prefix('"').and_then(|text| text.split_once('"'));
    match quoted {
        Some((value, _)) if value.contains('\\') => {
            Err(format!("the value of the option `{name}` holds a backslash"))
        }
        Some(quoted) => Ok(quoted),
        None => Err(format!("the value of the option `{name}` does not stand in quotes")),
    }
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
    let time = DateTime::new(year, month, day, hour, minute, second, 0)
        .and_then(|time| time.to_zoned(TimeZone::UTC))
        .map_err(|_| wrong())?;
    // For ssh-keygen that is no time.
    Some(time.timestamp().as_second()).filter(|seconds| *seconds > 0).ok_or_else(wrong)
}

/// Whether a text is in a list of patterns with `*`, `?` and `!` (ssh_config(5)).
fn in_patterns(patterns: &str, text: &str) -> bool {
    let mut found = false;
    for pattern in patterns.split(',') {
        if pattern.len() >= MAX_PATTERN {
            return false;
        }
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
