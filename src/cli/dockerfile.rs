//! Where the Dockerfile and the main context of a build are.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::dockerfile::{ContextKind, Lines};
use crate::report::{Location, Span};
use crate::source::{mask, mask_text, parse_git_user};

/// Largest Dockerfile that is read, in bytes; the frontend reads no larger one.
const MAX_BYTES: u64 = 16 << 20;

/// A Dockerfile as it was read.
#[derive(Debug)]
pub(super) struct Dockerfile {
    /// Its path; none for standard input.
    pub(super) path: Option<PathBuf>,
    /// Its text.
    pub(super) text: String,
    /// The main context.
    pub(super) context: ContextKind,
}

impl Dockerfile {
    /// Reads the Dockerfile of `context`, or `file` where it is named. `-` is standard input.
    pub(super) fn read(context: &str, file: Option<&Path>) -> Result<Self> {
        let kind = context_kind(context)?;
        let stdin = match file {
            Some(file) => file == Path::new("-"),
            None => kind == ContextKind::Stdin,
        };
        if stdin {
            let text = read(io::stdin().lock(), "the Dockerfile on standard input")?;
            return Ok(Self { path: None, text, context: kind });
        }
        let path = match (file, &kind) {
            (Some(file), _) => file.to_owned(),
            (None, ContextKind::Remote(url)) => bail!(
                "the Dockerfile of {} is in the context, and that is not fetched here\n\
                 Name a local copy with -f FILE, or judge the build by the frontend (`# syntax=`).",
                mask(url)
            ),
            (None, _) => default_in(Path::new(context)),
        };
        let name = format!("the Dockerfile {}", path.display());
        // A FIFO would be waited for; what a shell substitutes, `/dev/fd/…`, is meant to be read so.
        let pipe = path.starts_with("/dev/") || path.starts_with("/proc/");
        let special = |kind: std::fs::FileType| !kind.is_file() && !kind.is_dir();
        if !pipe && std::fs::metadata(&path).is_ok_and(|it| special(it.file_type())) {
            bail!("{name} is a FIFO, socket or device, not a file");
        }
        let open = File::open(&path)
            .with_context(|| format!("{name} cannot be read; name another with -f FILE"))?;
        Ok(Self { text: read(open, &name)?, path: Some(path), context: kind })
    }

    /// Its name for people.
    pub(super) fn name(&self) -> String {
        self.path.as_ref().map_or("-".to_owned(), |path| path.display().to_string())
    }

    /// Some of its lines, with the `written` part of them marked.
    pub(super) fn location(&self, lines: Lines, written: &str) -> Location {
        let count = lines.end.saturating_sub(lines.start) + 1;
        let text: Vec<&str> =
            self.text.lines().skip(lines.start.saturating_sub(1)).take(count).collect();
        let text = mask_text(&text.join("\n"));
        let span = span_of(&text, &mask_text(written));
        Location {
            file: self.name(),
            start_line: u32::try_from(lines.start).unwrap_or(u32::MAX),
            end_line: u32::try_from(lines.end).unwrap_or(u32::MAX),
            text,
            span,
        }
    }
}

/// Where `written` stands in `text` as a word or a value.
fn span_of(text: &str, written: &str) -> Option<Span> {
    let inside =
        |char: char| !(char.is_whitespace() || matches!(char, '"' | '\'' | '=' | ',' | '[' | ']'));
    if written.is_empty() {
        return None;
    }
    text.match_indices(written).map(|(start, _)| Span { start, end: start + written.len() }).find(
        |span| {
            let before = text[..span.start].chars().next_back();
            let after = text[span.end..].chars().next();
            !before.is_some_and(inside) && !after.is_some_and(inside)
        },
    )
}

fn context_kind(context: &str) -> Result<ContextKind> {
    if context == "-" {
        return Ok(ContextKind::Stdin);
    }
    if Path::new(context).is_dir() {
        return Ok(ContextKind::Local);
    }
    let git = parse_git_user(context).with_context(|| format!("context {}", mask(context)))?;
    if git.is_some() || context.starts_with("http://") || context.starts_with("https://") {
        return Ok(ContextKind::Remote(context.to_owned()));
    }
    bail!("context {} is no folder, and no git or HTTP URL", mask(context))
}

/// `Dockerfile`, or `dockerfile` where only that is there, as the frontend looks for it.
fn default_in(folder: &Path) -> PathBuf {
    let named = |name: &str| if folder == Path::new(".") { name.into() } else { folder.join(name) };
    let (usual, lower): (PathBuf, PathBuf) = (named("Dockerfile"), named("dockerfile"));
    if !usual.exists() && lower.is_file() { lower } else { usual }
}

fn read(from: impl Read, name: &str) -> Result<String> {
    let mut bytes = Vec::new();
    from.take(MAX_BYTES + 1)
        .read_to_end(&mut bytes)
        .with_context(|| format!("{name} cannot be read"))?;
    if bytes.len() as u64 > MAX_BYTES {
        bail!("{name} is larger than the {MAX_BYTES} bytes that BuildKit reads");
    }
    String::from_utf8(bytes).with_context(|| format!("{name} is not UTF-8 text"))
}
