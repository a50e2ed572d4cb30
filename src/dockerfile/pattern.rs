//! Shell patterns in substitutions (`${X#*/}`): `*` and `?`, without brackets.

use regex::Regex;

use super::error::ExpandError;

/// Where a trimmed pattern must match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// `#` and `##`.
    Start,
    /// `%` and `%%`.
    End,
}

/// `value` without what `pattern` matches at one side: the longest match where `greedy`.
pub(super) fn trim(
    value: &str,
    pattern: &str,
    side: Side,
    greedy: bool,
) -> Result<String, ExpandError> {
    match side {
        Side::Start => trim_start(value, pattern, greedy),
        // The shortest match at the end is the leftmost one of the mirror image.
        Side::End => {
            let mirrored: String = value.chars().rev().collect();
            let trimmed = trim_start(&mirrored, &mirror(pattern), greedy)?;
            Ok(trimmed.chars().rev().collect())
        }
    }
}

/// `value` with the first or all matches of `pattern` replaced.
pub(super) fn replace(
    value: &str,
    pattern: &str,
    replacement: &str,
    all: bool,
) -> Result<String, ExpandError> {
    let regex = compile(pattern, true, false)?;
    if all {
        return Ok(regex.replace_all(value, replacement).into_owned());
    }
    Ok(match regex.find(value) {
        Some(found) => {
            let (before, after) = (value.get(..found.start()), value.get(found.end()..));
            format!("{}{replacement}{}", before.unwrap_or_default(), after.unwrap_or_default())
        }
        None => value.to_owned(),
    })
}

fn trim_start(value: &str, pattern: &str, greedy: bool) -> Result<String, ExpandError> {
    let regex = compile(pattern, greedy, true)?;
    let end = regex.find(value).map_or(0, |found| found.end());
    Ok(value.get(end..).unwrap_or_default().to_owned())
}

fn mirror(pattern: &str) -> String {
    let mut pieces = Vec::new();
    let mut chars = pattern.chars();
    while let Some(ch) = chars.next() {
        match (ch, ch == '\\') {
            (_, true) => match chars.next() {
                Some(escaped) => pieces.push(format!("\\{escaped}")),
                None => pieces.push("\\".into()),
            },
            (ch, false) => pieces.push(ch.to_string()),
        }
    }
    pieces.reverse();
    pieces.concat()
}

fn compile(pattern: &str, greedy: bool, anchored: bool) -> Result<Regex, ExpandError> {
    let invalid = |reason: String| ExpandError::Pattern { pattern: pattern.to_owned(), reason };
    let mut out = String::from(if anchored { "^" } else { "" });
    let mut chars = pattern.strip_prefix('\u{feff}').unwrap_or(pattern).chars().peekable();
    while let Some(ch) = chars.next() {
        match ch {
            '*' => out.push_str(if greedy { ".*" } else { ".*?" }),
            '?' => out.push('.'),
            '\\' if matches!(chars.peek(), Some('}' | '/')) => {}
            '\\' => match chars.next() {
                Some(escaped @ ('*' | '?' | '\\')) => out.push_str(&format!("\\{escaped}")),
                other => {
                    let other = other.map(String::from).unwrap_or_default();
                    return Err(invalid(format!("invalid escape '\\{other}'")));
                }
            },
            literal => out.push_str(&regex::escape(literal.encode_utf8(&mut [0; 4]))),
        }
    }
    Regex::new(&out).map_err(|error| invalid(error.to_string()))
}
