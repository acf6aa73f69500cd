//! The finished world: every address has a place.

use std::net::IpAddr;
use std::sync::Arc;

use agent_common::address::{Address, Judged};
use agent_common::place_index::{BuildError, PlaceIndex, Usage};

use super::place::PlaceTable;

/// The place or places that an address is judged by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// One place id.
    One(u16),
    /// Teredo: the places of the server and of the client; the stricter verdict counts.
    Teredo {
        /// Place id of the server.
        server: u16,
        /// Place id of the client.
        client: u16,
    },
}

impl Found {
    /// The place ids, one or two.
    pub fn ids(self) -> impl Iterator<Item = u16> {
        let (first, second) = match self {
            Self::One(id) => (id, None),
            Self::Teredo { server, client } => (server, Some(client)),
        };
        std::iter::once(first).chain(second)
    }

    fn of(address: IpAddr, v4: impl Fn(u32) -> u16, v6: impl Fn(Address) -> u16) -> Self {
        match Address::from(address).judged() {
            Judged::V4(address) => Self::One(v4(address)),
            Judged::V6(address) => Self::One(v6(address)),
            Judged::Teredo { server, client } => Self::Teredo { server: v4(server), client: v4(client) },
        }
    }

    /// Looks an address up in an index, as the kernel does.
    #[must_use]
    pub fn in_index(index: &PlaceIndex, address: IpAddr) -> Self {
        Self::of(address, |a| index.place_v4(a), |a| index.place_v6(a))
    }
}

/// Disjoint ranges over both address spaces, and the table of the places that they name.
#[derive(Clone, Debug)]
pub struct World {
    pub(crate) v4: Vec<(u32, u16)>,
    pub(crate) v6: Vec<(u128, u16)>,
    pub(crate) table: Arc<PlaceTable>,
}

impl World {
    /// `(first address in host order, place id)`: sorted, the first at zero, neighbours differ.
    #[must_use]
    pub fn ranges_v4(&self) -> &[(u32, u16)] {
        &self.v4
    }

    /// As [`ranges_v4`](Self::ranges_v4). The IPv4 addresses that hide in IPv6 ones are the caller's to unwrap.
    #[must_use]
    pub fn ranges_v6(&self) -> &[(u128, u16)] {
        &self.v6
    }

    /// The places by id. Keep this, drop the world: the index has the ranges.
    #[must_use]
    pub fn table(&self) -> Arc<PlaceTable> {
        Arc::clone(&self.table)
    }

    /// Compiles the ranges into an index.
    ///
    /// # Errors
    /// More ranges than it holds. The index must then not be published.
    pub fn fill(&self, index: &mut PlaceIndex) -> Result<Usage, BuildError> {
        index.build(&self.v4, &self.v6)
    }

    /// Looks an address up in the ranges, without an index.
    #[must_use]
    pub fn lookup(&self, address: IpAddr) -> Found {
        fn at<K: Copy + PartialOrd>(ranges: &[(K, u16)], key: K) -> u16 {
            // The first range starts at zero, so there is always one before the partition point.
            ranges[ranges.partition_point(|range| range.0 <= key) - 1].1
        }
        let v6 = |address: Address| at(&self.v6, u128::from_be_bytes(address.to_bytes()));
        Found::of(address, |address| at(&self.v4, address), v6)
    }
}
