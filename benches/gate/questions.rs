//! What a question about a source costs, seen from the daemon that asks: a daemon of ours that does
//! nothing else, behind the real gate. Each question is one over a session of the gate's own, about
//! a source that no other question was about.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use buildgate::rpc::{self, Body, Channel};
use buildgate::session::{self, CHECK_POLICY, Ended, SESSION};
use buildgate::source::SourceOp;
use buildgate::wire::proto::caps::ApiCap;
use buildgate::wire::proto::control::{ListWorkersResponse, SolveRequest, SolveResponse};
use buildgate::wire::proto::gateway::{PongResponse, ResolveSourceMetaResponse};
use buildgate::wire::proto::health::{HealthCheckResponse, health_check_response::ServingStatus};
use buildgate::wire::proto::pb;
use buildgate::wire::proto::policysession::{
    CheckPolicyRequest, CheckPolicyResponse, check_policy_response::Result as Answered,
};
use buildgate::wire::proto::worker::WorkerRecord;
use http::{HeaderMap, Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use tokio::net::UnixListener;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tonic::Status;

use super::clock::{Wanted, loaded, percentile};
use super::peers::{self, GateProcess};
use super::{DECISION, POLICY};

/// Questions of all builds together, in each row.
const QUESTIONS: usize = 10_000;

/// Puts questions through a gate before a daemon that only asks, and prints what they took.
pub fn measure(
    runtime: &Runtime,
    binary: &Path,
    most: usize,
    wanted: &mut Wanted,
) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("asker.sock");
    let asker = Arc::new(Asker::default());
    let listener = runtime.block_on(async { UnixListener::bind(&socket) })?;
    let serving = runtime.spawn(Arc::clone(&asker).listen(listener));
    let upstream = format!("unix://{}", socket.display());
    let gate = GateProcess::start(binary, &upstream, POLICY);
    println!("{:>8} {:>16} {:>16}", "at once", "question p50 ms", "p99 ms");
    for builds in [1, 50.min(most), most] {
        asker.lock().each = QUESTIONS / builds;
        runtime.block_on(peers::builds_at_once(&gate.address(), "127.0.0.1:1/base:1", builds));
        let took = std::mem::take(&mut asker.lock().took);
        println!(
            "{builds:>8} {:>16.3} {:>16.3}  {} questions over sessions, {}",
            percentile(took.clone(), 50),
            percentile(took.clone(), 99),
            took.len(),
            loaded()
        );
        // Of many at once the time is that of the queue, in which the one who asks stands too.
        if builds == 1 {
            let p99 = percentile(took, 99);
            let what = format!("a question over the session in {DECISION} ms: {p99:.3} ms");
            wanted.note(what, p99 < DECISION);
        }
    }
    serving.abort();
    Ok(())
}

/// A daemon that asks, and never loads anything.
#[derive(Default)]
struct Asker {
    state: Mutex<State>,
    /// Tells of each session that comes.
    came: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// Sessions, by their ids.
    sessions: HashMap<String, Channel>,
    /// Questions of one build.
    each: usize,
    /// Questions so far.
    asked: usize,
    /// Milliseconds that each took.
    took: Vec<f64>,
}

impl Asker {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    async fn listen(self: Arc<Self>, listener: UnixListener) {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let asker = Arc::clone(&self);
            let service = hyper::service::service_fn(move |request| {
                let asker = Arc::clone(&asker);
                async move { Ok::<_, Infallible>(asker.answer(request).await) }
            });
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(socket), service));
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let method = request.uri().path().rsplit('/').next().unwrap_or_default().to_owned();
        match method.as_str() {
            _ if request.uri().path() == SESSION => self.session(request),
            "Check" => {
                let status = ServingStatus::Serving.into();
                rpc::answered(&HealthCheckResponse { status }.encode_to_vec())
            }
            "ListWorkers" => {
                let record = vec![worker()];
                rpc::answered(&ListWorkersResponse { record }.encode_to_vec())
            }
            "Ping" => rpc::answered(&pong().encode_to_vec()),
            "Solve" => self.solve(request).await,
            _ => rpc::refusal(&Status::unimplemented(method)),
        }
    }

    fn session(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
        let id = request.headers()[session::ID].to_str().unwrap().to_owned();
        let (near, download, pump) = session::tunnel().run();
        let status = std::future::ready(Ended::Ours.trailers());
        tokio::spawn(pump.answer(request.into_body(), status));
        tokio::spawn(async move {
            let (channel, connection) = Channel::over(near).await.unwrap();
            self.lock().sessions.insert(id.clone(), channel);
            self.came.send_replace(());
            // It ends with the session.
            let _ = connection.await;
            self.lock().sessions.remove(&id);
        });
        Response::new(download)
    }

    async fn solve(&self, request: Request<Incoming>) -> Response<Body> {
        let (message, _) = rpc::read_one(request.into_body()).await.unwrap();
        let request = SolveRequest::decode(message.unwrap()).unwrap();
        if request.internal {
            // A build of the gate's own lasts until the gate ends it.
            std::future::pending::<()>().await;
        }
        let session = self.wait_for(&request.source_policy_session).await;
        let each = self.lock().each.max(1);
        for _ in 0..each {
            self.ask(&session).await;
        }
        rpc::answered(&SolveResponse::default().encode_to_vec())
    }

    async fn wait_for(&self, id: &str) -> Channel {
        let mut came = self.came.subscribe();
        loop {
            let session = self.lock().sessions.get(id).cloned();
            match session {
                Some(session) => return session,
                None => came.changed().await.unwrap(),
            }
        }
    }

    async fn ask(&self, session: &Channel) {
        let at = {
            let mut state = self.lock();
            state.asked += 1;
            state.asked
        };
        let source = SourceOp::new(format!("docker-image://127.0.0.1:1/team{at}/base:1"));
        let question = CheckPolicyRequest {
            platform: Some(platform()),
            source: Some(ResolveSourceMetaResponse {
                source: Some(source.into()),
                ..ResolveSourceMetaResponse::default()
            }),
            ..CheckPolicyRequest::default()
        };
        let began = Instant::now();
        let answer: CheckPolicyResponse =
            session.call(CHECK_POLICY, &HeaderMap::new(), &question).await.unwrap();
        let took = began.elapsed().as_secs_f64() * 1_000.0;
        let Some(Answered::Decision(decision)) = answer.result else { panic!("no decision") };
        assert!(decision.deny_messages.is_empty(), "{decision:?}");
        self.lock().took.push(took);
    }
}

fn platform() -> pb::Platform {
    pb::Platform { os: "linux".into(), architecture: "amd64".into(), ..pb::Platform::default() }
}

fn worker() -> WorkerRecord {
    WorkerRecord { platforms: vec![platform()], ..WorkerRecord::default() }
}

/// What a daemon says that can be enforced upon.
fn pong() -> PongResponse {
    let cap = |id: &str| ApiCap { id: id.into(), enabled: true, ..ApiCap::default() };
    PongResponse {
        llb_caps: vec![cap("source.policy.session"), cap("source.imageblob")],
        workers: vec![worker()],
        ..PongResponse::default()
    }
}
