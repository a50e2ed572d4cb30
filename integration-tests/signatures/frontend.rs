//! Rules about signatures behind `# syntax=`, in real builds.

use serde_json::json;

use super::{BUNDLE, COSIGN_SIGN, Repository, policy};
use crate::forge::{Forge, Rekor, Who, about, key, public_pem};
use crate::frontend;
use crate::peers::{self, World, need};

/// The frontend's image with a trust root of the organisation in it.
fn frontend_with(world: &World, root: &str) -> String {
    let context = tempfile::tempdir().unwrap();
    let base = frontend::image(world);
    let dockerfile = format!("FROM {base}\nCOPY root.json /etc/buildgate/trust/sigstore.json\n");
    std::fs::write(context.path().join("Dockerfile"), dockerfile).unwrap();
    std::fs::write(context.path().join("root.json"), root).unwrap();
    let image = world.image("buildgate:trusting");
    world.buildkit.push(context.path(), &image, &[], "");
    image
}

#[tokio::test(flavor = "multi_thread")]
async fn the_frontend_asks_who_signed() {
    let world = need!(peers::world());
    let repository = Repository { world, name: "signed/built" };
    let export = ",oci-mediatypes=true,oci-artifact=true";
    for tag in ["signed", "foreign", "unsigned"] {
        repository.build(tag, &["attest:provenance=mode=max,version=v1"], export);
    }
    let forge = Forge::new(44);
    for (tag, forge) in [("signed", &forge), ("foreign", &Forge::new(50))] {
        let leaf = forge.leaf(&Who::person("jane@example.com"), 100);
        let attestation = repository.attestation(tag).await;
        let subject = repository.described(&attestation).await;
        let bundle = forge.attest(&leaf, &about(COSIGN_SIGN, &attestation), Rekor::V1).to_string();
        repository.refer(&subject, BUNDLE, &[(BUNDLE, bundle.into_bytes(), json!({}))]).await;
    }

    let frontend = frontend_with(world, &forge.trusted_root().to_string());
    let by = |name: &str| {
        format!(
            "some signature in input.image.signatures\n\
             signature.signer.subjectAlternativeName == \"{name}\""
        )
    };
    let cosigned = "verify_image_signature(input.image, {\"key\": \"cosign.pub\"})";
    let pem = public_pem(&key(9));
    let check = |about: &str, tag: &str, rule: &str, wanted: Result<&str, &str>| {
        let context = tempfile::tempdir().unwrap();
        let dockerfile = format!("FROM {}\nCOPY Dockerfile /x\n", repository.reference(tag));
        let rules = policy(rule);
        for (name, text) in
            [("Dockerfile", &dockerfile), ("Dockerfile.rego", &rules), ("cosign.pub", &pem)]
        {
            std::fs::write(context.path().join(name), text).unwrap();
        }
        let built = frontend::build(world, &frontend, context.path(), &[]);
        let (Ok(words) | Err(words)) = wanted;
        assert_eq!(built.passed, wanted.is_ok(), "{about}: {}", built.said);
        assert!(built.said.contains(words), "{about}: {words:?} is not in: {}", built.said);
    };
    let by_jane = by("jane@example.com");
    check("signed", "signed", &by_jane, Ok(""));
    let another = by("john@example.com");
    check("by another", "signed", &another, Err("came nearest to allowing it"));
    check("by another authority", "foreign", &by_jane, Err("sigstore does not vouch for it"));
    check("unsigned", "unsigned", &by_jane, Err("attestations are not signed"));
    check("on the image", "signed", cosigned, Err("`buildgate check` verify it"));
    let moved = ["attest:provenance=mode=max,version=v1", "label:moved=yes"];
    repository.build("signed", &moved, export);
    check("re-tagged", "signed", &by_jane, Err("attestations are not signed"));
}
