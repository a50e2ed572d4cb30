//! Submodules as the sources they are, wherever a daemon's git may ask for them.

use std::future::ready;
use std::sync::Mutex;

use super::*;

#[test]
fn the_root_is_looked_into() {
    for (given, wanted) in [
        ("git://h/a.git", "git://h/a.git"),
        ("git://h/a.git#main", "git://h/a.git#main"),
        ("git://h/a.git#main:sub/dir", "git://h/a.git#main"),
        ("git://h/a.git#:sub", "git://h/a.git"),
    ] {
        let got = bare(&SourceOp::new(given));
        assert_eq!(got.identifier, wanted);
        assert_eq!(got.attrs.get(SKIP).map(String::as_str), Some("true"));
    }
}

#[test]
fn secrets_stay_with_the_host_of_the_repository() {
    let mut of = SourceOp::new("git://h.example/a.git#main");
    of.attrs.insert("git.authtokensecret".into(), "TOKEN".into());
    of.attrs.insert("git.mountsshsock".into(), "default".into());
    let commit = "c".repeat(40);
    for (url, told) in [
        ("https://h.example/b.git", true),
        ("http://h.example/b.git", false),
        ("https://h.example:8443/b.git", false),
        ("https://o.example/b.git", false),
    ] {
        let op = submodule(url, &commit, &of).unwrap();
        assert_eq!(op.attrs.contains_key("git.authtokensecret"), told, "{url}");
        assert!(op.attrs.contains_key("git.mountsshsock"));
    }
}

#[test]
fn every_link_has_an_entry_and_not_every_entry_a_link() {
    let text = |text: &str| text.to_owned();
    let link = |path: &str| (text(path), "c".repeat(40));
    let entry =
        |path: &str| (text(path), Entry { name: text(path), url: text("https://h.example/b.git") });
    for (entries, links, wanted) in [
        (vec![entry("a")], vec![link("a")], Some(1)),
        (vec![entry("a"), entry("b")], vec![link("a")], Some(1)),
        (vec![entry("a")], vec![link("a"), link("a\u{a0}")], None),
        (vec![], vec![link("a")], None),
    ] {
        let got = linked(entries.into_iter().collect(), links.into_iter().collect());
        assert_eq!(got.as_ref().ok().map(Vec::len), wanted, "{got:?}");
    }
}

/// Allows all but some places, and remembers.
#[derive(Default)]
struct Judge {
    refuses: &'static str,
    before: Vec<String>,
    asked: Mutex<Vec<String>>,
}

impl JudgeSubmodule for Judge {
    fn judge<'a>(
        &'a self,
        op: &'a SourceOp,
    ) -> Boxed<Box<dyn Future<Output = Result<(), String>> + Send + 'a>> {
        self.asked.lock().unwrap().push(op.identifier.clone());
        let refuses = !self.refuses.is_empty() && op.identifier.contains(self.refuses);
        Box::pin(ready(if refuses { Err("not here".to_owned()) } else { Ok(()) }))
    }

    fn urls_before(&self, _: &Names) -> Vec<String> {
        self.before.clone()
    }
}

fn repository(urls: &[&str]) -> Repository {
    let urls: Vec<String> = urls.iter().map(|url| (*url).to_owned()).collect();
    Repository { op: SourceOp::default(), names: vec!["h.example/a.git".into()], urls }
}

fn lib(url: &str) -> Submodule {
    let entry = Entry { name: "by name".into(), url: url.into() };
    Submodule { path: "lib".into(), commit: "c".repeat(40), entry }
}

#[tokio::test]
async fn submodules_are_sources_at_the_commit_of_their_link() {
    let commit = "c".repeat(40);
    for (remote, url, wanted) in [
        ("https://h.example/a.git", "../b.git", Some("git://h.example/b.git")),
        ("https://h.example/a.git", "https://o.example:8443/x/b", Some("git://o.example:8443/x/b")),
        ("https://h.example/a.git", "git@o.example:x/b.git", Some("git://o.example/x/b.git")),
        ("https://h.example/a.git", "ssh://git@o.example/b.git", Some("git://o.example/b.git")),
        ("https://h.example/a.git", "/srv/b.git", None),
        ("https://h.example/a.git", "file:///srv/b.git", None),
        ("https://h.example/a.git", "ext::sh -c x", None),
        ("https://h.example/a.git", "o.example:x/b.git", None),
        ("https://h.example/a.git", "o.example/x/b.git", None),
        ("https://h.example/a.git", "HTTPS://o.example/b.git", None),
        ("https://h.example/a.git", "https://o.example/b.git#main", None),
        ("https://h.example/a.git", "https://o.example/a/../b.git", None),
    ] {
        let got = lib(url).judged(&repository(&[remote]), &Judge::default()).await.ok();
        let wanted = wanted.map(|it| format!("{it}#{commit}"));
        assert_eq!(got.as_ref().map(|it| it.op.identifier.clone()), wanted, "{url}");
        if let Some(got) = got {
            assert_eq!(got.op.attrs.get(CHECKSUM), Some(&commit));
            assert_eq!(got.names, ["h.example/a.git", "by name"]);
        }
    }
}

/// A daemon's git asks where the name was first, and so does what is relative to that.
#[tokio::test]
async fn a_submodule_is_judged_wherever_a_daemon_may_ask_for_it() {
    let (new, old) = ("https://h.example/a.git", "https://old.example/x/a.git");
    let before = vec!["https://before.example/b.git".to_owned()];
    for (refuses, wanted) in [
        ("", Ok(())),
        ("h.example/b", Err("its submodule `lib`, git://h.example/b.git")),
        ("old.example/x/b", Err("another URL in a build before, where BuildKit's git")),
        ("before.example", Err("and git://before.example/b.git")),
    ] {
        let judge = Judge { refuses, before: before.clone(), ..Judge::default() };
        let got = lib("../b.git").judged(&repository(&[new, old]), &judge).await;
        match (got, wanted) {
            (Ok(got), Ok(())) => {
                let urls = ["https://h.example/b.git", "https://old.example/x/b.git", &before[0]];
                assert_eq!(got.urls, urls);
                assert!(got.op.identifier.starts_with("git://h.example/b.git#"));
                assert_eq!(judge.asked.lock().unwrap().len(), urls.len());
            }
            (Err(why), Err(wanted)) => assert!(why.contains(wanted), "{why}"),
            (got, _) => panic!("{refuses}: {:?}", got.map(|it| it.urls)),
        }
    }
    let many = (0..MAX_URLS).map(|n| format!("https://h.example/{n}")).collect();
    let judge = Judge { before: many, ..Judge::default() };
    assert!(lib("../b.git").judged(&repository(&[new]), &judge).await.is_err());
    assert!(judge.asked.lock().unwrap().is_empty());
}

#[test]
fn a_place_is_host_and_path() {
    for (remote, wanted) in [
        ("https://h.example/a.git", "h.example/a.git"),
        ("https://u:p@h.example:8443/a.git", "h.example:8443/a.git"),
        ("https://evil.example/x@h.example/a.git", "evil.example/x@h.example/a.git"),
        ("ssh://git@h.example/a@b.git", "h.example/a@b.git"),
        ("git@h.example:a@b.git", "h.example/a@b.git"),
        ("https://h.example", "h.example"),
    ] {
        assert_eq!(place(remote), wanted);
    }
}
