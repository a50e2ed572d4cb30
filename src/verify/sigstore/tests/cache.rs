//! What was verified already: once, and never to another answer than anew.

use std::sync::Arc;

use serde_json::json;

use super::forge::{Rekor, digest, key, public_pem, statement};
use super::roots::updated;
use super::*;
use crate::verify::CLOCK_SKEW;

/// When the parties of the forge vouch for what it makes.
const VOUCHED: i64 = AT + 60;
/// When what has an end in these tests ends.
const END: i64 = AT + 1_000;

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

/// A trust root of which a part has a window of its own: from `AT + 500` to [`END`].
fn windowed(forge: &Forge, pointers: &[&str]) -> TrustRoot {
    let moment = |at| jiff::Timestamp::from_second(at).unwrap().to_string();
    let mut json = forge.trusted_root();
    for pointer in pointers {
        *json.pointer_mut(pointer).unwrap() =
            json!({"start": moment(AT + 500), "end": moment(END)});
    }
    root("sigstore", &json)
}

/// A signature, who must have made it, and what is asked of it at a time.
struct Asked<'a> {
    name: &'static str,
    data: Vec<u8>,
    annotations: Option<std::collections::BTreeMap<String, String>>,
    by: Signer<'a>,
}

impl Asked<'_> {
    fn anew(&self, now: i64) -> Result<VerifiedSignature, NotVerified> {
        let about = digest(ARTIFACT);
        match &self.annotations {
            None => verify_bundle(&self.data, Artifact::Digest(&about), self.by, now),
            Some(annotations) => {
                let signed = SimpleSigning { payload: &self.data, annotations };
                verify_simple_signing(&signed, &about, self.by, now)
            }
        }
    }

    fn again(
        &self,
        cache: &VerificationCache,
        now: i64,
    ) -> Result<Arc<VerifiedSignature>, NotVerified> {
        let about = digest(ARTIFACT);
        match &self.annotations {
            None => cache.bundle(&self.data, Artifact::Digest(&about), self.by, now),
            Some(annotations) => {
                let signed = SimpleSigning { payload: &self.data, annotations };
                cache.simple_signing(&signed, &about, self.by, now)
            }
        }
    }
}

/// The log that vouches for no time, the authorities and the root itself begin and end at moments of
/// their own; what is remembered says at each moment what is true at that moment, in whatever order
/// somebody asks.
#[test]
fn what_is_remembered_is_what_would_be_found_anew() {
    let forge = Forge::new(10);
    let own = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    let hardened = HardenedKey::new(own.clone(), AT);
    let parties = [
        "/tlogs/0/publicKey/validFor",
        "/tlogs/1/publicKey/validFor",
        "/ctlogs/0/publicKey/validFor",
        "/certificateAuthorities/0/validFor",
        "/timestampAuthorities/0/validFor",
    ];
    let whole = root_of(&forge);
    let second_log = windowed(&forge, &parties[1..2]);
    let logs = windowed(&forge, &parties[..2]);
    let stampers = windowed(&forge, &parties[4..]);
    let all = windowed(&forge, &parties);
    let update = updated(&forge, AT + 500, END);
    let leaf = person(&forge);
    let statement = statement(SLSA, ARTIFACT);
    let text = |bundle: &Value| bundle.to_string().into_bytes();
    let by_key = |rekor| forge.attest_by_key(&key(50), &statement, Some(rekor));
    let mut timeless = by_key(Rekor::V2);
    timeless["verificationMaterial"]["timestampVerificationData"] = json!({});
    let timed = by_key(Rekor::V2);
    let promised = by_key(Rekor::V1);
    let keyless = forge.attest(&leaf, &statement, Rekor::V1);
    let stamped = forge.attest(&leaf, &statement, Rekor::V2);
    let tampered = |bundle: &Value| {
        let mut bundle = bundle.clone();
        flip(&mut bundle["dsseEnvelope"]["signatures"][0]["sig"]);
        bundle
    };
    let bundle =
        |name, bundle: &Value, by| Asked { name, data: text(bundle), annotations: None, by };
    let (payload, annotations) = forge.simple_by_key(&key(50), &digest(ARTIFACT), true);
    let simple = |name, by| {
        let annotations = Some(annotations.clone());
        Asked { name, data: payload.clone(), annotations, by }
    };
    let required = |root| Signer::Key(&own, Log::Required(root));
    let present = |root| Signer::Key(&own, Log::WherePresent(root));
    let docker = |root| Signer::DockerHardenedImages(root, &hardened);
    let cases = [
        bundle("timeless", &timeless, required(&second_log)),
        bundle("timeless, where present", &timeless, present(&second_log)),
        bundle("timeless, hardened", &timeless, docker(&logs)),
        bundle("timeless, by a root that ends", &timeless, required(&update)),
        bundle("timeless, tampered", &tampered(&timeless), required(&logs)),
        bundle("timed", &timed, required(&second_log)),
        bundle("timed by who has ended", &timed, required(&stampers)),
        bundle("promised", &promised, required(&whole)),
        bundle("promised, by a root that ends", &promised, docker(&update)),
        bundle("keyless", &keyless, Signer::Keyless(&whole)),
        bundle("keyless, tampered", &tampered(&keyless), Signer::Keyless(&whole)),
        bundle("keyless, of whoever came later", &keyless, Signer::Keyless(&all)),
        bundle("stamped", &stamped, Signer::Keyless(&whole)),
        bundle("stamped by who has ended", &stamped, Signer::Keyless(&stampers)),
        simple("simple", required(&whole)),
        simple("simple, by a root that ends", docker(&update)),
    ];
    let moments = [
        VOUCHED - CLOCK_SKEW - 1,
        VOUCHED - CLOCK_SKEW,
        VOUCHED - 1,
        VOUCHED,
        AT + 499,
        AT + 500,
        END - 1,
        END,
        END + 1,
        END + 5_000,
    ];
    let mut told = String::new();
    for case in &cases {
        let anew: Vec<&str> = moments.iter().map(|now| outcome(&case.anew(*now))).collect();
        told.push_str(&format!("{}: {}\n", case.name, anew.join(", ")));
        for first in moments {
            let cache = VerificationCache::default();
            let once = outcome(&case.again(&cache, first));
            for (now, wanted) in moments.iter().zip(&anew) {
                let found = outcome(&case.again(&cache, *now));
                let (name, vouched) = (case.name, now - VOUCHED);
                assert_eq!(
                    found,
                    *wanted,
                    "{name}: {once} at {}, asked at {vouched}",
                    first - VOUCHED
                );
            }
            // And backwards, by a clock that is set back again and again.
            for (now, wanted) in moments.iter().zip(&anew).rev() {
                assert_eq!(outcome(&case.again(&cache, *now)), *wanted, "{}: back", case.name);
            }
        }
    }
    insta::assert_snapshot!(told);
}

/// A log that vouches for no time is asked whether it is in force when somebody asks.
#[test]
fn a_log_without_a_time_vouches_while_it_is_in_force() {
    let forge = Forge::new(10);
    let own = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    let log = windowed(&forge, &["/tlogs/1/publicKey/validFor"]);
    let other_log = windowed(&forge, &["/tlogs/0/publicKey/validFor"]);
    let timed = forge.attest_by_key(&key(50), &statement(SLSA, ARTIFACT), Some(Rekor::V2));
    let mut timeless = timed.clone();
    timeless["verificationMaterial"]["timestampVerificationData"] = json!({});
    let (about, cache) = (digest(ARTIFACT), VerificationCache::default());
    let begins = AT + 500;
    for (what, bundle, root, now, wanted) in [
        ("as it ends", &timeless, &log, END, "verified"),
        ("after its end", &timeless, &log, END + 1, "log"),
        ("long after", &timeless, &log, END + 1_000_000, "log"),
        ("as it begins", &timeless, &log, begins, "verified"),
        ("before it begins", &timeless, &log, begins - 1, "log"),
        ("another log's window", &timeless, &other_log, END + 1, "verified"),
        // A trusted time says when it was, and then nobody asks for now.
        ("a time before the window", &timed, &log, END, "log"),
        ("a time, another log's window", &timed, &other_log, END + 1, "verified"),
    ] {
        let text = bundle.to_string();
        let by = Signer::Key(&own, Log::Required(root));
        let artifact = Artifact::Digest(&about);
        check(what, &verify_bundle(text.as_bytes(), artifact, by, now), wanted);
        // All by one memory, which has seen it hold.
        check(what, &cache.bundle(text.as_bytes(), artifact, by, now), wanted);
    }
}
