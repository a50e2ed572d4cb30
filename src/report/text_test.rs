//! Reports of Rego tests drawn for people.

use std::fmt::Write as _;

use super::text::{Colour, Pen, counted, indent};
use super::{Coverage, Style, TestDetail, TestOutcome, TestReport, TestResult, escape};

/// The report of Rego tests: file by file, a failure with what it saw, the sum and the coverage.
pub(super) fn render(report: &TestReport, style: Style) -> String {
    let pen = Pen { style, base: None };
    let mut text = String::new();
    let mut file = None;
    for result in &report.results {
        if file != Some(&result.file) {
            // Writing to a string cannot fail, here and below.
            let _ = writeln!(text, "{}:", escape::line(&result.file));
            file = Some(&result.file);
        }
        draw(&mut text, result, pen);
    }
    if let Some(coverage) = &report.coverage {
        cover(&mut text, coverage);
    }
    let sum = report.summary();
    let mut parts = vec![format!("{} passed", sum.passed)];
    if sum.failed > 0 {
        parts.push(pen.paint(Colour::Red, &format!("{} failed", sum.failed)));
    }
    if sum.errored > 0 {
        parts.push(pen.paint(Colour::Red, &format!("{} in error", sum.errored)));
    }
    let _ = writeln!(text, "{}: {}", counted(sum.tests, "test"), parts.join(", "));
    text
}

fn draw(text: &mut String, result: &TestResult, pen: Pen<'_>) {
    let (word, colour) = match result.outcome {
        TestOutcome::Passed => ("PASS", Colour::Green),
        TestOutcome::Failed { .. } => ("FAIL", Colour::Red),
        TestOutcome::Errored { .. } => ("ERROR", Colour::Red),
    };
    let _ = writeln!(
        text,
        "  {} {} (line {}, {:.1?})",
        pen.paint(colour, &format!("{word:<5}")),
        escape::line(&result.name),
        result.line,
        result.duration,
    );
    match &result.outcome {
        TestOutcome::Passed => {}
        TestOutcome::Failed { detail } => text.push_str(&failure(detail)),
        TestOutcome::Errored { error } => {
            let _ = writeln!(text, "{}", indent(&escape::lines(error), "        "));
        }
    }
}

/// What a failed test saw, indented.
pub(super) fn failure(detail: &TestDetail) -> String {
    let mut text = String::new();
    if let Some(failed) = &detail.failed {
        let expression = indent(&escape::lines(&failed.expression), "          ");
        let file = escape::line(&failed.file);
        let _ = writeln!(
            text,
            "        did not hold ({file}:{}:{}):\n{expression}",
            failed.line, failed.column
        );
    }
    let parts = [("input", &detail.input), ("decision", &detail.decision)];
    for (name, value) in parts {
        if let Some(value) = value {
            let value = escape::json(&format!("{value:#}"));
            let _ = writeln!(text, "        {name}:\n{}", indent(&value, "          "));
        }
    }
    if !detail.missing_input.is_empty() {
        let missing = detail.missing_input.join(", ");
        let _ = writeln!(text, "        missing input: {}", escape::line(&missing));
    }
    text
}

fn cover(text: &mut String, coverage: &Coverage) {
    text.push_str("coverage:\n");
    for file in &coverage.files {
        let _ = write!(text, "  {:>5.1}% {}", file.percent(), escape::line(&file.file));
        if !file.not_covered.is_empty() {
            let _ = write!(text, " (not reached: {})", ranges(&file.not_covered));
        }
        text.push('\n');
    }
    let _ = writeln!(text, "  {:>5.1}% in all", coverage.percent());
}

/// Ascending line numbers, neighbours drawn together: `3-5, 9`.
fn ranges(lines: &[u32]) -> String {
    let runs = lines.chunk_by(|a, b| a + 1 == *b);
    let drawn = runs.filter_map(|run| match run {
        [] => None,
        [line] => Some(line.to_string()),
        [first, .., last] => Some(format!("{first}-{last}")),
    });
    drawn.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::super::samples;
    use super::*;

    #[test]
    fn every_sample() {
        for (name, report) in samples::test_reports() {
            insta::assert_snapshot!(name, render(&report, Style::Plain));
            assert!(render(&report, Style::Ansi).contains("\u{1b}["));
        }
    }

    #[test]
    fn lines_are_drawn_as_ranges() {
        for (lines, drawn) in
            [(&[][..], ""), (&[1], "1"), (&[1, 2, 3, 7], "1-3, 7"), (&[2, 4, 5], "2, 4-5")]
        {
            assert_eq!(ranges(lines), drawn);
        }
    }
}
