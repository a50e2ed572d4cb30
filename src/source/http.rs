//! `http://` and `https://`: one file by URL, its host normalised as Buildx v0.38 does it.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use idna::uts46::{AsciiDenyList, DnsLength, Hyphens, Uts46};

use super::ambiguous::{self, Ambiguity};
use super::digest::Digest;
use super::weburl::{MAX_PARAMETERS, UrlError, WebUrl, check_escapes};
use super::{HttpSource, SourceError, SourceOp, mask};

/// The checksum that the client declared.
const CHECKSUM: &str = "http.checksum";
/// The name of the secret that is sent as `Authorization`.
const AUTH_HEADER: &str = "http.authheadersecret";

/// Parses a source whose scheme is `http` or `https`.
pub(super) fn parse(op: &SourceOp) -> Result<HttpSource, SourceError> {
    let identifier = || mask::mask(&op.identifier);
    let ambiguous = |source: Ambiguity| SourceError::Ambiguous { identifier: identifier(), source };
    let broken = |source: UrlError| SourceError::Url { identifier: identifier(), source };

    check_text(&op.identifier).map_err(ambiguous)?;
    let url = WebUrl::parse(&op.identifier).map_err(broken)?;
    ambiguous::check_host(&url.hostname).map_err(ambiguous)?;
    ambiguous::check_path(&url.raw_path, "path").map_err(ambiguous)?;
    let host = normalise_host(&url).map_err(broken)?;
    let query = parse_query(url.raw_query.as_deref().unwrap_or_default()).map_err(broken)?;
    let declared_checksum = match op.attrs.get(CHECKSUM) {
        Some(text) => Some(
            text.parse::<Digest>()
                .map_err(|source| SourceError::HttpChecksum { identifier: identifier(), source })?,
        ),
        None => None,
    };
    Ok(HttpSource {
        url: op.identifier.clone(),
        scheme: url.scheme,
        host,
        path: url.path,
        query,
        has_auth: op.attrs.contains_key(AUTH_HEADER),
        declared_checksum: declared_checksum.map(Into::into),
    })
}

/// What must not be in the text of a URL, whatever part it would fall into.
pub(super) fn check_text(text: &str) -> Result<(), Ambiguity> {
    if text.contains(char::is_control) {
        return Err(Ambiguity::Control { part: "URL" });
    }
    let rest = text.split_once("://").map_or("", |(_, rest)| rest);
    let before_query = rest.split(['?', '#']).next().unwrap_or_default();
    if before_query.contains('\\') {
        return Err(Ambiguity::Backslash { part: "URL" });
    }
    ambiguous::check_userinfo(before_query.split('/').next().unwrap_or_default())
}

/// Lower case, ASCII by IDNA, no trailing dot, no default port, addresses in their one form.
fn normalise_host(url: &WebUrl) -> Result<String, UrlError> {
    let host = match url.hostname.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(address) => format!("[{}]", normalise_address(address)),
        None => normalise_name(&url.hostname)?,
    };
    if host.is_empty() {
        return Err(UrlError::NoHost);
    }
    let port = url.port.as_deref().unwrap_or_default();
    if port.is_empty() {
        return Ok(host);
    }
    let port: u16 = port.parse().map_err(|_| UrlError::Port)?;
    Ok(match (url.scheme.as_str(), port) {
        ("http", 80) | ("https", 443) => host,
        _ => format!("{host}:{port}"),
    })
}

fn normalise_address(address: &str) -> String {
    let (ip, zone) = address.split_once('%').map_or((address, None), |(ip, z)| (ip, Some(z)));
    let ip = ip.parse::<Ipv6Addr>().map_or_else(|_| ip.to_owned(), |ip| ip.to_string());
    zone.map_or_else(|| ip.clone(), |zone| format!("{ip}%{zone}"))
}

fn normalise_name(name: &str) -> Result<String, UrlError> {
    if let Ok(address) = name.parse::<Ipv4Addr>() {
        return Ok(address.to_string());
    }
    let ascii = to_ascii(name)?;
    let host = ascii.strip_suffix('.').unwrap_or(&ascii);
    if host.split('.').any(str::is_empty) && !host.is_empty() {
        return Err(UrlError::Host { host: name.into() });
    }
    Ok(host.into())
}

/// A name in lower-case ASCII, mapped by IDNA (UTS 46, non-transitional, STD3) where it is not
/// ASCII already.
pub(super) fn to_ascii(name: &str) -> Result<String, UrlError> {
    if name.is_ascii() {
        return Ok(name.to_ascii_lowercase());
    }
    let mapped = Uts46::new().to_ascii(
        name.as_bytes(),
        AsciiDenyList::STD3,
        Hyphens::Check,
        DnsLength::Ignore,
    );
    mapped.map(Into::into).map_err(|_| UrlError::Idna { host: name.into() })
}

/// The query as Go reads it: split at `&`; a pair that has a `;` or a broken escape is dropped.
pub(super) fn parse_query(query: &str) -> Result<BTreeMap<String, Vec<String>>, UrlError> {
    let mut values = BTreeMap::<String, Vec<String>>::new();
    for (count, pair) in query.split('&').enumerate() {
        if count >= MAX_PARAMETERS {
            return Err(UrlError::TooManyParameters);
        }
        if pair.is_empty() || pair.contains(';') || check_escapes(pair).is_err() {
            continue;
        }
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        values.entry(decode_form(key)).or_default().push(decode_form(value));
    }
    Ok(values)
}

fn decode_form(text: &str) -> String {
    let spaced = text.replace('+', " ");
    percent_encoding::percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests;
