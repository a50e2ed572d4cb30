//! Sources and what is known of them, and the document that comes of it.

use bytes::Bytes;
use serde_json::{Value, json};

use super::*;
use crate::meta::{AttestationBlob, GitMeta, SourceMeta};

const DIGEST: &str = "sha256:abababababababababababababababababababababababababababababababab";
const SSH_COMMIT: &[u8] = include_bytes!("fixtures/ssh-commit");
const PGP_TAG: &[u8] = include_bytes!("fixtures/pgp-tag");
const COMMIT: &str = "38bd4abd34eeacfbae2db4e88c0ff838b9af6a0b";
const TAG: &str = "8954fc123aeb5ca7fa29e17eee1a548e2e0d7674";

fn op(identifier: &str, attrs: &[(&str, &str)]) -> SourceOp {
    let attrs = attrs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect();
    SourceOp { identifier: identifier.into(), attrs }
}

fn input(op: &SourceOp, known: &Known) -> Result<(Input, Vec<Note>), InputError> {
    let source = Source::parse(op).unwrap();
    let platform = Platform::default();
    let document = build(op, &source, &platform, known, &Env::default())?;
    Ok((document.input, document.notes))
}

/// The document without `env`, what is unresolved in it, and what cannot be verified.
fn check(op: &SourceOp, root: SourceMeta) -> (Value, Vec<&'static str>, Vec<&'static str>) {
    let (input, _) = input(op, &Known { root, ..Known::default() }).unwrap();
    let mut value = serde_json::to_value(&input).unwrap();
    assert!(jsonschema::is_valid(&crate::input::schema(), &value), "{value}");
    value.as_object_mut().unwrap().remove("env");
    let names = |fields: FieldSet| fields.iter().map(|field| field.path().1).collect();
    (value, names(input.unresolved), names(input.unverifiable))
}

fn image(meta: ImageMeta) -> SourceMeta {
    SourceMeta { image: Some(meta), ..SourceMeta::default() }
}

fn git_meta() -> GitMeta {
    GitMeta {
        checksum: TAG.into(),
        reference: "refs/tags/v1".into(),
        commit_checksum: COMMIT.into(),
        commit_object: Some(Bytes::from_static(SSH_COMMIT)),
        tag_object: Some(Bytes::from_static(PGP_TAG)),
    }
}

fn of_git(meta: GitMeta) -> SourceMeta {
    SourceMeta { git: Some(meta), ..SourceMeta::default() }
}

const OF_CONFIG: [&str; 6] = ["createdTime", "labels", "user", "volumes", "workingDir", "env"];
const OF_CHAIN: [&str; 3] = ["hasProvenance", "provenance", "signatures"];

#[test]
fn an_image_by_its_reference_alone() {
    let (value, unresolved, _) = check(&op("docker-image://alpine:3", &[]), SourceMeta::default());
    let wanted = json!({"image": {
        "ref": "docker.io/library/alpine:3", "host": "docker.io", "repo": "alpine",
        "fullRepo": "docker.io/library/alpine", "tag": "3", "platform": "linux/amd64",
        "os": "linux", "arch": "amd64",
    }});
    assert_eq!(value, wanted);
    assert_eq!(unresolved, [["checksum"].as_slice(), &OF_CONFIG, &OF_CHAIN].concat());
    let pinned = op(&format!("docker-image://alpine@{DIGEST}"), &[]);
    let (value, unresolved, _) = check(&pinned, SourceMeta::default());
    assert_eq!(value["image"]["checksum"], DIGEST);
    assert_eq!(value["image"]["isCanonical"], true);
    assert_eq!(unresolved, [OF_CONFIG.as_slice(), &OF_CHAIN].concat());
}

#[test]
fn an_image_by_its_config() {
    let config = json!({
        "created": "2024-05-06T07:08:09.9+02:00",
        "config": {
            "User": "root", "Env": ["A=b", null], "Labels": {"l": "1"}, "WorkingDir": "/w",
            "Volumes": {"/b": {}, "/a": {}},
        },
    });
    let meta = ImageMeta {
        digest: Some(DIGEST.into()),
        config: Some(config.to_string().into()),
        attestations: None,
    };
    let (value, unresolved, _) = check(&op("docker-image://alpine:3", &[]), image(meta));
    for (field, wanted) in [
        ("checksum", json!(DIGEST)),
        ("createdTime", json!("2024-05-06T07:08:09+02:00")),
        ("user", json!("root")),
        ("env", json!(["A=b", ""])),
        ("labels", json!({"l": "1"})),
        ("volumes", json!(["/a", "/b"])),
        ("workingDir", json!("/w")),
    ] {
        assert_eq!(value["image"][field], wanted, "{field}");
    }
    assert_eq!(unresolved, OF_CHAIN);
}

#[test]
fn an_answer_that_lacks_what_was_asked_for_leaves_it_unresolved() {
    let (_, unresolved, _) =
        check(&op("docker-image://alpine:3", &[]), image(ImageMeta::default()));
    assert_eq!(unresolved, [["checksum"].as_slice(), &OF_CONFIG, &OF_CHAIN].concat());
    let file = SourceMeta { http: Some(HttpMeta::default()), ..SourceMeta::default() };
    assert_eq!(check(&op("https://host/x", &[]), file).1, ["checksum"]);
    let plain = of_git(GitMeta { commit_object: None, tag_object: None, ..git_meta() });
    assert_eq!(check(&op("git://host/x.git#v1", &[]), plain).1, ["tag", "commit"]);
    let no_tag = of_git(GitMeta { tag_object: None, ..git_meta() });
    assert_eq!(check(&op("git://host/x.git#v1", &[]), no_tag).1, ["tag"]);
}

#[test]
fn image_signatures_that_are_there_cannot_be_verified() {
    for (signatures, wanted) in [(vec![], vec![]), (vec![DIGEST.into()], vec!["signatures"])] {
        let chain = AttestationChain {
            attestation_manifest: DIGEST.into(),
            signature_manifests: signatures,
            ..AttestationChain::default()
        };
        let meta = ImageMeta { attestations: Some(chain), ..ImageMeta::default() };
        let (value, _, unverifiable) = check(&op("docker-image://alpine:3", &[]), image(meta));
        assert_eq!(value["image"]["hasProvenance"], true);
        assert_eq!(unverifiable, wanted);
    }
}

#[test]
fn sources_that_say_all_of_themselves() {
    let blob = format!("docker-image+blob://ghcr.io/a/b@{DIGEST}");
    for (identifier, attrs, wanted) in [
        ("local://context", vec![], json!({"local": {"name": "context"}})),
        (
            blob.as_str(),
            vec![],
            json!({"blob": {"scheme": "docker-image+blob", "host": "ghcr.io", "fullRepo": "ghcr.io/a/b", "digest": DIGEST}}),
        ),
        (
            "https://host/a%20b?x=1&x=2",
            vec![("http.checksum", DIGEST), ("http.authheadersecret", "s")],
            json!({"http": {
                "url": "https://host/a%20b?x=1&x=2", "schema": "https", "host": "host", "path": "/a b",
                "query": {"x": ["1", "2"]}, "hasAuth": true, "declaredChecksum": DIGEST,
            }}),
        ),
    ] {
        assert_eq!(check(&op(identifier, &attrs), SourceMeta::default()).0, wanted);
    }
}

#[test]
fn a_git_reference_by_its_form() {
    let resolvable = ["checksum", "commitChecksum", "isAnnotatedTag", "isSHA256", "tag", "commit"];
    let all = [["tagName", "branch", "ref"].as_slice(), &resolvable].concat();
    for (fragment, wanted, unresolved) in [
        ("", json!({}), all.clone()),
        ("#v1", json!({}), all.clone()),
        ("#refs/pull/1/head", json!({}), all),
        ("#refs/tags/v1", json!({"tagName": "v1", "ref": "refs/tags/v1"}), resolvable.to_vec()),
        ("#refs/heads/m", json!({"branch": "m", "ref": "refs/heads/m"}), resolvable.to_vec()),
        (
            "#38bd4abd34eeacfbae2db4e88c0ff838b9af6a0b",
            json!({"isCommitRef": true, "checksum": COMMIT, "commitChecksum": COMMIT, "ref": COMMIT}),
            vec!["tag", "commit"],
        ),
    ] {
        let (value, got, _) =
            check(&op(&format!("git://host/x.git{fragment}"), &[]), SourceMeta::default());
        let mut git = value["git"].clone();
        for field in ["schema", "host", "remote"] {
            git.as_object_mut().unwrap().remove(field).unwrap();
        }
        assert_eq!(git, wanted, "{fragment}");
        assert_eq!(got, unresolved, "{fragment}");
    }
}

#[test]
fn a_git_tag_by_its_objects() {
    let (value, unresolved, unverifiable) =
        check(&op("git://host/x.git#v1", &[]), of_git(git_meta()));
    assert_eq!((unresolved, unverifiable), (vec![], vec![]));
    let git = &value["git"];
    assert_eq!(git["isAnnotatedTag"], true);
    assert_eq!(git["tag"]["pgpSignature"], json!({"version": 4, "keyID": "459fa3038e19af4b"}));
    assert_eq!(git["tag"]["tagger"]["when"], "2023-11-14T14:13:21-08:00");
    assert_eq!(git["commit"]["sshSignature"]["version"], 1);
    assert_eq!(git["commit"]["message"], "ssh signed\n\nbody");
}

#[test]
fn objects_that_are_not_what_they_are_served_as_are_errors() {
    let commit = Some(Bytes::from_static(b"tree 1\nauthor a\ncommitter a\n\nforged\n"));
    let other = "https://host/x.git";
    for (fragment, meta, wanted) in [
        ("v1", GitMeta { commit_object: commit, ..git_meta() }, "the commit object served as 38bd"),
        (
            "refs/tags/v9",
            git_meta(),
            "refs/tags/v9 is served with a tag object that names itself `v1`",
        ),
        (
            "v9",
            GitMeta { reference: "refs/tags/v9".into(), ..git_meta() },
            "refs/tags/v9 is served",
        ),
        ("m", GitMeta { reference: "refs/heads/m".into(), ..git_meta() }, "refs/heads/m is served"),
        ("v1", GitMeta { checksum: COMMIT.into(), ..git_meta() }, "the tag object served as 38bd"),
    ] {
        let source = op(&format!("git://host/x.git#{fragment}"), &[("git.fullurl", other)]);
        let error = input(&source, &Known { root: of_git(meta), ..Known::default() }).unwrap_err();
        assert!(error.to_string().contains(wanted), "{error}");
    }
}

#[test]
fn a_tag_is_tied_to_its_commit() {
    let of_type = |kind: &str, object: &str| {
        let raw = format!("object {object}\ntype {kind}\ntag v1\ntagger a <b> 1 +0000\n\nm\n");
        let hash = {
            use sha1_checked::Digest as _;
            sha1_checked::Sha1::digest(format!("tag {}\0{raw}", raw.len()))
        };
        of_git(GitMeta { checksum: hex::encode(hash), tag_object: Some(raw.into()), ..git_meta() })
    };
    let source = op("git://host/x.git#v1", &[]);
    assert_eq!(check(&source, of_type("commit", COMMIT)).2, Vec::<&str>::new());
    let (value, unresolved, unverifiable) = check(&source, of_type("tag", TAG));
    assert_eq!((unresolved, unverifiable), (vec![], vec!["tag"]));
    assert_eq!(value["git"]["tag"], Value::Null);
    for root in [of_type("commit", TAG), of_type("tree", COMMIT)] {
        let error = input(&source, &Known { root, ..Known::default() }).unwrap_err();
        assert!(matches!(error, InputError::TagTarget { .. }), "{error}");
    }
}

#[test]
fn an_answer_about_another_image_is_an_error() {
    let meta = ImageMeta { digest: Some("sha256:00".into()), ..ImageMeta::default() };
    let source = op(&format!("docker-image://alpine@{DIGEST}"), &[]);
    let error = input(&source, &Known { root: image(meta), ..Known::default() }).unwrap_err();
    assert!(matches!(error, InputError::OtherImage { .. }), "{error}");
}

/// An image whose provenance has these materials.
fn built_of(uris: &[&str]) -> SourceMeta {
    let materials: Vec<Value> = uris.iter().map(|uri| json!({"uri": uri})).collect();
    let statement = json!({
        "predicateType": "https://slsa.dev/provenance/v0.2",
        "predicate": {"buildType": "t", "materials": materials},
    });
    let annotation =
        ("in-toto.io/predicate-type".into(), "https://slsa.dev/provenance/v0.2".into());
    let blob = AttestationBlob {
        annotations: [annotation].into(),
        data: statement.to_string().into(),
        ..AttestationBlob::default()
    };
    let chain =
        AttestationChain { blobs: [(DIGEST.into(), blob)].into(), ..AttestationChain::default() };
    image(ImageMeta { attestations: Some(chain), ..ImageMeta::default() })
}

#[test]
fn materials_are_inputs_of_their_own() {
    let root = built_of(&[
        "pkg:docker/ghcr.io%2Facme%2Fbase@1?platform=linux%2Farm64",
        "https://github.com/acme/app.git#refs/heads/main",
        "https://dl.example.com/ok/../x.tgz",
        "git@github.com:acme/lib.git#v1:dir",
        "pkg:oci/x@1",
        "https://dl.example.com/x.tgz",
    ]);
    let known = Known {
        root,
        materials: [(vec![0], built_of(&["pkg:docker/a"]))].into(),
        ..Known::default()
    };
    let source = op("docker-image://app", &[]);
    let parsed = Source::parse(&source).unwrap();
    let platform = Platform::default();
    let document = build(&source, &parsed, &platform, &known, &Env::default()).unwrap();
    let value = serde_json::to_value(&document.input).unwrap();
    assert!(jsonschema::is_valid(&crate::input::schema(), &value), "{value}");
    let provenance = &value["image"]["provenance"];
    let materials = &provenance["materials"];
    assert_eq!(materials[0]["image"]["platform"], "linux/arm64");
    assert_eq!(materials[0]["image"]["provenance"]["materials"][0]["env"]["depth"], 2);
    assert_eq!(materials[1]["git"]["branch"], "main");
    assert_eq!(materials[1]["git"]["remote"], "https://github.com/acme/app.git");
    assert_eq!(materials[3]["http"]["host"], "dl.example.com");
    assert_eq!(materials.as_array().map(Vec::len), Some(4));
    let unsupported = json!(["https://dl.example.com/ok/../x.tgz", "pkg:oci/x@1"]);
    assert_eq!(provenance["unsupportedMaterials"], unsupported);
    assert_eq!(document.notes.len(), 2);
    for (path, identifier) in [
        (vec![], "docker-image://app"),
        (vec![0], "docker-image://ghcr.io/acme/base:1"),
        (vec![0, 0], "docker-image://docker.io/library/a:latest"),
        (vec![1], "git://github.com/acme/app.git#refs/heads/main"),
        (vec![2], "git://github.com/acme/lib.git#v1:dir"),
        (vec![3], "https://dl.example.com/x.tgz"),
    ] {
        assert_eq!(document.node.at(&path).unwrap().op.identifier, identifier);
    }
    assert_eq!(document.node.at(&[4]), None);
    assert_eq!(document.node.at(&[0, 0]).unwrap().platform.to_string(), "linux/arm64");
}

#[test]
fn materials_of_materials_end() {
    let meta = built_of(&["pkg:docker/app"]);
    let mut known = Known { root: meta.clone(), ..Known::default() };
    let source = op("docker-image://app", &[]);
    for depth in 1..MAX_DEPTH {
        known.materials.insert(vec![0; depth], meta.clone());
    }
    input(&source, &known).unwrap();
    known.materials.insert(vec![0; MAX_DEPTH], meta);
    let error = input(&source, &known).unwrap_err();
    assert!(error.to_string().ends_with("nested more than 24 deep"), "{error}");
}

#[test]
fn the_schema_stands() {
    let schema = crate::input::schema();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    let image = &schema["$defs"]["Image"]["properties"];
    for field in Field::ALL {
        let (object, name) = field.path();
        let definition = ["Image", "Http", "Git"]
            .into_iter()
            .find(|it| it.eq_ignore_ascii_case(object))
            .unwrap();
        let property = &schema["$defs"][definition]["properties"][name];
        assert!(
            property["description"].is_string() || property.get("anyOf").is_some(),
            "{field:?}"
        );
    }
    assert_eq!(image["isCanonical"]["type"], "boolean");
    let refused = json!({"image": {"ref": 1}});
    assert!(!jsonschema::is_valid(&schema, &refused));
    insta::assert_json_snapshot!(schema);
}
