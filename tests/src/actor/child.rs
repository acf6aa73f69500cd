//! The actor's own side: reads commands, makes socket calls, answers.

mod calls;
mod uring;

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, Write, stdin, stdout};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_ipv6_v6only, set_socket_linger, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, connect, recv, send, sendto, socket_with,
};

use super::Profile;
use super::births::birth;
use super::herd::Herds;
use super::protocol::{Answer, Command, Family, HERD_TALLY, Kind, Outcome, Repeat};
use super::raw;
use crate::errno;

/// No more durations than this are kept and sent back.
const MOST_DURATIONS: usize = 100_000;
/// How long one connect of a load may take.
const LOAD_CONNECT: Duration = Duration::from_secs(5);
/// Payload of a load's datagrams.
const LOAD_BYTES: &[u8] = &[b'r'; 64];

/// Serves with the capabilities of `profile` until standard input ends. Returns the exit code.
pub(super) fn serve(profile: &OsStr) -> i32 {
    let profile = profile.to_str().and_then(Profile::from_word).context("an actor of no known profile");
    match profile.and_then(Profile::assume).and_then(|()| converse()) {
        Ok(()) => 0,
        Err(error) => {
            eprintln!("actor: {error:#}");
            1
        }
    }
}

fn converse() -> Result<()> {
    let (mut sockets, mut herds) = (HashMap::new(), Herds::default());
    for line in stdin().lock().lines() {
        let line = line?;
        let command: Command = serde_json::from_str(&line).with_context(|| format!("command {line}"))?;
        let answer = obey(&mut sockets, &mut herds, command)?;
        let mut out = stdout().lock();
        serde_json::to_writer(&mut out, &answer)?;
        out.write_all(b"\n")?;
        out.flush()?;
    }
    Ok(())
}

fn obey(sockets: &mut HashMap<String, OwnedFd>, herds: &mut Herds, command: Command) -> Result<Answer> {
    Ok(match command {
        Command::Identify => identify()?,
        Command::Open { name, family, kind } => timed(|| {
            sockets.insert(name, open(family, kind)?);
            Ok(0)
        }),
        Command::Connect { name, to, limit_ms } => {
            let socket = named(sockets, &name)?;
            limit(socket, Timeout::Send, Duration::from_millis(limit_ms))?;
            timed(|| connect(socket, &to).map(|()| 0))
        }
        Command::Send { name, bytes } => {
            let socket = named(sockets, &name)?;
            // NOSIGNAL: a reset connection must answer EPIPE, not end the actor.
            timed(|| send(socket, &vec![b'r'; bytes], SendFlags::NOSIGNAL))
        }
        Command::SendTo { name, to, bytes } => {
            let socket = named(sockets, &name)?;
            timed(|| sendto(socket, &vec![b'r'; bytes], SendFlags::NOSIGNAL, &to))
        }
        Command::Receive { name, limit_ms } => {
            let socket = named(sockets, &name)?;
            limit(socket, Timeout::Recv, Duration::from_millis(limit_ms))?;
            let mut buffer = vec![0; 64 * 1024];
            timed(|| recv(socket, buffer.as_mut_slice(), RecvFlags::empty()).map(|(length, _)| length))
        }
        Command::Close { name, reset } => timed(|| {
            if reset {
                set_socket_linger(named_or_bad(sockets, &name)?, Some(Duration::ZERO))?;
            }
            sockets.remove(&name);
            Ok(0)
        }),
        Command::Births { parent, names, to, every_us } => births(&parent, &names, to, every_us)?,
        Command::OpenHerd { name, kind, to, count } => counted(herds.open(name, kind, &to, count)?),
        Command::ListenHerd { name, port, count } => {
            herds.listen(name, port, count)?;
            timed(|| Ok(0))
        }
        Command::AcceptHerd { name, count } => counted(herds.accept(name, count)?),
        Command::SendHerd { name, bytes, for_ms } => {
            counted(herds.send(&name, bytes, Duration::from_millis(for_ms))?)
        }
        Command::ReceiveHerd { name, limit_ms } => {
            counted(herds.receive(&name, Duration::from_millis(limit_ms))?)
        }
        Command::Load { what, to, for_ms, rounds, until, pause_us } => load(
            what,
            &to,
            Duration::from_millis(for_ms),
            rounds,
            until.as_ref(),
            Duration::from_micros(pause_us),
        )?,
        Command::Raw(what) => {
            let result = raw::obey(sockets, what)?;
            timed(|| result)
        }
        Command::Call(call) => calls::make(sockets, call)?,
    })
}

fn named<'a>(sockets: &'a HashMap<String, OwnedFd>, name: &str) -> Result<&'a OwnedFd> {
    sockets.get(name).with_context(|| format!("no socket {name} is open"))
}

fn named_or_bad<'a>(sockets: &'a HashMap<String, OwnedFd>, name: &str) -> rustix::io::Result<&'a OwnedFd> {
    sockets.get(name).ok_or(Errno::BADF)
}

fn limit(socket: &OwnedFd, which: Timeout, limit: Duration) -> Result<()> {
    // Zero would mean: for ever.
    set_socket_timeout(socket, which, Some(limit.max(Duration::from_millis(1)))).context("socket time limit")
}

pub(super) fn open(family: Family, kind: Kind) -> rustix::io::Result<OwnedFd> {
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let kind = match kind {
        Kind::Tcp => SocketType::STREAM,
        Kind::Udp => SocketType::DGRAM,
    };
    let socket = socket_with(domain, kind, SocketFlags::CLOEXEC, None)?;
    if family == Family::V6 {
        set_ipv6_v6only(&socket, false)?;
    }
    Ok(socket)
}

fn timed(call: impl FnOnce() -> rustix::io::Result<usize>) -> Answer {
    let start = Instant::now();
    let result = call();
    let micros = micros(start.elapsed());
    let (outcome, bytes) = match result {
        Ok(bytes) => (Outcome::Done, bytes),
        Err(error) => (Outcome::Failed(errno::name(error)), 0),
    };
    Answer {
        outcome,
        bytes,
        micros,
        cgroup: None,
        netns: None,
        tally: BTreeMap::new(),
        each_micros: Vec::new(),
    }
}

fn counted(tally: BTreeMap<String, u64>) -> Answer {
    Answer { tally: BTreeMap::from([(HERD_TALLY.to_owned(), tally)]), ..timed(|| Ok(0)) }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn identify() -> Result<Answer> {
    let cgroups = fs::read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
    let cgroup = cgroups.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned);
    let netns = rustix::fs::stat("/proc/self/ns/net").context("/proc/self/ns/net")?.st_ino;
    Ok(Answer { cgroup, netns: Some(netns), ..timed(|| Ok(0)) })
}

fn load(
    what: Repeat,
    to: &[SocketAddr],
    duration: Duration,
    rounds: u64,
    until: Option<&Outcome>,
    pause: Duration,
) -> Result<Answer> {
    let start = Instant::now();
    let sender = open(Family::V6, Kind::Udp).context("load socket")?;
    let v4_sender = open(Family::V4, Kind::Udp).context("load socket")?;
    let mut tallies: Vec<HashMap<Outcome, u64>> = vec![HashMap::new(); to.len()];
    let mut each_micros = Vec::new();
    let mut last = timed(|| Ok(0));
    let mut round = 0;
    'rounds: while start.elapsed() < duration && (rounds == 0 || round < rounds) {
        round += 1;
        for (target, tally) in to.iter().zip(&mut tallies) {
            let udp = if target.is_ipv4() { &v4_sender } else { &sender };
            last = timed(|| match what {
                Repeat::SendTo => sendto(udp, LOAD_BYTES, SendFlags::empty(), target),
                Repeat::Connect => connect_once(*target),
                Repeat::Datagram => datagram_once(*target),
            });
            *tally.entry(last.outcome.clone()).or_default() += 1;
            if each_micros.len() < MOST_DURATIONS {
                each_micros.push(last.micros);
            }
            if until == Some(&last.outcome) {
                break 'rounds;
            }
        }
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
    let tally = to.iter().zip(tallies).map(|(target, of)| (target.to_string(), named_tally(of))).collect();
    Ok(Answer { tally, each_micros, micros: micros(start.elapsed()), ..last })
}

fn births(parent: &Path, names: &[String], to: SocketAddr, every_us: u64) -> Result<Answer> {
    let start = Instant::now();
    let mut tally: HashMap<Outcome, u64> = HashMap::new();
    let mut each_micros = Vec::new();
    for (number, name) in (0..).zip(names) {
        // This is the pace of the test, not a wait for something.
        let due = start + Duration::from_micros(every_us) * number;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let birth = birth(&parent.join(name), to)?;
        *tally.entry(birth.outcome).or_default() += 1;
        each_micros.push(micros(birth.took));
    }
    let tally = BTreeMap::from([(to.to_string(), named_tally(tally))]);
    Ok(Answer { tally, each_micros, micros: micros(start.elapsed()), ..timed(|| Ok(0)) })
}

fn named_tally(of: HashMap<Outcome, u64>) -> BTreeMap<String, u64> {
    let name = |outcome| match outcome {
        Outcome::Done => "done".to_owned(),
        Outcome::Failed(error) => error,
    };
    of.into_iter().map(|(outcome, times)| (name(outcome), times)).collect()
}

fn datagram_once(target: SocketAddr) -> Result<usize, Errno> {
    let socket = open(if target.is_ipv4() { Family::V4 } else { Family::V6 }, Kind::Udp)?;
    sendto(&socket, LOAD_BYTES, SendFlags::empty(), &target)
}

fn connect_once(target: SocketAddr) -> Result<usize, Errno> {
    let socket = open(if target.is_ipv4() { Family::V4 } else { Family::V6 }, Kind::Tcp)?;
    set_socket_timeout(socket.as_fd(), Timeout::Send, Some(LOAD_CONNECT))?;
    // Closed by a reset: no TIME_WAIT, so that a long load does not run out of ports.
    set_socket_linger(&socket, Some(Duration::ZERO))?;
    connect(&socket, &target).map(|()| 0)
}
