//! Sessions that clients open: whose they are, and the verifier that some of them bring.
//!
//! A session without a policy verifier passes as the bytes it is. One that serves `CheckPolicy` is
//! taken apart at both of its ends, so that we can ask its verifier too; its calls pass unread.

use std::sync::Arc;

use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::oneshot;
use tonic::Status;

use super::claims::{Claims, Owner, SessionClaim};
use crate::gate::proxy::{Answer, Call, answered};
use crate::rpc::{self, Batched, Body, Channel};
use crate::session::{self, CHECK_POLICY, Ended, ID, METHOD};

/// Answers `Control/Session`.
///
/// # Errors
/// When the session is not the client's to open.
pub async fn open(claims: &Claims, owner: &Owner, call: Call) -> Result<Answer, Status> {
    let headers = call.request.headers();
    let id = id(headers)?;
    let foreign = |error| Status::permission_denied(format!("buildgate: session: {error}"));
    if !serves_policy(headers) {
        let claim = claims.session(owner, &id, None).map_err(foreign)?;
        return Ok(call.forward().await.map(|response| response.map(|body| held(body, claim))));
    }
    // Somebody else's is not even looked at.
    let _first = claims.session(owner, &id, None).map_err(foreign)?;
    let channel = call.channel().clone();
    let response = apart(&channel, call.request, |verifier| {
        claims.session(owner, &id, Some(verifier)).map_err(foreign)
    });
    response.await
}

/// The one id of a session. A daemon takes the first of several, and the part behind a colon.
fn id(headers: &HeaderMap) -> Result<String, Status> {
    let refused = |why: &str| Status::permission_denied(format!("buildgate: session: {why}"));
    let mut values = headers.get_all(ID).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(refused("it must have exactly one id"));
    };
    let value = value.to_str().map_err(|_| refused("its id is no text"))?;
    if value.is_empty() || value.contains([':', ',']) || value.trim() != value {
        return Err(refused("its id is none"));
    }
    Ok(value.to_owned())
}

fn serves_policy(headers: &HeaderMap) -> bool {
    let is_it = |value: &HeaderValue| {
        value.to_str().is_ok_and(|name| name.eq_ignore_ascii_case(CHECK_POLICY))
    };
    headers.get_all(METHOD).iter().any(is_it)
}

/// Keeps a claim for as long as a body goes on.
fn held<T: Send + 'static>(body: Body, claim: T) -> Body {
    body.map_frame(move |frame| {
        let _held = &claim;
        frame
    })
    .boxed_unsync()
}

/// Stands between the ends of a session.
async fn apart(
    channel: &Channel,
    request: Request<Body>,
    claim: impl FnOnce(Channel) -> Result<SessionClaim, Status>,
) -> Result<Answer, Status> {
    let (parts, from_client) = request.into_parts();
    let (to_daemon, upload, daemon_pump) = session::tunnel().run();
    let (to_client, download, client_pump) = session::tunnel().run();
    let response = match channel.forward(Request::from_parts(parts, upload)).await {
        Ok(response) if Status::from_header_map(response.headers()).is_none() => response,
        refused => return Ok(answered(refused)),
    };
    let (head, from_daemon): (_, Incoming) = response.into_parts();
    let (tell, told) = oneshot::channel::<Ended>();
    let running = tokio::spawn(
        client_pump
            .answer(from_client, async move { told.await.unwrap_or(Ended::Ours).trailers() }),
    );
    let connected = Channel::over(Batched::new(to_client)).await;
    let (client, connection) = connected.map_err(|error| {
        running.abort();
        Status::unavailable(format!("buildgate: session: {error}"))
    })?;
    let claim = claim(client.clone()).inspect_err(|_| running.abort())?;
    let serving = Arc::new(client);
    let ended = tokio::spawn(async move {
        let _claim = claim;
        let mut running = running;
        let answer = move |request| pass(Arc::clone(&serving), request);
        let mut carrying = std::pin::pin!(daemon_pump.drive(from_daemon));
        let ended = tokio::select! {
            _ = &mut running => return,
            ended = &mut carrying => Some(ended),
            () = session::serve(to_daemon, answer) => None,
            _ = connection => None,
        };
        // The client hears of the end by that of its stream, whose status is the last of it, and is the
        // daemon's own where that has one. Its own end of the connection is closed by now.
        let ended = match ended {
            Some(ended) => ended,
            None => carrying.await,
        };
        // Who does not listen any more needs no status.
        let _ = tell.send(ended);
        let _ = running.await;
    });
    let ended = AbortOnDrop(ended.abort_handle());
    Ok(Ok(Response::from_parts(head, held(download, ended))))
}

/// Ends a task with whoever holds this.
struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Passes one call of the daemon to the client.
async fn pass(client: Arc<Channel>, request: Request<Incoming>) -> Response<Body> {
    if request.uri().path() == CHECK_POLICY {
        return rpc::refusal(&Status::permission_denied("buildgate: this session is not asked"));
    }
    match client.forward(request.map(rpc::through)).await {
        Ok(response) => response.map(rpc::through),
        Err(error) => rpc::refusal(&Status::unavailable(format!(
            "buildgate: the connection to the client failed: {error}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use futures_util::future::BoxFuture;
    use futures_util::{StreamExt, stream};
    use http_body::Frame;
    use http_body_util::StreamBody;

    use super::*;
    use crate::gate::enforce::fake::Fake;
    use crate::gate::proxy::tests::{Proxied, request};
    use crate::gate::proxy::{Access, Handle};
    use crate::rpc::BoxError;

    /// Stands in for sessions, and does nothing else.
    struct Relaying(Claims);

    impl Handle for Relaying {
        fn handle(&self, call: Call) -> BoxFuture<'_, Answer> {
            Box::pin(async move {
                let owner = Owner::of(&call.client);
                let opened = open(&self.0, &owner, call).await;
                opened.unwrap_or_else(|status| Ok(rpc::refusal(&status)))
            })
        }
    }

    /// A session that its daemon ends: what its client hears.
    async fn ended(last: fn() -> Result<Frame<Bytes>, BoxError>) -> Status {
        let daemon = Fake::start(move |_| {
            let last = stream::once(async move {
                tokio::time::sleep(Duration::from_millis(50)).await;
                last()
            });
            Box::pin(async move { Response::new(StreamBody::new(last).boxed_unsync()) })
        });
        let handler = Arc::new(Relaying(Claims::default()));
        let drain = Duration::from_secs(1);
        let gate =
            Proxied::handled(vec![daemon.options()], Access::default(), drain, handler).await;
        let channel = gate.connect().await;
        let never = stream::pending::<Result<Frame<Bytes>, BoxError>>().boxed();
        let mut call = request(session::SESSION, StreamBody::new(never).boxed_unsync());
        call.headers_mut().insert(ID, HeaderValue::from_static("s"));
        call.headers_mut().insert(METHOD, HeaderValue::from_static(CHECK_POLICY));
        let answer = channel.forward(call).await.unwrap();
        let whole = tokio::time::timeout(Duration::from_secs(10), answer.into_body().collect());
        let whole = whole.await.unwrap().unwrap();
        Status::from_header_map(whole.trailers().unwrap()).unwrap()
    }

    #[tokio::test]
    async fn a_session_ends_with_the_status_that_its_daemon_ends_it_with() {
        let said = ended(|| {
            let mut trailers = HeaderMap::new();
            Status::aborted("the daemon is tired").add_header(&mut trailers)?;
            Ok(Frame::trailers(trailers))
        });
        let said = said.await;
        assert_eq!((said.code(), said.message()), (tonic::Code::Aborted, "the daemon is tired"));
        let broke = ended(|| Err(rpc::Reset::with(h2::Reason::INTERNAL_ERROR).into())).await;
        assert_eq!(broke.code(), tonic::Code::Unavailable, "{broke:?}");
        assert!(broke.message().contains("the session stream broke"), "{broke:?}");
    }

    fn check(values: &[&str], wanted: Option<&str>) {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(ID, HeaderValue::from_str(value).unwrap());
        }
        assert_eq!(id(&headers).ok().as_deref(), wanted, "{values:?}");
    }

    #[test]
    fn a_session_has_one_id_and_one_meaning() {
        check(&["abc"], Some("abc"));
        check(&[], None);
        check(&[""], None);
        check(&["abc", "def"], None);
        check(&["abc", "abc"], None);
        check(&["a:b"], None);
        check(&["a,b"], None);
        check(&[" a"], None);
    }
}
