//! Sorted ranges to the index. Runs in user space, straight into the (mapped) map value; allocates nothing.

use core::fmt;

use super::{BLOCK_STRIDE, DEEP, LEAF, PlaceIndex, V4_LOW_BITS, V4Index, V6_LOW_BITS, V6Index};
use crate::limits::{DEEP_BLOCKS, DEEP_CELLS, MAX_PLACES, V4_CELLS, V6_BLOCKS, V6_CELLS};

/// Why ranges do not make an index. The old index stays in force.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BuildError {
    /// The first range must start at address zero.
    NoOrigin,
    /// Starts must rise strictly: the number is the offending range's position.
    Unsorted(usize),
    /// A place id beyond [`MAX_PLACES`].
    PlaceId(u16),
    /// More of something than the index has room for.
    Full {
        /// What there is too much of.
        what: &'static str,
        /// How many fit.
        capacity: usize,
    },
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoOrigin => write!(f, "the first range does not start at address zero"),
            Self::Unsorted(at) => write!(f, "range {at} does not start above the one before it"),
            Self::PlaceId(id) => write!(f, "place id {id} is beyond the {MAX_PLACES} that fit"),
            Self::Full { what, capacity } => {
                write!(
                    f,
                    "more {what} than the place index holds ({capacity}): use a coarser database or fewer CIDRs"
                )
            }
        }
    }
}

impl core::error::Error for BuildError {}

/// How much of the index's reserved memory a build uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Usage {
    /// IPv4 ranges.
    pub v4_cells: usize,
    /// IPv6 ranges at /64 granularity.
    pub v6_cells: usize,
    /// /16 networks that are cut finer.
    pub v6_blocks: usize,
    /// /64 networks that are cut finer.
    pub deep_blocks: usize,
    /// Ranges inside those.
    pub deep_cells: usize,
}

impl Usage {
    /// Bytes that lookups can touch.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        4 * ((1 << 18) + 1 + self.v4_cells)
            + 4 * ((1 << 16) + self.v6_blocks * BLOCK_STRIDE)
            + 8 * self.v6_cells
            + 4 * (self.deep_blocks + 1)
            + 10 * self.deep_cells
    }
}

fn check<T: Copy + Into<u128>>(ranges: &[(T, u16)]) -> Result<(), BuildError> {
    if ranges.first().is_none_or(|r| r.0.into() != 0) {
        return Err(BuildError::NoOrigin);
    }
    for (i, pair) in ranges.windows(2).enumerate() {
        if pair[0].0.into() >= pair[1].0.into() {
            return Err(BuildError::Unsorted(i + 1));
        }
    }
    match ranges.iter().find(|r| usize::from(r.1) >= MAX_PLACES) {
        Some(r) => Err(BuildError::PlaceId(r.1)),
        None => Ok(()),
    }
}

impl PlaceIndex {
    /// Fills the index from ranges that cover each address space: `(first address, place id)`, sorted, the first at
    /// zero. Neighbours with the same place should have been merged.
    ///
    /// On an error the index holds rubbish and must not be published.
    pub fn build(&mut self, v4: &[(u32, u16)], v6: &[(u128, u16)]) -> Result<Usage, BuildError> {
        check(v4)?;
        check(v6)?;
        let mut usage = Usage::default();
        self.v4.build(v4, &mut usage)?;
        self.v6.build(v6, &mut usage)?;
        Ok(usage)
    }
}

impl V4Index {
    fn build(&mut self, ranges: &[(u32, u16)], usage: &mut Usage) -> Result<(), BuildError> {
        if ranges.len() > V4_CELLS {
            return Err(BuildError::Full { what: "IPv4 ranges", capacity: V4_CELLS });
        }
        let mut next = 0;
        for (bucket, slot) in self.buckets.iter_mut().enumerate() {
            let below = (bucket as u64) << V4_LOW_BITS;
            while ranges.get(next).is_some_and(|r| u64::from(r.0) < below) {
                next += 1;
            }
            *slot = next as u32;
        }
        for (cell, (start, place)) in self.cells.iter_mut().zip(ranges) {
            *cell = (start & ((1 << V4_LOW_BITS) - 1)) << 16 | u32::from(*place);
        }
        usage.v4_cells = ranges.len();
        Ok(())
    }
}

/// One /64 or more: where it starts, and its place or its deep block.
struct Piece {
    start: u64,
    place: u16,
}

/// Walks 128-bit ranges at /64 granularity; a /64 in which ranges start becomes a deep block.
struct Pieces<'a> {
    ranges: &'a [(u128, u16)],
    next: usize,
    place: u16,
    /// A /64 that ended inside: what comes after it starts here.
    resume: Option<u64>,
}

impl Pieces<'_> {
    fn next(&mut self, index: &mut V6Index, usage: &mut Usage) -> Result<Option<Piece>, BuildError> {
        let upcoming = self.ranges.get(self.next).map(|r| (r.0 >> 64) as u64);
        // A range that starts in this very /64 says itself what its first address is.
        if let Some(start) = self.resume.take()
            && upcoming != Some(start)
        {
            return Ok(Some(Piece { start, place: self.place }));
        }
        let Some(start) = upcoming else { return Ok(None) };
        let mut last = self.next;
        while self.ranges.get(last + 1).is_some_and(|r| (r.0 >> 64) as u64 == start) {
            last += 1;
        }
        if last == self.next && self.ranges[last].0 as u64 == 0 {
            self.place = self.ranges[last].1;
            self.next += 1;
            return Ok(Some(Piece { start, place: self.place }));
        }
        let block = index.deepen(&self.ranges[self.next..=last], self.place, usage)?;
        self.place = self.ranges[last].1;
        self.next = last + 1;
        self.resume = start.checked_add(1);
        Ok(Some(Piece { start, place: DEEP | block }))
    }
}

impl V6Index {
    fn build(&mut self, ranges: &[(u128, u16)], usage: &mut Usage) -> Result<(), BuildError> {
        self.deep_blocks[0] = 0;
        let mut pieces = Pieces { ranges, next: 0, place: 0, resume: None };
        let mut pending = pieces.next(self, usage)?;
        let mut place = 0;
        for top in 0..1u64 << 16 {
            let (start, end) = (top << 48, (top << 48) | ((1 << 48) - 1));
            if let Some(p) = &pending
                && p.start == start
            {
                place = p.place;
                pending = pieces.next(self, usage)?;
            }
            if pending.as_ref().is_none_or(|p| p.start > end) && place & DEEP == 0 {
                self.tops[top as usize] = LEAF | u32::from(place);
                continue;
            }
            let block = usage.v6_blocks;
            if block == V6_BLOCKS {
                return Err(BuildError::Full {
                    what: "finely divided IPv6 /16 networks",
                    capacity: V6_BLOCKS,
                });
            }
            self.tops[top as usize] = block as u32;
            usage.v6_blocks += 1;
            // The block's first bucket always starts with a cell: a search that finds none in its own bucket falls
            // back to the cell before, which must lie in the same block.
            self.push(start, place, usage)?;
            let buckets = block * BLOCK_STRIDE;
            self.buckets[buckets] = (usage.v6_cells - 1) as u32;
            let mut filled = 0;
            while let Some(p) = &pending
                && p.start <= end
            {
                let bucket = (p.start >> V6_LOW_BITS) as usize & 0xfff;
                self.buckets[buckets + filled + 1..=buckets + bucket].fill(usage.v6_cells as u32);
                filled = filled.max(bucket);
                place = p.place;
                self.push(p.start, place, usage)?;
                pending = pieces.next(self, usage)?;
            }
            self.buckets[buckets + filled + 1..buckets + BLOCK_STRIDE].fill(usage.v6_cells as u32);
        }
        Ok(())
    }

    fn push(&mut self, start: u64, place: u16, usage: &mut Usage) -> Result<(), BuildError> {
        let full = BuildError::Full { what: "IPv6 ranges", capacity: V6_CELLS };
        let cell = self.cells.get_mut(usage.v6_cells).ok_or(full)?;
        *cell = (start & ((1 << V6_LOW_BITS) - 1)) << 16 | u64::from(place);
        usage.v6_cells += 1;
        Ok(())
    }

    /// Writes the ranges of one /64; `before` is the place at its first address if no range starts there.
    fn deepen(&mut self, ranges: &[(u128, u16)], before: u16, usage: &mut Usage) -> Result<u16, BuildError> {
        let block = usage.deep_blocks;
        if block == DEEP_BLOCKS {
            return Err(BuildError::Full { what: "finely divided IPv6 /64 networks", capacity: DEEP_BLOCKS });
        }
        let origin = (ranges[0].0 as u64 != 0).then_some((0, before));
        for (start, place) in origin.into_iter().chain(ranges.iter().map(|r| (r.0 as u64, r.1))) {
            let at = usage.deep_cells;
            if at == DEEP_CELLS {
                return Err(BuildError::Full {
                    what: "ranges inside IPv6 /64 networks",
                    capacity: DEEP_CELLS,
                });
            }
            self.deep_starts[at] = start;
            self.deep_places[at] = place;
            usage.deep_cells += 1;
        }
        usage.deep_blocks += 1;
        self.deep_blocks[block + 1] = usage.deep_cells as u32;
        Ok(block as u16)
    }
}
