//! `RUN --mount=…`: what it takes its files from.

use super::error::{Problem, nearest};

const TYPES: [&str; 5] = ["bind", "cache", "tmpfs", "secret", "ssh"];

const KEYS: [&str; 19] = [
    "type",
    "from",
    "source",
    "src",
    "target",
    "dst",
    "destination",
    "readonly",
    "ro",
    "readwrite",
    "rw",
    "id",
    "sharing",
    "required",
    "size",
    "mode",
    "uid",
    "gid",
    "env",
];

/// A mount, as far as it is read before variables are known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    /// `from=`, never expanded; none where it is absent or empty.
    pub(super) from: Option<String>,
    fields: Vec<String>,
}

/// What a mount reads, once its variables are expanded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reads {
    /// The files of what it is mounted from.
    Files,
    /// Nothing that a source could give.
    Nothing,
}

impl Mount {
    /// Reads the comma-separated fields.
    pub(super) fn parse(value: &str) -> Result<Self, Problem> {
        let fields = csv(value)?;
        let mut from = None;
        for field in &fields {
            let Some((key, value)) = field.split_once('=') else {
                continue;
            };
            if !key.eq_ignore_ascii_case("from") {
                continue;
            }
            if value.find('$').is_some_and(|at| at + 1 != value.len()) {
                return Err(Problem::VariableInFrom { option: "from" });
            }
            from = Some(value.to_owned()).filter(|value| !value.is_empty());
        }
        Ok(Self { from, fields })
    }

    /// Expands the fields and tells whether the mount reads files.
    pub(super) fn reads<E: From<Problem>>(
        &self,
        mut expand: impl FnMut(&str) -> Result<String, E>,
    ) -> Result<Reads, E> {
        let mut kind = "bind".to_owned();
        for field in &self.fields {
            let (key, value) = match field.split_once('=') {
                Some((key, value)) => (key.to_lowercase(), Some(expand(value)?)),
                None => (field.to_lowercase(), None),
            };
            let bare = matches!(key.as_str(), "readonly" | "ro" | "readwrite" | "rw" | "required");
            if !KEYS.contains(&key.as_str()) {
                let hint = nearest(&key, KEYS);
                let hint = hint.map(|key| format!(" (did you mean {key}?)")).unwrap_or_default();
                return Err(mount(format!("unexpected key '{key}' in '{field}'{hint}")).into());
            }
            match value {
                None if !bare => {
                    return Err(
                        mount(format!("invalid field '{field}' must be a key=value pair")).into()
                    );
                }
                Some(value) if key == "type" => {
                    kind = value.to_lowercase();
                    if !TYPES.contains(&kind.as_str()) {
                        return Err(mount(format!("unsupported mount type {value:?}")).into());
                    }
                }
                Some(_) | None => {}
            }
        }
        match (kind.as_str(), &self.from) {
            ("secret", Some(_)) => Err(mount("secret mount should not have a from").into()),
            ("tmpfs" | "secret" | "ssh", _) | ("cache", None) => Ok(Reads::Nothing),
            _ => Ok(Reads::Files),
        }
    }
}

fn mount(reason: impl Into<String>) -> Problem {
    Problem::Mount { reason: reason.into() }
}

/// One record of RFC 4180.
fn csv(record: &str) -> Result<Vec<String>, Problem> {
    let mut fields = Vec::new();
    let mut rest = record;
    loop {
        let (field, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_field(quoted)?,
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                let (field, after) = rest.split_at(end);
                if field.contains('"') {
                    return Err(mount(format!("bare \" in non-quoted field '{field}'")));
                }
                (field.to_owned(), after)
            }
        };
        fields.push(field);
        match after.strip_prefix(',') {
            Some(next) => rest = next,
            None => return Ok(fields),
        }
    }
}

fn quoted_field(mut rest: &str) -> Result<(String, &str), Problem> {
    let mut field = String::new();
    loop {
        let Some((piece, after)) = rest.split_once('"') else {
            return Err(mount("extraneous or missing \" in quoted field"));
        };
        field.push_str(piece);
        match after.strip_prefix('"') {
            Some(next) => {
                field.push('"');
                rest = next;
            }
            None if after.is_empty() || after.starts_with(',') => return Ok((field, after)),
            None => return Err(mount("extraneous or missing \" in quoted field")),
        }
    }
}
