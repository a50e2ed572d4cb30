//! Updates that do not come to their end: what stood there still does, whole, and nothing is left beside
//! it.

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

/// A server of a repository, with something else at one path.
fn serving(repository: &Repository, path: &'static str, answer: Option<Response>) -> HttpServer {
    let (_, files) = repository.files();
    HttpServer::start(move |request| match (&answer, files.get(&request.path)) {
        (Some(answer), _) if request.path == path => answer.clone(),
        (None, _) if request.path == path => {
            std::thread::sleep(Duration::from_secs(60));
            Response::status(500)
        }
        (_, Some(body)) => Response::ok(body.clone()),
        (_, None) => Response::status(404),
    })
}

/// A folder with a root that was fetched, and what stands in it.
fn fetched() -> (Folder, Repository, Vec<u8>) {
    let (folder, right) = (Folder::with(&[]), Repository::new());
    let ran = update(&folder, &right, &right);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let before = std::fs::read(folder.path().join("sigstore.json")).unwrap();
    (folder, right, before)
}

#[track_caller]
fn unchanged(what: &str, folder: &Folder, before: &[u8]) {
    let now = std::fs::read(folder.path().join("sigstore.json")).unwrap();
    assert_eq!(now, before, "{what}");
    let mut left: Vec<String> = std::fs::read_dir(folder.path())
        .unwrap()
        .map(|it| it.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    left.sort();
    assert_eq!(left, ["root.json", "sigstore.json"], "{what}");
    let shown = folder.run("trust show --trust-root sigstore.json");
    assert_eq!(shown.code, Some(0), "{what}: {}", shown.stderr);
}

const UPDATE: [&str; 6] = ["trust", "update", "--root", "root.json", "--output", "sigstore.json"];

#[test]
fn an_answer_that_breaks_off_changes_nothing() {
    let (folder, right, before) = fetched();
    let (_, files) = right.files();
    for path in ["/timestamp.json", "/snapshot.json", "/targets.json", "/targets/trusted_root.json"]
    {
        let body = &files[path];
        let half = Response::ok(&body[..body.len() / 2]);
        let cut = half.clone().with("Content-Length", &body.len().to_string());
        for (what, answer) in [
            ("half of it", half),
            ("half of what was promised", cut),
            ("nothing", Response::ok("")),
            ("an error", Response::status(500)),
            ("nothing there", Response::status(404)),
        ] {
            let server = serving(&right, path, Some(answer));
            let mirror = server.url("/");
            let ran = folder.run(&format!("{} --mirror {mirror}", UPDATE.join(" ")));
            assert_eq!(ran.code, Some(2), "{path}, {what}: {}", ran.stdout);
            unchanged(&format!("{path}, {what}"), &folder, &before);
        }
    }
}

#[test]
fn an_update_that_is_killed_changes_nothing() {
    let (folder, right, before) = fetched();
    for path in ["/timestamp.json", "/targets/trusted_root.json"] {
        let server = serving(&right, path, None);
        let mut child = Command::new(env!("CARGO_BIN_EXE_buildgate"))
            .args(UPDATE)
            .args(["--mirror", &server.url("/")])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let began = Instant::now();
        while !server.asked().iter().any(|it| it.path == path) {
            assert!(began.elapsed() < Duration::from_secs(30), "{path} was not asked for");
            std::thread::sleep(Duration::from_millis(5));
        }
        child.kill().unwrap();
        assert_eq!(child.wait().unwrap().signal(), Some(9));
        unchanged(path, &folder, &before);
    }
}

/// A disk without room, a folder without leave, a file that is a folder.
#[test]
fn what_cannot_be_written_whole_is_not_written() {
    let (folder, right, before) = fetched();
    let newer = Repository { versions: [9, 9, 9], ..right };
    let (_, files) = newer.files();
    let server = HttpServer::start(move |request| match files.get(&request.path) {
        Some(body) => Response::ok(body.clone()),
        None => Response::status(404),
    });
    let buildgate = env!("CARGO_BIN_EXE_buildgate");
    let update = format!("{} --mirror {}", UPDATE.join(" "), server.url("/"));
    let run = |script: &str| {
        let out = Command::new("sh").args(["-c", script]).current_dir(folder.path()).output();
        let out = out.unwrap();
        (out.status.code(), String::from_utf8(out.stderr).unwrap())
    };
    // Files may have one block of 512 octets: the write ends in the middle.
    let full = format!("trap '' XFSZ; ulimit -f 1; exec {buildgate} {update}");
    let (code, said) = run(&full);
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("sigstore.json cannot be written: File too large"), "{said}");
    unchanged("no room", &folder, &before);
    // Where the limit kills, what was begun is beside the file, and never in its place.
    let killed = format!("ulimit -f 1; ulimit -c 0; exec {buildgate} {update}");
    let (code, said) = run(&killed);
    assert_ne!(code, Some(0), "{said}");
    let now = std::fs::read(folder.path().join("sigstore.json")).unwrap();
    assert_eq!(now, before, "killed as it wrote");
    for left in std::fs::read_dir(folder.path()).unwrap() {
        let left = left.unwrap();
        if left.file_name().to_string_lossy().starts_with(".sigstore.json.") {
            std::fs::remove_file(left.path()).unwrap();
        }
    }
    let into = update.replace("--output sigstore.json", "--output .");
    let (code, said) = run(&format!("exec {buildgate} {into}"));
    assert_eq!(code, Some(2), "{said}");
    unchanged("a folder", &folder, &before);
    // With room it goes on from there.
    let (code, said) = run(&format!("exec {buildgate} {update}"));
    assert_eq!(code, Some(0), "{said}");
    assert_ne!(std::fs::read(folder.path().join("sigstore.json")).unwrap(), before);
}
