//! A build before a daemon that nobody asks: what is refused for reasons of our own, and what of it is
//! written down.

use std::collections::BTreeMap;

use tempfile::TempDir;

use super::*;
use crate::check::{self, Stepping};
use crate::gate::enforce::cache::{self, Import};
use crate::gate::enforce::definitions;
use crate::gate::enforce::turns::Turns;
use crate::gate::ops::{DecisionLog, LogTarget, Metrics, PolicySets};
use crate::gate::proxy::{Client, Identity};
use crate::meta::Known;
use crate::wire::proto::policysession::check_policy_response::Result as Answered;
use crate::wire::proto::{caps::ApiCap, gateway, pb, worker::WorkerRecord};

const ALLOW: &str = "package docker\ndecision := {\"allow\": true}\n";

/// A build, and the folder with its log.
pub struct Bench {
    dir: TempDir,
    pub build: Build,
}

fn daemon() -> Daemon {
    let cap = |id: &str| ApiCap { id: id.to_owned(), enabled: true, ..ApiCap::default() };
    let platform = pb::Platform {
        os: "linux".to_owned(),
        architecture: "amd64".to_owned(),
        ..pb::Platform::default()
    };
    let worker = WorkerRecord { platforms: vec![platform], ..WorkerRecord::default() };
    Daemon::of(gateway::PongResponse {
        llb_caps: vec![cap("source.policy.session"), cap("source.imageblob")],
        workers: vec![worker],
        ..gateway::PongResponse::default()
    })
    .unwrap()
}

impl Bench {
    pub async fn start(mode: Mode) -> Self {
        let (near, far) = tokio::io::duplex(1024);
        tokio::spawn(async move {
            let _far = far;
            std::future::pending::<()>().await
        });
        Self::at(mode, Channel::over(near).await.unwrap().0).await
    }

    /// One on the daemon at the other end of this.
    pub async fn at(mode: Mode, channel: Channel) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let policy = dir.path().join("p.rego");
        std::fs::write(&policy, ALLOW).unwrap();
        let sets = PolicySets::load([("all".to_owned(), vec![policy])]).unwrap();
        let log = DecisionLog::open(LogTarget::File(dir.path().join("log"))).unwrap();
        let client = Client {
            identity: Identity::Unix { uid: 1, gid: 1, pid: None },
            listener: "here".into(),
            connection: 1,
        };
        let revision = sets.set("all").unwrap().current();
        let build = Build::new(Begun {
            evaluator: Box::new(Turns::default().of_build(Arc::clone(&revision.policies))),
            facts: ops::Build {
                reference: "r".to_owned(),
                client: "uid:1".to_owned(),
                revision,
                mode,
                span: tracing::Span::none(),
            },
            owner: Owner::of(&client),
            env: Env::default(),
            session: String::new(),
            settings: Arc::new(Settings { mode, ..Settings::default() }),
            recorder: Arc::new(Recorder::new(Some(log), Arc::new(Metrics::new()))),
            claims: Claims::default(),
            channel,
            daemon: Arc::new(daemon()),
            peer: None,
            converts: false,
        });
        Self { dir, build }
    }

    /// Gives it a build of our own.
    pub async fn open(&self) {
        let Begun { channel, claims, .. } = &self.build.begun;
        *self.build.internal.lock().await = Some(Arc::new(Internal::unanswered(channel, claims)));
    }

    /// Action and source of each line of the log.
    fn lines(&self) -> Vec<String> {
        let text = std::fs::read_to_string(self.dir.path().join("log")).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
        lines
            .map(|line: serde_json::Value| {
                format!("{} {}", line["action"].as_str().unwrap(), line["source"].as_str().unwrap())
            })
            .collect()
    }
}

fn question(op: &str) -> CheckPolicyRequest {
    let source = gateway::ResolveSourceMetaResponse {
        source: Some(SourceOp::new(op).into()),
        ..Default::default()
    };
    CheckPolicyRequest { source: Some(source), ..CheckPolicyRequest::default() }
}

#[tokio::test]
async fn a_question_that_was_not_asked_for_is_refused_and_written_down() {
    const URL: &str = "https://example.com/a";
    for mode in [Mode::Enforce, Mode::Audit] {
        let bench = Bench::start(mode).await;
        let mut with_metadata = question(URL);
        with_metadata.source.as_mut().unwrap().http = Some(gateway::ResolveSourceHttpResponse {
            checksum: format!("sha256:{}", "a".repeat(64)),
            ..Default::default()
        });
        for asked in [with_metadata, CheckPolicyRequest::default()] {
            let status = bench.build.answer(asked).await.unwrap_err();
            assert_eq!(status.code(), tonic::Code::PermissionDenied, "{status:?}");
        }
        assert_eq!(bench.lines(), [format!("deny {URL}"), "deny no source".to_owned()]);
        assert_eq!(bench.build.answer(question(URL)).await.unwrap(), Answer::Allow);
    }
}

/// An evaluation as a bug of ours, or of the engine, would end it.
struct Panics;

impl Evaluate for Panics {
    fn step<'a>(&'a self, _: &'a check::Question, _: &'a Known) -> Stepping<'a> {
        Box::pin(async { panic!("as a bug would") })
    }
}

impl Judging for Panics {
    fn caps<'a>(&'a self, _: &'a Env) -> BoxFuture<'a, Result<Caps, CheckError>> {
        Box::pin(async { panic!("as a bug would") })
    }
}

/// A denial in words of its own, in either mode; the session and the other builds go on.
#[tokio::test]
async fn a_policy_that_panics_is_a_refusal() {
    const URL: &str = "https://example.com/a";
    let words = "judging broke off by a fault of buildgate's own";
    for (mode, wanted) in [(Mode::Enforce, false), (Mode::Audit, true)] {
        let mut bench = Bench::start(mode).await;
        bench.build.begun.evaluator = Box::new(Panics);
        let build = Arc::new(bench.build);
        // Asked twice, it is decided once.
        for _ in 0..2 {
            let verifier: Arc<dyn Verifier> = Arc::<Build>::clone(&build);
            let answered = verifier.verify(question(URL)).await.unwrap();
            let Some(Answered::Decision(decision)) = answered.result else { panic!("{mode:?}") };
            let said: Vec<_> = decision.deny_messages.iter().map(|it| &*it.message).collect();
            match wanted {
                true => assert_eq!((decision.action, said.len()), (0, 0)),
                false => assert!(decision.action == 1 && said.concat().contains(words), "{said:?}"),
            }
        }
        let status = build.commands().await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::FailedPrecondition);
        assert!(status.message().contains(words), "{status:?}");
        let text = std::fs::read_to_string(bench.dir.path().join("log")).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let [line] = &lines[..] else { panic!("{text}") };
        assert!(
            line["action"] == "deny" && line["error"].as_str().unwrap().contains(words),
            "{line}"
        );
    }
}

#[tokio::test]
async fn sources_beyond_the_bound_are_refused_and_written_down_once() {
    let bench = Bench::start(Mode::Audit).await;
    let platform = bench.build.begun.daemon.platform.clone();
    for number in 0..MAX_SOURCES {
        let op = SourceOp::new(format!("local://{number}"));
        assert!(bench.build.cell(&(op, platform.clone(), Purpose::Source)).is_some());
    }
    for name in ["one", "more"] {
        let answer = bench.build.answer(question(&format!("local://{name}"))).await.unwrap();
        let Answer::Deny { messages } = answer else { panic!("{answer:?}") };
        let beyond = "one build has more than 10000 sources, or 16777216 bytes of their names";
        assert_eq!(messages, [beyond]);
    }
    assert_eq!(bench.lines(), ["deny local://one"]);
    assert_eq!(bench.build.answer(question("local://7")).await.unwrap(), Answer::Allow);
}

/// Few sources may be long ones, with long attributes.
#[test]
fn what_sources_are_called_is_bounded() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let bench = runtime.block_on(Bench::start(Mode::Enforce));
    let platform = bench.build.begun.daemon.platform.clone();
    let cell = |number: usize| {
        let mut op = SourceOp::new(format!("local://{number:04}"));
        let long = "x".repeat(1 << 20);
        op.attrs.insert("a".to_owned(), long.clone());
        op.identifier.push_str(&long);
        bench.build.cell(&(op, platform.clone(), Purpose::Source)).is_some()
    };
    let most = (0..20).take_while(|number| cell(*number)).count();
    assert_eq!(most, 7, "of two MiB and some bytes each");
    assert!(cell(3), "what is known stays known");
}

#[tokio::test]
async fn caches_are_admitted_in_our_words_or_written_down_as_refused() {
    let import = |kind: &str, reference: &str| Import {
        kind: kind.to_owned(),
        attrs: BTreeMap::from([("ref".to_owned(), reference.to_owned())]),
    };
    for (mode, passes) in [(Mode::Enforce, false), (Mode::Audit, true)] {
        let bench = Bench::start(mode).await;
        for kind in ["gha", "local", "of a later daemon"] {
            let admitted = cache::admit(&bench.build, import(kind, "x")).await;
            assert_eq!(admitted.is_ok(), passes, "{kind}");
        }
        assert!(cache::admit(&bench.build, import("registry", "UPPER CASE")).await.is_err());
        let admitted = cache::admit(&bench.build, import("registry", "alpine")).await.unwrap();
        assert_eq!(admitted.attrs["ref"], "docker.io/library/alpine:latest");
        let wanted = [
            "deny cache import of type gha",
            "deny cache import of type local",
            "deny cache import of type of a later daemon",
            "deny cache import from UPPER CASE",
            "allow docker-image://docker.io/library/alpine:latest",
        ];
        assert_eq!(bench.lines(), wanted);
    }
}

#[tokio::test]
async fn options_that_hide_what_a_frontend_does_are_refused_in_either_mode() {
    for mode in [Mode::Enforce, Mode::Audit] {
        let bench = Bench::start(mode).await;
        let option =
            |name: &str, value: &str| BTreeMap::from([(name.to_owned(), value.to_owned())]);
        for (name, value) in [("gateway-devel", ""), ("add-hosts", "X.BUILDGATE.INVALID=::1")] {
            let refused = definitions::options(&bench.build, &option(name, value)).await;
            assert!(refused.unwrap_err().message().contains("not allowed by policy"), "{name}");
        }
        assert_eq!(bench.lines(), ["deny the option gateway-devel", "deny the option add-hosts"]);
        let hosts = option("add-hosts", "a=::1");
        assert_eq!(definitions::options(&bench.build, &hosts).await.unwrap(), None);
    }
}
