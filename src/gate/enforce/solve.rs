//! `Control/Solve`: a build begins, under a policy session of its own that ends with it.

use std::sync::Arc;

use bytes::Bytes;
use http::request::Parts;
use http::{Request, header};
use http_body_util::BodyExt;
use prost::Message;
use tonic::Status;

use super::build::{Begun, Build, Verdict};
use super::cache::{self, Import};
use super::claims::{BuildClaim, Foreign, OwnName, Owner, SessionClaim, shown};
use super::definitions;
use super::frontends;
use super::peer::Peer;
use super::ruling::Audited;
use super::{Assigned, Enforcer};
use crate::gate::ops::{self, ErrorKind, UnderWay};
use crate::gate::proxy::{Answer, Call, Client, answered};
use crate::input::Env;
use crate::rpc::{self, BoxError, Channel};
use crate::session::{PolicySession, SessionGone, SessionId, Verifier};
use crate::source::SourceOp;
use crate::wire::proto::control::{CacheOptions, CacheOptionsEntry, SolveRequest};
use crate::wire::raw::{Field, RawMessage};
use crate::wire::request::{self, Looked, Rules};

/// What lives as long as a solve, in the order in which it ends.
struct Held {
    _session: Arc<PolicySession>,
    _build: BuildClaim,
    _sessions: Vec<SessionClaim>,
    _name: OwnName,
    _counted: UnderWay,
}

/// Who a solve is of, where it goes, and how it is judged.
struct Arrived<'a> {
    owner: &'a Owner,
    client: &'a Client,
    channel: &'a Channel,
    assigned: &'a Assigned,
}

/// Answers `Control/Solve`.
///
/// # Errors
/// Why the solve is refused.
pub async fn solve(enforcer: &Enforcer, owner: &Owner, call: Call) -> Result<Answer, Status> {
    let channel = call.channel().clone();
    let client = Arc::clone(&call.client);
    let (parts, body) = call.request.into_parts();
    let (message, _) = rpc::read_one(body).await?;
    let message = message.unwrap_or_default();
    let unread = |error: BoxError| {
        Status::invalid_argument(format!("buildgate: Solve cannot be understood: {error}"))
    };
    let looked = request::control(&message).map_err(|error| unread(error.into()))?;
    let Looked { request, definitions: llb, rules } = looked;
    let mut raw = RawMessage::parse(message).map_err(|error| unread(error.into()))?;
    let assigned = enforcer.assigned(&client)?;
    let claimed = arrive(enforcer, owner, &request.r#ref)?;
    let sessions = claim(enforcer, owner, &request)?;
    let arrived = Arrived { owner, client: &client, channel: &channel, assigned: &assigned };
    let build = begin(enforcer, &arrived, &request, rules).await?;
    entitled(&build, &request).await?;
    let id = SessionId::random().map_err(|error| Status::internal(error.to_string()))?;
    let name = enforcer.claims.own(&id);
    claimed.begun(&build);
    let verifier: Arc<dyn Verifier> = build.clone();
    // The daemon, told of the session, waits for it: the solve need not.
    let session = Arc::new(PolicySession::begin(&channel, id, verifier));
    frontends::admit(&build, &request.frontend, &request.frontend_attrs, rules).await?;
    definitions::admit(&build, &llb).await?;
    rewrite(&build, &request, &mut raw).await?;
    let ours = session.id().reveal().as_bytes();
    raw.append_bytes_field(Field::CONTROL_SOLVE_SOURCE_POLICY_SESSION, ours);
    // Whoever waits to name it to the daemon need not any longer.
    claimed.forwarded(&build);
    let held = Held {
        _session: Arc::clone(&session),
        _build: claimed,
        _sessions: sessions,
        _name: name,
        _counted: enforcer.recorder.metrics().build(),
    };
    let forwarded = forward(&channel, parts, raw.into_bytes());
    tokio::select! {
        answer = forwarded => Ok(answer.map(|response| response.map(|body| {
            body.map_frame(move |frame| {
                let _held = &held;
                frame
            })
            .boxed_unsync()
        }))),
        why = session.gone() => {
            enforcer.recorder.metrics().error(ErrorKind::Session);
            Err(Status::unavailable(match why {
                SessionGone::Dropped => {
                    format!("buildgate: {why} of this build, which was cancelled")
                }
                SessionGone::Never(_) => format!("buildgate: {why}"),
            }))
        }
    }
}

/// Passes the solve on, on this connection and no other: the session was opened on it.
async fn forward(channel: &Channel, mut parts: Parts, message: Bytes) -> Answer {
    parts.headers.remove(header::CONTENT_LENGTH);
    answered(channel.forward(Request::from_parts(parts, rpc::one(&message))).await)
}

async fn entitled(build: &Build, request: &SolveRequest) -> Result<(), Status> {
    let allows = |name: &&String| build.begun().settings.allows_entitlement(name);
    let Some(name) = request.entitlements.iter().find(|name| !allows(name)) else { return Ok(()) };
    let why = format!("the entitlement {name} is not allowed here");
    let status = Status::permission_denied(format!("buildgate: {why}"));
    let what = SourceOp::new(format!("entitlement {name}"));
    // Refused, whether it could be written down or not.
    match build.refuse(&what, why, Audited::Stands).await {
        Verdict::Allow | Verdict::Convert(_) | Verdict::Redirect(_) | Verdict::Deny(_) => {
            Err(status)
        }
    }
}

/// Takes the reference of a solve for its client.
fn arrive(enforcer: &Enforcer, owner: &Owner, reference: &str) -> Result<BuildClaim, Status> {
    if reference.is_empty() {
        return Err(Status::invalid_argument("buildgate: Solve has no Ref"));
    }
    enforcer.claims.arrive(owner, reference).map_err(|error| {
        let why = format!("buildgate: build {}: {error}", shown(reference));
        match error {
            Foreign::Taken => Status::already_exists(why),
            Foreign::Client | Foreign::Ours | Foreign::Nobody | Foreign::Long => {
                Status::permission_denied(why)
            }
        }
    })
}

/// Takes the sessions that a solve names for its client.
fn claim(
    enforcer: &Enforcer,
    owner: &Owner,
    request: &SolveRequest,
) -> Result<Vec<SessionClaim>, Status> {
    [("Session", &request.session), ("SourcePolicySession", &request.source_policy_session)]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(field, value)| {
            enforcer.claims.session(owner, value, None).map_err(|error| {
                enforcer.recorder.metrics().error(ErrorKind::Refused);
                Status::permission_denied(format!("buildgate: {field}: {error}"))
            })
        })
        .collect()
}

/// The build as it begins: with its policies, its options, and what its daemon can do.
async fn begin(
    enforcer: &Enforcer,
    arrived: &Arrived<'_>,
    request: &SolveRequest,
    rules: Rules,
) -> Result<Arc<Build>, Status> {
    let Arrived { owner, client, channel, assigned } = *arrived;
    let daemon = enforcer.daemons.at(channel, &enforcer.claims).await.map_err(|error| {
        enforcer.recorder.metrics().error(ErrorKind::Upstream);
        Status::failed_precondition(format!("buildgate: {error}"))
    })?;
    let peer = match request.source_policy_session.as_str() {
        "" => None,
        named => {
            Some(Peer::new(enforcer.claims.verifier(owner, named).await.ok_or_else(|| {
                Status::failed_precondition(
                    "buildgate: SourcePolicySession names a session that serves no CheckPolicy",
                )
            })?))
        }
    };
    let revision = assigned.policies.current();
    Ok(Arc::new(Build::new(Begun {
        evaluator: Box::new(enforcer.turns.of_build(Arc::clone(&revision.policies))),
        facts: ops::Build {
            reference: request.r#ref.clone(),
            client: client.identity.to_string(),
            revision,
            mode: assigned.settings.mode,
            span: tracing::Span::current(),
        },
        owner: owner.clone(),
        env: Env::of_options(&request.frontend_attrs),
        session: request.session.clone(),
        settings: Arc::clone(&assigned.settings),
        recorder: Arc::clone(&enforcer.recorder),
        claims: enforcer.claims.clone(),
        channel: channel.clone(),
        daemon,
        peer,
        converts: rules.converts,
    })))
}

/// Sets what no client may leave unset, and puts judged caches in place of those that it names.
async fn rewrite(
    build: &Build,
    request: &SolveRequest,
    raw: &mut RawMessage,
) -> Result<(), Status> {
    if build.commands().await?.is_some() {
        raw.append_varint_field(Field::CONTROL_SOLVE_PROXY_NETWORK, 1);
    }
    definitions::apart(build, raw, definitions::CONTROL).await?;
    if let Some((name, value)) = definitions::options(build, &request.frontend_attrs).await? {
        raw.append_map_entry(Field::CONTROL_SOLVE_FRONTEND_ATTRS, name, &value);
    }
    for (name, value) in cache::admit_options(build, &request.frontend_attrs).await? {
        raw.append_map_entry(Field::CONTROL_SOLVE_FRONTEND_ATTRS, name, &value);
    }
    let Some(options) = &request.cache else { return Ok(()) };
    let imports = imports(options);
    if imports.is_empty() {
        return Ok(());
    }
    let whole = |error| Status::invalid_argument(format!("buildgate: Solve: {error}"));
    let taken = raw.take(Field::CONTROL_SOLVE_CACHE).map_err(whole)?;
    let mut kept = RawMessage::parse(taken).map_err(whole)?;
    for field in [Field::CACHE_IMPORT_REFS, Field::CACHE_IMPORTS] {
        kept.take(field).map_err(whole)?;
    }
    for import in imports {
        let Import { kind, attrs } = cache::admit(build, import).await?;
        let entry = CacheOptionsEntry { r#type: kind, attrs };
        kept.append_bytes_field(Field::CACHE_IMPORTS, &entry.encode_to_vec());
    }
    raw.append_bytes_field(Field::CONTROL_SOLVE_CACHE, &kept.into_bytes());
    Ok(())
}

/// All imports of a solve, those of old clients too, as a daemon reads them.
fn imports(options: &CacheOptions) -> Vec<Import> {
    let of_old = options.import_refs_deprecated.iter().map(|reference| Import {
        kind: "registry".to_owned(),
        attrs: [("ref".to_owned(), reference.clone())].into(),
    });
    let of_new = options
        .imports
        .iter()
        .map(|it| Import { kind: it.r#type.clone(), attrs: it.attrs.clone() });
    of_new.chain(of_old).collect()
}
