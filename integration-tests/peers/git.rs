//! A git repository served over HTTP by `git http-backend`, with every request counted.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::http::{HttpServer, Request, Response};
use super::{NoPeer, tools};

/// A repository `/app.git` with two commits on `main` (the second the branch's head), a branch
/// `feature`, a branch `submodule`
/// whose submodule is `/unjudged.git` of the same server, a branch `named` whose Dockerfile copies from a
/// named context `named`, an annotated tag `v1.0.0` on the first commit, a lightweight tag `light` on the second.
pub struct GitServer {
    server: HttpServer,
    work: PathBuf,
    _dir: TempDir,
}

impl GitServer {
    /// Makes the repository and serves it.
    pub fn start() -> Result<Self, NoPeer> {
        let git = tools::installed("git", "git")?;
        let dir = tempfile::tempdir().unwrap();
        let work = dir.path().join("work");
        std::fs::create_dir(&work).unwrap();
        let served = dir.path().join("served");
        std::fs::create_dir(&served).unwrap();

        run(&work, &["init", "-q", "-b", "main"]);
        std::fs::write(work.join("Dockerfile"), "FROM scratch\n").unwrap();
        run(&work, &["add", "."]);
        run(&work, &["commit", "-q", "-m", "first"]);
        run(&work, &["tag", "-a", "v1.0.0", "-m", "release 1.0.0"]);
        run(&work, &["branch", "feature"]);
        std::fs::write(work.join("README"), "second\n").unwrap();
        run(&work, &["add", "."]);
        run(&work, &["commit", "-q", "-m", "second"]);
        run(&work, &["tag", "light"]);
        run(&work, &["checkout", "-q", "-b", "submodule"]);
        let modules = "[submodule \"lib\"]\n\tpath = lib\n\turl = ../unjudged.git\n";
        std::fs::write(work.join(".gitmodules"), modules).unwrap();
        let head = run(&work, &["rev-parse", "main"]);
        let link = format!("160000,{},lib", head.trim());
        run(&work, &["update-index", "--add", "--cacheinfo", &link]);
        run(&work, &["add", ".gitmodules"]);
        run(&work, &["commit", "-q", "-m", "with a submodule"]);
        run(&work, &["checkout", "-q", "main"]);
        run(&work, &["checkout", "-q", "-b", "named"]);
        std::fs::write(work.join("Dockerfile"), "FROM scratch\nCOPY --from=named / /\n").unwrap();
        run(&work, &["commit", "-q", "-a", "-m", "from a named context"]);
        run(&work, &["checkout", "-q", "main"]);
        let bare = served.join("app.git");
        run(&work, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);

        let server = HttpServer::start(move |request| backend(&git, &served, request));
        Ok(Self { server, work, _dir: dir })
    }

    /// The repository's URL.
    pub fn url(&self) -> String {
        self.server.url("/app.git")
    }

    /// What was asked so far.
    pub fn asked(&self) -> Vec<Request> {
        self.server.asked()
    }

    /// The object that a revision names (`main`, `v1.0.0^{}`), in hex.
    pub fn object(&self, revision: &str) -> String {
        run(&self.work, &["rev-parse", revision]).trim().to_owned()
    }

    /// The raw object that a revision names, without git's header.
    pub fn raw(&self, kind: &str, revision: &str) -> String {
        run(&self.work, &["cat-file", kind, revision])
    }
}

/// Serves the bare repositories in this folder.
pub fn serve(folder: PathBuf) -> Result<HttpServer, NoPeer> {
    serve_then(folder, |_| {})
}

/// The same, doing something between each answer and its way out.
pub fn serve_then(
    folder: PathBuf,
    then: impl Fn(&Request) + Send + Sync + 'static,
) -> Result<HttpServer, NoPeer> {
    let git = tools::installed("git", "git")?;
    Ok(HttpServer::start(move |request| {
        let answer = backend(&git, &folder, request);
        then(request);
        answer
    }))
}

/// A repository `/top.git` whose branch `main` leads from one commit to another once somebody has asked
/// where it leads. Each has a file `x`, which says which it is.
pub struct Branch {
    /// Its server.
    pub server: HttpServer,
    /// Where the branch leads at first.
    pub good: String,
    /// Where it leads from then on.
    pub evil: String,
    bare: PathBuf,
    _dir: TempDir,
}

impl Branch {
    /// One that moves, or one that stays where it is.
    pub fn start(moves: bool) -> Result<Self, NoPeer> {
        let dir = tempfile::tempdir().unwrap();
        let (work, served) = (dir.path().join("work"), dir.path().join("served"));
        std::fs::create_dir(&work).unwrap();
        std::fs::create_dir(&served).unwrap();
        run(&work, &["init", "-q", "-b", "main"]);
        let [good, evil] = ["good", "evil"].map(|text| {
            std::fs::write(work.join("x"), text).unwrap();
            run(&work, &["add", "x"]);
            // Commits of its own each time: what a daemon has, it does not fetch.
            run(&work, &["commit", "-q", "-m", &format!("{text} {}", dir.path().display())]);
            run(&work, &["rev-parse", "HEAD"]).trim().to_owned()
        });
        let bare = served.join("top.git");
        run(&work, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
        run(&bare, &["update-ref", "refs/heads/main", &good]);
        let (moved, to) = (bare.clone(), evil.clone());
        // The first `POST` is the one that tells where the branch leads.
        let server = serve_then(served, move |request| {
            if moves && request.method == "POST" {
                run(&moved, &["update-ref", "refs/heads/main", &to]);
            }
        })?;
        Ok(Self { server, good, evil, bare, _dir: dir })
    }

    /// Where it leads now.
    pub fn leads_to(&self) -> String {
        run(&self.bare, &["rev-parse", "main"]).trim().to_owned()
    }
}

/// Runs git in `dir` with no configuration but ours, and gives its output.
pub fn run(dir: &Path, args: &[&str]) -> String {
    let out = Command::new("git")
        .args(args)
        .current_dir(dir)
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_AUTHOR_NAME", "A Developer")
        .env("GIT_AUTHOR_EMAIL", "dev@example.com")
        .env("GIT_AUTHOR_DATE", "2024-05-06T07:08:09Z")
        .env("GIT_COMMITTER_NAME", "A Developer")
        .env("GIT_COMMITTER_EMAIL", "dev@example.com")
        .env("GIT_COMMITTER_DATE", "2024-05-06T07:08:09Z")
        .output()
        .unwrap();
    assert!(out.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Hands a request to git's own CGI program, and its answer back.
fn backend(git: &Path, root: &Path, request: &Request) -> Response {
    let header = |name: &str| request.headers.get(name).cloned().unwrap_or_default();
    let mut cgi = Command::new(git)
        .arg("http-backend")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_CONFIG_COUNT", "1")
        .env("GIT_CONFIG_KEY_0", "safe.directory")
        .env("GIT_CONFIG_VALUE_0", "*")
        .env("GIT_PROJECT_ROOT", root)
        .env("GIT_HTTP_EXPORT_ALL", "1")
        .env("PATH_INFO", &request.path)
        .env("QUERY_STRING", &request.query)
        .env("REQUEST_METHOD", &request.method)
        .env("REMOTE_ADDR", "127.0.0.1")
        .env("CONTENT_TYPE", header("content-type"))
        .env("CONTENT_LENGTH", request.body.len().to_string())
        .env("HTTP_CONTENT_ENCODING", header("content-encoding"))
        .env("GIT_PROTOCOL", header("git-protocol"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut stdin = cgi.stdin.take().unwrap();
    let body = request.body.clone();
    let writer = std::thread::spawn(move || {
        // A backend that refuses the request does not read it.
        let _ = stdin.write_all(&body);
    });
    let out = cgi.wait_with_output().unwrap().stdout;
    writer.join().unwrap();
    cgi_response(&out)
}

/// Reads what a CGI program wrote: header lines, an empty line, the body.
fn cgi_response(out: &[u8]) -> Response {
    let Some(end) = out.windows(4).position(|four| four == b"\r\n\r\n") else {
        return Response::status(500);
    };
    let mut response = Response::ok(&out[end + 4..]);
    for line in String::from_utf8_lossy(&out[..end]).lines() {
        let Some((name, value)) = line.split_once(": ") else {
            continue;
        };
        if name.eq_ignore_ascii_case("status") {
            response.status = value[..3].parse().unwrap_or(500);
        } else {
            response = response.with(name, value);
        }
    }
    response
}
