//! The door for those who name it in `# syntax=`: a frontend that runs the stock Dockerfile frontend
//! as its child and stands between it and the daemon.
//!
//! ```text
//! daemon ⇄ stdio ⇄ bridge ⇄ pipes ⇄ dockerfile-frontend
//!                    │ ResolveSourceMeta, ResolveImageConfig, Solve
//!                    └ verdict → check
//! ```
//!
//! It makes no LLB and changes no file of a build: that is the child's. Of its own it asks the daemon
//! for what policies are made of and read, and the Dockerfile it reads to tell lines alone. Calls that
//! name a source are judged, and what the daemon would run out of its sight is refused, as is every
//! method that nobody here knows; the others go through as bytes. A result of the child is kept until
//! the child has ended well; where it ends otherwise, or stands still, the build ends with an error.

mod bridge;
mod child;
mod options;
mod policies;
mod progress;
mod solve;
mod stdio;
#[cfg(test)]
mod tests;
mod verdict;
mod watch;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::JoinSet;
use tokio::time::timeout;

use self::bridge::{Bridge, Given};
use self::child::{Child, StartError};
use self::options::{BuildOptions, EnvironmentError};
use self::stdio::NoPipe;
use self::verdict::Gatekeeper;
use self::watch::Hang;
use crate::gateway::Gateway;
use crate::rpc::{self, Channel, ConnectError};
use crate::wire::proto;

/// How long the daemon may take to hear of an error.
const GOODBYE: Duration = Duration::from_secs(3);

/// Where the frontend's image has its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// The stock Dockerfile frontend.
    pub child: PathBuf,
    /// The policies of the image.
    pub policies: PathBuf,
}

/// A build that ends without a result of the child.
#[derive(Debug, thiserror::Error)]
pub enum FrontendError {
    /// Nobody is at the other end.
    #[error(transparent)]
    Stdio(#[from] NoPipe),
    /// There is no daemon at the other end.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The daemon went away.
    #[error("the connection to the daemon ended before the build did")]
    DaemonGone(#[source] Option<hyper::Error>),
    /// The build's options cannot be read.
    #[error(transparent)]
    Environment(#[from] EnvironmentError),
    /// There is no child.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The child ended too early.
    #[error("the Dockerfile frontend ended without a result ({how}){}", Words(words))]
    Ended {
        /// As the system says it.
        how: String,
        /// The end of its stderr.
        words: String,
    },
    /// The child gave a result and failed all the same.
    #[error("the Dockerfile frontend failed after it had given its result ({how}){}", Words(words))]
    Failed {
        /// As the system says it.
        how: String,
        /// The end of its stderr.
        words: String,
    },
    /// The daemon does not take the child's result.
    #[error("the daemon does not take the result of the Dockerfile frontend: {}", status.message())]
    Refused {
        /// What it says.
        status: Box<tonic::Status>,
    },
    /// The child stands still.
    #[error("the Dockerfile frontend {how} and was ended{}", Words(words))]
    Hung {
        /// How it does.
        how: Hang,
        /// The end of its stderr.
        words: String,
    },
    /// The system cannot tell how the child is.
    #[error("the Dockerfile frontend cannot be waited for: {0}")]
    Wait(#[source] io::Error),
}

struct Words<'a>(&'a str);

impl std::fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.0.is_empty() { Ok(()) } else { write!(f, "; its last words:\n{}", self.0) }
    }
}

/// Serves one build, from the daemon on our standard input and output.
///
/// # Errors
/// When the build ends without a result of the child; the daemon was told, where it is there.
pub async fn run(options: Options) -> Result<(), FrontendError> {
    let (input, output) = stdio::pipes()?;
    let (daemon, connection) = Channel::connect(input, output).await?;
    let mut connection = tokio::spawn(connection);
    let work = build(&daemon, options);
    let ended = tokio::select! {
        ended = work => ended,
        gone = &mut connection => {
            return Err(FrontendError::DaemonGone(gone.ok().and_then(Result::err)));
        }
    };
    if let Err(error) = &ended {
        tell(&daemon, error).await;
    }
    ended
}

async fn build(daemon: &Channel, options: Options) -> Result<(), FrontendError> {
    let build = BuildOptions::from_env(std::env::vars_os())?;
    let variables = build.for_child();
    let keeper = Gatekeeper::new(Gateway::new(daemon.clone()), build, options.policies);
    let bridge = Arc::new(Bridge::new(daemon.clone(), keeper));
    // The child takes a while to come up.
    let mut aside = JoinSet::new();
    aside.spawn({
        let bridge = Arc::clone(&bridge);
        async move { bridge.prepare().await }
    });
    let (mut child, output, input) = Child::start(&options.child, &variables)?;
    let served = tokio::spawn(serve(Arc::clone(&bridge), output, input));
    let (activity, heard) = (bridge.activity(), child.heard());
    let status = tokio::select! {
        status = child.wait() => Ok(status.map_err(FrontendError::Wait)?),
        how = watch::hang(&activity, &heard) => Err(how),
    };
    served.abort();
    drop(aside);
    match (bridge.given(), status) {
        // What the daemon was told stands, however the child ends.
        (Given::Error, _) => Ok(()),
        (Given::Result(result), Ok(status)) if status.success() => {
            let given = bridge.give(*result).await;
            given.map_err(|status| FrontendError::Refused { status: Box::new(status) })
        }
        (Given::Result(_), Ok(status)) => {
            let words = child.last_words().await;
            Err(FrontendError::Failed { how: status.to_string(), words })
        }
        (Given::Nothing, Ok(status)) => {
            let words = child.last_words().await;
            Err(FrontendError::Ended { how: status.to_string(), words })
        }
        (Given::Nothing | Given::Result(_), Err(how)) => {
            Err(FrontendError::Hung { how, words: child.last_words().await })
        }
    }
}

/// Serves the child until one side closes the connection.
async fn serve(
    bridge: Arc<Bridge>,
    output: impl AsyncRead + Unpin + Send + 'static,
    input: impl AsyncWrite + Unpin + Send + 'static,
) {
    let service = service_fn(move |request| {
        let bridge = Arc::clone(&bridge);
        async move { Ok::<_, std::convert::Infallible>(bridge.serve(request).await) }
    });
    let served = http2::Builder::new(TokioExecutor::new())
        .max_header_list_size(rpc::MAX_HEADERS)
        .initial_stream_window_size(rpc::WINDOW)
        .initial_connection_window_size(rpc::CONNECTION_WINDOW)
        .max_concurrent_streams(None)
        .max_pending_accept_reset_streams(rpc::RESETS)
        .max_local_error_reset_streams(None)
        // Of what does not come back we make an error ourselves ([`watch::hang`]).
        .timer(TokioTimer::new())
        .keep_alive_interval(watch::PING)
        .keep_alive_timeout(watch::UNANSWERED)
        .serve_connection(TokioIo::new(tokio::io::join(output, input)), service)
        .await;
    if let Err(error) = served {
        tracing::warn!("the connection to the Dockerfile frontend broke: {error}");
    }
}

/// Gives the daemon our error as the build's.
async fn tell(daemon: &Channel, error: &FrontendError) {
    let status = proto::rpc::Status {
        code: tonic::Code::Unknown.into(),
        message: format!("buildgate: {error}"),
        details: Vec::new(),
    };
    let request = proto::gateway::ReturnRequest { result: None, error: Some(status) };
    let gateway = Gateway::new(daemon.clone());
    let told =
        timeout(GOODBYE, gateway.call::<_, proto::gateway::ReturnResponse>("Return", &request));
    match told.await {
        Ok(Ok(proto::gateway::ReturnResponse {})) => {}
        Ok(Err(status)) => tracing::warn!("the daemon was not told: {}", status.message()),
        Err(_) => tracing::warn!("the daemon did not listen"),
    }
}
