//! What says that it signs an image, in registries that are played on loopback.

use serde_json::{Value, json};

use super::chain::SIGSTORE_BUNDLE;
use super::document::media_type::{OCI_CONFIG, OCI_INDEX, OCI_MANIFEST};
use super::tests::network;
use crate::meta::{ImageSignatures, MetaRequest, ResolveSourceMeta, SignaturesRequest};
use crate::resolve::testing::{Asked, Reply, Server, Store};
use crate::source::SourceOp;

const MIB: u64 = 1 << 20;

/// An image to sign: its digest.
fn image() -> String {
    format!("sha256:{}", "a".repeat(64))
}

/// A manifest with these layers, and how a list of referrers names it.
fn signing(store: &mut Store, kind: &str, layers: &[Value]) -> Value {
    let empty = store.blob(OCI_CONFIG, b"{}");
    let body = json!({"config": empty, "layers": layers});
    let mut descriptor = store.document(OCI_MANIFEST, None, &body);
    if !kind.is_empty() {
        descriptor["artifactType"] = json!(kind);
    }
    descriptor
}

/// A bundle of so many bytes that nobody has put anywhere.
fn claimed(number: usize, size: u64) -> Value {
    json!({"mediaType": SIGSTORE_BUNDLE, "digest": format!("sha256:{number:064x}"), "size": size})
}

/// What is found by a registry that plays `reply`, and what it was asked for.
async fn found<F>(reply: F) -> (Result<ImageSignatures, String>, Vec<String>)
where
    F: Fn(&Asked, usize) -> Reply + Send + Sync + 'static,
{
    let server = Server::start(reply).await;
    let (network, _folder) = network("{}", |options| {
        options.sizes.manifest = 64 << 10;
        options.sizes.attestation = 16 * MIB;
    });
    let request = MetaRequest {
        source: SourceOp::new(format!("docker-image://{}/acme/app:1", server.host)),
        signatures: Some(SignaturesRequest { digest: image() }),
        ..MetaRequest::default()
    };
    let meta = network.resolve(&request).await;
    let meta = meta.map_err(|error| error.to_string().replace(&server.host, "HOST"));
    (meta.map(|meta| meta.signatures.unwrap()), server.log())
}

/// The same of one page with these referrers.
async fn listed(
    mut store: Store,
    referrers: &[Value],
) -> (Result<ImageSignatures, String>, Vec<String>) {
    let list = json!({"schemaVersion": 2, "manifests": referrers}).to_string();
    store.0.insert(format!("/v2/acme/app/referrers/{}", image()), Reply::ok(OCI_INDEX, list));
    found(move |asked, _| store.get(asked)).await
}

#[tokio::test]
async fn too_many_or_too_large_ones_are_not_even_fetched() {
    let numbered = |count: usize, size| (0..count).map(|at| claimed(at, size)).collect::<Vec<_>>();
    for (what, layers, wanted) in [
        ("33", numbered(33, 2), "more than 32 signatures say they sign it"),
        ("33 large ones", numbered(33, 8 * MIB), "more than 32 signatures say they sign it"),
        ("5 of 8 MiB", numbered(5, 8 * MIB), "have more than 32 MiB together"),
        ("one of more", numbered(1, 8 * MIB + 1), "larger than the limit of 8388608 bytes"),
    ] {
        let mut store = Store::default();
        let referrers: Vec<Value> =
            layers.chunks(2).map(|layers| signing(&mut store, SIGSTORE_BUNDLE, layers)).collect();
        let (found, log) = listed(store, &referrers).await;
        let error = found.unwrap_err();
        assert!(error.contains(wanted), "{what}: {error}");
        assert!(!log.iter().any(|line| line.contains("/blobs/")), "{what}: {log:?}");
    }
    let mut store = Store::default();
    let referrers: Vec<Value> =
        (0..33).map(|at| signing(&mut store, SIGSTORE_BUNDLE, &[claimed(at, 2)])).collect();
    let (found, log) = listed(store, &referrers).await;
    assert!(found.unwrap_err().contains("more than 32 manifests"));
    assert_eq!(log.len(), 1, "{log:?}");
}

#[tokio::test]
async fn what_does_not_say_that_it_signs_hides_nothing() {
    let mut store = Store::default();
    let bundle = store.blob(SIGSTORE_BUNDLE, b"{\"bundle\":1}");
    let right = signing(&mut store, SIGSTORE_BUNDLE, &[bundle]);
    let index = store.document(OCI_INDEX, None, &json!({"manifests": []}));
    let mut typed = index.clone();
    typed["artifactType"] = json!(SIGSTORE_BUNDLE);
    // As many attestations as nobody would fetch, stored as cosign stores them.
    let about = |states: &str| {
        let mut descriptor = json!({
            "mediaType": OCI_MANIFEST, "digest": format!("sha256:{}", "0".repeat(64)), "size": 2,
            "artifactType": SIGSTORE_BUNDLE,
        });
        descriptor["annotations"] = json!({"dev.sigstore.bundle.predicateType": states});
        descriptor
    };
    let attested = vec![about("https://slsa.dev/provenance/v1"); 40];
    for (what, beside, wanted) in [
        ("an index that says nothing", vec![index], Ok(1)),
        ("an index that says it signs", vec![typed], Err("and is an index")),
        ("attestations", attested, Ok(1)),
        (
            "a signature that is gone",
            vec![about("https://sigstore.dev/cosign/sign/v1")],
            Err("not found"),
        ),
    ] {
        let referrers = [beside, vec![right.clone()]].concat();
        let (found, _) = listed(store.clone(), &referrers).await;
        match (found, wanted) {
            (Ok(found), Ok(count)) => assert_eq!(found.found.len(), count, "{what}"),
            (Err(error), Err(words)) => assert!(error.contains(words), "{what}: {error}"),
            (found, wanted) => panic!("{what}: {found:?} instead of {wanted:?}"),
        }
    }
}

#[tokio::test]
async fn a_list_is_read_to_its_end_or_not_at_all() {
    let mut store = Store::default();
    let bundle = store.blob(SIGSTORE_BUNDLE, b"{\"bundle\":1}");
    let right = signing(&mut store, SIGSTORE_BUNDLE, &[bundle]);
    let path = format!("/v2/acme/app/referrers/{}", image());
    let page = |referrers: &[Value]| {
        let list = json!({"schemaVersion": 2, "manifests": referrers});
        Reply::ok(OCI_INDEX, list.to_string())
    };
    let last = |pages: usize| format!("of {pages}");
    // How many pages, how each names the next one, and what is found or why not.
    for (what, pages, link, wanted) in [
        ("one", 1, "", Ok(())),
        ("two", 2, "<PATH?last=NEXT>; rel=\"next\"", Ok(())),
        ("eight", 8, "<PATH?last=NEXT>; rel=next", Ok(())),
        ("by a whole URL", 2, "<http://HOST/PATH?last=NEXT>; rel=\"NEXT_\"", Ok(())),
        ("nine", 9, "<PATH?last=NEXT>; rel=\"next\"", Err("more than 8 pages")),
        ("at another server", 2, "<http://127.0.0.1:1/x>; rel=\"next\"", Err("another place")),
        ("at another path", 2, "</v2/evil/app/x>; rel=\"next\"", Err("another place")),
        ("nowhere", 2, "; rel=\"next\"", Err("cannot be read")),
        ("at a page that is gone", 2, "<PATH?last=99>; rel=\"next\"", Err("cannot be read")),
        ("another link", 1, "<PATH?last=99>; rel=\"prev\"", Ok(())),
        ("of several relations", 2, "<PATH?last=NEXT>; rel=\"next last\"", Ok(())),
        ("with white space", 2, "<PATH?last=NEXT> ; rel = \"next\"", Ok(())),
        ("among links", 2, "<PATH?last=99>; rel=prev, <PATH?last=NEXT>; rel=next", Ok(())),
        ("twice", 2, "<PATH?last=NEXT>; rel=next, <PATH?last=NEXT>; rel=\"next\"", Ok(())),
        ("at two", 2, "<PATH?last=NEXT>; rel=next, <PATH>; rel=next", Err("cannot be read")),
        ("after garbage", 2, "x, <PATH?last=NEXT>; rel=next", Err("cannot be read")),
    ] {
        let (store, right, path) = (store.clone(), right.clone(), path.clone());
        let (found, log) = found(move |asked, _| {
            let Some(rest) = asked.target.strip_prefix(&path) else { return store.get(asked) };
            let number: usize = rest.strip_prefix("?last=").map_or(1, |it| it.parse().unwrap());
            if number > pages {
                return Reply::status(404);
            }
            let listed = if number == pages { vec![right.clone()] } else { Vec::new() };
            let reply = page(&listed);
            if (number == pages && pages > 1) || link.is_empty() {
                return reply;
            }
            let link = link
                .replace("http://HOST/PATH", &format!("http://{}{path}", asked.headers["host"]))
                .replace("PATH", &path)
                .replace("NEXT_", "next")
                .replace("NEXT", &(number + 1).to_string());
            reply.with("Link", &link)
        })
        .await;
        match (found, wanted) {
            (Ok(found), Ok(())) => assert_eq!(found.found.len(), 1, "{what}: {log:?}"),
            (Err(error), Err(words)) => assert!(error.contains(words), "{what}: {error}"),
            (found, wanted) => panic!("{what} {}: {found:?} instead of {wanted:?}", last(pages)),
        }
    }
}

/// A mirror of several registries that is not told whose content it is asked for has another's.
#[tokio::test]
async fn a_mirror_is_told_on_each_page_whose_list_it_is() {
    let mut store = Store::default();
    let bundle = store.blob(SIGSTORE_BUNDLE, b"{\"bundle\":1}");
    let right = signing(&mut store, SIGSTORE_BUNDLE, &[bundle]);
    for (what, link, believed) in [
        ("without it", "<?last=2>; rel=next", true),
        ("with it", "<?ns=NS&last=2>; rel=next", true),
        ("with another", "<?ns=evil.example&last=2>; rel=next", false),
        ("with two", "<?ns=NS&ns=evil.example&last=2>; rel=next", false),
    ] {
        let (store, right) = (store.clone(), right.clone());
        let registry = Server::start(|_, _| Reply::status(404)).await;
        let ns = registry.host.replace(':', "%3A");
        let link = link.replace("NS", &ns);
        let mirror = Server::start(move |asked, _| {
            let (path, query) = asked.target.split_once('?').unwrap_or((&asked.target, ""));
            if !query.split('&').any(|it| it == format!("ns={ns}")) {
                return Reply::status(404);
            }
            let page = |referrers: &[&Value]| {
                let list = json!({"schemaVersion": 2, "manifests": referrers});
                Reply::ok(OCI_INDEX, list.to_string())
            };
            match (path.contains("/referrers/"), query.contains("last=2")) {
                (true, false) => page(&[]).with("Link", &link),
                (true, true) => page(&[&right]),
                (false, _) => store.get(asked),
            }
        })
        .await;
        let url = format!("http://{}", mirror.host).parse().unwrap();
        let (network, _folder) = network("{}", |options| {
            options.mirrors.insert(registry.host.clone(), vec![url]);
        });
        let request = MetaRequest {
            source: SourceOp::new(format!("docker-image://{}/acme/app:1", registry.host)),
            signatures: Some(SignaturesRequest { digest: image() }),
            ..MetaRequest::default()
        };
        let found = network.resolve(&request).await.unwrap().signatures.unwrap();
        // Where a mirror is not believed, the registry is asked, and this one has nothing.
        assert_eq!(found.found.len(), usize::from(believed), "{what}: {:?}", mirror.log());
        let asked = registry.log().iter().any(|line| line.contains("/referrers/"));
        assert_eq!(asked, !believed, "{what}: {:?}", registry.log());
    }
}
