//! Makes text from strangers safe to write.
//!
//! A message may carry what a policy took from a label, a tag or a URL. Escape sequences in it would
//! move the cursor or forge lines of a report; marks of direction would make a name read as another.
//! They are shown as `\u{1b}`: seen, and harmless.

use std::borrow::Cow;
use std::fmt::Write as _;

/// `text` on one line: every control character escaped, line feeds and tabs too.
pub fn line(text: &str) -> Cow<'_, str> {
    escape(text, |c| is_hostile(c) || matches!(c, '\n' | '\t'))
}

/// `text` with its lines and tabs kept, and everything else that [`line()`] escapes escaped.
pub fn lines(text: &str) -> Cow<'_, str> {
    escape(text, is_hostile)
}

/// JSON text that is safe in a terminal and in old parsers: what [`lines`] escapes stands as
/// `\u009b`. Such characters occur only in strings, and mean the same there.
pub fn json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hostile(c) {
            // Writing to a string cannot fail.
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

fn escape(text: &str, unsafe_here: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&unsafe_here) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\n' if unsafe_here(c) => safe.push_str("\\n"),
            '\t' if unsafe_here(c) => safe.push_str("\\t"),
            c if unsafe_here(c) => safe.extend(c.escape_unicode()),
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// Control characters but line feed and tab, marks of direction and of lines, invisible joiners,
/// and what XML cannot hold. All of them are in the basic plane.
fn is_hostile(c: char) -> bool {
    (c.is_control() && !matches!(c, '\n' | '\t'))
        || matches!(c,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}'
            | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_characters_are_shown() {
        let table = [
            ("plain", "plain", "plain"),
            ("größe 漢字 🦀", "größe 漢字 🦀", "größe 漢字 🦀"),
            ("a\nb\tc", "a\\nb\\tc", "a\nb\tc"),
            ("\u{1b}[2Jx", "\\u{1b}[2Jx", "\\u{1b}[2Jx"),
            ("\r\u{7f}\u{9b}", "\\u{d}\\u{7f}\\u{9b}", "\\u{d}\\u{7f}\\u{9b}"),
            ("a\u{202e}b\u{2066}", "a\\u{202e}b\\u{2066}", "a\\u{202e}b\\u{2066}"),
            ("\u{0}\u{feff}\u{ffff}", "\\u{0}\\u{feff}\\u{ffff}", "\\u{0}\\u{feff}\\u{ffff}"),
        ];
        for (text, one, many) in table {
            assert_eq!(line(text), one, "line({text:?})");
            assert_eq!(lines(text), many, "lines({text:?})");
        }
    }

    #[test]
    fn json_means_the_same_after_escaping() {
        let value = serde_json::json!({ "a\u{9b}": "x\u{202e}\u{7f}\u{1b}\n\u{ffff}" });
        let safe = json(&serde_json::to_string_pretty(&value).unwrap());
        assert!(!safe.contains(is_hostile), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
