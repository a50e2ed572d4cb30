//! Parser directives: `syntax`, `escape` and `check`, in every form that BuildKit takes.

use std::sync::LazyLock;

use regex::Regex;

use super::error::Problem;

/// The frontend that a file asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Syntax {
    /// The image, up to the first space.
    pub(super) image: String,
    /// 1-based; 1 where the file is JSON.
    pub(super) line: usize,
    pub(super) form: Form,
}

/// How a directive is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `# syntax=…`: the rest is a Dockerfile, or something near it.
    Hash,
    /// `// syntax=…` or JSON: the rest is the frontend's own language.
    Foreign,
}

/// The frontend that `text` asks for, if any.
pub(super) fn detect_syntax(text: &str) -> Option<Syntax> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (body, skipped) = match text.strip_prefix("#!") {
        Some(rest) => (rest.split_once('\n').map_or("", |(_, rest)| rest), 1),
        None => (text, 0),
    };
    for (comment, form) in [("#", Form::Hash), ("//", Form::Foreign)] {
        let mut parser = Directives::new(comment);
        for (index, line) in body.lines().enumerate() {
            match parser.line(line) {
                Ok(Some((name, value))) if name == "syntax" => {
                    let image = value.split(' ').next().unwrap_or_default().to_owned();
                    return Some(Syntax { image, line: index + 1 + skipped, form });
                }
                Ok(Some(_)) => {}
                Ok(None) | Err(_) => break,
            }
        }
    }
    let json: serde_json::Map<String, serde_json::Value> = serde_json::from_str(body).ok()?;
    let image = json.get("syntax")?.as_str()?.to_owned();
    Some(Syntax { image, line: 1 + skipped, form: Form::Foreign })
}

/// Reads directives until the first line that is none.
pub(super) struct Directives {
    comment: &'static str,
    seen: Vec<String>,
    done: bool,
}

impl Directives {
    pub(super) fn new(comment: &'static str) -> Self {
        Self { comment, seen: Vec::new(), done: false }
    }

    /// The directive in `line`, as lower-case name and value.
    pub(super) fn line(&mut self, line: &str) -> Result<Option<(String, String)>, Problem> {
        static DIRECTIVE: LazyLock<Option<Regex>> = LazyLock::new(|| {
            Regex::new(r"^([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*$").ok()
        });
        let found = (!self.done)
            .then(|| line.strip_prefix(self.comment))
            .flatten()
            .and_then(|rest| DIRECTIVE.as_ref()?.captures(rest.trim_start()))
            .map(|found| (found[1].to_ascii_lowercase(), found[2].to_owned()))
            .filter(|(name, _)| matches!(name.as_str(), "syntax" | "escape" | "check"));
        let Some((name, value)) = found else {
            self.done = true;
            return Ok(None);
        };
        if self.seen.contains(&name) {
            return Err(Problem::RepeatedDirective { name });
        }
        self.seen.push(name.clone());
        Ok(Some((name, value)))
    }
}
