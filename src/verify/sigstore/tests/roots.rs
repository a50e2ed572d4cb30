//! Trust roots, their age, and what was verified already.

use serde_json::json;

use super::forge::{Rekor, statement};
use super::*;

pub(super) fn updated(forge: &Forge, fetched: i64, expires: i64) -> TrustRoot {
    let moment = |at| jiff::Timestamp::from_second(at).unwrap();
    let content = forge.trusted_root().to_string();
    let root =
        UpdatedRoot::new("https://tuf.example.com/", moment(fetched), moment(expires), &content);
    TrustRoot::parse("sigstore", serde_json::to_string(&root.unwrap()).unwrap().as_bytes()).unwrap()
}

/// Which release of the crate carries the embedded roots, by Cargo.lock, what is in them, and the day of
/// that release. Whoever updates the crate comes by here, and looks the day up in its changelog.
#[test]
fn the_embedded_roots_are_the_ones_that_are_dated() {
    let lock = include_str!("../../../../Cargo.lock");
    let (_, locked) = lock.split_once("name = \"sigstore-trust-root\"\nversion = \"").unwrap();
    let version = locked.split('"').next().unwrap();
    let roots = TrustRoots::embedded().unwrap();
    let seen: Vec<String> = roots
        .iter()
        .map(|it| {
            let day = jiff::Timestamp::from_second(it.as_of().unwrap()).unwrap();
            let content = hex::encode(&it.fingerprint()[..8]);
            format!("{} {content}, of {version}, released {day}", it.name())
        })
        .collect();
    insta::assert_debug_snapshot!(seen);
    let now = EMBEDDED[0].2 + 86_400;
    assert_eq!(roots.get(None).unwrap().name(), "sigstore");
    assert!(roots.iter().all(|it| it.usable(now) == Ok(()) && it.origin() == Origin::Embedded));
    assert!(matches!(roots.get(Some("ours")), Err(TrustRootError::Unknown { .. })));
    // Nothing in a root begins after the release that carries it, and no release is of tomorrow.
    for root in roots.iter() {
        let latest = windows::all(root.material()).map(|it| it.start.as_second()).max().unwrap();
        assert!(latest <= root.as_of().unwrap(), "{}: {latest}", root.name());
        assert!(root.as_of().unwrap() <= jiff::Timestamp::now().as_second(), "{}", root.name());
    }
}

#[test]
fn an_expired_root_is_an_error() {
    let forge = Forge::new(10);
    let bundle = forge.attest(&person(&forge), &statement(SLSA, ARTIFACT), Rekor::V1);
    for (what, fetched, expires, wanted) in [
        ("in force", NOW - 10, NOW + 10, "verified"),
        ("expired", NOW - 10, NOW, "could not: trust root"),
        ("long expired", AT, AT + 1, "could not: trust root"),
        ("of tomorrow", NOW + 86_400, NOW + 86_500, "could not: trust root"),
        ("clocks that differ", NOW + 60, NOW + 86_500, "verified"),
    ] {
        check(what, &keyless(&bundle, &updated(&forge, fetched, expires)), wanted);
    }
    let ended = |party: &str| {
        let mut json = forge.trusted_root();
        let window = json!({"start": "2024-01-01T00:00:00Z", "end": "2025-06-01T12:00:00Z"});
        if party == "tlogs" {
            json["certificateAuthorities"] = json!([]);
            json["tlogs"][0]["publicKey"]["validFor"] = window.clone();
            json["tlogs"][1]["publicKey"]["validFor"] = window;
        } else {
            json[party][0]["validFor"] = window;
        }
        root("sigstore", &json)
    };
    check(
        "authorities ended",
        &keyless(&bundle, &ended("certificateAuthorities")),
        "could not: trust root",
    );
    check("logs ended", &keyless(&bundle, &ended("tlogs")), "could not: trust root");
    // What an authority vouched for while it was in force stays true where another still is.
    check("timestamps ended", &keyless(&bundle, &ended("timestampAuthorities")), "verified");
}

#[test]
fn roots_that_are_none() {
    let right = Forge::new(10).trusted_root();
    let with = |pointer: &str, value: Value| {
        let mut json = right.clone();
        *json.pointer_mut(pointer).unwrap() = value;
        json.to_string()
    };
    let mut twice = right.clone();
    let log = twice["tlogs"][0].clone();
    twice["tlogs"].as_array_mut().unwrap().push(log);
    for (what, text) in [
        ("empty", String::new()),
        ("no JSON", "root".into()),
        ("another JSON", "{}".into()),
        ("truncated", right.to_string()[..500].into()),
        ("huge", format!("{right}{}", " ".repeat(MAX_TRUST_ROOT))),
        ("another kind", with("/mediaType", "application/json".into())),
        ("a key that is none", with("/tlogs/0/publicKey/rawBytes", "AAAA".into())),
        ("a certificate that is none", with("/certificateAuthorities/0/certChain/certificates/0/rawBytes", "AAAA".into())),
        ("an empty chain", with("/certificateAuthorities/0/certChain/certificates", json!([]))),
        ("a window upside down", with("/certificateAuthorities/0/validFor", json!({"start": "2025-01-01T00:00:00Z", "end": "2024-01-01T00:00:00Z"}))),
        ("a log twice", twice.to_string()),
        ("an update without its date", json!({"mediaType": "application/vnd.buildgate.trust-root.v1+json", "trustedRoot": right}).to_string()),
    ] {
        assert!(TrustRoot::parse("x", text.as_bytes()).is_err(), "{what}");
    }
    let mut roots = TrustRoots::embedded().unwrap();
    roots.insert(root("sigstore", &right)).unwrap();
    roots.insert(root("ours", &right)).unwrap();
    assert_eq!(roots.get(Some("sigstore")).unwrap().origin(), Origin::Plain);
    assert!(matches!(roots.insert(root("ours", &right)), Err(TrustRootError::Twice { .. })));
}
