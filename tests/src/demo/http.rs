//! A web server on every address of the far namespace, for curl to talk to.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv6Addr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::world::World;

/// How often a server without a client looks whether it should stop.
const STOP_CHECK: Duration = Duration::from_millis(2);
/// How long a client may take to say what it wants.
const PATIENCE: Duration = Duration::from_secs(2);
/// The longest request that is read.
const REQUEST: usize = 4096;

/// Running web servers. They stop when dropped.
pub(super) struct Http {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Http {
    /// Serves on these ports, over IPv4 and IPv6.
    pub(super) fn start(world: &World, ports: &[u16]) -> Result<Self> {
        let mut http = Self { stop: Arc::default(), threads: Vec::new() };
        for port in ports {
            // One socket for both families: it was made in far, and stays there whoever uses it.
            let any = (Ipv6Addr::UNSPECIFIED, *port);
            let listener = world.far().run(|| Ok(TcpListener::bind(any)?)).context("a web server in far")?;
            listener.set_nonblocking(true)?;
            let stop = Arc::clone(&http.stop);
            let thread =
                thread::Builder::new().name("http".into()).spawn(move || accept(&listener, &stop))?;
            http.threads.push(thread);
        }
        Ok(http)
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.join().ok();
        }
    }
}

/// Accepts until told to stop. Non-blocking with a pause, because `accept` has no time limit of its own.
fn accept(listener: &TcpListener, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        match listener.accept() {
            // A conversation ends by itself within PATIENCE.
            Ok((stream, _)) => drop(thread::spawn(move || answer(stream))),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(STOP_CHECK),
            // The peer gave up before it was accepted.
            Err(_) => {}
        }
    }
}

/// Reads a request and says hello from the address that the client asked for. An error means that the client has
/// gone, which is its right.
fn answer(mut stream: TcpStream) {
    let mut converse = || -> std::io::Result<()> {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut request = Vec::new();
        let mut buffer = [0; 1024];
        while request.len() < REQUEST && !request.ends_with(b"\r\n\r\n") {
            match stream.read(&mut buffer)? {
                0 => return Ok(()),
                length => request.extend_from_slice(&buffer[..length]),
            }
        }
        let body = format!("hello from {}\n", stream.local_addr()?.ip().to_canonical());
        let length = body.len();
        write!(stream, "HTTP/1.0 200 OK\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}")
    };
    converse().ok();
}
