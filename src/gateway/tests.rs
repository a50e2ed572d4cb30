//! The gateway against a daemon that answers from memory and notes what it is asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message;
use sha2::{Digest, Sha256};

use super::*;
use crate::meta::{
    ContentRequest, ImageRequest, MAX_CONTENT, MetaRequest, ResolveError, ResolveSourceMeta,
};
use crate::rpc::Body;
use crate::source::SourceOp;
use crate::wire::proto::sourcepolicy::PolicyAction;
use crate::wire::proto::{fsutil, gateway, pb};

/// A file for each source, by the source's identifier.
type Files = BTreeMap<String, Bytes>;

/// What the daemon was asked, call by call.
type Asked = Arc<Mutex<Vec<(String, Bytes)>>>;

struct Daemon {
    gateway: Gateway,
    asked: Asked,
}

impl Daemon {
    /// Solves, lists and reads these files; each source is one file of the name `file`.
    async fn with(files: Files) -> Self {
        let asked = Asked::default();
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let service = {
            let (files, asked) = (Arc::new(files), Arc::clone(&asked));
            service_fn(move |request: Request<Incoming>| {
                let (files, asked) = (Arc::clone(&files), Arc::clone(&asked));
                async move { Ok::<_, Infallible>(answer(request, &files, &asked).await) }
            })
        };
        tokio::spawn(
            http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(theirs), service),
        );
        let (input, output) = tokio::io::split(ours);
        let (channel, connection) = Channel::connect(input, output).await.unwrap();
        tokio::spawn(connection);
        Self { gateway: Gateway::new(channel), asked }
    }

    fn asked<M: Message + Default>(&self, method: &str) -> Vec<M> {
        let asked = self.asked.lock().unwrap();
        let of_method = asked.iter().filter(|(name, _)| name == method);
        of_method.map(|(_, message)| M::decode(message.clone()).unwrap()).collect()
    }
}

async fn answer(request: Request<Incoming>, files: &Files, asked: &Asked) -> Response<Body> {
    let path = request.uri().path();
    let method = path.strip_prefix(SERVICE).unwrap_or(path).to_owned();
    let (message, _) = crate::rpc::read_one(request.into_body()).await.unwrap();
    let message = message.unwrap_or_default();
    asked.lock().unwrap().push((method.clone(), message.clone()));
    let reply = match method.as_str() {
        "Solve" => match loaded(&message).filter(|it| files.contains_key(it)) {
            Some(identifier) => gateway::SolveResponse {
                result: Some(gateway::Result {
                    result: Some(gateway::result::Result::Ref(gateway::Ref {
                        id: identifier,
                        def: None,
                    })),
                    ..Default::default()
                }),
                ..Default::default()
            }
            .encode_to_vec(),
            None => {
                let said = files.get("said of blobs").map_or(b"NotFound".as_slice(), |it| &it[..]);
                let code = match said {
                    b"NotFound" => tonic::Code::NotFound,
                    b"Unknown" => tonic::Code::Unknown,
                    b"Internal" => tonic::Code::Internal,
                    b"Unavailable" => tonic::Code::Unavailable,
                    other => panic!("{other:?}"),
                };
                return Status::new(code, "the registry does not give it").into_http();
            }
        },
        "ReadDir" => {
            let file = fsutil::Stat { path: "file".to_owned(), ..Default::default() };
            gateway::ReadDirResponse { entries: vec![file] }.encode_to_vec()
        }
        "ReadFile" => {
            let wire = gateway::ReadFileRequest::decode(message).unwrap();
            let range = wire.range.unwrap();
            let all = &files[&wire.r#ref];
            let from = usize::try_from(range.offset).unwrap().min(all.len());
            let to = (from + usize::try_from(range.length).unwrap()).min(all.len());
            // No daemon sends more at once.
            assert!(to - from < 16 << 20);
            gateway::ReadFileResponse { data: all.slice(from..to) }.encode_to_vec()
        }
        "ResolveSourceMeta" => {
            let wire = gateway::ResolveSourceMetaRequest::decode(message).unwrap();
            // What is said of a platform; of those without a word, the one of attestations has one.
            let os = wire.platform.as_ref().map(|it| it.os.as_str()).unwrap_or_default();
            let said = files.get(os).map(|said| String::from_utf8(said.to_vec()).unwrap());
            let config = match said.as_deref().unwrap_or(match os {
                "buildgate" => "NotFound",
                _ => "{}",
            }) {
                "NotFound" => return Status::not_found("no match for platform").into_http(),
                "Unknown" => return Status::unknown("unknown type").into_http(),
                "Unavailable" => return Status::unavailable("it is down").into_http(),
                config => config.to_owned(),
            };
            let chain = wire.image.is_some_and(|it| it.attestation_chain);
            let chain = chain.then(|| gateway::AttestationChain {
                image_manifest: "asked".into(),
                ..Default::default()
            });
            gateway::ResolveSourceMetaResponse {
                source: wire.source,
                image: Some(gateway::ResolveSourceImageResponse {
                    digest: digest(b"root"),
                    config: config.into(),
                    attestation_chain: chain,
                }),
                ..Default::default()
            }
            .encode_to_vec()
        }
        "/containerd.services.content.v1.Content/Read" => {
            let wire = probe::ReadContentRequest::decode(message).unwrap();
            let mut found = files.iter().filter(|(name, _)| name.ends_with(&wire.digest));
            let Some((_, data)) = found.next() else {
                return Status::not_found("the daemon has no such content").into_http();
            };
            probe::ReadContentResponse { data: data.clone() }.encode_to_vec()
        }
        other => panic!("{other}"),
    };
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let body = crate::rpc::one(&reply).with_trailers(async move { Some(Ok(trailers)) });
    let response = Response::builder().header("content-type", "application/grpc");
    response.body(crate::rpc::through(body)).unwrap()
}

/// The source that a solve loads, where its rules let it pass and nothing else.
fn loaded(message: &Bytes) -> Option<String> {
    let wire = gateway::SolveRequest::decode(message.clone()).unwrap();
    let op = pb::Op::decode(wire.definition.unwrap().def[0].clone()).unwrap();
    let Some(pb::op::Op::Source(source)) = op.op else { panic!("no source") };
    let [guard] = wire.source_policies.as_slice() else { panic!("no rules of ours") };
    let (first, others) = guard.rules.split_first().unwrap();
    assert_eq!(first.action(), PolicyAction::Deny);
    assert_eq!(first.selector.as_ref().unwrap().identifier, ".*");
    for rule in others {
        let selector = rule.selector.as_ref().unwrap();
        assert_eq!(rule.action(), PolicyAction::Allow);
        assert_eq!(selector.identifier, source.identifier);
        for (name, value) in &source.attrs {
            assert!(selector.constraints.iter().any(|it| it.key == *name && it.value == *value));
        }
    }
    assert!(!others.is_empty());
    Some(source.identifier)
}

fn digest(of: &[u8]) -> String {
    format!("sha256:{}", hex::encode(Sha256::digest(of)))
}

const URL: &str = "https://h.example/f";

#[tokio::test]
async fn a_file_is_read_whole_or_not_at_all() {
    for (length, limit, reads) in [
        (0, 10, 1),
        (10, 10, 1),
        (11, 10, 1),
        (4 << 20, 4 << 20, 2),
        (9 << 20, MAX_CONTENT, 3),
        (MAX_CONTENT, MAX_CONTENT, 5),
        (MAX_CONTENT + 1, MAX_CONTENT, 5),
        (MAX_CONTENT * 2, MAX_CONTENT, 5),
    ] {
        let file = Bytes::from((0..251_u8).cycle().take(length).collect::<Vec<u8>>());
        let daemon = Daemon::with([(URL.to_owned(), file.clone())].into()).await;
        let tree = Tree::load(&daemon.gateway, &SourceOp::new(URL)).await.unwrap();
        match tree.read("file", limit as u64).await {
            Ok(data) => assert!(length <= limit && data == file, "{length}"),
            Err(ReadError::TooLarge { limit: at, .. }) => {
                assert!(length > limit && at == limit as u64, "{length}");
            }
            Err(ReadError::Daemon(status)) => panic!("{length}: {status:?}"),
        }
        assert_eq!(daemon.asked::<gateway::ReadFileRequest>("ReadFile").len(), reads, "{length}");
    }
}

#[tokio::test]
async fn content_that_is_too_large_is_not_judged_cut() {
    for (length, read) in [(9 << 20, true), (MAX_CONTENT, true), (MAX_CONTENT + 1, false)] {
        let file = Bytes::from(vec![7; length]);
        let daemon = Daemon::with([(URL.to_owned(), file)].into()).await;
        let source = SourceOp::new(URL);
        let request =
            MetaRequest { source, content: Some(ContentRequest), ..MetaRequest::default() };
        match daemon.gateway.resolve(&request).await {
            Ok(meta) => {
                let data = meta.content.unwrap().data.unwrap();
                assert!(read && data.len() == length, "{length}: {}", data.len());
            }
            Err(ResolveError::TooLarge { limit, .. }) => {
                assert!(!read && limit == MAX_CONTENT as u64);
            }
            Err(error) => panic!("{length}: {error}"),
        }
    }
}

/// Each solve of ours says what may come of it.
#[tokio::test]
async fn nothing_but_what_we_ask_for_may_be_loaded() {
    let policy = ("file".to_owned(), Bytes::from_static(b"policy"));
    let ops = [
        SourceOp::new(URL),
        super::local("context", "session", &["Dockerfile".to_owned()]),
        SourceOp {
            identifier: "git://h.example/a.git#main".to_owned(),
            attrs: [("git.skipsubmodules".to_owned(), "true".to_owned())].into(),
        },
    ];
    for op in ops {
        let daemon = Daemon::with([(op.identifier.clone(), policy.1.clone())].into()).await;
        let tree = Tree::load(&daemon.gateway, &op).await.unwrap();
        assert_eq!(tree.read_all("").await.unwrap(), [policy.clone()].into());
        Tree::unpacked(&daemon.gateway, &op).await.unwrap();
        let solves = daemon.asked::<gateway::SolveRequest>("Solve");
        let attrs = |solve: &gateway::SolveRequest| -> Vec<String> {
            let rules = &solve.source_policies[0].rules;
            let given = rules[1].selector.as_ref().unwrap().constraints.iter();
            given.filter(|it| !it.value.is_empty()).map(|it| it.key.clone()).collect()
        };
        assert_eq!(solves.len(), 2);
        assert!(!attrs(&solves[0]).contains(&"http.filename".to_owned()));
        assert!(attrs(&solves[1]).contains(&"http.filename".to_owned()));
    }
}

/// The root says whether a daemon is asked for attestations; where it cannot be read, nobody knows.
#[tokio::test]
async fn attestations_are_absent_or_asked_for_or_not_known() {
    let index =
        r#""manifests":[{"annotations":{"vnd.docker.reference.type":"attestation-manifest"}}]"#;
    let list = "application/vnd.docker.distribution.manifest.list.v2+json";
    let oci = "application/vnd.oci.image.index.v1+json";
    let large = " ".repeat((4 << 20) + 1);
    for (root, on_socket, in_frontend) in [
        (Some(r#"{"config":{},"layers":[]}"#.to_owned()), Ok(""), Ok("")),
        (Some(format!(r#"{{"mediaType":"{oci}",{index}}}"#)), Ok("asked"), Ok("asked")),
        (Some(format!(r#"{{"mediaType":"{list}","manifests":[]}}"#)), Ok(""), Ok("")),
        (
            Some(format!(r#"{{"mediaType":"{list}",{index}}}"#)),
            Err("could not be verified"),
            Err("could not be verified"),
        ),
        (Some(format!("{{{index}}}")), Err("could not be verified"), Err("could not be verified")),
        (Some("<html>".to_owned()), Err("could not be verified"), Err("could not be verified")),
        (Some(large), Err("could not be verified"), Err("larger than the limit of 4194304 bytes")),
        // A registry may give nothing of OCI as a blob.
        (None, Err("not found"), Ok("asked")),
    ] {
        let digest = digest(b"root");
        let blob = format!("docker-image+blob://r.example/a@{digest}");
        for (place, wanted) in [(Place::ControlSocket, on_socket), (Place::Frontend, in_frontend)] {
            let files = root.iter().map(|root| (blob.clone(), Bytes::from(root.clone()))).collect();
            let daemon = Daemon::with(files).await;
            let gateway = Gateway { place, ..daemon.gateway.clone() };
            for name in ["r.example/a:1", &format!("r.example/a@{digest}")] {
                let source = SourceOp::new(format!("docker-image://{name}"));
                let image = Some(ImageRequest { config: true, attestations: true });
                let request = MetaRequest { source, image, ..MetaRequest::default() };
                let got = gateway.resolve(&request).await;
                let answered = gateway.answer_for(request.into()).await;
                match (got, answered, wanted) {
                    (Ok(got), Ok(answered), Ok(wanted)) => {
                        let chain = got.image.unwrap().attestations.unwrap();
                        assert_eq!(chain.image_manifest, wanted, "{place:?}");
                        let chain = answered.image.unwrap().attestation_chain.unwrap();
                        assert_eq!(chain.image_manifest, wanted, "{place:?}");
                    }
                    (Err(error), Err(status), Err(wanted)) => {
                        assert!(error.to_string().contains(wanted), "{place:?}: {error}");
                        assert!(status.message().contains(wanted), "{place:?}: {status:?}");
                    }
                    (got, answered, _) => panic!("{place:?}: {got:?} {answered:?}"),
                }
            }
            let asked = daemon.asked::<gateway::ResolveSourceMetaRequest>("ResolveSourceMeta");
            let chains = asked.iter().filter(|it| it.image.as_ref().unwrap().attestation_chain);
            assert_eq!(chains.count(), if wanted == Ok("asked") { 4 } else { 0 }, "{place:?}");
        }
    }
}

/// A root that is not a blob of its registry may be anything; one that could not be looked for is not known.
#[tokio::test]
async fn only_what_is_not_there_as_a_blob_is_asked_for_unseen() {
    for (said, wanted) in
        [("NotFound", true), ("Unknown", true), ("Internal", false), ("Unavailable", false)]
    {
        let daemon = Daemon::with(
            [("said of blobs".to_owned(), Bytes::from_static(said.as_bytes()))].into(),
        )
        .await;
        let source = SourceOp::new(format!("docker-image://r.example/a@{}", digest(b"root")));
        let image = Some(ImageRequest { config: true, attestations: true });
        let request = MetaRequest { source, image, ..MetaRequest::default() };
        let got = daemon.gateway.resolve(&request).await;
        assert_eq!(got.is_ok(), wanted, "{said}");
        let asked = daemon.asked::<gateway::ResolveSourceMetaRequest>("ResolveSourceMeta");
        let chains = asked.iter().filter(|it| it.image.as_ref().unwrap().attestation_chain);
        assert_eq!(chains.count(), usize::from(wanted), "{said}");
    }
}

/// Where the two lookups of a frontend say anything but what an index or a manifest makes them say,
/// there is no answer; an error of the registry is not one either.
#[tokio::test]
async fn what_does_not_fit_together_is_no_absence() {
    for (image, kept, control, wanted) in [
        ("{}", "NotFound", "NotFound", Some("")),
        ("{}", "Unknown", "Unknown", Some("")),
        ("{}", "{}", "{}", Some("")),
        ("{}", "{}", "NotFound", Some("asked")),
        ("{}", "{}", "Unknown", Some("asked")),
        ("{}", "Unknown", "NotFound", Some("asked")),
        ("{}", "NotFound", "{}", None),
        ("{}", "{}", "{ }", None),
        ("{}", "Unavailable", "Unavailable", None),
        ("{}", "Unavailable", "NotFound", None),
        // What nobody gets tells nothing of platforms.
        ("Unknown", "Unknown", "Unknown", None),
        ("Unknown", "NotFound", "NotFound", None),
    ] {
        let said = |os: &str, text: &str| (os.to_owned(), Bytes::from(text.to_owned()));
        let files = [said("", image), said("unknown", kept), said("buildgate", control)];
        let daemon = Daemon::with(files.into()).await;
        let source = SourceOp::new(format!("docker-image://r.example/a@{}", digest(b"root")));
        let asked = Some(ImageRequest { config: true, attestations: true });
        let request = MetaRequest { source, image: asked, ..MetaRequest::default() };
        let got = daemon.gateway.resolve(&request).await;
        let got = got.ok().map(|got| got.image.unwrap().attestations.unwrap().image_manifest);
        assert_eq!(got.as_deref(), wanted, "{image} {kept} {control}");
        let request = gateway::ResolveSourceMetaRequest::from(request);
        let got = daemon.gateway.answer_for(request).await.ok();
        let got = got.map(|got| got.image.unwrap().attestation_chain.unwrap().image_manifest);
        assert_eq!(got.as_deref(), wanted, "{image} {kept} {control}");
    }
}

/// What attests a hardened image refers to it: in a frontend its index alone tells, and where that is out of
/// sight, nobody knows. Any other image without attestations has none.
#[tokio::test]
async fn what_may_be_hardened_is_no_absence() {
    let oci = "application/vnd.oci.image.index.v1+json";
    let entry = r#"{"digest":"d","annotations":{"com.docker.dhi.build.id":"1"}}"#;
    let title = r#""annotations":{"org.opencontainers.image.title":"dhi/node"}"#;
    let hardened = format!(r#"{{"mediaType":"{oci}","manifests":[{entry}],{title}}}"#);
    let plain = format!(r#"{{"mediaType":"{oci}","manifests":[{{"digest":"d"}}]}}"#);
    let list = hardened.replace(oci, "application/vnd.docker.distribution.manifest.list.v2+json");
    let labelled = r#"{"config":{"Labels":{"com.docker.dhi.name":"dhi/node"}}}"#;
    let unknown = Err("it may be a Docker Hardened Image");
    for (name, config, root, wanted) in [
        ("r.example/a", labelled, Some(&hardened), Ok("asked")),
        // What is built on one has its labels.
        ("r.example/a", labelled, Some(&plain), Ok("")),
        ("r.example/a", labelled, Some(&list), Err("is no OCI index")),
        ("r.example/a", labelled, None, unknown),
        ("r.example/a", r#"{"Config":{"labels":{"com.docker.dhi.x":""}}}"#, None, unknown),
        ("dhi.io/node", "{}", Some(&hardened), Ok("asked")),
        ("dhi.io/node", "{}", None, unknown),
        ("docker.io/org/dhi-node", "{}", None, unknown),
        ("r.example/dhi/node", "{}", None, unknown),
        ("r.example/delhi/node-dhi", "{}", None, Ok("")),
        ("r.example/a", r#"{"config":{"Labels":{"com.docker.compose.x":""}}}"#, None, Ok("")),
    ] {
        let said = |os: &str, text: &str| (os.to_owned(), Bytes::from(text.to_owned()));
        let mut files: Files =
            [said("", config), said("unknown", "NotFound"), said("buildgate", "NotFound")].into();
        let digest = digest(b"root");
        let blob = format!("docker-image+blob://{name}@{digest}");
        files.extend(root.map(|root| (blob, Bytes::from(root.clone()))));
        let daemon = Daemon::with(files).await;
        let source = SourceOp::new(format!("docker-image://{name}@{digest}"));
        let image = Some(ImageRequest { config: true, attestations: true });
        let request = MetaRequest { source, image, ..MetaRequest::default() };
        match (daemon.gateway.resolve(&request).await, wanted) {
            (Ok(got), Ok(wanted)) => {
                let chain = got.image.unwrap().attestations.unwrap();
                assert_eq!(chain.image_manifest, wanted, "{name} {config} {root:?}");
            }
            (Err(error), Err(wanted)) => {
                let said = error.to_string();
                assert!(said.contains(wanted) && said.contains("could not be"), "{said}");
            }
            (got, _) => panic!("{name} {config} {root:?}: {got:?}"),
        }
        // An image that is one for every platform has no index.
        let same = [said("", config), said("unknown", config), said("buildgate", config)];
        let daemon = Daemon::with(same.into()).await;
        let got = daemon.gateway.resolve(&request).await.unwrap();
        assert_eq!(got.image.unwrap().attestations, Some(Default::default()));
        assert_eq!(daemon.asked::<gateway::SolveRequest>("Solve").len(), 0);
    }
}
