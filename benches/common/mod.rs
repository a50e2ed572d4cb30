//! Cases to measure: one source each, what can be resolved of it, and the policy that decides it.
//!
//! A file of cases is one of the conformance suite, or says `"folder": DIR` (below the crate) for
//! the policy of that folder in place of `policies` and `files`.

// Each benchmark uses a part of this.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::path::Path;
use std::pin::pin;
use std::task::{Context as Wakes, Poll, Waker};

use anyhow::{Context, bail};
use buildgate::check::{CheckError, Checked, Outcome, Question};
use buildgate::input::Env;
use buildgate::policy::{Policy, PolicyFiles};
use buildgate::resolve::Fixtures;
use buildgate::source::{Platform, SourceOp};
use serde::Deserialize;
use serde_json::Value;

/// The crate's own cases.
pub const OWN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/cases.json");

/// One case.
pub struct Case {
    pub name: String,
    /// What is asked.
    pub question: Question,
    /// The case as the conformance suite has it.
    pub json: Value,
    policies: Vec<String>,
    files: PolicyFiles,
    fixtures: Fixtures,
}

#[derive(Deserialize)]
struct Written {
    name: String,
    policies: Vec<String>,
    files: BTreeMap<String, String>,
    #[serde(default)]
    env: WrittenEnv,
    platform: Option<String>,
    source: WrittenSource,
    #[serde(default)]
    metadata: Value,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct WrittenEnv {
    args: BTreeMap<String, Option<String>>,
    labels: BTreeMap<String, String>,
    filename: String,
    target: String,
    caps_request: bool,
}

#[derive(Deserialize)]
struct WrittenSource {
    identifier: String,
    #[serde(default)]
    attrs: BTreeMap<String, String>,
}

/// Reads the cases of a file.
pub fn read(path: &Path) -> anyhow::Result<Vec<Case>> {
    let text =
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let cases: Vec<Value> = serde_json::from_str(&text)
        .with_context(|| format!("{} is no list of cases", path.display()))?;
    cases.into_iter().map(Case::new).collect()
}

impl Case {
    fn new(mut json: Value) -> anyhow::Result<Self> {
        if let Some(case) = json.as_object_mut()
            && let Some(folder) = case.remove("folder")
        {
            let folder = folder.as_str().context("`folder` is no text")?;
            let files = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))?;
            let policies: Vec<&String> =
                files.keys().filter(|name| name.ends_with(".rego")).collect();
            case.insert("policies".to_owned(), serde_json::to_value(policies)?);
            case.insert("files".to_owned(), serde_json::to_value(files)?);
        }
        let written = Written::deserialize(&json)?;
        let files = written.files.into_iter().map(|(path, text)| (path, text.into())).collect();
        let platform = written.platform.as_deref().map(Platform::parse).transpose()?;
        let WrittenEnv { args, labels, filename, target, caps_request } = written.env;
        let WrittenSource { identifier, attrs } = written.source;
        Ok(Self {
            fixtures: Fixtures::from_case_metadata(&written.metadata)
                .with_context(|| written.name.clone())?,
            name: written.name,
            question: Question {
                op: SourceOp { identifier, attrs },
                platform: platform.unwrap_or_default(),
                env: Env { args, labels, filename, target, caps_request, ..Env::default() },
            },
            json,
            policies: written.policies,
            files: PolicyFiles::memory(files),
        })
    }

    /// Its policy, read and compiled.
    pub fn policy(&self) -> anyhow::Result<Policy> {
        Ok(Policy::load(&self.name, self.files.clone(), &self.policies)?)
    }

    /// What can be resolved of its source; nothing was asked for yet.
    pub fn fixtures(&self) -> Fixtures {
        let mut fixtures = Fixtures::default();
        fixtures.image.clone_from(&self.fixtures.image);
        fixtures.git.clone_from(&self.fixtures.git);
        fixtures.http.clone_from(&self.fixtures.http);
        fixtures
    }

    /// Decides it, all rounds.
    pub fn decide(&self, policies: &[Policy], fixtures: &Fixtures) -> Result<Checked, CheckError> {
        // Fixtures answer at once: a decision that waits is asked again until it does not.
        let mut decision = pin!(buildgate::check::decide(policies, &self.question, fixtures));
        let mut wakes = Wakes::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(checked) = decision.as_mut().poll(&mut wakes) {
                return checked;
            }
        }
    }

    /// What the reference engine answers, where the case says: one action, or several.
    pub fn expects(&self, action: &str) -> bool {
        match self.json.pointer("/expect/action") {
            Some(Value::String(expected)) => expected == action,
            Some(Value::Array(expected)) => expected.iter().any(|expected| expected == action),
            _ => true,
        }
    }
}

/// The word for an answer.
pub fn action(checked: &Result<Checked, CheckError>) -> &'static str {
    match checked.as_ref().map(|checked| &checked.outcome) {
        Ok(Outcome::Allowed(_)) => "ALLOW",
        Ok(Outcome::Denied(_)) => "DENY",
        Ok(Outcome::Converted(_)) => "CONVERT",
        Err(_) => "ERROR",
    }
}

/// The files of a policy's folder and of the folders in it, by path.
fn files(folder: &Path) -> anyhow::Result<BTreeMap<String, String>> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(at) = open.pop() {
        for entry in
            std::fs::read_dir(&at).with_context(|| format!("cannot read {}", at.display()))?
        {
            let path = entry?.path();
            if path.is_dir() {
                open.push(path);
                continue;
            }
            let name = path.strip_prefix(folder)?.to_string_lossy().into_owned();
            if !name.ends_with("_test.rego") {
                files.insert(name, std::fs::read_to_string(&path)?);
            }
        }
    }
    if files.is_empty() {
        bail!("{} is empty", folder.display());
    }
    Ok(files)
}
