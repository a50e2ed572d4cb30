//! TLS to a collector, as the gate speaks it elsewhere: no certificate that the system's authorities, or
//! those that are named, have not issued for its name, and HTTP/2 inside.

use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::future::BoxFuture;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::codegen::Service;
use tonic::transport::{Channel, Endpoint};
use url::{Host, Url};

use crate::rpc::BoxError;

/// HTTP/2 (RFC 9113, section 3.2).
const ALPN: &[u8] = b"h2";
/// How long it may take to reach the collector.
const CONNECT: Duration = Duration::from_secs(10);
/// How long it may take to answer (OpenTelemetry's own default).
const ANSWER: Duration = Duration::from_secs(10);

/// A way to a collector at `https://…`; connects when there is something to send.
///
/// # Errors
/// When the endpoint is none.
pub(super) fn channel(endpoint: &str, mut tls: ClientConfig) -> Result<Channel, BoxError> {
    let url: Url = endpoint.parse()?;
    let (host, port) = match (url.host(), url.port_or_known_default()) {
        (Some(host), Some(port)) => (host, port),
        (Some(_) | None, _) => return Err("it names no host".into()),
    };
    // As it stands in a URL, and as it is called.
    let (authority, name) = match host {
        Host::Ipv6(ip) => (format!("[{ip}]:{port}"), ip.to_string()),
        Host::Ipv4(ip) => (format!("{ip}:{port}"), ip.to_string()),
        Host::Domain(name) => (format!("{name}:{port}"), name.to_owned()),
    };
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let secured = Secured {
        tls: TlsConnector::from(Arc::new(tls)),
        server: ServerName::try_from(name.clone())?,
        at: (name, port),
    };
    // What connects speaks TLS itself, of which nobody else need know but the collector.
    Ok(Endpoint::from_shared(format!("http://{authority}"))?
        .origin(format!("https://{authority}").parse()?)
        .connect_timeout(CONNECT)
        .timeout(ANSWER)
        .connect_with_connector_lazy(secured))
}

/// Connects to one place, by TLS.
#[derive(Clone)]
struct Secured {
    tls: TlsConnector,
    server: ServerName<'static>,
    at: (String, u16),
}

impl Secured {
    async fn connect(self) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
        let (host, port) = &self.at;
        let tcp = TcpStream::connect((host.as_str(), *port)).await?;
        let stream = self.tls.connect(self.server, tcp).await?;
        if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
            return Err(io::Error::other("the collector does not speak HTTP/2 (ALPN)"));
        }
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Secured {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = BoxFuture<'static, io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        Box::pin(self.clone().connect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(endpoint: &str, wanted: bool) {
        let tls = crate::resolve::tls_client(None).unwrap();
        assert_eq!(channel(endpoint, tls).is_ok(), wanted, "{endpoint}");
    }

    #[tokio::test]
    async fn a_collector_has_a_name_and_a_port() {
        for endpoint in [
            "https://a",
            "https://a.example:4317",
            "https://[::1]:1",
            "https://127.0.0.1",
            "https://u:p@a/x",
        ] {
            check(endpoint, true);
        }
        for endpoint in ["https://", "https://a:x", "https://a b", "https://-a.example"] {
            check(endpoint, false);
        }
    }
}
