//! A build through buildgate is the build through the stock frontend: the same config, layers and
//! attestations, but for what provenance says of the frontend itself, ids and times.

use std::os::unix::net::UnixListener;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::clients::{self, Buildx, EPOCH, Frontend};
use super::{gate, oci, stock};
use crate::peers::{self, GitServer, HttpServer, World, need};

/// What a person asks of a build, in the words of no client.
pub enum Ask {
    Target(&'static str),
    Arg(&'static str, String),
    Platforms(&'static str),
    /// A named context that every client writes alike.
    Context(&'static str, String),
    /// A named context in place of an image of this name.
    Place(String, String),
    /// A named context in a directory of the client.
    Directory(&'static str, String),
    /// A named context in an OCI layout of the client, by its digest.
    Layout(&'static str, String, String),
    Secret(&'static str, String),
    Ssh(String),
    Sbom(String),
    /// A cache, as both clients write it.
    Cache(String),
}

/// One row of the table.
pub struct Build {
    /// What it shows.
    pub name: &'static str,
    dockerfile: String,
    asks: Vec<Ask>,
    /// How many repositories without a checksum it loads: their commits are judged, and pinned.
    unpinned: usize,
}

/// The peers that builds load from, and what lies with the client.
pub struct Peers {
    /// The shared ones.
    pub world: &'static World,
    files: HttpServer,
    git: GitServer,
    client: TempDir,
}

impl Peers {
    /// All of them, with what an agent and a generator of SBOMs are.
    pub fn start() -> Result<Self, peers::NoPeer> {
        let world = peers::world()?;
        let files = HttpServer::files([("/tool", TOOL.to_vec()), ("/open", b"open".to_vec())]);
        let client = peers::folder(&[("named/inside", "named"), ("secret", "hidden")]);
        let this = Self { world, files, git: GitServer::start()?, client };
        this.layout();
        Ok(this)
    }

    /// Where something lies with the client.
    pub fn path(&self, name: &str) -> String {
        self.client.path().join(name).to_str().unwrap().to_owned()
    }

    /// An image of one file, written as an OCI layout.
    fn layout(&self) {
        let context =
            peers::folder(&[("Dockerfile", "FROM scratch\nCOPY Dockerfile /from-layout\n")]);
        let mut build = self.world.buildkit.buildctl();
        build
            .args(["build", "--frontend=dockerfile.v0"])
            .arg(format!("--local=context={}", context.path().display()))
            .arg(format!("--local=dockerfile={}", context.path().display()))
            .arg(format!("--output=type=oci,tar=false,dest={}", self.path("layout")));
        clients::Ended::from(build.output().unwrap()).passed("the layout");
    }
}

const TOOL: &[u8] = b"a tool";
const BUSYBOX: &str = "/bin/busybox";

/// All builds.
pub fn table(peers: &Peers) -> Vec<Build> {
    let Peers { world, files, git, .. } = peers;
    let base = format!("FROM {}\nUSER 0\n", world.image("base:1"));
    let app = world.image("app:plain");
    let run = |mounts: &str, script: &str| {
        format!("{base}RUN {mounts} [\"{BUSYBOX}\", \"sh\", \"-euc\", \"{script}\"]\n")
    };
    let build = |name, dockerfile: String, asks| Build { name, dockerfile, asks, unpinned: 0 };
    let unpinned = |row: Build| Build { unpinned: 1, ..row };
    let tool = hex::encode(Sha256::digest(TOOL));
    let (url, commit) = (git.url(), git.object("main"));
    vec![
        build(
            "multi-stage, and COPY --from of a stage",
            format!("{base}COPY a /x\nFROM {}\nCOPY --from=0 /x /y\n", world.image("base:1")),
            vec![],
        ),
        build(
            "multi-platform",
            format!("FROM {}\nARG TARGETARCH\nCOPY a /$TARGETARCH\n", world.image("app:multi")),
            vec![Ask::Platforms("linux/amd64,linux/arm64")],
        ),
        build(
            "heredocs",
            format!(
                "{base}COPY <<one <<two /h/\n1\none\n2\ntwo\nSHELL [\"{BUSYBOX}\", \"sh\", \"-c\"]\nRUN <<end\n{BUSYBOX} touch /h/ran\nend\n"
            ),
            vec![],
        ),
        build(
            "COPY --from of an image",
            format!("{base}COPY --from={app} /Dockerfile /d\n"),
            vec![],
        ),
        build(
            "mounts of a cache, of the context, of a stage and of an image",
            format!(
                "FROM {app} AS one\nCOPY a /x\n{}",
                run(
                    &format!(
                        "--mount=type=cache,target=/c --mount=target=/b --mount=from=one,target=/s --mount=from={app},target=/m"
                    ),
                    "/bin/busybox cat /b/a /s/x /m/Dockerfile > /data/all",
                )
            ),
            vec![],
        ),
        build(
            "a secret",
            run("--mount=type=secret,id=s,required=true", "/bin/busybox wc -c /run/secrets/s"),
            vec![Ask::Secret("s", peers.path("secret"))],
        ),
        build(
            "an agent",
            run("--mount=type=ssh,required=true", "test -S $SSH_AUTH_SOCK"),
            vec![Ask::Ssh(peers.path("agent"))],
        ),
        build(
            "ADD of a URL",
            format!("{base}ADD --checksum=sha256:{tool} {} /tool\n", files.url("/tool")),
            vec![],
        ),
        build(
            "ADD of a URL without a checksum",
            format!("{base}ADD {} /open\n", files.url("/open")),
            vec![],
        ),
        build(
            "ADD of a repository",
            format!("{base}ADD --checksum={commit} {url}#main /src\n"),
            vec![],
        ),
        unpinned(build(
            "ADD of a repository without a checksum",
            format!("{base}ADD {url} /src\n"),
            vec![],
        )),
        build(
            "an image by the name of another",
            "FROM named\nCOPY a /\n".into(),
            vec![Ask::Context("named", format!("docker-image://{app}"))],
        ),
        unpinned(build(
            "a repository by name",
            format!("{base}COPY --from=named /README /\n"),
            vec![Ask::Context("named", format!("{url}#main"))],
        )),
        build(
            "a URL by name",
            format!("{base}COPY --from=named /context /\n"),
            vec![Ask::Context("named", files.url("/tool"))],
        ),
        build(
            "a directory by name",
            format!("{base}COPY --from=named /inside /\n"),
            vec![Ask::Directory("named", peers.path("named"))],
        ),
        build(
            "an OCI layout by name",
            "FROM named\nCOPY --from=named /from-layout /again\n".into(),
            vec![Ask::Layout(
                "named",
                peers.path("layout"),
                oci::digest(Path::new(&peers.path("layout"))),
            )],
        ),
        build("what .dockerignore leaves out", format!("{base}COPY . /all/\n"), vec![]),
        build(
            "a target and an argument",
            format!("FROM {app} AS one\nARG A\nENV A=$A\nLABEL a=$A\nFROM {app}\nCOPY a /not\n"),
            vec![Ask::Target("one"), Ask::Arg("A", "1".into())],
        ),
        build("an SBOM", format!("{base}COPY a /\n"), vec![Ask::Sbom(world.image("generator:1"))]),
    ]
}

/// Builds the image of an SBOM generator, by BuildKit's protocol: what it writes to
/// `$BUILDKIT_SCAN_DESTINATION` are in-toto statements.
pub fn push_generator(world: &World) {
    let statement = "{\"_type\":\"https://in-toto.io/Statement/v0.1\",\
        \"predicateType\":\"https://spdx.dev/Document\",\"subject\":[],\
        \"predicate\":{\"spdxVersion\":\"SPDX-2.3\",\"name\":\"stub\",\"files\":[\"%s\"]}}";
    let script = format!(
        "#!{BUSYBOX} sh\nset -eu\n\
         printf '{statement}' \"$({BUSYBOX} ls $BUILDKIT_SCAN_SOURCE | {BUSYBOX} tr '\\n' ' ')\" \
         > $BUILDKIT_SCAN_DESTINATION/stub.spdx.json\n"
    );
    let dockerfile = format!(
        "FROM {}\nUSER 0\nCOPY --chmod=755 scan /scan\nENTRYPOINT [\"/scan\"]\n",
        world.image("base:1")
    );
    let context = peers::folder(&[("Dockerfile", &dockerfile), ("scan", &script)]);
    world.buildkit.push(context.path(), &world.image("generator:1"), &[], "");
}

/// A client, and where it finds its daemon.
#[derive(Clone, Copy)]
pub enum Client<'a> {
    /// At this address.
    Buildctl(&'a str),
    /// At its own.
    Buildx(&'a Buildx),
}

impl Ask {
    /// In buildctl's words.
    pub fn buildctl(&self) -> Vec<String> {
        match self {
            Self::Target(name) => vec![format!("--opt=target={name}")],
            Self::Arg(name, value) => vec![format!("--opt=build-arg:{name}={value}")],
            Self::Platforms(list) => vec![format!("--opt=platform={list}")],
            Self::Context(name, value) => vec![format!("--opt=context:{name}={value}")],
            Self::Place(name, value) => vec![format!("--opt=context:{name}={value}")],
            Self::Directory(name, path) => {
                vec![format!("--opt=context:{name}=local:{name}"), format!("--local={name}={path}")]
            }
            Self::Layout(name, path, digest) => vec![
                format!("--oci-layout={name}={path}"),
                format!("--opt=context:{name}=oci-layout://{name}@{digest}"),
            ],
            Self::Secret(id, path) => vec![format!("--secret=id={id},src={path}")],
            Self::Ssh(socket) => vec![format!("--ssh=default={socket}")],
            Self::Sbom(generator) => vec![format!("--opt=attest:sbom=generator={generator}")],
            Self::Cache(cache) => vec![format!("--import-cache={cache}")],
        }
    }

    /// In Buildx's words.
    pub fn buildx(&self) -> String {
        match self {
            Self::Target(name) => format!("--target={name}"),
            Self::Arg(name, value) => format!("--build-arg={name}={value}"),
            Self::Platforms(list) => format!("--platform={list}"),
            Self::Context(name, value) | Self::Directory(name, value) => {
                format!("--build-context={name}={value}")
            }
            Self::Place(name, value) => format!("--build-context={name}={value}"),
            Self::Layout(name, path, digest) => {
                format!("--build-context={name}=oci-layout://{path}@{digest}")
            }
            Self::Secret(id, path) => format!("--secret=id={id},src={path}"),
            Self::Ssh(socket) => format!("--ssh=default={socket}"),
            Self::Sbom(generator) => format!("--sbom=generator={generator}"),
            Self::Cache(cache) => format!("--cache-from={cache}"),
        }
    }
}

/// What a row makes by this frontend and this client.
pub fn make(row: &Build, frontend: &Frontend, client: Client<'_>) -> Result<Value, String> {
    let what = format!("{} by {}", row.name, frontend.image);
    let out = tempfile::tempdir().unwrap();
    let output =
        format!("--output=type=oci,tar=false,rewrite-timestamp=true,dest={}", out.path().display());
    let files = [
        (".dockerignore", "ignored\nDockerfile\n"),
        ("ignored", "x"),
        ("a", "content"),
        ("b/c", "c"),
    ];
    let ended = match client {
        Client::Buildctl(address) => {
            let context = peers::folder(&[&files[..], &[("Dockerfile", &row.dockerfile)]].concat());
            let mut options: Vec<String> = row.asks.iter().flat_map(Ask::buildctl).collect();
            options.extend([
                "--opt=attest:provenance=mode=max".into(),
                "--no-cache".into(),
                output,
            ]);
            options.push(format!("--opt=build-arg:SOURCE_DATE_EPOCH={EPOCH}"));
            clients::buildctl_at(address, frontend, context.path(), &options)
        }
        Client::Buildx(buildx) => {
            let dockerfile = format!("# syntax={}\n{}", frontend.image, row.dockerfile);
            let context = peers::folder(&[&files[..], &[("Dockerfile", &dockerfile)]].concat());
            let mut options: Vec<String> = row.asks.iter().map(Ask::buildx).collect();
            options.extend(["--provenance=mode=max".into(), "--no-cache".into(), output]);
            buildx.build(context.path(), &options)
        }
    };
    if !ended.passed {
        return Err(format!("{what} failed:\n{}", ended.said));
    }
    Ok(oci::content(out.path(), frontend, &peers::world().unwrap().buildkit))
}

/// The same, once all dates are one: where the daemon cannot rewrite those of a layer, it says so in
/// its log alone and gives the layer as it is.
fn make_dated(
    peers: &Peers,
    row: &Build,
    frontend: &Frontend,
    client: Client<'_>,
) -> Result<Value, String> {
    let undated = || peers.world.buildkit.log().matches("failed to rewrite layer").count();
    for _ in 0..5 {
        let before = undated();
        let made = make(row, frontend, client);
        if made.is_err() || undated() == before {
            return made;
        }
    }
    Err(format!("{}: the daemon cannot rewrite the dates of its layers", row.name))
}

/// How what we make differs from what the stock frontend makes.
fn check(peers: &Peers, row: &Build, client: Client<'_>) -> Vec<String> {
    let made = || {
        let [theirs, ours] =
            [stock(peers.world), gate(peers.world)].map(|it| make_dated(peers, row, &it, client));
        Ok((theirs?, ours?))
    };
    let (pins, mut others): (Vec<_>, Vec<_>) =
        differences(row.name, made).into_iter().partition(|it| is_pin(peers, it));
    if pins.len() != row.unpinned {
        others.push(format!("{}: {} are pinned: {pins:?}", row.name, pins.len()));
    }
    others
}

/// How two of a kind differ. Whether provenance tells the layers of a step hangs on whether the daemon has
/// made them by then, which no frontend has a say in: where one of the two alone tells them, both are
/// made again.
pub fn differences(
    name: &str,
    mut made: impl FnMut() -> Result<(Value, Value), String>,
) -> Vec<String> {
    let mut different = Vec::new();
    for _ in 0..6 {
        different = match made() {
            Ok((one, other)) => oci::differences(name, &one, &other),
            Err(error) => return vec![error],
        };
        if !different.iter().any(|it| oci::is_of_one(it)) {
            break;
        }
    }
    different
}

/// Whether a difference is the commit that we looked into for submodules, and pinned: what the build
/// gets is the same, and its provenance says so.
pub fn is_pin(peers: &Peers, difference: &str) -> bool {
    let commit = peers.git.object("main");
    difference.ends_with(&format!("/op/Op/source/attrs/git.checksum\n  - null\n  + \"{commit}\""))
}

/// All rows, by one client: by Buildx, or by buildctl.
fn all(by_buildx: bool) {
    let peers = need!(Peers::start());
    let buildx = need!(Buildx::get(peers.world));
    push_generator(peers.world);
    let _agent = UnixListener::bind(peers.path("agent")).unwrap();
    let client = match by_buildx {
        true => Client::Buildx(buildx),
        false => Client::Buildctl(peers.world.buildkit.address()),
    };
    let different: Vec<String> =
        table(&peers).iter().flat_map(|row| check(&peers, row, client)).collect();
    assert!(different.is_empty(), "{}", different.join("\n"));
}

#[test]
fn builds_are_those_of_the_stock_frontend_by_buildctl() {
    all(false);
}

#[test]
fn builds_are_those_of_the_stock_frontend_by_buildx() {
    all(true);
}
