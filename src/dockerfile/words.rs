//! An instruction's line as keyword, flags and arguments; nothing is expanded here.

use super::error::Problem;

/// Keyword, flags and what follows them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// As written.
    pub(super) keyword: String,
    /// `--name=value`, quotes removed.
    pub(super) flags: Vec<String>,
    pub(super) arguments: Arguments,
}

/// What follows the flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Arguments {
    /// Text, to be split as the instruction wants it.
    Text(String),
    /// A JSON array of strings.
    Json(Vec<String>),
    /// `ONBUILD`'s instruction.
    Trigger(Box<Head>),
}

impl Head {
    /// The keyword in capitals.
    pub(super) fn name(&self) -> String {
        self.keyword.to_lowercase().to_ascii_uppercase()
    }

    pub(super) fn allows_heredoc(&self) -> bool {
        if let Arguments::Trigger(inner) = &self.arguments {
            return inner.allows_heredoc();
        }
        matches!(self.name().as_str(), "ADD" | "COPY" | "RUN")
            && !matches!(self.arguments, Arguments::Json(_))
    }

    /// The arguments of an instruction that takes a list of words.
    pub(super) fn list(&self) -> Vec<String> {
        match &self.arguments {
            Arguments::Json(words) => words.clone(),
            Arguments::Text(text) if text.is_empty() => Vec::new(),
            Arguments::Text(text) => split_spaces(text),
            Arguments::Trigger(_) => Vec::new(),
        }
    }
}

/// Splits a line. `ONBUILD ONBUILD …` is refused here, before it can nest.
pub(super) fn split_command(line: &str, escape: char) -> Result<Head, Problem> {
    let head = split_one(line, escape)?;
    let Arguments::Text(rest) = &head.arguments else {
        return Ok(head);
    };
    if head.name() != "ONBUILD" || rest.is_empty() {
        return Ok(head);
    }
    let inner = split_one(rest, escape)?;
    if matches!(inner.name().as_str(), "ONBUILD" | "MAINTAINER" | "FROM") {
        return Err(Problem::Trigger { instruction: inner.name() });
    }
    Ok(Head { arguments: Arguments::Trigger(Box::new(inner)), ..head })
}

fn split_one(line: &str, escape: char) -> Result<Head, Problem> {
    let line = line.trim();
    let (keyword, rest) = match line.find(is_space) {
        Some(at) => {
            let (keyword, rest) = line.split_at(at);
            (keyword, rest.trim_start_matches(is_space))
        }
        None => (line, ""),
    };
    let (flags, rest) = flags(rest, escape)?;
    let rest = rest.trim();
    let takes_json = matches!(
        keyword.to_lowercase().to_ascii_uppercase().as_str(),
        "ADD" | "COPY" | "RUN" | "CMD" | "ENTRYPOINT" | "SHELL" | "VOLUME"
    );
    let arguments = match takes_json.then(|| json(rest)).transpose()?.flatten() {
        Some(words) => Arguments::Json(words),
        None => Arguments::Text(rest.to_owned()),
    };
    Ok(Head { keyword: keyword.to_owned(), flags, arguments })
}

fn json(text: &str) -> Result<Option<Vec<String>>, Problem> {
    let text = text.trim_start();
    if !text.starts_with('[') {
        return Ok(None);
    }
    match serde_json::from_str::<Vec<serde_json::Value>>(text) {
        Ok(values) => values
            .into_iter()
            .map(|value| match value {
                serde_json::Value::String(word) => Ok(word),
                serde_json::Value::Null
                | serde_json::Value::Bool(_)
                | serde_json::Value::Number(_)
                | serde_json::Value::Array(_)
                | serde_json::Value::Object(_) => Err(Problem::JsonNotStrings),
            })
            .collect::<Result<Vec<_>, _>>()
            .map(Some),
        // BuildKit's decoder puts U+FFFD where ours gives up, and a list would be read as words.
        Err(_) if text.to_ascii_lowercase().contains("\\ud") => Err(Problem::JsonSurrogate),
        Err(_) => Ok(None),
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Spaces,
    Word,
    Quote(u8),
}

/// The flags at the start of `line`, and the rest. BuildKit reads bytes here, not characters.
fn flags(line: &str, escape: char) -> Result<(Vec<String>, &str), Problem> {
    let bytes = line.as_bytes();
    let (mut found, mut word, mut phase, mut blank_ok) =
        (Vec::new(), String::new(), Phase::Spaces, false);
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let space = char::from(byte).is_whitespace();
        match phase {
            Phase::Spaces if space => {}
            Phase::Spaces => {
                if byte != b'-' || bytes.get(at + 1) != Some(&b'-') {
                    return Ok((found, line.get(at..).ok_or(Problem::FlagBytes)?));
                }
                phase = Phase::Word;
                continue;
            }
            Phase::Word if space => {
                if word == "--" {
                    return Ok((found, line.get(at..).ok_or(Problem::FlagBytes)?));
                }
                if blank_ok || !word.is_empty() {
                    found.push(std::mem::take(&mut word));
                }
                (phase, blank_ok) = (Phase::Spaces, false);
            }
            Phase::Word if byte == b'\'' || byte == b'"' => {
                (phase, blank_ok) = (Phase::Quote(byte), true);
            }
            Phase::Quote(quote) if byte == quote => phase = Phase::Word,
            Phase::Word | Phase::Quote(_) if char::from(byte) == escape => {
                at += 1;
                match bytes.get(at) {
                    Some(&escaped) => word.push(char::from(escaped)),
                    None => break,
                }
            }
            Phase::Word | Phase::Quote(_) => word.push(char::from(byte)),
        }
        at += 1;
    }
    if phase != Phase::Spaces && word != "--" && (blank_ok || !word.is_empty()) {
        found.push(word);
    }
    Ok((found, ""))
}

/// Words separated by spaces, quotes and escapes kept.
pub(super) fn quoted_words(text: &str, escape: char) -> Vec<String> {
    let (mut words, mut word, mut phase, mut blank_ok) =
        (Vec::new(), String::new(), Phase::Spaces, false);
    let mut chars = text.chars().peekable();
    while let Some(ch) = chars.next() {
        if phase == Phase::Spaces {
            if ch.is_whitespace() {
                continue;
            }
            phase = Phase::Word;
        }
        match phase {
            Phase::Word if ch.is_whitespace() => {
                if blank_ok || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                (phase, blank_ok) = (Phase::Spaces, false);
                continue;
            }
            Phase::Word if ch == '\'' => (phase, blank_ok) = (Phase::Quote(b'\''), true),
            Phase::Word if ch == '"' => (phase, blank_ok) = (Phase::Quote(b'"'), true),
            Phase::Quote(quote) if ch == char::from(quote) => phase = Phase::Word,
            Phase::Spaces | Phase::Word | Phase::Quote(_) => {}
        }
        if ch == escape && phase != Phase::Quote(b'\'') {
            let Some(escaped) = chars.next() else { break };
            word.push(ch);
            word.push(escaped);
        } else {
            word.push(ch);
        }
    }
    if blank_ok || !word.is_empty() {
        words.push(word);
    }
    words
}

/// Words separated by ASCII blanks and nothing else.
pub(super) fn split_spaces(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(is_space) {
        let (word, after) = rest.split_at(at);
        words.push(word.to_owned());
        rest = after.trim_start_matches(is_space);
    }
    words.push(rest.to_owned());
    words
}

/// The blanks that separate a keyword from the rest; others belong to the word.
pub(super) fn is_space(ch: char) -> bool {
    matches!(ch, '\t' | '\u{b}' | '\u{c}' | '\r' | ' ')
}
