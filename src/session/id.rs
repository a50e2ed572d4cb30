//! Names that nobody can guess.

use std::fmt;

use http::HeaderValue;

/// Octets of randomness in a name.
const OCTETS: usize = 32;

/// The system gave no random octets. Nothing may be opened then.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random octets for an id: {0}")]
pub struct NoRandomness(getrandom::Error);

/// The id of a session, or of a build, of our own. Whoever knows it can answer, or fetch, in our
/// place: it goes to the daemon and nowhere else, no log included.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId(String);

impl SessionId {
    /// A name that is new.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random() -> Result<Self, NoRandomness> {
        let mut octets = [0; OCTETS];
        getrandom::fill(&mut octets).map_err(NoRandomness)?;
        Ok(Self(hex::encode(octets)))
    }

    /// The name, for the wire alone.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// The name as metadata, kept out of HTTP/2's tables.
    pub fn header(&self) -> HeaderValue {
        // Hexadecimal digits are always a header.
        let mut value = HeaderValue::from_str(&self.0).unwrap_or(HeaderValue::from_static(""));
        value.set_sensitive(true);
        value
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionId(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_long_new_and_not_shown() {
        let (one, two) = (SessionId::random().unwrap(), SessionId::random().unwrap());
        assert_ne!(one, two);
        assert_eq!(one.reveal().len(), 2 * OCTETS);
        assert_eq!(one.header().to_str().unwrap(), one.reveal());
        assert!(!format!("{one:?}").contains(one.reveal()));
    }
}
