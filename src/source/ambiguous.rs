//! What means one place to a rule and another to whoever fetches it.
//!
//! A rule compares the text; a client, a proxy, a server or git acts on what it makes of it. Dot
//! segments are resolved, escapes undone (by some twice), backslashes taken for slashes, a leading
//! dash for an option, a pattern for all it matches. Such a source is refused whatever the rules say.

use std::borrow::Cow;

use super::mask;

/// What makes a source ambiguous.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ambiguity {
    /// `.` or `..` as a segment, however written.
    #[error(
        "its {part} has the dot segment `{segment}`, which whoever fetches it resolves; write the \
         place it leads to"
    )]
    DotSegment {
        /// Which part of the source.
        part: &'static str,
        /// The segment, escapes undone.
        segment: String,
    },
    /// A backslash, escaped or not.
    #[error("its {part} has a backslash, which some take for a slash; write `/`")]
    Backslash {
        /// Which part of the source.
        part: &'static str,
    },
    /// `%2f`.
    #[error("its {part} has an escaped slash, which some undo and others do not; write `/`")]
    EscapedSlash {
        /// Which part of the source.
        part: &'static str,
    },
    /// `%23` or `%3f` in the path of a git repository.
    #[error(
        "its {part} has an escaped `#` or `?`, which git sources read as the start of a reference or query"
    )]
    EscapedDelimiter {
        /// Which part of the source.
        part: &'static str,
    },
    /// A control character, escaped or not.
    #[error("its {part} has a control character")]
    Control {
        /// Which part of the source.
        part: &'static str,
    },
    /// Escapes of escapes of escapes.
    #[error("its {part} is percent-escaped more than {MAX_ROUNDS} times over")]
    Escapes {
        /// Which part of the source.
        part: &'static str,
    },
    /// Bytes that are no text.
    #[error("its {part} is not UTF-8 once its percent-escapes are undone")]
    NotUtf8 {
        /// Which part of the source.
        part: &'static str,
    },
    /// A leading `-`.
    #[error("its {part} begins with `-`, and could be taken for an option")]
    Option {
        /// Which part of the source.
        part: &'static str,
    },
    /// More than one `@` before the host.
    #[error(
        "it has more than one `@` before its path; escape the one in the user information as %40"
    )]
    UserInfo,
    /// A host with an empty label.
    #[error("its host `{host}` has an empty label")]
    EmptyLabel {
        /// The host.
        host: String,
    },
    /// A host whose plain ASCII name is written with other characters.
    #[error("its host `{host}` means `{ascii}`; write that")]
    DisguisedHost {
        /// The host as written.
        host: String,
        /// What it means.
        ascii: String,
    },
    /// A reference that git reads as more than a name.
    #[error(
        "its reference `{reference}` has `{token}`, which git takes for a pattern or an expression; write the name of a branch, tag or commit"
    )]
    ReferenceToken {
        /// The reference.
        reference: String,
        /// What is in it.
        token: &'static str,
    },
}

/// How often escapes may be undone: once by the fetcher, once by a proxy or server, and once more.
const MAX_ROUNDS: usize = 3;

/// Checks a path as written, with its escapes.
pub(super) fn check_path(raw: &str, part: &'static str) -> Result<(), Ambiguity> {
    let plain = undo_escapes(raw, part)?;
    check_segments(&plain, part)?;
    if plain.contains('\\') {
        return Err(Ambiguity::Backslash { part });
    }
    if plain.contains(char::is_control) {
        return Err(Ambiguity::Control { part });
    }
    if plain.matches('/').count() != raw.matches('/').count() {
        return Err(Ambiguity::EscapedSlash { part });
    }
    Ok(())
}

/// Checks the path of a git repository: [`check_path`], and no `#` or `?` that an identifier,
/// which is written without escapes, would cut at.
pub(super) fn check_git_path(raw: &str) -> Result<(), Ambiguity> {
    const PART: &str = "path";
    check_path(raw, PART)?;
    if undo_escapes(raw, PART)?.contains(['#', '?']) {
        return Err(Ambiguity::EscapedDelimiter { part: PART });
    }
    Ok(())
}

/// Checks a git reference, escapes undone as git will see it.
///
/// # Errors
/// On what `git` reads as an option, a refspec, a pattern or a revision expression. Names that
/// git merely has no use for are left to git.
pub(super) fn check_reference(reference: &str) -> Result<(), Ambiguity> {
    const PART: &str = "reference";
    if reference.starts_with('-') {
        return Err(Ambiguity::Option { part: PART });
    }
    if reference.contains(char::is_control) {
        return Err(Ambiguity::Control { part: PART });
    }
    check_segments(reference, PART)?;
    let token = ["..", "*", "?", "[", "^", "~", "\\", "@{", ":"]
        .into_iter()
        .find(|token| reference.contains(token))
        .or_else(|| reference.starts_with('+').then_some("+"));
    match token {
        Some(token) => Err(Ambiguity::ReferenceToken { reference: reference.into(), token }),
        None => Ok(()),
    }
}

/// Checks a directory below a repository's root, escapes undone as BuildKit will see it.
pub(super) fn check_subdir(subdir: &str) -> Result<(), Ambiguity> {
    const PART: &str = "subdirectory";
    let plain = undo_escapes(subdir, PART)?;
    if plain.contains(char::is_control) {
        return Err(Ambiguity::Control { part: PART });
    }
    if plain.contains('\\') {
        return Err(Ambiguity::Backslash { part: PART });
    }
    // A single dot leads nowhere else, and BuildKit drops it before rules see it.
    match plain.split('/').find(|segment| *segment == "..") {
        Some(segment) => Err(Ambiguity::DotSegment { part: PART, segment: mask::part(segment) }),
        None => Ok(()),
    }
}

/// Checks user information as written, before the last `@`.
pub(super) fn check_userinfo(authority: &str) -> Result<(), Ambiguity> {
    if authority.matches('@').count() > 1 {
        return Err(Ambiguity::UserInfo);
    }
    if authority.contains('@') && authority.starts_with('-') {
        return Err(Ambiguity::Option { part: "user" });
    }
    Ok(())
}

/// Checks a host name, without port; brackets stay.
pub(super) fn check_host(host: &str) -> Result<(), Ambiguity> {
    if host.starts_with('-') {
        return Err(Ambiguity::Option { part: "host" });
    }
    let name = host.strip_suffix('.').unwrap_or(host);
    if !host.starts_with('[') && !host.is_empty() && name.split('.').any(str::is_empty) {
        return Err(Ambiguity::EmptyLabel { host: host.into() });
    }
    Ok(())
}

/// `;jsessionid=…` and the like are dropped from a segment by some servers before it is resolved.
fn check_segments(plain: &str, part: &'static str) -> Result<(), Ambiguity> {
    let segment = plain
        .split(['/', '\\'])
        .find(|segment| matches!(segment.split(';').next(), Some("." | "..")));
    match segment {
        Some(segment) => Err(Ambiguity::DotSegment { part, segment: mask::part(segment) }),
        None => Ok(()),
    }
}

/// Undoes escapes until none is left.
fn undo_escapes<'a>(raw: &'a str, part: &'static str) -> Result<Cow<'a, str>, Ambiguity> {
    let mut text = Cow::Borrowed(raw);
    for _ in 0..=MAX_ROUNDS {
        let decoded = percent_encoding::percent_decode_str(&text)
            .decode_utf8()
            .map_err(|_| Ambiguity::NotUtf8 { part })?;
        if decoded == text {
            return Ok(text);
        }
        text = Cow::Owned(decoded.into_owned());
    }
    Err(Ambiguity::Escapes { part })
}
