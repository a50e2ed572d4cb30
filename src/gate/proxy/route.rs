//! Where the calls of one client connection go.
//!
//! A client connection has connections of its own to the daemons, so that no client waits behind
//! another. It stays with the daemon of its first call, but a call that names a session or a build goes
//! where that one is. With a single daemon nothing is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request};
use tokio::sync::Mutex;
use tonic::Status;

use super::client::Principal;
use super::upstream::{Key, Upstream, UpstreamError, Upstreams};
use crate::gateway::BUILD_ID;
use crate::rpc::{self, Body, Channel, Scope};
use crate::session::{ID, SESSION};
use crate::wire::raw::Field;

const SOLVE: &str = "/moby.buildkit.v1.Control/Solve";
const STATUS: &str = "/moby.buildkit.v1.Control/Status";

/// The daemons as one client connection sees them.
pub struct Routes {
    upstreams: Arc<Upstreams>,
    client: Principal,
    lines: Vec<Mutex<Option<Channel>>>,
    scope: Arc<Scope>,
    /// Index of the daemon where the connection is at home; `usize::MAX` before the first call.
    home: AtomicUsize,
}

/// A way for one call.
#[derive(Clone)]
pub struct Way {
    /// To which daemon.
    pub upstream: Arc<Upstream>,
    /// On which connection.
    pub channel: Channel,
    /// What ends with the client: that connection, and any that is opened in its place.
    pub scope: Arc<Scope>,
}

impl Routes {
    pub fn new(upstreams: Arc<Upstreams>, client: Principal) -> Self {
        let lines = upstreams.all().iter().map(|_| Mutex::new(None)).collect();
        let home = AtomicUsize::new(usize::MAX);
        Self { upstreams, client, lines, scope: Arc::default(), home }
    }

    /// Cuts the connections to the daemons: the client is gone.
    pub fn close(&self) {
        self.scope.close();
    }

    /// Finds the way of a call. The call comes back as it was.
    ///
    /// # Errors
    /// `UNAVAILABLE` when no daemon can be reached, or not the one that has what the call is about.
    pub async fn route(&self, request: Request<Body>) -> Result<(Way, Request<Body>), Status> {
        if self.upstreams.all().len() == 1 {
            return Ok((self.any().await?, request));
        }
        let (request, Named { keys, begins }) = named(request).await?;
        let known = keys.iter().find_map(|key| self.upstreams.of(key)).cloned();
        let way = match known {
            Some(upstream) => {
                let way = self.to(&upstream).await.map_err(|error| self.lost(&upstream, &error))?;
                self.home.store(upstream.index(), Ordering::Relaxed);
                way
            }
            None => self.any().await?,
        };
        if begins {
            for key in keys {
                self.upstreams.remember(key, &way.upstream, &self.client);
            }
        }
        Ok((way, request))
    }

    /// The way home, or to the best daemon there is, which is home from then on.
    pub async fn any(&self) -> Result<Way, Status> {
        let home = self.upstreams.all().get(self.home.load(Ordering::Relaxed));
        let others = self.upstreams.candidates();
        let mut why = Vec::new();
        for upstream in home.cloned().iter().chain(&others) {
            match self.to(upstream).await {
                Ok(way) => {
                    self.home.store(upstream.index(), Ordering::Relaxed);
                    return Ok(way);
                }
                Err(error) => {
                    let error = error.to_string();
                    if !why.contains(&error) {
                        why.push(error);
                    }
                }
            }
        }
        Err(Status::unavailable(format!("buildgate: no daemon: {}", why.join("; "))))
    }

    async fn to(&self, upstream: &Arc<Upstream>) -> Result<Way, UpstreamError> {
        let scope = Arc::clone(&self.scope);
        let way = |channel| Way { upstream: Arc::clone(upstream), channel, scope };
        let Some(line) = self.lines.get(upstream.index()) else {
            return Ok(way(upstream.connect_within(&self.scope).await?));
        };
        let mut line = line.lock().await;
        if let Some(channel) = line.as_ref().filter(|channel| !channel.is_closed()) {
            return Ok(way(channel.clone()));
        }
        let channel = upstream.connect_within(&self.scope).await?;
        *line = Some(channel.clone());
        Ok(way(channel))
    }

    fn lost(&self, upstream: &Upstream, error: &UpstreamError) -> Status {
        self.upstreams.forget(upstream);
        Status::unavailable(format!("buildgate: the daemon of this build is gone: {error}"))
    }
}

/// Makes the key of a value that a call names.
type ToKey = fn(String) -> Key;

/// What a call names.
#[derive(Default)]
struct Named {
    /// The most telling first.
    keys: Vec<Key>,
    /// Whether the call brings about what it names. Others may name what is not there, and as much of
    /// it as they like.
    begins: bool,
}

/// What a call is about. Of requests that are one message, that is read.
async fn named(request: Request<Body>) -> Result<(Request<Body>, Named), Status> {
    let of_headers = keys_of(request.headers());
    let path = request.uri().path();
    let begins = matches!(path, SESSION | SOLVE);
    let fields: &[(Field, ToKey)] = match path {
        SOLVE => &[
            (Field::CONTROL_SOLVE_SESSION, Key::Session),
            (Field::CONTROL_SOLVE_SOURCE_POLICY_SESSION, Key::Session),
            (Field::CONTROL_SOLVE_REF, Key::Build),
        ],
        STATUS | "/moby.buildkit.v1.Control/UpdateBuildHistory" => {
            &[(Field::CONTROL_STATUS_REF, Key::Build)]
        }
        "/moby.buildkit.v1.Control/ListenBuildHistory" => {
            &[(Field::CONTROL_HISTORY_REF, Key::Build)]
        }
        _ => return Ok((request, Named { keys: of_headers, begins })),
    };
    let (parts, body) = request.into_parts();
    let (message, _) = rpc::read_one(body).await?;
    let mut keys = of_headers;
    if let Some(message) = &message {
        for (field, key) in fields {
            keys.extend(field.string_in(message).map(key));
        }
    }
    // As it came: without a message, too.
    let body = message.map_or_else(|| rpc::whole(Bytes::new()), |message| rpc::one(&message));
    Ok((Request::from_parts(parts, body), Named { keys, begins }))
}

fn keys_of(headers: &HeaderMap) -> Vec<Key> {
    let named: [(HeaderName, ToKey); 2] = [(BUILD_ID, Key::Build), (ID, Key::Session)];
    let mut keys = Vec::new();
    for (name, key) in named {
        for value in headers.get_all(name) {
            keys.extend(value.to_str().ok().map(|value| key(value.to_owned())));
        }
    }
    keys
}
