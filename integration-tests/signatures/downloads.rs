//! Attestations of downloads: in a file of the policy, or kept by GitHub.

use std::collections::BTreeMap;
use std::sync::Arc;

use buildgate::check::{self, Outcome, Question};
use buildgate::input::Env;
use buildgate::policy::{Policy, PolicyFiles};
use buildgate::resolve::{FileFixture, Fixtures};
use buildgate::source::{Platform, SourceOp};
use buildgate::verify::Trust;
use buildgate::verify::sigstore::{TrustRoot, TrustRoots};
use serde_json::{Value, json};

use super::{COSIGN_SIGN, SLSA, policy};
use crate::forge::{Forge, Rekor, Who, about, digest};

/// A download, its attestation in the policy's files, and what GitHub answers.
struct Download {
    trust: Arc<Trust>,
    files: BTreeMap<String, bytes::Bytes>,
    fixtures: Fixtures,
}

const ARTIFACT: &[u8] = b"a tarball";

impl Download {
    fn new(forge: &Forge, bundle: &str, github: &[(String, Option<Vec<u8>>)]) -> Self {
        let mut roots = TrustRoots::embedded().unwrap();
        let root = forge.trusted_root().to_string();
        roots.insert(TrustRoot::parse("sigstore", root.as_bytes()).unwrap()).unwrap();
        let content = ARTIFACT.into();
        let file = FileFixture { content, filename: "app.tar.gz".to_owned() };
        let contents = github
            .iter()
            .map(|(url, answer)| (url.clone(), answer.clone().map(bytes::Bytes::from)))
            .collect();
        let mut fixtures = Fixtures::default();
        fixtures.http = Some(file);
        fixtures.contents = contents;
        let files = BTreeMap::from([("app.sigstore.json".to_owned(), bundle.to_owned().into())]);
        Self { trust: Arc::new(Trust::new(roots)), files, fixtures }
    }

    /// Allowed, denied with the reasons, or the error.
    async fn judged(&self, rule: &str) -> Result<(bool, String), String> {
        let mut files = self.files.clone();
        files.insert("Dockerfile.rego".to_owned(), policy(rule).into());
        let modules = ["Dockerfile.rego".to_owned()];
        let policy = Policy::load("test", PolicyFiles::memory(files), &modules).unwrap();
        let policies = [policy.with_trust(self.trust.clone())];
        let url = "https://github.com/org/app/releases/download/v1/app.tar.gz";
        let op = SourceOp::new(url);
        let question = Question { op, platform: Platform::default(), env: Env::default() };
        let checked = check::check(&policies, &question, &self.fixtures).await;
        let checked = checked.map_err(|error| error.to_string())?;
        Ok((matches!(checked.outcome, Outcome::Allowed(_)), checked.notes.join("; ")))
    }
}

#[tokio::test]
async fn downloads_are_attested_by_a_file_or_by_github() {
    let forge = Forge::new(45);
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let bundle = |predicate: &str, artifact: &[u8]| {
        forge.attest(&leaf, &about(predicate, &digest(artifact)), Rekor::V1)
    };
    let signer = ".signer.subjectAlternativeName == \"jane@example.com\"";
    let of_file = format!("artifact_attestation(input.http, \"app.sigstore.json\"){signer}");
    let right = bundle(SLSA, ARTIFACT);
    for (what, bundle, allowed, words) in [
        ("right", right.to_string(), true, ""),
        ("another file", bundle(SLSA, b"else").to_string(), false, "about something else"),
        ("no provenance", bundle(COSIGN_SIGN, ARTIFACT).to_string(), false, "predicate type"),
        ("garbage", "garbage".to_owned(), false, "cannot be read"),
    ] {
        let download = Download::new(&forge, &bundle, &[]);
        let (came, notes) = download.judged(&of_file).await.unwrap();
        assert_eq!(came, allowed, "{what}: {notes}");
        assert!(notes.contains(words), "{what}: {notes}");
    }
    let download = Download::new(&forge, &right.to_string(), &[]);
    for _ in 0..2 {
        assert!(download.judged(&of_file).await.unwrap().0);
        assert_eq!(download.trust.cache.len(), 1, "one file is verified once");
    }
    let missing = of_file.replace("app.sig", "none.sig");
    assert!(download.judged(&missing).await.unwrap_err().contains("none.sigstore.json"));

    let by_github = format!("github_attestation(input.http, \"org/app\"){signer}");
    let api = format!(
        "https://api.github.com/repos/org/app/attestations/{}\
         ?predicate_type=https%3A%2F%2Fslsa.dev%2Fprovenance%2Fv1",
        digest(ARTIFACT)
    );
    let stored_at = "https://storage.example.com/";
    let stored = format!("{stored_at}bundle.json?secret=1");
    let text = |value: Value| Some(value.to_string().into_bytes());
    let packed = |data: Vec<u8>| snap::raw::Encoder::new().compress_vec(&data).unwrap();
    let list = |attestations: Value| text(json!({"attestations": attestations}));
    let kept = |url: &str| list(json!([{"bundle": null, "bundle_url": url}]));
    let compressed = format!("{stored_at}bundle.json.sn?secret=1");
    let wrong = bundle(SLSA, b"else");
    for (what, answers, allowed, words) in [
        ("inline", vec![(api.clone(), list(json!([{"bundle": right}])))], true, ""),
        (
            "behind another",
            vec![(api.clone(), list(json!([{"bundle": wrong}, {"bundle": right}])))],
            true,
            "",
        ),
        (
            "stored elsewhere",
            vec![
                (api.clone(), list(json!([{"bundle": null, "bundle_url": stored}]))),
                (stored.clone(), text(right.clone())),
            ],
            true,
            "",
        ),
        (
            "compressed",
            vec![
                (api.clone(), kept(&compressed)),
                (compressed.clone(), text(right.clone()).map(packed)),
            ],
            true,
            "",
        ),
        (
            "compressed, of another file",
            vec![
                (api.clone(), kept(&compressed)),
                (compressed.clone(), text(wrong.clone()).map(packed)),
            ],
            false,
            "about something else",
        ),
        (
            "of another file",
            vec![(api.clone(), list(json!([{"bundle": wrong}])))],
            false,
            "about something else",
        ),
        ("none", vec![(api.clone(), list(json!([])))], false, "there are none"),
        ("not found", vec![(api.clone(), None)], false, "has no attestation of"),
    ] {
        let download = Download::new(&forge, "", &answers);
        let (came, notes) = download.judged(&by_github).await.unwrap();
        assert_eq!(came, allowed, "{what}: {notes}");
        assert!(notes.contains(words), "{what}: {notes}");
    }
    let silent = Download::new(&forge, "", &[]);
    assert!(silent.judged(&by_github).await.is_err(), "nobody answers for GitHub");
    let unreadable = Download::new(&forge, "", &[(api.clone(), text(json!("no list")))]);
    assert!(unreadable.judged(&by_github).await.unwrap_err().contains("cannot be read"));
    // A few bytes that say they hold four gigabytes, and some that are no Snappy.
    for broken in [vec![0xff, 0xff, 0xff, 0xff, 0x0f, 0x00], b"garbage".to_vec(), Vec::new()] {
        let answers = [(api.clone(), kept(&compressed)), (compressed.clone(), Some(broken))];
        let refused = Download::new(&forge, "", &answers).judged(&by_github).await;
        assert!(refused.unwrap_err().contains("a bundle cannot be read"));
    }
    let elsewhere = by_github.replace("org/app", "org/app/../../x");
    let (allowed, notes) = silent.judged(&elsewhere).await.unwrap();
    assert!(!allowed && notes.contains("no repository of GitHub"), "{notes}");
}
