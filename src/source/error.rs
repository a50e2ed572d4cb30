//! Why an identifier is no source.

/// An identifier that is no source, or one whose meaning depends on who reads it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// There is no `scheme://`.
    #[error("`{identifier}` is not a source identifier: it has no scheme")]
    NoScheme {
        /// The identifier as given.
        identifier: String,
    },
}
