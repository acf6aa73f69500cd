//! Echo servers in the far namespace.
//!
//! TCP listens on wildcards, so every address answers on the given ports. UDP binds each address by itself:
//! a wildcard socket would answer from the link's address, and a connected client would not take the answer.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::net::sockopt::{set_ip_freebind, set_ipv6_freebind, set_ipv6_v6only, set_socket_reuseaddr};
use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with};

use crate::world::World;

/// How often a blocked server looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(50);
const BACKLOG: i32 = 1024;

/// Running servers. They stop when dropped.
#[derive(Default)]
pub struct Servers {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Servers {
    /// TCP echo on `tcp_ports` of every address, UDP echo on exactly the addresses of `udp`.
    ///
    /// # Errors
    /// A socket cannot be made or bound in far.
    pub fn start(world: &World, tcp_ports: &[u16], udp: &[SocketAddr]) -> Result<Self> {
        let mut servers = Self::default();
        for port in tcp_ports {
            for any in [
                SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), *port),
                SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), *port),
            ] {
                let listener = TcpListener::from(world.far().run(|| bound(any, SocketType::STREAM))?);
                listener.set_nonblocking(true)?;
                let stop = Arc::clone(&servers.stop);
                servers.spawn(move || accept(&listener, &stop))?;
            }
        }
        for address in udp {
            let socket = UdpSocket::from(world.far().run(|| bound(*address, SocketType::DGRAM))?);
            socket.set_read_timeout(Some(STOP_CHECK))?;
            let stop = Arc::clone(&servers.stop);
            servers.spawn(move || echo_datagrams(&socket, &stop))?;
        }
        Ok(servers)
    }

    fn spawn(&mut self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        self.threads.push(thread::Builder::new().name("server".into()).spawn(work)?);
        Ok(())
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// A bound (for TCP: listening) socket. FREEBIND, because the address is local only by a route, which
/// IPv6 does not accept for a bind.
fn bound(address: SocketAddr, kind: SocketType) -> Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket =
        socket_with(family, kind, SocketFlags::CLOEXEC, None).context("cannot open a server socket")?;
    set_socket_reuseaddr(&socket, true)?;
    if address.is_ipv4() {
        set_ip_freebind(&socket, true)?;
    } else {
        set_ipv6_v6only(&socket, true)?;
        set_ipv6_freebind(&socket, true)?;
    }
    bind(&socket, &address).with_context(|| format!("cannot serve {address} in the far namespace"))?;
    if kind == SocketType::STREAM {
        listen(&socket, BACKLOG)?;
    }
    Ok(socket)
}

/// Accepts until told to stop. Non-blocking with a pause, because `accept` has no time limit of its own.
fn accept(listener: &TcpListener, stop: &Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            Ok((stream, _)) => {
                let stop = Arc::clone(stop);
                // A connection ends with its peer, or within STOP_CHECK of the stop.
                thread::spawn(move || echo_stream(stream, &stop));
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(1)),
            // The peer gave up before it was accepted.
            Err(_) => {}
        }
    }
}

fn echo_stream(mut stream: TcpStream, stop: &AtomicBool) {
    let ready = stream.set_nonblocking(false).and_then(|()| stream.set_read_timeout(Some(STOP_CHECK)));
    let mut buffer = [0; 16 * 1024];
    while ready.is_ok() && !stop.load(Ordering::Relaxed) {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => {
                if stream.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    // An error means that the peer has reset the connection already.
    stream.shutdown(Shutdown::Both).ok();
}

fn echo_datagrams(socket: &UdpSocket, stop: &AtomicBool) {
    let mut buffer = [0; 2048];
    while !stop.load(Ordering::Relaxed) {
        // An error is the time limit, or an ICMP answer of a client that has gone.
        if let Ok((length, client)) = socket.recv_from(&mut buffer) {
            socket.send_to(&buffer[..length], client).ok();
        }
    }
}
