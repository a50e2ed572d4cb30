//! Peers that tests talk to: each listens on loopback, keeps its files in a temporary folder, is
//! ready when it is handed out, and is gone when the test process is.
//!
//! A test begins with `let peers = need!(peers::world());` and is skipped, aloud, without them.

mod authority;
mod buildkit;
mod daemon;
mod frontends;
mod gate;
mod git;
mod http;
mod registry;
mod tools;
mod world;

pub use authority::Authority;
pub use buildkit::Buildkit;
pub use frontends::{
    folder, make_image, make_image_by, make_image_with, push_org, push_runnable, push_stock,
};
pub use gate::{GateProcess, builds_at_once, llb, shown};
pub use git::{Branch, GitServer, run as git, serve as serve_git};
pub use http::{HttpServer, Request, Response};
pub use registry::Registry;
pub use tools::{installed, pinned};
pub use world::{World, world};

use std::io::Write;
use std::path::PathBuf;

/// Why a peer cannot be had here.
#[derive(Clone, Debug, thiserror::Error)]
pub enum NoPeer {
    /// A program that `make tools` builds.
    #[error("{} is missing: run `make tools`", .0.display())]
    Unbuilt(PathBuf),
    /// A program of the operating system.
    #[error("{program} is not installed (Debian: {package})")]
    Uninstalled {
        /// What was looked for on `PATH`.
        program: &'static str,
        /// The package that has it.
        package: &'static str,
    },
    /// buildkitd with runc wants to be root.
    #[error("buildkitd needs root")]
    Unprivileged,
}

/// Takes a peer, or leaves the test with a word why not.
macro_rules! need {
    ($peer:expr) => {
        match $peer {
            Ok(peer) => peer,
            Err(why) => return $crate::peers::skip(&why),
        }
    };
}
pub(crate) use need;

/// A client for plain HTTP; it has no TLS.
pub fn client() -> reqwest::Client {
    static PROVIDER: std::sync::Once = std::sync::Once::new();
    PROVIDER.call_once(|| {
        // Another library of the test may have installed the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
    });
    reqwest::Client::new()
}

/// Asks a server of the test's own.
pub async fn get(url: String) -> reqwest::Result<reqwest::Response> {
    client().get(url).send().await
}

/// Says that the running test is skipped, past libtest's capture, and fails it where `CI=true`.
pub fn skip(why: &NoPeer) {
    let thread = std::thread::current();
    let line = format!("SKIPPED: test {}: {why}\n", thread.name().unwrap_or("?"));
    if std::env::var("CI").as_deref() == Ok("true") {
        panic!("{line}a test may not be skipped in CI");
    }
    // In one write, so that it stays one line among those of other tests.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
}
