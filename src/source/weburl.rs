//! URLs, taken apart as Go's `net/url` does it, because that is what fetches them.
//!
//! The rules differ from the WHATWG's in what matters here (backslashes, dot segments, hosts of odd
//! characters), so a URL library would show rules another place than the one that is fetched.
//! Stricter than Go in hosts alone: only characters of names and addresses.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::Ipv6Addr;

/// A URL with an authority, in its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct WebUrl {
    /// Lower case.
    pub scheme: String,
    /// User, and password after a `:`, escaped; without the `@`.
    pub userinfo: Option<String>,
    /// Host as written but for its escapes, with brackets; not normalised.
    pub hostname: String,
    /// What stands after the host's `:`; `Some("")` for a bare `:`.
    pub port: Option<String>,
    /// Path as written.
    pub raw_path: String,
    /// Path without its escapes.
    pub path: String,
    /// Query as written, without `?`.
    pub raw_query: Option<String>,
    /// Fragment without its escapes.
    pub fragment: String,
}

/// A text that is no URL.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UrlError {
    /// No `://`.
    #[error("it has no scheme; expected scheme://host/path")]
    NoScheme,
    /// A `%` without two hexadecimal digits.
    #[error("`{escape}` is no percent-escape; expected % and two hexadecimal digits")]
    Escape {
        /// The `%` and what follows.
        escape: String,
    },
    /// A part that is not UTF-8 once its escapes are undone.
    #[error("its {part} is not UTF-8 once its percent-escapes are undone")]
    NotUtf8 {
        /// Which part.
        part: &'static str,
    },
    /// Characters that cannot stand before the `@`.
    #[error("its user information has characters that must be percent-escaped")]
    UserInfo,
    /// No host.
    #[error("it has no host; expected scheme://host/path")]
    NoHost,
    /// A host that is none.
    #[error("host `{host}` is not a name, an IPv4 address or an [IPv6 address]")]
    Host {
        /// The host.
        host: String,
    },
    /// A port that is none.
    ///
    /// It is not named: where a password has an unescaped slash, this is the password's start.
    #[error("its port is not a number from 0 to 65535")]
    Port,
    /// A host that IDNA refuses.
    #[error("host `{host}` is not a valid internationalised name (IDNA)")]
    Idna {
        /// The host.
        host: String,
    },
    /// A git remote that is neither URL nor `user@host:path`.
    #[error("expected http://, https://, ssh:// or git://, or user@host:path")]
    NotGit,
    /// More query parameters than are read.
    #[error("its query has more than {MAX_PARAMETERS} parameters")]
    TooManyParameters,
}

/// As many as Go's `net/url` reads.
pub(super) const MAX_PARAMETERS: usize = 10_000;

impl WebUrl {
    /// Takes `text` apart; it must have a scheme and `//`.
    pub(super) fn parse(text: &str) -> Result<Self, UrlError> {
        let (rest, fragment) = cut(text, '#');
        let (rest, query) = cut(rest, '?');
        let (scheme, rest) = rest.split_once("://").ok_or(UrlError::NoScheme)?;
        let (authority, raw_path) = rest.find('/').map_or((rest, ""), |at| rest.split_at(at));
        let (userinfo, host) = match authority.rsplit_once('@') {
            Some((userinfo, host)) => (Some(userinfo), host),
            None => (None, authority),
        };
        let (hostname, port) = split_host(host)?;
        Ok(Self {
            scheme: scheme.to_ascii_lowercase(),
            userinfo: userinfo.map(rewrite_userinfo).transpose()?,
            hostname,
            port,
            raw_path: raw_path.into(),
            path: unescape(raw_path, "path")?.into_owned(),
            raw_query: query.map(Into::into),
            fragment: unescape(fragment.unwrap_or_default(), "fragment")?.into_owned(),
        })
    }

    /// Host and port as written, `github.com:443`.
    pub(super) fn host(&self) -> String {
        match &self.port {
            Some(port) => format!("{}:{port}", self.hostname),
            None => self.hostname.clone(),
        }
    }

    /// The URL without query and fragment, as Go writes it back.
    pub(super) fn without_query(&self) -> String {
        let mut text = format!("{}:", self.scheme);
        if !self.hostname.is_empty() || !self.path.is_empty() || self.userinfo.is_some() {
            text.push_str("//");
        }
        if let Some(userinfo) = &self.userinfo {
            text.push_str(userinfo);
            text.push('@');
        }
        escape(&mut text, &self.host(), |byte| byte.is_ascii());
        if self.raw_path.bytes().all(|byte| is_path_byte(byte) || b"!'()*[]%".contains(&byte)) {
            text.push_str(&self.raw_path);
        } else {
            escape(&mut text, &self.path, is_path_byte);
        }
        // A lone `?` stays: Go forgets the query, and not that there was one.
        if self.raw_query.as_deref() == Some("") {
            text.push('?');
        }
        text
    }
}

/// Undoes percent-escapes; a `+` stays one.
pub(super) fn unescape<'a>(text: &'a str, part: &'static str) -> Result<Cow<'a, str>, UrlError> {
    check_escapes(text)?;
    percent_encoding::percent_decode_str(text).decode_utf8().map_err(|_| UrlError::NotUtf8 { part })
}

/// Whether each `%` has its two digits.
pub(super) fn check_escapes(text: &str) -> Result<(), UrlError> {
    for (at, _) in text.match_indices('%') {
        let digits = text.as_bytes().get(at + 1..at + 3).unwrap_or_default();
        if digits.len() != 2 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return Err(UrlError::Escape { escape: text[at..].chars().take(3).collect() });
        }
    }
    Ok(())
}

fn cut(text: &str, at: char) -> (&str, Option<&str>) {
    text.split_once(at).map_or((text, None), |(before, after)| (before, Some(after)))
}

/// Splits the port off; the brackets of an IPv6 address stay.
fn split_host(host: &str) -> Result<(String, Option<String>), UrlError> {
    let bad = || UrlError::Host { host: host.into() };
    let (name, port) = if host.starts_with('[') {
        let (address, port) = host.rsplit_once(']').ok_or_else(bad)?;
        let address = check_address(&address[1..]).ok_or_else(bad)?;
        let port = match port.strip_prefix(':') {
            None if !port.is_empty() => return Err(bad()),
            port => port,
        };
        (format!("[{address}]"), port)
    } else {
        let (name, port) = cut(host, ':');
        (check_name(name).ok_or_else(bad)?, port)
    };
    if port.is_some_and(|port| !is_port(port)) {
        return Err(UrlError::Port);
    }
    Ok((name, port.map(Into::into)))
}

/// An IPv6 address, perhaps with a zone behind `%25`; the zone's escape is undone.
fn check_address(address: &str) -> Option<String> {
    let (ip, zone) = match address.split_once("%25") {
        Some((ip, zone)) => (ip, Some(zone)),
        None => (address, None),
    };
    ip.parse::<Ipv6Addr>().ok()?;
    let Some(zone) = zone else {
        return Some(address.into());
    };
    let named = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (!zone.is_empty() && zone.bytes().all(named)).then(|| format!("{ip}%{zone}"))
}

/// A name of letters, digits, `-`, `_`, `.` and whatever is not ASCII (escaped or not).
fn check_name(name: &str) -> Option<String> {
    check_escapes(name).ok()?;
    let decoded = percent_encoding::percent_decode_str(name).decode_utf8().ok()?;
    // Go undoes the escapes of a host only where they stand for something beyond ASCII.
    let plain_escape = name.match_indices('%').any(|(at, _)| name.as_bytes()[at + 1] < b'8');
    let named = |char: char| {
        char.is_ascii_alphanumeric()
            || matches!(char, '-' | '_' | '.')
            || (!char.is_ascii() && !char.is_control() && !char.is_whitespace())
    };
    (!plain_escape && decoded.chars().all(named)).then(|| decoded.into_owned())
}

fn is_port(port: &str) -> bool {
    port.bytes().all(|byte| byte.is_ascii_digit())
        && (port.is_empty() || port.parse::<u16>().is_ok())
}

/// Checks and writes user and password as Go does, each escaped anew.
fn rewrite_userinfo(userinfo: &str) -> Result<String, UrlError> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte);
    if !userinfo.bytes().all(allowed) {
        return Err(UrlError::UserInfo);
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~$&+,;=".contains(&byte);
    let (user, password) = cut(userinfo, ':');
    let mut text = String::new();
    escape(&mut text, &unescape(user, "user")?, plain);
    if let Some(password) = password {
        text.push(':');
        escape(&mut text, &unescape(password, "password")?, plain);
    }
    Ok(text)
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"$&+,-./:;=@_~".contains(&byte)
}

fn escape(into: &mut String, text: &str, plain: impl Fn(u8) -> bool) {
    for byte in text.bytes() {
        if plain(byte) {
            into.push(char::from(byte));
        } else {
            // Writing into a String cannot fail.
            let _ = write!(into, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, host: &str, path: &str, remote: &str) {
        let url = WebUrl::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!((url.host().as_str(), url.path.as_str()), (host, path), "{text}");
        assert_eq!(url.without_query(), remote, "{text}");
    }

    #[test]
    fn takes_urls_apart_and_writes_them_back_as_go_does() {
        check("https://a.b", "a.b", "", "https://a.b");
        check("HTTPS://A.b:443/C?x#y", "A.b:443", "/C", "https://A.b:443/C");
        check("https://a/b%20c", "a", "/b c", "https://a/b%20c");
        check("https://a/b c", "a", "/b c", "https://a/b%20c");
        check("https://a/é", "a", "/é", "https://a/%C3%A9");
        check("https://a/(b)!*'[c]", "a", "/(b)!*'[c]", "https://a/(b)!*'[c]");
        check("https://a/%7E", "a", "/~", "https://a/%7E");
        check("https://a?", "a", "", "https://a?");
        check("https://a:/b", "a:", "/b", "https://a:/b");
        check("https://u@a/b", "a", "/b", "https://u@a/b");
        check("https://u:p%40w@a/b", "a", "/b", "https://u:p%40w@a/b");
        check("https://u!:@a/b", "a", "/b", "https://u%21:@a/b");
        check("https://[::1]:22/b", "[::1]:22", "/b", "https://[::1]:22/b");
        check("https://%C3%A9.b/", "é.b", "/", "https://%C3%A9.b/");
        check("https:///b", "", "/b", "https:///b");
    }

    #[test]
    fn says_what_is_no_url() {
        let check = |text: &str, message: &str| {
            assert_eq!(WebUrl::parse(text).unwrap_err().to_string(), message, "{text}");
        };
        let host = |host: &str| {
            format!("host `{host}` is not a name, an IPv4 address or an [IPv6 address]")
        };
        check("https:a", "it has no scheme; expected scheme://host/path");
        check("https://a/%zz", "`%zz` is no percent-escape; expected % and two hexadecimal digits");
        check("https://a/%", "`%` is no percent-escape; expected % and two hexadecimal digits");
        check("https://a/%ff", "its path is not UTF-8 once its percent-escapes are undone");
        check("https://u<@a", "its user information has characters that must be percent-escaped");
        check("https://a b/c", &host("a b"));
        check("https://%61.b/", &host("%61.b"));
        check("https://a%25b/", &host("a%25b"));
        check("https://[::1/", &host("[::1"));
        check("https://[1.2.3.4]/", &host("[1.2.3.4]"));
        check("https://[::1]x/", &host("[::1]x"));
        check("https://a\\b", &host("a\\b"));
        check("https://a:b:22/", "its port is not a number from 0 to 65535");
        check("https://a:99999/", "its port is not a number from 0 to 65535");
    }
}
