//! What never bends, decided through the loop: who must allow, what settles a question, and what
//! is refused because nobody said otherwise.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::meta::{GitMeta, HttpMeta, ImageMeta, Resolving, SourceMeta};
use crate::policy::PolicyFiles;

const DIGEST: &str = "sha256:1111111111111111111111111111111111111111111111111111111111111111";
const OTHER: &str = "sha256:2222222222222222222222222222222222222222222222222222222222222222";

const ALLOW: &str = "allow := true";
const DENY: &str = "allow := false\ndeny_msg contains \"no\"";
const LABEL: &str = "default allow := false\nallow if input.image.labels.team == \"core\"";
const PROVENANCE: &str = "default allow := false\nallow if input.image.provenance";
const PINNED: &str = "default allow := false\nallow if input.image.checksum == \"sha256:1111111111111111111111111111111111111111111111111111111111111111\"";

/// Answers with an image whose config has one label, or with nothing at all.
struct Registry {
    answers: bool,
    asked: AtomicUsize,
}

impl Registry {
    fn new(answers: bool) -> Self {
        Self { answers, asked: AtomicUsize::new(0) }
    }
}

impl ResolveSourceMeta for Registry {
    fn resolve<'a>(&'a self, request: &'a MetaRequest) -> Resolving<'a> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let config = br#"{"config":{"Labels":{"team":"core"}}}"#;
        let image = self.answers.then(|| ImageMeta {
            digest: Some(DIGEST.to_owned()),
            config: request
                .image
                .is_some_and(|asked| asked.config)
                .then(|| bytes::Bytes::from_static(config)),
            attestations: None,
        });
        Box::pin(async { Ok(SourceMeta { image, ..SourceMeta::default() }) })
    }
}

fn policy(name: &str, rules: &str) -> Policy {
    // Without a rule that adds to it, there is no set of messages.
    let none = if rules.contains("deny_msg") { "" } else { "deny_msg := set()" };
    let text = format!(
        "package docker\n{rules}\n{none}\n\
         decision := {{\"allow\": allow, \"deny_msg\": deny_msg}}\n"
    );
    let files = BTreeMap::from([("p.rego".to_owned(), bytes::Bytes::from(text))]);
    Policy::load(name, PolicyFiles::memory(files), &["p.rego".to_owned()]).unwrap()
}

fn image(reference: &str) -> Question {
    Question {
        op: SourceOp {
            identifier: format!("docker-image://docker.io/library/{reference}"),
            attrs: BTreeMap::new(),
        },
        platform: Platform::parse("linux/amd64").unwrap(),
        env: Env::default(),
    }
}

/// Checks an image by policies; the answer in one line, and how often the registry was asked.
async fn answer(rules: &[&str], answers: bool) -> String {
    let policies: Vec<Policy> =
        rules.iter().enumerate().map(|(at, rules)| policy(&format!("p{at}"), rules)).collect();
    let registry = Registry::new(answers);
    let line = match super::check(&policies, &image("alpine:3.20"), &registry).await {
        Err(error) => format!("error: {error}"),
        Ok(Checked { outcome: Outcome::Denied(denied), .. }) => {
            format!("{} denies {}", denied.policy, denied.messages.join(" | "))
                .trim_end()
                .to_owned()
        }
        Ok(Checked { outcome: Outcome::Allowed(allowed), op, .. }) => match allowed.pin {
            Some(Pin::Image(digest)) => format!("allow {} pinned to {digest}", op.identifier),
            _ => format!("allow {}", op.identifier),
        },
        Ok(Checked { outcome: Outcome::Converted(op), .. }) => {
            format!("converted to {}", op.identifier)
        }
    };
    format!("{line}, asked {}", registry.asked.load(Ordering::SeqCst))
}

#[tokio::test]
async fn every_policy_must_allow_and_the_rest_is_refused() {
    let alpine = "docker-image://docker.io/library/alpine:3.20";
    let cases: [(&[&str], bool, String); 11] = [
        (
            &[],
            true,
            "error: there is no policy, so nothing is allowed; name one with --policy, asked 0"
                .into(),
        ),
        (&[ALLOW], true, format!("allow {alpine}, asked 0")),
        (&[ALLOW, ALLOW], true, format!("allow {alpine}, asked 0")),
        (&[ALLOW, DENY], true, "p1 denies no, asked 0".into()),
        (&[DENY, ALLOW], true, "p0 denies no, asked 0".into()),
        // A denial settles it, whatever the others would still have to know.
        (&[LABEL, DENY], true, "p1 denies no, asked 0".into()),
        (&[LABEL], true, format!("allow {alpine} pinned to {DIGEST}, asked 1")),
        (&[LABEL, LABEL, PINNED], true, format!("allow {alpine} pinned to {DIGEST}, asked 1")),
        (
            &[LABEL],
            false,
            format!(
                "error: metadata of {alpine} was asked for and not returned: it could not be \
                 verified, asked 1"
            ),
        ),
        // The config answers nothing about attestations.
        (
            &[PROVENANCE],
            true,
            format!(
                "error: metadata of {alpine} was asked for and not returned: it could not be \
                 verified, asked 1"
            ),
        ),
        (&["allow := true if false"], true, "error: p0: data.docker.decision is undefined; a policy says `decision := {\"allow\": allow, \"deny_msg\": deny_msg}` in package docker, asked 0".into()),
    ];
    for (rules, answers, expected) in cases {
        assert_eq!(answer(rules, answers).await, expected, "{rules:?}");
    }
}

#[tokio::test]
async fn what_is_converted_is_judged_again() {
    let pin = format!("default allow := false\nallow if pin_image(input.image, \"{DIGEST}\")");
    let pinned = format!("docker-image://docker.io/library/alpine:3.20@{DIGEST}");
    assert_eq!(answer(&[&pin], true).await, format!("allow {pinned}, asked 0"));
    // Allowed by tag, and refused once it has a digest.
    let only_tags = "default allow := false\nallow if not input.image.isCanonical";
    assert_eq!(answer(&[&pin, only_tags], true).await, "p1 denies, asked 0");
    let other = pin.replace(DIGEST, OTHER);
    assert_eq!(
        answer(&[&pin, &other], true).await,
        "error: the policies pin the source to different digests, or it is no image, asked 0"
    );
}

#[test]
fn content_that_was_looked_at_is_pinned_or_an_error() {
    let image = |digest: Option<&str>| SourceMeta {
        image: Some(ImageMeta { digest: digest.map(str::to_owned), ..ImageMeta::default() }),
        ..SourceMeta::default()
    };
    let git = |checksum: &str| SourceMeta {
        git: Some(GitMeta { checksum: checksum.to_owned(), ..GitMeta::default() }),
        ..SourceMeta::default()
    };
    let http = |checksum: &str| SourceMeta {
        http: Some(HttpMeta { checksum: checksum.to_owned(), ..HttpMeta::default() }),
        ..SourceMeta::default()
    };
    let alpine = "docker-image://docker.io/library/alpine:3";
    let named = format!("{alpine}@{OTHER}");
    let (repository, url) = ("git://h.example/a.git#main", "https://h.example/f");
    let commit = "c".repeat(40);
    let none = SourceMeta::default();
    let pin = |digest: &str| Ok(Some(Pin::Image(digest.parse().unwrap())));
    for (identifier, known, wanted) in [
        (alpine, none.clone(), Ok(None)),
        (repository, none.clone(), Ok(None)),
        (url, none, Ok(None)),
        (alpine, image(Some(DIGEST)), pin(DIGEST)),
        (alpine, image(None), Err("no digest came with it")),
        (alpine, image(Some("")), Err("has no algorithm")),
        (alpine, image(Some("sha256:1")), Err("takes 64 lower-case")),
        (alpine, image(Some("md5:11")), Err("is unknown")),
        (&named, image(None), Ok(None)),
        (repository, git(&commit), Ok(Some(Pin::Git(commit.clone())))),
        (repository, git(""), Err("not the name of a git object")),
        (repository, git("ccccccc"), Err("not the name of a git object")),
        (url, http(DIGEST), Ok(Some(Pin::Http(DIGEST.to_owned())))),
        (url, http(""), Err("has no algorithm")),
        (url, http("sha256:1"), Err("takes 64 lower-case")),
    ] {
        let source = Source::parse(&SourceOp::new(identifier)).unwrap();
        let known = Known { root: known, ..Known::default() };
        match (Pin::of(&source, &known), wanted) {
            (Ok(got), Ok(wanted)) => assert_eq!(got, wanted, "{identifier}"),
            (Err(error), Err(why)) => {
                let said = error.to_string();
                assert!(said.contains("cannot be pinned") && said.contains(why), "{said}");
            }
            (got, wanted) => panic!("{identifier}: {got:?} is not {wanted:?}"),
        }
    }
}

#[test]
fn what_a_policy_asks_of_the_build_is_known_or_an_error() {
    let judged = "allow if input.image.host == \"h\"\ndecision := {\"allow\": allow}";
    let proxy = |when: &str| {
        format!(
            "default allow := false\n\
             decision := {{\"allow\": allow, \"caps\": {{\"exec.proxy\": {when}}}}}"
        )
    };
    let asked = "input.env.capsRequest == true";
    let both = format!("default p := false\np if {asked}\n{}", proxy("p"));
    for (rules, wanted) in [
        (&["default allow := false\ndecision := {\"allow\": allow}"][..], Ok(None)),
        // Nothing is decided of a build that has no source.
        (&[judged], Ok(None)),
        (&[judged, &proxy("true")], Ok(Some(true))),
        (&[&proxy("false")], Ok(None)),
        (&[&both], Ok(Some(true))),
        (&["decision := 1"], Err("must be an object")),
        (
            &["allow := true\nallow := false\ndecision := {\"allow\": allow}"],
            Err("more than one value"),
        ),
        (&[&proxy("\"yes\""), judged], Err("exec.proxy")),
    ] {
        let policies: Vec<Policy> = rules
            .iter()
            .map(|rules| {
                let text = bytes::Bytes::from(format!("package docker\n{rules}\n"));
                let files = PolicyFiles::memory([("p.rego".to_owned(), text)].into());
                Policy::load("p", files, &["p.rego".to_owned()]).unwrap()
            })
            .collect();
        match (caps(&policies, &Env::default()), wanted) {
            (Ok(caps), Ok(wanted)) => assert_eq!(caps.exec_proxy, wanted, "{rules:?}"),
            (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
            (got, wanted) => panic!("{rules:?}: {got:?} is not {wanted:?}"),
        }
    }
}
