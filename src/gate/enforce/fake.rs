//! A daemon of the tests: it answers each call as it is told, on a unix socket.

use std::path::PathBuf;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::Incoming;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;

use crate::gate::proxy::{Address, UpstreamOptions};
use crate::rpc::{self, Body};

/// One that listens until it is dropped.
pub struct Fake {
    /// Where.
    pub socket: PathBuf,
    serving: JoinHandle<()>,
    _folder: TempDir,
}

impl Fake {
    pub fn start(
        answer: impl Fn(Request<Incoming>) -> BoxFuture<'static, Response<Body>> + Send + Sync + 'static,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("d.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let answer = Arc::new(answer);
        let serving = tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let answer = Arc::clone(&answer);
                tokio::spawn(rpc::serve(stream, move |request| answer(request)));
            }
        });
        Self { socket, serving, _folder: folder }
    }

    pub fn options(&self) -> UpstreamOptions {
        UpstreamOptions { address: Address::Unix(self.socket.clone()), tls: None }
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
