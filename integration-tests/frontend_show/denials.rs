//! Each kind of source, through each way in: stopped before a byte of it is fetched, with the org's
//! words, and with the line of the Dockerfile where there is one.
//!
//! | way in                         | image | URL | repository | submodule | layout | directory | blob |
//! |--------------------------------|-------|-----|------------|-----------|--------|-----------|------|
//! | FROM                           | x     |     |            |           |        |           |      |
//! | COPY --from, mount, cache mount| x     |     |            |           |        |           |      |
//! | ADD, alone and among others    |       | x   | x          | x         |        |           |      |
//! | ONBUILD                        | x     | x   | x          |           |        |           |      |
//! | a variable, a build argument   | x     | x   |            |           |        |           |      |
//! | a named context: FROM          | x     | x   | x          | x         | x      | x         | -    |
//! | a named context: COPY          | x     | x   | x          | x         | x      | x         | -    |
//! | a named context: mount         | x     | x   | x          | x         | x      | x         | -    |
//! | in place of an image           | x     | x   | x          | x         |        |           | -    |
//! | the context, the Dockerfile's  |       | x   | x          | x         |        | x         | -    |
//! | named inside a remote context  | x     | x   |            |           |        |           |      |
//! | a target of bake               |       | x   | x          |           |        |           |      |
//! | an input of raw LLB            | x     | x   | x          | (bundle)  | x      | x         | x    |
//! | a cache                        | x     |     |            |           | x      |           |      |
//! | an SBOM generator              | x     |     |            |           |        |           |      |
//!
//! Empty: the Dockerfile's language has no such thing (a submodule comes by its repository, whatever names
//! that; a layout by a name). `-`: the Dockerfile frontend refuses it, by `schemes_that_are_no_context`.

use std::path::Path;
use std::process::Command;

use buildgate::rpc::Channel;
use buildgate::wire::proto::{control, pb};
use http::HeaderMap;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::builds::Ask;
use super::clients::{self, Buildx, Ended, Frontend};
use super::{gate, oci, stock};
use crate::peers::{self, GitServer, HttpServer, Registry, Response, World, need};

/// One way of one kind.
struct Denial {
    what: &'static str,
    dockerfile: String,
    asks: Vec<Ask>,
    /// The context, where it is not the client's folder.
    context: Option<String>,
    /// What the arrow points at; nothing where no line is at fault.
    line: &'static str,
}

struct Peers {
    world: &'static World,
    files: HttpServer,
    git: GitServer,
    /// Contexts by URL that name what is refused.
    remote: Remote,
    client: tempfile::TempDir,
}

/// Dockerfiles whose second line is at fault: each as a file by URL (`/add`), in an archive (`/add.tgz`)
/// and in a repository (`/add.git`).
struct Remote {
    files: HttpServer,
    git: HttpServer,
    _served: tempfile::TempDir,
}

impl Peers {
    fn start() -> Result<Self, peers::NoPeer> {
        let world = peers::world()?;
        let client = peers::folder(&[("refused/file", "never sent")]);
        let files = HttpServer::files([("/allowed", b"allowed".to_vec())]);
        let git = GitServer::start()?;
        let remote = Remote::start(world, &files)?;
        let this = Self { world, files, git, remote, client };
        let layout = this.path("layout");
        let context = peers::folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
        let mut build = world.buildkit.buildctl();
        build.args(["build", "--frontend=dockerfile.v0"]);
        build.arg(format!("--local=context={}", context.path().display()));
        build.arg(format!("--local=dockerfile={}", context.path().display()));
        build.arg(format!("--output=type=oci,tar=false,dest={layout}"));
        build.arg(format!("--export-cache=type=local,dest={}", this.path("cache")));
        Ended::from(build.output().unwrap()).passed("the layout");
        this.empty_layout();
        for (tag, instruction) in [
            ("copy", format!("COPY --from={} / /x", world.image("refused:onbuild"))),
            ("add", format!("ADD {} /x", this.files.url("/refused.tgz"))),
            ("clone", format!("ADD {}/refused.git /x", this.files.url(""))),
            ("mount", format!("RUN --mount=from={} true", world.image("refused:onbuild"))),
        ] {
            let onbuild = format!("FROM scratch\nONBUILD {instruction}\n");
            let context = peers::folder(&[("Dockerfile", &onbuild)]);
            world.buildkit.push(context.path(), &world.image(&format!("trigger:{tag}")), &[], "");
        }
        Ok(this)
    }

    fn path(&self, name: &str) -> String {
        self.client.path().join(name).to_str().unwrap().to_owned()
    }

    /// Whoever looks for anything in the layout fails, and not with a denial.
    fn empty_layout(&self) {
        let blobs = Path::new(&self.path("layout")).join("blobs/sha256");
        std::fs::remove_dir_all(&blobs).unwrap();
        std::fs::create_dir(&blobs).unwrap();
    }

    /// What anybody was asked for that nobody may be asked for.
    fn fetched(&self) -> Vec<String> {
        let refused = |path: &str| path.contains("refused") || path.contains("unjudged");
        let registry: &Registry = &self.world.registry;
        let mut found = registry.accesses(&["refused"]);
        let asked = self.files.asked().into_iter().chain(self.git.asked());
        found.extend(asked.map(|request| request.path).filter(|path| refused(path)));
        found
    }
}

impl Remote {
    fn start(world: &World, files: &HttpServer) -> Result<Self, peers::NoPeer> {
        let served = tempfile::tempdir().unwrap();
        let base = format!("FROM {}\n", world.image("base:1"));
        let image = world.image("refused:1");
        let mut contents = std::collections::BTreeMap::new();
        for (name, line) in [
            ("mount", format!("RUN --mount=from={image} true\n")),
            ("copy", format!("COPY --from={image} / /\n")),
            ("named", "COPY --from=named / /\n".to_owned()),
            ("add", format!("ADD {} /\n", files.url("/refused.tgz"))),
        ] {
            let text = format!("{base}{line}");
            let context = peers::folder(&[("Dockerfile", &text)]);
            let mut tar = Command::new("tar");
            let tar = tar.args(["-czf", "-", "-C"]).arg(context.path()).arg(".").output().unwrap();
            contents.insert(format!("/{name}"), text.into_bytes());
            contents.insert(format!("/{name}.tgz"), tar.stdout);
            let bare = served.path().join(format!("{name}.git"));
            peers::git(context.path(), &["init", "-q", "-b", "main"]);
            peers::git(context.path(), &["add", "."]);
            let message = format!("of {}", context.path().display());
            peers::git(context.path(), &["commit", "-q", "-m", &message]);
            peers::git(context.path(), &["clone", "-q", "--bare", ".", bare.to_str().unwrap()]);
        }
        let git = peers::serve_git(served.path().to_owned())?;
        let files = HttpServer::start(move |request| match contents.get(&request.path) {
            Some(content) => Response::ok(content.clone()),
            None => Response::status(404),
        });
        Ok(Self { files, git, _served: served })
    }

    /// Where the Dockerfile of this name is, in each form.
    fn urls(&self, name: &str) -> [String; 3] {
        let of = |ending: &str| self.files.url(&format!("/{name}{ending}"));
        [of(""), of(".tgz"), format!("{}#main", self.git.url(&format!("/{name}.git")))]
    }
}

fn table(peers: &Peers) -> Vec<Denial> {
    let Peers { world, files, git, .. } = peers;
    let image = world.image("refused:1");
    let base = format!("FROM {}\n", world.image("base:1"));
    let (url, repository) = (files.url("/refused.tgz"), format!("{}/refused.git", files.url("")));
    let submodule = format!("{}#submodule", git.url());
    let layout = oci::digest(Path::new(&peers.path("layout")));
    let row = |what, dockerfile: String, asks, line| Denial {
        what,
        dockerfile,
        asks,
        context: None,
        line,
    };
    let remote = |what, context: &str, asks, line| Denial {
        what,
        dockerfile: String::new(),
        asks,
        context: Some(context.to_owned()),
        line,
    };
    let named = |value: &str| vec![Ask::Context("named", value.to_owned())];
    let directory = || vec![Ask::Directory("refused", peers.path("refused"))];
    let oci = || vec![Ask::Layout("refused", peers.path("layout"), layout.clone())];
    let (copy, mount) =
        (format!("{base}COPY --from=named / /\n"), format!("{base}RUN --mount=from=named true\n"));
    let mounted = format!("{base}RUN --mount=from=refused true\n");
    let from_named = "FROM named\n".to_owned();
    let cached = |value: String| vec![Ask::Cache(value)];
    let triggered = |tag: &str| format!("FROM {}\n", world.image(&format!("trigger:{tag}")));
    let ssh =
        git.url().replace("http://127.0.0.1", "ssh://git@127.0.0.1").replace("app", "refused");
    let mut rows = vec![
        row("image by FROM", format!("FROM {image}\n"), vec![], "1 | >>> FROM "),
        row(
            "image by FROM of platforms",
            format!("FROM {image}\n"),
            vec![Ask::Platforms("linux/amd64,linux/arm64")],
            "1 | >>> FROM ",
        ),
        row(
            "image by COPY --from",
            format!("{base}COPY --from={image} / /\n"),
            vec![],
            "2 | >>> COPY ",
        ),
        row(
            "image by a mount",
            format!("{base}RUN --mount=from={image} true\n"),
            vec![],
            "2 | >>> RUN ",
        ),
        row(
            "image by a cache mount",
            format!("{base}RUN --mount=type=cache,target=/c,from={image} true\n"),
            vec![],
            "2 | >>> RUN ",
        ),
        row("image by a variable", format!("ARG I={image}\nFROM $I\n"), vec![], "2 | >>> FROM "),
        row(
            "image by an argument",
            "ARG I\nFROM $I\n".into(),
            vec![Ask::Arg("I", image.clone())],
            "2 | >>> FROM ",
        ),
        row(
            "URL by an argument",
            format!("{base}ARG U\nADD $U /\n"),
            vec![Ask::Arg("U", url.clone())],
            "3 | >>> ADD ",
        ),
        row(
            "URL among others",
            format!("{base}ADD {} {url} /x/\n", files.url("/allowed")),
            vec![],
            "2 | >>> ADD ",
        ),
        // Nobody tells a line: the Dockerfile does not name it, and the child adds none for mounts.
        row("image by ONBUILD, mounted", triggered("mount"), vec![], ""),
        row("image by ONBUILD", triggered("copy"), vec![], "1 | >>> FROM "),
        row("URL by ONBUILD", triggered("add"), vec![], "1 | >>> FROM "),
        row("repository by ONBUILD", triggered("clone"), vec![], "1 | >>> FROM "),
        row(
            "image by name",
            from_named.clone(),
            named(&format!("docker-image://{image}")),
            "1 | >>> FROM ",
        ),
        row(
            "image by name, copied",
            copy.clone(),
            named(&format!("docker-image://{image}")),
            "2 | >>> COPY ",
        ),
        row(
            "image by name, mounted",
            mount.clone(),
            named(&format!("docker-image://{image}")),
            "2 | >>> RUN ",
        ),
        row("image as a cache", base.clone(), cached(format!("type=registry,ref={image}")), ""),
        row("image as an SBOM generator", base.clone(), vec![Ask::Sbom(image.clone())], ""),
        row("URL by ADD", format!("{base}ADD {url} /\n"), vec![], "2 | >>> ADD "),
        row(
            "URL by ADD with a checksum",
            format!("{base}ADD --checksum=sha256:{} {url} /\n", "a".repeat(64)),
            vec![],
            "2 | >>> ADD ",
        ),
        row("URL by name", from_named.clone(), named(&url), "1 | >>> FROM "),
        row("URL by name, copied", copy.clone(), named(&url), "2 | >>> COPY "),
        row("URL by name, mounted", mount.clone(), named(&url), "2 | >>> RUN "),
        remote("URL as the context", &url, vec![], ""),
        row("repository by ADD", format!("{base}ADD {repository} /\n"), vec![], "2 | >>> ADD "),
        row(
            "repository by ADD with a checksum",
            format!("{base}ADD --checksum={} {repository} /\n", "a".repeat(40)),
            vec![],
            "2 | >>> ADD ",
        ),
        row("repository by name", from_named.clone(), named(&repository), "1 | >>> FROM "),
        row("repository by name, copied", copy.clone(), named(&repository), "2 | >>> COPY "),
        row("repository by name, mounted", mount.clone(), named(&repository), "2 | >>> RUN "),
        remote("repository as the context", &repository, vec![], ""),
        row("submodule by ADD", format!("{base}ADD {submodule} /\n"), vec![], "2 | >>> ADD "),
        row("submodule by name", from_named, named(&submodule), "1 | >>> FROM "),
        row("submodule by name, copied", copy, named(&submodule), "2 | >>> COPY "),
        row("submodule by name, mounted", mount, named(&submodule), "2 | >>> RUN "),
        remote("submodule of the context", &submodule, vec![], ""),
        row("layout by name", "FROM refused\n".into(), oci(), "1 | >>> FROM "),
        row(
            "layout by name, copied",
            format!("{base}COPY --from=refused / /\n"),
            oci(),
            "2 | >>> COPY ",
        ),
        row(
            "layout as a cache",
            base.clone(),
            cached(format!("type=local,src={}", peers.path("cache"))),
            "",
        ),
        row("directory by name", "FROM refused\n".into(), directory(), "1 | >>> FROM "),
        row(
            "directory by name, copied",
            format!("{base}COPY --from=refused / /\n"),
            directory(),
            "2 | >>> COPY ",
        ),
        row("layout by name, mounted", mounted.clone(), oci(), "2 | >>> RUN "),
        row("directory by name, mounted", mounted, directory(), "2 | >>> RUN "),
        row("repository by ADD and ssh", format!("{base}ADD {ssh} /\n"), vec![], "2 | >>> ADD "),
    ];
    let (copied, mounted) = (
        format!("FROM scratch\nCOPY --from={} / /\n", world.image("base:1")),
        format!("{base}RUN --mount=from={} true\n", world.image("app:plain")),
    );
    let placed = |name: &str, by: &str| vec![Ask::Place(world.image(name), by.to_owned())];
    for (what, by) in [
        ("image in place of another", url_of(&image)),
        ("URL in place of an image", url.clone()),
        ("repository in place of an image", repository.clone()),
        ("submodule in place of an image", submodule.clone()),
    ] {
        rows.extend([
            row(what, base.clone(), placed("base:1", &by), "1 | >>> FROM "),
            row(what, copied.clone(), placed("base:1", &by), "2 | >>> COPY "),
            row(what, mounted.clone(), placed("app:plain", &by), "2 | >>> RUN "),
        ]);
    }
    let inside = [
        ("image mounted by a context", "mount", "2 | >>> RUN "),
        ("image copied by a context", "copy", "2 | >>> COPY "),
        ("name copied by a context", "named", "2 | >>> COPY "),
        ("URL added by a context", "add", "2 | >>> ADD "),
    ];
    for (what, name, line) in inside {
        for url in peers.remote.urls(name) {
            let asks = if name == "named" { named(&url_of(&image)) } else { Vec::new() };
            rows.push(remote(what, &url, asks, line));
        }
    }
    rows
}

fn url_of(image: &str) -> String {
    format!("docker-image://{image}")
}

/// What is wrong with how one row ended; nothing where it was denied as it should be.
fn wrong(row: &Denial, ended: &Ended) -> Option<String> {
    let mut missing = Vec::new();
    if ended.passed {
        missing.push("a denial");
    }
    if !ended.said.contains("the org refuses") {
        missing.push("the org's words");
    }
    if !ended.said.contains(" not allowed by policy: action DENY") {
        missing.push("the daemon's words");
    }
    match row.line {
        "" if ended.said.contains(" | >>> ") => missing.push("no arrow"),
        line if !ended.said.contains(line) => missing.push(line),
        _ => {}
    }
    let said = &ended.said;
    (!missing.is_empty()).then(|| format!("{}: wants {}:\n{said}", row.what, missing.join(", ")))
}

/// A build through buildctl, as a row says.
fn by_buildctl(peers: &Peers, row: &Denial) -> Ended {
    let gate = gate(peers.world);
    let mut options: Vec<String> = row.asks.iter().flat_map(Ask::buildctl).collect();
    options.extend(row.context.iter().map(|url| format!("--opt=context={url}")));
    let context = peers::folder(&[("Dockerfile", &row.dockerfile)]);
    clients::buildctl(&peers.world.buildkit, &gate, context.path(), &options)
}

/// The same through Buildx.
fn by_buildx(peers: &Peers, row: &Denial) -> Ended {
    let buildx = Buildx::get(peers.world).unwrap();
    let context = peers::folder(&[("Dockerfile", &row.dockerfile)]);
    let mut options: Vec<String> = row.asks.iter().map(Ask::buildx).collect();
    options.push(format!("--build-arg=BUILDKIT_SYNTAX={}", gate(peers.world).image));
    // Buildx would fetch a context by URL itself, to look for a policy in it.
    options.push("--policy=disabled=true".to_owned());
    let place = row.context.as_ref().map_or(context.path(), Path::new);
    buildx.build(place, &options)
}

fn all(build: impl Fn(&Peers, &Denial) -> Ended) {
    let peers = need!(Peers::start());
    need!(Buildx::get(peers.world));
    let rows = table(&peers);
    let failed: Vec<String> =
        rows.iter().filter_map(|row| wrong(row, &build(&peers, row))).collect();
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
    assert_eq!(peers.fetched(), [""; 0]);
}

#[test]
fn each_kind_is_denied_through_each_way_in_by_buildctl() {
    all(by_buildctl);
}

#[test]
fn each_kind_is_denied_through_each_way_in_by_buildx() {
    all(by_buildx);
}

/// Caches that no rule can judge, and the way of older clients.
#[test]
fn other_caches_are_refused() {
    let peers = need!(Peers::start());
    let context = peers::folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /\n")]);
    let image = peers.world.image("refused:1");
    for (option, wanted) in [
        (format!("--opt=cache-from={image}"), "the org refuses"),
        ("--import-cache=type=gha,url=http://127.0.0.1:1/,token=t".into(), "a cache of this type"),
        ("--import-cache=type=s3,bucket=b,region=r,name=n".into(), "a cache of this type"),
    ] {
        let daemon = &peers.world.buildkit;
        let ended = clients::buildctl(daemon, &gate(peers.world), context.path(), &[option]);
        assert!(!ended.passed && ended.said.contains(wanted), "{}", ended.said);
    }
    assert_eq!(peers.fetched(), [""; 0]);
}

/// The Dockerfile in a directory of the client by another name than the usual one, which buildctl alone can
/// give.
#[test]
fn another_directory_of_the_dockerfile_is_refused() {
    let peers = need!(Peers::start());
    let context = peers::folder(&[("Dockerfile", "FROM scratch\nCOPY file /\n")]);
    let options = [
        "--opt=dockerfilekey=refused".to_owned(),
        format!("--local=refused={}", peers.path("refused")),
    ];
    let ended =
        clients::buildctl(&peers.world.buildkit, &gate(peers.world), context.path(), &options);
    let wanted = "the org refuses refused";
    assert!(!ended.passed && ended.said.contains(wanted), "{}", ended.said);
}

/// Blobs have no name that a client can give them.
#[test]
fn schemes_that_are_no_context() {
    let peers = need!(Peers::start());
    let digest = format!("sha256:{}", "a".repeat(64));
    let from = peers::folder(&[("Dockerfile", "FROM named\n")]);
    let image = peers.world.image("refused");
    for value in [
        format!("docker-image+blob://{image}@{digest}"),
        format!("oci-layout+blob://refused@{digest}"),
        "npm://refused".to_owned(),
        "input:refused".to_owned(),
    ] {
        let options = [format!("--opt=context:named={value}")];
        let ended =
            clients::buildctl(&peers.world.buildkit, &gate(peers.world), from.path(), &options);
        assert!(!ended.passed, "{value} passed: {}", ended.said);
    }
    assert_eq!(peers.fetched(), [""; 0]);
}

/// A target of bake that is built by the stock frontend is an input of one that is not.
#[test]
fn frontend_inputs_of_bake_are_judged() {
    let peers = need!(Peers::start());
    let buildx = need!(Buildx::get(peers.world));
    let (gate, stock) = (gate(peers.world), stock(peers.world));
    let url = peers.files.url("/refused-input");
    let repository = peers.files.url("/refused-input.git");
    for source in [url, repository] {
        let context = peers::folder(&[
            ("lower", &format!("# syntax={}\nFROM scratch\nADD {source} /x\n", stock.image)),
            ("upper", &format!("# syntax={}\nFROM below\n", gate.image)),
            (
                "docker-bake.hcl",
                "target \"lower\" { dockerfile = \"lower\" }\n\
                 target \"upper\" {\n  dockerfile = \"upper\"\n  contexts = { below = \"target:lower\" }\n}\n",
            ),
        ]);
        let mut bake = buildx.command(&["bake", "--progress=plain", "upper"]);
        let ended: Ended = bake.current_dir(context.path()).output().unwrap().into();
        assert!(!ended.passed && ended.said.contains("the org refuses"), "{}", ended.said);
    }
    assert_eq!(peers.fetched(), [""; 0]);
}

/// What no client sends by itself: inputs of raw LLB, of every kind.
#[tokio::test]
async fn frontend_inputs_of_any_kind_are_judged() {
    let peers = need!(Peers::start());
    let gate = gate(peers.world);
    let digest = format!("sha256:{}", "a".repeat(64));
    let host = peers.world.image("refused");
    let url = peers.files.url("/refused");
    for (identifier, attrs) in [
        (format!("docker-image://{host}:input"), vec![]),
        (url.clone(), vec![]),
        (
            format!("git://{}", url.trim_start_matches("http://")),
            vec![("git.fullurl", url.clone())],
        ),
        (format!("oci-layout://refused/layout@{digest}"), vec![("oci.store", "store".to_owned())]),
        (format!("docker-image+blob://{host}@{digest}"), vec![]),
        (format!("oci-layout+blob://refused@{digest}"), vec![("oci.store", "store".to_owned())]),
        (
            format!("git://{}", peers.git.url().trim_start_matches("http://")),
            vec![
                ("git.fullurl", peers.git.url()),
                ("git.checksum", peers.git.object("main")),
                ("git.bundle", format!("docker-image+blob://{host}@{digest}")),
            ],
        ),
        ("local://refused".to_owned(), vec![]),
        ("nonsense://refused".to_owned(), vec![]),
    ] {
        let attrs = attrs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let source = pb::SourceOp { identifier: identifier.clone(), attrs };
        let status = solve_input(&peers, &gate, pb::op::Op::Source(source)).await;
        let details = String::from_utf8_lossy(status.details()).into_owned();
        let said = format!("{identifier}: {status:?}\n{details}");
        assert!(status.message().contains(" not allowed by policy: action DENY"), "{said}");
        let unknown = identifier.starts_with("nonsense");
        assert!(unknown || details.contains("the org refuses"), "{said}");
    }
    assert_eq!(peers.fetched(), [""; 0]);
}

/// LLB that the daemon would read from a file, while the build runs.
#[tokio::test]
async fn llb_from_a_file_is_refused() {
    let peers = need!(Peers::start());
    let build = pb::BuildOp { builder: -1, ..Default::default() };
    let status = solve_input(&peers, &gate(peers.world), pb::op::Op::Build(build)).await;
    let details = String::from_utf8_lossy(status.details()).into_owned();
    assert!(status.message().contains(" not allowed by policy: action DENY"), "{status:?}");
    assert!(details.contains("out of buildgate's sight"), "{status:?}\n{details}");
}

/// Builds a Dockerfile that copies from this input.
async fn solve_input(peers: &Peers, gate: &Frontend, op: pb::op::Op) -> Status {
    let address = peers.world.buildkit.address().trim_start_matches("unix://");
    let (input, output) = tokio::net::UnixStream::connect(address).await.unwrap().into_split();
    let (channel, connection) = Channel::connect(input, output).await.unwrap();
    let connection = tokio::spawn(connection);
    let options = [
        ("source", gate.image.clone()),
        ("context", format!("{}#named", peers.git.url())),
        ("context:named", "input:named".to_owned()),
    ];
    let definition = definition(op);
    let request = control::SolveRequest {
        r#ref: format!("show-{}", hex::encode(Sha256::digest(definition.encode_to_vec()))),
        frontend: "gateway.v0".into(),
        frontend_attrs: options.map(|(name, value)| (name.to_owned(), value)).into(),
        frontend_inputs: [("named".to_owned(), definition)].into(),
        ..Default::default()
    };
    let answer: Result<control::SolveResponse, Status> =
        channel.call("/moby.buildkit.v1.Control/Solve", &HeaderMap::new(), &request).await;
    connection.abort();
    answer.expect_err("it passed")
}

fn definition(op: pb::op::Op) -> pb::Definition {
    let op = pb::Op { op: Some(op), ..Default::default() }.encode_to_vec();
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&op)));
    let inputs = vec![pb::Input { digest: digest.clone(), index: 0 }];
    let result = pb::Op { inputs, ..Default::default() }.encode_to_vec();
    // A definition without metadata counts as none.
    let metadata = [(digest, pb::OpMetadata::default())].into();
    pb::Definition { def: vec![op.into(), result.into()], metadata, source: None }
}
