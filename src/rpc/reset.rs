//! Streams that end by a reset instead of a status: which, and how it is passed on.

use std::error::Error as StdError;

/// A stream that the other side has reset. Given to a server as a call's answer, it resets the
/// caller's stream with the same code.
#[derive(Debug, thiserror::Error)]
#[error("the stream was reset")]
pub struct Reset(#[source] h2::Error);

impl Reset {
    /// A reset of our own with this code.
    #[must_use]
    pub fn with(reason: h2::Reason) -> Self {
        Self(h2::Error::from(reason))
    }

    /// The code.
    #[must_use]
    pub fn reason(&self) -> h2::Reason {
        self.0.reason().unwrap_or(h2::Reason::INTERNAL_ERROR)
    }
}

/// The reset behind an error of a call or of its body, where it is one: not the end of the whole
/// connection, which has no meaning for the stream.
#[must_use]
pub fn reset_of(error: &(dyn StdError + 'static)) -> Option<Reset> {
    let mut error = Some(error);
    while let Some(at) = error {
        if let Some(h2) = at.downcast_ref::<h2::Error>() {
            let reason = h2.reason().filter(|_| h2.is_reset())?;
            return Some(Reset::with(reason));
        }
        error = at.source();
    }
    None
}
