//! As much of rtnetlink as the world needs: links, addresses and routes, without an `ip` command, so that
//! the suite runs in a virtual machine that has nothing but it.
//!
//! Numbers are of `linux/rtnetlink.h`, `linux/if_link.h` and `linux/veth.h`; they are kernel ABI. All
//! integers are in the machine's own byte order, as the kernel defines netlink; addresses are in network order.

mod links;

use std::net::IpAddr;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socket_with};

pub use links::Tunnel;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const REQUEST: u16 = 1;
const ACK: u16 = 4;
const DUMP: u16 = 0x300;
const CREATE_EXCL: u16 = 0x600;

const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

const IFF_UP: u32 = 1;
/// No duplicate address detection: nobody else is on the link, and a tentative address cannot send.
const IFA_F_NODAD: u8 = 2;
const HEADER: usize = 16;
const IFINFOMSG: usize = 16;

/// A link as the kernel lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// Interface index, unique in its namespace.
    pub index: u32,
    /// Interface name.
    pub name: String,
    /// Administratively up.
    pub up: bool,
}

/// Where a route leads.
#[derive(Debug, Clone, Copy)]
pub enum Via {
    /// To a neighbour on the link `oif`.
    Gateway(IpAddr),
    /// To this namespace itself: every address of the prefix is the machine's own (AnyIP).
    Local,
    /// To nowhere: packets are dropped. A stand-in for a fence when the judge itself is tested.
    Blackhole,
}

/// A netlink socket in the namespace of the thread that opened it.
pub struct Netlink {
    fd: OwnedFd,
    sequence: u32,
}

impl Netlink {
    /// # Errors
    /// No netlink in this kernel, or not allowed.
    pub fn open() -> Result<Self> {
        let fd = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .context("cannot open a NETLINK_ROUTE socket")?;
        Ok(Self { fd, sequence: 0 })
    }

    /// Makes a veth pair: `name` here, `peer` in `peer_ns`. Both ends are down.
    ///
    /// # Errors
    /// The names are taken, or the kernel has no veth.
    pub fn add_veth(&mut self, name: &str, peer: &str, peer_ns: BorrowedFd<'_>) -> Result<()> {
        let mut other = ifinfo(0, 0);
        attribute(&mut other, IFLA_IFNAME, &c_string(peer));
        attribute(&mut other, IFLA_NET_NS_FD, &peer_ns.as_raw_fd().to_ne_bytes());
        let mut data = Vec::new();
        attribute(&mut data, VETH_INFO_PEER, &other);
        let mut info = Vec::new();
        attribute(&mut info, IFLA_INFO_KIND, b"veth");
        attribute(&mut info, IFLA_INFO_DATA, &data);
        let mut body = ifinfo(0, 0);
        attribute(&mut body, IFLA_IFNAME, &c_string(name));
        attribute(&mut body, IFLA_LINKINFO, &info);
        self.request(RTM_NEWLINK, CREATE_EXCL, &body)
            .with_context(|| format!("cannot make veth {name}/{peer}"))
    }

    /// Sets a link up or down.
    ///
    /// # Errors
    /// There is no such link.
    pub fn set_up(&mut self, name: &str, up: bool) -> Result<()> {
        let mut body = ifinfo(if up { IFF_UP } else { 0 }, IFF_UP);
        attribute(&mut body, IFLA_IFNAME, &c_string(name));
        self.request(RTM_NEWLINK, 0, &body).with_context(|| format!("cannot set {name} up={up}"))
    }

    /// Gives `address/prefix` to the link with this index.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn add_address(&mut self, index: u32, address: IpAddr, prefix: u8) -> Result<()> {
        let (family, bytes) = wire(address);
        let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        let mut body = vec![family, prefix, flags, 0];
        body.extend(index.to_ne_bytes());
        attribute(&mut body, IFA_LOCAL, &bytes);
        attribute(&mut body, IFA_ADDRESS, &bytes);
        self.request(RTM_NEWADDR, CREATE_EXCL, &body)
            .with_context(|| format!("cannot add {address}/{prefix}"))
    }

    /// Adds a route for `network/prefix` over the link `oif` (which a blackhole has no use for).
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn add_route(&mut self, network: IpAddr, prefix: u8, oif: u32, via: Via) -> Result<()> {
        const TABLE_MAIN: u8 = 254;
        const TABLE_LOCAL: u8 = 255;
        const BY_BOOT: u8 = 3;
        const SCOPE_UNIVERSE: u8 = 0;
        const SCOPE_HOST: u8 = 254;
        const UNICAST: u8 = 1;
        const LOCAL: u8 = 2;
        const BLACKHOLE: u8 = 6;
        let (family, bytes) = wire(network);
        let (table, scope, kind) = match via {
            Via::Gateway(_) => (TABLE_MAIN, SCOPE_UNIVERSE, UNICAST),
            Via::Local => (TABLE_LOCAL, SCOPE_HOST, LOCAL),
            Via::Blackhole => (TABLE_MAIN, SCOPE_UNIVERSE, BLACKHOLE),
        };
        let mut body = vec![family, prefix, 0, 0, table, BY_BOOT, scope, kind, 0, 0, 0, 0];
        if prefix > 0 {
            attribute(&mut body, RTA_DST, &bytes);
        }
        match via {
            Via::Gateway(gateway) => {
                attribute(&mut body, RTA_OIF, &oif.to_ne_bytes());
                attribute(&mut body, RTA_GATEWAY, &wire(gateway).1);
            }
            Via::Local => attribute(&mut body, RTA_OIF, &oif.to_ne_bytes()),
            Via::Blackhole => {}
        }
        self.request(RTM_NEWROUTE, CREATE_EXCL, &body)
            .with_context(|| format!("cannot add route {network}/{prefix} ({via:?})"))
    }

    /// Every link of the namespace.
    ///
    /// # Errors
    /// The kernel refuses, or answers in a way that this parser does not understand.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        self.send(RTM_GETLINK, DUMP, &ifinfo(0, 0))?;
        let mut links = Vec::new();
        loop {
            for (kind, body) in messages(&self.receive()?)? {
                match kind {
                    NLMSG_DONE => return Ok(links),
                    NLMSG_ERROR => bail!("the kernel refused to list links (errno {})", errno_of(&body)),
                    _ => links.push(link(&body).context("a link message of the kernel is too short")?),
                }
            }
        }
    }

    /// One link by name.
    ///
    /// # Errors
    /// There is no such link.
    pub fn link(&mut self, name: &str) -> Result<Link> {
        let found = self.links()?.into_iter().find(|link| link.name == name);
        found.with_context(|| format!("there is no link {name} in this namespace"))
    }

    /// Sends one request and waits for its acknowledgement.
    fn request(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<()> {
        self.send(kind, flags | ACK, body)?;
        for (kind, body) in messages(&self.receive()?)? {
            if kind == NLMSG_ERROR {
                return match errno_of(&body) {
                    0 => Ok(()),
                    errno => Err(std::io::Error::from_raw_os_error(errno).into()),
                };
            }
        }
        bail!("the kernel did not acknowledge netlink message {kind}")
    }

    fn send(&mut self, kind: u16, flags: u16, body: &[u8]) -> Result<()> {
        self.sequence += 1;
        let length = u32::try_from(HEADER + body.len()).context("netlink message too long")?;
        let mut message = Vec::with_capacity(HEADER + body.len());
        message.extend(length.to_ne_bytes());
        message.extend(kind.to_ne_bytes());
        message.extend((flags | REQUEST).to_ne_bytes());
        message.extend(self.sequence.to_ne_bytes());
        message.extend(0u32.to_ne_bytes());
        message.extend(body);
        send(&self.fd, &message, SendFlags::empty()).context("cannot write to netlink")?;
        Ok(())
    }

    fn receive(&mut self) -> Result<Vec<u8>> {
        let mut buffer = vec![0; 64 * 1024];
        let (length, _) =
            recv(&self.fd, buffer.as_mut_slice(), RecvFlags::empty()).context("cannot read netlink")?;
        buffer.truncate(length);
        Ok(buffer)
    }
}

/// `struct ifinfomsg` without an index: links are named by IFLA_IFNAME.
fn ifinfo(flags: u32, change: u32) -> Vec<u8> {
    let mut message = vec![0; 8];
    message.extend(flags.to_ne_bytes());
    message.extend(change.to_ne_bytes());
    message
}

/// Appends one attribute: length and type, value, padding to four bytes.
fn attribute(to: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).expect("invariant: attributes of this module are short");
    to.extend(length.to_ne_bytes());
    to.extend(kind.to_ne_bytes());
    to.extend(value);
    to.resize(to.len().next_multiple_of(4), 0);
}

fn c_string(name: &str) -> Vec<u8> {
    let mut bytes = name.as_bytes().to_vec();
    bytes.push(0);
    bytes
}

/// Address family number and bytes in network order.
fn wire(address: IpAddr) -> (u8, Vec<u8>) {
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    match address {
        IpAddr::V4(v4) => (AF_INET, v4.octets().to_vec()),
        IpAddr::V6(v6) => (AF_INET6, v6.octets().to_vec()),
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Splits a datagram into (type, body).
fn messages(datagram: &[u8]) -> Result<Vec<(u16, Vec<u8>)>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + HEADER <= datagram.len() {
        let length = u32_at(datagram, at).map_or(0, |length| length as usize);
        let kind = u16_at(datagram, at + 4).context("short netlink header")?;
        if length < HEADER {
            bail!("netlink message of {length} bytes");
        }
        let body = datagram.get(at + HEADER..at + length).context("netlink message was cut off")?;
        found.push((kind, body.to_vec()));
        at += length.next_multiple_of(4);
    }
    Ok(found)
}

/// The positive error number of an NLMSG_ERROR body; 0 is an acknowledgement.
fn errno_of(body: &[u8]) -> i32 {
    u32_at(body, 0).map_or(0, |code| code.cast_signed().saturating_neg())
}

fn link(body: &[u8]) -> Option<Link> {
    let index = u32_at(body, 4)?;
    let up = u32_at(body, 8)? & IFF_UP != 0;
    let mut at = IFINFOMSG;
    while let (Some(length), Some(kind)) = (u16_at(body, at), u16_at(body, at + 2)) {
        let length = usize::from(length);
        if kind == IFLA_IFNAME {
            let name = body.get(at + 4..at + length)?;
            let name = String::from_utf8_lossy(name).trim_end_matches('\0').to_owned();
            return Some(Link { index, name, up });
        }
        at += length.max(4).next_multiple_of(4);
    }
    None
}
