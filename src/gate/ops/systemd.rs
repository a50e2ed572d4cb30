//! What systemd is told (`sd_notify(3)`), where it started us as `Type=notify`.

use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// What the gate is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It takes clients.
    Ready,
    /// It lets builds end.
    Stopping,
}

/// Tells systemd, where it listens; elsewhere it does nothing.
///
/// # Errors
/// When systemd cannot be told. It would wait for it in vain.
pub fn notify(state: State) -> io::Result<()> {
    match std::env::var("NOTIFY_SOCKET") {
        Ok(socket) if !socket.is_empty() => tell(&socket, state),
        Ok(_) | Err(_) => Ok(()),
    }
}

fn tell(socket: &str, state: State) -> io::Result<()> {
    let address = match socket.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let text = match state {
        State::Ready => "READY=1",
        State::Stopping => "STOPPING=1",
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn systemd_is_told_by_path_and_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("buildgate-test-{}", std::process::id());
        let table = [
            (SocketAddr::from_pathname(&path).unwrap(), path.display().to_string()),
            (SocketAddr::from_abstract_name(&name).unwrap(), format!("@{name}")),
        ];
        for (address, socket) in table {
            let systemd = UnixDatagram::bind_addr(&address).unwrap();
            for (state, wanted) in [(State::Ready, "READY=1"), (State::Stopping, "STOPPING=1")] {
                tell(&socket, state).unwrap();
                let mut text = [0; 64];
                let length = systemd.recv(&mut text).unwrap();
                assert_eq!(&text[..length], wanted.as_bytes());
            }
        }
        assert!(tell("/nowhere/notify", State::Ready).is_err());
    }
}
