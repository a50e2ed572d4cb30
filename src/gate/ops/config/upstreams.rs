//! The daemons behind the gate, and how they are reached.

use std::path::PathBuf;

use super::plan::is_local;
use super::said::{ConfigError, Top};
use super::values::{pair, parsed};
use crate::gate::proxy::{Address, ClientTls, Pair, UpstreamOptions};

const NO_UPSTREAM: &str =
    "there is no daemon behind the gate: --upstream unix:///path or tcp://host:port";

/// The daemons, each reached only as what is said of TLS allows.
pub(super) fn upstreams(top: &Top) -> Result<Vec<UpstreamOptions>, ConfigError> {
    let names = ["upstream-tls-cert", "upstream-tls-key"];
    let (cert, key) = (top.upstream_tls_cert.as_ref(), top.upstream_tls_key.as_ref());
    let pair = pair(cert, key, names[0], names[1])?.map(|(cert, key)| Pair { cert, key });
    let tls = match (&top.upstream_tls_ca, cert) {
        (Some(ca), _) => {
            let server_name = None;
            Some((ca, ClientTls { ca: PathBuf::from(&ca.value), pair, server_name }))
        }
        (None, Some(cert)) => {
            return Err(cert.wrong("goes with upstream-tls-ca, which is missing"));
        }
        (None, None) => None,
    };
    let mut upstreams: Vec<UpstreamOptions> = Vec::new();
    for said in &top.upstream {
        let address: Address = parsed(said)?;
        if upstreams.iter().any(|known| known.address == address) {
            return Err(said.wrong(format_args!("{address} is named twice")));
        }
        if let Address::Tcp { port: 0, .. } = address {
            return Err(said.wrong("port 0 is no daemon's"));
        }
        let open = top.insecure.as_ref().is_some_and(|said| said.value);
        let tls = match &address {
            Address::Unix(_) => None,
            Address::Tcp { .. } => tls.as_ref().map(|(_, tls)| tls.clone()),
        };
        if tls.is_none() && !is_local(&address) && !open {
            return Err(said.wrong(
                "what is sent to it could be read and changed on the way: give it \
                 --upstream-tls-ca, or say --insecure",
            ));
        }
        upstreams.push(UpstreamOptions { address, tls });
    }
    if upstreams.is_empty() {
        return Err(ConfigError::Missing(NO_UPSTREAM));
    }
    match &tls {
        Some((ca, _)) if upstreams.iter().all(|it| it.tls.is_none()) => {
            Err(ca.wrong("every upstream is a unix socket, and those have no TLS"))
        }
        Some(_) | None => Ok(upstreams),
    }
}
