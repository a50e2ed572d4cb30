//! Raw git objects: commits and annotated tags, read by hand, with their checksums verified.
//!
//! What is read is what git itself reads (<https://git-scm.com/docs/gitformat-signature>); an object in which
//! a header stands twice that git knows once is refused, because readers disagree on which one counts.
//! It verifies no signature: it says which bytes were signed, and with what.

use std::borrow::Cow;
use std::fmt;
use std::ops::Range;

use bytes::Bytes;
use sha1_checked::CollisionResult;
use sha2::{Digest as _, Sha256};

use super::document::Actor;
use super::moment::Moment;

/// Most bytes of an object that are read.
pub const MAX_OBJECT: usize = 4 << 20;

const SIGNATURE_HEADERS: [&[u8]; 2] = [b"gpgsig", b"gpgsig-sha256"];
const SIGNATURE_LINES: [&[u8]; 2] =
    [b"-----BEGIN PGP SIGNATURE-----", b"-----BEGIN SSH SIGNATURE-----"];

/// Which object it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A commit.
    Commit,
    /// An annotated tag.
    Tag,
}

impl Kind {
    /// Git's name for it.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Commit => "commit",
            Kind::Tag => "tag",
        }
    }

    /// Headers that stand exactly once; the first of them is the object's first line.
    const fn required(self) -> &'static [&'static str] {
        match self {
            Kind::Commit => &["tree", "author", "committer"],
            Kind::Tag => &["object", "type", "tag", "tagger"],
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A git object that may not be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GitObjectError {
    /// More bytes than are read.
    #[error("the {kind} object has {size} bytes; at most {MAX_OBJECT} are read")]
    TooLarge {
        /// Which object.
        kind: Kind,
        /// Its size.
        size: usize,
    },
    /// A header is missing, or not where git wants it.
    #[error("the {kind} object has no `{header}` header where it must have one")]
    MissingHeader {
        /// Which object.
        kind: Kind,
        /// The header.
        header: &'static str,
    },
    /// A header stands twice.
    #[error("the {kind} object has two `{header}` headers")]
    RepeatedHeader {
        /// Which object.
        kind: Kind,
        /// The header.
        header: String,
    },
    /// The headers hold a NUL byte, behind which other readers stop.
    #[error("the headers of the {kind} object hold a NUL byte")]
    Nul {
        /// Which object.
        kind: Kind,
    },
    /// The name is no object id.
    #[error("`{checksum}` is no git object id; expected 40 or 64 lower-case hexadecimal digits")]
    ObjectId {
        /// The name.
        checksum: String,
    },
    /// The bytes are another object.
    #[error("the {kind} object served as {expected} is {actual}")]
    Checksum {
        /// Which object.
        kind: Kind,
        /// The name it was served under.
        expected: String,
        /// The name it has.
        actual: String,
    },
    /// The bytes were made to collide.
    #[error("the {kind} object {checksum} is half of a SHA-1 collision")]
    Collision {
        /// Which object.
        kind: Kind,
        /// The name it was served under.
        checksum: String,
    },
    /// A time that has no form rules could read.
    #[error("the `{header}` header of the git object has a time outside the years 0 to 9999")]
    Time {
        /// The header.
        header: &'static str,
    },
}

/// A commit or an annotated tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GitObject {
    kind: Kind,
    raw: Bytes,
    /// Name and value of each header but the signatures; continued lines are dropped.
    headers: Vec<(Range<usize>, Range<usize>)>,
    /// Where the signature headers stand, with their newlines.
    signature_headers: Vec<Range<usize>>,
    /// The message.
    body: Range<usize>,
    /// Where a tag's signature begins; the end where it has none.
    signature_at: usize,
}

impl GitObject {
    /// Reads a raw object, without git's own `<type> <size>\0` before it.
    ///
    /// # Errors
    /// When it is not an object of this kind, or readers would disagree about it.
    pub fn parse(kind: Kind, raw: Bytes) -> Result<Self, GitObjectError> {
        if raw.len() > MAX_OBJECT {
            return Err(GitObjectError::TooLarge { kind, size: raw.len() });
        }
        let end = raw.len();
        let mut object = Self {
            kind,
            raw,
            headers: Vec::new(),
            signature_headers: Vec::new(),
            body: end..end,
            signature_at: end,
        };
        object.read_headers()?;
        object.read_body();
        object.check_headers()?;
        Ok(object)
    }

    /// Which object it is.
    pub const fn kind(&self) -> Kind {
        self.kind
    }

    /// Its octets.
    pub const fn raw(&self) -> &Bytes {
        &self.raw
    }

    /// The value of the first header of that name.
    pub fn header(&self, name: &str) -> Option<String> {
        self.headers(name).next()
    }

    /// The values of all headers of that name.
    pub fn headers(&self, name: &str) -> impl Iterator<Item = String> {
        self.headers
            .iter()
            .filter(move |(key, _)| self.raw.get(key.clone()) == Some(name.as_bytes()))
            .map(|(_, value)| go_string(self.slice(value)))
    }

    /// The message without signature and without its last newline.
    pub fn message(&self) -> String {
        let body = self.slice(&self.body);
        go_string(body.strip_suffix(b"\n").unwrap_or(body))
    }

    /// The bytes that a signature of it covers.
    pub fn signed_payload(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(self.signature_at);
        let mut from = 0;
        for header in &self.signature_headers {
            payload.extend_from_slice(self.slice(&(from..header.start)));
            from = header.end;
        }
        payload.extend_from_slice(self.slice(&(from..self.signature_at)));
        payload
    }

    /// Its signature, armoured: of a tag what follows the message, of a commit the first signature
    /// header. `None` where it is not signed.
    pub fn signature(&self) -> Option<Cow<'_, str>> {
        match self.kind {
            Kind::Tag => {
                let text = self.slice(&(self.signature_at..self.raw.len()));
                (!text.is_empty()).then(|| String::from_utf8_lossy(text))
            }
            Kind::Commit => {
                let header = self.slice(self.signature_headers.first()?);
                let text = String::from_utf8_lossy(header);
                let (_, value) = text.split_once(' ')?;
                Some(Cow::Owned(value.replace("\n ", "\n")))
            }
        }
    }

    /// The signature that is about these bytes: of a tag what follows the message, of a commit the
    /// header of that name (`gpgsig` in a SHA-1 repository, `gpgsig-sha256` in a SHA-256 one).
    pub fn signature_in(&self, header: &str) -> Option<Cow<'_, str>> {
        match self.kind {
            Kind::Tag => self.signature(),
            Kind::Commit => self
                .signature_headers
                .iter()
                .map(|range| String::from_utf8_lossy(self.slice(range)))
                .find_map(|text| {
                    let (name, value) = text.split_once(' ')?;
                    (name == header).then(|| Cow::Owned(value.replace("\n ", "\n")))
                }),
        }
    }

    /// The person and time of a header.
    ///
    /// # Errors
    /// When its time is no moment that rules could read.
    pub fn actor(&self, header: &'static str) -> Result<Actor, GitObjectError> {
        self.header(header).map_or_else(
            || Ok(Actor::default()),
            |value| actor(&value).ok_or(GitObjectError::Time { header }),
        )
    }

    /// Holds the object against the name it was served under: SHA-1 or SHA-256, by its length.
    ///
    /// # Errors
    /// When the name is another object's or none at all, or the bytes are half of a SHA-1 collision.
    pub fn verify_checksum(&self, checksum: &str) -> Result<(), GitObjectError> {
        let head = format!("{} {}\0", self.kind, self.raw.len());
        let actual = match checksum.len() {
            40 => {
                let mut hash = sha1_checked::Sha1::new();
                hash.update(&head);
                hash.update(&self.raw);
                self.sha1(checksum, &hash.try_finalize())?
            }
            64 => hex::encode(Sha256::new().chain_update(&head).chain_update(&self.raw).finalize()),
            _ => {
                return Err(GitObjectError::ObjectId { checksum: checksum.into() });
            }
        };
        if actual == checksum {
            return Ok(());
        }
        Err(GitObjectError::Checksum { kind: self.kind, expected: checksum.into(), actual })
    }

    fn sha1(&self, checksum: &str, result: &CollisionResult) -> Result<String, GitObjectError> {
        if result.has_collision() {
            return Err(GitObjectError::Collision { kind: self.kind, checksum: checksum.into() });
        }
        Ok(hex::encode(result.hash()))
    }

    fn slice(&self, range: &Range<usize>) -> &[u8] {
        self.raw.get(range.clone()).unwrap_or_default()
    }

    fn read_headers(&mut self) -> Result<(), GitObjectError> {
        let raw = self.raw.clone();
        let mut in_signature = false;
        for line in lines(&raw, 0) {
            let text = raw.get(line.clone()).unwrap_or_default();
            if text.is_empty() {
                self.body = (line.end + 1).min(raw.len())..raw.len();
                return Ok(());
            }
            if text.contains(&0) {
                return Err(GitObjectError::Nul { kind: self.kind });
            }
            let end = (line.end + 1).min(raw.len());
            if text.starts_with(b" ") {
                if let Some(header) = self.signature_headers.last_mut().filter(|_| in_signature) {
                    header.end = end;
                }
                continue;
            }
            let name = text.split(|byte| *byte == b' ').next().unwrap_or_default();
            in_signature = SIGNATURE_HEADERS.contains(&name) && name.len() < text.len();
            if in_signature {
                self.add_signature_header(name, line.start..end)?;
            } else if name.len() < text.len() {
                let split = line.start + name.len();
                self.headers.push((line.start..split, split + 1..line.end));
            }
        }
        Ok(())
    }

    fn add_signature_header(
        &mut self,
        name: &[u8],
        at: Range<usize>,
    ) -> Result<(), GitObjectError> {
        let mut names = self
            .signature_headers
            .iter()
            .filter_map(|header| self.slice(header).split(|byte| *byte == b' ').next());
        if names.any(|other| other == name) {
            let header = String::from_utf8_lossy(name).into_owned();
            return Err(GitObjectError::RepeatedHeader { kind: self.kind, header });
        }
        self.signature_headers.push(at);
        Ok(())
    }

    fn read_body(&mut self) {
        if self.kind == Kind::Commit {
            return;
        }
        let raw = self.raw.clone();
        let signature = lines(&raw, self.body.start)
            .find(|line| SIGNATURE_LINES.contains(&raw.get(line.clone()).unwrap_or_default()));
        if let Some(line) = signature {
            self.signature_at = line.start;
            // The newline that ends the last line of the message is not of the message.
            self.body.end = line.start.saturating_sub(1).max(self.body.start);
        }
    }

    fn check_headers(&self) -> Result<(), GitObjectError> {
        let kind = self.kind;
        let mut first = true;
        for header in kind.required() {
            let starts = !first
                || self
                    .headers
                    .first()
                    .is_some_and(|(key, _)| key.start == 0 && self.slice(key) == header.as_bytes());
            first = false;
            match self.headers(header).count() {
                1 if starts => {}
                0 | 1 => return Err(GitObjectError::MissingHeader { kind, header }),
                _ => {
                    let header = (*header).into();
                    return Err(GitObjectError::RepeatedHeader { kind, header });
                }
            }
        }
        Ok(())
    }
}

/// The lines from `start` on, without their newlines; an empty one behind the last newline.
fn lines(raw: &[u8], start: usize) -> impl Iterator<Item = Range<usize>> {
    let mut from = Some(start);
    std::iter::from_fn(move || {
        let start = from?;
        let rest = raw.get(start..)?;
        let length = rest.iter().position(|byte| *byte == b'\n');
        from = length.map(|length| start + length + 1);
        Some(start..start + length.unwrap_or(rest.len()))
    })
}

/// Text as Go prints it: one replacement character for every byte that is no UTF-8.
fn go_string(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text
}

/// `Name <e-mail> 1700000000 +0100`; what is malformed stays out, and a line without an address is a
/// name. `None` where there is a time and it has no form that rules could read.
fn actor(line: &str) -> Option<Actor> {
    let line = line.trim();
    let (Some(start), Some(end)) = (line.rfind('<'), line.rfind('>')) else {
        return Some(Actor { name: line.into(), ..Actor::default() });
    };
    let (Some(name), Some(email), Some(rest)) =
        (line.get(..start), line.get(start + 1..end), line.get(end + 1..))
    else {
        return Some(Actor { name: line.into(), ..Actor::default() });
    };
    let when = match moment(rest) {
        Some(moment) => Some(moment.rfc3339()?),
        None => None,
    };
    Some(Actor { name: name.trim().into(), email: email.trim().into(), when })
}

/// `1700000000 +0100`
fn moment(text: &str) -> Option<Moment> {
    let mut words = text.split_whitespace();
    let (unix, zone) = (words.next()?.parse().ok()?, words.next()?);
    let sign = match zone.as_bytes() {
        [b'+', _, _, _, _] => 1,
        [b'-', _, _, _, _] => -1,
        _ => return None,
    };
    let part = |range: Range<usize>| zone.get(range).and_then(|text| text.parse().ok());
    let (hours, minutes): (i32, i32) = (part(1..3).unwrap_or(0), part(3..5).unwrap_or(0));
    Some(Moment::new(unix, sign * (hours * 3_600 + minutes * 60)))
}

#[cfg(test)]
#[path = "gitobject_tests.rs"]
mod tests;
