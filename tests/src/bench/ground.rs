//! The world that is measured: the same places for the index, the tries, nftables and the traffic's destinations.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::Arc;

use agent::places::{Groups, PlaceTable, World, WorldBuilder, read_data_file};
use anyhow::{Context, Result, ensure};
use jiff::Zoned;
use jiff::tz::TimeZone;

use super::random::Random;
use super::stage::PORT;

/// Destinations of "many": each lookup is done, and most miss every per-flow memory.
pub(crate) const MANY: usize = 16_384;
/// Destinations of "few".
pub(crate) const FEW: usize = 16;

/// The world, and what a fence that allows the EEA makes of it.
pub(crate) struct Ground {
    pub(crate) world: World,
    pub(crate) table: Arc<PlaceTable>,
    /// By place id: in the EEA.
    allowed: Vec<bool>,
    /// The source of the country data and its date, for the record.
    pub(crate) source: String,
}

impl Ground {
    /// The built-in world, or a database's.
    ///
    /// # Errors
    /// Data that is refused.
    pub(crate) fn new(country_db: Option<&Path>) -> Result<Self> {
        let builder = match country_db {
            None => WorldBuilder::builtin(),
            Some(path) => WorldBuilder::country_db(read_data_file(path)?, path.display().to_string()),
        };
        let world = builder.build()?;
        let table = world.table();
        let groups = Groups::builtin()?;
        let eea = groups.resolve("EEA").context("no group EEA")?;
        let today = Zoned::now().with_time_zone(TimeZone::UTC).date();
        let allowed = table.places.iter().map(|place| groups.matches(&eea, place, today)).collect();
        let of_country = table.sources.iter().find(|source| source.layer == agent::places::Layer::Country);
        let source = of_country.map_or_else(String::new, |source| {
            let date = source.date.map(|date| format!(" of {date}")).unwrap_or_default();
            format!("{}{date}", source.name)
        });
        Ok(Self { world, table, allowed, source })
    }

    /// Whether the fence allows a place.
    pub(crate) fn allows(&self, place: u16) -> bool {
        self.allowed.get(usize::from(place)).copied().unwrap_or(false)
    }

    /// The IPv4 ranges with their last address.
    pub(crate) fn ranges_v4(&self) -> impl Iterator<Item = (u32, u32, u16)> {
        let ranges = self.world.ranges_v4();
        let ends = ranges.iter().skip(1).map(|next| next.0 - 1).chain([u32::MAX]);
        ranges.iter().zip(ends).map(|((first, place), last)| (*first, last, *place))
    }

    /// The IPv6 ranges with their last address.
    pub(crate) fn ranges_v6(&self) -> impl Iterator<Item = (u128, u128, u16)> {
        let ranges = self.world.ranges_v6();
        let ends = ranges.iter().skip(1).map(|next| next.0 - 1).chain([u128::MAX]);
        ranges.iter().zip(ends).map(|((first, place), last)| (*first, last, *place))
    }

    /// Random addresses of the EEA, the same in every run, each as likely as any other.
    ///
    /// # Errors
    /// The world has none.
    pub(crate) fn allowed_targets(&self) -> Result<Vec<SocketAddrV4>> {
        self.targets(|place| self.allows(place))
    }

    /// Random addresses of the United States, which the fence refuses.
    ///
    /// # Errors
    /// The world has none.
    pub(crate) fn refused_targets(&self) -> Result<Vec<SocketAddrV4>> {
        let is_us = |place: u16| {
            let country = self.table.places.get(usize::from(place)).and_then(|place| place.judged_country());
            country.is_some_and(|code| code.as_str() == "US")
        };
        self.targets(is_us)
    }

    fn targets(&self, wanted: impl Fn(u16) -> bool) -> Result<Vec<SocketAddrV4>> {
        let ranges: Vec<_> = self.ranges_v4().filter(|(_, _, place)| wanted(*place)).collect();
        let mut ends = Vec::with_capacity(ranges.len());
        let mut total = 0u64;
        for (first, last, _) in &ranges {
            total += u64::from(last - first) + 1;
            ends.push(total);
        }
        ensure!(total > 0, "the country data has no such place: use another --country-db");
        let mut random = Random::new(7);
        let pick = |at: u64| {
            let range = ends.partition_point(|end| *end <= at);
            let before = range.checked_sub(1).map_or(0, |range| ends[range]);
            ranges[range].0 + (at - before) as u32
        };
        let address = || SocketAddrV4::new(Ipv4Addr::from_bits(pick(random.below(total))), PORT);
        Ok(std::iter::repeat_with(address).take(MANY).collect())
    }
}

/// The fewest prefixes that cover a range: `(first address, length)`.
pub(crate) fn prefixes(first: u128, last: u128, bits: u32) -> Vec<(u128, u32)> {
    let mut out = Vec::new();
    let mut at = first;
    loop {
        // As large as the start allows, and no larger than what is left.
        let mut size = at.trailing_zeros().min(bits);
        while size > 0 && (size == 128 || last - at < (1u128 << size) - 1) {
            size -= 1;
        }
        out.push((at, bits - size));
        match at.checked_add((1u128 << size) - 1) {
            Some(end) if end < last => at = end + 1,
            Some(_) | None => return out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::prefixes;

    #[test]
    fn prefixes_cover_a_range_exactly_and_are_few() {
        assert_eq!(prefixes(0x0a00_0000, 0x0aff_ffff, 32), [(0x0a00_0000, 8)]);
        assert_eq!(prefixes(1, 4, 32), [(1, 32), (2, 31), (4, 32)]);
        assert_eq!(prefixes(0, u128::from(u32::MAX), 32), [(0, 0)]);
        for (first, last) in [(0u128, 9), (5, 5), (77, 1000), (0xffff_fff0, 0xffff_ffff)] {
            let mut next = first;
            for (start, length) in prefixes(first, last, 32) {
                assert_eq!(start, next);
                next += 1 << (32 - length);
            }
            assert_eq!(next, last + 1);
        }
    }

    #[test]
    fn the_end_of_the_wide_address_space_is_reached() {
        let cover = prefixes(u128::MAX - 2, u128::MAX, 128);
        assert_eq!(cover, [(u128::MAX - 2, 128), (u128::MAX - 1, 127)]);
        assert_eq!(prefixes(1 << 127, u128::MAX, 128), [(1 << 127, 1)]);
    }
}
