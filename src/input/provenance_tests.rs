//! Statements of both versions, broken ones, and arbitrary bytes.

use bytes::Bytes;
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::meta::AttestationBlob;

fn chain(statements: &[(&str, &str)]) -> AttestationChain {
    let blobs = statements.iter().enumerate().map(|(index, (annotation, data))| {
        let annotations = [(PREDICATE_TYPE.to_owned(), (*annotation).to_owned())].into();
        let data = Bytes::copy_from_slice(data.as_bytes());
        let blob = AttestationBlob { media_type: String::new(), annotations, data };
        (format!("sha256:{index}"), blob)
    });
    AttestationChain { blobs: blobs.collect(), ..AttestationChain::default() }
}

fn v1_text() -> String {
    json!({
        "predicateType": SLSA_V1,
        "predicate": {
            "buildDefinition": {
                "buildType": "https://example.com/type",
                "externalParameters": {
                    "configSource": {"uri": "https://example.com/r.git", "digest": {"sha1": "12"}, "path": "Dockerfile"},
                    "request": {
                        "frontend": "dockerfile.v0",
                        "args": {"build-arg:A": "1", "build-arg:": "no", "target": "t", "n": null},
                    },
                },
                "internalParameters": {"builderPlatform": "linux/amd64"},
                "resolvedDependencies": [{"uri": "pkg:docker/a@1", "digest": {"sha256": " ab "}}, {}],
            },
            "runDetails": {
                "builder": {"id": "https://example.com/builder"},
                "metadata": {
                    "invocationID": "run-1",
                    "startedOn": "2024-01-01T01:00:00.5+02:00",
                    "finishedOn": null,
                    "buildkit_hermetic": true,
                    "buildkit_completeness": {"request": true},
                },
            },
        },
    })
    .to_string()
}

fn v02_text() -> String {
    json!({
        "predicateType": SLSA_V02,
        "predicate": {
            "buildType": "https://mobyproject.org/buildkit@v1",
            "builder": {"id": ""},
            "invocation": {
                "configSource": {"entryPoint": "Dockerfile"},
                "parameters": {"frontend": "gateway.v0", "args": {"source": "x"}},
            },
            "metadata": {
                "buildInvocationID": "run-2",
                "buildStartedOn": "2024-01-01T00:00:00Z",
                "completeness": {"parameters": true, "environment": true},
                "reproducible": true,
                "https://mobyproject.org/buildkit@v1#hermetic": true,
            },
            "materials": [{"uri": "https://example.com/x.tgz"}],
        },
    })
    .to_string()
}

#[test]
fn version_1_is_read() {
    let found = read(&chain(&[(SLSA_V1, &v1_text())])).unwrap().statement.unwrap();
    let wanted = json!({
        "predicateType": SLSA_V1,
        "buildType": "https://example.com/type",
        "builderID": "https://example.com/builder",
        "invocationID": "run-1",
        "startedOn": "2023-12-31T23:00:00Z",
        "configSource": {"uri": "https://example.com/r.git", "digest": {"sha1": "12"}, "path": "Dockerfile"},
        "frontend": "dockerfile.v0",
        "buildArgs": {"A": "1"},
        "rawArgs": {"build-arg:": "no", "build-arg:A": "1", "n": "", "target": "t"},
        "reproducible": false,
        "hermetic": true,
        "completeness": {"parameters": true, "materials": false},
    });
    assert_eq!(serde_json::to_value(found.provenance).unwrap(), wanted);
    let material = Material { uri: "pkg:docker/a@1".into(), sha256: "ab".into() };
    assert_eq!(found.materials, [material, Material::default()]);
}

#[test]
fn version_0_2_is_read() {
    let found = read(&chain(&[(SLSA_V02, &v02_text())])).unwrap().statement.unwrap();
    let wanted = json!({
        "predicateType": SLSA_V02,
        "buildType": "https://mobyproject.org/buildkit@v1",
        "invocationID": "run-2",
        "startedOn": "2024-01-01T00:00:00Z",
        "configSource": {"path": "Dockerfile"},
        "frontend": "gateway.v0",
        "rawArgs": {"source": "x"},
        "reproducible": true,
        "hermetic": true,
        "completeness": {"parameters": true, "environment": true, "materials": false},
    });
    assert_eq!(serde_json::to_value(found.provenance).unwrap(), wanted);
    assert_eq!(found.materials.len(), 1);
}

#[test]
fn version_1_comes_first_and_what_cannot_be_read_is_told() {
    let found = read(&chain(&[
        (SLSA_V02, &v02_text()),
        ("https://spdx.dev/Document", &v1_text()),
        (SLSA_V1, "{"),
        (SLSA_V1, &v1_text()),
    ]))
    .unwrap();
    assert_eq!(found.statement.unwrap().provenance.predicate_type, SLSA_V1);
    assert_eq!(found.malformed.len(), 1, "{:?}", found.malformed);
    assert!(found.malformed[0].starts_with("provenance statement sha256:2: "));
}

#[test]
fn statements_that_are_none() {
    for data in [
        "[]".to_owned(),
        "{}".into(),
        r#"{"predicate": null}"#.into(),
        v1_text().replace("2024-01-01T01", "2024-01-01 01"),
        v1_text().replace(r#""run-1""#, "1"),
        v1_text().replace(&format!(r#""predicateType":"{SLSA_V1}""#), r#""predicateType":"other""#),
        v1_text()
            .replace("https://example.com/type", "")
            .replace("https://example.com/builder", ""),
    ] {
        let found = read(&chain(&[(SLSA_V1, &data)])).unwrap();
        assert!(found.statement.is_none(), "{data}");
        assert_eq!(found.malformed.len(), 1, "{data}");
    }
    assert!(read(&chain(&[(SLSA_V1, "")])).unwrap().malformed.is_empty());
}

#[test]
fn too_much_is_an_error_that_names_the_statement() {
    let large = " ".repeat(MAX_STATEMENT + 1);
    let error = read(&chain(&[(SLSA_V1, &large)])).unwrap_err();
    assert_eq!(error, ProvenanceError::TooLarge { digest: "sha256:0".into(), size: large.len() });
    let many = v1_text().replace(",{}]", &format!("{}]", ",{}".repeat(MAX_MATERIALS)));
    let error = read(&chain(&[(SLSA_V1, &many)])).unwrap_err();
    assert_eq!(error, ProvenanceError::TooManyMaterials { digest: "sha256:0".into() });
}

#[test]
fn blobs_are_held_against_their_digests() {
    let mut chain = chain(&[(SLSA_V1, "{}")]);
    let error = verify_blobs(&chain).unwrap_err().to_string();
    assert!(error.contains("sha256:0 is sha256:44136fa3"), "{error}");
    let blob = chain.blobs.remove("sha256:0").unwrap();
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(b"{}")));
    chain.blobs.insert(digest, blob);
    verify_blobs(&chain).unwrap();
}

proptest! {
    #[test]
    fn never_panics(text in "\\PC*", at in 0_usize..900, byte in any::<char>()) {
        let _ = read(&chain(&[(SLSA_V1, &text), (SLSA_V02, &text)]));
        let bent: String = v1_text().chars().enumerate()
            .map(|(index, old)| if index == at { byte } else { old })
            .collect();
        let _ = read(&chain(&[(SLSA_V1, &bent)]));
    }
}
