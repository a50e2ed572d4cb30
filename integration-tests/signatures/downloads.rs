//! Attestations of downloads: in a file of the policy, or kept by GitHub.

use std::collections::BTreeMap;
use std::sync::Arc;

use buildgate::check::{self, Outcome, Question};
use buildgate::gate::ops::{PolicySets, Settings};
use buildgate::input::Env;
use buildgate::policy::{Policy, PolicyFiles};
use buildgate::resolve::{FileFixture, Fixtures};
use buildgate::source::{Platform, SourceOp};
use buildgate::verify::sigstore::{TrustRoot, TrustRoots};
use buildgate::verify::{Github, Trust};
use serde_json::{Value, json};

use super::{COSIGN_SIGN, SLSA, policy};
use crate::forge::{Forge, Rekor, Who, about, digest, key};
use crate::gate_enforce::Gate;
use crate::peers::{self, HttpServer, Request, Response, need};

/// A download, its attestation in the policy's files, and what GitHub answers.
struct Download {
    trust: Arc<Trust>,
    files: BTreeMap<String, bytes::Bytes>,
    fixtures: Fixtures,
}

const ARTIFACT: &[u8] = b"a tarball";

impl Download {
    fn new(forge: &Forge, bundle: &str, github: &[(String, Option<Vec<u8>>)]) -> Self {
        Self::trusting(forge, None, bundle, github)
    }

    /// The same with another Sigstore in place of GitHub's own.
    fn trusting(
        forge: &Forge,
        private: Option<&Forge>,
        bundle: &str,
        github: &[(String, Option<Vec<u8>>)],
    ) -> Self {
        let mut roots = TrustRoots::embedded().unwrap();
        for (name, forge) in [("sigstore", Some(forge)), ("github", private)] {
            if let Some(forge) = forge {
                let root = forge.trusted_root().to_string();
                roots.insert(TrustRoot::parse(name, root.as_bytes()).unwrap()).unwrap();
            }
        }
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
    let jane = Who::person("jane@example.com");
    let built_from = |repository: &str| {
        let uri = format!("https://github.com/{repository}");
        let extensions = [jane.extensions.clone(), vec![(12, uri)]].concat();
        Who { extensions, ..jane.clone() }
    };
    let leaf = forge.leaf(&built_from("Org/app"), 100);
    let bundle = |predicate: &str, artifact: &[u8]| {
        forge.attest(&leaf, &about(predicate, &digest(artifact)), Rekor::V1)
    };
    let signer = ".signer.subjectAlternativeName == \"jane@example.com\"";
    let of_file = format!("artifact_attestation(input.http, \"app.sigstore.json\"){signer}");
    let right = bundle(SLSA, ARTIFACT);
    let stranger = Forge::new(53);
    let statement = about(SLSA, &digest(ARTIFACT));
    let late = forge.leaf(&Who { begins: 120, ..jane.clone() }, 103);
    let tampered = |from: &str, to: &str| {
        let text = right.to_string();
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    };
    for (what, bundle, allowed, words) in [
        ("right", right.to_string(), true, ""),
        ("by Rekor v2", forge.attest(&leaf, &statement, Rekor::V2).to_string(), true, ""),
        (
            "a stranger's",
            stranger.attest(&stranger.leaf(&jane, 100), &statement, Rekor::V1).to_string(),
            false,
            "does not vouch for it",
        ),
        (
            "an expired certificate",
            forge.attest(&late, &statement, Rekor::V1).to_string(),
            false,
            "certificate is not accepted",
        ),
        (
            "a key's",
            forge.attest_by_key(&key(9), &statement, Some(Rekor::V1)).to_string(),
            false,
            "it was made with a key",
        ),
        ("a tampered signature", tampered("\"sig\":\"ME", "\"sig\":\"MA"), false, "is not valid"),
        (
            "another log entry",
            tampered("\"logIndex\":\"0\"", "\"logIndex\":\"1\""),
            false,
            "is not valid",
        ),
        ("truncated", right.to_string()[..500].to_owned(), false, "cannot be read"),
        ("empty", String::new(), false, "it is empty"),
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
    let mut large = Download::new(&forge, &right.to_string(), &[]);
    let padded = format!("{right}{}", " ".repeat(8 << 20));
    large.files.insert("app.sigstore.json".to_owned(), padded.into());
    assert!(large.judged(&of_file).await.is_err(), "a file that is not read whole");
    let mut ended = forge.trusted_root();
    ended["certificateAuthorities"][0]["validFor"]["end"] = "2025-06-01T12:00:00Z".into();
    let mut roots = TrustRoots::embedded().unwrap();
    let ended = TrustRoot::parse("sigstore", ended.to_string().as_bytes()).unwrap();
    roots.insert(ended).unwrap();
    let expired = Download { trust: Arc::new(Trust::new(roots)), ..download };
    let error = expired.judged(&of_file).await.unwrap_err();
    assert!(error.contains("expired at 2025-06-01"), "{error}");
    let download = Download::new(&forge, &right.to_string(), &[]);
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
    let by = |repository: &str| {
        let leaf = forge.leaf(&built_from(repository), 101);
        forge.attest(&leaf, &about(SLSA, &digest(ARTIFACT)), Rekor::V1)
    };
    // So many that do not hold, and one that does.
    let many = |wrong_ones: usize| {
        let mut bundles = vec![json!({"bundle": wrong}); wrong_ones];
        bundles.push(json!({"bundle": right}));
        list(json!(bundles))
    };
    let by_jane = forge.attest(&forge.leaf(&jane, 102), &about(SLSA, &digest(ARTIFACT)), Rekor::V1);
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
        (
            "by another repository",
            vec![(api.clone(), list(json!([{"bundle": by("org/other")}])))],
            false,
            "it was built from \"https://github.com/org/other\", not from \"https://github.com/org/app\"",
        ),
        (
            "by a repository of a longer name",
            vec![(api.clone(), list(json!([{"bundle": by("org/app2")}])))],
            false,
            "it was built from",
        ),
        (
            "by nobody's repository",
            vec![(api.clone(), list(json!([{"bundle": by_jane}])))],
            false,
            "it was built from \"\"",
        ),
        (
            "by another, and by the right one",
            vec![(api.clone(), list(json!([{"bundle": by("org/other")}, {"bundle": right}])))],
            true,
            "",
        ),
        ("32, the good one last", vec![(api.clone(), many(31))], true, ""),
        ("none", vec![(api.clone(), list(json!([])))], false, "there are none"),
        ("not found", vec![(api.clone(), None)], false, "has no attestation of"),
    ] {
        let download = Download::new(&forge, "", &answers);
        let (came, notes) = download.judged(&by_github).await.unwrap();
        assert_eq!(came, allowed, "{what}: {notes}");
        assert!(notes.contains(words), "{what}: {notes}");
    }
    // What is there and cannot be looked at is no answer.
    let good = json!({"bundle": right});
    for (what, answers, words) in [
        ("33, the good one last", vec![(api.clone(), many(32))], "more than 32"),
        ("no bundle", vec![(api.clone(), list(json!([{}, good])))], "holds no bundle"),
        (
            "a URL without TLS",
            vec![(api.clone(), kept("http://storage.example.com/bundle.json"))],
            "holds no bundle",
        ),
        (
            "a bundle that is gone",
            vec![(api.clone(), kept(&stored)), (stored.clone(), None)],
            "is not where it is said to be",
        ),
        (
            "another answer",
            vec![(api.clone(), text(json!({"message": "rate limited"})))],
            "missing field `attestations`",
        ),
        ("null", vec![(api.clone(), text(json!({"attestations": null})))], "cannot be read"),
    ] {
        let download = Download::new(&forge, "", &answers);
        let error = download.judged(&by_github).await.unwrap_err();
        assert!(error.contains(words), "{what}: {error}");
    }
    // A private repository's attestations are vouched for by GitHub's own instance.
    let private = Forge::new(51);
    let answers = |repository: &str| {
        let leaf = private.leaf(&built_from(repository), 100);
        let statement = about(SLSA, &digest(ARTIFACT));
        let bundle = private.attest(&leaf, &statement, Rekor::V2);
        [(api.clone(), list(json!([{"bundle": bundle}])))]
    };
    for (repository, github, allowed, words) in [
        ("org/app", Some(&private), true, ""),
        ("org/other", Some(&private), false, "it was built from"),
        ("org/app", None, false, "trust root sigstore"),
    ] {
        let download = Download::trusting(&forge, github, "", &answers(repository));
        let (came, notes) = download.judged(&by_github).await.unwrap();
        assert_eq!(came, allowed, "{repository}: {notes}");
        assert!(notes.contains(words), "{repository}: {notes}");
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

/// What GitHub would answer about a file, and what becomes of the build.
struct Asked {
    what: &'static str,
    answer: Response,
    wanted: Result<&'static str, &'static str>,
}

#[test]
fn the_gate_s_daemon_asks_github() {
    let world = need!(peers::world());
    let forge = Forge::new(52);
    let built_from = |repository: &str| {
        let uri = format!("https://github.com/{repository}");
        let jane = Who::person("jane@example.com");
        let extensions = [jane.extensions.clone(), vec![(12, uri)]].concat();
        Who { extensions, ..jane }
    };
    let kept = |repository: &str, about_digest: &str| {
        let leaf = forge.leaf(&built_from(repository), 100);
        let bundle = forge.attest(&leaf, &about(SLSA, about_digest), Rekor::V1);
        Response::ok(json!({"attestations": [{"bundle": bundle}]}).to_string())
    };
    // Each file is named, and holds the name of its case.
    let file = |what: &str| digest(what);
    let cases = [
        Asked { what: "right", answer: kept("org/app", &file("right")), wanted: Ok("") },
        Asked {
            what: "another-file",
            answer: kept("org/app", &file("right")),
            wanted: Err("about something else"),
        },
        Asked {
            what: "another-repository",
            answer: kept("org/other", &file("another-repository")),
            wanted: Err("it was built from \"https://github.com/org/other\""),
        },
        Asked {
            what: "none",
            answer: Response::ok("{\"attestations\": []}"),
            wanted: Err("there are none"),
        },
        Asked {
            what: "no-list",
            answer: Response::ok("{\"message\": \"rate limited\"}"),
            wanted: Err("could not verify by GitHub's attestations"),
        },
        Asked { what: "failing", answer: Response::status(500), wanted: Err("500") },
    ];
    let answers: BTreeMap<String, Response> = cases
        .iter()
        .flat_map(|it| {
            let api = format!("/repos/org/app/attestations/{}", file(it.what));
            [(format!("/{}", it.what), Response::ok(it.what)), (api, it.answer.clone())]
        })
        .collect();
    let server = HttpServer::start(move |request| {
        let answer = answers.get(&request.path.replace("%3A", ":")).cloned();
        let answer = answer.unwrap_or_else(|| Response::status(404));
        // Each is asked anew.
        answer.with("ETag", &format!("\"{}\"", digest(request.path.as_bytes())))
    });
    let rule = "github_attestation(input.http, \"org/app\").signer.issuer == \
                \"https://accounts.example.com\"";
    let dir = peers::folder(&[]);
    std::fs::create_dir(dir.path().join("policy")).unwrap();
    std::fs::write(dir.path().join("policy/p.rego"), policy(rule)).unwrap();
    let root = dir.path().join("root.json");
    std::fs::write(&root, forge.trusted_root().to_string()).unwrap();
    let named = [("default".to_owned(), vec![dir.path().join("policy")])];
    let github = Github { api: server.url(""), web: "https://github.com".to_owned() };
    let sets = PolicySets::asking(named, vec![("sigstore".to_owned(), root)], github).unwrap();
    let gate = Gate::judging(world, dir, &sets, Settings::default(), None);
    for Asked { what, wanted, .. } in &cases {
        let dockerfile = format!("FROM scratch\nADD {} /app\n", server.url(&format!("/{what}")));
        let context = peers::folder(&[("Dockerfile", &dockerfile)]);
        let (passed, said) = gate.build(context.path(), &[]);
        let (Ok(words) | Err(words)) = wanted;
        assert_eq!(passed, wanted.is_ok(), "{what}: {said}");
        assert!(said.contains(words), "{what}: {words:?} is not in: {said}");
    }
    let of_api = |it: &&Request| it.path.starts_with("/repos/");
    let asked = server.asked();
    let api: Vec<&Request> = asked.iter().filter(of_api).collect();
    assert!(api.len() >= cases.len(), "{api:?}");
    let accepts = |it: &&Request| it.headers["accept"] == "application/vnd.github+json";
    assert!(api.iter().all(accepts), "{api:?}");
}
