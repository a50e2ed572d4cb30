//! Serves the clients of a listener, until it is told to stop and the last call has ended.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::sync::watch;

use super::client::Client;
use super::counters::Counters;
use super::io::Io;
use super::listen::{Arrival, Listener, whole};
use super::methods::Access;
use super::pass::{self, Guarded, Open};
use super::route::Routes;
use super::{Answer, Call, Handle, Upstreams};
use crate::rpc::{self, Batched, Body, CONNECTION_WINDOW, MAX_HEADERS, Reset, WINDOW};

/// How often a client over TCP is asked whether it is still there, and how long it may take to say so.
const PING: Duration = Duration::from_secs(30);
const PONG: Duration = Duration::from_secs(20);
/// Calls of one connection at once.
const CALLS: u32 = 100_000;
/// Calls that a client may take back before we have looked at them.
const RESETS: usize = 4096;

/// What stands behind the listeners.
pub struct Gate {
    /// The daemons.
    pub upstreams: Arc<Upstreams>,
    /// Who answers the calls.
    pub handler: Arc<dyn Handle>,
    /// What is counted.
    pub counters: Arc<Counters>,
    /// How long calls may go on when the gate is to stop.
    pub drain: Duration,
}

/// How serving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut because their calls would not end in time.
    pub cut: usize,
}

/// Serves the listener until `stop` comes; then takes nobody in any more, closes each connection as soon
/// as it has no call open, and cuts the rest when the time for draining is over.
///
/// A connection with calls under way stays whole while it drains: the calls of a build that has begun
/// find it, and the build ends well.
pub async fn serve(listener: Listener, gate: Arc<Gate>, stop: impl Future<Output = ()>) -> Drained {
    let (draining, _) = watch::channel(false);
    let (access, name) = (listener.access(), listener.name().to_owned());
    let welcomed =
        |arrival| welcome(arrival, Arc::clone(&gate), Arc::clone(&access), draining.subscribe());
    let mut connections = listener.each(stop, welcomed).await;
    draining.send_replace(true);
    let all = async {
        while let Some(ended) = connections.join_next().await {
            whole(&name, ended);
        }
    };
    let in_time = tokio::time::timeout(gate.drain, all).await;
    let cut = if in_time.is_ok() { 0 } else { connections.len() };
    connections.shutdown().await;
    Drained { cut }
}

async fn welcome(
    arrival: Arrival,
    gate: Arc<Gate>,
    access: Arc<Access>,
    draining: watch::Receiver<bool>,
) {
    let listener = arrival.listener();
    match arrival.greet().await {
        Ok((io, client)) => {
            Counters::add(&gate.counters.connections);
            let _open = gate.counters.hold(|counters| &counters.open_connections);
            let principal = client.identity.principal();
            let connection = Arc::new(Connection {
                client: Arc::new(client),
                access,
                routes: Routes::new(Arc::clone(&gate.upstreams), principal),
                gate,
                calls: watch::channel(0).0,
            });
            connection.run(io, draining).await;
        }
        Err(stranger) => {
            Counters::add(&gate.counters.strangers);
            tracing::warn!(%listener, "a client was sent away: {stranger}");
        }
    }
}

/// One client connection.
struct Connection {
    client: Arc<Client>,
    access: Arc<Access>,
    routes: Routes,
    gate: Arc<Gate>,
    /// Calls under way.
    calls: watch::Sender<usize>,
}

impl Connection {
    async fn run(self: Arc<Self>, io: Io, mut draining: watch::Receiver<bool>) {
        let remote = !matches!(io, Io::Unix(_));
        let answering = Arc::clone(&self);
        let service = service_fn(move |request| {
            let connection = Arc::clone(&answering);
            async move { connection.answer(request).await }
        });
        let served = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .auto_date_header(false)
            .max_header_list_size(MAX_HEADERS)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buf_size(WINDOW as usize)
            .max_concurrent_streams(CALLS)
            .max_pending_accept_reset_streams(RESETS)
            .max_local_error_reset_streams(None)
            .keep_alive_interval(Some(PING).filter(|_| remote))
            .keep_alive_timeout(PONG)
            .serve_connection(TokioIo::new(Batched::new(io)), service);
        let mut served = pin!(served);
        let mut calls = self.calls.subscribe();
        let idle = async move {
            // Both senders outlive this; were they gone, the connection would be over.
            let _ = draining.wait_for(|draining| *draining).await;
            let _ = calls.wait_for(|open| *open == 0).await;
        };
        let ended = tokio::select! {
            ended = &mut served => ended,
            () = idle => {
                served.as_mut().graceful_shutdown();
                served.await
            }
        };
        self.routes.close();
        if let Err(error) = ended {
            tracing::debug!(client = %self.client.identity, "a connection broke: {error}");
        }
    }

    async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Result<Response<Body>, Reset> {
        let counters = &self.gate.counters;
        Counters::add(&counters.calls);
        let held = counters.hold(|counters| &counters.open_calls);
        let open = Open::begin(&self.calls);
        let response = self.response(request.map(pass::upload)).await?;
        Ok(response.map(|body| Guarded::new(body, held, open).boxed_unsync()))
    }

    async fn response(&self, request: Request<Body>) -> Answer {
        if let Err(status) = self.access.admit(&self.client, request.uri().path()) {
            Counters::add(&self.gate.counters.forbidden);
            tracing::warn!(client = %self.client.identity, "{}", status.message());
            return Ok(rpc::refusal(&status));
        }
        match self.routes.route(request).await {
            Ok((way, request)) => {
                let client = Arc::clone(&self.client);
                self.gate.handler.handle(Call { client, way, request }).await
            }
            Err(status) => {
                Counters::add(&self.gate.counters.unserved);
                Ok(rpc::refusal(&status))
            }
        }
    }
}
