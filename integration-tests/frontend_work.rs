//! What the frontend does beyond allowing and refusing: what it shows, what it pins, what it does
//! with submodules, caches and remote contexts, and with whatever would undo its decisions.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::frontend_show::clients::{Buildx, Ended};
use crate::peers::{self, GitServer, HttpServer, Response, World, folder, git, need};

/// Allows everything.
const ALLOW: &str = "package docker\ndecision := {\"allow\": true}\n";

fn binary() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_buildgate"))
}

/// The image of the frontend, with these rules of an org in it; none where they are empty.
fn image(world: &World, name: &str, rego: &str) -> String {
    static BASE: OnceLock<()> = OnceLock::new();
    BASE.get_or_init(|| {
        let made = peers::make_image(world, "work:made", binary(), "");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    });
    let rego = if rego.is_empty() { ALLOW } else { rego };
    peers::push_org(world, &world.image("work:made"), name, binary(), rego)
}

/// The image that allows everything by itself.
fn open(world: &World) -> &'static str {
    static OPEN: OnceLock<String> = OnceLock::new();
    OPEN.get_or_init(|| image(world, "work:open", ""))
}

struct Built {
    passed: bool,
    said: String,
}

impl Built {
    fn passed(self) -> String {
        assert!(self.passed, "it failed:\n{}", self.said);
        self.said
    }

    fn refused(self, wanted: &[&str]) -> String {
        assert!(!self.passed, "it passed:\n{}", self.said);
        says(&self.said, wanted);
        self.said
    }
}

fn says(said: &str, wanted: &[&str]) {
    for part in wanted {
        assert!(said.contains(part), "{part:?} is missing in:\n{said}");
    }
}

fn run(world: &World, gate: &str, options: &[String]) -> Built {
    let mut build = world.buildkit.buildctl();
    build.args(["build", "--progress=plain", "--no-cache", "--frontend=gateway.v0"]);
    build.arg(format!("--opt=source={gate}")).args(options);
    let output = build.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Built { passed: output.status.success(), said }
}

fn build(world: &World, gate: &str, context: &TempDir, options: &[&str]) -> Built {
    let context = context.path().display();
    let mut all =
        vec![format!("--local=context={context}"), format!("--local=dockerfile={context}")];
    all.extend(options.iter().map(|&option| option.to_owned()));
    run(world, gate, &all)
}

/// Allows the client's directories and what `condition` says; denies the rest in our words.
fn only(condition: &str) -> String {
    format!(
        "package docker\n\
         default allow := false\n\
         allow if input.local\n\
         allow if {condition}\n\
         deny_msg contains \"ours says no\" if not allow\n\
         decision := {{\"allow\": allow, \"deny_msg\": deny_msg}}\n"
    )
}

#[test]
fn decisions_and_warnings_are_shown() {
    let world = need!(peers::world());
    let base = world.image("base:1");
    let rego = "package docker\n\
        allow if input.local\n\
        allow if input.image.labels[\"org.example.tier\"] == \"base\"\n\
        warn_msg contains \"base is going away\" if input.image\n\
        default allow := false\n\
        decision := {\"allow\": allow, \"warn_msg\": warn_msg}\n";
    let context =
        folder(&[("Dockerfile", &format!("# one\nFROM {base}\n")), ("Dockerfile.rego", rego)]);
    let said = build(world, open(world), &context, &[]).passed();
    says(
        &said,
        &[
            "[policy] sources are judged by ",
            "Dockerfile.rego",
            &format!("[policy] allowed: docker-image://{base} as docker-image://{base}@sha256:"),
            "; fetched config; held: ",
            "allow (Dockerfile.rego:3)",
            &format!("[policy] fetch config of docker-image://{base}"),
            "WARN: base is going away",
        ],
    );
    // The warning stands at its line, for those who show lines.
    let said = build(world, open(world), &context, &["--progress=rawjson"]).passed();
    let warnings: Vec<serde_json::Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|mut status| status.get_mut("warnings").map(serde_json::Value::take))
        .collect();
    let [warnings] = warnings.as_slice() else { panic!("{warnings:?} in:\n{said}") };
    assert_eq!(warnings[0]["range"][0]["start"]["line"], 2, "{warnings}");
    assert_eq!(warnings[0]["sourceInfo"]["filename"], "Dockerfile", "{warnings}");
}

#[test]
fn a_denial_names_the_rule_and_what_would_pass() {
    let world = need!(peers::world());
    let app = world.image("app:plain");
    let rule = only("endswith(input.image.repo, \"base\")");
    let silent = "package docker\nallow if input.local\nallow if input.image.tag == \"1\"\n\
                  decision := {\"allow\": allow}\ndefault allow := false\n";
    for (rego, wanted) in [
        (
            rule.as_str(),
            &[
                "ours says no",
                "denied by Dockerfile.rego at Dockerfile.rego:5; `allow` at Dockerfile.rego:4 came \
                 nearest to allowing it, if `endswith(input.image.repo, \"base\")` held; \
                 input.image.repo is \"",
            ][..],
        ),
        (
            silent,
            &["no rule of Dockerfile.rego allows it; `allow` at Dockerfile.rego:3 came nearest"],
        ),
    ] {
        let context =
            folder(&[("Dockerfile", &format!("FROM {app}\n")), ("Dockerfile.rego", rego)]);
        build(world, open(world), &context, &[]).refused(wanted);
    }
}

#[test]
fn an_image_is_decided_once_and_its_digest_is_the_same_image() {
    let world = need!(peers::world());
    let base = world.image("base:1");
    // Whoever asked again by the digest would be refused.
    let rego = "package docker\n\
        allow if input.local\n\
        allow if { input.image; not input.image.isCanonical }\n\
        decision := {\"allow\": allow}\ndefault allow := false\n";
    let from = format!("FROM {base} AS a\nFROM {base}\nCOPY --from=a /bin/busybox /b\n");
    let context = folder(&[("Dockerfile", &from), ("Dockerfile.rego", rego)]);
    let platforms = "--opt=platform=linux/amd64,linux/amd64/v2";
    for (options, wanted) in [(&[][..], 1), (&[platforms], 2)] {
        let said = build(world, open(world), &context, options).passed();
        assert_eq!(told(&said, &format!("docker-image://{base}")), wanted, "{said}");
        assert_eq!(told(&said, "local://context"), 1, "{said}");
    }
    let digest = build(
        world,
        open(world),
        &folder(&[
            ("Dockerfile", &format!("FROM {base}@{}\n", world.registry.digest("base", "1"))),
            ("Dockerfile.rego", rego),
        ]),
        &[],
    );
    digest.refused(&["isCanonical"]);
}

/// How often people are told that something is allowed. A vertex has a number, and its name may be printed
/// again.
fn told(said: &str, source: &str) -> usize {
    let text = format!(" [policy] allowed: {source}");
    let lines = said.lines().filter(|line| line.starts_with('#') && line.contains(&text));
    lines.collect::<std::collections::BTreeSet<_>>().len()
}

/// One file in two manners is one file.
#[test]
fn a_file_is_decided_once() {
    let world = need!(peers::world());
    let files = HttpServer::files([("/f", b"good".to_vec())]);
    let url = files.url("/f");
    let context = folder(&[
        ("Dockerfile", &format!("FROM scratch\nADD {url} /a\nADD --chmod=755 {url} /b\n")),
        ("Dockerfile.rego", &only("startswith(input.http.checksum, \"sha256:\")")),
    ]);
    let said = build(world, open(world), &context, &[]).passed();
    assert_eq!(told(&said, &url), 1, "{said}");
}

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

/// No frontend can have what `RUN` fetches judged.
#[test]
fn a_policy_that_asks_for_exec_proxy_is_refused() {
    let world = need!(peers::world());
    let rego = "package docker\ndecision := {\"allow\": true, \"caps\": {\"exec.proxy\": true}}\n";
    let context =
        folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n"), ("Dockerfile.rego", rego)]);
    build(world, open(world), &context, &[]).refused(&[
        "a policy asks for exec.proxy",
        "it takes a gate in front of buildkitd",
        "1 | >>> FROM ",
    ]);
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
fn ask(host: &str, method: &str, path: &str) -> Response {
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

#[test]
fn a_cache_is_imported_as_it_was_judged() {
    let world = need!(peers::world());
    let cached = world.image("cached:1");
    let context = folder(&[
        ("Dockerfile", &format!("FROM {}\nCOPY a /a\n", world.image("base:1"))),
        ("Dockerfile.rego", &only("input.image.labels[\"org.example.tier\"] == \"base\"")),
        ("a", "a"),
    ]);
    // The cache is in the image itself, which has labels to read.
    let inline = ["build-arg:BUILDKIT_INLINE_CACHE=1"];
    world.buildkit.push(context.path(), &cached, &inline, "");
    let import = format!("--import-cache=type=registry,ref={cached}");
    let said = build(world, open(world), &context, &[&import]).passed();
    says(
        &said,
        &[
            &format!(
                "[policy] allowed as a cache: docker-image://{cached} as docker-image://{cached}@sha256:"
            ),
            &format!("importing cache manifest from {cached}@sha256:"),
        ],
    );
}

/// Repositories by name, served over HTTP: `top` has `middle`, which has `bottom`.
pub struct Modules {
    pub server: HttpServer,
    _dir: TempDir,
}

impl Modules {
    pub fn start() -> Result<Self, peers::NoPeer> {
        Self::written(|module| (module.to_owned(), module.to_owned()))
    }

    /// The same with how the path of each is written in `.gitmodules`, and where its link is.
    pub fn written(path: impl Fn(&str) -> (String, String)) -> Result<Self, peers::NoPeer> {
        let dir = tempfile::tempdir().unwrap();
        let served = dir.path().join("served");
        std::fs::create_dir(&served).unwrap();
        let mut below: Option<(&str, String)> = None;
        for name in ["bottom", "middle", "top"] {
            let work = dir.path().join(name);
            std::fs::create_dir(&work).unwrap();
            git(&work, &["init", "-q", "-b", "main"]);
            std::fs::write(work.join(name), name).unwrap();
            if let Some((module, commit)) = &below {
                let (path, link) = path(module);
                let text =
                    format!("[submodule \"{module}\"]\n\tpath = {path}\n\turl = ../{module}.git\n");
                std::fs::write(work.join(".gitmodules"), text).unwrap();
                let link = format!("160000,{commit},{link}");
                git(&work, &["update-index", "--add", "--cacheinfo", &link]);
            }
            git(&work, &["add", "--", name]);
            if below.is_some() {
                git(&work, &["add", ".gitmodules"]);
            }
            // A commit of its own each time: a daemon that has it fetches nothing.
            let message = format!("{name} of {}", dir.path().display());
            git(&work, &["commit", "-q", "-m", &message]);
            let commit = git(&work, &["rev-parse", "HEAD"]).trim().to_owned();
            let bare = served.join(format!("{name}.git"));
            git(&work, &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
            git(&bare, &["config", "uploadpack.allowAnySHA1InWant", "true"]);
            below = Some((name, commit));
        }
        Ok(Self { server: peers::serve_git(served)?, _dir: dir })
    }

    pub fn asked(&self, name: &str) -> bool {
        self.server.asked().iter().any(|it| it.path.contains(name))
    }
}

#[test]
fn submodules_are_judged_one_by_one() {
    let world = need!(peers::world());
    let run = |condition: &str| {
        let modules = Modules::start().unwrap();
        let url = modules.server.url("/top.git");
        let context = folder(&[
            ("Dockerfile", &format!("FROM scratch\nADD {url} /src\n")),
            ("Dockerfile.rego", &only(condition)),
        ]);
        let out = tempfile::tempdir().unwrap();
        let output = format!("--output=type=local,dest={}", out.path().display());
        let built = build(world, open(world), &context, &[&output]);
        let there = out.path().join("src/middle/bottom/bottom").exists();
        (built, modules, there)
    };
    let (built, _, there) = run("input.git");
    let said = built.passed();
    assert!(there, "{said}");
    says(&said, &["[policy] allowed as a submodule: git://"]);
    for (allowed, refused) in [("(top|middle)", "bottom"), ("top", "middle")] {
        let (built, modules, _) =
            run(&format!("regex.match(\"/{allowed}.git$\", input.git.remote)"));
        built.refused(&[
            &format!("its submodule `{refused}`, git://"),
            "is refused: ours says no",
            "2 | >>> ADD ",
        ]);
        assert!(
            !modules.asked(refused) && !modules.asked("bottom"),
            "{:?}",
            modules.server.asked()
        );
    }
}

/// For a module, what `.gitmodules` writes as its path, and what git reads there.
type Oddly = fn(&str) -> (String, String);

/// Paths that git reads in another way than others may.
pub const ODDLY_WRITTEN: [Oddly; 2] = [
    |module| (format!("{module}\u{a0}"), format!("{module}\u{a0}")),
    |module| (format!("a\t{module}"), format!("a {module}")),
];

#[test]
fn submodules_that_git_alone_sees_are_refused() {
    let world = need!(peers::world());
    for written in ODDLY_WRITTEN {
        let modules = need!(Modules::written(written));
        let add = format!("FROM scratch\nADD {} /src\n", modules.server.url("/top.git"));
        let rego = only("endswith(input.git.remote, \"/top.git\")");
        let context = folder(&[("Dockerfile", &add), ("Dockerfile.rego", &rego)]);
        build(world, open(world), &context, &[])
            .refused(&[".gitmodules: line 2 is not of the form that can be judged"]);
        assert!(!modules.asked("middle") && !modules.asked("bottom"));
    }
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

/// A context as an archive brings its own policy, which a policy before it has let in.
#[test]
fn the_policy_in_an_archive_is_read() {
    let world = need!(peers::world());
    let base = world.image("base:1");
    let archive = |rego: &str| {
        let from = format!("FROM {base}\n");
        let dir = folder(&[("Dockerfile", &from), ("Dockerfile.rego", rego)]);
        let tar = Command::new("tar").args(["-czf", "-", "-C"]).arg(dir.path()).arg(".").output();
        tar.unwrap().stdout
    };
    let org = only("input.http\nallow if input.image");
    let gate = image(world, "work:archive", &org);
    // The rules of an archive judge the archive as well.
    let files = HttpServer::files([
        ("/open.tgz", archive(&org)),
        ("/strict.tgz", archive(&only("input.http"))),
    ]);
    let from = |name| run(world, &gate, &[format!("--opt=context={}", files.url(name))]);
    from("/open.tgz").passed();
    from("/strict.tgz").refused(&["ours says no", "denied by Dockerfile.rego"]);
}

/// Rules that read what lies beside them, and let in only the images that it names.
fn reading() -> [(&'static str, &'static str); 3] {
    let rules = "package docker\n\
        import data.lib.hosts\n\
        default allow := false\n\
        allow if not input.image\n\
        allow if hosts.ours(input.image.repo)\n\
        deny_msg contains \"not among ours\" if not allow\n\
        decision := {\"allow\": allow, \"deny_msg\": deny_msg}\n";
    let hosts = "package lib.hosts\n\
        ours(repo) if { some name in load_json(\"data/ours.json\").names; endswith(repo, name) }\n";
    [("rego", rules), ("lib/hosts.rego", hosts), ("data/ours.json", "{\"names\": [\"/base\"]}")]
}

/// A policy beside the Dockerfile has what lies there too: with the client, in a folder of it, in a
/// repository.
#[test]
fn a_policy_reads_what_lies_beside_it() {
    let world = need!(peers::world());
    let plain = crate::frontend::image(world);
    let [(_, rules), hosts, data] = reading();
    for (image, passes) in [("base:1", true), ("app:plain", false)] {
        let from = format!("FROM {}\n", world.image(image));
        let check = |built: Built, what: &str| {
            assert_eq!(built.passed, passes, "{what}, {image}: {}", built.said);
            assert_eq!(built.said.contains("not among ours"), !passes, "{what}: {}", built.said);
        };
        let files = [("Dockerfile", from.as_str()), ("Dockerfile.rego", rules), hosts, data];
        let context = folder(&files);
        check(build(world, plain, &context, &[]), "local");
        let below = folder(&[
            ("sub/x.Dockerfile", &from),
            ("sub/x.Dockerfile.rego", rules),
            ("sub/lib/hosts.rego", hosts.1),
            ("sub/data/ours.json", data.1),
            // What lies elsewhere is not read.
            ("data/ours.json", "{\"names\": []}"),
        ]);
        check(build(world, plain, &below, &["--opt=filename=sub/x.Dockerfile"]), "below");
        let served = tempfile::tempdir().unwrap();
        let bare = served.path().join("top.git");
        git(context.path(), &["init", "-q", "-b", "main"]);
        git(context.path(), &["add", "."]);
        let message = format!("of {}", context.path().display());
        git(context.path(), &["commit", "-q", "-m", &message]);
        git(context.path(), &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
        let server = need!(peers::serve_git(served.path().to_owned()));
        let url = server.url("/top.git");
        // The org lets everything in; the repository's own policy does not.
        check(run(world, open(world), &[format!("--opt=context={url}#main")]), "git");
    }
}

/// The policy of a repository has its keys there too, and by them it judges the repository.
#[test]
fn a_policy_in_a_repository_reads_its_keys() {
    let world = need!(peers::world());
    need!(peers::installed("ssh-keygen", "openssh-client"));
    let dir = tempfile::tempdir().unwrap();
    let [ours, theirs] = ["ours", "theirs"].map(|name| {
        let path = dir.path().join(name);
        let mut make = Command::new("ssh-keygen");
        let make = make.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&path).status().unwrap();
        assert!(make.success());
        (path.display().to_string(), std::fs::read_to_string(path.with_extension("pub")).unwrap())
    });
    let rules = "package docker\n\
        default allow := false\n\
        allow if not input.git\n\
        allow if verify_git_signature(input.git.commit, \"keys/signers\")\n\
        deny_msg contains \"ours says no\" if not allow\n\
        decision := {\"allow\": allow, \"deny_msg\": deny_msg}\n";
    for (keys, wanted) in [(&ours.1, None), (&theirs.1, Some("which is not in the key file"))] {
        let work = folder(&[
            ("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n"),
            ("Dockerfile.rego", rules),
            ("keys/signers", keys),
        ]);
        let key = format!("user.signingkey={}", ours.0);
        let signed = |args: &[&str]| {
            git(work.path(), &[&["-c", "gpg.format=ssh", "-c", &key], args].concat())
        };
        git(work.path(), &["init", "-q", "-b", "main"]);
        git(work.path(), &["add", "."]);
        signed(&["commit", "-q", "-S", "-m", &format!("of {}", work.path().display())]);
        let served = tempfile::tempdir().unwrap();
        let bare = served.path().join("top.git");
        git(work.path(), &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
        let server = need!(peers::serve_git(served.path().to_owned()));
        let built =
            run(world, open(world), &[format!("--opt=context={}#main", server.url("/top.git"))]);
        match wanted {
            None => drop(built.passed()),
            Some(wanted) => drop(built.refused(&[wanted])),
        }
    }
}

/// The policies of the image, of the named context and beside the Dockerfile: each denies by itself.
#[test]
fn each_of_the_policies_must_allow() {
    let world = need!(peers::world());
    let strict = |who: &str| only("input.http").replace("ours says no", &format!("{who} says no"));
    let org = image(world, "work:strict", &strict("the org"));
    let base = world.image("base:1");
    let named = "--opt=context:policy=local:policy";
    for denying in [&[][..], &["the org"], &["the name"], &["the file"], &["the name", "the file"]]
    {
        let rules = |who: &str| match denying.contains(&who) {
            true => strict(who),
            false => ALLOW.to_owned(),
        };
        let policy = folder(&[("p.rego", &rules("the name"))]);
        let context = folder(&[
            ("Dockerfile", &format!("FROM {base}\n")),
            ("Dockerfile.rego", &rules("the file")),
        ]);
        let gate = if denying.contains(&"the org") { &org } else { open(world) };
        let local = format!("--local=policy={}", policy.path().display());
        let built = build(world, gate, &context, &[&local, named]);
        match denying.first() {
            None => drop(built.passed()),
            Some(first) => drop(built.refused(&[&format!("{first} says no")])),
        }
    }
}

/// What a build is asked for decides.
#[test]
fn rules_read_the_options_of_the_build() {
    let world = need!(peers::world());
    let plain = crate::frontend::image(world);
    let from = format!("FROM {} AS one\nFROM one\n", world.image("base:1"));
    for (condition, option) in [
        ("input.env.args.WHO == \"us\"", "--opt=build-arg:WHO=us"),
        ("input.env.labels.team == \"us\"", "--opt=label:team=us"),
        ("input.env.target == \"one\"", "--opt=target=one"),
        ("input.env.filename == \"other\"", "--opt=filename=other"),
    ] {
        let rules = only(condition);
        let context = folder(&[
            ("Dockerfile", &from),
            ("Dockerfile.rego", &rules),
            ("other", &from),
            ("other.rego", &rules),
        ]);
        build(world, plain, &context, &[option]).passed();
        build(world, plain, &context, &[]).refused(&["ours says no"]);
    }
}

/// A warning about a build by URL stands at its line too.
#[test]
fn warnings_of_a_remote_context_have_lines() {
    let world = need!(peers::world());
    let rego = "package docker\nwarn_msg contains \"base is going away\" if input.image\n\
        decision := {\"allow\": true, \"warn_msg\": warn_msg}\n";
    let gate = image(world, "work:warns", rego);
    let from = format!("# one\nFROM {}\n", world.image("base:1"));
    let files = HttpServer::files([("/file", from.into_bytes())]);
    let options =
        [format!("--opt=context={}", files.url("/file")), "--progress=rawjson".to_owned()];
    let said = run(world, &gate, &options).passed();
    let warning = said
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .find_map(|mut status| status.get_mut("warnings").map(serde_json::Value::take));
    let warning = warning.unwrap_or_else(|| panic!("no warning in:\n{said}"));
    assert_eq!(warning[0]["range"][0]["start"]["line"], 2, "{warning}");
}

/// What a registry gives to those alone who have its password: rules read it, and builds get it, by
/// the client's own credentials.
#[test]
fn a_registry_with_a_password_is_asked_with_the_clients() {
    let world = need!(peers::world());
    let registry = need!(peers::Registry::start_with_password());
    let secret = format!("{}/secret:1", registry.host());
    let login = folder(&[(
        "config.json",
        &format!(
            "{{\"auths\":{{\"{}\":{{\"username\":\"tests\",\"password\":\"for tests\"}}}}}}",
            registry.host()
        ),
    )]);
    let stranger = folder(&[("config.json", "{}")]);
    let run = |config: &TempDir, context: &TempDir, options: &[String]| {
        let output = world
            .buildkit
            .buildctl()
            .env("DOCKER_CONFIG", config.path())
            .args(["build", "--progress=plain", "--no-cache"])
            .arg(format!("--local=context={}", context.path().display()))
            .arg(format!("--local=dockerfile={}", context.path().display()))
            .args(options)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Built { passed: output.status.success(), said }
    };
    let labelled = folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\nLABEL tier=ours\n")]);
    let push = format!("--output=type=image,name={secret},push=true");
    run(&login, &labelled, &["--frontend=dockerfile.v0".into(), push]).passed();
    let gate = ["--frontend=gateway.v0".to_owned(), format!("--opt=source={}", open(world))];
    let buildx = need!(Buildx::get(world));
    let by_buildx = |config: &TempDir, context: &TempDir| -> Built {
        let mut build = buildx.command(&["build", "--progress=plain", "--no-cache"]);
        build.env("DOCKER_CONFIG", config.path());
        build.arg(format!("--build-arg=BUILDKIT_SYNTAX={}", open(world)));
        let ended =
            Ended::from(build.arg("--policy=disabled=true").arg(context.path()).output().unwrap());
        Built { passed: ended.passed, said: ended.said }
    };
    for (tier, config, wanted) in [
        ("ours", &login, None),
        ("theirs", &login, Some("ours says no")),
        ("ours", &stranger, Some("it could not be judged, and so is refused")),
    ] {
        let context = folder(&[
            ("Dockerfile", &format!("FROM {secret}\n")),
            ("Dockerfile.rego", &only(&format!("input.image.labels.tier == \"{tier}\""))),
        ]);
        for built in [run(config, &context, &gate), by_buildx(config, &context)] {
            match wanted {
                None => drop(built.passed()),
                Some(wanted) => drop(built.refused(&[wanted])),
            }
        }
    }
}

/// What the image's rules pin for one platform, the other does not get.
#[test]
fn each_platform_is_converted_by_itself() {
    let world = need!(peers::world());
    let both = "platform=linux/amd64,linux/arm64";
    for tag in ["one", "two"] {
        let from = format!("FROM scratch\nCOPY Dockerfile /{tag}\n");
        let context = folder(&[("Dockerfile", &from)]);
        let image = world.image(&format!("each:{tag}"));
        world.buildkit.push(context.path(), &image, &[both], "");
    }
    let app = world.image("each:one");
    let digest = world.registry.digest("each", "two");
    let rego = format!(
        "package docker\n\
         allow if input.local\n\
         allow if {{ input.image; input.image.platform != \"linux/arm64\" }}\n\
         allow if {{ input.image.platform == \"linux/arm64\"; pin_image(input.image, \"{digest}\") }}\n\
         decision := {{\"allow\": allow}}\ndefault allow := false\n"
    );
    let context = folder(&[("Dockerfile", &format!("FROM {app}\n")), ("Dockerfile.rego", &rego)]);
    let out = tempfile::tempdir().unwrap();
    let output = format!("--output=type=local,dest={}", out.path().display());
    let platforms = format!("--opt={both}");
    let said = build(world, open(world), &context, &[&platforms, &output]).passed();
    says(&said, &[&format!("(linux/arm64) as docker-image://{app}@{digest}")]);
    for (platform, wanted) in [("linux_amd64", ["one"]), ("linux_arm64", ["two"])] {
        let files = std::fs::read_dir(out.path().join(platform)).unwrap();
        let names: Vec<_> = files.map(|file| file.unwrap().file_name()).collect();
        assert_eq!(names, wanted, "{platform}: {said}");
    }
}

/// Before anything that may take long: the child here never says a word. What the system takes to
/// start a program is measured by one that does nothing else, so that a busy machine fails nobody.
#[test]
fn the_daemon_hears_of_us_at_once() {
    let quickest = |start: &dyn Fn() -> Duration| (0..10).map(|_| start()).min().unwrap();
    let ours = quickest(&|| {
        let started = Instant::now();
        let mut frontend = Command::new(binary())
            .args(["frontend", "--child=/bin/cat"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut first = [0; 3];
        frontend.stdout.as_mut().unwrap().read_exact(&mut first).unwrap();
        let took = started.elapsed();
        frontend.kill().unwrap();
        frontend.wait().unwrap();
        assert_eq!(&first, b"PRI");
        took
    });
    let nothing = quickest(&|| {
        let started = Instant::now();
        Command::new(binary()).arg("--version").stdout(Stdio::null()).status().unwrap();
        started.elapsed()
    });
    assert!(ours < Duration::from_millis(50) + nothing, "{ours:?}, to start at all: {nothing:?}");
}
