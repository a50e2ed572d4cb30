//! Trust roots, their age, and what was verified already.

use std::sync::Arc;

use serde_json::json;

use super::forge::{Rekor, statement};
use super::*;

fn updated(forge: &Forge, fetched: i64, expires: i64) -> TrustRoot {
    let moment = |at| jiff::Timestamp::from_second(at).unwrap();
    let content = forge.trusted_root().to_string();
    let root =
        UpdatedRoot::new("https://tuf.example.com/", moment(fetched), moment(expires), &content);
    TrustRoot::parse("sigstore", serde_json::to_string(&root.unwrap()).unwrap().as_bytes()).unwrap()
}

#[test]
fn the_embedded_roots_are_the_ones_that_are_dated() {
    let roots = TrustRoots::embedded().unwrap();
    let seen: Vec<String> = roots
        .iter()
        .map(|it| format!("{} {}", it.name(), hex::encode(&it.fingerprint()[..8])))
        .collect();
    // Where this differs the crate was updated: then its day in `root.rs` has changed too.
    insta::assert_debug_snapshot!(seen);
    let now = EMBEDDED[0].2 + 86_400;
    assert_eq!(roots.get(None).unwrap().name(), "sigstore");
    assert!(roots.iter().all(|it| it.usable(now) == Ok(()) && it.origin() == Origin::Embedded));
    assert!(matches!(roots.get(Some("ours")), Err(TrustRootError::Unknown { .. })));
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

#[test]
fn what_holds_is_verified_once() {
    let forge = Forge::new(10);
    let bundle = forge.attest(&person(&forge), &statement(SLSA, ARTIFACT), Rekor::V1).to_string();
    let root = updated(&forge, NOW, NOW + 100);
    let cache = VerificationCache::new(8);
    let by = Signer::Keyless(&root);
    let ask = |bundle: &str, artifact: &[u8], by, now| {
        cache.bundle(bundle.as_bytes(), Artifact::Bytes(artifact), by, now)
    };
    let first = ask(&bundle, ARTIFACT, by, NOW).unwrap();
    assert!(Arc::ptr_eq(&first, &ask(&bundle, ARTIFACT, by, NOW).unwrap()));
    assert_eq!(cache.worked(), 1);
    // A refusal stands for a while, and not for longer.
    for (what, now, worked) in [
        ("first", NOW, 3),
        ("again", NOW, 3),
        ("a little later", NOW + 50, 3),
        ("by a clock that was set back", NOW - 1, 5),
    ] {
        check("something else", &ask(&bundle, b"else", by, now), "subject");
        check("tampered", &ask(&bundle[1..], ARTIFACT, by, now), "malformed");
        assert_eq!(cache.worked(), worked, "{what}");
    }
    let lasting = updated(&forge, NOW, NOW + 1_000_000);
    let lasting = Signer::Keyless(&lasting);
    // It was refused last at NOW - 1, by the same content of a root.
    for (now, worked) in [(NOW, 5), (NOW + 298, 5), (NOW + 299, 6)] {
        check("something else", &ask(&bundle, b"else", lasting, now), "subject");
        assert_eq!(cache.worked(), worked, "{now}");
    }
    assert_eq!(cache.len(), 1, "what does not hold is not kept as if it did");
    check("expired since", &ask(&bundle, ARTIFACT, by, NOW + 100), "could not: trust root");
    let stranger = root_of(&Forge::new(30));
    check("by another root", &ask(&bundle, ARTIFACT, Signer::Keyless(&stranger), NOW), "log");
    let manifest = forge::digest(b"a manifest");
    for seed in 100..120 {
        let leaf = forge.leaf(&Who::person("jane@example.com"), seed);
        let (payload, annotations) = forge.simple(&leaf, &manifest);
        let signed = SimpleSigning { payload: &payload, annotations: &annotations };
        let first = cache.simple_signing(&signed, &manifest, by, NOW).unwrap();
        assert!(Arc::ptr_eq(&first, &cache.simple_signing(&signed, &manifest, by, NOW).unwrap()));
        assert!(cache.len() <= 8);
    }
}
