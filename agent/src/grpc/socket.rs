//! The agent's unix socket: made with the right mode before anybody can connect, taken over only from
//! the dead, removed at the end only if it is still ours.
//!
//! While the socket is made or removed, a `flock` on its directory keeps two agents that start at the
//! same moment from each taking the other's socket for a stale one. It leaves no lock file behind.

use std::ffi::OsStr;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

/// Who may connect: the owner and the group.
const SOCKET_MODE: Mode = Mode::from_raw_mode(0o660);

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 128;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Its directory can't be opened.
    #[error("opening the directory {} of the socket: {source}: create it (mkdir -p) or name another path with --socket", dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another agent is at the same point of its start or end.
    #[error("another agent is starting or stopping in {}: try again, or name another path with --socket", dir.display())]
    Busy {
        /// The directory.
        dir: PathBuf,
    },
    /// An agent answers on it.
    #[error("an agent is already serving on {}: stop it, or name another path with --socket", path.display())]
    InUse {
        /// The socket.
        path: PathBuf,
    },
    /// Something that is not a socket is there.
    #[error("{} exists and is not a socket: move it away, or name another path with --socket", path.display())]
    NotASocket {
        /// What is in the way.
        path: PathBuf,
    },
    /// The path has no file name, or is longer than the kernel takes.
    #[error("{} can't be a socket's path: it must name a file and have at most 107 bytes", path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// The kernel refused a step.
    #[error("{step} {}: {source}", path.display())]
    Step {
        /// What was tried.
        step: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// A listening socket; dropping it removes it from the file system.
#[derive(Debug)]
pub struct AgentSocket {
    listener: UnixListener,
    file: SocketFile,
}

/// The socket's name in the file system.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode: what tells our socket from one that replaced it.
    identity: (u64, u64),
}

impl AgentSocket {
    /// Makes the socket, mode 0660, and listens. A socket that nobody answers on is replaced.
    ///
    /// # Errors
    /// [`SocketError`] says what is in the way and what to do; nothing is changed then.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let bad_path = || SocketError::Path { path: path.to_owned() };
        path.file_name().ok_or_else(bad_path)?;
        let address = SocketAddrUnix::new(path).map_err(|_error| bad_path())?;
        let _lock = DirectoryLock::take(path)?;
        let step = |step, source| SocketError::Step { step, path: path.to_owned(), source };

        make_way(path, &address)?;
        let socket = unix_socket().map_err(|errno| step("making a socket for", errno.into()))?;
        rustix::net::bind(&socket, &address).map_err(|errno| step("binding", errno.into()))?;
        // Until it listens nobody can connect, whatever mode the umask gave it.
        rustix::fs::chmod(path, SOCKET_MODE).map_err(|errno| step("setting the mode of", errno.into()))?;
        rustix::net::listen(&socket, BACKLOG).map_err(|errno| step("listening on", errno.into()))?;
        let meta = std::fs::symlink_metadata(path).map_err(|source| step("looking at", source))?;
        let file = SocketFile { path: path.to_owned(), identity: (meta.dev(), meta.ino()) };
        Ok(Self { listener: UnixListener::from(socket), file })
    }

    /// The listener, and the file to hold on to for as long as it is used.
    pub(super) fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Without the lock another agent is taking the path over, and finds our socket stale.
        let Ok(_lock) = DirectoryLock::take(&self.path) else { return };
        let ours =
            std::fs::symlink_metadata(&self.path).is_ok_and(|meta| (meta.dev(), meta.ino()) == self.identity);
        if ours && let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the socket stays behind");
        }
    }
}

/// Removes a stale socket; anything else in the way is an error.
fn make_way(path: &Path, address: &SocketAddrUnix) -> Result<(), SocketError> {
    let step = |step, source| SocketError::Step { step, path: path.to_owned(), source };
    let meta = match std::fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(step("looking at", error)),
    };
    if !meta.file_type().is_socket() {
        return Err(SocketError::NotASocket { path: path.to_owned() });
    }
    let probe = unix_socket().map_err(|errno| step("making a socket to try", errno.into()))?;
    match rustix::net::connect(&probe, address) {
        // EAGAIN: somebody listens, but its queue is full (unix(7)).
        Ok(()) | Err(Errno::AGAIN) => Err(SocketError::InUse { path: path.to_owned() }),
        Err(Errno::CONNREFUSED) => {
            tracing::info!(path = %path.display(), "nobody answers on the old socket: replacing it");
            std::fs::remove_file(path).map_err(|source| step("removing the old socket", source))
        }
        Err(errno) => Err(step("trying whether anybody answers on", errno.into())),
    }
}

fn unix_socket() -> Result<OwnedFd, Errno> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)
}

/// An exclusive `flock` on a path's directory; ends when dropped.
struct DirectoryLock(
    #[expect(dead_code, reason = "held for its end: closing it gives the lock back")] OwnedFd,
);

impl DirectoryLock {
    fn take(path: &Path) -> Result<Self, SocketError> {
        let dir = match path.parent() {
            Some(dir) if dir.as_os_str() != OsStr::new("") => dir,
            Some(_) | None => Path::new("."),
        };
        let failed = |errno: Errno| SocketError::Directory { dir: dir.to_owned(), source: errno.into() };
        let opened =
            rustix::fs::open(dir, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        let lock = opened.map_err(failed)?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self(lock)),
            Err(Errno::WOULDBLOCK) => Err(SocketError::Busy { dir: dir.to_owned() }),
            Err(errno) => Err(failed(errno)),
        }
    }
}

#[cfg(test)]
#[path = "socket_tests.rs"]
mod tests;
