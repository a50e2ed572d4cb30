//! The peers themselves: what other tests rely on holds.

use serde_json::Value;

use crate::peers::{self, GitServer, HttpServer, Response, World, need};

#[tokio::test]
async fn registry_serves_what_buildkit_pushed() {
    let world = need!(peers::world());
    let table = [
        ("base:1", "manifest", "", 0),
        ("app:plain", "application/vnd.oci.image.manifest.v1+json", "", 0),
        ("app:docker", "application/vnd.docker.distribution.manifest.v2+json", "", 0),
        ("app:attested", "application/vnd.oci.image.index.v1+json", "linux/amd64", 1),
        ("app:slsa02", "application/vnd.oci.image.index.v1+json", "linux/amd64", 1),
        ("app:multi", "application/vnd.oci.image.index.v1+json", "linux/amd64 linux/arm64", 0),
        (
            "app:multi-attested",
            "application/vnd.oci.image.index.v1+json",
            "linux/amd64 linux/arm64",
            2,
        ),
    ];
    for (name, media_type, platforms, attestations) in table {
        let manifest = manifest(world, name).await;
        let got = manifest["mediaType"].as_str().unwrap();
        assert!(got.contains(media_type), "{name} is a {got}");
        let entries = manifest["manifests"].as_array().cloned().unwrap_or_default();
        let (attesting, images): (Vec<Value>, Vec<Value>) =
            entries.into_iter().partition(|entry| {
                entry["annotations"]["vnd.docker.reference.type"] == "attestation-manifest"
            });
        let names: Vec<String> = images.iter().map(|entry| platform(&entry["platform"])).collect();
        assert_eq!(names.join(" "), platforms, "platforms of {name}");
        assert_eq!(attesting.len(), attestations, "attestations of {name}");
    }
}

#[tokio::test]
async fn provenance_is_of_the_version_asked_for() {
    let world = need!(peers::world());
    let table = [
        ("app:attested", "https://slsa.dev/provenance/v1"),
        ("app:slsa02", "https://slsa.dev/provenance/v0.2"),
    ];
    for (name, predicate) in table {
        let index = manifest(world, name).await;
        let attestation = index["manifests"][1]["digest"].as_str().unwrap();
        let repository = name.split(':').next().unwrap();
        let layers = &manifest(world, &format!("{repository}@{attestation}")).await["layers"];
        assert_eq!(layers[0]["annotations"]["in-toto.io/predicate-type"], predicate);
    }
}

#[tokio::test]
async fn registry_logs_who_asks() {
    let world = need!(peers::world());
    let missing = "peers-work-no-such-image";
    assert_eq!(world.registry.accesses(&[missing]).len(), 0);
    let url = format!("http://{}/v2/{missing}/manifests/1", world.registry.host());
    let answer = peers::get(url).await.unwrap();
    assert_eq!(answer.status(), 404);
    assert_eq!(world.registry.accesses(&["GET", missing]).len(), 1);
}

#[test]
fn git_server_serves_and_counts() {
    let server = need!(GitServer::start());
    let elsewhere = tempfile::tempdir().unwrap();
    let refs = peers::git(elsewhere.path(), &["ls-remote", &server.url()]);
    for (name, revision) in [
        ("refs/heads/main", "main"),
        ("refs/heads/feature", "feature"),
        ("refs/tags/light", "main"),
        ("refs/tags/v1.0.0", "v1.0.0"),
        ("refs/tags/v1.0.0^{}", "feature"),
    ] {
        let line = format!("{}\t{name}\n", server.object(revision));
        assert!(refs.contains(&line), "{line} is not in {refs}");
    }
    assert!(!server.asked().is_empty());
    let tag = server.raw("tag", "v1.0.0");
    assert!(tag.starts_with(&format!("object {}\n", server.object("feature"))), "{tag}");
    let before = server.asked().len();
    peers::git(elsewhere.path(), &["clone", "-q", &server.url(), "copy"]);
    assert!(elsewhere.path().join("copy/README").is_file());
    let posts = server.asked()[before..].iter().filter(|r| r.method == "POST").count();
    assert!(posts > 0, "a clone posts what it wants");
}

#[tokio::test]
async fn http_server_counts_and_answers_what_it_is_told() {
    let files = HttpServer::files([("/rel.tgz", b"content".to_vec())]);
    let body = peers::get(files.url("/rel.tgz")).await.unwrap().bytes().await.unwrap();
    assert_eq!(&body[..], b"content");
    assert_eq!(peers::get(files.url("/none")).await.unwrap().status(), 404);
    let paths: Vec<String> = files.asked().into_iter().map(|r| r.path).collect();
    assert_eq!(paths, ["/rel.tgz", "/none"]);

    let cut_off = HttpServer::start(|_| Response::ok("short").with("Content-Length", "100"));
    let answer = peers::get(cut_off.url("/")).await.unwrap();
    answer.bytes().await.expect_err("a body that is cut off is an error");
}

async fn manifest(world: &World, name: &str) -> Value {
    let (repository, reference) = name.split_once(['@', ':']).unwrap();
    serde_json::from_slice(&world.registry.manifest(repository, reference).await).unwrap()
}

fn platform(value: &Value) -> String {
    format!("{}/{}", value["os"].as_str().unwrap(), value["architecture"].as_str().unwrap())
}
