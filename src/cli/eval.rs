//! `buildgate eval`: one source, its input, and what policies say of it.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use serde_json::json;

use super::finding::{self, Detail};
use super::flags::{self, Color, FormatFlag, Resolving};
use super::policies::Policies;
use super::{hint, judge, output};
use crate::check::Question;
use crate::input::{self, Env, Field, FieldSet, Input};
use crate::meta::{Known, ResolveSourceMeta};
use crate::report::{self, Finding, Report, escape};
use crate::source::{Source, SourceOp};

/// Judge one source, or show the input that rules would read of it
///
/// A source is an identifier (docker-image://…, https://…, git://…), a git or HTTP URL as a
/// Dockerfile has it, or else an image reference. A finished image is one too.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Flags {
    /// The source
    source: String,
    /// Print the input, as far as it is resolved; without a policy that is all there is to print
    #[arg(long)]
    print: bool,
    /// Resolve these fields first, a comma list (repeatable)
    #[arg(long, value_name = "FIELD", value_delimiter = ',')]
    fields: Vec<String>,
    /// The platform it is loaded for [default: linux on this machine]
    #[arg(long, value_name = "OS/ARCH")]
    platform: Option<String>,
    /// A policy: a Rego file or a folder; all must allow (repeatable)
    #[arg(long, value_name = "FILE|DIR")]
    policy: Vec<PathBuf>,
    /// Show the input, what was fetched, and each rule that held or failed
    #[arg(long, requires = "policy")]
    explain: bool,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t, value_name = "FORMAT")]
    format: EvalFormat,
    /// When to use colours and links
    #[arg(long, value_enum, default_value_t, value_name = "WHEN", help_heading = "Output")]
    color: Color,
    #[command(flatten)]
    resolving: Resolving,
}

/// `--format` of `eval`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum EvalFormat {
    /// Drawn for people
    #[default]
    Text,
    /// JSON
    Json,
}

const EXAMPLES: &str = "\
Examples:
  buildgate eval alpine:3.20 --print
  buildgate eval alpine:3.20 --fields image.labels,image.provenance
  buildgate eval https://github.com/moby/buildkit.git#v0.20.0 --fields git.commit
  buildgate eval registry.example.com/app:1 --policy policies/production-lockdown --explain

Exit codes: 0 allowed (or printed), 1 denied, 2 could not decide or used wrongly";

/// Runs the command and gives its exit code.
pub(super) fn run(flags: &Flags) -> Result<u8> {
    let op = SourceOp::from_user(&flags.source)?;
    let fields = fields(&flags.fields)?;
    let platform = match flags::platforms(flags.platform.as_slice())?.as_slice() {
        [] => flags::host(),
        [only] => only.clone(),
        _ => bail!("--platform: a source is judged for one platform at a time"),
    };
    let question = Question { op, platform, env: Env::default() };
    let policies = Policies::load(&flags.policy)?;
    let resolver = flags.resolving.resolver()?;
    judge::block_on(async {
        let print = flags.print || !fields.is_empty() || flags.policy.is_empty();
        let input = match print {
            true => Some(resolved(&question, fields, resolver.as_ref()).await?),
            false => None,
        };
        if flags.policy.is_empty() {
            let document = input.as_ref().map(crate::check::reasons::shown).unwrap_or_default();
            output::answer(&format!("{}\n", escape::json(&format!("{document:#}"))))?;
            return Ok(0);
        }
        decided(flags, &question, &policies, resolver.as_ref(), input.as_ref()).await
    })?
}

/// Judges the source, and prints the decision after the input, where that is wanted.
async fn decided(
    flags: &Flags,
    question: &Question,
    policies: &Policies,
    resolver: &dyn ResolveSourceMeta,
    input: Option<&Input>,
) -> Result<u8> {
    let questions = [question.clone()];
    let judged = judge::all(policies.all(), &questions, resolver).await;
    let detail = if flags.explain { Detail::Explained } else { Detail::Decision };
    let mut finding: Finding = finding::unjudged(&question.op, "eval".to_owned());
    finding.platform = platform_shown(question);
    for judged in &judged {
        finding::fill(&mut finding, judged, policies, detail);
        if let Ok(checked) = judged {
            finding.hints.extend(hint::hints(policies, question, checked).await);
            finding::printed(checked).for_each(|text| output::note("print", &text));
        }
    }
    let report = Report {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        findings: vec![finding],
        base: std::env::current_dir().ok().map(|folder| folder.display().to_string()),
    };
    let document = input.map(crate::check::reasons::shown);
    let text = match flags.format {
        EvalFormat::Json => {
            let text = report::render(&report, FormatFlag::Json.into(), report::Style::Plain)?;
            match document {
                None => text,
                // One document: the decision, and the input beside it.
                Some(document) => {
                    let report: serde_json::Value = serde_json::from_str(&text)?;
                    let both = json!({ "input": document, "report": report });
                    format!("{}\n", escape::json(&format!("{both:#}")))
                }
            }
        }
        EvalFormat::Text => {
            let style = output::style(flags.color);
            let text = report::render(&report, FormatFlag::Text.into(), style)?;
            let document =
                document.map(|document| format!("{}\n\n", escape::json(&format!("{document:#}"))));
            format!("{}{text}", document.unwrap_or_default())
        }
    };
    output::answer(&text)?;
    Ok(report.verdict().exit_code())
}

/// The platform where the source has one.
fn platform_shown(question: &Question) -> Option<String> {
    match Source::parse(&question.op) {
        Ok(Source::Image(_)) => Some(question.platform.to_string()),
        Ok(
            Source::Http(_)
            | Source::Git(_)
            | Source::Local(_)
            | Source::OciLayout(_)
            | Source::Blob(_),
        )
        | Err(_) => None,
    }
}

/// The input of a source with `fields` resolved.
async fn resolved(
    question: &Question,
    fields: FieldSet,
    resolver: &dyn ResolveSourceMeta,
) -> Result<Input> {
    let source = Source::parse(&question.op)?;
    let mut known = Known::default();
    let document = input::build(&question.op, &source, &question.platform, &known, &question.env)?;
    if fields.is_empty() {
        return Ok(document.input);
    }
    let request = input::request(&document.node, fields, None, None).with_context(|| {
        format!("{} has none of these fields: {}", question.op, names(fields.iter()))
    })?;
    let meta = resolver.resolve(&request).await?;
    known.insert(Vec::new(), meta);
    let document = input::build(&question.op, &source, &question.platform, &known, &question.env)?;
    for note in &document.notes {
        let (object, name) = note.field.path();
        output::note("note", &format!("{object}.{name} cannot be read: {}", note.reason));
    }
    Ok(document.input)
}

fn fields(given: &[String]) -> Result<FieldSet> {
    let mut fields = FieldSet::EMPTY;
    for text in given.iter().map(|text| text.trim()) {
        let name = text.strip_prefix("input.").unwrap_or(text);
        let found = Field::ALL.into_iter().find(|field| {
            let (object, field) = field.path();
            name.split_once('.') == Some((object, field))
        });
        match found {
            Some(field) => fields.add(field),
            None => bail!(
                "--fields: {name:?} is no field that is resolved\nThese are: {}",
                names(Field::ALL.into_iter())
            ),
        }
    }
    Ok(fields)
}

fn names(fields: impl Iterator<Item = Field>) -> String {
    let names: Vec<String> = fields
        .map(|field| {
            let (object, name) = field.path();
            format!("{object}.{name}")
        })
        .collect();
    names.join(", ")
}
