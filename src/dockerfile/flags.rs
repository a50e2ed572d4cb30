//! Flags of an instruction: which there are, and what they are worth.

use super::error::{Problem, nearest};

/// What a flag takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Text,
    /// May be given more than once.
    Texts,
}

/// The flags that were given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flags(Vec<(&'static str, String)>);

impl Flags {
    /// Checks what was given against what there is.
    pub(super) fn parse(given: &[String], known: &[(&'static str, Kind)]) -> Result<Self, Problem> {
        let mut flags = Self::default();
        for word in given {
            let word = word.strip_prefix("--").unwrap_or(word);
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word, None),
            };
            let Some((name, kind)) = known.iter().find(|(flag, _)| *flag == name) else {
                let nearest = nearest(name, known.iter().map(|(flag, _)| *flag));
                return Err(Problem::UnknownFlag { flag: name.to_owned(), nearest });
            };
            let flag = || (*name).to_owned();
            if *kind != Kind::Texts && flags.text(name).is_some() {
                return Err(Problem::RepeatedFlag { flag: flag() });
            }
            let value = match (kind, value) {
                (Kind::Bool, None) => "true".to_owned(),
                (_, None) => return Err(Problem::FlagWithoutValue { flag: flag() }),
                (Kind::Bool, Some("")) => {
                    return Err(Problem::FlagWithoutValue { flag: flag() });
                }
                (Kind::Bool, Some(value)) => match value.to_lowercase().as_str() {
                    truth @ ("true" | "false") => truth.to_owned(),
                    _ => {
                        let value = value.to_owned();
                        return Err(Problem::FlagNotBoolean { flag: flag(), value });
                    }
                },
                (Kind::Text | Kind::Texts, Some(value)) => value.to_owned(),
            };
            flags.0.push((name, value));
        }
        Ok(flags)
    }

    /// The value of a flag that is given once.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// The values of a flag, in order.
    pub(super) fn all<'f>(&'f self, name: &'f str) -> impl Iterator<Item = &'f str> {
        self.0.iter().filter(move |(flag, _)| *flag == name).map(|(_, value)| value.as_str())
    }

    /// The value of a boolean flag, where it was given.
    pub(super) fn boolean(&self, name: &str) -> Option<bool> {
        self.text(name).map(|value| value == "true")
    }
}
