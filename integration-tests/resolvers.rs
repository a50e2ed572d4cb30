//! The resolvers against real servers: what they report is what BuildKit pushed, git committed and
//! a web server serves, and they ask for no more than they need.

use std::collections::BTreeMap;

use buildgate::meta::{
    AttestationChain, ChecksumAlgorithm, ChecksumRequest, ContentRequest, GitMeta, GitRequest,
    HttpMeta, HttpRequest, ImageMeta, ImageRequest, MAX_CONTENT, MetaRequest, ResolveError,
    ResolveSourceMeta, SourceMeta,
};
use buildgate::resolve::{Network, Options};
use buildgate::source::{Platform, SourceOp};
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};

use crate::peers::{self, GitServer, HttpServer, World, need};

const DIGEST: ImageRequest = ImageRequest { config: false, attestations: false };
const CONFIG: ImageRequest = ImageRequest { config: true, attestations: false };
const ATTESTATIONS: ImageRequest = ImageRequest { config: false, attestations: true };
const EVERYTHING: ImageRequest = ImageRequest { config: true, attestations: true };

#[tokio::test]
async fn image_digest_and_config_are_the_registrys() {
    let world = need!(peers::world());
    let table = [
        ("base:1", "linux/amd64", r#"["MODE=prod"]"#, r#"{"org.example.tier":"base"}"#),
        ("app:plain", "linux/amd64", "[]", r#"{"a.b/c":"d"}"#),
        ("app:docker", "linux/amd64", "[]", r#"{"a.b/c":"d"}"#),
        (
            "app:attested",
            "linux/amd64",
            r#"["MODE=prod"]"#,
            r#"{"org.example.tier":"base","version":"2"}"#,
        ),
        ("app:multi", "linux/amd64", "[]", r#"{"a.b/c":"d"}"#),
        ("app:multi", "linux/arm64", "[]", r#"{"a.b/c":"d"}"#),
        ("app:multi-attested", "linux/arm64", "[]", r#"{"a.b/c":"d"}"#),
    ];
    for (name, platform, env, labels) in table {
        let image = image(world, name, platform, CONFIG).await.unwrap();
        assert_eq!(image.digest, Some(served_digest(world, name).await), "digest of {name}");
        let config: Value = serde_json::from_slice(&image.config.unwrap()).unwrap();
        let found = format!("{}/{}", text(&config["os"]), text(&config["architecture"]));
        assert_eq!(found, platform, "platform of {name}");
        let own_env: Vec<&str> = list(&config["config"]["Env"])
            .iter()
            .map(text)
            .filter(|variable| !variable.starts_with("PATH="))
            .collect();
        assert_eq!(serde_json::to_string(&own_env).unwrap(), env, "env of {name}");
        let labels: BTreeMap<String, String> = serde_json::from_str(labels).unwrap();
        let found: BTreeMap<String, String> =
            serde_json::from_value(config["config"]["Labels"].clone()).unwrap();
        assert_eq!(found, labels, "labels of {name}");
    }
}

#[tokio::test]
async fn image_by_digest_and_what_is_not_there() {
    let world = need!(peers::world());
    let digest = served_digest(world, "app:multi").await;
    let pinned = image(world, &format!("app:no-such-tag@{digest}"), "linux/arm64", CONFIG).await;
    let pinned = pinned.expect("the digest names it, whatever the tag says");
    assert_eq!(pinned.digest, Some(digest));
    assert!(pinned.config.is_some());

    let nothing = format!("app@sha256:{}", "0".repeat(64));
    for name in ["app:none", "none:1", &nothing] {
        let error = image(world, name, "linux/amd64", CONFIG).await.expect_err(name);
        assert!(matches!(error, ResolveError::NotFound { .. }), "{name}: {error:?}");
        assert!(error.to_string().contains(name), "{error} names {name}");
    }
}

#[tokio::test]
async fn platform_that_an_image_lacks_is_an_error_that_lists_what_it_has() {
    let world = need!(peers::world());
    let error = image(world, "app:multi", "linux/s390x", CONFIG).await.expect_err("there is none");
    let said = error.to_string();
    for part in ["linux/s390x", "linux/amd64", "linux/arm64"] {
        assert!(said.contains(part), "{part} is not in: {said}");
    }
}

#[tokio::test]
async fn attestation_chain_is_what_buildkit_attached() {
    let world = need!(peers::world());
    let table = [
        ("app:attested", "linux/amd64", "https://slsa.dev/provenance/v1"),
        ("app:slsa02", "linux/amd64", "https://slsa.dev/provenance/v0.2"),
        ("app:multi-attested", "linux/amd64", "https://slsa.dev/provenance/v1"),
        ("app:multi-attested", "linux/arm64", "https://slsa.dev/provenance/v1"),
    ];
    for (name, platform, predicate) in table {
        let image = image(world, name, platform, ATTESTATIONS).await.unwrap();
        let chain = image.attestations.expect(name);
        assert_eq!(Some(&chain.root), image.digest.as_ref(), "root of {name}");
        for (digest, blob) in &chain.blobs {
            assert_eq!(*digest, sha256(&blob.data), "a blob of {name}");
        }
        let index = json(&chain, &chain.root);
        let entry = |digest: &str| {
            let mut entries = list(&index["manifests"]).iter();
            entries.find(|entry| entry["digest"] == digest).cloned().expect(name)
        };
        let described = entry(&chain.image_manifest)["platform"].clone();
        let found = format!("{}/{}", text(&described["os"]), text(&described["architecture"]));
        assert_eq!(found, platform, "manifest of {name}");
        let attesting = entry(&chain.attestation_manifest);
        let about = &attesting["annotations"]["vnd.docker.reference.digest"];
        assert_eq!(text(about), chain.image_manifest, "{name} attests another image");
        assert_eq!(statement(&chain, predicate)["predicateType"], predicate);
        assert!(chain.signature_manifests.is_empty(), "nobody signed {name}");
    }
}

#[tokio::test]
async fn provenance_tells_build_arguments_and_materials() {
    let world = need!(peers::world());
    let base = served_digest(world, "base:1").await;
    let image = image(world, "app:attested", "linux/amd64", EVERYTHING).await.unwrap();
    let chain = image.attestations.unwrap();
    let definition =
        &statement(&chain, "https://slsa.dev/provenance/v1")["predicate"]["buildDefinition"];
    let request = &definition["externalParameters"]["request"];
    assert_eq!(request["args"]["build-arg:VERSION"], "2");
    let materials = list(&definition["resolvedDependencies"]);
    let of_base = |material: &&Value| {
        base.strip_prefix("sha256:") == material["digest"]["sha256"].as_str()
            && text(&material["uri"]).starts_with("pkg:docker/")
    };
    assert_eq!(materials.iter().filter(of_base).count(), 1, "{materials:#?}");
}

#[tokio::test]
async fn image_without_attestations_has_an_empty_chain() {
    let world = need!(peers::world());
    for (name, is_index) in [("app:plain", false), ("app:docker", false), ("app:multi", true)] {
        let image = image(world, name, "linux/amd64", ATTESTATIONS).await.unwrap();
        let chain = image.attestations.expect("asked for, and so answered");
        assert_eq!(chain.attestation_manifest, "", "{name}");
        assert!(chain.signature_manifests.is_empty(), "{name}");
        assert_eq!(!chain.root.is_empty(), is_index, "{name}");
    }
}

#[tokio::test]
async fn registry_is_asked_for_nothing_twice_and_nothing_unneeded() {
    let world = need!(peers::world());
    let accesses = |path: &str| world.registry.accesses(&["/v2/counted/", path]).len();
    let (manifests, blobs) = (accesses("/manifests/"), accesses("/blobs/"));

    let network = network();
    let request = request(&format!("docker-image://{}", world.image("counted:1")));
    let digest = MetaRequest { image: Some(DIGEST), ..request.clone() };
    let config = MetaRequest { image: Some(CONFIG), ..request };
    network.resolve(&digest).await.unwrap();
    assert_eq!(accesses("/blobs/"), blobs, "a digest needs no blob");
    assert_eq!(accesses("/manifests/"), manifests + 1, "a digest needs one manifest");
    for _ in 0..3 {
        network.resolve(&config).await.unwrap();
    }
    let got = (accesses("/manifests/") - manifests, accesses("/blobs/") - blobs);
    assert!(got.0 <= 2 && got.1 == 1, "manifests and blobs read: {got:?}");
}

#[tokio::test]
async fn git_references_mean_what_git_says() {
    let server = need!(GitServer::start());
    let table = [
        ("", "refs/heads/main", "main", None),
        ("#main", "refs/heads/main", "main", None),
        ("#refs/heads/feature", "refs/heads/feature", "feature", None),
        ("#light", "refs/tags/light", "main", None),
        ("#v1.0.0", "refs/tags/v1.0.0", "feature", Some("v1.0.0")),
        ("#refs/tags/v1.0.0", "refs/tags/v1.0.0", "feature", Some("v1.0.0")),
    ];
    for (fragment, reference, commit, tag) in table {
        let git = git(&server, fragment, true).await.expect(fragment);
        assert_eq!(git.reference, reference, "{fragment}");
        assert_eq!(git.checksum, server.object(tag.unwrap_or(commit)), "{fragment}");
        let dereferenced = Some(git.commit_checksum.clone()).filter(|sum| !sum.is_empty());
        let expected = server.object(commit);
        assert_eq!(dereferenced.unwrap_or(git.checksum), expected, "{fragment}");
        let object = |object: Option<Bytes>| object.map(|o| String::from_utf8(o.to_vec()).unwrap());
        assert_eq!(object(git.commit_object), Some(server.raw("commit", commit)), "{fragment}");
        assert_eq!(object(git.tag_object), tag.map(|tag| server.raw("tag", tag)), "{fragment}");
    }
}

#[tokio::test]
async fn git_commit_is_its_own_answer_and_the_unknown_is_an_error() {
    let server = need!(GitServer::start());
    let commit = server.object("main");
    let by_commit = git(&server, &format!("#{commit}"), true).await.unwrap();
    assert_eq!(by_commit.checksum, commit);
    let raw = server.raw("commit", "main");
    assert_eq!(by_commit.commit_object.as_deref(), Some(raw.as_bytes()));

    let error = git(&server, "#no-such-branch", false).await.expect_err("there is none");
    assert!(matches!(error, ResolveError::NotFound { .. }), "{error:?}");
}

#[tokio::test]
async fn git_is_asked_for_a_reference_alone_until_objects_are_wanted() {
    let server = need!(GitServer::start());
    git(&server, "#v1.0.0", false).await.unwrap();
    let fetched = |request: &peers::Request| {
        request.method == "POST" && request.body.windows(13).any(|part| part == b"command=fetch")
    };
    assert!(!server.asked().iter().any(fetched), "a checksum needs no objects");
    git(&server, "#v1.0.0", true).await.unwrap();
    assert!(server.asked().iter().any(fetched));
}

#[tokio::test]
async fn file_is_read_once_and_hashed_with_any_suffix() {
    let server = HttpServer::files([("/dl/rel.tgz", b"release".to_vec())]);
    let network = network();
    let request = request(&server.url("/dl/rel.tgz"));
    let plain = MetaRequest { http: Some(HttpRequest::default()), ..request.clone() };
    let checksum = ChecksumRequest {
        algorithm: ChecksumAlgorithm::Sha512,
        suffix: Bytes::from_static(b"\x04\xff"),
    };
    let assisted = MetaRequest { http: Some(HttpRequest { checksum: Some(checksum) }), ..request };

    let file = http(network.resolve(&plain).await.unwrap());
    assert_eq!(file.checksum, sha256(b"release"));
    assert_eq!(file.filename, "rel.tgz");
    assert_eq!(file.checksum_response, None);
    let file = http(network.resolve(&assisted).await.unwrap());
    assert_eq!(file.checksum, sha256(b"release"));
    let digest = format!("sha512:{}", hex::encode(Sha512::digest(b"release\x04\xff")));
    assert_eq!(file.checksum_response.unwrap().digest, digest);

    network.resolve(&plain).await.unwrap();
    assert!(server.asked().len() <= 2, "{:#?}", server.asked());
}

#[tokio::test]
async fn content_of_a_file_is_whole_or_absent_or_an_error() {
    let packed = snap::raw::Encoder::new().compress_vec(b"a bundle").unwrap();
    let files = HttpServer::files([
        ("/list.json", b"{}".to_vec()),
        ("/bundle.json.sn", packed.clone()),
        ("/empty", Vec::new()),
        ("/huge", vec![0; MAX_CONTENT + 1]),
    ]);
    for (path, wanted) in [
        ("/list.json", Ok(Some(b"{}".to_vec()))),
        ("/bundle.json.sn", Ok(Some(packed))),
        ("/empty", Ok(Some(Vec::new()))),
        ("/nothing", Ok(None)),
        ("/huge", Err("larger than the limit")),
    ] {
        let asked = MetaRequest { content: Some(ContentRequest), ..request(&files.url(path)) };
        match (network().resolve(&asked).await, wanted) {
            (Ok(meta), Ok(wanted)) => {
                let content = meta.content.unwrap();
                assert_eq!(content.source, asked.source);
                assert_eq!(content.data.map(Vec::from), wanted, "{path}");
            }
            (Err(error), Err(words)) => assert!(error.to_string().contains(words), "{error}"),
            (came, wanted) => panic!("{path}: {came:?} and not {wanted:?}"),
        }
    }
}

async fn image(
    world: &World,
    name: &str,
    platform: &str,
    asked: ImageRequest,
) -> Result<ImageMeta, ResolveError> {
    let (os, architecture) = platform.split_once('/').unwrap();
    let platform =
        Platform { os: os.into(), architecture: architecture.into(), variant: String::new() };
    let request = MetaRequest {
        platform: Some(platform),
        image: Some(asked),
        ..request(&format!("docker-image://{}", world.image(name)))
    };
    Ok(network().resolve(&request).await?.image.expect("an image was asked for"))
}

async fn git(server: &GitServer, fragment: &str, objects: bool) -> Result<GitMeta, ResolveError> {
    let url = server.url();
    let identifier = format!("git://{}{fragment}", url.strip_prefix("http://").unwrap());
    let mut request = request(&identifier);
    request.source.attrs.insert("git.fullurl".into(), url);
    request.git = Some(GitRequest { objects });
    Ok(network().resolve(&request).await?.git.expect("git was asked for"))
}

fn http(meta: SourceMeta) -> HttpMeta {
    meta.http.expect("a file was asked for")
}

fn request(identifier: &str) -> MetaRequest {
    let source = SourceOp { identifier: identifier.into(), attrs: BTreeMap::new() };
    MetaRequest { source, ..MetaRequest::default() }
}

/// A network that knows no credentials of this machine.
fn network() -> Network {
    let docker_config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(docker_config.path(), "{}").unwrap();
    let options =
        Options { docker_config: Some(docker_config.path().to_owned()), ..Options::default() };
    Network::new(options).unwrap()
}

/// The digest that the registry itself gives a reference.
async fn served_digest(world: &World, name: &str) -> String {
    let (repository, reference) = name.split_once(':').unwrap();
    sha256(&world.registry.manifest(repository, reference).await)
}

fn statement(chain: &AttestationChain, predicate: &str) -> Value {
    let mut blobs = chain.blobs.values();
    let annotation = "in-toto.io/predicate-type";
    let blob = blobs.find(|blob| blob.annotations.get(annotation).is_some_and(|p| p == predicate));
    serde_json::from_slice(&blob.expect(predicate).data).unwrap()
}

fn json(chain: &AttestationChain, digest: &str) -> Value {
    serde_json::from_slice(&chain.blobs[digest].data).unwrap()
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is no text"))
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}
