//! Each kind of source, by each client and in each way of asking for it: refused by the gate in the org's
//! words, and nothing is fetched from the servers that hold it, which count.

use std::path::Path;

use buildgate::rpc::Channel;
use buildgate::session::{PolicySession, SessionId, Verifier, Verifying};
use buildgate::source::SourceOp;
use buildgate::wire::policy;
use buildgate::wire::proto::control::{SolveRequest, SolveResponse};
use buildgate::wire::proto::policysession::CheckPolicyRequest;
use buildgate::wire::proto::{gateway, pb};
use http::HeaderMap;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tonic::Status;

use super::clients::{BRIDGE, TCP, of_build, open, ping, raw, refused, solve, source, tcp, user};
use crate::frontend_show::builds::{Ask, Peers};
use crate::frontend_show::clients::{Buildx, Ended};
use crate::frontend_show::oci;
use crate::gate_enforce::{Raw, SOLVE, of, only, reasons, unique};
use crate::gate_process::Gate;
use crate::peers::{self, GitServer, HttpServer, World, llb, need};

/// A policy of the client's that lets everything in.
const EVERYTHING: &str = "package docker\ndecision := {\"allow\": true}\n";

/// Where what is refused would come from.
struct Servers {
    world: &'static World,
    files: HttpServer,
    git: GitServer,
    /// The repository of images that only one test names.
    name: &'static str,
}

impl Servers {
    fn start(name: &'static str) -> Result<Self, peers::NoPeer> {
        let world = peers::world()?;
        let files = HttpServer::files([("/never", b"never".to_vec())]);
        Ok(Self { world, files, git: GitServer::start()?, name })
    }

    fn image(&self) -> String {
        self.world.image(&format!("{}:1", self.name))
    }

    /// That none of them was asked for anything.
    fn were_not_asked(&self) {
        assert_eq!(self.world.registry.accesses(&[self.name]), [""; 0]);
        assert_eq!((self.files.asked().len(), self.git.asked().len()), (0, 0));
    }

    /// Every kind that LLB can name.
    fn kinds(&self) -> Vec<(&'static str, SourceOp)> {
        let digest = format!("sha256:{}", "a".repeat(64));
        let repository = self.world.image(self.name);
        let blob = format!("docker-image+blob://{repository}@{digest}");
        let (url, commit) = (self.git.url(), self.git.object("main"));
        let remote = format!("git://{}#main", url.trim_start_matches("http://"));
        let plain = [("git.fullurl", url.as_str())];
        let bundle = [("git.checksum", commit.as_str()), ("git.bundle", blob.as_str())];
        vec![
            ("an image", source(format!("docker-image://{}", self.image()), &[])),
            ("an image by digest", source(format!("docker-image://{repository}@{digest}"), &[])),
            ("a blob of a registry", source(blob.as_str(), &[])),
            ("a file", source(self.files.url("/never"), &[])),
            ("a repository", source(remote.as_str(), &plain)),
            ("a git bundle", source(remote, &[&plain[..], &bundle].concat())),
            ("a layout", source(format!("oci-layout://{}@{digest}", self.name), &[])),
            (
                "a blob of a layout",
                source(format!("oci-layout+blob://{}@{digest}", self.name), &[]),
            ),
        ]
    }
}

/// A build that names something, by a Dockerfile and in the words of either client.
struct Naming {
    what: &'static str,
    dockerfile: String,
    asks: Vec<Ask>,
}

/// Every way of a Dockerfile and its options to name something.
fn names(servers: &Servers, layout: &str) -> Vec<Naming> {
    let Servers { world, files, git, .. } = servers;
    let (evil, never, url) = (servers.image(), files.url("/never"), git.url());
    let from = format!("FROM {}\n", world.image("base:1"));
    let copy = format!("{from}COPY --from=x / /x\n");
    let digest = "a".repeat(64);
    let at = oci::digest(Path::new(layout));
    let naming = |what, dockerfile: String, asks| Naming { what, dockerfile, asks };
    let context = |what, to: String| naming(what, copy.clone(), vec![Ask::Context("x", to)]);
    vec![
        naming("an image", format!("FROM {evil}\n"), vec![]),
        naming("an image by digest", format!("FROM {evil}@sha256:{digest}\n"), vec![]),
        naming("a stage's image", format!("{from}COPY --from={evil} / /\n"), vec![]),
        naming("a mount", format!("{from}RUN --mount=from={evil} true\n"), vec![]),
        naming("a syntax", format!("# syntax={evil}\n{from}"), vec![]),
        naming(
            "a syntax from outside",
            from.clone(),
            vec![Ask::Arg("BUILDKIT_SYNTAX", evil.clone())],
        ),
        naming("a file", format!("{from}ADD {never} /\n"), vec![]),
        naming("a repository", format!("{from}ADD {url} /src\n"), vec![]),
        naming("a commit", format!("{from}ADD {url}#{} /src\n", git.object("main")), vec![]),
        context("a named image", format!("docker-image://{evil}")),
        context("a named repository", format!("{url}#main")),
        context("a named file", never),
        naming("a named layout", copy.clone(), vec![Ask::Layout("x", layout.to_owned(), at)]),
        naming("a generator", from.clone(), vec![Ask::Sbom(evil.clone())]),
        naming("a cache", from.clone(), vec![Ask::Cache(format!("type=registry,ref={evil}"))]),
    ]
}

#[test]
fn whatever_a_dockerfile_names_is_judged_by_each_client() {
    let servers = need!(Servers::start("named-evil"));
    let peers = need!(Peers::start());
    let gate = Gate::before(servers.world, &only("endswith(input.image.repo, \"base\")"), &TCP);
    let buildx = need!(Buildx::at(&tcp(&gate)));
    let layout = peers.path("layout");
    let by_buildctl = |context: &Path, asks: &[Ask]| -> Ended {
        let mut build = gate.buildctl("gate.sock");
        build.args(["build", "--progress=plain", "--no-cache", "--frontend=dockerfile.v0"]);
        let local = |name| format!("--local={name}={}", context.display());
        build.args(["context", "dockerfile"].map(local));
        build.args(asks.iter().flat_map(Ask::buildctl)).output().unwrap().into()
    };
    let by_buildx = |context: &Path, asks: &[Ask], more: &[&str]| {
        let options = asks.iter().map(Ask::buildx);
        let options = options.chain(more.iter().map(|it| (*it).to_owned()));
        buildx.build(context, &options.collect::<Vec<_>>())
    };
    for Naming { what, dockerfile, asks } in names(&servers, &layout) {
        let context = peers::folder(&[("Dockerfile", &dockerfile)]);
        refused(&format!("{what} by buildctl"), &by_buildctl(context.path(), &asks));
        refused(&format!("{what} by Buildx"), &by_buildx(context.path(), &asks, &[]));
        // Whatever becomes of a policy of the client's own: there is one that lets everything in.
        std::fs::write(context.path().join("Dockerfile.rego"), EVERYTHING).unwrap();
        let ended = by_buildx(context.path(), &asks, &[]);
        refused(&format!("{what} by Buildx, which allows it"), &ended);
        let ended = by_buildx(context.path(), &asks, &["--policy=disabled=true"]);
        refused(&format!("{what} by Buildx without policies"), &ended);
    }
    // The context itself.
    for (what, context) in [
        ("a repository as the context", format!("{}#main", servers.git.url())),
        ("a file as the context", servers.files.url("/never")),
    ] {
        for more in [&[][..], &["--policy=disabled=true"]] {
            refused(what, &by_buildx(Path::new(&context), &[], more));
        }
        let mut build = gate.buildctl("gate.sock");
        build.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
        refused(what, &build.arg(format!("--opt=context={context}")).output().unwrap().into());
    }
    let from = format!("FROM {}\n", servers.world.image("base:1"));
    let context = peers::folder(&[("Dockerfile", &from)]);
    by_buildctl(context.path(), &[]).passed("what is allowed, by buildctl");
    by_buildx(context.path(), &[], &[]).passed("what is allowed, by Buildx");
    servers.were_not_asked();
}

/// What the client itself sends is a source too.
#[test]
fn what_the_client_sends_is_judged() {
    let world = need!(peers::world());
    let rego = only("false")
        .replace("allow if input.local", "allow if input.local.name == \"dockerfile\"");
    let gate = Gate::before(world, &rego, &TCP);
    let buildx = need!(Buildx::at(&tcp(&gate)));
    let dockerfile = "FROM scratch\nCOPY Dockerfile /\n";
    let context = peers::folder(&[("Dockerfile", dockerfile)]);
    let out = tempfile::tempdir().unwrap();
    let output = format!("--output=type=local,dest={}", out.path().display());
    let local = format!("--local=context={}", context.path().display());
    refused("by Buildx", &buildx.build(context.path(), std::slice::from_ref(&output)));
    refused("by buildctl", &gate.build(dockerfile));
    let definition = llb(&[SourceOp::new("local://context")]);
    refused("as LLB", &raw(&gate, &definition, &[local, output]));
    assert_eq!(std::fs::read_dir(out.path()).unwrap().count(), 0);
}

/// A verifier of the client's that lets everything in.
struct Everything;

impl Verifier for Everything {
    fn verify(self: std::sync::Arc<Self>, _: CheckPolicyRequest) -> Verifying {
        Box::pin(async { Ok(policy::Answer::Allow.into()) })
    }
}

/// The policy refused it, in its words.
fn denied<T: std::fmt::Debug>(what: &str, got: Result<T, Status>) {
    let status = got.unwrap_err();
    assert!(status.message().contains("not allowed by policy"), "{what}: {status:?}");
    assert!(reasons(&status).contains("ours says no"), "{what}: {status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_llb_names_is_judged_in_each_call() {
    let servers = need!(tokio::task::block_in_place(|| Servers::start("llb-evil")));
    let world = servers.world;
    let gate = Gate::before(world, &only("endswith(input.image.repo, \"base\")"), &[]);
    let user = user(&gate).await;
    let everything =
        PolicySession::open(&user, SessionId::random().unwrap(), std::sync::Arc::new(Everything));
    let everything = everything.await.unwrap();
    let reference = unique();
    let running = open(&user, &reference);
    ping(&user, &reference).await.unwrap();
    let (gate, user, everything) = (&gate, &user, everything.id().reveal());
    for (kind, op) in servers.kinds() {
        let definition = llb(std::slice::from_ref(&op));
        refused(kind, &tokio::task::block_in_place(|| raw(gate, &definition, &[])));
        // No session, and one that allows everything; unknown fields behind it all.
        denied(kind, solve(user, of(op.clone())).await);
        let named = everything.to_owned();
        let request = SolveRequest { source_policy_session: named, ..of(op.clone()) };
        denied(&format!("{kind}, allowed by the client"), solve(user, request).await);
        denied(&format!("{kind}, and unknown fields"), unknown(user, of(op.clone())).await);
        // Of a frontend of the daemon's own, where it looks for the Dockerfile.
        let mut input = definition.clone();
        let digest = format!("sha256:{}", hex::encode(Sha256::digest(&input.def[0])));
        // One without is none to the daemon.
        input.metadata.insert(digest, pb::OpMetadata::default());
        let inputs = [("dockerfile".to_owned(), input)].into();
        let request = SolveRequest {
            frontend: "dockerfile.v0".to_owned(),
            frontend_inputs: inputs,
            ..SolveRequest::default()
        };
        denied(&format!("{kind} as a frontend's input"), solve(user, request).await);
        // In a build that is open.
        let request = gateway::SolveRequest {
            definition: Some(definition),
            evaluate: true,
            ..gateway::SolveRequest::default()
        };
        denied(
            &format!("{kind} in an open build"),
            bridge(user, &reference, "Solve", &request).await,
        );
        let request = gateway::ResolveSourceMetaRequest {
            source: Some(op.into()),
            ..gateway::ResolveSourceMetaRequest::default()
        };
        let got = bridge(user, &reference, "ResolveSourceMeta", &request).await;
        denied(&format!("metadata of {kind}"), got);
    }
    let base = SourceOp::new(format!("docker-image://{}", world.image("base:1")));
    solve(user, of(base.clone())).await.unwrap();
    unknown(user, of(base)).await.unwrap();
    running.abort();
    servers.were_not_asked();
}

/// A solve with fields that nobody knows behind those that are known.
async fn unknown(channel: &Channel, request: SolveRequest) -> Result<SolveResponse, Status> {
    let mut message = SolveRequest { r#ref: unique(), ..request }.encode_to_vec();
    message.extend_from_slice(b"\xba\x3e\x03new\xc0\x3e\x01");
    channel.call(SOLVE, &HeaderMap::new(), &Raw(message)).await
}

/// A call about an open build; what is answered is left unread.
async fn bridge(
    channel: &Channel,
    reference: &str,
    method: &str,
    request: &impl prost::Message,
) -> Result<Raw, Status> {
    channel.call(&format!("{BRIDGE}{method}"), &of_build(reference), request).await
}
