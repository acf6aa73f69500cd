//! The loops that are measured. Each is bounded in time and looks at the clock every few calls only.

use std::net::SocketAddrV4;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::fd::OwnedFd;
use rustix::io::{Errno, write};
use rustix::net::sockopt::{Timeout, set_socket_linger, set_socket_timeout};
use rustix::net::{
    AddressFamily, SendFlags, SocketFlags, SocketType, connect as connect_to, sendto, socket_with,
};

use super::clock::Watch;
use super::sys;
use super::worker::Answer;

/// Calls between two looks at the clock.
const LOOK: u64 = 16;
/// No call may take longer: a handshake that is lost in a queue is tried again after a second.
const CALL: Duration = Duration::from_secs(5);
/// A SYN that was dropped is tried again after a second; one that was not is answered within this.
const UNANSWERED: Duration = Duration::from_millis(500);
const DATAGRAM: [u8; 64] = [b'r'; 64];
static WRITE: [u8; 128 * 1024] = [b'r'; 128 * 1024];
const WINDOW: Duration = Duration::from_millis(10);

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn told(meter: &Watch, done: u64, refused: u64) -> Result<Answer> {
    let (wall_ns, waited_ns) = (nanoseconds(meter.wall()), nanoseconds(meter.waited()?));
    Ok(Answer { done, refused, wall_ns, waited_ns, ..Answer::default() })
}

fn tcp() -> rustix::io::Result<OwnedFd> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Closed by a reset: no TIME_WAIT, so that no loop runs out of ports.
    set_socket_linger(&socket, Some(Duration::ZERO))?;
    set_socket_timeout(&socket, Timeout::Send, Some(CALL))?;
    Ok(socket)
}

fn connect_once(to: SocketAddrV4) -> Result<(), Errno> {
    connect_to(&tcp()?, &to)
}

fn some(targets: &[SocketAddrV4]) -> Result<impl Iterator<Item = &SocketAddrV4>> {
    ensure!(!targets.is_empty(), "no targets were given");
    Ok(targets.iter().cycle())
}

pub(super) fn connect(targets: &[SocketAddrV4], limit: Duration) -> Result<Answer> {
    let mut targets = some(targets)?;
    let (meter, mut done) = (Watch::start()?, 0);
    while meter.wall() < limit {
        for to in targets.by_ref().take(LOOK as usize) {
            connect_once(*to).with_context(|| format!("connect to {to}"))?;
        }
        done += LOOK;
    }
    told(&meter, done, 0)
}

pub(super) fn send(targets: &[SocketAddrV4], limit: Duration) -> Result<Answer> {
    let mut targets = some(targets)?;
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    let (meter, mut done) = (Watch::start()?, 0);
    while meter.wall() < limit {
        for to in targets.by_ref().take(LOOK as usize) {
            sendto(&socket, &DATAGRAM, SendFlags::empty(), to).with_context(|| format!("send to {to}"))?;
        }
        done += LOOK;
    }
    told(&meter, done, 0)
}

pub(super) fn stream(targets: &[SocketAddrV4], limit: Duration) -> Result<Answer> {
    let to = some(targets)?.next().context("no target")?;
    let to = SocketAddrV4::new(*to.ip(), super::stage::STREAM_PORT);
    let socket = tcp()?;
    connect_to(&socket, &to).with_context(|| format!("connect to {to}"))?;
    let (meter, mut bytes) = (Watch::start()?, 0);
    while meter.wall() < limit {
        bytes += write(&socket, &WRITE).context("write to the stream")? as u64;
    }
    told(&meter, bytes, 0)
}

pub(super) fn refused(targets: &[SocketAddrV4], times: u32) -> Result<Answer> {
    let mut targets = some(targets)?;
    let meter = Watch::start()?;
    let mut values = Vec::with_capacity(times as usize);
    for to in targets.by_ref().take(times as usize) {
        let socket = tcp()?;
        let start = Instant::now();
        let result = connect_to(&socket, to);
        values.push(nanoseconds(start.elapsed()));
        ensure!(result == Err(Errno::PERM), "connect to {to} was not refused: {result:?}");
    }
    Ok(Answer { values, ..told(&meter, 0, u64::from(times))? })
}

/// While an agent attaches, egress stands before connect does: a SYN is dropped, and its call would wait for a retry. Such
/// a call counts as refused, by when it began, and so does one that is refused at once.
pub(super) fn until_refused(targets: &[SocketAddrV4], limit: Duration) -> Result<Answer> {
    let to = *some(targets)?.next().context("no target")?;
    let meter = Watch::start()?;
    let mut done = 0;
    while meter.wall() < limit {
        let begun = sys::monotonic_ns();
        let socket = tcp()?;
        set_socket_timeout(&socket, Timeout::Send, Some(UNANSWERED))?;
        match connect_to(&socket, &to) {
            Ok(()) => done += 1,
            Err(Errno::PERM | Errno::INPROGRESS | Errno::AGAIN) => {
                return Ok(Answer { values: vec![begun], ..told(&meter, done, 1)? });
            }
            Err(error) => bail!("connect to {to}: {error}"),
        }
    }
    bail!("connect to {to} was not refused within {limit:?}")
}

pub(super) fn paced(targets: &[SocketAddrV4], per_second: u64, limit: Duration) -> Result<Answer> {
    let mut targets = some(targets)?;
    let meter = Watch::start()?;
    let all = per_second * u64::try_from(limit.as_millis())? / 1000;
    let (mut done, mut refused) = (0, 0);
    while done + refused < all {
        // The pace of the load, in bursts of a millisecond: as many as are due by now.
        let due = u128::from(per_second) * meter.wall().as_nanos() / 1_000_000_000;
        while u128::from(done + refused) < due.min(u128::from(all)) {
            let to = targets.next().context("no target")?;
            match connect_once(*to) {
                Ok(()) => done += 1,
                Err(Errno::PERM) => refused += 1,
                Err(error) => bail!("connect to {to}: {error}"),
            }
        }
        ensure!(meter.wall() < limit * 3, "{} of {all} calls took three times too long", done + refused);
        thread::sleep(Duration::from_millis(1));
    }
    told(&meter, done, refused)
}

pub(super) fn windows(targets: &[SocketAddrV4], limit: Duration) -> Result<Answer> {
    let mut targets = some(targets)?;
    let (meter, mut done) = (Watch::start()?, 0);
    let mut values = vec![0; (limit.as_nanos() / WINDOW.as_nanos()) as usize + 1];
    while meter.wall() < limit {
        let to = targets.next().context("no target")?;
        let (start, call) = (meter.wall(), Watch::start()?);
        connect_once(*to).with_context(|| format!("connect to {to}"))?;
        let took = nanoseconds(call.own()?);
        let window = (start.as_nanos() / WINDOW.as_nanos()) as usize;
        if let Some(longest) = values.get_mut(window) {
            *longest = took.max(*longest);
        }
        done += 1;
    }
    Ok(Answer { values, ..told(&meter, done, 0)? })
}
