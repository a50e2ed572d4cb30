//! Real git, on repositories on this machine's disk.

use std::path::Path;
use std::process::Command;

use super::*;

struct Repository {
    folder: tempfile::TempDir,
}

impl Repository {
    /// A repository with a branch `main`, a branch `both`, and tags of both kinds.
    fn new(format: &str) -> Self {
        let this = Self { folder: tempfile::tempdir().unwrap() };
        let object_format = format!("--object-format={format}");
        this.git(&["init", "--quiet", "--initial-branch=main", &object_format]);
        this.git(&["commit", "--quiet", "--allow-empty", "-m", "one"]);
        this.git(&["tag", "light"]);
        this.git(&["tag", "-a", "v1", "-m", "first"]);
        this.git(&["branch", "both"]);
        this.git(&["commit", "--quiet", "--allow-empty", "-m", "two"]);
        this.git(&["tag", "-a", "both", "-m", "ambiguous"]);
        this
    }

    fn git(&self, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgSign=false"])
            .args(arguments)
            .current_dir(self.folder.path())
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    fn source(&self, reference: &str) -> GitSource {
        source(&url(self.folder.path()), reference)
    }
}

fn url(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn source(remote: &str, reference: &str) -> GitSource {
    GitSource {
        scheme: "https".into(),
        host: String::new(),
        remote: remote.into(),
        full_url: None,
        reference: (!reference.is_empty()).then(|| reference.to_owned()),
        subdir: None,
        declared_checksum: None,
        bundle: None,
    }
}

async fn ask(source: &GitSource, objects: bool) -> Result<GitMeta, ResolveError> {
    let repositories = Repositories::with_files(16 << 20);
    repositories.resolve(source, &BTreeMap::new(), GitRequest { objects }).await
}

#[tokio::test]
async fn references_are_chosen_as_buildkit_chooses() {
    let repository = Repository::new("sha1");
    let hash = |name: &str| repository.git(&["rev-parse", name]);
    let cases = [
        ("", "refs/heads/main", hash("refs/heads/main"), String::new()),
        ("main", "refs/heads/main", hash("refs/heads/main"), String::new()),
        ("light", "refs/tags/light", hash("refs/tags/light"), String::new()),
        ("v1", "refs/tags/v1", hash("refs/tags/v1"), hash("refs/tags/v1^{}")),
        ("both", "refs/heads/both", hash("refs/heads/both"), String::new()),
        ("refs/tags/both", "refs/tags/both", hash("refs/tags/both"), hash("refs/tags/both^{}")),
    ];
    for (reference, full, checksum, commit_checksum) in cases {
        let meta = ask(&repository.source(reference), false).await.unwrap();
        let found = (meta.reference.as_str(), &meta.checksum, &meta.commit_checksum);
        assert_eq!(found, (full, &checksum, &commit_checksum), "{reference}");
        assert!(meta.commit_object.is_none() && meta.tag_object.is_none());
    }
}

#[tokio::test]
async fn objects_are_raw_in_both_formats() {
    for format in ["sha1", "sha256"] {
        let repository = Repository::new(format);
        let head = repository.git(&["rev-parse", "HEAD"]);
        for (reference, tagged) in [("main", false), ("light", false), ("v1", true), (&head, false)]
        {
            let meta = ask(&repository.source(reference), true).await.unwrap();
            let commit = meta.commit_object.unwrap();
            assert!(commit.starts_with(b"tree "), "{format} {reference}");
            let tag = meta.tag_object.map(|tag| String::from_utf8_lossy(&tag).into_owned());
            let expected = tagged.then(|| repository.git(&["cat-file", "tag", "v1"]));
            assert_eq!(tag.as_deref().map(str::trim), expected.as_deref(), "{format} {reference}");
        }
    }
}

#[tokio::test]
async fn hostile_sources_are_refused_before_git_sees_them() {
    let repository = Repository::new("sha1");
    let remote = url(repository.folder.path());
    let cases = [
        (remote.as_str(), "--upload-pack=touch /tmp/x", "is no reference that git may be given"),
        (&remote, "main\nx", "is no reference that git may be given"),
        (&remote, "refs/heads/*", "is no reference that git may be given"),
        (&remote, "a:b", "is no reference that git may be given"),
        ("--upload-pack=touch", "main", "is no URL that git may be given"),
        ("ext::sh -c true", "main", "is no URL that git may be given"),
        ("", "main", "is no URL that git may be given"),
        (&remote, "missing", "missing: not found"),
        ("file:///nowhere", "main", "git failed: "),
        ("gopher://example.invalid/x", "main", "git failed: "),
    ];
    for (remote, reference, expected) in cases {
        let error = ask(&source(remote, reference), false).await.unwrap_err().to_string();
        assert!(error.contains(expected), "{remote} {reference}: {error}");
    }
}

#[tokio::test]
async fn files_are_out_of_reach_in_production() {
    let repository = Repository::new("sha1");
    let asked = repository.source("main");
    let network = Repositories::new(1 << 20);
    let found = network.resolve(&asked, &BTreeMap::new(), GitRequest { objects: true }).await;
    let error = found.unwrap_err().to_string();
    assert!(error.contains("transport 'file' not allowed"), "{error}");
}

#[tokio::test]
async fn a_declared_checksum_is_compared() {
    let repository = Repository::new("sha1");
    let tag = repository.git(&["rev-parse", "refs/tags/v1"]);
    let commit = repository.git(&["rev-parse", "refs/tags/v1^{}"]);
    let cases = [
        (tag.as_str(), true),
        (commit.as_str(), true),
        (&commit[..8], true),
        ("00000000", false),
        ("xyz", false),
    ];
    for (checksum, right) in cases {
        let mut source = repository.source("v1");
        source.declared_checksum = Some(checksum.into());
        assert_eq!(ask(&source, false).await.is_ok(), right, "{checksum}");
    }
}

#[tokio::test]
async fn too_large_a_repository_is_given_up() {
    let scratch = Scratch::new("").unwrap();
    let git = Git::new("x", scratch, Transports::Network, 1);
    git.run(&["init", "--quiet", "--bare"]).await.unwrap();
    // Runs until it is stopped: more than one byte is there already.
    let error = git.run(&["-c", "alias.wait=!sleep 30", "wait"]).await.unwrap_err();
    assert_eq!(error.to_string(), "x: larger than the limit of 1 bytes");
}
