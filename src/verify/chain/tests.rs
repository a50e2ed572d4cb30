//! Chains of attestations, right and broken at each of their joints.

mod signatures;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::*;
use crate::input::SignatureKind;
use crate::verify::sigstore::tests::forge::{
    AT, Forge, Rekor, Who, about, digest, key, public_pem,
};
use crate::verify::sigstore::tests::{NOW, outcome, root};
use crate::verify::sigstore::{HardenedKey, PublicKey, TrustRoots};

const SLSA: &str = PROVENANCE[0];
const COSIGN: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";

/// How the attestations are signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    Bundle,
    Simple,
}

/// One layer of a signature manifest.
type Layer = (&'static str, Vec<u8>, Value);

/// A chain that is being made, and what is done to it on the way.
pub(crate) struct Draft<'a> {
    /// Changes a manifest before those are made that lead to it: `attestation`, `signature`, `index`.
    pub manifest: &'a dyn Fn(&str, &mut Value),
    /// Makes the layer about a digest.
    pub layer: &'a dyn Fn(&str) -> Layer,
}

/// Does nothing to a manifest.
pub(crate) fn unchanged(_: &str, _: &mut Value) {}

impl Draft<'_> {
    pub(crate) fn chain(&self) -> AttestationChain {
        let mut chain = AttestationChain::default();
        let image = put(&mut chain, &json!({"mediaType": OCI_MANIFEST, "layers": []}));
        let statement = json!({
            "mediaType": "application/vnd.in-toto+json", "digest": digest(b"{}"), "size": 2,
            "annotations": {PREDICATE_TYPE: SLSA},
        });
        let mut attestation = json!({
            "mediaType": OCI_MANIFEST, "layers": [statement], "subject": image,
        });
        (self.manifest)("attestation", &mut attestation);
        let attestation = put(&mut chain, &attestation);

        let text = |descriptor: &Value| descriptor["digest"].as_str().unwrap().to_owned();
        let (kind, content, annotations) = (self.layer)(&text(&attestation));
        let layer = json!({
            "mediaType": kind, "digest": digest(&content), "size": content.len(),
            "annotations": annotations,
        });
        let data = content.into();
        chain
            .blobs
            .insert(text(&layer), crate::meta::AttestationBlob { data, ..Default::default() });
        let artifact_type = if kind == BUNDLE { BUNDLE } else { COSIGN };
        let mut signature = json!({
            "mediaType": OCI_MANIFEST, "artifactType": artifact_type, "layers": [layer],
            "subject": attestation,
        });
        (self.manifest)("signature", &mut signature);
        let signature = put(&mut chain, &signature);

        let mut listed = attestation.clone();
        listed["annotations"] = json!({
            REFERENCE_TYPE: "attestation-manifest", REFERENCE_DIGEST: text(&image),
        });
        let mut index = json!({"mediaType": OCI_INDEX, "manifests": [image, listed]});
        (self.manifest)("index", &mut index);
        let index = put(&mut chain, &index);
        chain.root = text(&index);
        chain.image_manifest = text(&image);
        chain.attestation_manifest = text(&attestation);
        chain.signature_manifests = vec![text(&signature)];
        chain
    }
}

/// Adds a manifest and gives its descriptor.
fn put(chain: &mut AttestationChain, manifest: &Value) -> Value {
    let data = manifest.to_string().into_bytes();
    let descriptor =
        json!({"mediaType": manifest["mediaType"], "digest": digest(&data), "size": data.len()});
    let blob = crate::meta::AttestationBlob { data: data.into(), ..Default::default() };
    chain.blobs.insert(descriptor["digest"].as_str().unwrap().to_owned(), blob);
    descriptor
}

/// A layer that somebody signs about a digest.
pub(crate) fn layer(forge: &Forge, who: &Who, format: Format, digest: &str) -> Layer {
    let leaf = forge.leaf(who, 100);
    match format {
        Format::Bundle => {
            let bundle = forge.attest(&leaf, &about(COSIGN_SIGN, digest), Rekor::V1);
            (BUNDLE, bundle.to_string().into_bytes(), json!({}))
        }
        Format::Simple => {
            let (payload, annotations) = forge.simple(&leaf, digest);
            (SIMPLE_SIGNING, payload, json!(annotations))
        }
    }
}

/// Trust in a forge as Sigstore's public instance, and in key 50 for hardened images.
pub(crate) fn trust(json: &Value) -> Trust {
    let mut roots = TrustRoots::embedded().unwrap();
    roots.insert(root("sigstore", json)).unwrap();
    let key = PublicKey::from_pem(public_pem(&key(50)).as_bytes()).unwrap();
    Trust::new(roots).with_hardened(HardenedKey::new(key, AT))
}

/// What becomes of a chain, in one word: of its first signature, where it leads to one.
fn became(chain: &AttestationChain, trust: &Trust) -> (&'static str, String) {
    let result = verify_chain(chain, trust, NOW).and_then(|signers| {
        match (signers.verified.into_iter().next(), signers.refused.into_iter().next()) {
            (Some(verified), _) => Ok(verified),
            (None, refused) => Err(refused.expect("a signature is verified or refused")),
        }
    });
    let words = result.as_ref().err().map(ToString::to_string).unwrap_or_default();
    (outcome(&result), words)
}

#[track_caller]
fn check(what: &str, chain: &AttestationChain, trust: &Trust, wanted: &str) {
    let (became, words) = became(chain, trust);
    assert_eq!(became, wanted, "{what}: {words}");
}

fn jane() -> Who {
    Who::person("jane@example.com")
}

#[test]
fn each_manifest_is_bound_to_the_one_above_it() {
    let forge = Forge::new(10);
    let trust = trust(&forge.trusted_root());
    let nothing = |_: &mut Value| {};
    let other = digest(b"else");
    let set = |pointer: &'static str, value: Value| {
        move |it: &mut Value| *it.pointer_mut(pointer).unwrap() = value.clone()
    };
    let more = |pointer: &'static str, by: i64| {
        move |it: &mut Value| {
            let size = it.pointer_mut(pointer).unwrap();
            *size = (size.as_i64().unwrap() + by).into();
        }
    };
    let without = |name: &'static str| {
        move |it: &mut Value| drop(it.as_object_mut().unwrap().remove(name).unwrap())
    };
    let drop_listed =
        |at: usize| move |it: &mut Value| drop(it["manifests"].as_array_mut().unwrap().remove(at));
    type Change<'a> = Box<dyn Fn(&mut Value) + 'a>;
    let rows: Vec<(&str, &str, Change<'_>, [&str; 2])> = vec![
        ("right", "index", Box::new(nothing), ["verified"; 2]),
        ("the image is not listed", "index", Box::new(drop_listed(0)), ["chain"; 2]),
        ("the attestations are not listed", "index", Box::new(drop_listed(1)), ["chain"; 2]),
        (
            "listed as another thing",
            "index",
            Box::new(set("/manifests/1/annotations/vnd.docker.reference.type", json!("image"))),
            ["chain"; 2],
        ),
        (
            "listed for another image",
            "index",
            Box::new(set("/manifests/1/annotations/vnd.docker.reference.digest", json!(other))),
            ["chain"; 2],
        ),
        (
            "listed without saying why",
            "index",
            Box::new(|it: &mut Value| {
                drop(it["manifests"][1].as_object_mut().unwrap().remove("annotations"))
            }),
            ["chain"; 2],
        ),
        ("an index without manifests", "index", Box::new(without("manifests")), ["chain"; 2]),
        ("an index that is none", "index", Box::new(set("/manifests", json!("x"))), ["chain"; 2]),
        ("attestations of nothing", "attestation", Box::new(without("subject")), ["chain"; 2]),
        (
            "attestations of another",
            "attestation",
            Box::new(set("/subject/digest", json!(other))),
            ["chain"; 2],
        ),
        (
            "attestations of more bytes",
            "attestation",
            Box::new(more("/subject/size", 1)),
            ["chain"; 2],
        ),
        (
            "attestations of fewer bytes",
            "attestation",
            Box::new(more("/subject/size", -1)),
            ["chain"; 2],
        ),
        (
            "attestations of Docker's type",
            "attestation",
            Box::new(set(
                "/subject/mediaType",
                json!("application/vnd.docker.distribution.manifest.v2+json"),
            )),
            ["chain"; 2],
        ),
        ("no provenance", "attestation", Box::new(set("/layers", json!([]))), ["chain"; 2]),
        (
            "another predicate",
            "attestation",
            Box::new(set(
                "/layers/0/annotations/in-toto.io~1predicate-type",
                json!("https://spdx.dev/Document"),
            )),
            ["chain"; 2],
        ),
        (
            "older provenance",
            "attestation",
            Box::new(set("/layers/0/annotations/in-toto.io~1predicate-type", json!(PROVENANCE[1]))),
            ["verified"; 2],
        ),
        ("a signature of nothing", "signature", Box::new(without("subject")), ["chain"; 2]),
        (
            "a signature of another",
            "signature",
            Box::new(set("/subject/digest", json!(other))),
            ["chain"; 2],
        ),
        (
            "a signature of more bytes",
            "signature",
            Box::new(more("/subject/size", 1)),
            ["chain"; 2],
        ),
        (
            "a signature of fewer bytes",
            "signature",
            Box::new(more("/subject/size", -1)),
            ["chain"; 2],
        ),
        (
            "a signature of Docker's type",
            "signature",
            Box::new(set(
                "/subject/mediaType",
                json!("application/vnd.docker.distribution.manifest.v2+json"),
            )),
            ["chain"; 2],
        ),
        (
            "an empty signature manifest",
            "signature",
            Box::new(set("/layers", json!([]))),
            ["chain"; 2],
        ),
        ("no layers at all", "signature", Box::new(without("layers")), ["chain"; 2]),
        (
            "another layer",
            "signature",
            Box::new(set("/layers/0/mediaType", json!("text/plain"))),
            ["chain"; 2],
        ),
        // Docker's engine goes by the type of the artifact for bundles alone.
        (
            "another artifact",
            "signature",
            Box::new(set("/artifactType", json!(""))),
            ["chain", "verified"],
        ),
        (
            "a layer that is not there",
            "signature",
            Box::new(set("/layers/0/digest", json!(other))),
            ["could not: missing"; 2],
        ),
        (
            "a layer by another hash",
            "signature",
            Box::new(set("/layers/0/digest", json!("sha512:00"))),
            ["could not: missing"; 2],
        ),
    ];
    for (at, format) in [Format::Bundle, Format::Simple].into_iter().enumerate() {
        for (what, place, change, wanted) in &rows {
            let manifest = |stage: &str, it: &mut Value| {
                if stage == *place {
                    change(it);
                }
            };
            let layer = |digest: &str| layer(&forge, &jane(), format, digest);
            let chain = Draft { manifest: &manifest, layer: &layer }.chain();
            check(&format!("{what}, {format:?}"), &chain, &trust, wanted[at]);
        }
    }
}

#[test]
fn what_is_given_to_us_is_held_against_its_digest() {
    let forge = Forge::new(10);
    let trust = trust(&forge.trusted_root());
    for format in [Format::Bundle, Format::Simple] {
        let layer = |digest: &str| layer(&forge, &jane(), format, digest);
        let right = Draft { manifest: &unchanged, layer: &layer }.chain();
        let content = |chain: &AttestationChain| {
            let signature: Value =
                serde_json::from_slice(&chain.blobs[&chain.signature_manifests[0]].data).unwrap();
            signature["layers"][0]["digest"].as_str().unwrap().to_owned()
        };
        for (what, name) in [
            ("index", &right.root),
            ("attestations", &right.attestation_manifest),
            ("signature", &right.signature_manifests[0]),
            ("content", &content(&right)),
        ] {
            let mut altered = right.clone();
            let blob = altered.blobs.get_mut(name).unwrap();
            blob.data = [&blob.data[..], b" "].concat().into();
            check(&format!("{what} altered"), &altered, &trust, "chain");
            let mut missing = right.clone();
            missing.blobs.remove(name).unwrap();
            check(&format!("{what} missing"), &missing, &trust, "could not: missing");
            let mut huge = right.clone();
            huge.blobs.get_mut(name).unwrap().data = vec![b' '; (16 << 20) + 1].into();
            check(&format!("{what} huge"), &huge, &trust, "could not: too much");
        }
        type Change = fn(&mut AttestationChain);
        let rows: [(&str, Change, &str); 10] = [
            ("no signature", |it| it.signature_manifests.clear(), "absent"),
            ("no root", |it| it.root.clear(), "could not: missing"),
            ("no attestations", |it| it.attestation_manifest.clear(), "could not: missing"),
            ("no image", |it| it.image_manifest.clear(), "could not: missing"),
            (
                "nothing but a signature",
                |it| {
                    it.root.clear();
                    it.attestation_manifest.clear();
                    it.image_manifest.clear();
                },
                "could not: missing",
            ),
            (
                "a root by another hash",
                |it| {
                    let blob = it.blobs.remove(&it.root).unwrap();
                    it.root = format!("sha512:{}", "0".repeat(128));
                    it.blobs.insert(it.root.clone(), blob);
                },
                "could not: unsupported",
            ),
            (
                "sixteen signatures",
                |it| it.signature_manifests = vec![it.signature_manifests[0].clone(); 16],
                "verified",
            ),
            (
                "seventeen signatures",
                |it| it.signature_manifests = vec![it.signature_manifests[0].clone(); 17],
                "verified",
            ),
            (
                "a good one behind sixteen that are gone",
                |it| {
                    let gone = vec![digest(b"gone"); 16];
                    it.signature_manifests = [gone, it.signature_manifests.clone()].concat();
                },
                "could not: missing",
            ),
            ("another image", |it| it.image_manifest = digest(b"else"), "chain"),
        ];
        for (what, change, wanted) in rows {
            let mut chain = right.clone();
            change(&mut chain);
            check(what, &chain, &trust, wanted);
        }
    }
    assert_eq!(trust.cache.worked(), 2, "each format once");
}
