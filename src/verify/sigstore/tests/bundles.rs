//! Bundles: keyless and by key, statements and files, Rekor v1 and v2.

use std::sync::OnceLock;

use proptest::prelude::*;
use serde_json::json;

use super::forge::{Rekor, about, digest, key, public_pem, statement};
use super::*;

#[test]
fn what_is_right_verifies() {
    let forge = Forge::new(10);
    let root = root_of(&forge);
    let leaf = person(&forge);
    let statement = statement(SLSA, ARTIFACT);
    for (about, bundle, statements, times) in [
        ("statement, v1", forge.attest(&leaf, &statement, Rekor::V1), true, vec!["Tlog"]),
        (
            "statement, v2",
            forge.attest(&leaf, &statement, Rekor::V2),
            true,
            vec!["TimestampAuthority"],
        ),
        ("file, v1", forge.sign_file(&leaf, ARTIFACT, Rekor::V1), false, vec!["Tlog"]),
        (
            "file, v2",
            forge.sign_file(&leaf, ARTIFACT, Rekor::V2),
            false,
            vec!["TimestampAuthority"],
        ),
    ] {
        let verified = keyless(&bundle, &root);
        check(about, &verified, "verified");
        let verified = verified.unwrap();
        let kinds: Vec<_> =
            verified.timestamps().iter().map(|it| it.timestamp_type.as_str()).collect();
        assert_eq!(kinds, times, "{about}");
        assert!(verified.timestamps().iter().all(|it| it.timestamp == "2025-06-01T00:01:00Z"));
        assert!(verified.timestamps().iter().all(|it| it.uri.ends_with(".example.com")));
        assert_eq!(verified.statement().is_some(), statements, "{about}");
        assert_eq!(verified.trust_root(), Some("sigstore"));
        let jane = Identity {
            subject: "jane@example.com".into(),
            issuer: "https://accounts.example.com".into(),
        };
        assert_eq!(verified.is_by(&jane), Ok(()));
        for other in [
            Identity { subject: "john@example.com".into(), ..jane.clone() },
            Identity { issuer: "https://accounts.example.org".into(), ..jane.clone() },
        ] {
            assert!(matches!(verified.is_by(&other), Err(SigstoreInvalid::Identity { .. })));
        }
    }
}

#[test]
fn a_statement_is_what_was_signed() {
    let forge = Forge::new(10);
    let bundle = forge.attest(&person(&forge), &statement(SLSA, ARTIFACT), Rekor::V1);
    let verified = keyless(&bundle, &root_of(&forge)).unwrap();
    let stated = verified.states(&["https://slsa.dev/provenance/v0.2", SLSA]).unwrap();
    assert_eq!(stated.predicate_type, SLSA);
    assert_eq!(&stated.predicate[..], br#"{"builder":"ours"}"#);
    let (algorithm, hex) = stated.subjects[0].digests[0].clone();
    assert_eq!(format!("{algorithm}:{hex}"), digest(ARTIFACT));
    assert_eq!(verified.payload().unwrap()[..], statement(SLSA, ARTIFACT));
    let other = verified.states(&["https://spdx.dev/Document"]);
    assert!(matches!(other, Err(SigstoreInvalid::PredicateType { .. })));
}

#[test]
fn what_is_wrong_does_not() {
    let forge = Forge::new(10);
    let root = root_of(&forge);
    let leaf = person(&forge);
    let right = |rekor| forge.attest(&leaf, &statement(SLSA, ARTIFACT), rekor);
    let other = |rekor| forge.attest(&leaf, &statement(SLSA, b"else"), rekor);
    for (rekor, name) in [(Rekor::V1, "v1"), (Rekor::V2, "v2")] {
        let with = |change: &dyn Fn(&mut Value)| {
            let mut bundle = right(rekor);
            change(&mut bundle);
            keyless(&bundle, &root)
        };
        let who =
            |who: Who| forge.attest(&forge.leaf(&who, 100), &statement(SLSA, ARTIFACT), rekor);
        let jane = Who::person("jane@example.com");
        let time = if rekor == Rekor::V1 { "log" } else { "time" };
        let bound = if rekor == Rekor::V1 { "log" } else { "subject" };
        for (what, result, wanted) in [
            ("wrong subject", keyless(&other(rekor), &root), "subject"),
            (
                "tampered payload",
                with(&|it| {
                    it["dsseEnvelope"]["payload"] = other(rekor)["dsseEnvelope"]["payload"].clone();
                }),
                "signature",
            ),
            (
                "signature of another",
                with(&|it| {
                    it["dsseEnvelope"]["signatures"] =
                        other(rekor)["dsseEnvelope"]["signatures"].clone();
                }),
                if rekor == Rekor::V1 { "signature" } else { "time" },
            ),
            (
                "log entry of another",
                with(&|it| {
                    let entries = &other(rekor)["verificationMaterial"]["tlogEntries"];
                    it["verificationMaterial"]["tlogEntries"] = entries.clone();
                }),
                bound,
            ),
            (
                "no log entry",
                with(&|it| {
                    it["verificationMaterial"]["tlogEntries"] = json!([]);
                }),
                "malformed",
            ),
            (
                "no proof",
                with(&|it| {
                    it["verificationMaterial"]["tlogEntries"][0]
                        .as_object_mut()
                        .unwrap()
                        .remove("inclusionProof");
                }),
                "malformed",
            ),
            (
                "tampered log entry",
                with(&|it| {
                    let mut body =
                        other(rekor)["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"]
                            .clone();
                    std::mem::swap(
                        &mut it["verificationMaterial"]["tlogEntries"][0]["canonicalizedBody"],
                        &mut body,
                    );
                }),
                "log",
            ),
            (
                "no time",
                with(&|it| {
                    let material = it["verificationMaterial"].as_object_mut().unwrap();
                    material.remove("timestampVerificationData");
                    let entry = material["tlogEntries"][0].as_object_mut().unwrap();
                    entry.remove("inclusionPromise");
                }),
                "time",
            ),
            (
                "later integrated time",
                with(&|it| {
                    let at = json!((AT + 61).to_string());
                    it["verificationMaterial"]["tlogEntries"][0]["integratedTime"] = at;
                }),
                if rekor == Rekor::V1 { time } else { "verified" },
            ),
            (
                "two signatures",
                with(&|it| {
                    let one = it["dsseEnvelope"]["signatures"][0].clone();
                    it["dsseEnvelope"]["signatures"].as_array_mut().unwrap().push(one);
                }),
                "malformed",
            ),
            (
                "no signature",
                with(&|it| {
                    it["dsseEnvelope"]["signatures"] = json!([]);
                }),
                "malformed",
            ),
            (
                "unknown payload",
                with(&|it| {
                    it["dsseEnvelope"]["payloadType"] = "text/plain".into();
                }),
                "could not: unsupported",
            ),
            (
                "not valid yet",
                keyless(&who(Who { begins: 120, ..jane.clone() }), &root),
                "certificate",
            ),
            ("expired", keyless(&who(Who { begins: -660, ..jane.clone() }), &root), "certificate"),
            (
                "no certificate timestamp",
                keyless(&who(Who { logged: false, ..jane.clone() }), &root),
                "certificate",
            ),
            (
                "not for code",
                keyless(&who(Who { signs_code: false, ..jane.clone() }), &root),
                "certificate",
            ),
        ] {
            check(&format!("{name}: {what}"), &result, wanted);
        }
    }
}

#[test]
fn each_party_counts() {
    let forge = Forge::new(10);
    let stranger = Forge::new(30);
    let bundle = |rekor| forge.attest(&person(&forge), &statement(SLSA, ARTIFACT), rekor);
    for (party, v1, v2) in [
        ("certificateAuthorities", "certificate", "certificate"),
        ("ctlogs", "certificate", "certificate"),
        ("tlogs", "log", "log"),
        ("timestampAuthorities", "verified", "time"),
    ] {
        let mut json = forge.trusted_root();
        json[party] = stranger.trusted_root()[party].clone();
        let root = root("sigstore", &json);
        check(&format!("other {party}, v1"), &keyless(&bundle(Rekor::V1), &root), v1);
        check(&format!("other {party}, v2"), &keyless(&bundle(Rekor::V2), &root), v2);
    }
    // Whoever was taken out, or whose time was over, vouches for nothing: that is revocation here.
    for (party, pointer) in [
        ("certificateAuthorities", "/certificateAuthorities/0/validFor"),
        ("tlogs", "/tlogs/0/publicKey/validFor"),
        ("ctlogs", "/ctlogs/0/publicKey/validFor"),
    ] {
        let mut json = forge.trusted_root();
        let window = json!({"start": "2024-01-01T00:00:00Z", "end": "2025-01-01T00:00:00Z"});
        *json.pointer_mut(pointer).unwrap() = window;
        // Another authority keeps the root as a whole alive.
        let also = stranger.trusted_root()["certificateAuthorities"][0].clone();
        json["certificateAuthorities"].as_array_mut().unwrap().push(also);
        let result = keyless(&bundle(Rekor::V1), &root("sigstore", &json));
        assert!(matches!(outcome(&result), "certificate" | "log"), "{party} ended: {result:?}");
    }
}

#[test]
fn what_the_root_does_not_name_is_not_asked_for() {
    let forge = Forge::new(10);
    let who = Who { logged: false, ..Who::person("jane@example.com") };
    let bundle = forge.attest(&forge.leaf(&who, 100), &statement(SLSA, ARTIFACT), Rekor::None);
    let mut json = forge.trusted_root();
    check("all named", &keyless(&bundle, &root("ours", &json)), "malformed");
    json["tlogs"] = json!([]);
    check("no log named", &keyless(&bundle, &root("ours", &json)), "certificate");
    json["ctlogs"] = json!([]);
    check("neither named", &keyless(&bundle, &root("ours", &json)), "verified");
    json["timestampAuthorities"] = json!([]);
    check("no time named", &keyless(&bundle, &root("ours", &json)), "time");
}

#[test]
fn by_key() {
    let forge = Forge::new(10);
    let root = root_of(&forge);
    let ours = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    let theirs = PublicKey::from_pem(public_pem(&key(51)).as_bytes()).unwrap();
    let signed = |rekor| forge.attest_by_key(&key(50), &statement(SLSA, ARTIFACT), rekor);
    let mut tampered = signed(None);
    tampered["dsseEnvelope"]["payload"] = forge::b64(statement(SLSA, b"else")).into();
    let mut entry_of_another = signed(Some(Rekor::V1));
    entry_of_another["verificationMaterial"]["tlogEntries"] = forge.attest_by_key(
        &key(51),
        &statement(SLSA, ARTIFACT),
        Some(Rekor::V1),
    )["verificationMaterial"]["tlogEntries"]
        .clone();
    let with_certificate = forge.attest(&person(&forge), &statement(SLSA, ARTIFACT), Rekor::V1);
    for (what, bundle, key, log, wanted) in [
        ("alone", signed(None), &ours, Log::Ignored, "verified"),
        ("alone, where present", signed(None), &ours, Log::WherePresent(&root), "verified"),
        ("alone, required", signed(None), &ours, Log::Required(&root), "malformed"),
        ("v1, required", signed(Some(Rekor::V1)), &ours, Log::Required(&root), "verified"),
        ("v2, required", signed(Some(Rekor::V2)), &ours, Log::Required(&root), "verified"),
        ("v1, ignored", signed(Some(Rekor::V1)), &ours, Log::Ignored, "verified"),
        ("wrong key", signed(None), &theirs, Log::Ignored, "signature"),
        ("wrong key, logged", signed(Some(Rekor::V1)), &theirs, Log::Required(&root), "signature"),
        ("tampered", tampered, &ours, Log::Ignored, "signature"),
        ("entry of another", entry_of_another.clone(), &ours, Log::Required(&root), "log"),
        (
            "entry of another, where present",
            entry_of_another,
            &ours,
            Log::WherePresent(&root),
            "log",
        ),
        ("certificate", with_certificate, &ours, Log::Ignored, "material"),
    ] {
        let artifact = digest(ARTIFACT);
        let text = bundle.to_string();
        let by = Signer::Key(key, log);
        let result = verify_bundle(text.as_bytes(), Artifact::Digest(&artifact), by, NOW);
        check(what, &result, wanted);
        let times = usize::from(!matches!(log, Log::Ignored) && !what.starts_with("alone"));
        if let Ok(verified) = result {
            assert_eq!(verified.key(), Some(ours.fingerprint().as_str()));
            assert_eq!(verified.timestamps().len(), times, "{what}");
            assert_eq!(verified.signer(), None);
            let nobody = Identity { subject: String::new(), issuer: String::new() };
            assert!(verified.is_by(&nobody).is_err());
        }
        // The same about something else.
        let other = digest(b"else");
        let result = verify_bundle(text.as_bytes(), Artifact::Digest(&other), by, NOW);
        assert!(
            result.is_err() && (wanted != "verified" || outcome(&result) == "subject"),
            "{what}"
        );
    }
    check("a key where a certificate is wanted", &keyless(&signed(None), &root), "material");
}

#[test]
fn what_cannot_be_read() {
    let forge = Forge::new(10);
    let root = root_of(&forge);
    let text = forge.attest(&person(&forge), &statement(SLSA, ARTIFACT), Rekor::V1).to_string();
    let many = |count| {
        let mut bundle: Value = serde_json::from_str(&text).unwrap();
        let entries = bundle["verificationMaterial"]["tlogEntries"].as_array_mut().unwrap();
        let entry = entries[0].clone();
        entries.resize(count, entry);
        bundle.to_string()
    };
    let artifact = digest(ARTIFACT);
    for (what, data, wanted) in [
        ("empty", String::new(), "malformed"),
        ("blank", " \n".into(), "malformed"),
        ("no JSON", "bundle".into(), "malformed"),
        ("another JSON", "{}".into(), "malformed"),
        ("truncated", text[..text.len() / 2].into(), "malformed"),
        ("unknown version", text.replace("bundle.v0.3+", "bundle.v9.9+"), "malformed"),
        ("huge", format!("{text}{}", " ".repeat(MAX_BUNDLE)), "malformed"),
        ("deep", "[".repeat(100_000), "malformed"),
        ("many entries", many(33), "malformed"),
        ("the same entry twice", many(2), "verified"),
    ] {
        let by = Signer::Keyless(&root);
        let result = verify_bundle(data.as_bytes(), Artifact::Digest(&artifact), by, NOW);
        check(what, &result, wanted);
    }
    for name in
        ["md5:00", "sha256:00", "sha256", "", "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709"]
    {
        let by = Signer::Keyless(&root);
        let result = verify_bundle(text.as_bytes(), Artifact::Digest(name), by, NOW);
        check(name, &result, "could not: unsupported");
    }
    let shouted = artifact.to_uppercase().replace("SHA256", "sha256");
    let result =
        verify_bundle(text.as_bytes(), Artifact::Digest(&shouted), Signer::Keyless(&root), NOW);
    check("upper case", &result, "could not: unsupported");
}

#[test]
fn digests_of_other_lengths() {
    use sha2::Digest as _;
    let forge = Forge::new(10);
    let root = root_of(&forge);
    let digest = format!("sha512:{}", hex::encode(sha2::Sha512::digest(ARTIFACT)));
    let bundle = forge.attest(&person(&forge), &about(SLSA, &digest), Rekor::V1).to_string();
    let by = Signer::Keyless(&root);
    check(
        "sha512",
        &verify_bundle(bundle.as_bytes(), Artifact::Digest(&digest), by, NOW),
        "verified",
    );
    check(
        "bytes",
        &verify_bundle(bundle.as_bytes(), Artifact::Bytes(ARTIFACT), by, NOW),
        "verified",
    );
    let sha256 = forge::digest(ARTIFACT);
    check(
        "sha256",
        &verify_bundle(bundle.as_bytes(), Artifact::Digest(&sha256), by, NOW),
        "subject",
    );
}

/// Every string in a JSON value that is signed in one way or another.
fn strings(value: &Value, path: &str, found: &mut Vec<String>) {
    if value.is_string() {
        found.push(path.to_owned());
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        strings(item, &format!("{path}/{index}"), found);
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        strings(field, &format!("{path}/{name}"), found);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]
    /// One character of one string changed: nothing verifies that says something else.
    #[test]
    fn no_flipped_bit_passes(v2: bool, which in 0..10_000usize, at in 0..10_000usize, bit in 0..6u8) {
        static RIGHT: OnceLock<([Value; 2], TrustRoot)> = OnceLock::new();
        let (bundles, root) = RIGHT.get_or_init(|| {
            let forge = Forge::new(10);
            let leaf = person(&forge);
            let make = |rekor| forge.attest(&leaf, &statement(SLSA, ARTIFACT), rekor);
            ([make(Rekor::V1), make(Rekor::V2)], root_of(&forge))
        });
        let right = &bundles[usize::from(v2)];
        let mut paths = Vec::new();
        strings(right, "", &mut paths);
        let path = &paths[which % paths.len()];
        let mut wrong = right.clone();
        let text = wrong.pointer_mut(path).unwrap();
        let mut bytes = text.as_str().unwrap().as_bytes().to_vec();
        let at = at % bytes.len();
        bytes[at] ^= 1 << bit;
        let Ok(changed) = String::from_utf8(bytes) else { return Ok(()) };
        *text = changed.into();
        if let Ok(verified) = keyless(&wrong, root) {
            // What nobody signs may change: what Rekor v2 has in its checkpoint, the name in a
            // checkpoint's signature line, the certificate that a timestamp brings along.
            let before = keyless(right, root).unwrap();
            prop_assert_eq!(verified, before, "{}", path);
            let unsigned = [
                "/logIndex",
                "/keyId",
                "/integratedTime",
                "/rootHash",
                "/treeSize",
                "/envelope",
                "/signedTimestamp",
            ];
            prop_assert!(unsigned.iter().any(|it| path.ends_with(it)), "{} changed, and verifies", path);
        }
    }

    #[test]
    fn never_panics(data in prop::collection::vec(any::<u8>(), 0..400), text in "\\PC{0,200}") {
        static ROOT: OnceLock<TrustRoot> = OnceLock::new();
        let root = ROOT.get_or_init(|| root_of(&Forge::new(10)));
        for data in [data.as_slice(), text.as_bytes()] {
            let result = verify_bundle(data, Artifact::Bytes(ARTIFACT), Signer::Keyless(root), NOW);
            prop_assert!(result.is_err());
            prop_assert!(TrustRoot::parse("x", data).is_err());
            prop_assert!(PublicKey::from_pem(data).is_err());
        }
    }
}
