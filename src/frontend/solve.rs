//! What a `Solve` of the child would load, and how it is passed on.
//!
//! Conversions and pins travel as static source policies: the daemon puts the judged source in
//! place of the written one before it loads anything, and no op of ours has to be hashed again.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;

use super::verdict::{Gatekeeper, Purpose, Refusal};
use crate::source::{ImageSource, Source, SourceOp};
use crate::wire::llb::{BuildVertex, Lines, Loads, SourceVertex};
use crate::wire::proto::{errdefs, gateway, pb, sourcepolicy};
use crate::wire::raw::{Field, RawMessage};

/// How rules see a cache in a directory of the client: it has no name, only a path there.
const LOCAL_CACHE: &str = "local-cache";

/// Judges everything that `message` would load, and gives what to pass on.
///
/// # Errors
/// The answer to the child, where anything is refused.
pub async fn admit(keeper: &Gatekeeper, message: Bytes) -> Result<Bytes, tonic::Status> {
    let invalid = |error: &dyn std::error::Error| {
        tonic::Status::invalid_argument(format!("buildgate: Solve: {error}"))
    };
    let request =
        gateway::SolveRequest::decode(message.clone()).map_err(|error| invalid(&error))?;
    let mut raw = RawMessage::parse(message).map_err(|error| invalid(&error))?;
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
    for import in &cache_imports {
        cache(keeper, import).await.map_err(|refusal| refusal.status(&[]))?;
    }
    let mut rules = BTreeMap::new();
    for definition in definition.iter().chain(frontend_inputs.values()) {
        judge_all(keeper, definition, &mut rules).await?;
    }
    if !rules.is_empty() {
        let policy =
            sourcepolicy::Policy { version: 1, rules: rules.into_iter().map(rule).collect() };
        raw.append_bytes_field(Field::GATEWAY_SOLVE_SOURCE_POLICIES, &policy.encode_to_vec());
    }
    Ok(raw.into_bytes())
}

async fn judge_all(
    keeper: &Gatekeeper,
    definition: &pb::Definition,
    rules: &mut BTreeMap<SourceOp, SourceOp>,
) -> Result<(), tonic::Status> {
    let Loads { sources, builds } = Loads::of(definition)
        .map_err(|error| tonic::Status::permission_denied(format!("buildgate: {error}")))?;
    if let Some(BuildVertex { digest, lines }) = builds.first() {
        let why = "its LLB is read from a file while the build runs, out of buildgate's sight";
        return Err(Refusal::new(&format!("build op {digest}"), why).status(lines));
    }
    let judged = sources.iter().map(|vertex| async move {
        let SourceVertex { digest: _, source, platform, lines } = vertex;
        let verdict = keeper.judge(source, platform.clone(), Purpose::Source).await;
        verdict.map_err(|refusal| (refusal, lines)).map(|admitted| (source, admitted))
    });
    for verdict in futures_util::future::join_all(judged).await {
        let (source, admitted) = match verdict {
            Ok(admitted) => admitted,
            Err((refusal, lines)) => return Err(at_lines(keeper, &refusal, lines).await),
        };
        if *source == admitted {
            continue;
        }
        let (selector, update) = replacement(source, &admitted);
        match rules.get(&selector) {
            Some(known) if *known != update => {
                let why = "policies put different sources in its place for different platforms, \
                           which one build cannot have";
                return Err(Refusal::new(&source.masked(), why).status(&[]));
            }
            Some(_) | None => {
                rules.insert(selector, update);
            }
        }
    }
    Ok(())
}

async fn at_lines(keeper: &Gatekeeper, refusal: &Refusal, lines: &Lines) -> tonic::Status {
    if lines.is_empty() {
        // A stage that is nothing but a build context has no op with lines, and the child adds none.
        return refusal.status(&keeper.lines(&refusal.identifier).await);
    }
    let lines: &[errdefs::Source] = lines;
    refusal.status(lines)
}

/// What stands in place of which source: of both only the attributes that change, so that the same
/// place under other attributes is left alone, and nothing is converted twice.
fn replacement(source: &SourceOp, admitted: &SourceOp) -> (SourceOp, SourceOp) {
    let mut selector = SourceOp::new(source.identifier.as_str());
    let mut update = SourceOp::new(admitted.identifier.as_str());
    for (name, value) in &admitted.attrs {
        if source.attrs.get(name) != Some(value) {
            let before = source.attrs.get(name).cloned().unwrap_or_default();
            selector.attrs.insert(name.clone(), before);
            update.attrs.insert(name.clone(), value.clone());
        }
    }
    (selector, update)
}

/// Puts the judged source in place of the written one.
fn rule((selector, update): (SourceOp, SourceOp)) -> sourcepolicy::Rule {
    let condition = sourcepolicy::AttrMatch::Equal.into();
    let constraints = selector.attrs.into_iter();
    sourcepolicy::Rule {
        action: sourcepolicy::PolicyAction::Convert.into(),
        selector: Some(sourcepolicy::Selector {
            identifier: selector.identifier,
            match_type: sourcepolicy::MatchType::Exact.into(),
            constraints: constraints
                .map(|(key, value)| sourcepolicy::AttrConstraint { key, value, condition })
                .collect(),
        }),
        updates: Some(sourcepolicy::Update { identifier: update.identifier, attrs: update.attrs }),
    }
}

/// A frontend that the daemon would run out of our sight.
fn nested(frontend: &str, options: &BTreeMap<String, String>) -> Refusal {
    let image = options.get("source").map_or(frontend, String::as_str);
    let why = format!(
        "the frontend {image} would run inside this one, where buildgate cannot see what it loads"
    );
    Refusal::new(&format!("frontend {image}"), why)
}

/// Judges what a cache is imported from.
async fn cache(keeper: &Gatekeeper, import: &gateway::CacheOptionsEntry) -> Result<(), Refusal> {
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
    let admitted = keeper.judge(&op, None, Purpose::Cache).await?;
    match (Source::parse(&op), Source::parse(&admitted)) {
        (Ok(Source::Image(asked)), Ok(Source::Image(given)))
            if (&asked.host, &asked.path, &asked.tag) != (&given.host, &given.path, &given.tag) =>
        {
            let why = "a policy converts it, which a cache import cannot be";
            Err(Refusal::new(&op.identifier, why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn op(identifier: &str, attrs: &[(&str, &str)]) -> SourceOp {
        let mut op = SourceOp::new(identifier);
        op.attrs.extend(attrs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())));
        op
    }

    #[test]
    fn only_what_changes_is_put_in_place() {
        let git = "git://h/a.git#main";
        let full = ("git.fullurl", "https://h/a.git");
        let (selector, update) =
            replacement(&op(git, &[full]), &op(git, &[full, ("git.checksum", "c")]));
        assert_eq!(selector, op(git, &[("git.checksum", "")]));
        assert_eq!(update, op(git, &[("git.checksum", "c")]));
        let (selector, update) =
            replacement(&op("docker-image://a", &[]), &op("docker-image://b", &[]));
        assert_eq!((selector, update), (op("docker-image://a", &[]), op("docker-image://b", &[])));
    }
}
