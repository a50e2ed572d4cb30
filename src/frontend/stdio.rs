//! The pipes on which a daemon speaks to the frontend it started.

use std::io;
use std::os::fd::AsFd;

use tokio::net::unix::pipe;

/// Standard input or output is no pipe.
#[derive(Debug, thiserror::Error)]
#[error("{stream} is no pipe ({source}): a BuildKit daemon starts this command, nobody else")]
pub struct NoPipe {
    /// Which of them.
    stream: &'static str,
    /// What the system said.
    source: io::Error,
}

/// The pipes that a daemon gave us as standard input and output.
///
/// # Errors
/// When they are something else.
pub fn pipes() -> Result<(pipe::Receiver, pipe::Sender), NoPipe> {
    let wrong = |stream| move |source| NoPipe { stream, source };
    let input = io::stdin().as_fd().try_clone_to_owned().map_err(wrong("standard input"))?;
    let output = io::stdout().as_fd().try_clone_to_owned().map_err(wrong("standard output"))?;
    Ok((
        pipe::Receiver::from_owned_fd(input).map_err(wrong("standard input"))?,
        pipe::Sender::from_owned_fd(output).map_err(wrong("standard output"))?,
    ))
}
