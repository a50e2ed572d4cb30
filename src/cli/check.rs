//! `buildgate check`: every source that a build would load, judged.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Result, anyhow};
use clap::Args;

use super::build::BuildFlags;
use super::dockerfile::Dockerfile;
use super::finding::{self, Detail};
use super::flags::{self, Output, Resolving};
use super::policies::{self, Policies};
use super::trust::Trusting;
use super::{hint, judge, output};
use crate::check::{self, Question};
use crate::dockerfile::{self, DockerfileError, Plan, SourceUse, Via, Warning, WarningKind};
use crate::input::Env;
use crate::policy::Caps;
use crate::report::{self, Finding, Message, Origin, Outcome, Report};
use crate::source::{SourceOp, mask_text};

/// Judge every source that a build of a Dockerfile would load
///
/// These are the context and the Dockerfile themselves, `FROM`,
/// `COPY --from`, `RUN --mount=from=`, `ADD` of URLs and git repositories, `# syntax`, and named
/// contexts.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Flags {
    /// The build's context: a folder, a git or HTTP URL, or `-` for a Dockerfile on standard input
    #[arg(default_value = ".")]
    context: String,
    /// A policy: a Rego file or a folder; all must allow (repeatable)
    #[arg(long, value_name = "FILE|DIR")]
    policy: Vec<PathBuf>,
    /// Show the input, what was fetched, and each rule that held or failed
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    build: BuildFlags,
    #[command(flatten)]
    output: Output,
    #[command(flatten)]
    resolving: Resolving,
    #[command(flatten)]
    trusting: Trusting,
}

const EXAMPLES: &str = "\
The policies are FILE.rego beside the Dockerfile (Dockerfile.rego, api.Dockerfile.rego), if it is
there, and each --policy.

Examples:
  buildgate check
  buildgate check . -f api.Dockerfile --build-arg GO=1.24 --target runtime
  buildgate check --policy policies/registry-gatekeeper --offline
  buildgate check --platform linux/amd64,linux/arm64 --explain
  buildgate check --format sarif > buildgate.sarif
  buildgate check -f - < Dockerfile

Exit codes: 0 every source is allowed, 1 one is denied, 2 one could not be decided, or wrong use";

/// Runs the command and gives its exit code.
pub(super) fn run(flags: &Flags) -> Result<u8> {
    let dockerfile = Dockerfile::read(&flags.context, flags.build.file.as_deref())?;
    let options = flags.build.options(&dockerfile)?;
    let env = flags.build.env(&options);
    let policies = policies::of_build(dockerfile.path.as_deref(), &flags.policy)?
        .trusting(&flags.trusting.trust()?);
    let mut plan =
        dockerfile::plan(&dockerfile.text, &options).map_err(|error| drawn(&error, &dockerfile))?;
    // What the client itself sends comes first: a reader looks for it there.
    plan.sources.sort_by_key(|used| match used.via {
        Via::Context => 0,
        Via::Dockerfile => 1,
        Via::Syntax
        | Via::From { .. }
        | Via::CopyFrom
        | Via::MountFrom
        | Via::Add
        | Via::NamedContext { .. }
        | Via::Epoch => 2,
    });
    let resolver = flags.resolving.resolver()?;
    note_caps(&policies, &env);

    let (questions, places) = questions(&plan, &env);
    let detail = if flags.explain { Detail::Explained } else { Detail::Decision };
    let (judged, hints) = judge::block_on(async {
        let judged = judge::all(policies.all(), &questions, resolver.as_ref()).await;
        let mut hints = Vec::with_capacity(judged.len());
        for (question, judged) in questions.iter().zip(&judged) {
            hints.push(match judged {
                Ok(checked) => hint::hints(&policies, question, checked).await,
                Err(_) => Vec::new(),
            });
        }
        (judged, hints)
    })?;
    for text in judged.iter().flatten().flat_map(finding::printed) {
        output::note("print", &text);
    }

    let mut findings = Vec::with_capacity(plan.sources.len());
    for (used, place) in plan.sources.iter().zip(places) {
        let mut finding = found(used, &dockerfile);
        if let (Some(judged), Some(hints)) = (judged.get(place), hints.get(place)) {
            finding::fill(&mut finding, judged, &policies, detail);
            finding.hints.extend(hints.iter().cloned());
        }
        finding::hide_arguments(&mut finding, &env);
        findings.push(finding);
    }
    for warning in &plan.warnings {
        warn(&mut findings, warning, &dockerfile);
    }
    let report = Report {
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        findings,
        base: std::env::current_dir().ok().map(|folder| folder.display().to_string()),
    };
    let style = output::style(flags.output.color);
    output::answer(&report::render(&report, flags.output.format.into(), style)?)?;
    Ok(report.verdict().exit_code())
}

/// Each source and platform once, and for each use of the plan which of them it is.
fn questions(plan: &Plan, env: &Env) -> (Vec<Question>, Vec<usize>) {
    let mut questions = Vec::new();
    let mut known = BTreeMap::new();
    let places = plan
        .sources
        .iter()
        .map(|used| {
            let platform = used.platform.clone().unwrap_or_else(flags::host);
            *known.entry((used.op.clone(), platform.clone())).or_insert_with(|| {
                questions.push(Question { op: used.op.clone(), platform, env: env.clone() });
                questions.len() - 1
            })
        })
        .collect();
    (questions, places)
}

fn found(used: &SourceUse, dockerfile: &Dockerfile) -> Finding {
    let mut finding = finding::unjudged(&used.op, via(&used.via));
    finding.platform = used.platform.as_ref().map(ToString::to_string);
    finding.location = used.lines.map(|lines| dockerfile.location(lines, &used.text));
    finding
}

fn via(via: &Via) -> String {
    match via {
        Via::Syntax => "# syntax".to_owned(),
        Via::Dockerfile => "Dockerfile".to_owned(),
        Via::Context => "build context".to_owned(),
        Via::From { stage } => format!("FROM, stage {stage}"),
        Via::CopyFrom => "COPY --from".to_owned(),
        Via::MountFrom => "RUN --mount".to_owned(),
        Via::Add => "ADD".to_owned(),
        Via::NamedContext { name } => format!("build context {name}"),
        Via::Epoch => "SOURCE_DATE_EPOCH".to_owned(),
    }
}

/// Something that the plan cannot know: there is no decision where sources may be others than
/// those that were judged, or be missing.
fn warn(findings: &mut Vec<Finding>, warning: &Warning, dockerfile: &Dockerfile) {
    let text = warning.kind.to_string();
    let (source, via) = match &warning.kind {
        WarningKind::BaseVariable { .. } => {
            let message = Message { text: text.clone(), rule: None, origin: Origin::Ours };
            let error = format!("the source is not known: {text}");
            let line = warning.lines.map(|lines| lines.start);
            let here = findings.iter_mut().find(|finding| {
                let at =
                    finding.location.as_ref().and_then(|at| usize::try_from(at.start_line).ok());
                at.is_some() && at == line
            });
            match here {
                Some(finding) if finding.outcome == Outcome::Denied => {
                    finding.warnings.push(message);
                }
                Some(finding) => finding.outcome = Outcome::Undecided { error },
                None => {
                    let mut finding = finding::unjudged(&SourceOp::default(), "ADD".to_owned());
                    finding.source = "a source that hangs on a variable".to_owned();
                    finding.location = warning.lines.map(|lines| dockerfile.location(lines, ""));
                    finding.outcome = Outcome::Undecided { error };
                    findings.push(finding);
                }
            }
            return;
        }
        WarningKind::OtherFrontend { image } | WarningKind::NotADockerfile { image } => {
            (format!("what {image} loads"), "# syntax")
        }
        WarningKind::ClientInput { name } => (format!("input:{name}"), "build context"),
    };
    let mut finding = finding::unjudged(&SourceOp::default(), via.to_owned());
    finding.source = source;
    finding.location = warning.lines.map(|lines| dockerfile.location(lines, ""));
    finding.outcome = Outcome::Undecided { error: text };
    finding.hints =
        vec!["the frontend, named in `# syntax=`, judges what a build really loads".to_owned()];
    findings.push(finding);
}

/// Says what the policies ask of the build as a whole, and what becomes of that here.
fn note_caps(policies: &Policies, env: &Env) {
    match check::caps(policies.all(), env) {
        Ok(Caps { exec_proxy: Some(true) }) => output::note(
            "note",
            "the policy asks for exec.proxy: what RUN fetches over HTTP is judged only while the \
             build runs, not here",
        ),
        Ok(Caps { exec_proxy: Some(false) | None }) => {}
        Err(error) => output::note(
            "note",
            &format!("what the policy asks of the build as a whole cannot be told: {error}"),
        ),
    }
}

/// A Dockerfile that cannot be read, with its line.
fn drawn(error: &DockerfileError, dockerfile: &Dockerfile) -> anyhow::Error {
    let problem = mask_text(&output::chain(error.problem.as_ref()));
    let name = dockerfile.name();
    match (error.lines, &error.source_line) {
        (Some(lines), Some(text)) => {
            let text = mask_text(text);
            let gutter = " ".repeat(lines.start.to_string().len());
            anyhow!(
                "{name}:{}: {problem}\n{gutter} |\n{} | {text}\n{gutter} |",
                lines.start,
                lines.start
            )
        }
        (Some(lines), None) => anyhow!("{name}:{}: {problem}", lines.start),
        (None, _) => anyhow!("{name}: {problem}"),
    }
}
