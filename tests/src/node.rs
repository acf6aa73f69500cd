//! A node with pods, as container networks build them: each pod is a network namespace whose veth ends in a bridge
//! of the node.
//!
//! ```text
//!   pod                      near: the node                     far
//!   ┌────────────┐          ┌───────────────────────┐          ┌──────────────────────┐
//!   │ 10.77.0.130│ veth     │ bridge rf-bridge      │ veth     │ rf-down: the pods'   │
//!   │ fd77::82   ├──────────┤ (no address of its    ├──────────┤ gateway, and every   │
//!   │ default via│ rf-pod-… │  own)                 │ rf-up    │ other address        │
//!   │ far        │          │ the agent runs here   │          │                      │
//!   └────────────┘          └───────────────────────┘          └──────────────────────┘
//! ```
//!
//! A bridge and not a router, so that far sees every kind of frame: also what no router would pass on, such as
//! neighbour discovery, DHCP and foreign Ethernet types. It stands beside the world's own pair of links, which it
//! leaves alone.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::craft::Mac;
use crate::netlink::{Netlink, Via};
use crate::netns::Netns;
use crate::world::{FAR, World};

const BRIDGE: &str = "rf-bridge";
const UP: &str = "rf-up";
const DOWN: &str = "rf-down";
/// The pods' interface, by the same name in each.
pub const POD_LINK: &str = "eth0";
/// Ethernet address of far's end, which pods use as their gateway's.
pub const GATEWAY: Mac = [0x02, 0x77, 0, 0, 0, 1];

/// A world with a bridge in its near namespace, joined to far. Gone when dropped.
pub struct Node {
    world: World,
}

/// One pod. Gone with its namespace when dropped, if no process is left in it.
pub struct Pod {
    /// Its network namespace.
    pub namespace: Netns,
    /// Its IPv4 address.
    pub v4: IpAddr,
    /// Its IPv6 address.
    pub v6: IpAddr,
    /// Ethernet address of its interface.
    pub mac: Mac,
    /// Name of the veth's other end, in near.
    pub host_link: String,
}

impl Pod {
    /// Its address of the same family as `other`.
    pub fn address_like(&self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() { self.v4 } else { self.v6 }
    }
}

impl Node {
    /// Makes the bridge and its link to far.
    ///
    /// # Errors
    /// This kernel has no bridge, or the world is the loopback one.
    pub fn new(world: World) -> Result<Self> {
        ensure!(!world.is_loopback(), "pods need a kernel with veth");
        world.near().run(|| {
            without_netfilter()?;
            let mut netlink = Netlink::open()?;
            netlink.add_bridge(BRIDGE)?;
            netlink.add_veth(UP, DOWN, world.far().fd())?;
            netlink.enslave(UP, BRIDGE)?;
            netlink.set_up(UP, true)?;
            netlink.set_up(BRIDGE, true)
        })?;
        world.far().run(|| {
            without_address_detection(DOWN)?;
            let mut netlink = Netlink::open()?;
            netlink.set_mac(DOWN, GATEWAY)?;
            netlink.set_up(DOWN, true)?;
            let index = netlink.link(DOWN)?.index;
            // Far answers ARP for any address of its own, but neighbour solicitations only for the link's.
            netlink.add_address(index, FAR.1, 128)
        })?;
        Ok(Self { world })
    }

    /// The world that the node is in.
    pub fn world(&self) -> &World {
        &self.world
    }

    /// Adds a pod; `number` (1 to 100) makes its addresses.
    ///
    /// # Errors
    /// The number is taken, or the kernel refuses.
    pub fn pod(&self, number: u8) -> Result<Pod> {
        ensure!((1..=100).contains(&number), "pods are numbered 1 to 100, not {number}");
        let pod = Pod {
            namespace: Netns::new()?,
            v4: Ipv4Addr::new(10, 77, 0, 100 + number).into(),
            v6: Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 0x100 + u16::from(number)).into(),
            mac: [0x02, 0x77, 0, 0, 1, number],
            host_link: format!("rf-pod-{number}"),
        };
        self.world.near().run(|| {
            let mut netlink = Netlink::open()?;
            netlink.add_veth(&pod.host_link, POD_LINK, pod.namespace.fd())?;
            netlink.enslave(&pod.host_link, BRIDGE)?;
            netlink.set_up(&pod.host_link, true)
        })?;
        pod.namespace.run(|| {
            without_address_detection(POD_LINK)?;
            let mut netlink = Netlink::open()?;
            netlink.set_up("lo", true)?;
            netlink.set_mac(POD_LINK, pod.mac)?;
            netlink.set_up(POD_LINK, true)?;
            let index = netlink.link(POD_LINK)?.index;
            netlink.add_address(index, pod.v4, 24)?;
            netlink.add_address(index, pod.v6, 64)?;
            netlink.add_route(Ipv4Addr::UNSPECIFIED.into(), 0, index, Via::Gateway(FAR.0))?;
            netlink.add_route(Ipv6Addr::UNSPECIFIED.into(), 0, index, Via::Gateway(FAR.1))
        })?;
        self.world.far().run(|| {
            let mut netlink = Netlink::open()?;
            let index = netlink.link(DOWN)?.index;
            netlink.add_neighbour_route(pod.v4, index)?;
            netlink.add_neighbour_route(pod.v6, index)
        })?;
        Ok(pod)
    }
}

/// No duplicate address detection on this link of the calling thread's namespace: nobody else is on it, and an
/// address that is being tried cannot send.
fn without_address_detection(link: &str) -> Result<()> {
    let switch = format!("/proc/sys/net/ipv6/conf/{link}/accept_dad");
    fs::write(&switch, "0").with_context(|| format!("cannot write {switch}"))
}

/// Keeps the IP layer's checks away from what only passes the bridge, where the kernel has that (br_netfilter): it
/// would drop packets that are cut short before anybody could judge them.
fn without_netfilter() -> Result<()> {
    for switch in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
        let switch = Path::new("/proc/sys/net/bridge").join(switch);
        if switch.exists() {
            fs::write(&switch, "0").with_context(|| format!("cannot write {}", switch.display()))?;
        }
    }
    Ok(())
}
