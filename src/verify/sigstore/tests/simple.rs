//! cosign's simple signing.

use std::collections::BTreeMap;

use super::forge::{b64, digest, key, public_pem, sign, signed, simple_payload};
use super::*;

const LOG: &str = "dev.sigstore.cosign/bundle";
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";
const CERTIFICATE: &str = "dev.sigstore.cosign/certificate";
const CHAIN: &str = "dev.sigstore.cosign/chain";

type Layer = (Vec<u8>, BTreeMap<String, String>);

fn manifest() -> String {
    digest(b"a manifest")
}

fn verify(
    (payload, annotations): &Layer,
    by: Signer<'_>,
) -> Result<VerifiedSignature, NotVerified> {
    verify_simple_signing(&SimpleSigning { payload, annotations }, &manifest(), by, NOW)
}

/// A layer with one annotation changed, or taken out.
fn with(layer: &Layer, name: &str, value: Option<String>) -> Layer {
    let mut annotations = layer.1.clone();
    match value {
        Some(value) => annotations.insert(name.into(), value),
        None => annotations.remove(name),
    };
    (layer.0.clone(), annotations)
}

#[test]
fn keyless() {
    let forge = Forge::new(10);
    let root = root_of(&forge);
    let leaf = person(&forge);
    let right = forge.simple(&leaf, &manifest());
    let verified = verify(&right, Signer::Keyless(&root)).unwrap();
    assert_eq!(verified.signature_type(), SignatureType::SimpleSigningV1);
    assert_eq!(verified.docker_reference(), "registry.example.com/app");
    assert_eq!(verified.payload().unwrap()[..], right.0[..]);
    assert_eq!(verified.signer().unwrap().subject_alternative_name, "jane@example.com");
    assert_eq!(verified.timestamps()[0].uri, "https://rekor.example.com");

    let other = forge.simple(&leaf, &digest(b"else"));
    let late = forge.leaf(&Who { begins: 120, ..Who::person("jane@example.com") }, 100);
    let stranger = Forge::new(30);
    let entry = |change: &dyn Fn(&mut Value)| {
        let mut entry: Value = serde_json::from_str(&right.1[LOG]).unwrap();
        change(&mut entry);
        with(&right, LOG, Some(entry.to_string()))
    };
    for (what, layer, wanted) in [
        ("another manifest", other.clone(), "subject"),
        ("re-tagged payload", (other.0.clone(), right.1.clone()), "signature"),
        ("no signature", with(&right, SIGNATURE, None), "absent"),
        ("empty signature", with(&right, SIGNATURE, Some(String::new())), "absent"),
        (
            "signature of another",
            with(&right, SIGNATURE, Some(other.1[SIGNATURE].clone())),
            "signature",
        ),
        ("signature in no base64", with(&right, SIGNATURE, Some("!".into())), "malformed"),
        ("no certificate", with(&right, CERTIFICATE, None), "material"),
        ("certificate in no PEM", with(&right, CERTIFICATE, Some("x".into())), "malformed"),
        ("no chain", with(&right, CHAIN, None), "verified"),
        ("chain in no PEM", with(&right, CHAIN, Some("x".into())), "malformed"),
        ("no log entry", with(&right, LOG, None), "log"),
        ("log entry of another", with(&right, LOG, Some(other.1[LOG].clone())), "subject"),
        ("log entry in no JSON", with(&right, LOG, Some("{}".into())), "malformed"),
        ("huge log entry", with(&right, LOG, Some("x".repeat(MAX_ANNOTATION + 1))), "malformed"),
        ("later log entry", entry(&|it| it["Payload"]["integratedTime"] = (AT + 61).into()), "log"),
        ("other promise", entry(&|it| flip(&mut it["SignedEntryTimestamp"])), "log"),
        ("other log", entry(&|it| it["Payload"]["logID"] = "00".repeat(32).into()), "log"),
        ("expired certificate", forge.simple(&late, &manifest()), "certificate"),
        ("a stranger's", stranger.simple(&person(&stranger), &manifest()), "log"),
        ("empty", (Vec::new(), right.1.clone()), "signature"),
        ("huge", (vec![b' '; MAX_PAYLOAD + 1], right.1.clone()), "malformed"),
        ("truncated", (right.0[..20].to_vec(), right.1.clone()), "signature"),
    ] {
        check(what, &verify(&layer, Signer::Keyless(&root)), wanted);
    }
    let (name, value) = forge.stamped(&base64_of(&right.1[SIGNATURE]));
    let stamped = with(&right, &name, Some(value.clone()));
    assert_eq!(verify(&stamped, Signer::Keyless(&root)).unwrap().timestamps().len(), 2);
    let wrong = with(&other, &name, Some(value));
    check("timestamp of another", &verify(&wrong, Signer::Keyless(&root)), "time");
}

fn base64_of(text: &str) -> Vec<u8> {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).unwrap()
}

#[test]
fn by_key() {
    let forge = Forge::new(10);
    let root = root_of(&forge);
    let ours = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    let theirs = PublicKey::from_pem(public_pem(&key(51)).as_bytes()).unwrap();
    let alone = forge.simple_by_key(&key(50), &manifest(), false);
    let logged = forge.simple_by_key(&key(50), &manifest(), true);
    let foreign = forge.simple_by_key(&key(51), &manifest(), true);
    let with_foreign = with(&alone, LOG, Some(foreign.1[LOG].clone()));
    let any =
        |payload: &[u8]| (payload.to_vec(), BTreeMap::from([signed(&sign(&key(50), payload))]));
    let text = String::from_utf8(simple_payload(&manifest())).unwrap();
    for (what, layer, key, log, wanted) in [
        ("alone", alone.clone(), &ours, Log::Ignored, "verified"),
        ("alone, required", alone.clone(), &ours, Log::Required(&root), "log"),
        ("alone, where present", alone.clone(), &ours, Log::WherePresent(&root), "verified"),
        ("logged", logged.clone(), &ours, Log::Required(&root), "verified"),
        ("logged, ignored", logged, &ours, Log::Ignored, "verified"),
        ("wrong key", alone, &theirs, Log::Ignored, "signature"),
        ("entry of another", with_foreign.clone(), &ours, Log::WherePresent(&root), "log"),
        ("entry of another, ignored", with_foreign, &ours, Log::Ignored, "verified"),
        (
            "another type",
            any(text.replace("cosign container", "other").as_bytes()),
            &ours,
            Log::Ignored,
            "malformed",
        ),
        ("no JSON", any(b"text"), &ours, Log::Ignored, "malformed"),
        (
            "two digests",
            any(text
                .replace("\"type\"", "\"image\":{\"docker-manifest-digest\":\"x\"},\"type\"")
                .as_bytes()),
            &ours,
            Log::Ignored,
            "malformed",
        ),
        ("another digest", any(&simple_payload(&digest(b"else"))), &ours, Log::Ignored, "subject"),
    ] {
        let result = verify(&layer, Signer::Key(key, log));
        check(what, &result, wanted);
        if let Ok(verified) = result {
            assert_eq!(verified.key(), Some(ours.fingerprint().as_str()));
        }
    }
    assert!(b64("x").ends_with('='));
}

#[test]
fn hardened_images_are_made_by_one_key() {
    let forge = Forge::new(10);
    let root = root_of(&forge);
    let own = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    let since = |since| HardenedKey::new(own.clone(), since);
    let (ours, built_in) = (since(AT), HardenedKey::built_in().unwrap());
    let alone = forge.simple_by_key(&key(50), &manifest(), false);
    let logged = forge.simple_by_key(&key(50), &manifest(), true);
    let signature = sign(&key(50), &alone.0);
    let (name, token) = forge.stamped(&signature);
    let stamped = with(&alone, &name, Some(token));
    let mut other_payload = alone.clone();
    other_payload.0 = simple_payload(&digest(b"else"));
    let flipped = |layer: &Layer| {
        let mut signature = serde_json::json!(layer.1[SIGNATURE]);
        flip(&mut signature);
        with(layer, SIGNATURE, Some(signature.as_str().unwrap().to_owned()))
    };
    let cut = |layer: &Layer| (layer.0[..9].to_vec(), layer.1.clone());
    for (what, layer, hardened, wanted) in [
        ("alone", alone.clone(), &ours, "verified"),
        ("logged", logged.clone(), &ours, "verified"),
        ("stamped", stamped.clone(), &ours, "verified"),
        ("by Docker's own key", alone.clone(), &built_in, "signature"),
        ("another key", forge.simple_by_key(&key(51), &manifest(), false), &ours, "signature"),
        ("a certificate", forge.simple(&person(&forge), &manifest()), &ours, "signature"),
        ("logged before the key was in use", logged.clone(), &since(AT + 61), "time"),
        ("as the key came in use", logged.clone(), &since(AT + 60), "verified"),
        ("stamped before the key was in use", stamped, &since(AT + 61), "time"),
        (
            "another manifest",
            forge.simple_by_key(&key(50), &digest(b"else"), false),
            &ours,
            "subject",
        ),
        ("another payload", other_payload, &ours, "signature"),
        ("a flipped bit", flipped(&alone), &ours, "signature"),
        ("no signature", with(&alone, SIGNATURE, None), &ours, "absent"),
        ("truncated", cut(&alone), &ours, "signature"),
        ("empty", (Vec::new(), alone.1.clone()), &ours, "signature"),
        ("huge", (vec![b' '; MAX_PAYLOAD + 1], alone.1.clone()), &ours, "malformed"),
        (
            "logged by a stranger",
            Forge::new(30).simple_by_key(&key(50), &manifest(), true),
            &ours,
            "log",
        ),
    ] {
        let result = verify(&layer, Signer::DockerHardenedImages(&root, hardened));
        check(what, &result, wanted);
        if let Ok(verified) = result {
            assert!(verified.is_dhi(), "{what}");
            assert_eq!(verified.kind(), SignatureKind::DockerHardenedImage);
            assert_eq!(serde_json::json!(verified.document())["isDHI"], true, "{what}");
        }
    }
    let by_key = verify(&alone, Signer::Key(&own, Log::Ignored)).unwrap();
    assert!(!by_key.is_dhi(), "a key of a policy makes no hardened image");
    // Which key it was is part of what is remembered.
    let cache = VerificationCache::default();
    let signed = SimpleSigning { payload: &logged.0, annotations: &logged.1 };
    for (hardened, wanted) in
        [(&ours, "verified"), (&built_in, "signature"), (&since(AT + 61), "time")]
    {
        let by = Signer::DockerHardenedImages(&root, hardened);
        check("remembered", &cache.simple_signing(&signed, &manifest(), by, NOW), wanted);
    }
}
