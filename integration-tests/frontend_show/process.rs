//! The frontend as a process, between pipes whose other end is this test: when its daemon hears of it, and
//! what becomes of it when there is none any more.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

use buildgate::rpc::{self, Body};
use buildgate::wire::proto::{caps, gateway, pb};
use http::{Request, Response};
use hyper::body::Incoming;
use prost::Message as _;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::sync::Notify;

use super::failures::{alive, descendants, named};
use crate::peers::{self, folder, need};

/// In which the daemon wants to hear of us.
const AT_ONCE: Duration = Duration::from_millis(50);
/// In which everything must be over.
const PATIENCE: Duration = Duration::from_secs(15);

fn start(child: &Path, policies: &Path, options: &[&str]) -> Child {
    let mut frontend = Command::new(super::binary());
    frontend.arg("frontend").arg("--child").arg(child).arg("--policies").arg(policies);
    for (at, option) in options.iter().enumerate() {
        frontend.env(format!("BUILDKIT_FRONTEND_OPT_{at}"), option);
    }
    let workers = r#"[{"id":"w","platforms":[{"architecture":"amd64","os":"linux"}]}]"#;
    frontend
        .env("BUILDKIT_WORKERS", workers)
        .env("BUILDKIT_SESSION_ID", "session")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

/// Before anything that may take long: the child here never says a word. From the start of the program to
/// its first byte, as a daemon sees it: nothing is taken off. Other tests run beside this one, which goes
/// before them where it may, and the middle of several is taken again where the machine was busy. The static
/// program is measured by `make bench-build`.
#[tokio::test]
async fn the_daemon_hears_of_us_at_once() {
    let thread = std::fs::read_link("/proc/thread-self").unwrap();
    // Who is not root may not.
    let mut first = std::process::Command::new("renice");
    let _ = first.args(["-n", "-15", "-p"]).arg(thread.file_name().unwrap()).output();
    let none = folder(&[]);
    let mut medians = Vec::new();
    for _ in 0..30 {
        let mut took = Vec::new();
        for _ in 0..7 {
            let started = Instant::now();
            let mut frontend = start(Path::new("/bin/cat"), none.path(), &[]);
            let mut first = [0; 3];
            frontend.stdout.as_mut().unwrap().read_exact(&mut first).await.unwrap();
            took.push(started.elapsed());
            frontend.kill().await.unwrap();
            assert_eq!(&first, b"PRI");
        }
        took.sort();
        medians.push(took[took.len() / 2]);
        if medians.last().is_some_and(|median| *median < AT_ONCE) {
            return;
        }
    }
    panic!("from start to the first byte: {medians:?}");
}

/// Where the daemon stands still, and is gone then.
#[derive(Clone, Copy, Debug)]
struct Row {
    what: &'static str,
    /// The method of the call, and a word that is in it.
    at: (&'static str, &'static str),
    /// The options of the build.
    options: &'static [&'static str],
    /// Whether the child has come so far as to be the stock one.
    child: Stage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// It is there and has not said a word.
    Mute,
    /// It builds.
    Stock,
    /// It has built, and is gone.
    Ended,
}

const REMOTE: &[&str] = &["context=http://files.example/context.tgz"];
const GIT: &[&str] = &["context=https://git.example/context.git#main"];

const ROWS: [Row; 10] = [
    Row {
        what: "before the child's first call",
        at: ("Inputs", ""),
        options: &[],
        child: Stage::Mute,
    },
    Row { what: "the child's first call", at: ("Ping", ""), options: &[], child: Stage::Stock },
    Row { what: "a policy is read", at: ("ReadDir", ""), options: &[], child: Stage::Stock },
    Row {
        what: "the Dockerfile is read",
        at: ("ReadFile", "Dockerfile"),
        options: &[],
        child: Stage::Stock,
    },
    Row {
        what: "metadata for the child",
        at: ("ResolveImageConfig", "r.example/asked"),
        options: &[],
        child: Stage::Stock,
    },
    Row {
        what: "metadata for a rule",
        at: ("ResolveSourceMeta", "r.example/asked"),
        options: &["build-arg:READS=yes"],
        child: Stage::Stock,
    },
    Row {
        what: "what is built",
        at: ("Solve", "r.example/asked"),
        options: &[],
        child: Stage::Stock,
    },
    Row {
        what: "a context by URL",
        at: ("Solve", "files.example"),
        options: REMOTE,
        child: Stage::Stock,
    },
    Row {
        what: "a context in a repository",
        at: ("Solve", "git.example"),
        options: GIT,
        child: Stage::Stock,
    },
    Row { what: "the result", at: ("Return", ""), options: &[], child: Stage::Ended },
];

/// Its daemon ends in the middle of a call: it ends too, with the reason, and leaves no child.
#[tokio::test]
async fn without_its_daemon_it_ends() {
    let stock = need!(peers::pinned("dockerfile-frontend"));
    let mute = folder(&[("child", "#!/bin/sh\nexec sleep 100\n")]);
    let mute = mute.path().join("child");
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&mute, std::fs::Permissions::from_mode(0o755)).unwrap();
    let rules = "package docker\n\
        default allow := false\n\
        allow if not input.env.args.READS\n\
        allow if input.local\n\
        allow if input.image.labels.tier == \"ours\"\n\
        decision := {\"allow\": allow}\n";
    let policies = folder(&[("org.rego", rules)]);
    for row in ROWS {
        let (program, name) = match row.child {
            Stage::Mute => (&mute, "sleep"),
            Stage::Stock | Stage::Ended => (&stock, "dockerfile-fron"),
        };
        let mut frontend = start(program, policies.path(), row.options);
        let daemon = Daemon::serve(&mut frontend, row.at);
        let asked = tokio::time::timeout(PATIENCE, daemon.reached.notified()).await;
        if asked.is_err() {
            let mut said = String::new();
            frontend.start_kill().unwrap();
            frontend.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
            panic!("{}: the daemon was not asked; {said}", row.what);
        }
        let child = match row.child {
            Stage::Mute | Stage::Stock => Some(until_named(&frontend, row.what, name).await),
            Stage::Ended => None,
        };
        let gone = Instant::now();
        drop(daemon);
        let mut said = String::new();
        let reads = async {
            frontend.stderr.take().unwrap().read_to_string(&mut said).await.unwrap();
            frontend.wait().await.unwrap()
        };
        let ended = tokio::time::timeout(PATIENCE, reads).await;
        let status = ended.unwrap_or_else(|_| panic!("{}: it goes on", row.what));
        assert_eq!(status.code(), Some(2), "{}: {said}", row.what);
        let wanted = match row.child {
            Stage::Mute | Stage::Stock => "the connection to the daemon ended before the build did",
            // Whichever is noticed first.
            Stage::Ended => "the connection to the daemon",
        };
        assert!(said.contains(wanted), "{}: {said}", row.what);
        while child.is_some_and(alive) {
            assert!(gone.elapsed() < PATIENCE, "{}: the child goes on", row.what);
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The child, as soon as it is there.
async fn until_named(frontend: &Child, what: &str, name: &str) -> u32 {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(child) = named(&descendants(frontend.id().unwrap()), name) {
            return child;
        }
        assert!(Instant::now() < deadline, "{what}: there is no {name}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A daemon at the other end of the pipes; when it is dropped they are closed, as the system does when it
/// is killed.
struct Daemon {
    /// The call that it stands at was made.
    reached: Arc<Notify>,
    serving: tokio::task::JoinHandle<()>,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Daemon {
    /// Answers until a call of this method holds this word, which it never answers.
    fn serve(frontend: &mut Child, at: (&'static str, &'static str)) -> Self {
        let (output, input) = (frontend.stdout.take().unwrap(), frontend.stdin.take().unwrap());
        let reached = Arc::new(Notify::new());
        let notified = Arc::clone(&reached);
        let answer = move |request: Request<Incoming>| answer(request, at, Arc::clone(&notified));
        let serving = tokio::spawn(async move {
            // How it breaks is what is tested.
            let _ = rpc::serve(tokio::io::join(output, input), answer).await;
        });
        Self { reached, serving }
    }
}

/// What the Dockerfile frontend wants of a daemon.
const LLB: &str = "source.image source.image.resolvemode source.local source.local.unique \
    source.local.sessionid source.local.includepatterns source.local.followpaths \
    source.local.excludepatterns source.local.sharedkeyhint source.local.differ \
    source.local.metadatatransfer source.git source.git.keepgitdir source.git.fullurl \
    source.git.subdir source.git.checksum source.http source.http.checksum exec.meta.base \
    exec.mount.bind file.base platform constraints meta.description";

const GATEWAY: &str = "solve.base solve.inlinereturn resolveimage readfile return";

/// One Dockerfile, one image, and no policy beside it.
async fn answer(
    request: Request<Incoming>,
    (stands, word): (&'static str, &'static str),
    reached: Arc<Notify>,
) -> Response<Body> {
    let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
    let (message, _) = rpc::read_one(request.into_body()).await.unwrap();
    let message = message.unwrap_or_default();
    let shown = String::from_utf8_lossy(&message).contains("[policy] ")
        && !String::from_utf8_lossy(&message).contains("[policy] fetch");
    if method == stands && String::from_utf8_lossy(&message).contains(word) && !shown {
        reached.notify_one();
        std::future::pending::<()>().await;
    }
    let digest = format!("sha256:{}", "a".repeat(64));
    let config = r#"{"architecture":"amd64","os":"linux","config":{"Labels":{"tier":"ours"}},"rootfs":{"type":"layers","diff_ids":[]}}"#;
    let reply = match method.as_str() {
        "Ping" => {
            let able =
                |id: &str| caps::ApiCap { id: id.to_owned(), enabled: true, ..Default::default() };
            let llb_caps = LLB.split(' ').map(able).collect();
            let frontend_api_caps = GATEWAY.split(' ').map(able).collect();
            gateway::PongResponse { llb_caps, frontend_api_caps, ..Default::default() }
                .encode_to_vec()
        }
        "Solve" => {
            let made = gateway::Ref { id: "made".to_owned(), def: None };
            let result = gateway::Result {
                result: Some(gateway::result::Result::Ref(made)),
                ..Default::default()
            };
            gateway::SolveResponse { result: Some(result), ..Default::default() }.encode_to_vec()
        }
        "ReadFile" => {
            let wire = gateway::ReadFileRequest::decode(message).unwrap();
            if wire.file_path.ends_with(".dockerignore") || wire.file_path.ends_with(".rego") {
                return rpc::refusal(&tonic::Status::not_found("no such file"));
            }
            let data = "FROM r.example/asked:1\nCOPY a /a\n".into();
            gateway::ReadFileResponse { data }.encode_to_vec()
        }
        "ResolveSourceMeta" => {
            let wire = gateway::ResolveSourceMetaRequest::decode(message).unwrap();
            let source = wire.source.unwrap_or_default();
            resolved(source, &digest, config).encode_to_vec()
        }
        "ResolveImageConfig" => {
            let wire = gateway::ResolveImageConfigRequest::decode(message).unwrap();
            let config = config.into();
            gateway::ResolveImageConfigResponse { digest, config, r#ref: wire.r#ref }
                .encode_to_vec()
        }
        // Nothing, of whatever kind.
        _ => Vec::new(),
    };
    rpc::answered(&reply)
}

fn resolved(
    source: pb::SourceOp,
    digest: &str,
    config: &str,
) -> gateway::ResolveSourceMetaResponse {
    let of = |scheme: &str| source.identifier.starts_with(scheme);
    let digest = digest.to_owned();
    let image = of("docker-image:").then(|| gateway::ResolveSourceImageResponse {
        digest: digest.clone(),
        config: config.to_owned().into(),
        ..Default::default()
    });
    let git = of("git:").then(|| gateway::ResolveSourceGitResponse {
        checksum: "c".repeat(40),
        ..Default::default()
    });
    let http = of("http").then(|| gateway::ResolveSourceHttpResponse {
        checksum: digest.clone(),
        ..Default::default()
    });
    gateway::ResolveSourceMetaResponse { source: Some(source), image, git, http }
}
