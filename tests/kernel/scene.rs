//! What every test about an agent needs: a closed world, three cgroups, servers and the judge.

use std::fs;
use std::net::SocketAddr;

use agent_tests::actor::Actor;
use agent_tests::agent::Setup;
use agent_tests::cgroup::Cgroup;
use agent_tests::mmdb::{Shape, country_database};
use agent_tests::netns::Netns;
use agent_tests::servers::Servers;
use agent_tests::sniffer::Sniffer;
use agent_tests::world::World;
use anyhow::{Context, Result};
use ipnet::IpNet;

use crate::flows::{OUTSIDE_PORT, PORT, every_udp_address};
use crate::suite::in_vm;

/// A stage with its set. Dropped in this order: servers, judge, cgroups from the leaves up, world.
pub(crate) struct Scene {
    /// Echoes what arrives.
    _servers: Servers,
    /// The judge.
    pub(crate) sniffer: Sniffer,
    /// The workload that fences in these tests select.
    pub(crate) crm: Cgroup,
    /// A workload below the agent's root that no fence selects.
    pub(crate) other: Cgroup,
    /// Where the agent attaches.
    pub(crate) root: Cgroup,
    world: World,
}

impl Scene {
    /// Sets the stage.
    pub(crate) fn new() -> Result<Self> {
        Self::with_udp(&every_udp_address())
    }

    /// Sets the stage with UDP servers on these addresses. TCP answers on [`PORT`] and [`OUTSIDE_PORT`] of
    /// every address.
    pub(crate) fn with_udp(udp: &[SocketAddr]) -> Result<Self> {
        Self::assemble(World::any()?, udp)
    }

    /// Sets the stage in a given world.
    pub(crate) fn in_world(world: World) -> Result<Self> {
        Self::assemble(world, &every_udp_address())
    }

    fn assemble(world: World, udp: &[SocketAddr]) -> Result<Self> {
        let root = Cgroup::root()?;
        let (crm, other) = (root.child("crm")?, root.child("other")?);
        let sniffer = Sniffer::start(&world)?;
        let servers = Servers::start(&world, &[PORT, OUTSIDE_PORT], udp)?;
        Ok(Self { _servers: servers, sniffer, crm, other, root, world })
    }

    /// A process in the workload `crm`.
    pub(crate) fn crm_actor(&self) -> Result<Actor> {
        Actor::start(self.world.near(), &self.crm)
    }

    /// A process in the workload `other`.
    pub(crate) fn other_actor(&self) -> Result<Actor> {
        Actor::start(self.world.near(), &self.other)
    }

    /// The namespace that workloads are in.
    pub(crate) fn near(&self) -> &Netns {
        self.world.near()
    }

    /// Workloads and servers are in one namespace.
    pub(crate) fn is_loopback(&self) -> bool {
        self.world.is_loopback()
    }

    /// The namespace that is the internet.
    pub(crate) fn far(&self) -> &Netns {
        self.world.far()
    }

    /// How to run an agent on this stage. In a virtual machine it knows a small world: reading the whole one takes
    /// an emulated processor many seconds, and each test starts an agent of its own.
    pub(crate) fn agent(&self) -> Result<Setup> {
        let setup = self.agent_with_the_whole_world()?;
        if in_vm() { with_a_small_world(setup) } else { Ok(setup) }
    }

    /// How to run an agent with its built-in country database, wherever this is.
    pub(crate) fn agent_with_the_whole_world(&self) -> Result<Setup> {
        Setup::new(&self.root)
    }
}

/// An agent that knows only the places of the tests' addresses: it is ready at once.
pub(crate) fn with_a_small_world(setup: Setup) -> Result<Setup> {
    let file = setup.directory().join("country.mmdb");
    fs::write(&file, small_world()?).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(setup.arg("--country-db").arg(file).arg("--country-db-min-share").arg("0"))
}

/// The countries of the tests' addresses, as the built-in database has them.
fn small_world() -> Result<Vec<u8>> {
    let countries =
        [("13.110.0.0/16", "US"), ("2601::/20", "US"), ("46.4.0.0/16", "DE"), ("2a01:4f8::/32", "DE")];
    let networks: Vec<(IpNet, &str)> =
        countries.into_iter().map(|(net, code)| Ok((net.parse()?, code))).collect::<Result<_>>()?;
    let now = jiff::Timestamp::now().as_second();
    Ok(country_database(Shape::Flat, u64::try_from(now)?, &networks))
}
