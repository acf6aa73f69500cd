//! A world of two namespaces: **near**, where workloads run, and **far**, which is the whole internet as
//! they can see it.
//!
//! ```text
//!   near                                   far
//!   ┌────────────────────┐                ┌─────────────────────────────────┐
//!   │ workloads (actors) │  one veth pair │ servers, sniffer                │
//!   │ 10.77.0.2 fd77::2  ├────────────────┤ 10.77.0.1 fd77::1, and every    │
//!   │ default via far    │                │ other address ("local" routes)  │
//!   └────────────────────┘                └─────────────────────────────────┘
//! ```
//!
//! Far owns every address by *AnyIP*: a `local` route over a prefix makes all of it the machine's own. The
//! routes cover everything but the link's own prefix, so that far's answers find their way back to near and
//! no policy-routing rule is needed. Neither namespace has any other link, so nothing can leave; that is
//! checked, not assumed, each time a world is made ([`World::assert_closed`]).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context, Result, ensure};

use crate::netlink::{Netlink, Via};
use crate::netns::Netns;

/// Near's end of the veth pair.
pub const NEAR_LINK: &str = "rf-near";
/// Far's end of the veth pair.
pub const FAR_LINK: &str = "rf-far";
/// Near's addresses, IPv4 and IPv6: what servers see as their clients.
pub const NEAR: (IpAddr, IpAddr) =
    (IpAddr::V4(Ipv4Addr::new(10, 77, 0, 2)), IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2)));
/// Far's addresses on the link: near's gateway.
pub const FAR: (IpAddr, IpAddr) =
    (IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1)), IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1)));
const LINK_PREFIX: (u8, u8) = (24, 64);
/// The loopback device has this index in every namespace.
const LOOPBACK_INDEX: u32 = 1;

/// Which namespaces there are.
enum Layout {
    /// Near and far, joined by a veth pair.
    Pair { near: Netns, far: Netns },
    /// One namespace that is both: for kernels without veth. Frames are judged on `lo`.
    Loopback { both: Netns },
}

/// The test world. Gone with everything in it when dropped.
pub struct World {
    layout: Layout,
}

impl World {
    /// Makes near and far.
    ///
    /// # Errors
    /// Not root, or no veth in this kernel.
    pub fn new() -> Result<Self> {
        let (near, far) = (Netns::new()?, Netns::new()?);
        near.run(|| {
            let mut netlink = Netlink::open()?;
            netlink.set_up("lo", true)?;
            netlink.add_veth(NEAR_LINK, FAR_LINK, far.fd())
        })?;
        far.run(|| {
            let mut netlink = Netlink::open()?;
            netlink.set_up("lo", true)?;
            let index = netlink.link(FAR_LINK)?.index;
            netlink.set_up(FAR_LINK, true)?;
            netlink.add_address(index, FAR.0, LINK_PREFIX.0)?;
            netlink.add_address(index, FAR.1, LINK_PREFIX.1)?;
            own_every_address(&mut netlink)
        })?;
        near.run(|| {
            let mut netlink = Netlink::open()?;
            let index = netlink.link(NEAR_LINK)?.index;
            netlink.set_up(NEAR_LINK, true)?;
            netlink.add_address(index, NEAR.0, LINK_PREFIX.0)?;
            netlink.add_address(index, NEAR.1, LINK_PREFIX.1)?;
            netlink.add_route(Ipv4Addr::UNSPECIFIED.into(), 0, index, Via::Gateway(FAR.0))?;
            netlink.add_route(Ipv6Addr::UNSPECIFIED.into(), 0, index, Via::Gateway(FAR.1))
        })?;
        let world = Self { layout: Layout::Pair { near, far } };
        world.assert_closed()?;
        Ok(world)
    }

    /// Makes one namespace with only `lo`, which owns every address.
    ///
    /// # Errors
    /// Not root, or no network namespaces in this kernel.
    pub fn loopback() -> Result<Self> {
        let both = Netns::new()?;
        both.run(|| {
            let mut netlink = Netlink::open()?;
            netlink.set_up("lo", true)?;
            own_every_address(&mut netlink)
        })?;
        let world = Self { layout: Layout::Loopback { both } };
        world.assert_closed()?;
        Ok(world)
    }

    /// [`World::new`], or [`World::loopback`] where the kernel has no veth (a bare virtual machine).
    ///
    /// # Errors
    /// Neither can be made.
    pub fn any() -> Result<Self> {
        Self::new().or_else(|_| Self::loopback())
    }

    /// Where workloads run.
    pub fn near(&self) -> &Netns {
        match &self.layout {
            Layout::Pair { near, .. } => near,
            Layout::Loopback { both } => both,
        }
    }

    /// Where servers and the sniffer are.
    pub fn far(&self) -> &Netns {
        match &self.layout {
            Layout::Pair { far, .. } => far,
            Layout::Loopback { both } => both,
        }
    }

    /// Near and far are one namespace and frames travel over `lo`.
    pub fn is_loopback(&self) -> bool {
        match self.layout {
            Layout::Pair { .. } => false,
            Layout::Loopback { .. } => true,
        }
    }

    /// Proves that no frame can leave: no namespace has a link that is up but `lo` and our veth end.
    /// (Tunnel devices that some kernels put into every namespace are down, and stay so.)
    ///
    /// # Errors
    /// There is another way out; no test may send anything.
    pub fn assert_closed(&self) -> Result<()> {
        match &self.layout {
            Layout::Pair { near, far } => {
                only_links_up(near, &["lo", NEAR_LINK])?;
                only_links_up(far, &["lo", FAR_LINK])
            }
            Layout::Loopback { both } => only_links_up(both, &["lo"]),
        }
    }
}

fn only_links_up(namespace: &Netns, allowed: &[&str]) -> Result<()> {
    let links = namespace.run(|| Netlink::open()?.links()).context("cannot check the world for ways out")?;
    let other: Vec<_> = links.iter().filter(|l| l.up && !allowed.contains(&l.name.as_str())).collect();
    ensure!(other.is_empty(), "the test world is not closed: {other:?} is up beside {allowed:?}");
    Ok(())
}

/// Makes every address the namespace's own, but the link's prefixes, IPv6 link-local and multicast.
fn own_every_address(netlink: &mut Netlink) -> Result<()> {
    for (network, prefix) in all_but(FAR.0, LINK_PREFIX.0).into_iter().chain(all_but(FAR.1, LINK_PREFIX.1)) {
        let link_local_or_multicast =
            matches!(network, IpAddr::V6(v6) if prefix > 3 && v6.segments()[0] & 0xfe00 == 0xfe00);
        if !link_local_or_multicast {
            netlink.add_route(network, prefix, LOOPBACK_INDEX, Via::Local)?;
        }
    }
    Ok(())
}

/// Disjoint prefixes that together are every address of a family outside `hole/length`: for each bit of
/// the hole's prefix, the addresses that agree before it and differ in it.
fn all_but(hole: IpAddr, length: u8) -> Vec<(IpAddr, u8)> {
    (0..length)
        .map(|bit| {
            let network = match hole {
                IpAddr::V4(v4) => {
                    let keep = u32::MAX << (31 - bit);
                    IpAddr::V4(Ipv4Addr::from_bits((v4.to_bits() ^ (1 << (31 - bit))) & keep))
                }
                IpAddr::V6(v6) => {
                    let keep = u128::MAX << (127 - bit);
                    IpAddr::V6(Ipv6Addr::from_bits((v6.to_bits() ^ (1 << (127 - bit))) & keep))
                }
            };
            (network, bit + 1)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use ipnet::IpNet;

    use super::{FAR, all_but};

    #[test]
    fn all_but_covers_every_address_outside_the_hole_once_and_none_inside() {
        let cover: Vec<IpNet> =
            all_but(FAR.0, 24).into_iter().map(|(ip, len)| IpNet::new(ip, len).unwrap()).collect();
        let times =
            |ip: [u8; 4]| cover.iter().filter(|n| n.contains(&IpAddr::V4(Ipv4Addr::from(ip)))).count();
        for outside in
            [[0, 0, 0, 1], [10, 76, 255, 255], [10, 77, 1, 0], [13, 110, 54, 10], [255, 255, 255, 254]]
        {
            assert_eq!(times(outside), 1, "{outside:?}");
        }
        for inside in [[10, 77, 0, 0], [10, 77, 0, 2], [10, 77, 0, 255]] {
            assert_eq!(times(inside), 0, "{inside:?}");
        }
        let bits: u128 = cover.iter().map(|n| 1u128 << (32 - n.prefix_len())).sum();
        assert_eq!(bits, (1 << 32) - 256);
    }
}
