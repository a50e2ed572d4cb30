//! What signs an image's attestations, in registries that are played on loopback.

use super::*;
use crate::resolve::registry::chain::{COSIGN_SIGNATURE, SIGSTORE_BUNDLE, SIMPLE_SIGNING};

/// A manifest with these layers, and how a list of referrers names it.
fn signing(store: &mut Store, kind: &str, layers: &[Value]) -> Value {
    let empty = store.blob("application/vnd.oci.empty.v1+json", b"{}");
    let mut described =
        store.document(OCI_MANIFEST, None, &json!({"config": empty, "layers": layers}));
    described["artifactType"] = json!(kind);
    described
}

/// A bundle that says this, and the manifest that holds it.
fn bundle(store: &mut Store, text: &str) -> (Value, Value) {
    let layer = store.blob(SIGSTORE_BUNDLE, text.as_bytes());
    (signing(store, SIGSTORE_BUNDLE, std::slice::from_ref(&layer)), layer)
}

fn name(descriptor: &Value) -> &str {
    descriptor["digest"].as_str().unwrap()
}

/// The chain of an image whose attestations these refer to, by the referrers API or by the tag that
/// stands in for it.
async fn chain(mut store: Store, referrers: &[Value], by_tag: bool) -> AttestationChain {
    let expected = attested(&mut store, OCI_INDEX);
    let list = json!({"schemaVersion": 2, "manifests": referrers}).to_string();
    let path = match by_tag {
        true => {
            format!("/v2/acme/app/manifests/{}", expected.attestation_manifest.replace(':', "-"))
        }
        false => format!("/v2/acme/app/referrers/{}", expected.attestation_manifest),
    };
    store.0.insert(path, Reply::ok(OCI_INDEX, list));
    let server = Server::start(serving(store)).await;
    let (network, _folder) = network("{}", |_| {});
    ask(&network, &server.host, CHAIN).await.unwrap().attestations.unwrap()
}

#[tokio::test]
async fn all_that_signs_attestations_is_given_and_bundles_first() {
    for by_tag in [false, true] {
        let mut store = Store::default();
        let (first, one) = bundle(&mut store, "{\"bundle\":1}");
        let (second, two) = bundle(&mut store, "{\"bundle\":2}");
        let payload = store.blob(SIMPLE_SIGNING, b"{\"critical\":{}}");
        let note = store.blob("text/plain", b"a note");
        let simple = signing(&mut store, COSIGN_SIGNATURE, &[note.clone(), payload.clone()]);
        // One that is gone, one that is an index, one that is named twice, and what signs nothing.
        let mut gone = first.clone();
        gone["digest"] = json!(format!("sha256:{}", "0".repeat(64)));
        let mut index = store.document(OCI_INDEX, None, &json!({"manifests": []}));
        index["artifactType"] = json!(SIGSTORE_BUNDLE);
        let sbom = signing(&mut store, "application/spdx+json", &[]);
        let referrers = [&sbom, &simple, &gone, &first, &index, &second, &first].map(Clone::clone);
        let chain = chain(store, &referrers, by_tag).await;
        let wanted = [&gone, &first, &index, &second, &simple].map(name);
        assert_eq!(chain.signature_manifests, wanted);
        for (what, descriptor, given) in [
            ("gone", &gone, false),
            ("first", &first, true),
            ("its bundle", &one, true),
            ("second", &second, true),
            ("its bundle", &two, true),
            ("simple", &simple, true),
            ("its payload", &payload, true),
            ("its note", &note, false),
            ("sbom", &sbom, false),
        ] {
            assert_eq!(chain.blobs.contains_key(name(descriptor)), given, "{what}, {by_tag}");
        }
    }
}

#[tokio::test]
async fn signatures_beyond_the_bounds_are_named_and_not_given() {
    // 16 are looked at; that there are more is said.
    let mut store = Store::default();
    let many: Vec<(Value, Value)> =
        (0..40).map(|at| bundle(&mut store, &format!("{{\"bundle\":{at}}}"))).collect();
    let referrers: Vec<Value> = many.iter().map(|(manifest, _)| manifest.clone()).collect();
    let found = chain(store, &referrers, false).await;
    assert_eq!(found.signature_manifests.len(), 17);
    let given = many.iter().filter(|(_, bundle)| found.blobs.contains_key(name(bundle))).count();
    assert_eq!(given, 16);
    // One that is larger than anything that is read takes nothing away from the others.
    let mut store = Store::default();
    let claimed = json!({
        "mediaType": SIGSTORE_BUNDLE, "digest": format!("sha256:{}", "7".repeat(64)), "size": 1u64 << 40,
    });
    let huge = signing(&mut store, SIGSTORE_BUNDLE, std::slice::from_ref(&claimed));
    let (small, right) = bundle(&mut store, "{\"bundle\":1}");
    let found = chain(store, &[huge.clone(), small.clone()], false).await;
    assert_eq!(found.signature_manifests, [&huge, &small].map(name));
    assert!(found.blobs.contains_key(name(&right)) && !found.blobs.contains_key(name(&claimed)));
}

#[tokio::test]
async fn what_refers_and_has_no_type_may_be_a_signature() {
    for (kind, wanted) in [(None, false), (Some("application/spdx+json"), true)] {
        let mut store = Store::default();
        let expected = attested(&mut store, OCI_INDEX);
        let mut other = store.document(OCI_MANIFEST, None, &json!({"layers": []}));
        if let Some(kind) = kind {
            other["artifactType"] = json!(kind);
        }
        let list = json!({"schemaVersion": 2, "manifests": [other]}).to_string();
        let path = format!("/v2/acme/app/referrers/{}", expected.attestation_manifest);
        store.0.insert(path, Reply::ok(OCI_INDEX, list));
        let server = Server::start(serving(store)).await;
        let (network, _folder) = network("{}", |_| {});
        let answer = ask(&network, &server.host, CHAIN).await;
        assert_eq!(answer.is_ok(), wanted, "{kind:?}");
    }
}
