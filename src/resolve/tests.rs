//! What holds for every resolver.

use super::testing::options;
use super::*;
use crate::meta::{GitRequest, HttpRequest, ImageRequest};
use crate::source::SourceOp;

fn request(identifier: &str) -> MetaRequest {
    MetaRequest {
        source: SourceOp { identifier: identifier.into(), ..SourceOp::default() },
        ..MetaRequest::default()
    }
}

#[tokio::test]
async fn offline_names_what_it_does_not_fetch() {
    let image = |config, attestations| MetaRequest {
        image: Some(ImageRequest { config, attestations }),
        ..request("docker-image://docker.io/library/alpine:3")
    };
    let cases = [
        (image(true, false), "the config of docker-image://docker.io/library/alpine:3"),
        (image(false, true), "the attestations of docker-image://docker.io/library/alpine:3"),
        (
            MetaRequest {
                git: Some(GitRequest { objects: true }),
                ..request("git://github.com/a/b.git#v1")
            },
            "the commit and tag objects of git://github.com/a/b.git",
        ),
        (
            MetaRequest {
                http: Some(HttpRequest::default()),
                ..request("https://user:secret@host/f?token=1")
            },
            "the checksum of https://***@host/f",
        ),
    ];
    for (request, what) in cases {
        let error = Offline.resolve(&request).await.unwrap_err().to_string();
        let expected = format!("{what} would have to be fetched, and fetching is switched off");
        assert_eq!(error, expected);
    }
}

#[tokio::test]
async fn what_has_no_metadata_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    std::fs::write(&path, "{}").unwrap();
    let network = Network::new(options(&path)).unwrap();
    let hex = "a".repeat(64);
    let cases = [
        ("local://context".to_owned(), "a directory of the client has no metadata"),
        (format!("oci-layout://store@sha256:{hex}"), "it is the client's own"),
        (format!("docker-image+blob://ghcr.io/a/b@sha256:{hex}"), "no metadata but its digest"),
    ];
    for (identifier, expected) in cases {
        let error = network.resolve(&request(&identifier)).await.unwrap_err().to_string();
        assert!(error.contains("cannot be resolved: ") && error.contains(expected), "{error}");
    }
}

#[test]
fn a_setup_that_cannot_be_used_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "nonsense").unwrap();
    let setup = |options: Options| Network::new(options).err().map(|error| error.to_string());
    let error = setup(options(&path)).unwrap();
    assert!(error.contains("cannot be understood"), "{error}");
    let error = setup(options(&folder.path().join("missing"))).unwrap();
    assert!(error.contains("cannot read Docker's config"), "{error}");
    let error = setup(Options { ca_file: Some(path), ..Options::default() }).unwrap();
    assert!(error.contains("no usable PEM certificate"), "{error}");
}
