//! `Link` headers (RFC 8288, section 3): where a list that comes in pages goes on.
//!
//! What is not written as the RFC has it is an error and never skipped: a page that is missed is a
//! signature, or a revocation, that nobody sees.

/// A header that is not of the form of RFC 8288.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Malformed;

/// Targets of the links in one header value that are of relation `next`, in their order.
///
/// # Errors
/// When any link of the value cannot be read.
pub(super) fn next(value: &str) -> Result<Vec<&str>, Malformed> {
    let mut rest = Rest(value);
    let mut found = Vec::new();
    loop {
        rest.skip(|it| is_space(it) || it == ',');
        if rest.0.is_empty() {
            return Ok(found);
        }
        let link = rest.link()?;
        if link.is_next {
            found.push(link.target);
        }
    }
}

struct Link<'a> {
    target: &'a str,
    is_next: bool,
}

/// What is still to be read.
struct Rest<'a>(&'a str);

impl<'a> Rest<'a> {
    /// One link, up to the comma after it.
    fn link(&mut self) -> Result<Link<'a>, Malformed> {
        let (target, rest) =
            self.0.strip_prefix('<').and_then(|it| it.split_once('>')).ok_or(Malformed)?;
        self.0 = rest;
        let mut is_next = false;
        loop {
            self.skip(is_space);
            if self.0.is_empty() || self.0.starts_with(',') {
                return Ok(Link { target, is_next });
            }
            self.take(';')?;
            self.skip(is_space);
            let name = self.token();
            self.skip(is_space);
            let value = match self.take('=') {
                Ok(()) => self.value()?,
                Err(Malformed) => String::new(),
            };
            // Of a relation that is given twice the RFC counts the first; here each does.
            let words = value.split(is_space).any(|word| word.eq_ignore_ascii_case("next"));
            is_next |= name.eq_ignore_ascii_case("rel") && words;
            if name.eq_ignore_ascii_case("rel*") {
                return Err(Malformed);
            }
        }
    }

    /// A token or a quoted string.
    fn value(&mut self) -> Result<String, Malformed> {
        self.skip(is_space);
        if self.take('"').is_err() {
            return Ok(self.token().to_owned());
        }
        let mut value = String::new();
        let mut chars = self.0.char_indices();
        while let Some((at, char)) = chars.next() {
            match char {
                '"' => {
                    self.0 = &self.0[at + 1..];
                    return Ok(value);
                }
                '\\' => value.push(chars.next().ok_or(Malformed)?.1),
                char => value.push(char),
            }
        }
        Err(Malformed)
    }

    /// What stands before the next separator; it may be nothing.
    fn token(&mut self) -> &'a str {
        let separates = |it: char| is_space(it) || matches!(it, ';' | ',' | '=' | '"' | '<' | '>');
        let end = self.0.find(separates).unwrap_or(self.0.len());
        let (token, rest) = self.0.split_at(end);
        self.0 = rest;
        token
    }

    fn take(&mut self, wanted: char) -> Result<(), Malformed> {
        self.0 = self.0.strip_prefix(wanted).ok_or(Malformed)?;
        Ok(())
    }

    fn skip(&mut self, what: impl Fn(char) -> bool) {
        self.0 = self.0.trim_start_matches(what);
    }
}

/// White space of HTTP (RFC 9110, section 5.6.3).
fn is_space(it: char) -> bool {
    matches!(it, ' ' | '\t')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_read_as_the_rfc_has_them() {
        for (value, wanted) in [
            ("", Ok(&[][..])),
            (" , ,", Ok(&[])),
            ("<a>", Ok(&[])),
            ("<a>; rel=next", Ok(&["a"])),
            ("<a>;rel=\"next\"", Ok(&["a"])),
            ("<a> ; REL = \"NEXT\" ; title=x", Ok(&["a"])),
            ("<a>; rel=\"next last\"", Ok(&["a"])),
            ("<a>; rel=\"last\tnext\"", Ok(&["a"])),
            ("<a>; rel=\"ne\\xt\"", Ok(&["a"])),
            ("<a>; rel=prev; rel=next", Ok(&["a"])),
            ("<a>; rel=\"prev\"", Ok(&[])),
            ("<a>; rel=nextish", Ok(&[])),
            ("<a>; title=\"rel=next\"", Ok(&[])),
            ("<a>; title=\"x; rel=next, <b>\"", Ok(&[])),
            ("<a>; rel=prev, <b>; rel=next", Ok(&["b"])),
            ("<a,b>; rel=next,<c;d>; rel=\"next\"", Ok(&["a,b", "c;d"])),
            ("<>; rel=next", Ok(&[""])),
            ("<a>; nothing; rel=next", Ok(&["a"])),
            ("a; rel=next", Err(Malformed)),
            ("<a; rel=next", Err(Malformed)),
            ("<a>; rel=\"next", Err(Malformed)),
            ("<a>; rel=\"next\\", Err(Malformed)),
            ("<a> rel=next", Err(Malformed)),
            ("<a>; rel=next <b>", Err(Malformed)),
            ("<a>; rel*=UTF-8''next", Err(Malformed)),
            ("<a>; rel=prev, b; rel=next", Err(Malformed)),
        ] {
            assert_eq!(next(value).as_deref(), wanted.as_ref().copied(), "{value}");
        }
    }
}
