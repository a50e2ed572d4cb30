//! Each kind of source, through each way in: stopped before a byte of it is fetched, with the org's
//! words, and with the line of the Dockerfile where there is one.

use std::path::Path;

use buildgate::rpc::Channel;
use buildgate::wire::proto::{control, pb};
use http::HeaderMap;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::clients::{self, Buildx, Ended, Frontend};
use super::{gate, oci, stock};
use crate::peers::{self, GitServer, HttpServer, Registry, World, need};

/// One way of one kind.
struct Denial {
    what: &'static str,
    dockerfile: String,
    options: Vec<String>,
    /// What the arrow points at; nothing where no line is at fault.
    line: &'static str,
}

struct Peers {
    world: &'static World,
    files: HttpServer,
    git: GitServer,
    client: tempfile::TempDir,
}

impl Peers {
    fn start() -> Result<Self, peers::NoPeer> {
        let world = peers::world()?;
        let client = peers::folder(&[("refused/file", "never sent")]);
        let files = HttpServer::files([("/allowed", b"allowed".to_vec())]);
        let this = Self { world, files, git: GitServer::start()?, client };
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
        let onbuild =
            format!("FROM scratch\nONBUILD COPY --from={} / /x\n", world.image("refused:onbuild"));
        let context = peers::folder(&[("Dockerfile", &onbuild)]);
        world.buildkit.push(context.path(), &world.image("trigger:1"), &[], "");
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

fn table(peers: &Peers) -> Vec<Denial> {
    let Peers { world, files, git, .. } = peers;
    let image = world.image("refused:1");
    let base = format!("FROM {}\n", world.image("base:1"));
    let (url, repository) = (files.url("/refused.tgz"), format!("{}/refused.git", files.url("")));
    let submodule = format!("{}#submodule", git.url());
    let layout = oci::digest(Path::new(&peers.path("layout")));
    let row = |what, dockerfile: String, options: &[String], line| Denial {
        what,
        dockerfile,
        options: options.to_vec(),
        line,
    };
    let named = |value: &str| vec![format!("--opt=context:named={value}")];
    let context = |value: &str| vec![format!("--opt=context={value}")];
    let directory = [
        "--opt=context:refused=local:refused".to_owned(),
        format!("--local=refused={}", peers.path("refused")),
    ];
    let oci = [
        "--opt=context:refused=oci-layout://store@".to_owned() + &layout,
        format!("--oci-layout=store={}", peers.path("layout")),
    ];
    let (copy, mount) =
        (format!("{base}COPY --from=named / /\n"), format!("{base}RUN --mount=from=named true\n"));
    let from_named = "FROM named\n".to_owned();
    let platforms = ["--opt=platform=linux/amd64,linux/arm64".to_owned()];
    let cached = |value: &str| vec![format!("--import-cache={value}")];
    vec![
        row("image by FROM", format!("FROM {image}\n"), &[], "1 | >>> FROM "),
        row("image by FROM of platforms", format!("FROM {image}\n"), &platforms, "1 | >>> FROM "),
        row(
            "image by COPY --from",
            format!("{base}COPY --from={image} / /\n"),
            &[],
            "2 | >>> COPY ",
        ),
        row(
            "image by a mount",
            format!("{base}RUN --mount=from={image} true\n"),
            &[],
            "2 | >>> RUN ",
        ),
        row("image by a variable", format!("ARG I={image}\nFROM $I\n"), &[], "2 | >>> FROM "),
        row(
            "image by ONBUILD",
            format!("FROM {}\n", world.image("trigger:1")),
            &[],
            "1 | >>> FROM ",
        ),
        row(
            "image by name",
            from_named.clone(),
            &named(&format!("docker-image://{image}")),
            "1 | >>> FROM ",
        ),
        row(
            "image by name, copied",
            copy.clone(),
            &named(&format!("docker-image://{image}")),
            "2 | >>> COPY ",
        ),
        row(
            "image by name, mounted",
            mount.clone(),
            &named(&format!("docker-image://{image}")),
            "2 | >>> RUN ",
        ),
        row("image as a cache", base.clone(), &cached(&format!("type=registry,ref={image}")), ""),
        row(
            "image as a cache, the old way",
            base.clone(),
            &[format!("--opt=cache-from={image}")],
            "",
        ),
        row(
            "image as an SBOM generator",
            base.clone(),
            &[format!("--opt=attest:sbom=generator={image}")],
            "",
        ),
        row("URL by ADD", format!("{base}ADD {url} /\n"), &[], "2 | >>> ADD "),
        row(
            "URL by ADD with a checksum",
            format!("{base}ADD --checksum=sha256:{} {url} /\n", "a".repeat(64)),
            &[],
            "2 | >>> ADD ",
        ),
        row("URL by name", from_named.clone(), &named(&url), "1 | >>> FROM "),
        row("URL by name, copied", copy.clone(), &named(&url), "2 | >>> COPY "),
        row("URL by name, mounted", mount.clone(), &named(&url), "2 | >>> RUN "),
        row("URL as the context", base.clone(), &context(&url), ""),
        row("repository by ADD", format!("{base}ADD {repository} /\n"), &[], "2 | >>> ADD "),
        row("repository by name", from_named.clone(), &named(&repository), "1 | >>> FROM "),
        row("repository by name, copied", copy.clone(), &named(&repository), "2 | >>> COPY "),
        row("repository by name, mounted", mount, &named(&repository), "2 | >>> RUN "),
        row("repository as the context", base.clone(), &context(&repository), ""),
        row("submodule by ADD", format!("{base}ADD {submodule} /\n"), &[], "2 | >>> ADD "),
        row("submodule by name", copy, &named(&submodule), "2 | >>> COPY "),
        row("submodule of the context", base.clone(), &context(&submodule), ""),
        row("layout by name", "FROM refused\n".into(), &oci, "1 | >>> FROM "),
        row(
            "layout by name, copied",
            format!("{base}COPY --from=refused / /\n"),
            &oci,
            "2 | >>> COPY ",
        ),
        row(
            "layout as a cache",
            base.clone(),
            &cached(&format!("type=local,src={}", peers.path("cache"))),
            "",
        ),
        row(
            "directory by name",
            format!("{base}COPY --from=refused / /\n"),
            &directory,
            "2 | >>> COPY ",
        ),
    ]
}

/// What is wrong with how one row ended; nothing where it was denied as it should be.
fn wrong(row: &Denial, ended: &Ended) -> Option<String> {
    let mut missing = Vec::new();
    if ended.passed {
        missing.push("a denial");
    }
    let org = ended.said.contains("the org refuses") || ended.said.contains("submodules");
    if !org {
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

#[test]
fn each_kind_is_denied_through_each_way_in() {
    let peers = need!(Peers::start());
    let gate = gate(peers.world);
    let mut failed = Vec::new();
    for row in table(&peers) {
        let context = peers::folder(&[("Dockerfile", &row.dockerfile)]);
        let ended = clients::buildctl(&peers.world.buildkit, &gate, context.path(), &row.options);
        failed.extend(wrong(&row, &ended));
    }
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
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
        ("local://refused".to_owned(), vec![]),
        ("nonsense://refused".to_owned(), vec![]),
    ] {
        let status = solve_input(&peers, &gate, &identifier, attrs).await;
        let details = String::from_utf8_lossy(status.details()).into_owned();
        let said = format!("{identifier}: {status:?}\n{details}");
        assert!(status.message().contains(" not allowed by policy: action DENY"), "{said}");
        let unknown = identifier.starts_with("nonsense");
        assert!(unknown || details.contains("the org refuses"), "{said}");
    }
    assert_eq!(peers.fetched(), [""; 0]);
}

/// Builds a Dockerfile that copies from this input.
async fn solve_input(
    peers: &Peers,
    gate: &Frontend,
    identifier: &str,
    attrs: Vec<(&str, String)>,
) -> Status {
    let address = peers.world.buildkit.address().trim_start_matches("unix://");
    let (input, output) = tokio::net::UnixStream::connect(address).await.unwrap().into_split();
    let (channel, connection) = Channel::connect(input, output).await.unwrap();
    let connection = tokio::spawn(connection);
    let options = [
        ("source", gate.image.clone()),
        ("context", format!("{}#named", peers.git.url())),
        ("context:named", "input:named".to_owned()),
    ];
    let request = control::SolveRequest {
        r#ref: format!("show-{}", hex::encode(Sha256::digest(identifier))),
        frontend: "gateway.v0".into(),
        frontend_attrs: options.map(|(name, value)| (name.to_owned(), value)).into(),
        frontend_inputs: [("named".to_owned(), definition(identifier, attrs))].into(),
        ..Default::default()
    };
    let answer: Result<control::SolveResponse, Status> =
        channel.call("/moby.buildkit.v1.Control/Solve", &HeaderMap::new(), &request).await;
    connection.abort();
    answer.expect_err(identifier)
}

fn definition(identifier: &str, attrs: Vec<(&str, String)>) -> pb::Definition {
    let attrs = attrs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let source = pb::SourceOp { identifier: identifier.to_owned(), attrs };
    let op = pb::Op { op: Some(pb::op::Op::Source(source)), ..Default::default() }.encode_to_vec();
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&op)));
    let inputs = vec![pb::Input { digest: digest.clone(), index: 0 }];
    let result = pb::Op { inputs, ..Default::default() }.encode_to_vec();
    // A definition without metadata counts as none.
    let metadata = [(digest, pb::OpMetadata::default())].into();
    pb::Definition { def: vec![op.into(), result.into()], metadata, source: None }
}
