//! Attestations of downloads: in a file of the policy, or kept by GitHub.

use std::collections::BTreeMap;
use std::sync::Arc;

use buildgate::check::{self, Outcome, Question};
use buildgate::input::Env;
use buildgate::policy::{Policy, PolicyFiles};
use buildgate::resolve::{FileFixture, Fixtures};
use buildgate::source::{Platform, SourceOp};
use buildgate::verify::sigstore::{TrustRoot, TrustRoots};
use buildgate::verify::{Github, Trust};
use p384::ecdsa::signature::Signer as _;
use serde_json::{Value, json};

use super::{COSIGN_SIGN, SLSA, policy};
use crate::forge::{Certified, Forge, PublicKey, Rekor, Who, about, b64, digest, key, sign};

/// A download, its attestation in the policy's files, and what GitHub answers.
struct Download {
    trust: Arc<Trust>,
    files: BTreeMap<String, bytes::Bytes>,
    fixtures: Fixtures,
}

const ARTIFACT: &[u8] = b"a tarball";
/// Who vouches for the workflows of github.com.
const HUB: &str = "https://token.actions.githubusercontent.com";

/// A workflow of a repository, as an issuer has it.
pub(super) fn workflow(web: &str, issuer: &str, repository: &str) -> Who {
    let uri = format!("{web}/{repository}");
    let extensions = vec![(8, issuer.to_owned()), (12, uri)];
    Who { extensions, ..Who::person("jane@example.com") }
}

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
    let built_from = |repository: &str| workflow("https://github.com", HUB, repository);
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
    // What is signed is changed, and the signature is not.
    let other_payload = {
        let mut bundle = right.clone();
        let text = String::from_utf8(statement.clone()).unwrap().replace("ours", "evil");
        bundle["dsseEnvelope"]["payload"] = b64(text).into();
        bundle.to_string()
    };
    let curve = p384::ecdsa::SigningKey::from_slice(&[7; 48]).unwrap();
    let bits = curve.verifying_key().to_encoded_point(false);
    let bits = PublicKey { algorithm: &rcgen::PKCS_ECDSA_P384_SHA384, bits: bits.as_bytes() };
    let certificate = forge.certified(&built_from("org/app"), &bits);
    let by_curve = |data: &[u8]| {
        let signature: p384::ecdsa::Signature = curve.sign(data);
        signature.to_der().as_bytes().to_vec()
    };
    let by_other_curve = |data: &[u8]| sign(&key(9), data);
    let certified = |sign| {
        let by = Certified { certificate: &certificate, sign };
        forge.attest_as(&by, &statement, Rekor::V1).to_string()
    };
    for (what, bundle, allowed, words) in [
        ("right", right.to_string(), true, ""),
        ("a tampered payload", other_payload.clone(), false, "is not valid"),
        ("by P-384", certified(&by_curve), true, ""),
        ("by another curve than the certificate's", certified(&by_other_curve), false, "not valid"),
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
    // Who is no longer trusted is taken out of the root: that is revocation here.
    let mut withdrawn = forge.trusted_root();
    withdrawn["tlogs"][0]["publicKey"]["validFor"]["end"] = "2025-01-01T00:00:00Z".into();
    let withdrawn_trust = || {
        let mut roots = TrustRoots::embedded().unwrap();
        let root = TrustRoot::parse("sigstore", withdrawn.to_string().as_bytes()).unwrap();
        roots.insert(root).unwrap();
        Arc::new(Trust::new(roots))
    };
    let revoked =
        Download { trust: withdrawn_trust(), ..Download::new(&forge, &right.to_string(), &[]) };
    let (came, notes) = revoked.judged(&of_file).await.unwrap();
    assert!(!came && notes.contains("does not vouch for it"), "revoked: {notes}");
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
    let by_issuer = |issuer: &str| {
        let leaf = forge.leaf(&workflow("https://github.com", issuer, "org/app"), 104);
        forge.attest(&leaf, &about(SLSA, &digest(ARTIFACT)), Rekor::V1)
    };
    let by_stranger =
        stranger.attest(&stranger.leaf(&built_from("org/app"), 100), &statement, Rekor::V1);
    let inline = |bundle: &str| {
        let bundle: Value = serde_json::from_str(bundle).unwrap();
        list(json!([{"bundle": bundle}]))
    };
    let nobody = workflow("https://github.com", HUB, "");
    let nobody = Who { extensions: nobody.extensions[..1].to_vec(), ..nobody };
    let by_jane =
        forge.attest(&forge.leaf(&nobody, 102), &about(SLSA, &digest(ARTIFACT)), Rekor::V1);
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
        (
            "whose repository another issuer names",
            vec![(
                api.clone(),
                list(json!([{"bundle": by_issuer("https://accounts.example.com")}])),
            )],
            false,
            "\"https://accounts.example.com\" vouched for who signed it, not \"https://token.actions.",
        ),
        (
            "whose repository an issuer of a longer name names",
            vec![(api.clone(), list(json!([{"bundle": by_issuer(&format!("{HUB}.example"))}])))],
            false,
            "vouched for who signed it",
        ),
        (
            "whose repository an enterprise's issuer names",
            vec![(api.clone(), list(json!([{"bundle": by_issuer(&format!("{HUB}/corp"))}])))],
            false,
            "vouched for who signed it",
        ),
        (
            "a stranger's",
            vec![(api.clone(), list(json!([{"bundle": by_stranger}])))],
            false,
            "does not vouch for it",
        ),
        (
            "tampered",
            vec![(api.clone(), inline(&other_payload))],
            false,
            "its signature is not valid",
        ),
        (
            "a tampered signature",
            vec![(api.clone(), inline(&tampered("\"sig\":\"ME", "\"sig\":\"MA")))],
            false,
            "its signature is not valid",
        ),
        ("by P-384", vec![(api.clone(), inline(&certified(&by_curve)))], true, ""),
        (
            "by another curve than the certificate's",
            vec![(api.clone(), inline(&certified(&by_other_curve)))],
            false,
            "its signature is not valid",
        ),
        (
            "no provenance",
            vec![(api.clone(), list(json!([{"bundle": bundle(COSIGN_SIGN, ARTIFACT)}])))],
            false,
            "its predicate type is",
        ),
        (
            "an expired certificate",
            vec![(
                api.clone(),
                list(json!([{"bundle": forge.attest(&late, &statement, Rekor::V1)}])),
            )],
            false,
            "certificate is not accepted",
        ),
        (
            "a key's",
            vec![(
                api.clone(),
                list(
                    json!([{"bundle": forge.attest_by_key(&key(9), &statement, Some(Rekor::V1))}]),
                ),
            )],
            false,
            "it was made with a key",
        ),
        (
            "truncated",
            vec![
                (api.clone(), kept(&stored)),
                (stored.clone(), Some(right.to_string()[..500].into())),
            ],
            false,
            "it cannot be read",
        ),
        (
            "empty",
            vec![(api.clone(), kept(&stored)), (stored.clone(), Some(Vec::new()))],
            false,
            "it is empty",
        ),
        ("32, the good one last", vec![(api.clone(), many(31))], true, ""),
        ("none", vec![(api.clone(), list(json!([])))], false, "there are none"),
    ] {
        let download = Download::new(&forge, "", &answers);
        let (came, notes) = download.judged(&by_github).await.unwrap();
        assert_eq!(came, allowed, "{what}: {notes}");
        assert!(notes.contains(words), "{what}: {notes}");
    }
    // What is there and cannot be looked at is no answer.
    let good = json!({"bundle": right});
    for (what, answers, words) in [
        // Private repositories are not found by strangers either.
        (
            "not found",
            vec![(api.clone(), None)],
            "nothing (404), which it says of what it may not show",
        ),
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
        for rule in [&by_github, &format!("not {by_github}")] {
            let error = download.judged(rule).await.unwrap_err();
            assert!(error.contains(words), "{what}, {rule}: {error}");
        }
    }
    let huge = format!("{right}{}", " ".repeat(33 << 20));
    let answers = [(api.clone(), kept(&stored)), (stored.clone(), Some(huge.into_bytes()))];
    let error = Download::new(&forge, "", &answers).judged(&by_github).await.unwrap_err();
    assert!(error.contains("too many to be read"), "huge: {error}");
    // What is negated says nothing of what cannot be told, and something of what is revoked.
    let one = [(api.clone(), list(json!([{"bundle": right}])))];
    let negated = format!("not {by_github}");
    let expired = Download { trust: expired.trust, ..Download::new(&forge, "", &one) };
    for rule in [&by_github, &negated] {
        let error = expired.judged(rule).await.unwrap_err();
        assert!(error.contains("expired at 2025-06-01"), "{rule}: {error}");
    }
    let revoked = Download { trust: withdrawn_trust(), ..Download::new(&forge, "", &one) };
    let (came, notes) = revoked.judged(&by_github).await.unwrap();
    assert!(!came && notes.contains("does not vouch for it"), "revoked: {notes}");
    // An enterprise's GitHub: its own names count, and those of github.com do not.
    let corp = Github::at("https://git.corp.example/api/v3").unwrap();
    let asked = api.replace("https://api.github.com", &corp.api);
    for (what, web, issuer, allowed, words) in [
        ("its own", corp.web.as_str(), corp.issuer.as_str(), true, ""),
        ("github.com's", "https://github.com", HUB, false, "vouched for who signed it"),
        ("github.com's word", &corp.web, HUB, false, "vouched for who signed it"),
        ("another server's", "https://git.other.example", &corp.issuer, false, "it was built from"),
    ] {
        let leaf = forge.leaf(&workflow(web, issuer, "org/app"), 105);
        let bundle = forge.attest(&leaf, &statement, Rekor::V1);
        let mut roots = TrustRoots::embedded().unwrap();
        let root = forge.trusted_root().to_string();
        roots.insert(TrustRoot::parse("sigstore", root.as_bytes()).unwrap()).unwrap();
        let trust = Arc::new(Trust::new(roots).with_github(corp.clone()));
        let answers = [(asked.clone(), list(json!([{"bundle": bundle}])))];
        let download = Download { trust, ..Download::new(&forge, "", &answers) };
        let (came, notes) = download.judged(&by_github).await.unwrap();
        assert_eq!(came, allowed, "{what}: {notes}");
        assert!(notes.contains(words), "{what}: {notes}");
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
