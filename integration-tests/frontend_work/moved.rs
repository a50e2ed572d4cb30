//! What changes after it was judged, and what somebody would put in its place: the build gets what was
//! judged, or nothing.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tempfile::TempDir;

use super::{Modules, build, image, only, open, run, says};
use crate::peers::{self, GitServer, HttpServer, Response, World, folder, git, need};

/// Static rules of the client would put another source in place of the one that was judged.
#[test]
fn what_the_client_converts_behind_us_is_refused() {
    let world = need!(peers::world());
    let base = world.image("base:1");
    let swapped = world.image("swapped:1");
    let files = HttpServer::files([("/good", b"good".to_vec()), ("/evil", b"evil".to_vec())]);
    let (good, evil) = (files.url("/good"), files.url("/evil"));
    let digest = world.registry.digest("base", "1");
    let convert = |from: &str, to: &str| {
        format!(
            "{{\"version\":1,\"rules\":[{{\"action\":\"CONVERT\",\"selector\":\
             {{\"identifier\":\"{from}\"}},\"updates\":{{\"identifier\":\"{to}\"}}}}]}}"
        )
    };
    let rego = only(&format!(
        "input.http.url == \"{good}\"\nallow if endswith(input.image.repo, \"base\")"
    ));
    for (from, to, add) in [
        (format!("docker-image://{base}"), format!("docker-image://{swapped}"), ""),
        (format!("docker-image://{base}@{digest}"), format!("docker-image://{swapped}"), ""),
        (good.clone(), evil, good.as_str()),
    ] {
        let add = if add.is_empty() { String::new() } else { format!("ADD {add} /x\n") };
        let context = folder(&[
            ("Dockerfile", &format!("FROM {base}\n{add}")),
            ("Dockerfile.rego", &rego),
            ("rules.json", &convert(&from, &to)),
        ]);
        let rules = context.path().join("rules.json");
        let rules = format!("--source-policy-file={}", rules.display());
        build(world, open(world), &context, &[&rules]).refused(&["denied by policy"]);
    }
    assert_eq!(world.registry.accesses(&["/swapped/"]).len(), 0);
    assert!(files.asked().iter().all(|it| it.path != "/evil"), "{:?}", files.asked());
}

/// The file that was judged is the one that is built, whatever the server says next.
#[test]
fn a_file_that_changes_after_it_was_judged_is_not_built() {
    let world = need!(peers::world());
    let good = "sha256:770e607624d689265ca6c44884d0807d9b054d23c473c106c72be9de08b7376c";
    let rego = only(&format!("input.http.checksum == \"{good}\""));
    for changes in [false, true] {
        let asked = AtomicUsize::new(0);
        let files = HttpServer::start(move |_| match asked.fetch_add(1, Ordering::SeqCst) {
            1.. if changes => Response::ok("evil"),
            _ => Response::ok("good"),
        });
        let context = folder(&[
            ("Dockerfile", &format!("FROM scratch\nADD {} /x\n", files.url("/f"))),
            ("Dockerfile.rego", &rego),
        ]);
        let out = tempfile::tempdir().unwrap();
        let output = format!("--output=type=local,dest={}", out.path().display());
        let built = build(world, open(world), &context, &[&output]);
        match std::fs::read_to_string(out.path().join("x")) {
            Ok(content) => {
                assert!(built.passed, "{}", built.said);
                assert_eq!(content, "good", "{}", built.said);
            }
            Err(_) => {
                assert!(changes && !built.passed, "{}", built.said);
                // It was held against what was judged.
                says(&built.said, &["digest mismatch", good]);
                assert!(files.asked().len() > 1);
            }
        }
        if changes {
            // Who is asked from now on gives the other content, and that is refused.
            build(world, open(world), &context, &[]).refused(&["ours says no"]);
        }
    }
}

/// A branch that leads elsewhere as soon as it was judged: what it leads to then is not built.
#[test]
fn a_branch_that_moves_after_it_was_judged_is_not_followed() {
    let world = need!(peers::world());
    for moves in [false, true] {
        let branch = need!(peers::Branch::start(moves));
        let peers::Branch { server, good, evil, .. } = &branch;
        let rego = only(&format!("input.git.checksum == \"{good}\""));
        let url = server.url("/top.git");
        let context = folder(&[
            ("Dockerfile", &format!("FROM scratch\nADD {url}#main /src\n")),
            ("Dockerfile.rego", &rego),
        ]);
        let out = tempfile::tempdir().unwrap();
        let output = format!("--output=type=local,dest={}", out.path().display());
        let built = build(world, open(world), &context, &[&output]);
        assert_eq!(&branch.leads_to(), if moves { evil } else { good });
        match std::fs::read_to_string(out.path().join("src/x")) {
            Ok(content) => assert_eq!(content, "good", "{}", built.said),
            Err(_) => {
                assert!(moves && !built.passed && built.said.contains(good), "{}", built.said);
            }
        }
        if moves {
            // Who is asked from now on gives the other commit, and that is refused.
            build(world, open(world), &context, &[]).refused(&["ours says no"]);
        }
    }
}

/// A registry that has one image under a tag when it is judged, and another one afterwards.
pub fn moving(world: &World) -> (HttpServer, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&asked);
    let host = world.registry.host().to_owned();
    let server = HttpServer::start(move |request| {
        let tagged = request.path.ends_with("/manifests/1");
        if tagged {
            let name = match counted.fetch_add(1, Ordering::SeqCst) {
                0 => "/v2/base/manifests/1",
                _ => "/v2/app/manifests/plain",
            };
            return ask(&host, request.method.as_str(), name);
        }
        let of =
            |repository: &str| request.path.replace("/v2/moving/", &format!("/v2/{repository}/"));
        let first = ask(&host, &request.method, &of("base"));
        if first.status == 404 { ask(&host, &request.method, &of("app")) } else { first }
    });
    (server, asked)
}

/// One request of HTTP/1.0.
pub fn ask(host: &str, method: &str, path: &str) -> Response {
    let mut stream = std::net::TcpStream::connect(host).unwrap();
    let accept = "application/vnd.oci.image.index.v1+json, \
                  application/vnd.oci.image.manifest.v1+json, \
                  application/vnd.docker.distribution.manifest.v2+json";
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n").unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).unwrap();
    let end = all.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&all[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let mut response = Response { body: all[end + 4..].to_vec(), ..Response::status(status) };
    for line in lines {
        let (name, value) = line.split_once(": ").unwrap();
        if !name.eq_ignore_ascii_case("connection") {
            response = response.with(name, value);
        }
    }
    response
}

#[test]
fn a_tag_that_moves_after_it_was_judged_is_not_followed() {
    let world = need!(peers::world());
    let (registry, asked) = moving(world);
    let host = registry.url("").trim_start_matches("http://").to_owned();
    let rego = only("input.image.labels[\"org.example.tier\"] == \"base\"");
    let context =
        folder(&[("Dockerfile", &format!("FROM {host}/moving:1\n")), ("Dockerfile.rego", &rego)]);
    let out = tempfile::tempdir().unwrap();
    let output = format!("--output=type=local,dest={}", out.path().display());
    build(world, open(world), &context, &[&output]).passed();
    // `base` has it, and `app` has not.
    assert!(out.path().join("bin/busybox").exists());
    // The tag did move, with the first answer about it: whoever asks again is given `app`, and that is
    // refused.
    let before = asked.load(Ordering::SeqCst);
    assert!(before >= 1);
    build(world, open(world), &context, &[]).refused(&["ours says no"]);
    assert!(asked.load(Ordering::SeqCst) > before);
}

/// What we look into ourselves is what was judged, too: neither the repository whose submodules are
/// looked for, nor the context whose policy is read.
#[test]
fn what_the_client_converts_only_for_us_is_refused() {
    let world = need!(peers::world());
    let (modules, clean) = (need!(Modules::start()), need!(GitServer::start()));
    let host = |url: &str| url.trim_start_matches("http://").to_owned();
    // Of a repository that is looked into without its submodules another one is made.
    let convert = |url: &str, from: &str, to: &str, commit: &str| {
        format!(
            "{{\"version\":1,\"rules\":[{{\"action\":\"CONVERT\",\"selector\":{{\"identifier\":\
             \"git://{from}\",\"constraints\":[{{\"key\":\"git.skipsubmodules\",\"value\":\"true\"}}]}},\
             \"updates\":{{\"identifier\":\"git://{to}\",\"attrs\":{{\"git.fullurl\":\"{url}\",\
             \"git.checksum\":\"{commit}\"}}}}}}]}}"
        )
    };
    let top = modules.server.url("/top.git");
    let rules = convert(&clean.url(), &host(&top), &host(&clean.url()), &clean.object("main"));
    let context = folder(&[
        ("Dockerfile", &format!("FROM scratch\nADD {top} /src\n")),
        ("Dockerfile.rego", &only("endswith(input.git.remote, \"/top.git\")")),
        ("rules.json", &rules),
    ]);
    let file = format!("--source-policy-file={}", context.path().join("rules.json").display());
    build(world, open(world), &context, &[&file]).refused(&["denied by policy"]);
    assert!(!modules.asked("middle") && !modules.asked("bottom"));
    assert_eq!(clean.asked().len(), 0);

    let (strict, lax) = (only("false"), only("true"));
    let dockerfile = ("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n");
    let contexts = need!(repositories(&[
        ("strict", &[dockerfile, ("Dockerfile.rego", &strict)]),
        ("lax", &[dockerfile, ("Dockerfile.rego", &lax)]),
    ]));
    let [strict, lax] = ["strict", "lax"].map(|name| contexts.server.url(&format!("/{name}.git")));
    let rules = convert(&lax, &host(&strict), &host(&lax), &contexts.head("lax"));
    std::fs::write(context.path().join("rules.json"), rules).unwrap();
    let gate = image(world, "work:remote", &only("input.git"));
    let from = |url: &str| run(world, &gate, &[format!("--opt=context={url}"), file.clone()]);
    from(&lax).passed();
    from(&strict).refused(&["denied by policy"]);
}

/// Repositories of one commit each.
struct Repositories {
    server: HttpServer,
    dir: TempDir,
}

impl Repositories {
    fn head(&self, name: &str) -> String {
        let bare = self.dir.path().join(format!("{name}.git"));
        git(&bare, &["rev-parse", "main"]).trim().to_owned()
    }
}

/// Repositories by name, each with its files.
fn repositories(all: &[(&str, &[(&str, &str)])]) -> Result<Repositories, peers::NoPeer> {
    let dir = tempfile::tempdir().unwrap();
    for (name, files) in all {
        let work = folder(files);
        git(work.path(), &["init", "-q", "-b", "main"]);
        git(work.path(), &["add", "."]);
        git(work.path(), &["commit", "-q", "-m", &format!("{name} in {}", dir.path().display())]);
        let bare = dir.path().join(format!("{name}.git"));
        git(work.path(), &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
    }
    Ok(Repositories { server: peers::serve_git(dir.path().to_owned())?, dir })
}
