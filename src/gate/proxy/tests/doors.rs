//! Who gets in.

use std::os::unix::fs::{MetadataExt, PermissionsExt};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType,
    date_time_ymd,
};
use tokio::net::TcpStream;

use super::super::tls::ALPN;
use super::*;

fn unix(path: &Path) -> ListenOptions {
    ListenOptions::at(Address::Unix(path.to_owned()))
}

#[tokio::test]
async fn a_unix_socket_has_its_mode_and_group_and_goes_when_it_ends() {
    let folder = tempfile::tempdir().unwrap();
    let root = std::fs::metadata(folder.path()).unwrap();
    let path = folder.path().join("deep/er/g.sock");
    for (mode, group, wanted) in [
        (None, None, (0o600, root.gid())),
        (None, Some(Group::Id(root.gid())), (0o660, root.gid())),
        (Some(0o666), None, (0o666, root.gid())),
        (None, Some("root".parse().unwrap()), (0o660, 0)),
        (Some(0o620), Some("daemon".parse().unwrap()), (0o620, 1)),
    ] {
        if root.uid() != 0 && wanted.1 != root.gid() {
            continue;
        }
        let listener = bind(ListenOptions { mode, group, ..unix(&path) }).await.unwrap();
        let file = std::fs::metadata(&path).unwrap();
        assert_eq!((file.permissions().mode() & 0o7777, file.gid()), wanted);
        assert_eq!(listener.address().unwrap(), Address::Unix(path.clone()));
        drop(listener);
        assert!(!path.exists());
        let left: Vec<_> = std::fs::read_dir(path.parent().unwrap()).unwrap().collect();
        assert_eq!(left.len(), 1, "only the lock stays: {left:?}");
    }
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_a_live_one_never() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("g.sock");
    let refused = |wanted: &'static str| {
        let options = unix(&path);
        async move {
            let error = bind(options).await.unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    };
    // Somebody else's, alive; then dead.
    let other = UnixListener::bind(&path).unwrap();
    refused("another process listens there").await;
    drop(other);
    assert!(path.exists());
    let ours = bind(unix(&path)).await.unwrap();
    // Ours, alive, even where nobody answers any more because its file is another's.
    refused("another process listens there").await;
    std::fs::remove_file(&path).unwrap();
    refused("another process listens there").await;
    // A successor's file stays when we go.
    let next = UnixListener::bind(&path).unwrap();
    drop(ours);
    assert!(path.exists());
    drop(next);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "precious").unwrap();
    refused("is there already and no socket").await;
    assert_eq!(std::fs::read(&path).unwrap(), b"precious");
    let group = Some(Group::Name("no-such-group".to_owned()));
    let fresh = folder.path().join("h.sock");
    let error = bind(ListenOptions { group, ..unix(&fresh) }).await.unwrap_err().to_string();
    assert!(error.contains("there is no group no-such-group") && !fresh.exists(), "{error}");
}

#[tokio::test]
async fn plain_tcp_stays_on_this_machine() {
    for (address, plaintext, opens) in [
        ("tcp://127.0.0.1:0", Plaintext::Loopback, true),
        ("tcp://localhost:0", Plaintext::Loopback, true),
        ("tcp://0.0.0.0:0", Plaintext::Loopback, false),
        ("tcp://:0", Plaintext::Loopback, false),
        ("tcp://0.0.0.0:0", Plaintext::Anywhere, true),
    ] {
        let options = ListenOptions { plaintext, ..ListenOptions::at(address.parse().unwrap()) };
        let got = bind(options).await;
        assert_eq!(got.is_ok(), opens, "{address}");
        if let Err(error) = got {
            assert!(error.to_string().contains("--insecure"), "{error}");
        }
    }
}

/// An authority of the tests.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// Until when a certificate is good.
#[derive(Clone, Copy)]
enum Until {
    Long,
    Yesterday,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// A certificate and its key, PEM. Names as patterns have them.
    fn sign(&self, names: &[&str], until: Until) -> (String, String) {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for name in names {
            match name.split_once(':').unwrap() {
                ("dns", dns) => {
                    params.subject_alt_names.push(SanType::DnsName(dns.try_into().unwrap()));
                }
                ("subject", cn) => params.distinguished_name.push(DnType::CommonName, cn),
                _ => params.subject_alt_names.push(SanType::URI((*name).try_into().unwrap())),
            }
        }
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = match until {
            Until::Long => date_time_ymd(2099, 1, 1),
            Until::Yesterday => date_time_ymd(2020, 1, 2),
        };
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.0).unwrap().pem(), key.serialize_pem())
    }
}

/// Files of one TLS listener, and what it trusts.
struct Files(TempDir);

impl Files {
    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn server(&self, clients: &Authority, allow: &[&str]) -> ServerTls {
        let (cert, key) = Authority::new("server").sign(&["dns:localhost"], Until::Long);
        ServerTls {
            cert: self.write("cert", &cert),
            key: self.write("key", &key),
            client_ca: self.write("ca", &clients.0.pem()),
            allow: allow.iter().map(|name| name.parse().unwrap()).collect(),
        }
    }
}

/// What a client that shows this certificate comes to: who it is to the listener, or why it is nobody.
async fn arrive(listener: &Listener, pair: Option<(String, String)>) -> Result<String, String> {
    arrive_offering(listener, pair, &[ALPN]).await
}

/// The same of one that offers these protocols.
async fn arrive_offering(
    listener: &Listener,
    pair: Option<(String, String)>,
    protocols: &[&[u8]],
) -> Result<String, String> {
    let protocols = protocols.iter().map(|it| it.to_vec()).collect();
    let Address::Tcp { port, .. } = listener.address().unwrap() else { panic!("no TCP") };
    let client = tokio::spawn(async move {
        let tcp = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut config = trusting_anyone(pair);
        config.alpn_protocols = protocols;
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let tls = connector.connect("localhost".try_into().unwrap(), tcp).await;
        // Held until the other side has come to its end.
        if let Ok(mut tls) = tls {
            let _ = tokio::io::AsyncReadExt::read(&mut tls, &mut [0]).await;
        }
    });
    let greeted = listener.accept().await.unwrap().greet().await;
    let got = match greeted {
        Ok((_, client)) => Ok(client.identity.to_string()),
        Err(stranger) => Err(stranger.to_string()),
    };
    client.abort();
    got
}

/// The client of these tests trusts any server: it is the server that is tested.
fn trusting_anyone(pair: Option<(String, String)>) -> rustls::ClientConfig {
    use rustls_pki_types::pem::PemObject as _;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyServer(provider)));
    match pair {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder
            .with_client_auth_cert(
                vec![rustls_pki_types::CertificateDer::from_pem_slice(cert.as_bytes()).unwrap()],
                rustls_pki_types::PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
            )
            .unwrap(),
    }
}

#[derive(Debug)]
struct AnyServer(Arc<rustls::crypto::CryptoProvider>);

impl rustls::client::danger::ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &rustls_pki_types::CertificateDer<'_>,
        _: &[rustls_pki_types::CertificateDer<'_>],
        _: &rustls_pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls_pki_types::UnixTime,
    ) -> Result<rustls::client::danger::ServerCertVerified, rustls::Error> {
        Ok(rustls::client::danger::ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &rustls_pki_types::CertificateDer<'_>,
        signed: &rustls::DigitallySignedStruct,
    ) -> Result<rustls::client::danger::HandshakeSignatureValid, rustls::Error> {
        let known = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

async fn tls_listener(tls: ServerTls) -> Listener {
    let options =
        ListenOptions { tls: Some(tls), ..ListenOptions::at("tcp://127.0.0.1:0".parse().unwrap()) };
    bind(options).await.unwrap()
}

#[tokio::test]
async fn tls_lets_in_who_is_known() {
    let ours = Authority::new("ours");
    let theirs = Authority::new("theirs");
    let files = Files(tempfile::tempdir().unwrap());
    let allow = ["spiffe://org/ci/*", "spiffe://org/one", "dns:Laptop.example", "subject:CN=kim"];
    let closed = tls_listener(files.server(&ours, &allow)).await;
    let more = Files(tempfile::tempdir().unwrap());
    let open = tls_listener(more.server(&ours, &[])).await;
    let not = "is not on the list of clients";
    for (authority, names, until, at_closed, at_open) in [
        (
            &ours,
            &["spiffe://org/ci/a"][..],
            Until::Long,
            Ok("spiffe://org/ci/a"),
            Ok("spiffe://org/ci/a"),
        ),
        (&ours, &["spiffe://org/one"], Until::Long, Ok("spiffe://org/one"), Ok("spiffe://org/one")),
        (
            &ours,
            &["dns:laptop.example"],
            Until::Long,
            Ok("dns:laptop.example"),
            Ok("dns:laptop.example"),
        ),
        (&ours, &["subject:kim"], Until::Long, Ok("subject:CN=kim"), Ok("subject:CN=kim")),
        (&ours, &["spiffe://org/ci"], Until::Long, Err(not), Ok("spiffe://org/ci")),
        (&ours, &["spiffe://org/ci/"], Until::Long, Err(not), Ok("spiffe://org/ci/")),
        (&ours, &["spiffe://org/one/more"], Until::Long, Err(not), Ok("spiffe://org/one/more")),
        (&ours, &["dns:x.laptop.example"], Until::Long, Err(not), Ok("dns:x.laptop.example")),
        // A common name is no DNS name.
        (
            &ours,
            &["subject:laptop.example"],
            Until::Long,
            Err(not),
            Ok("subject:CN=laptop.example"),
        ),
        (
            &ours,
            &["spiffe://org/one", "spiffe://org/ci/a"],
            Until::Long,
            Err("more than one SPIFFE id"),
            Err("more than one SPIFFE id"),
        ),
        (&ours, &[], Until::Long, Err("has no name"), Err("has no name")),
        (&ours, &["spiffe://org/one"], Until::Yesterday, Err("xpired"), Err("xpired")),
        (&theirs, &["spiffe://org/one"], Until::Long, Err("UnknownIssuer"), Err("UnknownIssuer")),
    ] {
        for (listener, wanted) in [(&closed, at_closed), (&open, at_open)] {
            let got = arrive(listener, Some(authority.sign(names, until))).await;
            match (&got, wanted) {
                (Ok(got), Ok(wanted)) => assert_eq!(got, wanted),
                (Err(got), Err(wanted)) if got.contains(wanted) => {}
                _ => panic!("{names:?}: {got:?}, not {wanted:?}"),
            }
        }
    }
    let none = arrive(&open, None).await.unwrap_err();
    assert!(none.starts_with("TLS: "), "{none}");
}

#[tokio::test]
async fn who_offers_no_protocol_speaks_http_2() {
    let ours = Authority::new("ours");
    let files = Files(tempfile::tempdir().unwrap());
    let listener = tls_listener(files.server(&ours, &[])).await;
    // As Buildx's remote driver does, which offers none.
    for (protocols, comes_in) in
        [(&[][..], true), (&[b"http/1.1", ALPN], true), (&[b"http/1.1"], false)]
    {
        let pair = ours.sign(&["dns:a"], Until::Long);
        let got = arrive_offering(&listener, Some(pair), protocols).await;
        assert_eq!(got.is_ok(), comes_in, "{protocols:?}: {got:?}");
    }
    assert!(arrive_offering(&listener, None, &[]).await.unwrap_err().starts_with("TLS: "));
}

#[tokio::test]
async fn certificates_are_read_again_whole_or_not_at_all() {
    let (before, after) = (Authority::new("before"), Authority::new("after"));
    let files = Files(tempfile::tempdir().unwrap());
    let tls = files.server(&before, &[]);
    let listener = tls_listener(tls).await;
    let old = || before.sign(&["dns:a"], Until::Long);
    let new = || after.sign(&["dns:b"], Until::Long);
    assert!(arrive(&listener, Some(old())).await.is_ok());
    // A certificate without its key, and then no certificate: nothing of it counts, not even the
    // authority that came with it.
    let (cert, key) = after.sign(&["dns:localhost"], Until::Long);
    files.write("cert", &cert);
    files.write("ca", &after.0.pem());
    for text in ["", "rubbish"] {
        tokio::time::sleep(Duration::from_millis(1300)).await;
        assert!(arrive(&listener, Some(old())).await.is_ok());
        assert!(arrive(&listener, Some(new())).await.is_err());
        files.write("cert", text);
    }
    files.write("cert", &cert);
    files.write("key", &key);
    let mut changed = false;
    for _ in 0..50 {
        changed = arrive(&listener, Some(new())).await.is_ok();
        if changed {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(changed, "the new authority was not taken");
    assert!(arrive(&listener, Some(old())).await.is_err());
}

#[tokio::test]
async fn tls_that_is_no_good_is_an_error_at_start() {
    let authority = Authority::new("one");
    let files = Files(tempfile::tempdir().unwrap());
    let good = files.server(&authority, &[]);
    let other = files.write("other", &authority.sign(&["dns:x"], Until::Long).1);
    let empty = files.write("empty", "");
    let missing = files.0.path().join("missing");
    for (tls, wanted) in [
        (ServerTls { key: other, ..good.clone() }, "cert and its key"),
        (ServerTls { cert: empty.clone(), ..good.clone() }, "empty: holds no certificate"),
        (ServerTls { client_ca: empty.clone(), ..good.clone() }, "empty: holds no certificate"),
        (ServerTls { key: empty, ..good.clone() }, "empty: no PEM of a private key"),
        (ServerTls { key: missing, ..good.clone() }, "missing: No such file"),
    ] {
        let options = ListenOptions {
            tls: Some(tls),
            ..ListenOptions::at("tcp://127.0.0.1:0".parse().unwrap())
        };
        let error = bind(options).await.unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}
