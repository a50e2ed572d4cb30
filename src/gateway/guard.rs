//! Static rules that let a daemon load what was judged, and nothing else.
//!
//! A client's own static rules apply to what a frontend asks for as well, and may turn a source that
//! was allowed into one that nobody judged. A daemon asks all rules about whatever a conversion
//! leads to, and of one policy's rules the last that matches wins: so everything is denied, but for
//! the sources that are named here, under the attributes that they were judged with.

use crate::source::{ImageSource, Source, SourceOp};
use crate::wire::proto::sourcepolicy::{
    AttrConstraint, AttrMatch, MatchType, Policy, PolicyAction, Rule, Selector,
};

/// Digit by digit, so that nothing else can stand behind an image's name.
const ANY_DIGEST: &str = "@sha256:[0-9a-f]{64}$";

/// Attributes that say which content is loaded, and whose secrets are shown for it. Where a source has
/// none of a name, a conversion may not give it one. (`http.header.` may be followed by a name in any
/// case, of which the usual ones are here: what was looked at has its checksum besides.)
const DECISIVE: [(&str, &[&str]); 6] = [
    ("docker-image", &["image.checksum", "image.layerlimit", "image.resolvemode"]),
    (
        "http",
        &[
            "http.checksum",
            "http.authheadersecret",
            "http.header.accept",
            "http.header.Accept",
            "http.header.user-agent",
            "http.header.User-Agent",
        ],
    ),
    (
        "git",
        &[
            "git.fullurl",
            "git.checksum",
            "git.bundle",
            "git.skipsubmodules",
            "git.keepgitdir",
            "git.checkoutbundle",
            "git.fetchbycommit",
            "git.mtime",
            "git.authtokensecret",
            "git.authheadersecret",
            "git.knownsshhosts",
            "git.mountsshsock",
            "oci.session",
            "oci.store",
        ],
    ),
    ("oci-layout", &["oci.session", "oci.store", "oci.layerlimit"]),
    ("oci-layout+blob", &["oci.session", "oci.store"]),
    ("local", &["local.session"]),
];

/// Whether an image that has no digest may get one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Only what is named.
    Exact,
    /// An image by tag may be pinned by whoever is asked next; what comes of it is judged again.
    MayBePinned,
}

/// Denies whatever is not one of these.
pub fn only<'a>(sources: impl IntoIterator<Item = &'a SourceOp>, precision: Precision) -> Policy {
    let mut rules = vec![Rule {
        action: PolicyAction::Deny.into(),
        selector: Some(Selector {
            identifier: ".*".into(),
            match_type: MatchType::Regex.into(),
            constraints: Vec::new(),
        }),
        updates: None,
    }];
    for source in sources {
        allow(source, precision, &mut rules);
        if let Some(bundle) = source.bundle() {
            allow(&bundle, Precision::Exact, &mut rules);
        }
    }
    Policy { version: 1, rules }
}

fn allow(source: &SourceOp, precision: Precision, rules: &mut Vec<Rule>) {
    let exactly = constraints(source);
    for identifier in forms(source) {
        rules.push(allowing(identifier, MatchType::Exact, exactly.clone()));
    }
    let Ok(Source::Image(image)) = Source::parse(source) else { return };
    match (&image.digest, precision) {
        // A pin adds the digest once more.
        (Some(digest), _) if !source.attrs.contains_key("image.checksum") => {
            let mut again = source.clone();
            again.attrs.insert("image.checksum".into(), digest.clone());
            for identifier in forms(source) {
                rules.push(allowing(identifier, MatchType::Exact, constraints(&again)));
            }
        }
        (None, Precision::MayBePinned) => {
            let identifier = format!("^{}{ANY_DIGEST}", regex::escape(&image.identifier()));
            let mut free = exactly;
            free.retain(|it| it.key != "image.checksum");
            rules.push(allowing(identifier, MatchType::Regex, free));
        }
        (Some(_), _) | (None, Precision::Exact) => {}
    }
}

fn allowing(identifier: String, kind: MatchType, constraints: Vec<AttrConstraint>) -> Rule {
    Rule {
        action: PolicyAction::Allow.into(),
        selector: Some(Selector { identifier, match_type: kind.into(), constraints }),
        updates: None,
    }
}

/// Its attributes as they are, and those that it must not get.
fn constraints(source: &SourceOp) -> Vec<AttrConstraint> {
    let scheme = source.identifier.split("://").next().unwrap_or_default().to_ascii_lowercase();
    let scheme = if scheme == "https" { "http" } else { scheme.as_str() };
    let decisive = DECISIVE.iter().find(|(name, _)| *name == scheme);
    let absent = decisive.map(|(_, names)| *names).unwrap_or_default();
    let absent = absent.iter().filter(|name| !source.attrs.contains_key(**name));
    let given = source.attrs.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    given
        .chain(absent.map(|name| (*name, "")))
        .map(|(key, value)| AttrConstraint {
            key: key.to_owned(),
            value: value.to_owned(),
            condition: AttrMatch::Equal.into(),
        })
        .collect()
}

/// The identifier as it is written, and as a daemon writes it before it asks its rules.
fn forms(source: &SourceOp) -> Vec<String> {
    let mut forms = vec![source.identifier.clone()];
    let daemons = match Source::parse(source) {
        Ok(Source::Image(image)) => Some(image.identifier()),
        Ok(Source::Git(git)) => {
            // Host and path of where it really is; reference and directory as written.
            let remote = git.remote.split_once("://").map_or(git.remote.as_str(), |(_, it)| it);
            let place = remote.rsplit_once('@').map_or(remote, |(_, place)| place);
            let place = match remote.contains('@') && !git.remote.contains("://") {
                true => place.replacen(':', "/", 1),
                false => place.to_owned(),
            };
            let fragment = source.identifier.split_once('#').map(|(_, fragment)| fragment);
            let fragment = fragment.map(|it| format!("#{it}")).unwrap_or_default();
            Some(format!("git://{}{fragment}", place.trim_end_matches('/')))
        }
        Ok(Source::Http(_) | Source::Local(_) | Source::OciLayout(_) | Source::Blob(_))
        | Err(_) => None,
    };
    forms.extend(daemons.filter(|form| *form != source.identifier));
    forms
}

/// Whether a daemon's name of a source is one of this source.
pub fn names(source: &SourceOp, identifier: &str) -> bool {
    forms(source).iter().any(|form| form == identifier)
}

/// The image with the digest that a daemon found under its tag.
pub fn with_digest(source: &SourceOp, digest: &str) -> Option<SourceOp> {
    let Ok(Source::Image(image)) = Source::parse(source) else { return None };
    if image.digest.is_some() {
        return None;
    }
    let image: ImageSource = image.with_digest(&digest.parse().ok()?);
    Some(SourceOp { identifier: image.identifier(), attrs: source.attrs.clone() })
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
    fn sources_are_named_as_daemons_name_them() {
        for (given, attrs, wanted) in [
            ("docker-image://alpine:3", &[][..], "docker-image://docker.io/library/alpine:3"),
            ("git://h.example/a.git#main", &[], "git://h.example/a.git#main"),
            (
                "git://h.example/a.git#main:sub",
                &[("git.fullurl", "https://u@h.example:8443/a.git")],
                "git://h.example:8443/a.git#main:sub",
            ),
            ("git://git@h.example:o/a.git#v1", &[], "git://h.example/o/a.git#v1"),
            ("https://h.example/f?x=1", &[], "https://h.example/f?x=1"),
            ("local://context", &[], "local://context"),
        ] {
            let forms = forms(&op(given, attrs));
            assert_eq!(forms.last().map(String::as_str), Some(wanted), "{given}: {forms:?}");
        }
    }

    /// The rules of a daemon: of those that match, the last.
    fn passes(policy: &Policy, source: &SourceOp) -> bool {
        let mut action = PolicyAction::Allow;
        for Rule { action: of_rule, selector, updates } in &policy.rules {
            assert!(updates.is_none());
            let Selector { identifier, match_type, constraints } = selector.as_ref().unwrap();
            let attr = |key: &str| source.attrs.get(key).map(String::as_str).unwrap_or_default();
            let named = *identifier == source.identifier
                || (*match_type == i32::from(MatchType::Regex)
                    && regex::Regex::new(identifier).unwrap().is_match(&source.identifier));
            if named && constraints.iter().all(|it| attr(&it.key) == it.value) {
                action = PolicyAction::try_from(*of_rule).unwrap();
            }
        }
        action == PolicyAction::Allow
    }

    #[test]
    fn nothing_but_what_was_judged_passes() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let pinned = format!("docker-image://r.example/app:1@{digest}");
        let url = "https://h.example/f";
        let git = "git://h.example/a.git#main";
        let tag = op("docker-image://r.example/app:1", &[]);
        let layout = &format!("oci-layout://store@{digest}");
        let blob = &format!("oci-layout+blob://store@{digest}");
        let local = "local://context";
        for (judged, asked, exact, pinnable) in [
            (&tag, &tag, true, true),
            (&tag, &op("docker-image://r.example/app:2", &[]), false, false),
            (&tag, &op(&pinned, &[]), false, true),
            (&tag, &op(&pinned.replace("app", "evil"), &[]), false, false),
            (&op(&pinned, &[]), &op(&pinned, &[("image.checksum", &digest)]), true, true),
            (&op(&pinned, &[]), &op(&pinned, &[("image.checksum", "sha256:b")]), false, false),
            (&op(url, &[]), &op(url, &[("http.checksum", "sha256:b")]), false, false),
            (&op(url, &[("http.checksum", "c")]), &op(url, &[]), false, false),
            (&op(git, &[]), &op(git, &[("git.fullurl", "https://evil")]), false, false),
            (&op(git, &[("git.skipsubmodules", "true")]), &op(git, &[]), false, false),
            (&op(url, &[]), &op(url, &[("http.header.accept", "x")]), false, false),
            (&op(url, &[]), &op(url, &[("http.authheadersecret", "x")]), false, false),
            (&op(url, &[]), &op(url, &[("http.perm", "0644")]), true, true),
            (&tag, &op(&tag.identifier, &[("image.layerlimit", "1")]), false, false),
            (&op(&pinned, &[]), &op(&pinned, &[("image.layerlimit", "1")]), false, false),
            (&tag, &op(&pinned, &[("image.layerlimit", "1")]), false, false),
            (&op(git, &[]), &op(git, &[("git.authtokensecret", "x")]), false, false),
            (&op(git, &[]), &op(git, &[("git.authheadersecret", "x")]), false, false),
            (&op(git, &[]), &op(git, &[("git.mountsshsock", "x")]), false, false),
            (&op(git, &[]), &op(git, &[("git.fetchbycommit", "true")]), false, false),
            (&op(layout, &[]), &op(layout, &[("oci.layerlimit", "1")]), false, false),
            (&op(blob, &[]), &op(blob, &[("oci.session", "x")]), false, false),
            (&op(blob, &[]), &op(blob, &[("oci.store", "x")]), false, false),
            (&op(local, &[]), &op(local, &[("local.session", "x")]), false, false),
        ] {
            assert_eq!(passes(&only([judged], Precision::Exact), asked), exact, "{asked:?}");
            let may = only([judged], Precision::MayBePinned);
            assert_eq!(passes(&may, asked), pinnable, "{asked:?}");
        }
    }
}
