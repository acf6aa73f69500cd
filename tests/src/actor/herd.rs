//! Many sockets of one actor under one name: opened, used and listened to together, counted by outcome.

use std::collections::{BTreeMap, HashMap};
use std::net::{Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{RecvFlags, SendFlags, accept, bind, connect, listen, recv, send};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::child::open;
use super::protocol::{Family, Kind};
use crate::errno;

/// How long one connect may take.
const CONNECT: Duration = Duration::from_secs(5);
/// Pause of a herd that sends again and again.
const PAUSE: Duration = Duration::from_millis(1);
/// How long one accept may take.
const ACCEPT: Duration = Duration::from_secs(30);

/// The herds of an actor.
#[derive(Default)]
pub(super) struct Herds {
    sockets: HashMap<String, Vec<OwnedFd>>,
    listeners: HashMap<String, OwnedFd>,
}

impl Herds {
    fn of(&self, name: &str) -> Result<&[OwnedFd]> {
        self.sockets.get(name).map(Vec::as_slice).with_context(|| format!("no herd {name} is open"))
    }

    pub(super) fn open(
        &mut self,
        name: String,
        kind: Kind,
        to: &[SocketAddr],
        count: usize,
    ) -> Result<BTreeMap<String, u64>> {
        let maximum = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })
            .context("raise the limit of descriptors")?;
        let (mut tally, mut sockets) = (BTreeMap::new(), Vec::with_capacity(count));
        for to in to.iter().cycle().take(count) {
            let family = if to.is_ipv4() { Family::V4 } else { Family::V6 };
            let socket = open(family, kind).context("open a socket of a herd")?;
            set_socket_timeout(&socket, Timeout::Send, Some(CONNECT))?;
            note(&mut tally, connect(&socket, to).map(|()| 1));
            sockets.push(socket);
        }
        self.sockets.insert(name, sockets);
        Ok(tally)
    }

    pub(super) fn listen(&mut self, name: String, port: u16, count: usize) -> Result<()> {
        let socket = open(Family::V6, Kind::Tcp).context("open a listening socket")?;
        bind(&socket, &SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port))?;
        listen(&socket, i32::try_from(count)?)?;
        self.listeners.insert(name, socket);
        Ok(())
    }

    pub(super) fn accept(&mut self, name: String, count: usize) -> Result<BTreeMap<String, u64>> {
        let listener = self.listeners.get(&name).with_context(|| format!("{name} does not listen"))?;
        set_socket_timeout(listener, Timeout::Recv, Some(ACCEPT))?;
        let (mut tally, mut sockets) = (BTreeMap::new(), Vec::with_capacity(count));
        for _ in 0..count {
            let accepted = accept(listener);
            note(&mut tally, accepted.as_ref().map(|_| 1).map_err(|e| *e));
            sockets.extend(accepted);
        }
        self.sockets.insert(name, sockets);
        Ok(tally)
    }

    pub(super) fn send(&self, name: &str, bytes: usize, time: Duration) -> Result<BTreeMap<String, u64>> {
        let (mut tally, payload, end) = (BTreeMap::new(), vec![b'r'; bytes], Instant::now() + time);
        loop {
            for socket in self.of(name)? {
                note(&mut tally, send(socket, &payload, SendFlags::NOSIGNAL | SendFlags::DONTWAIT));
            }
            if Instant::now() >= end {
                return Ok(tally);
            }
            std::thread::sleep(PAUSE);
        }
    }

    pub(super) fn receive(&self, name: &str, limit: Duration) -> Result<BTreeMap<String, u64>> {
        let (mut tally, mut buffer, end) = (BTreeMap::new(), vec![0; 64 * 1024], Instant::now() + limit);
        for socket in self.of(name)? {
            // Zero would mean: for ever.
            let left = end.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            set_socket_timeout(socket, Timeout::Recv, Some(left))?;
            note(
                &mut tally,
                recv(socket, buffer.as_mut_slice(), RecvFlags::empty()).map(|(length, _)| length),
            );
        }
        Ok(tally)
    }
}

fn note(tally: &mut BTreeMap<String, u64>, result: Result<usize, Errno>) {
    let outcome = match result {
        Ok(0) => "end".to_owned(),
        Ok(_) => "done".to_owned(),
        Err(error) => errno::name(error),
    };
    *tally.entry(outcome).or_default() += 1;
}
