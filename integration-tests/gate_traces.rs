//! Traces to a collector by TLS, which has a certificate of an authority of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::frontend_show::clients::Ended;
use crate::gate_enforce::only;
use crate::gate_ops::Gate;
use crate::peers::{self, Authority, need};

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A collector; gives its port, and how often it was given something.
async fn collector(authority: &Authority) -> (u16, Arc<AtomicUsize>) {
    let here = rcgen::SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    authority.sign("collector", here);
    let cert = CertificateDer::from_pem_file(authority.file("collector")).unwrap();
    let key = PrivateKeyDer::from_pem_file(authority.file("collector.key")).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![cert], key)
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let given = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&given);
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let (acceptor, counted) = (acceptor.clone(), Arc::clone(&counted));
            tokio::spawn(async move {
                // Who does not trust it goes away.
                let Ok(tls) = acceptor.accept(tcp).await else { return };
                let service = hyper::service::service_fn(move |request: http::Request<_>| {
                    let counted = Arc::clone(&counted);
                    async move {
                        assert_eq!(request.uri().path(), EXPORT);
                        assert_eq!(request.uri().scheme_str(), Some("https"));
                        let (message, _) =
                            buildgate::rpc::read_one(request.into_body()).await.unwrap();
                        let message = message.unwrap();
                        let name = b"the-gate";
                        assert!(message.windows(name.len()).any(|part| part == name));
                        counted.fetch_add(1, Ordering::SeqCst);
                        Ok::<_, std::convert::Infallible>(buildgate::rpc::answered(b""))
                    }
                });
                let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                let _ = http.serve_connection(TokioIo::new(tls), service).await;
            });
        }
    });
    (port, given)
}

#[test]
fn traces_go_by_tls_to_who_can_be_trusted() {
    let world = need!(peers::world());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (ours, others) = (Authority::new(), Authority::new());
    let (port, given) = runtime.block_on(collector(&ours));
    let endpoint = format!("https://127.0.0.1:{port}");
    for (authority, wanted) in [(&others, false), (&ours, true)] {
        let dir = peers::folder(&[("policy/p.rego", &only("true"))]);
        let listen = format!("unix://{}/gate.sock", dir.path().display());
        let ca = authority.file("ca").display().to_string();
        let mut gate = Gate::start(
            dir,
            &["--listen", &listen, "--upstream", world.buildkit.address(), "--policy", "policy"],
            &[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", &endpoint),
                ("OTEL_EXPORTER_OTLP_CERTIFICATE", &ca),
                ("OTEL_SERVICE_NAME", "the-gate"),
            ],
        );
        let mut looking = gate.buildctl("gate.sock");
        let ended: Ended = looking.args(["debug", "workers"]).output().unwrap().into();
        ended.passed("looking");
        gate.signal("-TERM");
        assert_eq!(gate.ended(), 0, "{}", gate.log());
        assert_eq!(given.load(Ordering::SeqCst) > 0, wanted, "{}", gate.log());
    }
}
