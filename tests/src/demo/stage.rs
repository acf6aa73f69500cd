//! The stage: a closed world, two workloads in it, servers on addresses of many countries, and the judge.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;

use super::http::Http;
use crate::cgroup::Cgroup;
use crate::netns::Netns;
use crate::servers::Servers;
use crate::sniffer::Sniffer;
use crate::world::{FAR, World};

/// The cgroup that the examples' fences name.
const ROOT: &str = "ringfence-demo";
/// Where web servers listen, on every address.
pub(super) const WEB: u16 = 443;
/// Where the model of the workload "llm" listens.
pub(super) const MODEL: u16 = 8080;
/// Where web servers listen, too: for the act without a fence.
pub(super) const EARLY: u16 = 8081;
/// A port that no exception opens. Nobody listens.
pub(super) const OTHER: u16 = 8443;
/// Where TCP is echoed, on every address.
pub(super) const ECHO: u16 = 7;
/// The port of name servers.
pub(super) const DNS: u16 = 53;

/// An address, and who is there in the real world.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spot {
    pub(super) address: IpAddr,
    /// Who is there, in a few words.
    pub(super) who: &'static str,
}

impl Spot {
    pub(super) fn port(self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address, port)
    }
}

const fn v4(a: u8, b: u8, c: u8, d: u8, who: &'static str) -> Spot {
    Spot { address: IpAddr::V4(Ipv4Addr::new(a, b, c, d)), who }
}

const fn v6(a: u16, b: u16, c: u16, last: u16, who: &'static str) -> Spot {
    Spot { address: IpAddr::V6(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, last)), who }
}

pub(super) const GERMANY: Spot = v4(46, 4, 10, 10, "a hoster in Germany");
pub(super) const GERMANY_V6: Spot = v6(0x2a01, 0x4f8, 0, 0x10, "the same hoster, over IPv6");
pub(super) const SWITZERLAND: Spot = v4(129, 132, 19, 1, "a university in Switzerland");
pub(super) const BRAZIL: Spot = v4(200, 160, 2, 3, "a registry in Brazil");
pub(super) const SALESFORCE: Spot = v4(13, 110, 54, 10, "Salesforce, United States");
pub(super) const SALESFORCE_MAPPED: Spot = Spot {
    address: IpAddr::V6(Ipv4Addr::new(13, 110, 54, 10).to_ipv6_mapped()),
    who: "Salesforce, written as IPv6",
};
pub(super) const UNITED_STATES_V6: Spot = v6(0x2601, 0x600, 0, 0x10, "a US access network");
pub(super) const JAPAN: Spot = v4(133, 11, 93, 1, "a university in Japan");
pub(super) const ANYCAST: Spot = v4(1, 1, 1, 1, "a resolver with anycast");
pub(super) const UNKNOWN: Spot = v6(0x3000, 0, 0, 1, "nobody knows where");
pub(super) const LISTED: Spot = v4(203, 0, 113, 9, "on the fence's block list");
/// In the AWS region eu-west-1, Ireland; the country database says United States.
pub(super) const AWS_IRELAND: Spot = v4(52, 93, 127, 27, "AWS eu-west-1, Ireland");
pub(super) const CHINA: Spot = v4(114, 114, 114, 114, "a resolver in China");
pub(super) const LLM_API: Spot = v4(20, 42, 0, 10, "a cloud API, United States");
pub(super) const LLM_ANYCAST: Spot = v4(104, 18, 6, 192, "an LLM API behind a CDN");
pub(super) const LOCAL_MODEL: Spot = Spot { address: FAR.0, who: "the model in the same network" };
pub(super) const LOCAL_SHOP: Spot = Spot { address: FAR.0, who: "the shop in the same network" };

/// Where UDP is echoed.
const UDP: [SocketAddr; 5] = [
    SocketAddr::new(BRAZIL.address, DNS),
    SocketAddr::new(UNITED_STATES_V6.address, WEB),
    SocketAddr::new(ANYCAST.address, DNS),
    SocketAddr::new(CHINA.address, DNS),
    SocketAddr::new(LLM_API.address, WEB),
];

/// A workload: a cgroup with a name for people.
pub(super) struct Workload {
    pub(super) name: &'static str,
    pub(super) cgroup: Cgroup,
}

/// Everything that is there before the agent. Dropped from top to bottom: servers, judge, cgroups from the leaves up,
/// world.
pub(super) struct Stage {
    _http: Http,
    _echo: Servers,
    pub(super) sniffer: Sniffer,
    pub(super) crm: Workload,
    pub(super) llm: Workload,
    pub(super) root: Cgroup,
    world: World,
}

impl Stage {
    /// Sets the stage and proves that nothing can leave it.
    pub(super) fn set() -> Result<Self> {
        let world = World::new()?;
        let root = Cgroup::named_root(ROOT)?;
        let crm = Workload { name: "crm", cgroup: root.child("crm")? };
        let llm = Workload { name: "llm", cgroup: root.child("llm")? };
        let sniffer = Sniffer::start(&world)?;
        let echo = Servers::start(&world, &[ECHO], &UDP)?;
        let http = Http::start(&world, &[WEB, MODEL, EARLY])?;
        Ok(Self { _http: http, _echo: echo, sniffer, crm, llm, root, world })
    }

    /// Where programs of workloads run.
    pub(super) fn near(&self) -> &Netns {
        self.world.near()
    }
}
