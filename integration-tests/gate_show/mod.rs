//! The gate at length, as its own process before a real daemon: builds that are those of the bare
//! daemon, denials of what clients try, and failures that let nothing through.

pub mod between;
mod builds;
mod cancel;
mod debug;
pub mod denials;
mod failures;
mod locked;
mod names;
mod raw;
mod shared;
mod slow;
mod waits;
mod words;

use buildgate::rpc::Channel;
use tokio::net::{TcpStream, UnixStream};

use crate::gate_ops::{Gate, until};

/// Where clients come in besides the unix socket.
pub const TCP: [&str; 2] = ["--listen", "tcp://127.0.0.1:0"];

/// A connection of the user's own.
pub async fn user(gate: &Gate) -> Channel {
    let stream = UnixStream::connect(gate.path("gate.sock")).await.unwrap();
    let (channel, connection) = Channel::over(stream).await.unwrap();
    tokio::spawn(connection);
    channel
}

/// Another client, to a gate that listens at [`TCP`].
async fn another(gate: &Gate) -> Channel {
    let stream = TcpStream::connect(tcp(gate).trim_start_matches("tcp://")).await.unwrap();
    let (channel, connection) = Channel::over(stream).await.unwrap();
    tokio::spawn(connection);
    channel
}

/// The address of [`TCP`].
pub fn tcp(gate: &Gate) -> String {
    until("a port", || {
        let log = gate.log();
        let found = log.lines().find_map(|line| line.split("clients come in at tcp://").nth(1));
        found.map(|address| format!("tcp://{}", address.trim()))
    })
}
