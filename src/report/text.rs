//! Reports drawn for people: the Dockerfile line, the reason under it, the rule that refused it and
//! what would pass.

use std::fmt::Write as _;

use annotate_snippets::renderer::DecorStyle;
use annotate_snippets::{
    Annotation, AnnotationKind, Group, Level, Origin as At, Renderer, Snippet,
};

use super::{
    Explain, Finding, Location, Message, Origin, Outcome, Report, RuleAt, RuleOutcome, Span, Style,
    escape,
};

/// Widest line that is drawn whole; of longer ones the part that matters is.
const WIDTH: usize = 140;
/// Widest marker with its reason beside it.
const LABEL: usize = 90;

/// The report of a check.
pub(super) fn render(report: &Report, style: Style) -> String {
    let pen = Pen { style, base: report.base.as_deref() };
    let mut text = String::new();
    for finding in &report.findings {
        let drawn = draw(finding, pen);
        // What takes several lines stands apart from the list of what is allowed.
        if drawn.contains("\n\n") && !text.is_empty() && !text.ends_with("\n\n") {
            text.push('\n');
        }
        text.push_str(&drawn);
    }
    text.push_str(&summary(report, pen));
    text
}

/// Puts colours and links where the terminal has them.
#[derive(Clone, Copy)]
pub(super) struct Pen<'a> {
    /// What the terminal can show.
    pub(super) style: Style,
    /// Directory of relative files, for links.
    pub(super) base: Option<&'a str>,
}

/// The colours there are.
#[derive(Clone, Copy)]
pub(super) enum Colour {
    /// It is well.
    Green,
    /// It is not.
    Red,
    /// It might not be.
    Yellow,
    /// It is a remark.
    Dim,
}

impl Pen<'_> {
    /// `text`, which must be escaped, in `colour`.
    pub(super) fn paint(self, colour: Colour, text: &str) -> String {
        let code = match (self.style, colour) {
            (Style::Plain, _) => return text.to_owned(),
            (Style::Ansi | Style::AnsiWithLinks, Colour::Green) => "32",
            (Style::Ansi | Style::AnsiWithLinks, Colour::Red) => "1;31",
            (Style::Ansi | Style::AnsiWithLinks, Colour::Yellow) => "33",
            (Style::Ansi | Style::AnsiWithLinks, Colour::Dim) => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// `file:line`, as a link where the terminal has them and the file's place is known.
    pub(super) fn place(self, file: &str, line: u32) -> String {
        let shown = format!("{}:{line}", escape::line(file));
        match (self.style, self.url(file)) {
            (Style::AnsiWithLinks, Some(url)) => {
                format!("\u{1b}]8;;{url}\u{1b}\\{shown}\u{1b}]8;;\u{1b}\\")
            }
            (Style::Plain | Style::Ansi | Style::AnsiWithLinks, _) => shown,
        }
    }

    fn url(self, file: &str) -> Option<url::Url> {
        let path = match self.base {
            Some(base) => std::path::Path::new(base).join(file),
            None => file.into(),
        };
        url::Url::from_file_path(path).ok()
    }
}

fn draw(finding: &Finding, pen: Pen<'_>) -> String {
    let mut text = match &finding.outcome {
        Outcome::Allowed => allowed(finding, None, pen),
        Outcome::AllowedWithPin { to } => allowed(finding, Some(to), pen),
        Outcome::Denied => refused(finding, "denied", None, pen),
        Outcome::Undecided { error } => refused(finding, "not decided", Some(error), pen),
    };
    for warning in &finding.warnings {
        text.push_str(&snippets(&warned(finding, warning), pen));
    }
    if let Some(explain) = &finding.explain {
        explain_to(&mut text, finding, explain, pen);
    }
    text
}

fn allowed(finding: &Finding, pin: Option<&String>, pen: Pen<'_>) -> String {
    let mut text = format!(
        "{} {} ({}",
        pen.paint(Colour::Green, "allowed:"),
        named(finding),
        escape::line(&finding.via)
    );
    if let Some(at) = &finding.location {
        text.push_str(", ");
        text.push_str(&pen.place(&at.file, at.start_line));
    }
    text.push_str(")\n");
    if let Some(pin) = pin {
        // Writing to a string cannot fail, here and below.
        let _ = writeln!(text, "  pinned to {}", escape::line(pin));
    }
    text
}

fn refused(finding: &Finding, word: &str, error: Option<&String>, pen: Pen<'_>) -> String {
    let mut own = Vec::new();
    let mut ours = Vec::new();
    if let Some(error) = error {
        own.extend(split(error));
    }
    for message in &finding.messages {
        match message.origin {
            Origin::Policy => own.extend(split(&message.text)),
            Origin::Ours => ours.extend(split(&message.text)),
        }
    }
    if own.is_empty() {
        own.append(&mut ours);
    }
    if own.is_empty() {
        own.push("the policy gives no reason".to_owned());
    }
    let title = format!("{} ({})", named(finding), escape::line(&finding.via));
    let mut group = Group::with_title(Level::ERROR.with_name(word).primary_title(title));
    group = match &finding.location {
        // A reason that would not fit beside the marker stands on a line of its own below.
        Some(at) if wide(at, &own) => group
            .element(dockerfile(at, &[]))
            .elements(own.iter().map(|words| Level::ERROR.no_name().message(words))),
        Some(at) => group.element(dockerfile(at, &own)),
        None => group.elements(own.iter().map(|words| Level::ERROR.no_name().message(words))),
    };
    group = group.elements(ours.iter().map(|words| Level::NOTE.message(words)));
    let mut groups = vec![group];
    for rule in rules(&finding.messages) {
        let same = |message: &&Message| message.rule.as_ref() == Some(rule);
        let origin = finding.messages.iter().find(same).map(|message| message.origin);
        groups.push(refusing(rule, finding.policy.as_deref(), origin));
    }
    let hints = finding.hints.iter().map(|hint| escape::line(hint).into_owned());
    groups.extend(hints.map(|hint| Group::with_title(Level::HELP.secondary_title(hint))));
    snippets(&groups, pen)
}

fn warned<'a>(finding: &Finding, warning: &Message) -> Vec<Group<'a>> {
    let title = format!("{} ({})", named(finding), escape::line(&finding.via));
    let group = Group::with_title(Level::WARNING.primary_title(title));
    let words = split(&warning.text);
    let mut groups = vec![match &finding.location {
        Some(at) => group.element(dockerfile(at, &words)),
        None => {
            group.elements(words.into_iter().map(|words| Level::WARNING.no_name().message(words)))
        }
    }];
    groups.extend(warning.rule.iter().map(|rule| refusing(rule, None, Some(warning.origin))));
    groups
}

/// Whether a reason runs over the edge when it is drawn beside the marker.
fn wide(at: &Location, words: &[String]) -> bool {
    let (text, span) = escaped(&at.text, at.span);
    let before = text[..span.end].lines().last().unwrap_or_default().chars().count();
    words.iter().any(|words| before + words.chars().count() > LABEL)
}

/// The lines of a message, each safe to draw. They are drawn one by one: a line feed in a label
/// would put what follows at the edge, where a stranger's text could pass for ours.
fn split(text: &str) -> Vec<String> {
    text.lines().map(|line| escape::line(line).into_owned()).collect()
}

/// The lines of the Dockerfile, with `labels` under the part that is meant.
fn dockerfile<'a>(at: &Location, labels: &[String]) -> Snippet<'a, Annotation<'a>> {
    let (text, span) = escaped(&at.text, at.span);
    let annotations: Vec<_> = match labels {
        [] => vec![AnnotationKind::Primary.span(span.start..span.end)],
        labels => labels
            .iter()
            .map(|words| AnnotationKind::Primary.span(span.start..span.end).label(words.clone()))
            .collect(),
    };
    Snippet::source(text)
        .path(escape::line(&at.file).into_owned())
        .line_start(at.start_line as usize)
        .fold(false)
        .annotations(annotations)
}

/// The text as it may be written, and the span in it. A span that does not fit is the first line.
fn escaped(text: &str, span: Option<Span>) -> (String, Span) {
    let span = span.and_then(|span| {
        let (before, meant) = (text.get(..span.start)?, text.get(span.start..span.end)?);
        Some((before, meant, text.get(span.end..)?))
    });
    let (before, meant, after) = span.unwrap_or_else(|| {
        let end = text.find('\n').unwrap_or(text.len());
        let first = &text[..end];
        let start = first.len() - first.trim_start().len();
        let stop = start + first.trim().len();
        (&text[..start], &text[start..stop], &text[stop..])
    });
    let mut safe = escape::lines(before).into_owned();
    let start = safe.len();
    safe.push_str(&escape::lines(meant));
    let end = safe.len();
    safe.push_str(&escape::lines(after));
    (safe, Span { start, end })
}

/// The rules that messages come from, each once.
pub(super) fn rules(messages: &[Message]) -> Vec<&RuleAt> {
    let mut rules = Vec::new();
    for rule in messages.iter().filter_map(|message| message.rule.as_ref()) {
        if !rules.contains(&rule) {
            rules.push(rule);
        }
    }
    rules
}

/// A place in a policy: the rule that speaks, or the place that words of ours are about.
fn refusing<'a>(rule: &RuleAt, policy: Option<&str>, origin: Option<Origin>) -> Group<'a> {
    let title = match origin {
        Some(Origin::Ours) => "at this place",
        Some(Origin::Policy) | None => "by this rule",
    };
    let title = match policy {
        Some(policy) => format!("{title} of {}", escape::line(policy)),
        None => title.to_owned(),
    };
    let group = Group::with_title(Level::NOTE.secondary_title(title));
    let path = escape::line(&rule.file).into_owned();
    if rule.snippet.trim().is_empty() {
        let column = rule.column as usize;
        return group.element(At::path(path).line(rule.line as usize).char_column(column));
    }
    let line = rule.snippet.lines().next().unwrap_or_default();
    let start = line.char_indices().nth(rule.column.saturating_sub(1) as usize);
    let span = start.map(|(start, _)| Span { start, end: line.trim_end().len().max(start) });
    let (text, span) = escaped(line, span);
    group.element(
        Snippet::source(text)
            .path(path)
            .line_start(rule.line as usize)
            .fold(false)
            .annotation(AnnotationKind::Context.span(span.start..span.end)),
    )
}

fn snippets(groups: &[Group<'_>], pen: Pen<'_>) -> String {
    let renderer = match pen.style {
        Style::Plain => Renderer::plain(),
        Style::Ansi | Style::AnsiWithLinks => Renderer::styled(),
    };
    let mut text = renderer.decor_style(DecorStyle::Ascii).term_width(WIDTH).render(groups);
    text.push_str("\n\n");
    text
}

fn explain_to(text: &mut String, finding: &Finding, explain: &Explain, pen: Pen<'_>) {
    let _ = writeln!(text, "explained: {}", named(finding));
    let input = escape::json(&format!("{:#}", explain.input));
    let _ = writeln!(text, "  input:\n{}", indent(&input, "    "));
    match finding.fetched.as_slice() {
        [] => text.push_str("  fetched: nothing\n"),
        fetched => {
            text.push_str("  fetched:\n");
            for what in fetched {
                let _ = writeln!(text, "    {}", escape::line(what));
            }
        }
    }
    text.push_str("  rules:\n");
    for rule in &explain.rules {
        let (word, colour, why) = match &rule.outcome {
            RuleOutcome::Held => ("held", Colour::Green, String::new()),
            RuleOutcome::Failed { at, expression } => {
                let expression = escape::line(expression);
                ("failed", Colour::Red, format!(" at {}:{} `{expression}`", at.line, at.column))
            }
            RuleOutcome::NotReached => ("not reached", Colour::Dim, String::new()),
        };
        let _ = writeln!(
            text,
            "    {} {} ({}){why}",
            pen.paint(colour, &format!("{word:<11}")),
            escape::line(&rule.name),
            pen.place(&rule.file, rule.line),
        );
    }
    text.push('\n');
}

/// `text` with `by` before each of its lines.
pub(super) fn indent(text: &str, by: &str) -> String {
    text.lines().map(|line| format!("{by}{line}")).collect::<Vec<_>>().join("\n")
}

fn named(finding: &Finding) -> String {
    match &finding.platform {
        Some(platform) => {
            format!("{} [{}]", escape::line(&finding.source), escape::line(platform))
        }
        None => escape::line(&finding.source).into_owned(),
    }
}

fn summary(report: &Report, pen: Pen<'_>) -> String {
    let sum = report.summary();
    if sum.sources == 0 {
        return format!("{}\n", pen.paint(Colour::Red, "0 sources: nothing was decided"));
    }
    let mut parts = vec![format!("{} allowed", sum.allowed)];
    if sum.denied > 0 {
        parts.push(pen.paint(Colour::Red, &format!("{} denied", sum.denied)));
    }
    if sum.undecided > 0 {
        parts.push(pen.paint(Colour::Red, &format!("{} not decided", sum.undecided)));
    }
    if sum.warnings > 0 {
        parts.push(pen.paint(Colour::Yellow, &counted(sum.warnings, "warning")));
    }
    format!("{}: {}\n", counted(sum.sources, "source"), parts.join(", "))
}

/// `count` and `noun`, in the plural where it is one.
pub(super) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_sample() {
        for (name, report) in samples::reports() {
            insta::assert_snapshot!(name, render(&report, Style::Plain));
        }
    }

    #[test]
    fn no_message_reaches_the_edge() {
        for at_line in [true, false] {
            for outcome in
                [Outcome::Denied, Outcome::Undecided { error: "a\nallowed: forged".into() }]
            {
                let mut report = samples::denied();
                let finding = &mut report.findings[1];
                finding.outcome = outcome;
                let forged = "x\nallowed: forged\r\nallowed: forged";
                finding.messages[0].text = forged.into();
                finding.hints = vec![forged.into()];
                finding.warnings = finding.messages.clone();
                if !at_line {
                    finding.location = None;
                }
                let text = render(&report, Style::Plain);
                assert!(text.contains("allowed: forged"));
                assert!(!text.lines().any(|line| line.starts_with("allowed: forged")), "{text}");
            }
        }
    }

    #[test]
    fn colours_and_links() {
        let mut report = samples::explained();
        report.base = Some("/src".into());
        let links = render(&report, Style::AnsiWithLinks);
        insta::assert_snapshot!(links.replace('\u{1b}', "␛"));
        assert!(!render(&report, Style::Ansi).contains("\u{1b}]8"));
        assert!(!render(&report, Style::Plain).contains('\u{1b}'));
    }

    #[test]
    fn spans_that_do_not_fit_fall_back_to_the_line() {
        let table = [
            ("FROM é", Some(Span { start: 5, end: 7 }), "é"),
            ("FROM é", Some(Span { start: 5, end: 6 }), "FROM é"),
            ("FROM a", Some(Span { start: 5, end: 99 }), "FROM a"),
            ("FROM a", Some(Span { start: 6, end: 5 }), "FROM a"),
            ("  RUN a \\\n b", None, "RUN a \\"),
            ("", None, ""),
        ];
        for (text, span, meant) in table {
            let (safe, at) = escaped(text, span);
            assert_eq!(&safe[at.start..at.end], meant, "{text:?} {span:?}");
        }
    }
}
