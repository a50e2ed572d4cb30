//! Where a socket is: `unix:///path` or `tcp://host:port`.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

/// An address to listen on or to connect to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `unix:///path`.
    Unix(PathBuf),
    /// `tcp://host:port`. An empty host is every address of this machine.
    Tcp {
        /// A name or an IP literal, without brackets.
        host: String,
        /// The port; 0 to listen on any that is free.
        port: u16,
    },
}

/// What is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Neither scheme.
    #[error("{0}: an address is unix:///path or tcp://host:port")]
    Scheme(String),
    /// A relative path.
    #[error("{0}: the path of a unix socket begins with a slash (unix:///path)")]
    Relative(String),
    /// The port is missing or no number.
    #[error("{0}: a TCP address ends in :PORT, a number from 0 to 65535")]
    Port(String),
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        if let Some(path) = text.strip_prefix("unix://") {
            if !path.starts_with('/') {
                return Err(AddressError::Relative(text.to_owned()));
            }
            return Ok(Self::Unix(PathBuf::from(path)));
        }
        let rest =
            text.strip_prefix("tcp://").ok_or_else(|| AddressError::Scheme(text.to_owned()))?;
        let no_port = || AddressError::Port(text.to_owned());
        let (host, port) = rest.rsplit_once(':').ok_or_else(no_port)?;
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        let port = Some(port).filter(|_| digits).and_then(|port| port.parse().ok());
        let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let host = match inner {
            Some(inner) if inner.parse::<std::net::Ipv6Addr>().is_ok() => inner,
            None if !host.contains([':', '/', '[', ']', '@']) => host,
            Some(_) | None => return Err(no_port()),
        };
        Ok(Self::Tcp { host: host.to_owned(), port: port.ok_or_else(no_port)? })
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, wanted: Result<&str, &str>) {
        let got = text.parse::<Address>();
        match wanted {
            Ok(wanted) => assert_eq!(got.unwrap().to_string(), wanted, "{text}"),
            Err(part) => {
                let error = got.unwrap_err().to_string();
                assert!(error.contains(part) && error.contains(text), "{text}: {error}");
            }
        }
    }

    #[test]
    fn addresses_are_read() {
        check("unix:///run/b.sock", Ok("unix:///run/b.sock"));
        check("tcp://127.0.0.1:0", Ok("tcp://127.0.0.1:0"));
        check("tcp://:1234", Ok("tcp://:1234"));
        check("tcp://[::1]:1234", Ok("tcp://[::1]:1234"));
        check("tcp://build.example:1234", Ok("tcp://build.example:1234"));
        check("unix://run/b.sock", Err("begins with a slash"));
        check("/run/b.sock", Err("an address is"));
        check("http://a:1", Err("an address is"));
        check("tcp://a", Err("ends in :PORT"));
        check("tcp://a:", Err("ends in :PORT"));
        check("tcp://a:+1", Err("ends in :PORT"));
        check("tcp://a:65536", Err("ends in :PORT"));
        check("tcp://::1:1234", Err("ends in :PORT"));
        check("tcp://u@a:1", Err("ends in :PORT"));
        check("tcp://a/b:1", Err("ends in :PORT"));
        check("tcp://[a]:1", Err("ends in :PORT"));
    }
}
