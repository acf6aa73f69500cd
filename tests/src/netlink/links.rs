//! Links beyond the veth pair of the world: bridges, tunnels, and the switches of a single link.

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::{
    CREATE_EXCL, IFF_UP, IFLA_IFNAME, IFLA_INFO_DATA, IFLA_INFO_KIND, IFLA_LINKINFO, Netlink, RTA_DST,
    RTA_OIF, RTM_NEWLINK, RTM_NEWROUTE, attribute, c_string, ifinfo, wire,
};
use crate::craft::Mac;

const RTM_DELLINK: u16 = 17;
const IFLA_ADDRESS: u16 = 1;
const IFLA_MASTER: u16 = 10;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_INET_CONF: u16 = 1;
const IFF_NOARP: u32 = 0x80;
/// Indices of `linux/ip.h`.
const IPV4_DEVCONF_FORWARDING: u16 = 1;
const IPV4_DEVCONF_RP_FILTER: u16 = 8;
const IPV4_DEVCONF_ACCEPT_LOCAL: u16 = 23;

/// Kinds of tunnel device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tunnel {
    /// RFC 7348.
    Vxlan,
    /// RFC 8926.
    Geneve,
    /// RFC 2784.
    Gre,
    /// RFC 2003.
    IpIp,
}

impl Tunnel {
    /// As the kernel calls it.
    fn kind(self) -> &'static [u8] {
        match self {
            Self::Vxlan => b"vxlan",
            Self::Geneve => b"geneve",
            Self::Gre => b"gre",
            Self::IpIp => b"ipip",
        }
    }

    /// `IFLA_INFO_DATA` of `linux/if_link.h` and `linux/if_tunnel.h`.
    fn data(self, remote: &[u8]) -> Vec<u8> {
        const IFLA_VXLAN_ID: u16 = 1;
        const IFLA_VXLAN_GROUP: u16 = 2;
        const IFLA_VXLAN_PORT: u16 = 15;
        const IFLA_GENEVE_ID: u16 = 1;
        const IFLA_GENEVE_REMOTE: u16 = 2;
        const IFLA_GRE_REMOTE: u16 = 7;
        const IFLA_GRE_TTL: u16 = 8;
        const IFLA_IPTUN_REMOTE: u16 = 3;
        const IFLA_IPTUN_TTL: u16 = 4;
        let mut data = Vec::new();
        match self {
            Self::Vxlan => {
                attribute(&mut data, IFLA_VXLAN_ID, &77u32.to_ne_bytes());
                attribute(&mut data, IFLA_VXLAN_GROUP, remote);
                attribute(&mut data, IFLA_VXLAN_PORT, &4789u16.to_be_bytes());
            }
            Self::Geneve => {
                attribute(&mut data, IFLA_GENEVE_ID, &77u32.to_ne_bytes());
                attribute(&mut data, IFLA_GENEVE_REMOTE, remote);
            }
            Self::Gre => {
                attribute(&mut data, IFLA_GRE_REMOTE, remote);
                attribute(&mut data, IFLA_GRE_TTL, &[64]);
            }
            Self::IpIp => {
                attribute(&mut data, IFLA_IPTUN_REMOTE, remote);
                attribute(&mut data, IFLA_IPTUN_TTL, &[64]);
            }
        }
        data
    }
}

impl Netlink {
    /// Makes a bridge; it is down.
    ///
    /// # Errors
    /// The name is taken, or the kernel has no bridge.
    pub fn add_bridge(&mut self, name: &str) -> Result<()> {
        const IFLA_BR_MCAST_SNOOPING: u16 = 23;
        let mut data = Vec::new();
        // Multicast goes to every port, whoever asked for it.
        attribute(&mut data, IFLA_BR_MCAST_SNOOPING, &[0]);
        self.add_link(name, b"bridge", &data).with_context(|| format!("cannot make bridge {name}"))
    }

    /// Makes the link `port` a port of `bridge`.
    ///
    /// # Errors
    /// There is no such link or bridge.
    pub fn enslave(&mut self, port: &str, bridge: &str) -> Result<()> {
        let master = self.link(bridge)?.index;
        self.change(port, |body| attribute(body, IFLA_MASTER, &master.to_ne_bytes()))
            .with_context(|| format!("cannot make {port} a port of {bridge}"))
    }

    /// Gives a link this Ethernet address.
    ///
    /// # Errors
    /// There is no such link.
    pub fn set_mac(&mut self, name: &str, mac: Mac) -> Result<()> {
        self.change(name, |body| attribute(body, IFLA_ADDRESS, &mac))
            .with_context(|| format!("cannot set the Ethernet address of {name}"))
    }

    /// Lets the kernel forward what comes in by this link, whatever its source says: per-link switches that netlink
    /// sets without a write below /proc/sys.
    ///
    /// # Errors
    /// There is no such link, or CAP_NET_ADMIN is missing.
    pub fn forward_from(&mut self, name: &str) -> Result<()> {
        let mut switches = Vec::new();
        for (switch, value) in
            [(IPV4_DEVCONF_FORWARDING, 1u32), (IPV4_DEVCONF_RP_FILTER, 0), (IPV4_DEVCONF_ACCEPT_LOCAL, 1)]
        {
            attribute(&mut switches, switch, &value.to_ne_bytes());
        }
        let mut conf = Vec::new();
        attribute(&mut conf, IFLA_INET_CONF, &switches);
        let mut spec = Vec::new();
        attribute(&mut spec, libc::AF_INET as u16, &conf);
        self.change(name, |body| attribute(body, IFLA_AF_SPEC, &spec))
            .with_context(|| format!("cannot set the switches of {name}"))
    }

    /// Makes a tunnel to `remote` (IPv4), up, and routes the address `inner` into it.
    ///
    /// # Errors
    /// The kernel has no such tunnel (EOPNOTSUPP), or CAP_NET_ADMIN is missing.
    pub fn add_tunnel(&mut self, tunnel: Tunnel, name: &str, remote: IpAddr, inner: IpAddr) -> Result<()> {
        let IpAddr::V4(remote) = remote else { bail!("tunnels of this module have IPv4 ends, not {remote}") };
        self.add_link(name, tunnel.kind(), &tunnel.data(&remote.octets()))
            .with_context(|| format!("cannot make {tunnel:?} {name}"))?;
        // Without address resolution: it would go through the tunnel too, and nobody answers there.
        self.request(RTM_NEWLINK, 0, &named(name, IFF_UP | IFF_NOARP))
            .with_context(|| format!("cannot set {name} up"))?;
        let index = self.link(name)?.index;
        self.add_neighbour_route(inner, index)
    }

    /// Routes one address straight to a link: whoever has it is a neighbour there.
    ///
    /// # Errors
    /// The kernel refuses it.
    pub fn add_neighbour_route(&mut self, address: IpAddr, index: u32) -> Result<()> {
        const TABLE_MAIN: u8 = 254;
        const BY_BOOT: u8 = 3;
        const SCOPE_LINK: u8 = 253;
        const UNICAST: u8 = 1;
        let (family, bytes) = wire(address);
        let length = if address.is_ipv4() { 32 } else { 128 };
        let mut body = vec![family, length, 0, 0, TABLE_MAIN, BY_BOOT, SCOPE_LINK, UNICAST, 0, 0, 0, 0];
        attribute(&mut body, RTA_DST, &bytes);
        attribute(&mut body, RTA_OIF, &index.to_ne_bytes());
        self.request(RTM_NEWROUTE, CREATE_EXCL, &body)
            .with_context(|| format!("cannot route {address} to link {index}"))
    }

    /// Removes a link.
    ///
    /// # Errors
    /// There is no such link.
    pub fn remove(&mut self, name: &str) -> Result<()> {
        self.request(RTM_DELLINK, 0, &named(name, 0)).with_context(|| format!("cannot remove {name}"))
    }

    fn add_link(&mut self, name: &str, kind: &[u8], data: &[u8]) -> Result<()> {
        let mut info = Vec::new();
        attribute(&mut info, IFLA_INFO_KIND, kind);
        if !data.is_empty() {
            attribute(&mut info, IFLA_INFO_DATA, data);
        }
        let mut body = named(name, 0);
        attribute(&mut body, IFLA_LINKINFO, &info);
        self.request(RTM_NEWLINK, CREATE_EXCL, &body)
    }

    fn change(&mut self, name: &str, with: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut body = named(name, 0);
        with(&mut body);
        self.request(RTM_NEWLINK, 0, &body)
    }
}

/// A message about the link of this name, which sets these flags and leaves the others.
fn named(name: &str, flags: u32) -> Vec<u8> {
    let mut body = ifinfo(flags, flags);
    attribute(&mut body, IFLA_IFNAME, &c_string(name));
    body
}
