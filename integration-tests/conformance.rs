//! Runs conformance cases through the production path: `conformance DIR` decides every case of
//! every `*.json` in DIR, prints a line for each that differs, and sums up.
//!
//! What the reference engine asked for is no measure in two kinds of policies, because there it
//! decides without asking: it loses `else` branches over fields that are not fetched, and it does
//! not see what a function reads of an object it is given (`f(input.image)`). In such a case we
//! may ask for more; how many cases were let pass by that is said.
#![allow(clippy::print_stdout, clippy::print_stderr, missing_docs)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use buildgate::check::{CheckError, Checked, Outcome, Question, decide};
use buildgate::input::Env;
use buildgate::meta::MetaRequest;
use buildgate::policy::{Limits, Policy, PolicyFiles};
use buildgate::resolve::Fixtures;
use buildgate::source::{Platform, SourceOp};
use serde::Deserialize;

/// One case, as `conformance/README.md` has it.
#[derive(Deserialize)]
struct Case {
    name: String,
    policies: Vec<String>,
    files: BTreeMap<String, String>,
    #[serde(default)]
    env: Option<CaseEnv>,
    #[serde(default)]
    platform: Option<String>,
    source: CaseSource,
    #[serde(default)]
    metadata: serde_json::Value,
    expect: Expected,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CaseEnv {
    args: BTreeMap<String, Option<String>>,
    labels: BTreeMap<String, String>,
    filename: String,
    target: String,
    caps_request: bool,
}

#[derive(Deserialize, PartialEq, Debug)]
struct CaseSource {
    identifier: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Expected {
    action: Actions,
    #[serde(default)]
    deny_messages: Option<Vec<String>>,
    #[serde(default)]
    update: Option<CaseSource>,
    #[serde(default)]
    requests: Option<Vec<String>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Actions {
    One(String),
    Several(Vec<String>),
}

fn main() -> ExitCode {
    let Some(folder) = std::env::args_os().nth(1) else {
        eprintln!("usage: conformance DIR");
        return ExitCode::from(2);
    };
    match run(Path::new(&folder)) {
        Ok((passed, failed)) => {
            println!("conformance: {passed} passed, {failed} failed");
            if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(1) }
        }
        Err(error) => {
            eprintln!("conformance: {error:#}");
            ExitCode::from(2)
        }
    }
}

/// Decides every case of a folder: how many came out as expected, and how many did not.
pub fn run(folder: &Path) -> anyhow::Result<(usize, usize)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .with_context(|| format!("cannot read {}", folder.display()))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    files.sort();
    if files.is_empty() {
        bail!("{} holds no *.json", folder.display());
    }
    let (mut passed, mut failed, mut asked_more) = (0, 0, 0);
    for file in files {
        let text = std::fs::read_to_string(&file)?;
        let cases: Vec<Case> = serde_json::from_str(&text)
            .with_context(|| format!("{} is not a list of cases", file.display()))?;
        for case in cases {
            let (mut differences, requests) = runtime.block_on(differences(&case))?;
            if let Some(difference) = requests {
                if reference_asks_too_little(&case) {
                    asked_more += 1;
                    println!("{}: asked for more than the reference: {difference}", case.name);
                } else {
                    differences.push(difference);
                }
            }
            if differences.is_empty() {
                passed += 1;
            } else {
                failed += 1;
                let name = file.file_name().unwrap_or_default().to_string_lossy();
                println!("{name}: {}: {}", case.name, differences.join("; "));
            }
        }
    }
    if asked_more > 0 {
        println!(
            "in {asked_more} cases more was asked for than the reference asked for, which decides \
             them without the fields that they depend on"
        );
    }
    Ok((passed, failed))
}

/// Whether the case's rules are of the kinds for which the reference does not ask.
fn reference_asks_too_little(case: &Case) -> bool {
    case.policies.iter().filter_map(|name| case.files.get(name)).any(|text| {
        let whole_object = ["(input.image)", "(input.git)", "(input.http)"];
        text.lines().map(|line| line.split('#').next().unwrap_or_default()).any(|code| {
            let mut words = code.split(|c: char| !c.is_alphanumeric() && c != '_');
            words.any(|word| word == "else") || whole_object.iter().any(|call| code.contains(call))
        })
    })
}

/// What a case came to.
struct Answer {
    action: &'static str,
    messages: Vec<String>,
    update: Option<SourceOp>,
    error: Option<String>,
}

/// How the answer to a case differs, and how what was asked for on the way does.
async fn differences(case: &Case) -> anyhow::Result<(Vec<String>, Option<String>)> {
    let fixtures = Fixtures::from_case_metadata(&case.metadata)
        .with_context(|| format!("case {}", case.name))?;
    let answer = match load_and_decide(case, &fixtures).await {
        Ok(checked) => answer(checked),
        Err(error) => {
            Answer { action: "ERROR", messages: Vec::new(), update: None, error: Some(error) }
        }
    };
    let requests = compare_requests(&case.expect, &fixtures.requests());
    Ok((compare(&case.expect, &answer), requests))
}

async fn load_and_decide(case: &Case, fixtures: &Fixtures) -> Result<Checked, String> {
    let files = case
        .files
        .iter()
        .map(|(path, text)| (path.clone(), text.clone().into_bytes().into()))
        .collect();
    let policy = Policy::load(&case.name, PolicyFiles::memory(files), &case.policies)
        .map_err(|error| error.to_string())?;
    let platform = match &case.platform {
        None => Platform::default(),
        Some(text) => Platform::parse(text).map_err(|error| error.to_string())?,
    };
    let env = case.env.as_ref().map_or_else(Env::default, |env| Env {
        args: env.args.clone(),
        labels: env.labels.clone(),
        filename: env.filename.clone(),
        target: env.target.clone(),
        caps_request: env.caps_request,
        ..Env::default()
    });
    let op =
        SourceOp { identifier: case.source.identifier.clone(), attrs: case.source.attrs.clone() };
    let question = Question { op, platform, env };
    // What a case comes to is asked, not how long that takes on a machine with other work to do. What
    // never ends still reaches the limits of memory and depth, or this one.
    let patient = Limits { time: Duration::from_secs(60), ..Limits::default() };
    let policies = [policy.with_limits(patient)];
    decide(&policies, &question, fixtures).await.map_err(|error: CheckError| error.to_string())
}

fn answer(checked: Checked) -> Answer {
    match checked.outcome {
        Outcome::Allowed(_) => {
            Answer { action: "ALLOW", messages: Vec::new(), update: None, error: None }
        }
        Outcome::Denied(denied) => {
            Answer { action: "DENY", messages: denied.messages, update: None, error: None }
        }
        Outcome::Converted(op) => {
            Answer { action: "CONVERT", messages: Vec::new(), update: Some(op), error: None }
        }
    }
}

fn compare(expected: &Expected, got: &Answer) -> Vec<String> {
    let mut differences = Vec::new();
    let actions = match &expected.action {
        Actions::One(action) => std::slice::from_ref(action),
        Actions::Several(actions) => actions,
    };
    if !actions.iter().any(|action| action == got.action) {
        let why = got.error.as_deref().unwrap_or_default();
        differences.push(format!(
            "{} where {} is expected {why}",
            got.action,
            actions.join(" or ")
        ));
        return differences;
    }
    let or_error = actions.iter().any(|action| action == "ERROR");
    if let (Some(messages), "DENY", false) = (&expected.deny_messages, got.action, or_error)
        && messages != &got.messages
    {
        differences.push(format!("messages {:?}, expected {messages:?}", got.messages));
    }
    if let (Some(update), "CONVERT") = (&expected.update, got.action) {
        let got = got
            .update
            .as_ref()
            .map(|op| CaseSource { identifier: op.identifier.clone(), attrs: op.attrs.clone() });
        if got.as_ref() != Some(update) {
            differences.push(format!("update {got:?}, expected {update:?}"));
        }
    }
    differences
}

/// More round trips than expected, or something asked for that is not expected.
fn compare_requests(expected: &Expected, requests: &[MetaRequest]) -> Option<String> {
    let expected = expected.requests.as_ref()?;
    let got: Vec<String> = requests.iter().map(words).collect();
    let allowed: BTreeSet<&str> = expected.iter().flat_map(|request| request.split('+')).collect();
    let extra = got.iter().flat_map(|request| request.split('+')).any(|it| !allowed.contains(it));
    (got.len() > expected.len() || extra)
        .then(|| format!("requests {got:?}, expected {expected:?}"))
}

/// A request in the words of the cases.
fn words(request: &MetaRequest) -> String {
    let mut words = Vec::new();
    if let Some(image) = request.image {
        words.push("image");
        if image.config {
            words.push("config");
        }
        if image.attestations {
            words.push("attestations");
        }
    }
    if let Some(git) = request.git {
        words.push("git");
        if git.objects {
            words.push("objects");
        }
    }
    if let Some(http) = &request.http {
        words.push("http");
        if http.checksum.is_some() {
            words.push("checksum-assist");
        }
    }
    words.join("+")
}
