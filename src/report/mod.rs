//! Decisions for people and machines: text, JSON, SARIF and JUnit.
//!
//! [`Report`] and [`TestReport`] are plain data that the command line fills; a renderer each turns
//! them into a string. Nothing here decides, evaluates or prints.

pub mod escape;
mod json;
mod junit;
mod model;
mod sarif;
mod test_model;
mod text;
mod text_test;

#[cfg(test)]
mod samples;

pub use model::*;
pub use test_model::*;

/// How a report is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// Drawn for people.
    #[default]
    Text,
    /// Our own JSON; its members are stable within a `schemaVersion`.
    Json,
    /// SARIF 2.1.0, for code scanning.
    Sarif,
    /// JUnit XML, for CI.
    Junit,
}

/// What the terminal can show, for [`Format::Text`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Style {
    /// Text alone: a file, a pipe, `NO_COLOR`.
    #[default]
    Plain,
    /// Colours.
    Ansi,
    /// Colours, and links to files (OSC 8).
    AnsiWithLinks,
}

/// A report that could not be written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportError {
    /// As JSON or SARIF.
    #[error("the report cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// As JUnit XML.
    #[error("the report cannot be written as JUnit XML: {0}")]
    Junit(#[from] quick_junit::SerializeError),
}

/// The report of a check in `format`, with a line feed at its end.
///
/// # Errors
/// When the format's own encoder fails.
pub fn render(report: &Report, format: Format, style: Style) -> Result<String, ReportError> {
    match format {
        Format::Text => Ok(text::render(report, style)),
        Format::Json => json::check(report),
        Format::Sarif => sarif::check(report),
        Format::Junit => junit::check(report),
    }
}

/// The report of Rego tests in `format`, with a line feed at its end.
///
/// # Errors
/// When the format's own encoder fails.
pub fn render_tests(
    report: &TestReport,
    format: Format,
    style: Style,
) -> Result<String, ReportError> {
    match format {
        Format::Text => Ok(text_test::render(report, style)),
        Format::Json => json::tests(report),
        Format::Sarif => sarif::tests(report),
        Format::Junit => junit::tests(report),
    }
}
