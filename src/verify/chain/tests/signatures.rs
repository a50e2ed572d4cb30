//! Signatures of attestations, and of hardened images.

use super::*;
use crate::verify::sigstore::tests::forge::{
    Certified, PublicKey as PublicBits, sign, signed, simple_payload,
};

#[test]
fn signatures_of_attestations_must_hold() {
    let forge = Forge::new(10);
    let right = trust(&forge.trusted_root());
    let stranger = Forge::new(30);
    let late = Who { begins: 120, ..jane() };
    let mut ended = forge.trusted_root();
    ended["certificateAuthorities"][0]["validFor"]["end"] = "2025-06-01T12:00:00Z".into();
    let mut withdrawn = forge.trusted_root();
    withdrawn["tlogs"][0]["publicKey"]["validFor"]["end"] = "2025-01-01T00:00:00Z".into();
    let other = digest(b"else");
    let changed = |format, change: &dyn Fn(&mut Vec<u8>)| {
        let layer = |digest: &str| {
            let mut made = layer(&forge, &jane(), format, digest);
            change(&mut made.1);
            made
        };
        Draft { manifest: &unchanged, layer: &layer }.chain()
    };
    let signed = |forge: &Forge, who: &Who, format, about: Option<&str>| {
        let layer = |digest: &str| layer(forge, who, format, about.unwrap_or(digest));
        Draft { manifest: &unchanged, layer: &layer }.chain()
    };
    let replaced = |from: &'static str, to: &'static str| {
        move |it: &mut Vec<u8>| {
            let text = String::from_utf8(std::mem::take(it)).unwrap();
            assert!(text.contains(from), "{from} is not in {text}");
            *it = text.replacen(from, to, 1).into_bytes();
        }
    };
    let other_predicate = |it: &mut Vec<u8>| {
        let mut bundle: Value = serde_json::from_slice(it).unwrap();
        let payload = &mut bundle["dsseEnvelope"]["payload"];
        let statement = STANDARD.decode(payload.as_str().unwrap()).unwrap();
        let statement = String::from_utf8(statement).unwrap();
        assert!(statement.contains("ours"), "{statement}");
        *payload = STANDARD.encode(statement.replace("ours", "evil")).into();
        *it = bundle.to_string().into_bytes();
    };
    let other_reference = replaced("registry", "registrY");
    type Change<'c> = &'c dyn Fn(&mut Vec<u8>);
    let ways: [(Format, Change<'_>); 2] =
        [(Format::Bundle, &other_predicate), (Format::Simple, &other_reference)];
    for (format, tampered) in ways {
        let truncated = |it: &mut Vec<u8>| it.truncate(it.len() / 2);
        let bundle = format == Format::Bundle;
        let either =
            |of_bundle: &'static str, of_simple| if bundle { of_bundle } else { of_simple };
        for (what, chain, trust, wanted) in [
            ("right", signed(&forge, &jane(), format, None), &right, "verified"),
            ("of another", signed(&forge, &jane(), format, Some(&other)), &right, "subject"),
            ("a stranger's", signed(&stranger, &jane(), format, None), &right, "log"),
            ("an expired certificate", signed(&forge, &late, format, None), &right, "certificate"),
            ("tampered", changed(format, tampered), &right, "signature"),
            ("truncated", changed(format, &truncated), &right, either("malformed", "signature")),
            ("empty", changed(format, &|it| it.clear()), &right, either("malformed", "signature")),
            (
                "an expired root",
                signed(&forge, &jane(), format, None),
                &trust(&ended),
                "could not: trust root",
            ),
            (
                "a log that was withdrawn",
                signed(&forge, &jane(), format, None),
                &trust(&withdrawn),
                "log",
            ),
        ] {
            check(&format!("{what}, {format:?}"), &chain, trust, wanted);
        }
    }
    let flipped = replaced("\"sig\":\"ME", "\"sig\":\"MA");
    check("a tampered signature", &changed(Format::Bundle, &flipped), &right, "signature");
    let flipped = |digest: &str| {
        let mut made = layer(&forge, &jane(), Format::Simple, digest);
        let signature = made.2["dev.cosignproject.cosign/signature"].as_str().unwrap();
        let mut signature = STANDARD.decode(signature).unwrap();
        *signature.last_mut().unwrap() ^= 1;
        made.2["dev.cosignproject.cosign/signature"] = STANDARD.encode(signature).into();
        made
    };
    let flipped = Draft { manifest: &unchanged, layer: &flipped }.chain();
    check("a tampered signature, Simple", &flipped, &right, "signature");
    // A certificate of another kind of key: one that is accepted, and one that signs by another.
    let ed25519 = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    let bits = ed25519.verifying_key();
    let bits = PublicBits { algorithm: &rcgen::PKCS_ED25519, bits: bits.as_bytes() };
    let certificate = forge.certified(&jane(), &bits);
    let by_ed25519 = |data: &[u8]| {
        use ed25519_dalek::Signer as _;
        ed25519.sign(data).to_bytes().to_vec()
    };
    let by_ecdsa = |data: &[u8]| crate::verify::sigstore::tests::forge::sign(&key(9), data);
    type Sign<'s> = &'s dyn Fn(&[u8]) -> Vec<u8>;
    for (what, sign, wanted) in [
        ("its own algorithm", &by_ed25519 as Sign<'_>, "verified"),
        ("another", &by_ecdsa, "signature"),
    ] {
        let by = Certified { certificate: &certificate, sign };
        let bundle = |digest: &str| -> Layer {
            let bundle = forge.attest_as(&by, &about(COSIGN_SIGN, digest), Rekor::V1);
            (BUNDLE, bundle.to_string().into_bytes(), json!({}))
        };
        check(what, &Draft { manifest: &unchanged, layer: &bundle }.chain(), &right, wanted);
        let simple = |digest: &str| -> Layer {
            let (payload, annotations) = forge.simple_as(&by, digest);
            (SIMPLE_SIGNING, payload, json!(annotations))
        };
        check(what, &Draft { manifest: &unchanged, layer: &simple }.chain(), &right, wanted);
    }
    let by_key = |digest: &str| {
        let bundle = forge.attest_by_key(&key(9), &about(COSIGN_SIGN, digest), Some(Rekor::V1));
        (BUNDLE, bundle.to_string().into_bytes(), json!({}))
    };
    let by_key = Draft { manifest: &unchanged, layer: &by_key }.chain();
    check("a key's bundle", &by_key, &right, "material");
}

/// One that holds counts, wherever it stands among others, and all are spoken of.
#[test]
fn each_of_several_signatures_is_looked_at() {
    let (forge, stranger) = (Forge::new(10), Forge::new(30));
    let trust = trust(&forge.trusted_root());
    let (john, other) = (Who::person("john@example.com"), digest(b"else"));
    let other = other.as_str();
    type Signed<'s> = (&'s Forge, &'s Who, Format, Option<&'s str>);
    let jane = jane();
    let bundle: Signed<'_> = (&forge, &jane, Format::Bundle, None);
    let simple: Signed<'_> = (&forge, &jane, Format::Simple, None);
    let by_john: Signed<'_> = (&forge, &john, Format::Bundle, None);
    let foreign: Signed<'_> = (&stranger, &jane, Format::Bundle, None);
    let foreign_simple: Signed<'_> = (&stranger, &jane, Format::Simple, None);
    let of_another: Signed<'_> = (&forge, &jane, Format::Bundle, Some(other));
    let chained = |signed: &[Signed<'_>]| {
        let one = |(forge, who, format, about): &Signed<'_>| {
            let layer = |digest: &str| layer(forge, who, *format, about.unwrap_or(digest));
            Draft { manifest: &unchanged, layer: &layer }.chain()
        };
        joined(signed.iter().map(one))
    };
    for (what, signed, verified, refused) in [
        ("bad, good", &[foreign, bundle][..], &["jane@example.com"][..], &["log"][..]),
        ("good, bad", &[bundle, foreign], &["jane@example.com"], &["log"]),
        ("bad, bad", &[foreign, of_another], &[], &["log", "subject"]),
        ("two good", &[bundle, by_john], &["jane@example.com", "john@example.com"], &[]),
        ("a bad bundle, good simple", &[foreign, simple], &["jane@example.com"], &["log"]),
        ("bad simple, a good bundle", &[foreign_simple, bundle], &["jane@example.com"], &["log"]),
    ] {
        let signers = verify_chain(&chained(signed), &trust, NOW).unwrap();
        let signer =
            |it: &Arc<VerifiedSignature>| it.signer().unwrap().subject_alternative_name.clone();
        assert_eq!(signers.verified.iter().map(signer).collect::<Vec<_>>(), verified, "{what}");
        assert_eq!(outcomes(signers.refused), refused, "{what}");
    }
    let mut gone = chained(&[bundle]);
    gone.signature_manifests.insert(0, digest(b"gone"));
    let signers = verify_chain(&gone, &trust, NOW).unwrap();
    assert_eq!(signers.verified.len(), 1);
    assert_eq!(outcomes(signers.refused), ["could not: missing"]);
    // And in one manifest, as cosign adds to what is there.
    for (what, count, others, verified, refused) in [
        ("one behind another", 1, true, 1, &["log"][..]),
        ("sixteen", 16, false, 16, &[]),
        ("seventeen", 17, false, 16, &["could not: too much"]),
    ] {
        let first = if others { foreign_simple } else { simple };
        let mut chain = chained(&[first]);
        let about = chain.attestation_manifest.clone();
        let made: Vec<Layer> = (0..count)
            .map(|at| {
                let who = Who::person(&format!("{at}@example.com"));
                layer(&forge, &who, Format::Simple, &about)
            })
            .collect();
        let name = chain.signature_manifests[0].clone();
        let mut manifest: Value = serde_json::from_slice(&chain.blobs[&name].data).unwrap();
        let layers = manifest["layers"].as_array_mut().unwrap();
        layers.truncate(usize::from(others));
        for (kind, content, annotations) in made {
            let name = digest(&content);
            layers.push(json!({
                "mediaType": kind, "digest": name, "size": content.len(), "annotations": annotations,
            }));
            let data = content.into();
            let blob = crate::meta::AttestationBlob { data, ..Default::default() };
            chain.blobs.insert(name, blob);
        }
        let put = put(&mut chain, &manifest);
        chain.signature_manifests = vec![put["digest"].as_str().unwrap().to_owned()];
        let signers = verify_chain(&chain, &trust, NOW).unwrap();
        assert_eq!(signers.verified.len(), verified, "{what}: {:?}", signers.refused);
        assert_eq!(outcomes(signers.refused), refused, "{what}");
    }
}

/// One chain with the signatures of several, in their order.
fn joined(mut chains: impl Iterator<Item = AttestationChain>) -> AttestationChain {
    let mut joined = chains.next().unwrap();
    for chain in chains {
        assert_eq!(joined.attestation_manifest, chain.attestation_manifest);
        joined.signature_manifests.extend(chain.signature_manifests);
        joined.blobs.extend(chain.blobs);
    }
    joined
}

fn outcomes(refused: Vec<NotVerified>) -> Vec<&'static str> {
    refused.into_iter().map(|it| outcome::<()>(&Err(it))).collect()
}

/// What a statement about the right manifest states decides whether it is a signature of it.
#[test]
fn statements_that_are_no_signatures_are_none() {
    let forge = Forge::new(10);
    let trust = trust(&forge.trusted_root());
    let leaf = forge.leaf(&jane(), 100);
    let hardened = |stage: &str, it: &mut Value| {
        if stage == "index" {
            it["manifests"].as_array_mut().unwrap().truncate(1);
            it["manifests"][0]["annotations"] = json!({"com.docker.dhi.build.id": "7"});
            it["annotations"] = json!({"org.opencontainers.image.title": "dhi/app"});
        }
    };
    let bundled = |bundle: Value| -> Layer { (BUNDLE, bundle.to_string().into_bytes(), json!({})) };
    for (states, keyless, by_docker) in [
        (COSIGN_SIGN, "verified", "verified"),
        (PROVENANCE[0], "verified", "predicate type"),
        (PROVENANCE[1], "verified", "predicate type"),
        ("https://spdx.dev/Document", "predicate type", "predicate type"),
        ("https://cosign.sigstore.dev/attestation/vuln/v1", "predicate type", "predicate type"),
        ("https://openvex.dev/ns/v0.2.0", "predicate type", "predicate type"),
        ("https://slsa.dev/verification_summary/v1", "predicate type", "predicate type"),
        ("https://sigstore.dev/cosign/sign/v1 ", "predicate type", "predicate type"),
        ("https://sigstore.dev/cosign/sign/v2", "predicate type", "predicate type"),
        ("", "predicate type", "predicate type"),
    ] {
        for rekor in [Rekor::V1, Rekor::V2] {
            let by_jane =
                |digest: &str| bundled(forge.attest(&leaf, &about(states, digest), rekor));
            let chain = Draft { manifest: &unchanged, layer: &by_jane }.chain();
            check(&format!("{states:?}, {rekor:?}"), &chain, &trust, keyless);
            let by_key = |digest: &str| {
                bundled(forge.attest_by_key(&key(50), &about(states, digest), Some(rekor)))
            };
            let chain = Draft { manifest: &hardened, layer: &by_key }.chain();
            check(&format!("{states:?}, {rekor:?}, hardened"), &chain, &trust, by_docker);
        }
    }
    // The bytes of the manifest, as `cosign sign-blob` signs any file: that states nothing.
    let named = Draft { manifest: &unchanged, layer: &|_| bundled(json!({})) }.chain();
    let bytes = named.blobs[&named.attestation_manifest].data.clone();
    let of_bytes = |_: &str| bundled(forge.sign_file(&leaf, &bytes, Rekor::V1));
    let chain = Draft { manifest: &unchanged, layer: &of_bytes }.chain();
    assert_eq!(chain.attestation_manifest, named.attestation_manifest);
    check("a file", &chain, &trust, "predicate type");
    // An envelope of something else than a statement.
    let enveloped = |digest: &str| {
        let mut bundle = forge.attest(&leaf, &about(COSIGN_SIGN, digest), Rekor::V1);
        bundle["dsseEnvelope"]["payloadType"] = "text/plain".into();
        bundled(bundle)
    };
    let chain = Draft { manifest: &unchanged, layer: &enveloped }.chain();
    check("another payload", &chain, &trust, "could not: unsupported");
    // A simple signing payload of another type, rightly signed.
    for (what, manifest) in
        [("simple", &unchanged as &dyn Fn(&str, &mut Value)), ("simple, hardened", &hardened)]
    {
        for (from, to, wanted) in [
            ("cosign container image signature", "cosign container image signature", "verified"),
            ("cosign container image signature", "atomic container signature", "malformed"),
            ("\"type\"", "\"kind\"", "malformed"),
        ] {
            let layer = |digest: &str| -> Layer {
                let payload = String::from_utf8(simple_payload(digest)).unwrap();
                assert!(payload.contains(from));
                let payload = payload.replace(from, to).into_bytes();
                let annotations = match what {
                    "simple" => forge.simple_of(&leaf, &payload),
                    _ => BTreeMap::from([signed(&sign(&key(50), &payload))]),
                };
                (SIMPLE_SIGNING, payload, json!(annotations))
            };
            let chain = Draft { manifest, layer: &layer }.chain();
            check(&format!("{what}: {to}"), &chain, &trust, wanted);
        }
    }
}

/// What is more than is looked at is neither valid nor invalid.
#[test]
fn signatures_beyond_the_budget_are_not_judged() {
    let forge = Forge::new(10);
    let right = trust(&forge.trusted_root());
    let other = digest(b"else");
    // Two large ones that do not hold take what there is; behind them stands the good one.
    let padded = |size: usize, about: Option<&str>| {
        let layer = |digest: &str| {
            let mut made = layer(&forge, &jane(), Format::Bundle, about.unwrap_or(digest));
            made.1.resize(size, b' ');
            made
        };
        Draft { manifest: &unchanged, layer: &layer }.chain()
    };
    let join = |sizes: &[(usize, Option<&str>)]| {
        joined(sizes.iter().map(|(size, about)| padded(*size, *about)))
    };
    let wrong = Some(other.as_str());
    for (what, sizes, verified, wanted) in [
        ("within", &[(1 << 20, wrong), (1 << 20, None)][..], 1, &["subject"][..]),
        (
            "beyond",
            &[(16 << 20, wrong), (16 << 20, wrong), (1 << 20, None)],
            0,
            &["subject", "subject", "could not: too much"],
        ),
    ] {
        let signers = verify_chain(&join(sizes), &right, NOW).unwrap();
        assert_eq!(signers.verified.len(), verified, "{what}");
        assert_eq!(outcomes(signers.refused), wanted, "{what}");
    }
}

#[test]
fn hardened_images_are_signed_by_their_key_alone() {
    let forge = Forge::new(10);
    let ours = trust(&forge.trusted_root());
    let mut roots = TrustRoots::embedded().unwrap();
    roots.insert(root("sigstore", &forge.trusted_root())).unwrap();
    let dockers = Trust::new(roots);
    // As Docker builds them: the attestations refer to the image, and the index does not list them.
    let hardened = |title: &'static str, build: &'static str| {
        move |stage: &str, it: &mut Value| {
            if stage == "index" {
                it["manifests"].as_array_mut().unwrap().truncate(1);
                it["manifests"][0]["annotations"] = json!({"com.docker.dhi.build.id": build});
                it["annotations"] = json!({"org.opencontainers.image.title": title});
            }
        }
    };
    let (right, other, untitled) =
        (hardened("dhi/app", "7"), hardened("app", "7"), hardened("dhi/app", ""));
    let keyed = |seed: u8| {
        let forge = &forge;
        move |digest: &str| -> Layer {
            let (payload, annotations) = forge.simple_by_key(&key(seed), digest, false);
            (SIMPLE_SIGNING, payload, json!(annotations))
        }
    };
    let (docker, somebody) = (keyed(50), keyed(51));
    let bundle = |digest: &str| {
        let bundle = forge.attest_by_key(&key(50), &about(COSIGN_SIGN, digest), Some(Rekor::V1));
        (BUNDLE, bundle.to_string().into_bytes(), json!({}))
    };
    let jane_simple = |digest: &str| layer(&forge, &jane(), Format::Simple, digest);
    let jane_bundle = |digest: &str| layer(&forge, &jane(), Format::Bundle, digest);
    let made = |manifest: &dyn Fn(&str, &mut Value), layer: &dyn Fn(&str) -> Layer| {
        Draft { manifest, layer }.chain()
    };
    for (what, chain, trust, wanted) in [
        ("right", made(&right, &docker), &ours, "verified"),
        ("a bundle", made(&right, &bundle), &ours, "verified"),
        ("by Docker's own key", made(&right, &docker), &dockers, "signature"),
        ("another key", made(&right, &somebody), &ours, "signature"),
        ("a lookalike by anybody", made(&right, &jane_simple), &ours, "signature"),
        ("a lookalike by anybody's bundle", made(&right, &jane_bundle), &ours, "material"),
        ("the key on another image", made(&unchanged, &docker), &ours, "material"),
        ("another title", made(&other, &docker), &ours, "chain"),
        ("no build", made(&untitled, &docker), &ours, "chain"),
    ] {
        check(what, &chain, trust, wanted);
    }
    let signers = verify_chain(&made(&right, &docker), &ours, NOW).unwrap();
    let [verified] = &signers.verified[..] else { panic!("one signature") };
    assert!(verified.is_dhi());
    assert_eq!(verified.kind(), SignatureKind::DockerHardenedImage);
    assert_eq!(verified.docker_reference(), "registry.example.com/app");
    assert_eq!(Arc::strong_count(verified), 2, "it is remembered");
}
