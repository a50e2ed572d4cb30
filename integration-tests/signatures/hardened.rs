//! Docker Hardened Images in a real registry, by a key of our own in place of Docker's: the program has
//! no other key than Docker's, so a gate in this process is given one. What the program itself must do
//! is to refuse them.

use buildgate::gate::ops::{PolicySets, Settings};
use buildgate::verify::sigstore::{HardenedKey, PublicKey};
use serde_json::{Value, json};

use super::doors::{Door, built, check};
use super::{BUNDLE, COSIGN_SIGN, INDEX, Layer, Repository, SIMPLE, SLSA, layer, policy};
use crate::forge::{AT, Forge, Rekor, Who, about, key, public_pem};
use crate::gate_enforce::Gate;
use crate::peers::{self, World, need};

const IN_TOTO: &str = "application/vnd.in-toto+json";
const COSIGN: &str = "application/vnd.dev.cosign.artifact.sig.v1+json";
/// Only Docker's key makes these.
const RULE: &str = "some signature in input.image.signatures\n\
                    signature.isDHI\n\
                    signature.kind == \"docker-hardened-image\"";

/// An image as Docker lays out its hardened ones: the index names what they were built by, and the
/// attestations refer to the image. Gives the digest of the attestations.
async fn hardened(repository: &Repository<'_>, tag: &str, title: &str) -> String {
    let export = ",oci-mediatypes=true,oci-artifact=true";
    let label = "label:com.docker.dhi.name=dhi/app";
    repository.build(tag, &["attest:provenance=mode=max,version=v1", label], export);
    let index = repository.world.registry.manifest(repository.name, tag).await;
    let index: Value = serde_json::from_slice(&index).unwrap();
    let attestation = repository.attestation(tag).await;
    let listed = index["manifests"].as_array().unwrap();
    let mut image = listed.iter().find(|it| it["digest"] != attestation).unwrap().clone();
    let mut described = repository.described(&attestation).await;
    described["artifactType"] = IN_TOTO.into();
    described["annotations"] = json!({"in-toto.io/predicate-type": SLSA});
    repository.refer_by(&image, &[described]).await;
    image["annotations"] = json!({"com.docker.dhi.build.id": "7"});
    let index = json!({
        "schemaVersion": 2, "mediaType": INDEX, "manifests": [image],
        "annotations": {"org.opencontainers.image.title": title},
    });
    repository.put(tag, INDEX, &index).await;
    attestation
}

fn gate(world: &World, rule: &str, root: &str, seed: u8) -> Gate {
    let rules = policy(rule);
    let dir = peers::folder(&[("root.json", root)]);
    std::fs::create_dir(dir.path().join("policy")).unwrap();
    std::fs::write(dir.path().join("policy/p.rego"), rules).unwrap();
    let named = [("default".to_owned(), vec![dir.path().join("policy")])];
    let roots = vec![("sigstore".to_owned(), dir.path().join("root.json"))];
    let own = PublicKey::from_pem(public_pem(&key(seed)).as_bytes()).unwrap();
    let sets = PolicySets::hardened(named, roots, HardenedKey::new(own, AT)).unwrap();
    Gate::judging(world, dir, &sets, Settings::default(), None)
}

#[test]
fn hardened_images_are_told_by_their_key() {
    let world = need!(peers::world());
    // A gate in this process has a runtime of its own.
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let repository = Repository { world, name: "signed/hardened" };
    let forge = Forge::new(110);
    let root = forge.trusted_root().to_string();
    let ours = gate(world, RULE, &root, 50);
    let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
    let keyed =
        |seed: u8, digest: &str| layer(SIMPLE, forge.simple_by_key(&key(seed), digest, false));
    let bundle = |bundle: Value| -> Layer { (BUNDLE, bundle.to_string().into_bytes(), json!({})) };
    // An image for each: a daemon remembers the attestations of one that it has seen.
    for (tag, title, wanted) in [
        ("right", "dhi/app", Ok("@sha256:")),
        // Docker's engine gives that kind only to what names the image, and a bundle does not.
        ("right-bundle", "dhi/app", Err("DENY")),
        ("another-key", "dhi/app", Err("the signature does not match")),
        ("of-another", "dhi/app", Err("about something else")),
        ("tampered", "dhi/app", Err("the signature does not match")),
        ("by-anybody", "dhi/app", Err("the signature does not match")),
        (
            "bundle-by-anybody",
            "dhi/app",
            Err("it was made with a certificate, and a key is wanted"),
        ),
        ("unsigned", "dhi/app", Err("the image's attestations are not signed")),
        // Whoever leaves out the title is anybody, and the key is nobody's certificate.
        ("untitled", "app", Err("DENY")),
    ] {
        let (attestation, subject, image) = runtime.block_on(async {
            let attestation = hardened(&repository, tag, title).await;
            let subject = repository.described(&attestation).await;
            (attestation, subject, repository.digest(tag).await)
        });
        let signature = match tag {
            "another-key" => Some(keyed(51, &attestation)),
            "of-another" => Some(keyed(50, &image)),
            "tampered" => {
                let mut layer = keyed(50, &attestation);
                let text = String::from_utf8(layer.1).unwrap();
                layer.1 = text.replace("registry.example.com", "registry.example.net").into_bytes();
                Some(layer)
            }
            "by-anybody" => Some(layer(SIMPLE, forge.simple(&leaf, &attestation))),
            "bundle-by-anybody" => {
                Some(bundle(forge.attest(&leaf, &about(COSIGN_SIGN, &attestation), Rekor::V1)))
            }
            "right-bundle" => {
                let statement = about(COSIGN_SIGN, &attestation);
                Some(bundle(forge.attest_by_key(&key(50), &statement, Some(Rekor::V1))))
            }
            "unsigned" => None,
            _ => Some(keyed(50, &attestation)),
        };
        if let Some(layer) = signature {
            let kind = if layer.0 == BUNDLE { BUNDLE } else { COSIGN };
            runtime.block_on(repository.refer(&subject, kind, &[layer]));
        }
        let dockerfile = format!("FROM {}\nCOPY Dockerfile /x\n", repository.reference(tag));
        let context = peers::folder(&[("Dockerfile", &dockerfile)]);
        let came = ours.build(context.path(), &[]);
        check(tag, &came, wanted);
        if tag != "right" {
            continue;
        }
        // Docker's own key, which is all that the program knows, has not made it.
        for (door, name) in [(Door::Gate, "gate"), (Door::Frontend, "frontend")] {
            let came = built(world, door, &dockerfile, (RULE, &[]));
            let what = format!("{tag}, the program's {name}");
            check(&what, &came, Err("the signature does not match"));
        }
        let ran = repository.judged(tag, RULE, &[], "");
        super::check(&format!("{tag}, check"), &ran, 1, "the signature does not match");
    }
}
