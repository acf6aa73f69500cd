//! What a workload with CAP_NET_RAW or CAP_NET_ADMIN can do beyond ordinary sockets: write its own headers, hand
//! frames to the card, make devices, rewrite packets.

mod frames;
mod tun;
mod xdp;

use std::collections::HashMap;
use std::fs;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use rustix::io::Errno;
use rustix::net::sockopt::set_socket_broadcast;
use rustix::net::{AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, sendto, socket_with};
use serde::{Deserialize, Serialize};

use super::protocol::Family;
use crate::netlink::{Netlink, Tunnel};

/// One thing to do, in the actor's own network namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Raw {
    /// `socket(family, SOCK_RAW, protocol)` under a name. Protocol 255 (`IPPROTO_RAW`) means that the sender
    /// writes the IP header too, of both families.
    Open {
        /// Name for [`Raw::Send`].
        name: String,
        /// Address family.
        family: Family,
        /// IP protocol number.
        protocol: u8,
    },
    /// `sendto` of each of these packets.
    Send {
        /// Which raw socket.
        name: String,
        /// Where the kernel is told that they go.
        to: IpAddr,
        /// The bytes: with IP header for protocol 255, else from the upper header on.
        packets: Vec<Vec<u8>>,
    },
    /// Hands these frames to a link through AF_PACKET.
    Frames {
        /// Name of the link.
        link: String,
        /// From the Ethernet header on.
        frames: Vec<Vec<u8>>,
    },
    /// Hands these frames to a link through AF_XDP: copy mode, only a transmit ring, no program.
    Xdp {
        /// Name of the link.
        link: String,
        /// From the Ethernet header on.
        frames: Vec<Vec<u8>>,
    },
    /// Makes a TUN device, lets the kernel forward what comes in by it, and writes these packets to it. The device
    /// is gone when the command ends.
    Tun {
        /// From the IP header on.
        packets: Vec<Vec<u8>>,
    },
    /// Makes a tunnel device and routes `inner` into it. It stays until the namespace goes, or [`Raw::Remove`].
    Tunnel {
        /// What kind.
        tunnel: Tunnel,
        /// Name of the new link.
        link: String,
        /// The far end, where the outer packets go.
        remote: IpAddr,
        /// The one address that is reached through it.
        inner: IpAddr,
    },
    /// Removes a link.
    Remove {
        /// Its name.
        link: String,
    },
    /// `nft -f -` with these rules.
    Nft {
        /// As the program reads them.
        rules: String,
    },
    /// Moves this process to another cgroup, by writing to its `cgroup.procs`.
    Move {
        /// The cgroup's directory.
        cgroup: PathBuf,
    },
}

/// Obeys. The outer error is of the harness; the inner one is how the call ended, and `Ok` how many bytes, packets
/// or frames were handed over.
pub(super) fn obey(sockets: &mut HashMap<String, OwnedFd>, raw: Raw) -> Result<Result<usize, Errno>> {
    Ok(match raw {
        Raw::Open { name, family, protocol } => open(family, protocol).map(|socket| {
            sockets.insert(name, socket);
            0
        }),
        Raw::Send { name, to, packets } => {
            let socket = sockets.get(&name).with_context(|| format!("no socket {name} is open"))?;
            // A raw socket's port is the protocol or nothing: zero is always right.
            let to = SocketAddr::new(to, 0);
            each(&packets, |packet| sendto(socket, packet, SendFlags::empty(), &to).map(drop))
        }
        Raw::Frames { link, frames } => frames::send(index_of(&link)?, &frames),
        Raw::Xdp { link, frames } => xdp::send(index_of(&link)?, &frames),
        Raw::Tun { packets } => tun::send(&packets)?,
        Raw::Tunnel { tunnel, link, remote, inner } => {
            errno(Netlink::open()?.add_tunnel(tunnel, &link, remote, inner))?
        }
        Raw::Remove { link } => errno(Netlink::open()?.remove(&link))?,
        Raw::Nft { rules } => {
            nft(&rules)?;
            Ok(0)
        }
        Raw::Move { cgroup } => match fs::write(cgroup.join("cgroup.procs"), "0") {
            Ok(()) => Ok(0),
            Err(error) => {
                Err(Errno::from_io_error(&error).context("cgroup.procs answered without an error number")?)
            }
        },
    })
}

/// Sends until the first error; says how many went.
fn each(packets: &[Vec<u8>], mut send: impl FnMut(&[u8]) -> rustix::io::Result<()>) -> Result<usize, Errno> {
    for packet in packets {
        send(packet)?;
    }
    Ok(packets.len())
}

fn open(family: Family, protocol: u8) -> rustix::io::Result<OwnedFd> {
    let domain = match family {
        Family::V4 => AddressFamily::INET,
        Family::V6 => AddressFamily::INET6,
    };
    let protocol = NonZeroU32::new(u32::from(protocol)).map(Protocol::from_raw);
    let socket = socket_with(domain, SocketType::RAW, SocketFlags::CLOEXEC, protocol)?;
    // Without it, the limited broadcast address is EACCES.
    set_socket_broadcast(&socket, true)?;
    Ok(socket)
}

fn index_of(link: &str) -> Result<u32> {
    Ok(Netlink::open()?.link(link)?.index)
}

/// An error number of netlink's is an answer, anything else the harness's own failure.
fn errno(result: Result<()>) -> Result<Result<usize, Errno>> {
    match result {
        Ok(()) => Ok(Ok(0)),
        Err(error) => match error.downcast_ref().and_then(Errno::from_io_error) {
            Some(errno) => Ok(Err(errno)),
            None => Err(error),
        },
    }
}

fn nft(rules: &str) -> Result<()> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("cannot start nft")?;
    child.stdin.take().context("nft without standard input")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "nft answered {}: {said}\n{rules}", output.status);
    Ok(())
}
