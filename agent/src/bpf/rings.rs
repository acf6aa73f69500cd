//! One set of rings and counters: that of our programs, or one that an earlier agent's programs wrote to.

use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use agent_common::wire::Event;
use aya::Ebpf;
use aya::maps::{Map, MapData, RingBuf};

use super::image::{KernelCounters, take};
use super::ledger::schema_number;
use super::load::LoadError;
use super::pin::name;
use super::sys::ring_positions;

/// Bytes of a record: the event and the header that the kernel puts before it, in steps of eight
/// (kernel/bpf/ringbuf.c, `__bpf_ringbuf_reserve`).
pub(crate) const RECORD_BYTES: u64 = (size_of::<Event>() as u64 + 8).next_multiple_of(8);

/// Rings and counters.
pub struct Rings {
    /// Violations.
    pub violations: RingBuf<MapData>,
    /// Flows.
    pub flows: RingBuf<MapData>,
    /// What the programs count.
    pub counters: KernelCounters,
    /// The layout of the maps they are of.
    pub schema: u64,
}

/// How many records a pair of rings has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Taken by readers, since the rings were made.
    pub taken: u64,
    /// Waiting.
    pub waiting: u64,
}

impl Rings {
    /// Those of a loaded object.
    pub(crate) fn take(ebpf: &mut Ebpf, schema: u64) -> Result<Self, LoadError> {
        let counters = KernelCounters::take(ebpf)?;
        Ok(Self { violations: take(ebpf, "VIOLATIONS")?, flows: take(ebpf, "FLOWS")?, counters, schema })
    }

    /// Those that are pinned in a directory of maps.
    pub(crate) fn pinned(maps: &Path) -> Result<Self, LoadError> {
        let ring = |name: &'static str| open(maps, name)?.try_into().map_err(refused(name));
        let counters = open(maps, "COUNTERS")?.try_into().map_err(refused("COUNTERS"))?;
        let schema = name(maps).rsplit_once('-').map_or(0, |(_, digest)| schema_number(digest));
        Ok(Self {
            violations: ring("VIOLATIONS")?,
            flows: ring("FLOWS")?,
            counters: KernelCounters::new(counters),
            schema,
        })
    }

    /// How many records went through. Exact, also over the death of a reader: the position of the next record to read
    /// lies in the ring itself. `record_bytes`: of one record, its header included.
    pub(crate) fn records(&self, record_bytes: u64) -> io::Result<Records> {
        let mut records = Records::default();
        for ring in [self.violations.as_fd(), self.flows.as_fd()] {
            let (consumed, produced) = ring_positions(ring)?;
            records.taken += consumed / record_bytes;
            records.waiting += produced.saturating_sub(consumed) / record_bytes;
        }
        Ok(records)
    }
}

fn open(maps: &Path, name: &'static str) -> Result<Map, LoadError> {
    let data = MapData::from_pin(maps.join(name)).map_err(refused(name))?;
    Map::from_map_data(data).map_err(refused(name))
}

fn refused(name: &'static str) -> impl Fn(aya::maps::MapError) -> LoadError {
    move |source| LoadError::Map { name, source }
}
