//! Who stands behind a signature, and every extension of a certificate.

use super::forge::{Rekor, digest, statement};
use super::*;

const BUILDER: &str =
    "https://github.com/docker/github-builder/.github/workflows/build.yml@refs/heads/main";
const HUB: &str = "https://token.actions.githubusercontent.com";

fn workflow(subject: &str, signer: &str, repository: &str, runner: &str) -> Who {
    let extensions = [(8, HUB), (9, signer), (11, runner), (12, repository)];
    Who {
        extensions: extensions.map(|(number, value)| (number, value.to_owned())).to_vec(),
        ..Who::person(subject)
    }
}

#[test]
fn each_kind() {
    let forge = Forge::new(10);
    let own = "https://github.com/our/app/.github/workflows/ci.yml@refs/heads/main";
    let app = "https://github.com/our/app";
    let hosted = "github-hosted";
    for (what, who, wanted) in [
        (
            "Docker's builder",
            workflow(BUILDER, BUILDER, app, hosted),
            SignatureKind::DockerGithubBuilder,
        ),
        ("another's subject", workflow(own, BUILDER, app, hosted), SignatureKind::SelfSigned),
        ("another's signer", workflow(BUILDER, own, app, hosted), SignatureKind::SelfSigned),
        (
            "on one's own runner",
            workflow(BUILDER, BUILDER, app, "self-hosted"),
            SignatureKind::SelfSigned,
        ),
        (
            "a lookalike",
            workflow(&BUILDER.replace("docker/", "docker-/"), BUILDER, app, hosted),
            SignatureKind::SelfSigned,
        ),
        (
            "one's own workflow",
            workflow(own, own, app, hosted),
            SignatureKind::SelfSignedGithubRepo,
        ),
        (
            "another repository's",
            workflow(own, own, "https://github.com/our/ap", hosted),
            SignatureKind::SelfSigned,
        ),
        ("a person", Who::person("jane@example.com"), SignatureKind::SelfSigned),
    ] {
        let leaf = forge.leaf(&who, 100);
        let bundle = forge.attest(&leaf, &statement(SLSA, ARTIFACT), Rekor::V1);
        let verified = super::keyless(&bundle, &root_of(&forge)).unwrap();
        assert_eq!(verified.kind(), wanted, "{what}");
        assert_eq!(serde_json::json!(verified.document())["kind"], serde_json::json!(wanted));
        // Whoever runs another instance may name its authority as they like.
        let private = root("ours", &forge.trusted_root());
        let verified = super::keyless(&bundle, &private).unwrap();
        assert_eq!(verified.kind(), SignatureKind::Untrusted, "{what}");
        // Docker's builder makes bundles.
        let manifest = digest(b"a manifest");
        let (payload, annotations) = forge.simple(&leaf, &manifest);
        let signed = SimpleSigning { payload: &payload, annotations: &annotations };
        let root = root_of(&forge);
        let by = Signer::Keyless(&root);
        let verified = verify_simple_signing(&signed, &manifest, by, NOW).unwrap();
        assert_ne!(verified.kind(), SignatureKind::DockerGithubBuilder, "{what}");
    }
}

#[test]
fn every_extension_has_its_name() {
    let forge = Forge::new(10);
    let mut who = Who::person("https://example.com/workflow");
    who.extensions = (8..=24).map(|number| (number, format!("value {number}"))).collect();
    let bundle = forge.attest(&forge.leaf(&who, 100), &statement(SLSA, ARTIFACT), Rekor::V1);
    let verified = super::keyless(&bundle, &root_of(&forge)).unwrap();
    insta::assert_json_snapshot!(verified.document());
}
