//! Go's regular expressions in Rust's words.
//!
//! Both engines find the leftmost match and prefer alternatives in order, so the language is what
//! differs: Go's `\d`, `\w`, `\s`, `\b` and `[[:class:]]` are ASCII, its classes have no set
//! operations, and some escapes are known to one of them only. What is valid in Go is rewritten;
//! what is not is invalid, whatever Rust would make of it.

/// A pattern for the `regex` crate.
pub(super) struct Translated {
    pub(super) pattern: String,
    /// The names of groups and their numbers; Go lets two groups have the same name.
    pub(super) names: Vec<(String, usize)>,
    /// What we cannot do as Go does.
    pub(super) unsupported: Option<&'static str>,
}

/// The pattern for the `regex` crate, or `None` where Go refuses it.
pub(super) fn translate(pattern: &str) -> Option<Translated> {
    let mut reader = Reader {
        rest: pattern,
        out: String::with_capacity(pattern.len() + 16),
        open: 0,
        captures: 0,
        names: Vec::new(),
        unsupported: None,
    };
    reader.read()?;
    let Reader { out: pattern, open, names, unsupported, .. } = reader;
    (open == 0).then_some(Translated { pattern, names, unsupported })
}

struct Reader<'a> {
    rest: &'a str,
    out: String,
    open: usize,
    captures: usize,
    names: Vec<(String, usize)>,
    unsupported: Option<&'static str>,
}

/// Largest repeat count in Go.
const MAX_REPEAT: u32 = 1000;

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = self.rest.get(c.len_utf8()..)?;
        Some(c)
    }

    fn take(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn read(&mut self) -> Option<()> {
        let mut repeatable = false;
        while let Some(c) = self.next() {
            match c {
                '\\' => {
                    self.escape()?;
                    repeatable = true;
                }
                '[' => {
                    self.class()?;
                    repeatable = true;
                }
                '(' => {
                    self.open += 1;
                    // A group of flags alone opens none, and nothing can be repeated after it.
                    repeatable = false;
                    self.group()?;
                }
                ')' => {
                    self.open = self.open.checked_sub(1)?;
                    self.out.push(')');
                    repeatable = true;
                }
                '*' | '+' | '?' => {
                    self.repeat(&c.to_string(), repeatable)?;
                    repeatable = false;
                }
                '{' => match self.counted()? {
                    Some(count) => {
                        self.repeat(&count, repeatable)?;
                        repeatable = false;
                    }
                    None => {
                        self.out.push_str("\\{");
                        repeatable = true;
                    }
                },
                '|' => {
                    self.out.push('|');
                    repeatable = false;
                }
                _ => {
                    self.literal(c);
                    repeatable = true;
                }
            }
        }
        Some(())
    }

    /// A character that stands for itself in Go, and the operators both know.
    fn literal(&mut self, c: char) {
        if matches!(c, ']' | '}' | '&' | '-' | '~' | '#') {
            self.out.push('\\');
        }
        self.out.push(c);
    }

    /// A repetition; Go allows none of nothing, and no second one (`a**`).
    fn repeat(&mut self, operator: &str, repeatable: bool) -> Option<()> {
        if !repeatable {
            return None;
        }
        self.out.push_str(operator);
        if self.take("?") {
            self.out.push('?');
        }
        Some(())
    }

    /// `{n}`, `{n,}` or `{n,m}`; anything else is the brace itself.
    fn counted(&mut self) -> Option<Option<String>> {
        let Some((inner, rest)) = self.rest.split_once('}') else {
            return Some(None);
        };
        let (least, most) = inner.split_once(',').map_or((inner, None), |(a, b)| (a, Some(b)));
        let digits = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
            plain && (text == "0" || !text.starts_with('0'))
        };
        if !digits(least) || most.is_some_and(|most| !most.is_empty() && !digits(most)) {
            return Some(None);
        }
        self.rest = rest;
        let number = |text: &str| text.parse::<u32>().ok().filter(|n| *n <= MAX_REPEAT);
        let low = number(least)?;
        if let Some(most) = most.filter(|most| !most.is_empty())
            && number(most)? < low
        {
            return None;
        }
        Some(Some(format!("{{{inner}}}")))
    }

    fn group(&mut self) -> Option<()> {
        self.out.push('(');
        if !self.take("?") {
            self.captures += 1;
            return Some(());
        }
        if self.take("P<") || self.take("<") {
            let (name, rest) = self.rest.split_once('>')?;
            let word = |c: char| c == '_' || c.is_ascii_alphanumeric();
            if name.is_empty() || !name.chars().all(word) {
                return None;
            }
            self.rest = rest;
            self.captures += 1;
            self.names.push((name.to_owned(), self.captures));
            return Some(());
        }
        self.out.push('?');
        self.flags()
    }

    fn flags(&mut self) -> Option<()> {
        let (mut negated, mut any) = (false, false);
        loop {
            let c = self.next()?;
            match c {
                'i' | 'm' | 's' | 'U' => any = true,
                '-' if !negated => (negated, any) = (true, false),
                ':' | ')' if negated && !any => return None,
                ':' => {
                    self.out.push(':');
                    return Some(());
                }
                // `(?)` sets nothing, which Rust does not know; an empty group does the same.
                ')' if !any => {
                    self.out.push_str(":)");
                    self.open -= 1;
                    return Some(());
                }
                ')' => {
                    self.out.push(')');
                    self.open -= 1;
                    return Some(());
                }
                _ => return None,
            }
            self.out.push(c);
        }
    }

    fn escape(&mut self) -> Option<()> {
        let c = self.next()?;
        match c {
            'd' | 'D' | 's' | 'S' | 'w' | 'W' => {
                let (negated, set) = perl_class(c);
                self.out.push_str(&format!("[{}{set}]", if negated { "^" } else { "" }));
            }
            'b' => self.out.push_str("(?-u:\\b)"),
            // Without Unicode it also stands between the bytes of a character, which Rust refuses.
            'B' => self.unsupported = Some("\\B"),
            'A' | 'z' => {
                self.out.push('\\');
                self.out.push(c);
            }
            'p' | 'P' => self.property(c)?,
            'Q' => {
                let (quoted, rest) = self.rest.split_once("\\E").unwrap_or((self.rest, ""));
                self.out.push_str(&regex::escape(quoted));
                self.rest = rest;
            }
            _ => {
                let c = self.character(c)?;
                self.out.push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
            }
        }
        Some(())
    }

    /// An escape that stands for one character.
    fn character(&mut self, c: char) -> Option<char> {
        match c {
            'a' => Some('\x07'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            'x' => self.hexadecimal(),
            // A backreference is none of Go's; an octal number begins with zero or has two digits.
            '1'..='7' if !self.rest.starts_with(|c| ('0'..='7').contains(&c)) => None,
            '0'..='7' => {
                let mut code = c.to_digit(8)?;
                for _ in 0..2 {
                    let Some(digit) = self.rest.chars().next().and_then(|c| c.to_digit(8)) else {
                        break;
                    };
                    code = code * 8 + digit;
                    self.next();
                }
                char::from_u32(code)
            }
            _ if c.is_ascii_punctuation() => Some(c),
            _ => None,
        }
    }

    fn hexadecimal(&mut self) -> Option<char> {
        let digits = if self.take("{") {
            let (digits, rest) = self.rest.split_once('}')?;
            self.rest = rest;
            digits
        } else {
            let digits = self.rest.get(..2)?;
            self.rest = self.rest.get(2..)?;
            digits
        };
        if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        char::from_u32(u32::from_str_radix(digits, 16).ok()?)
    }

    /// `\pL`, `\p{Greek}`, `\p{^Greek}`.
    fn property(&mut self, p: char) -> Option<()> {
        let mut name = if self.take("{") {
            let (name, rest) = self.rest.split_once('}')?;
            self.rest = rest;
            name.to_owned()
        } else {
            self.next()?.to_string()
        };
        let mut negated = p == 'P';
        if let Some(rest) = name.strip_prefix('^') {
            negated = !negated;
            name = rest.to_owned();
        }
        let known = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        if !known || !name.starts_with(|c: char| c.is_ascii_uppercase()) {
            return None;
        }
        self.out.push_str(&format!("\\{}{{{name}}}", if negated { 'P' } else { 'p' }));
        Some(())
    }

    fn class(&mut self) -> Option<()> {
        self.out.push('[');
        if self.take("^") {
            self.out.push('^');
        }
        let mut first = true;
        loop {
            if !first && self.take("]") {
                self.out.push(']');
                return Some(());
            }
            self.member()?;
            first = false;
        }
    }

    /// One member of a class: a named class, an escape that stands for many, or a range.
    fn member(&mut self) -> Option<()> {
        if self.rest.starts_with("[:") && self.posix()? {
            return Some(());
        }
        if let Some(escaped) = self.rest.strip_prefix('\\') {
            let c = escaped.chars().next()?;
            if matches!(c, 'd' | 'D' | 's' | 'S' | 'w' | 'W') {
                self.rest = self.rest.get(2..)?;
                let (negated, set) = perl_class(c);
                self.out.push_str(&format!("[{}{set}]", if negated { "^" } else { "" }));
                return Some(());
            }
            if matches!(c, 'p' | 'P') {
                self.rest = self.rest.get(2..)?;
                self.property(c)?;
                return Some(());
            }
        }
        let low = self.class_character()?;
        self.push_member(low);
        let mut ahead = self.rest.chars();
        if ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']') {
            self.next();
            let high = self.class_character()?;
            if high < low {
                return None;
            }
            self.out.push('-');
            self.push_member(high);
        }
        Some(())
    }

    fn class_character(&mut self) -> Option<char> {
        match self.next()? {
            '\\' => {
                let c = self.next()?;
                self.character(c)
            }
            c => Some(c),
        }
    }

    fn push_member(&mut self, c: char) {
        if c.is_ascii_punctuation() {
            self.out.push('\\');
        }
        self.out.push(c);
    }

    /// `[:alpha:]`. Without an end it is none, and the bracket is a member.
    fn posix(&mut self) -> Option<bool> {
        let Some((name, rest)) = self.rest.get(2..)?.split_once(":]") else {
            return Some(false);
        };
        let plain = name.strip_prefix('^').unwrap_or(name);
        let known = [
            "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print",
            "punct", "space", "upper", "word", "xdigit",
        ];
        if !known.contains(&plain) {
            return None;
        }
        self.out.push_str(&format!("[:{name}:]"));
        self.rest = rest;
        Some(true)
    }
}

/// The members of Go's `\d`, `\s`, `\w`, and whether the class is what is not among them.
fn perl_class(c: char) -> (bool, &'static str) {
    let set = match c.to_ascii_lowercase() {
        'd' => "0-9",
        's' => "\\t\\n\\x0C\\r ",
        _ => "0-9A-Za-z_",
    };
    (c.is_ascii_uppercase(), set)
}
