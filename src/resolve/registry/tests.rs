//! Good and bad registries, played on loopback.

mod credentials;
mod limits;
mod signed;

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::document::media_type::{DOCKER_LIST, OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use crate::meta::{
    AttestationChain, ImageMeta, ImageRequest, MetaRequest, ResolveError, ResolveSourceMeta,
};
use crate::resolve::testing::{Asked, Reply, Server, Store, options};
use crate::resolve::{Network, Options};
use crate::source::SourceOp;

const CONFIG: ImageRequest = ImageRequest { config: true, attestations: false };
const CHAIN: ImageRequest = ImageRequest { config: false, attestations: true };
const DIGEST: ImageRequest = ImageRequest { config: false, attestations: false };
const TAG: &str = "/v2/acme/app/manifests/1";

pub(super) fn network(
    docker_config: &str,
    change: impl FnOnce(&mut Options),
) -> (Network, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.json");
    fs::write(&path, docker_config).unwrap();
    let mut options = options(&path);
    change(&mut options);
    (Network::new(options).unwrap(), folder)
}

fn request(host: &str, reference: &str, image: ImageRequest) -> MetaRequest {
    MetaRequest {
        source: SourceOp::new(format!("docker-image://{host}/acme/app{reference}")),
        image: Some(image),
        ..MetaRequest::default()
    }
}

async fn ask(
    network: &Network,
    host: &str,
    image: ImageRequest,
) -> Result<ImageMeta, ResolveError> {
    let request = request(host, ":1", image);
    network.resolve(&request).await.map(|meta| meta.image.unwrap())
}

/// Asks a registry that plays `reply` for `image`; its answer, or the exact error.
async fn check<F>(reply: F, image: ImageRequest, expected: &str)
where
    F: Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
{
    let server = Server::start(reply).await;
    let (network, _folder) = network("{}", |_| {});
    let found = match ask(&network, &server.host, image).await {
        Ok(meta) => format!("{meta:?}"),
        Err(error) => error.to_string().replace(&server.host, "HOST"),
    };
    assert_eq!(found, expected);
}

/// An image of one platform, under the tag 1.
fn plain(store: &mut Store) -> Value {
    let config = store.blob(OCI_CONFIG, br#"{"os":"linux","architecture":"amd64"}"#);
    store.document(OCI_MANIFEST, Some("1"), &json!({"config": config, "layers": []}))
}

/// An index with an attested image for linux/amd64, under the tag 1.
fn attested(store: &mut Store, index_type: &str) -> AttestationChain {
    let image = plain(store);
    let statement = |predicate: &str| format!("{{\"predicateType\":\"{predicate}\"}}");
    let mut layers = Vec::new();
    for predicate in ["https://spdx.dev/Document", "https://slsa.dev/provenance/v1"] {
        let mut layer = store.blob("application/vnd.in-toto+json", statement(predicate).as_bytes());
        layer["annotations"] = json!({"in-toto.io/predicate-type": predicate});
        layers.push(layer);
    }
    // Nobody may ask for what rules cannot read.
    let sbom = layers[0]["digest"].as_str().unwrap();
    store.0.remove(&format!("/v2/acme/app/blobs/{sbom}"));
    let empty = store.blob("application/vnd.oci.empty.v1+json", b"{}");
    let body = json!({"config": empty, "layers": layers});
    let mut attestation = store.document(OCI_MANIFEST, None, &body);
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    attestation["annotations"] = json!({
        "vnd.docker.reference.type": "attestation-manifest",
        "vnd.docker.reference.digest": image["digest"],
    });
    let mut described = image.clone();
    described["platform"] = json!({"os": "linux", "architecture": "amd64"});
    let body = json!({"mediaType": index_type, "manifests": [attestation, described]});
    let root = store.document(index_type, Some("1"), &body);
    let text = |value: &Value| value["digest"].as_str().unwrap().to_owned();
    AttestationChain {
        root: text(&root),
        image_manifest: text(&image),
        attestation_manifest: text(&attestation),
        signature_manifests: Vec::new(),
        blobs: [(text(&layers[1]), Default::default())].into(),
    }
}

fn serving(store: Store) -> impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static {
    move |asked, _| store.get(asked)
}

#[tokio::test]
async fn a_plain_image_has_digest_config_and_an_empty_chain() {
    let mut store = Store::default();
    let manifest = plain(&mut store)["digest"].as_str().unwrap().to_owned();
    let server = Server::start(serving(store)).await;
    let (network, _folder) = network("{}", |_| {});
    let both = ImageRequest { config: true, attestations: true };
    let meta = ask(&network, &server.host, both).await.unwrap();
    assert_eq!(meta.digest.as_ref(), Some(&manifest));
    assert_eq!(&*meta.config.unwrap(), br#"{"os":"linux","architecture":"amd64"}"#);
    let expected = AttestationChain { image_manifest: manifest, ..AttestationChain::default() };
    assert_eq!(meta.attestations, Some(expected));
    // What was fetched once is not fetched again, for a smaller question neither.
    let before = server.log();
    ask(&network, &server.host, CONFIG).await.unwrap();
    assert_eq!((before.len(), server.log()), (2, before));
}

#[tokio::test]
async fn a_chain_leads_from_the_index_to_provenance() {
    let mut store = Store::default();
    let expected = attested(&mut store, OCI_INDEX);
    let server = Server::start(serving(store)).await;
    let (network, _folder) = network("{}", |_| {});
    let chain = ask(&network, &server.host, CHAIN).await.unwrap().attestations.unwrap();
    let mut blobs: Vec<&String> = expected.blobs.keys().collect();
    blobs.extend([&expected.root, &expected.attestation_manifest]);
    blobs.sort();
    assert_eq!(chain.blobs.keys().collect::<Vec<_>>(), blobs);
    assert_eq!(
        (&chain.root, &chain.image_manifest, &chain.attestation_manifest),
        (&expected.root, &expected.image_manifest, &expected.attestation_manifest)
    );
    let provenance = &chain.blobs[expected.blobs.keys().next().unwrap()];
    assert_eq!(
        provenance.annotations["in-toto.io/predicate-type"],
        "https://slsa.dev/provenance/v1"
    );
    // No config was asked for, so none was fetched.
    assert!(
        !server
            .log()
            .iter()
            .any(|line| line.contains("/blobs/") && line.contains(&expected.image_manifest))
    );
    assert_eq!(server.log().len(), 6, "{:?}", server.log());
}

#[tokio::test]
async fn a_docker_manifest_list_has_no_chain() {
    let mut store = Store::default();
    let image_manifest = attested(&mut store, DOCKER_LIST).image_manifest;
    let server = Server::start(serving(store)).await;
    let (network, _folder) = network("{}", |_| {});
    let chain = ask(&network, &server.host, CHAIN).await.unwrap().attestations.unwrap();
    assert_eq!(chain, AttestationChain { image_manifest, ..AttestationChain::default() });
}

#[tokio::test]
async fn a_digest_is_not_fetched_for_itself() {
    let digest = format!("sha256:{}", "a".repeat(64));
    let server = Server::start(|_, _| Reply::status(500)).await;
    let (network, _folder) = network("{}", |_| {});
    let asked = request(&server.host, &format!(":1@{digest}"), DIGEST);
    let meta = network.resolve(&asked).await.unwrap();
    assert_eq!(meta.image.unwrap().digest, Some(digest));
    assert!(server.log().is_empty());
}

#[tokio::test]
async fn bad_answers_are_errors_that_say_what_to_do() {
    let manifest = |body: &'static str| move |_: &Asked, _: usize| Reply::ok(OCI_MANIFEST, body);
    let status = |status| move |_: &Asked, _: usize| Reply::status(status);
    check(status(404), DIGEST, "HOST/acme/app:1: not found").await;
    check(
        status(403),
        DIGEST,
        "HOST/acme/app:1: HOST refused access; check the name of the image, or log in with \
         `docker login HOST`",
    )
    .await;
    check(
        status(401),
        DIGEST,
        "HOST/acme/app:1: HOST refused access; it names no way to log in that buildgate knows \
         (no Bearer or Basic challenge)",
    )
    .await;
    check(
        |_, _| Reply::status(401).with("WWW-Authenticate", "Basic realm=x"),
        DIGEST,
        "HOST/acme/app:1: HOST refused access; check the name of the image, or log in with \
         `docker login HOST`",
    )
    .await;
    check(
        |_, _| {
            Reply::status(401).with("WWW-Authenticate", "Bearer realm=\"http://evil.example/t\"")
        },
        DIGEST,
        "HOST/acme/app:1: the registry names a token server without HTTPS: http://evil.example/t",
    )
    .await;
    check(status(500), DIGEST, "HOST/acme/app:1: HOST answered 500 Internal Server Error").await;
    check(status(418), DIGEST, "HOST/acme/app:1: HOST answered 418 I'm a teapot").await;
    check(
        |_, _| Reply::status(429).with("Retry-After", "3600"),
        DIGEST,
        "HOST/acme/app:1: HOST answered that there were too many requests; try again in 3600 s",
    )
    .await;
    check(
        manifest("garbage"),
        DIGEST,
        "HOST/acme/app:1: the manifest is not JSON of the expected form: expected value at line \
         1 column 1",
    )
    .await;
    check(
        |_, _| Reply::ok("text/html", "<html>"),
        DIGEST,
        "HOST/acme/app:1: the registry answered with text/html, which is no image manifest",
    )
    .await;
    check(
        |_, _| Reply::ok(OCI_MANIFEST, "{}").with("Docker-Content-Digest", "sha256:0"),
        DIGEST,
        "HOST/acme/app:1: `sha256:0` is no digest of a kind that can be verified",
    )
    .await;
    let zeros = format!("sha256:{}", "0".repeat(64));
    check(
        move |_, _| Reply::ok(OCI_MANIFEST, "{}").with("Docker-Content-Digest", &zeros),
        DIGEST,
        "HOST/acme/app:1: expected \
         sha256:0000000000000000000000000000000000000000000000000000000000000000, got \
         sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",
    )
    .await;
}

#[tokio::test]
async fn content_is_what_points_to_it() {
    let mut good = Store::default();
    plain(&mut good);
    let path = |store: &Store, kind: &str| {
        store.0.keys().find(|path| path.contains(kind)).unwrap().clone()
    };
    let blob = path(&good, "/blobs/");
    let digest = blob.rsplit('/').next().unwrap().to_owned();

    let mut store = good.clone();
    store.0.insert(blob.clone(), Reply::ok("", "{\"os\":\"evil\"}"));
    let wrong = format!(
        "HOST/acme/app@{digest}: expected {digest}, got \
         sha256:f65c31926e5a8d16acc29f92b4ea3b3b8ee1f8e3afdf33e2a2bcc2f6ddf3e3c1"
    );
    let actual =
        crate::resolve::digest::of(crate::meta::ChecksumAlgorithm::Sha256, b"{\"os\":\"evil\"}");
    let wrong = format!("{}{actual}", wrong.split("sha256:f65c").next().unwrap());
    check(serving(store), CONFIG, &wrong).await;

    let mut store = good.clone();
    store.0.insert(blob.clone(), Reply::status(404));
    check(serving(store), CONFIG, &format!("HOST/acme/app@{digest}: not found")).await;

    let cases = [
        (
            json!({"mediaType": OCI_CONFIG, "digest": digest, "size": 3}),
            format!("HOST/acme/app@{digest}: {digest} should have 3 bytes, and has 37"),
        ),
        (
            json!({"mediaType": OCI_CONFIG, "digest": digest, "size": 1_000_000}),
            format!("HOST/acme/app@{digest}: larger than the limit of 8192 bytes"),
        ),
        (
            json!({"mediaType": OCI_CONFIG, "digest": "md5:1", "size": 3}),
            "HOST/acme/app@md5:1: `md5:1` is no digest of a kind that can be verified".into(),
        ),
        (
            json!({"mediaType": OCI_CONFIG, "digest": "../../../secret", "size": 3}),
            "HOST/acme/app:../../../secret: `../../../secret` is no digest of a kind that can be \
             verified"
                .into(),
        ),
    ];
    for (config, expected) in cases {
        let mut store = good.clone();
        store.document(OCI_MANIFEST, Some("1"), &json!({"config": config, "layers": []}));
        check(serving(store), CONFIG, &expected).await;
    }

    let mut store = good.clone();
    let chart = store.blob("application/vnd.cncf.helm.config.v1+json", b"{}");
    let chart = json!({"config": chart, "layers": []});
    let digest = store.document(OCI_MANIFEST, Some("1"), &chart)["digest"].clone();
    let expected = format!(
        "HOST/acme/app@{}: it is no container image: its config is of type \
         \"application/vnd.cncf.helm.config.v1+json\"",
        digest.as_str().unwrap()
    );
    check(serving(store), CONFIG, &expected).await;
}

#[tokio::test]
async fn an_index_without_the_platform_says_what_it_has() {
    let mut store = Store::default();
    let mut image = plain(&mut store);
    image["platform"] = json!({"os": "linux", "architecture": "arm64", "variant": "v8"});
    let index = store.document(OCI_INDEX, Some("1"), &json!({"manifests": [image]}));
    let expected = format!(
        "HOST/acme/app@{}: it has no image for the platform linux/amd64 (it has linux/arm64/v8)",
        index["digest"].as_str().unwrap()
    );
    check(serving(store.clone()), CONFIG, &expected).await;
    check(serving(store), CHAIN, &expected).await;
}

#[tokio::test]
async fn a_manifest_without_platform_is_judged_by_its_config() {
    for (architecture, found) in [("amd64", true), ("s390x", false)] {
        let mut store = Store::default();
        let config = format!("{{\"os\":\"linux\",\"architecture\":\"{architecture}\"}}");
        let config = store.blob(OCI_CONFIG, config.as_bytes());
        let image = store.document(OCI_MANIFEST, None, &json!({"config": config, "layers": []}));
        store.document(OCI_INDEX, Some("1"), &json!({"manifests": [image]}));
        let server = Server::start(serving(store)).await;
        let (network, _folder) = network("{}", |_| {});
        assert_eq!(ask(&network, &server.host, CONFIG).await.is_ok(), found, "{architecture}");
    }
}

#[tokio::test]
async fn a_mirror_comes_first_and_the_registry_after_it() {
    let mut store = Store::default();
    plain(&mut store);
    let moved: BTreeMap<String, Reply> = store
        .0
        .iter()
        .map(|(path, reply)| (path.replace("/v2/", "/v2/cache/"), reply.clone()))
        .collect();
    let mirrored = Store(moved);
    for works in [true, false] {
        let mirrored = mirrored.clone();
        let mirror = Server::start(move |asked, _| match works {
            true => mirrored.get(asked),
            false => Reply::ok(OCI_MANIFEST, "{}").with("Docker-Content-Digest", "sha256:0"),
        })
        .await;
        let server = Server::start(serving(store.clone())).await;
        let url = format!("http://{}/cache", mirror.host).parse().unwrap();
        let (network, _folder) = network("{}", |options| {
            options.mirrors.insert(server.host.clone(), vec![url]);
        });
        ask(&network, &server.host, DIGEST).await.unwrap();
        let ns = server.host.replace(':', "%3A");
        assert_eq!(mirror.log(), [format!("GET /v2/cache/acme/app/manifests/1?ns={ns}")]);
        assert_eq!(server.log(), if works { vec![] } else { vec![format!("GET {TAG}")] });
    }
}
