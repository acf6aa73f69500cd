//! Reaching the agent, and saying what to do when it can't be reached.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};

use super::output::Exit;
use crate::grpc::convert::event_in::ReadError;

/// Where the agent serves unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/ringfence/ringfence.sock";

/// An agent that has not answered a short question by then is not going to.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Which agent to ask; part of every verb that asks one.
#[derive(Debug, Clone, clap::Args)]
pub struct SocketArg {
    /// The agent's unix socket
    #[arg(long, value_name = "PATH", env = "RINGFENCE_SOCKET", default_value = DEFAULT_SOCKET)]
    pub socket: PathBuf,
}

/// Why a verb that asks the agent ended.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error(
        "no agent answers on {}: {source}\n  start one with `ringfence run --socket {}` (as root), or name its socket with --socket",
        socket.display(),
        socket.display()
    )]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// The socket is not for this user.
    #[error(
        "you may not connect to {}: run as root, or as a member of the socket's group (`ls -l {}`); if no agent runs, start one with `ringfence run`",
        socket.display(),
        socket.display()
    )]
    Forbidden {
        /// The socket.
        socket: PathBuf,
    },
    /// Somebody listens, but does not speak.
    #[error(
        "what listens on {} does not answer as an agent: {problem}\n  if the agent hangs, restart it with `ringfence run --socket {}`",
        socket.display(),
        socket.display()
    )]
    Silent {
        /// The socket.
        socket: PathBuf,
        /// What happened instead.
        problem: String,
    },
    /// The agent went away while it was asked.
    #[error("the agent ended the connection: it was stopped or restarted; start it with `ringfence run`")]
    Gone,
    /// The agent refused the request.
    #[error("the agent refused: {message}")]
    Refused {
        /// The code it gave.
        code: Code,
        /// Its words.
        message: String,
    },
    /// The agent's answer can't be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// What was asked for did not come about.
    #[error("{0}")]
    Unfulfilled(String),
    /// The answer can't be written.
    #[error("writing the output: {0}")]
    Output(#[from] io::Error),
}

impl ClientError {
    /// The process's exit code for this end. A reader that closed its pipe has seen what it wanted.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::Unreachable { .. } | Self::Forbidden { .. } | Self::Silent { .. } | Self::Gone => {
                Exit::Unreachable
            }
            Self::Refused { code: Code::InvalidArgument, .. } => Exit::Usage,
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Fine,
            Self::Refused { .. } | Self::Read(_) | Self::Unfulfilled(_) | Self::Output(_) => Exit::Failed,
        }
    }

    /// Whether there is nothing to tell: see [`ClientError::exit`].
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.exit() == Exit::Fine
    }
}

impl From<tonic::Status> for ClientError {
    fn from(status: tonic::Status) -> Self {
        // What the transport reports when the peer has gone, with nothing from the agent itself.
        let gone = std::error::Error::source(&status).is_some() || status.code() == Code::Unavailable;
        if gone {
            return Self::Gone;
        }
        Self::Refused { code: status.code(), message: status.message().to_owned() }
    }
}

/// Connects to the agent on `socket`. The channel is this one connection: it does not come back by itself.
///
/// # Errors
/// `Unreachable`, `Forbidden` or `Silent`, each with what to do.
pub async fn connect(socket: &Path) -> Result<Channel, ClientError> {
    let stream = UnixStream::connect(socket).await.map_err(|source| {
        let socket = socket.to_owned();
        if source.kind() == io::ErrorKind::PermissionDenied {
            ClientError::Forbidden { socket }
        } else {
            ClientError::Unreachable { socket, source }
        }
    })?;
    let stream = Mutex::new(Some(TokioIo::new(stream)));
    let connector = tower::service_fn(move |_uri| {
        let stream = stream.lock().ok().and_then(|mut stream| stream.take());
        std::future::ready(stream.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)))
    });
    // The name is never resolved: the connection is already there.
    let endpoint = Endpoint::from_static("http://ringfence.invalid").connect_timeout(ANSWER_TIMEOUT);
    endpoint
        .connect_with_connector(connector)
        .await
        .map_err(|error| ClientError::Silent { socket: socket.to_owned(), problem: error.to_string() })
}
