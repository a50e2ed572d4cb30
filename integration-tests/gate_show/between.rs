//! A proxy between the gate and its daemon: it sees what no client does, the gate's own names, and can
//! end the gate's own sessions.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use buildgate::gate::proxy::{
    self, Answer, Call, Counters, Gate as Proxy, Handle, ListenOptions, UpstreamOptions, Upstreams,
};
use buildgate::rpc;
use buildgate::session::{ID, SESSION};
use buildgate::wire::proto::control::SolveRequest;
use futures_util::future::BoxFuture;
use futures_util::stream;
use http_body_util::{BodyExt as _, StreamBody};
use prost::Message as _;
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::gate_enforce::SOLVE;
use crate::peers::World;

/// What passed on its way to the daemon.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Ids of sessions that the gate opened for itself.
    pub sessions: Vec<String>,
    /// How many of these are over.
    pub ended: usize,
    /// Every solve.
    pub solves: Vec<SolveRequest>,
    /// Calls under way, by method.
    pub open: BTreeMap<String, usize>,
}

impl Seen {
    /// Calls of a method that are under way.
    pub fn open(&self, method: &str) -> usize {
        self.open.get(method).copied().unwrap_or_default()
    }
}

/// Puts a handler before the shared daemon, until the runtime is dropped.
pub fn stand(world: &World, options: ListenOptions, handler: Arc<dyn Handle>) -> Runtime {
    let runtime = Runtime::new().unwrap();
    let upstream =
        UpstreamOptions { address: world.buildkit.address().parse().unwrap(), tls: None };
    runtime.block_on(async {
        let counters = Arc::new(Counters::default());
        let upstreams = Upstreams::start(vec![upstream], Arc::clone(&counters)).await.unwrap();
        let gate = Arc::new(Proxy { upstreams, handler, counters, drain: Duration::ZERO });
        let listener = proxy::bind(options).await.unwrap();
        tokio::spawn(proxy::serve(listener, gate, std::future::pending()));
    });
    runtime
}

/// The proxy.
pub struct Between {
    /// Where it listens.
    pub address: String,
    /// Ends the gate's sessions.
    pub cut: watch::Sender<bool>,
    seen: Arc<Mutex<Seen>>,
    runtime: Option<Runtime>,
}

impl Between {
    /// Before the shared daemon.
    pub fn start(world: &World, socket: &std::path::Path) -> Self {
        let (cut, cutting) = watch::channel(false);
        let seen = Arc::new(Mutex::new(Seen::default()));
        let address = format!("unix://{}", socket.display());
        let handler = Arc::new(Watching { cut: cutting, seen: Arc::clone(&seen) });
        let runtime = stand(world, ListenOptions::at(address.parse().unwrap()), handler);
        Self { address, cut, seen, runtime: Some(runtime) }
    }

    /// What passed so far.
    pub fn seen(&self) -> Seen {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        // Tests that run in a runtime may not wait for another one.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Passes everything on, but for the gate's own sessions once it is told to.
struct Watching {
    cut: watch::Receiver<bool>,
    seen: Arc<Mutex<Seen>>,
}

/// Counts a session as over when it is dropped.
struct Session(Arc<Mutex<Seen>>);

impl Drop for Session {
    fn drop(&mut self) {
        self.0.lock().unwrap().ended += 1;
    }
}

/// Counts a call as under way until it is dropped.
struct UnderWay {
    seen: Arc<Mutex<Seen>>,
    method: String,
}

impl UnderWay {
    fn begin(seen: &Arc<Mutex<Seen>>, method: &str) -> Self {
        *seen.lock().unwrap().open.entry(method.to_owned()).or_default() += 1;
        Self { seen: Arc::clone(seen), method: method.to_owned() }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        *self.seen.lock().unwrap().open.get_mut(&self.method).unwrap() -= 1;
    }
}

impl Handle for Watching {
    fn handle(&self, mut call: Call) -> BoxFuture<'_, Answer> {
        let under_way = UnderWay::begin(&self.seen, call.method());
        let headers = call.request.headers();
        let name = headers.get("x-docker-expose-session-name");
        let is_ours = call.method() == SESSION && name.is_some_and(|name| name == "buildgate");
        let session = is_ours.then(|| {
            let id = headers[ID].to_str().unwrap().to_owned();
            self.seen.lock().unwrap().sessions.push(id);
            Session(Arc::clone(&self.seen))
        });
        let cut = self.cut.clone();
        Box::pin(async move {
            if call.method() == SOLVE {
                let body = std::mem::replace(call.request.body_mut(), rpc::one(b""));
                let message = rpc::read_one(body).await.unwrap().0.unwrap_or_default();
                *call.request.body_mut() = rpc::one(&message);
                let request = SolveRequest::decode(message).unwrap();
                self.seen.lock().unwrap().solves.push(request);
            }
            let answer = call.forward().await.map(|it| {
                it.map(|body| {
                    let counted = body.map_frame(move |frame| {
                        let _counted = &under_way;
                        frame
                    });
                    counted.boxed_unsync()
                })
            });
            let Some(session) = session else { return answer };
            let frames = |body| {
                let state = (body, cut, session);
                stream::unfold(
                    state,
                    |(mut body, mut cut, session): (rpc::Body, _, _)| async move {
                        let frame = tokio::select! {
                            frame = body.frame() => frame?,
                            _ = watch::Receiver::wait_for(&mut cut, |cut| *cut) => return None,
                        };
                        Some((frame, (body, cut, session)))
                    },
                )
            };
            answer.map(|it| it.map(|body| rpc::through(StreamBody::new(frames(body)))))
        })
    }
}
