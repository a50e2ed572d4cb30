//! Signatures of attestations, and of hardened images.

use super::*;
use crate::verify::sigstore::tests::forge::{Certified, PublicKey as PublicBits};

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
            let bundle = forge.attest_as(&by, &about(SLSA, digest), Rekor::V1);
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
        let bundle = forge.attest_by_key(&key(9), &about(SLSA, digest), Some(Rekor::V1));
        (BUNDLE, bundle.to_string().into_bytes(), json!({}))
    };
    let by_key = Draft { manifest: &unchanged, layer: &by_key }.chain();
    check("a key's bundle", &by_key, &right, "material");
    // One that holds counts beside one that does not, and both are spoken of.
    let mut two = signed(&forge, &jane(), Format::Bundle, None);
    two.signature_manifests.insert(0, digest(b"gone"));
    let signers = verify_chain(&two, &right, NOW).unwrap();
    assert_eq!((signers.verified.len(), signers.refused.len()), (1, 1));
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
        let mut chains = sizes.iter().map(|(size, about)| padded(*size, *about));
        let mut joined = chains.next().unwrap();
        for chain in chains {
            assert_eq!(joined.attestation_manifest, chain.attestation_manifest);
            joined.signature_manifests.extend(chain.signature_manifests);
            joined.blobs.extend(chain.blobs);
        }
        joined
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
        let refused: Vec<&str> =
            signers.refused.into_iter().map(|it| outcome::<()>(&Err(it))).collect();
        assert_eq!(refused, wanted, "{what}");
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
        let bundle = forge.attest_by_key(&key(50), &about(SLSA, digest), Some(Rekor::V1));
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
