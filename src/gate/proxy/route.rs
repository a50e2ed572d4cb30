//! Where the calls of one client connection go.
//!
//! A client connection has connections of its own to the daemons, so that no client waits behind
//! another. It stays with the daemon of its first call, but a call that names a session or a build goes
//! where that one is. With a single daemon nothing is looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use tokio::sync::Mutex;
use tonic::Status;

use super::upstream::{Key, Upstream, UpstreamError, Upstreams};
use crate::rpc::{Body, Channel, Scope};

/// Metadata of a session's stream: its id.
const SESSION: &str = "x-docker-expose-session-uuid";
/// Metadata of a gateway call: the build it belongs to.
const BUILD: &str = "buildkit-controlapi-buildid";

/// The daemons as one client connection sees them.
pub struct Routes {
    upstreams: Arc<Upstreams>,
    lines: Vec<Mutex<Option<Channel>>>,
    scope: Scope,
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
}

impl Routes {
    pub fn new(upstreams: Arc<Upstreams>) -> Self {
        let lines = upstreams.all().iter().map(|_| Mutex::new(None)).collect();
        Self { upstreams, lines, scope: Scope::default(), home: AtomicUsize::new(usize::MAX) }
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
        let (request, keys) = keys(request).await?;
        let known = keys.iter().find_map(|key| self.upstreams.of(key)).cloned();
        let way = match known {
            Some(upstream) => {
                let way = self.to(&upstream).await.map_err(|error| self.lost(&upstream, &error))?;
                self.home.store(upstream.index(), Ordering::Relaxed);
                way
            }
            None => self.any().await?,
        };
        for key in keys {
            self.upstreams.remember(key, &way.upstream);
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
        let way = |channel| Way { upstream: Arc::clone(upstream), channel };
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

/// Most bytes of a request that is looked into; the daemon takes less.
const MAX_REQUEST: usize = 64 << 20;

/// Makes the key of a value that a call names.
type ToKey = fn(String) -> Key;

/// What a call is about, the most telling first. Of requests that are one message, that is read.
async fn keys(request: Request<Body>) -> Result<(Request<Body>, Vec<Key>), Status> {
    let of_headers = keys_of(request.headers());
    let fields: &[(u32, ToKey)] = match request.uri().path() {
        "/moby.buildkit.v1.Control/Solve" => {
            &[(5, Key::Session), (15, Key::Session), (1, Key::Build)]
        }
        "/moby.buildkit.v1.Control/Status" | "/moby.buildkit.v1.Control/UpdateBuildHistory" => {
            &[(1, Key::Build)]
        }
        "/moby.buildkit.v1.Control/ListenBuildHistory" => &[(2, Key::Build)],
        _ => return Ok((request, of_headers)),
    };
    let (parts, body) = request.into_parts();
    let bytes = whole(body).await?;
    let message = bytes.slice(bytes.len().min(5)..);
    let mut keys = of_headers;
    for (number, key) in fields {
        keys.extend(string_field(&message, *number).map(key));
    }
    let body = Full::new(bytes).map_err(|never| match never {}).boxed_unsync();
    Ok((Request::from_parts(parts, body), keys))
}

/// A request that is small enough to be looked into.
async fn whole(mut body: Body) -> Result<Bytes, Status> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Status::cancelled(format!("buildgate: the request was cut off: {error}"))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        if bytes.len() + data.len() > MAX_REQUEST {
            let why = format!("buildgate: the request has more than {MAX_REQUEST} bytes");
            return Err(Status::resource_exhausted(why));
        }
        bytes.extend_from_slice(&data);
    }
    Ok(bytes.freeze())
}

fn keys_of(headers: &HeaderMap) -> Vec<Key> {
    let named: [(&str, ToKey); 2] = [(BUILD, Key::Build), (SESSION, Key::Session)];
    let mut keys = Vec::new();
    for (name, key) in named {
        for value in headers.get_all(name) {
            keys.extend(value.to_str().ok().map(|value| key(value.to_owned())));
        }
    }
    keys
}

/// The last value of a string at the top of a message. What is no message is the daemon's to refuse.
fn string_field(message: &Bytes, wanted: u32) -> Option<String> {
    let mut rest = message.clone();
    let mut found = None;
    while !rest.is_empty() {
        let (number, wire_type) = decode_key(&mut rest).ok()?;
        if number == wanted && wire_type == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            let value = (length <= rest.len()).then(|| rest.split_to(length))?;
            found = String::from_utf8(value.into()).ok();
        } else {
            skip_field(wire_type, number, &mut rest, DecodeContext::default()).ok()?;
        }
    }
    found.filter(|value| !value.is_empty())
}
