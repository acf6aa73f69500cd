//! Transports beside TCP and UDP, and what TCP and UDP can do beyond a plain connect and send.

use std::fs;
use std::net::{IpAddr, SocketAddr};

use agent_tests::actor::{Actor, Answer, Call, Family, Kind, Outcome as Ended, Profile};
use agent_tests::sockaddr;
use anyhow::{Context, Result, ensure};

use super::fate::{Fate, Finding};
use super::stage::{AT_CONNECT, AT_EGRESS, Stage, all};
use super::{Row, rows_of};
use crate::flows::PORT;

/// Payload of one send, bytes.
const BYTES: usize = 32;
/// Time limit of a connect, milliseconds.
const LIMIT: u64 = 1_500;
/// `IPPROTO_DCCP` and `SOCK_DCCP` (`linux/in.h`, `linux/net.h`); libc has only the first.
const DCCP: (i32, i32) = (6, libc::IPPROTO_DCCP);

pub(super) fn rows() -> Vec<Row> {
    rows_of(
        file!(),
        [
            ("udp-lite", udp_lite),
            ("icmp-datagram", icmp_datagram),
            ("sctp", sctp),
            ("dccp", dccp),
            ("mptcp", mptcp),
            ("tcp-fast-open", tcp_fast_open),
            ("tcp-disconnect", tcp_disconnect),
            ("segmented-datagrams", segmented_datagrams),
        ],
    )
}

/// A kind of socket of a protocol that a fence has to open by name.
struct Transport {
    name: &'static str,
    domain: i32,
    kind: i32,
    protocol: i32,
    payload: &'static [u8],
}

impl Transport {
    fn open(&self, actor: &mut Actor) -> Result<Answer> {
        let Self { domain, kind, protocol, .. } = *self;
        actor.call(Call::Socket { name: "s".into(), domain, kind, protocol })
    }

    fn family(&self) -> Family {
        if self.domain == libc::AF_INET6 { Family::V6 } else { Family::V4 }
    }

    /// Opens, connects, sends; stops at the first refusal.
    fn send(&self, actor: &mut Actor, to: SocketAddr) -> Result<()> {
        if !self.open(actor)?.is_done() {
            return Ok(());
        }
        let to = sockaddr::inet(to);
        if actor.call(Call::Connect { name: "s".into(), to, limit_ms: LIMIT })?.is_done() {
            let payload = self.payload.to_vec();
            actor.call(Call::Send { name: "s".into(), to: None, payload, flags: 0 })?;
        }
        Ok(())
    }

    /// Why this kernel cannot make such a socket, if it can't.
    fn missing(&self, stage: &Stage) -> Result<Option<String>> {
        Ok(match self.open(&mut stage.unfenced(Profile::None)?)?.outcome {
            Ended::Done => None,
            Ended::Failed(error) => Some(format!("this kernel has no {} ({error})", self.name)),
        })
    }

    /// Tries it from both workloads; a socket that is refused must be told of, as must a packet.
    fn judge(&self, stage: &mut Stage) -> Result<Finding> {
        if let Some(reason) = self.missing(stage)? {
            return Ok(Finding::NotHere(reason));
        }
        let remotes = stage.remotes(self.family())?;
        let arms = stage.try_way(self.name, Profile::None, remotes, |actor, to| self.send(actor, to))?;
        let fate = arms.fate()?;
        if fate == Fate::Blocked {
            let mut crm = stage.fenced(Profile::None)?;
            let answer = self.open(&mut crm)?;
            ensure!(
                answer.outcome.is_error("EPERM"),
                "{}: socket() answered {:?}",
                self.name,
                answer.outcome
            );
            stage.told_of_socket(self.name, crm.pid())?;
        }
        Ok(Finding::Fate(fate))
    }
}

fn udp_lite(stage: &mut Stage) -> Result<Finding> {
    let (kind, protocol) = (libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE);
    let v4 = Transport { name: "udplite", domain: libc::AF_INET, kind, protocol, payload: &[b'r'; BYTES] };
    let v6 = Transport { domain: libc::AF_INET6, ..v4 };
    both(stage, &v4, &v6)
}

/// The kernel numbers and sums up echo requests itself. Container engines open these sockets to every group; a new
/// network namespace opens them to nobody.
fn icmp_datagram(stage: &mut Stage) -> Result<Finding> {
    stage.scene.near().run(|| {
        fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").context("ping_group_range")
    })?;
    let echo = Transport {
        name: "icmp",
        domain: libc::AF_INET,
        kind: libc::SOCK_DGRAM,
        protocol: libc::IPPROTO_ICMP,
        payload: &[8, 0, 0, 0, 0, 0, 0, 1, b'r', b'r', b'r', b'r'],
    };
    let echo6 = Transport {
        name: "icmpv6",
        domain: libc::AF_INET6,
        protocol: libc::IPPROTO_ICMPV6,
        payload: &[128, 0, 0, 0, 0, 0, 0, 1, b'r', b'r', b'r', b'r'],
        ..echo
    };
    both(stage, &echo, &echo6)
}

fn both(stage: &mut Stage, first: &Transport, second: &Transport) -> Result<Finding> {
    let mut fates = Vec::new();
    for transport in [first, second] {
        match transport.judge(stage)? {
            Finding::Fate(fate) => fates.push(fate),
            not_here @ Finding::NotHere(_) => return Ok(not_here),
        }
    }
    all(fates)
}

fn sctp(stage: &mut Stage) -> Result<Finding> {
    let (kind, protocol) = (libc::SOCK_STREAM, libc::IPPROTO_SCTP);
    Transport { name: "sctp", domain: libc::AF_INET, kind, protocol, payload: &[b'r'; BYTES] }.judge(stage)
}

fn dccp(stage: &mut Stage) -> Result<Finding> {
    let (kind, protocol) = DCCP;
    Transport { name: "dccp", domain: libc::AF_INET, kind, protocol, payload: &[b'r'; BYTES] }.judge(stage)
}

fn mptcp(stage: &mut Stage) -> Result<Finding> {
    let mut fates = Vec::new();
    for domain in [libc::AF_INET, libc::AF_INET6] {
        let (kind, protocol) = (libc::SOCK_STREAM, libc::IPPROTO_MPTCP);
        let mptcp = Transport { name: "mptcp", domain, kind, protocol, payload: &[b'r'; BYTES] };
        if let Some(reason) = mptcp.missing(stage)? {
            return Ok(Finding::NotHere(reason));
        }
        fates.push(stage.judge_way("mptcp", mptcp.family(), &AT_CONNECT, |actor, to| mptcp.send(actor, to))?);
    }
    all(fates)
}

/// With data in the SYN even where no cookie is known yet (`TFO_CLIENT_NO_COOKIE`, `net/tcp.h`).
fn tcp_fast_open(stage: &mut Stage) -> Result<Finding> {
    const CLIENT_WITHOUT_COOKIE: &str = "5";
    stage.scene.near().run(|| {
        fs::write("/proc/sys/net/ipv4/tcp_fastopen", CLIENT_WITHOUT_COOKIE).context("tcp_fastopen")
    })?;
    let at_send = stage.judge_way("tcp-fast-open, MSG_FASTOPEN", Family::V4, &AT_CONNECT, |actor, to| {
        open_tcp(actor)?;
        let (to, payload, flags) = (Some(sockaddr::inet(to)), vec![b'r'; BYTES], libc::MSG_FASTOPEN);
        actor.call(Call::Send { name: "s".into(), to, payload, flags }).map(drop)
    })?;
    let at_connect =
        stage.judge_way("tcp-fast-open, TCP_FASTOPEN_CONNECT", Family::V4, &AT_CONNECT, |actor, to| {
            open_tcp(actor)?;
            let (level, option) = (libc::IPPROTO_TCP, libc::TCP_FASTOPEN_CONNECT);
            let value = 1i32.to_ne_bytes().to_vec();
            let set = actor.call(Call::Option { name: "s".into(), level, option, value })?;
            ensure!(set.is_done(), "TCP_FASTOPEN_CONNECT: {:?}", set.outcome);
            actor.connect("s", to)?;
            actor.send("s", BYTES).map(drop)
        })?;
    all([at_send, at_connect])
}

fn open_tcp(actor: &mut Actor) -> Result<()> {
    let answer = actor.open("s", Family::V4, Kind::Tcp)?;
    ensure!(answer.is_done(), "no socket: {:?}", answer.outcome);
    Ok(())
}

fn tcp_disconnect(stage: &mut Stage) -> Result<Finding> {
    let home = SocketAddr::new(stage.remotes(Family::V4)?.allowed, PORT);
    let nowhere = match home.ip() {
        IpAddr::V4(ip) => sockaddr::unspecified(ip, 0),
        IpAddr::V6(_) => Vec::new(),
    };
    let fate = stage.judge_way("tcp-disconnect", Family::V4, &AT_CONNECT, |actor, to| {
        open_tcp(actor)?;
        ensure!(actor.connect("s", home)?.is_done() && actor.send("s", BYTES)?.is_done(), "no way home");
        let away = actor.call(Call::Connect { name: "s".into(), to: nowhere.clone(), limit_ms: LIMIT })?;
        ensure!(away.is_done(), "AF_UNSPEC: {:?}", away.outcome);
        actor.connect("s", to)?;
        actor.send("s", BYTES).map(drop)
    })?;
    all([fate])
}

fn segmented_datagrams(stage: &mut Stage) -> Result<Finding> {
    /// `UDP_SEGMENT` (`linux/udp.h`): the payload is cut into datagrams of this length.
    const SEGMENT: i32 = 100;
    let segmented =
        stage.judge_way("segmented-datagrams, 10 of 100 bytes", Family::V4, &AT_EGRESS, |actor, to| {
            ensure!(actor.open("s", Family::V4, Kind::Udp)?.is_done(), "no socket");
            let (level, option) = (libc::SOL_UDP, libc::UDP_SEGMENT);
            let value = SEGMENT.to_ne_bytes().to_vec();
            let set = actor.call(Call::Option { name: "s".into(), level, option, value })?;
            ensure!(set.is_done(), "UDP_SEGMENT: {:?}", set.outcome);
            actor.send_to("s", to, 1_000).map(drop)
        })?;
    let fragmented =
        stage.judge_way("segmented-datagrams, 9000 bytes", Family::V4, &AT_EGRESS, |actor, to| {
            ensure!(actor.open("s", Family::V4, Kind::Udp)?.is_done(), "no socket");
            actor.send_to("s", to, 9_000).map(drop)
        })?;
    all([segmented, fragmented])
}
