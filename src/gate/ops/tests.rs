//! Policies that change under builds, and what is written down about decisions.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::input::{Env, Input};
use crate::meta::{GitRequest, HttpRequest, ImageRequest, MetaRequest};
use crate::policy::Round;
use crate::source::{Platform, SourceOp};
use crate::verify::sigstore::EMBEDDED;

const ALLOW: &str = "package docker\ndecision := {\"allow\": true}\n";
const DENY: &str = "package docker\ndecision := {\"allow\": false, \"deny_msg\": \"no\"}\n";
/// Allows what its data file says.
const DATA: &str = "package docker\ndecision := {\"allow\": load_json(\"data.json\").allow}\n";

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        let path = dir.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

fn sets(dir: &Path, names: &[&str]) -> Result<Arc<PolicySets>, SetsError> {
    PolicySets::load(names.iter().map(|name| ((*name).to_owned(), vec![dir.join(name)])))
}

/// What the one policy of a revision says.
fn allows(revision: &Revision) -> bool {
    let input = Input { env: Env::default(), ..Input::default() };
    match revision.policies[0].judge(&input).unwrap().round {
        Round::Decided(decision) => decision.allow,
        Round::Needs(needs) => panic!("{needs:?}"),
    }
}

#[test]
fn nothing_is_loaded_of_what_is_broken() {
    let dir = tempfile::tempdir().unwrap();
    write(
        dir.path(),
        &[("good/p.rego", ALLOW), ("none/readme", "x"), ("broken/p.rego", "package"), ("e/x", "")],
    );
    std::os::unix::fs::symlink("/nowhere", dir.path().join("e/p.rego")).unwrap();
    let at = dir.path().display();
    let check = |names: &[&str], wanted: &str| {
        let error = sets(dir.path(), names).err().map(|error| error.to_string());
        let error = error.map(|it| it.lines().next().unwrap_or_default().to_owned());
        assert_eq!(error.as_deref(), Some(wanted));
    };
    check(&[], "there is no policy, so nothing is allowed; name one with --policy FILE|DIR");
    check(
        &["gone"],
        &format!(
            "policy set `gone`: policy {at}/gone cannot be read: No such file or directory (os error 2)"
        ),
    );
    check(
        &["good", "none"],
        &format!(
            "policy set `none`: policy {at}/none cannot be loaded: {at}/none: there is no policy \
             file in it (a *.rego that is no *_test.rego)"
        ),
    );
    check(
        &["e"],
        &format!("policy set `e`: policy {at}/e: policy file `p.rego` does not exist in {at}/e"),
    );
    assert!(matches!(sets(dir.path(), &["good", "broken"]), Err(SetsError::Policy { .. })));
    let empty = PolicySets::load([("x".to_owned(), Vec::new())]).err().unwrap().to_string();
    assert_eq!(empty, "policy set `x` names no policy, so nothing would be allowed");
}

#[test]
fn trust_roots_are_read_again_with_the_policies() {
    let dir = tempfile::tempdir().unwrap();
    let [(_, public, _), (_, github, _)] = EMBEDDED;
    write(dir.path(), &[("a/p.rego", ALLOW), ("ours.json", public)]);
    let path = |name: &str| dir.path().join(name);
    let roots = vec![("ours".to_owned(), path("ours.json"))];
    let load = |roots| PolicySets::trusting([("a".to_owned(), vec![path("a")])], roots);
    let sets = load(roots.clone()).unwrap();
    let set = sets.set("a").unwrap();
    let known = |revision: &Revision| {
        *revision.policies[0].trust().root(Some("ours")).unwrap().fingerprint()
    };
    let before = set.current();
    assert_eq!(sets.reload(), Reloaded::Unchanged);
    write(dir.path(), &[("ours.json", github)]);
    assert_eq!(sets.reload(), Reloaded::Changed { number: 2, sets: vec!["a".to_owned()] });
    assert_ne!(before.digest, set.current().digest);
    assert_ne!(known(&before), known(&set.current()));
    let after = set.current();
    for broken in ["", "{}", "{\"mediaType\": \"x\"}"] {
        write(dir.path(), &[("ours.json", broken)]);
        assert!(matches!(sets.reload(), Reloaded::Failed { .. }), "{broken}");
        assert!(sets.failure().unwrap().starts_with("trust root `ours`: "));
        assert!(Arc::ptr_eq(&after, &set.current()));
    }
    assert!(load(roots.clone()).is_err());
    write(dir.path(), &[("ours.json", public)]);
    assert!(load([roots.clone(), roots].concat()).is_err(), "twice");
}

#[test]
fn policies_are_exchanged_whole_or_not_at_all_and_builds_keep_theirs() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a/p.rego", ALLOW), ("b/p.rego", ALLOW)]);
    let sets = sets(dir.path(), &["a", "b"]).unwrap();
    let (a, b) = (sets.set("a").unwrap(), sets.set("b").unwrap());
    let before = a.current();
    assert_eq!((before.number, allows(&before)), (1, true));
    assert_eq!(sets.reload(), Reloaded::Unchanged);

    // One is broken: the other does not change either.
    write(dir.path(), &[("a/p.rego", DENY), ("b/p.rego", "package docker\nx {")]);
    let failed = sets.reload();
    assert!(matches!(&failed, Reloaded::Failed { news: true, .. }), "{failed:?}");
    assert!(matches!(sets.reload(), Reloaded::Failed { news: false, .. }));
    assert!(sets.failure().unwrap().contains("p.rego:2:3"));
    assert!(Arc::ptr_eq(&before, &a.current()));

    // Mended: both change, and the build that began before keeps what it had.
    write(dir.path(), &[("b/p.rego", DENY)]);
    let wanted = Reloaded::Changed { number: 2, sets: vec!["a".to_owned(), "b".to_owned()] };
    assert_eq!(sets.reload(), wanted);
    assert_eq!(sets.failure(), None);
    assert_eq!((a.current().number, b.current().number), (2, 2));
    assert_eq!((allows(&before), allows(&a.current())), (true, false));
    assert_ne!(before.digest, a.current().digest);

    // One changes alone; back to what it was is the digest that it had.
    write(dir.path(), &[("a/p.rego", ALLOW)]);
    assert_eq!(sets.reload(), Reloaded::Changed { number: 3, sets: vec!["a".to_owned()] });
    assert_eq!((a.current().number, b.current().number), (3, 2));
    assert_eq!(before.digest, a.current().digest);

    // A folder that is gone changes nothing.
    std::fs::remove_dir_all(dir.path().join("a")).unwrap();
    assert!(matches!(sets.reload(), Reloaded::Failed { news: true, .. }));
    assert_eq!(a.current().number, 3);
}

#[tokio::test]
async fn what_is_written_again_as_it_was_is_no_change() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a/p.rego", ALLOW), ("a/data.json", "{}")]);
    let sets = sets(dir.path(), &["a"]).unwrap();
    let before = sets.set("a").unwrap().current();
    let metrics = Arc::new(Metrics::new());
    let reloader = Reloader::new(Arc::clone(&sets), Arc::clone(&metrics), Duration::from_secs(60));
    let running = tokio::spawn(reloader.run());
    let looked = "buildgate_policy_reloads_total{result=\"unchanged\"} 0\n";
    let noticed = async {
        while metrics.text().unwrap().contains(looked) {
            // Again and again: the first may come before anybody listens.
            write(dir.path(), &[("a/p.rego", ALLOW), ("a/data.json", "{}")]);
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), noticed).await.unwrap();
    running.abort();
    assert!(Arc::ptr_eq(&before, &sets.set("a").unwrap().current()));
    let text = metrics.text().unwrap();
    assert!(text.contains("buildgate_policy_reloads_total{result=\"changed\"} 0\n"), "{text}");
}

#[test]
fn all_that_is_beside_a_policy_is_known_to_be_its_own() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a/p.rego", ALLOW), ("a/keys/k", ""), ("b/p.rego", ALLOW), ("log", "")]);
    let link = |to: &str, from: &str| {
        std::os::unix::fs::symlink(dir.path().join(to), dir.path().join(from)).unwrap();
    };
    link("a", "linked");
    link("a/later", "dangling");
    link("log", "a/leads-out");
    let file = PolicySets::load([
        ("a".to_owned(), vec![dir.path().join("a/p.rego")]),
        ("b".to_owned(), vec![dir.path().join("b")]),
    ]);
    let sets = file.unwrap();
    for (file, wanted) in [
        ("a/log", Some("a/p.rego")),
        ("a/keys/k", Some("a/p.rego")),
        ("a/x/y/log", Some("a/p.rego")),
        ("linked/log", Some("a/p.rego")),
        ("linked/keys/../log", Some("a/p.rego")),
        ("dangling", Some("a/p.rego")),
        ("b/log", Some("b")),
        ("log", None),
        ("a/leads-out", None),
        ("ab/log", None),
        ("a/../log", None),
    ] {
        let wanted = wanted.map(|it| dir.path().join(it));
        assert_eq!(sets.owning(&dir.path().join(file)), wanted.as_deref(), "{file}");
    }
}

#[test]
fn a_revision_has_its_own_data() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a/p.rego", DATA), ("a/data.json", "{\"allow\": true}")]);
    let sets = sets(dir.path(), &["a"]).unwrap();
    let before = sets.set("a").unwrap().current();
    // Read for the first time after it changed on disk.
    write(dir.path(), &[("a/data.json", "{\"allow\": false}")]);
    assert!(allows(&before));
    assert!(matches!(sets.reload(), Reloaded::Changed { .. }));
    assert!(!allows(&sets.set("a").unwrap().current()));
}

#[test]
fn a_mounted_config_map_is_read_through_its_links() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("a");
    write(&root, &[("..1/p.rego", ALLOW), ("..2/p.rego", DENY)]);
    let link = |to: &str, from: &str| std::os::unix::fs::symlink(to, root.join(from)).unwrap();
    link("..1", "..data");
    link("..data/p.rego", "p.rego");
    let sets = sets(dir.path(), &["a"]).unwrap();
    assert!(allows(&sets.set("a").unwrap().current()));
    link("..2", "..new");
    std::fs::rename(root.join("..new"), root.join("..data")).unwrap();
    assert!(matches!(sets.reload(), Reloaded::Changed { .. }));
    assert!(!allows(&sets.set("a").unwrap().current()));
}

#[tokio::test]
async fn a_change_is_noticed_by_itself_and_by_the_clock() {
    for poll in [Duration::from_secs(60), Duration::from_millis(20)] {
        let dir = tempfile::tempdir().unwrap();
        write(dir.path(), &[("a/p.rego", ALLOW)]);
        let sets = sets(dir.path(), &["a"]).unwrap();
        let reloader = Reloader::new(Arc::clone(&sets), Arc::new(Metrics::new()), poll);
        let running = tokio::spawn(reloader.run());
        tokio::time::sleep(Duration::from_millis(50)).await;
        write(dir.path(), &[("a/p.rego", DENY)]);
        let set = sets.set("a").unwrap();
        let changed = async {
            while set.current().number == 1 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), changed).await.unwrap();
        running.abort();
    }
}

fn build(sets: &PolicySets) -> Build {
    Build {
        reference: "ref1".to_owned(),
        client: "spiffe://corp/ci".to_owned(),
        revision: Arc::clone(&sets.revisions()[0]),
        mode: Mode::Enforce,
        span: tracing::Span::none(),
    }
}

fn decision(source: &str) -> Decision {
    Decision {
        source: SourceOp::new(source),
        platform: None,
        action: Action::Allow,
        converted: None,
        messages: Vec::new(),
        warnings: Vec::new(),
        notes: Vec::new(),
        fetched: Vec::new(),
        error: None,
        latency: Duration::from_micros(1500),
    }
}

fn decisions() -> [Decision; 4] {
    let of = |source: &str| MetaRequest { source: SourceOp::new(source), ..MetaRequest::default() };
    let mut pinned = SourceOp::new("https://user:secret@example.com/a?token=secret");
    pinned.attrs = BTreeMap::from([("http.checksum".to_owned(), "sha256:aa".to_owned())]);
    let git = "https://secret@example.com/a.git";
    [
        Decision {
            platform: Some(Platform::parse("linux/arm64").unwrap()),
            action: Action::Deny,
            messages: vec!["not from https://user:secret@example.com/".to_owned()],
            warnings: vec!["old".to_owned()],
            fetched: vec![
                vec![MetaRequest {
                    image: Some(ImageRequest { config: true, attestations: true }),
                    ..of("docker-image://docker.io/library/alpine:3")
                }],
                vec![MetaRequest { git: Some(GitRequest { objects: true }), ..of(git) }],
            ],
            ..decision("docker-image://docker.io/library/alpine:3")
        },
        Decision {
            action: Action::Convert,
            converted: Some(pinned.clone()),
            fetched: vec![vec![MetaRequest {
                http: Some(HttpRequest::default()),
                ..of(&pinned.identifier)
            }]],
            ..decision(&pinned.identifier)
        },
        Decision {
            action: Action::Deny,
            error: Some("https://user:secret@example.com/ cannot be reached".to_owned()),
            ..decision("git://user:secret@example.com/a.git")
        },
        decision("strange\n://x"),
    ]
}

#[tokio::test]
async fn decisions_are_written_down_without_secrets() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a/p.rego", ALLOW)]);
    let sets = sets(dir.path(), &["a"]).unwrap();
    let path = dir.path().join("log");
    let log = DecisionLog::open(LogTarget::File(path.clone())).unwrap();
    let recorder = Recorder::new(Some(log), Arc::new(Metrics::new()));
    let build = build(&sets);
    for decision in decisions() {
        recorder.record(&build, &decision).await.unwrap();
    }
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(!text.contains("secret"), "{text}");
    let mut shown = String::new();
    for line in text.lines() {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        let time = line["time"].take();
        let time = time.as_str().unwrap();
        assert!(time.parse::<jiff::Timestamp>().is_ok() && time.len() == 27, "{time}");
        assert_eq!(line["policy_digest"].take(), build.revision.digest.as_str());
        shown.push_str(&serde_json::to_string_pretty(&line).unwrap());
        shown.push('\n');
    }
    insta::assert_snapshot!("decision_log", shown);
}

#[tokio::test]
async fn what_is_not_written_down_is_not_decided() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a/p.rego", ALLOW)]);
    let sets = sets(dir.path(), &["a"]).unwrap();
    let log = DecisionLog::open(LogTarget::File("/dev/full".into())).unwrap();
    let metrics = Arc::new(Metrics::new());
    let recorder = Recorder::new(Some(log), Arc::clone(&metrics));
    let recorded = recorder.record(&build(&sets), &decision("local://context")).await;
    assert!(matches!(recorded, Err(LogError::Write { .. })));
    let text = metrics.text().unwrap();
    assert!(text.contains("buildgate_errors_total{kind=\"decision_log\"} 1\n"), "{text}");
    assert!(!text.contains("buildgate_decisions_total{"), "{text}");
}

#[tokio::test]
async fn metrics_tell_what_happened() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &[("a/p.rego", ALLOW)]);
    let sets = sets(dir.path(), &["a"]).unwrap();
    let metrics = Arc::new(Metrics::new());
    let recorder = Recorder::new(None, Arc::clone(&metrics));
    for decision in decisions() {
        recorder.record(&build(&sets), &decision).await.unwrap();
    }
    metrics.policies(&sets);
    metrics.upstream("unix:///u", true);
    metrics.reloaded(&sets.reload());
    let under_way = metrics.build();
    let ended = metrics.build();
    drop(ended);
    let text = metrics.text().unwrap();
    for line in [
        "buildgate_decisions_total{action=\"deny\",kind=\"image\"} 1",
        "buildgate_decisions_total{action=\"deny\",kind=\"git\"} 1",
        "buildgate_decisions_total{action=\"convert\",kind=\"http\"} 1",
        "buildgate_decisions_total{action=\"allow\",kind=\"other\"} 1",
        "buildgate_decision_duration_seconds_count 4",
        "buildgate_decision_duration_seconds_bucket{le=\"0.0008\"} 0",
        "buildgate_decision_duration_seconds_bucket{le=\"0.0016\"} 4",
        "buildgate_metadata_rounds_bucket{le=\"0.0\"} 2",
        "buildgate_metadata_rounds_bucket{le=\"2.0\"} 4",
        "buildgate_errors_total{kind=\"undecided\"} 1",
        "buildgate_policy_reloads_total{result=\"unchanged\"} 1",
        "buildgate_policy_revision{set=\"a\"} 1",
        "buildgate_upstream_healthy{upstream=\"unix:///u\"} 1",
        "buildgate_builds_in_flight 1",
        "# EOF",
    ] {
        assert!(text.lines().any(|got| got == line), "{line} is missing:\n{text}");
    }
    drop(under_way);
    assert_eq!(metrics.builds_in_flight(), 0);
}
