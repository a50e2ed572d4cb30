//! Instructions as far as they decide what a build loads; the others are checked and forgotten.

use super::Lines;
use super::error::{Fault, Problem, nearest};
use super::flags::{Flags, Kind};
use super::mount::Mount;
use super::node::{Heredoc, Node, heredoc};
use super::words::{Arguments, Head, quoted_words};

const NAMES: [&str; 18] = [
    "ADD",
    "ARG",
    "CMD",
    "COPY",
    "ENTRYPOINT",
    "ENV",
    "EXPOSE",
    "FROM",
    "HEALTHCHECK",
    "LABEL",
    "MAINTAINER",
    "ONBUILD",
    "RUN",
    "SHELL",
    "STOPSIGNAL",
    "USER",
    "VOLUME",
    "WORKDIR",
];

/// An instruction with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) kind: InstructionKind,
    pub(super) lines: Lines,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum InstructionKind {
    Arg(Vec<(String, Option<String>)>),
    From(From),
    Env(Vec<(String, String)>),
    Copy(Copy),
    Add(Add),
    Run(Vec<Mount>),
    /// The instruction that a stage from this one runs first.
    Onbuild(String),
    /// Loads nothing and sets no variable.
    Other,
}

/// `FROM [--platform=…] base [AS name]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct From {
    pub(super) base: String,
    /// Lower case.
    pub(super) name: Option<String>,
    pub(super) platform: Option<String>,
}

/// `COPY`: sources without heredocs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Copy {
    pub(super) from: Option<String>,
    pub(super) sources: Vec<String>,
}

/// `ADD`: sources without heredocs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Add {
    pub(super) sources: Vec<String>,
    pub(super) checksum: String,
    pub(super) keep_git_dir: Option<bool>,
}

/// Reads one instruction.
pub(super) fn instruction(node: &Node, escape: char) -> Result<Instruction, Fault> {
    kind(node, escape)
        .map(|kind| Instruction { kind, lines: node.lines })
        .map_err(|problem| Fault::at(node.lines, problem))
}

fn kind(node: &Node, escape: char) -> Result<InstructionKind, Problem> {
    let head = &node.head;
    let name = head.name();
    let flags = |known| Flags::parse(&head.flags, known);
    match name.as_str() {
        "FROM" => from(head),
        // ARG and STOPSIGNAL ignore flags, and so they do in BuildKit.
        "ARG" => arg(head, escape),
        "ENV" => {
            flags(&[])?;
            Ok(InstructionKind::Env(pairs(head, "ENV", escape)?))
        }
        "LABEL" => {
            flags(&[])?;
            pairs(head, "LABEL", escape).map(|_| InstructionKind::Other)
        }
        "COPY" => copy(head),
        "ADD" => add(head),
        "RUN" => run(head),
        "ONBUILD" => {
            flags(&[])?;
            onbuild(head, &node.text, &node.heredocs)
        }
        "HEALTHCHECK" => {
            let text = |name| (name, Kind::Text);
            flags(&["interval", "timeout", "start-period", "start-interval", "retries"].map(text))?;
            wants(head, "HEALTHCHECK", Count::Some)
        }
        "MAINTAINER" => flags(&[]).and_then(|_| wants(head, "MAINTAINER", Count::One)),
        "USER" => flags(&[]).and_then(|_| wants(head, "USER", Count::One)),
        "WORKDIR" => flags(&[]).and_then(|_| wants(head, "WORKDIR", Count::One)),
        "STOPSIGNAL" => wants(head, "STOPSIGNAL", Count::One),
        "EXPOSE" => flags(&[]).and_then(|_| wants(head, "EXPOSE", Count::Some)),
        "VOLUME" => flags(&[]).and_then(|_| wants(head, "VOLUME", Count::Some)),
        "SHELL" => match (flags(&[])?, &head.arguments) {
            (_, Arguments::Json(words)) if !words.is_empty() => Ok(InstructionKind::Other),
            _ => Err(arguments("SHELL", "a JSON array of at least one string")),
        },
        "CMD" | "ENTRYPOINT" => flags(&[]).map(|_| InstructionKind::Other),
        _ => Err(Problem::UnknownInstruction {
            keyword: head.keyword.clone(),
            nearest: nearest(&head.keyword, NAMES),
        }),
    }
}

fn arguments(instruction: &'static str, wanted: &'static str) -> Problem {
    Problem::Arguments { instruction, wanted }
}

enum Count {
    One,
    Some,
}

fn wants(head: &Head, name: &'static str, count: Count) -> Result<InstructionKind, Problem> {
    let empty = match &head.arguments {
        Arguments::Text(text) => text.is_empty(),
        Arguments::Json(words) => words.is_empty(),
        Arguments::Trigger(_) => false,
    };
    match (empty, count) {
        (false, _) => Ok(InstructionKind::Other),
        (true, Count::One) => Err(arguments(name, "exactly one argument")),
        (true, Count::Some) => Err(arguments(name, "at least one argument")),
    }
}

fn from(head: &Head) -> Result<InstructionKind, Problem> {
    let words = head.list();
    let (base, name) = match words.as_slice() {
        [base] => (base, None),
        [base, keyword, name] if keyword.to_lowercase() == "as" => (base, Some(name)),
        _ => return Err(arguments("FROM", "either one or three arguments")),
    };
    let name = name.map(|name| stage_name(name)).transpose()?;
    let flags = Flags::parse(&head.flags, &[("platform", Kind::Text)])?;
    // An empty --platform= is as good as none.
    let platform = flags.text("platform").filter(|text| !text.is_empty()).map(str::to_owned);
    Ok(InstructionKind::From(From { base: base.clone(), name, platform }))
}

fn stage_name(written: &str) -> Result<String, Problem> {
    let name = written.to_lowercase();
    let tail = |ch: char| ch.is_ascii_lowercase() || ch.is_ascii_digit() || "-_.".contains(ch);
    if !name.starts_with(|ch: char| ch.is_ascii_lowercase()) || !name.chars().all(tail) {
        return Err(Problem::StageName { name: written.to_owned() });
    }
    Ok(name)
}

fn arg(head: &Head, escape: char) -> Result<InstructionKind, Problem> {
    let Arguments::Text(text) = &head.arguments else {
        return Err(arguments("ARG", "at least one argument"));
    };
    let words = quoted_words(text, escape);
    if words.is_empty() {
        return Err(arguments("ARG", "at least one argument"));
    }
    let pair = |word: String| match word.split_once('=') {
        Some(("", _)) => Err(Problem::KeyValue { instruction: "ARG", word }),
        Some((name, value)) => Ok((name.to_owned(), Some(value.to_owned()))),
        None => Ok((word, None)),
    };
    words.into_iter().map(pair).collect::<Result<_, _>>().map(InstructionKind::Arg)
}

fn pairs(
    head: &Head,
    instruction: &'static str,
    escape: char,
) -> Result<Vec<(String, String)>, Problem> {
    let Arguments::Text(text) = &head.arguments else {
        return Err(arguments(instruction, "at least one argument"));
    };
    let words = quoted_words(text, escape);
    let Some(first) = words.first() else {
        return Err(arguments(instruction, "at least one argument"));
    };
    if !first.contains('=') {
        // The old form, `ENV name the whole rest`.
        let (name, value) = text
            .split_once(super::words::is_space)
            .ok_or(arguments(instruction, "two arguments"))?;
        return Ok(vec![(name.into(), value.trim_start_matches(super::words::is_space).into())]);
    }
    let pair = |word: String| match word.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        Some(_) | None => Err(Problem::KeyValue { instruction, word }),
    };
    words.into_iter().map(pair).collect()
}

fn copy(head: &Head) -> Result<InstructionKind, Problem> {
    let words = sources(head, "COPY")?;
    let text = ["chown", "from", "chmod"].map(|name| (name, Kind::Text));
    let bools = ["link", "parents"].map(|name| (name, Kind::Bool));
    let known = [text.as_slice(), &bools, &[("exclude", Kind::Texts)]].concat();
    let flags = Flags::parse(&head.flags, &known)?;
    let from = flags.text("from").filter(|from| !from.is_empty()).map(str::to_owned);
    Ok(InstructionKind::Copy(Copy { from, sources: without_heredocs(words, "COPY")? }))
}

fn add(head: &Head) -> Result<InstructionKind, Problem> {
    let words = sources(head, "ADD")?;
    let text = ["chown", "chmod", "checksum"].map(|name| (name, Kind::Text));
    let bools = ["link", "keep-git-dir", "unpack"].map(|name| (name, Kind::Bool));
    let known = [text.as_slice(), &bools, &[("exclude", Kind::Texts)]].concat();
    let flags = Flags::parse(&head.flags, &known)?;
    Ok(InstructionKind::Add(Add {
        sources: without_heredocs(words, "ADD")?,
        checksum: flags.text("checksum").unwrap_or_default().to_owned(),
        keep_git_dir: flags.boolean("keep-git-dir"),
    }))
}

fn sources(head: &Head, instruction: &'static str) -> Result<Vec<String>, Problem> {
    let words = head.list();
    if words.len() < 2 {
        return Err(arguments(instruction, "at least two arguments: a source and a destination"));
    }
    Ok(words)
}

fn without_heredocs(
    mut words: Vec<String>,
    instruction: &'static str,
) -> Result<Vec<String>, Problem> {
    let destination = words.pop().unwrap_or_default();
    if heredoc(&destination).is_some() {
        return Err(Problem::HeredocDestination { instruction });
    }
    words.retain(|word| heredoc(word).is_none());
    Ok(words)
}

fn run(head: &Head) -> Result<InstructionKind, Problem> {
    let known = [
        ("mount", Kind::Texts),
        ("network", Kind::Text),
        ("security", Kind::Text),
        ("device", Kind::Texts),
    ];
    let flags = Flags::parse(&head.flags, &known)?;
    flags.all("mount").map(Mount::parse).collect::<Result<_, _>>().map(InstructionKind::Run)
}

fn onbuild(head: &Head, text: &str, heredocs: &[Heredoc]) -> Result<InstructionKind, Problem> {
    let Arguments::Trigger(_) = &head.arguments else {
        return Err(arguments("ONBUILD", "at least one argument"));
    };
    let text = text.trim();
    let mut trigger = text.strip_prefix(&head.keyword).unwrap_or(text).trim_start().to_owned();
    for heredoc in heredocs {
        trigger.push('\n');
        trigger.push_str(&heredoc.content);
        trigger.push_str(&heredoc.name);
    }
    Ok(InstructionKind::Onbuild(trigger))
}
