//! Names that nobody can guess.

use std::fmt;

use http::HeaderValue;

/// Octets of randomness in a name.
const OCTETS: usize = 32;

/// There is no id. Nothing may be opened then.
#[derive(Debug, thiserror::Error)]
pub enum NoId {
    /// The system gave no random octets.
    #[error("the system gives no random octets for an id: {0}")]
    NoRandomness(getrandom::Error),
    /// It cannot be sent.
    #[error("an id cannot be sent as metadata: {0}")]
    NoHeader(#[from] http::header::InvalidHeaderValue),
}

/// The id of a session, or of a build, of our own. Whoever knows it can answer, or fetch, in our
/// place: it goes to the daemon and nowhere else, no log included.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SessionId {
    text: String,
    /// The same, kept out of HTTP/2's tables.
    header: HeaderValue,
}

impl SessionId {
    /// A name that is new.
    ///
    /// # Errors
    /// When the system has no randomness to give.
    pub fn random() -> Result<Self, NoId> {
        let mut octets = [0; OCTETS];
        getrandom::fill(&mut octets).map_err(NoId::NoRandomness)?;
        let text = hex::encode(octets);
        let mut header = HeaderValue::from_str(&text)?;
        header.set_sensitive(true);
        Ok(Self { text, header })
    }

    /// The name, for the wire alone.
    pub fn reveal(&self) -> &str {
        &self.text
    }

    /// The name as metadata, kept out of HTTP/2's tables.
    pub fn header(&self) -> HeaderValue {
        self.header.clone()
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
        assert!(one.header().is_sensitive());
        assert!(!format!("{one:?}").contains(one.reveal()));
    }
}
