//! Secrets in the text of a source, hidden before it is logged, shown or put into an error.
//!
//! Works on any text, a broken URL as well: where it cannot tell, it hides too much.

use std::borrow::Cow;

/// What stands for a secret.
const MASK: &str = "***";

/// Words in the name of a query parameter that make its value a secret.
const SECRET_WORDS: [&str; 12] = [
    "token",
    "secret",
    "passw",
    "pwd",
    "signature",
    "credential",
    "apikey",
    "api_key",
    "api-key",
    "auth",
    "session",
    "jwt",
];

/// Names of query parameters whose value is a secret.
const SECRET_NAMES: [&str; 4] = ["sig", "key", "code", "pass"];

/// `text` without the user information of its URLs, without the values of query parameters that
/// look like secrets, and with control characters escaped.
pub fn mask(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (scheme, after) = rest.split_at(at + 3);
        masked.push_str(scheme);
        rest = after;
        let names_image = scheme.contains("docker-image") || scheme.contains("oci-layout");
        let over_ssh = scheme.to_ascii_lowercase().ends_with("ssh://");
        if let Some(secret) = secret_length(rest, names_image, over_ssh) {
            masked.push_str(MASK);
            rest = &rest[secret..];
        }
    }
    if masked.is_empty()
        && !is_reference_at_digest(rest)
        && let Some(secret) = secret_length(rest, false, false)
    {
        masked.push_str(MASK);
        rest = &rest[secret..];
    }
    masked.push_str(rest);
    visible(&mask_query(&masked)).into_owned()
}

/// `text`, words of which may be URLs, with the secrets of each URL in it hidden. What encloses a
/// word at its end stays.
pub fn mask_text(text: &str) -> String {
    text.split_inclusive(char::is_whitespace)
        .map(|piece| {
            let closes = |c: char| c.is_whitespace() || "\"'`,;.)]}>".contains(c);
            let (word, rest) = piece.split_at(piece.trim_end_matches(closes).len());
            if word.contains("://") { format!("{}{rest}", mask(word)) } else { piece.to_owned() }
        })
        .collect()
}

/// Whether the value of a query parameter of this name is a secret.
pub fn is_secret_name(name: &str) -> bool {
    let lower = name.to_ascii_lowercase();
    SECRET_NAMES.contains(&lower.as_str()) || SECRET_WORDS.iter().any(|word| lower.contains(word))
}

/// A part of a source for an error: whatever stands before an `@` is hidden.
pub(super) fn part(text: &str) -> String {
    let text = match text.rsplit_once('@') {
        Some((_, rest)) => Cow::Owned(format!("{MASK}@{rest}")),
        None => Cow::Borrowed(text),
    };
    visible(&text).into_owned()
}

/// How many bytes at the start of `rest`, which begins with an authority, are to be hidden.
fn secret_length(rest: &str, names_image: bool, over_ssh: bool) -> Option<usize> {
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let authority = &rest[..end];
    let Some(at) = authority.rfind('@') else {
        // `user:p/w@host`: a password with an unescaped slash.
        let (_, port) = authority.split_once(':')?;
        let plain = port.bytes().all(|byte| byte.is_ascii_digit()) || authority.starts_with('[');
        return if plain || names_image { None } else { rest.rfind('@') };
    };
    let (user, host) = (&authority[..at], &authority[at + 1..]);
    let digest = host.split_once(':').is_some_and(|(algorithm, _)| algorithm.starts_with("sha"));
    // `git@host:path` and `ssh://git@host` name a user whose secret is elsewhere.
    let scp = host.contains(':') && !user.is_empty() && !host.ends_with(':');
    let bare_user = !user.contains(':') && (over_ssh || (scp && !has_port(host)));
    if bare_user || (names_image && digest) { None } else { Some(at) }
}

fn has_port(host: &str) -> bool {
    let port = host.rsplit(':').next().unwrap_or_default();
    !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit())
}

/// `alpine@sha256:…`, or `alpine:3@sha256:…`, without a scheme.
fn is_reference_at_digest(text: &str) -> bool {
    text.rsplit_once('@').is_some_and(|(_, digest)| digest.starts_with("sha"))
}

fn mask_query(text: &str) -> Cow<'_, str> {
    if !text.contains('?') {
        return Cow::Borrowed(text);
    }
    let parts: Vec<String> = text
        .split('#')
        .map(|part| match part.split_once('?') {
            None => part.to_owned(),
            Some((before, query)) => {
                let pairs: Vec<Cow<'_, str>> = query.split('&').map(mask_pair).collect();
                format!("{before}?{}", pairs.join("&"))
            }
        })
        .collect();
    Cow::Owned(parts.join("#"))
}

fn mask_pair(pair: &str) -> Cow<'_, str> {
    let Some((name, _)) = pair.split_once('=') else {
        return Cow::Borrowed(pair);
    };
    let decoded = percent_encoding::percent_decode_str(name).decode_utf8_lossy();
    let secret = is_secret_name(&decoded);
    if secret { Cow::Owned(format!("{name}={MASK}")) } else { Cow::Borrowed(pair) }
}

/// Control characters as `\n`, `\u{1b}`: a source must not write lines of its own into a log.
fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |char: char| {
        if char.is_control() { char.escape_default().collect() } else { String::from(char) }
    };
    Cow::Owned(text.chars().map(escape).collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn hides_the_secrets_of_each_url_in_a_text() {
        for (text, masked) in [
            ("see 'https://a.b/c?token=x', or", "see 'https://a.b/c?token=***', or"),
            ("(https://u:p,w@a.b/c)", "(https://***@a.b/c)"),
            ("a.b/c?x=1#f,https://b?token=S", "a.b/c?x=1#f,https://b?token=***"),
            (
                "Git repository https://u:p@a.b/c.git is no",
                "Git repository https://***@a.b/c.git is no",
            ),
            ("nothing to hide: a@b", "nothing to hide: a@b"),
        ] {
            assert_eq!(mask_text(text), masked);
        }
    }

    #[test]
    fn hides_secrets_and_nothing_else() {
        for (text, masked) in [
            ("https://a.b/c", "https://a.b/c"),
            ("https://user:pw@a.b/c", "https://***@a.b/c"),
            ("https://token@a.b/c", "https://***@a.b/c"),
            ("https://user:p/w@a.b/c", "https://***@a.b/c"),
            ("https://a.b:443/c@1", "https://a.b:443/c@1"),
            ("https://[::1]/c@1", "https://[::1]/c@1"),
            ("git://https://user:pw@a.b/c", "git://https://***@a.b/c"),
            ("git://user:pw@a.b/c.git#main", "git://***@a.b/c.git#main"),
            ("user:pw@a.b/c.git", "***@a.b/c.git"),
            ("git@github.com:a/b.git", "git@github.com:a/b.git"),
            ("git://git@github.com:a/b.git", "git://git@github.com:a/b.git"),
            ("ssh://git@github.com/a/b.git", "ssh://git@github.com/a/b.git"),
            ("ssh://git:pw@github.com/a/b.git", "ssh://***@github.com/a/b.git"),
            ("https://token@github.com:443/a", "https://***@github.com:443/a"),
            ("docker-image://a@sha256:00", "docker-image://a@sha256:00"),
            ("docker-image://a.b/c:1@sha256:00", "docker-image://a.b/c:1@sha256:00"),
            ("docker-image://user:pw@a.b/c", "docker-image://***@a.b/c"),
            ("alpine:3@sha256:00", "alpine:3@sha256:00"),
            ("https://a/b?x=1&access_token=t#f", "https://a/b?x=1&access_token=***#f"),
            ("https://a/b?X-Amz-Signature=0&y", "https://a/b?X-Amz-Signature=***&y"),
            ("https://a/b?%74oken=t", "https://a/b?%74oken=***"),
            ("local://a\nb\u{1b}", "local://a\\nb\\u{1b}"),
        ] {
            assert_eq!(mask(text), masked, "{text}");
        }
        assert_eq!(part("user:pw@host"), "***@host");
    }

    proptest! {
        #[test]
        fn a_password_never_shows(
            scheme in "https?|git|ssh", user in "[a-z]{1,5}", path in "[a-z@:/?#]{0,12}",
        ) {
            let text = format!("{scheme}://{user}:hunter2@host.example/{path}");
            prop_assert!(!mask(&text).contains("hunter2"));
            let nested = mask(&format!("git://{text}"));
            prop_assert!(!nested.contains("hunter2"));
        }

        #[test]
        fn never_panics_and_shows_no_control_character(text in "(?s).{0,60}") {
            prop_assert!(!mask(&text).contains(char::is_control));
        }
    }
}
