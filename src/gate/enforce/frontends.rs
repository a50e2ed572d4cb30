//! Which frontends a build may use, where the operator lists them (`--frontends`).
//!
//! A frontend that is an image runs inside the daemon. It is asked about there like any image, and so is all
//! that it loads; what else it does (attestation chains, caches, builds inside a build) the gate cannot see.
//! So it is told who may be one: by name where a solve names it, and by the mark under which the daemon
//! loads it where a `# syntax` line or `BUILDKIT_SYNTAX` does. A client could take the mark away by a
//! static rule or by what its own verifier puts in place, and put something unmarked in place of an
//! image by a named context: of images that are listed that is refused here, of others the daemon
//! must know the list, too (`allowedRepositories` in its configuration), which looks at names before
//! contexts.

use std::collections::BTreeMap;

use tonic::Status;

use super::build::{Build, Verdict};
use super::ruling::Audited;
use crate::gate::ops::{DOCKERFILE, Settings};
use crate::source::{ImageSource, SourceOp};
use crate::wire::request::{RECORD_TYPE, Rules};
use crate::wire::status;

/// The frontend that runs an image.
const GATEWAY: &str = "gateway.v0";
/// Option of that: which image.
const SOURCE: &str = "source";
/// Options that put something in place of an image: `context:NAME`, `context:NAME::PLATFORM`.
const CONTEXT: &str = "context:";
/// What a daemon loads a frontend as.
const FRONTEND: &str = "frontend";

const HOW: &str = "it is none of those that are listed (--frontends)";
const RENAMES: &str =
    "they say what an image is loaded as, by which frontends are told (--frontends)";
const REPLACES: &str = "it would stand in place of a frontend that is listed (--frontends)";

/// Refuses a solve that names a frontend which is not listed, or would hide one.
///
/// # Errors
/// When it is refused.
pub async fn admit(
    build: &Build,
    frontend: &str,
    options: &BTreeMap<String, String>,
    rules: Rules,
) -> Result<(), Status> {
    match found(&build.begun().settings, frontend, options, rules) {
        None => Ok(()),
        Some((what, why)) => {
            let verdict =
                build.refuse(&SourceOp::new(what.clone()), why.to_owned(), Audited::Passes).await;
            match verdict {
                Verdict::Allow => Ok(()),
                Verdict::Deny(messages) => Err(status::denial(&what, &messages, &[])),
                Verdict::Convert(_) | Verdict::Redirect(_) => {
                    Err(status::denial(&what, &[why.to_owned()], &[]))
                }
            }
        }
    }
}

/// What is refused of a solve, and why.
fn found(
    settings: &Settings,
    frontend: &str,
    options: &BTreeMap<String, String>,
    rules: Rules,
) -> Option<(String, &'static str)> {
    if settings.frontends.is_empty() {
        return None;
    }
    if rules.renames {
        return Some(("static source policies".to_owned(), RENAMES));
    }
    let stands_in = |key: &&String| {
        let name = key.strip_prefix(CONTEXT)?;
        let name = name.split_once("::").map_or(name, |(name, _)| name);
        let image = ImageSource::parse(name).ok()?;
        settings.frontends.contains(&image.full_repo()).then_some(())
    };
    if let Some(key) = options.keys().find(|key| stands_in(key).is_some()) {
        return Some((format!("the option {key}"), REPLACES));
    }
    match frontend {
        "" => None,
        DOCKERFILE => (!settings.allows_frontend(DOCKERFILE)).then(|| (of(DOCKERFILE), HOW)),
        GATEWAY => {
            let image = options.get(SOURCE).map_or("", String::as_str);
            let listed = ImageSource::parse(image)
                .is_ok_and(|image| settings.allows_frontend(&image.full_repo()));
            (!listed).then(|| (of(image), HOW))
        }
        other => Some((of(other), HOW)),
    }
}

fn of(name: &str) -> String {
    format!("the frontend {name:?}")
}

/// Whether a daemon loads this as a frontend.
pub fn is_one(op: &SourceOp) -> bool {
    op.attrs.get(RECORD_TYPE).is_some_and(|kind| kind == FRONTEND)
}

/// Why an image may not be loaded as the frontend that the daemon means it to be.
pub fn refused(settings: &Settings, op: &SourceOp) -> Option<String> {
    if settings.frontends.is_empty() || !is_one(op) {
        return None;
    }
    let named = op.identifier.strip_prefix("docker-image://").unwrap_or_default();
    match ImageSource::parse(named) {
        Ok(image) if settings.allows_frontend(&image.full_repo()) => None,
        Ok(_) | Err(_) => Some(format!("{} is no frontend here: {HOW}", op.masked())),
    }
}

/// Whether what a client's own verifier puts in place of a source would hide a frontend.
pub fn hides(settings: &Settings, op: &SourceOp, instead: &SourceOp) -> bool {
    !settings.frontends.is_empty() && is_one(op) && !is_one(instead)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(frontends: &[&str]) -> Settings {
        let frontends = frontends.iter().map(|name| (*name).to_owned()).collect();
        Settings { frontends, ..Settings::default() }
    }

    const LISTED: [&str; 2] = [DOCKERFILE, "docker.io/docker/dockerfile"];

    #[test]
    fn a_solve_names_frontends_that_are_listed() {
        let renames = Rules { any: true, converts: true, renames: true };
        for (frontend, option, rules, wanted) in [
            ("", ("a", "b"), Rules::default(), true),
            (DOCKERFILE, ("a", "b"), Rules::default(), true),
            (GATEWAY, (SOURCE, "docker/dockerfile:1"), Rules::default(), true),
            (GATEWAY, (SOURCE, "docker.io/docker/dockerfile"), Rules::default(), true),
            (GATEWAY, (SOURCE, "docker/dockerfile-upstream:1"), Rules::default(), false),
            (GATEWAY, (SOURCE, "evil.example/docker/dockerfile:1"), Rules::default(), false),
            (GATEWAY, (SOURCE, "dockerfile.v0"), Rules::default(), false),
            (GATEWAY, ("other", "docker/dockerfile:1"), Rules::default(), false),
            ("buildpacks.v7", ("a", "b"), Rules::default(), false),
            (DOCKERFILE, ("context:docker/dockerfile:1", "x"), Rules::default(), false),
            (DOCKERFILE, ("context:docker/dockerfile::linux/amd64", "x"), Rules::default(), false),
            ("", ("context:docker.io/docker/dockerfile:9@sha256:0", "x"), Rules::default(), true),
            (DOCKERFILE, ("context:base", "x"), Rules::default(), true),
            (DOCKERFILE, ("a", "b"), renames, false),
        ] {
            let options = BTreeMap::from([(option.0.to_owned(), option.1.to_owned())]);
            let got = found(&settings(&LISTED), frontend, &options, rules);
            assert_eq!(got.is_none(), wanted, "{frontend} {option:?}: {got:?}");
            assert_eq!(found(&settings(&[]), frontend, &options, rules), None);
        }
        let other = settings(&LISTED[1..]);
        assert!(found(&other, DOCKERFILE, &BTreeMap::new(), Rules::default()).is_some());
    }

    #[test]
    fn what_a_daemon_loads_as_a_frontend_is_listed() {
        let marked = |identifier: &str, kind: &str| {
            let mut op = SourceOp::new(identifier);
            op.attrs.insert(RECORD_TYPE.to_owned(), kind.to_owned());
            op
        };
        let listed = "docker-image://docker.io/docker/dockerfile:1";
        let other = "docker-image://docker.io/library/other:1";
        for (op, wanted) in [
            (marked(listed, FRONTEND), true),
            (marked(other, FRONTEND), false),
            (marked("git://example.com/a.git", FRONTEND), false),
            (marked(other, "regular"), true),
            (SourceOp::new(other), true),
        ] {
            assert_eq!(refused(&settings(&LISTED), &op).is_none(), wanted, "{op:?}");
            assert_eq!(refused(&settings(&[]), &op), None);
        }
        let (frontend, plain) = (marked(listed, FRONTEND), SourceOp::new(other));
        assert!(hides(&settings(&LISTED), &frontend, &plain));
        assert!(!hides(&settings(&LISTED), &frontend, &marked(other, FRONTEND)));
        assert!(
            !hides(&settings(&LISTED), &plain, &plain) && !hides(&settings(&[]), &frontend, &plain)
        );
    }
}
