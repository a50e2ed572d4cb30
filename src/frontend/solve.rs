//! What a `Solve` of the child would load, and how it is passed on.
//!
//! Conversions and pins are written into the LLB itself, op by op, so that each platform may have
//! its own. Static rules beside it let the daemon load what was admitted and nothing else: the
//! client's rules may convert once more, out of our sight.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use prost::Message;

use super::verdict::{Asked, Gatekeeper, Purpose, Refusal};
use crate::gateway::{self as daemon, Precision};
use crate::source::{ImageSource, Source, SourceOp};
use crate::wire::llb::{BuildVertex, Lines, Loads, SourceVertex};
use crate::wire::proto::{gateway, pb};
use crate::wire::raw::{self, RawField};
use crate::wire::rewrite::rewrite;
use crate::wire::status::Denied;

/// `SolveRequest.Definition`.
const DEFINITION: u32 = 1;
/// `SolveRequest.CacheImports`.
const CACHE_IMPORTS: u32 = 12;
/// `SolveRequest.FrontendInputs`.
const INPUTS: u32 = 13;
/// `SolveRequest.SourcePolicies`.
const SOURCE_POLICIES: u32 = 15;
/// `CacheOptionsEntry.Attrs`.
const ATTRS: u32 = 2;
/// Value of a map's entry.
const VALUE: u32 = 2;

/// What may be loaded, by the op that loads it.
#[derive(Default)]
struct Admitted {
    /// Of each op.
    all: BTreeMap<String, SourceOp>,
    /// Of those that load something else than is written.
    changed: BTreeMap<String, SourceOp>,
}

/// How rules see a cache in a directory of the client: it has no name, only a path there.
const LOCAL_CACHE: &str = "local-cache";

/// Judges everything that `message` would load, and gives what to pass on.
///
/// # Errors
/// The answer to the child, where anything is refused.
pub async fn admit(keeper: &Gatekeeper, message: Bytes) -> Result<Bytes, tonic::Status> {
    let request =
        gateway::SolveRequest::decode(message.clone()).map_err(|error| invalid(&error))?;
    let gateway::SolveRequest {
        definition,
        frontend,
        frontend_opt,
        allow_result_return: _,
        allow_result_array_ref: _,
        r#final: _,
        exporter_attr: _,
        cache_imports,
        frontend_inputs,
        evaluate: _,
        source_policies,
    } = request;
    if !frontend.is_empty() {
        return Err(nested(&frontend, &frontend_opt).status(&[]));
    }
    // Static rules apply after us, so that a rule of the child's could undo what we decide.
    if !source_policies.is_empty() {
        let why = "the frontend brings static source policies of its own";
        return Err(tonic::Status::permission_denied(format!("buildgate: Solve: {why}")));
    }
    let mut caches = Vec::with_capacity(cache_imports.len());
    for import in &cache_imports {
        caches.push(cache(keeper, import).await.map_err(|refusal| refusal.status(&[]))?);
    }
    let mut admitted = Admitted::default();
    for definition in definition.iter().chain(frontend_inputs.values()) {
        judge_all(keeper, definition, &mut admitted).await?;
    }
    pass_on(&message, &admitted, &caches)
}

/// Judges the inputs that the client gives to the frontend, as the daemon hands them over. What the
/// frontend loads of them is judged, and pinned, when it does.
///
/// # Errors
/// The answer to the child, where anything is refused.
pub async fn inputs(keeper: &Gatekeeper, message: Bytes) -> Result<(), tonic::Status> {
    let gateway::InputsResponse { definitions } =
        gateway::InputsResponse::decode(message).map_err(|error| invalid(&error))?;
    for definition in definitions.values() {
        judge_all(keeper, definition, &mut Admitted::default()).await?;
    }
    Ok(())
}

fn invalid(error: &dyn std::error::Error) -> tonic::Status {
    tonic::Status::invalid_argument(format!("buildgate: Solve: {error}"))
}

/// The message with what was admitted in place of what was written.
fn pass_on(
    message: &Bytes,
    admitted: &Admitted,
    caches: &[Option<String>],
) -> Result<Bytes, tonic::Status> {
    let parts = raw::fields(message).map_err(|error| invalid(&error))?;
    let rewritten = |definition: &Bytes| {
        rewrite(definition, &admitted.changed).map_err(|error| invalid(&error))
    };
    // Of a message that is given in parts, the parts are put together.
    let of = |number: u32| parts.iter().filter(move |it| it.number == number);
    let definition: Vec<&Bytes> = of(DEFINITION).filter_map(|it| it.content.as_ref()).collect();
    let mut out = BytesMut::with_capacity(message.len() + 4096);
    if !definition.is_empty() {
        let whole: BytesMut = definition.into_iter().flat_map(|it| it.iter().copied()).collect();
        raw::put(&mut out, DEFINITION, &rewritten(&whole.freeze())?);
    }
    let mut caches = caches.iter();
    for RawField { number, whole, content } in &parts {
        match (*number, content) {
            (DEFINITION, _) => {}
            (INPUTS, Some(entry)) => {
                let mut changed = BytesMut::new();
                for part in raw::fields(entry).map_err(|error| invalid(&error))? {
                    match (part.number, &part.content) {
                        (VALUE, Some(input)) => raw::put(&mut changed, VALUE, &rewritten(input)?),
                        _ => changed.extend_from_slice(&part.whole),
                    }
                }
                raw::put(&mut out, INPUTS, &changed);
            }
            (CACHE_IMPORTS, Some(import)) => match caches.next().and_then(Option::as_ref) {
                Some(reference) => raw::put(&mut out, CACHE_IMPORTS, &imported(import, reference)),
                None => out.extend_from_slice(whole),
            },
            _ => out.extend_from_slice(whole),
        }
    }
    let only = daemon::only(admitted.all.values(), Precision::Exact);
    raw::put(&mut out, SOURCE_POLICIES, &only.encode_to_vec());
    Ok(out.freeze())
}

/// A cache import with another reference: of two entries of a map, the last one counts.
fn imported(import: &Bytes, reference: &str) -> BytesMut {
    let mut entry = BytesMut::new();
    raw::put(&mut entry, 1, b"ref");
    raw::put(&mut entry, VALUE, reference.as_bytes());
    let mut import = BytesMut::from(&import[..]);
    raw::put(&mut import, ATTRS, &entry);
    import
}

async fn judge_all(
    keeper: &Gatekeeper,
    definition: &pb::Definition,
    into: &mut Admitted,
) -> Result<(), tonic::Status> {
    let Loads { sources, builds } = Loads::of(definition)
        .map_err(|error| tonic::Status::permission_denied(format!("buildgate: {error}")))?;
    if let Some(BuildVertex { digest, lines }) = builds.first() {
        let why = "its LLB is read from a file while the build runs, out of buildgate's sight";
        return Err(Refusal::new(&format!("build op {digest}"), why).status(lines));
    }
    let judged = sources.iter().map(|vertex| async move {
        let SourceVertex { digest, source, platform, lines } = vertex;
        let asked =
            Asked { op: source, platform: platform.clone(), purpose: Purpose::Source, lines };
        let verdict = keeper.judge(asked).await;
        verdict.map_err(|refusal| (refusal, lines)).map(|admitted| (digest, source, admitted))
    });
    for verdict in futures_util::future::join_all(judged).await {
        let (digest, source, admitted) = match verdict {
            Ok(admitted) => admitted,
            Err((refusal, lines)) => return Err(at_lines(keeper, &refusal, lines).await),
        };
        if *source != admitted {
            into.changed.insert(digest.clone(), admitted.clone());
        }
        into.all.insert(digest.clone(), admitted);
    }
    Ok(())
}

async fn at_lines(keeper: &Gatekeeper, refusal: &Refusal, lines: &Lines) -> tonic::Status {
    if lines.is_empty() {
        // A stage that is nothing but a build context has no op with lines, and the child adds none.
        return refusal.status_in(Denied::Solve, &keeper.lines(&refusal.identifier).await);
    }
    refusal.status_in(Denied::Solve, lines)
}

/// A frontend that the daemon would run out of our sight.
fn nested(frontend: &str, options: &BTreeMap<String, String>) -> Refusal {
    let image = options.get("source").map_or(frontend, String::as_str);
    let why = format!(
        "the frontend {image} would run inside this one, where buildgate cannot see what it loads"
    );
    Refusal::new(&format!("frontend {image}"), why)
}

/// Judges what a cache is imported from, and gives the reference to import; a layout has none.
async fn cache(
    keeper: &Gatekeeper,
    import: &gateway::CacheOptionsEntry,
) -> Result<Option<String>, Refusal> {
    let gateway::CacheOptionsEntry { r#type: kind, attrs } = import;
    let attr = |name: &str| attrs.get(name).map(String::as_str).unwrap_or_default();
    let op = match kind.as_str() {
        "registry" => {
            let image = ImageSource::parse(attr("ref"))
                .map_err(|error| Refusal::new(attr("ref"), error.to_string()))?;
            SourceOp::new(image.or_latest().identifier())
        }
        "local" => SourceOp::new(format!("oci-layout://{LOCAL_CACHE}@{}", attr("digest"))),
        other => {
            let why = "no rule can judge a cache of this type; import from a registry instead";
            return Err(Refusal::new(&format!("cache import of type {other}"), why));
        }
    };
    let asked = Asked { op: &op, platform: None, purpose: Purpose::Cache, lines: &[] };
    let admitted = keeper.judge(asked).await?;
    match (Source::parse(&op), Source::parse(&admitted)) {
        // In our words, always: the daemon may read theirs as another image.
        (Ok(Source::Image(_)), Ok(Source::Image(given))) => Ok(Some(given.reference())),
        (Ok(Source::OciLayout(asked)), Ok(Source::OciLayout(given))) if asked == given => Ok(None),
        (Ok(_) | Err(_), Ok(_) | Err(_)) => {
            let why = "a policy converts it into what no cache can be imported from";
            Err(Refusal::new(&op.masked(), why))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_admitted_is_passed_on_and_the_rest_as_it_came() {
        let unknown: &[u8] = b"\xba\x3e\x03new";
        let op = |identifier: &str| {
            let source = pb::SourceOp { identifier: identifier.into(), ..Default::default() };
            pb::Op { op: Some(pb::op::Op::Source(source)), ..Default::default() }.encode_to_vec()
        };
        let of = |identifier: &str| pb::Definition {
            def: vec![op(identifier).into()],
            ..Default::default()
        };
        let import = |reference: &str| gateway::CacheOptionsEntry {
            r#type: "registry".into(),
            attrs: [("ref".to_owned(), reference.to_owned())].into(),
        };
        let request = gateway::SolveRequest {
            definition: Some(of("docker-image://a")),
            frontend_inputs: [("x".to_owned(), of("docker-image://b"))].into(),
            cache_imports: vec![import("r/one"), import("r/two")],
            evaluate: true,
            ..Default::default()
        };
        let message = Bytes::from([request.encode_to_vec().as_slice(), unknown].concat());
        let loads =
            |definition: &pb::Definition| Loads::of(definition).unwrap().sources.pop().unwrap();
        let mut admitted = Admitted::default();
        for definition in [&of("docker-image://a"), &of("docker-image://b")] {
            let SourceVertex { digest, source, .. } = loads(definition);
            let to = SourceOp::new(format!("{}@pinned", source.identifier));
            admitted.changed.insert(digest.clone(), to.clone());
            admitted.all.insert(digest, to);
        }
        let got = pass_on(&message, &admitted, &[None, Some("r/two@d".into())]).unwrap();
        assert!(got.windows(unknown.len()).any(|it| it == unknown));
        let got = gateway::SolveRequest::decode(got).unwrap();
        let identifier = |definition| loads(definition).source.identifier;
        assert_eq!(identifier(got.definition.as_ref().unwrap()), "docker-image://a@pinned");
        assert_eq!(identifier(&got.frontend_inputs["x"]), "docker-image://b@pinned");
        let references: Vec<_> =
            got.cache_imports.iter().map(|it| it.attrs["ref"].as_str()).collect();
        assert_eq!(references, ["r/one", "r/two@d"]);
        assert!(got.evaluate);
        assert_eq!(got.source_policies.len(), 1);
    }
}
