//! The questions: which interfaces are there, in which namespace is a process, which addresses are in that namespace.
//!
//! Numbers are of `linux/rtnetlink.h`, `linux/if_link.h`, `linux/if_addr.h` and `linux/net_namespace.h`; they are
//! kernel ABI. Asking into another namespace (`*_TARGET_NETNSID`) takes CAP_NET_ADMIN there and no entry; since 4.20.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::attributes::{attributes, bytes_at, put, text, u32_at};
use super::netlink::{Netlink, NetlinkError};

const RTM_NEWLINK: u16 = 16;
const RTM_GETLINK: u16 = 18;
const RTM_NEWADDR: u16 = 20;
const RTM_GETADDR: u16 = 22;
const RTM_GETNSID: u16 = 90;

const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_LINKINFO: u16 = 18;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_TARGET_NETNSID: u16 = 46;
const IFLA_INFO_KIND: u16 = 1;
/// `RTEXT_FILTER_SKIP_STATS`: counters are most of a link's message.
const SKIP_STATS: u32 = 1 << 3;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_TARGET_NETNSID: u16 = 10;

const NETNSA_NSID: u16 = 1;
const NETNSA_PID: u16 = 2;

const IFF_UP: u32 = 1;
const IFF_LOOPBACK: u32 = 8;
/// Lengths of `struct ifinfomsg`, `struct ifaddrmsg` and `struct rtgenmsg` (padded).
const IFINFOMSG: usize = 16;
const IFADDRMSG: usize = 8;
const RTGENMSG: usize = 4;

/// The changes that a look is worth: links (`RTNLGRP_LINK`, 1) and names of namespaces (`RTNLGRP_NSID`, 28).
pub(super) const GROUPS: u32 = 1 | 1 << 27;

/// How a namespace is called from another one; given out by the kernel, not the same from everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct NetnsId(pub(super) i32);

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Link {
    /// Its index, unique in its namespace.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: String,
    /// What made it: `veth`, `macvlan`, …; empty for hardware and for loopback.
    pub(super) kind: String,
    /// Administratively up.
    pub(super) is_up: bool,
    /// Loopback.
    pub(super) is_loopback: bool,
    /// The index of its other half, or of what it lies on; in the namespace `peer_namespace`, else in its own.
    pub(super) peer: Option<u32>,
    /// Where the other half is, if elsewhere.
    pub(super) peer_namespace: Option<NetnsId>,
}

/// The interfaces of our own namespace, or of another.
pub(super) fn links(netlink: &mut Netlink, of: Option<NetnsId>) -> Result<Vec<Link>, NetlinkError> {
    let mut body = vec![0; IFINFOMSG];
    put(&mut body, IFLA_EXT_MASK, &SKIP_STATS.to_ne_bytes());
    if let Some(NetnsId(id)) = of {
        put(&mut body, IFLA_TARGET_NETNSID, &id.to_ne_bytes());
    }
    netlink.list("listing interfaces", (RTM_GETLINK, RTM_NEWLINK), &body, link)
}

fn link(body: &[u8]) -> Option<Link> {
    let (index, flags) = (u32_at(body, 4)?, u32_at(body, 8)?);
    let mut link = Link {
        index,
        name: String::new(),
        kind: String::new(),
        is_up: flags & IFF_UP != 0,
        is_loopback: flags & IFF_LOOPBACK != 0,
        peer: None,
        peer_namespace: None,
    };
    for (kind, value) in attributes(body, IFINFOMSG) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_LINK => link.peer = u32_at(value, 0),
            IFLA_LINK_NETNSID => link.peer_namespace = namespace(value),
            IFLA_LINKINFO => {
                let kind = attributes(value, 0).find(|(kind, _)| *kind == IFLA_INFO_KIND);
                link.kind = kind.map(|(_, value)| text(value)).unwrap_or_default();
            }
            _ => {}
        }
    }
    Some(link)
}

fn namespace(value: &[u8]) -> Option<NetnsId> {
    u32_at(value, 0).map(u32::cast_signed).filter(|id| *id >= 0).map(NetnsId)
}

/// How the namespace of a process is called from ours. `None`: it has no name, because no interface leads there, or it
/// is ours. A process that is gone has none either.
pub(super) fn namespace_of(netlink: &mut Netlink, pid: u32) -> Result<Option<NetnsId>, NetlinkError> {
    let mut body = vec![0; RTGENMSG];
    put(&mut body, NETNSA_PID, &pid.to_ne_bytes());
    let mut found = None;
    let asked = netlink.get("naming a process's network namespace", RTM_GETNSID, &body, |body| {
        let id = attributes(body, RTGENMSG).find(|(kind, _)| *kind == NETNSA_NSID);
        found = id.and_then(|(_, value)| namespace(value)).or(found);
    });
    match asked {
        Ok(()) => Ok(found),
        Err(error) if error.errno() == Some(libc::ESRCH) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The addresses of another namespace, loopback's left out.
pub(super) fn addresses(netlink: &mut Netlink, NetnsId(id): NetnsId) -> Result<Vec<IpAddr>, NetlinkError> {
    let mut all = Vec::new();
    for family in [libc::AF_INET, libc::AF_INET6] {
        let mut body = vec![0; IFADDRMSG];
        body[0] = u8::try_from(family).unwrap_or_default();
        put(&mut body, IFA_TARGET_NETNSID, &id.to_ne_bytes());
        all.extend(netlink.list("listing addresses", (RTM_GETADDR, RTM_NEWADDR), &body, address)?);
    }
    all.retain(|address: &IpAddr| !address.is_loopback());
    all.sort_unstable();
    all.dedup();
    Ok(all)
}

/// The workload's own side: `IFA_LOCAL` where there is one, because `IFA_ADDRESS` is then the other end's.
fn address(body: &[u8]) -> Option<IpAddr> {
    let family = i32::from(*body.first()?);
    let of = |wanted| attributes(body, IFADDRMSG).find(|(kind, _)| *kind == wanted).map(|(_, value)| value);
    let value = of(IFA_LOCAL).or_else(|| of(IFA_ADDRESS))?;
    match family {
        libc::AF_INET => bytes_at::<4>(value, 0).map(|b| Ipv4Addr::from(b).into()),
        libc::AF_INET6 => bytes_at::<16>(value, 0).map(|b| Ipv6Addr::from(b).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, prop, proptest};

    use super::{NetnsId, address, link};
    use crate::hostlayer::attributes::put;

    fn link_message(build: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
        let mut body = vec![0; 16];
        body[4..8].copy_from_slice(&9u32.to_ne_bytes());
        body[8..12].copy_from_slice(&1u32.to_ne_bytes());
        build(&mut body);
        body
    }

    #[test]
    fn a_veth_says_where_its_other_half_is() {
        let body = link_message(|body| {
            put(body, 3, b"veth1a2b\0");
            put(body, 5, &2u32.to_ne_bytes());
            put(body, 37, &4i32.to_ne_bytes());
            let mut info = Vec::new();
            put(&mut info, 1, b"veth\0");
            put(&mut info, 2, &[]);
            put(body, 0x8000 | 18, &info);
        });
        let link = link(&body).unwrap();
        assert_eq!(
            (link.index, link.name.as_str(), link.kind.as_str(), link.is_up),
            (9, "veth1a2b", "veth", true)
        );
        assert_eq!((link.peer, link.peer_namespace), (Some(2), Some(NetnsId(4))));
    }

    #[test]
    fn a_namespace_without_a_name_is_none() {
        let body = link_message(|body| put(body, 37, &(-1i32).to_ne_bytes()));
        assert_eq!(link(&body).unwrap().peer_namespace, None);
        assert_eq!(link(&body[..12]).map(|l| l.index), Some(9));
        assert_eq!(link(&body[..11]), None);
    }

    #[test]
    fn of_a_point_to_point_link_the_own_side_counts() {
        let mut body = vec![2, 32, 0, 0, 0, 0, 0, 0];
        put(&mut body, 1, &[10, 0, 0, 1]);
        put(&mut body, 2, &[10, 0, 0, 2]);
        assert_eq!(address(&body).unwrap().to_string(), "10.0.0.2");
        let mut body = vec![10, 64, 0, 0, 0, 0, 0, 0];
        put(&mut body, 1, &[0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(address(&body).unwrap().to_string(), "fe80::7");
        assert_eq!(address(&body[..12]), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..160)) {
            let _: Option<super::Link> = link(&bytes);
            let _: Option<std::net::IpAddr> = address(&bytes);
        }
    }
}
