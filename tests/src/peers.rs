//! Many TCP connections in the far namespace, served by one thread, each with a record of how it ended: what the
//! peer of a flow learns when the flow is cut.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::sockopt::set_ipv6_v6only;
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

use crate::netns::Netns;

/// How often the server looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(50);
const BACKLOG: i32 = 4096;

/// How connections have fared so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Fates {
    /// Accepted.
    pub accepted: u64,
    /// Ended by a reset.
    pub reset: u64,
    /// Ended by the other side's goodbye.
    pub finished: u64,
}

#[derive(Default)]
struct Shared {
    fates: Mutex<Fates>,
    changed: Condvar,
    stop: AtomicBool,
}

impl Shared {
    fn fates(&self) -> MutexGuard<'_, Fates> {
        self.fates.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A running echo server. It stops when dropped.
pub struct Peers {
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

impl Peers {
    /// Serves `port` of every address of `far`, IPv4 and IPv6.
    ///
    /// # Errors
    /// The port is taken.
    pub fn start(far: &Netns, port: u16) -> Result<Self> {
        let listener = far.run(|| {
            let socket = socket_with(AddressFamily::INET6, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
            set_ipv6_v6only(&socket, false)?;
            bind(&socket, &SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))
                .with_context(|| format!("cannot serve port {port} in the far namespace"))?;
            listen(&socket, BACKLOG)?;
            Ok(TcpListener::from(socket))
        })?;
        listener.set_nonblocking(true)?;
        let shared = Arc::new(Shared::default());
        let serving = Arc::clone(&shared);
        let server = thread::Builder::new().name("peers".into()).spawn(move || serve(&listener, &serving))?;
        Ok(Self { shared, server: Some(server) })
    }

    /// Waits until `wanted` is true of the fates.
    ///
    /// # Errors
    /// It was not within `limit`; the error says how they were.
    pub fn wait_for(&self, what: &str, limit: Duration, wanted: impl Fn(Fates) -> bool) -> Result<Fates> {
        let end = Instant::now() + limit;
        let mut fates = self.shared.fates();
        while !wanted(*fates) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                bail!("not within {limit:?}: {what}; the peers saw {fates:?}");
            }
            fates = self.shared.changed.wait_timeout(fates, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(*fates)
    }

    /// How connections have fared so far.
    pub fn fates(&self) -> Fates {
        *self.shared.fates()
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(server) = self.server.take() {
            server.join().ok();
        }
    }
}

fn serve(listener: &TcpListener, shared: &Shared) {
    let mut streams: HashMap<usize, TcpStream> = HashMap::new();
    let mut next = 0;
    while !shared.stop.load(Ordering::Relaxed) {
        let order: Vec<usize> = streams.keys().copied().collect();
        let mut ready: Vec<PollFd<'_>> =
            order.iter().map(|n| PollFd::new(&streams[n], PollFlags::IN)).collect();
        let door = listener.as_fd();
        ready.push(PollFd::new(&door, PollFlags::IN));
        let timeout = Timespec { tv_sec: 0, tv_nsec: STOP_CHECK.subsec_nanos().into() };
        if poll(&mut ready, Some(&timeout)).is_err() {
            continue;
        }
        let ready: Vec<bool> = ready.iter().map(|r| !r.revents().is_empty()).collect();
        for (number, _) in order.iter().zip(ready).filter(|(_, ready)| *ready) {
            if let Some(fate) = streams.get_mut(number).and_then(echo) {
                streams.remove(number);
                fate(&mut shared.fates());
                shared.changed.notify_all();
            }
        }
        while let Ok((stream, _)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok() {
                streams.insert(next, stream);
                next += 1;
                shared.fates().accepted += 1;
                shared.changed.notify_all();
            }
        }
    }
}

/// Sends back what came; how the connection ended, if it did.
fn echo(stream: &mut TcpStream) -> Option<fn(&mut Fates)> {
    let mut buffer = [0; 4096];
    match stream.read(&mut buffer) {
        Ok(0) => Some(|fates| fates.finished += 1),
        Ok(length) => {
            // A reset between the two shows at the next read.
            stream.write_all(&buffer[..length]).ok();
            None
        }
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => None,
        Err(_) => Some(|fates| fates.reset += 1),
    }
}
